/* widen: convolutions and linear layers of a bf16 net on a processor whose oneDNN has none (below AVX-512): the same layer in
 * F32, with its activations widened before and rounded after. No faster than an F32 net, so `auto` does not choose bf16
 * there; but weights, checkpoints and runs that ask for bf16 work on every node, with one rounding an activation as
 * everywhere. Buffers are the plan's own: the inner plan uses the device's scratch area. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dnn.h"
#include <stdlib.h>

enum { WIDEN_X, WIDEN_Y, WIDEN_DX, WIDEN_DY, WIDEN_BUFFERS };

typedef struct widen_plan {
    plan base;
    plan *inner;
    size_t count[WIDEN_BUFFERS];
    float *buffer[WIDEN_BUFFERS];
} widen_plan;

static status widen_in(const widen_plan *p, const tensor *from, size_t count, float *buffer, tensor *to)
{
    *to = *from;
    to->shape.type = TENSOR_F32;
    if (from->data == NULL) return COV_OK;
    to->data = buffer;
    return cpu_convert(p->base.d, count, TENSOR_BF16, from->data, TENSOR_F32, buffer);
}

static status widen_out(const widen_plan *p, const tensor *to, size_t count, const float *buffer)
{
    if (to->data == NULL) return COV_OK;
    return cpu_convert(p->base.d, count, TENSOR_F32, buffer, TENSOR_BF16, to->data);
}

static status widen_run(plan *base, const op_args *a)
{
    widen_plan *p = (widen_plan *)base;
    op_args wide = *a;
    COV_TRY(widen_in(p, &a->x[0], p->count[WIDEN_X], p->buffer[WIDEN_X], &wide.x[0]));
    wide.y.shape.type = TENSOR_F32;
    wide.y.data = p->buffer[WIDEN_Y];
    if (base->pass == OP_FORWARD) {
        COV_TRY(p->inner->run(p->inner, &wide));
        return widen_out(p, &a->y, p->count[WIDEN_Y], p->buffer[WIDEN_Y]);
    }
    COV_TRY(widen_in(p, &a->y, p->count[WIDEN_Y], p->buffer[WIDEN_Y], &wide.y));
    COV_TRY(widen_in(p, &a->dy, p->count[WIDEN_DY], p->buffer[WIDEN_DY], &wide.dy));
    wide.dx[0].shape.type = TENSOR_F32;
    if (a->dx[0].data != NULL) wide.dx[0].data = p->buffer[WIDEN_DX];
    COV_TRY(p->inner->run(p->inner, &wide));
    return widen_out(p, &a->dx[0], p->count[WIDEN_DX], p->buffer[WIDEN_DX]);
}

static void widen_free(plan *base)
{
    widen_plan *p = (widen_plan *)base;
    if (p->inner != NULL && p->inner->free != NULL) p->inner->free(p->inner);
    free(p->inner);
    for (int k = 0; k < WIDEN_BUFFERS; k++) free(p->buffer[k]);
}

status cpu_widen_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    op_shapes wide = *s;
    wide.x[0].type = wide.y.type = TENSOR_F32;
    COV_TRY(cpu_plan_alloc(d, o, s, pass, sizeof(widen_plan), out));
    widen_plan *p = (widen_plan *)*out;
    p->base.run = widen_run;
    p->base.free = widen_free;
    for (int k = 0; k < (pass == OP_FORWARD ? WIDEN_DX : WIDEN_BUFFERS); k++) {
        const int is_x = k == WIDEN_X || k == WIDEN_DX;
        COV_TRY(tensor_count(is_x ? s->x[0] : s->y, &p->count[k]));
        COV_TRY(cpu_memory_new(p->count[k] * sizeof(float), (void **)&p->buffer[k]));
    }
    return cpu_conv_plan(d, o, &wide, pass, &p->inner);
}
