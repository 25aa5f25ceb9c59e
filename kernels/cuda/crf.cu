/* crf: the fully connected CRF by mean field, a batch of slices at once: the filter of kernels/cpu/crf.c (docs/CRF.md),
 * on the same grid, a thread a pixel or a node.
 *
 * An iteration: splat (each pixel adds to its 8 nodes), blur along intensity, x and y, filter the smoothness kernel
 * along rows and columns (or on a grid of its own where it is wide), then slice and update. Splats add in 64-bit fixed
 * point, so that the order of threads changes no byte. Where the grid would be dearer than the sum itself, the sum is
 * taken over a window of pixels. A slice whose Q no longer moves is left alone by all later kernels. */
#include "kernels/cuda/launch.cuh"
extern "C" {
#include "kernels/crf_grid.h"
}
#include <math.h>
#include <stdlib.h>

enum { MAX_NODES = 1 << 26, SCALE_BITS = 36 };
static const float WIDEST_FIR = 8; /* theta_gamma beyond which the smoothness kernel takes a grid */
static const size_t MEMORY_MOST = (size_t)1 << 30;

/* What all kernels see: n slices, their arrays on the device, pixels p = h * w each. */
struct field {
    crf_options o;
    int64_t n, h, w;
    crf_grid grid, smooth;
    int64_t nodes, smooth_nodes; /* of a slice */
    int window, fir;             /* radius of the plain sum in place of the grid, 0: grid; of the smoothness filter, 0: grid */
    float taps[CRF_RADIUS + 1];
    const float *logit, *intensity;
    float *level, *d, *scale_a, *scale_s, *row, *sum_s; /* (n, p) each */
    unsigned long long *fixed, *smooth_fixed;           /* (n, nodes) */
    float *node[2], *smooth_node[2];
    int *moved; /* (iterations, n), then one: a logit is not finite */
};

/* ---- grids: index of node (y, x, level) of a slice is (y * nx + x) * levels + level; a smooth grid has one level */
__device__ __forceinline__ int64_t levels_of(const crf_grid &g) { return g.per_gray > 0 ? g.levels : 1; }

struct corner {
    int64_t at; /* the first of the 8 */
    float fy, fx, fi;
};
__device__ __forceinline__ corner corner_of(const crf_grid &g, int64_t y, int64_t x, float level)
{
    corner c;
    int low = (int)level;
    c.at = ((y / g.cell) * g.nx + x / g.cell) * levels_of(g) + (g.per_gray > 0 ? low : 0);
    c.fy = (float)(y % g.cell) / (float)g.cell;
    c.fx = (float)(x % g.cell) / (float)g.cell;
    c.fi = level - (float)low;
    return c;
}

__device__ __forceinline__ void fixed_add(unsigned long long *to, float v)
{
    if (v != 0) atomicAdd(to, (unsigned long long)(long long)llrintf(v * (float)(1ll << SCALE_BITS)));
}

__device__ inline void splat(const crf_grid &g, unsigned long long *node, const corner &c, float v)
{
    int64_t levels = levels_of(g);
    for (int k = 0; k < 4; k++) {
        float part = v * (k / 2 ? c.fy : 1 - c.fy) * (k % 2 ? c.fx : 1 - c.fx);
        unsigned long long *at = node + c.at + (k / 2) * g.nx * levels + (k % 2) * levels;
        if (g.per_gray > 0) {
            fixed_add(at, part * (1 - c.fi));
            fixed_add(at + 1, part * c.fi);
        } else {
            fixed_add(at, part);
        }
    }
}

__device__ inline float slice(const crf_grid &g, const float *node, const corner &c)
{
    int64_t levels = levels_of(g);
    float sum = 0;
    for (int k = 0; k < 4; k++) {
        const float *at = node + c.at + (k / 2) * g.nx * levels + (k % 2) * levels;
        float v = g.per_gray > 0 ? at[0] * (1 - c.fi) + at[1] * c.fi : at[0];
        sum += v * (k / 2 ? c.fy : 1 - c.fy) * (k % 2 ? c.fx : 1 - c.fx);
    }
    return sum;
}

/* ---- kernels; moving: (n) of the iteration before, NULL: all slices are */
struct crf_kernel {
    field f;
    const int *moving;
    __device__ bool rests(int64_t slice) const { return moving && !moving[slice]; }
};

struct load_pixel {
    field f;
    __device__ void operator()(int64_t i) const
    {
        float t = f.intensity[i];
        t = t > 0 ? t : 0; /* a NaN too */
        t = t < 255 ? t : 255;
        f.level[i] = t * f.grid.per_gray;
        f.d[i] = f.scale_a[i] = f.scale_s[i] = 1; /* what the row sums are made of */
        if (!isfinite(f.logit[i])) f.moved[(int64_t)f.o.iterations * f.n] = 1;
    }
};

