/* net_fixture: what the tests of nets share.
 *
 * `watched` is ref with counters, with memory that comes as NaN (a read of what nobody wrote shows) and with an
 * allocation or plan that can be made to fail. The zoo is a small net with every kind of op that has a gradient.
 * Inputs come from dice with a state that a test sets. */
#ifndef COV_TESTS_NET_FIXTURE_H
#define COV_TESTS_NET_FIXTURE_H
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

static inline int refuses(void)
{
    if (watch.fail_after == 0) return 1;
    if (watch.fail_after > 0) watch.fail_after--;
    return 0;
}

static inline status watched_alloc(device *d, size_t bytes, void **out)
{
    *out = NULL;
    if (refuses()) return COV_FAIL(COV_NOMEM, "watched: no memory");
    COV_TRY(watch.ref->alloc(d, bytes, out));
    memset(*out, 0xff, bytes);
    watch.memory++;
    return COV_OK;
}

static inline void watched_release(device *d, void *memory)
{
    watch.memory -= memory != NULL;
    watch.ref->release(d, memory);
}

static inline status watched_plan_new(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    *out = NULL;
    if (refuses()) return COV_FAIL(COV_NOMEM, "watched: no plan");
    COV_TRY(watch.ref->plan_new(d, o, s, pass, out));
    watch.plans++;
    watch.backward_plans += pass == OP_BACKWARD;
    return COV_OK;
}

static inline void watched_plan_free(plan **p)
{
    watch.plans -= *p != NULL;
    watch.ref->plan_free(p);
}

static backend watched;
static device *handle;

static inline int set_up(void **state)
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
static inline int tear_down(void **state)
{
    (void)state;
    watch.ref->close(&handle);
    return watch.memory || watch.plans ? -1 : 0;
}

static inline void ok(status s)
{
    if (s != COV_OK) fail_msg("%s: %s (%s)", status_name(s), status_message(), status_trace());
}

static inline net *fresh(void)
{
    net *n;
    ok(net_new(&watched, handle, 7, &n));
    return n;
}

static uint32_t dice_state = 1;
static inline uint32_t dice(void) { return dice_state = dice_state * 1664525u + 1013904223u, dice_state >> 8; }
static inline float spread(void) { return (float)dice() / 8388608.0f - 1; }

static inline tensor_shape f32(int64_t n, int64_t h, int64_t w, int64_t c)
{
    return tensor_shape_of(n, h, w, c, TENSOR_F32);
}

static inline size_t count_of(tensor_shape s)
{
    size_t n;
    ok(tensor_count(s, &n));
    return n;
}

/* Fills an input (or F32 target: 0 or 1; I32 label: -1 to classes-1) from the dice. */
static inline void feed(net *n, net_t x, int classes)
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

static inline float *get(net *n, net_t x)
{
    float *v = malloc(count_of(net_shape(n, x)) * sizeof *v);
    ok(net_get(n, x, v));
    return v;
}

static inline float loss_of(net *n, const net_t *loss, const float *weight, int count)
{
    double sum = 0;
    for (int k = 0; k < count; k++) {
        float v;
        ok(net_get(n, loss[k], &v));
        sum += (double)weight[k] * v;
    }
    return (float)sum;
}

static inline double furthest(const float *a, const float *b, size_t n)
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

static inline zoo zoo_build(const backend *b, device *d, int64_t batch, int64_t size)
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

static inline void zoo_feed(zoo *z)
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

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#endif
