/* launch: what every kernel file shares: activations as floats, packs of neighbours that are read at once, kernels made
 * of a functor, sums over a block, and the one way to launch, which reads the error after every launch.
 *
 * A functor is a struct with arrays and sizes; operator()(i) does element (or pack) i. Sums over a block go through
 * shared memory in a fixed tree, so that a result has the same bits from run to run. */
#ifndef COV_KERNELS_CUDA_LAUNCH_CUH
#define COV_KERNELS_CUDA_LAUNCH_CUH
#include "kernels/cuda/cuda.h"
#include <cuda_bf16.h>
#include <cuda_runtime.h>

enum { BLOCK = 256 }; /* threads of a block, where a kernel does not say otherwise; a power of two */

struct bf16 {
    uint16_t bits;
};

__device__ __forceinline__ float get(float x) { return x; }
__device__ __forceinline__ float get(bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }
__device__ __forceinline__ void put(float *to, float x) { *to = x; }
/* To nearest even; NaN stays NaN. Two at once is one instruction. */
__device__ __forceinline__ void put(bf16 *to, float x) { to->bits = __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
__device__ __forceinline__ void put_two(float *to, float x, float y) { to[0] = x, to[1] = y; }
__device__ __forceinline__ void put_two(bf16 *to, float x, float y)
{
    __nv_bfloat162 two = __floats2bfloat162_rn(x, y);
    to[0].bits = __bfloat16_as_ushort(two.x);
    to[1].bits = __bfloat16_as_ushort(two.y);
}

/* V neighbours, read and written at once. */
template <class T, int V> struct alignas(sizeof(T) * V) pack {
    T v[V];
};
template <class T> struct widest; /* 16 bytes */
template <> struct widest<float> {
    enum { v = 4 };
};
template <> struct widest<bf16> {
    enum { v = 8 };
};
template <class T, int V> __device__ __forceinline__ void take(pack<T, V> *to, const T *from)
{
    *to = *reinterpret_cast<const pack<T, V> *>(from);
}
template <class T, int V> __device__ __forceinline__ void load(float to[V], const T *from)
{
    pack<T, V> p;
    take(&p, from);
#pragma unroll
    for (int k = 0; k < V; k++) to[k] = get(p.v[k]);
}
template <class T, int V> __device__ __forceinline__ void store(T *to, const float from[V])
{
    pack<T, V> p;
#pragma unroll
    for (int k = 0; k + 1 < V; k += 2) put_two(&p.v[k], from[k], from[k + 1]);
    if (V % 2) put(&p.v[V - 1], from[V - 1]);
    *reinterpret_cast<pack<T, V> *>(to) = p;
}

#define LAUNCH_OF(d, kernel, blocks, threads, ...)                                              \
    do {                                                                                        \
        cudaLaunchConfig_t launch_c_ = {};                                                      \
        launch_c_.gridDim = blocks;                                                             \
        launch_c_.blockDim = dim3(threads);                                                     \
        launch_c_.stream = (d)->stream;                                                         \
        CUDA_TRY(cudaLaunchKernelEx(&launch_c_, kernel, __VA_ARGS__));                          \
        CUDA_TRY(cudaGetLastError());                                                           \
    } while (0)
#define LAUNCH(d, kernel, blocks, ...) LAUNCH_OF(d, kernel, blocks, BLOCK, __VA_ARGS__)

__device__ __forceinline__ int64_t thread_number() { return (int64_t)blockIdx.x * BLOCK + threadIdx.x; }
static inline dim3 blocks_for(int64_t n) { return dim3((unsigned)((n + BLOCK - 1) / BLOCK)); }

template <class F> __global__ void __launch_bounds__(BLOCK) each_kernel(int64_t n, F f)
{
    int64_t i = thread_number();
    if (i < n) f(i);
}

template <class F> static status each(device *d, int64_t n, F f)
{
    if (n <= 0) return COV_OK;
    LAUNCH(d, each_kernel<F>, blocks_for(n), n, f);
    return COV_OK;
}

/* f(row, i) for `rows` rows of `width` packs. A block stays in its row, so that what is found of a row by division is found
 * once, and i takes 32 bits. */
template <class F> __global__ void __launch_bounds__(BLOCK) in_rows_kernel(unsigned blocks, int width, F f)
{
    unsigned row = blockIdx.x / blocks;
    int i = (int)((blockIdx.x - row * blocks) * BLOCK + threadIdx.x);
    if (i < width) f((int64_t)row, i);
}

template <class F> static status each_in_rows(device *d, int64_t rows, int64_t width, F f)
{
    int64_t blocks = (width + BLOCK - 1) / BLOCK;
    if (rows <= 0 || width <= 0) return COV_OK;
    if (width > INT32_MAX - BLOCK || blocks > INT32_MAX / rows)
        return COV_FAIL(COV_UNSUPPORTED, "cuda: %lld rows of %lld packs are too many", (long long)rows, (long long)width);
    LAUNCH(d, in_rows_kernel<F>, dim3((unsigned)(blocks * rows)), (unsigned)blocks, (int)width, f);
    return COV_OK;
}

/* Of x, the sum over the block's N threads up to this one. room: N ints of shared memory, free again after the call. */
template <int N> __device__ __forceinline__ int sum_so_far(int x, int *room)
{
    int t = (int)threadIdx.x;
    for (int reach = 1; reach < N; reach *= 2) {
        room[t] = x;
        __syncthreads();
        if (t >= reach) x += room[t - reach];
        __syncthreads();
    }
    return x;
}

/* Sums over the block, for its first thread. room: J * BLOCK doubles of shared memory, free again after the call. */
template <int J> __device__ __forceinline__ void block_sums(double *sum, double *room)
{
    double *own = room + threadIdx.x;
#pragma unroll
    for (int j = 0; j < J; j++) own[j * BLOCK] = sum[j];
    __syncthreads();
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) {
#pragma unroll
            for (int j = 0; j < J; j++) own[j * BLOCK] = sum[j] += own[j * BLOCK + half];
        }
        __syncthreads();
    }
}
__device__ inline double block_sum(double x, double *room)
{
    block_sums<1>(&x, room);
    return x;
}
#endif
