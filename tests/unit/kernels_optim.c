/* The optimisers against steps worked out by hand, the schedules against their formulas, clipping, decay on some
 * parameters only, and a state that is saved and restored bit for bit. */
#include "kernels/optim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const backend *ref;
static device *handle;

static void ok(status s)
{
    if (s != COV_OK) fail_msg("%s: %s (%s)", status_name(s), status_message(), status_trace());
}

static int set_up(void **state)
{
    (void)state;
    return backend_find("ref", &ref) == COV_OK && ref->open(&(device_options){.threads = 1}, &handle) == COV_OK ? 0
                                                                                                                : -1;
}

static int tear_down(void **state)
{
    (void)state;
    ref->close(&handle);
    return 0;
}

/* conv (decays), its bias, norm (do not), a frozen conv between, a last conv (decays). Gradients are written by hand.
 */
typedef struct subject {
    net *n;
    float *g, *w;
    size_t count;
} subject;

static subject subject_new(void)
{
    subject s;
    ok(net_new(ref, handle, 3, &s.n));
    net_t x = net_input(s.n, "x", tensor_shape_of(1, 4, 4, 2, TENSOR_F32));
    net_t t = net_constant(s.n, "t", tensor_shape_of(1, 4, 4, 1, TENSOR_F32));
    net_t a = net_groupnorm(s.n, "norm", net_conv(s.n, "a", x, 4, 3, 1, 1, 1, 0), -1, 2, 1);
    net_freeze(s.n, true);
    a = net_conv(s.n, "fixed", a, 4, 3, 1, 1, 1, 0);
    net_freeze(s.n, false);
    net_t loss = net_loss_bce(s.n, net_conv(s.n, "b", a, 1, 1, 1, 0, 0, 0), t, -1);
    ok(net_compile(s.n, NET_TRAIN, NET_FP32, &loss, NULL, 1));
    ok(net_gradients(s.n, &s.g, &s.w, &s.count));
    return s;
}

/* The parameter's first value and gradient. */
static float *weight(subject *s, const char *name, float **gradient)
{
    const net_param *found = NULL;
    for (int k = 0; k < net_param_count(s->n); k++)
        if (!strcmp(net_param_at(s->n, k)->name, name)) found = net_param_at(s->n, k);
    assert_non_null(found);
    if (gradient) *gradient = found->grad;
    return found->value;
}

static void close_to(double a, double b)
{
    if (!(fabs(a - b) <= 2e-6 * (1 + fabs(b)))) fail_msg("%.9g, expected %.9g", a, b);
}

static void sgd_steps_as_by_hand(void **state)
{
    (void)state;
    subject s = subject_new();
    optim *o;
    optim_options options = {.rate = 0.1f, .momentum = 0.9f, .decay = 0.01f};
    float *g, *gb, *w = weight(&s, "a/w", &g), *b = weight(&s, "a/b", &gb), norm;
    ok(optim_new(s.n, &options, &o));
    w[0] = 2;
    b[0] = 1;
    g[0] = 0.5f;
    gb[0] = -1;
    ok(optim_run(o, 1, &norm));
    close_to(norm, sqrt(1.25));
    close_to(w[0], 2 - 0.1 * 0.52); /* m = 0.5 + 0.01*2 */
    close_to(b[0], 1 + 0.1);        /* no decay */
    ok(optim_run(o, 2, &norm));     /* the gradient counts twice */
    close_to(norm, 2 * sqrt(1.25));
    close_to(w[0], 1.948 - 0.1 * (0.9 * 0.52 + 1 + 0.01 * 1.948));
    close_to(b[0], 1.1 + 0.1 * (0.9 + 2));
    assert_int_equal(optim_step_number(o), 2);
    optim_free(&o);
    net_free(&s.n);
}

static void adamw_steps_as_by_hand(void **state)
{
    (void)state;
    subject s = subject_new();
    optim *o;
    optim_options options = optim_defaults(1);
    float *g, *gn, *w = weight(&s, "b/w", &g), *gamma = weight(&s, "norm/gamma", &gn);
    options.rate = 0.1f;
    options.decay = 0.05f;
    ok(optim_new(s.n, &options, &o));
    w[0] = 2;
    g[0] = 0.5f;
    gn[0] = 0.25f;
    ok(optim_run(o, 1, NULL));
    close_to(w[0], 2 - 0.1 * (1 + 0.05 * 2)); /* the first step has the length of the rate, whatever the gradient */
    close_to(gamma[0], 1 - 0.1);
    g[0] = -1;
    ok(optim_run(o, 1, NULL));
    double m = 0.9 * 0.1 * 0.5 - 0.1, v = 0.999 * 0.001 * 0.25 + 0.001;
    double step = m / (1 - 0.81) / (sqrt(v / (1 - 0.999 * 0.999)) + 1e-8);
    close_to(w[0], 1.89 - 0.1 * (step + 0.05 * 1.89));
    optim_free(&o);
    net_free(&s.n);
}

