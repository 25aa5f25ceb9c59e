/* dealer: the list of studies and where each of them is.
 *
 * NEW -> ASKED (its header) -> PLANNED (in a unit) -> DEALT -> SETTLED, or PLANNED again when a drain gives it back.
 * A study that is cut up is dealt out for its first step; then it is CUT: its ranges, and when the last of them is done
 * its last step, are pieces that are dealt out before any other unit, to whoever asks. A piece that fails fails the
 * study. Headers first, because a unit's place in the order needs its size. A rank without work is always served;
 * reading ahead is only granted while enough units are left for the others, or one rank would hoard what the others
 * wait for.
 */
#include "mpi/dealer.h"
#include "base/str.h"
#include "data/unit.h"
#include "mpi/progress.h"
#include "mpi/protocol.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 32, BATCH_BYTES = 64 * 1024, HEADERS_IN_FLIGHT = 2 };

static const double PROGRESS_SECONDS = 0.5, STATUS_SECONDS = 2;

typedef enum stage { STAGE_NEW, STAGE_ASKED, STAGE_PLANNED, STAGE_DEALT, STAGE_CUT, STAGE_SETTLED } stage;

/* A step of a study that is cut up, after the first. Named by shells as study number `count` + its place. */
typedef struct piece {
    int64_t study, z0, z1;
    unit_step step;
    stage stage; /* PLANNED, DEALT, SETTLED */
    int64_t rank;
} piece;

typedef struct entry {
    stage stage;
    int last;        /* was open when an earlier run died */
    int compare;     /* an earlier part answers, if the input's digest is the one in have_sha */
    char *have_sha;  /* owned */
    int32_t have_status, have_reason; /* that part's */
    int64_t rank;
    int64_t range, ranges_left; /* cut up: slices a range; ranges that are not done */
} entry;

typedef struct seat { /* one rank */
    int wants, open, gone;
    double last_heard;
} seat;

struct dealer {
    world *world;
    const farm_options *o;
    int64_t count;
    entry *entries;
    farm_outcome *outcomes;
    seat *seats;
    int64_t next_header, asked, headed;
    unit_list units;
    int64_t next_unit;
    piece *pieces; /* owned */
    int64_t piece_count, piece_room, next_piece; /* next_piece: none before it is PLANNED */
    int planned, draining, finishing;
    double drain_end, started, last_beat, last_step, last_progress, last_written, rate_start;
    double estimate;
    farm_progress p;
    message out;
};

/* ---- telling */

static status tell(dealer *d, int rank) { return world_send(d->world, rank, &d->out); }

static status tell_all(dealer *d)
{
    for (int r = 0; r < world_size(d->world); r++)
        if (!d->seats[r].gone) COV_TRY(tell(d, r));
    return COV_OK;
}

static const char *path_of(const dealer *d, int64_t k)
{
    if (k >= d->count && k - d->count < d->piece_count) k = d->pieces[k - d->count].study;
    return k >= 0 && k < d->count ? d->o->studies[k].path_rel : "";
}

static void event(const dealer *d, const farm_event *e)
{
    if (d->o->event) d->o->event(d->o->context, e);
}

void dealer_fatal(dealer *d, status s)
{
    message_start(&d->out, PROTOCOL_FATAL);
    message_put_i64(&d->out, s);
    message_put_text(&d->out, status_message());
    for (int r = 1; r < world_size(d->world); r++)
        if (world_send(d->world, r, &d->out) != COV_OK) return;
}

/* ---- settling */

static void settle(dealer *d, int64_t k, outcome result, reason why, const char *detail, int kept)
{
    farm_outcome *f = &d->outcomes[k];
    f->settled = 1;
    f->kept = kept;
    f->outcome = result;
    f->reason = why;
    if (detail && *detail) f->detail = strdup(detail); /* NULL is allowed: the part has it too */
    d->entries[k].stage = STAGE_SETTLED;
    d->p.kept += kept;
    d->p.open--;
    if (result == OUTCOME_DONE) d->p.done++;
    else if (result == OUTCOME_SKIPPED) d->p.skipped++;
    else d->p.failed++;
}

/* A failure that may have passed by the next run, unlike a damaged file. */
static int worth_another_run(int32_t why)
{
    return why == REASON_CRASHED || why == REASON_TIMEOUT || why == REASON_IO_ERROR || why == REASON_CHANGED ||
           why == REASON_TOO_LARGE || why == REASON_INTERNAL;
}

