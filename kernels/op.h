/* op: the description of one operation, the same for every backend.
 *
 * An op has inputs x[], parameters p[], one output y, and state saved for backward. Activations are
 * TENSOR_F32 or TENSOR_BF16 (all of one op's alike, unless said); parameters, gradients of parameters,
 * saved statistics, losses and their gradients are TENSOR_F32 always. Accumulation is fp32.
 * Layout NHWC. "rows" below means n*h*w.
 *
 * kind           x                      p                        y                       saved
 * OP_CONV        x (n,h,w,ci)           w (co,kh,kw,ci) [b (co)] (n,ho,wo,co)            -            relu
 * OP_CONVT       x (n,h,w,ci)           w (ci,kh,kw,co) [b (co)] (n,ho,wo,co)            -            relu
 * OP_LINEAR      x (n,h,w,c) rows of c  w (co,1,1,c) [b (co)]    (n,h,w,co)              -            relu
 * OP_RESIZE      x                      -                        (n,out_h,out_w,c)       -            bilinear (half-pixel centres) or nearest
 * OP_MAXPOOL     x                      -                        (n,ho,wo,c)             winner U8/I32 (backend's own choice)
 * OP_AVGPOOL     x                      -                        (n,1,1,c) global mean   -
 * OP_GROUPNORM   x [residual]           gamma (c) beta (c)       as x                    mean, rstd F32 (n,1,1,groups)   relu, residual
 * OP_BATCHNORM   x [residual]           gamma beta mean var (c)  as x                    mean, rstd F32 (1,1,1,c)        relu, residual
 *                training: statistics of the batch, and p mean/var move by `momentum` (biased var in, unbiased into p, as PyTorch);
 *                frozen: statistics are p mean/var. dp has gamma and beta only. Folding into OP_CONV is net's work at compile.
 * OP_CONCAT      x0 .. xk (same n,h,w)  -                        channels joined         -
 *                pixels: x0 .. xk (same n,c)                     (n, sum of h*w, 1, c): each image's pixels one input after the other
 * OP_ADD         a, b                   -                        a + b                   -            relu
 * OP_RELU OP_SIGMOID  x                 -                        as x                    -
 * OP_SOFTMAX     x                      -                        as x, over channels     -
 * OP_ROIALIGN    x0 .. x(l-1), rois     -                        (n*r,size,size,c)       -
 *                level k of l <= 4 is (n,h_k,w_k,c) with a stride of `stride << k` pixels of the net's input; rois are
 *                F32 (n,r,1,4), y0 x0 y1 x1 in those pixels, without gradient. A roi is read from the one level that
 *                op_roi_level names. Each of size x size bins is the mean of samples x samples points, evenly spread,
 *                bilinear between pixel centres (half-pixel alignment, no rounding); a point up to one pixel of the
 *                level outside counts as on the edge, one further out as 0. A roi without area (or with NaN) gives zeros.
 * Losses: y is F32 (1,1,1,1); x0 is a prediction (F32 or BF16), the rest are F32/I32 constants without gradient.
 * OP_LOSS_BCE    logits, target F32 [weight F32 (same shape)]    mean over weight>0 of weight*bce / sum of weights
 * OP_LOSS_DICE   logits (n,h,w,1), target F32   1 - mean over n of (2*sum(p*t)+eps)/(sum(p)+sum(t)+eps), p = sigmoid(logit)
 * OP_LOSS_CE     logits (n,h,w,c), label I32 (n,h,w,1), -1 = no loss   mean over labelled rows (0 if none)
 * OP_LOSS_L1S    prediction, target F32, weight F32   smooth L1 (beta): sum(weight*loss)/max(sum(weight),1)
 *
 * Nothing overlaps: neither y nor a dx shares a byte with any other array of the run; only the x may be one tensor
 * several times.
 * Which of x[] is fused: `residual` = 1 adds the last x before the ReLU. ReLU's derivative at 0 is 0.
 * Sources: GroupNorm, Wu & He 2018; BatchNorm, Ioffe & Szegedy 2015; soft Dice, Milletari et al. 2016;
 * ROI Align, He et al. 2017; levels, Lin et al. 2017. */
