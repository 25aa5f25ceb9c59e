/* rcnn: what two-stage detectors are made of, shared by the method's detector (stages/detector) and by Mask R-CNN
 * (stages/baselines): region proposal network, proposals, sampling of targets, the box branch and the losses (Ren et
 * al. 2015; He et al. 2017).
 *
 * Rows: the anchors of all levels stand one level after the other, (n, sum of h*w, 1, anchors a pixel). Proposals and
 * findings are calls of the backend, targets are host steps of the net. A choice among anchors or regions is drawn from a stream of (seed, the sample's
 * image and boxes), so that it is the same on every rank, in every thread and after every resume.
 *
 * [ours] Each lesion's box takes part in the second stage as it is, as in Mask R-CNN, and in JITTERED copies: a slice
 * has one or two lesions, and proposals find them only after a while. An anchor is positive from IoU 0.5 on (0.7
 * there): 8-pixel lesions on a grid of 16 seldom reach 0.7. The mask of a region is all lesion in it, its own and its
 * neighbours': where one ragged lesion ends and the next begins is the annotator's chance, and findings of a slice are
 * united in the end. What is a tenth lesion or more and fits no lesion's box is no background either. Local.
 */
#ifndef COV_STAGES_RCNN_H
#define COV_STAGES_RCNN_H
#include "kernels/net.h"

enum { RCNN_LEVELS = BOXES_LEVELS, RCNN_TRUTH = 5 /* floats a row of boxes */, RCNN_FOUND = 5 /* and of what is found */ };

typedef struct rcnn_level {
    net_t map;           /* (n,h,w,c) */
    box_anchors anchors; /* equally many a pixel on every level */
} rcnn_level;

typedef struct rcnn_options {
    int hidden;     /* of the box branch's two linear layers */
    int candidates; /* anchors of a level that are decoded, best first, before NMS */
    int proposals;  /* kept an image */
    int found;      /* of them, in the end */
    int anchors;    /* sampled an image for the RPN's losses, half of them positive at most */
    int regions;    /* sampled an image for the box branch, a quarter positive at most */
    int masks;      /* regions an image for the mask branch */
    int mask_size;  /* bins of a mask target */
    uint64_t seed;
} rcnn_options;

typedef struct rcnn rcnn; /* what the steps need: must outlive the net */
extern const float rcnn_box_weight[4]; /* of the box branch's deltas: 10 10 5 5 */

/* For levels [count], finest first, of a net whose input has rows x cols pixels. Borrows nothing. */
status rcnn_new(const net *n, const rcnn_options *o, const rcnn_level *levels, int count, int64_t rows, int64_t cols,
                rcnn **out);
void rcnn_free(rcnn **r);

/* "rpn/conv" 3x3 + ReLU, "rpn/objectness", "rpn/delta" 1x1, the same on all levels. rows: (n,a,1,A) logits and
 * (n,a,1,4A) deltas. */
typedef struct rcnn_rows { net_t objectness, delta; } rcnn_rows;
rcnn_rows rcnn_rpn(net *n, const rcnn *r, const rcnn_level *levels);
/* (n,proposals,1,4): the best by objectness after NMS at 0.7 a level, best first, clipped to the image; zeros where
 * there are fewer. */
net_t rcnn_propose(net *n, const rcnn *r, rcnn_rows rows);
/* (n,found,1,RCNN_FOUND): y0 x0 y1 x1 and the probability of a lesion: the best of the proposals, moved by their deltas, after NMS at
 * 0.5 and without those that lie in better ones, best first, clipped to the image; zeros where there are fewer. logits, delta: of
 * rcnn_box_branch. */
net_t rcnn_find(net *n, const rcnn *r, net_t proposals, net_t logits, net_t delta);
/* Binary cross-entropy over sampled anchors, smooth L1 over the positive ones among them. boxes: see
 * lesionnet_inputs. */
void rcnn_rpn_losses(net *n, const rcnn *r, rcnn_rows rows, net_t image, net_t boxes, net_t target,
                     net_t *objectness, net_t *delta);

typedef struct rcnn_targets {
    net_t rois;         /* (n,regions,1,4) */
    net_t label;        /* (n*regions,1,1,1) I32: 1 lesion, 0 background, -1 empty place */
    net_t delta;        /* (n*regions,1,1,4) F32 */
    net_t delta_weight; /* the same: 1 for lesions */
    net_t mask_rois;    /* (n,masks,1,4): lesions' first; then others, so that norms see features and no zeros */
    net_t mask;         /* (n*masks,size,size,1) F32 0/1 */
    net_t mask_weight;  /* the same: 1 for lesions' regions */
} rcnn_targets;
/* Without a truth there are negatives alone, and neither delta nor mask has any weight. */
rcnn_targets rcnn_sample(net *n, const rcnn *r, net_t proposals, net_t image, net_t boxes, net_t target);

/* pooled (n*r,s,s,c): "box/hidden1" (linear over all s*s*c), "box/hidden2", then "box/class" (n*r,1,1,2) logits and
 * "box/delta" (n*r,1,1,4). */
void rcnn_box_branch(net *n, const rcnn *r, net_t pooled, net_t *logits, net_t *delta);
/* Shrinks the initial weights of the last layers of RPN, box branch and period head tenfold: the first proposals are
 * the anchors themselves, and no loss outweighs the others. */
status rcnn_start_small(net *n);
#endif
