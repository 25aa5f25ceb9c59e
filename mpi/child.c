/* child: the reader's and the worker's loops. The traps: the volume's memory must be unmapped before it can be sealed;
 * a header is checked before its product of sizes is allocated; and nothing here may return an error to nobody, so each
 * failure becomes a reply with a reason code. */
#include "mpi/child.h"
#include "base/size.h"
#include "base/str.h"
#include "data/part.h"
#include "data/unit.h"
#include "mpi/channel.h"
#include "mpi/protocol.h"
#include "mpi/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PATH_ROOM = PROTOCOL_PATH + 128 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* When memory runs out, the system shall take a reader or the worker, which are replaced, and not the shell. */
static void offer_to_oom_killer(const char *score)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t ignored = write(fd, score, strlen(score));
    (void)ignored; /* a courtesy: nothing depends on it */
    close(fd);
}

/* The reason of a failure whose maker gave none. */
static reason reason_of(status s, reason why)
{
    if (why != REASON_NONE) return why;
    return s == COV_FORMAT ? REASON_CORRUPT : s == COV_IO ? REASON_IO_ERROR : s == COV_UNSUPPORTED ? REASON_UNSUPPORTED
         : s == COV_NOMEM ? REASON_TOO_LARGE : REASON_INTERNAL;
}

/* The record names the study anyway, and where an archive is mounted is nobody's business: "PATH: " is left out, and of
 * a file in a study's folder "PATH/". */
static void set_failure(protocol_head *h, const char *path, status s, reason why)
{
    const char *text = status_message();
    size_t n = strlen(path);
    if (strncmp(text, path, n) == 0 && strncmp(text + n, ": ", 2) == 0) text += n + 2;
    else if (strncmp(text, path, n) == 0 && text[n] == '/') text += n + 1;
    h->reason = reason_of(s, why);
    str_utf8(h->detail, sizeof h->detail, text);
}

/* What was not told would be waited for in vain: a child that is gone is seen, and replaced. */
static void tell(int socket, const message *m, int fd)
{
    if (channel_send(socket, m, fd) != COV_OK) _exit(1);
}

/* ---- reader */

typedef struct reading {
    const farm_calls *calls;
    int socket, no_sandbox;
    message in, out;
} reading;

static void digest_file(const reading *r, const char *path, protocol_head *h)
{
    status s = r->calls->digest ? r->calls->digest(r->calls->context, path, h->sha256) : sha256_file(path, h->sha256);
    if (s == COV_OK) return;
    h->sha256[0] = 0;
    set_failure(h, path, s, REASON_NONE); /* whatever was found out, it may have been of other bytes */
}

/* What is said of a study must be of the bytes that the walk saw: its part has their size and time, and answers for them
 * in later runs. So they are looked at before and after. Without a stamp of the walk, the one before counts. */
static status check_unchanged(const reading *r, const char *path, int64_t *stamp, const char *when, reason *why)
{
    int64_t now = 0;
    *why = REASON_IO_ERROR;
    COV_TRY(r->calls->stamp(r->calls->context, path, &now));
    if (!*stamp) *stamp = now;
    *why = now == *stamp ? REASON_NONE : REASON_CHANGED;
    return now == *stamp ? COV_OK : COV_FAIL(COV_FORMAT, "%s: changed %s", path, when);
}

static const char *const since_walk = "after the archive was listed", *const meanwhile = "while it was read";

static void read_headers(reading *r)
{
    int64_t count = message_get_i64(&r->in);
    for (int64_t k = 0; k < count; k++) {
        protocol_path p;
        protocol_head h = {0};
        reason why = REASON_NONE;
        protocol_get_path(&r->in, &p);
        if (r->in.failed) return;
        double start = now();
        h.index = p.index;
        status s = check_unchanged(r, p.path, &p.stamp, since_walk, &why);
        if (s == COV_OK) {
            s = r->calls->read_header(r->calls->context, p.path, &h.head, &why);
            h.has_head = s == COV_OK;
            if (s != COV_OK) set_failure(&h, p.path, s, why);
            if (s != COV_OK) s = check_unchanged(r, p.path, &p.stamp, meanwhile, &why);
        }
        if (s != COV_OK) set_failure(&h, p.path, s, why);
        if (p.digest) digest_file(r, p.path, &h);
        h.seconds = now() - start;
        message_start(&r->out, PROTOCOL_READ_HEAD);
        protocol_put_head(&r->out, &h);
        /* While the shell is busy its buffer may be full. */
        for (int tries = 0; channel_send(r->socket, &r->out, -1) != COV_OK; tries++) {
            struct timespec pause = {0, 2000000};
            if (tries > 5000) _exit(1);
            nanosleep(&pause, NULL);
        }
    }
}

