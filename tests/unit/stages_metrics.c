/* Claims of stages/metrics on cases worked out by hand. */
#include "stages/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

static void near(double value, double expected)
{
    if (!(fabs(value - expected) < 1e-12)) fail_msg("%.15g, expected %.15g", value, expected);
}

static void dice_counts_both_masks_and_two_empty_ones_agree(void **state)
{
    (void)state;
    const uint8_t truth[8] = {1, 1, 1, 1, 0, 0, 0, 0}, found[8] = {0, 0, 2, 9, 1, 0, 0, 0}, none[8] = {0};
    metrics_overlap o = metrics_overlap_of(truth, found, 8);
    near(metrics_dice(o), 2.0 * 2 / (4 + 3));
    near(metrics_kept(o), 0.5);
    assert_int_equal(metrics_false(o), 1);
    assert_int_equal(metrics_missed(o), 2);
    near(metrics_dice(metrics_overlap_of(none, none, 8)), 1);
    near(metrics_dice(metrics_overlap_of(none, found, 8)), 0);
    assert_true(isnan(metrics_kept(metrics_overlap_of(none, found, 8))));
    metrics_overlap_add(&o, metrics_overlap_of(none, found, 8));
    near(metrics_dice(o), 2.0 * 2 / (4 + 6));
}

static void accuracy_leaves_out_what_is_not_within(void **state)
{
    (void)state;
    const uint8_t truth[6] = {1, 1, 0, 0, 0, 1}, found[6] = {1, 0, 1, 0, 0, 0}, within[6] = {1, 1, 1, 1, 0, 0};
    metrics_ratio r = metrics_accuracy(truth, found, within, 6);
    near(r.top, 2);
    near(r.bottom, 4);
    assert_true(isnan(metrics_value(metrics_accuracy(truth, found, truth, 0))));
}

/* Two squares of 4 x 4, one shifted by one pixel along x: of 12 border pixels each. */
static void surface_dice_of_a_shifted_square_depends_on_the_tolerance(void **state)
{
    (void)state;
    enum { N = 10 };
    uint8_t a[N * N] = {0}, b[N * N] = {0};
    const int64_t size[3] = {N, N, 1};
    metrics_ratio r;
    for (int y = 3; y < 7; y++) {
        memset(a + y * N + 3, 1, 4);
        memset(b + y * N + 4, 1, 4);
    }
    /* At 0 mm: of a's border, x 4..6 of the top and the bottom row lie on b's: 6; b's left column has rows 3..6 at x 4,
     * of which 4 and 5 are inner to a. */
    assert_int_equal(metrics_surface(a, b, size, (double[]){0.7, 0.7, 5}, 0, 1, &r), COV_OK);
    near(r.top, 12);
    near(r.bottom, 24);
    assert_int_equal(metrics_surface(a, b, size, (double[]){0.7, 0.7, 5}, 0.69, 1, &r), COV_OK);
    near(r.top, 12);
    assert_int_equal(metrics_surface(a, b, size, (double[]){0.7, 0.7, 5}, 0.7, 1, &r), COV_OK);
    near(metrics_value(r), 1);
    /* The spacing is along x, not y. */
    assert_int_equal(metrics_surface(a, b, size, (double[]){0.8, 0.1, 5}, 0.7, 1, &r), COV_OK);
    assert_true(metrics_value(r) < 1);
    assert_int_equal(metrics_surface(a, b, size, (double[]){0, 0.7, 5}, 1, 1, &r), COV_USAGE);
}

