/* Host steps in the graph, tensors handed from net to net, and frozen parts in training: what they compute, what they
 * leave alone, and what they cost. */
#include "net_fixture.h"

/* ---- host steps */
typedef struct clerk {
    int calls, fails;
    tensor_type type; /* of the last x[0] */
} clerk;

/* y0 = x0 + 1 (F32), y1 = 1 where x0 > 0 (I32), y2 = the sum of all x1 (I32). */
static status clerk_step(void *ctx, const tensor *x, int nx, tensor *y, int ny)
{
    clerk *c = ctx;
    size_t n = count_of(x[0].shape);
    c->calls++;
    c->type = x[0].shape.type;
    assert_int_equal(nx, 2);
    assert_int_equal(ny, 3);
    if (c->fails) return COV_FAIL(COV_FORMAT, "the clerk is out");
    for (size_t i = 0; i < n; i++) {
        ((float *)y[0].data)[i] = ((const float *)x[0].data)[i] + 1;
        ((int32_t *)y[1].data)[i] = ((const float *)x[0].data)[i] > 0;
    }
    for (size_t i = 0; i < count_of(x[1].shape); i++) ((int32_t *)y[2].data)[0] += ((const int32_t *)x[1].data)[i];
    return COV_OK;
}

static tensor_shape i32(int64_t n, int64_t h, int64_t w, int64_t c) { return tensor_shape_of(n, h, w, c, TENSOR_I32); }

static void a_host_step_sees_f32_and_constants_and_gives_what_it_fills(void **state)
{
    (void)state;
    for (int k = 0; backend_at(k); k++)
        for (int precision = NET_FP32; precision <= NET_BF16; precision++) {
            net *n;
            device *d;
            clerk c = {0};
            net_t y[3];
            const float in[4] = {-1, 0.5f, 2, -0.25f}; /* exact in bf16 */
            const int32_t label[3] = {5, 7, -2};
            float got[4];
            int32_t whole[4];
            ok(backend_at(k)->open(&(device_options){.threads = 2}, &d));
            ok(net_new(backend_at(k), d, 1, &n));
            net_t x = net_input(n, "x", f32(1, 2, 2, 1)), l = net_constant(n, "l", i32(3, 1, 1, 1));
            net_t from[2] = {x, l};
            net_host(n, "clerk", from, 2, (tensor_shape[]){f32(1, 2, 2, 1), i32(1, 2, 2, 1), i32(1, 1, 1, 1)}, 3,
                     clerk_step, &c, y);
            for (int j = 0; j < 3; j++) net_output(n, (const char *[]){"a", "b", "c"}[j], y[j]);
            ok(net_compile(n, NET_INFER, (net_precision)precision, NULL, NULL, 0));
            ok(net_set_input(n, x, in));
            ok(net_set_input(n, l, label));
            for (int turn = 1; turn < 3; turn++) { /* outputs come zeroed each time */
                ok(net_forward(n));
                assert_int_equal(c.calls, turn);
                assert_int_equal(c.type, TENSOR_F32);
                ok(net_get(n, y[0], got));
                for (int i = 0; i < 4; i++) assert_true(got[i] == in[i] + 1);
                ok(net_get(n, y[1], whole));
                for (int i = 0; i < 4; i++) assert_int_equal(whole[i], in[i] > 0);
                ok(net_get(n, y[2], whole));
                assert_int_equal(whole[0], 10);
            }
            c.fails = 1;
            assert_int_equal(net_forward(n), COV_FORMAT);
            assert_non_null(strstr(status_message(), "clerk"));
            net_free(&n);
            backend_at(k)->close(&d);
        }
}

static status add_up(void *ctx, const tensor *x, int nx, tensor *y, int ny)
{
    (void)ctx, (void)nx, (void)ny;
    for (int i = 0; i < 4; i++) ((float *)y[0].data)[i] = ((const float *)x[0].data)[i] + ((const float *)x[1].data)[i];
    return COV_OK;
}

