/* Claims of kernels/regions on masks whose components can be counted by eye. */
#include "kernels/regions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static void diagonal_neighbours_are_one_region_with_its_minimum_rectangle(void **state)
{
    (void)state;
    static const char *const picture[6] = {
        "#......#",
        ".#.....#",
        "..#.....",
        "........",
        "....##..",
        "#....#..",
    };
    uint8_t mask[48];
    int32_t labels[48];
    region *r;
    int64_t n;
    for (int i = 0; i < 48; i++) mask[i] = picture[i / 8][i % 8] == '#' ? 200 : 0;
    assert_int_equal(regions_find(mask, 6, 8, labels, &r, &n), COV_OK);
    assert_int_equal(n, 4);
    const region expected[4] = {{0, 0, 3, 3, 3}, {0, 7, 2, 8, 2}, {4, 4, 6, 6, 3}, {5, 0, 6, 1, 1}};
    assert_memory_equal(r, expected, sizeof expected);
    assert_int_equal(labels[2 * 8 + 2], 1);
    assert_int_equal(labels[1 * 8 + 7], 2);
    assert_int_equal(labels[5 * 8 + 5], 3);
    assert_int_equal(labels[5 * 8], 4);
    assert_int_equal(labels[3 * 8 + 3], 0);
    free(r);
}

static void a_ring_and_what_is_inside_it_are_two_regions(void **state)
{
    (void)state;
    uint8_t mask[81];
    int32_t labels[81];
    region *r;
    int64_t n;
    for (int i = 0; i < 81; i++) {
        int y = abs(i / 9 - 4), x = abs(i % 9 - 4), d = y > x ? y : x;
        mask[i] = d == 4 || d < 2;
    }
    assert_int_equal(regions_find(mask, 9, 9, labels, &r, &n), COV_OK);
    assert_int_equal(n, 2);
    assert_int_equal(r[0].area, 32);
    assert_int_equal(r[1].area, 9);
    free(r);
}

static void a_whole_slice_is_one_region_and_an_empty_one_has_none(void **state)
{
    (void)state;
    enum { N = 256 };
    uint8_t *mask = malloc(N * N);
    int32_t *labels = malloc(N * N * sizeof *labels);
    region *r;
    int64_t n;
    assert_true(mask && labels);
    memset(mask, 1, N * N);
    assert_int_equal(regions_find(mask, N, N, labels, &r, &n), COV_OK);
    assert_int_equal(n, 1);
    assert_int_equal(r[0].area, N * N);
    free(r);
    memset(mask, 0, N * N);
    assert_int_equal(regions_find(mask, N, N, labels, &r, &n), COV_OK);
    assert_int_equal(n, 0);
    assert_null(r);
    free(mask);
    free(labels);
}

static void a_slice_without_pixels_or_of_too_many_is_refused(void **state)
{
    (void)state;
    region *r;
    int64_t n;
    assert_int_equal(regions_find(NULL, 0, 5, NULL, &r, &n), COV_BROKEN);
    assert_int_equal(regions_find(NULL, 1 << 16, 1 << 15, NULL, &r, &n), COV_BROKEN);
    assert_null(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(diagonal_neighbours_are_one_region_with_its_minimum_rectangle),
        cmocka_unit_test(a_ring_and_what_is_inside_it_are_two_regions),
        cmocka_unit_test(a_whole_slice_is_one_region_and_an_empty_one_has_none),
        cmocka_unit_test(a_slice_without_pixels_or_of_too_many_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
