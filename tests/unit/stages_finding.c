/* Claims of stages/finding on hand-made lists. */
#include "stages/finding.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

static uint8_t corner[4] = {1, 0, 0, 0}, full[4] = {1, 1, 1, 1}, none[4];

static finding made(int64_t z, int32_t y, int32_t x, float score, uint8_t *mask)
{
    return (finding){.z = z, .y0 = y, .x0 = x, .y1 = y + 2, .x1 = x + 2, .score = score, .mask = mask};
}

static void a_list_keeps_copies_and_counts_their_pixels(void **state)
{
    (void)state;
    findings *f;
    uint8_t mask[4] = {1, 0, 1, 1};
    finding one = made(2, 5, 6, 0.5f, mask), empty = made(2, 5, 6, 0.5f, none);
    assert_int_equal(findings_new(3, &f), COV_OK);
    assert_true(isnan(f->period[2][3]));
    assert_int_equal(findings_add(f, &one), COV_OK);
    assert_int_equal(findings_add(f, &empty), COV_OK);
    mask[0] = 0;
    assert_int_equal(f->count, 1);
    assert_int_equal(f->at[0].area_px, 3);
    assert_int_equal(f->at[0].mask[0], 1);
    findings_free(&f);
    assert_null(f);
    findings_free(&f);
}

static void what_cannot_be_a_finding_is_refused(void **state)
{
    (void)state;
    findings *f;
    assert_int_equal(findings_new(-1, &f), COV_BROKEN);
    assert_int_equal(findings_new(3, &f), COV_OK);
    finding above = made(3, 0, 0, 0.5f, full), below = made(-1, 0, 0, 0.5f, full);
    finding nan = made(0, 0, 0, NAN, full), flat = made(0, 0, 0, 0.5f, full);
    flat.y1 = flat.y0;
    const finding *const wrong[] = {&above, &below, &nan, &flat};
    for (int k = 0; k < 4; k++) assert_int_equal(findings_add(f, wrong[k]), COV_BROKEN);
    assert_int_equal(f->count, 0);
    findings_free(&f);
}

static void the_order_does_not_depend_on_the_ranges_that_were_merged(void **state)
{
    (void)state;
    findings *whole, *low, *high;
    const finding all[] = {made(0, 1, 1, 0.3f, full), made(0, 9, 1, 0.9f, full), made(1, 4, 7, 0.5f, full),
                           made(1, 4, 2, 0.5f, full), made(2, 0, 0, 0.1f, corner), made(2, 0, 0, 0.1f, full)};
    assert_int_equal(findings_new(3, &whole), COV_OK);
    assert_int_equal(findings_new(3, &low), COV_OK);
    assert_int_equal(findings_new(3, &high), COV_OK);
    for (int k = 0; k < 6; k++) assert_int_equal(findings_add(whole, &all[k]), COV_OK);
    for (int k = 5; k >= 0; k--) assert_int_equal(findings_add(all[k].z < 1 ? low : high, &all[k]), COV_OK);
    for (int k = 0; k < 4; k++) high->period[2][k] = 0.25f;
    findings_sort(whole);
    assert_int_equal(findings_merge(low, high), COV_OK);
    findings_sort(low);
    assert_int_equal(high->count, 0);
    assert_int_equal(low->count, 6);
    for (int k = 0; k < 6; k++) {
        assert_int_equal(low->at[k].z, whole->at[k].z);
        assert_int_equal(low->at[k].y0, whole->at[k].y0);
        assert_int_equal(low->at[k].x0, whole->at[k].x0);
        assert_int_equal(low->at[k].area_px, whole->at[k].area_px);
    }
    assert_float_equal(low->at[0].score, 0.9, 1e-6);
    assert_int_equal(low->at[2].x0, 2);
    assert_true(isnan(low->period[1][0]));
    assert_float_equal(low->period[2][0], 0.25, 0);
    findings_free(&high);
    assert_int_equal(findings_new(4, &high), COV_OK);
    assert_int_equal(findings_merge(low, high), COV_BROKEN);
    findings_free(&high);
    findings_free(&low);
    findings_free(&whole);
}

static void packed_findings_come_back_and_any_cut_is_an_error(void **state)
{
    (void)state;
    findings *f, *g;
    void *bytes;
    size_t n;
    uint8_t odd[15] = {1, 0, 0, 1, 1, 0, 1, 0, 1, 1, 0, 0, 0, 1, 1};
    finding one = {.z = 1, .y0 = 3, .x0 = 4, .y1 = 6, .x1 = 9, .score = 0.7f, .mask = odd},
            two = made(0, 1, 1, 0.2f, corner);
    assert_int_equal(findings_new(2, &f), COV_OK);
    assert_int_equal(findings_add(f, &one), COV_OK);
    assert_int_equal(findings_add(f, &two), COV_OK);
    for (int k = 0; k < 4; k++) f->period[1][k] = 0.1f * (float)k;
    assert_int_equal(findings_pack(f, &bytes, &n), COV_OK);
    assert_int_equal(findings_new(2, &g), COV_OK);
    assert_int_equal(findings_unpack(bytes, n, g), COV_OK);
    assert_int_equal(g->count, 2);
    assert_int_equal(g->at[0].area_px, 8);
    assert_memory_equal(g->at[0].mask, odd, sizeof odd);
    assert_true(g->at[0].x1 == 9 && g->at[0].score == 0.7f && g->at[1].z == 0);
    assert_true(isnan(g->period[0][0]) && g->period[1][2] == f->period[1][2]);
    for (size_t cut = 0; cut < n; cut++) assert_int_equal(findings_unpack(bytes, cut, g), COV_FORMAT);
    findings_free(&g);
    assert_int_equal(findings_new(1, &g), COV_OK);
    assert_int_equal(findings_unpack(bytes, n, g), COV_FORMAT);
    findings_free(&g);
    findings_free(&f);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_keeps_copies_and_counts_their_pixels),
        cmocka_unit_test(what_cannot_be_a_finding_is_refused),
        cmocka_unit_test(the_order_does_not_depend_on_the_ranges_that_were_merged),
        cmocka_unit_test(packed_findings_come_back_and_any_cut_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
