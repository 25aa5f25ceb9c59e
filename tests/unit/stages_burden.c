/* Claims of stages/burden and stages/qc on a volume whose every figure is known by hand. */
#include "stages/burden.h"
#include "stages/qc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 20, NZ = 10 };
static int16_t hu[N * N * NZ];
static uint8_t lung[N * N * NZ];

/* Spacing 10 x 10 x 5 mm: a voxel is 0.5 ml. RAS+ affine with x and y against it, as on a canonical grid. */
static volume make(void)
{
    volume v = {.head = {.nx = N, .ny = N, .nz = NZ, .spacing_mm = {10, 10, 5}}, .hu = hu};
    v.head.affine[0][0] = v.head.affine[1][1] = -10;
    v.head.affine[2][2] = 5;
    v.head.affine[2][3] = -300;
    v.head.affine[3][3] = 1;
    memset(lung, 0, sizeof lung);
    for (int i = 0; i < N * N * NZ; i++) hu[i] = 40;
    return v;
}

static void box(int x0, int x1, int z0, int z1, uint8_t side, int16_t value)
{
    for (int z = z0; z < z1; z++)
        for (int y = 5; y < 15; y++)
            for (int x = x0; x < x1; x++) lung[(z * N + y) * N + x] = side, hu[(z * N + y) * N + x] = value;
}

static void volumes_densities_and_slices_are_counted(void **state)
{
    (void)state;
    volume v = make();
    study_result r = {0};
    study_row_init(&r.row);
    box(2, 8, 2, 8, 1, -800);   /* 6 x 10 x 6 = 360 voxels */
    box(12, 16, 2, 8, 2, -400); /* 240 voxels, all above -500 HU */
    assert_int_equal(burden_lung(&v, lung, &r), COV_OK);
    assert_float_equal(r.row.lung_right_ml, 180, 1e-9);
    assert_float_equal(r.row.lung_left_ml, 120, 1e-9);
    assert_float_equal(r.row.lung_ml, 300, 1e-9);
    assert_float_equal(r.row.lung_mean_hu, (360 * -800.0 + 240 * -400.0) / 600, 1e-9);
    assert_float_equal(r.row.lung_high_percent, 40, 1e-9);
    assert_int_equal(r.slice_count, NZ);
    assert_int_equal(r.slices[3].lung_px, 100);
    assert_int_equal(r.slices[0].lung_px, 0);
    assert_float_equal(r.slices[0].position_mm, -300, 1e-9);
    assert_float_equal(r.slices[9].position_mm, -255, 1e-9);
    study_result_free(&r);
}

static void isolated_slices_have_areas_and_nothing_in_millilitres_or_hu(void **state)
{
    (void)state;
    volume v = make();
    study_result r = {0};
    study_row_init(&r.row);
    v.head.isolated = 1;
    box(2, 8, 2, 8, 1, -800);
    assert_int_equal(burden_lung(&v, lung, &r), COV_OK);
    qc_run(&v, &(volume_stats){.lowest = -1300, .highest = 300}, lung, 0, &r.row);
    assert_true(isnan(r.row.lung_ml) && isnan(r.row.lung_right_ml) && isnan(r.row.lung_mean_hu) && isnan(r.row.lung_high_percent));
    assert_true(isnan(r.slices[3].position_mm));
    assert_int_equal(r.slices[3].lung_px, 60);
    assert_int_equal(r.row.qc_flags, STUDY_QC_ISOLATED);
    study_result_free(&r);
}

static int32_t flags_of(const volume *v, volume_stats stats, int doubt)
{
    study_result r = {0};
    study_row_init(&r.row);
    assert_int_equal(burden_lung(v, lung, &r), COV_OK);
    qc_run(v, &stats, lung, doubt, &r.row);
    int32_t flags = r.row.qc_flags;
    study_result_free(&r);
    return flags;
}

static void each_flag_is_raised_by_its_own_cause_alone(void **state)
{
    (void)state;
    const volume_stats fine = {.lowest = -1024, .highest = 1500};
    volume v = make();
    v.head.spacing_mm[2] = 10; /* 1 ml a voxel */
    box(2, 8, 1, 9, 1, -800);
    box(12, 18, 1, 9, 2, -800);
    assert_int_equal(flags_of(&v, fine, 0), 0);
    assert_int_equal(flags_of(&v, fine, 1), STUDY_QC_SIDE_DOUBT);
    assert_int_equal(flags_of(&v, (volume_stats){.lowest = -1024, .highest = 150}, 0), STUDY_QC_SATURATED);
    assert_int_equal(flags_of(&v, (volume_stats){.lowest = -1024, .highest = 1500, .share_highest = 0.1}, 0), STUDY_QC_SATURATED);
    box(2, 8, 9, 10, 1, -800);
    assert_int_equal(flags_of(&v, fine, 0), STUDY_QC_CUT_TOP);
    box(2, 8, 9, 10, 0, 40);
    box(2, 8, 0, 1, 1, -800);
    assert_int_equal(flags_of(&v, fine, 0), STUDY_QC_CUT_BOTTOM);
    box(2, 8, 0, 1, 0, 40);
    box(18, 20, 1, 9, 2, -800);
    assert_int_equal(flags_of(&v, fine, 0), STUDY_QC_CUT_SIDE);
    box(12, 20, 1, 9, 0, 40);
    assert_int_equal(flags_of(&v, fine, 0), STUDY_QC_ONE_LUNG | STUDY_QC_LUNG_SMALL);
    box(12, 18, 1, 9, 2, -800);
    v.head.spacing_mm[2] = 12;
    assert_int_equal(flags_of(&v, fine, 0), STUDY_QC_THICK_SLICES);
    v.head.spacing_mm[0] = v.head.spacing_mm[1] = v.head.spacing_mm[2] = 1;
    assert_int_equal(flags_of(&v, fine, 0), STUDY_QC_NOMINAL_SPACING | STUDY_QC_LUNG_SMALL);
    v.head.spacing_mm[0] = v.head.spacing_mm[1] = 40;
    v.head.spacing_mm[2] = 10;
    assert_int_equal(flags_of(&v, fine, 0), STUDY_QC_LUNG_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(volumes_densities_and_slices_are_counted),
        cmocka_unit_test(isolated_slices_have_areas_and_nothing_in_millilitres_or_hu),
        cmocka_unit_test(each_flag_is_raised_by_its_own_cause_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
