/* The graph against its own promises, on the reference backend: gradients against finite differences, forks, frozen
 * parts, errors and parameters. Then whole nets on every backend against ref, in both precisions. */
#include "net_fixture.h"

static void gradients_of_every_op_agree_with_finite_differences(void **state)
{
    (void)state;
    zoo z = zoo_build(&watched, handle, 2, 8);
    ok(net_compile(z.n, NET_TRAIN, NET_FP32, z.losses, zoo_weights, 4));
    zoo_feed(&z);
    ok(net_forward(z.n));
    ok(net_backward(z.n));
    for (int k = 0; k < net_param_count(z.n); k++) {
        const net_param *p = net_param_at(z.n, k);
        if (p->frozen) continue;
        size_t n = count_of(p->shape);
        float *old = malloc(n * sizeof *old), *now = malloc(n * sizeof *now), *along = malloc(n * sizeof *along);
        ok(net_param_get(z.n, k, old));
        double expected = 0, length = 0, loss[2];
        for (size_t i = 0; i < n; i++) {
            along[i] = spread();
            length += (double)along[i] * along[i];
        }
        ok(net_forward(z.n)); /* p->grad is what backward left: not zeroed by forward */
        for (size_t i = 0; i < n; i++) expected += (double)p->grad[i] * (along[i] /= (float)sqrt(length));
        for (int side = 0; side < 2; side++) {
            for (size_t i = 0; i < n; i++) now[i] = old[i] + (side ? 4e-4f : -4e-4f) * along[i];
            ok(net_param_set(z.n, k, now));
            ok(net_forward(z.n));
            loss[side] = loss_of(z.n, z.losses, zoo_weights, 4);
        }
        ok(net_param_set(z.n, k, old));
        double found = (loss[1] - loss[0]) / 8e-4;
        if (!(fabs(found - expected) <= 1e-3 + 0.01 * fabs(expected)))
            fail_msg("%s: gradient %g, finite difference %g", p->name, expected, found);
        free(old);
        free(now);
        free(along);
    }
    net_free(&z.n);
}

static void a_gradient_is_the_same_however_often_it_is_computed(void **state)
{
    (void)state;
    zoo z = zoo_build(&watched, handle, 2, 8);
    float *grads, *values;
    size_t count;
    ok(net_compile(z.n, NET_TRAIN, NET_FP32, z.losses, zoo_weights, 4));
    zoo_feed(&z);
    ok(net_gradients(z.n, &grads, &values, &count));
    assert_non_null(grads);
    float *first = malloc(count * sizeof *first);
    for (int turn = 0; turn < 3; turn++) {
        ok(net_forward(z.n));
        ok(net_backward(z.n));
        if (turn == 0) memcpy(first, grads, count * sizeof *first);
        else assert_memory_equal(first, grads, count * sizeof *first);
    }
    assert_int_equal(net_backward(z.n), COV_BROKEN); /* its activations are gone */
    free(first);
    net_free(&z.n);
}

/* ---- forks */
static void gradients_that_meet_at_a_fork_are_summed(void **state)
{
    (void)state;
    float once[4] = {0};
    for (int readers = 1; readers <= 4; readers++) {
        net *n = fresh();
        net_t x = net_input(n, "x", f32(1, 4, 4, 2)), t = net_constant(n, "t", f32(1, 4, 4, 1)), in[4], losses[4];
        net_t y = net_conv(n, "conv", x, 1, 3, 1, 1, 1, 0);
        for (int k = 0; k < readers; k++) losses[k] = net_loss_bce(n, in[k] = y, t, -1);
        ok(net_compile(n, NET_TRAIN, NET_FP32, losses, NULL, readers));
        dice_state = 5;
        feed(n, x, 0);
        feed(n, t, 1);
        ok(net_forward(n));
        ok(net_backward(n));
        for (int i = 0; i < 4; i++) {
            float g = net_param_at(n, 0)->grad[i];
            if (readers == 1) once[i] = g;
            assert_true(fabsf(g - (float)readers * once[i]) <= 1e-6f);
            assert_true(fabsf(once[i]) > 1e-4f);
        }
        net_free(&n);
    }
}

