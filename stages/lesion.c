/* lesion: see lesion.h. The nets are built for the size of the study's window and kept until a study has another;
 * parameters come from the file, which stays in memory. One slice a pass: no slice ever shares a computation with
 * another. */
#include "stages/lesion.h"

#include "base/str.h"
#include "kernels/box.h"
#include "stages/netio.h"
#include "stages/regions.h"
#include "stages/triplet.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CUT_REGIONS = 4 /* masks a pass of the second net */, WINDOW = 3 };
static const float NMS_IOU = 0.5f, INSIDE_MOST = 0.7f, SIDE_LEAST = 1.0f;

struct lesion {
    const backend *backend;
    device *device;
    net_precision precision;
    weights_file *weights; /* owned */
    lesionnet_model model;
    const lesionnet_spec *spec;
    float threshold;
    net *first, *second; /* second: detecting models alone */
    lesionnet_find find;
    lesionnet_cut cut;
    int64_t rows, cols; /* as built */
    int compiled;
    float *image;                                    /* (rows, cols, 3) */
    float *probability;                              /* (rows, cols): models that do not detect */
    box *rois, *found;                               /* (proposals) */
    float *score, *delta, *best;                     /* (proposals, 2), (proposals, 4), (proposals) */
    int32_t *order, *keep;                           /* (proposals) */
    float *masks;                                    /* (CUT_REGIONS, size, size) */
};

/* What of one study is at hand while its slices go through. */
typedef struct pass {
    lesion *l;
    const lesion_options *o;
    const volume *v;
    const uint8_t *lung; /* NULL: everything is lung */
    triplet_frame frame;
    float least;
    uint8_t *roi;           /* WINDOW planes: that of slice z at z mod WINDOW */
    int64_t roi_z[WINDOW];  /* -1: nothing there yet */
    uint8_t *plane;         /* (ny, nx) masks on their way to a finding */
    float *slice;           /* (ny, nx) probabilities; segmenting models */
    int32_t *labels;        /* (ny, nx); likewise */
} pass;

lesion_options lesion_defaults(void)
{
    return (lesion_options){.score_least = -1.0f, .mask_threshold = 0.5f};
}

/* ---- nets */

static void drop_nets(lesion *l)
{
    net_free(&l->second);
    net_free(&l->first);
    lesionnet_find_free(&l->find);
    free(l->image);
    free(l->probability);
    l->image = l->probability = NULL;
    l->rows = l->cols = 0;
    l->compiled = 0;
}

/* Graphs for windows of rows x cols with the file's parameters, which must all be used. */
static status build_nets(lesion *l, int64_t rows, int64_t cols)
{
    int used = 0, more = 0;
    drop_nets(l);
    COV_TRY(net_new(l->backend, l->device, 0, &l->first));
    COV_TRY(lesionnet_build_find(l->first, l->model, l->spec->name, 1, rows, cols, &l->find));
    if (lesionnet_detects(l->model)) {
        COV_TRY(net_new(l->backend, l->device, 0, &l->second));
        COV_TRY(lesionnet_build_cut(l->second, l->model, l->spec->name, l->first, &l->find, CUT_REGIONS, &l->cut));
        COV_TRY(netio_take(l->weights, l->second, 1, &more));
    }
    COV_TRY(netio_take(l->weights, l->first, 1, &used));
    if (used + more != l->weights->param_count)
        return COV_FAIL(COV_FORMAT, "the weights hold %d parameters, the network %s/%s has %d", l->weights->param_count,
                        l->weights->model, l->weights->preset, used + more);
    l->image = malloc((size_t)(rows * cols) * 3 * sizeof *l->image);
    l->probability = malloc((size_t)(rows * cols) * sizeof *l->probability);
    if (!l->image || !l->probability)
        return COV_FAIL(COV_NOMEM, "no memory for an input of %lld x %lld", (long long)rows, (long long)cols);
    l->rows = rows;
    l->cols = cols;
    return COV_OK;
}

