/* conv: convolution, transposed convolution and linear layers on oneDNN, forward and backward.
 *
 * They differ only in descriptors: oneDNN sees activations as (n,c,h,w) with NHWC strides and weights as
 * (co,ci,kh,kw) with the strides of op.h, packs the weights as it likes (to bf16 in a bf16 net) and fuses bias
 * and ReLU. Backward masks dy by y > 0 where a ReLU was fused; weight gradients come out in F32 and are added to dp
 * by the reorder that unpacks them. oneDNN adds the bias of a transposed convolution in a scalar loop, so there we add
 * it, and sum its gradient, ourselves. Eight outputs or fewer fill half a register: forward, such a convolution
 * is made one of stride `fold` that gives `fold` neighbouring pixels at once, 16 channels in all: in memory the same.
 * Scratch: oneDNN's own scratchpad first, then masked dy, dw (or wgrad's own), db.
 * On AMX tiles most convolutions are conv_amx's, forward and backward by data.
 * oneDNN's matrix product divides a long sum among threads where there is little else to divide, and the result then
 * depends on their number. So a linear layer runs as a 1 x 1 convolution over a column of rows, which does not, and is no
 * slower. */
#include "kernels/cpu/conv_amx.h"
#include "kernels/cpu/dnn.h"
#include "kernels/cpu/vec.h"
#include "kernels/cpu/wgrad.h"
#include "kernels/cpu/wino.h"
#include <stdlib.h>
#include <string.h>

typedef dnnl_convolution_desc_t conv_desc; /* and deconvolution: one type */

/* All memory descriptors of one layer. */
typedef struct conv_mds {
    dnnl_memory_desc_t x, y, b;
    dnnl_memory_desc_t w;       /* the parameter as op.h lays it out, F32 */
    dnnl_memory_desc_t w_any;   /* for the primitive: activations' type, layout free */
    dnnl_memory_desc_t dw_any;  /* F32, layout free */
    dnnl_dims_t stride, pad;
} conv_mds;

typedef struct conv_plan {
    plan base;
    cpu_prim main;    /* forward, or backward by data */
    cpu_prim weights; /* backward by weights and bias */
    cpu_prim unpack;  /* dw += */
    cpu_pack pack;
    wino *wino;       /* in place of main and pack, where it is faster */
    conv_amx *amx;    /* the same, on tiles */
    int own_weights;  /* wgrad in place of weights and unpack */
    float *wide;      /* folded: the wider filter, and behind it the repeated bias; owned */
    const void *wide_source;
    uint64_t wide_version;
    int sparse;       /* main's dx has only the pixels that the stride meets, in the scratch area: see conv_spread */
    size_t at_dy, at_dw, at_db; /* in the scratch area */
    size_t y_count;
} conv_plan;

/* Is the bias (and the ReLU after it) left to oneDNN? */
static int conv_dnn_bias(const op *o) { return o->bias && o->kind != OP_CONVT; }

static status conv_mds_new(const op *o, const op_shapes *s, conv_mds *m)
{
    const int64_t k = o->kernel, ci = s->x[0].c, co = s->y.c;
    const dnnl_dims_t bias = {co}, w = {co, ci, k, k};
    const dnnl_dims_t ohwi = {k * k * ci, 1, k * ci, ci}, ihwo = {1, k * k * co, k * co, co};
    dnnl_data_type_t type = cpu_dnn_type(s->x[0].type);
    memset(m, 0, sizeof *m);
    if (conv_dnn_bias(o)) CPU_DNN(dnnl_memory_desc_init_by_tag(&m->b, 1, bias, dnnl_f32, dnnl_x));
    m->stride[0] = m->stride[1] = o->stride;
    m->pad[0] = m->pad[1] = o->pad;
    COV_TRY(cpu_md_nhwc(&s->x[0], &m->x));
    COV_TRY(cpu_md_nhwc(&s->y, &m->y));
    CPU_DNN(dnnl_memory_desc_init_by_strides(&m->w, 4, w, dnnl_f32, o->kind == OP_CONVT ? ihwo : ohwi));
    CPU_DNN(dnnl_memory_desc_init_by_tag(&m->w_any, 4, w, type, dnnl_format_tag_any));
    CPU_DNN(dnnl_memory_desc_init_by_tag(&m->dw_any, 4, w, dnnl_f32, dnnl_format_tag_any));
    return COV_OK;
}

