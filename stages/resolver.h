/* resolver: the spatial and the temporal resolver of the method (paper 2.3, figure 5): what the lesion networks learn
 * first, and the encoders that then stay in them.
 *
 *   encoder    ResNet50 conv1 .. conv4_x: four times down, features at strides 2, 4, 8, 16 (width, 4, 8, 16 width
 *              channels)
 *   temporal   the same; behind each level the spatial encoder's features of that level are concatenated, and a 1x1
 *              convolution + BN + ReLU brings the channels back, before the next level [ours: concatenation and 1x1]
 *   decoder    four times up: nearest x2, concatenate the encoder's features, twice 3x3 convolution + BN + ReLU with 4,
 *              2, 1, 1/2 width channels; 1x1 to one logit a pixel
 *   deep       1x1 from the encoder's last features alone to one logit [ours]: a decoder sees lesions at the finest level, so that nothing would
 *              make the last one, which alone is docked, tell where they are
 *   period     the last features of the temporal encoder inside the rectangle that holds the key slice's lung, 8 x 8 by
 *              ROI Align, their mean, linear to four classes [ours]: the answer does not depend on how much of the
 *              empty surroundings was cut off
 *   docking    1x1 convolution + BN + ReLU from the last features (spatial alone, or both) to the detector's channels
 *              [ours]
 *
 * Parameters: "spatial/...", "temporal/...", "dock/...". Local. */
#ifndef COV_STAGES_RESOLVER_H
#define COV_STAGES_RESOLVER_H
#include "kernels/net.h"

enum { RESOLVER_LEVELS = 4, RESOLVER_STRIDE = 16, RESOLVER_PERIODS = 4 };

void resolver_spatial(net *n, net_t image, int width, net_t level[RESOLVER_LEVELS]);
void resolver_temporal(net *n, net_t image, int width, const net_t spatial[RESOLVER_LEVELS],
                       net_t level[RESOLVER_LEVELS]);
/* Logits (n,h,w,1); prefix "spatial" or "temporal". */
net_t resolver_decode(net *n, const char *prefix, const net_t level[RESOLVER_LEVELS], int width);
/* Logits (n,h/16,w/16,1); last: the encoder's last features. */
net_t resolver_deep(net *n, const char *prefix, net_t last);
/* Logits (n,1,1,RESOLVER_PERIODS) from the image (n,h,w,3) and the temporal encoder's last features. */
net_t resolver_period(net *n, net_t image, net_t last);
/* last[0 .. count-1]: encoders' last features. (n,h/16,w/16,channels). */
net_t resolver_dock(net *n, const net_t *last, int count, int channels);
#endif
