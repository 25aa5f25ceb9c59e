/* conv: plans of CONV, CONVT and LINEAR. Each pass is one or two results of a dnn_pair. cuDNN is asked first, with bias
 * and ReLU in the same pass over memory where it can; what it has no engine for runs in own.cu, and the plan's `way`
 * says so. In bf16 the weights are rounded once a version. The gradient of bf16 weights must come out in F32: where
 * channels are no multiple of 8, both images are widened first and multiplied as TF32, which loses nothing. (cuDNN
 * 9.19 offers engines for even numbers of channels, too, and on an H200 those gave wrong sums.)
 *
 * Scratch, one after the other: dy cut by the ReLU, cuDNN's workspace, the bias gradient's sums, dw, widened images. */
#include "kernels/cuda/own.h"

enum { SCRATCH_ALIGN = 256, WHOLE = 8 /* channels: 16 bytes of bf16 */ };

/* One result of a pass, by cuDNN or (dnn NULL) by ourselves. */
typedef struct way {
    dnn_want want;
    const dnn_conv *dnn;
    int widen; /* WEIGHTS: both images go to F32 first */
} way;

typedef struct conv_plan {
    plan base;
    dnn_pair pair;
    way image, weights; /* image: y, or dx */
    void *packed;       /* bf16 weights, owned; NULL: read as they are */
    uint64_t packed_version;
    size_t cut, workspace, part, dw, wide[2]; /* offsets in scratch; wide: the small image, the large one */
    size_t weight_count, small_count, large_count;
} conv_plan;

/* A window over the whole image is a linear layer over all its values. */
static int is_whole(const op *o, const op_shapes *s)
{
    return o->kind == OP_CONV && o->pad == 0 && s->x[0].h == o->kernel && s->x[0].w == o->kernel;
}

static dnn_pair pair_of(const op *o, const op_shapes *s)
{
    dnn_pair g = {.small = s->y, .large = s->x[0], .kernel = o->kernel, .stride = o->stride, .pad = o->pad};
    if (o->kind == OP_CONVT) {
        g.small = s->x[0];
        g.large = s->y;
    }
    if (o->kind != OP_LINEAR && !is_whole(o, s)) return g;
    g.large.c *= g.kernel > 1 ? g.large.h * g.large.w : 1;
    g.large.h = g.kernel > 1 ? 1 : g.large.h;
    g.large.w = g.kernel > 1 ? 1 : g.large.w;
    g.kernel = g.stride = 1;
    g.pad = 0;
    /* Rows of any shape are rows. */
    g.small.h *= g.small.n * g.small.w;
    g.large.h *= g.large.n * g.large.w;
    g.small.n = g.small.w = g.large.n = g.large.w = 1;
    return g;
}

/* Asks cuDNN; what it does not take is left to own.cu. */
static status ask(device *d, way *w)
{
    w->dnn = NULL;
    status s = dnn_conv_find(d, &w->want, &w->dnn);
    return s == COV_UNSUPPORTED ? COV_OK : s;
}

static status find_image(conv_plan *p, dnn_result result)
{
    way *w = &p->image;
    const op *o = &p->base.o;
    int forward = p->base.pass == OP_FORWARD;
    w->want = (dnn_want){.pair = p->pair, .result = result, .bias = forward && o->bias, .relu = forward && o->relu};
    if (p->base.bf16 && (w->want.bias || w->want.relu)) COV_TRY(ask(p->base.d, w));
    if (w->dnn) return COV_OK;
    w->want.bias = w->want.relu = 0;
    return ask(p->base.d, w);
}

static status find_weights(conv_plan *p)
{
    way *w = &p->weights;
    int whole = p->pair.small.c % WHOLE == 0 && p->pair.large.c % WHOLE == 0;
    w->want = (dnn_want){.pair = p->pair, .result = DNN_WEIGHTS};
    if (whole || !p->base.bf16) COV_TRY(ask(p->base.d, w));
    if (w->dnn || !p->base.bf16) return COV_OK;
    w->want.pair.small.type = w->want.pair.large.type = TENSOR_F32;
    w->want.tf32 = 1;
    COV_TRY(ask(p->base.d, w));
    w->widen = w->dnn != NULL;
    return COV_OK;
}

static status take(size_t *end, size_t bytes, size_t *at)
{
    *at = *end;
    if (!size_add(*end, bytes, end) || !size_add(*end, SCRATCH_ALIGN - 1, end))
        return COV_FAIL(COV_NOMEM, "cuda: scratch of a convolution does not fit in memory");
    *end -= *end % SCRATCH_ALIGN;
    return COV_OK;
}

static status lay_out(conv_plan *p)
{
    const plan *b = &p->base;
    size_t end = 0, bytes, work = p->image.dnn ? dnn_conv_workspace(p->image.dnn) : 0;
    int backward = b->pass == OP_BACKWARD;
    if (p->weights.dnn && dnn_conv_workspace(p->weights.dnn) > work) work = dnn_conv_workspace(p->weights.dnn);
    COV_TRY(tensor_bytes(b->s.y, &bytes));
    COV_TRY(tensor_count(b->s.p[0], &p->weight_count));
    COV_TRY(tensor_count(p->pair.small, &p->small_count));
    COV_TRY(tensor_count(p->pair.large, &p->large_count));
    COV_TRY(take(&end, backward && b->o.relu ? bytes : 0, &p->cut));
    COV_TRY(take(&end, work, &p->workspace));
    COV_TRY(take(&end, backward && b->o.bias ? cuda_own_bias_bytes(b->s.y) : 0, &p->part));
    COV_TRY(take(&end, p->weights.dnn ? p->weight_count * sizeof(float) : 0, &p->dw));
    COV_TRY(take(&end, p->weights.widen ? p->small_count * sizeof(float) : 0, &p->wide[0]));
    COV_TRY(take(&end, p->weights.widen ? p->large_count * sizeof(float) : 0, &p->wide[1]));
    return cuda_reserve(b->d, end);
}

