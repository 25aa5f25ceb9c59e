/* Claims of stages/lesionpost on hand-made findings, whose every figure is known. */
#include "stages/lesionpost.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 100, NZ = 8 };
static int16_t hu[N * N * NZ];
static uint8_t lung[N * N * NZ];
static uint8_t ones[N * N];

/* 5 x 5 x 4 mm: a voxel is 0.1 ml. Right lung: columns 0 to 49, left: 50 to 89; slices 1 to 6. -800 + 10 z HU. */
static volume make(void)
{
    volume v = {.head = {.nx = N, .ny = N, .nz = NZ, .spacing_mm = {5, 5, 4}}, .hu = hu};
    memset(ones, 1, sizeof ones);
    memset(lung, 0, sizeof lung);
    for (int z = 0; z < NZ; z++)
        for (int p = 0; p < N * N; p++) {
            hu[z * N * N + p] = (int16_t)(-800 + 10 * z);
            if (z > 0 && z < 7 && p % N < 90) lung[z * N * N + p] = p % N < 50 ? 1 : 2;
        }
    return v;
}

static void add(findings *f, int64_t z, int y, int x, int rows, int cols, double score)
{
    finding one = {.z = z, .y0 = y, .x0 = x, .y1 = y + rows, .x1 = x + cols, .score = (float)score, .mask = ones};
    assert_int_equal(findings_add(f, &one), COV_OK);
}

static study_result post(const volume *v, findings *f)
{
    study_result r = {0};
    study_row_init(&r.row);
    r.slice_count = v->head.nz;
    r.slices = calloc((size_t)r.slice_count, sizeof *r.slices);
    assert_int_equal(lesionpost_run(v, lung, f, &r), COV_OK);
    return r;
}

static findings *list(void)
{
    findings *f;
    assert_int_equal(findings_new(NZ, &f), COV_OK);
    return f;
}

static int label(const study_result *r, int z, int y, int x) { return r->lesion[(z * N + y) * N + x]; }

static void a_study_without_findings_has_zeros_and_not_nan(void **state)
{
    (void)state;
    volume v = make();
    findings *f = list();
    study_result r = post(&v, f);
    assert_int_equal(r.lesion_rows, 0);
    assert_null(r.lesions);
    assert_int_equal(r.row.lesion_count, 0);
    assert_int_equal(r.row.tiny_count, 0);
    assert_float_equal(r.row.lesion_ml, 0, 0);
    assert_float_equal(r.row.involvement_left_percent, 0, 0);
    assert_float_equal(r.row.largest_lesion_ml, 0, 0);
    assert_float_equal(r.row.suspicion, 0, 0);
    assert_int_equal(r.row.period, -1);
    assert_true(isnan(r.row.period_probability[0]));
    for (int i = 0; i < N * N * NZ; i++) assert_int_equal(r.lesion[i], 0);
    study_result_free(&r);
    findings_free(&f);
}

static void instances_that_share_a_pixel_with_the_next_slice_are_one_lesion(void **state)
{
    (void)state;
    volume v = make();
    findings *f = list();
    add(f, 2, 10, 10, 4, 4, 0.9); /* a: slices 2, 3, 4, moving */
    add(f, 3, 13, 13, 4, 4, 0.8);
    add(f, 4, 16, 16, 4, 4, 0.7);
    add(f, 5, 20, 20, 4, 4, 0.6);  /* only a corner's neighbour: another lesion */
    add(f, 3, 50, 20, 10, 10, 0.5); /* b and c on slice 3, joined by d below: one lesion of 300 */
    add(f, 3, 50, 35, 10, 10, 0.4);
    add(f, 2, 50, 25, 5, 20, 0.3);
    add(f, 6, 13, 13, 4, 4, 0.9); /* not a neighbour of slice 4 */
    study_result r = post(&v, f);
    assert_int_equal(r.row.lesion_count, 4);
    assert_int_equal(r.lesion_rows, 8);
    assert_int_equal(label(&r, 3, 50, 20), 1);
    assert_int_equal(label(&r, 3, 59, 44), 1);
    assert_int_equal(label(&r, 2, 50, 25), 1);
    assert_int_equal(label(&r, 2, 10, 10), 2);
    assert_int_equal(label(&r, 4, 19, 19), 2);
    assert_int_equal(label(&r, 5, 20, 20), 3); /* both of 16 voxels: the lower slice first */
    assert_int_equal(label(&r, 6, 13, 13), 4);
    assert_float_equal(r.row.largest_lesion_ml, 30, 1e-9);
    for (int i = 1; i < 8; i++) assert_true(r.lesions[i].z >= r.lesions[i - 1].z);
    study_result_free(&r);
    findings_free(&f);
}

