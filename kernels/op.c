/* op: shape inference for every kind. Comes in: an op and the shapes of its x; goes out: the shapes of
 * y, parameters and saved state, or a message that names the op and the sizes that do not fit. Backends
 * and net trust what passed here, so everything a plan relies on is checked here and nowhere else. */
#include "kernels/op.h"

#include <stdio.h>
#include <string.h>

enum { WINDOW_MAX = 4096 }; /* kernel, stride, pad: with sizes below 2^31 no sum or product of them overflows */

const char *op_name(op_kind k)
{
    static const char *const names[] = {
#define X(kind, name) name,
        OP_KINDS(X)
#undef X
    };
    return k >= 0 && k < OP_KIND_COUNT ? names[k] : "?";
}

int op_is_loss(op_kind k) { return k == OP_LOSS_BCE || k == OP_LOSS_DICE || k == OP_LOSS_CE || k == OP_LOSS_L1S; }

int op_differentiable(op_kind kind, int k, int nx)
{
    if (kind == OP_ROIALIGN) return k < nx - 1;
    return k == 0 || !op_is_loss(kind);
}

int op_roi_level(const float roi[4], int levels)
{
    int level = 0;
    if (!(roi[2] > roi[0] && roi[3] > roi[1])) return -1;
    float area = (roi[2] - roi[0]) * (roi[3] - roi[1]);
    for (float side = 2.0f * OP_ROI_BASE; level < levels - 1 && area >= side * side; side *= 2) level++;
    return level;
}

static const char *type_name(tensor_type t)
{
    return t == TENSOR_F32 ? "f32" : t == TENSOR_BF16 ? "bf16" : t == TENSOR_I32 ? "i32" : t == TENSOR_U8 ? "u8" : "?";
}

typedef struct text {
    char s[96];
} text;

static text show(tensor_shape s)
{
    text t;
    snprintf(t.s, sizeof t.s, "(%lld,%lld,%lld,%lld) %s", (long long)s.n, (long long)s.h, (long long)s.w,
             (long long)s.c, type_name(s.type));
    return t;
}

static tensor_shape vector(int64_t c) { return tensor_shape_of(1, 1, 1, c, TENSOR_F32); }

static status need_inputs(const op *o, const op_shapes *s, int least, int most)
{
    if (s->nx < least || s->nx > most)
        return COV_FAIL(COV_BROKEN, "%s: %d inputs, expected %d to %d", op_name(o->kind), s->nx, least, most);
    return COV_OK;
}

static status need_window(const op *o)
{
    if (o->kernel < 1 || o->kernel > WINDOW_MAX || o->stride < 1 || o->stride > WINDOW_MAX || o->pad < 0 ||
        o->pad >= o->kernel)
        return COV_FAIL(COV_BROKEN, "%s: kernel %d, stride %d, pad %d: expected 1 to %d, 1 to %d, and 0 to kernel-1",
                        op_name(o->kind), o->kernel, o->stride, o->pad, WINDOW_MAX, WINDOW_MAX);
    return COV_OK;
}

static status need_same(const op *o, tensor_shape a, tensor_shape b)
{
    if (tensor_same_shape(a, b)) return COV_OK;
    return COV_FAIL(COV_BROKEN, "%s: %s does not fit %s", op_name(o->kind), show(b).s, show(a).s);
}

/* Output of a window of o->kernel that slides over `size`; 0 if it does not fit once. */
static int64_t slid(const op *o, int64_t size)
{
    int64_t room = size + 2 * (int64_t)o->pad - o->kernel;
    return room < 0 ? 0 : room / o->stride + 1;
}