static void an_op_may_read_the_same_tensor_several_times(void **state)
{
    (void)state;
    float sums[2];
    for (int way = 0; way < 2; way++) { /* mean(bce(concat(y,y,y))) = mean(bce(y)): the gradients agree */
        net *n = fresh();
        net_t x = net_input(n, "x", f32(1, 4, 4, 2)), t = net_constant(n, "t", f32(1, 4, 4, way ? 3 : 1));
        net_t y = net_conv(n, "conv", x, 1, 3, 1, 1, 1, 0), in[3] = {y, y, y};
        net_t loss = net_loss_bce(n, way ? net_concat(n, in, 3) : y, t, -1);
        float zeros[48] = {0};
        ok(net_compile(n, NET_TRAIN, NET_FP32, &loss, NULL, 1));
        dice_state = 5;
        feed(n, x, 0);
        ok(net_set_input(n, t, zeros));
        ok(net_forward(n));
        ok(net_backward(n));
        sums[way] = net_param_at(n, 0)->grad[3];
        net_free(&n);
    }
    assert_true(fabsf(sums[0]) > 1e-4f);
    assert_true(fabsf(sums[0] - sums[1]) <= 1e-6f);
}

static void a_layer_used_again_has_one_set_of_parameters_and_gradients_from_both_uses(void **state)
{
    (void)state;
    float sums[3], halves[2][16];
    dice_state = 5;
    for (int i = 0; i < 32; i++) halves[i / 16][i % 16] = spread();
    for (int way = 0; way < 3; way++) { /* the gradient over both halves is the mean of the gradients over each */
        net *n = fresh();
        net_t x = net_input(n, "x", f32(1, 4, 4, 1)), z = net_input(n, "z", f32(1, 2, 8, 1));
        net_t t = net_constant(n, "t", f32(1, way ? 16 : 32, 1, 1)), y[2];
        float zeros[32] = {0};
        y[0] = net_conv(n, "conv", x, 1, 1, 1, 0, 1, 0);
        y[1] = net_again(n, y[0], z);
        net_t loss = net_loss_bce(n, net_concat_pixels(n, way == 2 ? y + 1 : y, way ? 1 : 2), t, -1);
        ok(net_compile(n, NET_TRAIN, NET_FP32, &loss, NULL, 1));
        assert_int_equal(net_param_count(n), 2);
        ok(net_set_input(n, x, halves[0]));
        ok(net_set_input(n, z, halves[1]));
        ok(net_set_input(n, t, zeros));
        ok(net_forward(n));
        ok(net_backward(n));
        sums[way] = net_param_at(n, 0)->grad[0];
        net_free(&n);
    }
    assert_true(fabsf(sums[1]) > 1e-3f && fabsf(sums[2]) > 1e-3f);
    assert_true(fabsf(sums[0] - (sums[1] + sums[2]) / 2) <= 1e-6f);
}

static void a_layer_is_not_used_again_on_other_channels_or_made_of_an_input(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        net *n = fresh();
        net_t x = net_input(n, "x", f32(1, 4, 4, 1)), wide = net_input(n, "wide", f32(1, 4, 4, 2));
        net_t y = net_conv(n, "conv", x, 1, 3, 1, 1, 1, 0);
        assert_int_equal(way ? net_again(n, x, wide) : net_again(n, y, wide), -1);
        assert_int_equal(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0), COV_BROKEN);
        net_free(&n);
    }
}

static void a_loss_weight_scales_its_gradient_and_a_loss_given_twice_counts_twice(void **state)
{
    (void)state;
    float first = 0;
    for (int way = 0; way < 2; way++) {
        net *n = fresh();
        net_t x = net_input(n, "x", f32(1, 4, 4, 2)), t = net_constant(n, "t", f32(1, 4, 4, 1));
        net_t loss = net_loss_bce(n, net_conv(n, "conv", x, 1, 3, 1, 1, 1, 0), t, -1), both[2] = {loss, loss};
        ok(net_compile(n, NET_TRAIN, NET_FP32, both, (float[2]){1.5f, 0.5f}, way ? 2 : 1));
        dice_state = 5;
        feed(n, x, 0);
        feed(n, t, 1);
        ok(net_forward(n));
        ok(net_backward(n));
        float g = net_param_at(n, 0)->grad[0];
        if (way) assert_true(fabsf(g / first - 2 / 1.5f) < 1e-5f);
        first = g;
        net_free(&n);
    }
}

