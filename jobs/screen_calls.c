/* screen_calls: see screen.h. Runs in child processes only: a reader has one file and dies, a worker has the pipeline.
 */
#include "jobs/screen.h"

#include "data/reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static status find_reader(const char *path, const reader **r, reason *why)
{
    *r = reader_for(path);
    if (*r && (*r)->header && (*r)->voxels) return COV_OK;
    if (!*r && errno) {
        *why = REASON_IO_ERROR;
        return COV_FAIL(COV_IO, "%s: cannot look at it: %s", path, strerror(errno));
    }
    *why = REASON_UNSUPPORTED;
    return COV_FAIL(COV_UNSUPPORTED, "%s: %s is a known format that this version cannot read; expected NIfTI", path,
                    *r ? (*r)->format : "this");
}

static status read_header(void *context, const char *path, volume_header *out, reason *why)
{
    const reader *r;
    (void)context;
    COV_TRY(find_reader(path, &r, why));
    return r->header(path, out, why);
}

static status read_voxels(void *context, const char *path, const volume_header *head, int16_t *hu, volume_stats *stats,
                          reason *why)
{
    const reader *r;
    (void)context;
    COV_TRY(find_reader(path, &r, why));
    COV_TRY(r->voxels(path, head, hu, stats, why));
    return reader_check_ct(path, head, stats, why);
}

static status stamp(void *context, const char *path, int64_t *out)
{
    reader_look look;
    (void)context;
    status s = reader_look_at(path, &look);
    *out = look.stamp;
    return s;
}

static status digest(void *context, const char *path, char hex[SHA256_HEX])
{
    (void)context;
    return reader_digest(path, hex);
}

void screen_settled(const pipeline_options *p, char *text, size_t room)
{
    snprintf(text, room, "%s %s", p->backend->name, p->precision == NET_BF16 ? "bf16" : "fp32");
}

static status settle(void *context, const char *settled)
{
    screen_context *c = context;
    char name[16], precision[8];
    if (sscanf(settled, "%15s %7s", name, precision) != 2)
        return COV_FAIL(COV_BROKEN, "rank 0 settled on \"%s\"; expected a backend and a precision", settled);
    COV_TRY(backend_find(name, &c->pipeline.backend));
    c->pipeline.precision = strcmp(precision, "bf16") == 0 ? NET_BF16 : NET_FP32;
    return COV_OK;
}

static status worker_open(void *context, void **worker)
{
    screen_context *c = context;
    return pipeline_open(&c->pipeline, (pipeline **)worker);
}

static status worker_run(void *worker, const volume *v, const volume_stats *stats, study_result *out)
{
    return pipeline_run(worker, v, stats, out);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static status worker_begin(void *worker, const volume *v, const volume_stats *stats, study_result *out, int *more)
{
    double start = now();
    COV_TRY(pipeline_lungs(worker, v, stats, out));
    *more = pipeline_has_lesions(worker) && out->row.status == OUTCOME_DONE;
    out->row.seconds_total = now() - start;
    return COV_OK;
}

/* The bytes: the seconds it took, and the findings. */
static status worker_range(void *worker, const volume *v, const study_result *begun, int64_t z0, int64_t z1,
                           void **bytes, size_t *count)
{
    findings *f = NULL;
    void *packed = NULL;
    size_t n;
    double start = now();
    status s;
    *bytes = NULL;
    COV_GO(findings_new(v->head.nz, &f));
    COV_GO(pipeline_find(worker, v, begun->lung, z0, z1, f));
    COV_GO(findings_pack(f, &packed, &n));
    double seconds = now() - start;
    if (!(*bytes = malloc(n + sizeof seconds))) {
        s = COV_FAIL(COV_NOMEM, "no memory for %zu bytes of findings", n);
        goto done;
    }
    memcpy(*bytes, &seconds, sizeof seconds);
    memcpy((char *)*bytes + sizeof seconds, packed, n);
    *count = n + sizeof seconds;
done:
    free(packed);
    findings_free(&f);
    return s;
}

static status worker_end(void *worker, const volume *v, void *const *bytes, const size_t *counts, int64_t ranges,
                         study_result *begun)
{
    findings *f = NULL;
    double start = now(), all = 0, seconds = 0;
    status s;
    COV_GO(findings_new(v->head.nz, &f));
    for (int64_t k = 0; k < ranges; k++) {
        if (counts[k] < sizeof seconds) { s = COV_FAIL(COV_FORMAT, "findings of %zu bytes", counts[k]); goto done; }
        memcpy(&seconds, bytes[k], sizeof seconds);
        all += seconds;
        COV_GO(findings_unpack((const char *)bytes[k] + sizeof seconds, counts[k] - sizeof seconds, f));
    }
    COV_GO(pipeline_finish(worker, v, f, begun));
    begun->row.seconds_lesion = all + now() - start;
    begun->row.seconds_total += begun->row.seconds_lesion;
done:
    findings_free(&f);
    return s;
}

static void worker_close(void **worker) { pipeline_close((pipeline **)worker); }

farm_calls screen_calls(screen_context *c)
{
    return (farm_calls){.context = c,
                        .read_header = read_header,
                        .read_voxels = read_voxels,
                        .stamp = stamp,
                        .digest = digest,
                        .settle = settle,
                        .worker_open = worker_open,
                        .worker_run = worker_run,
                        .worker_begin = worker_begin,
                        .worker_range = worker_range,
                        .worker_end = worker_end,
                        .worker_close = worker_close};
}
