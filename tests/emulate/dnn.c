/* dnn: takes cuDNN's place in the emulation: the same three results in plain loops that the compiler may reorder. So that
 * conv.c's other ways are run, too, it takes less than everything: bias and ReLU in one pass and weights of bf16 images
 * where channels are multiples of 8, and no window of 5. */
#include "kernels/cuda/dnn.h"

#include <stdlib.h>
#include <string.h>

struct dnn_conv {
    dnn_want want;
};

struct cuda_dnn {
    dnn_conv kept[1024]; /* one a want */
    int count;
};

status dnn_open(device *d, cuda_dnn **out)
{
    (void)d;
    *out = calloc(1, sizeof **out);
    return *out ? COV_OK : COV_FAIL(COV_NOMEM, "no memory for an emulated cuDNN");
}

void dnn_close(cuda_dnn **c)
{
    free(*c);
    *c = NULL;
}

size_t dnn_conv_workspace(const dnn_conv *c) { return (void)c, 64; }

status dnn_conv_find(device *d, const dnn_want *w, const dnn_conv **out)
{
    cuda_dnn *n = d->dnn;
    int even = w->pair.small.c % 8 == 0 && w->pair.large.c % 8 == 0, bf16 = w->pair.small.type == TENSOR_BF16;
    *out = NULL;
    if (w->pair.kernel == 5 || (!even && (w->bias || w->relu || (bf16 && w->result == DNN_WEIGHTS))))
        return COV_FAIL(COV_UNSUPPORTED, "the emulated cuDNN has no engine for this");
    for (int k = 0; k < n->count && !*out; k++)
        if (!memcmp(&n->kept[k].want, w, sizeof *w)) *out = &n->kept[k];
    if (*out) return COV_OK;
    if (n->count == (int)(sizeof n->kept / sizeof n->kept[0])) return COV_FAIL(COV_NOMEM, "the emulated cuDNN is full");
    n->kept[n->count].want = *w;
    *out = &n->kept[n->count++];
    return COV_OK;
}

static float *floats_of(tensor_type type, const void *x, size_t n)
{
    float *f = malloc((n + 1) * sizeof *f);
    for (size_t i = 0; f && i < n; i++) f[i] = type == TENSOR_BF16 ? tensor_f32_from_bf16(((const uint16_t *)x)[i]) : ((const float *)x)[i];
    return f;
}

/* One pixel pair of the two images and one tap: w is (cs, taps, cl). */
static void meet(dnn_result r, int64_t cs, int64_t cl, int64_t taps, float *small, float *large, float *w)
{
    for (int64_t s = 0; s < cs; s++) {
        float *tap = w + s * taps * cl, sum = 0, one = small[s];
        if (r == DNN_SMALL) {
            for (int64_t k = 0; k < cl; k++) sum += large[k] * tap[k];
            small[s] += sum;
        } else if (r == DNN_LARGE) {
            for (int64_t k = 0; k < cl; k++) large[k] += one * tap[k];
        } else {
            for (int64_t k = 0; k < cl; k++) tap[k] += one * large[k];
        }
    }
}

static void walk(const dnn_pair *g, dnn_result r, float *small, float *large, float *w)
{
    int64_t cs = g->small.c, cl = g->large.c, taps = (int64_t)g->kernel * g->kernel;
    for (int64_t n = 0; n < g->small.n; n++)
        for (int64_t y = 0; y < g->small.h; y++)
            for (int64_t x = 0; x < g->small.w; x++)
                for (int64_t t = 0; t < taps; t++) {
                    int64_t ly = y * g->stride - g->pad + t / g->kernel, lx = x * g->stride - g->pad + t % g->kernel;
                    if (ly < 0 || ly >= g->large.h || lx < 0 || lx >= g->large.w) continue;
                    meet(r, cs, cl, taps, small + ((n * g->small.h + y) * g->small.w + x) * cs,
                         large + ((n * g->large.h + ly) * g->large.w + lx) * cl, w + t * cl);
                }
}

static void give(const dnn_want *w, tensor_shape s, const float *from, const float *bias, void *out)
{
    size_t n = (size_t)(s.n * s.h * s.w * s.c);
    for (size_t i = 0; i < n; i++) {
        float v = from[i] + (w->bias ? bias[i % (size_t)s.c] : 0);
        if (w->relu && !(v > 0)) v = 0;
        if (s.type == TENSOR_BF16) ((uint16_t *)out)[i] = tensor_bf16_from_f32(v);
        else ((float *)out)[i] = v;
    }
}

typedef struct run {
    dnn_want want;
    const void *a, *b;
    const float *bias;
    void *out, *workspace;
} run;

static void convolve(void *context)
{
    const run *r = context;
    const dnn_want *w = &r->want;
    const dnn_pair *g = &w->pair;
    size_t n[3] = {(size_t)(g->small.n * g->small.h * g->small.w * g->small.c), (size_t)(g->large.n * g->large.h * g->large.w * g->large.c),
                   (size_t)(g->small.c * g->kernel * g->kernel * g->large.c)};
    size_t which = w->result == DNN_SMALL ? 0 : w->result == DNN_LARGE ? 1 : 2;
    tensor_type type = g->small.type;
    memset(r->workspace, 0xFF, 64);
    const void *in[3] = {r->a, w->result == DNN_SMALL ? r->a : r->b, r->b};
    float *f[3];
    for (size_t k = 0; k < 3; k++) f[k] = k == which ? calloc(n[k] + 1, sizeof(float)) : floats_of(type, in[k], n[k]);
    if (!f[0] || !f[1] || !f[2]) abort();
    walk(g, w->result, f[0], f[1], f[2]);
    if (which == 2) memcpy(r->out, f[2], n[2] * sizeof(float));
    else give(w, which == 0 ? g->small : g->large, f[which], r->bias, r->out);
    for (int k = 0; k < 3; k++) free(f[k]);
}

status dnn_conv_run(device *d, const dnn_conv *c, const void *a, const void *b, const float *bias, void *out, void *workspace)
{
    const run r = {.want = c->want, .a = a, .b = b, .bias = bias, .out = out, .workspace = workspace};
    (void)d;
    if (((uintptr_t)workspace | (uintptr_t)a | (uintptr_t)b | (uintptr_t)out) % 16) return COV_FAIL(COV_BROKEN, "cuDNN needs 16 bytes' alignment");
    CUDA_TRY(emulate_call(convolve, &r, sizeof r));
    return COV_OK;
}