/* A step that reads an input and what another step made of it, on each pass of several. */
static void host_steps_see_what_was_set_last_and_what_the_step_before_made(void **state)
{
    (void)state;
    for (int k = 0; backend_at(k); k++)
        for (int precision = NET_FP32; precision <= NET_BF16; precision++) {
            net *n;
            device *d;
            net_t once, twice;
            float got[4];
            ok(backend_at(k)->open(&(device_options){.threads = 2}, &d));
            ok(net_new(backend_at(k), d, 1, &n));
            net_t x = net_input(n, "x", f32(1, 2, 2, 1)), y = net_constant(n, "y", f32(1, 2, 2, 1));
            net_host(n, "once", (net_t[]){x, y}, 2, (tensor_shape[]){f32(1, 2, 2, 1)}, 1, add_up, NULL, &once);
            net_host(n, "twice", (net_t[]){once, y}, 2, (tensor_shape[]){f32(1, 2, 2, 1)}, 1, add_up, NULL, &twice);
            net_output(n, "sum", twice);
            ok(net_compile(n, NET_INFER, (net_precision)precision, NULL, NULL, 0));
            for (int turn = 0; turn < 4; turn++) {
                float a = (float)turn, b = (float)(turn / 2); /* y is set on every second pass */
                ok(net_set_input(n, x, (float[]){a, a + 1, a + 2, a + 3}));
                if (turn % 2 == 0) ok(net_set_input(n, y, (float[]){b, b, b, b}));
                ok(net_forward(n));
                ok(net_get(n, twice, got));
                for (int i = 0; i < 4; i++) assert_true(got[i] == a + (float)i + 2 * b);
            }
            net_free(&n);
            backend_at(k)->close(&d);
        }
}

static void a_host_step_that_nobody_reads_does_not_run(void **state)
{
    (void)state;
    net *n = fresh();
    clerk c = {0};
    net_t y[3], x = net_input(n, "x", f32(1, 2, 2, 1)), t = net_constant(n, "t", f32(1, 2, 2, 1));
    net_t from[2] = {net_conv(n, "unread", x, 1, 1, 1, 0, 0, 0), net_constant(n, "l", i32(3, 1, 1, 1))};
    net_host(n, "clerk", from, 2, (tensor_shape[]){f32(1, 2, 2, 1), i32(1, 2, 2, 1), i32(1, 1, 1, 1)}, 3, clerk_step,
             &c, y);
    net_t a = net_conv(n, "conv", x, 1, 1, 1, 0, 0, 0);
    net_t losses[2] = {net_loss_bce(n, a, t, -1), net_loss_bce(n, a, y[0], -1)};
    for (int both = 0; both < 2; both++) {
        ok(net_compile(n, NET_TRAIN, NET_FP32, losses, NULL, 1 + both));
        assert_int_equal(n->nodes[0].needed, both);
        dice_state = 2;
        feed(n, x, 0);
        feed(n, t, 1);
        feed(n, from[1], 2);
        ok(net_forward(n));
        ok(net_backward(n));
        assert_int_equal(c.calls, both);
    }
    net_free(&n);
}

/* conv -> logits; the target of the loss is the clerk's y0 of the logits, or a constant that holds the same. */
static void a_host_step_passes_no_gradient_to_its_inputs(void **state)
{
    (void)state;
    float grads[2][64], target[32];
    for (int way = 0; way < 2; way++) {
        net *n = fresh();
        clerk c = {0};
        net_t y[3], x = net_input(n, "x", f32(2, 4, 4, 2)), t = net_constant(n, "t", f32(2, 4, 4, 1));
        net_t logits = net_conv(n, "conv", x, 1, 3, 1, 1, 1, 0);
        net_t from[2] = {logits, net_constant(n, "l", i32(3, 1, 1, 1))};
        net_host(n, "clerk", from, 2, (tensor_shape[]){f32(2, 4, 4, 1), i32(2, 4, 4, 1), i32(1, 1, 1, 1)}, 3,
                 clerk_step, &c, y);
        net_output(n, "y", y[0]);
        net_t loss = net_loss_bce(n, logits, way ? t : y[0], -1);
        ok(net_compile(n, NET_TRAIN, NET_FP32, &loss, NULL, 1));
        dice_state = 5;
        feed(n, x, 0);
        if (way) ok(net_set_input(n, t, target));
        feed(n, from[1], 2);
        ok(net_forward(n));
        if (!way) ok(net_get(n, y[0], target));
        ok(net_backward(n));
        for (int k = 0, at = 0; k < net_param_count(n); k++)
            for (size_t i = 0; i < count_of(net_param_at(n, k)->shape); i++)
                grads[way][at++] = net_param_at(n, k)->grad[i];
        net_free(&n);
    }
    assert_memory_equal(grads[0], grads[1], 19 * sizeof(float));
    assert_true(fabsf(grads[0][3]) > 1e-4f);
}