static status infer_dense(const op *o, op_shapes *s)
{
    tensor_shape x = s->x[0];
    COV_TRY(need_inputs(o, s, 1, 1));
    if (o->channels < 1)
        return COV_FAIL(COV_BROKEN, "%s: %d output channels, expected 1 or more", op_name(o->kind), o->channels);
    if (o->kind == OP_LINEAR) {
        s->p[0] = tensor_shape_of(o->channels, 1, 1, x.c, TENSOR_F32);
        s->y = tensor_shape_of(x.n, x.h, x.w, o->channels, x.type);
    } else if (o->kind == OP_CONV) {
        COV_TRY(need_window(o));
        s->p[0] = tensor_shape_of(o->channels, o->kernel, o->kernel, x.c, TENSOR_F32);
        s->y = tensor_shape_of(x.n, slid(o, x.h), slid(o, x.w), o->channels, x.type);
    } else {
        COV_TRY(need_window(o));
        s->p[0] = tensor_shape_of(x.c, o->kernel, o->kernel, o->channels, TENSOR_F32);
        s->y = tensor_shape_of(x.n, (x.h - 1) * o->stride - 2 * (int64_t)o->pad + o->kernel,
                               (x.w - 1) * o->stride - 2 * (int64_t)o->pad + o->kernel, o->channels, x.type);
    }
    s->p[1] = vector(o->channels);
    s->np = o->bias ? 2 : 1;
    if (s->y.h < 1 || s->y.w < 1)
        return COV_FAIL(COV_BROKEN, "%s: a %d x %d kernel with pad %d leaves nothing of %s", op_name(o->kind),
                        o->kernel, o->kernel, o->pad, show(x).s);
    return COV_OK;
}

static status infer_maxpool(const op *o, op_shapes *s)
{
    tensor_shape x = s->x[0];
    COV_TRY(need_inputs(o, s, 1, 1));
    COV_TRY(need_window(o));
    /* Otherwise a window may lie in the padding alone and has no maximum. */
    if (2 * o->pad > o->kernel)
        return COV_FAIL(COV_BROKEN, "maxpool: pad %d is more than half the kernel %d", o->pad, o->kernel);
    s->y = tensor_shape_of(x.n, slid(o, x.h), slid(o, x.w), x.c, x.type);
    if (s->y.h < 1 || s->y.w < 1)
        return COV_FAIL(COV_BROKEN, "maxpool: a %d x %d kernel with pad %d does not fit in %s", o->kernel, o->kernel,
                        o->pad, show(x).s);
    s->nsaved = 1; /* room for the widest index: a backend that needs one byte uses a quarter of it */
    s->saved[0] = tensor_shape_of(s->y.n, s->y.h, s->y.w, s->y.c, TENSOR_I32);
    return COV_OK;
}

static status infer_norm(const op *o, op_shapes *s)
{
    tensor_shape x = s->x[0];
    int group = o->kind == OP_GROUPNORM;
    COV_TRY(need_inputs(o, s, 1 + !!o->residual, 1 + !!o->residual));
    if (o->residual) COV_TRY(need_same(o, x, s->x[1]));
    if (!(o->eps > 0))
        return COV_FAIL(COV_BROKEN, "%s: eps %g, expected more than 0", op_name(o->kind), (double)o->eps);
    if (group && (o->groups < 1 || x.c % o->groups))
        return COV_FAIL(COV_BROKEN, "groupnorm: %d groups do not divide the channels of %s", o->groups, show(x).s);
    s->y = x;
    s->np = group ? 2 : 4;
    for (int k = 0; k < s->np; k++) s->p[k] = vector(x.c);
    s->nsaved = 2;
    s->saved[0] = s->saved[1] = group ? tensor_shape_of(x.n, 1, 1, o->groups, TENSOR_F32) : vector(x.c);
    return COV_OK;
}