/* Padding on the far side so that oneDNN's size formula meets the op's exactly. */
static void conv_far_pad(const op *o, const op_shapes *s, dnnl_dims_t out)
{
    const tensor_shape *a = o->kind == OP_CONVT ? &s->y : &s->x[0], *b = o->kind == OP_CONVT ? &s->x[0] : &s->y;
    out[0] = (b->h - 1) * o->stride + o->kernel - a->h - o->pad;
    out[1] = (b->w - 1) * o->stride + o->kernel - a->w - o->pad;
}

static status conv_forward_desc(const op *o, const op_shapes *s, const conv_mds *m, int training, conv_desc *out)
{
    dnnl_prop_kind_t prop = training ? dnnl_forward_training : dnnl_forward_inference;
    const dnnl_memory_desc_t *b = conv_dnn_bias(o) ? &m->b : NULL;
    dnnl_dims_t far = {0};
    conv_far_pad(o, s, far);
    if (o->kind == OP_CONVT)
        CPU_DNN(dnnl_deconvolution_forward_desc_init(out, prop, dnnl_deconvolution_direct, &m->x, &m->w_any, b,
                                                     &m->y, m->stride, m->pad, far));
    else
        CPU_DNN(dnnl_convolution_forward_desc_init(out, prop, dnnl_convolution_direct, &m->x, &m->w_any, b, &m->y,
                                                   m->stride, m->pad, far));
    return COV_OK;
}

static status conv_data_desc(const op *o, const op_shapes *s, const conv_mds *m, conv_desc *out)
{
    dnnl_dims_t far = {0};
    conv_far_pad(o, s, far);
    if (o->kind == OP_CONVT)
        CPU_DNN(dnnl_deconvolution_backward_data_desc_init(out, dnnl_deconvolution_direct, &m->x, &m->w_any,
                                                           &m->y, m->stride, m->pad, far));
    else
        CPU_DNN(dnnl_convolution_backward_data_desc_init(out, dnnl_convolution_direct, &m->x, &m->w_any, &m->y,
                                                         m->stride, m->pad, far));
    return COV_OK;
}

static status conv_weights_desc(const op *o, const op_shapes *s, const conv_mds *m, conv_desc *out)
{
    const dnnl_memory_desc_t *b = conv_dnn_bias(o) ? &m->b : NULL;
    dnnl_dims_t far = {0};
    conv_far_pad(o, s, far);
    if (o->kind == OP_CONVT)
        CPU_DNN(dnnl_deconvolution_backward_weights_desc_init(out, dnnl_deconvolution_direct, &m->x, &m->dw_any, b,
                                                              &m->y, m->stride, m->pad, far));
    else
        CPU_DNN(dnnl_convolution_backward_weights_desc_init(out, dnnl_convolution_direct, &m->x, &m->dw_any, b,
                                                            &m->y, m->stride, m->pad, far));
    return COV_OK;
}

/* Output pixels that one folded pixel stands for; 1: not folded. */
static int64_t conv_fold(const device *d, const op *o, const op_shapes *s)
{
    const int64_t co = s->y.c;
    if (d->isa < 2 || o->kind != OP_CONV || o->stride != 1 || o->kernel < 3 || o->kernel % 2 == 0 ||
        o->pad != o->kernel / 2 || co > 8 || 16 % co != 0 || s->x[0].w % (16 / co) != 0)
        return 1;
    return 16 / co;
}

