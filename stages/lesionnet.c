/* lesionnet: see lesionnet.h. A model is a trunk (`trunk`), and then either a decoder with its losses or the two-stage
 * machinery of rcnn; the training graph and the two of inference are put together from the same functions. */
#include "stages/lesionnet.h"

#include "stages/baselines.h"
#include "stages/detector.h"
#include "stages/resolver.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int starts_from, detects, period;
} models[LESIONNET_COUNT] = {
    [LESIONNET_SPATIAL] = {"spatial", -1, 0, 0},
    [LESIONNET_TEMPORAL] = {"temporal", LESIONNET_SPATIAL, 0, 1},
    [LESIONNET_ST] = {"st", LESIONNET_TEMPORAL, 1, 1},
    [LESIONNET_SP] = {"sp", LESIONNET_SPATIAL, 1, 0},
    [LESIONNET_MASKRCNN] = {"maskrcnn", -1, 1, 0},
    [LESIONNET_UNET] = {"unet", -1, 0, 0},
};

/* clang-format off */
static const lesionnet_spec presets[] = {
    /*          name       base width features fine hidden tiny tune anchors regions masks candidates proposals found */
    {"compact",       "compact", 16,   64,      29,  128,   16,  0,   256,    32,     8,    400,       100,      32},
    {"paper",         "paper",   64,   256,     61,  1024,  64,  0,   256,    128,    16,   1000,      1000,     100},
    {"compact-tuned", "compact", 16,   64,      29,  128,   16,  1,   256,    32,     8,    400,       100,      32},
};
/* clang-format on */

struct lesionnet_steps { rcnn *rcnn; };

const char *lesionnet_name(lesionnet_model m) { return models[m].name; }
int lesionnet_starts_from(lesionnet_model m) { return models[m].starts_from; }
int lesionnet_detects(lesionnet_model m) { return models[m].detects; }
int lesionnet_has_period(lesionnet_model m) { return models[m].period; }

status lesionnet_named(const char *name, lesionnet_model *out)
{
    for (int m = 0; m < LESIONNET_COUNT; m++)
        if (strcmp(name, models[m].name) == 0) {
            *out = (lesionnet_model)m;
            return COV_OK;
        }
    return COV_FAIL(COV_USAGE, "'%s' is no lesion model: expected spatial, temporal, st, sp, maskrcnn or unet", name);
}

status lesionnet_preset(const char *name, const lesionnet_spec **out)
{
    for (size_t k = 0; k < sizeof presets / sizeof *presets; k++)
        if (strcmp(name, presets[k].name) == 0) {
            *out = &presets[k];
            return COV_OK;
        }
    return COV_FAIL(COV_USAGE, "preset '%s' is unknown: expected compact, paper or compact-tuned", name);
}

/* ---- parts */

typedef struct parts {
    lesionnet_model model;
    const lesionnet_spec *spec;
    net_t image;
    net_t logit;  /* (n,h,w,1); -1: the model detects */
    net_t deep;   /* the same from the last level alone; -1: the model has none */
    net_t period; /* logits; -1: no head */
    net_t map[LESIONNET_MAPS];
    int maps;
    rcnn_level level[RCNN_LEVELS];
    int levels;
} parts;

static void segmenting(net *n, parts *p)
{
    int width = p->spec->width;
    net_t level[RESOLVER_LEVELS], spatial[RESOLVER_LEVELS];
    if (p->model == LESIONNET_UNET) {
        p->logit = baselines_unet(n, p->image, width, 1);
        return;
    }
    net_freeze(n, p->model == LESIONNET_TEMPORAL);
    resolver_spatial(n, p->image, width, spatial);
    net_freeze(n, false);
    if (p->model == LESIONNET_SPATIAL) {
        p->logit = resolver_decode(n, "spatial", spatial, width);
        p->deep = resolver_deep(n, "spatial", spatial[RESOLVER_LEVELS - 1]);
        return;
    }
    resolver_temporal(n, p->image, width, spatial, level);
    p->logit = resolver_decode(n, "temporal", level, width);
    p->deep = resolver_deep(n, "temporal", level[RESOLVER_LEVELS - 1]);
    p->period = resolver_period(n, p->image, level[RESOLVER_LEVELS - 1]);
}

static void docked(net *n, parts *p)
{
    const lesionnet_spec *s = p->spec;
    net_t spatial[RESOLVER_LEVELS], temporal[RESOLVER_LEVELS];
    int both = p->model == LESIONNET_ST, last = RESOLVER_LEVELS - 1, fine = 1;
    net_freeze(n, !s->tune);
    resolver_spatial(n, p->image, s->width, spatial);
    if (both) {
        resolver_temporal(n, p->image, s->width, spatial, temporal);
        p->period = resolver_period(n, p->image, temporal[last]);
    }
    net_freeze(n, false);
    net_t dock = resolver_dock(n, (net_t[]){spatial[last], both ? temporal[last] : -1}, 1 + both, s->features);
    detector_maps m =
        detector_features(n, p->image, dock, (net_t[]){spatial[fine], both ? temporal[fine] : -1}, 1 + both, s->fine);
    memcpy(p->map, m.map, sizeof m.map);
    p->maps = DETECTOR_MAPS;
    p->level[0] = detector_level(&m);
    p->levels = 1;
}