static status infer_concat(const op *o, op_shapes *s)
{
    COV_TRY(need_inputs(o, s, 1, OP_MAX_X));
    s->y = s->x[0];
    if (o->pixels) {
        s->y.h *= s->y.w;
        s->y.w = 1;
    }
    for (int k = 1; k < s->nx; k++) {
        tensor_shape joined = s->x[k];
        if (o->pixels) {
            joined.h = s->x[0].h;
            joined.w = s->x[0].w;
            s->y.h += s->x[k].h * s->x[k].w;
        } else {
            joined.c = s->x[0].c;
            s->y.c += s->x[k].c;
        }
        if (!tensor_same_shape(joined, s->x[0]))
            return COV_FAIL(COV_BROKEN, "concat: %s does not fit %s (all but %s must agree)", show(s->x[k]).s,
                            show(s->x[0]).s, o->pixels ? "rows and columns" : "channels");
    }
    return COV_OK;
}

static status infer_roialign(const op *o, op_shapes *s)
{
    COV_TRY(need_inputs(o, s, 2, OP_ROI_LEVELS + 1));
    tensor_shape x = s->x[0], rois = s->x[s->nx - 1];
    if (o->stride < 1 || o->stride > WINDOW_MAX || o->size < 1 || o->size > OP_ROI_SIZE || o->samples < 1 ||
        o->samples > OP_ROI_SAMPLES)
        return COV_FAIL(COV_BROKEN, "roialign: stride %d, size %d, samples %d: expected 1 to %d, 1 to %d and 1 to %d",
                        o->stride, o->size, o->samples, WINDOW_MAX, OP_ROI_SIZE, OP_ROI_SAMPLES);
    for (int k = 1; k < s->nx - 1; k++) {
        tensor_shape level = s->x[k];
        level.h = x.h;
        level.w = x.w;
        if (!tensor_same_shape(level, x))
            return COV_FAIL(COV_BROKEN, "roialign: level %s does not fit %s (all but height and width must agree)",
                            show(s->x[k]).s, show(x).s);
    }
    if (!tensor_same_shape(rois, tensor_shape_of(x.n, rois.h, 1, 4, TENSOR_F32)))
        return COV_FAIL(COV_BROKEN, "roialign: rois %s do not fit %s, expected (n,r,1,4) f32", show(rois).s, show(x).s);
    if (rois.h > INT32_MAX / x.n) return COV_FAIL(COV_BROKEN, "roialign: rois %s are too many", show(rois).s);
    s->y = tensor_shape_of(x.n * rois.h, o->size, o->size, x.c, x.type);
    return COV_OK;
}

static status infer_loss(const op *o, op_shapes *s)
{
    tensor_shape target = s->x[0];
    int weighted = o->kind == OP_LOSS_BCE || o->kind == OP_LOSS_L1S;
    COV_TRY(need_inputs(o, s, o->kind == OP_LOSS_L1S ? 3 : 2, weighted ? 3 : 2));
    target.type = TENSOR_F32;
    if (o->kind == OP_LOSS_CE) target = tensor_shape_of(target.n, target.h, target.w, 1, TENSOR_I32);
    for (int k = 1; k < s->nx; k++)
        if (!tensor_same_shape(s->x[k], target))
            return COV_FAIL(COV_BROKEN, "%s: %s does not fit the prediction %s, expected %s", op_name(o->kind),
                            show(s->x[k]).s, show(s->x[0]).s, show(target).s);
    if (o->kind == OP_LOSS_DICE && s->x[0].c != 1)
        return COV_FAIL(COV_BROKEN, "loss_dice: logits %s, expected one channel", show(s->x[0]).s);
    if (o->kind == OP_LOSS_DICE && !(o->eps > 0))
        return COV_FAIL(COV_BROKEN, "loss_dice: eps %g, expected more than 0", (double)o->eps);
    if (o->kind == OP_LOSS_CE && s->x[0].c < 2)
        return COV_FAIL(COV_BROKEN, "loss_ce: logits %s, expected two channels or more", show(s->x[0]).s);
    if (o->kind == OP_LOSS_L1S && !(o->beta > 0))
        return COV_FAIL(COV_BROKEN, "loss_l1s: beta %g, expected more than 0", (double)o->beta);
    s->y = vector(1);
    return COV_OK;
}

