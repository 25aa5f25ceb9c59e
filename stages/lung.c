/* lung: two networks kept at the size of the study in hand, in as many lanes as the threads are worth: each lane has a device and both
 * networks of its own (a backend without host memory has one lane, the caller's device). A network is reshaped only when a
 * study's planes have another size, so a run of alike studies plans once. Planes go through in batches; what a batch lacks at the
 * end of a volume is air, and not used. Volume, planes and logits stay on the device. */
#include "stages/lung.h"

#include "stages/lanes.h"
#include "stages/lungio.h"
#include "stages/lungplane.h"
#include "stages/netio.h"
#include "stages/window.h"

#include <stdio.h>
#include <stdlib.h>

/* Where the sagittal weights say nothing else: docs/MODELS.md. */
static const lung_fusion FUSION = {.weight = 0.85f, .prior = 1};
/* An axial plane alone fills the caches; sagittal ones are smaller, and are put back in runs along x (plane_put). */
enum { VIEWS = 2, AXIAL_BATCH = 1, SAGITTAL_BATCH = 8, DEVICE_BATCHES = 8 /* times as many on a GPU, which they must fill */ };

typedef struct view_net {
    net *net; /* NULL: not loaded */
    lungnet graph;
    int64_t batch, rows, cols; /* as compiled */
} view_net;

typedef struct lane {
    device *device; /* owned, but for a backend without host memory */
    view_net view[VIEWS]; /* by lungnet_view */
} lane;

struct lung {
    const backend *backend;
    device *device; /* the caller's */
    net_precision precision;
    int lane_count, threads; /* threads of a lane */
    lane *lanes;
    lung_fusion fusion; /* of the sagittal weights; zero without them */
    char digest[2 * SHA256_HEX];
};

static void lane_close(lung *l, lane *of)
{
    for (int v = 0; v < VIEWS; v++) net_free(&of->view[v].net);
    if (of->device && of->device != l->device) l->backend->close(&of->device);
    *of = (lane){0};
}

static status build_view(lung *l, lane *to, lungnet_view v, const weights_file *w)
{
    view_net *n = &to->view[v];
    n->batch = (v == LUNGNET_AXIAL ? AXIAL_BATCH : SAGITTAL_BATCH) * (l->backend->host_memory ? 1 : DEVICE_BATCHES);
    n->rows = n->cols = v == LUNGNET_AXIAL ? 512 : 256;
    COV_TRY(net_new(l->backend, to->device, 0, &n->net));
    COV_TRY(lungnet_build(n->net, w->preset, n->batch, n->rows, n->cols, false, &n->graph));
    COV_TRY(net_compile(n->net, NET_INFER, l->precision, NULL, NULL, 0));
    COV_TRY(netio_load(w, n->net));
    return COV_OK;
}

static status build_lane(lung *l, int k, weights_file *const w[VIEWS])
{
    lane *to = &l->lanes[k];
    to->device = l->device;
    if (l->backend->host_memory) {
        to->device = NULL;
        COV_TRY(l->backend->open(&(device_options){.threads = l->threads}, &to->device));
    }
    for (int v = 0; v < VIEWS; v++)
        if (w[v]) COV_TRY(build_view(l, to, (lungnet_view)v, w[v]));
    return COV_OK;
}

/* The first lane tells what a lane takes; it is built with all threads, and again where it gets fewer. */
static status build_lanes(lung *l, weights_file *const w[VIEWS])
{
    int threads = l->backend->threads(l->device);
    l->lane_count = 1;
    l->threads = threads;
    l->lanes = calloc((size_t)threads, sizeof *l->lanes);
    if (!l->lanes) return COV_FAIL(COV_NOMEM, "no memory for %d lanes", threads);
    COV_TRY(build_lane(l, 0, w));
    if (!l->backend->host_memory || threads == 1) return COV_OK;
    size_t bytes = 0;
    for (int v = 0; v < VIEWS; v++)
        if (l->lanes[0].view[v].net) bytes += net_activation_bytes(l->lanes[0].view[v].net);
    int lanes = lanes_for(threads, bytes);
    if (lanes == 1) return COV_OK;
    lane_close(l, &l->lanes[0]);
    l->lane_count = lanes;
    l->threads = threads / lanes;
    for (int k = 0; k < lanes; k++) COV_TRY(build_lane(l, k, w));
    return COV_OK;
}

