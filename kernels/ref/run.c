/* ref/run: plans of the reference backend. A run checks every tensor against the plan's shapes, shows the op float
 * arrays only (F32 data as it is, BF16 as a work copy, written back rounded), and does the fused ReLU here, in
 * one place: forward on y after the op, backward on a copy of dy before it. */
#include "base/size.h"
#include "kernels/ref/ref.h"

#include <stdlib.h>
#include <string.h>

struct plan {
    op o;
    op_shapes s;
    op_pass pass;
};

typedef struct ref_kind {
    void (*forward)(const ref_run *r);
    void (*backward)(const ref_run *r);
} ref_kind;

static const ref_kind kinds[OP_KIND_COUNT] = {
    [OP_CONV] = {ref_conv_forward, ref_conv_backward},
    [OP_CONVT] = {ref_convt_forward, ref_convt_backward},
    [OP_LINEAR] = {ref_conv_forward, ref_conv_backward},
    [OP_RESIZE] = {ref_resize_forward, ref_resize_backward},
    [OP_MAXPOOL] = {ref_maxpool_forward, ref_maxpool_backward},
    [OP_AVGPOOL] = {ref_avgpool_forward, ref_avgpool_backward},
    [OP_GROUPNORM] = {ref_norm_forward, ref_norm_backward},
    [OP_BATCHNORM] = {ref_norm_forward, ref_norm_backward},
    [OP_CONCAT] = {ref_concat_forward, ref_concat_backward},
    [OP_ADD] = {ref_add_forward, ref_add_backward},
    [OP_RELU] = {ref_relu_forward, ref_relu_backward},
    [OP_SIGMOID] = {ref_sigmoid_forward, ref_sigmoid_backward},
    [OP_SOFTMAX] = {ref_softmax_forward, ref_softmax_backward},
    [OP_ROIALIGN] = {ref_roialign_forward, ref_roialign_backward},
    [OP_LOSS_BCE] = {ref_loss_bce_forward, ref_loss_bce_backward},
    [OP_LOSS_DICE] = {ref_loss_dice_forward, ref_loss_dice_backward},
    [OP_LOSS_CE] = {ref_loss_ce_forward, ref_loss_ce_backward},
    [OP_LOSS_L1S] = {ref_loss_l1s_forward, ref_loss_l1s_backward},
};

/* ---- float views of tensors */
enum { MAX_COPIES = 2 * OP_MAX_X + 2 * OP_MAX_P + 3 };

/* The work copies of one run: all freed at its end, and those of outputs written back first. */
typedef struct copies {
    int count;
    struct copy {
        float *work;
        size_t n;
        uint16_t *back; /* NULL: an input */
    } at[MAX_COPIES];
} copies;

typedef enum use { USE_IN, USE_OUT } use;

static status copy_new(copies *c, size_t n, uint16_t *back, float **out)
{
    size_t bytes;
    *out = NULL;
    float *work = size_mul(n, sizeof(float), &bytes) ? malloc(bytes) : NULL;
    if (!work) return COV_FAIL(COV_NOMEM, "ref: no memory for a work array of %zu floats", n);
    c->at[c->count++] = (struct copy){work, n, back};
    *out = work;
    return COV_OK;
}

static status view(copies *c, const op *o, const char *what, const tensor *t, tensor_shape expected, use how,
                   float **out)
{
    size_t n;
    *out = NULL;
    if (!t->data) return COV_OK;
    if (!tensor_same_shape(t->shape, expected))
        return COV_FAIL(COV_BROKEN, "ref: %s: %s is not of the plan's shape and type", op_name(o->kind), what);
    if (expected.type == TENSOR_F32) {
        *out = t->data;
        return COV_OK;
    }
    uint16_t *bf16 = t->data;
    COV_TRY(tensor_count(expected, &n));
    COV_TRY(copy_new(c, n, how == USE_OUT ? bf16 : NULL, out));
    if (how == USE_IN)
        for (size_t i = 0; i < n; i++) (*out)[i] = tensor_f32_from_bf16(bf16[i]);
    return COV_OK;
}

static void copies_end(copies *c, int write_back)
{
    for (int k = 0; k < c->count; k++) {
        struct copy *at = &c->at[k];
        if (at->back && write_back)
            for (size_t i = 0; i < at->n; i++) at->back[i] = tensor_bf16_from_f32(at->work[i]);
        free(at->work);
    }
}

/* ---- the plan */
static int is_activation(tensor_type t) { return t == TENSOR_F32 || t == TENSOR_BF16; }