static int by_path(const void *a, const void *b)
{
    const part_entry *x = a, *y = b;
    return strcmp(x->head.key.path, y->head.key.path);
}

static const part_head *find_part(const part_list *parts, const char *path)
{
    part_entry want = {0};
    if (!parts->count || strlen(path) >= sizeof want.head.key.path) return NULL;
    strcpy(want.head.key.path, path);
    const part_entry *e = bsearch(&want, parts->entries, (size_t)parts->count, sizeof want, by_path);
    return e ? &e->head : NULL;
}

/* Keeps what an earlier part answers for; marks what only a digest can decide. */
static status compare_with_part(dealer *d, const part_list *parts, int64_t k)
{
    const farm_study *s = &d->o->studies[k];
    const part_head *have = find_part(parts, s->path_rel);
    d->entries[k].last = claim_was_open(d->o->claim, s->path_rel);
    if (!have || worth_another_run(have->reason)) return COV_OK;
    part_key want = *d->o->key;
    memcpy(want.path, have->key.path, sizeof want.path);
    want.size = s->bytes;
    want.mtime_ns = s->mtime_ns;
    want.input_sha256[0] = 0;
    if (!d->o->verify && part_key_matches(&have->key, &want, 0)) {
        farm_outcome *f = &d->outcomes[k];
        f->rows = have->rows;
        f->cols = have->cols;
        f->slices = have->slices;
        settle(d, k, (outcome)have->status, (reason)have->reason, NULL, 1);
        claim_end(d->entries[k].last ? d->o->claim : NULL, s->path_rel);
        return COV_OK;
    }
    memcpy(want.input_sha256, have->key.input_sha256, sizeof want.input_sha256);
    if (!want.input_sha256[0] || !part_key_matches(&have->key, &want, 1)) return COV_OK;
    d->entries[k].compare = 1;
    d->entries[k].have_status = have->status;
    d->entries[k].have_reason = have->reason;
    d->entries[k].have_sha = strdup(want.input_sha256);
    return d->entries[k].have_sha ? COV_OK : COV_FAIL(COV_NOMEM, "no memory for a digest");
}

static status check_studies(const farm_options *o)
{
    for (int64_t k = 0; k < o->study_count; k++) {
        const farm_study *s = &o->studies[k];
        if (strlen(s->path_abs) >= PROTOCOL_PATH || strlen(s->path_rel) >= STUDY_PATH || strlen(s->id) >= STUDY_ID ||
            strlen(s->format) >= 16)
            return COV_FAIL(COV_USAGE, "%s: its path or identifier is too long (%d bytes at most)", s->path_rel,
                            STUDY_PATH - 1);
        if (k > 0 && strcmp(s->path_rel, s[-1].path_rel) == 0) /* they would share a part */
            return COV_FAIL(COV_USAGE, "%s: two studies (%s, %s) with one path; leave one of them out with --exclude",
                            s->path_rel, s[-1].format, s->format);
    }
    return COV_OK;
}

static status look_at_parts(dealer *d)
{
    part_list parts = {0};
    status s = COV_OK;
    if (!d->o->dry_run && !claim_shared(d->o->claim)) {
        COV_TRY(part_sweep(d->o->parts_dir));
        part_piece_remove(d->o->parts_dir, NULL); /* a study's steps are not resumed, only studies */
    }
    COV_TRY(part_scan(d->o->parts_dir, &parts));
    for (int64_t k = 0; k < d->count && s == COV_OK; k++) s = compare_with_part(d, &parts, k);
    if (parts.damaged > 0)
        event(d, &(farm_event){.kind = FARM_NOTE, .host = world_host(d->world, 0), .study = "",
                               .text = "damaged parts of an earlier run are computed again"});
    part_list_free(&parts);
    return s;
}

static status start_all(dealer *d)
{
    message_start(&d->out, PROTOCOL_START);
    message_put_text(&d->out, d->o->parts_dir);
    message_put_text(&d->out, d->o->settled ? d->o->settled : "");
    message_put_bytes(&d->out, d->o->key, sizeof *d->o->key);
    return tell_all(d);
}

