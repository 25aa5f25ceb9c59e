/* baselines: see baselines.h. */
#include "stages/baselines.h"

#include "stages/resnet.h"

#include <stdio.h>

net_t baselines_unet(net *n, net_t x, int width, int classes)
{
    net_t level[RESNET_LEVELS];
    char name[64];
    resnet_50(n, "encoder", x, width, RESNET_LEVELS, level);
    net_t y = level[4];
    for (int k = 0; k < 5; k++) {
        tensor_shape s = net_shape(n, y);
        int channels = (4 * width) >> k;
        y = net_resize(n, y, 2 * s.h, 2 * s.w, 1);
        if (k < 4) y = net_concat(n, (net_t[]){y, level[3 - k]}, 2);
        for (int c = 1; c <= 2; c++) {
            snprintf(name, sizeof name, "decoder%d/conv%d", k, c);
            y = resnet_conv(n, name, y, -1, channels, 3, 1, 1);
        }
    }
    return net_conv(n, "head", y, classes, 3, 1, 1, 1, 0);
}

/* Twice 3x3 convolution, GroupNorm with 32 groups, ReLU. */
static net_t twice(net *n, const char *name, net_t x, int channels)
{
    char part[64];
    for (int c = 1; c <= 2; c++) {
        snprintf(part, sizeof part, "%s/conv%d", name, c);
        x = net_conv(n, part, x, channels, 3, 1, 1, 0, 0);
        snprintf(part, sizeof part, "%s/gn%d", name, c);
        x = net_groupnorm(n, part, x, -1, channels < 32 ? channels : 32, 1);
    }
    return x;
}

net_t baselines_gnunet(net *n, net_t x, int width, int classes)
{
    net_t skip[5];
    char name[32];
    for (int k = 0; k < 5; k++) {
        snprintf(name, sizeof name, "down%d", k);
        skip[k] = x = twice(n, name, k ? net_maxpool(n, x, 2, 2, 0) : x, width << k);
    }
    for (int k = 3; k >= 0; k--) {
        snprintf(name, sizeof name, "up%d", k);
        x = net_convt(n, name, x, width << k, 2, 2, 0, 1, 0);
        snprintf(name, sizeof name, "join%d", k);
        x = twice(n, name, net_concat(n, (net_t[]){skip[k], x}, 2), width << k);
    }
    return net_conv(n, "head", x, classes, 1, 1, 0, 1, 0);
}

void baselines_pyramid(net *n, net_t image, int width, int channels, rcnn_level level[BASELINES_PYRAMID])
{
    net_t from[RESNET_LEVELS], inner = -1;
    char name[64];
    resnet_50(n, "encoder", image, width, RESNET_LEVELS, from);
    for (int k = 3; k >= 0; k--) {
        snprintf(name, sizeof name, "fpn/inner%d", k + 2);
        net_t lateral = net_conv(n, name, from[k + 1], channels, 1, 1, 0, 1, 0);
        tensor_shape s = net_shape(n, lateral);
        inner = k == 3 ? lateral : net_add(n, lateral, net_resize(n, inner, s.h, s.w, 1), 0);
        snprintf(name, sizeof name, "fpn/layer%d", k + 2);
        level[k].map = net_conv(n, name, inner, channels, 3, 1, 1, 1, 0);
    }
    level[4].map = net_maxpool(n, level[3].map, 1, 2, 0);
    for (int k = 0; k < BASELINES_PYRAMID; k++)
        level[k].anchors = (box_anchors){.stride = BASELINES_STRIDE << k,
                                         .sizes = 1,
                                         .ratios = 3,
                                         .size = {(float)(16 << k)},
                                         .ratio = {0.5f, 1, 2}};
}

net_t baselines_mask(net *n, net_t regions, int channels)
{
    char name[64];
    for (int k = 1; k <= 4; k++) {
        snprintf(name, sizeof name, "mask/conv%d", k);
        regions = net_conv(n, name, regions, channels, 3, 1, 1, 1, 1);
    }
    return net_conv(n, "mask/head", net_convt(n, "mask/up", regions, channels, 2, 2, 0, 1, 1), 1, 1, 1, 0, 1, 0);
}
