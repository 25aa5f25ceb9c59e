/* The graph against its own promises, on the reference backend: gradients against finite differences, memory plans
 * against plans without reuse, folded norms against unfolded ones, one net at many sizes against fresh nets, and every
 * allocation failing in turn. Then whole nets on every backend against ref.
 *
 * `watched` is ref with counters, with memory that comes as NaN (a read of what nobody wrote shows) and with an
 * allocation or plan that can be made to fail. */
#include "kernels/net_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct {
    const backend *ref;
    int memory, plans;  /* alive */
    int backward_plans; /* made */
    int fail_after;     /* allocations and plans that still work; -1: all */
} watch;

static int refuses(void)
{
    if (watch.fail_after == 0) return 1;
    if (watch.fail_after > 0) watch.fail_after--;
    return 0;
}

static status watched_alloc(device *d, size_t bytes, void **out)
{
    *out = NULL;
    if (refuses()) return COV_FAIL(COV_NOMEM, "watched: no memory");
    COV_TRY(watch.ref->alloc(d, bytes, out));
    memset(*out, 0xff, bytes);
    watch.memory++;
    return COV_OK;
}

static void watched_release(device *d, void *memory)
{
    watch.memory -= memory != NULL;
    watch.ref->release(d, memory);
}

static status watched_plan_new(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    *out = NULL;
    if (refuses()) return COV_FAIL(COV_NOMEM, "watched: no plan");
    COV_TRY(watch.ref->plan_new(d, o, s, pass, out));
    watch.plans++;
    watch.backward_plans += pass == OP_BACKWARD;
    return COV_OK;
}

static void watched_plan_free(plan **p)
{
    watch.plans -= *p != NULL;
    watch.ref->plan_free(p);
}

static backend watched;
static device *handle;

static int set_up(void **state)
{
    (void)state;
    memset(&watch, 0, sizeof watch);
    watch.fail_after = -1;
    if (backend_find("ref", &watch.ref) != COV_OK) return -1;
    watched = *watch.ref;
    watched.alloc = watched_alloc;
    watched.release = watched_release;
    watched.plan_new = watched_plan_new;
    watched.plan_free = watched_plan_free;
    return watch.ref->open(&(device_options){.threads = 1}, &handle) == COV_OK ? 0 : -1;
}

/* Whatever a test did, nothing may be left. */
static int tear_down(void **state)
{
    (void)state;
    watch.ref->close(&handle);
    return watch.memory || watch.plans ? -1 : 0;
}

static void ok(status s)
{
    if (s != COV_OK) fail_msg("%s: %s (%s)", status_name(s), status_message(), status_trace());
}

static net *fresh(void)
{
    net *n;
    ok(net_new(&watched, handle, 7, &n));
    return n;
}

static uint32_t dice_state = 1;
static uint32_t dice(void) { return dice_state = dice_state * 1664525u + 1013904223u, dice_state >> 8; }
static float spread(void) { return (float)dice() / 8388608.0f - 1; }

static tensor_shape f32(int64_t n, int64_t h, int64_t w, int64_t c) { return tensor_shape_of(n, h, w, c, TENSOR_F32); }

static size_t count_of(tensor_shape s)
{
    size_t n;
    ok(tensor_count(s, &n));
    return n;
}

/* Fills an input (or F32 target: 0 or 1; I32 label: -1 to classes-1) from the dice. */
static void feed(net *n, net_t x, int classes)
{
    tensor_shape s = net_shape(n, x);
    size_t count = count_of(s);
    float *v = malloc(count * sizeof *v);
    for (size_t i = 0; i < count; i++) {
        int32_t label = (int32_t)(dice() % (uint32_t)(classes + 1)) - 1;
        if (s.type == TENSOR_I32) memcpy(&v[i], &label, sizeof label);
        else v[i] = classes ? (float)(dice() % 2) : spread();
    }
    ok(net_set_input(n, x, v));
    free(v);
}

static float *get(net *n, net_t x)
{
    float *v = malloc(count_of(net_shape(n, x)) * sizeof *v);
    ok(net_get(n, x, v));
    return v;
}

