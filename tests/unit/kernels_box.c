/* Boxes by hand, and by what must hold for any: coding and decoding undo each other, suppression is its definition,
 * a mask cut to a box and pasted back is the mask. Ties and NaN have cases of their own. */
#include "kernels/box.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t dice_state = 1;
static uint32_t dice(void) { return dice_state = dice_state * 1664525u + 1013904223u, dice_state >> 8; }
static float uniform(float low, float high) { return low + (high - low) * (float)dice() / 16777216.0f; }

static box random_box(float side, float most)
{
    float y = uniform(0, side), x = uniform(0, side);
    return (box){y, x, y + uniform(0.5f, most), x + uniform(0.5f, most)};
}

static void near(float a, float b, float room)
{
    if (!(fabsf(a - b) <= room)) fail_msg("%.8g is not %.8g", (double)a, (double)b);
}

static const float none = (float)NAN; /* no number */

static void overlap_is_intersection_over_union(void **state)
{
    (void)state;
    const box a = {0, 0, 2, 4};
    near(box_area(a), 8, 0);
    near(box_iou(a, a), 1, 0);
    near(box_iou(a, (box){1, 2, 3, 6}), 2.0f / 14, 1e-7f);
    near(box_iou(a, (box){0, 0, 1, 4}), 0.5f, 0);
    near(box_iou(a, (box){0, 4, 2, 8}), 0, 0); /* half-open: neighbours do not meet */
    near(box_iou(a, (box){1, 1, 1, 3}), 0, 0);
    near(box_iou((box){1, 1, 1, 1}, (box){1, 1, 1, 1}), 0, 0);
    for (int k = 0; k < 4; k++) {
        box b = a;
        ((float *)&b)[k] = none;
        near(box_area(b), 0, 0);
        near(box_iou(a, b), 0, 0);
        near(box_iou(b, a), 0, 0);
        near(box_area(box_clip(b, 9, 9)), 0, 0);
    }
    for (int k = 0; k < 1000; k++) {
        box p = random_box(20, 20), q = random_box(20, 20);
        float iou = box_iou(p, q);
        assert_true(iou >= 0 && iou <= 1 && iou == box_iou(q, p));
    }
}

static void a_clipped_box_lies_in_the_image(void **state)
{
    (void)state;
    box b = box_clip((box){-3, 2, 11, 20}, 10, 12);
    assert_true(b.y0 == 0 && b.x0 == 2 && b.y1 == 10 && b.x1 == 12);
    b = box_clip((box){-9, -9, -3, -2}, 10, 12);
    near(box_area(b), 0, 0);
}

static void deltas_are_those_of_the_formula(void **state)
{
    (void)state;
    float d[4];
    box_encode((box){0, 0, 10, 20}, (box){5, 10, 25, 20}, (float[]){10, 10, 5, 5}, d);
    near(d[0], 10, 1e-5f);                /* the centre moves from 5 to 15, one height */
    near(d[1], 10 * 5.0f / 20, 1e-5f);    /* from 10 to 15, a quarter of the width */
    near(d[2], 5 * logf(2), 1e-5f);
    near(d[3], 5 * logf(0.5f), 1e-5f);
}

static void decoding_undoes_encoding_and_encoding_decoding(void **state)
{
    const float weight[4] = {10, 10, 5, 5};
    (void)state;
    for (int k = 0; k < 2000; k++) {
        box a = random_box(500, 30), b = random_box(500, 30); /* ratios up to 60: no clamping */
        float d[4], e[4], f[4];
        box_encode(a, b, weight, d);
        box c = box_decode(a, d, weight);
        near(c.y0, b.y0, 1e-3f), near(c.x0, b.x0, 1e-3f), near(c.y1, b.y1, 1e-3f), near(c.x1, b.x1, 1e-3f);
        a = (box){100, 100, 140, 120};
        for (int i = 0; i < 4; i++) e[i] = uniform(-4, 4);
        box_encode(a, box_decode(a, e, weight), weight, f);
        for (int i = 0; i < 4; i++) near(f[i], e[i], 2e-3f);
    }
}

static void a_wild_delta_gives_a_bounded_box_and_nan_an_empty_one(void **state)
{
    const float one[4] = {1, 1, 1, 1};
    (void)state;
    box b = box_decode((box){0, 0, 16, 16}, (float[]){0, 0, 1000, INFINITY}, one);
    near(b.y1 - b.y0, 1000, 0.01f);
    near(b.x1 - b.x0, 1000, 0.01f);
    near(box_area(box_decode((box){0, 0, 16, 16}, (float[]){0, none, 0, 0}, one)), 0, 0);
}

