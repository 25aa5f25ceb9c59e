/* The canonical grid: orientation, exact copies there and back, statistics, and what passes for a CT. */
#include "data/reader.h"
#include "data/volume.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A grid whose stored axis axis[c] is canonical axis c, reversed if flip[c]; sizes 35 x 41 x 3, larger than a copy's
 * tile. */
static volume_header make(const int8_t axis[3], const int8_t flip[3])
{
    static const int64_t size[3] = {35, 41, 3};
    volume_header h = {.nx = size[0], .ny = size[1], .nz = size[2]};
    for (int c = 0; c < 3; c++) {
        h.native.axis[c] = axis[c];
        h.native.flip[c] = flip[c];
        h.native.size[axis[c]] = size[c];
    }
    return h;
}

/* Where canonical (x, y, z) is stored, computed the slow way. */
static int64_t stored_at(const volume_header *h, int64_t x, int64_t y, int64_t z)
{
    const int64_t at[3] = {x, y, z}, size[3] = {h->nx, h->ny, h->nz};
    int64_t ijk[3];
    for (int c = 0; c < 3; c++) ijk[h->native.axis[c]] = h->native.flip[c] ? size[c] - 1 - at[c] : at[c];
    return (ijk[2] * h->native.size[1] + ijk[1]) * h->native.size[0] + ijk[0];
}

#define CHECK_COPIES(T, bytes)                                                                                         \
    do {                                                                                                               \
        for (int64_t i = 0; i < count; i++) ((T *)native)[i] = (T)(i * 7 + 3);                                         \
        memset(canonical, 0xEE, (size_t)count * sizeof(T));                                                            \
        volume_from_native(&h, native, canonical, bytes);                                                              \
        for (int64_t z = 0, i = 0; z < h.nz; z++)                                                                      \
            for (int64_t y = 0; y < h.ny; y++)                                                                         \
                for (int64_t x = 0; x < h.nx; x++, i++)                                                                \
                    assert_int_equal(((T *)canonical)[i], ((T *)native)[stored_at(&h, x, y, z)]);                      \
        volume_to_native(&h, canonical, back, bytes);                                                                  \
        assert_memory_equal(back, native, (size_t)count * sizeof(T));                                                  \
    } while (0)

static void copies_to_canonical_order_and_back_are_exact_for_all_48_orders(void **state)
{
    static const int8_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    (void)state;
    int64_t count = 35 * 41 * 3;
    void *native = malloc((size_t)count * 4), *canonical = malloc((size_t)count * 4), *back = malloc((size_t)count * 4);
    for (int k = 0; k < 48; k++) {
        const int8_t flip[3] = {(int8_t)(k & 1), (int8_t)(k >> 1 & 1), (int8_t)(k >> 2 & 1)};
        volume_header h = make(orders[k / 8], flip);
        CHECK_COPIES(uint8_t, 1);
        CHECK_COPIES(uint16_t, 2);
        CHECK_COPIES(uint32_t, 4);
    }
    free(native);
    free(canonical);
    free(back);
}

static void slabs_in_any_order_give_the_same_as_the_whole(void **state)
{
    (void)state;
    const int8_t axis[3] = {2, 0, 1}, flip[3] = {1, 0, 1};
    volume_header h = make(axis, flip);
    size_t count = 35 * 41 * 3, slice = (size_t)(h.native.size[0] * h.native.size[1]);
    uint16_t *native = malloc(count * 2), *whole = malloc(count * 2), *slabs = malloc(count * 2);
    for (size_t i = 0; i < count; i++) native[i] = (uint16_t)(i * 13);
    volume_from_native(&h, native, whole, 2);
    for (int64_t k = h.native.size[2]; k > 0; k -= 4) {
        int64_t first = k > 4 ? k - 4 : 0;
        volume_put_slab(&h, first, k, native + (size_t)first * slice, slabs, 2);
    }
    assert_memory_equal(whole, slabs, count * 2);
    free(native);
    free(whole);
    free(slabs);
}