static status ready(lesion *l, const triplet_frame *f)
{
    if (l->rows != f->rows || l->cols != f->cols) COV_TRY(build_nets(l, f->rows, f->cols));
    if (l->compiled) return COV_OK;
    COV_TRY(net_compile(l->first, NET_INFER, l->precision, NULL, NULL, 0));
    if (l->second) COV_TRY(net_compile(l->second, NET_INFER, l->precision, NULL, NULL, 0));
    l->compiled = 1;
    return COV_OK;
}

static status make_room(lesion *l)
{
    size_t n = (size_t)l->spec->proposals, bins = (size_t)l->cut.size * (size_t)l->cut.size;
    l->rois = malloc(n * sizeof *l->rois);
    l->found = malloc(n * sizeof *l->found);
    l->score = malloc(2 * n * sizeof *l->score);
    l->delta = malloc(4 * n * sizeof *l->delta);
    l->best = malloc(n * sizeof *l->best);
    l->order = malloc(n * sizeof *l->order);
    l->keep = malloc(n * sizeof *l->keep);
    l->masks = malloc((CUT_REGIONS * bins + 1) * sizeof *l->masks);
    if (!l->rois || !l->found || !l->score || !l->delta || !l->best || !l->order || !l->keep || !l->masks)
        return COV_FAIL(COV_NOMEM, "no memory for %zu regions", n);
    return COV_OK;
}

static float threshold_of(const weights_file *w)
{
    double v;
    const char *text = weights_find_text(w, LESION_SCORE_THRESHOLD);
    return text && str_to_double(text, &v) && v >= 0.0 && v <= 1.0 ? (float)v : 0.5f;
}

status lesion_open(const backend *b, device *d, net_precision precision, const char *weights_path, lesion **out)
{
    status s;
    *out = NULL;
    lesion *l = calloc(1, sizeof *l);
    if (!l) return COV_FAIL(COV_NOMEM, "no memory for a lesion network");
    l->backend = b;
    l->device = d;
    l->precision = precision;
    COV_GO(weights_load(weights_path, &l->weights));
    COV_GO(lesionnet_named(l->weights->model, &l->model));
    COV_GO(lesionnet_preset(l->weights->preset, &l->spec));
    COV_GO(build_nets(l, TRIPLET_CANVAS, TRIPLET_CANVAS));
    COV_GO(make_room(l));
    l->threshold = threshold_of(l->weights);
done:
    if (s != COV_OK) lesion_close(&l);
    *out = l;
    return s;
}

void lesion_close(lesion **out)
{
    lesion *l = out ? *out : NULL;
    if (!l) return;
    drop_nets(l);
    weights_free(&l->weights);
    free(l->rois);
    free(l->found);
    free(l->score);
    free(l->delta);
    free(l->best);
    free(l->order);
    free(l->keep);
    free(l->masks);
    free(l);
    *out = NULL;
}

lesionnet_model lesion_model(const lesion *l) { return l->model; }
const char *lesion_digest(const lesion *l) { return l->weights->sha256; }
const char *lesion_preset(const lesion *l) { return l->spec->name; }
float lesion_score_threshold(const lesion *l) { return l->threshold; }

/* ---- one slice's input */

static const uint8_t *lung_of(const pass *p, int64_t z)
{
    return p->lung ? p->lung + z * p->v->head.ny * p->v->head.nx : NULL;
}

static int has_lung(const pass *p, int64_t z)
{
    const uint8_t *lung = lung_of(p, z);
    int64_t n = p->v->head.ny * p->v->head.nx;
    for (int64_t i = 0; lung && i < n; i++)
        if (lung[i]) return 1;
    return !lung;
}

static const uint8_t *roi_of(pass *p, int64_t z)
{
    int64_t place = z % WINDOW, ny = p->v->head.ny, nx = p->v->head.nx;
    uint8_t *roi = p->roi + place * ny * nx;
    if (!p->lung) return NULL;
    if (p->roi_z[place] != z) triplet_roi(lung_of(p, z), ny, nx, roi);
    p->roi_z[place] = z;
    return roi;
}

