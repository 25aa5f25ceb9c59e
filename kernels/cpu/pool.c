/* pool: max pooling and global average pooling, forward and backward, channels side by side in vectors.
 *
 * Max pooling saves the winner's place in its window (ky*kernel+kx, the first largest) in one byte an output; the padding
 * never wins. Backward gathers: each input pixel asks the windows that cover it whether it won, so that threads
 * share no output and the order of additions is fixed. */
#include "kernels/cpu/vec.h"
#include <math.h>

typedef uint8_t pool_places __attribute__((vector_size(16)));

typedef struct pool_plan {
    plan base;
    int bf16;
} pool_plan;

/* One output row (or, backward, one input row) for a leaf. */
typedef struct pool_row {
    const op *o;
    const op_shapes *s;
    const char *x; /* sample n of x, or of dy */
    uint8_t *saved; /* sample n */
    char *y;       /* the row */
    int64_t at;    /* its index */
} pool_row;

#define VEC_BODY "kernels/cpu/pool_body.h"
#include "kernels/cpu/vec_isas.h"

typedef void pool_leaf(const pool_row *r, int bf16);
typedef void pool_mean(int bf16, int64_t area, int64_t channels, size_t m, const char *x, char *y);
VEC_TABLE(pool_leaf, pool_max_leaf);
VEC_TABLE(pool_leaf, pool_back_leaf);
VEC_TABLE(pool_mean, pool_mean_leaf);

static status pool_max_run(plan *base, const op_args *a)
{
    const pool_plan *p = (const pool_plan *)base;
    const tensor_shape *x = &base->s.x[0], *y = &base->s.y;
    const int back = base->pass == OP_BACKWARD;
    const tensor_shape *from = back ? y : x, *to = back ? x : y;
    const char *in = back ? a->dy.data : a->x[0].data;
    char *out = back ? a->dx[0].data : a->y.data;
    uint8_t *saved = a->saved[0].data;
    if (out == NULL) return COV_OK;
#pragma omp parallel for schedule(static) num_threads(base->d->threads)
    for (int64_t k = 0; k < to->n * to->h; k++) {
        const int64_t n = k / to->h;
        pool_row r = {.o = &base->o, .s = &base->s, .at = k % to->h,
                      .x = in + vec_bytes(p->bf16, (size_t)(n * from->h * from->w * from->c)),
                      .saved = saved != NULL ? saved + n * y->h * y->w * y->c : NULL,
                      .y = out + vec_bytes(p->bf16, (size_t)(k * to->w * to->c))};
        if (back) VEC_PICK(base->d, pool_back_leaf)(&r, p->bf16);
        else VEC_PICK(base->d, pool_max_leaf)(&r, p->bf16);
    }
    return COV_OK;
}

/* ---- global average: 16 channels of one sample are one piece of work, so the order of summation is fixed */

static status pool_mean_run(plan *base, const op_args *a)
{
    const pool_plan *p = (const pool_plan *)base;
    const tensor_shape *x = &base->s.x[0];
    const int64_t area = x->h * x->w, strips = (x->c + 15) / 16;
#pragma omp parallel for schedule(static) num_threads(base->d->threads) if (x->n * strips > 1)
    for (int64_t k = 0; k < x->n * strips; k++) {
        const int64_t n = k / strips, c = k % strips * 16;
        VEC_PICK(base->d, pool_mean_leaf)(p->bf16, area, x->c, x->c - c < 16 ? (size_t)(x->c - c) : 16,
                       (const char *)a->x[0].data + vec_bytes(p->bf16, (size_t)(n * area * x->c + c)),
                       (char *)a->y.data + vec_bytes(p->bf16, (size_t)(n * x->c + c)));
    }
    return COV_OK;
}

static status pool_mean_back_run(plan *base, const op_args *a)
{
    const pool_plan *p = (const pool_plan *)base;
    const tensor_shape *x = &base->s.x[0];
    const int64_t area = x->h * x->w;
    if (a->dx[0].data == NULL) return COV_OK;
#pragma omp parallel for schedule(static) num_threads(base->d->threads)
    for (int64_t i = 0; i < x->n * area; i++)
        for (int64_t c = 0; c < x->c; c++)
            vec_put(a->dx[0].data, p->bf16, (size_t)(i * x->c + c),
                    vec_get(a->dy.data, p->bf16, (size_t)(i / area * x->c + c)) / (float)area);
    return COV_OK;
}

status cpu_pool_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    if (o->kind == OP_MAXPOOL && o->kernel > 15)
        return COV_FAIL(COV_UNSUPPORTED, "cpu: maxpool with kernel %d, at most 15", o->kernel);
    COV_TRY(cpu_plan_alloc(d, o, s, pass, sizeof(pool_plan), out));
    pool_plan *p = (pool_plan *)*out;
    p->bf16 = s->x[0].type == TENSOR_BF16;
    p->base.run = o->kind == OP_MAXPOOL ? pool_max_run : pass == OP_FORWARD ? pool_mean_run : pool_mean_back_run;
    return COV_OK;
}
