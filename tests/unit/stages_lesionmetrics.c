/* Claims of stages/lesionmetrics on slices, boxes and scores whose answers can be counted by hand. */
#include "stages/lesionmetrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

static void near(double value, double expected)
{
    if (!(fabs(value - expected) < 1e-6)) fail_msg("%.9g, expected %.9g", value, expected);
}

static void boxes_meet_above_one_half_and_not_at_it(void **state)
{
    (void)state;
    const region a = {0, 0, 10, 10, 1}, half = {0, 0, 10, 5, 1}, more = {0, 0, 10, 6, 1}, aside = {0, 10, 10, 20, 1},
                 shifted = {0, 3, 10, 13, 1};
    assert_true(lesionmetrics_meet(&a, &a));
    assert_false(lesionmetrics_meet(&a, &half)); /* 50 of 100 */
    assert_true(lesionmetrics_meet(&a, &more));
    assert_false(lesionmetrics_meet(&a, &aside));
    assert_true(lesionmetrics_meet(&a, &shifted)); /* 70 of 130 */
}

static void table_1_counts_areas_of_a_512_slice(void **state)
{
    (void)state;
    lesionmetrics_sizes s = {0};
    const region big[3] = {{.area = 100}, {.area = 1000}, {.area = 400}}, quarter[1] = {{.area = 50}};
    assert_true(isnan(lesionmetrics_median_area(&s)));
    assert_int_equal(lesionmetrics_sizes_add(&s, big, 3, 512, 512), COV_OK);
    near(lesionmetrics_median_area(&s), 400);
    assert_int_equal(lesionmetrics_sizes_add(&s, quarter, 1, 256, 256), COV_OK); /* 200 of 512 x 512 */
    assert_int_equal(s.count, 4);
    near(lesionmetrics_mean_area(&s), 425);
    near(lesionmetrics_median_area(&s), 300);
    near(lesionmetrics_tiny_percent(&s), 25);
    lesionmetrics_sizes_free(&s);
}

/* Slice one: a large region that two boxes meet (0.9, 0.6), a tiny one that one meets (0.3), a false box (0.5).
 * Slice two: nothing but a false box (0.8). */
static lesionmetrics_detection two_slices(void)
{
    lesionmetrics_detection d = {.studies = 1};
    const region truth[2] = {{0, 0, 100, 100, 9000}, {200, 200, 210, 210, 90}};
    const region found[4] = {{0, 0, 100, 90, 0}, {5, 5, 95, 105, 0}, {201, 201, 211, 210, 0}, {300, 300, 320, 320, 0}};
    const float score[4] = {0.9f, 0.6f, 0.3f, 0.5f}, other[1] = {0.8f};
    assert_int_equal(lesionmetrics_detection_add(&d, truth, 2, found, score, 4, 512, 512), COV_OK);
    assert_int_equal(lesionmetrics_detection_add(&d, NULL, 0, found, other, 1, 512, 512), COV_OK);
    return d;
}

static void sensitivity_and_precision_follow_the_threshold(void **state)
{
    (void)state;
    lesionmetrics_detection d = two_slices();
    assert_int_equal(d.slices, 2);
    lesionmetrics_point all = lesionmetrics_at(&d, 0), half = lesionmetrics_at(&d, 0.5f),
                        none = lesionmetrics_at(&d, 0.95f);
    assert_true(all.regions == 2 && all.hit == 2 && all.tiny == 1 && all.tiny_hit == 1 && all.found == 5 &&
                all.right == 3);
    assert_true(half.regions == 2 && half.hit == 1 && half.tiny == 1 && half.tiny_hit == 0 && half.found == 4 &&
                half.right == 2);
    assert_true(none.hit == 0 && none.found == 0);
    lesionmetrics_detection_free(&d);
}

static void the_froc_curve_goes_through_every_threshold(void **state)
{
    (void)state;
    lesionmetrics_detection d = two_slices(), empty = {.slices = 3};
    lesionmetrics_point *p;
    int64_t n;
    assert_int_equal(lesionmetrics_froc(&d, &p, &n), COV_OK);
    assert_int_equal(n, 5);
    const int hit[5] = {1, 1, 1, 1, 2}, wrong[5] = {0, 1, 1, 2, 2};
    for (int k = 0; k < 5; k++) {
        lesionmetrics_point same = lesionmetrics_at(&d, p[k].threshold);
        assert_true(same.regions == p[k].regions && same.hit == p[k].hit && same.tiny == p[k].tiny &&
                    same.tiny_hit == p[k].tiny_hit);
        assert_true(same.found == p[k].found && same.right == p[k].right);
        assert_int_equal(p[k].hit, hit[k]);
        assert_int_equal(p[k].found - p[k].right, wrong[k]);
    }
    free(p);
    assert_int_equal(lesionmetrics_froc(&empty, &p, &n), COV_OK);
    assert_null(p);
    assert_int_equal(lesionmetrics_detection_merge(&empty, &d), COV_OK);
    assert_true(empty.slices == 5 && empty.studies == 1 && lesionmetrics_at(&empty, 0).right == 3);
    lesionmetrics_detection_free(&d);
    lesionmetrics_detection_free(&empty);
}

