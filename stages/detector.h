/* detector: the single-instance segmentation of the method (paper 2.2, figure 3): two serial residual blocks on the
 * docked features, then what rcnn is made of, with three heights of features in every region [ours: stride 16 alone
 * loses tiny lesions] and a tiny U-Net for the masks.
 *
 *   fine     1x1 + BN + ReLU from the encoders' features at stride 4
 *   fold     4x4 of stride 4 + BN, from fine, added to the docked features [ours]: where in its cell of 16 pixels a
 *            tiny lesion lies
 *   blocks   3x3 + BN + ReLU, 3x3 + BN, + x, ReLU; twice; the size stays
 *   region   ROI Align of the blocks' output (stride 16), of fine (stride 4) and of the image itself, concatenated
 *   mask     regions 32 x 32; a block is four (3x3 + BN + ReLU) with a residual connection around it (1x1 + BN where
 *            channels change); three times down by 2x2 max pooling, three times up by nearest x2 and concatenation; 1x1
 *            to one logit
 *
 * Parameters: "detector/...", "mask/...". Local. */
#ifndef COV_STAGES_DETECTOR_H
#define COV_STAGES_DETECTOR_H
#include "kernels/net.h"
#include "stages/rcnn.h"

enum { DETECTOR_STRIDE = 16, DETECTOR_FINE_STRIDE = 4, DETECTOR_BOX = 7, DETECTOR_MASK = 32, DETECTOR_MAPS = 3 };

/* map[0] (n,h/16,w/16,c), map[1] (n,h/4,w/4,fine), map[2] the image. */
typedef struct detector_maps { net_t map[DETECTOR_MAPS]; } detector_maps;
/* docked: see resolver_dock. level: the encoders' features at stride 4, count of them. */
detector_maps detector_features(net *n, net_t image, net_t docked, const net_t *level, int count, int fine);
/* The level that the RPN looks at: anchors of 8 .. 256 pixels, ratios 1/2, 1, 2. */
rcnn_level detector_level(const detector_maps *m);
/* (n*r,size,size,all channels) */
net_t detector_regions(net *n, const detector_maps *m, net_t rois, int size);
/* Logits (n*r,32,32,1) from regions of 32 x 32. */
net_t detector_mask(net *n, net_t regions, int width);
#endif
