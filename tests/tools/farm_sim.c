/* farm_sim: a discrete-event simulation of a run on many ranks, to see whether one coordinator serves them. The dealer, the protocol
 * and the messages are the program's own code, linked against a world made up here: time is virtual, a message to or from a
 * rank arrives 0 to 5 ms late (shells look at MPI that often) plus LATENCY, and ranks are fakes that follow mpi/shell.c's
 * rules: two studies read ahead, two batches of headers, a WANT where there is room. What the dealer's code costs is measured,
 * and delays the dealer's next turn; each MPI message costs it CALL on top.
 *
 *   farm_sim RANKS STUDIES SECONDS [SEED]    SECONDS: of a 300-slice study of 512 x 512 on one rank
 *
 * Costs: slices log-normal around 300 (16 to 1500), a tenth of 256 x 256, and a spread of 20 % beside. Prints one line; exit code 1
 * if ranks were idle for more than 3 % of the time, or the coordinator used more than 10 % of a core. */
#include "data/reason.h"
#include "mpi/dealer.h"
#include "mpi/protocol.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const double LATENCY = 20e-6, CALL = 3e-6, LOOK = 0.005, HEADER_SECONDS = 0.003, READ_SHARE = 0.05;
enum { AHEAD = 2, BATCHES = 2, WAITING = 64 };

typedef struct letter { /* an event: a message to the dealer (rank < 0 never), or to a rank; or a rank's own alarm */
    double at;
    int64_t order; /* of its making: ties */
    int rank, to_dealer;
    enum { LETTER, READ, WORKED, HEADED } what;
    message m;
    int64_t study;
} letter;

typedef struct fake { /* one rank's shell, reader and worker */
    int64_t waiting[WAITING], ready[AHEAD + 1], working; /* studies; working -1: none */
    int waiting_count, reading, ready_count, batches, wanting, finished;
    double busy;
} fake;

struct world { int size; };

static struct {
    world world;
    double now;
    letter *heap;
    int64_t count, room, made, messages;
    fake *ranks;
    double *seconds; /* of each study */
    int32_t *slices, *side;
    uint64_t random;
    double work;
} sim; /* the one simulation of this program */

static double uniform(void)
{
    sim.random ^= sim.random << 13;
    sim.random ^= sim.random >> 7;
    sim.random ^= sim.random << 17;
    return (double)(sim.random >> 11) * 0x1p-53;
}

static double normal(void) { return sqrt(-2 * log(1 - uniform())) * cos(2 * M_PI * uniform()); }

static void stop(const char *why)
{
    fprintf(stderr, "farm_sim: %s: %s\n", why, status_message());
    exit(2);
}

/* ---- events */

static int before(const letter *a, const letter *b) { return a->at < b->at || (a->at == b->at && a->order < b->order); }

static void push(letter l)
{
    if (sim.count == sim.room) {
        sim.room = sim.room ? 2 * sim.room : 4096;
        sim.heap = realloc(sim.heap, (size_t)sim.room * sizeof *sim.heap);
        if (!sim.heap) stop("no memory");
    }
    l.order = sim.made++;
    int64_t k = sim.count++;
    for (; k > 0 && before(&l, &sim.heap[(k - 1) / 2]); k = (k - 1) / 2) sim.heap[k] = sim.heap[(k - 1) / 2];
    sim.heap[k] = l;
}

static letter pop(void)
{
    letter first = sim.heap[0], last = sim.heap[--sim.count];
    int64_t k = 0;
    for (int64_t c; (c = 2 * k + 1) < sim.count; k = c) {
        if (c + 1 < sim.count && before(&sim.heap[c + 1], &sim.heap[c])) c++;
        if (!before(&sim.heap[c], &last)) break;
        sim.heap[k] = sim.heap[c];
    }
    sim.heap[k] = last;
    return first;
}

static void alarm_at(int rank, double seconds, int what, int64_t study)
{
    push((letter){.at = sim.now + seconds, .rank = rank, .what = what, .study = study});
}

/* ---- the world that the dealer sees */

double world_now(void) { return sim.now; }
int world_rank(const world *w) { (void)w; return 0; }
int world_size(const world *w) { return w->size; }
const char *world_host(const world *w, int rank) { (void)w; (void)rank; return "fake"; }

static void copy(message *to, const message *from)
{
    *to = (message){0};
    message_put_bytes(to, from->bytes, from->used);
    if (to->failed) stop("no memory");
    message_rewind(to);
}

status world_send(world *w, int to, const message *m)
{
    (void)w;
    COV_TRY(message_check(m, "to a rank"));
    letter l = {.at = sim.now + LATENCY + LOOK * uniform(), .rank = to};
    copy(&l.m, m);
    push(l);
    sim.messages++;
    return COV_OK;
}

/* ---- the ranks */

static void say(int rank, const message *m)
{
    letter l = {.at = sim.now + LATENCY, .rank = rank, .to_dealer = 1};
    copy(&l.m, m);
    push(l);
}