static void decay_shrinks_weights_alone_and_frozen_values_never_move(void **state)
{
    (void)state;
    subject s = subject_new();
    optim *o;
    optim_options options = {.rate = 0.5f, .decay = 0.1f};
    float before[4096], *fixed = weight(&s, "fixed/w", NULL), kept[144], v[4096];
    assert_true(s.count <= 4096);
    memcpy(before, s.w, s.count * sizeof(float));
    memcpy(kept, fixed, sizeof kept);
    memset(s.g, 0, s.count * sizeof(float));
    ok(optim_new(s.n, &options, &o));
    ok(optim_run(o, 1, NULL));
    for (int k = 0; k < net_param_count(s.n); k++) {
        const net_param *p = net_param_at(s.n, k);
        size_t count;
        ok(tensor_count(p->shape, &count));
        ok(net_param_get(s.n, k, v));
        for (size_t i = 0; i < count && !p->frozen; i++)
            close_to(v[i], before[(size_t)(p->value - s.w) + i] * (p->decay ? 0.95 : 1));
    }
    assert_memory_equal(kept, fixed, sizeof kept);
    optim_free(&o);
    net_free(&s.n);
}

static void clipping_bounds_the_norm_and_reports_the_one_before(void **state)
{
    (void)state;
    subject s = subject_new();
    optim *o;
    optim_options options = {.rate = 1, .clip = 1};
    float *g, *w = weight(&s, "a/w", &g), norm;
    ok(optim_new(s.n, &options, &o));
    w[0] = w[1] = 0;
    g[0] = 6;
    g[1] = 8;
    ok(optim_run(o, 0.5f, &norm));
    close_to(norm, 5);
    close_to(w[0], -0.6);
    close_to(w[1], -0.8);
    g[0] = 0.3f;
    g[1] = 0.4f;
    ok(optim_run(o, 1, &norm)); /* below the bound: as it is */
    close_to(norm, 0.5);
    close_to(w[0], -0.9);
    optim_free(&o);
    net_free(&s.n);
}

static void a_gradient_that_is_not_finite_changes_nothing(void **state)
{
    (void)state;
    subject s = subject_new();
    optim *o;
    optim_options options = optim_defaults(0);
    float *g, before[4096], norm;
    weight(&s, "a/w", &g);
    memcpy(before, s.w, s.count * sizeof(float));
    ok(optim_new(s.n, &options, &o));
    g[3] = NAN;
    ok(optim_run(o, 1, &norm));
    assert_true(isnan(norm));
    g[3] = INFINITY;
    ok(optim_run(o, 1, &norm));
    assert_true(isinf(norm));
    assert_memory_equal(before, s.w, s.count * sizeof(float));
    assert_int_equal(optim_step_number(o), 2);
    optim_free(&o);
    net_free(&s.n);
}

static void schedules_follow_their_formulas(void **state)
{
    (void)state;
    optim_options o = {.rate = 2, .schedule = OPTIM_CONSTANT, .warmup = 4, .steps = 24};
    close_to(optim_rate(&o, 0), 0.5);
    close_to(optim_rate(&o, 3), 2);
    close_to(optim_rate(&o, 1000), 2);
    o.schedule = OPTIM_COSINE;
    close_to(optim_rate(&o, 1), 1);
    close_to(optim_rate(&o, 4), 2);
    close_to(optim_rate(&o, 14), 1);
    close_to(optim_rate(&o, 9), 1 + sqrt(0.5));
    assert_true(optim_rate(&o, 24) == 0);
    assert_true(optim_rate(&o, 100) == 0);
    o.schedule = OPTIM_POLY;
    close_to(optim_rate(&o, 4), 2);
    close_to(optim_rate(&o, 14), 2 * pow(0.5, 0.9));
    assert_true(optim_rate(&o, 24) == 0);
    o.warmup = 0;
    close_to(optim_rate(&o, 0), 2);
}

static void options_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    subject s = subject_new();
    optim *o;
    optim_options bad[] = {
        {.rate = -1},
        {.rate = NAN},
        {.rate = 1, .momentum = 1},
        {.rate = 1, .decay = -1},
        {.rate = 1, .clip = -1},
        {.rate = 1, .adamw = 1, .beta1 = 0.9f, .beta2 = 1, .eps = 1e-8f},
        {.rate = 1, .adamw = 1, .beta1 = 0.9f, .beta2 = 0.9f},
        {.rate = 1, .warmup = -1},
        {.rate = 1, .schedule = OPTIM_COSINE},
        {.rate = 1, .schedule = OPTIM_POLY, .warmup = 5, .steps = 5},
    };
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        assert_int_equal(optim_new(s.n, &bad[k], &o), COV_USAGE);
        assert_null(o);
    }
    optim_options fine = optim_defaults(1);
    ok(optim_new(s.n, &fine, &o));
    ok(net_compile(s.n, NET_TRAIN, NET_FP32, (net_t[]){6}, NULL, 1));
    optim_free(&o);
    optim_free(&o);
    net_free(&s.n);
}