static void cut_input(pass *p, int64_t z)
{
    const volume_header *h = &p->v->head;
    triplet_slices s = {{NULL, NULL, NULL}, {NULL, NULL, NULL}};
    for (int k = 0; k < 3; k++) {
        int64_t at = z + k - 1;
        if (at < 0 || at >= h->nz || (p->o->isolated && k != 1)) continue;
        s.hu[k] = p->v->hu + at * h->ny * h->nx;
        s.roi[k] = roi_of(p, at);
    }
    triplet_cut(&p->frame, window_lung(), &s, p->l->backend->threads(p->l->device), p->l->image);
}

/* ---- models that detect */

/* Regions whose score is enough, decoded and thinned: order[0 .. count-1] of found and best. */
static status read_regions(const pass *p, int64_t *count)
{
    lesion *l = p->l;
    int64_t n = 0;
    COV_TRY(net_get(l->first, l->find.rois, l->rois));
    COV_TRY(net_get(l->first, l->find.score, l->score));
    COV_TRY(net_get(l->first, l->find.delta, l->delta));
    for (int64_t k = 0; k < l->spec->proposals; k++) {
        if (!(box_area(l->rois[k]) > 0.0f) || !(l->score[2 * k + 1] >= p->least)) continue;
        box b = box_clip(box_decode(l->rois[k], l->delta + 4 * k, lesionnet_delta_weight()), (float)l->rows,
                         (float)l->cols);
        if (!(b.y1 - b.y0 >= SIDE_LEAST && b.x1 - b.x0 >= SIDE_LEAST)) continue;
        l->found[n] = b;
        l->best[n++] = l->score[2 * k + 1];
    }
    box_top_k(l->best, n, n, l->order);
    *count = box_nms(l->found, l->order, n, NMS_IOU, l->spec->found, l->keep);
    *count = box_drop_inside(l->found, *count, INSIDE_MOST, l->keep);
    return COV_OK;
}

/* The mask of one region onto the slice, cut to the lung. */
static status add_region(pass *p, int64_t z, box in, float score, const float *mask, findings *out)
{
    const volume_header *h = &p->v->head;
    box b = box_clip(triplet_box_to_slice(&p->frame, in), (float)h->ny, (float)h->nx);
    finding f = {.z = z, .score = score, .mask = p->plane};
    f.y0 = (int32_t)lrintf(b.y0);
    f.x0 = (int32_t)lrintf(b.x0);
    f.y1 = (int32_t)lrintf(b.y1);
    f.x1 = (int32_t)lrintf(b.x1);
    if (f.y1 <= f.y0 || f.x1 <= f.x0) return COV_OK;
    box_paste_mask(mask, p->l->cut.size, b, f.y0, f.x0, f.y1, f.x1, p->o->mask_threshold, p->plane);
    const uint8_t *lung = lung_of(p, z);
    for (int64_t y = f.y0; lung && y < f.y1; y++)
        for (int64_t x = f.x0; x < f.x1; x++)
            if (!lung[y * h->nx + x]) p->plane[(y - f.y0) * (f.x1 - f.x0) + x - f.x0] = 0;
    return findings_add(out, &f);
}

static status add_detected(pass *p, int64_t z, findings *out)
{
    lesion *l = p->l;
    int64_t count, bins = (int64_t)l->cut.size * l->cut.size;
    COV_TRY(read_regions(p, &count));
    for (int k = 0; k < l->cut.maps && count > 0; k++)
        COV_TRY(net_set_input_from(l->second, l->cut.map[k], l->first, l->find.map[k]));
    for (int64_t first = 0; first < count; first += CUT_REGIONS) {
        box rois[CUT_REGIONS] = {{0, 0, 0, 0}};
        int64_t here = count - first < CUT_REGIONS ? count - first : CUT_REGIONS;
        for (int64_t k = 0; k < here; k++) rois[k] = l->found[l->keep[first + k]];
        COV_TRY(net_set_input(l->second, l->cut.rois, rois));
        COV_TRY(net_forward(l->second));
        COV_TRY(net_get(l->second, l->cut.probability, l->masks));
        for (int64_t k = 0; k < here; k++)
            COV_TRY(add_region(p, z, rois[k], l->best[l->keep[first + k]], l->masks + k * bins, out));
    }
    return COV_OK;
}