static void host_steps_that_make_no_sense_say_where(void **state)
{
    (void)state;
    for (int way = 0; way < 5; way++) {
        net *n = fresh();
        clerk c = {0};
        net_t y[NET_HOST_MAX + 1], x = net_input(n, "x", f32(1, 2, 2, 1)), many[NET_HOST_MAX + 1];
        tensor_shape shape[NET_HOST_MAX + 1];
        for (int k = 0; k <= NET_HOST_MAX; k++) many[k] = x, shape[k] = f32(1, 1, 1, 1);
        if (way == 0) shape[1] = tensor_shape_of(1, 1, 1, 1, TENSOR_BF16);
        if (way == 1) shape[0].h = 0;
        if (way == 4) many[0] = net_loss_bce(n, x, net_constant(n, "t", f32(1, 2, 2, 1)), -1);
        net_host(n, "clerk", many, way == 2 ? NET_HOST_MAX + 1 : 2, shape, way == 3 ? NET_HOST_MAX + 1 : 2, clerk_step,
                 &c, y);
        assert_int_equal(y[0], -1);
        assert_int_equal(y[1], -1);
        assert_int_equal(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0), COV_BROKEN);
        assert_non_null(strstr(status_message(), "clerk"));
        assert_non_null(
            strstr(status_message(), (const char *[]){"f32", "sizes", "17 inputs", "17 outputs", "loss"}[way]));
        net_free(&n);
    }
}

/* Two rois for each of the images: the left and the right half. */
static status halves(void *ctx, const tensor *x, int nx, tensor *y, int ny)
{
    float *roi = y[0].data;
    (void)ctx, (void)x, (void)nx, (void)ny;
    for (int64_t i = 0; i < y[0].shape.n * y[0].shape.h; i++, roi += 4)
        roi[1] = (float)(i % 2 * 8), roi[2] = 16, roi[3] = roi[1] + 8;
    return COV_OK;
}

static void rois_of_a_host_step_cut_features_and_gradients_flow_back_into_them(void **state)
{
    (void)state;
    net *n = fresh();
    net_t x = net_input(n, "x", f32(2, 8, 8, 2)), t = net_constant(n, "t", f32(4, 4, 4, 1)), rois;
    net_t a = net_conv(n, "conv", x, 3, 3, 1, 1, 1, 0);
    net_host(n, "halves", &a, 1, (tensor_shape[]){f32(2, 2, 1, 4)}, 1, halves, NULL, &rois);
    net_t cut = net_output(n, "cut", net_roialign(n, &a, 1, rois, 2, 4, 2)), whole = net_output(n, "whole", a);
    net_t loss = net_loss_bce(n, net_conv(n, "head", cut, 1, 1, 1, 0, 1, 0), t, -1);
    assert_true(tensor_same_shape(net_shape(n, cut), f32(4, 4, 4, 3)));
    ok(net_compile(n, NET_TRAIN, NET_FP32, &loss, NULL, 1));
    dice_state = 5;
    feed(n, x, 0);
    feed(n, t, 1);
    ok(net_forward(n));
    ok(net_backward(n));
    float *small = get(n, cut), *all = get(n, whole);
    for (int c = 0; c < 3; c++) { /* a bin is 2 rows high, its points on their centres; 1 column wide: points between */
        double mean = 0;
        for (int row = 0; row < 2; row++)
            mean += (all[(row * 8 + 4) * 3 + c] + 6 * all[(row * 8 + 5) * 3 + c] + all[(row * 8 + 6) * 3 + c]) / 16;
        assert_true(fabs(small[((1 * 4 + 0) * 4 + 1) * 3 + c] - mean) < 1e-6);
    }
    double before = net_param_at(n, 0)->grad[4], step = 1e-2, side[2];
    float w[54];
    ok(net_param_get(n, 0, w));
    for (int k = 0; k < 2; k++) {
        w[4] += (float)(k ? 2 * step : -step);
        ok(net_param_set(n, 0, w));
        ok(net_forward(n));
        side[k] = (double)loss_of(n, &loss, (float[]){1}, 1);
    }
    assert_true(fabs(before) > 1e-4);
    assert_true(fabs((side[1] - side[0]) / (2 * step) - before) < 1e-4 + 0.02 * fabs(before));
    free(small);
    free(all);
    net_free(&n);
}