static void conv_free(plan *base) { cudaFree(((conv_plan *)base)->packed); } /* waits for what still reads it */

static char *scratch(const conv_plan *p, size_t at) { return (char *)p->base.d->scratch + at; }

/* The weights as the image's way reads them. */
static status weights_for(conv_plan *p, const tensor *w, const void **out)
{
    *out = w->data;
    if (!p->packed) return COV_OK;
    *out = p->packed;
    if (w->version != 0 && w->version == p->packed_version) return COV_OK;
    COV_TRY(cuda_convert(p->base.d, p->weight_count, TENSOR_F32, w->data, TENSOR_BF16, p->packed));
    p->packed_version = w->version;
    return COV_OK;
}

static status run_image(conv_plan *p, const op_args *a, const void *from, const float *bias, int relu, void *to)
{
    const way *w = &p->image;
    const void *weights;
    device *d = p->base.d;
    tensor_shape shape = w->want.result == DNN_SMALL ? p->pair.small : p->pair.large;
    if (!w->dnn) return cuda_own_image(d, &p->pair, w->want.result, from, a->p[0].data, bias, relu, to);
    COV_TRY(weights_for(p, &a->p[0], &weights));
    COV_TRY(dnn_conv_run(d, w->dnn, from, weights, bias, to, scratch(p, p->workspace)));
    if ((bias && !w->want.bias) || (relu && !w->want.relu)) return cuda_own_bias(d, shape, bias, relu, to);
    return COV_OK;
}

/* fresh: dw holds zeros. */
static status run_weights(conv_plan *p, const void *small, const void *large, int fresh, float *dw)
{
    const way *w = &p->weights;
    device *d = p->base.d;
    if (!w->dnn) return cuda_own_weights(d, &p->pair, small, large, dw);
    if (w->widen) {
        COV_TRY(cuda_convert(d, p->small_count, TENSOR_BF16, small, TENSOR_F32, scratch(p, p->wide[0])));
        COV_TRY(cuda_convert(d, p->large_count, TENSOR_BF16, large, TENSOR_F32, scratch(p, p->wide[1])));
        small = scratch(p, p->wide[0]);
        large = scratch(p, p->wide[1]);
    }
    COV_TRY(dnn_conv_run(d, w->dnn, small, large, NULL, fresh ? (char *)dw : scratch(p, p->dw), scratch(p, p->workspace)));
    if (fresh) return COV_OK;
    return cuda_accumulate(d, TENSOR_F32, p->weight_count, scratch(p, p->dw), dw);
}

static status conv_forward(plan *base, const op_args *a)
{
    return run_image((conv_plan *)base, a, a->x[0].data, base->o.bias ? a->p[1].data : NULL, base->o.relu, a->y.data);
}

static status conv_backward(plan *base, const op_args *a)
{
    conv_plan *p = (conv_plan *)base;
    device *d = base->d;
    const void *dy = a->dy.data, *x = a->x[0].data;
    size_t n;
    if (base->o.relu) {
        COV_TRY(tensor_count(base->s.y, &n));
        COV_TRY(cuda_relu_cut(d, base->bf16, n, a->y.data, dy, scratch(p, p->cut)));
        dy = scratch(p, p->cut);
    }
    int turned = base->o.kind == OP_CONVT;
    if (a->dx[0].data) COV_TRY(run_image(p, a, dy, NULL, 0, a->dx[0].data));
    if (a->dp[0].data) COV_TRY(run_weights(p, turned ? x : dy, turned ? dy : x, a->fresh & 1, a->dp[0].data));
    if (base->o.bias && a->dp[1].data)
        COV_TRY(cuda_own_bias_gradient(d, base->s.y, dy, (double *)scratch(p, p->part), a->dp[1].data));
    return COV_OK;
}

status cuda_conv_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    COV_TRY(cuda_plan_alloc(d, o, s, pass, sizeof(conv_plan), out));
    conv_plan *p = (conv_plan *)*out;
    p->pair = pair_of(o, s);
    p->base.free = conv_free;
    p->base.run = pass == OP_FORWARD ? conv_forward : conv_backward;
    COV_TRY(find_image(p, (o->kind == OP_CONVT) == (pass == OP_FORWARD) ? DNN_LARGE : DNN_SMALL));
    if (pass == OP_BACKWARD) COV_TRY(find_weights(p));
    p->base.way = p->image.dnn && (pass == OP_FORWARD || p->weights.dnn) ? "cudnn" : "own";
    COV_TRY(lay_out(p));
    if (p->base.bf16 && p->image.dnn) CUDA_TRY(cudaMalloc(&p->packed, p->weight_count * 2));
    return COV_OK;
}
