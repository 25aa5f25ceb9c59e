/* rcnn_steps: see rcnn_steps.h. Everything is a pure function of the inputs, image by image, and images are shared out among
 * threads; scratch memory is taken and given back in each call, as a step may run for several nets at once. */
#include "stages/rcnn_steps.h"

#include "stages/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const float RPN_POSITIVE = 0.5f, RPN_NEGATIVE = 0.3f, REGION_POSITIVE = 0.5f, BACKGROUND = 0.1f;
enum { JITTERED = 6, IMAGE_STEP = 61 /* every such value of the image goes into its hash */ };

static status no_memory(const char *what)
{
    return COV_FAIL(COV_NOMEM, "no memory for %s", what);
}

/* Image i of a batch of boxes (n,m,1,5): the real ones, at most `room`. */
static int64_t truth_of(const tensor *boxes, int64_t i, box *out)
{
    int64_t m = boxes->shape.h, count = 0;
    const float *row = (const float *)boxes->data + i * m * RCNN_TRUTH;
    for (int64_t k = 0; k < m && row[RCNN_TRUTH * k + 4] > 0.0f; k++) {
        const float *b = row + RCNN_TRUTH * k;
        out[count++] = (box){b[0], b[1], b[2], b[3]};
    }
    return count;
}

/* ---- a random stream that belongs to the sample */

static uint64_t hash_floats(uint64_t h, const float *v, int64_t n, int64_t step)
{
    for (int64_t i = 0; i < n; i += step) {
        uint32_t bits;
        memcpy(&bits, v + i, sizeof bits);
        h = (h ^ bits) * 0x100000001b3u; /* FNV-1a, a word at a time */
    }
    return h;
}

static rng stream_of(const rcnn *r, const tensor *image, const tensor *boxes, int64_t i, uint64_t purpose)
{
    int64_t pixels = image->shape.h * image->shape.w * image->shape.c, truth = boxes->shape.h * RCNN_TRUTH;
    uint64_t h = hash_floats(0xcbf29ce484222325u, (const float *)image->data + i * pixels, pixels, IMAGE_STEP);
    h = hash_floats(h, (const float *)boxes->data + i * truth, truth, 1);
    return rng_start(r->o.seed + purpose, h);
}

/* Draws `want` of list[0 .. n-1] to its front (or leaves all there); returns how many. */
static int64_t draw(rng *g, int32_t *list, int64_t n, int64_t want)
{
    if (want > n) want = n;
    for (int64_t k = 0; k < want; k++) {
        int64_t other = k + (int64_t)rng_below(g, (uint64_t)(n - k));
        int32_t swap = list[k];
        list[k] = list[other];
        list[other] = swap;
    }
    return want;
}

/* ---- how much of a rectangle is lesion */

/* sums[y][x], (h + 1, w + 1): lesion pixels above and left of (y, x). */
static void lesion_sums(const tensor *target, int64_t i, int32_t *sums)
{
    int64_t h = target->shape.h, w = target->shape.w, wide = w + 1;
    const float *plane = (const float *)target->data + i * h * w;
    for (int64_t x = 0; x < wide; x++) sums[x] = 0;
    for (int64_t y = 1; y <= h; y++) sums[y * wide] = 0;
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0, row = 0; x < w; x++) {
            row += plane[y * w + x] > 0.0f;
            sums[(y + 1) * wide + x + 1] = sums[y * wide + x + 1] + (int32_t)row;
        }
}

static size_t sums_count(const tensor *target) { return (size_t)((target->shape.h + 1) * (target->shape.w + 1)); }

/* What holds more lesion than this is not background, however badly it fits one lesion's box: diffuse disease is one
 * ragged region, and next to no box meets it. */
static int is_background(const int32_t *sums, tensor_shape shape, box b)
{
    b = box_clip(b, (float)shape.h, (float)shape.w);
    int64_t y0 = (int64_t)b.y0, x0 = (int64_t)b.x0, y1 = (int64_t)ceilf(b.y1), x1 = (int64_t)ceilf(b.x1),
            wide = shape.w + 1;
    int32_t ill = sums[y1 * wide + x1] - sums[y0 * wide + x1] - sums[y1 * wide + x0] + sums[y0 * wide + x0];
    return (float)ill <= BACKGROUND * (float)((y1 - y0) * (x1 - x0));
}

/* ---- anchors for the RPN's losses */

typedef struct matching {
    float *iou, *row;         /* of each anchor with the best lesion; with one lesion */
    int32_t *which;           /* the best lesion */
    int32_t *positive, *negative;
    int64_t positives, negatives;
    box *truth;
    int32_t *sums;
} matching;

