/* op_case: the cases of the op tests, one table for all kinds. A case is an op and the sizes of its inputs; the
 * activation type is chosen by the test. Sizes are small but awkward: one pixel, one row, one channel, channels that
 * fill no vector, images that strides do not divide. A new kind of op gets its rows here. */
#ifndef COV_TESTS_OPS_OP_CASE_H
#define COV_TESTS_OPS_OP_CASE_H
#include "kernels/op.h"

#include <stdio.h>

typedef struct op_case {
    op o;
    int nx;
    /* Inputs; c[k] is given for CONCAT, else all inputs are as the first. CONCAT pixels: c[k] is h, h is c. ROIALIGN:
     * each level is half of the one before, c[1] rois an image. */
    int64_t n, h, w, c[OP_MAX_X];
} op_case;

/* clang-format off */
/* ---- rows of the table; fused ReLU, bias and residual on and off each */
#define SIZES(inputs, n_, h_, w_) .nx = inputs, .n = n_, .h = h_, .w = w_
#define WINDOW_(k_, ci, co, kernel_, stride_, pad_, bias_, relu_, ...)                                                 \
    {.o = {.kind = k_, .channels = co, .kernel = kernel_, .stride = stride_, .pad = pad_, .bias = bias_,               \
           .relu = relu_}, SIZES(1, __VA_ARGS__), .c = {ci}}
#define WINDOW(k_, ci, co, kernel_, stride_, pad_, ...)                                                                \
    WINDOW_(k_, ci, co, kernel_, stride_, pad_, 0, 0, __VA_ARGS__),                                                    \
    WINDOW_(k_, ci, co, kernel_, stride_, pad_, 1, 0, __VA_ARGS__),                                                    \
    WINDOW_(k_, ci, co, kernel_, stride_, pad_, 0, 1, __VA_ARGS__),                                                    \
    WINDOW_(k_, ci, co, kernel_, stride_, pad_, 1, 1, __VA_ARGS__)
#define CONV(...) WINDOW(OP_CONV, __VA_ARGS__)
#define CONVT(...) WINDOW(OP_CONVT, __VA_ARGS__)
#define LINEAR(ci, co, ...) WINDOW(OP_LINEAR, ci, co, 0, 0, 0, __VA_ARGS__)
#define RESIZE_(c_, oh, ow, nearest_, ...)                                                                             \
    {.o = {.kind = OP_RESIZE, .out_h = oh, .out_w = ow, .nearest = nearest_}, SIZES(1, __VA_ARGS__), .c = {c_}}
#define RESIZE(c_, oh, ow, ...) RESIZE_(c_, oh, ow, 0, __VA_ARGS__), RESIZE_(c_, oh, ow, 1, __VA_ARGS__)
#define MAXPOOL(c_, kernel_, stride_, pad_, ...)                                                                       \
    {.o = {.kind = OP_MAXPOOL, .kernel = kernel_, .stride = stride_, .pad = pad_}, SIZES(1, __VA_ARGS__), .c = {c_}}
#define NORM_(k_, groups_, training_, residual_, relu_, c_, ...)                                                       \
    {.o = {.kind = k_, .groups = groups_, .training = training_, .residual = residual_, .relu = relu_, .eps = 1e-5f,   \
           .momentum = 0.1f}, SIZES(1 + residual_, __VA_ARGS__), .c = {c_}}
#define NORM(k_, groups_, training_, ...)                                                                              \
    NORM_(k_, groups_, training_, 0, 0, __VA_ARGS__), NORM_(k_, groups_, training_, 0, 1, __VA_ARGS__),                \
    NORM_(k_, groups_, training_, 1, 0, __VA_ARGS__), NORM_(k_, groups_, training_, 1, 1, __VA_ARGS__)
