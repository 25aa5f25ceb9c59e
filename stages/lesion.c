/* lesion: see lesion.h. The nets are built for the size of the study's window and kept until a study has another;
 * parameters come from the file, which stays in memory. On the host one slice a pass. On a GPU, which one does not fill, a
 * group: slice z always has place z mod DEVICE_BATCH of it, whatever the range and whatever its neighbours hold, so that a
 * kernel which adds up in another order at another place still gives a slice the same bits. */
#include "stages/lesion.h"

#include "base/str.h"
#include "stages/netio.h"
#include "stages/regions.h"
#include "stages/triplet.h"
#include "stages/window.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HOST_REGIONS = 4, DEVICE_REGIONS = BOXES_PASTE_MOST /* masks of a slice a pass of the second net */, DEVICE_BATCH = 8, WINDOW = 3 };

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
    float *found; /* (batch, found, RCNN_FOUND): models that detect */
};

/* Slices first .. first+batch-1, of which those that are wanted have something to say. */
typedef struct group {
    int64_t first;
    int wanted[DEVICE_BATCH];
} group;

/* What of one study is at hand while its slices go through. */
typedef struct pass {
    lesion *l;
    const lesion_options *o;
    const volume_header *h;
    const int16_t *hu;    /* device memory */
    const uint8_t *lung;  /* NULL: everything is lung */
    void *there;          /* the lung, lent to the device */
    plane_frame frame;
    float least;
    void *roi;              /* device memory, WINDOW planes: that of slice z at z mod WINDOW */
    int64_t roi_z[WINDOW];  /* -1: nothing there yet */
    uint8_t *plane;         /* (regions, ny, nx) masks on their way to a finding; segmenting models: of one */
    void *pasted;           /* the same, lent to the device; detecting models */
    int32_t *labels;        /* (ny, nx) of a slice's regions; segmenting models */
    void *there_labels;     /* the same, lent to the device */
    void *slice;            /* device memory, (ny, nx) probabilities; segmenting models */
} pass;

lesion_options lesion_defaults(void)
{
    return (lesion_options){.score_least = -1.0f, .mask_threshold = 0.5f};
}

/* ---- nets */

static int batch_of(const lesion *l) { return l->backend->host_memory ? 1 : DEVICE_BATCH; }
static int regions_of_pass(const lesion *l) { return l->backend->host_memory ? HOST_REGIONS : DEVICE_REGIONS; }

static void drop_nets(lesion *l)
{
    net_free(&l->second);
    net_free(&l->first);
    lesionnet_find_free(&l->find);
    l->rows = l->cols = 0;
    l->compiled = 0;
}

/* Graphs for windows of rows x cols with the file's parameters, which must all be used. */
static status build_nets(lesion *l, int64_t rows, int64_t cols)
{
    int used = 0, more = 0;
    drop_nets(l);
    COV_TRY(net_new(l->backend, l->device, 0, &l->first));
    COV_TRY(lesionnet_build_find(l->first, l->model, l->spec->name, batch_of(l), rows, cols, &l->find));
    if (lesionnet_detects(l->model)) {
        COV_TRY(net_new(l->backend, l->device, 0, &l->second));
        COV_TRY(lesionnet_build_cut(l->second, l->model, l->spec->name, l->first, &l->find, regions_of_pass(l), &l->cut));
        COV_TRY(netio_take(l->weights, l->second, 1, &more));
    }
    COV_TRY(netio_take(l->weights, l->first, 1, &used));
    if (used + more != l->weights->param_count)
        return COV_FAIL(COV_FORMAT, "the weights hold %d parameters, the network %s/%s has %d", l->weights->param_count,
                        l->weights->model, l->weights->preset, used + more);
    l->rows = rows;
    l->cols = cols;
    return COV_OK;
}

static status ready(lesion *l, const plane_frame *f)
{
    if (l->rows != f->rows || l->cols != f->cols) COV_TRY(build_nets(l, f->rows, f->cols));
    if (l->compiled) return COV_OK;
    COV_TRY(net_compile(l->first, NET_INFER, l->precision, NULL, NULL, 0));
    if (l->second) COV_TRY(net_compile(l->second, NET_INFER, l->precision, NULL, NULL, 0));
    l->compiled = 1;
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
    l->found = malloc((size_t)(batch_of(l) * l->spec->found) * RCNN_FOUND * sizeof *l->found);
    if (!l->found) COV_GO(COV_FAIL(COV_NOMEM, "no memory for %d regions", l->spec->found));
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
    free(l->found);
    free(l);
    *out = NULL;
}

