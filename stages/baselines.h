/* baselines: networks that covpipe is compared with. unet: U-Net with a ResNet50 encoder, five decoder blocks of 16 width
 * down to width/4 ... channels (at width 64: 256 128 64 32 16), each: nearest x2, concatenate the encoder's features, twice
 * 3x3 convolution + BatchNorm + ReLU; a 3x3 head. The same graph as segmentation_models_pytorch's Unet("resnet50"). Local. */
#ifndef COV_STAGES_BASELINES_H
#define COV_STAGES_BASELINES_H
#include "kernels/net.h"

/* x (n, h, w, 3) with h and w multiples of 32; returns the logits (n, h, w, classes). */
net_t baselines_unet(net *n, net_t x, int width, int classes);
/* The GroupNorm U-Net that peers are timed on: 64 ... 1024 channels at width 64, two 3x3 + GN(32) + ReLU a level, max pooling,
 * 2x2 transposed convolutions, a 1x1 head. x (n, h, w, c), multiples of 16. */
net_t baselines_gnunet(net *n, net_t x, int width, int classes);
#endif