static void trunk(net *n, parts *p)
{
    p->logit = p->deep = p->period = -1;
    if (!lesionnet_detects(p->model)) segmenting(n, p);
    else if (p->model != LESIONNET_MASKRCNN) docked(n, p);
    else {
        baselines_pyramid(n, p->image, p->spec->width, p->spec->features, p->level);
        p->levels = BASELINES_PYRAMID;
        p->maps = BASELINES_REGION_LEVELS;
        for (int k = 0; k < p->maps; k++) p->map[k] = p->level[k].map;
    }
}

static int is_pyramid(const parts *p) { return p->model == LESIONNET_MASKRCNN; }

/* Features of regions as the box branch takes them, or the mask branch. */
static net_t regions(net *n, const parts *p, net_t rois, int for_mask)
{
    if (is_pyramid(p))
        return net_roialign(n, p->map, BASELINES_REGION_LEVELS, rois, BASELINES_STRIDE,
                            for_mask ? BASELINES_MASK : BASELINES_BOX, 2);
    detector_maps m;
    memcpy(m.map, p->map, sizeof m.map);
    return detector_regions(n, &m, rois, for_mask ? DETECTOR_MASK : DETECTOR_BOX);
}

static net_t mask_logits(net *n, const parts *p, net_t rois)
{
    net_t x = regions(n, p, rois, 1);
    return is_pyramid(p) ? baselines_mask(n, x, p->spec->features) : detector_mask(n, x, p->spec->tiny);
}

static int mask_size(lesionnet_model m) { return m == LESIONNET_MASKRCNN ? 2 * BASELINES_MASK : DETECTOR_MASK; }

static status steps_new(const net *n, const parts *p, uint64_t seed, lesionnet_steps **out)
{
    const lesionnet_spec *s = p->spec;
    tensor_shape image = net_shape(n, p->image);
    rcnn_options o = {.hidden = s->hidden,
                      .candidates = s->candidates,
                      .proposals = s->proposals,
                      .found = s->found,
                      .anchors = s->anchors,
                      .regions = s->regions,
                      .masks = s->masks,
                      .mask_size = mask_size(p->model),
                      .seed = seed};
    *out = calloc(1, sizeof **out);
    if (!*out) return COV_FAIL(COV_NOMEM, "no memory for a lesion network");
    return rcnn_new(n, &o, p->level, p->levels, image.h, image.w, &(*out)->rcnn);
}

static void steps_free(lesionnet_steps **s)
{
    if (!*s) return;
    rcnn_free(&(*s)->rcnn);
    free(*s);
    *s = NULL;
}

static status begin(net *n, lesionnet_model m, const char *preset, int64_t batch, int64_t rows, int64_t cols, parts *p)
{
    *p = (parts){.model = m};
    COV_TRY(lesionnet_preset(preset, &p->spec));
    if (batch < 1 || rows < LESIONNET_STRIDE || cols < LESIONNET_STRIDE || rows % LESIONNET_STRIDE ||
        cols % LESIONNET_STRIDE)
        return COV_FAIL(COV_BROKEN, "lesion network for %lld x %lld x %lld: rows and columns must be multiples of %d",
                        (long long)batch, (long long)rows, (long long)cols, LESIONNET_STRIDE);
    p->image = net_input(n, "image", tensor_shape_of(batch, rows, cols, 3, TENSOR_F32));
    trunk(n, p);
    return COV_OK;
}

/* ---- training */

static void add_loss(lesionnet *g, const char *name, net_t loss)
{
    g->loss[g->losses] = loss;
    g->weight[g->losses] = 1.0f;
    g->loss_name[g->losses++] = name;
}

static void detecting_losses(net *n, const parts *p, lesionnet *g)
{
    const rcnn *r = g->steps->rcnn;
    net_t objectness, proposal, logits, delta;
    rcnn_rows rows = rcnn_rpn(n, r, p->level);
    rcnn_rpn_losses(n, r, rows, p->image, g->in.boxes, g->in.target, &objectness, &proposal);
    rcnn_targets t = rcnn_sample(n, r, rcnn_propose(n, r, rows), p->image, g->in.boxes, g->in.target);
    rcnn_box_branch(n, r, regions(n, p, t.rois, 0), &logits, &delta);
    add_loss(g, "objectness", objectness);
    add_loss(g, "proposal", proposal);
    add_loss(g, "class", net_loss_ce(n, logits, t.label));
    add_loss(g, "box", net_loss_l1s(n, delta, t.delta, t.delta_weight, 1.0f / 9));
    add_loss(g, "mask", net_loss_bce(n, mask_logits(n, p, t.mask_rois), t.mask, t.mask_weight));
}

/* Lesion is rare: the last bias starts at one pixel in twenty, or a training's first hundreds of steps go into
 * learning that. */