#define GROUPNORM(c_, groups_, ...) NORM(OP_GROUPNORM, groups_, 0, c_, __VA_ARGS__)
#define BATCHNORM(...) NORM(OP_BATCHNORM, 0, 0, __VA_ARGS__), NORM(OP_BATCHNORM, 0, 1, __VA_ARGS__)
#define CONCAT(n_, h_, w_, inputs, ...) {.o = {.kind = OP_CONCAT}, SIZES(inputs, n_, h_, w_), .c = {__VA_ARGS__}}
#define PIXELS(n_, w_, c_, inputs, ...)                                                                                \
    {.o = {.kind = OP_CONCAT, .pixels = 1}, SIZES(inputs, n_, c_, w_), .c = {__VA_ARGS__}}
#define PLAIN(k_, inputs, c_, ...) {.o = {.kind = k_}, SIZES(inputs, __VA_ARGS__), .c = {c_}}
#define ADD(c_, ...)                                                                                                   \
    PLAIN(OP_ADD, 2, c_, __VA_ARGS__), {.o = {.kind = OP_ADD, .relu = 1}, SIZES(2, __VA_ARGS__), .c = {c_}}
#define DICE(...) {.o = {.kind = OP_LOSS_DICE, .eps = 1}, SIZES(2, __VA_ARGS__), .c = {1}}
#define L1S(beta_, c_, ...) {.o = {.kind = OP_LOSS_L1S, .beta = beta_}, SIZES(3, __VA_ARGS__), .c = {c_}}
#define ROIALIGN(c_, levels_, rois_, stride_, size_, samples_, ...)                                                    \
    {.o = {.kind = OP_ROIALIGN, .stride = stride_, .size = size_, .samples = samples_},                                \
     SIZES(levels_ + 1, __VA_ARGS__), .c = {c_, rois_}}

