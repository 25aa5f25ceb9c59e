/* boxes: what a backend does with many boxes of a detector at once: which of them stay, and their masks (boxes_select and
 * those below it in backend.h). In: structs that name sizes and rules; the work is the backend's. Local. */
#ifndef COV_KERNELS_BOXES_H
#define COV_KERNELS_BOXES_H
#include "kernels/box.h"
#include "kernels/tensor.h"

enum { BOXES_LEVELS = 5, BOXES_SELECT_MOST = 1024, BOXES_PASTE_MOST = 16 };

/* How the best boxes of an image are found. Each of its `places` has a score and a delta from a box that is given or an
 * anchor. Of each level the `candidates` of the highest scores (of equal ones the lower place first; NaN after all numbers) are
 * decoded, clipped to the image, and dropped where a side is shorter than `side` (> 0; so are all of boxes without area); then
 * box_nms at `iou` keeps at most `most`. Of all levels the `most` best stay, in the same order, and of these box_drop_inside
 * drops with `inside` (1: none). Deltas and scores are F32 or BF16. */
typedef struct boxes_choice {
    int levels;                      /* 1 where boxes are given */
    box_anchors anchors[BOXES_LEVELS];
    int64_t wide[BOXES_LEVELS];      /* cells a row of that level's anchors */
    int64_t first[BOXES_LEVELS + 1]; /* the level's first place; the last: places of an image */
    int candidates, most;            /* 1 to BOXES_SELECT_MOST */
    float weight[4];                 /* of deltas */
    float height, width;             /* of the image */
    float side, iou, inside;
    int score_step, score_first; /* place i's score is number i * score_step + score_first of the image's */
    int scored;                  /* a row of the result is y0 x0 y1 x1 score; 0: without the score */
} boxes_choice;

/* Masks of regions on a slice (ny,nx): of region k the rectangle y0[k] .. y1[k]-1, x0[k] .. x1[k]-1 by box_pasted, 0 where
 * `inside` (ny,nx; NULL: nowhere) is 0. One behind the other in `to`; a rectangle may be empty. */
typedef struct boxes_pasting {
    int count, size; /* regions, at most BOXES_PASTE_MOST; bins */
    float threshold;
    box at[BOXES_PASTE_MOST]; /* on the slice */
    int32_t y0[BOXES_PASTE_MOST], x0[BOXES_PASTE_MOST], y1[BOXES_PASTE_MOST], x1[BOXES_PASTE_MOST];
    int64_t ny, nx;
    const float *probability; /* (count,size,size) device memory; borrowed, as the next two */
    const uint8_t *inside;
    uint8_t *to;
} boxes_pasting;

/* Of region k: where its rectangle begins in `to`; k = count: all bytes. */
COV_BOTH static inline int64_t boxes_pasting_at(const boxes_pasting *p, int k)
{
    int64_t at = 0;
    for (int j = 0; j < k; j++) at += (int64_t)(p->y1[j] - p->y0[j]) * (p->x1[j] - p->x0[j]);
    return at;
}

/* COV_BROKEN for numbers that do not fit together, or more than a kernel can count. */
status boxes_choice_check(const boxes_choice *c, int64_t images, tensor_type type, const void *from);
status boxes_pasting_check(const boxes_pasting *p);
status boxes_around_check(tensor_type type, int64_t n, int64_t h, int64_t w, int64_t c, int64_t channel);
#endif
