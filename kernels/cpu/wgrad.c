/* wgrad: see wgrad.h; here the loops for F32, and the choice between them and wgrad_amx.c. A strip is as many rows
 * of one image as let x and dy stay in half a core's L2 while every tile of dw passes over them. Threads part the
 * outputs, four at a time, and each goes through all strips in order. */
#include "kernels/cpu/wgrad.h"
#include "kernels/cpu/vec.h"
#include "kernels/cpu/wgrad_amx.h"

enum { WGRAD_OUTPUTS = 4 };
static const int64_t WGRAD_STRIP_BYTES = (int64_t)256 << 10;

typedef struct wgrad {
    int64_t h, w, ci, wo, co;
    int64_t kernel, stride, pad;
} wgrad;

/* Rows [from, to) of one image's output. */
typedef struct wgrad_strip {
    const wgrad *g;
    const float *x, *dy; /* of the image */
    float *dw;
    int64_t from, to;
} wgrad_strip;

#define VEC_BODY "kernels/cpu/wgrad_body.h"
#include "kernels/cpu/vec_isas.h"

typedef void wgrad_leaf(const wgrad_strip *t, int64_t o);
VEC_TABLE(wgrad_leaf, wgrad_outputs);

int wgrad_fits(const device *d, const op *o, const op_shapes *s)
{
    const int64_t ci = s->x[0].c, co = s->y.c, register_floats = d->isa == 2 ? 16 : 8;
    if (wgrad_amx_fits(d, o, s)) return 1;
    return d->isa > 0 && o->kind == OP_CONV && s->x[0].type == TENSOR_F32 && o->kernel > 1 && ci % register_floats == 0 &&
           co % WGRAD_OUTPUTS == 0;
}

static void wgrad_run_f32(const device *d, const op *o, const op_shapes *s, const float *x, const float *dy, float *dw)
{
    const wgrad g = {.h = s->x[0].h, .w = s->x[0].w, .ci = s->x[0].c, .wo = s->y.w, .co = s->y.c,
                     .kernel = o->kernel, .stride = o->stride, .pad = o->pad};
    const int64_t row = (g.w * g.ci * g.stride + g.wo * g.co) * (int64_t)sizeof(float);
    const int64_t rows = row < WGRAD_STRIP_BYTES ? WGRAD_STRIP_BYTES / row : 1;
#pragma omp parallel for schedule(static, 1) num_threads(d->threads)
    for (int64_t k = 0; k < g.co; k += WGRAD_OUTPUTS)
        for (int64_t n = 0; n < s->x[0].n; n++)
            for (int64_t from = 0; from < s->y.h; from += rows) {
                const wgrad_strip t = {.g = &g, .x = x + n * g.h * g.w * g.ci, .dy = dy + n * s->y.h * g.wo * g.co, .dw = dw,
                                       .from = from, .to = from + rows < s->y.h ? from + rows : s->y.h};
                VEC_PICK(d, wgrad_outputs)(&t, k);
            }
}

size_t wgrad_scratch(const device *d, const op *o, const op_shapes *s)
{
    return wgrad_amx_fits(d, o, s) ? wgrad_amx_scratch(d, o, s) : 0;
}

void wgrad_run(const device *d, const op *o, const op_shapes *s, const void *x, const void *dy, float *dw, void *scratch)
{
    if (wgrad_amx_fits(d, o, s)) wgrad_amx_run(d, o, s, x, dy, dw, scratch);
    else wgrad_run_f32(d, o, s, x, dy, dw);
}
