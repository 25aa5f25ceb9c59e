/* own: see own.h. One thread an element, in loops that read like kernels/ref/conv.c: right for every
 * size, and slow; cuDNN does what is large. */
#include "kernels/cuda/channels.cuh"
#include "kernels/cuda/own.h"

__device__ __forceinline__ int64_t row_at(const tensor_shape &s, int64_t n, int64_t y, int64_t x) { return ((n * s.h + y) * s.w + x) * s.c; }

/* The large image's coordinate that tap k of the small image's coordinate i meets; -1 outside. */
__device__ __forceinline__ int64_t large_at(const dnn_pair &g, int64_t i, int k, int64_t size)
{
    int64_t at = i * g.stride - g.pad + k;
    return at >= 0 && at < size ? at : -1;
}
/* The small image's coordinate whose tap k meets the large image's coordinate i; -1 if there is none. */
__device__ __forceinline__ int64_t small_at(const dnn_pair &g, int64_t i, int k, int64_t size)
{
    int64_t at = i + g.pad - k;
    return at >= 0 && at % g.stride == 0 && at / g.stride < size ? at / g.stride : -1;
}
__device__ __forceinline__ int64_t weight_at(const dnn_pair &g, int64_t cs, int ky, int kx)
{
    return ((cs * g.kernel + ky) * g.kernel + kx) * g.large.c;
}

template <class T> struct image_element {
    dnn_pair g;
    dnn_result result;
    const T *from;
    const float *w, *bias;
    int relu;
    T *to;
    __device__ float small_sum(int64_t n, int64_t y, int64_t x, int64_t c) const
    {
        float sum = 0;
        for (int ky = 0; ky < g.kernel; ky++)
            for (int kx = 0; kx < g.kernel; kx++) {
                int64_t ly = large_at(g, y, ky, g.large.h), lx = large_at(g, x, kx, g.large.w);
                if (ly < 0 || lx < 0) continue;
                const T *in = from + row_at(g.large, n, ly, lx);
                const float *tap = w + weight_at(g, c, ky, kx);
                for (int64_t k = 0; k < g.large.c; k++) sum += get(in[k]) * tap[k];
            }
        return sum;
    }
    __device__ float large_sum(int64_t n, int64_t y, int64_t x, int64_t c) const
    {
        float sum = 0;
        for (int ky = 0; ky < g.kernel; ky++)
            for (int kx = 0; kx < g.kernel; kx++) {
                int64_t sy = small_at(g, y, ky, g.small.h), sx = small_at(g, x, kx, g.small.w);
                if (sy < 0 || sx < 0) continue;
                const T *in = from + row_at(g.small, n, sy, sx);
                for (int64_t k = 0; k < g.small.c; k++) sum += get(in[k]) * w[weight_at(g, k, ky, kx) + c];
            }
        return sum;
    }
    __device__ void operator()(int64_t i) const
    {
        const tensor_shape &s = result == DNN_SMALL ? g.small : g.large;
        int64_t c = i % s.c, x = i / s.c % s.w, y = i / s.c / s.w % s.h, n = i / s.c / s.w / s.h;
        float sum = (result == DNN_SMALL ? small_sum(n, y, x, c) : large_sum(n, y, x, c)) + (bias ? bias[c] : 0);
        put(to + i, relu && !(sum > 0) ? 0 : sum);
    }
};

extern "C" status cuda_own_image(device *d, const dnn_pair *g, dnn_result result, const void *from, const float *w, const float *bias,
                                 int relu, void *to)
{
    tensor_shape s = result == DNN_SMALL ? g->small : g->large;
    int64_t n = s.n * s.h * s.w * s.c;
    if (s.type == TENSOR_BF16) return each(d, n, image_element<bf16>{*g, result, (const bf16 *)from, w, bias, relu, (bf16 *)to});
    return each(d, n, image_element<float>{*g, result, (const float *)from, w, bias, relu, (float *)to});
}

template <class T> struct weight_element {
    dnn_pair g;
    const T *small, *large;
    float *dw;
    __device__ void operator()(int64_t i) const
    {
        int64_t cl = i % g.large.c, cs = i / g.large.c / g.kernel / g.kernel;
        int kx = (int)(i / g.large.c % g.kernel), ky = (int)(i / g.large.c / g.kernel % g.kernel);
        double sum = 0;
        for (int64_t n = 0; n < g.small.n; n++)
            for (int64_t y = 0; y < g.small.h; y++) {
                int64_t ly = large_at(g, y, ky, g.large.h);
                if (ly < 0) continue;
                float row = 0;
                for (int64_t x = 0; x < g.small.w; x++) {
                    int64_t lx = large_at(g, x, kx, g.large.w);
                    if (lx >= 0) row += get(small[row_at(g.small, n, y, x) + cs]) * get(large[row_at(g.large, n, ly, lx) + cl]);
                }
                sum += (double)row;
            }
        dw[i] += (float)sum;
    }
};

