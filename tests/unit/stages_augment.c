/* Augmentation: without it a plane arrives as it is; with it a sample is a function of its stream alone, masks move with the
 * image, values stay in [0, 1], opacities stay inside the lung and add density only. */
#include "stages/augment.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { N = 64 };
static int16_t hu[N * N];
static uint8_t lung[N * N], lesion[N * N];
static float store[6][N * N];

/* A disc of lung in soft tissue, right of the middle and above it, and a lesion in it. */
static int make_plane(void **state)
{
    (void)state;
    for (int r = 0; r < N; r++)
        for (int c = 0; c < N; c++) {
            int d2 = (r - 24) * (r - 24) + (c - 40) * (c - 40);
            lung[r * N + c] = d2 < 225;
            lesion[r * N + c] = d2 < 16;
            hu[r * N + c] = d2 < 225 ? -850 : 40;
        }
    return 0;
}

static augment_plane plane(void)
{
    return (augment_plane){.hu = hu, .lung = lung, .lesion = lesion, .rows = N, .cols = N, .row_step = N, .col_step = 1,
                           .fit_rows = N, .fit_cols = N};
}

static augment_canvas canvas(int k)
{
    return (augment_canvas){.rows = N, .cols = N, .image = store[3 * k], .target = store[3 * k + 1], .weight = store[3 * k + 2]};
}

static void without_augmentation_a_plane_arrives_as_it_is(void **state)
{
    (void)state;
    augment_options o = augment_none();
    augment_plane p = plane();
    augment_canvas to = canvas(0);
    rng r = rng_start(1, 1);
    augment_run(&o, &r, &p, &to);
    for (int i = 0; i < N * N; i++) {
        assert_float_equal(to.image[i], window_one(window_lung(), hu[i]), 1e-5);
        assert_true(to.target[i] == (float)lung[i]);
    }
}

/* On a canvas of 64 columns the neighbourhood reaches one pixel. */
static void lesions_and_their_neighbourhood_weigh_more(void **state)
{
    (void)state;
    augment_options o = augment_none();
    augment_plane p = plane();
    augment_canvas to = canvas(0);
    rng stream = rng_start(1, 1);
    o.lesion_weight = 3.0f;
    augment_run(&o, &stream, &p, &to);
    for (int r = 1; r < N - 1; r++)
        for (int c = 1; c < N - 1; c++) {
            int near = 0;
            for (int k = 0; k < 9; k++) near |= lesion[(r + k / 3 - 1) * N + c + k % 3 - 1];
            assert_true(to.weight[r * N + c] == (near ? 3.0f : 1.0f));
        }
}

static void gas_lies_outside_the_lung_and_only_takes_density_away(void **state)
{
    (void)state;
    augment_options o = augment_none();
    augment_plane p = plane();
    augment_canvas plain = canvas(0), with = canvas(1);
    int changed = 0;
    for (uint64_t k = 0; k < 30; k++) {
        rng r1 = rng_start(9, k), r2 = rng_start(9, k);
        o.gas = 0.0f;
        augment_run(&o, &r1, &p, &plain);
        o.gas = 1.0f;
        augment_run(&o, &r2, &p, &with);
        for (int i = 0; i < N * N; i++) {
            assert_true(with.target[i] == plain.target[i]);
            if (lung[i]) assert_true(with.image[i] == plain.image[i]);
            assert_true(with.image[i] <= plain.image[i] + 1e-6f);
            changed += with.image[i] < plain.image[i] - 0.1f;
        }
    }
    assert_true(changed > 300);
}

static void a_sample_is_a_function_of_its_stream_alone(void **state)
{
    (void)state;
    augment_options o = augment_defaults();
    augment_plane p = plane();
    augment_canvas a = canvas(0), b = canvas(1);
    int differ = 0;
    for (uint64_t k = 0; k < 20; k++) {
        rng r1 = rng_start(7, k), r2 = rng_start(7, k), other = rng_start(7, k + 1000);
        memset(store, 0x5a, sizeof store);
        augment_run(&o, &r1, &p, &a);
        augment_run(&o, &r2, &p, &b);
        for (int j = 0; j < 3; j++) assert_memory_equal(store[j], store[3 + j], sizeof store[0]);
        augment_run(&o, &other, &p, &b);
        differ += memcmp(store[0], store[3], sizeof store[0]) != 0;
    }
    assert_int_equal(differ, 20);
}

static void values_stay_in_their_ranges(void **state)
{
    (void)state;
    augment_options o = augment_defaults();
    augment_plane p = plane();
    augment_canvas to = canvas(0);
    for (uint64_t k = 0; k < 50; k++) {
        rng r = rng_start(3, k);
        augment_run(&o, &r, &p, &to);
        for (int i = 0; i < N * N; i++) {
            assert_true(to.image[i] >= 0.0f && to.image[i] <= 1.0f);
            assert_true(to.target[i] == 0.0f || to.target[i] == 1.0f);
            assert_true(to.weight[i] >= 1.0f);
        }
    }
}

