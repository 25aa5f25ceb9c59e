/* detector: see detector.h. */
#include "stages/detector.h"

#include "stages/resnet.h"

#include <stdio.h>

enum { NAME = 64, DOWN = 3 };

static net_t residual_block(net *n, const char *name, net_t x)
{
    char part[NAME];
    int channels = (int)net_shape(n, x).c;
    snprintf(part, sizeof part, "%s/conv1", name);
    net_t y = resnet_conv(n, part, x, -1, channels, 3, 1, 1);
    snprintf(part, sizeof part, "%s/conv2", name);
    return resnet_conv(n, part, y, x, channels, 3, 1, 1);
}

detector_maps detector_features(net *n, net_t image, net_t docked, const net_t *level, int count, int fine)
{
    enum { FOLD = DETECTOR_STRIDE / DETECTOR_FINE_STRIDE };
    detector_maps m;
    m.map[1] = resnet_conv(n, "detector/fine", count > 1 ? net_concat(n, level, count) : level[0], -1, fine, 1, 1, 1);
    net_t x = net_conv(n, "detector/fold", m.map[1], (int)net_shape(n, docked).c, FOLD, FOLD, 0, 0, 0);
    x = net_batchnorm(n, "detector/fold/bn", x, docked, 1);
    m.map[0] = residual_block(n, "detector/block2", residual_block(n, "detector/block1", x));
    m.map[2] = image;
    return m;
}

rcnn_level detector_level(const detector_maps *m)
{
    return (rcnn_level){
        m->map[0],
        {.stride = DETECTOR_STRIDE, .sizes = 6, .ratios = 3, .size = {8, 16, 32, 64, 128, 256}, .ratio = {0.5f, 1, 2}}};
}

net_t detector_regions(net *n, const detector_maps *m, net_t rois, int size)
{
    static const int stride[DETECTOR_MAPS] = {DETECTOR_STRIDE, DETECTOR_FINE_STRIDE, 1};
    net_t part[DETECTOR_MAPS];
    for (int k = 0; k < DETECTOR_MAPS; k++) part[k] = net_roialign(n, &m->map[k], 1, rois, stride[k], size, 2);
    return net_concat(n, part, DETECTOR_MAPS);
}

static net_t mask_block(net *n, const char *name, net_t x, int channels)
{
    char part[NAME];
    net_t shortcut = x;
    if (net_shape(n, x).c != channels) {
        snprintf(part, sizeof part, "mask/%s/shortcut", name);
        shortcut = resnet_conv(n, part, x, -1, channels, 1, 1, 0);
    }
    for (int k = 1; k <= 4; k++) {
        snprintf(part, sizeof part, "mask/%s/conv%d", name, k);
        x = resnet_conv(n, part, x, k == 4 ? shortcut : -1, channels, 3, 1, 1);
    }
    return x;
}

net_t detector_mask(net *n, net_t regions, int width)
{
    net_t skip[DOWN], x = regions;
    char name[16];
    for (int k = 0; k <= DOWN; k++) {
        snprintf(name, sizeof name, "down%d", k);
        x = mask_block(n, name, k ? net_maxpool(n, x, 2, 2, 0) : x, width << k);
        if (k < DOWN) skip[k] = x;
    }
    for (int k = DOWN - 1; k >= 0; k--) {
        tensor_shape s = net_shape(n, skip[k]);
        snprintf(name, sizeof name, "up%d", k);
        x = mask_block(n, name, net_concat(n, (net_t[]){net_resize(n, x, s.h, s.w, 1), skip[k]}, 2), width << k);
    }
    return net_conv(n, "mask/head", x, 1, 1, 1, 0, 1, 0);
}