struct splat_pixel : crf_kernel {
    __device__ void operator()(int64_t i) const
    {
        int64_t p = f.h * f.w, s = i / p, y = i % p / f.w, x = i % f.w;
        if (rests(s)) return;
        if (!f.window) splat(f.grid, f.fixed + s * f.nodes, corner_of(f.grid, y, x, f.level[i]), f.scale_a[i] * f.d[i]);
        if (!f.fir) splat(f.smooth, f.smooth_fixed + s * f.smooth_nodes, corner_of(f.smooth, y, x, 0), f.scale_s[i] * f.d[i]);
    }
};

/* Node i of a line of `count` nodes that lie `step` apart: the sum of taps over its neighbours. get(offset) reads one. */
template <class G> __device__ __forceinline__ float blurred(const G &get, int64_t at, int64_t count, int64_t step, int radius, const float *taps)
{
    float sum = 0;
    for (int k = -radius; k <= radius; k++)
        if (at + k >= 0 && at + k < count) sum += taps[k < 0 ? -k : k] * get(k * step);
    return sum;
}

struct from_fixed {
    const unsigned long long *p;
    __device__ float operator()(int64_t k) const { return (float)((double)(long long)p[k] * (1.0 / (double)(1ll << SCALE_BITS))); }
};
struct from_float {
    const float *p;
    __device__ float operator()(int64_t k) const { return p[k]; }
};

/* axis 0: intensity, from fixed point to `to`; 1: x, 2: y, from `from` to `to`. */
struct blur_node : crf_kernel {
    crf_grid g;
    int64_t nodes;
    int axis;
    const unsigned long long *fixed;
    const float *from;
    float *to;
    __device__ void operator()(int64_t i) const
    {
        int64_t levels = levels_of(g), level = i % levels, x = i / levels % g.nx, y = i / levels / g.nx % g.ny;
        if (rests(i / nodes)) return;
        if (axis == 0)
            to[i] = g.per_gray > 0 ? blurred(from_fixed{fixed + i}, level, levels, 1, g.radius_i, g.taps_i) : from_fixed{fixed + i}(0);
        else if (axis == 1) to[i] = blurred(from_float{from + i}, x, g.nx, levels, g.radius, g.taps);
        else to[i] = blurred(from_float{from + i}, y, g.ny, g.nx * levels, g.radius, g.taps);
    }
};

/* The smoothness filter along x, of scale_s * d; then along y. */
struct fir_row : crf_kernel {
    struct scaled {
        const float *scale, *d;
        __device__ float operator()(int64_t k) const { return scale[k] * d[k]; }
    };
    __device__ void operator()(int64_t i) const
    {
        if (!rests(i / (f.h * f.w))) f.row[i] = blurred(scaled{f.scale_s + i, f.d + i}, i % f.w, f.w, 1, f.fir, f.taps);
    }
};
struct fir_column : crf_kernel {
    __device__ void operator()(int64_t i) const
    {
        if (!rests(i / (f.h * f.w))) f.sum_s[i] = blurred(from_float{f.row + i}, i / f.w % f.h, f.h, f.w, f.fir, f.taps);
    }
};

/* The plain sum over a window; level is in units of theta_beta / CRF_LEVELS_A_SIGMA. */
__device__ inline float window_sum(const field &f, int64_t i)
{
    int64_t p = f.h * f.w, y = i % p / f.w, x = i % f.w;
    float sum = 0, near = -0.5f / (f.o.theta_alpha * f.o.theta_alpha), alike = -0.5f / (float)(CRF_LEVELS_A_SIGMA * CRF_LEVELS_A_SIGMA);
    for (int dy = -f.window; dy <= f.window; dy++) {
        if (y + dy < 0 || y + dy >= f.h) continue;
        float row = 0;
        for (int dx = -f.window; dx <= f.window; dx++) {
            if (x + dx < 0 || x + dx >= f.w) continue;
            int64_t j = i + dy * f.w + dx;
            float t = f.level[i] - f.level[j];
            row += expf(near * (float)(dx * dx) + alike * t * t) * f.scale_a[j] * f.d[j];
        }
        sum += expf(near * (float)(dy * dy)) * row;
    }
    return sum;
}

/* A and S of pixel i: the kernels' plain sums of the scaled d. */
__device__ inline void sums_of(const field &f, int64_t i, float *a, float *s)
{
    int64_t p = f.h * f.w, slice_number = i / p, y = i % p / f.w, x = i % f.w;
    *a = f.window ? f.sum_s[f.n * p + i] : slice(f.grid, f.node[0] + slice_number * f.nodes, corner_of(f.grid, y, x, f.level[i]));
    *s = f.fir ? f.sum_s[i] : slice(f.smooth, f.smooth_node[0] + slice_number * f.smooth_nodes, corner_of(f.smooth, y, x, 0));
}

