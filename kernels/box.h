/* box: rectangles of a detector on the host: overlap, coding against anchors, the best k of many scores, suppression,
 * matching, and masks cut to and pasted from rectangles. Comes in: arrays of boxes and scores; goes out: indices,
 * deltas, masks, in arrays of the caller. Nothing here allocates or fails; all is local and gives the same result for the same
 * input, ties included. Trap: a box may be empty or hold a NaN (a diverged training): then it has no area and overlaps
 * nothing.
 *
 * Boxes are half-open rectangles in pixels, row first: pixel (y,x) covers [y,y+1) x [x,x+1).
 * Sources: coding, Girshick et al. 2014; anchors, Ren et al. 2015; greedy suppression, Felzenszwalb et al. 2010. */
#ifndef COV_KERNELS_BOX_H
#define COV_KERNELS_BOX_H
#include <stdint.h>

typedef struct box {
    float y0, x0, y1, x1;
} box;

float box_area(box b);         /* 0 if empty */
float box_iou(box a, box b);   /* 0 to 1; 0 where both are empty */
box box_clip(box b, float h, float w); /* to [0,h] x [0,w] */

/* `to` seen from `from`, both with area: dy dx (of the centres, in heights and widths of `from`), dh dw (logarithms of
 * ratios), each times its weight. Decoding is the way back; dh and dw are at most log(1000/16). */
void box_encode(box from, box to, const float weight[4], float delta[4]);
box box_decode(box from, const float delta[4], const float weight[4]);

/* Anchors of one level: centred on each of h x w cells of `stride` pixels, sizes x ratios of them. A size is the side
 * of the square of the same area, a ratio is height / width. */
enum { BOX_SIZES = 8, BOX_RATIOS = 4 };
typedef struct box_anchors {
    int stride, sizes, ratios;
    float size[BOX_SIZES], ratio[BOX_RATIOS];
} box_anchors;
/* out[((y * w + x) * sizes + s) * ratios + r], not clipped; NULL: only counts. Returns how many there are. */
int64_t box_anchors_fill(const box_anchors *a, int64_t h, int64_t w, box *out);

/* Indices of the k best of n scores (k > n: all), best first; of equal ones the lower index first; NaN after all
 * numbers. Returns how many. O(n log k). */
int64_t box_top_k(const float *score, int64_t n, int64_t k, int32_t *index);
/* Goes through order[0..n-1] (indices into b, best first; NULL: 0 1 2 ...) and keeps each box whose IoU with every one
 * kept so far is at most `iou`, until `most` are kept. keep: their indices into b. Returns how many. */
int64_t box_nms(const box *b, const int32_t *order, int64_t n, float iou, int64_t most, int32_t *keep);
/* Of the boxes b[keep[0..n-1]], best first, those stay of whose area no more than `share` lies in one that stayed before: keep is
 * overwritten with them. Returns how many. IoU does not see a small box inside a large one. */
int64_t box_drop_inside(const box *b, int64_t n, float share, int32_t *keep);
/* iou[i]: box_iou of b[i] and `with`, the same bits. */
void box_iou_row(const box *b, int64_t n, box with, float *iou);
/* For each of n boxes the best of m true ones: its IoU, and its index (the lower of equal ones; -1: none overlaps). */
void box_match(const box *b, int64_t n, const box *truth, int64_t m, float *iou_best, int32_t *truth_best);

/* The pixels of a mask (h,w) above 0 on the size x size bins of b: 1 where at least half of a bin is covered, else 0
 * (also outside the image). out (size,size). An empty b gives zeros. */
void box_crop_mask(const float *mask, int64_t h, int64_t w, box b, int size, float *out);
/* The way back: probability (size,size) of the bins of b, bilinear between their centres, on the pixels of rows
 * y0..y1-1 and columns x0..x1-1: out (y1-y0,x1-x0) is 1 where the pixel's centre lies in b and has `threshold` or more,
 * else 0. */
void box_paste_mask(const float *probability, int size, box b, int64_t y0, int64_t x0, int64_t y1, int64_t x1,
                    float threshold, uint8_t *out);
#endif
