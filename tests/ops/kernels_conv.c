/* The cpu backend's special ways of convolution against ref: Winograd's for 3x3 with many channels, which rounds in another
 * way than the direct sum and so has its own tolerance, and the folded one for eight outputs or fewer. Winograd needs AVX2, folding AVX-512;
 * elsewhere the same claims hold for oneDNN. */
#include "kernels/backend.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

#define MUST(call)                                                                              \
    do {                                                                                        \
        if ((call) != COV_OK) fail_msg("%s: %s (%s)", #call, status_message(), status_trace()); \
    } while (0)

/* ci and co: whole and half panels of filters; sizes: whole tiles, cut tiles, several images. */
static const struct {
    int64_t n, h, w, ci, co;
    int kernel, bias, relu;
} cases[] = {
    {1, 32, 32, 32, 32, 3, 0, 0}, {1, 33, 37, 32, 48, 3, 1, 1}, {2, 30, 31, 48, 32, 3, 1, 0},
    {1, 64, 64, 32, 32, 3, 0, 1}, {3, 16, 45, 64, 80, 3, 1, 1}, {1, 17, 130, 96, 64, 3, 0, 0},
    {1, 64, 68, 16, 16, 3, 0, 1}, {1, 9, 16, 8, 8, 3, 1, 1},    {2, 8, 32, 16, 8, 3, 0, 0},
    {1, 7, 12, 3, 4, 5, 1, 0},    {1, 6, 16, 5, 1, 3, 1, 1},    {2, 5, 24, 16, 2, 7, 1, 0},
};
enum { CASES = sizeof cases / sizeof *cases };

/* Multiples of 1/256 in [-1, 1): the same in both types. */
static float value(size_t i, unsigned seed)
{
    return (float)(int)((i + 1) * 2654435761u * (seed | 1) >> 13 & 511) / 256.0f - 1.0f;
}

static float *host(size_t n, unsigned seed)
{
    float *v = malloc(n * sizeof *v);
    assert_non_null(v);
    for (size_t i = 0; i < n; i++) v[i] = seed ? value(i, seed) : 0.0f;
    return v;
}

static tensor put(const backend *b, device *d, tensor_shape s, const float *v)
{
    tensor t = {.shape = s, .version = 1};
    size_t n, bytes;
    void *room;
    MUST(tensor_count(s, &n));
    MUST(tensor_bytes(s, &bytes));
    MUST(b->alloc(d, bytes, &t.data));
    MUST(b->alloc(d, n * sizeof(float), &room));
    MUST(b->upload(d, room, v, n * sizeof(float)));
    MUST(b->convert(d, n, TENSOR_F32, room, s.type, t.data));
    b->release(d, room);
    return t;
}

static float *get(const backend *b, device *d, const tensor *t)
{
    size_t n;
    void *room;
    MUST(tensor_count(t->shape, &n));
    float *v = host(n, 0);
    MUST(b->alloc(d, n * sizeof(float), &room));
    MUST(b->convert(d, n, t->shape.type, t->data, TENSOR_F32, room));
    MUST(b->download(d, v, room, n * sizeof(float)));
    b->release(d, room);
    return v;
}

/* One pass of case k: y, or dx. */
static float *result(const char *name, int threads, int k, tensor_type type, op_pass pass, size_t *count)
{
    const backend *b = NULL;
    device *d = NULL;
    plan *p = NULL;
    op o = {.kind = OP_CONV, .kernel = cases[k].kernel, .stride = 1, .pad = cases[k].kernel / 2, .channels = (int)cases[k].co,
            .bias = cases[k].bias, .relu = cases[k].relu};
    op_shapes s = {.nx = 1};
    op_args a;
    size_t n;
    MUST(backend_find(name, &b));
    MUST(b->open(&(device_options){.threads = threads}, &d));
    s.x[0] = tensor_shape_of(cases[k].n, cases[k].h, cases[k].w, cases[k].ci, type);
    MUST(op_infer(&o, &s));
    memset(&a, 0, sizeof a);
    tensor_shape shapes[] = {s.x[0], s.p[0], s.p[1], s.y, s.y, s.x[0]};
    tensor *slots[] = {&a.x[0], &a.p[0], &a.p[1], &a.y, &a.dy, &a.dx[0]};
    for (unsigned i = 0; i < 6; i++) {
        if (i == 2 && !o.bias) continue;
        MUST(tensor_count(shapes[i], &n));
        float *v = host(n, i == 5 ? 0 : 11 + 2 * i);
        *slots[i] = put(b, d, shapes[i], v);
        free(v);
    }
    MUST(b->plan_new(d, &o, &s, pass, &p));
    MUST(b->plan_run(p, &a));
    const tensor *out = pass == OP_FORWARD ? &a.y : &a.dx[0];
    MUST(tensor_count(out->shape, count));
    float *v = get(b, d, out);
    b->plan_free(&p);
    for (int i = 0; i < 6; i++) b->release(d, slots[i]->data);
    b->close(&d);
    return v;
}

static void compare(tensor_type type, op_pass pass, double tolerance)
{
    for (int k = 0; k < CASES; k++) {
        size_t n;
        double largest = 0, worst = 0;
        float *want = result("ref", 1, k, type, pass, &n), *got = result("cpu", 1, k, type, pass, &n);
        for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)want[i]));
        for (size_t i = 0; i < n; i++) {
            double error = fabs((double)got[i] - (double)want[i]);
            if (!(error <= worst)) worst = error; /* NaN too */
        }
        if (!(worst <= tolerance * largest))
            fail_msg("case %d: error %g, largest %g: %g, at most %g", k, worst, largest, worst / largest, tolerance);
        free(want);
        free(got);
    }
}