static void anchors_are_centred_on_their_cells_and_keep_their_area(void **state)
{
    const box_anchors a = {.stride = 16, .sizes = 2, .ratios = 3, .size = {8, 32}, .ratio = {0.5f, 1, 2}};
    box at[3 * 5 * 6];
    (void)state;
    assert_int_equal(box_anchors_fill(&a, 3, 5, NULL), 90);
    assert_int_equal(box_anchors_fill(&a, 3, 5, at), 90);
    for (int i = 0; i < 90; i++) {
        int s = i / 3 % 2, r = i % 3, cell = i / 6;
        near((at[i].y0 + at[i].y1) / 2, 8 + 16 * (float)(cell / 5), 1e-4f);
        near((at[i].x0 + at[i].x1) / 2, 8 + 16 * (float)(cell % 5), 1e-4f);
        near(box_area(at[i]), a.size[s] * a.size[s], 1e-2f);
        near((at[i].y1 - at[i].y0) / (at[i].x1 - at[i].x0), a.ratio[r], 1e-4f);
    }
}

/* ---- the best k */
static const float *sorted_by;

static int by_score(const void *pa, const void *pb)
{
    int32_t a = *(const int32_t *)pa, b = *(const int32_t *)pb;
    float x = sorted_by[a], y = sorted_by[b];
    if (isnan(x) || isnan(y)) return isnan(x) && isnan(y) ? a - b : isnan(x) ? 1 : -1;
    return x > y ? -1 : x < y ? 1 : a - b;
}

static void the_best_k_are_the_head_of_a_stable_sort(void **state)
{
    enum { MOST = 700 };
    float score[MOST];
    int32_t all[MOST], best[MOST];
    (void)state;
    for (int turn = 0; turn < 200; turn++) {
        int n = 1 + (int)(dice() % MOST), kinds = 1 + (int)(dice() % 40); /* few kinds: many ties */
        for (int i = 0; i < n; i++) {
            score[i] = (float)(dice() % (uint32_t)kinds) - 3;
            if (dice() % 9 == 0) score[i] = dice() % 3 ? none : dice() % 2 ? INFINITY : -INFINITY;
            all[i] = i;
        }
        sorted_by = score;
        qsort(all, (size_t)n, sizeof *all, by_score);
        for (int k = 0; k <= n + 5; k += 1 + k / 3) {
            int64_t got = box_top_k(score, n, k, best);
            assert_int_equal(got, k < n ? k : n);
            assert_memory_equal(best, all, (size_t)got * sizeof *best);
        }
    }
    assert_int_equal(box_top_k(score, 0, 5, best), 0);
}

/* ---- suppression */
static void suppression_keeps_the_better_of_two_that_overlap(void **state)
{
    const box b[] = {{0, 0, 10, 10}, {0, 1, 10, 11}, {0, 20, 10, 30}, {0, 5, 10, 15}, {5, 5, 5, 9}, {0, none, 5, 9}};
    int32_t keep[6];
    (void)state;
    assert_int_equal(box_nms(b, (int32_t[]){1, 0, 2, 3}, 4, 0.5f, 6, keep), 3);
    assert_memory_equal(keep, ((int32_t[]){1, 2, 3}), 3 * sizeof(int32_t));
    assert_int_equal(box_nms(b, NULL, 4, 0.3f, 6, keep), 2); /* 3 meets 0 with a third */
    assert_memory_equal(keep, ((int32_t[]){0, 2}), 2 * sizeof(int32_t));
    assert_int_equal(box_nms(b, NULL, 4, 0.9f, 2, keep), 2); /* at most 2 */
    assert_int_equal(box_nms(b, NULL, 6, 0, 6, keep), 4);    /* what has no area overlaps nothing */
    const box half[] = {{0, 0, 2, 2}, {0, 0, 1, 2}};
    assert_int_equal(box_nms(half, NULL, 2, 0.5f, 2, keep), 2); /* IoU of exactly the threshold stays */
    assert_int_equal(box_nms(half, NULL, 0, 0.5f, 2, keep), 0);
}

/* In the words of its definition: box i lives if no living box before it overlaps it by more than the threshold. */
static void suppression_is_its_definition(void **state)
{
    enum { N = 300 };
    box b[N];
    int32_t order[N], keep[N];
    int alive[N];
    (void)state;
    for (int turn = 0; turn < 60; turn++) {
        float iou = uniform(0, 1), side = uniform(20, 200);
        float score[N];
        for (int i = 0; i < N; i++) b[i] = random_box(side, 40), score[i] = (float)(dice() % 50);
        box_top_k(score, N, N, order);
        int64_t kept = box_nms(b, order, N, iou, N, keep), at = 0;
        for (int i = 0; i < N; i++) {
            alive[i] = 1;
            for (int j = 0; j < i; j++) alive[i] &= !(alive[j] && box_iou(b[order[i]], b[order[j]]) > iou);
            if (alive[i]) assert_int_equal(keep[at++], order[i]);
        }
        assert_int_equal(kept, at);
    }
}

