/* pipeline: volume -> lung logits -> CRF -> components and sides -> figures and flags. The one large array beside the
 * volume and the mask is the logits'; the CRF works on a few slices at a time. A volume in which nothing is lung is
 * a skipped study with a reason, not an error. */
#include "stages/pipeline.h"

#include "base/size.h"
#include "stages/burden.h"
#include "stages/lung.h"
#include "stages/lungcrf.h"
#include "stages/lungpost.h"
#include "stages/qc.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Fewer slices than this carry no sagittal plane worth the name. */
enum { SAGITTAL_LEAST = 8 };
/* A chest shows at least this much lung; darker it is air around a body, brighter no lung, however shaped. */
static const double LUNG_ML_LEAST = 100, LUNG_HU_LEAST = -950, LUNG_HU_MOST = -150;

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
    if (p->options.use_crf) COV_TRY(lungcrf_run(p->options.backend, p->device, &p->options.crf, v, logit, out->lung));
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
    if (out->row.lung_ml < LUNG_ML_LEAST || out->row.lung_mean_hu < LUNG_HU_LEAST || out->row.lung_mean_hu > LUNG_HU_MOST)
        skip(out, REASON_NO_LUNG, "%.0f ml look like lung, of %.0f HU on average; expected at least %.0f ml of %.0f to %.0f HU",
             out->row.lung_ml, report.voxels ? out->row.lung_mean_hu : 0.0, LUNG_ML_LEAST, LUNG_HU_LEAST, LUNG_HU_MOST);
    else qc_run(v, stats, out->lung, report.side_doubt, &out->row);
    out->row.seconds_total = now() - start;
done:
    free(logit);
    if (s != COV_OK) { free(out->lung); out->lung = NULL; }
    return s;
}