static void a_step_needs_a_net_compiled_for_training(void **state)
{
    (void)state;
    net *n;
    optim *o;
    optim_options options = optim_defaults(0);
    ok(net_new(ref, handle, 3, &n));
    net_output(n, "y", net_conv(n, "c", net_input(n, "x", tensor_shape_of(1, 4, 4, 2, TENSOR_F32)), 2, 1, 1, 0, 0, 0));
    ok(optim_new(n, &options, &o));
    assert_int_equal(optim_run(o, 1, NULL), COV_BROKEN);
    ok(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0));
    assert_int_equal(optim_run(o, 1, NULL), COV_BROKEN);
    assert_int_equal(optim_step_number(o), 0);
    optim_free(&o);
    net_free(&n);
}

/* Four steps on gradients made from the step's number; `stop` saves after two and goes on in a new net. */
static void four_steps(int adamw, int stop, float *w)
{
    subject s = subject_new();
    optim *o;
    optim_options options = optim_defaults(adamw);
    options.schedule = OPTIM_COSINE;
    options.steps = 10;
    ok(optim_new(s.n, &options, &o));
    for (int step = 0; step < 4; step++) {
        if (stop && step == 2) {
            float m[4096], v[4096], kept[4096];
            int64_t number = optim_step_number(o);
            ok(optim_get(o, m, v));
            memcpy(kept, s.w, s.count * sizeof(float));
            optim_free(&o);
            net_free(&s.n);
            s = subject_new();
            memcpy(s.w, kept, s.count * sizeof(float));
            ok(optim_new(s.n, &options, &o));
            if (adamw) assert_int_equal(optim_set(o, number, m, NULL), COV_BROKEN);
            ok(optim_set(o, number, m, adamw ? v : NULL));
        }
        for (size_t i = 0; i < s.count; i++) s.g[i] = sinf((float)i + 3 * (float)step);
        ok(optim_run(o, 1, NULL));
    }
    assert_true(s.count <= 4096);
    memcpy(w, s.w, s.count * sizeof(float));
    optim_free(&o);
    net_free(&s.n);
}

static void a_restored_state_goes_on_bit_for_bit(void **state)
{
    (void)state;
    for (int adamw = 0; adamw < 2; adamw++) {
        static float through[4096], stopped[4096];
        four_steps(adamw, 0, through);
        four_steps(adamw, 1, stopped);
        assert_memory_equal(through, stopped, sizeof through);
    }
}

static void training_lowers_the_loss_of_a_small_net(void **state)
{
    (void)state;
    for (int adamw = 0; adamw < 2; adamw++) {
        net *n;
        optim *o;
        optim_options options = optim_defaults(adamw);
        float image[512], target[256], first = 0, last = 0;
        ok(net_new(ref, handle, 3, &n));
        net_t x = net_input(n, "x", tensor_shape_of(1, 16, 16, 2, TENSOR_F32));
        net_t t = net_constant(n, "t", tensor_shape_of(1, 16, 16, 1, TENSOR_F32));
        net_t a = net_groupnorm(n, "norm", net_conv(n, "a", x, 8, 3, 1, 1, 0, 0), -1, 2, 1);
        net_t loss = net_loss_bce(n, net_conv(n, "b", a, 1, 1, 1, 0, 1, 0), t, -1);
        for (int i = 0; i < 256; i++) {
            image[2 * i] = sinf((float)i);
            image[2 * i + 1] = cosf((float)i * 0.3f);
            target[i] = image[2 * i] > image[2 * i + 1];
        }
        options.rate = adamw ? 0.02f : 0.3f;
        ok(net_compile(n, NET_TRAIN, NET_FP32, &loss, NULL, 1));
        ok(optim_new(n, &options, &o));
        ok(net_set_input(n, x, image));
        ok(net_set_input(n, t, target));
        for (int step = 0; step < 60; step++) {
            ok(net_forward(n));
            ok(net_get(n, loss, step ? &last : &first));
            ok(net_backward(n));
            ok(optim_run(o, 1, NULL));
        }
        assert_true(first > 0.5f && last < 0.25f * first);
        optim_free(&o);
        net_free(&n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sgd_steps_as_by_hand),
        cmocka_unit_test(adamw_steps_as_by_hand),
        cmocka_unit_test(decay_shrinks_weights_alone_and_frozen_values_never_move),
        cmocka_unit_test(clipping_bounds_the_norm_and_reports_the_one_before),
        cmocka_unit_test(a_gradient_that_is_not_finite_changes_nothing),
        cmocka_unit_test(schedules_follow_their_formulas),
        cmocka_unit_test(options_that_make_no_sense_are_refused),
        cmocka_unit_test(a_step_needs_a_net_compiled_for_training),
        cmocka_unit_test(a_restored_state_goes_on_bit_for_bit),
        cmocka_unit_test(training_lowers_the_loss_of_a_small_net),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