static float loss_of(net *n, const net_t *loss, const float *weight, int count)
{
    double sum = 0;
    for (int k = 0; k < count; k++) {
        float v;
        ok(net_get(n, loss[k], &v));
        sum += (double)weight[k] * v;
    }
    return (float)sum;
}

static double furthest(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double far = fabs((double)a[i] - b[i]);
        if (!(far <= most)) most = far; /* NaN counts */
    }
    return most;
}

/* ---- a net with every kind of op that has a gradient */
typedef struct zoo {
    net *n;
    net_t image, target, weight, label, wanted, logits, classes;
    net_t losses[4];
} zoo;

static const float zoo_weights[4] = {1.0f, 0.5f, 0.7f, 0.3f};

static zoo zoo_build(const backend *b, device *d, int64_t batch, int64_t size)
{
    zoo z;
    ok(net_new(b, d, 7, &z.n));
    net *n = z.n;
    z.image = net_input(n, "image", f32(batch, size, size, 2));
    z.target = net_constant(n, "target", f32(batch, size, size, 1));
    z.weight = net_constant(n, "weight", f32(batch, size, size, 1));
    z.label = net_constant(n, "label", tensor_shape_of(batch, 1, 1, 1, TENSOR_I32));
    z.wanted = net_constant(n, "wanted", f32(batch, 1, 1, 4));
    net_t ones = net_constant(n, "ones", f32(batch, 1, 1, 4));
    net_t a = net_groupnorm(n, "enc/norm1", net_conv(n, "enc/conv1", z.image, 8, 3, 1, 1, 0, 0), -1, 4, 1);
    net_t b1 = net_groupnorm(n, "enc/norm2", net_conv(n, "enc/conv2", a, 8, 3, 1, 1, 0, 0), a, 4, 1);
    net_t down = net_maxpool(n, b1, 2, 2, 0);
    net_t c = net_batchnorm(n, "mid/norm", net_conv(n, "mid/conv", down, 12, 3, 1, 1, 0, 0), -1, 1);
    net_t wide = net_add(n, c, net_resize_like(n, net_conv(n, "mid/wide", c, 12, 3, 2, 1, 1, 1), c, 0), 1);
    net_t up = net_convt(n, "dec/up", wide, 8, 2, 2, 0, 1, 0);
    net_t skip[2] = {up, b1};
    net_t d1 = net_conv(n, "dec/conv", net_concat(n, skip, 2), 6, 3, 1, 1, 1, 1);
    net_t gate = net_sigmoid(n, net_conv(n, "dec/gate", d1, 6, 1, 1, 0, 1, 0));
    net_t both = net_add(n, d1, net_relu(n, net_add(n, gate, d1, 0)), 0);
    z.logits = net_output(n, "logits", net_conv(n, "head/conv", both, 1, 1, 1, 0, 1, 0));
    net_t pooled = net_avgpool(n, wide);
    z.classes = net_output(n, "classes", net_linear(n, "head/linear", pooled, 4, 0));
    z.losses[0] = net_loss_bce(n, z.logits, z.target, z.weight);
    z.losses[1] = net_loss_dice(n, z.logits, z.target);
    z.losses[2] = net_loss_ce(n, z.classes, z.label);
    z.losses[3] = net_loss_l1s(n, net_softmax(n, z.classes), z.wanted, ones, 0.2f);
    return z;
}

static void zoo_feed(zoo *z)
{
    dice_state = 99;
    feed(z->n, z->image, 0);
    feed(z->n, z->target, 1);
    feed(z->n, z->weight, 1);
    feed(z->n, z->label, 4);
    feed(z->n, z->wanted, 1);
    tensor_shape s = net_shape(z->n, z->wanted);
    float one[64];
    for (int k = 0; k < 64; k++) one[k] = 1;
    assert_true(count_of(s) <= 64);
    ok(net_set_input(z->n, z->wanted + 1, one));
}

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
        for (size_t i = 0; i < n; i++) { along[i] = spread(); length += (double)along[i] * along[i]; }
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

