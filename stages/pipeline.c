/* pipeline: volume -> lung logits -> CRF -> components and sides -> figures and flags. The one large array beside the
 * volume and the mask is the logits'; the CRF works on a few slices at a time. A volume in which nothing is lung is
 * a skipped study with a reason, not an error. */
#include "stages/pipeline.h"

#include "base/size.h"
#include "stages/burden.h"
#include "stages/lung.h"
#include "stages/lungpost.h"
#include "stages/qc.h"
#include "stages/window.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Fewer slices than this carry no sagittal plane worth the name. */
enum { SAGITTAL_LEAST = 8, CRF_SLICES_A_THREAD = 2 };
/* A chest shows at least this much lung; brighter than this it is no lung, however shaped. */
static const double LUNG_ML_LEAST = 60, LUNG_HU_MOST = -150;

struct pipeline {
    pipeline_options options;
    device *device;
    lung *lung;
    float fusion;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

status pipeline_open(const pipeline_options *o, pipeline **out)
{
    status s;
    *out = NULL;
    pipeline *p = calloc(1, sizeof *p);
    if (!p) return COV_FAIL(COV_NOMEM, "no memory for a pipeline");
    p->options = *o;
    COV_GO(o->backend->open(&(device_options){.threads = o->threads, .ordinal = o->ordinal}, &p->device));
    COV_GO(lung_open(o->backend, p->device, o->precision, o->lung_axial_path, o->use_sagittal ? o->lung_sagittal_path : NULL, &p->lung));
    p->fusion = !o->use_sagittal ? 0.0f : o->fusion_weight >= 0 ? o->fusion_weight : lung_fusion(p->lung);
done:
    if (s != COV_OK) pipeline_close(&p);
    *out = p;
    return s;
}

void pipeline_close(pipeline **pp)
{
    pipeline *p = pp ? *pp : NULL;
    if (!p) return;
    lung_close(&p->lung);
    if (p->device) p->options.backend->close(&p->device);
    free(p);
    *pp = NULL;
}

/* Bandwidths are pixels of a 512-pixel slice; a coarser or finer grid keeps their share of the image. */
static crf_options crf_for(const crf_options *o, int64_t nx)
{
    crf_options c = *o;
    float scale = (float)nx / 512.0f;
    c.theta_alpha *= scale;
    c.theta_gamma *= scale;
    return c;
}

typedef struct crf_room {
    int64_t slices; /* at most this many at once */
    int64_t *z;     /* which ones */
    float *logit, *intensity, *probability;
} crf_room;

static void crf_room_free(crf_room *r)
{
    free(r->z);
    free(r->logit);
    free(r->intensity);
    free(r->probability);
}

/* Runs the CRF on the n slices in room->z and writes their masks. */
static status crf_batch_run(pipeline *p, const volume *v, const float *logit, crf_room *r, int64_t n, uint8_t *mask)
{
    int64_t area = v->head.nx * v->head.ny;
    crf_options o = crf_for(&p->options.crf, v->head.nx);
    for (int64_t k = 0; k < n; k++) {
        memcpy(r->logit + k * area, logit + r->z[k] * area, sizeof *logit * (size_t)area);
        window_run(window_lung(), (size_t)area, v->hu + r->z[k] * area, r->intensity + k * area);
    }
    for (int64_t i = 0; i < n * area; i++) r->intensity[i] *= 255.0f;
    crf_batch b = {.n = n, .h = v->head.ny, .w = v->head.nx, .logit = r->logit, .intensity = r->intensity, .probability = r->probability};
    COV_TRY(p->options.backend->crf(p->device, &o, &b));
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < area; i++) mask[r->z[k] * area + i] = r->probability[k * area + i] > 0.5f;
    return COV_OK;
}

static int slice_has_lung(const float *logit, int64_t area)
{
    for (int64_t i = 0; i < area; i++)
        if (logit[i] > 0) return 1;
    return 0;
}