/* ---- freezing */
static void a_frozen_trunk_costs_no_backward_and_a_frozen_layer_passes_gradients(void **state)
{
    (void)state;
    net *n = fresh();
    net_t x = net_input(n, "x", f32(1, 8, 8, 2)), t = net_constant(n, "t", f32(1, 8, 8, 1));
    net_freeze(n, true);
    net_t a = net_conv(n, "trunk/conv", x, 4, 3, 1, 1, 1, 1);
    a = net_batchnorm(n, "trunk/norm", a, -1, 1);
    net_freeze(n, false);
    net_t b = net_conv(n, "head/conv", a, 4, 3, 1, 1, 1, 1);
    net_freeze(n, true);
    net_t c = net_conv(n, "fixed/conv", b, 4, 3, 1, 1, 1, 0);
    net_freeze(n, false);
    net_t side = net_output(n, "side", net_conv(n, "side/conv", b, 1, 1, 1, 0, 1, 0)); /* trains, but meets no loss */
    net_t loss = net_loss_bce(n, net_conv(n, "last/conv", c, 1, 1, 1, 0, 1, 0), t, -1);
    (void)side;
    ok(net_compile(n, NET_TRAIN, NET_FP32, &loss, NULL, 1));
    assert_int_equal(watch.backward_plans, 4); /* head, fixed, last, loss */
    feed(n, x, 0);
    feed(n, t, 1);
    ok(net_forward(n));
    ok(net_backward(n));
    size_t count;
    float *grads, *values;
    ok(net_gradients(n, &grads, &values, &count));
    for (int k = 0; k < net_param_count(n); k++) {
        const net_param *p = net_param_at(n, k);
        int frozen = !strncmp(p->name, "trunk/", 6) || !strncmp(p->name, "fixed/", 6);
        assert_int_equal(p->frozen, frozen);
        if (frozen) {
            assert_null(p->grad);
            assert_true(p->value >= values + count);
            continue;
        }
        assert_true(p->value >= values && p->value < values + count);
        assert_int_equal(p->grad - grads, p->value - values);
        double sum = 0;
        for (size_t i = 0; i < count_of(p->shape); i++) sum += fabs((double)p->grad[i]);
        if (!strncmp(p->name, "side/", 5)) assert_true(sum == 0);
        else assert_true(sum > 0);
    }
    net_free(&n);
}

/* ---- errors of graphs */
static void assert_says(net *n, const char *a, const char *b)
{
    assert_int_equal(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0), COV_BROKEN);
    if (!strstr(status_message(), a) || !strstr(status_message(), b))
        fail_msg("'%s' does not say '%s' and '%s'", status_message(), a, b);
    net_free(&n);
}

static void the_first_error_of_a_graph_is_the_one_that_compile_reports(void **state)
{
    (void)state;
    net *n = fresh();
    net_t x = net_input(n, "x", f32(1, 8, 8, 4)), small = net_input(n, "small", f32(1, 4, 4, 4));
    net_t bad = net_groupnorm(n, "dec/norm", x, small, 2, 1);
    assert_int_equal(bad, -1);
    assert_int_equal(net_conv(n, "next", bad, 4, 3, 1, 1, 0, 0), -1);
    assert_int_equal(net_add(n, bad, x, 0), -1);
    assert_int_equal(net_output(n, "y", bad), -1);
    assert_int_equal(net_shape(n, bad).h, 0);
    assert_says(n, "dec/norm", "(1,4,4,4)");
}

static void graphs_that_make_no_sense_say_where(void **state)
{
    (void)state;
    net *n = fresh();
    net_t x = net_input(n, "x", f32(1, 8, 8, 4));
    net_conv(n, "x", x, 4, 3, 1, 1, 0, 0);
    assert_says(n, "x:", "taken");
    n = fresh();
    net_input(n, "", f32(1, 8, 8, 4));
    assert_says(n, "name", "empty");
    n = fresh();
    net_relu(n, 5);
    assert_says(n, "relu", "tensor 5");
    n = fresh();
    net_input(n, "x", tensor_shape_of(1, 8, 8, 4, TENSOR_I32));
    assert_says(n, "x:", "f32");
    n = fresh();
    net_relu(n, net_input(n, "x", f32(1, 8, 8, 4)));
    assert_says(n, "no output", "no loss");
    n = fresh();
    x = net_input(n, "x", f32(1, 8, 8, 4));
    net_output(n, "a", x);
    net_output(n, "b", x);
    assert_says(n, "b:", "'a'");
    n = fresh();
    x = net_input(n, "x", f32(1, 1, 1, 1));
    net_relu(n, net_loss_bce(n, x, x, -1));
    assert_says(n, "relu", "loss_bce");
    n = fresh();
    x = net_input(n, "x", f32(1, 8, 8, 4));
    net_output(n, "y", net_conv(n, "c", x, 4, 3, 1, 1, 0, 0));
    ok(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0));
    net_conv(n, "late", x, 4, 3, 1, 1, 0, 0);
    assert_says(n, "late", "after");
}

