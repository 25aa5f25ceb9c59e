/* fake_farm: a farm's calls with invented studies, for tests. A study is a file of one text line that says what shall
 * happen to it, so every way in which a child can end is played through with real processes:
 *
 *   "NX NY NZ what"   what is obeyed by the readers: ok, skip, bad-header, crash-header, crash-reader, hang-reader,
 * escape. The worker sees the volume alone and obeys NZ: 13 dies once, 14 dies, 15 hangs, 16 has no memory, 17 takes
 * 0.4 s. */
#ifndef COV_TESTS_FAKE_FARM_H
#define COV_TESTS_FAKE_FARM_H
#include "data/reader.h"
#include "mpi/farm.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct order { long nx, ny, nz; char what[32]; } order;

static inline status read_order(const char *path, order *o)
{
    char text[200] = "";
    int fd = open(path, O_RDONLY);
    if (fd < 0) return COV_FAIL(COV_IO, "%s: %s", path, strerror(errno));
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    *o = (order){0};
    if (n <= 0 || sscanf(text, "%ld %ld %ld %31s", &o->nx, &o->ny, &o->nz, o->what) < 4)
        return COV_FAIL(COV_FORMAT, "%s: not an order", path);
    return COV_OK;
}

static inline void nap(double seconds)
{
    struct timespec t = {(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};
    while (nanosleep(&t, &t) != 0) {}
}

/* As a wild pointer ends a process, without a sanitizer's report. */
static inline void crash(void)
{
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

static inline status fake_header(void *context, const char *path, volume_header *h, reason *why)
{
    order o;
    (void)context;
    *why = REASON_BAD_HEADER;
    COV_TRY(read_order(path, &o));
    if (strcmp(o.what, "bad-header") == 0) return COV_FAIL(COV_FORMAT, "%s: a bad header", path);
    if (strcmp(o.what, "crash-header") == 0) crash();
    *h = (volume_header){.format = "fake", .nx = o.nx, .ny = o.ny, .nz = o.nz, .spacing_mm = {1, 1, 2}};
    for (int k = 0; k < 4; k++) h->affine[k][k] = 1;
    for (int k = 0; k < 3; k++) h->native.axis[k] = (int8_t)k;
    h->native.size[0] = o.nx;
    h->native.size[1] = o.ny;
    h->native.size[2] = o.nz;
    *why = REASON_NONE;
    return COV_OK;
}

static inline int16_t fake_hu(int64_t i, int64_t nx) { return (int16_t)(i * 7 % 1000 + nx); }

static inline status fake_voxels(void *context, const char *path, const volume_header *h, int16_t *hu,
                                 volume_stats *stats, reason *why)
{
    order o;
    (void)context;
    COV_TRY(read_order(path, &o));
    if (strcmp(o.what, "crash-reader") == 0) crash();
    if (strcmp(o.what, "hang-reader") == 0) nap(1000);
    if (strcmp(o.what, "slow-reader") == 0) nap(0.3);
    if (strcmp(o.what, "escape") == 0 && open("/tmp/covpipe-escaped", O_WRONLY | O_CREAT, 0600) >= 0) o.nx = 0;
    if (strcmp(o.what, "skip") == 0) {
        *why = REASON_NOT_CT;
        return COV_FAIL(COV_FORMAT, "%s: not CT", path);
    }
    int64_t n = h->nx * h->ny * h->nz;
    for (int64_t i = 0; i < n; i++) hu[i] = fake_hu(i, o.nx);
    stats->highest = 42;
    return COV_OK;
}

static inline status fake_stamp(void *context, const char *path, int64_t *out)
{
    reader_look look;
    (void)context;
    status s = reader_look_at(path, &look);
    *out = look.stamp;
    return s;
}

static inline status fake_open(void *context, void **worker) { *worker = context; return COV_OK; }
static inline void fake_close(void **worker) { *worker = NULL; }

static inline int once_marker(const void *context, const volume *v)
{
    char name[600];
    snprintf(name, sizeof name, "%s/once-%lld", (const char *)context, (long long)v->head.nx);
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static inline status fake_run(void *worker, const volume *v, const volume_stats *stats, study_result *out)
{
    /* The order travels in the size: nz says what to do, nx ny stay free. */
    int64_t n = v->head.nx * v->head.ny * v->head.nz;
    if (stats->highest != 42) return COV_FAIL(COV_FORMAT, "statistics were lost");
    if (v->head.nz == 13 && once_marker(worker, v)) raise(SIGKILL);
    if (v->head.nz == 14) crash();
    if (v->head.nz == 15) nap(1000);
    if (v->head.nz == 16) return COV_FAIL(COV_NOMEM, "no memory, says the test");
    if (v->head.nz == 17) nap(0.4);
    out->slice_count = v->head.nz;
    out->slices = calloc((size_t)v->head.nz, sizeof *out->slices);
    out->lung = malloc((size_t)n);
    if (!out->slices || !out->lung) return COV_FAIL(COV_NOMEM, "no memory");
    for (int64_t i = 0; i < n; i++) out->lung[i] = (uint8_t)(v->hu[i] % 3); /* what fake_hu leads one to expect */
    int64_t area = v->head.nx * v->head.ny;
    for (int64_t z = 0; z < v->head.nz; z++) {
        out->slices[z] = (slice_row){.z = (int32_t)z, .position_mm = (double)z};
        for (int64_t i = 0; i < area; i++) out->slices[z].lung_px += out->lung[z * area + i] != 0;
    }
    out->row.lung_ml = (double)n;
    return COV_OK;
}

/* The same in steps. The lung's voxels are made range by range, and travel as bytes; a range whose first slice is the
 * tenth dies on a volume of 21 slices, once on one of 22. */
static inline status fake_begin(void *worker, const volume *v, const volume_stats *stats, study_result *out, int *more)
{
    COV_TRY(fake_run(worker, v, stats, out));
    *more = v->head.nz != 23; /* nothing more to do there */
    if (*more) memset(out->lung, 0, (size_t)(v->head.nx * v->head.ny * v->head.nz));
    for (int64_t z = 0; *more && z < v->head.nz; z++) out->slices[z].lung_px = 0;
    return COV_OK;
}

static inline status fake_range(void *worker, const volume *v, const study_result *begun, int64_t z0, int64_t z1,
                                void **bytes, size_t *count)
{
    int64_t area = v->head.nx * v->head.ny;
    if (v->head.nz == 21 && z0 == 10) crash();
    if (v->head.nz == 22 && z0 == 10 && once_marker(worker, v)) raise(SIGKILL);
    if (v->head.nz == 16 || begun->row.lung_ml != (double)(area * v->head.nz))
        return COV_FAIL(COV_FORMAT, "what begin left was lost");
    *count = (size_t)((z1 - z0) * area) + sizeof z0;
    *bytes = malloc(*count);
    if (!*bytes) return COV_FAIL(COV_NOMEM, "no memory");
    memcpy(*bytes, &z0, sizeof z0);
    for (int64_t i = 0; i < (z1 - z0) * area; i++)
        ((uint8_t *)*bytes)[sizeof z0 + (size_t)i] = (uint8_t)(v->hu[z0 * area + i] % 3);
    return COV_OK;
}

static inline status fake_end(void *worker, const volume *v, void *const *bytes, const size_t *counts, int64_t ranges,
                              study_result *begun)
{
    int64_t area = v->head.nx * v->head.ny, z0, done = 0;
    (void)worker;
    for (int64_t k = 0; k < ranges; k++) {
        memcpy(&z0, bytes[k], sizeof z0);
        memcpy(begun->lung + z0 * area, (const char *)bytes[k] + sizeof z0, counts[k] - sizeof z0);
        done += (int64_t)(counts[k] - sizeof z0) / area;
    }
    for (int64_t z = 0; z < v->head.nz; z++)
        for (int64_t i = 0; i < area; i++) begun->slices[z].lung_px += begun->lung[z * area + i] != 0;
    return done == v->head.nz ? COV_OK : COV_FAIL(COV_FORMAT, "slices were lost");
}

/* context: a folder that exists, borrowed; it remembers who has died once. */
static inline farm_calls fake_calls(char *context)
{
    return (farm_calls){.context = context,
                        .read_header = fake_header,
                        .read_voxels = fake_voxels,
                        .stamp = fake_stamp,
                        .worker_open = fake_open,
                        .worker_run = fake_run,
                        .worker_begin = fake_begin,
                        .worker_range = fake_range,
                        .worker_end = fake_end,
                        .worker_close = fake_close};
}

/* A sanitizer's shadow memory and its reports do not fit into a reader's limits. */
#ifdef COVPIPE_SANITIZED
enum { FAKE_NO_SANDBOX = 1, FAKE_PATIENCE = 4 };
#else
enum { FAKE_NO_SANDBOX = 0, FAKE_PATIENCE = 1 };
#endif

static inline part_key fake_key(void)
{
    part_key key;
    part_key_init(&key);
    memset(key.weights_sha256, 'a', SHA256_HEX - 1);
    memset(key.options_sha256, 'b', SHA256_HEX - 1);
    strcpy(key.precision, "fp32");
    strcpy(key.backend, "fake");
    return key;
}

/* Writes a study's file with a fixed time, so that a later look finds the same size and time. */
static inline void fake_write(const char *path, const char *text, time_t mtime)
{
    struct timespec fixed[2] = {{mtime, 0}, {mtime, 0}};
    FILE *f = fopen(path, "w");
    if (!f || fprintf(f, "%s\n", text) < 0 || fclose(f) != 0 || utimensat(AT_FDCWD, path, fixed, 0) != 0) {
        perror(path);
        abort();
    }
}
#endif