static void axes_of_one_voxel_are_copied(void **state)
{
    (void)state;
    volume_header h = {.nx = 1, .ny = 5, .nz = 1, .native = {.size = {1, 1, 5}, .axis = {0, 2, 1}, .flip = {1, 1, 0}}};
    uint8_t native[5] = {1, 2, 3, 4, 5}, canonical[5], back[5];
    volume_from_native(&h, native, canonical, 1);
    assert_memory_equal(canonical, ((uint8_t[]){5, 4, 3, 2, 1}), 5);
    volume_to_native(&h, canonical, back, 1);
    assert_memory_equal(back, native, 5);
}

static volume_header orient(const double m[4][4], status expected, reason *why)
{
    volume_header h = {.native = {.size = {10, 20, 30}}};
    *why = REASON_NONE;
    assert_int_equal(volume_orient(m, &h, why), expected);
    return h;
}

static void canonical_axes_run_to_left_posterior_and_superior(void **state)
{
    (void)state;
    reason why;
    /* stored: i to superior 3 mm, j to right 1 mm, k to anterior 2 mm */
    const double m[4][4] = {{0, 1, 0, -5}, {0, 0, 2, -6}, {3, 0, 0, -7}, {0, 0, 0, 1}};
    volume_header h = orient(m, COV_OK, &why);
    assert_memory_equal(h.native.axis, ((int8_t[]){1, 2, 0}), 3);
    assert_memory_equal(h.native.flip, ((int8_t[]){1, 1, 0}), 3);
    assert_int_equal(h.nx, 20);
    assert_int_equal(h.ny, 30);
    assert_int_equal(h.nz, 10);
    const double expected[4][4] = {{-1, 0, 0, -5 + 19}, {0, -2, 0, -6 + 58}, {0, 0, 3, -7}, {0, 0, 0, 1}};
    assert_memory_equal(h.affine, expected, sizeof expected);
    assert_true(h.spacing_mm[0] == 1 && h.spacing_mm[1] == 2 && h.spacing_mm[2] == 3);
}

static void an_oblique_volume_keeps_its_angles_and_gets_the_nearest_axes(void **state)
{
    (void)state;
    reason why;
    const double a = 0.6; /* 34 degrees around S */
    const double m[4][4] = {{cos(a), -sin(a), 0, 0}, {sin(a), cos(a), 0, 0}, {0, 0, 5, 0}, {0, 0, 0, 1}};
    volume_header h = orient(m, COV_OK, &why);
    assert_memory_equal(h.native.axis, ((int8_t[]){0, 1, 2}), 3);
    assert_true(fabs(h.affine[1][0] + sin(a)) < 1e-12);
    assert_true(fabs(h.spacing_mm[0] - 1) < 1e-12);
}

static void a_singular_or_implausible_affine_is_a_geometry_error(void **state)
{
    (void)state;
    const double bad[][4][4] = {
        {{0}},
        {{1, 1, 0, 0}, {1, 1, 0, 0}, {0, 0, 1, 0}},
        {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 0.001, 0}},
        {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 101, 0}},
        {{1, 0, 0, (double)NAN}, {0, 1, 0, 0}, {0, 0, 1, 0}},
        {{(double)INFINITY, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        reason why;
        orient(bad[i], COV_FORMAT, &why);
        assert_int_equal(why, REASON_GEOMETRY);
    }
}

/* ---- statistics ---- */

static void statistics_match_a_count_by_hand(void **state)
{
    (void)state;
    const int16_t hu[] = {-1000, -1000, -900, -899, -200, -199, 0, 199, 200, 3000, INT16_MIN};
    const double n = sizeof hu / sizeof hu[0];
    volume_histogram *g;
    volume_stats s;
    assert_int_equal(volume_histogram_new(&g), COV_OK);
    volume_histogram_stats(g, &s);
    assert_int_equal(s.distinct, 0);
    volume_histogram_add(g, hu, 3);
    volume_histogram_add(g, hu + 3, (size_t)n - 3);
    volume_histogram_stats(g, &s);
    assert_int_equal(s.lowest, INT16_MIN);
    assert_int_equal(s.highest, 3000);
    assert_int_equal(s.distinct, 10);
    assert_true(s.share_air == 4 / n);
    assert_true(s.share_soft == 3 / n);
    assert_true(s.share_lowest == 1 / n && s.share_highest == 1 / n);
    volume_histogram_free(&g);
    assert_null(g);
}