static void of_lesions_of_one_size_the_lower_slice_and_then_the_first_pixel_is_first(void **state)
{
    (void)state;
    volume v = make();
    findings *f = list();
    add(f, 3, 40, 40, 2, 2, 0.9);
    add(f, 3, 40, 10, 2, 2, 0.1);
    add(f, 2, 80, 80, 2, 2, 0.1);
    study_result r = post(&v, f);
    assert_int_equal(label(&r, 2, 80, 80), 1);
    assert_int_equal(label(&r, 3, 40, 10), 2);
    assert_int_equal(label(&r, 3, 40, 40), 3);
    study_result_free(&r);
    findings_free(&f);
}

static void the_higher_score_has_the_pixels_that_two_instances_share(void **state)
{
    (void)state;
    volume v = make();
    findings *f = list();
    add(f, 3, 20, 20, 10, 10, 0.4);
    add(f, 3, 25, 20, 10, 10, 0.6);
    add(f, 3, 26, 21, 2, 2, 0.5); /* wholly under the second: no row, no lesion */
    study_result r = post(&v, f);
    assert_int_equal(r.lesion_rows, 2);
    assert_int_equal(r.row.lesion_count, 2);
    assert_float_equal(r.lesions[0].score, 0.6, 1e-6);
    assert_int_equal(r.lesions[0].area_px, 100);
    assert_int_equal(r.lesions[1].area_px, 50);
    assert_int_equal(r.lesions[1].box_yxyx[2], 30); /* the box stays the network's */
    assert_int_equal(label(&r, 3, 26, 22), 1);
    assert_int_equal(label(&r, 3, 24, 22), 2);
    assert_int_equal(r.slices[3].lesion_px, 150);
    study_result_free(&r);
    findings_free(&f);
}

static void volumes_shares_and_suspicion_are_those_of_the_pixels_in_the_lung(void **state)
{
    (void)state;
    volume v = make();
    findings *f = list();
    add(f, 3, 0, 40, 10, 20, 0.8); /* 100 pixels right, 100 left */
    add(f, 4, 0, 80, 10, 20, 0.6); /* 100 pixels left, 100 outside the lung */
    add(f, 0, 0, 0, 10, 10, 0.9);  /* no lung on this slice */
    study_result r = post(&v, f);
    assert_int_equal(r.row.lesion_count, 2);
    assert_float_equal(r.row.lesion_right_ml, 10, 1e-9);
    assert_float_equal(r.row.lesion_left_ml, 20, 1e-9);
    assert_float_equal(r.row.lesion_ml, 30, 1e-9);
    assert_float_equal(r.row.involvement_right_percent, 100.0 * 100 / (50 * 100 * 6), 1e-9);
    assert_float_equal(r.row.involvement_left_percent, 100.0 * 200 / (40 * 100 * 6), 1e-9);
    double involved = 100.0 * 300 / (90 * 100 * 6), score = (0.8 * 200 + 0.6 * 100) / 300;
    assert_float_equal(r.row.involvement_percent, involved, 1e-9);
    assert_float_equal(r.row.suspicion, score * involved / (involved + 0.5), 1e-6);
    assert_float_equal(r.lesions[0].mean_hu, -770, 1e-9);
    assert_float_equal(r.lesions[0].area_mm2, 200 * 25, 1e-9);
    assert_int_equal(label(&r, 4, 0, 95), 0);
    study_result_free(&r);
    findings_free(&f);
}

static void a_lesion_is_tiny_if_it_is_so_on_every_slice(void **state)
{
    (void)state;
    volume v = make();
    findings *f = list(); /* 0.059 % of 100 x 100 is 5.9 pixels */
    add(f, 2, 10, 10, 1, 5, 0.9);
    add(f, 3, 10, 10, 2, 3, 0.9); /* 6: linked with the one below, which makes that lesion no tiny one */
    add(f, 5, 70, 10, 1, 5, 0.9);
    add(f, 6, 70, 12, 1, 5, 0.9);
    study_result r = post(&v, f);
    assert_int_equal(r.row.lesion_count, 2);
    assert_int_equal(r.row.tiny_count, 1);
    const int tiny[] = {1, 0, 1, 1};
    for (int i = 0; i < 4; i++) assert_int_equal(r.lesions[i].tiny, tiny[i]);
    study_result_free(&r);
    findings_free(&f);
}

static void set_period(findings *f, int z, float a, float b, float c, float d)
{
    const float p[4] = {a, b, c, d};
    memcpy(f->period[z], p, sizeof p);
}

