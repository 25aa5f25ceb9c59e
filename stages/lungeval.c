/* lungeval: see lungeval.h. */
#include "stages/lungeval.h"
#include "stages/lungcrf.h"
#include "stages/lungpost.h"
#include "stages/metrics.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct lungeval {
    const backend *backend;
    device *device;
    const trainset_volume *volume;
    size_t count;
    float *view[2], *fused; /* (nz, ny, nx) logits; view[1] NULL without a sagittal network */
};

const char *lungeval_name(lungeval_variant v)
{
    static const char *const names[] = {
#define X(NAME, name, ...) name,
        LUNGEVAL_VARIANTS(X)
#undef X
    };
    return names[v];
}

status lungeval_new(const backend *b, device *d, lung *nets, int sagittal, const trainset_volume *v, lungeval **out)
{
    status s = COV_OK;
    lungeval *e = calloc(1, sizeof *e);
    *out = NULL;
    if (!e) return COV_FAIL(COV_NOMEM, "no memory for an evaluation");
    e->backend = b;
    e->device = d;
    e->volume = v;
    e->count = (size_t)v->ct.head.nx * (size_t)v->ct.head.ny * (size_t)v->ct.head.nz; /* checked when it was read */
    e->fused = malloc(e->count * sizeof *e->fused);
    for (int k = 0; k < (sagittal ? 2 : 1); k++) {
        e->view[k] = malloc(e->count * sizeof *e->view[k]);
        if (!e->view[k] || !e->fused) COV_GO(COV_FAIL(COV_NOMEM, "no memory for the logits of %zu voxels", e->count));
        COV_GO(lung_logits(nets, &v->ct, (lung_fusion){.weight = (float)k}, e->view[k]));
    }
done:
    if (s != COV_OK) lungeval_free(&e);
    *out = e;
    return s;
}

void lungeval_free(lungeval **e)
{
    if (!*e) return;
    free((*e)->view[0]);
    free((*e)->view[1]);
    free((*e)->fused);
    free(*e);
    *e = NULL;
}

status lungeval_mask(lungeval *e, lung_fusion f, const crf_options *crf, uint8_t *mask)
{
    const volume *v = &e->volume->ct;
    const float *axial = e->view[0], *sagittal = e->view[1] ? e->view[1] : e->view[0];
    lungpost_report report;
    int64_t x0 = 0, x1 = v->head.nx;
    if (f.weight < 1) lung_span(&v->head, axial, &x0, &x1);
    for (size_t i = 0; i < e->count; i++) {
        int64_t x = (int64_t)i % v->head.nx;
        e->fused[i] = f.weight > 0 && x >= x0 && x < x1 ? lung_fused(f, v->hu[i], axial[i], sagittal[i]) : axial[i];
    }
    if (crf)
        COV_TRY(lungcrf_run(e->backend, e->device, crf, v, e->fused, mask));
    else
        for (size_t i = 0; i < e->count; i++) mask[i] = e->fused[i] > 0.0f;
    return lungpost_run(mask, v->head.nx, v->head.ny, v->head.nz, &report);
}

status lungeval_score_of(const trainset_volume *v, const uint8_t *mask, lungeval_score *out)
{
    const volume_header *h = &v->ct.head;
    size_t n = (size_t)h->nx * (size_t)h->ny * (size_t)h->nz;
    double ml = h->spacing_mm[0] * h->spacing_mm[1] * h->spacing_mm[2] / 1000.0;
    lungeval_score s = {.dice = NAN, .surface = NAN, .lesion_kept = NAN, .false_ml = NAN, .missed_ml = NAN};
    s.lung_ml = ml * (double)metrics_overlap_of(mask, mask, n).found;
    if (v->lung) {
        metrics_overlap whole = metrics_overlap_of(v->lung, mask, n);
        s.dice = metrics_dice(whole);
        s.false_ml = ml * (double)metrics_false(whole);
        s.missed_ml = ml * (double)metrics_missed(whole);
        metrics_ratio near = {0, 0};
        COV_TRY(metrics_surface(v->lung, mask, (const int64_t[]){h->nx, h->ny, h->nz}, h->spacing_mm,
                                LUNGEVAL_TOLERANCE_MM, 0, &near));
        s.surface = metrics_value(near);
    }
    if (v->lesion) s.lesion_kept = metrics_kept(metrics_overlap_of(v->lesion, mask, n));
    *out = s;
    return COV_OK;
}
