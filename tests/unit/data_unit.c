/* Units: dearest first, ties by index, small ones together, and every study in exactly one unit. */
#include "data/unit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void dearest_first_and_ties_by_index(void **state)
{
    unit_study s[] = {{0, 100, 10, 0}, {1, 300, 10, 0}, {2, 100, 10, 0}, {3, 200, 10, 0}};
    int64_t want[] = {1, 3, 0, 2};
    unit_list l;
    (void)state;
    assert_int_equal(unit_plan(s, 4, 0, &l), COV_OK);
    assert_int_equal(l.count, 4);
    for (int k = 0; k < 4; k++) {
        assert_int_equal(l.units[k].count, 1);
        assert_int_equal(l.studies[l.units[k].first].index, want[k]);
    }
    unit_list_free(&l);
}

static void the_order_does_not_depend_on_the_order_given(void **state)
{
    enum { N = 50 };
    unit_study s[N];
    unit_list a, b;
    (void)state;
    for (int k = 0; k < N; k++) s[k] = (unit_study){k, k * 7 % 11, 1 + k % 3, 0};
    assert_int_equal(unit_plan(s, N, 0, &a), COV_OK);
    for (int k = 0; k < N / 2; k++) {
        unit_study t = s[k];
        s[k] = s[N - 1 - k];
        s[N - 1 - k] = t;
    }
    assert_int_equal(unit_plan(s, N, 0, &b), COV_OK);
    assert_int_equal(a.count, b.count);
    for (int k = 0; k < N; k++) assert_int_equal(a.studies[k].index, b.studies[k].index);
    unit_list_free(&a);
    unit_list_free(&b);
}

static void small_studies_go_together_and_none_is_lost(void **state)
{
    enum { N = 100 };
    unit_study s[N];
    int seen[N] = {0};
    unit_list l;
    (void)state;
    for (int k = 0; k < N; k++) s[k] = (unit_study){k, k < 10 ? 300 : k < 90 ? 1 : 0, 512 * 512, 0};
    assert_int_equal(unit_plan(s, N, 32, &l), COV_OK);
    assert_int_equal(l.count, 10 + 3 + 1); /* 80 slices by 32, and ten that are to be recorded alone */
    for (int64_t u = 0; u < l.count; u++) {
        int64_t slices = 0;
        for (int64_t k = 0; k < l.units[u].count; k++) {
            const unit_study *x = &l.studies[l.units[u].first + k];
            slices += x->slices;
            seen[x->index]++;
        }
        assert_true(l.units[u].count == 1 || slices <= 32);
    }
    for (int k = 0; k < N; k++) assert_int_equal(seen[k], 1);
    unit_list_free(&l);
    assert_int_equal(unit_plan(s, N, 1, &l), COV_OK);
    assert_int_equal(l.count, 90 + 1); /* 1: slices stay alone */
    unit_list_free(&l);
}

static void what_was_open_at_a_jobs_death_runs_last_and_alone(void **state)
{
    unit_study s[] = {{0, 1000, 10, 1}, {1, 1, 10, 0}, {2, 1, 10, 1}, {3, 1, 10, 0}};
    unit_list l;
    (void)state;
    assert_int_equal(unit_plan(s, 4, 0, &l), COV_OK);
    assert_int_equal(l.count, 3);
    assert_int_equal(l.units[0].count, 2);
    assert_int_equal(l.studies[l.units[1].first].index, 0);
    assert_int_equal(l.studies[l.units[2].first].index, 2);
    unit_list_free(&l);
    assert_int_equal(unit_plan(NULL, 0, 0, &l), COV_OK);
    assert_int_equal(l.count, 0);
    unit_list_free(&l);
}

static void a_study_is_cut_up_where_it_is_dear_for_the_ranks_there_are(void **state)
{
    (void)state;
    assert_int_equal(unit_range(300, 100, 100, 1, 0), 0);  /* nobody to share it with */
    assert_int_equal(unit_range(300, 100, 100, 4, 0), 38); /* alone: two ranges a rank */
    assert_int_equal(unit_range(300, 13, 100, 4, 0), 38);  /* just above half of a rank's share */
    assert_int_equal(unit_range(300, 12, 100, 4, 0), 0);
    assert_int_equal(unit_range(31, 100, 100, 4, 0), 0);
    assert_int_equal(unit_range(40, 100, 100, 64, 0), 16);
    assert_int_equal(unit_range(300, 100, 100, 4, -1), 0);
    assert_int_equal(unit_range(10, 1, 100, 1, 5), 5); /* as asked for, where there are two */
    assert_int_equal(unit_range(9, 100, 100, 4, 5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dearest_first_and_ties_by_index),
        cmocka_unit_test(the_order_does_not_depend_on_the_order_given),
        cmocka_unit_test(small_studies_go_together_and_none_is_lost),
        cmocka_unit_test(what_was_open_at_a_jobs_death_runs_last_and_alone),
        cmocka_unit_test(a_study_is_cut_up_where_it_is_dear_for_the_ranks_there_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
