/* op_run: runs one op on one backend between guard bytes, and gives its results back as host floats.
 *
 * A bench holds the tensors of one op on one device, each in memory of its own with GUARD bytes of a pattern on both
 * sides. Outputs start as NaN, so that an element that nobody writes is seen. Inputs are compared with what was put
 * in: an op that writes on its inputs fails. Everything goes through upload and download, so a GPU may take part. */
#ifndef COV_TESTS_OPS_OP_RUN_H
#define COV_TESTS_OPS_OP_RUN_H
#include "kernels/backend.h"
#include "op_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        if ((call) != COV_OK) fail_msg("%s: %s (%s)", #call, status_message(), status_trace());                        \
    } while (0)

/* The tensors of an op_args, numbered. */
enum {
    SLOT_X = 0,
    SLOT_P = SLOT_X + OP_MAX_X,
    SLOT_Y = SLOT_P + OP_MAX_P,
    SLOT_SAVED = SLOT_Y + 1,
    SLOT_DY = SLOT_SAVED + OP_MAX_SAVED,
    SLOT_DX = SLOT_DY + 1,
    SLOT_DP = SLOT_DX + OP_MAX_X,
    SLOTS = SLOT_DP + OP_MAX_P,
    GUARD = 64 /* keeps the alignment that alloc promises */
};

typedef struct bench {
    const backend *b;
    device *d;
    op o;
    op_shapes s;
    op_args a;
    void *memory[SLOTS]; /* the device's: guard, data, guard; NULL: the op has no such tensor */
    void *put[SLOTS];    /* host copy of what was put there */
    size_t bytes[SLOTS];
} bench;

static inline tensor *bench_tensor(bench *t, int slot)
{
    if (slot >= SLOT_DP) return &t->a.dp[slot - SLOT_DP];
    if (slot >= SLOT_DX) return &t->a.dx[slot - SLOT_DX];
    if (slot == SLOT_DY) return &t->a.dy;
    if (slot >= SLOT_SAVED) return &t->a.saved[slot - SLOT_SAVED];
    if (slot == SLOT_Y) return &t->a.y;
    return slot >= SLOT_P ? &t->a.p[slot - SLOT_P] : &t->a.x[slot - SLOT_X];
}

/* Is there such a tensor? Losses have gradients for the prediction only, BatchNorm's statistics have none. */
static inline bool bench_shape(const op *o, const op_shapes *s, int slot, tensor_shape *out)
{
    int k = slot >= SLOT_DP ? slot - SLOT_DP : slot >= SLOT_DX ? slot - SLOT_DX : 0;
    if (slot >= SLOT_DP) return *out = s->p[k], k < (o->kind == OP_BATCHNORM ? 2 : s->np);
    if (slot >= SLOT_DX) return *out = s->x[k], k < s->nx && op_differentiable(o->kind, k, s->nx);
    if (slot == SLOT_DY || slot == SLOT_Y) return *out = s->y, true;
    if (slot >= SLOT_SAVED) return *out = s->saved[slot - SLOT_SAVED], slot - SLOT_SAVED < s->nsaved;
    if (slot >= SLOT_P) return *out = s->p[slot - SLOT_P], slot - SLOT_P < s->np;
    return *out = s->x[slot - SLOT_X], slot - SLOT_X < s->nx;
}

static inline void *must_alloc(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    assert_non_null(p);
    return p;
}

/* Overwrites a tensor with host bytes of its own type, guards included. */
static inline void bench_put(bench *t, int slot, const void *host)
{
    size_t n = t->bytes[slot];
    unsigned char *all = must_alloc(n + 2 * GUARD);
    memset(all, 0xA5, n + 2 * GUARD);
    memcpy(all + GUARD, host, n);
    memmove(t->put[slot], host, n);
    MUST(t->b->upload(t->d, t->memory[slot], all, n + 2 * GUARD));
    free(all);
}

/* The bytes a tensor now holds; fails the test if a guard was overwritten. Freed by the caller. */
static inline void *bench_get(bench *t, int slot, const char *text)
{
    size_t n = t->bytes[slot];
    unsigned char *all = must_alloc(n + 2 * GUARD);
    MUST(t->b->download(t->d, all, t->memory[slot], n + 2 * GUARD));
    for (size_t i = 0; i < GUARD; i++)
        if (all[i] != 0xA5 || all[GUARD + n + i] != 0xA5)
            fail_msg("%s: %s wrote outside tensor slot %d", text, t->b->name, slot);
    memmove(all, all + GUARD, n);
    return all;
}

/* All tensors of the op, every byte 0xFF: NaN in both types. */
static inline void bench_new(bench *t, const backend *b, device *d, const op *o, const op_shapes *s)
{
    *t = (bench){.b = b, .d = d, .o = *o, .s = *s};
    for (int slot = 0; slot < SLOTS; slot++) {
        tensor_shape shape;
        if (!bench_shape(o, s, slot, &shape)) continue;
        MUST(tensor_bytes(shape, &t->bytes[slot]));
        MUST(b->alloc(d, t->bytes[slot] + 2 * GUARD, &t->memory[slot]));
        assert_int_equal((uintptr_t)t->memory[slot] % 64, 0);
        t->put[slot] = must_alloc(t->bytes[slot]);
        memset(t->put[slot], 0xFF, t->bytes[slot]);
        bench_put(t, slot, t->put[slot]);
        *bench_tensor(t, slot) = (tensor){.shape = shape, .data = (char *)t->memory[slot] + GUARD};
    }
}

static inline void bench_free(bench *t)
{
    for (int slot = 0; slot < SLOTS; slot++) {
        t->b->release(t->d, t->memory[slot]);
        free(t->put[slot]);
    }
}