/* Floats of the folded filter: 16 outputs, k rows of k + fold - 1. */
static int64_t conv_wide_count(const op *o, const op_shapes *s, int64_t fold)
{
    return 16 * o->kernel * (o->kernel + fold - 1) * s->x[0].c;
}

/* Output j*co + c of a folded pixel is output c of its pixel j, whose window begins j columns further right. */
static void conv_widen(const op *o, const op_shapes *s, int64_t fold, const float *w, float *wide)
{
    const int64_t k = o->kernel, kw = k + fold - 1, ci = s->x[0].c, co = s->y.c;
    memset(wide, 0, (size_t)conv_wide_count(o, s, fold) * sizeof *wide);
    for (int64_t j = 0; j < fold; j++)
        for (int64_t c = 0; c < co; c++)
            for (int64_t y = 0; y < k; y++)
                memcpy(wide + (((j * co + c) * k + y) * kw + j) * ci, w + (c * k + y) * k * ci,
                       (size_t)(k * ci) * sizeof *wide);
}

/* The folded layer's descriptors, and its primitive. */
static status conv_fold_new(conv_plan *p, int64_t fold)
{
    const int args[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS};
    const op *o = &p->base.o;
    const op_shapes *s = &p->base.s;
    const int64_t k = o->kernel, kw = k + fold - 1, ci = s->x[0].c;
    const dnnl_dims_t w = {16, ci, k, kw}, ohwi = {k * kw * ci, 1, kw * ci, ci}, bias = {16};
    const dnnl_dims_t stride = {1, fold}, pad = {o->pad, o->pad};
    const tensor_shape y = tensor_shape_of(s->y.n, s->y.h, s->y.w / fold, 16, s->y.type);
    conv_mds m;
    dnnl_convolution_desc_t desc;
    COV_TRY(cpu_md_nhwc(&s->x[0], &m.x));
    COV_TRY(cpu_md_nhwc(&y, &m.y));
    CPU_DNN(dnnl_memory_desc_init_by_strides(&m.w, 4, w, dnnl_f32, ohwi));
    CPU_DNN(dnnl_memory_desc_init_by_tag(&m.w_any, 4, w, cpu_dnn_type(s->y.type), dnnl_format_tag_any));
    CPU_DNN(dnnl_memory_desc_init_by_tag(&m.b, 1, bias, dnnl_f32, dnnl_x));
    CPU_DNN(dnnl_convolution_forward_desc_init(&desc, dnnl_forward_inference, dnnl_convolution_direct, &m.x, &m.w_any,
                                               o->bias ? &m.b : NULL, &m.y, stride, pad, pad));
    COV_TRY(cpu_prim_new(p->base.d, &desc, o->relu ? CPU_PRIM_RELU : 0, NULL, args, o->bias ? 4 : 3, &p->main));
    COV_TRY(cpu_memory_new((size_t)(conv_wide_count(o, s, fold) + 16) * sizeof(float), (void **)&p->wide));
    return cpu_pack_new(p->base.d, &m.w,
                        dnnl_primitive_desc_query_md(p->main.desc, dnnl_query_exec_arg_md, DNNL_ARG_WEIGHTS), &p->pack);
}

static status conv_fold_run(conv_plan *p, const op_args *a)
{
    const op *o = &p->base.o;
    const tensor *w = &a->p[0];
    const int64_t fold = conv_fold(p->base.d, o, &p->base.s);
    const tensor wide = {.data = p->wide, .version = w->version};
    void *packed;
    if (w->version == 0 || p->wide_source != w->data || p->wide_version != w->version) {
        conv_widen(o, &p->base.s, fold, w->data, p->wide);
        p->pack.source = NULL; /* the same address, but new contents */
        p->wide_source = w->data;
        p->wide_version = w->version;
    }
    COV_TRY(cpu_pack_get(p->base.d, &p->pack, &wide, &packed));
    float *bias = p->wide + conv_wide_count(o, &p->base.s, fold);
    for (int64_t c = 0; o->bias && c < 16; c++) bias[c] = ((const float *)a->p[1].data)[c % p->base.s.y.c];
    void *const data[] = {a->x[0].data, packed, a->y.data, bias};
    return cpu_prim_run(p->base.d, &p->main, data);
}

