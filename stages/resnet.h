/* resnet: the ResNet50 encoder (He et al. 2016; strides on the 3x3 convolutions, as torchvision's v1.5): the backbone
 * of the lesion models and of their baselines. conv1 7x7/2, max pooling 3x3/2, then bottleneck stages of 3, 4, 6 and 3
 * blocks. BatchNorm in the running mode of the net. `width` 64 is the paper's; narrower makes the compact preset.
 * Local. */
#ifndef COV_STAGES_RESNET_H
#define COV_STAGES_RESNET_H
#include "kernels/net.h"

enum { RESNET_LEVELS = 5 };
/* level[k]: features at stride 2^(k+1): width, 4 width, 8 width, 16 width, 32 width channels. Only the first `levels`
 * are built (4: to stride 16, the method's docking point); the rest are -1. Parameters are named prefix/conv1/w,
 * prefix/layer1.0/... */
void resnet_50(net *n, const char *prefix, net_t x, int width, int levels, net_t level[RESNET_LEVELS]);
/* Level k alone, from the level before it (k 0: from the image): for encoders that add something in between. */
net_t resnet_level(net *n, const char *prefix, int k, net_t x, int width);
/* conv (no bias) + BatchNorm (+ residual) (+ ReLU): the unit that all of it is made of. residual -1: none. */
net_t resnet_conv(net *n, const char *name, net_t x, net_t residual, int channels, int kernel, int stride, int relu);
#endif