static void say_kind(int rank, int kind)
{
    message m = {0};
    message_start(&m, kind);
    if (kind == PROTOCOL_BYE || kind == PROTOCOL_WANT || kind == PROTOCOL_BEAT) say(rank, &m);
    message_free(&m);
}

static void want_more(int rank)
{
    fake *f = &sim.ranks[rank];
    if (f->finished || f->wanting || f->batches >= BATCHES || f->waiting_count || f->reading + f->ready_count >= AHEAD) return;
    f->wanting = 1;
    say_kind(rank, PROTOCOL_WANT);
}

/* Starts what can be started: the worker, then readers. */
static void go_on(int rank)
{
    fake *f = &sim.ranks[rank];
    if (f->working < 0 && f->ready_count) {
        f->working = f->ready[0];
        memmove(f->ready, f->ready + 1, (size_t)--f->ready_count * sizeof *f->ready);
        f->busy += sim.seconds[f->working];
        alarm_at(rank, sim.seconds[f->working], WORKED, f->working);
    }
    while (f->waiting_count && f->reading + f->ready_count < AHEAD) {
        f->reading++;
        alarm_at(rank, READ_SHARE * sim.seconds[f->waiting[0]], READ, f->waiting[0]);
        memmove(f->waiting, f->waiting + 1, (size_t)--f->waiting_count * sizeof *f->waiting);
    }
    want_more(rank);
}

static void take_letter(letter *l)
{
    fake *f = &sim.ranks[l->rank];
    int kind = message_kind(&l->m);
    if (kind == PROTOCOL_HEADERS) {
        int64_t n = message_get_i64(&l->m);
        f->wanting = 0;
        f->batches++;
        for (int64_t k = 0; k < n; k++) {
            protocol_path p;
            protocol_get_path(&l->m, &p);
            alarm_at(l->rank, HEADER_SECONDS * (double)(k + 1), HEADED, k + 1 == n ? -1 - p.index : p.index);
        }
    }
    if (kind == PROTOCOL_UNIT) {
        int64_t n = message_get_i64(&l->m);
        f->wanting = 0;
        for (int64_t k = 0; k < n; k++) {
            protocol_study s;
            protocol_get_study(&l->m, &s);
            if (s.step != UNIT_WHOLE || f->waiting_count == WAITING) stop("a unit that the simulation does not know");
            f->waiting[f->waiting_count++] = s.index;
        }
    }
    if (kind == PROTOCOL_FINISH) {
        f->finished = 1;
        say_kind(l->rank, PROTOCOL_BYE);
    }
    if (kind == PROTOCOL_FATAL) stop("the dealer gave up");
}

static void tell_head(int rank, int64_t study)
{
    message m = {0};
    protocol_head h = {.index = study, .has_head = 1};
    h.head.nx = h.head.ny = sim.side[study];
    h.head.nz = sim.slices[study];
    message_start(&m, PROTOCOL_HEAD);
    protocol_put_head(&m, &h);
    say(rank, &m);
    message_free(&m);
}

static void tell_done(int rank, int64_t study)
{
    message m = {0};
    protocol_done d = {.index = study, .outcome = OUTCOME_DONE, .voxels = (int64_t)sim.side[study] * sim.side[study] * sim.slices[study],
                       .seconds = sim.seconds[study]};
    message_start(&m, PROTOCOL_DONE);
    protocol_put_done(&m, &d);
    say(rank, &m);
    message_free(&m);
}

static void happen(letter *l)
{
    fake *f = &sim.ranks[l->rank];
    switch (l->what) {
    case LETTER: take_letter(l); break;
    case HEADED:
        f->batches -= l->study < 0;
        tell_head(l->rank, l->study < 0 ? -1 - l->study : l->study);
        break;
    case READ:
        f->reading--;
        f->ready[f->ready_count++] = l->study;
        break;
    case WORKED:
        f->working = -1;
        tell_done(l->rank, l->study);
        break;
    }
    go_on(l->rank);
    message_free(&l->m);
}

/* ---- the run */

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct inbox { letter *letters; int64_t count, room; } inbox;

static void keep(inbox *in, letter l)
{
    if (in->count == in->room) {
        in->room = in->room ? 2 * in->room : 4096;
        in->letters = realloc(in->letters, (size_t)in->room * sizeof *in->letters);
        if (!in->letters) stop("no memory");
    }
    in->letters[in->count++] = l;
}

/* One turn of farm.c's loop: what has come, at most a thousand; then a step. Returns what it cost. */
static double turn(dealer *d, inbox *in)
{
    int64_t n = in->count < 1000 ? in->count : 1000, sent = sim.messages;
    double start = cpu();
    for (int64_t k = 0; k < n; k++)
        if (dealer_take(d, in->letters[k].rank, &in->letters[k].m) != COV_OK) stop("dealer_take");
    if (dealer_step(d) != COV_OK) stop("dealer_step");
    double cost = cpu() - start + CALL * (double)(n + sim.messages - sent);
    for (int64_t k = 0; k < n; k++) message_free(&in->letters[k].m);
    memmove(in->letters, in->letters + n, (size_t)(in->count - n) * sizeof *in->letters);
    in->count -= n;
    return cost;
}

