/* norm: GroupNorm and BatchNorm with their ReLU and residual fused, forward and backward, fp32 statistics.
 *
 * Both are one algorithm on `sets` of `rows` pixels: GroupNorm has a set a sample, BatchNorm one set of all samples
 * with a group a channel. A set is cut into fixed blocks of rows. Forward: sums of (x-k) and (x-k)^2 for each channel
 * and block (k = the mean of a few pixels, so that nothing cancels), joined in double in block order; then
 * y = (x-mean)*a + b [+ residual], ReLU. Backward: sums of g and g*(x-mean), g = dy masked; then dx = g*A + (x-mean)*B + C. The mask comes
 * from x itself where there is no residual, which saves reading y. The second pass walks a set backwards, so that it
 * starts on what the first left in the cache. Pixels are walked in runs of `lanes` elements, the least common multiple of
 * the channels and 16, so that vectors are always whole. */
#include "kernels/cpu/vec.h"
#include <math.h>
#include <stdlib.h>

enum { NORM_BLOCK = 32768 }; /* elements of a block: fixed, or results would depend on the threads */

/* Coefficients by channel, each an array of `lanes` floats. */
enum { NORM_A, NORM_B, NORM_SHIFT, NORM_DG, NORM_DX, NORM_DC, NORM_COEFS };

typedef struct norm_plan {
    plan base;
    int64_t sets, rows, c, groups; /* rows of one set */
    int64_t block, blocks;         /* rows of a block, blocks of a set */
    int64_t lanes;                 /* elements of a run of whole pixels and whole vectors */
    int bf16, frozen;
    size_t at_coef; /* in the scratch area: set by set; the blocks' sums lie at 0 */
} norm_plan;

/* One block for a leaf. All arrays begin at the block. */
typedef struct norm_block {
    size_t runs, lanes, tail; /* runs of `lanes` elements, then `tail` more (fewer than lanes) */
    const float *coef;
    const void *x, *residual, *y, *dy;
    void *out, *out2;
    float *sum, *sum2; /* by lane */
} norm_block;

#define VEC_BODY "kernels/cpu/norm_body.h"
#include "kernels/cpu/vec_isas.h"

typedef void norm_leaf(const norm_block *b, int bf16, int back, int relu, int residual);
VEC_TABLE(norm_leaf, norm_sum_leaf);
VEC_TABLE(norm_leaf, norm_apply_leaf);

/* ---- one set: sums of its blocks, coefficients, second pass */

static float *norm_coefs(const norm_plan *p, int64_t set)
{
    return (float *)((char *)p->base.d->scratch + p->at_coef) + set * NORM_COEFS * p->lanes;
}

/* Block j's two rows of sums. */
static float *norm_sums(const norm_plan *p, int64_t set, int64_t j)
{
    return (float *)p->base.d->scratch + (set * p->blocks + j) * 2 * p->lanes;
}

static const void *norm_at(const norm_plan *p, const void *x, int64_t row)
{
    return x == NULL ? NULL : (const char *)x + vec_bytes(p->bf16, (size_t)(row * p->c));
}

static norm_block norm_block_of(const norm_plan *p, const op_args *a, int64_t set, int64_t j)
{
    const int64_t first = j * p->block, left = p->rows - first, row = set * p->rows + first;
    const size_t count = (size_t)((left < p->block ? left : p->block) * p->c);
    const int back = p->base.pass == OP_BACKWARD;
    return (norm_block){
        .runs = count / (size_t)p->lanes, .lanes = (size_t)p->lanes, .tail = count % (size_t)p->lanes,
        .coef = norm_coefs(p, set),
        .x = norm_at(p, a->x[0].data, row), .residual = norm_at(p, a->x[1].data, row),
        .y = norm_at(p, a->y.data, row), .dy = norm_at(p, a->dy.data, row),
        .out = (void *)norm_at(p, back ? a->dx[0].data : a->y.data, row),
        .out2 = (void *)norm_at(p, back && p->base.o.residual ? a->dx[1].data : NULL, row),
        .sum = norm_sums(p, set, j), .sum2 = norm_sums(p, set, j) + p->lanes,
    };
}

