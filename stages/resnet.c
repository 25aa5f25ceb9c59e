/* resnet: see resnet.h. Names are cut to fit; net reports a repeated name. */
#include "stages/resnet.h"

#include <stdio.h>

enum { NAME = 120 };

net_t resnet_conv(net *n, const char *name, net_t x, net_t residual, int channels, int kernel, int stride, int relu)
{
    char norm[NAME + 8];
    snprintf(norm, sizeof norm, "%.*s/bn", NAME, name);
    net_t y = net_conv(n, name, x, channels, kernel, stride, kernel / 2, 0, 0);
    return net_batchnorm(n, norm, y, residual, relu);
}

static net_t bottleneck(net *n, const char *name, net_t x, int width, int stride, int project)
{
    char part[NAME + 16];
    net_t shortcut = x;
    if (project) {
        snprintf(part, sizeof part, "%.*s/down", NAME, name);
        shortcut = resnet_conv(n, part, x, -1, 4 * width, 1, stride, 0);
    }
    snprintf(part, sizeof part, "%.*s/conv1", NAME, name);
    net_t y = resnet_conv(n, part, x, -1, width, 1, 1, 1);
    snprintf(part, sizeof part, "%.*s/conv2", NAME, name);
    y = resnet_conv(n, part, y, -1, width, 3, stride, 1);
    snprintf(part, sizeof part, "%.*s/conv3", NAME, name);
    return resnet_conv(n, part, y, shortcut, 4 * width, 1, 1, 1);
}

net_t resnet_level(net *n, const char *prefix, int k, net_t x, int width)
{
    static const int blocks[RESNET_LEVELS] = {0, 3, 4, 6, 3};
    char name[NAME];
    if (k == 0) {
        snprintf(name, sizeof name, "%s/conv1", prefix);
        return resnet_conv(n, name, x, -1, width, 7, 2, 1);
    }
    if (k == 1) x = net_maxpool(n, x, 3, 2, 1);
    for (int b = 0; b < blocks[k]; b++) {
        snprintf(name, sizeof name, "%s/layer%d.%d", prefix, k, b);
        x = bottleneck(n, name, x, width << (k - 1), b == 0 && k > 1 ? 2 : 1, b == 0);
    }
    return x;
}

void resnet_50(net *n, const char *prefix, net_t x, int width, int levels, net_t level[RESNET_LEVELS])
{
    for (int k = 0; k < RESNET_LEVELS; k++) {
        if (k < levels) x = resnet_level(n, prefix, k, x, width);
        level[k] = k < levels ? x : -1;
    }
}