status dealer_new(world *w, const farm_options *o, dealer **out)
{
    status s;
    *out = NULL;
    dealer *d = calloc(1, sizeof *d);
    if (!d) return COV_FAIL(COV_NOMEM, "no memory for the dealer");
    size_t n = (size_t)o->study_count + 1;
    d->world = w;
    d->o = o;
    d->count = o->study_count;
    d->entries = calloc(n, sizeof *d->entries);
    d->outcomes = calloc(n, sizeof *d->outcomes);
    d->seats = calloc((size_t)world_size(w), sizeof *d->seats);
    d->p = (farm_progress){.phase = "headers", .found = o->study_count, .open = o->study_count, .eta_seconds = -1};
    if (!d->entries || !d->outcomes || !d->seats) {
        s = COV_FAIL(COV_NOMEM, "no memory for %zu studies", n);
        goto done;
    }
    COV_GO(check_studies(o));
    COV_GO(look_at_parts(d));
    d->started = d->last_step = world_now();
    for (int r = 0; r < world_size(w); r++) d->seats[r].last_heard = d->started;
    COV_GO(start_all(d));
    *out = d;
    return COV_OK;
done:
    dealer_free(&d);
    return s;
}

void dealer_free(dealer **dp)
{
    if (!dp || !*dp) return;
    dealer *d = *dp;
    for (int64_t k = 0; k < d->count; k++) {
        if (d->entries) free(d->entries[k].have_sha);
        if (d->outcomes) free(d->outcomes[k].detail);
    }
    free(d->entries);
    free(d->outcomes);
    free(d->seats);
    free(d->pieces);
    unit_list_free(&d->units);
    message_free(&d->out);
    free(d);
    *dp = NULL;
}

/* ---- planning */

static int64_t voxels_of(const farm_outcome *f) { return (int64_t)f->rows * f->cols * f->slices; }

static status make_units(dealer *d)
{
    int64_t n = 0;
    unit_study *list = calloc((size_t)d->count + 1, sizeof *list);
    if (!list) return COV_FAIL(COV_NOMEM, "no memory to plan %lld studies", (long long)d->count);
    for (int64_t k = 0; k < d->count; k++) {
        if (d->entries[k].stage == STAGE_SETTLED) continue;
        const farm_outcome *f = &d->outcomes[k];
        int known = f->reason == REASON_NONE;
        list[n++] = (unit_study){.index = k, .slices = known ? f->slices : 0, .pixels = (int64_t)f->rows * f->cols,
                                 .last = d->entries[k].last};
        d->p.voxels_total += known ? (double)voxels_of(f) : 0;
        d->entries[k].stage = STAGE_PLANNED;
    }
    for (int64_t i = 0; i < n; i++)
        d->entries[list[i].index].range =
            unit_range(list[i].slices, (double)list[i].slices * (double)list[i].pixels, d->p.voxels_total,
                       world_size(d->world), d->o->split_slices);
    status s = unit_plan(list, n, d->o->unit_slices, &d->units);
    free(list);
    d->estimate = d->p.voxels_total / d->o->voxels_per_second / world_size(d->world);
    d->planned = 1;
    d->rate_start = world_now();
    d->p.phase = "screening";
    return s;
}

static status deal_headers(dealer *d, int rank, int *dealt)
{
    static const int64_t none = 0;
    int64_t count = 0, left = d->count - d->next_header, share = left / (4 * world_size(d->world)) + 1;
    message list = {0};
    size_t bytes = 0;
    message_start(&list, PROTOCOL_HEADERS);
    message_put_i64(&list, none); /* the count comes to stand here */
    for (; d->next_header < d->count && count < BATCH && count < share && bytes < BATCH_BYTES; d->next_header++) {
        int64_t k = d->next_header;
        protocol_path p = {.index = k, .digest = d->entries[k].compare, .stamp = d->o->studies[k].stamp};
        if (d->entries[k].stage != STAGE_NEW) continue;
        strcpy(p.path, d->o->studies[k].path_abs); /* check_studies has measured it */
        protocol_put_path(&list, &p);
        d->entries[k].stage = STAGE_ASKED;
        bytes += strlen(p.path) + 32;
        count++;
    }
    *dealt = count > 0;
    d->asked += count;
    if (!list.failed) memcpy(list.bytes + sizeof(int32_t), &count, sizeof count);
    status s = count ? world_send(d->world, rank, &list) : COV_OK;
    message_free(&list);
    return s;
}