/* The window's sum must be whole before any d changes: it has an array of its own, behind sum_s. */
struct window_pixel : crf_kernel {
    __device__ void operator()(int64_t i) const
    {
        if (!rests(i / (f.h * f.w))) f.sum_s[f.n * f.h * f.w + i] = window_sum(f, i);
    }
};

/* Scales from the row sums, and the first d. */
struct scale_pixel {
    field f;
    __device__ void operator()(int64_t i) const
    {
        float a, s;
        sums_of(f, i, &a, &s);
        f.scale_a[i] = 1 / sqrtf(a);
        f.scale_s[i] = 1 / sqrtf(s);
        f.d[i] = tanhf(0.5f * f.logit[i]);
    }
};

struct update_pixel : crf_kernel {
    int *moved; /* of this iteration */
    __device__ void operator()(int64_t i) const
    {
        int64_t slice_number = i / (f.h * f.w);
        float a, s, before = f.d[i];
        if (rests(slice_number)) return;
        sums_of(f, i, &a, &s);
        float after = tanhf(0.5f * (f.logit[i] + f.o.w_appearance * f.scale_a[i] * a + f.o.w_smooth * f.scale_s[i] * s));
        f.d[i] = after;
        if (fabsf(after - before) > 2 * f.o.tolerance) moved[slice_number] = 1; /* whoever writes, writes 1 */
    }
};

struct give_pixel {
    field f;
    float *probability;
    __device__ void operator()(int64_t i) const { probability[i] = 0.5f + 0.5f * f.d[i]; }
};

/* ---- the host's side */
static field field_plan(const crf_options *o, const crf_batch *b)
{
    field f = {};
    f.o = *o;
    f.h = b->h;
    f.w = b->w;
    f.grid = crf_grid_plan(b->h, b->w, o->theta_alpha, o->theta_beta);
    int64_t radius = (int64_t)ceilf(3.33f * o->theta_alpha), taps = (2 * radius + 1) * (2 * radius + 1);
    if (f.grid.nodes > MAX_NODES || 4 * f.grid.nodes > b->h * b->w * taps * 8 / 5) f.window = (int)radius; /* as the CPU decides */
    f.nodes = f.window ? 0 : f.grid.ny * f.grid.nx * f.grid.levels;
    if (o->theta_gamma <= WIDEST_FIR) {
        f.fir = crf_grid_taps((double)o->theta_gamma * (double)o->theta_gamma, f.taps);
    } else {
        f.smooth = crf_grid_plan(b->h, b->w, o->theta_gamma, 0);
        f.smooth_nodes = f.smooth.ny * f.smooth.nx;
    }
    return f;
}

/* Gives out `bytes` at a multiple of 256; with base NULL it only counts. */
static void *carve(char *base, size_t *end, size_t bytes)
{
    void *at = base ? base + *end : NULL;
    *end += (bytes + 255) / 256 * 256;
    return at;
}

/* All arrays of f->n slices; returns their bytes. */
static size_t lay_out(field *f, char *base)
{
    size_t end = 0, image = (size_t)(f->n * f->h * f->w) * sizeof(float), nodes = (size_t)(f->n * f->nodes),
           smooth = (size_t)(f->n * f->smooth_nodes);
    float **images[] = {&f->level, &f->d, &f->scale_a, &f->scale_s, &f->row};
    for (float **at : images) *at = (float *)carve(base, &end, image);
    f->sum_s = (float *)carve(base, &end, f->window ? 2 * image : image);
    f->fixed = (unsigned long long *)carve(base, &end, nodes * sizeof *f->fixed);
    f->smooth_fixed = (unsigned long long *)carve(base, &end, smooth * sizeof *f->fixed);
    for (int k = 0; k < 2; k++) {
        f->node[k] = (float *)carve(base, &end, nodes * sizeof(float));
        f->smooth_node[k] = (float *)carve(base, &end, smooth * sizeof(float));
    }
    f->moved = (int *)carve(base, &end, (size_t)((int64_t)f->o.iterations * f->n + 1) * sizeof(int));
    return end;
}

static status blur(device *d, const crf_kernel &k, const crf_grid &g, int64_t nodes, const unsigned long long *fixed, float *const node[2])
{
    const float *from[3] = {NULL, node[0], node[1]};
    float *to[3] = {node[0], node[1], node[0]};
    for (int axis = 0; axis < 3; axis++) {
        blur_node b;
        *(crf_kernel *)&b = k;
        b.g = g;
        b.nodes = nodes;
        b.axis = axis;
        b.fixed = fixed;
        b.from = from[axis];
        b.to = to[axis];
        COV_TRY(each(d, k.f.n * nodes, b));
    }
    return COV_OK;
}