/* ---- memory */
typedef struct maze {
    net *n;
    net_t image, target, loss;
} maze;

static net_t maze_step(net *n, int k, net_t a, net_t b)
{
    net_t both[2] = {a, b};
    char name[24], inner[24];
    snprintf(name, sizeof name, "n%d", k);
    snprintf(inner, sizeof inner, "n%d/inner", k);
    switch (dice() % 8) {
    case 0: return net_conv(n, name, a, 4, 3, 1, 1, 1, 1);
    case 1: return net_add(n, a, b, (int)(dice() % 2));
    case 2: return net_groupnorm(n, name, a, b, 2, 1);
    case 3: return net_conv(n, name, net_concat(n, both, 2), 4, 1, 1, 0, 0, 0);
    case 4: return net_resize_like(n, net_maxpool(n, a, 2, 2, 0), a, 1);
    case 5: return net_sigmoid(n, a);
    case 6: return net_batchnorm(n, name, net_conv(n, inner, a, 4, 1, 1, 0, 0, 0), -1, 0);
    default: return net_relu(n, a);
    }
}

/* A random graph of 4 to 40 steps over one size, with forks, joins, dead ends and some outputs on the way. */
static maze maze_build(uint32_t seed)
{
    maze z = {.n = fresh()};
    net_t made[48];
    int count = 0;
    char name[24];
    dice_state = seed * 7919u + 1;
    int steps = 4 + (int)(dice() % 37);
    z.image = net_input(z.n, "image", f32(1, 4, 4, 4));
    z.target = net_constant(z.n, "target", f32(1, 4, 4, 1));
    made[count++] = z.image;
    for (int k = 0; k < steps; k++, count++) {
        net_t a = made[dice() % (uint32_t)count], b = made[dice() % (uint32_t)count];
        made[count] = maze_step(z.n, k, a, b);
        snprintf(name, sizeof name, "out%d", k);
        if (dice() % 6 == 0) net_output(z.n, name, made[count]);
    }
    net_t ends[3] = {made[count - 1], made[count - 2], made[dice() % (uint32_t)count]};
    net_t logits = net_output(z.n, "logits", net_conv(z.n, "logits/conv", net_concat(z.n, ends, 3), 1, 1, 1, 0, 1, 0));
    z.loss = net_loss_bce(z.n, logits, z.target, -1);
    return z;
}

/* Everything a caller can see of one run: outputs, loss, gradients. Freed by the caller. */
static float *maze_run(maze *z, int train, net_precision precision, size_t *length)
{
    size_t room = 1 << 16, at = 0, count;
    float *seen = calloc(room, sizeof *seen), *grads, *values;
    ok(net_compile(z->n, train ? NET_TRAIN : NET_INFER, precision, &z->loss, NULL, 1));
    dice_state = 3;
    feed(z->n, z->image, 0);
    feed(z->n, z->target, 1);
    for (int turn = 0; turn < 2; turn++) { /* the second finds what the first left */
        at = 0;
        ok(net_forward(z->n));
        if (train) ok(net_backward(z->n));
        for (int k = 0; k < z->n->value_count; k++) {
            size_t size = count_of(net_shape(z->n, k));
            if (!z->n->values[k].output && k != z->loss) continue;
            assert_true(at + size <= room);
            ok(net_get(z->n, k, seen + at));
            at += size;
        }
        ok(net_gradients(z->n, &grads, &values, &count));
        assert_true(at + count <= room);
        if (train) memcpy(seen + at, grads, count * sizeof *seen);
        if (train) at += count;
    }
    *length = at;
    return seen;
}

static void slots_alive_together_never_share_bytes(const net *n)
{
    for (int a = 0; a < n->slot_count; a++) {
        const net_slot *s = &n->slots[a];
        assert_true(s->first <= s->last);
        assert_true(s->offset % NET_ALIGN == 0 && s->offset + s->bytes <= n->arena_bytes);
        for (int b = 0; b < a; b++) {
            const net_slot *t = &n->slots[b];
            if (s->first > t->last || t->first > s->last) continue;
            assert_true(s->offset + s->bytes <= t->offset || t->offset + t->bytes <= s->offset);
        }
    }
}

