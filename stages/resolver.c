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

/* y[0] (n,1,1,4): the rectangle of pixels in which the key slice's image x[0] (n,h,w,3) is not 0; everything where it
 * is 0. */
static status lung_box(void *ctx, const tensor *x, int nx, tensor *y, int ny)
{
    (void)ctx, (void)nx, (void)ny;
    tensor_shape s = x[0].shape;
    for (int64_t i = 0; i < s.n; i++) {
        const float *image = (const float *)x[0].data + i * s.h * s.w * s.c;
        int64_t y0 = s.h, y1 = 0, x0 = s.w, x1 = 0;
        for (int64_t r = 0; r < s.h; r++)
            for (int64_t c = 0; c < s.w; c++) {
                if (image[(r * s.w + c) * s.c + KEY] == 0.0f) continue;
                y0 = r < y0 ? r : y0;
                y1 = r + 1;
                x0 = c < x0 ? c : x0;
                x1 = c + 1 > x1 ? c + 1 : x1;
            }
        float *box = (float *)y[0].data + 4 * i;
        int empty = y1 == 0;
        box[0] = empty ? 0.0f : (float)y0;
        box[1] = empty ? 0.0f : (float)x0;
        box[2] = (float)(empty ? s.h : y1);
        box[3] = (float)(empty ? s.w : x1);
    }
    return COV_OK;
}

net_t resolver_period(net *n, net_t image, net_t last)
{
    net_t box;
    tensor_shape shape = tensor_shape_of(net_shape(n, image).n, 1, 1, 4, TENSOR_F32);
    net_host(n, "temporal/lung", &image, 1, &shape, 1, lung_box, NULL, &box);
    net_t inside = net_roialign(n, &last, 1, box, RESOLVER_STRIDE, POOL, 2);
    return net_linear(n, "temporal/period", net_avgpool(n, inside), RESOLVER_PERIODS, 0);
}

net_t resolver_dock(net *n, const net_t *last, int count, int channels)
{
    return resnet_conv(n, "dock", count > 1 ? net_concat(n, last, count) : last[0], -1, channels, 1, 1, 1);
}
