/* Claims of stages/lungpost on masks small enough to see: what is kept, filled, parted and how sides are named. */
#include "stages/lungpost.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

enum { NX = 40, NY = 30, NZ = 12 };
static uint8_t mask[NX * NY * NZ];

static void box(int x0, int x1, int y0, int y1, int z0, int z1, uint8_t v)
{
    for (int z = z0; z < z1; z++)
        for (int y = y0; y < y1; y++) memset(mask + (z * NY + y) * NX + x0, v, (size_t)(x1 - x0));
}
static uint8_t at(int x, int y, int z) { return mask[(z * NY + y) * NX + x]; }
static lungpost_report run(void)
{
    lungpost_report r;
    assert_int_equal(lungpost_run(mask, NX, NY, NZ, 1, &r), COV_OK);
    return r;
}
static void clear(void) { memset(mask, 0, sizeof mask); }

static void two_lungs_are_named_by_their_side_whichever_comes_first(void **state)
{
    (void)state;
    clear();
    box(4, 14, 10, 20, 2, 10, 1);
    box(24, 34, 5, 20, 2, 10, 1); /* starts earlier in memory */
    lungpost_report r = run();
    assert_int_equal(r.components, 2);
    assert_false(r.side_doubt);
    assert_int_equal(at(5, 12, 5), 1);
    assert_int_equal(at(30, 12, 5), 2);
    assert_int_equal(r.voxels, 10 * 10 * 8 + 10 * 15 * 8);
}

static void small_components_are_dropped_and_counted(void **state)
{
    (void)state;
    clear();
    box(4, 14, 5, 20, 2, 10, 1);
    box(24, 34, 5, 20, 2, 10, 1);
    box(18, 20, 25, 27, 3, 5, 1);
    lungpost_report r = run();
    assert_int_equal(r.removed, 8);
    assert_int_equal(at(18, 25, 3), 0);
}

static void components_that_touch_only_at_a_corner_are_two(void **state)
{
    (void)state;
    clear();
    box(4, 20, 5, 15, 2, 10, 1);
    box(20, 36, 15, 25, 2, 10, 1);
    assert_int_equal(run().components, 2);
}

static void enclosed_holes_are_filled_with_the_lung_around_them_and_open_ones_stay(void **state)
{
    (void)state;
    clear();
    box(2, 16, 5, 25, 1, 11, 1);
    box(24, 38, 5, 25, 1, 11, 1);
    box(28, 31, 10, 14, 4, 7, 0);  /* enclosed */
    box(6, 9, 10, 14, 4, NZ, 0);   /* open at the top */
    lungpost_report r = run();
    assert_int_equal(r.filled, 3 * 4 * 3);
    assert_int_equal(at(29, 11, 5), 2);
    assert_int_equal(at(7, 11, 5), 0);
}

static void lungs_joined_by_a_bridge_are_parted_at_the_bridge(void **state)
{
    (void)state;
    clear();
    box(3, 18, 5, 25, 1, 11, 1);
    box(22, 37, 5, 25, 1, 11, 1);
    box(18, 22, 8, 10, 4, 6, 1);
    lungpost_report r = run();
    assert_int_equal(r.components, 1);
    assert_false(r.side_doubt);
    assert_int_equal(at(4, 12, 5), 1);
    assert_int_equal(at(17, 20, 5), 1);
    assert_int_equal(at(22, 20, 5), 2);
    assert_int_equal(at(36, 12, 5), 2);
}

static void a_single_lung_keeps_its_side_and_raises_doubt(void **state)
{
    (void)state;
    clear();
    box(24, 36, 5, 25, 1, 11, 1);
    lungpost_report r = run();
    assert_true(r.side_doubt);
    assert_int_equal(at(30, 12, 5), 2);
}

static void an_empty_mask_stays_empty(void **state)
{
    (void)state;
    clear();
    lungpost_report r = run();
    assert_int_equal(r.components, 0);
    assert_int_equal(r.voxels, 0);
}

static void the_number_of_threads_changes_no_voxel_and_no_figure_of_joined_lungs(void **state)
{
    (void)state;
    static uint8_t alone[sizeof mask];
    lungpost_report first = {0};
    for (int threads = 1; threads <= 2 * NZ + 1; threads += 3) {
        lungpost_report r;
        unsigned seed = 7;
        clear();
        box(2, 37, 3, 27, 0, 11, 1);
        box(17, 21, 0, NY, 0, 11, 0);
        for (int k = 0; k < 900; k++) { /* bridges, holes and ragged edges */
            seed = seed * 1664525u + 1013904223u;
            mask[(seed >> 8) % sizeof mask] ^= 1;
        }
        box(15, 23, 8, 10, 4, 6, 1);
        assert_int_equal(lungpost_run(mask, NX, NY, NZ, threads, &r), COV_OK);
        if (threads == 1) { memcpy(alone, mask, sizeof mask); first = r; }
        assert_int_equal(first.components, 1);
        assert_memory_equal(mask, alone, sizeof mask);
        assert_int_equal(r.voxels, first.voxels);
        assert_int_equal(r.side_doubt, first.side_doubt);
    }
    assert_non_null(memchr(alone, 2, sizeof alone));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_lungs_are_named_by_their_side_whichever_comes_first),
        cmocka_unit_test(small_components_are_dropped_and_counted),
        cmocka_unit_test(components_that_touch_only_at_a_corner_are_two),
        cmocka_unit_test(enclosed_holes_are_filled_with_the_lung_around_them_and_open_ones_stay),
        cmocka_unit_test(lungs_joined_by_a_bridge_are_parted_at_the_bridge),
        cmocka_unit_test(a_single_lung_keeps_its_side_and_raises_doubt),
        cmocka_unit_test(an_empty_mask_stays_empty),
        cmocka_unit_test(the_number_of_threads_changes_no_voxel_and_no_figure_of_joined_lungs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
