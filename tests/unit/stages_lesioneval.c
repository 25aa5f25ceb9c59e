/* Claims of stages/lesioneval on made-up findings in studies whose every figure is known by hand. */
#include "stages/lesioneval.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 64, NZ = 3, AREA = N * N };

static void near(double value, double expected)
{
    if (!(fabs(value - expected) < 1e-6)) fail_msg("%.9g, expected %.9g", value, expected);
}

static void fill(uint8_t *mask, int z, int y0, int x0, int y1, int x1)
{
    for (int y = y0; y < y1; y++) memset(mask + z * AREA + y * N + x0, 1, (size_t)(x1 - x0));
}

/* Three slices of 64 x 64, lung 40 x 40 on each. Lesion: a square of 400 on slice 0; on slice 1 one of 100 and a single
 * (tiny) pixel; slice 2 none. */
static evalset_study make(const char *patient)
{
    evalset_study s;
    assert_int_equal(evalset_make(N, N, NZ, 1, &s), COV_OK);
    s.patient = patient;
    strcpy(s.id, patient);
    for (int z = 0; z < NZ; z++) fill(s.v.lung, z, 10, 10, 50, 50);
    fill(s.v.lesion, 0, 20, 20, 40, 40);
    fill(s.v.lesion, 1, 20, 20, 30, 30);
    fill(s.v.lesion, 1, 45, 45, 46, 46);
    return s;
}

static void find(findings *f, int z, int y0, int x0, int y1, int x1, float score)
{
    uint8_t mask[AREA];
    memset(mask, 1, sizeof mask);
    assert_int_equal(
        findings_add(f, &(finding){.z = z, .y0 = y0, .x0 = x0, .y1 = y1, .x1 = x1, .score = score, .mask = mask}),
        COV_OK);
}

/* Slice 0: the upper half of the lesion at 0.9 (IoU one half: does not meet), the right 3/4 at 0.6. Slice 1: the square
 * exactly at 0.7. Slice 2: a false square of 100 at 0.4. */
static findings *made_up(void)
{
    findings *f;
    assert_int_equal(findings_new(NZ, &f), COV_OK);
    find(f, 0, 20, 20, 30, 40, 0.9f);
    find(f, 0, 20, 25, 40, 40, 0.6f);
    find(f, 1, 20, 20, 30, 30, 0.7f);
    find(f, 2, 12, 12, 22, 22, 0.4f);
    findings_sort(f);
    return f;
}

static lesioneval_row score(const evalset_study *s, const findings *f, float threshold)
{
    static uint8_t mask[NZ * AREA];
    lesioneval_row r;
    assert_int_equal(
        lesioneval_score(&(lesioneval_input){.study = s, .lung = s->v.lung, .found = f, .threshold = threshold}, mask,
                         &r),
        COV_OK);
    return r;
}

static void every_figure_of_a_study_is_that_counted_by_hand(void **state)
{
    (void)state;
    evalset_study s = make("a");
    findings *f = made_up();
    lesioneval_row r = score(&s, f, 0.5f);
    double dice0 = 2.0 * 350 / (400 + 350), dice1 = 2.0 * 100 / (101 + 100); /* slice 0: 200 + 300 - 150 found */
    near(r.slice_dice[0], dice0);
    near(r.slice_dice[1], dice1);
    assert_true(isnan(r.slice_dice[2]));
    near(r.m[LESIONEVAL_DICE].top, dice0 + dice1);
    near(r.m[LESIONEVAL_DICE].bottom, 2);
    near(r.m[LESIONEVAL_ACCURACY].top, (1600 - 50) / 1600.0 + (1600 - 1) / 1600.0);
    near(r.m[LESIONEVAL_ALL_DICE].top, dice0 + dice1 + 1); /* nothing on slice 2 at 0.5 */
    near(r.m[LESIONEVAL_ALL_DICE].bottom, 3);
    near(r.volume_dice, 2.0 * 450 / (501 + 450));
    near(r.m[LESIONEVAL_SENSITIVITY].top, 2);
    near(r.m[LESIONEVAL_SENSITIVITY].bottom, 3);
    near(r.m[LESIONEVAL_TINY].top, 0);
    near(r.m[LESIONEVAL_TINY].bottom, 1);
    near(r.m[LESIONEVAL_PRECISION].top, 2);
    near(r.m[LESIONEVAL_PRECISION].bottom, 3);
    near(metrics_value(r.m[LESIONEVAL_FALSE_SLICE]), 1.0 / 3);
    near(metrics_value(r.m[LESIONEVAL_FALSE_STUDY]), 1);
    near(r.truth_percent, 100.0 * 501 / 4800);
    near(r.found_percent, 100.0 * 450 / 4800);
    near(r.suspicion, (200 * 0.9 + 150 * 0.6 + 100 * 0.7) / 450 * 9.375 / (9.375 + 0.5));
    lesioneval_row_free(&r);
    r = score(&s, f, 0); /* with the false one */
    near(r.m[LESIONEVAL_ALL_DICE].top, dice0 + dice1);
    near(metrics_value(r.m[LESIONEVAL_FALSE_STUDY]), 2);
    lesioneval_row_free(&r);
    findings_free(&f);
    evalset_free(&s);
}