/* Sum over the blocks of one channel's entry, in order; lanes that stand for the same channel are joined. */
static void norm_join(const norm_plan *p, int64_t set, int64_t c, double *sum, double *sum2)
{
    *sum = *sum2 = 0;
    for (int64_t j = 0; j < p->blocks; j++) {
        const float *s = norm_sums(p, set, j);
        for (int64_t k = c; k < p->lanes; k += p->c) *sum += s[k], *sum2 += s[p->lanes + k];
    }
}

/* Repeats the p->c entries of one coefficient over the lanes. */
static void norm_spread(const norm_plan *p, float *coef)
{
    for (int64_t k = p->c; k < p->lanes; k++) coef[k] = coef[k - p->c];
}

/* a, b of y = (x-mean)*a + b for every channel of a set, from mean and rstd of its groups; shift = mean. */
static void norm_affine(const norm_plan *p, const op_args *a, int64_t set, const float *mean, const float *rstd)
{
    float *coef = norm_coefs(p, set);
    const float *gamma = a->p[0].data, *beta = a->p[1].data;
    const int64_t width = p->c / p->groups;
    for (int64_t c = 0; c < p->c; c++) {
        const int64_t g = c / width;
        coef[NORM_A * p->lanes + c] = gamma[c] * rstd[g];
        coef[NORM_B * p->lanes + c] = beta[c];
        coef[NORM_SHIFT * p->lanes + c] = mean[g];
    }
    for (int k = NORM_A; k <= NORM_SHIFT; k++) norm_spread(p, coef + k * p->lanes);
}

/* BatchNorm's running statistics: biased variance inside, unbiased kept, as PyTorch. */
static void norm_move(const norm_plan *p, const op_args *a, int64_t c, double mean, double var)
{
    float *running_mean = a->p[2].data, *running_var = a->p[3].data;
    const double m = p->base.o.momentum, n = (double)p->rows;
    running_mean[c] = (float)((1 - m) * running_mean[c] + m * mean);
    running_var[c] = (float)((1 - m) * running_var[c] + m * (n > 1 ? var * n / (n - 1) : var));
}

/* Groups' mean and rstd of one set from the blocks' sums: each channel's own mean and variance, then the spread of
 * the channels' means inside the group. */
static void norm_statistics(const norm_plan *p, const op_args *a, int64_t set, float *mean, float *rstd)
{
    const float *shift = norm_coefs(p, set) + NORM_SHIFT * p->lanes;
    const int64_t width = p->c / p->groups;
    const double n = (double)p->rows;
    for (int64_t g = 0; g < p->groups; g++) {
        double total = 0, within = 0, squares = 0;
        for (int64_t c = g * width; c < (g + 1) * width; c++) {
            double sum, sum2;
            norm_join(p, set, c, &sum, &sum2);
            const double m = sum / n, channel = m + shift[c] - shift[g * width]; /* against one origin */
            total += channel;
            squares += channel * channel;
            within += sum2 / n - m * m;
        }
        const double m = total / (double)width;
        double var = within / (double)width + (squares / (double)width - m * m);
        if (var < 0) var = 0;
        mean[g] = (float)(m + shift[g * width]);
        rstd[g] = (float)(1.0 / sqrt(var + (double)p->base.o.eps));
        if (p->base.o.kind == OP_BATCHNORM) norm_move(p, a, g, m + shift[g * width], var);
    }
}