/* p NULL: the study itself, all of it or its first step. */
static void put_study(dealer *d, int64_t k, const piece *p)
{
    const farm_study *f = &d->o->studies[k];
    const farm_outcome *o = &d->outcomes[k];
    double estimate = (double)voxels_of(o) / d->o->voxels_per_second;
    protocol_study s = {.index = k, .unit = d->next_unit, .bytes = f->bytes, .mtime_ns = f->mtime_ns, .stamp = f->stamp,
                        .range = d->entries[k].range};
    s.step = s.range > 0 ? UNIT_BEGIN : UNIT_WHOLE;
    if (p) {
        s.index = d->count + (p - d->pieces);
        s.step = p->step;
        s.z0 = p->z0;
        s.z1 = p->z1;
    }
    s.reason = o->reason;
    s.voxels = o->reason == REASON_NONE ? voxels_of(o) : 0;
    s.seconds = d->o->timeout_seconds > 0 ? d->o->timeout_seconds : fmax(300, 10 * estimate);
    strcpy(s.path_abs, f->path_abs);
    strcpy(s.path_rel, f->path_rel);
    strcpy(s.id, f->id);
    strcpy(s.format, f->format);
    if (o->detail) str_utf8(s.detail, sizeof s.detail, o->detail);
    protocol_put_study(&d->out, &s);
}

static status deal_unit(dealer *d, int rank)
{
    const unit *u = &d->units.units[d->next_unit];
    message_start(&d->out, PROTOCOL_UNIT);
    message_put_i64(&d->out, u->count);
    for (int64_t k = 0; k < u->count; k++) {
        const unit_study *s = &d->units.studies[u->first + k];
        put_study(d, s->index, NULL);
        d->entries[s->index].stage = STAGE_DEALT;
        d->entries[s->index].rank = rank;
        claim_begin(d->o->claim, path_of(d, s->index));
    }
    d->seats[rank].open += (int)u->count;
    d->p.running += u->count;
    d->next_unit++;
    d->seats[rank].wants = 0;
    return tell(d, rank);
}

static status deal_piece(dealer *d, int rank)
{
    piece *p = &d->pieces[d->next_piece];
    message_start(&d->out, PROTOCOL_UNIT);
    message_put_i64(&d->out, 1);
    put_study(d, p->study, p);
    p->stage = STAGE_DEALT;
    p->rank = rank;
    d->seats[rank].open++;
    d->p.running++;
    d->seats[rank].wants = 0;
    return tell(d, rank);
}

/* Pieces that wait; those of a study that has failed meanwhile do not. */
static int64_t waiting_pieces(dealer *d)
{
    int64_t n = 0;
    for (int64_t i = d->next_piece; i < d->piece_count; i++) {
        piece *p = &d->pieces[i];
        if (p->stage == STAGE_PLANNED && d->entries[p->study].stage == STAGE_SETTLED) p->stage = STAGE_SETTLED;
        n += p->stage == STAGE_PLANNED;
    }
    while (d->next_piece < d->piece_count && d->pieces[d->next_piece].stage != STAGE_PLANNED) d->next_piece++;
    return n;
}

/* The rank that wants work and has least; -1: none may have any now. left: units and pieces that wait. */
static int next_rank(const dealer *d, int64_t left)
{
    int best = -1;
    for (int r = 0; r < world_size(d->world); r++) {
        const seat *s = &d->seats[r];
        if (!s->wants || s->gone || (s->open > 0 && left < world_size(d->world))) continue;
        if (best < 0 || s->open < d->seats[best].open) best = r;
    }
    return best;
}

static status deal(dealer *d)
{
    if (d->draining || d->finishing) return COV_OK;
    for (int r = 0; r < world_size(d->world) && d->next_header < d->count; r++) {
        int dealt = 0;
        if (!d->seats[r].wants) continue;
        COV_TRY(deal_headers(d, r, &dealt));
        if (dealt) d->seats[r].wants = 0;
    }
    if (!d->planned && d->next_header == d->count && d->headed == d->asked) COV_TRY(make_units(d));
    if (!d->planned || d->o->dry_run) return COV_OK;
    for (;;) {
        int64_t pieces = waiting_pieces(d), left = pieces + d->units.count - d->next_unit;
        int r = left > 0 ? next_rank(d, left) : -1;
        if (r < 0) return COV_OK;
        COV_TRY(pieces ? deal_piece(d, r) : deal_unit(d, r));
    }
}