static void the_sweep_agrees_with_scoring_at_each_threshold(void **state)
{
    (void)state;
    evalset_study s = make("a");
    findings *f = made_up();
    lesioneval_row all = score(&s, f, 0.5f);
    for (int k = 0; k < LESIONMETRICS_STEPS; k++) {
        lesioneval_row r = score(&s, f, lesionmetrics_step(k));
        near(metrics_value(all.step[k].dice), metrics_value(r.m[LESIONEVAL_DICE]));
        near(metrics_value(all.step[k].all), metrics_value(r.m[LESIONEVAL_ALL_DICE]));
        near(metrics_dice(all.step[k].whole), r.volume_dice);
        lesioneval_row_free(&r);
    }
    lesioneval_row_free(&all);
    findings_free(&f);
    evalset_free(&s);
}

static void volumes_of_one_patient_count_once_and_intervals_are_over_patients(void **state)
{
    (void)state;
    evalset_study a = make("a"), b = make("a"), c = make("c");
    findings *f = made_up(), *none;
    assert_int_equal(findings_new(NZ, &none), COV_OK);
    lesioneval_row rows[3] = {score(&a, f, 0.5f), score(&b, none, 0.5f), score(&c, f, 0.5f)};
    lesioneval_summary s;
    assert_int_equal(lesioneval_sum(rows, 3, LESIONEVAL_ALL, 0.5, &s), COV_OK);
    double d = rows[0].volume_dice;
    assert_int_equal(s.patients, 2);
    assert_int_equal(s.regions, 9);
    near(s.m[LESIONEVAL_VOLUME_DICE].value, (d / 2 + d) / 2);
    near(s.m[LESIONEVAL_SENSITIVITY].value, 4.0 / 9);
    near(s.m[LESIONEVAL_SENSITIVITY].low, 2.0 / 6);
    near(s.m[LESIONEVAL_SENSITIVITY].high, 2.0 / 3);
    near(metrics_value(s.calls.sensitivity), 2.0 / 3);
    assert_true(isnan(metrics_value(s.calls.specificity)));
    lesioneval_summary_free(&s);
    assert_int_equal(lesioneval_sum(rows, 3, LESIONEVAL_SLICES, 0.5, &s), COV_OK);
    assert_int_equal(s.studies, 0);
    assert_true(isnan(s.m[LESIONEVAL_DICE].value));
    lesioneval_summary_free(&s);
    for (int k = 0; k < 3; k++) lesioneval_row_free(&rows[k]);
    findings_free(&f);
    findings_free(&none);
    evalset_free(&a);
    evalset_free(&b);
    evalset_free(&c);
}

static void a_healthy_study_has_false_findings_and_burden_but_no_dice(void **state)
{
    (void)state;
    evalset_study s = make("h");
    findings *f = made_up();
    memset(s.v.lesion, 0, NZ * AREA);
    lesioneval_row r = score(&s, f, 0);
    assert_false(r.positive);
    assert_true(isnan(r.volume_dice) && isnan(metrics_value(r.m[LESIONEVAL_DICE])) &&
                isnan(metrics_value(r.m[LESIONEVAL_SENSITIVITY])));
    near(metrics_value(r.m[LESIONEVAL_FALSE_STUDY]), 4);
    near(r.found_percent, 100.0 * 550 / 4800);
    lesioneval_row_free(&r);
    findings_free(&f);
    evalset_free(&s);
}

static void a_volume_with_a_few_lesion_voxels_is_reported_and_not_averaged(void **state)
{
    (void)state;
    evalset_study s = make("e");
    findings *f = made_up();
    memset(s.v.lesion, 0, NZ * AREA);
    fill(s.v.lesion, 1, 20, 20, 22, 30);
    lesioneval_row r = score(&s, f, 0);
    near(r.volume_dice, 2.0 * 20 / (20 + 550));
    near(r.m[LESIONEVAL_VOLUME_DICE].bottom, 0);
    near(r.m[LESIONEVAL_DICE].bottom, 1);
    lesioneval_row_free(&r);
    findings_free(&f);
    evalset_free(&s);
}