static void reusing_memory_changes_no_result_of_any_graph(void **state)
{
    (void)state;
    int smaller = 0;
    for (uint32_t seed = 0; seed < 120; seed++) {
        for (int train = 0; train < 2; train++) {
            net_precision precision = seed % 3 ? NET_FP32 : NET_BF16;
            float *seen[2];
            size_t length[2], bytes[2];
            for (int reuse = 0; reuse < 2; reuse++) {
                maze z = maze_build(seed);
                z.n->reuse = reuse;
                seen[reuse] = maze_run(&z, train, precision, &length[reuse]);
                bytes[reuse] = net_activation_bytes(z.n);
                if (reuse) slots_alive_together_never_share_bytes(z.n);
                net_free(&z.n);
            }
            assert_int_equal(length[0], length[1]);
            for (size_t i = 0; i < length[0]; i++) assert_true(isfinite(seen[0][i]));
            assert_memory_equal(seen[0], seen[1], length[0] * sizeof(float));
            assert_true(bytes[1] <= bytes[0]);
            smaller += 2 * bytes[1] < bytes[0];
            free(seen[0]);
            free(seen[1]);
        }
    }
    assert_true(smaller > 20); /* or the test above compares nothing */
}

static void a_chain_runs_in_the_memory_of_its_two_largest_neighbours(void **state)
{
    (void)state;
    net *n = fresh();
    net_t x = net_input(n, "x", f32(1, 16, 16, 1));
    char name[16];
    for (int k = 0; k < 10; k++) {
        snprintf(name, sizeof name, "c%d", k);
        x = net_conv(n, name, x, 16, 3, 1, 1, 1, 1);
    }
    net_output(n, "y", net_conv(n, "last", x, 1, 1, 1, 0, 1, 0));
    ok(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0));
    assert_true(net_activation_bytes(n) <= 2 * 16 * 16 * 16 * 4 + 2 * 16 * 16 * 4);
    net_free(&n);
}

static void every_failing_allocation_leaves_a_net_that_can_still_compile(void **state)
{
    (void)state;
    zoo z = zoo_build(&watched, handle, 1, 8);
    for (int mode = 0; mode < 2; mode++) {
        int steps = 0;
        for (;; steps++) {
            watch.fail_after = steps;
            status s = net_compile(z.n, mode ? NET_TRAIN : NET_INFER, NET_BF16, z.losses, zoo_weights, 4);
            watch.fail_after = -1;
            if (s == COV_OK) break;
            assert_int_equal(s, COV_NOMEM);
            assert_int_equal(watch.plans, 0);
            assert_true(watch.memory <= 2); /* parameters and gradients stay */
            assert_int_equal(net_forward(z.n), COV_BROKEN);
        }
        assert_true(steps > 20);
        zoo_feed(&z);
        ok(net_forward(z.n));
    }
    net_free(&z.n);
}

static void compiling_again_leaks_no_plan_and_no_memory(void **state)
{
    (void)state;
    zoo z = zoo_build(&watched, handle, 1, 8);
    int plans[2] = {0}, memory[2] = {0};
    for (int turn = 0; turn < 6; turn++) {
        int mode = turn % 2;
        ok(net_compile(z.n, mode ? NET_TRAIN : NET_INFER, NET_FP32, z.losses, zoo_weights, 4));
        zoo_feed(&z);
        ok(net_forward(z.n));
        if (turn > 1) assert_int_equal(plans[mode], watch.plans);
        if (turn > 1) assert_int_equal(memory[mode], watch.memory);
        plans[mode] = watch.plans;
        memory[mode] = watch.memory;
        assert_true(mode ? net_param_at(z.n, 0)->grad != NULL : net_param_at(z.n, 0)->grad == NULL);
    }
    net_free(&z.n);
}

/* ---- BatchNorm */
typedef struct folding {
    net *n;
    net_t x, y, z;
} folding;

