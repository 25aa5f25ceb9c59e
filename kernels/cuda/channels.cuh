/* channels: work on (n, rows, c) arrays whose threads keep to their channels: what a channel has (mean, gamma, bias) is
 * read once a thread, and no element needs a division. A thread takes V neighbouring channels (a pack) and every
 * `lanes`-th row of a chunk of one sample's rows; a block takes `wide` packs side by side, and blocks lie side by side,
 * too. Rows are read several at a time, so that a thread waits for memory once, not once a row.
 *
 * Sums are over `width` neighbouring channels, a column, and over a chunk; a second kernel adds the chunks. A column
 * that has more packs than a block has threads is cut in slices, which count as chunks. Geometry depends on sizes alone
 * and sums go through fixed trees, so that a result has the same bits from run to run. */
#ifndef COV_KERNELS_CUDA_CHANNELS_CUH
#define COV_KERNELS_CUDA_CHANNELS_CUH
#include "kernels/cuda/launch.cuh"

struct channels {
    int64_t n, rows, c;
    int packs, width, unit; /* packs of a row; channels of a column; packs between the first ones of blocks' neighbours */
    int wide, lanes, slices, across;
    int64_t chunks, each; /* of a sample, and their rows; the last may have fewer */
};

/* So many blocks fill the largest GPUs: four a processor where sums are taken, for which few chunks are best. */
enum { CHANNEL_BLOCKS = 1024, CHANNEL_SUM_BLOCKS = 528, CHANNEL_WIDE = 32 };

/* 16 bytes where columns of `width` channels are whole packs or lie within one. */
static inline int channels_pack(int is_bf16, int64_t c, int64_t width)
{
    int v = is_bf16 ? 8 : 4;
    return c % v == 0 && (width % v == 0 || v % width == 0) ? v : 1;
}

static inline channels channels_plan(int64_t n, int64_t rows, int64_t c, int v, int64_t width, int blocks)
{
    channels g = {n, rows, c, (int)(c / v), (int)width, 0, 0, 0, 1, 0, 0, 0};
    int column = width > v ? (int)(width / v) : 1; /* its packs */
    if (column > BLOCK) {
        g.slices = (column + BLOCK - 1) / BLOCK;
        g.unit = column;
        g.wide = (column + g.slices - 1) / g.slices;
        g.across = g.packs / column * g.slices;
    } else {
        int columns = g.packs / column, most = column < CHANNEL_WIDE ? CHANNEL_WIDE / column : 1, blocks_across = (columns + most - 1) / most;
        g.unit = g.wide = (columns + blocks_across - 1) / blocks_across * column;
        g.across = (g.packs + g.wide - 1) / g.wide;
    }
    g.lanes = BLOCK / g.wide;
    int64_t most = (rows + 4 * g.lanes - 1) / (4 * g.lanes), wanted = blocks / (n * g.across);
    g.chunks = wanted < 1 ? 1 : wanted > most ? most : wanted;
    g.each = (rows + g.chunks - 1) / g.chunks;
    g.chunks = (rows + g.each - 1) / g.each;
    return g;
}

static inline dim3 channels_blocks(const channels &g) { return dim3((unsigned)(g.n * g.chunks), (unsigned)g.across); }

/* Where this thread works. */
struct channel_place {
    int64_t n, row, end; /* sample; this thread's first row; end of the chunk's */
    int pack, lane, works;
};
__device__ __forceinline__ channel_place channels_place(const channels &g, unsigned chunk)
{
    channel_place at;
    unsigned n = chunk / (unsigned)g.chunks;
    int in = (int)(blockIdx.y % (unsigned)g.slices) * g.wide + (int)(threadIdx.x % (unsigned)g.wide);
    at.n = n;
    at.lane = (int)(threadIdx.x / (unsigned)g.wide);
    at.row = (int64_t)(chunk - n * (unsigned)g.chunks) * g.each;
    at.end = at.row + g.each < g.rows ? at.row + g.each : g.rows;
    at.row += at.lane;
    at.pack = (int)(blockIdx.y / (unsigned)g.slices) * g.unit + in;
    at.works = at.pack < g.packs && in < g.unit && at.lane < g.lanes && at.row < at.end;
    return at;
}
__device__ __forceinline__ int64_t channels_offset(const channels &g, const channel_place &at, int v)
{
    return (at.n * g.rows + at.row) * g.c + (int64_t)at.pack * v;
}

