/* box: rectangles of a detector; see box.h. Comparisons there and here are written so that a NaN makes them false, its box empty. */
#include "kernels/box.h"

#include <math.h>
#include <string.h>

static float smaller(float a, float b) { return a < b ? a : b; }
static float larger(float a, float b) { return a > b ? a : b; }

void box_encode(box from, box to, const float weight[4], float delta[4])
{
    float h = from.y1 - from.y0, w = from.x1 - from.x0;
    delta[0] = weight[0] * ((to.y0 + to.y1) - (from.y0 + from.y1)) / (2 * h);
    delta[1] = weight[1] * ((to.x0 + to.x1) - (from.x0 + from.x1)) / (2 * w);
    delta[2] = weight[2] * logf((to.y1 - to.y0) / h);
    delta[3] = weight[3] * logf((to.x1 - to.x0) / w);
}

int64_t box_anchors_fill(const box_anchors *a, int64_t h, int64_t w, box *out)
{
    int64_t count = h * w * a->sizes * a->ratios;
    for (int64_t k = 0; out && k < count; k++) out[k] = box_anchor(a, w, k);
    return count;
}

/* ---- the best k: a heap whose root is the worst that is kept, then sorted in place */

/* Is a to stand before b? */
static int before(const float *score, int32_t a, int32_t b)
{
    float x = score[a], y = score[b];
    if (x > y || x < y) return x > y;
    if (isnan(x) != isnan(y)) return isnan(y);
    return a < b;
}

static void sink(const float *score, int32_t *heap, int64_t count, int64_t at)
{
    int32_t one = heap[at];
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(score, heap[child], heap[child + 1])) child++;
        if (before(score, heap[child], one)) break;
        heap[at] = heap[child];
    }
    heap[at] = one;
}

int64_t box_top_k(const float *score, int64_t n, int64_t k, int32_t *index)
{
    if (k > n) k = n;
    if (k < 1) return 0;
    for (int64_t i = 0; i < k; i++) index[i] = (int32_t)i;
    for (int64_t i = k / 2 - 1; i >= 0; i--) sink(score, index, k, i);
    for (int64_t i = k; i < n; i++) {
        if (!before(score, (int32_t)i, index[0])) continue;
        index[0] = (int32_t)i;
        sink(score, index, k, 0);
    }
    for (int64_t last = k - 1; last > 0; last--) {
        int32_t worst = index[0];
        index[0] = index[last];
        index[last] = worst;
        sink(score, index, last, 0);
    }
    return k;
}

/* ---- one box against many: the many lie coordinate by coordinate, so that several are compared at once */

enum { TILE = 64 };
typedef struct tile {
    float y0[TILE], x0[TILE], y1[TILE], x1[TILE], area[TILE];
} tile;

static inline void tile_put(tile *t, int64_t k, box b)
{
    t->y0[k] = b.y0;
    t->x0[k] = b.x0;
    t->y1[k] = b.y1;
    t->x1[k] = b.x1;
    t->area[k] = box_area(b);
}

/* box_iou of `one` and box k, bit by bit, without a branch; area: that of `one`. */
static inline float tile_iou(const tile *t, int64_t k, box one, float area)
{
    float y0 = larger(one.y0, t->y0[k]), x0 = larger(one.x0, t->x0[k]);
    float y1 = smaller(one.y1, t->y1[k]), x1 = smaller(one.x1, t->x1[k]);
    float inside = (y1 - y0) * (x1 - x0), share = inside / (area + t->area[k] - inside);
    int meet = (one.y0 < t->y1[k]) & (t->y0[k] < one.y1) & (one.x0 < t->x1[k]) & (t->x0[k] < one.x1);
    return (meet & (y1 > y0) & (x1 > x0) & (inside > 0)) ? share : 0;
}

/* Does `one` overlap one of `count` by more than `iou`? */
static int tile_meets(const tile *t, int64_t count, box one, float iou)
{
    float area = box_area(one);
    int met = 0;
#pragma omp simd reduction(| : met)
    for (int64_t k = 0; k < count; k++) met |= tile_iou(t, k, one, area) > iou;
    return met;
}