static status conv_forward_run(plan *base, const op_args *a)
{
    conv_plan *p = (conv_plan *)base;
    void *w;
    if (p->wino != NULL)
        return wino_run(base->d, p->wino, &a->p[0], base->o.bias ? a->p[1].data : NULL, base->o.relu, a->x[0].data,
                        a->y.data);
    if (p->amx != NULL)
        return conv_amx_run(base->d, p->amx, &a->p[0], base->o.bias ? a->p[1].data : NULL, base->o.relu, a->x[0].data,
                            a->y.data);
    if (p->wide != NULL) return conv_fold_run(p, a);
    COV_TRY(cpu_pack_get(base->d, &p->pack, &a->p[0], &w));
    void *const data[] = {a->x[0].data, w, a->y.data, a->p[1].data};
    COV_TRY(cpu_prim_run(base->d, &p->main, data));
    if (!base->o.bias || conv_dnn_bias(&base->o)) return COV_OK;
    const tensor_shape *y = &base->s.y;
    return vec_bias(base->d, y->type, y->n * y->h * y->w, y->c, a->p[1].data, base->o.relu, a->y.data);
}

/* oneDNN 2.6 prefers its "brgconv" to its "jit" implementation for AMX tiles, and that takes 1.2 to 1.9 times as long for 3x3 windows over
 * an input that no L2 holds. */
static int conv_input_is_large(const device *d, const op *o, const op_shapes *s)
{
    const tensor_shape *x = &s->x[0];
    return d->amx && o->kind == OP_CONV && o->kernel == 3 && o->stride == 1 && x->n * x->h * x->w * x->c >= (int64_t)8 << 20;
}

static status conv_forward_new(conv_plan *p, const conv_mds *m)
{
    const int args[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS};
    device *d = p->base.d;
    const op *o = &p->base.o;
    conv_desc desc;
    p->base.run = conv_forward_run;
    if (wino_fits(d, o, &p->base.s)) return wino_new(d, &p->base.s, 0, &p->wino);
    if (conv_amx_fits(d, o, &p->base.s, 0)) return conv_amx_new(d, o, &p->base.s, 0, &p->amx);
    if (conv_fold(d, o, &p->base.s) > 1) return conv_fold_new(p, conv_fold(d, o, &p->base.s));
    COV_TRY(conv_forward_desc(o, &p->base.s, m, 0, &desc));
    const int fused = o->relu && (!o->bias || conv_dnn_bias(o)) ? CPU_PRIM_RELU : 0;
    const int choice = conv_input_is_large(d, o, &p->base.s) ? CPU_PRIM_SECOND : 0;
    COV_TRY(cpu_prim_new(d, &desc, fused | choice, NULL, args, conv_dnn_bias(o) ? 4 : 3, &p->main));
    return cpu_pack_new(d, &m->w, dnnl_primitive_desc_query_md(p->main.desc, dnnl_query_exec_arg_md, DNNL_ARG_WEIGHTS),
                        &p->pack);
}

/* The pixels of x that a 1x1 window with a stride meets. */
static tensor_shape conv_met(const op_shapes *s) { return tensor_shape_of(s->y.n, s->y.h, s->y.w, s->x[0].c, s->x[0].type); }

