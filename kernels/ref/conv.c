/* ref/conv: convolution, transposed convolution and linear, forward and backward.
 *
 * Both convolutions join a small image (CONV's output, CONVT's input) and a large one (CONV's input, CONVT's output)
 * by the same rule, large = small * stride - pad + k, and the same weights (c_small, k, k, c_large). One is the
 * other's gradient, so three loops serve all: small from large, large from small, weights from both. */
#include "kernels/ref/ref.h"

typedef struct pair {
    tensor_shape small, large;
    int64_t kernel, stride, pad;
} pair;

static pair pair_of(const op *o, tensor_shape small, tensor_shape large)
{
    if (o->kind == OP_LINEAR) return (pair){small, large, 1, 1, 0};
    return (pair){small, large, o->kernel, o->stride, o->pad};
}

/* The large image's coordinate that tap k of the small image's coordinate i meets; -1 outside. */
static int64_t large_at(const pair *g, int64_t i, int64_t k, int64_t size)
{
    int64_t at = i * g->stride - g->pad + k;
    return at >= 0 && at < size ? at : -1;
}

/* The small image's coordinate whose tap k meets the large image's coordinate i; -1 if there is none. */
static int64_t small_at(const pair *g, int64_t i, int64_t k, int64_t size)
{
    int64_t at = i + g->pad - k;
    return at >= 0 && at % g->stride == 0 && at / g->stride < size ? at / g->stride : -1;
}

static int64_t weight_at(const pair *g, int64_t cs, int64_t ky, int64_t kx)
{
    return ((cs * g->kernel + ky) * g->kernel + kx) * g->large.c;
}

/* One element of the small image: the sum over the window and the large image's channels. */
static double small_element(const pair *g, const float *large, const float *w, int64_t n, int64_t y, int64_t x,
                            int64_t cs)
{
    double sum = 0;
    for (int64_t ky = 0; ky < g->kernel; ky++)
        for (int64_t kx = 0; kx < g->kernel; kx++) {
            int64_t ly = large_at(g, y, ky, g->large.h), lx = large_at(g, x, kx, g->large.w);
            if (ly < 0 || lx < 0) continue;
            const float *in = large + ref_at(g->large, n, ly, lx), *tap = w + weight_at(g, cs, ky, kx);
            for (int64_t cl = 0; cl < g->large.c; cl++) sum += (double)in[cl] * tap[cl];
        }
    return sum;
}

static double large_element(const pair *g, const float *small, const float *w, int64_t n, int64_t y, int64_t x,
                            int64_t cl)
{
    double sum = 0;
    for (int64_t ky = 0; ky < g->kernel; ky++)
        for (int64_t kx = 0; kx < g->kernel; kx++) {
            int64_t sy = small_at(g, y, ky, g->small.h), sx = small_at(g, x, kx, g->small.w);
            if (sy < 0 || sx < 0) continue;
            const float *in = small + ref_at(g->small, n, sy, sx);
            for (int64_t cs = 0; cs < g->small.c; cs++) sum += (double)in[cs] * w[weight_at(g, cs, ky, kx) + cl];
        }
    return sum;
}

static double weight_element(const pair *g, const float *small, const float *large, int64_t cs, int64_t ky, int64_t kx,
                             int64_t cl)
{
    double sum = 0;
    for (int64_t n = 0; n < g->small.n; n++)
        for (int64_t y = 0; y < g->small.h; y++)
            for (int64_t x = 0; x < g->small.w; x++) {
                int64_t ly = large_at(g, y, ky, g->large.h), lx = large_at(g, x, kx, g->large.w);
                if (ly < 0 || lx < 0) continue;
                sum += (double)small[ref_at(g->small, n, y, x) + cs] * large[ref_at(g->large, n, ly, lx) + cl];
            }
    return sum;
}

static void small_from_large(const pair *g, const float *large, const float *w, const float *bias, float *small)
{
    for (int64_t n = 0; n < g->small.n; n++)
        for (int64_t y = 0; y < g->small.h; y++)
            for (int64_t x = 0; x < g->small.w; x++)
                for (int64_t cs = 0; cs < g->small.c; cs++)
                    small[ref_at(g->small, n, y, x) + cs] =
                        (float)(small_element(g, large, w, n, y, x, cs) + (bias ? bias[cs] : 0));
}

static void large_from_small(const pair *g, const float *small, const float *w, const float *bias, float *large)
{
    for (int64_t n = 0; n < g->large.n; n++)
        for (int64_t y = 0; y < g->large.h; y++)
            for (int64_t x = 0; x < g->large.w; x++)
                for (int64_t cl = 0; cl < g->large.c; cl++)
                    large[ref_at(g->large, n, y, x) + cl] =
                        (float)(large_element(g, small, w, n, y, x, cl) + (bias ? bias[cl] : 0));
}

static void add_weights(const pair *g, const float *small, const float *large, float *dw)
{
    for (int64_t cs = 0; cs < g->small.c; cs++)
        for (int64_t ky = 0; ky < g->kernel; ky++)
            for (int64_t kx = 0; kx < g->kernel; kx++)
                for (int64_t cl = 0; cl < g->large.c; cl++)
                    dw[weight_at(g, cs, ky, kx) + cl] += (float)weight_element(g, small, large, cs, ky, kx, cl);
}

static void add_bias(const ref_run *r)
{
    int64_t c = r->s->y.c, rows = ref_count(r->s->y) / c;
    if (!r->o->bias || !r->dp[1]) return;
    for (int64_t k = 0; k < c; k++) {
        double sum = 0;
        for (int64_t i = 0; i < rows; i++) sum += r->dy[i * c + k];
        r->dp[1][k] += (float)sum;
    }
}

void ref_conv_forward(const ref_run *r)
{
    pair g = pair_of(r->o, r->s->y, r->s->x[0]);
    small_from_large(&g, r->x[0], r->p[0], r->o->bias ? r->p[1] : NULL, r->y);
}

void ref_conv_backward(const ref_run *r)
{
    pair g = pair_of(r->o, r->s->y, r->s->x[0]);
    if (r->dx[0]) large_from_small(&g, r->dy, r->p[0], NULL, r->dx[0]);
    if (r->dp[0]) add_weights(&g, r->dy, r->x[0], r->dp[0]);
    add_bias(r);
}

void ref_convt_forward(const ref_run *r)
{
    pair g = pair_of(r->o, r->s->x[0], r->s->y);
    large_from_small(&g, r->x[0], r->p[0], r->o->bias ? r->p[1] : NULL, r->y);
}

void ref_convt_backward(const ref_run *r)
{
    pair g = pair_of(r->o, r->s->x[0], r->s->y);
    if (r->dx[0]) small_from_large(&g, r->dy, r->p[0], NULL, r->dx[0]);
    if (r->dp[0]) add_weights(&g, r->x[0], r->dy, r->dp[0]);
    add_bias(r);
}
