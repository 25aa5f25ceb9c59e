/* launch: what every kernel file shares: activations as floats, packs of neighbours that are read at once, kernels made
 * of a functor, sums over a block, and the one way to launch, which reads the error after every launch.
 *
 * A functor is a struct with arrays and sizes; operator()(i) does element (or pack) i. Sums over a block go through
 * shared memory in a fixed tree, so that a result has the same bits from run to run. */
#ifndef COV_KERNELS_CUDA_LAUNCH_CUH
#define COV_KERNELS_CUDA_LAUNCH_CUH
#include "kernels/cuda/cuda.h"
#include <cuda_runtime.h>

enum { BLOCK = 256 }; /* threads of a block, where a kernel does not say otherwise; a power of two */

struct bf16 {
    uint16_t bits;
};

__device__ __forceinline__ float get(float x) { return x; }
__device__ __forceinline__ float get(bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }
__device__ __forceinline__ void put(float *to, float x) { *to = x; }
/* To nearest even; NaN stays NaN: as tensor_bf16_from_f32. */
__device__ __forceinline__ void put(bf16 *to, float x)
{
    unsigned u = __float_as_uint(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) to->bits = (uint16_t)((u >> 16) | 0x40u);
    else to->bits = (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
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
template <class T, int V> __device__ __forceinline__ void load(float to[V], const T *from)
{
    pack<T, V> p = *reinterpret_cast<const pack<T, V> *>(from);
#pragma unroll
    for (int k = 0; k < V; k++) to[k] = get(p.v[k]);
}
template <class T, int V> __device__ __forceinline__ void store(T *to, const float from[V])
{
    pack<T, V> p;
#pragma unroll
    for (int k = 0; k < V; k++) put(&p.v[k], from[k]);
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

/* The sum of x over the block, for its first thread. room: BLOCK doubles of shared memory, free again after the call. */
__device__ inline double block_sum(double x, double *room)
{
    room[threadIdx.x] = x;
    __syncthreads();
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
        __syncthreads();
    }
    double sum = room[0];
    __syncthreads();
    return sum;
}
#endif