/* Geometry alone: wherever the mask says lung the image must be dark, and nowhere else inside the plane. */
static void masks_move_with_the_image(void **state)
{
    (void)state;
    augment_options o = augment_none();
    augment_plane p = plane();
    augment_canvas to = canvas(0);
    o.shift = 0.1f;
    o.scale_low = 0.7f;
    o.scale_high = 1.4f;
    o.rotate = 0.2f;
    o.stretch = 0.2f;
    float soft = window_one(window_lung(), 40), middle = 0.5f * (soft + window_one(window_lung(), -850));
    for (uint64_t k = 0; k < 30; k++) {
        rng r = rng_start(5, k);
        augment_run(&o, &r, &p, &to);
        for (int i = 0; i < N * N; i++)
            if (to.image[i] > 0.0f) assert_true((to.image[i] < middle) == (to.target[i] > 0.5f) || fabsf(to.image[i] - middle) < 0.05f);
    }
}

static void scale_makes_the_lung_larger_and_nothing_is_mirrored(void **state)
{
    (void)state;
    augment_options o = augment_none();
    augment_plane p = plane();
    augment_canvas to = canvas(0);
    o.scale_low = o.scale_high = 1.3f;
    rng r = rng_start(5, 0);
    augment_run(&o, &r, &p, &to);
    double area = 0, at_r = 0, at_c = 0, before = 0;
    for (int i = 0; i < N * N; i++) {
        before += lung[i];
        area += (double)to.target[i];
        at_r += (double)to.target[i] * (i / N);
        at_c += (double)to.target[i] * (i % N);
    }
    assert_true(fabs(area / before - 1.69) < 0.05);
    assert_true(at_r / area < N / 2.0 && at_c / area > N / 2.0); /* still above and right of the middle */
}

static void opacities_lie_inside_the_lung_and_only_add_density(void **state)
{
    (void)state;
    augment_options o = augment_none();
    augment_plane p = plane();
    augment_canvas plain = canvas(0), with = canvas(1);
    int changed = 0;
    for (uint64_t k = 0; k < 30; k++) {
        rng r1 = rng_start(9, k), r2 = rng_start(9, k);
        o.opacity = 0.0f;
        augment_run(&o, &r1, &p, &plain);
        o.opacity = 1.0f;
        augment_run(&o, &r2, &p, &with);
        for (int i = 0; i < N * N; i++) {
            assert_true(with.target[i] == plain.target[i]);
            if (!lung[i]) assert_true(with.image[i] == plain.image[i]);
            assert_true(with.image[i] >= plain.image[i] - 1e-6f);
            changed += with.image[i] > plain.image[i] + 0.1f;
        }
    }
    assert_true(changed > 1000);
}

/* Density that opacities add to the lung's lower half less that in its upper one, over many samples. */
static double added_below(float from, float to_angle)
{
    augment_options o = augment_none();
    augment_plane p = plane();
    augment_canvas plain = canvas(0), with = canvas(1);
    double below = 0.0, mean = 0.0, lungs = 0.0;
    for (int i = 0; i < N * N; i++) {
        mean += lung[i] ? i / N : 0;
        lungs += lung[i];
    }
    mean /= lungs;
    o.pleura_from = from;
    o.pleura_to = to_angle;
    for (uint64_t k = 0; k < 100; k++) {
        rng r1 = rng_start(6, k), r2 = rng_start(6, k);
        o.opacity = 0.0f;
        augment_run(&o, &r1, &p, &plain);
        o.opacity = 1.0f;
        augment_run(&o, &r2, &p, &with);
        for (int i = 0; i < N * N; i++) below += (i / N > mean ? 1 : -1) * (double)(with.image[i] - plain.image[i]);
    }
    return below;
}

static void dense_opacities_lie_at_the_pleura_that_was_asked_for(void **state)
{
    (void)state;
    const float down = 1.5707963f;
    double below = added_below(down - 0.3f, down + 0.3f), above = added_below(-down - 0.3f, -down + 0.3f);
    assert_true(below - above > 100.0); /* pixels turned from air to soft tissue */
}

static void the_random_numbers_are_uniform_and_streams_differ(void **state)
{
    (void)state;
    double sum = 0, squares = 0, normal = 0, normal2 = 0;
    enum { COUNT = 100000 };
    for (uint64_t k = 0; k < COUNT; k++) {
        rng r = rng_start(1, k);
        double u = (double)rng_unit(&r), g = (double)rng_normal(&r);
        sum += u;
        squares += u * u;
        normal += g;
        normal2 += g * g;
    }
    assert_true(fabs(sum / COUNT - 0.5) < 0.005 && fabs(squares / COUNT - 1.0 / 3) < 0.005);
    assert_true(fabs(normal / COUNT) < 0.02 && fabs(normal2 / COUNT - 1.0) < 0.02);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_augmentation_a_plane_arrives_as_it_is),
        cmocka_unit_test(lesions_and_their_neighbourhood_weigh_more),
        cmocka_unit_test(gas_lies_outside_the_lung_and_only_takes_density_away),
        cmocka_unit_test(a_sample_is_a_function_of_its_stream_alone),
        cmocka_unit_test(values_stay_in_their_ranges),
        cmocka_unit_test(masks_move_with_the_image),
        cmocka_unit_test(scale_makes_the_lung_larger_and_nothing_is_mirrored),
        cmocka_unit_test(opacities_lie_inside_the_lung_and_only_add_density),
        cmocka_unit_test(dense_opacities_lie_at_the_pleura_that_was_asked_for),
        cmocka_unit_test(the_random_numbers_are_uniform_and_streams_differ),
    };
    return cmocka_run_group_tests(tests, make_plane, NULL);
}