static void calls_out_of_order_are_refused(void **state)
{
    (void)state;
    zoo z = zoo_build(&watched, handle, 1, 8);
    float v[256] = {0};
    assert_int_equal(net_forward(z.n), COV_BROKEN);
    assert_int_equal(net_set_input(z.n, z.image, v), COV_BROKEN);
    assert_int_equal(net_get(z.n, z.logits, v), COV_BROKEN);
    assert_int_equal(net_compile(z.n, NET_TRAIN, NET_FP32, &z.logits, NULL, 1), COV_BROKEN); /* not a loss */
    ok(net_compile(z.n, NET_INFER, NET_FP32, NULL, NULL, 0));
    assert_int_equal(net_set_input(z.n, z.logits, v), COV_BROKEN);
    assert_int_equal(net_get(z.n, z.losses[0], v), COV_BROKEN); /* not compiled for it */
    ok(net_set_input(z.n, z.label, v));                         /* nobody reads it now */
    zoo_feed(&z);
    ok(net_forward(z.n));
    assert_int_equal(net_backward(z.n), COV_BROKEN);
    assert_int_equal(net_param_set(z.n, 10000, v), COV_BROKEN);
    assert_null(net_param_at(z.n, -1));
    net_free(&z.n);
    ok(net_new(&watched, handle, 1, &z.n));
    net_free(&z.n);
    net_free(&z.n);
    net_free(NULL);
}

/* ---- parameters */
static void weights_start_he_normal_from_seed_and_name_alone(void **state)
{
    (void)state;
    float *w[3];
    for (int way = 0; way < 3; way++) { /* 1: another layer before it; 2: another seed */
        net *n;
        ok(net_new(&watched, handle, way == 2 ? 8 : 7, &n));
        net_t x = net_input(n, "x", f32(1, 8, 8, 32));
        if (way == 1) net_conv(n, "before", x, 4, 3, 1, 1, 0, 0);
        net_conv(n, "c", x, 64, 3, 1, 1, 1, 0);
        net_convt(n, "up", x, 64, 2, 2, 0, 0, 0);
        int k = way == 1 ? 1 : 0;
        assert_string_equal(net_param_at(n, k)->name, "c/w");
        size_t count = count_of(net_param_at(n, k)->shape);
        w[way] = malloc(count * sizeof(float));
        ok(net_param_get(n, k, w[way]));
        double sum = 0, squares = 0;
        for (size_t i = 0; i < count; i++) {
            sum += w[way][i];
            squares += (double)w[way][i] * w[way][i];
        }
        assert_true(fabs(sum / (double)count) < 0.003);
        assert_true(fabs(squares / (double)count / (2.0 / (32 * 9)) - 1) < 0.05);
        float b[64], *up = malloc(sizeof(float) * 32 * 4 * 64);
        ok(net_param_get(n, k + 1, b));
        for (int i = 0; i < 64; i++) assert_true(b[i] == 0);
        ok(net_param_get(n, k + 2, up));
        for (squares = 0, count = 0; count < 32 * 4 * 64; count++) squares += (double)up[count] * up[count];
        assert_true(fabs(squares / (double)count / (2.0 / 32) - 1) <
                    0.05); /* stride 2, kernel 2: 32 inputs an output */
        assert_int_equal(net_param_at(n, k)->decay, 1);
        assert_int_equal(net_param_at(n, k + 1)->decay, 0);
        free(up);
        net_free(&n);
    }
    assert_memory_equal(w[0], w[1], 64 * 9 * 32 * sizeof(float));
    assert_memory_not_equal(w[0], w[2], 64 * 9 * 32 * sizeof(float));
    for (int way = 0; way < 3; way++) free(w[way]);
}

static void parameters_set_are_parameters_got_and_stay_through_compiles(void **state)
{
    (void)state;
    zoo z = zoo_build(&watched, handle, 1, 8);
    float v[2048], back[2048];
    for (int k = 0; k < net_param_count(z.n); k++) {
        size_t count = count_of(net_param_at(z.n, k)->shape);
        assert_true(count <= 2048);
        for (size_t i = 0; i < count; i++) v[i] = (float)(k + 1) + (float)i / 4096;
        ok(net_param_set(z.n, k, v));
    }
    ok(net_compile(z.n, NET_TRAIN, NET_BF16, z.losses, NULL, 4));
    ok(net_compile(z.n, NET_INFER, NET_FP32, z.losses, NULL, 4));
    for (int k = 0; k < net_param_count(z.n); k++) {
        size_t count = count_of(net_param_at(z.n, k)->shape);
        for (size_t i = 0; i < count; i++) v[i] = (float)(k + 1) + (float)i / 4096;
        ok(net_param_get(z.n, k, back));
        assert_memory_equal(v, back, count * sizeof(float));
    }
    net_free(&z.n);
}

