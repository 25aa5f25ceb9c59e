/* crf: the fully connected CRF by mean field, a batch of slices at once: the filter of kernels/cpu/crf.c (docs/CRF.md),
 * on the same grid.
 *
 * An iteration: the appearance kernel's grid is filled and blurred (grid.cuh), the smoothness kernel filters rows; then
 * one kernel filters columns, slices and updates (where the smoothness kernel is wide it has a grid too). Where the grid
 * would be dearer than the sum itself, the sum is taken over a window of pixels. A slice whose Q no longer moves is left
 * alone by all later kernels: every block has one slice and asks first. */
#include "kernels/cuda/grid.cuh"
#include <math.h>
#include <stdlib.h>

enum {
    MAX_NODES = 1 << 26,
    MAX_SLICES = 65535,  /* of a batch: blocks along z */
    SEGMENT = 2 * BLOCK, /* pixels of a row that a block filters */
    RUN = 8,             /* pixels of a column that a thread filters */
    ACROSS = 32          /* columns of a block that filters columns */
};
static const float WIDEST_FIR = 8; /* theta_gamma beyond which the smoothness kernel takes a grid */
static const size_t MEMORY_MOST = (size_t)1 << 30;

/* What all kernels see: n slices and their arrays on the device. */
struct field {
    crf_options o;
    int64_t n;
    int h, w, window, fir; /* radius of the plain sum in place of the grid, 0: grid; of the smoothness filter, 0: grid */
    grid appearance, smooth;
    float per_gray, taps[CRF_RADIUS + 1];
    const float *logit, *intensity;
    float *level, *d, *scale_a, *scale_s, *row, *window_sum; /* (n, h, w) each */
    int *moved;                                              /* (iterations, n), then one: a logit is not finite */
};

/* ---- kernels; moving: (n) of the iteration before, NULL: all slices are */
struct load_pixel {
    field f;
    __device__ void operator()(int64_t i) const
    {
        float t = f.intensity[i];
        t = t > 0 ? t : 0; /* a NaN too */
        t = t < 255 ? t : 255;
        f.level[i] = t * f.per_gray;
        f.d[i] = f.scale_a[i] = f.scale_s[i] = 1; /* what the row sums are made of */
        if (!isfinite(f.logit[i])) f.moved[(int64_t)f.o.iterations * f.n] = 1;
    }
};

/* The smoothness filter along x, of scale_s * d. Block (segment, row, slice). */
__global__ void __launch_bounds__(BLOCK) row_kernel(field f, const int *moving)
{
    __shared__ float line[SEGMENT + 2 * CRF_RADIUS];
    if (moving && !moving[blockIdx.z]) return;
    int first = (int)blockIdx.x * SEGMENT, t = (int)threadIdx.x;
    int64_t at = ((int64_t)blockIdx.z * f.h + blockIdx.y) * f.w;
    for (int k = t; k < SEGMENT + 2 * f.fir; k += BLOCK) {
        int x = first - f.fir + k;
        line[k] = x >= 0 && x < f.w ? f.scale_s[at + x] * f.d[at + x] : 0;
    }
    __syncthreads();
    float sum[SEGMENT / BLOCK];
    const float *middle = line + f.fir + t;
#pragma unroll
    for (int j = 0; j < SEGMENT / BLOCK; j++) sum[j] = f.taps[0] * middle[j * BLOCK];
    for (int k = 1; k <= f.fir; k++)
#pragma unroll
        for (int j = 0; j < SEGMENT / BLOCK; j++) sum[j] += f.taps[k] * (middle[j * BLOCK - k] + middle[j * BLOCK + k]);
#pragma unroll
    for (int j = 0; j < SEGMENT / BLOCK; j++)
        if (first + j * BLOCK + t < f.w) f.row[at + first + j * BLOCK + t] = sum[j];
}

/* Along y, of pixels y...y + RUN - 1 of column x: RUN neighbours are in registers, and move on by one from tap to tap. */
__device__ __forceinline__ void column(const field &f, int64_t slice, int y, int x, float sum[RUN])
{
    int first = y - f.fir, h = f.h, w = f.w;
    const float *next = f.row + (slice * h + first) * w + x;
    float v[RUN];
#pragma unroll
    for (int j = 0; j < RUN; j++, next += w) {
        v[j] = (unsigned)(first + j) < (unsigned)h ? *next : 0;
        sum[j] = 0;
    }
#pragma unroll 8
    for (int k = -f.fir; k <= f.fir; k++, next += w) {
        float tap = f.taps[k < 0 ? -k : k];
#pragma unroll
        for (int j = 0; j < RUN; j++) sum[j] += tap * v[j];
#pragma unroll
        for (int j = 0; j < RUN - 1; j++) v[j] = v[j + 1];
        v[RUN - 1] = (unsigned)(y + k + RUN) < (unsigned)h ? *next : 0;
    }
}