static const op_case op_cases[] = {
    /* CONV: channels in, out, kernel, stride, pad, n, h, w */
    CONV(1, 1, 1, 1, 0, 1, 1, 1), CONV(1, 8, 3, 1, 1, 1, 9, 7), CONV(3, 16, 3, 1, 1, 2, 8, 8),
    CONV(3, 64, 7, 2, 3, 1, 17, 19), CONV(5, 7, 3, 2, 1, 2, 9, 11), CONV(16, 16, 3, 1, 1, 1, 16, 16),
    CONV(17, 33, 3, 1, 1, 1, 5, 6), CONV(8, 16, 2, 2, 0, 2, 8, 6), CONV(8, 16, 2, 2, 0, 1, 9, 7),
    CONV(32, 64, 1, 1, 0, 2, 7, 5), CONV(64, 32, 1, 2, 0, 1, 9, 9), CONV(3, 1, 1, 1, 0, 3, 4, 5),
    CONV(24, 40, 3, 1, 0, 1, 6, 5), CONV(2, 2, 3, 3, 2, 1, 7, 7), CONV(16, 32, 3, 2, 1, 1, 16, 16),
    CONV(130, 5, 3, 1, 1, 1, 4, 4), CONV(4, 12, 5, 1, 2, 1, 8, 8), CONV(8, 8, 3, 1, 1, 1, 1, 37),
    CONV(8, 8, 3, 1, 1, 1, 37, 1), CONV(4, 4, 3, 1, 1, 3, 1, 1), CONV(3, 8, 7, 2, 3, 1, 3, 2),
    CONV(5, 9, 7, 1, 0, 3, 7, 7), CONV(32, 16, 4, 2, 0, 2, 4, 4), /* the window is the image */
    CONV(16, 1, 1, 1, 0, 1, 12, 12), CONV(16, 16, 3, 1, 1, 1, 40, 44),
    /* CONVT: the same */
    CONVT(1, 1, 1, 1, 0, 1, 1, 1), CONVT(16, 8, 2, 2, 0, 1, 8, 8), CONVT(5, 3, 2, 2, 0, 2, 3, 7),
    CONVT(8, 8, 3, 1, 1, 1, 6, 5), CONVT(3, 7, 3, 2, 1, 2, 5, 4), CONVT(32, 16, 4, 2, 1, 1, 5, 6),
    CONVT(2, 3, 2, 3, 0, 1, 4, 3), CONVT(1, 16, 2, 2, 0, 1, 5, 1), CONVT(48, 1, 2, 2, 0, 1, 4, 4),
    CONVT(4, 6, 7, 2, 3, 1, 4, 4),
    /* LINEAR: channels in, out, n, h, w */
    LINEAR(1, 1, 1, 1, 1), LINEAR(16, 4, 5, 1, 1), LINEAR(33, 17, 7, 1, 1), LINEAR(8, 8, 2, 3, 5),
    LINEAR(256, 1, 3, 1, 1), LINEAR(1, 32, 3, 1, 1), LINEAR(100, 64, 1, 1, 1), LINEAR(1024, 2, 100, 1, 1),
    /* RESIZE: channels, to h, to w, n, h, w */
    RESIZE(1, 1, 1, 1, 1, 1), RESIZE(3, 8, 10, 2, 4, 5), RESIZE(16, 7, 9, 1, 7, 9), RESIZE(5, 3, 2, 2, 7, 5),
    RESIZE(8, 4, 4, 1, 8, 8), RESIZE(2, 11, 13, 1, 5, 4), RESIZE(7, 5, 6, 1, 1, 1), RESIZE(17, 1, 1, 1, 6, 9),
    RESIZE(1, 6, 3, 3, 4, 5), RESIZE(4, 9, 16, 1, 1, 8), RESIZE(16, 40, 44, 1, 20, 22),
    /* MAXPOOL: channels, kernel, stride, pad, n, h, w */
    MAXPOOL(1, 1, 1, 0, 1, 1, 1), MAXPOOL(8, 2, 2, 0, 2, 8, 6), MAXPOOL(3, 2, 2, 0, 1, 7, 5),
    MAXPOOL(64, 3, 2, 1, 1, 9, 8), MAXPOOL(5, 3, 1, 1, 2, 4, 5), MAXPOOL(17, 5, 3, 2, 1, 11, 7),
    MAXPOOL(1, 7, 2, 3, 1, 13, 9), MAXPOOL(16, 2, 1, 1, 1, 3, 1), MAXPOOL(33, 3, 2, 1, 1, 1, 1),
    MAXPOOL(2, 2, 3, 0, 1, 8, 9), MAXPOOL(16, 2, 2, 0, 1, 64, 62),
    /* PLAIN: kind, inputs, channels, n, h, w */
    PLAIN(OP_AVGPOOL, 1, 1, 1, 1, 1), PLAIN(OP_AVGPOOL, 1, 16, 2, 7, 5), PLAIN(OP_AVGPOOL, 1, 33, 3, 1, 9),
    PLAIN(OP_AVGPOOL, 1, 3, 1, 16, 16), PLAIN(OP_AVGPOOL, 1, 16, 1, 40, 41),
    /* GROUPNORM: channels, groups, n, h, w */
    GROUPNORM(1, 1, 1, 5, 5), GROUPNORM(3, 3, 2, 4, 5), GROUPNORM(8, 8, 1, 6, 6), GROUPNORM(16, 8, 2, 7, 5),
    GROUPNORM(16, 1, 1, 4, 4), GROUPNORM(12, 2, 3, 3, 3), GROUPNORM(33, 11, 1, 5, 2), GROUPNORM(64, 8, 1, 1, 1),
    GROUPNORM(6, 3, 2, 1, 7), GROUPNORM(40, 8, 1, 9, 9), GROUPNORM(128, 8, 1, 3, 3), GROUPNORM(16, 16, 1, 12, 11),
    GROUPNORM(4, 2, 1, 23, 19), GROUPNORM(16, 8, 2, 64, 67), GROUPNORM(3, 1, 1, 81, 83),
    /* BATCHNORM: channels, n, h, w */
    BATCHNORM(1, 1, 5, 5), BATCHNORM(3, 2, 4, 5), BATCHNORM(16, 3, 5, 7), BATCHNORM(33, 2, 3, 1),
    BATCHNORM(64, 1, 6, 6), BATCHNORM(7, 5, 1, 1), BATCHNORM(40, 2, 9, 8),
    BATCHNORM(16, 2, 64, 67), BATCHNORM(5, 2, 1, 1),
    /* CONCAT: n, h, w, inputs, their channels */
    CONCAT(1, 1, 1, 1, 1), CONCAT(1, 3, 4, 2, 1, 1), CONCAT(2, 5, 3, 2, 16, 16), CONCAT(1, 7, 5, 3, 3, 16, 5),
    CONCAT(3, 2, 2, 8, 1, 2, 3, 4, 5, 6, 7, 8), CONCAT(1, 8, 8, 2, 64, 32), CONCAT(2, 1, 1, 2, 17, 3),
    CONCAT(1, 40, 41, 2, 16, 8),
    /* PIXELS: n, w, channels, inputs, their h */
    PIXELS(1, 1, 1, 1, 1), PIXELS(2, 3, 5, 3, 4, 2, 1), PIXELS(3, 7, 18, 5, 32, 16, 8, 4, 2),
    /* ADD: channels, n, h, w */
    ADD(1, 1, 1, 1), ADD(3, 2, 5, 7), ADD(16, 1, 8, 8), ADD(33, 2, 3, 3), ADD(8, 1, 1, 1), ADD(16, 1, 40, 41),
    /* PLAIN: kind, inputs, channels, n, h, w */
    PLAIN(OP_RELU, 1, 1, 1, 1, 1), PLAIN(OP_RELU, 1, 3, 2, 5, 7), PLAIN(OP_RELU, 1, 16, 1, 9, 9),
    PLAIN(OP_RELU, 1, 33, 1, 3, 5), PLAIN(OP_RELU, 1, 16, 1, 40, 41),
    PLAIN(OP_SIGMOID, 1, 1, 1, 1, 1), PLAIN(OP_SIGMOID, 1, 3, 2, 5, 7), PLAIN(OP_SIGMOID, 1, 16, 1, 9, 9),
    PLAIN(OP_SIGMOID, 1, 1, 1, 13, 17), PLAIN(OP_SIGMOID, 1, 1, 1, 129, 131),
    PLAIN(OP_SOFTMAX, 1, 1, 1, 2, 2), PLAIN(OP_SOFTMAX, 1, 2, 2, 5, 7), PLAIN(OP_SOFTMAX, 1, 4, 1, 1, 1),
    PLAIN(OP_SOFTMAX, 1, 17, 3, 3, 3), PLAIN(OP_SOFTMAX, 1, 100, 1, 2, 3), PLAIN(OP_SOFTMAX, 1, 4, 1, 65, 67),
    /* ROIALIGN: channels, levels, rois, stride, size, samples, n, h, w */
    ROIALIGN(1, 1, 1, 1, 1, 1, 1, 1, 1), ROIALIGN(3, 1, 6, 4, 5, 2, 2, 7, 9), ROIALIGN(16, 1, 7, 16, 8, 2, 1, 8, 8),
    ROIALIGN(33, 1, 5, 2, 3, 3, 1, 11, 6), ROIALIGN(8, 4, 12, 4, 7, 2, 2, 37, 45), ROIALIGN(24, 2, 9, 8, 2, 1, 3, 9, 7),
    ROIALIGN(40, 3, 11, 16, 4, 4, 1, 19, 20), ROIALIGN(17, 1, 3, 16, 32, 2, 1, 6, 5),
    ROIALIGN(4, 1, 2, 4, 64, 2, 1, 3, 4),
    PLAIN(OP_LOSS_BCE, 2, 1, 1, 1, 1), PLAIN(OP_LOSS_BCE, 2, 1, 2, 9, 7), PLAIN(OP_LOSS_BCE, 3, 1, 2, 9, 7),
    PLAIN(OP_LOSS_BCE, 3, 5, 3, 4, 4), PLAIN(OP_LOSS_BCE, 2, 1, 1, 64, 67), PLAIN(OP_LOSS_BCE, 3, 2, 1, 100, 99),
    /* DICE: n, h, w */
    DICE(1, 1, 1), DICE(2, 9, 7), DICE(5, 1, 13), DICE(1, 64, 67), DICE(2, 129, 131),
    /* PLAIN: kind, inputs, channels, n, h, w */
    PLAIN(OP_LOSS_CE, 2, 2, 1, 1, 2), PLAIN(OP_LOSS_CE, 2, 4, 3, 5, 5), PLAIN(OP_LOSS_CE, 2, 2, 2, 9, 7),
    PLAIN(OP_LOSS_CE, 2, 17, 9, 1, 1), PLAIN(OP_LOSS_CE, 2, 4, 1, 131, 127),
    /* L1S: beta, channels, n, h, w */
    L1S(1, 1, 1, 1, 1), L1S(0.25f, 4, 9, 1, 1), L1S(0.5f, 3, 2, 5, 7), L1S(0.1f, 4, 2, 33, 31), L1S(0.1f, 4, 1, 70, 67),
    /* Norms whose groups are no whole packs, lie within one, or are wider than a block. (A case's numbers depend on its
     * place in this table: new ones come last.) */
    GROUPNORM(24, 2, 2, 5, 9), GROUPNORM(64, 32, 1, 9, 7), GROUPNORM(300, 1, 2, 3, 7), GROUPNORM(514, 2, 2, 7, 3),
    GROUPNORM(640, 2, 1, 11, 5),
    BATCHNORM(300, 2, 3, 2),
};
/* clang-format on */
enum { OP_CASES = sizeof op_cases / sizeof op_cases[0] };

