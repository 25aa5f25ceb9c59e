/* Every kind of op infers the shapes that its line in kernels/op.h promises, and refuses what does not fit with a
 * message that names the op and the sizes. */
#include "kernels/backend.h"
#include "kernels/op.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static tensor_shape f32(int64_t n, int64_t h, int64_t w, int64_t c) { return tensor_shape_of(n, h, w, c, TENSOR_F32); }

static void assert_shape(tensor_shape s, int64_t n, int64_t h, int64_t w, int64_t c, tensor_type type)
{
    assert_int_equal(s.n, n);
    assert_int_equal(s.h, h);
    assert_int_equal(s.w, w);
    assert_int_equal(s.c, c);
    assert_int_equal(s.type, type);
}

static op_shapes of(op o, int nx, const tensor_shape *x)
{
    op_shapes s = {.nx = nx};
    for (int k = 0; k < nx; k++) s.x[k] = x[k];
    if (op_infer(&o, &s) != COV_OK) fail_msg("%s", status_message());
    return s;
}

static op_shapes of1(op o, tensor_shape x) { return of(o, 1, &x); }

/* Refused, with all three words in the message. */
static void refused(op o, int nx, const tensor_shape *x, const char *a, const char *b)
{
    op_shapes s = {.nx = nx};
    for (int k = 0; k < nx && k < OP_MAX_X; k++) s.x[k] = x[k];
    assert_int_equal(op_infer(&o, &s), COV_BROKEN);
    if (!strstr(status_message(), a) || !strstr(status_message(), b))
        fail_msg("'%s' does not say '%s' and '%s'", status_message(), a, b);
}

static void refused1(op o, tensor_shape x, const char *a, const char *b) { refused(o, 1, &x, a, b); }

static void a_convolution_infers_weights_and_output(void **state)
{
    (void)state;
    op o = {.kind = OP_CONV, .channels = 8, .kernel = 3, .stride = 2, .pad = 1, .bias = 1, .relu = 1};
    op_shapes s = of1(o, f32(2, 9, 8, 5));
    assert_shape(s.y, 2, 5, 4, 8, TENSOR_F32);
    assert_int_equal(s.np, 2);
    assert_shape(s.p[0], 8, 3, 3, 5, TENSOR_F32);
    assert_shape(s.p[1], 1, 1, 1, 8, TENSOR_F32);
    assert_int_equal(s.nsaved, 0);
    assert_true(op_flops(&o, &s) == 2.0 * 2 * 5 * 4 * 8 * 3 * 3 * 5);
    s = of1(o, tensor_shape_of(2, 9, 8, 5, TENSOR_BF16));
    assert_int_equal(s.y.type, TENSOR_BF16);
    assert_int_equal(s.p[0].type, TENSOR_F32);
}

static void a_transposed_convolution_undoes_the_size_of_its_convolution(void **state)
{
    (void)state;
    op o = {.kind = OP_CONVT, .channels = 4, .kernel = 2, .stride = 2};
    op_shapes s = of1(o, f32(1, 5, 7, 6));
    assert_shape(s.y, 1, 10, 14, 4, TENSOR_F32);
    assert_int_equal(s.np, 1);
    assert_shape(s.p[0], 6, 2, 2, 4, TENSOR_F32);
    assert_true(op_flops(&o, &s) == 2.0 * 5 * 7 * 6 * 2 * 2 * 4);
    o.kernel = 4;
    o.pad = 1;
    assert_shape(of1(o, f32(1, 5, 7, 6)).y, 1, 10, 14, 4, TENSOR_F32);
}

static void a_linear_layer_works_on_rows(void **state)
{
    (void)state;
    op o = {.kind = OP_LINEAR, .channels = 3, .bias = 1};
    op_shapes s = of1(o, f32(2, 4, 5, 7));
    assert_shape(s.y, 2, 4, 5, 3, TENSOR_F32);
    assert_shape(s.p[0], 3, 1, 1, 7, TENSOR_F32);
    assert_true(op_flops(&o, &s) == 2.0 * 40 * 7 * 3);
}