static void the_threshold_is_chosen_by_the_mean_that_was_asked_for(void **state)
{
    (void)state;
    evalset_study s = make("a");
    findings *f = made_up();
    lesioneval_row r = score(&s, f, 0.5f);
    lesioneval_summary sum;
    int step;
    assert_int_equal(lesioneval_sum(&r, 1, LESIONEVAL_ALL, 0.5, &sum), COV_OK);
    assert_int_equal(lesioneval_choose(&sum, "dice", &step), COV_OK);
    assert_int_equal(step, 0); /* positive slices do not feel the false one */
    assert_int_equal(lesioneval_choose(&sum, "all", &step), COV_OK);
    assert_int_equal(step, 9); /* above 0.4 */
    assert_int_equal(lesioneval_choose(&sum, "volume", &step), COV_OK);
    assert_int_equal(step, 9);
    assert_int_equal(lesioneval_choose(&sum, "screen", &step), COV_OK);
    assert_int_equal(step, 9);
    for (int k = 0; k < LESIONMETRICS_STEPS; k++) { /* volume is best at 4, all at 12: their mean at 8 */
        sum.step_volume[k] = k == 4 ? 0.7 : k == 8 ? 0.65 : 0.1;
        sum.step[k].all = (metrics_ratio){k == 12 ? 0.9 : k == 8 ? 0.8 : 0.2, 1};
    }
    assert_int_equal(lesioneval_choose(&sum, "volume", &step), COV_OK);
    assert_int_equal(step, 4);
    assert_int_equal(lesioneval_choose(&sum, "all", &step), COV_OK);
    assert_int_equal(step, 12);
    assert_int_equal(lesioneval_choose(&sum, "screen", &step), COV_OK);
    assert_int_equal(step, 8);
    assert_int_equal(lesioneval_choose(&sum, "0.3", &step), COV_OK);
    assert_float_equal(lesionmetrics_step(step), 0.3f, 1e-6);
    assert_int_equal(lesioneval_choose(&sum, "0.33", &step), COV_USAGE);
    assert_int_equal(lesioneval_choose(&sum, "best", &step), COV_USAGE);
    lesioneval_summary_free(&sum);
    lesioneval_row_free(&r);
    findings_free(&f);
    evalset_free(&s);
}

static void periods_are_counted_where_there_is_a_label_and_an_answer(void **state)
{
    (void)state;
    static uint8_t mask[NZ * AREA];
    evalset_study s = make("a");
    findings *f = made_up();
    lesioneval_row r;
    const int8_t label[NZ] = {2, 1, -1};
    memcpy(f->period[0], (const float[]){0, 0.1f, 0.8f, 0.1f}, sizeof f->period[0]);
    memcpy(f->period[2], (const float[]){1, 0, 0, 0}, sizeof f->period[2]);
    assert_int_equal(
        lesioneval_score(&(lesioneval_input){.study = &s, .found = f, .threshold = 0.5f, .period = label}, mask, &r),
        COV_OK);
    near(lesionmetrics_periods_right(&r.periods).bottom, 1);
    assert_int_equal(r.periods.count[2][2], 1);
    assert_int_equal(r.lung_px, NZ * AREA); /* no lung mask: everything is lung */
    lesioneval_row_free(&r);
    findings_free(&f);
    evalset_free(&s);
}

static void the_baseline_finds_what_is_bright_inside_the_lung(void **state)
{
    (void)state;
    evalset_study s = make("a");
    findings *f;
    for (int i = 0; i < NZ * AREA; i++)
        if (s.v.lesion[i]) s.v.ct.hu[i] = -300;
    s.v.ct.hu[5] = 40; /* outside the lung */
    assert_int_equal(lesioneval_baseline(&s.v.ct, s.v.lung, -500, &f), COV_OK);
    assert_int_equal(f->count, 3);
    lesioneval_row r = score(&s, f, 0.5f);
    near(r.volume_dice, 1);
    near(r.surface, 1);
    near(metrics_value(r.m[LESIONEVAL_SENSITIVITY]), 1);
    near(metrics_value(r.m[LESIONEVAL_TINY]), 1);
    lesioneval_row_free(&r);
    findings_free(&f);
    evalset_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_figure_of_a_study_is_that_counted_by_hand),
        cmocka_unit_test(the_sweep_agrees_with_scoring_at_each_threshold),
        cmocka_unit_test(volumes_of_one_patient_count_once_and_intervals_are_over_patients),
        cmocka_unit_test(a_healthy_study_has_false_findings_and_burden_but_no_dice),
        cmocka_unit_test(a_volume_with_a_few_lesion_voxels_is_reported_and_not_averaged),
        cmocka_unit_test(the_threshold_is_chosen_by_the_mean_that_was_asked_for),
        cmocka_unit_test(periods_are_counted_where_there_is_a_label_and_an_answer),
        cmocka_unit_test(the_baseline_finds_what_is_bright_inside_the_lung),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