static status infer_kind(const op *o, op_shapes *s)
{
    switch (o->kind) {
    case OP_CONV:
    case OP_CONVT:
    case OP_LINEAR:
        return infer_dense(o, s);
    case OP_MAXPOOL:
        return infer_maxpool(o, s);
    case OP_GROUPNORM:
    case OP_BATCHNORM:
        return infer_norm(o, s);
    case OP_CONCAT:
        return infer_concat(o, s);
    case OP_ROIALIGN:
        return infer_roialign(o, s);
    case OP_LOSS_BCE:
    case OP_LOSS_DICE:
    case OP_LOSS_CE:
    case OP_LOSS_L1S:
        return infer_loss(o, s);
    case OP_ADD:
        COV_TRY(need_inputs(o, s, 2, 2));
        COV_TRY(need_same(o, s->x[0], s->x[1]));
        s->y = s->x[0];
        return COV_OK;
    case OP_RESIZE:
        COV_TRY(need_inputs(o, s, 1, 1));
        s->y = tensor_shape_of(s->x[0].n, o->out_h, o->out_w, s->x[0].c, s->x[0].type);
        return COV_OK;
    case OP_AVGPOOL:
        COV_TRY(need_inputs(o, s, 1, 1));
        s->y = tensor_shape_of(s->x[0].n, 1, 1, s->x[0].c, s->x[0].type);
        return COV_OK;
    case OP_RELU:
    case OP_SIGMOID:
    case OP_SOFTMAX:
        COV_TRY(need_inputs(o, s, 1, 1));
        s->y = s->x[0];
        return COV_OK;
    case OP_KIND_COUNT:
        break;
    }
    return COV_FAIL(COV_BROKEN, "op kind %d is unknown", (int)o->kind);
}

static int fuses_relu(op_kind k)
{
    return k == OP_CONV || k == OP_CONVT || k == OP_LINEAR || k == OP_GROUPNORM || k == OP_BATCHNORM || k == OP_ADD;
}

status op_infer(const op *o, op_shapes *s)
{
    size_t bytes;
    s->np = s->nsaved = 0;
    s->y = (tensor_shape){0};
    memset(s->p, 0, sizeof s->p);
    memset(s->saved, 0, sizeof s->saved);
    if (s->nx < 1 || s->nx > OP_MAX_X)
        return COV_FAIL(COV_BROKEN, "%s: %d inputs, expected 1 to %d", op_name(o->kind), s->nx, OP_MAX_X);
    for (int k = 0; k < s->nx; k++) COV_TRY(tensor_bytes(s->x[k], &bytes));
    if (s->x[0].type != TENSOR_F32 && s->x[0].type != TENSOR_BF16)
        return COV_FAIL(COV_BROKEN, "%s: input %s, expected f32 or bf16", op_name(o->kind), show(s->x[0]).s);
    if ((o->relu && !fuses_relu(o->kind)) || (o->residual && o->kind != OP_GROUPNORM && o->kind != OP_BATCHNORM))
        return COV_FAIL(COV_BROKEN, "%s: fuses no %s", op_name(o->kind), o->relu ? "ReLU" : "residual");
    COV_TRY(infer_kind(o, s));
    COV_TRY(tensor_bytes(s->y, &bytes));
    for (int k = 0; k < s->np; k++) COV_TRY(tensor_bytes(s->p[k], &bytes));
    for (int k = 0; k < s->nsaved; k++) COV_TRY(tensor_bytes(s->saved[k], &bytes));
    return COV_OK;
}

double op_flops(const op *o, const op_shapes *s)
{
    double weights = (double)s->p[0].n * (double)s->p[0].h * (double)s->p[0].w * (double)s->p[0].c;
    tensor_shape rows = o->kind == OP_CONVT ? s->x[0] : s->y; /* each of these meets every weight once */
    if (o->kind != OP_CONV && o->kind != OP_CONVT && o->kind != OP_LINEAR) return 0;
    return 2.0 * (double)rows.n * (double)rows.h * (double)rows.w * weights;
}