static void pools_and_resizes_keep_channels(void **state)
{
    (void)state;
    op_shapes s = of1((op){.kind = OP_MAXPOOL, .kernel = 3, .stride = 2, .pad = 1}, f32(1, 9, 8, 5));
    assert_shape(s.y, 1, 5, 4, 5, TENSOR_F32);
    assert_int_equal(s.nsaved, 1);
    assert_shape(s.saved[0], 1, 5, 4, 5, TENSOR_I32);
    assert_shape(of1((op){.kind = OP_AVGPOOL}, f32(2, 9, 8, 5)).y, 2, 1, 1, 5, TENSOR_F32);
    assert_shape(of1((op){.kind = OP_RESIZE, .out_h = 3, .out_w = 20}, f32(2, 9, 8, 5)).y, 2, 3, 20, 5, TENSOR_F32);
}

static void norms_have_their_parameters_and_statistics(void **state)
{
    (void)state;
    tensor_shape x[2] = {f32(2, 4, 4, 6), f32(2, 4, 4, 6)};
    op_shapes s = of((op){.kind = OP_GROUPNORM, .groups = 3, .eps = 1e-5f, .residual = 1}, 2, x);
    assert_shape(s.y, 2, 4, 4, 6, TENSOR_F32);
    assert_int_equal(s.np, 2);
    assert_int_equal(s.nsaved, 2);
    assert_shape(s.saved[1], 2, 1, 1, 3, TENSOR_F32);
    s = of((op){.kind = OP_BATCHNORM, .eps = 1e-5f}, 1, x);
    assert_int_equal(s.np, 4);
    assert_shape(s.p[3], 1, 1, 1, 6, TENSOR_F32);
    assert_shape(s.saved[0], 1, 1, 1, 6, TENSOR_F32);
}

static void concat_joins_channels_and_add_keeps_the_shape(void **state)
{
    (void)state;
    tensor_shape x[3] = {f32(2, 4, 4, 6), f32(2, 4, 4, 1), f32(2, 4, 4, 2)}, a[2] = {f32(2, 4, 4, 6), f32(2, 4, 4, 6)};
    assert_shape(of((op){.kind = OP_CONCAT}, 3, x).y, 2, 4, 4, 9, TENSOR_F32);
    tensor_shape levels[2] = {f32(2, 8, 6, 3), f32(2, 4, 3, 3)};
    assert_shape(of((op){.kind = OP_CONCAT, .pixels = 1}, 2, levels).y, 2, 60, 1, 3, TENSOR_F32);
    assert_shape(of((op){.kind = OP_ADD, .relu = 1}, 2, a).y, 2, 4, 4, 6, TENSOR_F32);
}

static void losses_are_one_f32_and_take_bf16_predictions(void **state)
{
    (void)state;
    tensor_shape x[3] = {tensor_shape_of(2, 4, 4, 1, TENSOR_BF16), f32(2, 4, 4, 1), f32(2, 4, 4, 1)};
    tensor_shape classes[2] = {tensor_shape_of(2, 4, 4, 3, TENSOR_BF16), tensor_shape_of(2, 4, 4, 1, TENSOR_I32)};
    assert_shape(of((op){.kind = OP_LOSS_BCE}, 3, x).y, 1, 1, 1, 1, TENSOR_F32);
    assert_shape(of((op){.kind = OP_LOSS_BCE}, 2, x).y, 1, 1, 1, 1, TENSOR_F32);
    assert_shape(of((op){.kind = OP_LOSS_DICE, .eps = 1}, 2, x).y, 1, 1, 1, 1, TENSOR_F32);
    assert_shape(of((op){.kind = OP_LOSS_L1S, .beta = 1}, 3, x).y, 1, 1, 1, 1, TENSOR_F32);
    assert_shape(of((op){.kind = OP_LOSS_CE}, 2, classes).y, 1, 1, 1, 1, TENSOR_F32);
}

