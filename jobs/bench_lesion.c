/* bench_lesion: see bench_lesion.h. */
#include "jobs/bench_lesion.h"

#include "kernels/optim.h"
#include "stages/lesionnet.h"
#include "stages/phantom.h"

#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name;
    lesionnet_model model;
    const char *preset;
} cases[] = {
    {"st-compact", LESIONNET_ST, "compact"},       {"st-paper", LESIONNET_ST, "paper"},
    {"sp-compact", LESIONNET_SP, "compact"},       {"maskrcnn-compact", LESIONNET_MASKRCNN, "compact"},
    {"maskrcnn-paper", LESIONNET_MASKRCNN, "paper"}, {"unet-compact", LESIONNET_UNET, "compact"},
    {"spatial-compact", LESIONNET_SPATIAL, "compact"}, {"spatial-paper", LESIONNET_SPATIAL, "paper"},
    {"temporal-compact", LESIONNET_TEMPORAL, "compact"}, {"temporal-paper", LESIONNET_TEMPORAL, "paper"},
};
enum { CASES = sizeof cases / sizeof cases[0] };

struct bench_lesion {
    net *n, *cut;       /* cut: forward of detecting models */
    lesionnet graph;    /* training */
    lesionnet_find find; /* forward */
    lesionnet_cut masks;
    optim *optimiser; /* NULL: forward */
};

const char *bench_lesion_name(int k) { return k < CASES ? cases[k].name : NULL; }

/* Noise in [0, 1]. */
static status give_noise(net *n, net_t to)
{
    size_t count;
    COV_TRY(tensor_count(net_shape(n, to), &count));
    float *v = malloc(count * sizeof *v);
    if (!v) return COV_FAIL(COV_NOMEM, "no memory for an input of %zu values", count);
    for (size_t i = 0; i < count; i++) v[i] = (float)phantom_uniform(1, i);
    status s = net_set_input(n, to, v);
    free(v);
    return s;
}

/* Three squares on every slice: their boxes, 1 in target. */
static status give_lesions(net *n, const lesionnet_inputs *in)
{
    tensor_shape plane = net_shape(n, in->target);
    int64_t pixels = plane.h * plane.w, side = plane.h / 8;
    float *target = calloc((size_t)(plane.n * pixels), sizeof *target),
          *boxes = calloc((size_t)(plane.n * LESIONNET_BOXES * 5), sizeof *boxes);
    int32_t *period = calloc((size_t)plane.n, sizeof *period);
    status s = target && boxes && period
                   ? COV_OK
                   : COV_FAIL(COV_NOMEM, "no memory for targets of %lld pixels", (long long)pixels);
    for (int64_t i = 0; s == COV_OK && i < plane.n; i++)
        for (int64_t k = 0; k < 3; k++) {
            int64_t y0 = (2 * k + 1) * side, x0 = (k + 2) * side;
            float row[5] = {(float)y0, (float)x0, (float)(y0 + side), (float)(x0 + side), 1};
            for (int c = 0; c < 5; c++) boxes[(i * LESIONNET_BOXES + k) * 5 + c] = row[c];
            for (int64_t p = 0; p < side * side; p++) target[i * pixels + (y0 + p / side) * plane.w + x0 + p % side] = 1;
        }
    if (s == COV_OK) s = net_set_input(n, in->target, target);
    if (s == COV_OK) s = net_set_input(n, in->boxes, boxes);
    if (s == COV_OK) s = net_set_input(n, in->period, period);
    free(target);
    free(boxes);
    free(period);
    return s;
}