/* Work on each element. F: struct channel, struct input, enum { ahead }; begin(&channel, n, first channel), read(&input,
 * offset of V elements) and write(channel, input, offset). The last chunk goes first: what a sum before it has read
 * last is still in the cache. */
template <class F, int V> __global__ void __launch_bounds__(BLOCK) channels_each_kernel(channels g, F f)
{
    enum { A = F::ahead };
    channel_place at = channels_place(g, gridDim.x - 1 - blockIdx.x);
    if (!at.works) return;
    typename F::channel state;
    typename F::input in[A];
    f.begin(&state, at.n, at.pack * V);
    int64_t offset = channels_offset(g, at, V), step = g.lanes * g.c;
    for (; at.row + (A - 1) * g.lanes < at.end; at.row += A * g.lanes, offset += A * step) {
#pragma unroll
        for (int k = 0; k < A; k++) f.read(&in[k], offset + k * step);
#pragma unroll
        for (int k = 0; k < A; k++) f.write(state, in[k], offset + k * step);
    }
    for (; at.row < at.end; at.row += g.lanes, offset += step) {
        f.read(&in[0], offset);
        f.write(state, in[0], offset);
    }
}

template <int V, class F> static status channels_each(device *d, const channels &g, F f)
{
    auto kernel = channels_each_kernel<F, V>;
    LAUNCH(d, kernel, channels_blocks(g), g, f);
    return COV_OK;
}

/* Where a column's sums of a chunk and slice lie: a column's one after the other, and of those a sample's. */
static inline int64_t channels_entries(const channels &g) { return g.n * g.chunks * g.slices; }
static inline size_t channels_part_bytes(const channels &g, int sums) { return (size_t)(channels_entries(g) * (g.c / g.width) * sums) * sizeof(double); }

/* The sum of v over a pack's channels (Q = 1), or piece q alone (Q = V). */
template <int V, int Q> __device__ __forceinline__ float gathered(const float *v, int q)
{
    if (Q == V) return v[q];
    float sum = 0;
#pragma unroll
    for (int k = 0; k < V; k++) sum += v[k];
    return sum;
}

/* The sums of all lanes of a pack's piece q, at room[(j * Q + q) * BLOCK + pack of the block]. */
template <int J, int Q> __device__ __forceinline__ void channels_join(const channels &g, int lane, double (*total)[Q], double *room)
{
    double *own = room + threadIdx.x;
#pragma unroll
    for (int k = 0; k < J * Q; k++) own[k * BLOCK] = total[k / Q][k % Q];
    __syncthreads();
    for (int left = g.lanes, half; left > 1; left = half) {
        half = (left + 1) / 2;
        if (lane < left - half) {
#pragma unroll
            for (int k = 0; k < J * Q; k++) own[k * BLOCK] = total[k / Q][k % Q] += own[k * BLOCK + half * g.wide];
        }
        __syncthreads();
    }
}

/* From there to the block's columns: a column's packs, or pieces of one pack, are added in order. */
template <int J, int Q, int V> __device__ __forceinline__ void channels_put(const channels &g, const double *room, double *part)
{
    int slice = (int)(blockIdx.y % (unsigned)g.slices), first = (int)(blockIdx.y / (unsigned)g.slices) * g.unit;
    int here = g.slices > 1 ? g.unit - slice * g.wide : g.packs - first;
    here = here < g.wide ? here : g.wide;
    int members = Q > 1 || V == 1 ? g.width : g.width / V;
    if (g.slices > 1) members = here;
    int columns = here * Q / members;
    int64_t entries = (int64_t)gridDim.x * g.slices, column = (int64_t)first * V / g.width;
    for (int k = (int)threadIdx.x; k < columns * J; k += BLOCK) {
        double sum = 0;
        for (int m = 0; m < members; m++) {
            int piece = k / J * members + m;
            sum += room[(k % J * Q + piece % Q) * BLOCK + piece / Q];
        }
        part[((column + k / J) * entries + (int64_t)blockIdx.x * g.slices + slice) * J + k % J] = sum;
    }
}

