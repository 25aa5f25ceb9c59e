/* Lanes: every item once, and which failure is told. */
#include "stages/lanes.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { ITEMS = 1000 };

typedef struct record {
    atomic_int runs[ITEMS];
    atomic_int outside; /* lanes that do not exist */
    int lanes;
} record;

static status count_item(void *ctx, int lane, int64_t item)
{
    record *r = ctx;
    atomic_fetch_add(&r->runs[item], 1);
    if (lane < 0 || lane >= r->lanes) atomic_fetch_add(&r->outside, 1);
    return COV_OK;
}

static void every_item_runs_once_in_a_lane_that_exists(void **state)
{
    (void)state;
    for (int lanes = 1; lanes <= 7; lanes += 3) {
        record r = {.lanes = lanes};
        assert_int_equal(lanes_run(lanes, ITEMS, count_item, &r), COV_OK);
        for (int k = 0; k < ITEMS; k++) assert_int_equal(atomic_load(&r.runs[k]), 1);
        assert_int_equal(atomic_load(&r.outside), 0);
    }
    record none = {.lanes = 3};
    assert_int_equal(lanes_run(3, 0, count_item, &none), COV_OK);
    assert_int_equal(atomic_load(&none.runs[0]), 0);
}

static status fail_from_20_on(void *ctx, int lane, int64_t item)
{
    (void)lane;
    atomic_fetch_add((atomic_int *)ctx, 1);
    return item >= 20 ? COV_FAIL(COV_NOMEM, "item %d", (int)item) : COV_OK;
}

static void the_lowest_failure_is_told_on_the_callers_thread_and_stops_the_rest(void **state)
{
    (void)state;
    for (int lanes = 1; lanes <= 4; lanes++) {
        atomic_int runs = 0;
        status_clear();
        assert_int_equal(lanes_run(lanes, ITEMS, fail_from_20_on, &runs), COV_NOMEM);
        assert_string_equal(status_message(), "item 20");
        assert_true(atomic_load(&runs) >= 21 && atomic_load(&runs) <= 20 + lanes);
    }
}

static void lanes_are_as_many_as_memory_allows_and_at_least_one(void **state)
{
    (void)state;
    assert_int_equal(lanes_for(8, 1 << 20), 8);
    assert_int_equal(lanes_for(8, (size_t)1 << 29), 2);
    assert_int_equal(lanes_for(8, (size_t)1 << 40), 1);
    assert_int_equal(lanes_for(1, 0), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_runs_once_in_a_lane_that_exists),
        cmocka_unit_test(the_lowest_failure_is_told_on_the_callers_thread_and_stops_the_rest),
        cmocka_unit_test(lanes_are_as_many_as_memory_allows_and_at_least_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
