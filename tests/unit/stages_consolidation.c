/* Made-up consolidation: the same bytes for the same case, inside the lung alone, as much as is said, as dense as
 * consolidation, one body over slices, and mostly at the back. */
#include "stages/consolidation.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

enum { NX = 80, NY = 64, NZ = 40, N = NX * NY * NZ, SEEDS = 12 };
static int16_t ct[N], hu[2][N];
static uint8_t lung[N], drawn[2][N];
static const volume V = {.head = {.nx = NX, .ny = NY, .nz = NZ, .spacing_mm = {3, 3, 6}}, .hu = ct};

/* Two ellipsoids of lung in soft tissue, with vessels in them. */
static int make_chest(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++) {
        int x = i % NX, y = i / NX % NY, z = i / NX / NY;
        double u = (x < NX / 2 ? x - 22 : x - 58) / 15.0, v = (y - 30) / 20.0, w = (z - 20) / 17.0;
        lung[i] = u * u + v * v + w * w < 1;
        ct[i] = (int16_t)(!lung[i] ? 40 : x % 9 == 0 && y % 9 == 0 ? 200 : -850);
    }
    return 0;
}

static void draw(int copy, uint64_t seed, int to)
{
    memset(hu[to], 0x5a, sizeof hu[to]);
    memset(drawn[to], 0x5a, sizeof drawn[to]);
    assert_int_equal(consolidation_draw(&V, lung, copy, seed, hu[to], drawn[to]), COV_OK);
}

static void the_same_case_gives_the_same_copy_and_another_another(void **state)
{
    (void)state;
    for (int copy = 0; copy < CONSOLIDATION_COPIES; copy++) {
        draw(copy, 7, 0);
        draw(copy, 7, 1);
        assert_memory_equal(hu[0], hu[1], sizeof hu[0]);
        assert_memory_equal(drawn[0], drawn[1], sizeof drawn[0]);
        draw(copy, 8, 1);
        assert_true(memcmp(drawn[0], drawn[1], sizeof drawn[0]) != 0);
    }
}

static void nothing_changes_outside_the_lung_and_density_is_only_added(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        draw((int)(seed % CONSOLIDATION_COPIES), seed, 0);
        for (int i = 0; i < N; i++) {
            assert_true(drawn[0][i] <= lung[i]);
            if (!lung[i]) assert_true(hu[0][i] == ct[i]);
            assert_true(hu[0][i] >= ct[i]);
        }
    }
}

/* Shares of 3 to 15 % of the lung; what is drawn fills them to within a tenth. */
static void as_much_of_the_lung_is_drawn_as_is_said(void **state)
{
    (void)state;
    double all = 0.0;
    for (int i = 0; i < N; i++) all += lung[i];
    for (int copy = 0; copy < CONSOLIDATION_COPIES; copy++) {
        double asked = consolidation_share(copy);
        assert_true(asked >= 0.03 && asked <= 0.16);
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            double n = 0.0;
            draw(copy, seed, 0);
            for (int i = 0; i < N; i++) n += drawn[0][i];
            assert_true(fabs(n / all - asked) < 0.1 * asked);
        }
    }
}

/* Of what is drawn no voxel is less than half way from air to the least dense opacity, and, vessels aside, none denser
 * than the densest one with its noise; the mean is soft. */
static void what_is_drawn_is_as_dense_as_consolidation(void **state)
{
    (void)state;
    const double noise = 3.5 * 50.0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        double sum = 0.0, n = 0.0;
        draw((int)(seed % CONSOLIDATION_COPIES), seed, 0);
        for (int i = 0; i < N; i++) {
            if (!drawn[0][i] || ct[i] == 200) continue;
            assert_true(hu[0][i] >= (-850 - 120 - noise) / 2 && hu[0][i] <= 100 + noise);
            sum += hu[0][i];
            n++;
        }
        assert_true(sum / n > -350.0 && sum / n < 100.0);
    }
}

/* Mean height of what is drawn against the lung's, and the share of it that goes on in the next slice. */
static void it_lies_at_the_back_and_goes_on_from_slice_to_slice(void **state)
{
    (void)state;
    double back = 0.0, above = 0.0, n = 0.0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        draw((int)(seed % CONSOLIDATION_COPIES), seed, 0);
        for (int i = 0; i < N - NX * NY; i++) {
            if (!drawn[0][i]) continue;
            back += i / NX % NY > 30; /* the lungs' middle */
            above += drawn[0][i + NX * NY] || drawn[0][i - NX * NY];
            n++;
        }
    }
    assert_true(back / n > 0.75);
    assert_true(above / n > 0.95);
}

static void a_volume_without_lung_is_refused(void **state)
{
    (void)state;
    static const uint8_t none[N];
    assert_int_equal(consolidation_draw(&V, none, 0, 1, hu[0], drawn[0]), COV_USAGE);
    status_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_case_gives_the_same_copy_and_another_another),
        cmocka_unit_test(nothing_changes_outside_the_lung_and_density_is_only_added),
        cmocka_unit_test(as_much_of_the_lung_is_drawn_as_is_said),
        cmocka_unit_test(what_is_drawn_is_as_dense_as_consolidation),
        cmocka_unit_test(it_lies_at_the_back_and_goes_on_from_slice_to_slice),
        cmocka_unit_test(a_volume_without_lung_is_refused),
    };
    return cmocka_run_group_tests(tests, make_chest, NULL);
}
