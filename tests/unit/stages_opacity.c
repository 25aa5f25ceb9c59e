/* What opacities look like: noise in range and without jumps, on planes as between them; how far one half is covered
 * agrees with the cover; dense kinds are dense. */
#include "stages/opacity.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void the_noise_lies_in_range_and_has_no_jumps(void **state)
{
    (void)state;
    const float step = 0.01f;
    float low = 1.0f, high = 0.0f;
    for (int k = -300; k < 300; k++) {
        float at[3] = {0.37f * (float)k, 0.11f, -2.3f}; /* crosses lattice planes of each axis in turn */
        for (int axis = 0; axis < 3; axis++) {
            float z = at[axis], y = at[(axis + 1) % 3], x = at[(axis + 2) % 3];
            float here = opacity_noise(5, z, y, x), next = opacity_noise(5, z + step, y + step, x + step);
            assert_true(here >= 0.0f && here <= 1.0f);
            assert_true(fabsf(here - next) < 0.06f); /* three axes, slope 1.5 at most each */
            low = here < low ? here : low;
            high = here > high ? here : high;
        }
    }
    assert_true(low < 0.2f && high > 0.8f);
    assert_true(opacity_noise(5, 0.4f, 0.4f, 0.4f) != opacity_noise(6, 0.4f, 0.4f, 0.4f));
}

static void one_half_is_covered_at_the_distance_that_is_said(void **state)
{
    (void)state;
    for (uint64_t k = 0; k < 200; k++) {
        rng r = rng_start(1, k);
        opacity o = opacity_draw(&r, k % 2 ? OPACITY_PLEURAL : OPACITY_DENSE);
        float noise = rng_unit(&r), half = opacity_half(&o, noise);
        assert_true(half > 0.0f && half < 1.0f);
        assert_float_equal(opacity_cover(&o, half, noise), 0.5f, 1e-4);
        assert_true(opacity_cover(&o, 0.0f, 0.0f) > 0.99f && opacity_cover(&o, 1.0f, 0.0f) == 0.0f);
    }
}

static void dense_kinds_are_as_dense_as_consolidation_and_glass_is_not(void **state)
{
    (void)state;
    for (uint64_t k = 0; k < 300; k++) {
        rng r = rng_start(2, k);
        opacity o = opacity_draw(&r, (opacity_kind)(k % 3));
        if (k % 3 == OPACITY_GLASS) assert_true(o.hu >= -700.0f && o.hu <= -200.0f);
        else assert_true(o.hu >= -120.0f && o.hu <= 100.0f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_noise_lies_in_range_and_has_no_jumps),
        cmocka_unit_test(one_half_is_covered_at_the_distance_that_is_said),
        cmocka_unit_test(dense_kinds_are_as_dense_as_consolidation_and_glass_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