/* From both kernels' plain sums of the scaled d, a and s, for pixel i: its log odds, and what is to be kept. */
struct update_pixel {
    __device__ float odds(const field &f, int64_t i, float a, float s) const
    {
        return f.logit[i] + f.o.w_appearance * f.scale_a[i] * a + f.o.w_smooth * f.scale_s[i] * s;
    }
    __device__ void keep(const field &, int64_t, float, float) const {}
};
struct scale_pixel { /* the sums are row sums */
    __device__ float odds(const field &f, int64_t i, float, float) const { return f.logit[i]; }
    __device__ void keep(const field &f, int64_t i, float a, float s) const
    {
        f.scale_a[i] = 1 / sqrtf(a);
        f.scale_s[i] = 1 / sqrtf(s);
    }
};

/* d from the sums. Block (ACROSS columns, rows, slice); a thread has RUN pixels of a column. Loads come before stores, which
 * they could not pass; below the image they take the last row again. moved: (n), set where d moves by more than the
 * tolerance; NULL: nobody asks. */
template <class F> __global__ void __launch_bounds__(BLOCK) sums_kernel(field f, const int *moving, int *moved, F finish)
{
    int64_t slice = blockIdx.z;
    int x = (int)blockIdx.x * ACROSS + (int)threadIdx.x % ACROSS;
    int y = ((int)blockIdx.y * (BLOCK / ACROSS) + (int)threadIdx.x / ACROSS) * RUN, last = f.h - 1 - y;
    if ((moving && !moving[slice]) || x >= f.w || last < 0) return;
    int64_t at = (slice * f.h + y) * f.w + x, i[RUN];
    float a[RUN], s[RUN], d[RUN];
#pragma unroll
    for (int k = 0; k < RUN; k++) i[k] = at + (int64_t)(k < last ? k : last) * f.w;
    if (f.fir) column(f, slice, y, x, s);
    else grid_slice_column<RUN>(f.smooth, slice, y, x, NULL, s);
    if (!f.window) grid_slice_column<RUN>(f.appearance, slice, y, x, f.level + at, a);
#pragma unroll
    for (int k = 0; k < RUN; k++) {
        if (f.window) a[k] = f.window_sum[i[k]];
        d[k] = finish.odds(f, i[k], a[k], s[k]);
    }
    bool moves = false;
#pragma unroll
    for (int k = 0; k < RUN; k++) {
        d[k] = tanhf(0.5f * d[k]);
        if (moved && k <= last) moves |= fabsf(d[k] - f.d[i[k]]) > 2 * f.o.tolerance;
    }
#pragma unroll
    for (int k = 0; k < RUN; k++) {
        if (k > last) break;
        finish.keep(f, i[k], a[k], s[k]);
        f.d[i[k]] = d[k];
    }
    if (moves) moved[slice] = 1; /* whoever writes, writes 1 */
}

