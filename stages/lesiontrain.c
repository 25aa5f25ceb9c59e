/* lesiontrain: see lesiontrain.h. */
#include "stages/lesiontrain.h"
#include <string.h>

enum { IMAGE, TARGET, PERIOD, BOXES, INPUTS };
enum { SIDE_COMPACT = 384, SIDE_PAPER = 512 }; /* pixels of the canvas: lungs fill about 380 x 280 of it */

/* What a model's training is like where nothing else is asked for. The coarse share is smaller for the detectors, whose
 * small anchors need the full grid. */
static const struct {
    int batch, micro;
    float coarse, rate;
} own[LESIONNET_COUNT] = {
    [LESIONNET_SPATIAL] = {4, 2, 0.6f, 2e-3f},  [LESIONNET_TEMPORAL] = {4, 2, 0.5f, 2e-3f},
    [LESIONNET_ST] = {4, 2, 0.3f, 1e-3f},       [LESIONNET_SP] = {4, 2, 0.3f, 1e-3f},
    [LESIONNET_MASKRCNN] = {4, 2, 0.4f, 1e-3f}, [LESIONNET_UNET] = {4, 2, 0.6f, 2e-3f},
};

static status build(void *ctx, net *n, int64_t micro, int64_t rows, int64_t cols, train_graph *g)
{
    lesiontrain *l = ctx;
    COV_TRY(lesionnet_build_training(n, l->which, l->model.preset, micro, rows, cols, l->seed, &l->graph));
    const lesionnet_inputs *in = &l->graph.in;
    *g = (train_graph){.input = {[IMAGE] = in->image,
                                 [TARGET] = in->target,
                                 [PERIOD] = in->period,
                                 [BOXES] = in->boxes},
                       .losses = l->graph.losses};
    for (int k = 0; k < g->losses; k++) {
        g->loss[k] = l->graph.loss[k];
        g->weight[k] = l->graph.weight[k];
        g->loss_name[k] = l->graph.loss_name[k];
    }
    return COV_OK;
}

static void release(void *ctx)
{
    lesiontrain *l = ctx;
    lesionnet_free(&l->graph);
}

static status fill(void *ctx, uint64_t k, int64_t rows, int64_t cols, void *const *to)
{
    const lesiontrain *l = ctx;
    lesionset_sample sample = {
        .image = to[IMAGE], .target = to[TARGET], .period = to[PERIOD], .boxes = to[BOXES]};
    return lesionset_get(l->set, &l->samples, k, (float)rows / (float)l->model.rows, rows, cols, &sample);
}

status lesiontrain_of(lesionnet_model m, const char *preset, int64_t size, uint64_t seed, const lesionset *set,
                      const lesionset_options *samples, lesiontrain *out)
{
    const lesionnet_spec *spec;
    int from = lesionnet_starts_from(m);
    *out = (lesiontrain){.which = m, .seed = seed, .set = set, .samples = *samples};
    COV_TRY(lesionnet_preset(preset, &spec));
    COV_TRY(lesionset_check(set, &out->samples));
    if (size == 0) size = strcmp(spec->name, "paper") == 0 ? SIDE_PAPER : SIDE_COMPACT;
    out->model = (train_model){.name = lesionnet_name(m),
                               .preset = preset,
                               .starts_from = from < 0 ? NULL : lesionnet_name((lesionnet_model)from),
                               .start_preset = spec->base,
                               .inputs = INPUTS,
                               .stride = LESIONNET_STRIDE,
                               .rows = size,
                               .cols = size,
                               .batch = own[m].batch,
                               .micro = own[m].micro,
                               .coarse = own[m].coarse,
                               .rate = own[m].rate,
                               .build = build,
                               .release = release,
                               .fill = fill,
                               .ctx = out};
    out->model.input[IMAGE] = (train_input){.channels = 3, .type = TENSOR_F32};
    out->model.input[TARGET] = (train_input){.channels = 1, .type = TENSOR_F32};
    out->model.input[PERIOD] = (train_input){.rows = 1, .cols = 1, .channels = 1, .type = TENSOR_I32};
    out->model.input[BOXES] = (train_input){.rows = LESIONNET_BOXES, .cols = 1, .channels = 5, .type = TENSOR_F32};
    return COV_OK;
}
