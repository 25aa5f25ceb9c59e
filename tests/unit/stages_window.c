/* The window: its ends, its middle, and that the fast loop says what the single value says. */
#include "stages/window.h"
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void the_lung_window_maps_minus_1300_to_300_hu_onto_0_to_1(void **state)
{
    (void)state;
    const int16_t hu[] = {INT16_MIN, -1301, -1300, -900, -500, -100, 300, 301, INT16_MAX};
    const float expected[] = {0, 0, 0, 0.25f, 0.5f, 0.75f, 1, 1, 1};
    float got[9];
    window_run(window_lung(), 9, hu, got);
    for (int k = 0; k < 9; k++) assert_true(got[k] == expected[k]);
}

static void a_run_of_any_length_agrees_with_single_values(void **state)
{
    (void)state;
    const window w = {.level = -450.5f, .width = 1333.0f};
    int16_t hu[67];
    float got[67];
    for (int k = 0; k < 67; k++) hu[k] = (int16_t)(k * 61 - 2000);
    for (size_t n = 0; n <= 67; n++) {
        window_run(w, n, hu, got);
        for (size_t k = 0; k < n; k++) assert_float_equal(got[k], window_one(w, hu[k]), 1e-6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_lung_window_maps_minus_1300_to_300_hu_onto_0_to_1),
        cmocka_unit_test(a_run_of_any_length_agrees_with_single_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