static void roi_align_gives_one_small_image_a_roi(void **state)
{
    (void)state;
    op o = {.kind = OP_ROIALIGN, .stride = 4, .size = 7, .samples = 2};
    tensor_shape x[] = {f32(2, 32, 24, 5), f32(2, 16, 12, 5), f32(2, 9, 1, 4), f32(2, 9, 1, 5), f32(1, 9, 1, 4)};
    op_shapes s = of(o, 3, x);
    assert_shape(s.y, 18, 7, 7, 5, TENSOR_F32);
    assert_int_equal(s.np + s.nsaved, 0);
    assert_true(op_flops(&o, &s) == 0);
    x[0].type = x[1].type = TENSOR_BF16;
    assert_shape(of(o, 3, x).y, 18, 7, 7, 5, TENSOR_BF16);
    x[2].type = TENSOR_BF16;
    refused(o, 3, x, "rois (2,9,1,4) bf16", "f32");
    x[0].type = x[1].type = x[2].type = TENSOR_F32;
    refused(o, 2, (tensor_shape[]){x[0], x[3]}, "rois", "(2,9,1,5)");
    refused(o, 2, (tensor_shape[]){x[0], x[4]}, "rois", "(1,9,1,4)");
    refused(o, 3, (tensor_shape[]){x[0], f32(2, 16, 12, 6), x[2]}, "level", "(2,16,12,6)");
    refused(o, 6, (tensor_shape[]){x[0], x[0], x[0], x[0], x[0], x[2]}, "roialign", "6 inputs");
    refused((op){.kind = OP_ROIALIGN, .stride = 4, .size = 65, .samples = 2}, 3, x, "size 65", "64");
    refused((op){.kind = OP_ROIALIGN, .stride = 0, .size = 7, .samples = 2}, 3, x, "stride 0", "1 to");
}

static void rois_are_read_from_the_level_that_fits_their_size(void **state)
{
    (void)state;
    const float nan = (float)NAN;
    const struct {
        float roi[4];
        int levels, level;
    } cases[] = {{{0, 0, 10, 10}, 4, 0},     {{5, 5, 117, 116.9f}, 4, 0}, {{5, 5, 117, 117}, 4, 1},
                 {{0, 0, 56, 224}, 4, 1},    {{0, 0, 224, 224}, 4, 2},    {{-9, -9, 439, 439}, 4, 3},
                 {{0, 0, 2000, 2000}, 4, 3}, {{0, 0, 2000, 2000}, 1, 0},  {{0, 0, 2000, 2000}, 2, 1},
                 {{3, 3, 3, 9}, 4, -1},      {{3, 9, 8, 3}, 4, -1},       {{3, 3, nan, 9}, 4, -1}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
        assert_int_equal(op_roi_level(cases[k].roi, cases[k].levels), cases[k].level);
}

static void windows_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    refused1((op){.kind = OP_CONV, .channels = 1, .kernel = 5, .stride = 1}, f32(1, 4, 9, 1), "conv:", "(1,4,9,1)");
    refused1((op){.kind = OP_CONV, .channels = 1, .kernel = 3, .stride = 0}, f32(1, 4, 9, 1), "conv:", "stride 0");
    refused1((op){.kind = OP_CONV, .channels = 0, .kernel = 3, .stride = 1}, f32(1, 4, 9, 1),
             "conv:", "0 output channels");
    refused1((op){.kind = OP_CONV, .channels = 1, .kernel = 3, .stride = 1, .pad = 3}, f32(1, 4, 9, 1),
             "conv:", "pad 3");
    refused1((op){.kind = OP_CONVT, .channels = 1, .kernel = 3, .stride = 1, .pad = 2}, f32(1, 1, 9, 1),
             "convt:", "(1,1,9,1)");
    refused1((op){.kind = OP_MAXPOOL, .kernel = 2, .stride = 2}, f32(1, 1, 8, 1), "maxpool:", "(1,1,8,1)");
    refused1((op){.kind = OP_MAXPOOL, .kernel = 3, .stride = 2, .pad = 2}, f32(1, 8, 8, 1), "maxpool:", "pad 2");
    refused1((op){.kind = OP_RESIZE, .out_h = 0, .out_w = 2}, f32(1, 8, 8, 1), "1 x 0 x 2 x 1", "sizes");
}