lesionnet_model lesion_model(const lesion *l) { return l->model; }
const char *lesion_digest(const lesion *l) { return l->weights->sha256; }
const char *lesion_preset(const lesion *l) { return l->spec->name; }
float lesion_score_threshold(const lesion *l) { return l->threshold; }

/* ---- inputs */

static const uint8_t *lung_of(const pass *p, int64_t z)
{
    return p->lung ? p->lung + z * p->h->ny * p->h->nx : NULL;
}

static int has_lung(const pass *p, int64_t z)
{
    const uint8_t *lung = lung_of(p, z);
    int64_t n = p->h->ny * p->h->nx;
    for (int64_t i = 0; lung && i < n; i++)
        if (lung[i]) return 1;
    return !lung;
}

static status roi_of(pass *p, int64_t z, const uint8_t **out)
{
    const backend *b = p->l->backend;
    int64_t place = z % WINDOW, ny = p->h->ny, nx = p->h->nx;
    double ry, rx;
    *out = NULL;
    if (!p->lung) return COV_OK;
    uint8_t *roi = (uint8_t *)p->roi + place * ny * nx;
    triplet_margin(ny, nx, &ry, &rx);
    if (p->roi_z[place] != z) COV_TRY(b->plane_near(p->l->device, ny, nx, ry, rx, (uint8_t *)p->there + z * ny * nx, roi));
    p->roi_z[place] = z;
    *out = roi;
    return COV_OK;
}

static status cut_input(pass *p, int64_t z, float *image)
{
    const lesion *l = p->l;
    plane_slices s = {{NULL, NULL, NULL}, {NULL, NULL, NULL}};
    for (int k = 0; k < PLANE_STACK; k++) {
        int64_t at = z + k - 1;
        if (at < 0 || at >= p->h->nz || (p->o->isolated && k != 1)) continue;
        s.slice[k] = p->hu + at * p->h->ny * p->h->nx;
        COV_TRY(roi_of(p, at, &s.near[k]));
    }
    return l->backend->plane_stack(l->device, &p->frame, window_range(window_lung()), &s, image);
}

static status cut_inputs(pass *p, const group *g)
{
    const lesion *l = p->l;
    int64_t count = l->rows * l->cols * PLANE_STACK;
    void *images;
    COV_TRY(net_input_begin(l->first, l->find.image, &images));
    for (int k = 0; k < batch_of(l); k++) {
        float *image = (float *)images + k * count;
        if (g->wanted[k]) COV_TRY(cut_input(p, g->first + k, image));
        else COV_TRY(l->backend->zero(l->device, image, (size_t)count * sizeof *image));
    }
    return net_input_end(l->first, l->find.image);
}

/* ---- models that detect */

/* How many of a slice's regions, best first, have score enough. */
static int64_t count_regions(const pass *p, const float *regions)
{
    int64_t n = 0;
    for (const float *f = regions; n < p->l->spec->found && f[2] > f[0] && f[4] >= p->least; f += RCNN_FOUND) n++;
    return n;
}

/* Region k: where `in` of the net's input lies on the slice, and in which pixels; there may be none. */
static void place_region(const pass *p, const float *in, int k, boxes_pasting *to, finding *f)
{
    const volume_header *h = p->h;
    box b = box_clip(triplet_box_to_slice(&p->frame, (box){in[0], in[1], in[2], in[3]}), (float)h->ny, (float)h->nx);
    *f = (finding){.score = in[4]};
    f->y0 = (int32_t)lrintf(b.y0);
    f->x0 = (int32_t)lrintf(b.x0);
    f->y1 = (int32_t)lrintf(b.y1);
    f->x1 = (int32_t)lrintf(b.x1);
    to->at[k] = b;
    to->y0[k] = f->y0;
    to->x0[k] = f->x0;
    to->y1[k] = f->y1;
    to->x1[k] = f->x1;
}