/* ---- what the shells say */

static status take_head(dealer *d, int from, message *in)
{
    protocol_head h;
    protocol_get_head(in, &h);
    COV_TRY(message_end(in, "HEAD"));
    if (h.index < 0 || h.index >= d->count || d->entries[h.index].stage != STAGE_ASKED)
        return COV_FAIL(COV_BROKEN, "rank %d answers for header %lld, which it was not asked for", from,
                        (long long)h.index);
    entry *e = &d->entries[h.index];
    farm_outcome *f = &d->outcomes[h.index];
    d->headed++;
    d->p.headers++;
    e->stage = STAGE_NEW;
    if (h.has_head && h.head.nx > 0 && h.head.ny > 0 && h.head.nz > 0 && h.head.nx < 1 << 20 && h.head.ny < 1 << 20 &&
        h.head.nz < 1 << 20) {
        f->cols = (int32_t)h.head.nx;
        f->rows = (int32_t)h.head.ny;
        f->slices = (int32_t)h.head.nz;
    }
    if (e->compare && h.sha256[0] && strcmp(h.sha256, e->have_sha) == 0) {
        settle(d, h.index, (outcome)e->have_status, (reason)e->have_reason, NULL, 1);
        return COV_OK;
    }
    if (h.reason == REASON_NONE) return COV_OK;
    f->reason = (reason)h.reason;
    f->detail = strdup(h.detail);
    return COV_OK;
}

/* The study, or piece of one, that a shell reports on; -1: not one that it has. */
static int64_t dealt_to(const dealer *d, int from, int64_t k)
{
    if (k >= d->count && k - d->count < d->piece_count) {
        const piece *p = &d->pieces[k - d->count];
        return p->stage == STAGE_DEALT && p->rank == from ? k : -1;
    }
    return k >= 0 && k < d->count && d->entries[k].stage == STAGE_DEALT && d->entries[k].rank == from ? k : -1;
}

static status add_piece(dealer *d, piece p)
{
    if (d->piece_count == d->piece_room) {
        int64_t room = d->piece_room ? 2 * d->piece_room : 64;
        piece *more = realloc(d->pieces, (size_t)room * sizeof *more);
        if (!more) return COV_FAIL(COV_NOMEM, "no memory for %lld pieces of studies", (long long)room);
        d->pieces = more;
        d->piece_room = room;
    }
    p.stage = STAGE_PLANNED;
    d->pieces[d->piece_count++] = p;
    return COV_OK;
}

/* The first step is done: what comes next can go to all ranks. */
static status cut_up(dealer *d, int64_t k)
{
    entry *e = &d->entries[k];
    int64_t slices = d->outcomes[k].slices;
    e->stage = STAGE_CUT;
    for (int64_t z = 0; z < slices; z += e->range, e->ranges_left++)
        COV_TRY(add_piece(d, (piece){.study = k, .step = UNIT_RANGE, .z0 = z,
                                     .z1 = z + e->range < slices ? z + e->range : slices}));
    return COV_OK;
}

static void remove_pieces(dealer *d, int64_t k)
{
    part_key key;
    part_key_init(&key);
    strcpy(key.path, path_of(d, k));
    protocol_piece(UNIT_BEGIN, 0, d->entries[k].range, key.unit);
    part_piece_remove(d->o->parts_dir, &key);
    for (int64_t z = 0; z < d->outcomes[k].slices; z += d->entries[k].range) {
        protocol_piece(UNIT_RANGE, z, d->entries[k].range, key.unit);
        part_piece_remove(d->o->parts_dir, &key);
    }
}

/* A study's part is committed. */
static void take_end(dealer *d, int from, int64_t k, const protocol_done *done)
{
    farm_outcome *f = &d->outcomes[k];
    d->p.voxels_done += f->reason == REASON_NONE ? (double)voxels_of(f) : 0;
    free(f->detail);
    f->detail = NULL;
    f->strikes = (int)done->strikes;
    f->rank = from;
    f->seconds = done->seconds;
    settle(d, k, (outcome)done->outcome, (reason)done->reason, done->detail, 0);
    claim_end(d->o->claim, path_of(d, k));
    event(d, &(farm_event){.kind = FARM_STUDY, .rank = from, .host = world_host(d->world, from), .study = path_of(d, k),
                           .text = done->detail, .outcome = (outcome)done->outcome, .reason = (reason)done->reason,
                           .seconds = done->seconds});
}