static status start_rare(net *n)
{
    static const char *const last[] = {"spatial/head/b", "temporal/head/b", "spatial/deep/b", "temporal/deep/b", "head/b"};
    const float rare = -3.0f;
    for (int k = 0; k < net_param_count(n); k++)
        for (size_t j = 0; j < sizeof last / sizeof *last; j++)
            if (strcmp(net_param_at(n, k)->name, last[j]) == 0) COV_TRY(net_param_set(n, k, &rare));
    return COV_OK;
}

status lesionnet_build_training(net *n, lesionnet_model m, const char *preset, int64_t batch, int64_t rows,
                                int64_t cols, uint64_t seed, lesionnet *out)
{
    status s = COV_OK;
    parts p;
    lesionnet g = {.losses = 0};
    *out = g;
    COV_TRY(begin(n, m, preset, batch, rows, cols, &p));
    g.in = (lesionnet_inputs){.image = p.image,
                              .target = net_constant(n, "target", tensor_shape_of(batch, rows, cols, 1, TENSOR_F32))};
    g.in.period = net_constant(n, "period", tensor_shape_of(batch, 1, 1, 1, TENSOR_I32));
    g.in.boxes = net_constant(n, "boxes", tensor_shape_of(batch, LESIONNET_BOXES, 1, RCNN_TRUTH, TENSOR_F32));
    if (lesionnet_detects(m)) {
        COV_GO(steps_new(n, &p, seed, &g.steps));
        detecting_losses(n, &p, &g);
    } else {
        add_loss(&g, "dice", net_loss_dice(n, p.logit, g.in.target));
        add_loss(&g, "bce", net_loss_bce(n, p.logit, g.in.target, -1));
    }
    if (p.deep >= 0) {
        net_t deep = net_resize(n, p.deep, rows, cols, 0);
        add_loss(&g, "deep dice", net_loss_dice(n, deep, g.in.target));
        add_loss(&g, "deep bce", net_loss_bce(n, deep, g.in.target, -1));
    }
    if (p.period >= 0 && (!lesionnet_detects(m) || p.spec->tune))
        add_loss(&g, "period", net_loss_ce(n, p.period, g.in.period));
    COV_GO(rcnn_start_small(n)); /* these two last: nothing can be built after them */
    if (!lesionnet_detects(m)) COV_GO(start_rare(n));
    *out = g;
done:
    if (s != COV_OK) lesionnet_free(&g);
    return s;
}

void lesionnet_free(lesionnet *g)
{
    steps_free(&g->steps);
}

/* ---- inference */

status lesionnet_build_find(net *n, lesionnet_model m, const char *preset, int64_t batch, int64_t rows, int64_t cols,
                            lesionnet_find *out)
{
    status s = COV_OK;
    parts p;
    lesionnet_find g = {.probability = -1, .period = -1, .found = -1};
    char name[16];
    *out = g;
    COV_TRY(begin(n, m, preset, batch, rows, cols, &p));
    g.image = p.image;
    if (p.period >= 0) g.period = net_output(n, "period", net_softmax(n, p.period));
    if (p.logit >= 0) g.probability = net_output(n, "probability", net_sigmoid(n, p.logit));
    if (lesionnet_detects(m)) {
        net_t logits, delta;
        COV_GO(steps_new(n, &p, 0, &g.steps));
        net_t rois = rcnn_propose(n, g.steps->rcnn, rcnn_rpn(n, g.steps->rcnn, p.level));
        rcnn_box_branch(n, g.steps->rcnn, regions(n, &p, rois, 0), &logits, &delta);
        g.found = net_output(n, "found", rcnn_find(n, g.steps->rcnn, rois, logits, delta));
    }
    for (g.maps = 0; g.maps < p.maps; g.maps++) {
        snprintf(name, sizeof name, "map%d", g.maps);
        g.map[g.maps] = net_output(n, name, p.map[g.maps]);
    }
    *out = g;
done:
    if (s != COV_OK) lesionnet_find_free(&g);
    return s;
}

void lesionnet_find_free(lesionnet_find *g)
{
    steps_free(&g->steps);
}

status lesionnet_build_cut(net *n, lesionnet_model m, const char *preset, const net *first, const lesionnet_find *find,
                           int count, lesionnet_cut *out)
{
    parts p = {.model = m, .maps = find->maps};
    lesionnet_cut g = {.maps = find->maps, .size = mask_size(m)};
    char name[16];
    COV_TRY(lesionnet_preset(preset, &p.spec));
    for (int k = 0; k < g.maps; k++) {
        snprintf(name, sizeof name, "map%d", k);
        g.map[k] = p.map[k] = net_input(n, name, net_shape(first, find->map[k]));
    }
    g.rois = net_constant(n, "rois", tensor_shape_of(net_shape(first, find->image).n, count, 1, 4, TENSOR_F32));
    g.probability = net_output(n, "mask", net_sigmoid(n, mask_logits(n, &p, g.rois)));
    *out = g;
    return COV_OK;
}