/* IoU of every anchor; each lesion's best anchors count as positive, however small their IoU is. */
static void match_anchors(const rcnn *r, int64_t m, tensor_shape shape, matching *t)
{
    box_match(r->anchor, r->total, t->truth, m, t->iou, t->which);
    for (int64_t k = 0; k < m; k++) {
        float best = 0.0f;
        int32_t most = 0; /* of the numbers' bits, whose order is theirs, as none is below 0: every compiler has vectors for it */
        box_iou_row(r->anchor, r->total, t->truth[k], t->row);
#pragma omp simd reduction(max : most)
        for (int64_t a = 0; a < r->total; a++) {
            int32_t bits;
            memcpy(&bits, t->row + a, sizeof bits);
            most = bits > most ? bits : most;
        }
        memcpy(&best, &most, sizeof best);
        for (int64_t a = 0; best > 0.0f && a < r->total; a++) {
            if (t->row[a] < best) continue;
            t->which[a] = (int32_t)k;
            t->iou[a] = 1.0f;
        }
    }
    t->positives = t->negatives = 0;
    for (int64_t a = 0; a < r->total; a++) {
        if (m > 0 && t->iou[a] >= RPN_POSITIVE) t->positive[t->positives++] = (int32_t)a;
        else if (m == 0 || (t->iou[a] < RPN_NEGATIVE && is_background(t->sums, shape, r->anchor[a])))
            t->negative[t->negatives++] = (int32_t)a;
    }
}

static void anchor_targets(const rcnn *r, const matching *t, int64_t i, tensor *y)
{
    float *target = (float *)y[0].data + i * r->total, *weight = (float *)y[1].data + i * r->total;
    float *delta = (float *)y[2].data + 4 * i * r->total, *delta_weight = (float *)y[3].data + 4 * i * r->total;
    for (int64_t k = 0; k < t->positives; k++) {
        int64_t a = t->positive[k];
        target[a] = weight[a] = 1.0f;
        box_encode(r->anchor[a], t->truth[t->which[a]], rcnn_rpn_weight, delta + 4 * a);
        for (int c = 0; c < 4; c++) delta_weight[4 * a + c] = 1.0f;
    }
    for (int64_t k = 0; k < t->negatives; k++) weight[t->negative[k]] = 1.0f;
}

static void anchors_of_image(const rcnn *r, const tensor *x, int64_t i, matching *t, tensor *y)
{
    rng g = stream_of(r, &x[0], &x[1], i, 1);
    lesion_sums(&x[2], i, t->sums);
    match_anchors(r, truth_of(&x[1], i, t->truth), x[2].shape, t);
    t->positives = draw(&g, t->positive, t->positives, r->o.anchors / 2);
    t->negatives = draw(&g, t->negative, t->negatives, r->o.anchors - t->positives);
    anchor_targets(r, t, i, y);
}

/* 0: no memory. */
static int matching_new(const rcnn *r, const tensor *x, matching *t)
{
    size_t n = (size_t)r->total;
    *t = (matching){.iou = malloc(n * sizeof *t->iou),
                    .row = malloc(n * sizeof *t->row),
                    .which = malloc(n * sizeof *t->which),
                    .positive = malloc(n * sizeof *t->positive),
                    .negative = malloc(n * sizeof *t->negative),
                    .truth = malloc((size_t)x[1].shape.h * sizeof *t->truth),
                    .sums = malloc(sums_count(&x[2]) * sizeof *t->sums)};
    return t->iou && t->row && t->which && t->positive && t->negative && t->truth && t->sums;
}

static void matching_free(matching *t)
{
    free(t->iou);
    free(t->row);
    free(t->which);
    free(t->positive);
    free(t->negative);
    free(t->truth);
    free(t->sums);
}

/* So many threads have something to do. */
static int threads_for(const rcnn *r, int64_t images) { return images < r->threads ? (int)images : r->threads; }

status rcnn_anchor_step(void *ctx, const tensor *x, int nx, tensor *y, int ny)
{
    const rcnn *r = ctx;
    int64_t images = x[0].shape.n;
    int failed = 0;
    (void)nx, (void)ny;
#pragma omp parallel num_threads(threads_for(r, images)) reduction(| : failed)
    {
        matching t;
        int ready = matching_new(r, x, &t);
        failed |= !ready;
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < images; i++)
            if (ready) anchors_of_image(r, x, i, &t, y);
        matching_free(&t);
    }
    return failed ? no_memory("targets of anchors") : COV_OK;
}

/* ---- regions for the branches */

static box jittered(rng *g, box b)
{
    float h = b.y1 - b.y0, w = b.x1 - b.x0;
    float y = 0.5f * (b.y0 + b.y1) + h * rng_range(g, -0.25f, 0.25f),
          x = 0.5f * (b.x0 + b.x1) + w * rng_range(g, -0.25f, 0.25f);
    h *= expf(rng_range(g, -0.35f, 0.35f));
    w *= expf(rng_range(g, -0.35f, 0.35f));
    return (box){y - 0.5f * h, x - 0.5f * w, y + 0.5f * h, x + 0.5f * w};
}

typedef struct sampling {
    box *truth, *region;       /* lesions; proposals, lesions and their jittered copies */
    float *iou;
    int32_t *which, *list, *negative; /* list: lesions, then background, drawn */
    int64_t truths, regions, positives, count; /* of list: lesions, all */
    int32_t *sums;
} sampling;

