/* Claims of stages/regions. */
#include "stages/regions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void tiny_is_below_0_059_per_cent_of_the_slices_own_size(void **state)
{
    (void)state;
    assert_true(regions_tiny(154, 512, 512)); /* 0.00059 * 262144 = 154.7 */
    assert_false(regions_tiny(155, 512, 512));
    assert_true(regions_tiny(38, 256, 256)); /* 38.7 */
    assert_false(regions_tiny(39, 256, 256));
    assert_true(regions_area_512(38, 256, 256) == 152.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_is_below_0_059_per_cent_of_the_slices_own_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