static status open_training(int k, net_precision precision, int64_t batch, int64_t size, bench_lesion *b)
{
    optim_options sgd = optim_defaults(0);
    sgd.rate = 1e-5f;
    COV_TRY(lesionnet_build_training(b->n, cases[k].model, cases[k].preset, batch, size, size, 1, &b->graph));
    COV_TRY(net_compile(b->n, NET_TRAIN, precision, b->graph.loss, b->graph.weight, b->graph.losses));
    COV_TRY(give_noise(b->n, b->graph.in.image));
    COV_TRY(give_lesions(b->n, &b->graph.in));
    COV_TRY(optim_new(b->n, &sgd, &b->optimiser));
    return COV_OK;
}

/* As many regions as a slice may show, of many sizes. */
static status give_regions(bench_lesion *b, int64_t size, int count)
{
    int64_t rows = net_shape(b->cut, b->masks.rois).n * count;
    float *rois = malloc((size_t)rows * 4 * sizeof *rois);
    if (!rois) return COV_FAIL(COV_NOMEM, "no memory for %lld regions", (long long)rows);
    for (int64_t i = 0; i < rows; i++) {
        float side = 8.0f + (float)(i % 10) * (float)size / 20.0f, at = (float)(i % 7) * (float)size / 16.0f;
        for (int c = 0; c < 4; c++) rois[4 * i + c] = at + (c > 1 ? side : 0.0f);
    }
    status s = net_set_input(b->cut, b->masks.rois, rois);
    free(rois);
    return s;
}

static status open_forward(const setup *s, int k, net_precision precision, int64_t batch, int64_t size, bench_lesion *b)
{
    const lesionnet_spec *spec;
    COV_TRY(lesionnet_preset(cases[k].preset, &spec));
    COV_TRY(lesionnet_build_find(b->n, cases[k].model, cases[k].preset, batch, size, size, &b->find));
    COV_TRY(net_compile(b->n, NET_INFER, precision, NULL, NULL, 0));
    COV_TRY(give_noise(b->n, b->find.image));
    if (!lesionnet_detects(cases[k].model)) return COV_OK;
    COV_TRY(net_new(s->backend, s->device, 1, &b->cut));
    COV_TRY(lesionnet_build_cut(b->cut, cases[k].model, cases[k].preset, b->n, &b->find, spec->found, &b->masks));
    COV_TRY(net_compile(b->cut, NET_INFER, precision, NULL, NULL, 0));
    return give_regions(b, size, spec->found);
}

status bench_lesion_open(const setup *s, int k, net_precision precision, int64_t batch, int64_t size, int training,
                         bench_lesion **out)
{
    status st;
    bench_lesion *b = calloc(1, sizeof *b);
    *out = NULL;
    if (!b) return COV_FAIL(COV_NOMEM, "no memory for a benchmark");
    st = net_new(s->backend, s->device, 1, &b->n);
    if (st == COV_OK)
        st = training ? open_training(k, precision, batch, size, b) : open_forward(s, k, precision, batch, size, b);
    if (st != COV_OK) bench_lesion_close(&b);
    *out = b;
    return st;
}

void bench_lesion_close(bench_lesion **out)
{
    bench_lesion *b = out ? *out : NULL;
    if (!b) return;
    optim_free(&b->optimiser);
    net_free(&b->cut);
    net_free(&b->n);
    lesionnet_free(&b->graph);
    lesionnet_find_free(&b->find);
    free(b);
    *out = NULL;
}

status bench_lesion_step(bench_lesion *b)
{
    float norm;
    COV_TRY(net_forward(b->n));
    if (b->optimiser) {
        COV_TRY(net_backward(b->n));
        COV_TRY(optim_run(b->optimiser, 1, &norm));
    }
    for (int k = 0; b->cut && k < b->masks.maps; k++)
        COV_TRY(net_set_input_from(b->cut, b->masks.map[k], b->n, b->find.map[k]));
    if (b->cut) COV_TRY(net_forward(b->cut));
    return net_sync(b->cut ? b->cut : b->n);
}

double bench_lesion_flops(const bench_lesion *b)
{
    return net_flops(b->n) * (b->optimiser ? 3 : 1) + (b->cut ? net_flops(b->cut) : 0);
}