status ref_plan_new(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    (void)d;
    *out = NULL;
    if ((unsigned)o->kind >= OP_KIND_COUNT || !kinds[o->kind].forward)
        return COV_FAIL(COV_UNSUPPORTED, "ref: op %d is not implemented", (int)o->kind);
    if (!is_activation(s->x[0].type) || !is_activation(s->y.type))
        return COV_FAIL(COV_UNSUPPORTED, "ref: %s: activations must be F32 or BF16", op_name(o->kind));
    plan *p = malloc(sizeof *p);
    if (!p) return COV_FAIL(COV_NOMEM, "ref: no memory for a plan");
    *p = (plan){.o = *o, .s = *s, .pass = pass};
    *out = p;
    return COV_OK;
}

void ref_plan_free(plan **p)
{
    if (!p) return;
    free(*p);
    *p = NULL;
}

static int has_relu(const op *o) { return o->kind == OP_RELU || o->relu; }

/* What forward and backward both read. */
static status view_inputs(const plan *p, const op_args *a, copies *c, ref_run *r)
{
    for (int k = 0; k < p->s.nx; k++) {
        float *x;
        if (!a->x[k].data) return COV_FAIL(COV_BROKEN, "ref: %s: x[%d] is missing", op_name(p->o.kind), k);
        if (p->s.x[k].type == TENSOR_I32) r->label = a->x[k].data;
        else {
            COV_TRY(view(c, &p->o, "an input", &a->x[k], p->s.x[k], USE_IN, &x));
            r->x[k] = x;
        }
    }
    for (int k = 0; k < p->s.np; k++) {
        if (!a->p[k].data) return COV_FAIL(COV_BROKEN, "ref: %s: p[%d] is missing", op_name(p->o.kind), k);
        COV_TRY(view(c, &p->o, "a parameter", &a->p[k], p->s.p[k], USE_IN, &r->p[k]));
    }
    for (int k = 0; k < p->s.nsaved; k++) r->saved[k] = a->saved[k].data;
    if (!a->y.data) return COV_FAIL(COV_BROKEN, "ref: %s: y is missing", op_name(p->o.kind));
    return view(c, &p->o, "y", &a->y, p->s.y, p->pass == OP_FORWARD ? USE_OUT : USE_IN, &r->y);
}

static status view_gradients(const plan *p, const op_args *a, copies *c, ref_run *r)
{
    float *dy;
    if (!a->dy.data) return COV_FAIL(COV_BROKEN, "ref: %s: dy is missing", op_name(p->o.kind));
    for (int k = 0; k < p->s.nsaved; k++)
        if (!a->saved[k].data) return COV_FAIL(COV_BROKEN, "ref: %s: saved[%d] is missing", op_name(p->o.kind), k);
    COV_TRY(view(c, &p->o, "dy", &a->dy, p->s.y, USE_IN, &dy));
    r->dy = dy;
    for (int k = 0; k < p->s.nx; k++) COV_TRY(view(c, &p->o, "a dx", &a->dx[k], p->s.x[k], USE_OUT, &r->dx[k]));
    for (int k = 0; k < p->s.np; k++) COV_TRY(view(c, &p->o, "a dp", &a->dp[k], p->s.p[k], USE_OUT, &r->dp[k]));
    return COV_OK;
}

static void relu_forward(float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (y[i] < 0) y[i] = 0;
}

/* dy where y passed the ReLU, 0 elsewhere: a copy, since dy is the caller's. */
static status relu_backward(copies *c, ref_run *r)
{
    int64_t n = ref_count(r->s->y);
    float *cut;
    COV_TRY(copy_new(c, (size_t)n, NULL, &cut));
    for (int64_t i = 0; i < n; i++) cut[i] = r->y[i] > 0 ? r->dy[i] : 0;
    r->dy = cut;
    return COV_OK;
}

status ref_plan_run(plan *p, const op_args *a)
{
    copies c = {0};
    ref_run r = {.o = &p->o, .s = &p->s};
    status s;
    COV_GO(view_inputs(p, a, &c, &r));
    if (p->pass == OP_FORWARD) {
        kinds[p->o.kind].forward(&r);
        if (has_relu(&p->o)) relu_forward(r.y, ref_count(p->s.y));
    } else {
        COV_GO(view_gradients(p, a, &c, &r));
        if (has_relu(&p->o)) COV_GO(relu_backward(&c, &r));
        kinds[p->o.kind].backward(&r);
    }
done:
    copies_end(&c, s == COV_OK);
    return s;
}