static void each_box_is_matched_to_the_true_one_it_overlaps_most(void **state)
{
    const box truth[] = {{0, 0, 10, 10}, {0, 10, 10, 20}, {0, 0, 10, 10}};
    const box b[] = {{0, 0, 10, 10}, {0, 8, 10, 18}, {50, 50, 60, 60}, {0, 5, 10, 15}, {none, 0, 10, 10}};
    float iou[5];
    int32_t best[5];
    (void)state;
    box_match(b, 5, truth, 3, iou, best);
    assert_memory_equal(best, ((int32_t[]){0, 1, -1, 0, -1}), sizeof best); /* ties: the lower index */
    near(iou[0], 1, 0);
    near(iou[1], 80.0f / 120, 1e-6f);
    near(iou[2], 0, 0);
    near(iou[3], 50.0f / 150, 1e-6f);
    box_match(b, 5, NULL, 0, iou, best);
    for (int i = 0; i < 5; i++) assert_true(iou[i] == 0 && best[i] == -1);
}

/* Odd ones among them, and more than are laid out at once. */
static void a_row_of_overlaps_has_the_bits_of_each_by_itself(void **state)
{
    enum { N = 200 };
    box b[N], odd[] = {{none, 0, 10, 10}, {5, 5, 5, 9}, {9, 9, 1, 1}, {0, 0, INFINITY, 10}, {0, 0, 10, none}, {-3, -3, 4, 4}};
    float iou[N], best[N];
    int32_t which[N];
    (void)state;
    for (int i = 0; i < N; i++) b[i] = i % 7 ? random_box(60, 40) : odd[i / 7 % 6];
    for (int k = 0; k < N; k++) {
        box_iou_row(b, N, b[k], iou);
        for (int i = 0; i < N; i++) {
            float each = box_iou(b[i], b[k]);
            assert_memory_equal(&iou[i], &each, sizeof each);
        }
    }
    box_match(b, N, b + 100, 50, best, which);
    for (int i = 0; i < N; i++) {
        int32_t first = -1;
        float most = 0;
        for (int j = 0; j < 50; j++)
            if (box_iou(b[i], b[100 + j]) > most) most = box_iou(b[i], b[100 + j]), first = j;
        assert_true(best[i] == most && which[i] == first);
    }
}

