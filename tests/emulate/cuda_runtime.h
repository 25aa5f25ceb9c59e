/* cuda_runtime: what a kernel's source needs beside the runtime's functions: qualifiers, the thread's place, barriers
 * and the launch. Shared memory is static: blocks run one after the other. */
#ifndef COV_TESTS_EMULATE_RUNTIME_H
#define COV_TESTS_EMULATE_RUNTIME_H
#include "cuda_runtime_api.h"
#include <cmath>
#include <cstring>
#include <functional>
#include <tuple>
using std::isfinite;
using std::isnan;

#define __device__
#define __host__
#define __global__ static
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(threads)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
void __syncthreads();

static inline unsigned __float_as_uint(float x)
{
    unsigned u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static inline float __uint_as_float(unsigned u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
/* Threads run one after the other, and none is interrupted: what was there is given back. */
template <class T> static inline T emulate_swap(T *at, T next)
{
    T was = *at;
    *at = next;
    return was;
}
static inline int atomicCAS(int *at, int expected, int next) { return emulate_swap(at, *at == expected ? next : *at); }
static inline int atomicMin(int *at, int x) { return emulate_swap(at, x < *at ? x : *at); }
static inline int atomicMax(int *at, int x) { return emulate_swap(at, x > *at ? x : *at); }
static inline int atomicAdd(int *at, int x) { return emulate_swap(at, *at + x); }
static inline unsigned long long atomicAdd(unsigned long long *at, unsigned long long x) { return emulate_swap(at, *at + x); }

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
};
/* Runs body as every thread of every block, now or when the graph that is captured is launched. */
cudaError_t emulate_launch(dim3 grid, dim3 block, std::function<void()> body);

template <class... P, class... A> cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *c, void (*kernel)(P...), A &&...args)
{
    std::tuple<P...> kept(static_cast<P>(args)...);
    return emulate_launch(c->gridDim, c->blockDim, [kernel, kept]() { std::apply(kernel, kept); });
}
#endif