static void forward_f32_is_within_3e_5_of_the_largest(void **state)
{
    (void)state;
    compare(TENSOR_F32, OP_FORWARD, 3e-5);
}

static void backward_f32_is_within_3e_5_of_the_largest(void **state)
{
    (void)state;
    compare(TENSOR_F32, OP_BACKWARD, 3e-5);
}

/* Both results are rounded to bf16: two halves of a unit of 2^-8. */
static void forward_bf16_adds_nothing_to_the_rounding_of_its_type(void **state)
{
    (void)state;
    compare(TENSOR_BF16, OP_FORWARD, 7.9e-3);
}

static void backward_bf16_adds_nothing_to_the_rounding_of_its_type(void **state)
{
    (void)state;
    compare(TENSOR_BF16, OP_BACKWARD, 7.9e-3);
}

/* A second run with other weights must not meet the packed ones of the first. */
static void new_weights_and_a_new_bias_are_noticed(void **state)
{
    const backend *b = NULL;
    device *d = NULL;
    (void)state;
    MUST(backend_find("cpu", &b));
    MUST(b->open(&(device_options){.threads = 1}, &d));
    for (int k = 0; k < CASES; k++) {
        op o = {.kind = OP_CONV, .kernel = cases[k].kernel, .stride = 1, .pad = cases[k].kernel / 2,
                .channels = (int)cases[k].co, .bias = 1};
        op_shapes s = {.nx = 1};
        op_args a;
        plan *p = NULL;
        size_t n;
        memset(&a, 0, sizeof a);
        s.x[0] = tensor_shape_of(cases[k].n, cases[k].h, cases[k].w, cases[k].ci, TENSOR_F32);
        MUST(op_infer(&o, &s));
        const tensor_shape shapes[] = {s.x[0], s.p[0], s.p[1], s.y};
        tensor *slots[] = {&a.x[0], &a.p[0], &a.p[1], &a.y};
        for (int i = 0; i < 4; i++) {
            MUST(tensor_count(shapes[i], &n));
            float *v = host(n, 1);
            *slots[i] = put(b, d, shapes[i], v);
            free(v);
        }
        MUST(b->plan_new(d, &o, &s, OP_FORWARD, &p));
        for (int round = 0; round < 3; round++) { /* the first, then weights of 0, then also a bias of 0 */
            if (round > 0) {
                MUST(tensor_bytes(shapes[round], &n));
                MUST(b->zero(d, slots[round]->data, n));
                slots[round]->version++;
            }
            MUST(b->plan_run(p, &a));
            float *y = get(b, d, &a.y), *bias = get(b, d, &a.p[1]);
            MUST(tensor_count(s.y, &n));
            for (size_t i = 0; round > 0 && i < n; i++) assert_float_equal(y[i], bias[i % (size_t)cases[k].co], 0.0);
            free(y);
            free(bias);
        }
        b->plan_free(&p);
        for (int i = 0; i < 4; i++) b->release(d, slots[i]->data);
    }
    b->close(&d);
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    for (int k = 0; k < CASES; k++)
        for (int threads = 2; threads <= 3; threads++) {
            size_t n;
            float *one = result("cpu", 1, k, TENSOR_F32, OP_FORWARD, &n);
            float *more = result("cpu", threads, k, TENSOR_F32, OP_FORWARD, &n);
            assert_memory_equal(one, more, n * sizeof *one);
            free(one);
            free(more);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_f32_is_within_3e_5_of_the_largest),
        cmocka_unit_test(backward_f32_is_within_3e_5_of_the_largest),
        cmocka_unit_test(forward_bf16_adds_nothing_to_the_rounding_of_its_type),
        cmocka_unit_test(backward_bf16_adds_nothing_to_the_rounding_of_its_type),
        cmocka_unit_test(new_weights_and_a_new_bias_are_noticed),
        cmocka_unit_test(threads_do_not_change_a_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