/* Without one pixel that the networks call lung, a Potts CRF has nothing to spread: such slices stay empty. */
static status run_crf(pipeline *p, const volume *v, const float *logit, uint8_t *mask)
{
    int64_t area = v->head.nx * v->head.ny, n = 0;
    status s = COV_OK;
    crf_room r = {.slices = CRF_SLICES_A_THREAD * (int64_t)p->options.backend->threads(p->device)};
    size_t floats = sizeof(float) * (size_t)(r.slices * area);
    r.z = malloc(sizeof *r.z * (size_t)r.slices);
    r.logit = malloc(floats);
    r.intensity = malloc(floats);
    r.probability = malloc(floats);
    if (!r.z || !r.logit || !r.intensity || !r.probability) { s = COV_FAIL(COV_NOMEM, "no memory for the CRF of %lld slices", (long long)r.slices); goto done; }
    for (int64_t z = 0; z < v->head.nz; z++) {
        if (slice_has_lung(logit + z * area, area)) r.z[n++] = z;
        else memset(mask + z * area, 0, (size_t)area);
        if (n < r.slices && !(z + 1 == v->head.nz && n)) continue;
        COV_GO(crf_batch_run(p, v, logit, &r, n, mask));
        n = 0;
    }
done:
    crf_room_free(&r);
    return s;
}

static void skip(study_result *out, reason why, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void skip(study_result *out, reason why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(out->row.detail, sizeof out->row.detail, format, args);
    va_end(args);
    out->row.status = (int32_t)reason_outcome(why);
    out->row.reason = (int32_t)why;
    free(out->lung);
    free(out->slices);
    out->lung = NULL;
    out->slices = NULL;
    out->slice_count = 0;
    out->row.lung_ml = out->row.lung_right_ml = out->row.lung_left_ml = out->row.lung_mean_hu = out->row.lung_high_percent = NAN;
}

static status segment(pipeline *p, const volume *v, float *logit, study_result *out, lungpost_report *report)
{
    double start = now();
    size_t count = (size_t)(v->head.nx * v->head.ny * v->head.nz);
    COV_TRY(lung_logits(p->lung, v, v->head.nz < SAGITTAL_LEAST ? 0.0f : p->fusion, logit));
    double middle = now();
    if (p->options.use_crf) COV_TRY(run_crf(p, v, logit, out->lung));
    else for (size_t i = 0; i < count; i++) out->lung[i] = logit[i] > 0;
    COV_TRY(lungpost_run(out->lung, v->head.nx, v->head.ny, v->head.nz, report));
    out->row.seconds_lung = middle - start;
    out->row.seconds_crf = now() - middle;
    return COV_OK;
}

status pipeline_run(pipeline *p, const volume *v, const volume_stats *stats, study_result *out)
{
    size_t count, bytes;
    lungpost_report report;
    double start = now();
    status s;
    float *logit = NULL;
    if (!size_product((const int64_t[]){v->head.nx, v->head.ny, v->head.nz}, 3, &count) || !size_mul(count, sizeof *logit, &bytes))
        return COV_FAIL(COV_NOMEM, "a volume of %lld x %lld x %lld does not fit", (long long)v->head.nx, (long long)v->head.ny, (long long)v->head.nz);
    logit = malloc(bytes);
    out->lung = malloc(count);
    if (!logit || !out->lung) { s = COV_FAIL(COV_NOMEM, "no memory for %zu voxels", count); goto done; }
    COV_GO(segment(p, v, logit, out, &report));
    COV_GO(burden_lung(v, out->lung, out));
    if (out->row.lung_ml < LUNG_ML_LEAST || out->row.lung_mean_hu > LUNG_HU_MOST)
        skip(out, REASON_NO_LUNG, "%.0f ml look like lung, of %.0f HU on average; expected at least %.0f ml below %.0f HU",
             out->row.lung_ml, report.voxels ? out->row.lung_mean_hu : 0.0, LUNG_ML_LEAST, LUNG_HU_MOST);
    else qc_run(v, stats, out->lung, report.side_doubt, &out->row);
    out->row.seconds_total = now() - start;
done:
    free(logit);
    if (s != COV_OK) { free(out->lung); out->lung = NULL; }
    return s;
}