static folding folding_build(int bias)
{
    folding f = {.n = fresh()};
    net_freeze(f.n, true);
    f.x = net_input(f.n, "x", f32(2, 6, 6, 3));
    net_t a = net_batchnorm(f.n, "norm1", net_conv(f.n, "conv1", f.x, 5, 3, 1, 1, bias, 0), -1, 1);
    net_t b = net_batchnorm(f.n, "norm2", net_conv(f.n, "conv2", a, 5, 3, 1, 1, bias, 0), a, 1); /* a residual: stays */
    net_t c = net_conv(f.n, "conv3", b, 5, 3, 1, 1, 1, 0);                                       /* two readers: stays */
    net_t d = net_add(f.n, c, net_batchnorm(f.n, "norm3", c, -1, 0), 0);
    net_t e = net_batchnorm(f.n, "norm4", net_conv(f.n, "conv4", d, 5, 1, 1, 0, bias, 1), -1, 0); /* after a ReLU: stays */
    net_t g = net_batchnorm(f.n, "norm5", net_conv(f.n, "conv5", e, 5, 1, 1, 0, bias, 0), -1, 0);
    f.y = net_output(f.n, "y", net_batchnorm(f.n, "norm6", g, -1, 1)); /* norm5 folds, norm6 stays */
    f.z = net_output(f.n, "z", net_conv(f.n, "conv7", f.y, 2, 1, 1, 0, 0, 0));
    net_output(f.n, "w", net_batchnorm(f.n, "norm7", f.z, -1, 0)); /* conv7 is an output: stays */
    return f;
}

static void folding_scramble(folding *f)
{
    for (int k = 0; k < net_param_count(f->n); k++) {
        const net_param *p = net_param_at(f->n, k);
        float v[256];
        assert_true(count_of(p->shape) <= 256);
        int variance = strstr(p->name, "/var") != NULL;
        for (size_t i = 0; i < count_of(p->shape); i++) v[i] = variance ? 0.2f + (float)(dice() % 64) / 32 : 0.5f * spread();
        ok(net_param_set(f->n, k, v));
    }
}

static void a_folded_norm_gives_the_unfolded_values_and_follows_its_parameters(void **state)
{
    (void)state;
    for (int bias = 0; bias < 2; bias++) {
        folding f = folding_build(bias);
        for (int turn = 0; turn < 3; turn++) {
            float *y[2], *z[2];
            dice_state = 40 + (uint32_t)turn;
            folding_scramble(&f);
            for (int mode = 0; mode < 2; mode++) { /* training folds nothing */
                ok(net_compile(f.n, mode ? NET_TRAIN : NET_INFER, NET_FP32, NULL, NULL, 0));
                assert_int_equal(f.n->fold_count, mode ? 0 : 2);
                dice_state = 77;
                feed(f.n, f.x, 0);
                ok(net_forward(f.n));
                if (!mode) { /* changed between two runs of one compiled net */
                    dice_state = 50 + (uint32_t)turn;
                    folding_scramble(&f);
                    ok(net_forward(f.n));
                }
                y[mode] = get(f.n, f.y);
                z[mode] = get(f.n, f.z);
            }
            size_t count = count_of(net_shape(f.n, f.y));
            double size = 0;
            for (size_t i = 0; i < count; i++) size += fabs((double)y[1][i]) / (double)count;
            assert_true(size > 1e-3);
            assert_true(furthest(y[0], y[1], count) < 1e-4 * (1 + size));
            assert_true(furthest(z[0], z[1], count_of(net_shape(f.n, f.z))) < 1e-4 * (1 + size));
            for (int mode = 0; mode < 2; mode++) {
                free(y[mode]);
                free(z[mode]);
            }
        }
        net_free(&f.n);
    }
}