/* ---- from net to net */
static void an_output_becomes_another_nets_input_as_if_it_had_been_read_and_set(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        net *a = fresh(), *b = fresh();
        net_t x = net_input(a, "x", f32(1, 4, 4, 2)), mid = net_output(a, "mid", net_sigmoid(a, x));
        net_t in = net_input(b, "in", f32(1, 4, 4, 2)), out = net_output(b, "out", net_relu(b, in));
        net_t other = net_input(b, "other", f32(1, 2, 8, 2));
        net_output(b, "far", net_relu(b, other));
        assert_int_equal(net_set_input_from(b, in, a, mid), COV_BROKEN); /* not compiled */
        ok(net_compile(a, NET_INFER, way & 1 ? NET_BF16 : NET_FP32, NULL, NULL, 0));
        ok(net_compile(b, NET_INFER, way & 2 ? NET_BF16 : NET_FP32, NULL, NULL, 0));
        dice_state = 8;
        feed(a, x, 0);
        feed(b, other, 0);
        ok(net_forward(a));
        float *through = get(a, mid), *seen[2];
        for (int k = 0; k < 2; k++) {
            if (k) ok(net_set_input_from(b, in, a, mid));
            else ok(net_set_input(b, in, through));
            ok(net_forward(b));
            seen[k] = get(b, out);
        }
        assert_memory_equal(seen[0], seen[1], 32 * sizeof(float));
        assert_int_equal(net_set_input_from(b, other, a, mid), COV_BROKEN);
        assert_non_null(strstr(status_message(), "'other'"));
        assert_int_equal(net_set_input_from(b, out, a, mid), COV_BROKEN);
        assert_int_equal(net_set_input_from(b, in, a, x), COV_BROKEN);
        for (int k = 0; k < 2; k++) free(seen[k]);
        free(through);
        net_free(&a);
        net_free(&b);
    }
}

/* ---- on the device */

/* With `there`, device memory that holds x, in place of x itself, and the output read where it lies. */
static void filled_there(net *n, net_t in, net_t out, const void *there, float *got)
{
    const backend *b = net_backend(n);
    size_t count = count_of(net_shape(n, in));
    void *to;
    const void *from;
    ok(net_input_begin(n, in, &to));
    ok(b->convert(net_device(n), count, TENSOR_F32, there, TENSOR_F32, to));
    ok(net_input_end(n, in));
    ok(net_forward(n));
    ok(net_output_at(n, out, &from));
    ok(b->download(net_device(n), got, from, count_of(net_shape(n, out)) * sizeof *got));
}