extern "C" status cuda_own_weights(device *d, const dnn_pair *g, const void *small, const void *large, float *dw)
{
    int64_t n = g->small.c * g->kernel * g->kernel * g->large.c;
    if (g->small.type == TENSOR_BF16) return each(d, n, weight_element<bf16>{*g, (const bf16 *)small, (const bf16 *)large, dw});
    return each(d, n, weight_element<float>{*g, (const float *)small, (const float *)large, dw});
}

/* ---- bias */
template <class T, int V> struct bias_add {
    enum { ahead = 4 };
    T *y;
    const float *bias;
    int relu;
    struct channel {
        float b[V];
    };
    typedef pack<T, V> input;
    __device__ void begin(channel *s, int64_t, int ch) const
    {
#pragma unroll
        for (int k = 0; k < V; k++) s->b[k] = bias ? bias[ch + k] : 0;
    }
    __device__ void read(input *in, int64_t at) const { take(in, y + at); }
    __device__ void write(const channel &s, const input &in, int64_t at) const
    {
        float v[V];
#pragma unroll
        for (int k = 0; k < V; k++) {
            v[k] = get(in.v[k]) + s.b[k];
            if (relu && !(v[k] > 0)) v[k] = 0;
        }
        store<T, V>(y + at, v);
    }
};

template <class T, int V> struct bias_terms {
    enum { sums = 1, ahead = 4 };
    const T *dy;
    struct channel {};
    typedef pack<T, V> input;
    __device__ void begin(channel *, int64_t, int, int64_t) const {}
    __device__ void read(input *in, int64_t at) const { take(in, dy + at); }
    __device__ void add(const channel &, const input &in, float (*sum)[V]) const
    {
#pragma unroll
        for (int k = 0; k < V; k++) sum[0][k] += get(in.v[k]);
    }
    template <int Q> __device__ void finish(const channel &, int, const float (*sum)[V], double (*total)[Q]) const
    {
        channels_as_added<1, V, Q>(sum, total);
    }
};

struct bias_gradient {
    float *db;
    __device__ void operator()(int64_t channel, int64_t, const double *sum) const { db[channel] += (float)sum[0]; }
};

static channels plan_of(tensor_shape y, int blocks)
{
    return channels_plan(y.n, y.h * y.w, y.c, channels_pack(y.type == TENSOR_BF16, y.c, 1), 1, blocks);
}
size_t cuda_own_bias_bytes(tensor_shape y) { return channels_part_bytes(plan_of(y, CHANNEL_SUM_BLOCKS), 1); }

template <class T, int V> static status add_bias(device *d, tensor_shape y, const float *bias, int relu, void *data)
{
    return channels_each<V>(d, plan_of(y, CHANNEL_BLOCKS), bias_add<T, V>{(T *)data, bias, relu});
}
template <class T> static status add_bias(device *d, tensor_shape y, const float *bias, int relu, void *data)
{
    enum { V = widest<T>::v };
    return y.c % V == 0 ? add_bias<T, V>(d, y, bias, relu, data) : add_bias<T, 1>(d, y, bias, relu, data);
}
extern "C" status cuda_own_bias(device *d, tensor_shape y, const float *bias, int relu, void *data)
{
    return y.type == TENSOR_BF16 ? add_bias<bf16>(d, y, bias, relu, data) : add_bias<float>(d, y, bias, relu, data);
}

template <class T> static status sum_bias(device *d, tensor_shape y, const void *dy, double *part)
{
    enum { V = widest<T>::v };
    const T *g = (const T *)dy;
    if (y.c % V == 0) return channels_sum<V>(d, plan_of(y, CHANNEL_SUM_BLOCKS), bias_terms<T, V>{g}, part);
    return channels_sum<1>(d, plan_of(y, CHANNEL_SUM_BLOCKS), bias_terms<T, 1>{g}, part);
}
extern "C" status cuda_own_bias_gradient(device *d, tensor_shape y, const void *dy, double *part, float *db)
{
    COV_TRY(y.type == TENSOR_BF16 ? sum_bias<bf16>(d, y, dy, part) : sum_bias<float>(d, y, dy, part));
    return channels_total<1>(d, plan_of(y, CHANNEL_SUM_BLOCKS), 1, part, bias_gradient{db});
}