/* Bytes of the voxels; TOO_LARGE above `most`. */
static status voxel_bytes(const char *path, const volume_header *h, int64_t most, size_t *bytes, reason *why)
{
    int64_t sizes[4] = {h->nx, h->ny, h->nz, (int64_t)sizeof(int16_t)};
    *why = REASON_TOO_LARGE;
    if (!size_product(sizes, 4, bytes) || *bytes > (size_t)most)
        return COV_FAIL(COV_UNSUPPORTED, "%s: %lld x %lld x %lld voxels; at most %lld bytes are accepted (--max-gib)",
                        path, (long long)h->nx, (long long)h->ny, (long long)h->nz, (long long)most);
    *why = REASON_BAD_HEADER;
    if (*bytes == 0) return COV_FAIL(COV_FORMAT, "%s: an empty volume", path);
    *why = REASON_NONE;
    return COV_OK;
}

static status fill_volume(reading *r, const char *path, int64_t most, protocol_head *h, int *fd, reason *why)
{
    size_t bytes = 0;
    status s = COV_OK;
    void *hu = MAP_FAILED;
    COV_GO(r->calls->read_header(r->calls->context, path, &h->head, why));
    h->has_head = 1;
    COV_GO(voxel_bytes(path, &h->head, most, &bytes, why));
    /* Decoders hold the stored samples (up to 8 bytes each) beside the int16. */
    if (!r->no_sandbox) COV_GO(sandbox_memory((int64_t)bytes * 6 + (256 << 20)));
    *fd = memfd_create("volume", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0 || ftruncate(*fd, (off_t)bytes) != 0) {
        s = COV_FAIL(COV_NOMEM, "%s: no shared memory for %zu bytes: %s", path, bytes, strerror(errno));
        goto done;
    }
    hu = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (hu == MAP_FAILED) {
        s = COV_FAIL(COV_NOMEM, "%s: cannot map %zu bytes: %s", path, bytes, strerror(errno));
        goto done;
    }
    COV_GO(r->calls->read_voxels(r->calls->context, path, &h->head, hu, &h->stats, why));
done:
    if (hu != MAP_FAILED) munmap(hu, bytes);
    return s;
}