/* Regions of slice z with their masks (count, size, size; device memory), cut to the lung, as findings. */
static status add_regions(pass *p, int64_t z, const float *regions, int count, const float *masks, findings *out)
{
    const lesion *l = p->l;
    int64_t ny = p->h->ny, nx = p->h->nx;
    finding f[BOXES_PASTE_MOST];
    boxes_pasting to = {.count = count, .size = l->cut.size, .threshold = p->o->mask_threshold, .ny = ny, .nx = nx, .probability = masks,
                        .inside = p->lung ? (const uint8_t *)p->there + z * ny * nx : NULL, .to = p->pasted};
    for (int k = 0; k < count; k++) place_region(p, regions + k * RCNN_FOUND, k, &to, &f[k]);
    COV_TRY(l->backend->boxes_paste(l->device, &to));
    COV_TRY(backend_fetch(l->backend, l->device, p->pasted, (size_t)boxes_pasting_at(&to, count), p->plane));
    for (int k = 0; k < count; k++) {
        f[k].z = z;
        f[k].mask = p->plane + boxes_pasting_at(&to, k);
        if (f[k].y1 > f[k].y0 && f[k].x1 > f[k].x0) COV_TRY(findings_add(out, &f[k]));
    }
    return COV_OK;
}

/* Of each slice of the group the regions from `from` on, as many as the second net takes. */
static status add_masks(pass *p, const group *g, const int64_t *count, int64_t from, findings *out)
{
    lesion *l = p->l;
    const int most = regions_of_pass(l);
    const int64_t bins = (int64_t)l->cut.size * l->cut.size, slice = (int64_t)l->spec->found * RCNN_FOUND;
    box rois[DEVICE_BATCH * BOXES_PASTE_MOST] = {{0, 0, 0, 0}};
    const void *masks;
    for (int k = 0; k < batch_of(l); k++)
        for (int64_t j = 0; j < most && from + j < count[k]; j++)
            memcpy(&rois[k * most + j], l->found + k * slice + (from + j) * RCNN_FOUND, sizeof *rois);
    COV_TRY(net_set_input(l->second, l->cut.rois, rois));
    COV_TRY(net_forward(l->second));
    COV_TRY(net_output_at(l->second, l->cut.probability, &masks));
    for (int k = 0; k < batch_of(l); k++) {
        int64_t here = count[k] - from < most ? count[k] - from : most;
        const float *regions = l->found + k * slice + from * RCNN_FOUND;
        if (here > 0) COV_TRY(add_regions(p, g->first + k, regions, (int)here, (const float *)masks + k * most * bins, out));
    }
    return COV_OK;
}

static status add_detected(pass *p, const group *g, findings *out)
{
    lesion *l = p->l;
    int64_t count[DEVICE_BATCH] = {0}, most = 0;
    COV_TRY(net_get(l->first, l->find.found, l->found));
    for (int k = 0; k < batch_of(l); k++) {
        count[k] = g->wanted[k] ? count_regions(p, l->found + (int64_t)k * l->spec->found * RCNN_FOUND) : 0;
        most = count[k] > most ? count[k] : most;
    }
    for (int k = 0; k < l->cut.maps && most > 0; k++) COV_TRY(net_set_input_from(l->second, l->cut.map[k], l->first, l->find.map[k]));
    for (int64_t from = 0; from < most; from += regions_of_pass(l)) COV_TRY(add_masks(p, g, count, from, out));
    return COV_OK;
}

/* ---- models that give a probability for each pixel */

static status add_component(pass *p, int64_t z, const region_sum *r, int32_t label, findings *out)
{
    int64_t nx = p->h->nx, at = 0;
    const region *in = &r->at;
    finding f = {.z = z, .y0 = in->y0, .x0 = in->x0, .y1 = in->y1, .x1 = in->x1, .score = (float)region_mean(r), .mask = p->plane};
    if (!(f.score >= p->least)) return COV_OK;
    for (int64_t y = in->y0; y < in->y1; y++)
        for (int64_t x = in->x0; x < in->x1; x++) p->plane[at++] = p->labels[y * nx + x] == label;
    return findings_add(out, &f);
}

/* On the device all the way: what comes back is a few numbers a region, and, where there is one, the labels. probability (rows,
 * cols): device memory. */
static status add_segments(pass *p, int64_t z, const float *probability, findings *out)
{
    lesion *l = p->l;
    const backend *b = l->backend;
    int64_t ny = p->h->ny, nx = p->h->nx, count = 0;
    const uint8_t *inside = p->lung ? (const uint8_t *)p->there + z * ny * nx : NULL;
    region_sum *list = NULL;
    status s = COV_OK;
    COV_GO(b->plane_keep(l->device, &p->frame, probability, p->o->mask_threshold, inside, p->slice));
    COV_GO(b->plane_regions(l->device, ny, nx, p->slice, p->there_labels, &list, &count));
    if (count) COV_GO(backend_fetch(b, l->device, p->there_labels, (size_t)(ny * nx) * sizeof *p->labels, p->labels));
    for (int64_t k = 0; k < count; k++) COV_GO(add_component(p, z, &list[k], (int32_t)k + 1, out));
done:
    free(list);
    return s;
}