/* What the sums are taken against: the mean of a few pixels, evenly spread over the set. */
static void norm_shift(const norm_plan *p, const op_args *a, int64_t set)
{
    float *shift = norm_coefs(p, set) + NORM_SHIFT * p->lanes;
    const int64_t few = p->rows < 16 ? p->rows : 16;
    memset(shift, 0, (size_t)p->lanes * sizeof *shift);
    for (int64_t k = 0; k < few; k++) {
        const void *x = norm_at(p, a->x[0].data, set * p->rows + p->rows * k / few);
        for (int64_t c = 0; c < p->c; c++) shift[c] += vec_get(x, p->bf16, (size_t)c) / (float)few;
    }
    norm_spread(p, shift);
}

/* The set's statistics are where op.h saves them; without room for them (inference), behind its coefficients. */
static void norm_saved(const norm_plan *p, const op_args *a, int64_t set, float **mean, float **rstd)
{
    float *own = norm_coefs(p, p->sets) + set * 2 * p->groups;
    *mean = a->saved[0].data != NULL ? (float *)a->saved[0].data + set * p->groups : own;
    *rstd = a->saved[1].data != NULL ? (float *)a->saved[1].data + set * p->groups : own + p->groups;
}

/* Between the passes of forward. */
static void norm_forward_coefs(const norm_plan *p, const op_args *a, int64_t set)
{
    float *mean, *rstd;
    norm_saved(p, a, set, &mean, &rstd);
    if (p->frozen)
        for (int64_t c = 0; c < p->c; c++) {
            mean[c] = ((const float *)a->p[2].data)[c];
            rstd[c] = 1.0f / sqrtf(((const float *)a->p[3].data)[c] + p->base.o.eps);
        }
    else norm_statistics(p, a, set, mean, rstd);
    norm_affine(p, a, set, mean, rstd);
}

/* Between the passes of backward: the set's share of dgamma and dbeta is left in its first block's sums. */
static void norm_backward_coefs(const norm_plan *p, const op_args *a, int64_t set)
{
    float *coef = norm_coefs(p, set), *first = norm_sums(p, set, 0), *mean, *rstd;
    const float *gamma = a->p[0].data;
    const int64_t width = p->c / p->groups;
    const double size = (double)p->rows * (double)width;
    const int alone = !p->frozen && size < 2; /* the only element of its group always becomes beta: no gradient */
    norm_saved(p, a, set, &mean, &rstd);
    for (int64_t g = 0; g < p->groups; g++) {
        double total = 0, product = 0, r = rstd[g];
        for (int64_t c = g * width; c < (g + 1) * width; c++) {
            double sum, sum2;
            norm_join(p, set, c, &sum, &sum2);
            total += gamma[c] * sum;
            product += gamma[c] * sum2 * r;
            first[c] = (float)sum;
            first[p->lanes + c] = (float)(sum2 * r);
        }
        for (int64_t c = g * width; c < (g + 1) * width; c++) {
            coef[NORM_DG * p->lanes + c] = alone ? 0.0f : gamma[c] * rstd[g];
            coef[NORM_DX * p->lanes + c] = p->frozen || alone ? 0.0f : (float)(-r * r * product / size);
            coef[NORM_DC * p->lanes + c] = p->frozen || alone ? 0.0f : (float)(-r * total / size);
        }
    }
    for (int k = NORM_DG; k <= NORM_DC; k++) norm_spread(p, coef + k * p->lanes);
}

/* Before the first pass. */
static void norm_begin(const norm_plan *p, const op_args *a, int64_t set)
{
    float *mean, *rstd;
    if (p->base.pass == OP_FORWARD) {
        norm_shift(p, a, set);
        return;
    }
    norm_saved(p, a, set, &mean, &rstd);
    norm_affine(p, a, set, mean, rstd);
}

static void norm_between(const norm_plan *p, const op_args *a, int64_t set)
{
    if (p->base.pass == OP_FORWARD) norm_forward_coefs(p, a, set);
    else norm_backward_coefs(p, a, set);
}

