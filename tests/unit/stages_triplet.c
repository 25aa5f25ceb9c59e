/* Claims of stages/triplet on small volumes. */
#include "kernels/backend.h"
#include "stages/triplet.h"
#include "stages/window.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { N = 512 };

static float *cut(const plane_frame *f, const plane_slices *s, int threads)
{
    float *out = malloc((size_t)(f->rows * f->cols) * 3 * sizeof *out);
    const backend *b;
    device *d;
    assert_int_equal(backend_find("cpu", &b), COV_OK);
    assert_int_equal(b->open(&(device_options){.threads = threads}, &d), COV_OK);
    assert_int_equal(b->plane_stack(d, f, window_range(window_lung()), s, out), COV_OK);
    b->close(&d);
    return out;
}

static int16_t *slice_of(int64_t ny, int64_t nx, int16_t base)
{
    int16_t *hu = malloc((size_t)(ny * nx) * sizeof *hu);
    for (int64_t i = 0; i < ny * nx; i++) hu[i] = (int16_t)(base + i % nx + 2 * (i / nx) % 50);
    return hu;
}

static void the_key_slice_is_in_the_middle_and_what_is_missing_is_zero(void **state)
{
    (void)state;
    int16_t *hu = slice_of(N, N, -800);
    plane_frame f = triplet_whole(N, N, N, N);
    float *edge = cut(&f, &(plane_slices){{NULL, hu, hu}, {NULL, NULL, NULL}}, 2);
    float *alone = cut(&f, &(plane_slices){{NULL, hu, NULL}, {NULL, NULL, NULL}}, 1);
    for (int64_t i = 0; i < N * N; i += 37) {
        float v = window_one(window_lung(), hu[i]);
        assert_true(edge[3 * i] == 0.0f && fabsf(edge[3 * i + 1] - v) < 1e-6f && edge[3 * i + 2] == edge[3 * i + 1]);
        assert_true(alone[3 * i] == 0.0f && alone[3 * i + 1] == edge[3 * i + 1] && alone[3 * i + 2] == 0.0f);
    }
    free(hu);
    free(edge);
    free(alone);
}

static void outside_the_lung_and_three_pixels_around_it_there_is_nothing(void **state)
{
    (void)state;
    uint8_t *lung = calloc(N * N, 1), *roi = malloc(N * N);
    int16_t *hu = slice_of(N, N, -500);
    lung[100 * N + 200] = 2;
    lung[0] = 1;
    triplet_roi(lung, N, N, roi);
    int64_t count = 0;
    for (int64_t y = 0; y < N; y++)
        for (int64_t x = 0; x < N; x++) {
            int64_t dy = y - 100, dx = x - 200, near = dy * dy + dx * dx <= 9 || y * y + x * x <= 9;
            assert_int_equal(roi[y * N + x], near);
            count += near;
        }
    assert_true(count > 29);
    plane_frame f = triplet_whole(N, N, N, N);
    float *out = cut(&f, &(plane_slices){{hu, hu, hu}, {roi, roi, NULL}}, 2);
    for (int64_t i = 0; i < N * N; i++) {
        assert_int_equal(out[3 * i] > 0.0f, roi[i]);
        assert_true(out[3 * i + 2] > 0.0f);
    }
    free(lung);
    free(roi);
    free(hu);
    free(out);
}

static void a_roi_is_the_union_of_discs_around_its_pixels(void **state)
{
    (void)state;
    enum { H = 256, W = 1024 }; /* the margin is an ellipse of 1.5 x 6 pixels */
    uint8_t *lung = calloc(H * W, 1), *roi = malloc(H * W), *slow = calloc(H * W, 1);
    uint32_t dice = 7;
    for (int k = 0; k < 300; k++) {
        dice = dice * 1664525u + 1013904223u;
        lung[(dice >> 8) % (H * W)] = 1;
    }
    for (int64_t i = 0; i < H * W; i++)
        for (int64_t dy = -1; lung[i] && dy <= 1; dy++)
            for (int64_t dx = -6; dx <= 6; dx++) {
                int64_t y = i / W + dy, x = i % W + dx;
                if (y < 0 || x < 0 || y >= H || x >= W) continue;
                if ((double)(dy * dy) / 2.25 + (double)(dx * dx) / 36.0 <= 1.0 + 1e-12) slow[y * W + x] = 1;
            }
    triplet_roi(lung, H, W, roi);
    assert_memory_equal(roi, slow, H * W);
    free(lung);
    free(roi);
    free(slow);
}

