/* The window: its ends, its middle, and that the backend's loop says what the single value says. */
#include "kernels/backend.h"
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
    for (int k = 0; k < 9; k++) assert_true(window_one(window_lung(), hu[k]) == expected[k]);
}

static void a_run_of_any_length_agrees_with_single_values(void **state)
{
    (void)state;
    const window w = {.level = -450.5f, .width = 1333.0f};
    const backend *b;
    device *d;
    int16_t hu[67];
    float got[67], none[67] = {0}, same[67];
    assert_int_equal(backend_find("cpu", &b), COV_OK);
    assert_int_equal(b->open(&(device_options){.threads = 1}, &d), COV_OK);
    for (int k = 0; k < 67; k++) hu[k] = (int16_t)(k * 61 - 2000);
    for (int64_t n = 1; n <= 67; n++) {
        plane_part run = {.nx = 67, .ny = 1, .nz = 1, .w = n, .h = 1, .n = 1};
        assert_int_equal(b->plane_crop(d, &run, window_range(w), hu, none, got, same), COV_OK);
        for (int64_t k = 0; k < n; k++) assert_float_equal(got[k] / 255.0f, window_one(w, hu[k]), 1e-6);
    }
    b->close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_lung_window_maps_minus_1300_to_300_hu_onto_0_to_1),
        cmocka_unit_test(a_run_of_any_length_agrees_with_single_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