/* Candidates go in tiles, too: those kept from earlier tiles are laid out once for all of them. */
int64_t box_nms(const box *b, const int32_t *order, int64_t n, float iou, int64_t most, int32_t *keep)
{
    int64_t kept = 0;
    tile t;
    for (int64_t first = 0; first < n && kept < most; first += TILE) {
        int64_t here = n - first < TILE ? n - first : TILE, before = kept;
        unsigned char out[TILE] = {0};
        for (int64_t k = 0; k < before; k += TILE) {
            int64_t count = before - k < TILE ? before - k : TILE;
            for (int64_t j = 0; j < count; j++) tile_put(&t, j, b[keep[k + j]]);
            for (int64_t i = 0; i < here; i++)
                if (!out[i]) out[i] = (unsigned char)tile_meets(&t, count, b[order ? order[first + i] : first + i], iou);
        }
        for (int64_t i = 0; i < here && kept < most; i++) {
            int32_t one = order ? order[first + i] : (int32_t)(first + i);
            if (out[i] || tile_meets(&t, kept - before, b[one], iou)) continue;
            tile_put(&t, kept - before, b[one]);
            keep[kept++] = one;
        }
    }
    return kept;
}

int64_t box_drop_inside(const box *b, int64_t n, float share, int32_t *keep)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        box one = b[keep[i]];
        int64_t k = 0;
        while (k < kept && !(box_shared(one, b[keep[k]]) > share * box_area(one))) k++;
        if (k == kept) keep[kept++] = keep[i];
    }
    return kept;
}

/* Some of b[0 .. n-1]; returns how many. */
static int64_t tile_take(tile *t, const box *b, int64_t n)
{
    int64_t count = n < TILE ? n : TILE;
    for (int64_t k = 0; k < count; k++) tile_put(t, k, b[k]);
    return count;
}

static void tile_row(const tile *t, int64_t count, box with, float *iou)
{
    float area = box_area(with);
#pragma omp simd
    for (int64_t k = 0; k < count; k++) iou[k] = tile_iou(t, k, with, area);
}

void box_iou_row(const box *b, int64_t n, box with, float *iou)
{
    tile t;
    for (int64_t first = 0; first < n; first += TILE) tile_row(&t, tile_take(&t, b + first, n - first), with, iou + first);
}

void box_match(const box *b, int64_t n, const box *truth, int64_t m, float *iou_best, int32_t *truth_best)
{
    float iou[TILE];
    tile t;
    for (int64_t first = 0; first < n; first += TILE) {
        int64_t here = tile_take(&t, b + first, n - first);
        float *best = iou_best + first;
        for (int64_t k = 0; k < here; k++) {
            best[k] = 0;
            truth_best[first + k] = -1;
        }
        for (int64_t j = 0; j < m; j++) {
            tile_row(&t, here, truth[j], iou);
            for (int64_t k = 0; k < here; k++) {
                if (!(iou[k] > best[k])) continue;
                best[k] = iou[k];
                truth_best[first + k] = (int32_t)j;
            }
        }
    }
}

/* ---- masks */

/* Bin k of `size` between a and b. */
static double edge(double a, double b, int size, int k) { return a + (b - a) * k / size; }

/* The pixels of 0 .. most-1 that [from, to) meets: first and one past the last. */
static void pixels_of(double from, double to, int64_t most, int64_t *first, int64_t *end)
{
    *first = from > 0 ? from < (double)most ? (int64_t)from : most : 0;
    *end = to > 0 ? to < (double)most ? (int64_t)ceil(to) : most : 0;
}

/* How much of pixel i lies in [from, to). */
static double share(double from, double to, int64_t i)
{
    double low = from > (double)i ? from : (double)i, high = to < (double)(i + 1) ? to : (double)(i + 1);
    return high > low ? high - low : 0;
}

/* The area of a bin that the mask covers. */
static double covered(const float *mask, int64_t h, int64_t w, const double y[2], const double x[2])
{
    double sum = 0;
    int64_t rows[2], cols[2];
    pixels_of(y[0], y[1], h, &rows[0], &rows[1]);
    pixels_of(x[0], x[1], w, &cols[0], &cols[1]);
    for (int64_t r = rows[0]; r < rows[1]; r++) {
        double line = 0;
        for (int64_t c = cols[0]; c < cols[1]; c++)
            if (mask[r * w + c] > 0) line += share(x[0], x[1], c);
        sum += line * share(y[0], y[1], r);
    }
    return sum;
}

void box_crop_mask(const float *mask, int64_t h, int64_t w, box b, int size, float *out)
{
    /* A hair below a half, so that exact halves do not depend on how a product was rounded. */
    double half = (double)(b.y1 - b.y0) * (double)(b.x1 - b.x0) / size / size * (0.5 - 1e-9);
    memset(out, 0, (size_t)size * (size_t)size * sizeof *out);
    if (!(box_area(b) > 0)) return;
    for (int p = 0; p < size; p++)
        for (int q = 0; q < size; q++) {
            double y[2] = {edge(b.y0, b.y1, size, p), edge(b.y0, b.y1, size, p + 1)};
            double x[2] = {edge(b.x0, b.x1, size, q), edge(b.x0, b.x1, size, q + 1)};
            out[p * size + q] = covered(mask, h, w, y, x) >= half;
        }
}