status lung_open(const backend *b, device *d, net_precision precision, const char *axial_path, const char *sagittal_path, lung **out)
{
    status s;
    weights_file *w[VIEWS] = {NULL, NULL};
    *out = NULL;
    lung *l = calloc(1, sizeof *l);
    if (!l) return COV_FAIL(COV_NOMEM, "no memory for the lung networks");
    l->backend = b;
    l->device = d;
    l->precision = precision;
    COV_GO(lungio_open(axial_path, LUNGNET_AXIAL, NULL, &w[LUNGNET_AXIAL]));
    if (sagittal_path) {
        COV_GO(lungio_open(sagittal_path, LUNGNET_SAGITTAL, NULL, &w[LUNGNET_SAGITTAL]));
        l->fusion.weight = lungio_number(w[LUNGNET_SAGITTAL], LUNGIO_WEIGHT, 0, 1, FUSION.weight);
        l->fusion.prior = lungio_number(w[LUNGNET_SAGITTAL], LUNGIO_PRIOR, 0, 10, FUSION.prior);
    }
    snprintf(l->digest, sizeof l->digest, "%s%s%s", w[LUNGNET_AXIAL]->sha256, sagittal_path ? "+" : "", sagittal_path ? w[LUNGNET_SAGITTAL]->sha256 : "");
    COV_GO(build_lanes(l, w));
done:
    for (int v = 0; v < VIEWS; v++) weights_free(&w[v]);
    if (s != COV_OK) lung_close(&l);
    *out = l;
    return s;
}

void lung_close(lung **l)
{
    if (!l || !*l) return;
    for (int k = 0; (*l)->lanes && k < (*l)->lane_count; k++) lane_close(*l, &(*l)->lanes[k]);
    free((*l)->lanes);
    free(*l);
    *l = NULL;
}

lung_fusion lung_fusion_of(const lung *l, float weight, float prior)
{
    if (!l->lanes[0].view[LUNGNET_SAGITTAL].net) return (lung_fusion){0};
    return (lung_fusion){.weight = weight < 0 ? l->fusion.weight : weight, .prior = prior < 0 ? l->fusion.prior : prior};
}

const char *lung_digest(const lung *l) { return l->digest; }

static status fit_view(const lung *l, lane *of, lungnet_view view, const plane_set *p)
{
    view_net *n = &of->view[view];
    if (p->rows == n->rows && p->cols == n->cols) return COV_OK;
    COV_TRY(net_reshape(n->net, n->graph.image, tensor_shape_of(n->batch, p->rows, p->cols, 1, TENSOR_F32)));
    COV_TRY(net_compile(n->net, NET_INFER, l->precision, NULL, NULL, 0));
    n->rows = p->rows;
    n->cols = p->cols;
    return COV_OK;
}

typedef struct view_run {
    lung *l;
    lungnet_view view;
    plane_set planes;
    const int16_t *hu;
    sending *coming; /* hu on its way; NULL: it is there */
    float *logit;
} view_run;

/* Batch number `item`: batches write voxels of their own alone. */
static status run_batch(void *ctx, int lane_number, int64_t item)
{
    const view_run *r = ctx;
    const backend *b = r->l->backend;
    lane *of = &r->l->lanes[lane_number];
    view_net *n = &of->view[r->view];
    COV_TRY(fit_view(r->l, of, r->view, &r->planes));
    int64_t first = item * n->batch, count = r->planes.planes - first < n->batch ? r->planes.planes - first : n->batch;
    size_t plane = (size_t)(n->rows * n->cols);
    void *image;
    const void *logits;
    if (r->coming) COV_TRY(b->arrived(r->coming, (size_t)((first + count) * r->planes.ny * r->planes.nx) * sizeof *r->hu));
    COV_TRY(net_input_begin(n->net, n->graph.image, &image));
    COV_TRY(b->plane_cut(of->device, &r->planes, window_range(window_lung()), r->hu, first, count, image));
    COV_TRY(b->zero(of->device, (float *)image + (size_t)count * plane, (size_t)(n->batch - count) * plane * sizeof(float)));
    COV_TRY(net_input_end(n->net, n->graph.image));
    COV_TRY(net_forward(n->net));
    COV_TRY(net_output_at(n->net, n->graph.logit, &logits));
    return b->plane_put(of->device, &r->planes, logits, first, count, r->logit);
}

