/* lungnet: the lung U-Net of the method (paper 2.1, figure 2), built with net.h in two presets of one graph.
 *
 *   level 0   x -> residual block, c0                             down: 2x2 convolution, stride 2 (levels 0->1, 1->2)
 *   level 1..4  residual block, c1..c4                                  2x2 max pooling (2->3, 3->4)
 *   up 3..0   2x2 transposed convolution, stride 2, GN+ReLU; concatenate the skip; 3x3 convolution, GN+ReLU; then 1x1 to one logit
 *   residual block:  3x3 - GN - ReLU - 3x3 - GN - (+ shortcut) - ReLU; shortcut: identity, or 1x1 where channels change
 *
 * Every normalisation is GroupNorm with 8 groups, or as many as channels where there are fewer. Channels-last, one
 * input channel (windowed intensity in [0, 1]), one logit a pixel at the input's size. The axial and the sagittal
 * network are this same graph, trained apart. Local. */
#ifndef COV_STAGES_LUNGNET_H
#define COV_STAGES_LUNGNET_H
#include "kernels/net.h"

enum { LUNGNET_LEVELS = 5, LUNGNET_STRIDE = 16 }; /* rows and columns must be multiples of the stride */

typedef enum lungnet_view { LUNGNET_AXIAL, LUNGNET_SAGITTAL } lungnet_view;
const char *lungnet_model(lungnet_view v); /* "lung-axial", "lung-sagittal": the model name in weights files */
status lungnet_view_named(const char *model, lungnet_view *out);

/* Widths of the five levels. COV_USAGE names the presets there are. */
status lungnet_preset(const char *name, int widths[LUNGNET_LEVELS]); /* "paper" 64..1024, "compact" 8..128 */

typedef struct lungnet {
    net_t image;  /* input (n, rows, cols, 1), F32 in [0, 1] */
    net_t target; /* constant (n, rows, cols, 1) F32 0/1; -1 if built without loss */
    net_t weight; /* constant, as target: weight of a pixel in the cross-entropy; -1 likewise */
    net_t logit;  /* output "logit" (n, rows, cols, 1) */
    net_t bce, dice; /* losses; -1 likewise */
} lungnet;

/* Adds the graph to n (a fresh net); the caller compiles. with_loss: targets and both losses too. */
status lungnet_build(net *n, const char *preset, int64_t batch, int64_t rows, int64_t cols, bool with_loss, lungnet *out);
#endif