#ifndef COV_KERNELS_OP_H
#define COV_KERNELS_OP_H
#include "kernels/tensor.h"

/* One list of kinds: names in messages, and the tests' loop over all of them, come from here. */
#define OP_KINDS(X)                                                                                                  \
    X(CONV, "conv") X(CONVT, "convt") X(LINEAR, "linear") X(RESIZE, "resize") X(MAXPOOL, "maxpool")                   \
    X(AVGPOOL, "avgpool") X(GROUPNORM, "groupnorm") X(BATCHNORM, "batchnorm") X(CONCAT, "concat") X(ADD, "add")       \
    X(RELU, "relu") X(SIGMOID, "sigmoid") X(SOFTMAX, "softmax") X(ROIALIGN, "roialign") X(LOSS_BCE, "loss_bce")       \
    X(LOSS_DICE, "loss_dice") X(LOSS_CE, "loss_ce") X(LOSS_L1S, "loss_l1s")
typedef enum op_kind {
#define X(k, name) OP_##k,
    OP_KINDS(X)
#undef X
        OP_KIND_COUNT
} op_kind;

enum { OP_MAX_X = 8, OP_MAX_P = 4, OP_MAX_SAVED = 2 };
enum { OP_ROI_LEVELS = 4, OP_ROI_SIZE = 64, OP_ROI_SAMPLES = 4 /* at most */, OP_ROI_BASE = 56 };

typedef struct op {
    op_kind kind;
    int kernel, stride, pad;  /* CONV, CONVT, MAXPOOL: square; pad on all four sides. ROIALIGN: stride of level 0 */
    int size, samples;        /* ROIALIGN: bins and points a bin along one side */
    int channels;             /* CONV, CONVT, LINEAR: co */
    int bias;                 /* CONV, CONVT, LINEAR: p[1] is there */
    int relu, residual;       /* fused, where the table above says so */
    int groups;               /* GROUPNORM */
    float eps, momentum;      /* norms; LOSS_DICE's eps; momentum: BATCHNORM (0.1 as PyTorch) */
    int training;             /* BATCHNORM: batch statistics */
    int64_t out_h, out_w;     /* RESIZE */
    int nearest;              /* RESIZE */
    int pixels;               /* CONCAT */
    float beta;               /* LOSS_L1S */
} op;

/* All shapes of one op at one size: filled by op_infer, used by plan_new and by net's memory plan. */
typedef struct op_shapes {
    int nx, np, nsaved;
    tensor_shape x[OP_MAX_X], p[OP_MAX_P], y, saved[OP_MAX_SAVED];
} op_shapes;

/* In: o, s->nx, s->x. Out: s->np, s->p, s->y, s->nsaved, s->saved. COV_BROKEN with a message that
 * names the op and the two sizes that do not fit. Local. */
status op_infer(const op *o, op_shapes *s);
const char *op_name(op_kind k);
int op_is_loss(op_kind k);
/* Does x[k] of nx take a gradient? Not the constants of a loss, and not rois. */
int op_differentiable(op_kind kind, int k, int nx);
/* ROIALIGN: the level that a roi is read from, clamp(floor(log2(sqrt(area) / OP_ROI_BASE)), 0, levels - 1), in a form
 * that all backends decide alike; -1: no area. */
int op_roi_level(const float roi[4], int levels);
/* Multiply-adds * 2 of one forward pass: what `bench` divides by. 0 for memory-bound ops. */
double op_flops(const op *o, const op_shapes *s);

/* Everything one run reads and writes. Forward: x, p -> y, saved. Backward: x, p, y, saved, dy -> dx, dp.
 * In forward the data of any saved may be NULL (no backward follows) and is then not written; backward needs all.
 * A dx or dp whose data is NULL is not computed. dx is overwritten; dp is added to (zeroed by net). For a loss, dy is the F32 scale that multiplies its
 * gradient. dx has the type of x. */
typedef struct op_args {
    tensor x[OP_MAX_X], p[OP_MAX_P], y, saved[OP_MAX_SAVED];
    tensor dy, dx[OP_MAX_X], dp[OP_MAX_P];
    int fresh; /* bit k: dp[k] holds zeros, so that it may be overwritten */
} op_args;
#endif
