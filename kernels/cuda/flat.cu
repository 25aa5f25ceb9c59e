/* flat: the functions of the backend table on flat arrays: adding, converting, the sum of squares, the optimiser. */
#include "kernels/cuda/launch.cuh"
#include <math.h>

template <class T, int V> struct add_to {
    const T *x;
    T *y;
    __device__ void operator()(int64_t i) const
    {
        float a[V], b[V];
        load<T, V>(a, x + i * V);
        load<T, V>(b, y + i * V);
#pragma unroll
        for (int k = 0; k < V; k++) b[k] += a[k];
        store<T, V>(y + i * V, b);
    }
};

template <class T> static status add(device *d, size_t n, const void *x, void *y)
{
    enum { V = widest<T>::v };
    const T *from = (const T *)x;
    T *to = (T *)y;
    if (n % V == 0) return each(d, (int64_t)(n / V), add_to<T, V>{from, to});
    return each(d, (int64_t)n, add_to<T, 1>{from, to});
}

static status check_type(tensor_type type, const char *what)
{
    if (type == TENSOR_F32 || type == TENSOR_BF16) return COV_OK;
    return COV_FAIL(COV_UNSUPPORTED, "cuda: %s: tensor type %d is neither F32 nor BF16", what, (int)type);
}

extern "C" status cuda_accumulate(device *d, tensor_type type, size_t n, const void *x, void *y)
{
    COV_TRY(check_type(type, "accumulate"));
    return type == TENSOR_BF16 ? add<bf16>(d, n, x, y) : add<float>(d, n, x, y);
}

template <class A, class B, int V> struct convert_to {
    const A *x;
    B *y;
    __device__ void operator()(int64_t i) const
    {
        float v[V];
        load<A, V>(v, x + i * V);
        store<B, V>(y + i * V, v);
    }
};

template <class A, class B> static status convert(device *d, size_t n, const void *x, void *y)
{
    const A *from = (const A *)x;
    B *to = (B *)y;
    if (n % 4 == 0) return each(d, (int64_t)(n / 4), convert_to<A, B, 4>{from, to});
    return each(d, (int64_t)n, convert_to<A, B, 1>{from, to});
}

extern "C" status cuda_convert(device *d, size_t n, tensor_type from, const void *x, tensor_type to, void *y)
{
    COV_TRY(check_type(from, "convert"));
    COV_TRY(check_type(to, "convert"));
    if (from == to) {
        CUDA_TRY(cudaMemcpyAsync(y, x, n * tensor_type_bytes(to), cudaMemcpyDeviceToDevice, d->stream));
        return COV_OK;
    }
    return from == TENSOR_BF16 ? convert<bf16, float>(d, n, x, y) : convert<float, bf16>(d, n, x, y);
}

/* ---- sum of squares: pieces, then one block over the pieces */
enum { PIECE = 16 * BLOCK };

__global__ void __launch_bounds__(BLOCK) squares_kernel(int64_t n, const float *x, double *part)
{
    __shared__ double room[BLOCK];
    double sum = 0;
    int64_t first = (int64_t)blockIdx.x * PIECE, end = first + PIECE < n ? first + PIECE : n;
    for (int64_t i = first + threadIdx.x; i < end; i += BLOCK) sum += (double)x[i] * x[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(BLOCK) total_kernel(int64_t n, const double *part, double *total)
{
    __shared__ double room[BLOCK];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += BLOCK) sum += part[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) *total = sum;
}

extern "C" status cuda_sum_squares(device *d, size_t n, const float *x, double *out)
{
    int64_t pieces = ((int64_t)n + PIECE - 1) / PIECE;
    *out = 0;
    if (n == 0) return COV_OK;
    COV_TRY(cuda_reserve(d, (size_t)(pieces + 1) * sizeof(double)));
    double *part = (double *)d->scratch;
    LAUNCH(d, squares_kernel, dim3((unsigned)pieces), (int64_t)n, x, part);
    LAUNCH(d, total_kernel, dim3(1), pieces, (const double *)part, part + pieces);
    CUDA_TRY(cudaMemcpyAsync(out, part + pieces, sizeof *out, cudaMemcpyDeviceToHost, d->stream));
    CUDA_TRY(cudaStreamSynchronize(d->stream));
    return COV_OK;
}

/* ---- optimiser: packs of neighbours, which are alike in weight decay */
struct sgd {
    float rate, momentum, decay, scale;
    __device__ void operator()(float grad, float decayed, float *w, float *m, float *) const
    {
        *m = momentum * *m + (grad * scale + decayed * *w);
        *w -= rate * *m;
    }
};

/* first, second: 1 - beta; correct1, correct2: 1 / (1 - beta^t), from doubles. */
struct adamw {
    float rate, decay, beta1, first, beta2, second, correct1, correct2, eps, scale;
    __device__ void operator()(float g, float decayed, float *w, float *m, float *v) const
    {
        float grad = g * scale;
        *m = beta1 * *m + first * grad;
        *v = beta2 * *v + second * grad * grad;
        *w -= rate * (*m * correct1 / (sqrtf(*v * correct2) + eps) + decayed * *w);
    }
};

template <class F, int V> struct move {
    F f;
    const uint8_t *decays;
    float *w, *m, *v; /* v: NULL: none */
    const float *g;
    __device__ void operator()(int64_t i) const
    {
        float at_w[V], at_m[V], at_v[V] = {}, at_g[V], decay = !decays || decays[i * V / OPTIM_RUN] ? f.decay : 0;
        load<float, V>(at_w, w + i * V);
        load<float, V>(at_m, m + i * V);
        load<float, V>(at_g, g + i * V);
        if (v) load<float, V>(at_v, v + i * V);
#pragma unroll
        for (int k = 0; k < V; k++) f(at_g[k], decay, &at_w[k], &at_m[k], &at_v[k]);
        store<float, V>(w + i * V, at_w);
        store<float, V>(m + i * V, at_m);
        if (v) store<float, V>(v + i * V, at_v);
    }
};

template <class F> static status move_all(device *d, F f, size_t n, const uint8_t *decays, float *w, const float *g, float *m, float *v)
{
    enum { V = widest<float>::v };
    if (n % V == 0) return each(d, (int64_t)(n / V), move<F, V>{f, decays, w, m, v, g});
    return each(d, (int64_t)n, move<F, 1>{f, decays, w, m, v, g});
}

extern "C" status cuda_optim(device *d, const optim_step *o, size_t n, const uint8_t *decays, float *w, const float *g, float *m, float *v)
{
    if (!o->adamw) return move_all(d, sgd{o->rate, o->momentum, o->decay, o->grad_scale}, n, decays, w, g, m, NULL);
    double b1 = o->beta1, b2 = o->beta2;
    adamw f = {o->rate,
               o->decay,
               o->beta1,
               (float)(1 - b1),
               o->beta2,
               (float)(1 - b2),
               (float)(1 / (1 - pow(b1, (double)o->t))),
               (float)(1 / (1 - pow(b2, (double)o->t))),
               o->eps,
               o->grad_scale};
    return move_all(d, f, n, decays, w, g, m, v);
}