/* F::sums sums a column and chunk. F as above, but without write: add(channel, input, sum[sums][V]) adds terms in float,
 * and finish<Q>(channel, rows, sum, total[sums][Q]) makes of a thread's sums what is added in double over all threads.
 * Q: V where a column lies within a pack, else 1. */
template <class F, int V, int Q> __global__ void __launch_bounds__(BLOCK) channels_sum_kernel(channels g, F f, double *part)
{
    enum { A = F::ahead, J = F::sums };
    __shared__ double room[J * Q * BLOCK];
    channel_place at = channels_place(g, blockIdx.x);
    double total[J][Q] = {};
    if (at.works) {
        typename F::channel state;
        typename F::input in[A];
        float sum[J][V] = {};
        int taken = 0;
        int64_t offset = channels_offset(g, at, V), step = g.lanes * g.c;
        f.begin(&state, at.n, at.pack * V, offset);
        for (; at.row + (A - 1) * g.lanes < at.end; at.row += A * g.lanes, offset += A * step, taken += A) {
#pragma unroll
            for (int k = 0; k < A; k++) f.read(&in[k], offset + k * step);
#pragma unroll
            for (int k = 0; k < A; k++) f.add(state, in[k], sum);
        }
        for (; at.row < at.end; at.row += g.lanes, offset += step, taken++) {
            f.read(&in[0], offset);
            f.add(state, in[0], sum);
        }
        f.template finish<Q>(state, taken, sum, total);
    }
    channels_join<J, Q>(g, at.lane, total, room);
    channels_put<J, Q, V>(g, room, part);
}

/* What most sums are: the terms as they were added. */
template <int J, int V, int Q> __device__ __forceinline__ void channels_as_added(const float (*sum)[V], double (*total)[Q])
{
#pragma unroll
    for (int k = 0; k < J * Q; k++) total[k / Q][k % Q] = (double)gathered<V, Q>(sum[k / Q], k % Q);
}

template <int V, class F> static status channels_sum(device *d, const channels &g, F f, double *part)
{
    auto within = channels_sum_kernel<F, V, V>, whole = channels_sum_kernel<F, V, 1>;
    LAUNCH(d, g.width < V ? within : whole, channels_blocks(g), g, f, part);
    return COV_OK;
}

/* Sums over chunks: done(column, sample, sum[J]) by one thread a column and sample; with one sample in all, over all. */
template <int J, class F> __global__ void __launch_bounds__(BLOCK) channels_total_kernel(int samples, int64_t entries, const double *part, F done)
{
    __shared__ double room[J * BLOCK];
    double sum[J] = {};
    const pack<double, J> *from = reinterpret_cast<const pack<double, J> *>(part) + (int64_t)blockIdx.x * entries;
#pragma unroll 4
    for (int64_t k = threadIdx.x; k < entries; k += BLOCK) {
        pack<double, J> one = from[k];
#pragma unroll
        for (int j = 0; j < J; j++) sum[j] += one.v[j];
    }
    block_sums<J>(sum, room);
    if (threadIdx.x == 0) done((int64_t)(blockIdx.x / (unsigned)samples), (int64_t)(blockIdx.x % (unsigned)samples), sum);
}

template <int J, class F> static status channels_total(device *d, const channels &g, int64_t samples, const double *part, F done)
{
    auto kernel = channels_total_kernel<J, F>;
    LAUNCH(d, kernel, dim3((unsigned)(g.c / g.width * samples)), (int)samples, channels_entries(g) / samples, part, done);
    return COV_OK;
}
#endif