static void gather_regions(const rcnn *r, rng *g, const tensor *proposals, int64_t i, sampling *s)
{
    const box *from = (const box *)proposals->data + i * proposals->shape.h;
    s->regions = 0;
    for (int64_t k = 0; k < proposals->shape.h; k++)
        if (box_area(from[k]) > 0.0f) s->region[s->regions++] = from[k];
    for (int64_t k = 0; k < s->truths; k++) {
        s->region[s->regions++] = s->truth[k];
        for (int j = 0; j < JITTERED; j++)
            s->region[s->regions++] = box_clip(jittered(g, s->truth[k]), (float)r->rows, (float)r->cols);
    }
    box_match(s->region, s->regions, s->truth, s->truths, s->iou, s->which);
}

/* Image i's rows of what the box branch sees. */
static void box_targets(const rcnn *r, const sampling *s, int64_t i, tensor *y)
{
    int64_t first = i * r->o.regions;
    box *roi = (box *)y[0].data + first;
    int32_t *label = (int32_t *)y[1].data + first;
    float *delta = (float *)y[2].data + 4 * first, *weight = (float *)y[3].data + 4 * first;
    for (int64_t k = 0; k < r->o.regions; k++) {
        label[k] = k < s->positives ? 1 : k < s->count ? 0 : -1;
        if (k >= s->count) continue;
        roi[k] = s->region[s->list[k]];
        if (k >= s->positives) continue;
        box_encode(roi[k], s->truth[s->which[s->list[k]]], rcnn_box_weight, delta + 4 * k);
        for (int c = 0; c < 4; c++) weight[4 * k + c] = 1.0f;
    }
}

static void mask_targets(const rcnn *r, const sampling *s, const tensor *target, int64_t i, tensor *y)
{
    tensor_shape shape = target->shape;
    int64_t bins = (int64_t)r->o.mask_size * r->o.mask_size, first = i * r->o.masks;
    const float *plane = (const float *)target->data + i * shape.h * shape.w;
    box *roi = (box *)y[4].data + first;
    int64_t loop = s->positives > 0 ? s->positives : s->count; /* places that are left show regions again, without weight */
    for (int64_t k = 0; k < r->o.masks && loop > 0; k++) {
        float *mask = (float *)y[5].data + (first + k) * bins, *weight = (float *)y[6].data + (first + k) * bins;
        roi[k] = s->region[s->list[k % loop]];
        if (k >= s->positives) continue;
        box_crop_mask(plane, shape.h, shape.w, roi[k], r->o.mask_size, mask);
        for (int64_t b = 0; b < bins; b++) weight[b] = 1.0f;
    }
}

static void sample_image(const rcnn *r, const tensor *x, int64_t i, sampling *s, tensor *y)
{
    rng g = stream_of(r, &x[1], &x[2], i, 2);
    int64_t positives = 0, negatives = 0;
    lesion_sums(&x[3], i, s->sums);
    s->truths = truth_of(&x[2], i, s->truth);
    gather_regions(r, &g, &x[0], i, s);
    for (int64_t k = 0; k < s->regions; k++) {
        if (s->truths > 0 && s->iou[k] >= REGION_POSITIVE) s->list[positives++] = (int32_t)k;
        else if (is_background(s->sums, x[3].shape, s->region[k])) s->negative[negatives++] = (int32_t)k;
    }
    s->positives = draw(&g, s->list, positives, r->o.regions / 4);
    negatives = draw(&g, s->negative, negatives, r->o.regions - s->positives);
    memcpy(s->list + s->positives, s->negative, (size_t)negatives * sizeof *s->negative);
    s->count = s->positives + negatives;
    box_targets(r, s, i, y);
    mask_targets(r, s, &x[3], i, y);
}

/* 0: no memory. */
static int sampling_new(const tensor *x, sampling *s)
{
    size_t truths = (size_t)x[2].shape.h, n = (size_t)x[0].shape.h + (JITTERED + 1) * truths;
    *s = (sampling){.truth = malloc(truths * sizeof *s->truth),
                    .region = malloc(n * sizeof *s->region),
                    .iou = malloc(n * sizeof *s->iou),
                    .which = malloc(n * sizeof *s->which),
                    .list = malloc(2 * n * sizeof *s->list),
                    .negative = malloc(n * sizeof *s->negative),
                    .sums = malloc(sums_count(&x[3]) * sizeof *s->sums)};
    return s->truth && s->region && s->iou && s->which && s->list && s->negative && s->sums;
}

static void sampling_free(sampling *s)
{
    free(s->truth);
    free(s->region);
    free(s->iou);
    free(s->which);
    free(s->list);
    free(s->negative);
    free(s->sums);
}

status rcnn_region_step(void *ctx, const tensor *x, int nx, tensor *y, int ny)
{
    const rcnn *r = ctx;
    int64_t images = x[0].shape.n;
    int failed = 0;
    (void)nx, (void)ny;
#pragma omp parallel num_threads(threads_for(r, images)) reduction(| : failed)
    {
        sampling s;
        int ready = sampling_new(x, &s);
        failed |= !ready;
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < images; i++)
            if (ready) sample_image(r, x, i, &s, y);
        sampling_free(&s);
    }
    return failed ? no_memory("targets of regions") : COV_OK;
}