static double run(dealer *d)
{
    inbox in = {0};
    double next_turn = 0, next_beat = 1, coordinator = 0;
    for (int r = 0; r < sim.world.size; r++) want_more(r);
    while (!dealer_gone(d)) {
        double until = fmin(next_turn, next_beat);
        while (sim.count && sim.heap[0].at <= until) {
            letter l = pop();
            sim.now = l.at;
            if (l.to_dealer) keep(&in, l);
            else happen(&l);
        }
        sim.now = until;
        if (until == next_beat) {
            for (int r = 0; r < sim.world.size; r++)
                if (!sim.ranks[r].finished) say_kind(r, PROTOCOL_BEAT);
            next_beat += 1;
            continue;
        }
        double cost = turn(d, &in);
        coordinator += cost;
        next_turn += in.count ? cost : fmax(cost, LOOK);
    }
    free(in.letters);
    return coordinator;
}

static farm_study *invent(int64_t n, double seconds)
{
    farm_study *s = calloc((size_t)n + 1, sizeof *s);
    char *paths = malloc((size_t)n * 64 + 1);
    sim.seconds = malloc((size_t)(n + 1) * sizeof *sim.seconds);
    sim.slices = malloc((size_t)(n + 1) * sizeof *sim.slices);
    sim.side = malloc((size_t)(n + 1) * sizeof *sim.side);
    if (!s || !paths || !sim.seconds || !sim.slices || !sim.side) stop("no memory");
    for (int64_t k = 0; k < n; k++) {
        double slices = fmin(fmax(300 * exp(0.6 * normal()), 16), 1500);
        sim.slices[k] = (int32_t)slices;
        sim.side[k] = uniform() < 0.1 ? 256 : 512;
        sim.seconds[k] = seconds * slices / 300 * sim.side[k] * sim.side[k] / (512.0 * 512) * exp(0.2 * normal()) + 0.02;
        sim.work += sim.seconds[k];
        snprintf(paths + 64 * k, 64, "/archive/site-%02lld/patient%07lld/ct.nii.gz", (long long)k % 40, (long long)k);
        s[k] = (farm_study){.path_abs = paths + 64 * k, .path_rel = paths + 64 * k + 9, .id = paths + 64 * k + 17, .format = "nifti", .bytes = 1, .mtime_ns = 1};
    }
    return s;
}

int main(int argc, char **argv)
{
    if (argc < 4) { fprintf(stderr, "farm_sim RANKS STUDIES SECONDS [SEED]\n"); return 2; }
    int64_t n = strtoll(argv[2], NULL, 10);
    char parts[] = "/tmp/covpipe_sim_XXXXXX", name[64];
    dealer *d = NULL;
    farm_report report = {0};
    struct rusage use;
    sim.world.size = atoi(argv[1]);
    sim.random = argc > 4 ? strtoull(argv[4], NULL, 10) * 2654435769u + 1 : 88172645463325252u;
    sim.ranks = calloc((size_t)sim.world.size, sizeof *sim.ranks);
    part_key key;
    part_key_init(&key);
    if (!sim.ranks || sim.world.size < 1 || n < 1 || !mkdtemp(parts)) stop("cannot start");
    for (int r = 0; r < sim.world.size; r++) sim.ranks[r].working = -1;
    /* read_ahead and the deadlines as farm_run fills them in */
    farm_options o = {.parts_dir = parts, .studies = invent(n, strtod(argv[3], NULL)), .study_count = n, .key = &key, .split_slices = -1,
                      .voxels_per_second = 1e6, .beat_seconds = 60, .grace_seconds = 20};
    double start = cpu();
    if (dealer_new(&sim.world, &o, &d) != COV_OK) stop("dealer_new");
    double plan = cpu() - start, coordinator = run(d), idle = 1 - sim.work / (sim.now * sim.world.size);
    if (dealer_report(d, &report) != COV_OK) stop("dealer_report");
    dealer_free(&d);
    snprintf(name, sizeof name, "%s/status.json", parts);
    unlink(name);
    rmdir(parts);
    getrusage(RUSAGE_SELF, &use);
    printf("%d ranks, %lld studies (%lld done, %lld units): %.1f s, idle %.2f %%, coordinator %.2f %% of a core, %.1f messages/s, start %.2f s, %ld MiB\n",
           sim.world.size, (long long)n, (long long)report.totals.done, (long long)report.units, sim.now, 100 * idle, 100 * coordinator / sim.now,
           (double)sim.messages / sim.now, plan, use.ru_maxrss / 1024);
    if (report.totals.done != n) stop("studies were lost");
    return idle > 0.03 || coordinator > 0.1 * sim.now;
}