static void norm_pass(const norm_plan *p, const op_args *a, int64_t set, int64_t j, int second)
{
    const op *o = &p->base.o;
    const int back = p->base.pass == OP_BACKWARD;
    norm_block b = norm_block_of(p, a, set, j);
    if (second) VEC_PICK(p->base.d, norm_apply_leaf)(&b, p->bf16, back, o->relu, o->residual);
    else VEC_PICK(p->base.d, norm_sum_leaf)(&b, p->bf16, back, back && o->relu, back && o->residual);
}

/* A set that one thread does alone: many small ones. */
static void norm_set_alone(const norm_plan *p, const op_args *a, int64_t set, int sums, int apply)
{
    norm_begin(p, a, set);
    for (int64_t j = 0; sums && j < p->blocks; j++) norm_pass(p, a, set, j, 0);
    norm_between(p, a, set);
    for (int64_t j = p->blocks - 1; apply && j >= 0; j--) norm_pass(p, a, set, j, 1);
}

static void norm_set_together(const norm_plan *p, const op_args *a, int64_t set, int sums, int apply)
{
    norm_begin(p, a, set);
    if (sums) {
#pragma omp parallel for schedule(static) num_threads(p->base.d->threads)
        for (int64_t j = 0; j < p->blocks; j++) norm_pass(p, a, set, j, 0);
    }
    norm_between(p, a, set);
    if (apply) {
#pragma omp parallel for schedule(static) num_threads(p->base.d->threads)
        for (int64_t j = p->blocks - 1; j >= 0; j--) norm_pass(p, a, set, j, 1);
    }
}

/* dp += the sets' shares, in order. */
static void norm_parameters(const norm_plan *p, const op_args *a)
{
    float *dgamma = a->dp[0].data, *dbeta = a->dp[1].data;
    for (int64_t set = 0; set < p->sets; set++) {
        const float *first = norm_sums(p, set, 0);
        for (int64_t c = 0; c < p->c; c++) {
            if (dbeta != NULL) dbeta[c] += first[c];
            if (dgamma != NULL) dgamma[c] += first[p->lanes + c];
        }
    }
}

static status norm_run(plan *base, const op_args *a)
{
    const norm_plan *p = (const norm_plan *)base;
    const int back = base->pass == OP_BACKWARD;
    const int params = back && (a->dp[0].data != NULL || a->dp[1].data != NULL);
    const int sums = p->frozen ? params : 1;
    const int apply = !back || a->dx[0].data != NULL || (base->o.residual && a->dx[1].data != NULL);
    if (p->sets >= base->d->threads && p->blocks <= 4) {
#pragma omp parallel for schedule(static) num_threads(base->d->threads)
        for (int64_t set = 0; set < p->sets; set++) norm_set_alone(p, a, set, sums, apply);
    } else {
        for (int64_t set = 0; set < p->sets; set++) norm_set_together(p, a, set, sums, apply);
    }
    if (params) norm_parameters(p, a);
    return COV_OK;
}

status cpu_norm_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    const tensor_shape *x = &s->x[0];
    COV_TRY(cpu_plan_alloc(d, o, s, pass, sizeof(norm_plan), out));
    norm_plan *p = (norm_plan *)*out;
    const int group = o->kind == OP_GROUPNORM;
    p->c = x->c;
    p->sets = group ? x->n : 1;
    p->rows = group ? x->h * x->w : x->n * x->h * x->w;
    p->groups = group ? o->groups : x->c;
    p->lanes = vec_lanes(x->c);
    p->block = NORM_BLOCK / x->c / 16 * 16;
    if (p->block < 16) p->block = 16;
    p->blocks = (p->rows + p->block - 1) / p->block;
    p->bf16 = x->type == TENSOR_BF16;
    p->frozen = o->kind == OP_BATCHNORM && !o->training;
    const size_t floats = (size_t)(p->sets * p->blocks * 2 * p->lanes);
    p->at_coef = (floats * sizeof(float) + 63) / 64 * 64;
    p->base.run = norm_run;
    return cpu_reserve(d, p->at_coef + (size_t)(p->sets * (NORM_COEFS * p->lanes + 2 * p->groups)) * sizeof(float));
}