static void training_moves_the_statistics_of_a_norm_and_inference_uses_them(void **state)
{
    (void)state;
    net *n = fresh();
    net_t x = net_input(n, "x", f32(4, 8, 8, 1)), t = net_constant(n, "t", f32(4, 8, 8, 3));
    net_t y = net_output(n, "y", net_batchnorm(n, "norm", net_conv(n, "conv", x, 3, 1, 1, 0, 1, 0), -1, 0));
    net_t loss = net_loss_bce(n, y, t, -1);
    ok(net_compile(n, NET_TRAIN, NET_FP32, &loss, NULL, 1));
    dice_state = 5;
    feed(n, x, 0);
    feed(n, t, 1);
    for (int k = 0; k < 200; k++) ok(net_forward(n));
    float *train = get(n, y);
    ok(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0));
    dice_state = 5;
    feed(n, x, 0);
    ok(net_forward(n));
    float *infer = get(n, y);
    assert_true(furthest(train, infer, count_of(net_shape(n, y))) < 0.02); /* biased and unbiased variance differ a little */
    assert_int_equal(net_param_at(n, 4)->statistic, 1);
    free(train);
    free(infer);
    net_free(&n);
}

/* ---- sizes */
static void one_net_at_many_sizes_equals_fresh_nets_with_its_parameters(void **state)
{
    (void)state;
    static const int64_t batches[] = {1, 3, 2, 1}, sizes[] = {8, 12, 16, 8};
    zoo z = zoo_build(&watched, handle, 2, 8);
    ok(net_compile(z.n, NET_TRAIN, NET_FP32, z.losses, zoo_weights, 4));
    for (int turn = 0; turn < 4; turn++) {
        int64_t b = batches[turn], s = sizes[turn];
        zoo y = zoo_build(&watched, handle, b, s), *both[2] = {&y, &z};
        ok(net_reshape(z.n, z.image, f32(b, s, s, 2)));
        assert_int_equal(net_forward(z.n), COV_BROKEN);
        ok(net_reshape(z.n, z.target, f32(b, s, s, 1)));
        ok(net_reshape(z.n, z.weight, f32(b, s, s, 1)));
        ok(net_reshape(z.n, z.label, tensor_shape_of(b, 1, 1, 1, TENSOR_I32)));
        ok(net_reshape(z.n, z.wanted, f32(b, 1, 1, 4)));
        ok(net_reshape(z.n, z.wanted + 1, f32(b, 1, 1, 4)));
        assert_true(tensor_same_shape(net_shape(z.n, z.logits), f32(b, s, s, 1)));
        float *grads[2], *values, *logits[2];
        size_t count[2];
        for (int k = 0; k < 2; k++) {
            ok(net_compile(both[k]->n, NET_TRAIN, NET_FP32, both[k]->losses, zoo_weights, 4));
            zoo_feed(both[k]);
            ok(net_forward(both[k]->n));
            ok(net_backward(both[k]->n));
            logits[k] = get(both[k]->n, both[k]->logits);
            ok(net_gradients(both[k]->n, &grads[k], &values, &count[k]));
        }
        assert_int_equal(count[0], count[1]);
        assert_memory_equal(grads[0], grads[1], count[0] * sizeof(float));
        assert_memory_equal(logits[0], logits[1], (size_t)(b * s * s) * sizeof(float));
        free(logits[0]);
        free(logits[1]);
        net_free(&y.n);
    }
    net_free(&z.n);
}

static void a_resize_keeps_its_ratio_and_says_where_it_cannot(void **state)
{
    (void)state;
    net *n = fresh();
    net_t x = net_input(n, "x", f32(1, 8, 6, 1));
    net_t y = net_output(n, "y", net_resize(n, x, 4, 9, 0));
    ok(net_reshape(n, x, f32(2, 12, 4, 1)));
    assert_true(tensor_same_shape(net_shape(n, y), f32(2, 6, 6, 1)));
    ok(net_reshape(n, x, f32(2, 7, 4, 1)));
    assert_int_equal(net_shape(n, y).h, 0);
    assert_int_equal(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0), COV_BROKEN);
    assert_non_null(strstr(status_message(), "7x4"));
    ok(net_reshape(n, x, f32(2, 8, 4, 1)));
    ok(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0));
    net_free(&n);
}