static status take_piece(dealer *d, int from, const protocol_done *done)
{
    piece *p = &d->pieces[done->index - d->count];
    int64_t k = p->study;
    p->stage = STAGE_SETTLED;
    if (d->entries[k].stage == STAGE_SETTLED) return COV_OK; /* another piece has failed it */
    if (!done->more) {
        int whole = p->step == UNIT_END;
        take_end(d, from, k, done);
        if (whole) remove_pieces(d, k);
        return COV_OK;
    }
    return --d->entries[k].ranges_left ? COV_OK : add_piece(d, (piece){.study = k, .step = UNIT_END});
}

static status take_done(dealer *d, int from, message *in)
{
    protocol_done done;
    protocol_get_done(in, &done);
    COV_TRY(message_end(in, "DONE"));
    if (dealt_to(d, from, done.index) < 0)
        return COV_FAIL(COV_BROKEN, "rank %d reports on study %lld, which it does not have", from,
                        (long long)done.index);
    d->p.running--;
    d->p.seconds_worked += done.seconds;
    d->p.seconds_waited += done.waited;
    d->seats[from].open--;
    if (done.index >= d->count) return take_piece(d, from, &done);
    if (done.more) return cut_up(d, done.index);
    take_end(d, from, done.index, &done);
    return COV_OK;
}

static status take_dropped(dealer *d, int from, message *in)
{
    int64_t k = dealt_to(d, from, message_get_i64(in));
    COV_TRY(message_end(in, "DROPPED"));
    if (k < 0) return COV_FAIL(COV_BROKEN, "rank %d drops a study that it does not have", from);
    if (k < d->count) d->entries[k].stage = STAGE_PLANNED;
    else d->pieces[k - d->count].stage = STAGE_PLANNED;
    d->p.running--;
    d->seats[from].open--;
    claim_end(d->o->claim, path_of(d, k));
    return COV_OK;
}

static status take_event(dealer *d, int from, message *in)
{
    farm_event e = {.rank = from, .host = world_host(d->world, from)};
    e.kind = (farm_event_kind)message_get_i64(in);
    e.study = path_of(d, message_get_i64(in));
    e.text = message_get_text(in);
    COV_TRY(message_end(in, "EVENT"));
    if (e.kind == FARM_STRIKE) d->p.strikes++;
    event(d, &e);
    return COV_OK;
}

static status take_signal(dealer *d, int from, message *in)
{
    int64_t count = message_get_i64(in);
    if (count > 1)
        return COV_FAIL(COV_STOPPED, "stopped at once by a second signal (rank %d); what was committed stays", from);
    if (d->draining || d->finishing) return COV_OK;
    d->draining = 1;
    d->p.phase = "draining";
    d->drain_end = world_now() + d->o->grace_seconds;
    event(d, &(farm_event){.kind = FARM_NOTE, .rank = from, .host = world_host(d->world, from), .study = "",
                           .text = "a signal asks to stop: finishing what can be finished in time"});
    message_start(&d->out, PROTOCOL_DRAIN);
    message_put_f64(&d->out, d->o->grace_seconds * 0.8); /* the rest is for leaving */
    return tell_all(d);
}

status dealer_take(dealer *d, int from, message *in)
{
    seat *s = &d->seats[from];
    s->last_heard = world_now();
    switch (message_kind(in)) {
    case PROTOCOL_BEAT: return COV_OK;
    case PROTOCOL_WANT: s->wants = 1; return COV_OK;
    case PROTOCOL_HEAD: return take_head(d, from, in);
    case PROTOCOL_DONE: return take_done(d, from, in);
    case PROTOCOL_DROPPED: return take_dropped(d, from, in);
    case PROTOCOL_EVENT: return take_event(d, from, in);
    case PROTOCOL_SIGNAL: return take_signal(d, from, in);
    case PROTOCOL_BYE: s->gone = 1; return COV_OK;
    case PROTOCOL_FATAL: {
        int64_t code = message_get_i64(in);
        const char *text = message_get_text(in);
        return COV_FAIL(code > COV_OK && code <= COV_STOPPED ? (status)code : COV_BROKEN, "%s", text);
    }
    default: return COV_FAIL(COV_BROKEN, "the dealer got the message %s", protocol_name(message_kind(in)));
    }
}