static void an_input_filled_and_an_output_read_on_the_device_are_what_the_host_sets_and_gets(void **state)
{
    (void)state;
    for (int k = 0; backend_at(k); k++)
        for (int precision = NET_FP32; precision <= NET_BF16; precision++) {
            const backend *b = backend_at(k);
            device *d;
            net *n;
            void *there, *to = &there;
            const void *from = &there;
            float x[180], got[240];
            ok(b->open(&(device_options){.threads = 2}, &d));
            ok(net_new(b, d, 1, &n));
            net_t in = net_input(n, "in", f32(1, 6, 10, 3)), out = net_output(n, "out", net_conv(n, "c", in, 4, 3, 1, 1, 1, 1));
            net_t label = net_constant(n, "label", f32(1, 6, 10, 4)), loss = net_loss_bce(n, out, label, -1);
            assert_int_equal(net_input_begin(n, in, &to), COV_BROKEN); /* not compiled */
            assert_null(to);
            ok(net_compile(n, NET_INFER, (net_precision)precision, NULL, NULL, 0));
            for (int i = 0; i < 180; i++) x[i] = spread();
            ok(b->alloc(d, sizeof x, &there));
            ok(b->upload(d, there, x, sizeof x));
            ok(net_set_input(n, in, x));
            ok(net_forward(n));
            float *want = get(n, out);
            for (int turn = 0; turn < 3; turn++) {
                filled_there(n, in, out, there, got);
                assert_memory_equal(got, want, sizeof got);
            }
            ok(net_input_begin(n, label, &to)); /* of a loss that was not compiled */
            assert_null(to);
            ok(net_input_end(n, label));
            assert_int_equal(net_input_begin(n, out, &to), COV_BROKEN);
            assert_int_equal(net_input_end(n, out), COV_BROKEN);
            assert_int_equal(net_output_at(n, loss, &from), COV_BROKEN);
            assert_null(from);
            free(want);
            b->release(d, there);
            net_free(&n);
            b->close(&d);
        }
}

/* ---- frozen parts */
typedef struct ice {
    net *n;
    net_t x, t, features, logits, loss;
} ice;

/* A frozen trunk of two conv + norm, one with a residual, and a head that trains, with a norm of its own. */
static ice ice_build(void)
{
    ice z = {.n = fresh()};
    z.x = net_input(z.n, "x", f32(2, 8, 8, 2));
    z.t = net_constant(z.n, "t", f32(2, 8, 8, 1));
    net_freeze(z.n, true);
    net_t a = net_batchnorm(z.n, "trunk/norm1", net_conv(z.n, "trunk/conv1", z.x, 4, 3, 1, 1, 0, 0), -1, 1);
    a = net_batchnorm(z.n, "trunk/norm2", net_conv(z.n, "trunk/conv2", a, 4, 3, 1, 1, 0, 0), a, 1);
    net_freeze(z.n, false);
    z.features = net_output(z.n, "features", a);
    net_t b = net_batchnorm(z.n, "head/norm", net_conv(z.n, "head/conv", a, 4, 3, 1, 1, 0, 0), -1, 1);
    z.logits = net_output(z.n, "logits", net_conv(z.n, "head/last", b, 1, 1, 1, 0, 1, 0));
    z.loss = net_loss_bce(z.n, z.logits, z.t, -1);
    return z;
}

static void ice_feed(ice *z)
{
    dice_state = 21;
    feed(z->n, z->x, 0);
    feed(z->n, z->t, 1);
}