static status conv_own_weights(conv_plan *p, const op_args *a, const void *dy)
{
    const plan *base = &p->base;
    const tensor_shape *y = &base->s.y;
    char *scratch = base->d->scratch;
    if (a->dp[0].data != NULL)
        wgrad_run(base->d, &base->o, &base->s, a->x[0].data, dy, a->dp[0].data, scratch + p->at_dw);
    if (!base->o.bias || a->dp[1].data == NULL) return COV_OK;
    return vec_column_sums(base->d, y->type, y->n * y->h * y->w, y->c, dy, a->dp[1].data);
}

/* dx of a 1x1 window with a stride: the pixels that it meets, one after the other in `met`, and zeros between. */
static void conv_spread(const conv_plan *p, const char *met, char *dx)
{
    const tensor_shape *x = &p->base.s.x[0], *y = &p->base.s.y;
    const int64_t stride = p->base.o.stride;
    const size_t pixel = vec_bytes(x->type == TENSOR_BF16, (size_t)x->c);
#pragma omp parallel for schedule(static) num_threads(p->base.d->threads)
    for (int64_t row = 0; row < x->n * x->h; row++) {
        const int64_t n = row / x->h, iy = row % x->h;
        const char *from = met + (size_t)((n * y->h + iy / stride) * y->w) * pixel;
        char *to = dx + (size_t)(row * x->w) * pixel;
        if (iy % stride != 0) {
            memset(to, 0, (size_t)x->w * pixel);
            continue;
        }
        for (int64_t ix = 0; ix < x->w; ix++) {
            if (ix % stride == 0) memcpy(to + (size_t)ix * pixel, from + (size_t)(ix / stride) * pixel, pixel);
            else memset(to + (size_t)ix * pixel, 0, pixel);
        }
    }
}

/* dx. */
static status conv_backward_data(conv_plan *p, const op_args *a, void *dy)
{
    device *d = p->base.d;
    void *dx = p->sparse ? (char *)d->scratch + p->at_dw : a->dx[0].data, *w;
    if (p->wino != NULL) return wino_run(d, p->wino, &a->p[0], NULL, 0, dy, dx);
    if (p->amx != NULL) {
        COV_TRY(conv_amx_run(d, p->amx, &a->p[0], NULL, 0, dy, dx));
    } else {
        COV_TRY(cpu_pack_get(d, &p->pack, &a->p[0], &w));
        void *const data[] = {dy, w, dx};
        COV_TRY(cpu_prim_run(d, &p->main, data));
    }
    if (p->sparse) conv_spread(p, dx, a->dx[0].data);
    return COV_OK;
}

static status conv_backward_run(plan *base, const op_args *a)
{
    conv_plan *p = (conv_plan *)base;
    device *d = base->d;
    char *scratch = d->scratch;
    void *dy = a->dy.data;
    if (base->o.relu) {
        dy = scratch + p->at_dy;
        vec_mask(d, base->s.y.type, p->y_count, a->y.data, a->dy.data, dy);
    }
    if (a->dx[0].data != NULL) COV_TRY(conv_backward_data(p, a, dy));
    if (a->dp[0].data == NULL && a->dp[1].data == NULL) return COV_OK;
    if (p->own_weights) return conv_own_weights(p, a, dy);
    void *const data[] = {a->x[0].data, dy, scratch + p->at_dw, scratch + p->at_db};
    COV_TRY(cpu_prim_run(d, &p->weights, data));
    void *const unpack[] = {scratch + p->at_dw, a->dp[0].data};
    if (a->dp[0].data != NULL) COV_TRY(cpu_prim_run(d, &p->unpack, unpack));
    if (!base->o.bias || a->dp[1].data == NULL) return COV_OK;
    const tensor_shape *y = &base->s.y;
    if (conv_dnn_bias(&base->o))
        return cpu_accumulate(d, TENSOR_F32, (size_t)y->c, scratch + p->at_db, a->dp[1].data);
    return vec_column_sums(d, y->type, y->n * y->h * y->w, y->c, dy, a->dp[1].data);
}