/* The plain sum over a window; level is in units of theta_beta / CRF_LEVELS_A_SIGMA. Block (pixels, row, slice). */
__global__ void __launch_bounds__(BLOCK) window_kernel(field f, const int *moving)
{
    int y = (int)blockIdx.y, x = (int)thread_number();
    if ((moving && !moving[blockIdx.z]) || x >= f.w) return;
    int64_t i = ((int64_t)blockIdx.z * f.h + y) * f.w + x;
    float sum = 0, near = -0.5f / (f.o.theta_alpha * f.o.theta_alpha), alike = -0.5f / (float)(CRF_LEVELS_A_SIGMA * CRF_LEVELS_A_SIGMA);
    for (int dy = -f.window; dy <= f.window; dy++) {
        if (y + dy < 0 || y + dy >= f.h) continue;
        float row = 0;
        for (int dx = -f.window; dx <= f.window; dx++) {
            if (x + dx < 0 || x + dx >= f.w) continue;
            int64_t j = i + (int64_t)dy * f.w + dx;
            float t = f.level[i] - f.level[j];
            row += expf(near * (float)(dx * dx) + alike * t * t) * f.scale_a[j] * f.d[j];
        }
        sum += expf(near * (float)(dy * dy)) * row;
    }
    f.window_sum[i] = sum;
}

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
    f.h = (int)b->h;
    f.w = (int)b->w;
    crf_grid shape = crf_grid_plan(b->h, b->w, o->theta_alpha, o->theta_beta);
    int64_t radius = (int64_t)ceilf(3.33f * o->theta_alpha), taps = (2 * radius + 1) * (2 * radius + 1);
    f.per_gray = shape.per_gray;
    if (shape.nodes > MAX_NODES || 4 * shape.nodes > b->h * b->w * taps * 8 / 5) f.window = (int)radius; /* as the CPU decides */
    else f.appearance = grid_of(&shape, b->h, b->w);
    if (o->theta_gamma <= WIDEST_FIR) {
        f.fir = crf_grid_taps((double)o->theta_gamma * (double)o->theta_gamma, f.taps);
    } else {
        shape = crf_grid_plan(b->h, b->w, o->theta_gamma, 0);
        f.smooth = grid_of(&shape, b->h, b->w);
    }
    return f;
}

/* Gives out `count` floats for each of n slices, at a multiple of 256 bytes; with base NULL it only counts. */
static float *carve(char *base, size_t *end, int64_t n, int64_t count)
{
    float *at = base ? (float *)(base + *end) : NULL;
    *end += ((size_t)(n * count) * sizeof(float) + 255) / 256 * 256;
    return at;
}

static void lay_out_grid(grid *g, char *base, size_t *end, int64_t n)
{
    g->node = carve(base, end, n, g->nodes);
    g->part = g->half = carve(base, end, n, 4 * (int64_t)g->cells * g->levels);
}

/* All arrays of f->n slices; returns their bytes. */
static size_t lay_out(field *f, char *base)
{
    size_t end = 0;
    int64_t pixels = (int64_t)f->h * f->w;
    float **images[] = {&f->level, &f->d, &f->scale_a, &f->scale_s};
    for (float **at : images) *at = carve(base, &end, f->n, pixels);
    f->row = carve(base, &end, f->n, f->fir ? pixels : 0);
    f->window_sum = carve(base, &end, f->n, f->window ? pixels : 0);
    lay_out_grid(&f->appearance, base, &end, f->n);
    lay_out_grid(&f->smooth, base, &end, f->n);
    f->moved = (int *)(base ? base + end : NULL);
    return end + (size_t)(f->o.iterations * f->n + 1) * sizeof(int);
}

/* Both kernels' sums of the d there are, and from them the next d. */
template <class F> static status filter(device *d, const field &f, const int *moving, int *moved, F finish)
{
    unsigned n = (unsigned)f.n, h = (unsigned)f.h, w = (unsigned)f.w, rows = BLOCK / ACROSS * RUN;
    if (f.window) LAUNCH(d, window_kernel, dim3((w + BLOCK - 1) / BLOCK, h, n), f, moving);
    else COV_TRY(grid_filter(d, f.appearance, f.n, f.level, f.scale_a, f.d, moving));
    if (f.fir) LAUNCH(d, row_kernel, dim3((w + SEGMENT - 1) / SEGMENT, h, n), f, moving);
    else COV_TRY(grid_filter(d, f.smooth, f.n, f.level, f.scale_s, f.d, moving));
    LAUNCH(d, sums_kernel<F>, dim3((w + ACROSS - 1) / ACROSS, (h + rows - 1) / rows, n), f, moving, moved, finish);
    return COV_OK;
}

/* Iterations of each slice from what moved when; COV_BROKEN where a logit is not finite. */
static status judge(device *d, const field &f, int *done)
{
    size_t count = (size_t)(f.o.iterations * f.n + 1);
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
    const int *moving = NULL;
    CUDA_TRY(cudaMemsetAsync(f.moved, 0, (size_t)(f.o.iterations * f.n + 1) * sizeof(int), d->stream));
    COV_TRY(each(d, pixels, load_pixel{f}));
    COV_TRY(filter(d, f, NULL, NULL, scale_pixel{}));
    for (int i = 0; i < f.o.iterations; i++) {
        int *moved = f.o.tolerance > 0 ? f.moved + i * f.n : NULL;
        COV_TRY(filter(d, f, moving, moved, update_pixel{}));
        moving = moved;
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
    if (most > MAX_SLICES) most = MAX_SLICES;
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