static void a_frozen_part_stays_as_it_is_in_training_and_equals_inference(void **state)
{
    (void)state;
    ice z = ice_build();
    enum { TRUNK = 10, ROOM = 512 };
    float *grads, *values, before[TRUNK][ROOM], now[ROOM];
    size_t count;
    for (int k = 0; k < TRUNK; k++) {
        const net_param *p = net_param_at(z.n, k);
        assert_true(!strncmp(p->name, "trunk/", 6) && p->frozen && count_of(p->shape) <= ROOM);
        for (size_t i = 0; i < count_of(p->shape); i++)
            before[k][i] = strstr(p->name, "/var") ? 0.3f + fabsf(spread()) : spread();
        ok(net_param_set(z.n, k, before[k]));
    }
    ok(net_compile(z.n, NET_INFER, NET_FP32, NULL, NULL, 0));
    ice_feed(&z);
    ok(net_forward(z.n));
    float *infer = get(z.n, z.features);
    watch.backward_plans = 0;
    ok(net_compile(z.n, NET_TRAIN, NET_FP32, &z.loss, NULL, 1));
    assert_int_equal(watch.backward_plans, 4); /* the head's conv, norm and last, and the loss */
    assert_int_equal(z.n->fold_count, 1);      /* the trunk's first norm; the second has a residual */
    ice_feed(&z);
    for (int step = 0; step < 5; step++) {
        uint64_t folded = z.n->folds[0].version;
        ok(net_forward(z.n));
        ok(net_backward(z.n));
        if (step) assert_int_equal(z.n->folds[0].version, folded); /* nothing was folded again */
        ok(net_gradients(z.n, &grads, &values, &count));
        for (size_t i = 0; i < count; i++) values[i] -= 0.1f * grads[i];
        net_touch(z.n);
        float *train = get(z.n, z.features);
        assert_memory_equal(train, infer, count_of(net_shape(z.n, z.features)) * sizeof(float));
        free(train);
    }
    for (int k = 0; k < TRUNK; k++) {
        ok(net_param_get(z.n, k, now));
        assert_memory_equal(now, before[k], count_of(net_param_at(z.n, k)->shape) * sizeof(float));
        assert_null(net_param_at(z.n, k)->grad);
    }
    free(infer);
    net_free(&z.n);
}

static void statistics_that_move_stand_together_and_those_of_frozen_norms_elsewhere(void **state)
{
    (void)state;
    ice z = ice_build();
    float *values, old[512];
    size_t count, want = 0;
    ok(net_compile(z.n, NET_TRAIN, NET_FP32, &z.loss, NULL, 1));
    ok(net_statistics(z.n, &values, &count));
    for (int k = 0; k < net_param_count(z.n); k++) {
        const net_param *p = net_param_at(z.n, k);
        int inside = p->value >= values && p->value < values + count;
        assert_int_equal(inside, p->statistic && !strncmp(p->name, "head/", 5));
        want += inside ? (count_of(p->shape) + 63) / 64 * 64 : 0;
    }
    assert_int_equal(count, want);
    assert_true(count <= 512);
    memcpy(old, values, count * sizeof *old);
    ice_feed(&z);
    ok(net_forward(z.n));
    assert_memory_not_equal(old, values, count * sizeof *old);
    memcpy(values, old, count * sizeof *old); /* as if the step had not been */
    net_touch(z.n);
    float *first = get(z.n, z.logits);
    ok(net_forward(z.n));
    float *again = get(z.n, z.logits);
    assert_memory_equal(first, again, count_of(net_shape(z.n, z.logits)) * sizeof *first);
    free(first);
    free(again);
    net_free(&z.n);
}

static void a_net_without_moving_statistics_has_none_to_average(void **state)
{
    (void)state;
    net *n = fresh();
    float *values;
    size_t count;
    net_output(n, "y", net_conv(n, "c", net_input(n, "x", f32(1, 4, 4, 1)), 2, 1, 1, 0, 0, 0));
    ok(net_statistics(n, &values, &count));
    assert_int_equal(count, 0);
    net_free(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_host_step_sees_f32_and_constants_and_gives_what_it_fills),
        TEST(host_steps_see_what_was_set_last_and_what_the_step_before_made),
        TEST(a_host_step_that_nobody_reads_does_not_run),
        TEST(a_host_step_passes_no_gradient_to_its_inputs),
        TEST(host_steps_that_make_no_sense_say_where),
        TEST(rois_of_a_host_step_cut_features_and_gradients_flow_back_into_them),
        TEST(an_output_becomes_another_nets_input_as_if_it_had_been_read_and_set),
        TEST(an_input_filled_and_an_output_read_on_the_device_are_what_the_host_sets_and_gets),
        TEST(a_frozen_part_stays_as_it_is_in_training_and_equals_inference),
        TEST(statistics_that_move_stand_together_and_those_of_frozen_norms_elsewhere),
        TEST(a_net_without_moving_statistics_has_none_to_average),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