/* Plans and runs one pass with t->a as it is. */
static inline void bench_run(bench *t, op_pass pass)
{
    plan *p = NULL;
    MUST(t->b->plan_new(t->d, &t->o, &t->s, pass, &p));
    MUST(t->b->plan_run(p, &t->a));
    MUST(t->b->sync(t->d));
    t->b->plan_free(&p);
    assert_null(p);
}

/* Fails if a tensor does not hold what was put there. */
static inline void bench_unchanged(bench *t, int slot, const char *text)
{
    if (!t->memory[slot]) return;
    void *now = bench_get(t, slot, text);
    if (memcmp(now, t->put[slot], t->bytes[slot])) fail_msg("%s: %s changed its input slot %d", text, t->b->name, slot);
    free(now);
}

/* ---- values */
static inline size_t slot_count(const bench *t, int slot)
{
    tensor_shape shape;
    size_t n = 0;
    if (bench_shape(&t->o, &t->s, slot, &shape)) MUST(tensor_count(shape, &n));
    return n;
}

static inline tensor_type slot_type(const bench *t, int slot)
{
    tensor_shape shape = {0};
    bench_shape(&t->o, &t->s, slot, &shape);
    return shape.type;
}

/* n values of a tensor's type as floats; freed by the caller. */
static inline float *floats_from(tensor_type type, const void *bytes, size_t n)
{
    float *out = must_alloc(n * sizeof *out);
    for (size_t i = 0; i < n; i++)
        out[i] = type == TENSOR_BF16  ? tensor_f32_from_bf16(((const uint16_t *)bytes)[i])
                 : type == TENSOR_I32 ? (float)((const int32_t *)bytes)[i]
                                      : ((const float *)bytes)[i];
    return out;
}

static inline float *bench_floats(bench *t, int slot, const char *text)
{
    void *bytes = bench_get(t, slot, text);
    float *out = floats_from(slot_type(t, slot), bytes, slot_count(t, slot));
    free(bytes);
    return out;
}

static inline void bench_put_floats(bench *t, int slot, const float *x)
{
    size_t n = slot_count(t, slot);
    tensor_type type = slot_type(t, slot);
    void *bytes = must_alloc(t->bytes[slot]);
    for (size_t i = 0; i < n; i++) {
        if (type == TENSOR_BF16) ((uint16_t *)bytes)[i] = tensor_bf16_from_f32(x[i]);
        else if (type == TENSOR_I32) ((int32_t *)bytes)[i] = (int32_t)x[i];
        else ((float *)bytes)[i] = x[i];
    }
    bench_put(t, slot, bytes);
    free(bytes);
}

/* Uniform in [-1, 1), the same sequence everywhere (xorshift64*). */
static inline float draw(uint64_t *state)
{
    *state ^= *state >> 12, *state ^= *state << 25, *state ^= *state >> 27;
    return (float)((*state * 2685821657736338717ull) >> 40) / (float)(1 << 23) - 1;
}

/* Max pooling: any 8 x 8 neighbourhood of a channel holds 64 different multiples of 1/32, so that no backend meets a
 * tie in a window (ties have a test of their own) and no finite difference changes the winner. */
static inline float pool_value(tensor_shape s, size_t i)
{
    int64_t c = (int64_t)i % s.c, x = (int64_t)i / s.c % s.w, y = (int64_t)i / s.c / s.w % s.h;
    return (float)(((y % 8 * 8 + x % 8) * 37 + c * 11) % 64 - 40) / 32;
}

/* Coordinate i of the rois: corners of an image of `side` pixels and a little beyond, the second after the first but
 * for every fifth roi, which has no area. */
static inline float roi_value(const op *o, tensor_shape level, const float *before, size_t i, float v)
{
    float side = (float)(o->stride * (i % 2 ? level.w : level.h));
    if (i % 4 < 2) return side * (0.45f + 0.55f * v);
    return i / 4 % 5 == 4 ? before[-2] : before[-2] + side * (0.5f + 0.45f * v);
}

/* Fills x, p, dy and dp: constants of losses, labels and variances get values that make sense for them. */
static inline void bench_fill(bench *t, uint64_t seed)
{
    const op_kind kind = t->o.kind;
    for (int slot = 0; slot < SLOTS; slot++) {
        size_t n = slot_count(t, slot);
        if (!n || slot == SLOT_Y || (slot >= SLOT_SAVED && slot < SLOT_DY) || (slot >= SLOT_DX && slot < SLOT_DP))
            continue;
        float *x = must_alloc(n * sizeof *x);
        for (size_t i = 0; i < n; i++) {
            float v = draw(&seed);
            if (kind == OP_MAXPOOL && slot == SLOT_X) v = pool_value(t->s.x[0], i);
            if (kind == OP_BATCHNORM && slot == SLOT_P + 3) v = v * v + 0.25f;
            if (kind == OP_ROIALIGN && slot == SLOT_X + t->s.nx - 1) v = roi_value(&t->o, t->s.x[0], x + i, i, v);
            if (op_is_loss(kind) && slot == SLOT_X) v *= 3;
            if ((kind == OP_LOSS_BCE || kind == OP_LOSS_DICE) && slot == SLOT_X + 1) v = v > 0.2f;
            if ((kind == OP_LOSS_BCE || kind == OP_LOSS_L1S) && slot == SLOT_X + 2) v = v > -0.3f ? fabsf(v) : 0;
            if (kind == OP_LOSS_CE && slot == SLOT_X + 1) v = floorf((v + 1) / 2 * (float)(t->s.x[0].c + 1)) - 1;
            x[i] = v;
        }
        bench_put_floats(t, slot, x);
        free(x);
    }
}
#endif