static void inputs_that_do_not_fit_each_other_are_refused(void **state)
{
    (void)state;
    tensor_shape sizes[2] = {f32(1, 4, 4, 6), f32(1, 4, 5, 6)}, types[2] = {f32(1, 4, 4, 6), f32(1, 4, 4, 6)};
    types[1].type = TENSOR_BF16;
    refused((op){.kind = OP_ADD}, 2, sizes, "(1,4,4,6) f32", "(1,4,5,6) f32");
    refused((op){.kind = OP_ADD}, 2, types, "(1,4,4,6) f32", "(1,4,4,6) bf16");
    refused((op){.kind = OP_ADD}, 1, sizes, "add:", "1 inputs");
    refused((op){.kind = OP_CONCAT}, 2, sizes, "concat:", "(1,4,5,6)");
    refused((op){.kind = OP_CONCAT}, 2, types, "concat:", "bf16");
    refused((op){.kind = OP_GROUPNORM, .groups = 2, .eps = 1, .residual = 1}, 2, sizes, "groupnorm:", "(1,4,5,6)");
    refused((op){.kind = OP_GROUPNORM, .groups = 4, .eps = 1}, 1, sizes, "4 groups", "(1,4,4,6)");
    refused((op){.kind = OP_BATCHNORM, .eps = 1, .residual = 1}, 1, sizes, "batchnorm:", "1 inputs");
    refused((op){.kind = OP_LOSS_BCE}, 2, sizes, "loss_bce:", "(1,4,5,6)");
    refused((op){.kind = OP_LOSS_CE}, 2, sizes, "loss_ce:", "(1,4,4,1) i32");
    refused((op){.kind = OP_LOSS_DICE, .eps = 1}, 2, (tensor_shape[]){sizes[0], sizes[0]}, "loss_dice:", "one channel");
    refused((op){.kind = OP_LOSS_L1S, .beta = 1}, 2, sizes, "loss_l1s:", "2 inputs");
}

static void types_and_flags_an_op_has_not_are_refused(void **state)
{
    (void)state;
    refused1((op){.kind = OP_RELU}, tensor_shape_of(1, 2, 2, 1, TENSOR_U8), "relu:", "u8");
    refused1((op){.kind = OP_SIGMOID, .relu = 1}, f32(1, 2, 2, 1), "sigmoid:", "ReLU");
    refused1((op){.kind = OP_CONV, .kernel = 1, .stride = 1, .channels = 1, .residual = 1}, f32(1, 2, 2, 1),
             "conv:", "residual");
    refused1((op){.kind = (op_kind)99}, f32(1, 2, 2, 1), "99", "unknown");
    refused((op){.kind = OP_CONCAT}, OP_MAX_X + 1, (tensor_shape[OP_MAX_X + 1]){0}, "concat", "9 inputs");
}

static void every_kind_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int k = 0; k < OP_KIND_COUNT; k++) {
        assert_string_not_equal(op_name((op_kind)k), "?");
        for (int j = 0; j < k; j++) assert_string_not_equal(op_name((op_kind)k), op_name((op_kind)j));
        assert_int_equal(op_is_loss((op_kind)k), !strncmp(op_name((op_kind)k), "loss_", 5));
    }
    assert_string_equal(op_name((op_kind)-1), "?");
    assert_string_equal(op_name(OP_KIND_COUNT), "?");
}

static void backends_are_found_by_name_and_a_missing_one_names_the_rest(void **state)
{
    (void)state;
    const backend *b;
    assert_int_equal(backend_find("ref", &b), COV_OK);
    assert_string_equal(b->name, "ref");
    assert_int_equal(backend_find("abacus", &b), COV_UNSUPPORTED);
    assert_null(b);
    assert_non_null(strstr(status_message(), "abacus"));
    assert_non_null(strstr(status_message(), "ref, cpu"));
    assert_null(backend_at(-1));
    assert_null(backend_at(2));
    for (int k = 0; k < 2; k++) {
        assert_int_equal(backend_find(backend_at(k)->name, &b), COV_OK);
        assert_ptr_equal(b, backend_at(k));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_convolution_infers_weights_and_output),
        cmocka_unit_test(a_transposed_convolution_undoes_the_size_of_its_convolution),
        cmocka_unit_test(a_linear_layer_works_on_rows),
        cmocka_unit_test(pools_and_resizes_keep_channels),
        cmocka_unit_test(norms_have_their_parameters_and_statistics),
        cmocka_unit_test(concat_joins_channels_and_add_keeps_the_shape),
        cmocka_unit_test(losses_are_one_f32_and_take_bf16_predictions),
        cmocka_unit_test(roi_align_gives_one_small_image_a_roi),
        cmocka_unit_test(rois_are_read_from_the_level_that_fits_their_size),
        cmocka_unit_test(windows_that_do_not_fit_are_refused),
        cmocka_unit_test(inputs_that_do_not_fit_each_other_are_refused),
        cmocka_unit_test(types_and_flags_an_op_has_not_are_refused),
        cmocka_unit_test(every_kind_has_a_name_of_its_own),
        cmocka_unit_test(backends_are_found_by_name_and_a_missing_one_names_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