template <class K> static K kernel_of(const crf_kernel &k)
{
    K out;
    *(crf_kernel *)&out = k;
    return out;
}

/* Both kernels' sums of the d there are. */
static status filter(device *d, const crf_kernel &k)
{
    const field &f = k.f;
    int64_t pixels = f.n * f.h * f.w;
    if (!f.window) CUDA_TRY(cudaMemsetAsync(f.fixed, 0, (size_t)(f.n * f.nodes) * sizeof *f.fixed, d->stream));
    if (!f.fir) CUDA_TRY(cudaMemsetAsync(f.smooth_fixed, 0, (size_t)(f.n * f.smooth_nodes) * sizeof *f.fixed, d->stream));
    if (!f.window || !f.fir) COV_TRY(each(d, pixels, kernel_of<splat_pixel>(k)));
    if (f.window) COV_TRY(each(d, pixels, kernel_of<window_pixel>(k)));
    else COV_TRY(blur(d, k, f.grid, f.nodes, f.fixed, f.node));
    if (!f.fir) return blur(d, k, f.smooth, f.smooth_nodes, f.smooth_fixed, f.smooth_node);
    COV_TRY(each(d, pixels, kernel_of<fir_row>(k)));
    return each(d, pixels, kernel_of<fir_column>(k));
}

/* Iterations of each slice from what moved when; COV_BROKEN where a logit is not finite. */
static status judge(device *d, const field &f, int *done)
{
    size_t count = (size_t)((int64_t)f.o.iterations * f.n + 1);
    int *moved = (int *)malloc(count * sizeof *moved), bad;
    if (!moved) return COV_FAIL(COV_NOMEM, "crf: no memory for %zu flags", count);
    cudaError_t e = cudaMemcpyAsync(moved, f.moved, count * sizeof *moved, cudaMemcpyDeviceToHost, d->stream);
    if (e == cudaSuccess) e = cudaStreamSynchronize(d->stream);
    bad = e == cudaSuccess && moved[count - 1];
    for (int64_t s = 0; e == cudaSuccess && done && s < f.n; s++) {
        int k = 0;
        while (k < f.o.iterations && (k == 0 || f.o.tolerance == 0.0f || moved[(k - 1) * f.n + s])) k++;
        done[s] = k;
    }
    free(moved);
    CUDA_TRY(e);
    return bad ? COV_FAIL(COV_BROKEN, "crf: a logit is not finite") : COV_OK;
}

static status run(device *d, field f, float *probability, int *done)
{
    int64_t pixels = f.n * f.h * f.w;
    crf_kernel k = {f, NULL};
    CUDA_TRY(cudaMemsetAsync(f.moved, 0, (size_t)((int64_t)f.o.iterations * f.n + 1) * sizeof(int), d->stream));
    COV_TRY(each(d, pixels, load_pixel{f}));
    COV_TRY(filter(d, k));
    COV_TRY(each(d, pixels, scale_pixel{f}));
    for (int i = 0; i < f.o.iterations; i++) {
        k.moving = i == 0 || f.o.tolerance == 0.0f ? NULL : f.moved + (int64_t)(i - 1) * f.n;
        COV_TRY(filter(d, k));
        update_pixel u;
        *(crf_kernel *)&u = k;
        u.moved = f.moved + (int64_t)i * f.n;
        COV_TRY(each(d, pixels, u));
    }
    COV_TRY(each(d, pixels, give_pixel{f, probability}));
    return judge(d, f, done);
}

extern "C" status cuda_crf(device *d, const crf_options *o, const crf_batch *b)
{
    COV_TRY(crf_check(o, b));
    if (b->n == 0) return COV_OK;
    CUDA_TRY(cudaSetDevice(d->ordinal));
    field f = field_plan(o, b);
    f.n = 1;
    int64_t most = (int64_t)(MEMORY_MOST / lay_out(&f, NULL)), area = b->h * b->w;
    if (most < 1) most = 1;
    for (int64_t at = 0; at < b->n; at += f.n) {
        f.n = b->n - at < most ? b->n - at : most;
        COV_TRY(cuda_reserve(d, lay_out(&f, NULL)));
        lay_out(&f, (char *)d->scratch);
        f.logit = b->logit + at * area;
        f.intensity = b->intensity + at * area;
        COV_TRY(run(d, f, b->probability + at * area, b->iterations_done ? b->iterations_done + at : NULL));
    }
    return COV_OK;
}