static void a_reshape_that_does_not_fit_is_reported_by_compile_and_can_be_undone(void **state)
{
    (void)state;
    zoo z = zoo_build(&watched, handle, 2, 8);
    ok(net_reshape(z.n, z.image, f32(2, 16, 16, 2)));
    assert_int_equal(net_compile(z.n, NET_TRAIN, NET_FP32, z.losses, NULL, 4), COV_BROKEN);
    assert_non_null(strstr(status_message(), "loss_bce"));
    assert_int_equal(net_reshape(z.n, z.image, f32(2, 16, 0, 2)), COV_BROKEN);
    assert_int_equal(net_reshape(z.n, z.image, tensor_shape_of(2, 8, 8, 2, TENSOR_BF16)), COV_BROKEN);
    assert_int_equal(net_reshape(z.n, z.logits, f32(2, 8, 8, 2)), COV_BROKEN);
    ok(net_reshape(z.n, z.image, f32(2, 8, 8, 3)));
    assert_int_equal(net_compile(z.n, NET_TRAIN, NET_FP32, z.losses, NULL, 4), COV_BROKEN);
    assert_non_null(strstr(status_message(), "enc/conv1/w"));
    ok(net_reshape(z.n, z.image, f32(2, 8, 8, 2)));
    ok(net_compile(z.n, NET_TRAIN, NET_FP32, z.losses, NULL, 4));
    net_free(&z.n);
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
        for (size_t i = 0; i < count; i++) { sum += w[way][i]; squares += (double)w[way][i] * w[way][i]; }
        assert_true(fabs(sum / (double)count) < 0.003);
        assert_true(fabs(squares / (double)count / (2.0 / (32 * 9)) - 1) < 0.05);
        float b[64], *up = malloc(sizeof(float) * 32 * 4 * 64);
        ok(net_param_get(n, k + 1, b));
        for (int i = 0; i < 64; i++) assert_true(b[i] == 0);
        ok(net_param_get(n, k + 2, up));
        for (squares = 0, count = 0; count < 32 * 4 * 64; count++) squares += (double)up[count] * up[count];
        assert_true(fabs(squares / (double)count / (2.0 / 32) - 1) < 0.05); /* stride 2, kernel 2: 32 inputs an output */
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
        fail_msg("%s: logits %g, gradients %g, loss %g for %g", what, far[0], far[1], (double)a.loss, (double)right.loss);
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

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(gradients_of_every_op_agree_with_finite_differences),
        TEST(a_gradient_is_the_same_however_often_it_is_computed),
        TEST(gradients_that_meet_at_a_fork_are_summed),
        TEST(an_op_may_read_the_same_tensor_several_times),
        TEST(a_loss_weight_scales_its_gradient_and_a_loss_given_twice_counts_twice),
        TEST(a_frozen_trunk_costs_no_backward_and_a_frozen_layer_passes_gradients),
        TEST(reusing_memory_changes_no_result_of_any_graph),
        TEST(a_chain_runs_in_the_memory_of_its_two_largest_neighbours),
        TEST(every_failing_allocation_leaves_a_net_that_can_still_compile),
        TEST(compiling_again_leaks_no_plan_and_no_memory),
        TEST(a_folded_norm_gives_the_unfolded_values_and_follows_its_parameters),
        TEST(training_moves_the_statistics_of_a_norm_and_inference_uses_them),
        TEST(one_net_at_many_sizes_equals_fresh_nets_with_its_parameters),
        TEST(a_resize_keeps_its_ratio_and_says_where_it_cannot),
        TEST(a_reshape_that_does_not_fit_is_reported_by_compile_and_can_be_undone),
        TEST(the_first_error_of_a_graph_is_the_one_that_compile_reports),
        TEST(graphs_that_make_no_sense_say_where),
        TEST(calls_out_of_order_are_refused),
        TEST(weights_start_he_normal_from_seed_and_name_alone),
        TEST(parameters_set_are_parameters_got_and_stay_through_compiles),
        TEST(flops_count_what_runs),
        TEST(every_backend_agrees_with_ref_in_both_precisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
