/* Shapes are counted with checked arithmetic, and bf16 rounds to nearest even. */
#include "kernels/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static float bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static void bytes_are_counts_times_the_type(void **state)
{
    (void)state;
    size_t n;
    assert_int_equal(tensor_count(tensor_shape_of(2, 3, 4, 5, TENSOR_F32), &n), COV_OK);
    assert_int_equal(n, 120);
    assert_int_equal(tensor_bytes(tensor_shape_of(2, 3, 4, 5, TENSOR_F32), &n), COV_OK);
    assert_int_equal(n, 480);
    assert_int_equal(tensor_bytes(tensor_shape_of(2, 3, 4, 5, TENSOR_BF16), &n), COV_OK);
    assert_int_equal(n, 240);
    assert_int_equal(tensor_bytes(tensor_shape_of(2, 3, 4, 5, TENSOR_I32), &n), COV_OK);
    assert_int_equal(n, 480);
    assert_int_equal(tensor_bytes(tensor_shape_of(2, 3, 4, 5, TENSOR_U8), &n), COV_OK);
    assert_int_equal(n, 120);
}

static void sizes_that_cannot_be_are_refused(void **state)
{
    (void)state;
    size_t n = 7;
    assert_int_equal(tensor_count(tensor_shape_of(1, 0, 4, 5, TENSOR_F32), &n), COV_BROKEN);
    assert_int_equal(n, 0);
    assert_int_equal(tensor_count(tensor_shape_of(1, 1, -4, 5, TENSOR_F32), &n), COV_BROKEN);
    assert_int_equal(tensor_count(tensor_shape_of(1, 1, (int64_t)1 << 31, 1, TENSOR_F32), &n), COV_BROKEN);
    assert_int_equal(tensor_bytes(tensor_shape_of(1, 1, 1, 1, (tensor_type)9), &n), COV_BROKEN);
    int64_t big = INT32_MAX;
    assert_int_equal(tensor_count(tensor_shape_of(big, big, big, 1, TENSOR_F32), &n), COV_NOMEM);
    assert_int_equal(tensor_count(tensor_shape_of(big, big, 1, 1, TENSOR_F32), &n), COV_OK);
    assert_int_equal(tensor_bytes(tensor_shape_of(big, big, 1, 1, TENSOR_F32), &n), COV_NOMEM); /* 2^62 floats */
    assert_int_equal(n, 0);
}

static void shapes_differ_by_any_size_or_type(void **state)
{
    (void)state;
    tensor_shape a = tensor_shape_of(1, 2, 3, 4, TENSOR_F32);
    assert_true(tensor_same_shape(a, tensor_shape_of(1, 2, 3, 4, TENSOR_F32)));
    assert_false(tensor_same_shape(a, tensor_shape_of(2, 2, 3, 4, TENSOR_F32)));
    assert_false(tensor_same_shape(a, tensor_shape_of(1, 1, 3, 4, TENSOR_F32)));
    assert_false(tensor_same_shape(a, tensor_shape_of(1, 2, 1, 4, TENSOR_F32)));
    assert_false(tensor_same_shape(a, tensor_shape_of(1, 2, 3, 1, TENSOR_F32)));
    assert_false(tensor_same_shape(a, tensor_shape_of(1, 2, 3, 4, TENSOR_BF16)));
}

static void every_bf16_survives_the_round_trip(void **state)
{
    (void)state;
    for (uint32_t b = 0; b <= 0xffff; b++) {
        float f = tensor_f32_from_bf16((uint16_t)b);
        if (isnan(f)) assert_true(isnan(tensor_f32_from_bf16(tensor_bf16_from_f32(f))));
        else assert_int_equal(tensor_bf16_from_f32(f), b);
    }
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    assert_int_equal(tensor_bf16_from_f32(bits(0x3f808000)), 0x3f80); /* a tie, to even below */
    assert_int_equal(tensor_bf16_from_f32(bits(0x3f818000)), 0x3f82); /* a tie, to even above */
    assert_int_equal(tensor_bf16_from_f32(bits(0x3f808001)), 0x3f81);
    assert_int_equal(tensor_bf16_from_f32(bits(0x3f807fff)), 0x3f80);
    assert_int_equal(tensor_bf16_from_f32(bits(0xbf818000)), 0xbf82);
    assert_int_equal(tensor_bf16_from_f32(bits(0x7f7fffff)), 0x7f80); /* the largest float rounds to infinity */
    assert_int_equal(tensor_bf16_from_f32(-INFINITY), 0xff80);
    assert_true(isnan(tensor_f32_from_bf16(tensor_bf16_from_f32(bits(0x7f800001)))));
    assert_true(isnan(tensor_f32_from_bf16(tensor_bf16_from_f32(bits(0xffffffff)))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_counts_times_the_type),   cmocka_unit_test(sizes_that_cannot_be_are_refused),
        cmocka_unit_test(shapes_differ_by_any_size_or_type), cmocka_unit_test(every_bf16_survives_the_round_trip),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