/* The shapes of a case, with x[0] of the given type; fails as op_infer does. */
static inline status op_case_shapes(const op_case *c, tensor_type type, op_shapes *s)
{
    *s = (op_shapes){.nx = c->nx};
    for (int k = 0; k < c->nx; k++) {
        int64_t channels = c->o.kind == OP_CONCAT ? c->c[k] : c->c[0];
        s->x[k] = tensor_shape_of(c->n, c->h, c->w, channels, op_is_loss(c->o.kind) && k ? TENSOR_F32 : type);
        if (c->o.pixels) s->x[k] = tensor_shape_of(c->n, c->c[k], c->w, c->h, type);
    }
    if (c->o.kind == OP_ROIALIGN) {
        for (int k = 1; k < c->nx; k++)
            s->x[k] = tensor_shape_of(c->n, (c->h - 1) / (1 << k) + 1, (c->w - 1) / (1 << k) + 1, c->c[0], type);
        s->x[c->nx - 1] = tensor_shape_of(c->n, c->c[1], 1, 4, TENSOR_F32);
    }
    if (c->o.kind == OP_LOSS_CE) s->x[1] = tensor_shape_of(c->n, c->h, c->w, 1, TENSOR_I32);
    return op_infer(&c->o, s);
}

/* "conv 3x8x7x5 co 16 k3 s2 p1 bias relu bf16": what a failure report begins with. */
static inline void op_case_text(const op_case *c, tensor_type type, char *text, size_t room)
{
    const op *o = &c->o;
    int used = snprintf(text, room, "%s x%d (%d,%d,%d,%d)", op_name(o->kind), c->nx, (int)c->n, (int)c->h, (int)c->w,
                        (int)c->c[0]);
#define PUT(when, ...)                                                                                                 \
    if (when) used += snprintf(text + used, room - (size_t)used, __VA_ARGS__)
    PUT(o->channels, " co %d", o->channels);
    PUT(o->kernel, " kernel %d stride %d pad %d", o->kernel, o->stride, o->pad);
    PUT(o->groups, " groups %d", o->groups);
    PUT(o->size, " %d rois, stride %d size %d samples %d", (int)c->c[1], o->stride, o->size, o->samples);
    PUT(o->kind == OP_BATCHNORM, o->training ? " training" : " frozen");
    PUT(o->kind == OP_RESIZE, " to %d x %d %s", (int)o->out_h, (int)o->out_w, o->nearest ? "nearest" : "bilinear");
    PUT(o->bias, " bias");
    PUT(o->residual, " residual");
    PUT(o->relu, " relu");
    PUT(1, type == TENSOR_BF16 ? " bf16" : " f32");
#undef PUT
}
#endif