static void flops_count_what_runs(void **state)
{
    (void)state;
    net *n = fresh();
    net_t x = net_input(n, "x", f32(2, 8, 8, 4));
    net_output(n, "y", net_batchnorm(n, "norm", net_conv(n, "c", x, 6, 3, 1, 1, 0, 0), -1, 1));
    net_conv(n, "unused", x, 6, 3, 1, 1, 0, 0);
    assert_true(net_flops(n) == 0);
    ok(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0));
    assert_true(net_flops(n) == 2.0 * 2 * 64 * 6 * 9 * 4);
    assert_ptr_equal(net_backend(n), &watched);
    assert_ptr_equal(net_device(n), handle);
    ok(net_sync(n));
    net_free(&n);
}

/* ---- precision and backends */
typedef struct zoo_answer {
    float *logits, *grads;
    float loss;
    size_t count, grad_count;
} zoo_answer;

static zoo_answer zoo_run(const backend *b, device *d, net_precision precision)
{
    zoo z = zoo_build(b, d, 2, 16);
    zoo_answer a;
    float *grads, *values;
    ok(net_compile(z.n, NET_TRAIN, precision, z.losses, zoo_weights, 4));
    zoo_feed(&z);
    ok(net_forward(z.n));
    ok(net_backward(z.n));
    ok(net_sync(z.n));
    a.count = count_of(net_shape(z.n, z.logits));
    a.logits = get(z.n, z.logits);
    a.loss = loss_of(z.n, z.losses, zoo_weights, 4);
    ok(net_gradients(z.n, &grads, &values, &a.grad_count));
    a.grads = malloc(a.grad_count * sizeof(float));
    ok(b->download(d, a.grads, grads, a.grad_count * sizeof(float)));
    net_free(&z.n);
    return a;
}

static double length_of(const float *x, const float *minus, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += pow((double)x[i] - (minus ? (double)minus[i] : 0), 2);
    return sqrt(sum);
}

/* Distances relative to the length of `right`; NaN fails. */
static void near(zoo_answer a, zoo_answer right, double output, double gradient, const char *what)
{
    double far[2] = {length_of(a.logits, right.logits, a.count) / length_of(right.logits, NULL, a.count),
                     length_of(a.grads, right.grads, a.grad_count) / length_of(right.grads, NULL, a.grad_count)};
    if (!(far[0] <= output) || !(far[1] <= gradient) || !(fabs(a.loss - right.loss) <= output * fabs(right.loss)))
        fail_msg("%s: logits %g, gradients %g, loss %g for %g", what, far[0], far[1], (double)a.loss,
                 (double)right.loss);
}

static void answer_free(zoo_answer *a)
{
    free(a->logits);
    free(a->grads);
}

static void every_backend_agrees_with_ref_in_both_precisions(void **state)
{
    (void)state;
    zoo_answer right = zoo_run(watch.ref, handle, NET_FP32);
    for (int k = 0; backend_at(k); k++) {
        const backend *b = backend_at(k);
        device *d;
        ok(b->open(&(device_options){.threads = 1}, &d));
        zoo_answer full = zoo_run(b, d, NET_FP32), half = zoo_run(b, d, NET_BF16);
        near(full, right, 1e-4, 1e-3, b->name);
        near(half, right, 0.03, 0.1, b->name);
        assert_memory_not_equal(full.logits, half.logits, full.count * sizeof(float));
        answer_free(&full);
        answer_free(&half);
        b->close(&d);
    }
    answer_free(&right);
}

/* A net on `b` whose parameters are all changed between two runs in the given way (0: net_param_set, 1: in place and
 * net_touch); *again: how far its output then is from that of the same net compiled afresh, *moved: from its first. */