static reason verdict(volume_stats s)
{
    reason why = REASON_INTERNAL;
    status result = reader_check_ct("x", &(volume_header){0}, &s, &why);
    assert_int_equal(result == COV_OK, why == REASON_NONE);
    return why;
}

static void only_values_that_can_be_hounsfield_units_pass_for_a_ct(void **state)
{
    (void)state;
    const volume_stats ct = {.lowest = -1024, .highest = 1500, .share_air = 0.5, .share_soft = 0.3, .distinct = 2500};
    volume_stats s = ct;
    assert_int_equal(verdict(s), REASON_NONE);
    s = (volume_stats){.lowest = -1356,
                       .highest = 148,
                       .share_air = 0.5,
                       .share_soft = 0.37,
                       .distinct = 377}; /* from an 8-bit window */
    assert_int_equal(verdict(s), REASON_NONE);
    s = (volume_stats){.lowest = -1064,
                       .highest = 3343,
                       .share_air = 0.015,
                       .share_soft = 0.4,
                       .distinct = 3000}; /* inside the body */
    assert_int_equal(verdict(s), REASON_NONE);
    s = (volume_stats){.lowest = 0, .highest = 1, .share_soft = 1, .distinct = 2}; /* a mask */
    assert_int_equal(verdict(s), REASON_NOT_CT);
    s = (volume_stats){.lowest = 0, .highest = 255, .share_soft = 0.9, .distinct = 256}; /* a windowed image */
    assert_int_equal(verdict(s), REASON_NOT_CT);
    s = (volume_stats){.lowest = 0, .highest = 3000, .share_soft = 0.2, .distinct = 2500}; /* an MR, or HU + 1024 */
    assert_int_equal(verdict(s), REASON_NOT_CT);
    s = (volume_stats){
        .lowest = -610, .highest = 30393, .share_soft = 0.1, .distinct = 9000}; /* an MR with negative values */
    assert_int_equal(verdict(s), REASON_NOT_CT);
    s = ct;
    s.share_soft = 0;
    assert_int_equal(verdict(s), REASON_NOT_CT);
    s = ct;
    s.share_air = 0;
    assert_int_equal(verdict(s), REASON_NOT_CT);
}

static void a_volume_above_the_callers_limit_is_too_large(void **state)
{
    (void)state;
    const volume_header h = {.nx = 512, .ny = 512, .nz = 100};
    reason why = REASON_NONE;
    assert_int_equal(reader_check_size("x", &h, 512 * 512 * 100 * 2, &why), COV_OK);
    assert_int_equal(reader_check_size("x", &h, 512 * 512 * 100 * 2 - 1, &why), COV_FORMAT);
    assert_int_equal(why, REASON_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_to_canonical_order_and_back_are_exact_for_all_48_orders),
        cmocka_unit_test(slabs_in_any_order_give_the_same_as_the_whole),
        cmocka_unit_test(axes_of_one_voxel_are_copied),
        cmocka_unit_test(canonical_axes_run_to_left_posterior_and_superior),
        cmocka_unit_test(an_oblique_volume_keeps_its_angles_and_gets_the_nearest_axes),
        cmocka_unit_test(a_singular_or_implausible_affine_is_a_geometry_error),
        cmocka_unit_test(statistics_match_a_count_by_hand),
        cmocka_unit_test(only_values_that_can_be_hounsfield_units_pass_for_a_ct),
        cmocka_unit_test(a_volume_above_the_callers_limit_is_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