/* All planes in use into logit (nz,ny,width). */
static status run_view(lung *l, lungnet_view view, const plane_set *planes, const int16_t *hu, sending *coming, float *logit)
{
    view_run r = {.l = l, .view = view, .planes = *planes, .hu = hu, .coming = coming, .logit = logit};
    int64_t batch = l->lanes[0].view[view].batch;
    return lanes_run(l->lane_count, (planes->planes + batch - 1) / batch, run_batch, &r);
}

/* Sagittal planes are segmented each by itself and neighbours disagree: stripes in the axial slice. Their logits are smoothed
 * across the planes by two means over a plane's own reach, about a Gaussian of that sigma, and fused into the axial ones. */
static status fuse_sagittal(lung *l, const volume_header *h, const int16_t *hu, lung_fusion f, int64_t x0, int64_t x1, float *logit)
{
    plane_set p;
    void *side = NULL;
    status s;
    COV_TRY(lungplane_of(LUNGNET_SAGITTAL, h, &p));
    lungplane_between(&p, x0, x1);
    if (p.planes == 0) return COV_OK;
    COV_TRY(l->backend->alloc(l->device, sizeof *logit * (size_t)(p.nz * p.ny * p.width), &side)); /* no more than `logit` has */
    COV_GO(run_view(l, LUNGNET_SAGITTAL, &p, hu, NULL, side));
    COV_GO(l->backend->plane_fuse(l->device, &p, lung_blend(f), (p.nx + p.all - 1) / p.all, hu, side, logit));
done:
    l->backend->release(l->device, side);
    return s;
}

status lung_span(const backend *b, device *d, const volume_header *h, const float *axial, int64_t *x0, int64_t *x1)
{
    int64_t low = h->nx, high = 0, spare = h->nx / 16;
    plane_bound *bound = malloc(sizeof *bound * (size_t)h->nz);
    if (!bound) return COV_FAIL(COV_NOMEM, "no memory for the bounds of %lld slices", (long long)h->nz);
    status s = b->plane_bounds(d, h->nz, h->ny, h->nx, axial, bound);
    for (int64_t z = 0; s == COV_OK && z < h->nz; z++) {
        if (bound[z].x1 == 0) continue;
        low = bound[z].x0 < low ? bound[z].x0 : low;
        high = bound[z].x1 > high ? bound[z].x1 : high;
    }
    free(bound);
    *x0 = low - spare > 0 ? low - spare : 0;
    *x1 = high + spare < h->nx ? high + spare : h->nx;
    if (high == 0) *x0 = *x1 = 0;
    return s;
}

status lung_logits(lung *l, const volume_header *h, const int16_t *hu, sending *coming, lung_fusion f, float *logit)
{
    int64_t x0 = 0, x1 = h->nx;
    if (f.weight > 0 && !l->lanes[0].view[LUNGNET_SAGITTAL].net)
        return COV_FAIL(COV_USAGE, "a fusion weight of %g needs sagittal weights, and none are loaded", (double)f.weight);
    if (f.weight < 1) {
        plane_set axial;
        COV_TRY(lungplane_of(LUNGNET_AXIAL, h, &axial));
        COV_TRY(run_view(l, LUNGNET_AXIAL, &axial, hu, coming, logit));
    }
    if (coming) COV_TRY(l->backend->arrived(coming, (size_t)(h->nx * h->ny * h->nz) * sizeof *hu));
    if (f.weight > 0 && f.weight < 1) COV_TRY(lung_span(l->backend, l->device, h, logit, &x0, &x1));
    if (f.weight > 0) COV_TRY(fuse_sagittal(l, h, hu, f, x0, x1, logit));
    return COV_OK;
}