static void read_voxels(reading *r)
{
    protocol_head h = {0};
    reason why = REASON_NONE;
    char path[PROTOCOL_PATH] = "";
    int fd = -1;
    double start = now();
    h.index = message_get_i64(&r->in);
    int64_t stamp = message_get_i64(&r->in), most = message_get_i64(&r->in);
    const char *name = message_get_text(&r->in); /* bytes, valid UTF-8 or not */
    if (r->in.failed) return;
    memcpy(path, name, strnlen(name, sizeof path - 1));
    status s = check_unchanged(r, path, &stamp, since_walk, &why);
    if (s == COV_OK) {
        s = fill_volume(r, path, most, &h, &fd, &why);
        if (s != COV_OK) set_failure(&h, path, s, why);
        if (h.reason != REASON_IO_ERROR) digest_file(r, path, &h);
        s = check_unchanged(r, path, &stamp, meanwhile, &why);
    }
    if (s != COV_OK) set_failure(&h, path, s, why);
    if (h.reason == REASON_NONE && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
        set_failure(&h, path, COV_FAIL(COV_IO, "%s: cannot seal its memory: %s", path, strerror(errno)),
                    REASON_INTERNAL);
    h.seconds = now() - start;
    message_start(&r->out, PROTOCOL_READ_VOLUME);
    protocol_put_head(&r->out, &h);
    tell(r->socket, &r->out, h.reason == REASON_NONE ? fd : -1);
}

static void reader_main(const farm_calls *calls, int64_t reader_bytes, int no_sandbox, int socket)
{
    reading r = {.calls = calls, .socket = socket, .no_sandbox = no_sandbox};
    int fd, got, open, level;
    offer_to_oom_killer("700");
    prctl(PR_SET_NAME, "covpipe-reader");
    if (channel_receive(socket, 1, &r.in, &fd, &got, &open) != COV_OK || !got) return;
    if (fd >= 0) close(fd);
    double cpu_seconds = message_get_f64(&r.in);
    const char *folder_of = message_get_text(&r.in); /* "" where the files lie in many folders */
    if (r.in.failed) return;
    if (!no_sandbox) {
        if (sandbox_limits(cpu_seconds) != COV_OK ||
            sandbox_memory(reader_bytes > 0 ? reader_bytes : (int64_t)1 << 30) != COV_OK ||
            sandbox_enter(*folder_of ? folder_of : NULL, &level) != COV_OK)
            return;
    }
    if (message_kind(&r.in) == PROTOCOL_READ_HEADERS) read_headers(&r);
    if (message_kind(&r.in) == PROTOCOL_READ_VOXELS) read_voxels(&r);
}

/* ---- worker */

typedef struct working {
    const farm_calls *calls;
    void *worker;
    char parts_dir[PROTOCOL_PATH];
    part_key key; /* template; path, size, time and digest are each study's own */
    int32_t rank;
    int socket;
    message in, out;
} working;

static void answer(working *w, const protocol_done *d)
{
    message_start(&w->out, PROTOCOL_WORK_RESULT);
    protocol_put_done(&w->out, d);
    tell(w->socket, &w->out, -1);
}

static void answer_failure(working *w, int64_t index, status s)
{
    protocol_done d = {.index = index, .failure = s};
    str_utf8(d.detail, sizeof d.detail, status_message());
    answer(w, &d);
}

static void row_from_head(study_row *row, const volume_header *h)
{
    row->rows = (int32_t)h->ny;
    row->cols = (int32_t)h->nx;
    row->slices = (int32_t)h->nz;
    memcpy(row->spacing_mm, h->spacing_mm, sizeof row->spacing_mm);
    memcpy(row->affine, h->affine, sizeof row->affine);
    memcpy(row->native, &h->native, sizeof row->native);
}

static void make_row_failed(study_row *row, reason why, const char *detail)
{
    row->status = (int32_t)reason_outcome(why);
    row->reason = (int32_t)why;
    str_utf8(row->detail, sizeof row->detail, detail);
}

static part_key key_of(const working *w, const protocol_study *s, const protocol_head *h)
{
    part_key key = w->key;
    memcpy(key.path, s->path_rel, sizeof key.path);
    key.size = s->bytes;
    key.mtime_ns = s->mtime_ns;
    memcpy(key.input_sha256, h->sha256, sizeof key.input_sha256);
    return key;
}

static status commit(working *w, const char *folder, const part_key *key, const protocol_study *s,
                     const protocol_head *h, study_result *result)
{
    study_row *row = &result->row;
    str_utf8(row->id, sizeof row->id, s->id);
    str_utf8(row->path, sizeof row->path, s->path_rel);
    str_utf8(row->format, sizeof row->format, h->has_head ? h->head.format : s->format);
    str_utf8(row->input_sha256, sizeof row->input_sha256, h->sha256);
    row->seconds_read = h->seconds;
    row->rank = w->rank;
    return part_write(folder, key, result);
}

/* ---- a study that is cut up: pieces lie in the folder of parts, which every rank sees, so a step may run anywhere */

/* What UNIT_BEGIN left, of the very bytes that this step's reader has read. */
static status read_begun(working *w, const protocol_study *s, const protocol_head *h, study_result *out, reason *why)
{
    char folder[PATH_ROOM], file[PATH_ROOM];
    part_key key = key_of(w, s, h), have;
    protocol_piece(UNIT_BEGIN, 0, s->range, key.unit);
    COV_TRY(part_pieces(w->parts_dir, folder, sizeof folder));
    COV_TRY(part_name(folder, &key, file, sizeof file));
    COV_TRY(part_read(file, &have, out));
    if (strcmp(have.input_sha256, h->sha256) == 0 && out->row.slices == h->head.nz) return COV_OK;
    *why = REASON_CHANGED;
    return COV_FAIL(COV_FORMAT, "changed between the steps of its screening");
}

static status run_range(working *w, const protocol_study *s, const protocol_head *h, const volume *v, reason *why)
{
    study_result begun = {0};
    part_key key = key_of(w, s, h);
    void *bytes = NULL;
    size_t count = 0;
    status done;
    protocol_piece(UNIT_RANGE, s->z0, s->range, key.unit);
    done = read_begun(w, s, h, &begun, why);
    if (done == COV_OK) done = w->calls->worker_range(w->worker, v, &begun, s->z0, s->z1, &bytes, &count);
    if (done == COV_OK) done = part_piece_write(w->parts_dir, &key, bytes, count);
    free(bytes);
    study_result_free(&begun);
    return done;
}

static status run_end(working *w, const protocol_study *s, const protocol_head *h, const volume *v, study_result *out,
                      reason *why)
{
    int64_t ranges = (v->head.nz + s->range - 1) / s->range;
    part_key key = key_of(w, s, h);
    void **bytes = calloc((size_t)ranges, sizeof *bytes);
    size_t *counts = calloc((size_t)ranges, sizeof *counts);
    status done = bytes && counts ? read_begun(w, s, h, out, why)
                                  : COV_FAIL(COV_NOMEM, "no memory for %lld ranges", (long long)ranges);
    for (int64_t k = 0; k < ranges && done == COV_OK; k++) {
        protocol_piece(UNIT_RANGE, k * s->range, s->range, key.unit);
        done = part_piece_read(w->parts_dir, &key, &bytes[k], &counts[k]);
    }
    if (done == COV_OK) done = w->calls->worker_end(w->worker, v, bytes, counts, ranges, out);
    for (int64_t k = 0; bytes && k < ranges; k++) free(bytes[k]);
    free(bytes);
    free(counts);
    return done;
}

/* *more: a step was done, and there is no result yet. */
static status run_step(working *w, const protocol_study *s, const protocol_head *h, const volume *v,
                       study_result *result, int *more, reason *why)
{
    *more = s->step == UNIT_RANGE;
    switch (s->step) {
    case UNIT_WHOLE: return w->calls->worker_run(w->worker, v, &h->stats, result);
    case UNIT_BEGIN: return w->calls->worker_begin(w->worker, v, &h->stats, result, more);
    case UNIT_RANGE: return run_range(w, s, h, v, why);
    case UNIT_END: return run_end(w, s, h, v, result, why);
    default: return COV_FAIL(COV_BROKEN, "there is no step %lld of a study", (long long)s->step);
    }
}

static status compute(working *w, const protocol_study *s, const protocol_head *h, int fd, study_result *result,
                      int *more, reason *failed)
{
    size_t bytes = 0;
    reason why;
    struct stat st;
    COV_TRY(voxel_bytes(s->path_rel, &h->head, INT64_MAX, &bytes, &why));
    if (fstat(fd, &st) != 0 || (size_t)st.st_size != bytes)
        return COV_FAIL(COV_FORMAT, "%s: its reader handed over %lld bytes; the header says %zu", s->path_rel,
                        (long long)st.st_size, bytes);
    void *hu = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (hu == MAP_FAILED)
        return COV_FAIL(COV_NOMEM, "%s: cannot map %zu bytes: %s", s->path_rel, bytes, strerror(errno));
    volume v = {.head = h->head, .hu = hu};
    row_from_head(&result->row, &h->head);
    status done = run_step(w, s, h, &v, result, more, failed);
    munmap(hu, bytes);
    return done;
}

/* The study's part, or what the next step needs. A range has left its piece already. */
static status commit_step(working *w, const protocol_study *s, const protocol_head *h, int more, study_result *result)
{
    char folder[PATH_ROOM];
    part_key key = key_of(w, s, h);
    if (more && s->step == UNIT_RANGE) return COV_OK;
    if (more) {
        protocol_piece(UNIT_BEGIN, 0, s->range, key.unit);
        COV_TRY(part_pieces(w->parts_dir, folder, sizeof folder));
        return commit(w, folder, &key, s, h, result);
    }
    return commit(w, w->parts_dir, &key, s, h, result);
}

static void run(working *w, int kind, int fd)
{
    protocol_study s;
    protocol_head h;
    study_result result = {0};
    reason why = REASON_INTERNAL;
    int more = 0;
    double start = now();
    protocol_get_study(&w->in, &s);
    protocol_get_head(&w->in, &h);
    if (message_end(&w->in, "WORK_RUN") != COV_OK || (kind == PROTOCOL_WORK_RUN) != (fd >= 0)) {
        answer_failure(w, -1, COV_BROKEN);
        return;
    }
    study_row_init(&result.row);
    if (fd >= 0) {
        status done = compute(w, &s, &h, fd, &result, &more, &why);
        if (done == COV_DEVICE || done == COV_NOMEM || done == COV_BROKEN) {
            answer_failure(w, s.index, done);
            goto end;
        }
        if (done != COV_OK) {
            study_result_free(&result);
            study_row_init(&result.row);
            row_from_head(&result.row, &h.head);
            make_row_failed(&result.row, why, status_message());
            more = 0;
        }
    } else {
        if (h.has_head) row_from_head(&result.row, &h.head);
        make_row_failed(&result.row, (reason)h.reason, h.detail);
    }
    status done = commit_step(w, &s, &h, more, &result);
    if (done != COV_OK) { answer_failure(w, s.index, done == COV_BROKEN ? COV_BROKEN : COV_IO); goto end; }
    protocol_done d = {.index = s.index, .outcome = result.row.status, .reason = result.row.reason, .more = more};
    d.voxels = (int64_t)result.row.rows * result.row.cols * result.row.slices;
    d.seconds = now() - start;
    memcpy(d.detail, result.row.detail, sizeof d.detail);
    answer(w, &d);
end:
    study_result_free(&result);
}

static void open_worker(working *w)
{
    const char *folder = message_get_text(&w->in), *settled = message_get_text(&w->in);
    w->rank = (int32_t)message_get_i64(&w->in);
    message_get_bytes(&w->in, &w->key, sizeof w->key);
    status s = message_end(&w->in, "WORK_OPEN");
    if (s == COV_OK && strlen(folder) >= sizeof w->parts_dir) s = COV_FAIL(COV_USAGE, "%s: too long", folder);
    if (s == COV_OK) memcpy(w->parts_dir, folder, strlen(folder) + 1);
    if (s == COV_OK && w->calls->settle) s = w->calls->settle(w->calls->context, settled);
    if (s == COV_OK) s = w->calls->worker_open(w->calls->context, &w->worker);
    if (s == COV_OK) answer(w, &(protocol_done){.index = -1});
    else answer_failure(w, -1, s);
}

static void worker_main(const farm_calls *calls, int socket)
{
    working *w = calloc(1, sizeof *w);
    int fd, got, open;
    if (!w) return;
    w->calls = calls;
    w->socket = socket;
    offer_to_oom_killer("300");
    prctl(PR_SET_NAME, "covpipe-worker");
    while (channel_receive(socket, 1, &w->in, &fd, &got, &open) == COV_OK && open) {
        int kind = message_kind(&w->in);
        if (kind == PROTOCOL_WORK_OPEN) open_worker(w);
        if (kind == PROTOCOL_WORK_RUN || kind == PROTOCOL_WORK_RECORD) run(w, kind, fd);
        if (fd >= 0) close(fd);
    }
    if (w->worker) w->calls->worker_close(&w->worker);
    message_free(&w->in);
    message_free(&w->out);
    free(w);
}

void child_main(int is_worker, const farm_calls *calls, int64_t reader_bytes, int no_sandbox, int socket)
{
    if (is_worker) worker_main(calls, socket);
    else reader_main(calls, reader_bytes, no_sandbox, socket);
    close(socket);
}
