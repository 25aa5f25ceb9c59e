/* loss: BCE, soft Dice, cross-entropy and smooth L1 on logits, value and gradient; formulas in op.h.
 *
 * Sums run over fixed pieces in double and are joined in order. Backward computes its denominators again instead of
 * saving them: predictions are few beside activations. An element without weight or label has no gradient. */
#include "kernels/cpu/vec.h"
#include <math.h>
#include <stdlib.h>

enum { LOSS_SUMS = 2, LOSS_PIECE = 4096 };

typedef struct loss_plan {
    plan base;
    int bf16;
    size_t count, rows, c; /* elements, rows of c */
} loss_plan;

typedef struct loss_view {
    const void *x;
    int bf16;
    const float *target, *weight;
    const int32_t *label;
    size_t c;
    float beta;
} loss_view;

static loss_view loss_view_of(const loss_plan *p, const op_args *a)
{
    return (loss_view){.x = a->x[0].data, .bf16 = p->bf16, .target = a->x[1].data, .label = a->x[1].data,
                       .weight = p->base.s.nx > 2 ? a->x[2].data : NULL, .c = p->c, .beta = p->base.o.beta};
}

/* A label outside 0..c-1 is none. */
static int loss_labelled(const loss_view *v, size_t r) { return v->label[r] >= 0 && (size_t)v->label[r] < v->c; }

/* Puts into s what a loss needs of elements (ce: rows) at .. at+n-1; s comes zeroed. */
typedef void loss_sum(const loss_view *v, size_t at, size_t n, double s[LOSS_SUMS]);
/* Gradient of those elements; s: the whole's sums, scale: dy and what all share. */
typedef void loss_grad(const loss_view *v, size_t at, size_t n, const double s[LOSS_SUMS], float scale, void *dx);

#define VEC_BODY "kernels/cpu/loss_body.h"
#include "kernels/cpu/vec_isas.h"

VEC_TABLE(loss_sum, sum_bce);
VEC_TABLE(loss_sum, sum_dice);
VEC_TABLE(loss_sum, sum_ce);
VEC_TABLE(loss_sum, sum_l1s);
VEC_TABLE(loss_grad, grad_bce);
VEC_TABLE(loss_grad, grad_dice);
VEC_TABLE(loss_grad, grad_ce);
VEC_TABLE(loss_grad, grad_l1s);

static size_t loss_pieces(size_t n) { return (n + LOSS_PIECE - 1) / LOSS_PIECE; }
static size_t loss_piece(size_t n, size_t k) { return n - k * LOSS_PIECE < LOSS_PIECE ? n - k * LOSS_PIECE : LOSS_PIECE; }

/* Sums over the n elements (rows) from `first`. */
static status loss_total(const loss_plan *p, loss_sum *leaf, const loss_view *v, size_t first, size_t n, double s[LOSS_SUMS])
{
    const size_t pieces = loss_pieces(n);
    double(*part)[LOSS_SUMS] = calloc(pieces, sizeof *part);
    if (part == NULL) return COV_FAIL(COV_NOMEM, "no memory for %zu partial sums of a loss", pieces);
#pragma omp parallel for schedule(static) num_threads(p->base.d->threads) if (pieces > 1)
    for (size_t k = 0; k < pieces; k++) leaf(v, first + k * LOSS_PIECE, loss_piece(n, k), part[k]);
    memset(s, 0, LOSS_SUMS * sizeof *s);
    for (size_t k = 0; k < pieces; k++)
        for (int j = 0; j < LOSS_SUMS; j++) s[j] += part[k][j];
    free(part);
    return COV_OK;
}

static void loss_gradient(const loss_plan *p, loss_grad *leaf, const loss_view *v, size_t first, size_t n,
                          const double s[LOSS_SUMS], float scale, void *dx)
{
    const size_t pieces = loss_pieces(n);
#pragma omp parallel for schedule(static) num_threads(p->base.d->threads) if (pieces > 1)
    for (size_t k = 0; k < pieces; k++) leaf(v, first + k * LOSS_PIECE, loss_piece(n, k), s, scale, dx);
}

static status loss_dice_run(plan *base, const op_args *a)
{
    const loss_plan *p = (const loss_plan *)base;
    const loss_view v = loss_view_of(p, a);
    const size_t samples = (size_t)base->s.x[0].n, n = p->count / samples;
    double s[LOSS_SUMS], sum = 0;
    if (base->pass == OP_BACKWARD && a->dx[0].data == NULL) return COV_OK;
    for (size_t k = 0; k < samples; k++) {
        COV_TRY(loss_total(p, VEC_PICK(base->d, sum_dice), &v, k * n, n, s));
        s[0] += (double)base->o.eps;
        s[1] += (double)base->o.eps;
        sum += s[0] / s[1];
        if (base->pass == OP_BACKWARD)
            loss_gradient(p, VEC_PICK(base->d, grad_dice), &v, k * n, n, s, *(float *)a->dy.data / (float)samples, a->dx[0].data);
    }
    if (base->pass == OP_FORWARD) *(float *)a->y.data = (float)(1 - sum / (double)samples);
    return COV_OK;
}

static status loss_run(plan *base, const op_args *a)
{
    const loss_plan *p = (const loss_plan *)base;
    const loss_view v = loss_view_of(p, a);
    const op_kind kind = base->o.kind;
    const size_t n = kind == OP_LOSS_CE ? p->rows : p->count;
    double s[LOSS_SUMS];
    if (base->pass == OP_BACKWARD && a->dx[0].data == NULL) return COV_OK;
    loss_sum *sum = kind == OP_LOSS_BCE  ? VEC_PICK(base->d, sum_bce)
                    : kind == OP_LOSS_CE ? VEC_PICK(base->d, sum_ce)
                                         : VEC_PICK(base->d, sum_l1s);
    COV_TRY(loss_total(p, sum, &v, 0, n, s));
    if (base->pass == OP_BACKWARD) {
        loss_grad *grad = kind == OP_LOSS_BCE  ? VEC_PICK(base->d, grad_bce)
                          : kind == OP_LOSS_CE ? VEC_PICK(base->d, grad_ce)
                                               : VEC_PICK(base->d, grad_l1s);
        loss_gradient(p, grad, &v, 0, n, s, *(float *)a->dy.data, a->dx[0].data);
        return COV_OK;
    }
    const double below = kind == OP_LOSS_L1S ? fmax(s[1], 1) : s[1];
    *(float *)a->y.data = below > 0 ? (float)(s[0] / below) : 0.0f;
    return COV_OK;
}

status cpu_loss_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    COV_TRY(cpu_plan_alloc(d, o, s, pass, sizeof(loss_plan), out));
    loss_plan *p = (loss_plan *)*out;
    COV_TRY(tensor_count(s->x[0], &p->count));
    p->c = (size_t)s->x[0].c;
    p->rows = p->count / p->c;
    p->bf16 = s->x[0].type == TENSOR_BF16;
    p->base.run = o->kind == OP_LOSS_DICE ? loss_dice_run : loss_run;
    return COV_OK;
}