/* ---- masks */
static void a_cut_mask_says_which_bins_are_half_covered(void **state)
{
    const float image[4 * 6] = {0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    const float other[4 * 6] = {[9] = 1, [14] = 1, [15] = 1};
    float out[16];
    (void)state;
    box_crop_mask(image, 4, 6, (box){1, 1, 3, 3}, 2, out);
    assert_memory_equal(out, ((float[]){1, 1, 1, 0}), 4 * sizeof(float));
    box_crop_mask(image, 4, 6, (box){1, 1, 3, 3}, 4, out);
    assert_memory_equal(out, ((float[]){1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0}), 16 * sizeof(float));
    box_crop_mask(image, 4, 6, (box){1, 1, 3, 3}, 1, out); /* three quarters */
    assert_true(out[0] == 1);
    box_crop_mask(other, 4, 6, (box){1, 1, 3, 4}, 1, out); /* exactly a half of 6 */
    assert_true(out[0] == 1);
    box_crop_mask(other, 4, 6, (box){1, 1, 3, 4.2f}, 1, out); /* less than a half of 6.4 */
    assert_true(out[0] == 0);
    box_crop_mask(image, 4, 6, (box){2, 4, 6, 8}, 2, out); /* beyond the image there is nothing */
    assert_memory_equal(out, ((float[]){0, 0, 0, 0}), 4 * sizeof(float));
    box_crop_mask(image, 4, 6, (box){3, 5, 3, 6}, 2, out);
    assert_memory_equal(out, ((float[]){0, 0, 0, 0}), 4 * sizeof(float));
    box_crop_mask(image, 4, 6, (box){none, 0, 2, 6}, 2, out);
    assert_memory_equal(out, ((float[]){0, 0, 0, 0}), 4 * sizeof(float));
}

static void paste(const float *probability, int size, box b, int64_t y0, int64_t x0, int64_t y1, int64_t x1, float threshold, uint8_t *out)
{
    for (int64_t y = y0; y < y1; y++)
        for (int64_t x = x0; x < x1; x++) *out++ = box_pasted(probability, size, b, threshold, y, x);
}

static void a_pasted_mask_is_interpolated_between_bins_and_ends_with_its_box(void **state)
{
    const float half[4] = {1, 0, 1, 0};
    uint8_t out[48];
    (void)state;
    /* 8 columns: centres 0.5 .. 7.5, bins' centres at 2 and 6; one half in the middle, at 4. */
    paste(half, 2, (box){0, 0, 2, 8}, 0, 0, 1, 8, 0.5f, out);
    assert_memory_equal(out, ((uint8_t[]){1, 1, 1, 1, 0, 0, 0, 0}), 8);
    paste(half, 2, (box){0, 0, 2, 8}, 0, 0, 1, 8, 0.25f, out);
    assert_memory_equal(out, ((uint8_t[]){1, 1, 1, 1, 1, 0, 0, 0}), 8);
    paste((float[]){1}, 1, (box){1, 1.6f, 3, 4.4f}, 0, 0, 4, 6, 0.5f, out);
    assert_memory_equal(out, ((uint8_t[24]){[8] = 1, 1, [14] = 1, 1}), 24); /* centres 2.5 and 3.5 lie inside */
    paste((float[]){1}, 1, (box){1, 2, 1, 4}, 0, 0, 4, 6, 0, out);
    assert_memory_equal(out, ((uint8_t[24]){0}), 24);
    paste((float[]){none}, 1, (box){0, 0, 2, 2}, 0, 0, 2, 2, 0.5f, out);
    assert_memory_equal(out, ((uint8_t[4]){0}), 4);
}

/* A mask on whole pixels, cut at its box to at least as many bins as it has pixels, comes back as it was. */
static void a_mask_cut_and_pasted_is_the_mask(void **state)
{
    enum { H = 40, W = 50, SIZE = 32 };
    static float image[H * W];
    static float cut[SIZE * SIZE];
    static uint8_t back[H * W];
    (void)state;
    for (int turn = 0; turn < 50; turn++) {
        int h = 1 << dice() % 6, w = 1 << dice() % 6; /* bins divide pixels */
        int y0 = (int)(dice() % (uint32_t)(H - h + 1)), x0 = (int)(dice() % (uint32_t)(W - w + 1));
        int split = (int)(dice() % (uint32_t)h);
        memset(image, 0, sizeof image);
        for (int y = y0; y < y0 + h; y++)
            for (int x = x0; x < x0 + w; x++) image[y * W + x] = y - y0 <= split || x - x0 < w / 2;
        box b = {(float)y0, (float)x0, (float)(y0 + h), (float)(x0 + w)};
        box_crop_mask(image, H, W, b, SIZE, cut);
        paste(cut, SIZE, b, 0, 0, H, W, 0.5f, back);
        for (int i = 0; i < H * W; i++) assert_int_equal(back[i], image[i] == 1);
    }
}

static void a_box_inside_a_better_one_is_dropped_and_a_better_one_inside_stays(void **state)
{
    (void)state;
    const box b[] = {{0, 0, 10, 10}, {2, 2, 6, 6}, {6, 6, 14, 14}, {0, 0, 20, 20}, {30, 30, 30, 30}, {0, 3, 10, 13}};
    int32_t keep[] = {0, 1, 2, 3}, three[] = {1, 0, 3}, edge[] = {0, 5, 4}, none_of_it[] = {0, 5};
    assert_int_equal(box_drop_inside(b, 4, 0.7f, keep), 3); /* box 1 lies in 0; 3 holds others but lies in none */
    assert_memory_equal(keep, ((int32_t[]){0, 2, 3}), 3 * sizeof *keep);
    assert_int_equal(box_drop_inside(b, 3, 0.7f, three), 3);
    assert_int_equal(box_drop_inside(b, 3, 0.7f, edge), 3); /* box 5 shares 0.7 and no more; an empty one has nothing to share */
    assert_int_equal(box_drop_inside(b, 2, 0.6f, none_of_it), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlap_is_intersection_over_union),
        cmocka_unit_test(a_clipped_box_lies_in_the_image),
        cmocka_unit_test(deltas_are_those_of_the_formula),
        cmocka_unit_test(decoding_undoes_encoding_and_encoding_decoding),
        cmocka_unit_test(a_wild_delta_gives_a_bounded_box_and_nan_an_empty_one),
        cmocka_unit_test(anchors_are_centred_on_their_cells_and_keep_their_area),
        cmocka_unit_test(the_best_k_are_the_head_of_a_stable_sort),
        cmocka_unit_test(suppression_keeps_the_better_of_two_that_overlap),
        cmocka_unit_test(suppression_is_its_definition),
        cmocka_unit_test(each_box_is_matched_to_the_true_one_it_overlaps_most),
        cmocka_unit_test(a_row_of_overlaps_has_the_bits_of_each_by_itself),
        cmocka_unit_test(a_cut_mask_says_which_bins_are_half_covered),
        cmocka_unit_test(a_pasted_mask_is_interpolated_between_bins_and_ends_with_its_box),
        cmocka_unit_test(a_mask_cut_and_pasted_is_the_mask),
        cmocka_unit_test(a_box_inside_a_better_one_is_dropped_and_a_better_one_inside_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
