/* pool: max pooling and global average pooling, forward and backward, channels side by side in vectors.
 *
 * Max pooling saves the winner's place in its window (ky*kernel+kx, the first largest) in one byte an output; the padding
 * never wins. Backward gathers: each input pixel asks the windows that cover it whether it won, so that threads
 * share no output and the order of additions is fixed. */
#include "kernels/cpu/vec.h"
#include <math.h>

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

VEC_INLINE void pool_first(const op *o, int64_t out, int64_t size, int64_t *from, int64_t *to)
{
    const int64_t at = out * o->stride - o->pad;
    *from = at < 0 ? -at : 0;
    *to = size - at < o->kernel ? size - at : o->kernel;
}

/* Up to 16 channels of one window. The winner is kept as float: places are at most 255. */
VEC_INLINE void pool_window(const pool_row *r, int bf16, int64_t ox, int64_t c, size_t m, size_t out)
{
    const int64_t width = r->s->x[0].w, channels = r->s->x[0].c, kernel = r->o->kernel;
    const int64_t iy = r->at * r->o->stride - r->o->pad, ix = ox * r->o->stride - r->o->pad;
    int64_t ky0, ky1, kx0, kx1;
    pool_first(r->o, r->at, r->s->x[0].h, &ky0, &ky1);
    pool_first(r->o, ox, width, &kx0, &kx1);
    vec16 v, best = {0};
    vec16u winner = {0};
    best -= INFINITY;
    winner += (uint32_t)(ky0 * kernel + kx0);
    for (int64_t ky = ky0; ky < ky1; ky++)
        for (int64_t kx = kx0; kx < kx1; kx++) {
            const size_t i = (size_t)(((iy + ky) * width + ix + kx) * channels + c);
            if (m == 16) vec_load(&v, r->x, bf16, i);
            else vec_load_part(&v, r->x, bf16, i, m);
            vec16u more = (vec16u)(v > best);
            best = (vec16)((more & (vec16u)v) | (~more & (vec16u)best));
            winner = (more & (uint32_t)(ky * kernel + kx)) | (~more & winner);
        }
    if (m == 16) vec_store(r->y, bf16, out, &best);
    else vec_store_part(r->y, bf16, out, &best, m);
    if (r->saved == NULL) return;
    uint8_t *saved = r->saved + (r->at * r->s->y.w + ox) * channels + c;
    for (size_t k = 0; k < m; k++) saved[k] = (uint8_t)winner[k];
}

VEC_INLINE void pool_max_body(const pool_row *r, int bf16)
{
    const int64_t channels = r->s->x[0].c;
    for (int64_t ox = 0; ox < r->s->y.w; ox++) {
        int64_t c = 0;
        for (; c + 16 <= channels; c += 16) pool_window(r, bf16, ox, c, 16, (size_t)(ox * channels + c));
        if (c < channels) pool_window(r, bf16, ox, c, (size_t)(channels - c), (size_t)(ox * channels + c));
    }
}

VEC_CLONES static void pool_max_leaf(const pool_row *r, int bf16)
{
    if (bf16) pool_max_body(r, 1);
    else pool_max_body(r, 0);
}

/* Windows [from, to) along one axis that cover input index i. */
VEC_INLINE void pool_covering(const op *o, int64_t i, int64_t outs, int64_t *from, int64_t *to)
{
    const int64_t first = i + o->pad - o->kernel + 1;
    *from = first <= 0 ? 0 : (first + o->stride - 1) / o->stride;
    *to = (i + o->pad) / o->stride + 1;
    if (*to > outs) *to = outs;
}

/* One input row: dx = sum of dy over the windows that it won. */
VEC_INLINE void pool_back_body(const pool_row *r, int bf16)
{
    const int64_t channels = r->s->x[0].c, outs = r->s->y.w, kernel = r->o->kernel;
    int64_t y0, y1, x0, x1;
    pool_covering(r->o, r->at, r->s->y.h, &y0, &y1);
    for (int64_t ix = 0; ix < r->s->x[0].w; ix++) {
        pool_covering(r->o, ix, outs, &x0, &x1);
        for (int64_t c = 0; c < channels; c += 16) {
            const size_t m = channels - c < 16 ? (size_t)(channels - c) : 16;
            vec16 sum = {0}, v;
            for (int64_t oy = y0; oy < y1; oy++)
                for (int64_t ox = x0; ox < x1; ox++) {
                    const int64_t i = (oy * outs + ox) * channels + c;
                    const int64_t place = (r->at + r->o->pad - oy * r->o->stride) * kernel + ix + r->o->pad - ox * r->o->stride;
                    vec16u won;
                    for (size_t k = 0; k < 16; k++) won[k] = k < m && r->saved[i + (int64_t)k] == place ? ~0u : 0u;
                    if (m == 16) vec_load(&v, r->x, bf16, (size_t)i);
                    else vec_load_part(&v, r->x, bf16, (size_t)i, m);
                    sum += (vec16)((vec16u)v & won);
                }
            if (m == 16) vec_store(r->y, bf16, (size_t)(ix * channels + c), &sum);
            else vec_store_part(r->y, bf16, (size_t)(ix * channels + c), &sum, m);
        }
    }
}

VEC_CLONES static void pool_back_leaf(const pool_row *r, int bf16)
{
    if (bf16) pool_back_body(r, 1);
    else pool_back_body(r, 0);
}

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
        if (back) pool_back_leaf(&r, p->bf16);
        else pool_max_leaf(&r, p->bf16);
    }
    return COV_OK;
}

/* ---- global average: 16 channels of one sample are one piece of work, so the order of summation is fixed */

VEC_CLONES static void pool_mean_leaf(int bf16, int64_t area, int64_t channels, size_t m, const char *x, char *y)
{
    vec16 sum = {0}, block = {0}, v;
    for (int64_t i = 0; i < area; i++) {
        vec_load_part(&v, x, bf16, (size_t)(i * channels), m);
        block += v;
        if (i % 64 == 63 || i == area - 1) {
            sum += block;
            block = (vec16){0};
        }
    }
    sum /= (float)area;
    vec_store_part(y, bf16, 0, &sum, m);
}

static status pool_mean_run(plan *base, const op_args *a)
{
    const pool_plan *p = (const pool_plan *)base;
    const tensor_shape *x = &base->s.x[0];
    const int64_t area = x->h * x->w, strips = (x->c + 15) / 16;
#pragma omp parallel for schedule(static) num_threads(base->d->threads) if (x->n * strips > 1)
    for (int64_t k = 0; k < x->n * strips; k++) {
        const int64_t n = k / strips, c = k % strips * 16;
        pool_mean_leaf(p->bf16, area, x->c, x->c - c < 16 ? (size_t)(x->c - c) : 16,
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