static void the_window_holds_all_lung_with_room_and_shows_the_same_pixels(void **state)
{
    (void)state;
    uint8_t *lung = calloc(2 * N * N, 1);
    int16_t *hu = slice_of(N, N, -900);
    lung[130 * N + 90] = 1;
    lung[N * N + 340 * N + 411] = 1;
    plane_frame f = triplet_around(lung, 2, N, N), all = triplet_whole(N, N, N, N),
                  none = triplet_around(NULL, 2, N, N);
    assert_true(f.y0 == 96 && f.y0 + f.rows == 384 && f.x0 == 64 && f.x0 + f.cols == 448);
    assert_true(none.rows == N && none.cols == N && none.y0 == 0 && none.x0 == 0);
    memset(lung, 0, 2 * N * N);
    none = triplet_around(lung, 2, N, N);
    assert_true(none.rows == N && none.cols == N);
    plane_slices s = {{hu, hu, hu}, {NULL, NULL, NULL}};
    float *part = cut(&f, &s, 1), *whole = cut(&all, &s, 2);
    for (int64_t r = 0; r < f.rows; r++)
        assert_memory_equal(part + r * f.cols * 3, whole + ((f.y0 + r) * N + f.x0) * 3,
                            (size_t)f.cols * 3 * sizeof *part);
    free(lung);
    free(hu);
    free(part);
    free(whole);
}

static void boxes_go_to_the_input_and_back(void **state)
{
    (void)state;
    plane_frame f = {
        .ny = 630, .nx = 400, .height = 512, .width = 512, .y0 = 32, .x0 = -64, .rows = 320, .cols = 352};
    box b = {10.5f, 20, 300, 111.25f}, in = triplet_box_to_input(&f, b), back = triplet_box_to_slice(&f, in);
    assert_true(fabsf(in.y0 - (10.5f * 512 / 630 - 32)) < 1e-3f && fabsf(in.x1 - (111.25f * 512 / 400 + 64)) < 1e-3f);
    assert_true(fabsf(back.y0 - b.y0) < 1e-3f && fabsf(back.x0 - b.x0) < 1e-3f && fabsf(back.y1 - b.y1) < 1e-3f &&
                fabsf(back.x1 - b.x1) < 1e-3f);
}

static void a_mask_lies_where_its_pixel_is_shown(void **state)
{
    (void)state;
    enum { H = 400, W = 300 };
    uint8_t *mask = calloc(H * W, 1);
    plane_frame f = {.ny = H, .nx = W, .height = 512, .width = 512, .y0 = 64, .x0 = 96, .rows = 320, .cols = 288};
    float *plane = malloc((size_t)(f.rows * f.cols) * sizeof *plane);
    mask[200 * W + 150] = 1;
    triplet_mask(&f, mask, plane);
    int64_t first = -1, count = 0;
    for (int64_t i = 0; i < f.rows * f.cols; i++) {
        if (plane[i] != 1.0f) continue;
        first = first < 0 ? i : first;
        count++;
    }
    assert_true(count >= 1 && count <= 4);
    box at = triplet_box_to_slice(&f, (box){(float)(first / f.cols) + 0.5f, (float)(first % f.cols) + 0.5f, 0, 0});
    assert_true((int)at.y0 == 200 && (int)at.x0 == 150);
    free(mask);
    free(plane);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_key_slice_is_in_the_middle_and_what_is_missing_is_zero),
        cmocka_unit_test(outside_the_lung_and_three_pixels_around_it_there_is_nothing),
        cmocka_unit_test(a_roi_is_the_union_of_discs_around_its_pixels),
        cmocka_unit_test(the_window_holds_all_lung_with_room_and_shows_the_same_pixels),
        cmocka_unit_test(boxes_go_to_the_input_and_back),
        cmocka_unit_test(a_mask_lies_where_its_pixel_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