/* ---- models that give a probability for each pixel */

static status add_component(pass *p, int64_t z, const region *r, int32_t label, findings *out)
{
    int64_t nx = p->v->head.nx, at = 0;
    double sum = 0.0;
    finding f = {.z = z, .y0 = r->y0, .x0 = r->x0, .y1 = r->y1, .x1 = r->x1, .mask = p->plane};
    for (int64_t y = r->y0; y < r->y1; y++)
        for (int64_t x = r->x0; x < r->x1; x++) {
            int own = p->labels[y * nx + x] == label;
            p->plane[at++] = (uint8_t)own;
            if (own) sum += (double)p->slice[y * nx + x];
        }
    f.score = (float)(sum / r->area);
    return f.score >= p->least ? findings_add(out, &f) : COV_OK;
}

static status add_segmented(pass *p, int64_t z, findings *out)
{
    lesion *l = p->l;
    const volume_header *h = &p->v->head;
    const uint8_t *lung = lung_of(p, z);
    region *list = NULL;
    int64_t count = 0;
    status s = COV_OK;
    COV_GO(net_get(l->first, l->find.probability, l->probability));
    triplet_put(&p->frame, l->probability, 0.0f, l->backend->threads(l->device), p->slice);
    for (int64_t i = 0; i < h->ny * h->nx; i++) p->plane[i] = p->slice[i] >= p->o->mask_threshold && (!lung || lung[i]);
    COV_GO(regions_find(p->plane, h->ny, h->nx, p->labels, &list, &count));
    for (int64_t k = 0; k < count; k++) COV_GO(add_component(p, z, &list[k], (int32_t)k + 1, out));
done:
    free(list);
    return s;
}

/* ---- a study */

static status run_slice(pass *p, int64_t z, findings *out)
{
    lesion *l = p->l;
    cut_input(p, z);
    COV_TRY(net_set_input(l->first, l->find.image, l->image));
    COV_TRY(net_forward(l->first));
    if (l->find.period >= 0) COV_TRY(net_get(l->first, l->find.period, out->period[z]));
    return lesionnet_detects(l->model) ? add_detected(p, z, out) : add_segmented(p, z, out);
}

status lesion_run(lesion *l, const lesion_options *o, const volume *v, const uint8_t *lung, int64_t z0, int64_t z1,
                  findings *out)
{
    const volume_header *h = &v->head;
    size_t plane = (size_t)(h->ny * h->nx);
    status s = COV_OK;
    pass p = {.l = l,
              .o = o,
              .v = v,
              .lung = lung,
              .roi_z = {-1, -1, -1},
              .least = o->score_least < 0.0f ? l->threshold : o->score_least};
    if (z0 < 0 || z1 > h->nz || out->nz != h->nz)
        return COV_FAIL(COV_BROKEN, "slices %lld to %lld of a study of %lld, findings for %lld", (long long)z0,
                        (long long)z1, (long long)h->nz, (long long)out->nz);
    p.frame = triplet_around(lung, h->nz, h->ny, h->nx);
    p.roi = malloc(WINDOW * plane);
    p.plane = malloc(plane);
    p.slice = malloc(plane * sizeof *p.slice);
    p.labels = malloc(plane * sizeof *p.labels);
    if (!p.roi || !p.plane || !p.slice || !p.labels)
        COV_GO(COV_FAIL(COV_NOMEM, "no memory for slices of %zu pixels", plane));
    COV_GO(ready(l, &p.frame));
    for (int64_t z = z0; z < z1; z++)
        if (has_lung(&p, z)) COV_GO(run_slice(&p, z, out));
done:
    free(p.roi);
    free(p.plane);
    free(p.slice);
    free(p.labels);
    return s;
}