/* ---- time */

static status check_ranks(dealer *d, double now)
{
    /* If this process itself was stopped, messages wait that it has not seen yet. */
    double pause = now - d->last_step;
    d->last_step = now;
    for (int r = 0; r < world_size(d->world); r++) {
        seat *s = &d->seats[r];
        if (pause > 2) s->last_heard += pause;
        if (s->gone || now - s->last_heard <= d->o->beat_seconds) continue;
        return COV_FAIL(COV_COMM, "rank %d (%s) has been silent for %.0f s", r, world_host(d->world, r),
                        now - s->last_heard);
    }
    return COV_OK;
}

static status beat(dealer *d, double now)
{
    if (d->finishing || now - d->last_beat < 1) return COV_OK;
    d->last_beat = now;
    message_start(&d->out, PROTOCOL_BEAT);
    return tell_all(d);
}

static void show(dealer *d, double now, int at_once)
{
    farm_progress *p = &d->p;
    p->seconds = now - d->started;
    p->voxels_per_second = d->planned && now > d->rate_start ? p->voxels_done / (now - d->rate_start) : 0;
    p->eta_seconds = p->voxels_done > 0 ? (p->voxels_total - p->voxels_done) / p->voxels_per_second : -1;
    if (d->o->progress && (at_once || now - d->last_progress >= PROGRESS_SECONDS)) {
        d->last_progress = now;
        d->o->progress(d->o->context, p);
    }
    if (!d->o->dry_run && (at_once || now - d->last_written >= STATUS_SECONDS)) {
        d->last_written = now;
        if (progress_write(d->o->claim ? claim_folder(d->o->claim) : d->o->parts_dir, p, world_size(d->world)) != COV_OK) status_clear(); /* a courtesy */
    }
}

static int all_settled(const dealer *d)
{
    if (d->draining) return d->p.running == 0;
    if (!d->planned) return 0;
    return d->o->dry_run || d->p.open == 0;
}

status dealer_step(dealer *d)
{
    double now = world_now();
    COV_TRY(check_ranks(d, now));
    COV_TRY(beat(d, now));
    COV_TRY(deal(d));
    show(d, now, 0);
    if (!d->finishing && (all_settled(d) || (d->draining && now > d->drain_end))) {
        d->finishing = 1;
        message_start(&d->out, PROTOCOL_FINISH);
        message_put_i64(&d->out, d->draining && d->p.open > 0);
        COV_TRY(tell_all(d));
    }
    return COV_OK;
}

int dealer_gone(const dealer *d)
{
    for (int r = 0; r < world_size(d->world); r++)
        if (!d->seats[r].gone) return 0;
    return 1;
}

status dealer_report(dealer *d, farm_report *out)
{
    int64_t counts[3] = {0}, open = 0;
    for (int64_t k = 0; k < d->count; k++) {
        const farm_outcome *f = &d->outcomes[k];
        if (!f->settled) { open++; continue; }
        counts[f->outcome]++;
        out->reasons[f->reason]++;
    }
    const farm_progress *p = &d->p;
    if (counts[0] + counts[1] + counts[2] + open != p->found || counts[0] != p->done || counts[1] != p->skipped ||
        counts[2] != p->failed || open != p->open || (open && !d->draining && !d->o->dry_run))
        return COV_FAIL(
            COV_BROKEN, "%lld studies were found, but %lld done, %lld skipped, %lld failed and %lld open are counted",
            (long long)p->found, (long long)p->done, (long long)p->skipped, (long long)p->failed, (long long)p->open);
    claim_settle(d->o->claim);
    if (d->piece_count && !claim_shared(d->o->claim)) part_piece_remove(d->o->parts_dir, NULL);
    show(d, world_now(), 1);
    out->grace_left = d->draining ? d->drain_end - world_now() : 0;
    out->totals = d->p;
    out->units = d->units.count;
    out->estimate_seconds = d->estimate;
    out->study_count = d->count;
    out->outcomes = d->outcomes;
    d->outcomes = NULL;
    return COV_OK;
}
