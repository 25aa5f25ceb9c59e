/* resolver: see resolver.h. */
#include "stages/resolver.h"

#include "stages/resnet.h"

#include <stdio.h>

enum { NAME = 64, POOL = 8, KEY = 1 };

void resolver_spatial(net *n, net_t image, int width, net_t level[RESOLVER_LEVELS])
{
    net_t all[RESNET_LEVELS];
    resnet_50(n, "spatial", image, width, RESOLVER_LEVELS, all);
    for (int k = 0; k < RESOLVER_LEVELS; k++) level[k] = all[k];
}

void resolver_temporal(net *n, net_t image, int width, const net_t spatial[RESOLVER_LEVELS],
                       net_t level[RESOLVER_LEVELS])
{
    net_t x = image;
    char name[NAME];
    for (int k = 0; k < RESOLVER_LEVELS; k++) {
        x = resnet_level(n, "temporal", k, x, width);
        snprintf(name, sizeof name, "temporal/fuse%d", k);
        x = resnet_conv(n, name, net_concat(n, (net_t[]){x, spatial[k]}, 2), -1, (int)net_shape(n, x).c, 1, 1, 1);
        level[k] = x;
    }
}

net_t resolver_decode(net *n, const char *prefix, const net_t level[RESOLVER_LEVELS], int width)
{
    net_t y = level[RESOLVER_LEVELS - 1];
    char name[NAME];
    for (int k = 0; k < RESOLVER_LEVELS; k++) {
        tensor_shape s = net_shape(n, y);
        int channels = k < 3 ? (4 * width) >> k : width / 2;
        y = net_resize(n, y, 2 * s.h, 2 * s.w, 1);
        if (k < 3) y = net_concat(n, (net_t[]){y, level[2 - k]}, 2);
        for (int c = 1; c <= 2; c++) {
            snprintf(name, sizeof name, "%s/decoder%d/conv%d", prefix, k, c);
            y = resnet_conv(n, name, y, -1, channels, 3, 1, 1);
        }
    }
    snprintf(name, sizeof name, "%s/head", prefix);
    return net_conv(n, name, y, 1, 1, 1, 0, 1, 0);
}

net_t resolver_deep(net *n, const char *prefix, net_t last)
{
    char name[NAME];
    snprintf(name, sizeof name, "%s/deep", prefix);
    return net_conv(n, name, last, 1, 1, 1, 0, 1, 0);
}

/* y (n,1,1,4): the rectangle of pixels in which the key slice's image x (n,h,w,3) is not 0; everything where it is 0. */
static status lung_box(void *ctx, const backend *b, device *d, const tensor *x, int nx, tensor *y)
{
    tensor_shape s = x->shape;
    (void)ctx, (void)nx;
    return b->boxes_around(d, s.type, s.n, s.h, s.w, s.c, KEY, x->data, y->data);
}

net_t resolver_period(net *n, net_t image, net_t last)
{
    tensor_shape shape = tensor_shape_of(net_shape(n, image).n, 1, 1, 4, TENSOR_F32);
    net_t around = net_call(n, "temporal/lung", &image, 1, shape, lung_box, NULL);
    net_t inside = net_roialign(n, &last, 1, around, RESOLVER_STRIDE, POOL, 2);
    return net_linear(n, "temporal/period", net_avgpool(n, inside), RESOLVER_PERIODS, 0);
}

net_t resolver_dock(net *n, const net_t *last, int count, int channels)
{
    return resnet_conv(n, "dock", count > 1 ? net_concat(n, last, count) : last[0], -1, channels, 1, 1, 1);
}
