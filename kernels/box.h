/* box: rectangles of a detector: overlap, coding against anchors, the best k of many scores, suppression, matching, and masks
 * cut to and pasted from rectangles. Comes in: arrays of boxes and scores; goes out: indices, deltas, masks, in arrays of the
 * caller, all in host memory; formulas are inline, as kernels on a GPU share them. Nothing here allocates or fails; all is
 * local and gives the same result for the same input, ties included. Trap: a box may be empty or hold a NaN (a diverged
 * training): then it has no area and overlaps nothing.
 *
 * Boxes are half-open rectangles in pixels, row first: pixel (y,x) covers [y,y+1) x [x,x+1).
 * Sources: coding, Girshick et al. 2014; anchors, Ren et al. 2015; greedy suppression, Felzenszwalb et al. 2010. */
#ifndef COV_KERNELS_BOX_H
#define COV_KERNELS_BOX_H
#include "kernels/both.h"
#include <math.h>
#include <stdint.h>

typedef struct box {
    float y0, x0, y1, x1;
} box;

/* 0 if empty */
COV_BOTH static inline float box_area(box b) { return b.y1 > b.y0 && b.x1 > b.x0 ? (b.y1 - b.y0) * (b.x1 - b.x0) : 0; }

/* The area that two boxes share. */
COV_BOTH static inline float box_shared(box a, box b)
{
    box both = {a.y0 > b.y0 ? a.y0 : b.y0, a.x0 > b.x0 ? a.x0 : b.x0, a.y1 < b.y1 ? a.y1 : b.y1, a.x1 < b.x1 ? a.x1 : b.x1};
    return box_area(both);
}

/* 0 to 1; 0 where both are empty. The first test leaves out most pairs and all with a NaN. */
COV_BOTH static inline float box_iou(box a, box b)
{
    if (!(a.y0 < b.y1 && b.y0 < a.y1 && a.x0 < b.x1 && b.x0 < a.x1)) return 0;
    float inside = box_shared(a, b);
    return inside > 0 ? inside / (box_area(a) + box_area(b) - inside) : 0;
}

COV_BOTH static inline float box_between(float v, float most) { return v < 0 ? 0 : v > most ? most : v; } /* a NaN stays */

/* to [0,h] x [0,w] */
COV_BOTH static inline box box_clip(box b, float h, float w)
{
    box clipped = {box_between(b.y0, h), box_between(b.x0, w), box_between(b.y1, h), box_between(b.x1, w)};
    return clipped;
}

/* `to` seen from `from`, both with area: dy dx (of the centres, in heights and widths of `from`), dh dw (logarithms of
 * ratios), each times its weight. Decoding is the way back; dh and dw are at most log(1000/16). */
void box_encode(box from, box to, const float weight[4], float delta[4]);
COV_BOTH static inline box box_decode(box from, const float delta[4], const float weight[4])
{
    const float most = 4.135166556742356f; /* log(1000/16): no box grows more than 62 times */
    float h = from.y1 - from.y0, w = from.x1 - from.x0, dh = delta[2] / weight[2], dw = delta[3] / weight[3];
    float y = (from.y0 + from.y1) / 2 + delta[0] / weight[0] * h;
    float x = (from.x0 + from.x1) / 2 + delta[1] / weight[1] * w;
    float half_h = expf(dh < most ? dh : most) * h / 2;
    float half_w = expf(dw < most ? dw : most) * w / 2;
    box to = {y - half_h, x - half_w, y + half_h, x + half_w};
    return to;
}

/* Anchors of one level: centred on each of h x w cells of `stride` pixels, sizes x ratios of them. A size is the side
 * of the square of the same area, a ratio is height / width. */
enum { BOX_SIZES = 8, BOX_RATIOS = 4 };
typedef struct box_anchors {
    int stride, sizes, ratios;
    float size[BOX_SIZES], ratio[BOX_RATIOS];
} box_anchors;
/* Anchor number ((y * w + x) * sizes + s) * ratios + r of a level w cells wide; not clipped. */
COV_BOTH static inline box box_anchor(const box_anchors *a, int64_t w, int64_t number)
{
    int64_t each = (int64_t)a->sizes * a->ratios, cell = number / each;
    float size = a->size[(number - cell * each) / a->ratios], root = sqrtf(a->ratio[number % a->ratios]);
    float y = ((float)(cell / w) + 0.5f) * (float)a->stride, x = ((float)(cell % w) + 0.5f) * (float)a->stride;
    float half_h = size * root / 2, half_w = size / root / 2;
    box b = {y - half_h, x - half_w, y + half_h, x + half_w};
    return b;
}
/* All of a level of h x w cells, in that order; NULL: only counts. Returns how many there are. */
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

/* Bins on both sides of the centre of pixel i, and the weight of the second; 0 if the centre lies outside [from, to). */
COV_BOTH static inline int box_bins(double from, double to, int size, int64_t i, int at[2], double *weight)
{
    double centre = (double)i + 0.5;
    if (!(centre >= from && centre < to)) return 0;
    double place = (centre - from) / (to - from) * size - 0.5;
    if (place < 0) place = 0;
    if (place > size - 1) place = size - 1;
    at[0] = (int)place;
    at[1] = at[0] + 1 < size ? at[0] + 1 : at[0];
    *weight = place - at[0];
    return 1;
}

/* The way back: 1 where the centre of pixel (y,x) lies in b and probability (size,size), bilinear between the centres of b's
 * bins, is `threshold` or more, else 0. */
COV_BOTH static inline uint8_t box_pasted(const float *probability, int size, box b, float threshold, int64_t y, int64_t x)
{
    int v[2], u[2];
    double wv, wu;
    if (!box_bins(b.y0, b.y1, size, y, v, &wv) || !box_bins(b.x0, b.x1, size, x, u, &wu)) return 0;
    const float *low = probability + v[0] * size, *high = probability + v[1] * size;
    double value = (1 - wv) * ((1 - wu) * low[u[0]] + wu * low[u[1]]) + wv * ((1 - wu) * high[u[0]] + wu * high[u[1]]);
    return value >= threshold;
}
#endif
