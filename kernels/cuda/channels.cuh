/* channels: work on (n, rows, c) arrays whose threads keep to their channels: what a channel has (mean, gamma, bias) is
 * read once a thread, and no element needs a division. A block takes `each` rows of one sample; a thread takes V
 * neighbouring channels (a pack) and every `lanes`-th row. Geometry depends on sizes alone, so sums keep their order. */
#ifndef COV_KERNELS_CUDA_CHANNELS_CUH
#define COV_KERNELS_CUDA_CHANNELS_CUH
#include "kernels/cuda/launch.cuh"

struct channels {
    int64_t n, rows, c;
    int packs, lanes, across; /* packs of a row; rows at once; blocks side by side where packs are more than BLOCK */
    int64_t chunks, each;     /* blocks a sample, and their rows; the last may have fewer */
};

enum { CHANNEL_BLOCKS = 1024 }; /* about so many fill the largest GPUs */

static inline int channels_pack(int is_bf16, int64_t c)
{
    int v = is_bf16 ? 8 : 4;
    return c % v == 0 ? v : 1;
}

static inline channels channels_plan(int64_t n, int64_t rows, int64_t c, int v)
{
    channels g = {n, rows, c, (int)(c / v), 1, 1, 1, 0};
    if (g.packs < BLOCK) g.lanes = BLOCK / g.packs;
    else g.across = (g.packs + BLOCK - 1) / BLOCK;
    int64_t most = (rows + 4 * g.lanes - 1) / (4 * g.lanes), wanted = CHANNEL_BLOCKS / (n * g.across);
    g.chunks = wanted < 1 ? 1 : wanted > most ? most : wanted;
    g.each = (rows + g.chunks - 1) / g.chunks;
    g.chunks = (rows + g.each - 1) / g.each;
    return g;
}

static inline dim3 channels_blocks(const channels &g) { return dim3((unsigned)(g.n * g.chunks), (unsigned)g.across); }

/* Where this thread works. */
struct channel_place {
    int64_t n, first, end; /* sample; rows of the chunk */
    int pack, lane, works;
};
__device__ __forceinline__ channel_place channels_place(const channels &g)
{
    channel_place at;
    at.n = blockIdx.x / g.chunks;
    at.first = blockIdx.x % g.chunks * g.each;
    at.end = at.first + g.each < g.rows ? at.first + g.each : g.rows;
    at.pack = g.lanes > 1 ? (int)threadIdx.x % g.packs : (int)(blockIdx.y * BLOCK + threadIdx.x);
    at.lane = g.lanes > 1 ? (int)threadIdx.x / g.packs : 0;
    at.works = at.pack < g.packs && at.lane < g.lanes;
    return at;
}

/* F: struct channel; begin(&channel, n, first row of the chunk, first channel), step(channel, offset of V elements). */
template <class F, int V> __global__ void __launch_bounds__(BLOCK) channels_each_kernel(channels g, F f)
{
    channel_place at = channels_place(g);
    if (!at.works) return;
    typename F::channel state;
    f.begin(&state, at.n, at.first, (int64_t)at.pack * V);
    for (int64_t r = at.first + at.lane; r < at.end; r += g.lanes) f.step(state, (at.n * g.rows + r) * g.c + (int64_t)at.pack * V);
}

template <int V, class F> static status channels_each(device *d, const channels &g, F f)
{
    auto kernel = channels_each_kernel<F, V>;
    LAUNCH(d, kernel, channels_blocks(g), g, f);
    return COV_OK;
}

/* Two sums a channel and chunk, at part[((n * chunks + chunk) * c + channel) * 2]. F as above, but step(channel, offset,
 * a[V], b[V]) gives the terms. Terms are added in float by each thread, and over the lanes, in order, in double. */
template <class F, int V> __global__ void __launch_bounds__(BLOCK) channels_sum_kernel(channels g, F f, double *part)
{
    __shared__ float room[2][BLOCK * V];
    channel_place at = channels_place(g);
    float sum[2][V] = {}, term[2][V];
    if (at.works) {
        typename F::channel state;
        f.begin(&state, at.n, at.first, (int64_t)at.pack * V);
        for (int64_t r = at.first + at.lane; r < at.end; r += g.lanes) {
            f.step(state, (at.n * g.rows + r) * g.c + (int64_t)at.pack * V, term[0], term[1]);
#pragma unroll
            for (int k = 0; k < V; k++) {
                sum[0][k] += term[0][k];
                sum[1][k] += term[1][k];
            }
        }
    }
    for (int j = 0; j < 2; j++)
        for (int k = 0; k < V; k++) room[j][threadIdx.x * V + k] = sum[j][k];
    __syncthreads();
    if (!at.works || at.lane > 0) return;
    for (int j = 0; j < 2; j++)
        for (int k = 0; k < V; k++) {
            double all = 0;
            for (int lane = 0; lane < g.lanes; lane++) all += (double)room[j][(threadIdx.x + lane * (g.lanes > 1 ? g.packs : 0)) * V + k];
            part[((int64_t)blockIdx.x * g.c + (int64_t)at.pack * V + k) * 2 + j] = all;
        }
}

static inline size_t channels_part_bytes(const channels &g) { return (size_t)(g.n * g.chunks * g.c) * 2 * sizeof(double); }

template <int V, class F> static status channels_sum(device *d, const channels &g, F f, double *part)
{
    auto kernel = channels_sum_kernel<F, V>;
    LAUNCH(d, kernel, channels_blocks(g), g, f, part);
    return COV_OK;
}

/* to[k][channel] += the sum of part k over all samples and chunks, for each to that is wanted. */
struct channels_total {
    channels g;
    const double *part;
    float *to[2];
    __device__ void operator()(int64_t c) const
    {
        for (int j = 0; j < 2; j++) {
            double sum = 0;
            if (!to[j]) continue;
            for (int64_t k = 0; k < g.n * g.chunks; k++) sum += part[(k * g.c + c) * 2 + j];
            to[j][c] += (float)sum;
        }
    }
};
#endif