static void surface_dice_in_the_plane_knows_no_borders_along_z(void **state)
{
    (void)state;
    enum { N = 6, NZ = 3 };
    uint8_t a[N * N * NZ] = {0}, b[N * N * NZ] = {0};
    const int64_t size[3] = {N, N, NZ};
    metrics_ratio r;
    for (int z = 0; z < NZ; z++)
        for (int y = 1; y < 5; y++) memset(a + (z * N + y) * N + 1, 1, 4);
    assert_int_equal(metrics_surface(a, b, size, (double[]){1, 1, 1}, 2, 1, &r), COV_OK);
    near(r.bottom, 3 * 12);
    near(r.top, 0);
    assert_int_equal(metrics_surface(a, b, size, (double[]){1, 1, 1}, 2, 0, &r), COV_OK);
    near(r.bottom, 16 + 12 + 16);
    memcpy(b + N * N, a + N * N, N * N); /* the middle slice alone */
    assert_int_equal(metrics_surface(a, b, size, (double[]){1, 1, 1}, 1, 1, &r), COV_OK);
    near(r.top, 24);
    assert_int_equal(metrics_surface(a, b, size, (double[]){1, 1, 1}, 1, 0, &r), COV_OK);
    near(r.top, 44 + 16); /* every border voxel of a is one step from b, whose 16 are all border */
    memset(a, 0, sizeof a);
    assert_int_equal(metrics_surface(a, a, size, (double[]){1, 1, 1}, 1, 0, &r), COV_OK);
    assert_true(isnan(metrics_value(r)));
}

static void auc_is_the_share_of_pairs_in_the_right_order(void **state)
{
    (void)state;
    const double score[5] = {0.9, 0.4, 0.4, 0.1, 0.2};
    near(metrics_auc(score, (const uint8_t[]){1, 1, 0, 0, 0}, 5), (1 + 1 + 1 + 0.5 + 1 + 1) / 6);
    assert_true(isnan(metrics_auc(score, (const uint8_t[]){1, 1, 1, 1, 1}, 5)));
}

static void the_bootstrap_draws_patients_and_repeats_itself(void **state)
{
    (void)state;
    metrics_interval one, two, other;
    const metrics_ratio alike[3] = {{8, 10}, {80, 100}, {4, 5}}, apart[2] = {{0, 10}, {10, 10}};
    assert_int_equal(metrics_bootstrap(alike, 3, 1, &one), COV_OK);
    near(one.value, 0.8);
    near(one.low, 0.8); /* patients who agree leave no doubt, however few slices they have */
    near(one.high, 0.8);
    assert_int_equal(one.patients, 3);
    assert_int_equal(metrics_bootstrap(apart, 2, 1, &one), COV_OK); /* a quarter of the samples has 0, a quarter 1 */
    near(one.value, 0.5);
    near(one.low, 0);
    near(one.high, 1);
    const metrics_ratio many[6] = {{1, 10}, {3, 10}, {5, 10}, {6, 10}, {7, 10}, {9, 10}};
    assert_int_equal(metrics_bootstrap(many, 6, 1, &one), COV_OK);
    assert_int_equal(metrics_bootstrap(many, 6, 1, &two), COV_OK);
    assert_int_equal(metrics_bootstrap(many, 6, 2, &other), COV_OK);
    assert_true(one.value == two.value && one.low == two.low && one.high == two.high);
    assert_true(one.low > 0.25 && one.low < 0.40 && one.high > 0.62 &&
                one.high < 0.80); /* +- 1.96 * 0.266 / sqrt(6) is 0.213 */
    assert_true(fabs(one.low - other.low) < 0.05);
}

static void one_patient_has_no_interval_and_nobody_no_value(void **state)
{
    (void)state;
    metrics_interval i;
    assert_int_equal(metrics_bootstrap((const metrics_ratio[]){{3, 4}, {0, 0}}, 2, 1, &i), COV_OK);
    near(i.value, 0.75);
    assert_true(isnan(i.low) && isnan(i.high));
    assert_int_equal(i.patients, 1);
    assert_int_equal(metrics_bootstrap(NULL, 0, 1, &i), COV_OK);
    assert_true(isnan(i.value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dice_counts_both_masks_and_two_empty_ones_agree),
        cmocka_unit_test(accuracy_leaves_out_what_is_not_within),
        cmocka_unit_test(surface_dice_of_a_shifted_square_depends_on_the_tolerance),
        cmocka_unit_test(surface_dice_in_the_plane_knows_no_borders_along_z),
        cmocka_unit_test(auc_is_the_share_of_pairs_in_the_right_order),
        cmocka_unit_test(the_bootstrap_draws_patients_and_repeats_itself),
        cmocka_unit_test(one_patient_has_no_interval_and_nobody_no_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