static status add_segmented(pass *p, const group *g, findings *out)
{
    const lesion *l = p->l;
    const void *probability;
    COV_TRY(net_output_at(l->first, l->find.probability, &probability));
    for (int k = 0; k < batch_of(l); k++)
        if (g->wanted[k]) COV_TRY(add_segments(p, g->first + k, (const float *)probability + k * l->rows * l->cols, out));
    return COV_OK;
}

static status make_labels(pass *p, size_t plane)
{
    const lesion *l = p->l;
    p->labels = malloc(plane * sizeof *p->labels);
    if (!p->labels) return COV_FAIL(COV_NOMEM, "no memory for slices of %zu pixels", plane);
    COV_TRY(backend_lend(l->backend, l->device, p->labels, plane * sizeof *p->labels, 0, &p->there_labels));
    COV_TRY(l->backend->alloc(l->device, plane * sizeof(float), &p->slice));
    return COV_OK;
}

/* ---- a study */

static status run_group(pass *p, const group *g, findings *out)
{
    lesion *l = p->l;
    float period[DEVICE_BATCH][LESIONNET_PERIODS];
    COV_TRY(cut_inputs(p, g));
    COV_TRY(net_forward(l->first));
    if (l->find.period >= 0) COV_TRY(net_get(l->first, l->find.period, period));
    for (int k = 0; k < batch_of(l); k++)
        if (l->find.period >= 0 && g->wanted[k]) memcpy(out->period[g->first + k], period[k], sizeof period[k]);
    return lesionnet_detects(l->model) ? add_detected(p, g, out) : add_segmented(p, g, out);
}

/* Key slices z0 .. z1-1, group by group of the study's. */
static status run_groups(pass *p, int64_t z0, int64_t z1, findings *out)
{
    const int batch = batch_of(p->l);
    for (int64_t first = z0 - z0 % batch; first < z1; first += batch) {
        group g = {.first = first};
        int any = 0;
        for (int k = 0; k < batch; k++) any |= g.wanted[k] = first + k >= z0 && first + k < z1 && has_lung(p, first + k);
        if (any) COV_TRY(run_group(p, &g, out));
    }
    return COV_OK;
}

status lesion_run(lesion *l, const lesion_options *o, const volume_header *h, const int16_t *hu, const uint8_t *lung, int64_t z0,
                  int64_t z1, findings *out)
{
    const backend *b = l->backend;
    size_t plane = (size_t)(h->ny * h->nx);
    status s = COV_OK;
    pass p = {.l = l,
              .o = o,
              .h = h,
              .hu = hu,
              .lung = lung,
              .roi_z = {-1, -1, -1},
              .least = o->score_least < 0.0f ? l->threshold : o->score_least};
    if (z0 < 0 || z1 > h->nz || out->nz != h->nz)
        return COV_FAIL(COV_BROKEN, "slices %lld to %lld of a study of %lld, findings for %lld", (long long)z0,
                        (long long)z1, (long long)h->nz, (long long)out->nz);
    p.frame = triplet_around(lung, h->nz, h->ny, h->nx);
    size_t masks = plane * (size_t)(lesionnet_detects(l->model) ? regions_of_pass(l) : 1);
    p.plane = malloc(masks);
    if (!p.plane) COV_GO(COV_FAIL(COV_NOMEM, "no memory for slices of %zu pixels", plane));
    if (!lesionnet_detects(l->model)) COV_GO(make_labels(&p, plane));
    if (lung) COV_GO(backend_lend(b, l->device, lung, (size_t)h->nz * plane, 1, &p.there));
    if (lung) COV_GO(b->alloc(l->device, WINDOW * plane, &p.roi));
    if (lesionnet_detects(l->model)) COV_GO(backend_lend(b, l->device, p.plane, masks, 0, &p.pasted));
    COV_GO(ready(l, &p.frame));
    COV_GO(run_groups(&p, z0, z1, out));
done:
    b->release(l->device, p.roi);
    b->release(l->device, p.slice);
    backend_return(b, l->device, p.labels, &p.there_labels);
    backend_return(b, l->device, lung, &p.there);
    backend_return(b, l->device, p.plane, &p.pasted);
    free(p.plane);
    free(p.labels);
    return s;
}
