/* The farm with invented studies: a study is a file of one text line that says what shall happen to it, so every way in
 * which a child can end is played through with real processes, at 1, 2, 3 and 5 ranks.
 *
 *   "NX NY NZ what [seconds]"   what: ok, skip, bad-header, crash-reader, hang-reader, crash-worker, crash-once,
 *                               hang-worker, nomem, slow */
#include "base/str.h"
#include "mpi/farm.h"
#include "mpi/world_comm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                                                   \
    do {                                                                                                   \
        if (!(condition)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); failures++; }  \
    } while (0)

enum { STUDIES_MOST = 64 };

/* ---- the calls: what jobs/ would hand over */

typedef struct order { long nx, ny, nz; char what[32]; double seconds; } order;

static status read_order(const char *path, order *o)
{
    char text[200] = "";
    int fd = open(path, O_RDONLY);
    if (fd < 0) return COV_FAIL(COV_IO, "%s: %s", path, strerror(errno));
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    *o = (order){0};
    if (n <= 0 || sscanf(text, "%ld %ld %ld %31s %lf", &o->nx, &o->ny, &o->nz, o->what, &o->seconds) < 4)
        return COV_FAIL(COV_FORMAT, "%s: not an order", path);
    return COV_OK;
}

static void nap(double seconds)
{
    struct timespec t = {(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};
    while (nanosleep(&t, &t) != 0) {}
}

static status fake_header(void *context, const char *path, volume_header *h, reason *why)
{
    order o;
    (void)context;
    *why = REASON_BAD_HEADER;
    COV_TRY(read_order(path, &o));
    if (strcmp(o.what, "bad-header") == 0) return COV_FAIL(COV_FORMAT, "%s: a bad header", path);
    if (strcmp(o.what, "crash-header") == 0) raise(SIGSEGV);
    *h = (volume_header){.format = "fake", .nx = o.nx, .ny = o.ny, .nz = o.nz, .spacing_mm = {1, 1, 2}};
    for (int k = 0; k < 4; k++) h->affine[k][k] = 1;
    for (int k = 0; k < 3; k++) h->native.axis[k] = (int8_t)k;
    h->native.size[0] = o.nx;
    h->native.size[1] = o.ny;
    h->native.size[2] = o.nz;
    *why = REASON_NONE;
    return COV_OK;
}

static status fake_voxels(void *context, const char *path, const volume_header *h, int16_t *hu, volume_stats *stats, reason *why)
{
    order o;
    (void)context;
    COV_TRY(read_order(path, &o));
    if (strcmp(o.what, "crash-reader") == 0) raise(SIGSEGV);
    if (strcmp(o.what, "hang-reader") == 0) nap(1000);
    if (strcmp(o.what, "escape") == 0 && open("/tmp/covpipe-escaped", O_WRONLY | O_CREAT, 0600) >= 0) o.nx = 0;
    if (strcmp(o.what, "skip") == 0) {
        *why = REASON_NOT_CT;
        return COV_FAIL(COV_FORMAT, "%s: not CT", path);
    }
    int64_t n = h->nx * h->ny * h->nz;
    for (int64_t i = 0; i < n; i++) hu[i] = (int16_t)(i * 7 % 1000 + o.nx);
    stats->highest = 42;
    return COV_OK;
}

static status fake_open(void *context, void **worker) { *worker = context; return COV_OK; }
static void fake_close(void **worker) { *worker = NULL; }

static int once_marker(const void *context, const volume *v)
{
    char name[600];
    snprintf(name, sizeof name, "%s/once-%lld", (const char *)context, (long long)v->head.nx);
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static status fake_run(void *worker, const volume *v, const volume_stats *stats, study_result *out)
{
    /* The order travels in the size: nz says what to do, nx ny stay free. */
    int64_t n = v->head.nx * v->head.ny * v->head.nz;
    if (stats->highest != 42) return COV_FAIL(COV_FORMAT, "statistics were lost");
    if (v->head.nz == 13 && once_marker(worker, v)) raise(SIGKILL);
    if (v->head.nz == 14) raise(SIGSEGV);
    if (v->head.nz == 15) nap(1000);
    if (v->head.nz == 16) return COV_FAIL(COV_NOMEM, "no memory, says the test");
    if (v->head.nz == 17) nap(0.4);
    out->slice_count = v->head.nz;
    out->slices = calloc((size_t)v->head.nz, sizeof *out->slices);
    out->lung = malloc((size_t)n);
    if (!out->slices || !out->lung) return COV_FAIL(COV_NOMEM, "no memory");
    for (int64_t i = 0; i < n; i++) out->lung[i] = (uint8_t)(v->hu[i] % 3);
    for (int64_t z = 0; z < v->head.nz; z++) out->slices[z] = (slice_row){.z = (int32_t)z, .position_mm = (double)z, .lung_px = 1};
    out->row.lung_ml = (double)n;
    return COV_OK;
}

/* ---- an archive */

typedef struct stage {
    char folder[400], parts[420];
    farm_study studies[STUDIES_MOST];
    char paths[STUDIES_MOST][500], names[STUDIES_MOST][64];
    int count;
} stage;

static void add(stage *st, world *w, const char *text)
{
    int k = st->count++;
    snprintf(st->names[k], sizeof st->names[k], "s%03d.txt", k);
    snprintf(st->paths[k], sizeof st->paths[k], "%s/%s", st->folder, st->names[k]);
    if (world_rank(w) == 0) {
        FILE *f = fopen(st->paths[k], "w");
        if (!f || fprintf(f, "%s\n", text) < 0) abort();
        fclose(f);
        struct timespec fixed[2] = {{1600000000, 0}, {1600000000, 0}};
        utimensat(AT_FDCWD, st->paths[k], fixed, 0);
    }
    st->studies[k] = (farm_study){.path_abs = st->paths[k], .path_rel = st->names[k], .id = st->names[k], .format = "fake",
                                  .bytes = (int64_t)strlen(text) + 1, .mtime_ns = (int64_t)1600000000 * 1000000000};
}

static void run_command(const char *format, const char *what)
{
    char command[700];
    snprintf(command, sizeof command, format, what);
    if (system(command) != 0) fprintf(stderr, "%s failed\n", command);
}

static void new_stage(stage *restrict st, world *w, const char *restrict base, const char *name)
{
    memset(st, 0, sizeof *st);
    snprintf(st->folder, sizeof st->folder, "%s/%s", base, name);
    snprintf(st->parts, sizeof st->parts, "%s/%s.parts", base, name);
    if (world_rank(w) == 0) run_command("mkdir -p %s", st->folder);
    MPI_Barrier(world_comm(w));
}

typedef struct seen { int strikes, workers, studies; } seen;
static void on_event(void *context, const farm_event *e)
{
    seen *s = context;
    s->strikes += e->kind == FARM_STRIKE;
    s->workers += e->kind == FARM_WORKER;
    s->studies += e->kind == FARM_STUDY;
    if (getenv("FARM_VERBOSE"))
        fprintf(stderr, "rank %d %s %s %s\n", e->rank, e->study, e->kind == FARM_STUDY ? outcome_name(e->outcome) : "-", e->text);
}

static part_key the_key(void)
{
    part_key key;
    part_key_init(&key);
    memset(key.weights_sha256, 'a', SHA256_HEX - 1);
    memset(key.options_sha256, 'b', SHA256_HEX - 1);
    strcpy(key.precision, "fp32");
    strcpy(key.backend, "fake");
    return key;
}

static status play(world *w, spawner *sp, stage *st, farm_options *o, farm_report *report, seen *seen_here)
{
    part_key key = the_key();
    status s = COV_OK;
    *seen_here = (seen){0};
    o->parts_dir = st->parts;
    o->studies = st->studies;
    o->study_count = st->count;
    o->key = &key;
    o->event = on_event;
    o->context = seen_here;
    if (!o->timeout_seconds) o->timeout_seconds = 30;
    o->beat_seconds = 20;
    if (world_rank(w) == 0) s = claim_open(st->parts, st->folder, &o->claim);
    if (s == COV_OK) s = farm_run(w, sp, o, report);
    if (s != COV_OK) {
        fprintf(stderr, "rank %d: %s (%s)\n", world_rank(w), status_message(), status_trace());
        world_abort(w, 1);
    }
    claim_close(&o->claim);
    return s;
}

/* ---- what the farm promises */

static int every_study_ends_as_it_should(world *w, spawner *sp, const char *base)
{
    int failures = 0;
    stage st;
    seen seen_here;
    farm_report r;
    farm_options o = {0};
    static const struct { const char *text; reason why; } plan[] = {
        {"20 20 10 ok", REASON_NONE}, {"8 8 4 skip", REASON_NOT_CT}, {"8 8 4 bad-header", REASON_BAD_HEADER},
        {"30 30 12 ok", REASON_NONE}, {"8 8 5 crash-reader", REASON_CRASHED}, {"9 8 13 ok", REASON_NONE},
        {"8 8 14 ok", REASON_CRASHED}, {"8 8 6 crash-header", REASON_CRASHED}, {"12 9 3 ok", REASON_NONE},
        {"9 9 16 ok", REASON_TOO_LARGE}, {"3 3 2 ok", REASON_NONE}, {"3 3 2 ok", REASON_NONE}, {"nonsense", REASON_BAD_HEADER},
        {"10 10 8 escape", REASON_NONE}};
    new_stage(&st, w, base, "ends");
    for (size_t k = 0; k < sizeof plan / sizeof plan[0]; k++) add(&st, w, plan[k].text);
    MPI_Barrier(world_comm(w));
    CHECK(play(w, sp, &st, &o, &r, &seen_here) == COV_OK);
    if (world_rank(w) == 0) {
        CHECK(r.totals.done == 7 && r.totals.skipped == 1 && r.totals.failed == 6 && r.totals.open == 0 && !r.stopped);
        for (int k = 0; k < st.count; k++) {
            if (r.outcomes[k].reason != plan[k].why)
                fprintf(stderr, "%s ended as %s (%s)\n", plan[k].text, reason_code(r.outcomes[k].reason), r.outcomes[k].detail);
            CHECK(r.outcomes[k].settled && r.outcomes[k].reason == plan[k].why);
        }
        CHECK(seen_here.strikes == 3 + 1 + 3 + 3);
        CHECK(seen_here.studies == st.count);
        CHECK(access("/tmp/covpipe-escaped", F_OK) != 0);
        part_list parts;
        CHECK(part_scan(st.parts, &parts) == COV_OK && parts.count == st.count && parts.temporary == 0);
        part_list_free(&parts);
    }
    farm_report_free(&r);
    return failures;
}

int main(void)
{
    char base[300] = "";
    const char *scratch = getenv("TMPDIR");
    farm_calls calls = {.context = base, .read_header = fake_header, .read_voxels = fake_voxels, .worker_open = fake_open,
                        .worker_run = fake_run, .worker_close = fake_close};
    spawn_options so = {0};
    spawner *sp = NULL;
    world *w = NULL;
    int failures = 0, all = 0;
    /* One folder for all ranks: the process group leader of mpirun's ranks differs, their parent does not. */
    snprintf(base, sizeof base, "%s/mpi_farm.%d", scratch ? scratch : "/tmp", (int)getppid());
    if (spawn_start(&calls, &so, &sp) != COV_OK || world_open(&(world_options){0}, &w) != COV_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    if (world_rank(w) == 0) run_command("mkdir -p %s", base);
    MPI_Barrier(world_comm(w));
    failures += every_study_ends_as_it_should(w, sp, base);
    MPI_Allreduce(&failures, &all, 1, MPI_INT, MPI_SUM, world_comm(w));
    if (world_rank(w) == 0) run_command("rm -rf %s", base);
    if (world_rank(w) == 0) printf("%d ranks: %d failures\n", world_size(w), all);
    spawn_stop(&sp);
    world_close(&w);
    return all != 0;
}
