/* lungtrain: see lungtrain.h. */
#include "stages/lungtrain.h"

enum { IMAGE, TARGET, WEIGHT, INPUTS };

static status build(void *ctx, net *n, int64_t micro, int64_t rows, int64_t cols, train_graph *g)
{
    const lungtrain *l = ctx;
    lungnet net_of;
    COV_TRY(lungnet_build(n, l->model.preset, micro, rows, cols, true, &net_of));
    *g = (train_graph){.input = {[IMAGE] = net_of.image, [TARGET] = net_of.target, [WEIGHT] = net_of.weight},
                       .losses = 2,
                       .loss = {net_of.bce, net_of.dice},
                       .weight = {1.0f, 1.0f},
                       .loss_name = {"bce", "dice"}};
    return COV_OK;
}

static status fill(void *ctx, uint64_t k, int64_t rows, int64_t cols, void *const *to)
{
    const lungtrain *l = ctx;
    augment_canvas canvas = {
        .rows = rows, .cols = cols, .image = to[IMAGE], .target = to[TARGET], .weight = to[WEIGHT]};
    sampler_get(l->samples, k, &canvas);
    return COV_OK;
}

void lungtrain_of(lungnet_view view, const char *preset, const sampler *samples, lungtrain *out)
{
    int axial = view == LUNGNET_AXIAL;
    train_input pixels = {.channels = 1, .type = TENSOR_F32};
    *out = (lungtrain){.samples = samples};
    out->model = (train_model){.name = lungnet_model(view),
                               .preset = preset,
                               .inputs = INPUTS,
                               .input = {pixels, pixels, pixels},
                               .stride = LUNGNET_STRIDE,
                               .rows = axial ? 512 : 256,
                               .cols = axial ? 512 : 256,
                               .batch = 4,
                               .micro = 1,
                               .coarse = axial ? 0.6f : 0.0f,
                               .rate = 4e-3f,
                               .build = build,
                               .fill = fill,
                               .ctx = out};
}