static void changed_parameters(const backend *b, device *d, net_precision precision, int way, double *again,
                               double *moved)
{
    net *n;
    enum { ROOM = 4096 };
    float *y[3], *grads, *values, w[ROOM];
    size_t count, size;
    ok(net_new(b, d, 7, &n));
    net_t x = net_input(n, "x", f32(1, 8, 8, 16));
    net_t a = net_groupnorm(n, "norm", net_conv(n, "conv", x, 16, 3, 1, 1, 1, 0), -1, 4, 1);
    a = net_batchnorm(n, "folded/norm", net_conv(n, "folded/conv", a, 16, 1, 1, 0, 0, 0), -1, 1);
    a = net_batchnorm(n, "bn", a, a, 1);
    net_t out = net_output(n, "y", net_linear(n, "linear", net_convt(n, "up", a, 8, 2, 2, 0, 1, 0), 4, 0));
    ok(net_compile(n, NET_INFER, precision, NULL, NULL, 0));
    for (int run = 0; run < 3; run++) {
        if (run == 2) ok(net_compile(n, NET_INFER, precision, NULL, NULL, 0));
        dice_state = 4;
        feed(n, x, 0);
        ok(net_forward(n));
        y[run] = get(n, out);
        ok(net_gradients(n, &grads, &values, &count));
        for (int k = 0; k < net_param_count(n) && run == 0 && way == 0; k++) {
            assert_true((size = count_of(net_param_at(n, k)->shape)) <= ROOM);
            ok(net_param_get(n, k, w));
            for (size_t i = 0; i < size; i++) w[i] *= 1.25f;
            ok(net_param_set(n, k, w));
        }
        if (run == 0 && way == 1) {
            float *host = malloc(count * sizeof *host);
            assert_non_null(host);
            ok(b->download(d, host, values, count * sizeof *host));
            for (size_t i = 0; i < count; i++) host[i] *= 1.25f;
            ok(b->upload(d, values, host, count * sizeof *host));
            free(host);
            net_touch(n);
        }
    }
    size = count_of(net_shape(n, out));
    *again = furthest(y[1], y[2], size);
    *moved = furthest(y[0], y[1], size);
    for (int run = 0; run < 3; run++) free(y[run]);
    net_free(&n);
}

static void a_changed_parameter_is_never_taken_for_its_packed_copy(void **state)
{
    (void)state;
    for (int k = 0; backend_at(k); k++) {
        device *d;
        ok(backend_at(k)->open(&(device_options){.threads = 1}, &d));
        for (int variant = 0; variant < 4; variant++) {
            double again, moved;
            changed_parameters(backend_at(k), d, variant / 2 ? NET_BF16 : NET_FP32, variant % 2, &again, &moved);
            assert_true(again == 0);
            assert_true(moved > 0.05);
        }
        backend_at(k)->close(&d);
    }
}

static void statistics_that_forward_moves_get_a_new_version(void **state)
{
    (void)state;
    zoo z = zoo_build(&watched, handle, 1, 8);
    int mean = 0;
    while (strcmp(net_param_at(z.n, mean)->name, "mid/norm/mean")) mean++;
    ok(net_compile(z.n, NET_TRAIN, NET_FP32, z.losses, NULL, 4));
    zoo_feed(&z);
    for (int turn = 0; turn < 3; turn++) {
        uint64_t before = z.n->params[mean].version, weights = z.n->params[0].version;
        ok(net_forward(z.n));
        assert_true(z.n->params[mean].version > before && z.n->params[mean + 1].version > before);
        assert_int_equal(z.n->params[0].version, weights);
    }
    net_free(&z.n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(gradients_of_every_op_agree_with_finite_differences),
        TEST(a_gradient_is_the_same_however_often_it_is_computed),
        TEST(gradients_that_meet_at_a_fork_are_summed),
        TEST(an_op_may_read_the_same_tensor_several_times),
        TEST(a_layer_used_again_has_one_set_of_parameters_and_gradients_from_both_uses),
        TEST(a_layer_is_not_used_again_on_other_channels_or_made_of_an_input),
        TEST(a_loss_weight_scales_its_gradient_and_a_loss_given_twice_counts_twice),
        TEST(a_frozen_trunk_costs_no_backward_and_a_frozen_layer_passes_gradients),
        TEST(the_first_error_of_a_graph_is_the_one_that_compile_reports),
        TEST(graphs_that_make_no_sense_say_where),
        TEST(calls_out_of_order_are_refused),
        TEST(weights_start_he_normal_from_seed_and_name_alone),
        TEST(parameters_set_are_parameters_got_and_stay_through_compiles),
        TEST(flops_count_what_runs),
        TEST(a_changed_parameter_is_never_taken_for_its_packed_copy),
        TEST(statistics_that_forward_moves_get_a_new_version),
        TEST(every_backend_agrees_with_ref_in_both_precisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
