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
    void *hu;               /* the volume, lent to the device */
    int64_t x0, x1;         /* lung_span of the axial logits */
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

static status see(lungeval *e, lung *nets, int view)
{
    const volume_header *h = &e->volume->ct.head;
    size_t bytes = e->count * sizeof *e->view[view];
    void *logit = NULL;
    status s;
    e->view[view] = malloc(bytes);
    if (!e->view[view]) return COV_FAIL(COV_NOMEM, "no memory for the logits of %zu voxels", e->count);
    COV_GO(backend_lend(e->backend, e->device, e->view[view], bytes, 0, &logit));
    COV_GO(lung_logits(nets, h, e->hu, NULL, (lung_fusion){.weight = (float)view}, logit));
    if (view == 0) COV_GO(lung_span(e->backend, e->device, h, logit, &e->x0, &e->x1));
    COV_GO(backend_fetch(e->backend, e->device, logit, bytes, e->view[view]));
done:
    backend_return(e->backend, e->device, e->view[view], &logit);
    return s;
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
    if (!e->fused) COV_GO(COV_FAIL(COV_NOMEM, "no memory for the logits of %zu voxels", e->count));
    COV_GO(backend_lend(b, d, v->ct.hu, e->count * sizeof *v->ct.hu, 1, &e->hu));
    for (int k = 0; k < (sagittal ? 2 : 1); k++) COV_GO(see(e, nets, k));
done:
    if (s != COV_OK) lungeval_free(&e);
    *out = e;
    return s;
}

void lungeval_free(lungeval **e)
{
    if (!*e) return;
    backend_return((*e)->backend, (*e)->device, (*e)->volume->ct.hu, &(*e)->hu);
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
    plane_blend blend = lung_blend(f);
    lungpost_report report;
    void *logit = NULL;
    status s;
    int64_t x0 = f.weight < 1 ? e->x0 : 0, x1 = f.weight < 1 ? e->x1 : v->head.nx;
    for (size_t i = 0; i < e->count; i++) {
        int64_t x = (int64_t)i % v->head.nx;
        e->fused[i] = f.weight > 0 && x >= x0 && x < x1 ? plane_blended(blend, v->hu[i], axial[i], sagittal[i]) : axial[i];
    }
    COV_GO(backend_lend(e->backend, e->device, e->fused, e->count * sizeof *e->fused, 1, &logit));
    COV_GO(lungcrf_run(e->backend, e->device, crf, &v->head, e->hu, logit, mask));
    COV_GO(lungpost_run(mask, v->head.nx, v->head.ny, v->head.nz, e->backend->threads(e->device), &report));
done:
    backend_return(e->backend, e->device, e->fused, &logit);
    return s;
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
