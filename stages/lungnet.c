/* lungnet: see lungnet.h. The functions below are the boxes of the paper's figure 2, from the inside out. */
#include "stages/lungnet.h"
#include <stdio.h>
#include <string.h>

enum { NAME = 64, GROUPS = 8 };

static const struct {
    const char *name;
    int widths[LUNGNET_LEVELS];
} presets[] = {
    {"paper", {64, 128, 256, 512, 1024}},
    {"compact", {8, 16, 32, 64, 128}},
};
static const char *const models[] = {[LUNGNET_AXIAL] = "lung-axial", [LUNGNET_SAGITTAL] = "lung-sagittal"};

const char *lungnet_model(lungnet_view v)
{
    return models[v];
}

status lungnet_view_named(const char *model, lungnet_view *out)
{
    for (int v = LUNGNET_AXIAL; v <= LUNGNET_SAGITTAL; v++)
        if (strcmp(model, models[v]) == 0) {
            *out = (lungnet_view)v;
            return COV_OK;
        }
    return COV_FAIL(COV_USAGE, "model '%s' is not a lung network: expected lung-axial or lung-sagittal", model);
}

status lungnet_preset(const char *name, int widths[LUNGNET_LEVELS])
{
    for (size_t k = 0; k < sizeof presets / sizeof *presets; k++)
        if (strcmp(name, presets[k].name) == 0) {
            memcpy(widths, presets[k].widths, sizeof presets[k].widths);
            return COV_OK;
        }
    return COV_FAIL(COV_USAGE, "preset '%s' is unknown: expected paper or compact", name);
}

/* Layer names are "down2/conv1": a block and a part. */
static const char *named(char to[NAME], const char *block, const char *part)
{
    snprintf(to, NAME, "%.24s/%.24s", block, part);
    return to;
}

static net_t norm(net *n, const char *block, const char *part, net_t x, net_t residual, int channels)
{
    char name[NAME];
    return net_groupnorm(n, named(name, block, part), x, residual, channels < GROUPS ? channels : GROUPS, 1);
}

static net_t conv(net *n, const char *block, const char *part, net_t x, int channels, int kernel, int stride)
{
    char name[NAME];
    int pad = kernel == 3 ? 1 : 0;
    return net_conv(n, named(name, block, part), x, channels, kernel, stride, pad, 0, 0); /* a norm follows: no bias */
}

static net_t residual_block(net *n, const char *block, net_t x, int channels)
{
    net_t shortcut = net_shape(n, x).c == channels ? x : conv(n, block, "shortcut", x, channels, 1, 1);
    net_t y = norm(n, block, "norm1", conv(n, block, "conv1", x, channels, 3, 1), -1, channels);
    return norm(n, block, "norm2", conv(n, block, "conv2", y, channels, 3, 1), shortcut, channels);
}

/* Level k to k+1: the first two by a 2x2 convolution of stride 2, the rest by max pooling. */
static net_t contract(net *n, int level, net_t x, int channels)
{
    if (level >= 2) return net_maxpool(n, x, 2, 2, 0);
    char block[NAME];
    snprintf(block, sizeof block, "contract%d", level);
    return norm(n, block, "norm", conv(n, block, "conv", x, channels, 2, 2), -1, channels);
}

/* A 2x2 transposed convolution of stride 2 doubles the grid and halves the channels. Of the three ways tried (this, 1x1
 * convolution and bilinear or nearest resize) it is the fastest by a fifth, forward and in training. */
static net_t expand(net *n, const char *block, net_t x, net_t skip, int channels)
{
    char name[NAME];
    net_t large = net_convt(n, named(name, block, "up"), x, channels, 2, 2, 0, 0, 0);
    net_t joined = net_concat(n, (net_t[]){norm(n, block, "norm_up", large, -1, channels), skip}, 2);
    return norm(n, block, "norm", conv(n, block, "conv", joined, channels, 3, 1), -1, channels);
}

static void losses(net *n, tensor_shape shape, lungnet *g)
{
    g->target = net_constant(n, "target", shape);
    g->weight = net_constant(n, "weight", shape);
    g->bce = net_loss_bce(n, g->logit, g->target, g->weight);
    g->dice = net_loss_dice(n, g->logit, g->target);
}

status lungnet_build(net *n, const char *preset, int64_t batch, int64_t rows, int64_t cols, bool with_loss, lungnet *out)
{
    int widths[LUNGNET_LEVELS];
    COV_TRY(lungnet_preset(preset, widths));
    if (batch < 1 || rows < LUNGNET_STRIDE || cols < LUNGNET_STRIDE || rows % LUNGNET_STRIDE || cols % LUNGNET_STRIDE)
        return COV_FAIL(COV_BROKEN, "lung network for %lld x %lld x %lld: rows and columns must be multiples of %d",
                        (long long)batch, (long long)rows, (long long)cols, LUNGNET_STRIDE);
    tensor_shape shape = tensor_shape_of(batch, rows, cols, 1, TENSOR_F32);
    lungnet g = {.image = net_input(n, "image", shape), .target = -1, .weight = -1, .bce = -1, .dice = -1};
    net_t skip[LUNGNET_LEVELS], x = g.image;
    char block[NAME];
    for (int k = 0; k < LUNGNET_LEVELS; k++) {
        snprintf(block, sizeof block, "down%d", k);
        skip[k] = residual_block(n, block, x, widths[k]);
        x = k + 1 < LUNGNET_LEVELS ? contract(n, k, skip[k], widths[k + 1]) : skip[k];
    }
    for (int k = LUNGNET_LEVELS - 2; k >= 0; k--) {
        snprintf(block, sizeof block, "up%d", k);
        x = expand(n, block, x, skip[k], widths[k]);
    }
    g.logit = net_output(n, "logit", net_conv(n, "head", x, 1, 1, 1, 0, 1, 0));
    if (with_loss) losses(n, shape, &g);
    *out = g;
    return COV_OK;
}
