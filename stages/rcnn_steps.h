/* rcnn_steps: the host steps of rcnn: the sampling of anchors and regions. Private to rcnn*.c and their
 * tests. Their inputs and outputs are as rcnn.c builds them. */
#ifndef COV_STAGES_RCNN_STEPS_H
#define COV_STAGES_RCNN_STEPS_H
#include "stages/rcnn.h"

struct rcnn {
    rcnn_options o;
    int64_t rows, cols;             /* of the net's input */
    int levels, a_pixel;            /* anchors a pixel */
    int threads;                    /* of a step: samples are independent of each other */
    int64_t first[RCNN_LEVELS + 1]; /* anchors before level k; the last: all */
    int64_t total;
    box *anchor; /* owned; total */
    boxes_choice proposals, found;    /* which of the anchors, and of the proposals */
};

extern const float rcnn_rpn_weight[4]; /* of the RPN's deltas: 1 1 1 1 */
/* x: image, boxes; y: objectness target and weight, delta target and weight. */
status rcnn_anchor_step(void *ctx, const tensor *x, int nx, tensor *y, int ny);
/* x: proposals, image, boxes, target; y: as rcnn_targets. */
status rcnn_region_step(void *ctx, const tensor *x, int nx, tensor *y, int ny);
#endif