static void calibration_compares_scores_with_what_was_right(void **state)
{
    (void)state;
    lesionmetrics_detection d = {0}, empty = {0};
    const region truth[1] = {{0, 0, 10, 10, 100}},
                 found[5] = {
                     {0, 0, 10, 10, 0}, {0, 0, 10, 10, 0}, {50, 0, 60, 10, 0}, {50, 0, 60, 10, 0}, {0, 0, 10, 10, 0}};
    const float score[5] = {0.72f, 0.78f, 0.75f, 0.75f, 1.0f};
    assert_int_equal(lesionmetrics_detection_add(&d, truth, 1, found, score, 5, 512, 512), COV_OK);
    lesionmetrics_calibration c = lesionmetrics_calibrate(&d);
    assert_int_equal(c.count[7], 4);
    near(c.score[7], 0.75);
    near(c.right[7], 0.5);
    assert_int_equal(c.count[9], 1); /* a score of one belongs to the last bin */
    near(c.right[9], 1);
    assert_true(isnan(c.right[0]));
    near(c.error, 0.25 * 4 / 5);
    assert_true(isnan(lesionmetrics_calibrate(&empty).error));
    lesionmetrics_detection_free(&d);
}

static void periods_without_label_or_answer_are_not_counted(void **state)
{
    (void)state;
    lesionmetrics_periods p = {0};
    lesionmetrics_periods_add(&p, 0, (const float[]){0.7f, 0.1f, 0.1f, 0.1f});
    lesionmetrics_periods_add(&p, 2, (const float[]){0.1f, 0.2f, 0.3f, 0.4f});
    lesionmetrics_periods_add(&p, -1, (const float[]){1, 0, 0, 0});
    lesionmetrics_periods_add(&p, 1, (const float[]){NAN, NAN, NAN, NAN});
    assert_int_equal(p.count[0][0], 1);
    assert_int_equal(p.count[2][3], 1);
    near(lesionmetrics_periods_right(&p).top, 1);
    near(lesionmetrics_periods_right(&p).bottom, 2);
}

static void studies_are_called_at_the_threshold(void **state)
{
    (void)state;
    const double suspicion[5] = {0.9, 0.5, 0.2, 0.6, 0.1};
    lesionmetrics_studies s = lesionmetrics_of_studies(suspicion, (const uint8_t[]){1, 1, 1, 0, 0}, 5, 0.5);
    near(metrics_value(s.sensitivity), 2.0 / 3);
    near(metrics_value(s.specificity), 0.5);
    near(s.auc, (2 + 1 + 1) / 6.0);
}

static void a_sweep_counts_what_every_threshold_finds(void **state)
{
    (void)state;
    const uint8_t truth[6] = {1, 1, 1, 0, 0, 0};
    const float score[6] = {0.95f, 0.5f, -1, 0.5f, 0.01f, -1};
    metrics_overlap o[LESIONMETRICS_STEPS] = {{0}};
    lesionmetrics_sweep(truth, score, 6, o);
    near(lesionmetrics_step(10), 0.5);
    assert_true(o[0].truth == 3 && o[0].found == 4 && o[0].both == 2);
    assert_true(o[1].found == 3);
    assert_true(o[10].found == 3 && o[10].both == 2);
    assert_true(o[11].found == 1 && o[11].both == 1 && o[11].truth == 3);
    assert_true(o[19].found == 1);
    lesionmetrics_sweep(truth, score, 6, o);
    assert_true(o[0].truth == 6 && o[0].found == 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boxes_meet_above_one_half_and_not_at_it),
        cmocka_unit_test(table_1_counts_areas_of_a_512_slice),
        cmocka_unit_test(sensitivity_and_precision_follow_the_threshold),
        cmocka_unit_test(the_froc_curve_goes_through_every_threshold),
        cmocka_unit_test(calibration_compares_scores_with_what_was_right),
        cmocka_unit_test(periods_without_label_or_answer_are_not_counted),
        cmocka_unit_test(studies_are_called_at_the_threshold),
        cmocka_unit_test(a_sweep_counts_what_every_threshold_finds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
