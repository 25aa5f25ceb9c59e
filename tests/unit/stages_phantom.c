/* Claims of stages/phantom: repeatable, the truth is counted on the image's own grid, tissue looks like tissue. */
#include "stages/phantom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 96, SLICES = 24, COUNT = SIZE * SIZE * SLICES };

static phantom_options chest(uint64_t seed, int lesions)
{
    return (phantom_options){.seed = seed, .nx = SIZE, .ny = SIZE, .nz = SLICES, .spacing_mm = {4, 4, 13}, .lesions = lesions, .threads = 1};
}

static phantom *make(phantom_options o)
{
    phantom *p;
    assert_int_equal(phantom_new(&o, &p), COV_OK);
    return p;
}

static void the_same_seed_gives_the_same_bytes_on_any_number_of_threads(void **state)
{
    (void)state;
    phantom_options o = chest(5, 6);
    phantom *a = make(o), *c;
    o.threads = 3;
    phantom *b = make(o);
    o.seed = 6;
    c = make(o);
    assert_memory_equal(a->hu, b->hu, COUNT * sizeof *a->hu);
    assert_memory_equal(a->lesion, b->lesion, COUNT);
    assert_memory_not_equal(a->hu, c->hu, COUNT * sizeof *a->hu);
    phantom_free(&a);
    phantom_free(&b);
    phantom_free(&c);
}

static void the_truth_is_what_the_masks_count(void **state)
{
    (void)state;
    phantom *p = make(chest(7, 8));
    int64_t n[3] = {0}, lesion = 0;
    double lung_hu = 0;
    for (int i = 0; i < COUNT; i++) {
        n[p->lung[i]]++;
        lesion += p->lesion[i];
        assert_true(!p->lesion[i] || p->lung[i]);
        if (p->lung[i]) lung_hu += p->hu[i];
    }
    assert_true(n[1] > 0 && n[2] > 0 && lesion > 0);
    assert_float_equal(p->lung_right_ml, (double)n[1] * 0.208, 1e-6);
    assert_float_equal(p->lung_left_ml, (double)n[2] * 0.208, 1e-6);
    assert_float_equal(p->lesion_ml, (double)lesion * 0.208, 1e-6);
    assert_in_range(-(int)(lung_hu / (double)(n[1] + n[2])), 600, 900);
    assert_int_equal(p->regions, 8);
    phantom_free(&p);
}

static void the_right_lung_lies_at_small_x(void **state)
{
    (void)state;
    phantom *p = make(chest(8, 0));
    double x[3] = {0}, n[3] = {0};
    for (int i = 0; i < COUNT; i++) x[p->lung[i]] += i % SIZE, n[p->lung[i]]++;
    assert_true(x[1] / n[1] < x[2] / n[2]);
    phantom_free(&p);
}

static void a_healthy_chest_has_no_lesion_and_a_head_no_lung(void **state)
{
    (void)state;
    phantom *healthy = make(chest(9, 0));
    phantom_options o = chest(9, 5);
    o.body = PHANTOM_HEAD;
    phantom *head = make(o);
    assert_null(memchr(healthy->lesion, 1, COUNT));
    assert_null(memchr(head->lung, 1, COUNT));
    assert_null(memchr(head->lung, 2, COUNT));
    phantom_free(&healthy);
    phantom_free(&head);
}

static void impossible_sizes_are_refused(void **state)
{
    (void)state;
    phantom *p;
    phantom_options o = chest(1, 0);
    o.nx = -4;
    assert_int_equal(phantom_new(&o, &p), COV_USAGE);
    assert_null(p);
    o.nx = (int64_t)1 << 40;
    assert_int_equal(phantom_new(&o, &p), COV_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_seed_gives_the_same_bytes_on_any_number_of_threads),
        cmocka_unit_test(the_truth_is_what_the_masks_count),
        cmocka_unit_test(the_right_lung_lies_at_small_x),
        cmocka_unit_test(a_healthy_chest_has_no_lesion_and_a_head_no_lung),
        cmocka_unit_test(impossible_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
