/* baselines: networks that covpipe is compared with. unet: U-Net with a ResNet50 encoder, five decoder blocks of 16
 * width down to width/4 ... channels (at width 64: 256 128 64 32 16), each: nearest x2, concatenate the encoder's
 * features, twice 3x3 convolution + BatchNorm + ReLU; a 3x3 head. The same graph as segmentation_models_pytorch's
 * Unet("resnet50"). Local. */
#ifndef COV_STAGES_BASELINES_H
#define COV_STAGES_BASELINES_H
#include "kernels/net.h"
#include "stages/rcnn.h"

/* Mask R-CNN's trunk (He et al. 2017; Lin et al. 2017): ResNet50 and its feature pyramid, as torchvision's: 1x1 lateral
 * and 3x3 output convolutions with bias, nearest x2 going down, `channels` (256 at width 64) on each of P2 .. P6
 * (strides 4 .. 64); P6 is every second pixel of P5. RPN, proposals, box branch: stages/rcnn. Anchors [ours] 16 .. 256
 * pixels, one size a level, as lesions are small. */
enum {
    BASELINES_PYRAMID = 5,
    BASELINES_REGION_LEVELS = 4,
    BASELINES_BOX = 7,
    BASELINES_MASK = 14,
    BASELINES_STRIDE = 4
};
void baselines_pyramid(net *n, net_t image, int width, int channels, rcnn_level level[BASELINES_PYRAMID]);
/* Its mask branch: regions (n*r,14,14,c), four 3x3 + ReLU, a 2x2 transposed convolution + ReLU, 1x1: logits
 * (n*r,28,28,1). */
net_t baselines_mask(net *n, net_t regions, int channels);

/* x (n, h, w, 3) with h and w multiples of 32; returns the logits (n, h, w, classes). */
net_t baselines_unet(net *n, net_t x, int width, int classes);
/* The GroupNorm U-Net that peers are timed on: 64 ... 1024 channels at width 64, two 3x3 + GN(32) + ReLU a level, max
 * pooling, 2x2 transposed convolutions, a 1x1 head. x (n, h, w, c), multiples of 16. */
net_t baselines_gnunet(net *n, net_t x, int width, int classes);
#endif