/* Places masked dy, dw and db behind the largest scratchpad. dw_bytes: of oneDNN's layout, 0 where it makes none; where dw will be, a sparse
 * dx lies before. */
static status conv_backward_room(conv_plan *p, size_t dw_bytes)
{
    const op *o = &p->base.o;
    size_t bytes, met = 0, at = p->wino != NULL  ? wino_scratch(p->base.d, p->wino)
                              : p->amx != NULL ? conv_amx_scratch(p->base.d, p->amx)
                                               : p->main.scratch_bytes;
    if (p->weights.scratch_bytes > at) at = p->weights.scratch_bytes;
    if (p->unpack.scratch_bytes > at) at = p->unpack.scratch_bytes;
    COV_TRY(tensor_count(p->base.s.y, &p->y_count));
    COV_TRY(tensor_bytes(p->base.s.y, &bytes));
    if (p->sparse) COV_TRY(tensor_bytes(conv_met(&p->base.s), &met));
    if (dw_bytes < met) dw_bytes = met;
    p->at_dy = (at + 4095) / 4096 * 4096;
    p->at_dw = (p->at_dy + (o->relu ? bytes : 0) + 4095) / 4096 * 4096;
    p->at_db = (p->at_dw + dw_bytes + 63) / 64 * 64;
    return cpu_reserve(p->base.d, p->at_db + (size_t)p->base.s.y.c * sizeof(float) + 64);
}

/* dx of a 1x1 window with a stride as that of one without, which on AMX tiles oneDNN, too, computes three times as fast. */
static status conv_sparse_new(conv_plan *p, const conv_mds *m)
{
    const int args[] = {DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC};
    dnnl_primitive_desc_t hint = NULL;
    device *d = p->base.d;
    conv_desc forward, desc;
    conv_mds met = *m;
    op o = p->base.o;
    op_shapes s = p->base.s;
    o.stride = 1;
    s.x[0] = conv_met(&s);
    if (conv_amx_fits(d, &o, &s, 1)) return conv_amx_new(d, &o, &s, 1, &p->amx);
    met.stride[0] = met.stride[1] = 1;
    COV_TRY(cpu_md_nhwc(&s.x[0], &met.x));
    COV_TRY(conv_forward_desc(&o, &s, &met, 1, &forward));
    COV_TRY(conv_data_desc(&o, &s, &met, &desc));
    CPU_DNN(dnnl_primitive_desc_create(&hint, &forward, NULL, d->engine, NULL));
    status r = cpu_prim_new(d, &desc, 0, hint, args, 3, &p->main);
    dnnl_primitive_desc_destroy(hint);
    return r;
}

/* What makes dx. */
static status conv_backward_data_new(conv_plan *p, const conv_mds *m, const_dnnl_primitive_desc_t hint)
{
    const int args[] = {DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC};
    device *d = p->base.d;
    const op *o = &p->base.o;
    conv_desc desc;
    p->sparse = d->amx && o->kind == OP_CONV && o->kernel == 1 && o->stride > 1 && o->pad == 0 && p->base.s.y.type == TENSOR_BF16;
    if (wino_fits(d, o, &p->base.s)) return wino_new(d, &p->base.s, 1, &p->wino);
    if (conv_amx_fits(d, o, &p->base.s, 1)) return conv_amx_new(d, o, &p->base.s, 1, &p->amx);
    if (p->sparse) {
        COV_TRY(conv_sparse_new(p, m));
        if (p->amx != NULL) return COV_OK;
    } else {
        COV_TRY(conv_data_desc(o, &p->base.s, m, &desc));
        COV_TRY(cpu_prim_new(d, &desc, 0, hint, args, 3, &p->main));
    }
    return cpu_pack_new(d, &m->w, dnnl_primitive_desc_query_md(p->main.desc, dnnl_query_exec_arg_md, DNNL_ARG_WEIGHTS),
                        &p->pack);
}