static void the_period_is_that_of_the_slices_with_lesions_by_their_pixels_or_of_all(void **state)
{
    (void)state;
    volume v = make();
    findings *f = list();
    set_period(f, 2, 0.5f, 0.5f, 0, 0);
    set_period(f, 3, 1, 0, 0, 0);
    set_period(f, 4, 0, 0, 0.75f, 0.25f);
    study_result r = post(&v, f);
    assert_int_equal(r.row.period, 0);
    assert_float_equal(r.row.period_probability[0], 0.5, 1e-6);
    assert_true(isnan(r.slices[5].period_probability[0]));
    assert_float_equal(r.slices[4].period_probability[3], 0.25, 1e-6);
    study_result_free(&r);
    add(f, 2, 10, 10, 1, 10, 0.9);
    add(f, 4, 60, 60, 3, 10, 0.9);
    r = post(&v, f);
    assert_float_equal(r.row.period_probability[0], 0.25 * 0.5, 1e-6);
    assert_float_equal(r.row.period_probability[2], 0.75 * 0.75, 1e-6);
    assert_int_equal(r.row.period, 2);
    assert_int_equal(r.lesions[0].period, 1); /* likely healthy as much, but it is a lesion */
    assert_int_equal(r.lesions[1].period, 2);
    study_result_free(&r);
    set_period(f, 2, 0.9f, 0.04f, 0.06f, 0);
    set_period(f, 4, 0.9f, 0.04f, 0.06f, 0);
    r = post(&v, f);
    assert_int_equal(r.row.period, 2); /* nobody with a lesion is healthy; what the network said stays */
    assert_float_equal(r.row.period_probability[0], 0.9, 1e-6);
    study_result_free(&r);
    findings_free(&f);
}

static void isolated_slices_are_not_linked_and_have_no_millilitres(void **state)
{
    (void)state;
    volume v = make();
    findings *f = list();
    v.head.isolated = 1;
    add(f, 3, 10, 10, 2, 2, 0.5);
    add(f, 4, 10, 10, 2, 3, 0.5);
    for (int y = 0; y < N; y++) /* slice 4 shows 60 x 50 pixels, of which 0.059 % are 1.8 */
        for (int x = 0; x < N; x++)
            if (y >= 60 || x >= 50) hu[(4 * N + y) * N + x] = VOLUME_OUTSIDE, lung[(4 * N + y) * N + x] = 0;
    study_result r = post(&v, f);
    assert_int_equal(r.row.lesion_count, 2);
    assert_int_equal(r.row.tiny_count, 1);
    assert_true(isnan(r.row.lesion_ml) && isnan(r.row.lesion_left_ml) && isnan(r.row.largest_lesion_ml));
    assert_true(isnan(r.lesions[0].area_mm2) && isnan(r.lesions[0].mean_hu));
    assert_float_equal(r.row.involvement_percent, 100.0 * 10 / (90 * 100 * 5 + 50 * 60), 1e-9);
    assert_true(r.row.suspicion > 0);
    study_result_free(&r);
    findings_free(&f);
}

static void more_lesions_than_labels_drop_the_smallest(void **state)
{
    (void)state;
    volume v = {.head = {.nx = 600, .ny = 600, .nz = 2, .spacing_mm = {1, 1, 1}, .isolated = 1}};
    int64_t voxels = 600 * 600 * 2, many = 0;
    findings *f;
    v.hu = calloc((size_t)voxels, sizeof *v.hu);
    uint8_t *all = malloc((size_t)voxels);
    memset(all, 1, (size_t)voxels);
    memset(ones, 1, sizeof ones);
    assert_int_equal(findings_new(2, &f), COV_OK);
    for (int z = 0; z < 2; z++)
        for (int y = 0; y < 596; y += 3)
            for (int x = 0; x < 596; x += 3, many++) add(f, z, y, x, 1, z ? 2 : 1, 0.5);
    study_result r = {0};
    study_row_init(&r.row);
    r.slice_count = 2;
    r.slices = calloc(2, sizeof *r.slices);
    assert_true(many > LESIONPOST_MOST);
    assert_int_equal(lesionpost_run(&v, all, f, &r), COV_OK);
    assert_int_equal(r.row.lesion_count, LESIONPOST_MOST);
    assert_int_equal(r.lesion_rows, LESIONPOST_MOST);
    assert_int_equal(r.slices[1].lesion_px, many); /* those of two pixels are all there */
    assert_int_equal(r.slices[0].lesion_px, LESIONPOST_MOST - many / 2);
    study_result_free(&r);
    findings_free(&f);
    free(all);
    free(v.hu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_study_without_findings_has_zeros_and_not_nan),
        cmocka_unit_test(instances_that_share_a_pixel_with_the_next_slice_are_one_lesion),
        cmocka_unit_test(of_lesions_of_one_size_the_lower_slice_and_then_the_first_pixel_is_first),
        cmocka_unit_test(the_higher_score_has_the_pixels_that_two_instances_share),
        cmocka_unit_test(volumes_shares_and_suspicion_are_those_of_the_pixels_in_the_lung),
        cmocka_unit_test(a_lesion_is_tiny_if_it_is_so_on_every_slice),
        cmocka_unit_test(the_period_is_that_of_the_slices_with_lesions_by_their_pixels_or_of_all),
        cmocka_unit_test(isolated_slices_are_not_linked_and_have_no_millilitres),
        cmocka_unit_test(more_lesions_than_labels_drop_the_smallest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
