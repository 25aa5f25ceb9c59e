/* base/size: checked arithmetic at its limits. */
#include "base/size.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void products_and_sums_that_fit_are_exact(void **state)
{
    size_t r = 7;
    (void)state;
    assert_true(size_mul(SIZE_MAX, 1, &r) && r == SIZE_MAX);
    assert_true(size_mul(0, SIZE_MAX, &r) && r == 0);
    assert_true(size_mul((size_t)1 << 32, ((size_t)1 << 32) - 1, &r) && r == SIZE_MAX - UINT32_MAX);
    assert_true(size_add(SIZE_MAX - 1, 1, &r) && r == SIZE_MAX);
    assert_true(size_add(0, 0, &r) && r == 0);
}

static void an_overflow_is_reported_and_leaves_the_result_alone(void **state)
{
    size_t r = 7;
    (void)state;
    assert_false(size_mul((size_t)1 << 32, (size_t)1 << 32, &r));
    assert_false(size_mul(SIZE_MAX, 2, &r));
    assert_false(size_add(SIZE_MAX, 1, &r));
    assert_false(size_add((size_t)1 << 63, (size_t)1 << 63, &r));
    assert_int_equal(r, 7);
}

static void a_product_of_counts_checks_every_step(void **state)
{
    size_t r = 7;
    (void)state;
    assert_true(size_product((int64_t[]){512, 512, 300, 4}, 4, &r) && r == (size_t)512 * 512 * 300 * 4);
    assert_true(size_product((int64_t[]){5}, 0, &r) && r == 1);
    assert_true(size_product((int64_t[]){0, INT64_MAX, INT64_MAX}, 3, &r) && r == 0);
    r = 7;
    assert_false(size_product((int64_t[]){INT64_MAX, INT64_MAX}, 2, &r));
    assert_false(size_product((int64_t[]){1 << 30, 1 << 30, 1 << 30, 0}, 4, &r)); /* wraps before the zero */
    assert_false(size_product((int64_t[]){4, -1}, 2, &r));
    assert_false(size_product((int64_t[]){-4, -4}, 2, &r));
    assert_false(size_product((int64_t[]){INT64_MIN}, 1, &r));
    assert_int_equal(r, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_and_sums_that_fit_are_exact),
        cmocka_unit_test(an_overflow_is_reported_and_leaves_the_result_alone),
        cmocka_unit_test(a_product_of_counts_checks_every_step),
    };
    return cmocka_run_group_tests_name("size", tests, NULL, NULL);
}