/* What makes dw and db, and the reorder that adds dw to dp. */
static status conv_backward_weights_new(conv_plan *p, const conv_mds *m, const_dnnl_primitive_desc_t hint)
{
    const int args[] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_BIAS};
    conv_desc desc;
    p->own_weights = wgrad_fits(p->base.d, &p->base.o, &p->base.s);
    if (p->own_weights) return conv_backward_room(p, wgrad_scratch(p->base.d, &p->base.o, &p->base.s));
    COV_TRY(conv_weights_desc(&p->base.o, &p->base.s, m, &desc));
    COV_TRY(cpu_prim_new(p->base.d, &desc, 0, hint, args, conv_dnn_bias(&p->base.o) ? 4 : 3, &p->weights));
    const dnnl_memory_desc_t *dw = dnnl_primitive_desc_query_md(p->weights.desc, dnnl_query_exec_arg_md,
                                                                DNNL_ARG_DIFF_WEIGHTS);
    COV_TRY(cpu_reorder_new(p->base.d, dw, &m->w, 1, &p->unpack));
    return conv_backward_room(p, dnnl_memory_desc_get_size(dw));
}

static status conv_backward_new(conv_plan *p, const conv_mds *m)
{
    conv_desc desc;
    dnnl_primitive_desc_t hint = NULL;
    p->base.run = conv_backward_run;
    COV_TRY(conv_forward_desc(&p->base.o, &p->base.s, m, 1, &desc));
    CPU_DNN(dnnl_primitive_desc_create(&hint, &desc, NULL, p->base.d->engine, NULL));
    status r = conv_backward_data_new(p, m, hint);
    if (r == COV_OK) r = conv_backward_weights_new(p, m, hint);
    dnnl_primitive_desc_destroy(hint);
    return r;
}

static void conv_free(plan *base)
{
    conv_plan *p = (conv_plan *)base;
    cpu_prim_free(&p->main);
    cpu_prim_free(&p->weights);
    cpu_prim_free(&p->unpack);
    cpu_pack_free(&p->pack);
    wino_free(&p->wino);
    conv_amx_free(&p->amx);
    free(p->wide);
}

/* A window that is the whole image makes a convolution a linear layer over all of it: oneDNN's direct convolutions take five times as long. */
static int is_linear(const op *o, const op_shapes *s)
{
    return o->kind == OP_LINEAR || (o->kind == OP_CONV && o->pad == 0 && s->x[0].h == o->kernel && s->x[0].w == o->kernel);
}

static void linear_as_conv(op *o, op_shapes *s)
{
    tensor_shape *const both[] = {&s->x[0], &s->y};
    if (o->kind == OP_CONV) {
        int64_t all = s->x[0].h * s->x[0].w * s->x[0].c;
        s->x[0] = tensor_shape_of(s->x[0].n, 1, 1, all, s->x[0].type);
        s->p[0] = tensor_shape_of(s->y.c, 1, 1, all, s->p[0].type);
    }
    o->kind = OP_CONV;
    o->kernel = o->stride = 1;
    o->pad = 0;
    for (int k = 0; k < 2; k++)
        *both[k] = tensor_shape_of(1, both[k]->n * both[k]->h * both[k]->w, 1, both[k]->c, both[k]->type);
}

status cpu_conv_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    conv_mds m;
    op conv = *o;
    op_shapes rows = *s;
    if (s->x[0].type == TENSOR_BF16 && !d->bf16_layers) return cpu_widen_plan(d, o, s, pass, out);
    if (is_linear(o, s)) linear_as_conv(&conv, &rows);
    COV_TRY(conv_mds_new(&conv, &rows, &m));
    COV_TRY(cpu_plan_alloc(d, &conv, &rows, pass, sizeof(conv_plan), out));
    (*out)->free = conv_free;
    return pass == OP_FORWARD ? conv_forward_new((conv_plan *)*out, &m) : conv_backward_new((conv_plan *)*out, &m);
}
