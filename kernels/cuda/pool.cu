/* pool: max pooling, global average pooling and resizing, forward and backward; as kernels/ref/pool.c has them.
 * Backward gathers: each element of dx sums what reaches it, so that nothing depends on the order of threads. */
#include "kernels/cuda/launch.cuh"

/* Where element i of a shape lies. */
struct spot {
    int64_t n, y, x, c;
};
__device__ __forceinline__ spot spot_of(const tensor_shape &s, int64_t i)
{
    spot at;
    at.c = i % s.c;
    i /= s.c;
    at.x = i % s.w;
    i /= s.w;
    at.y = i % s.h;
    at.n = i / s.h;
    return at;
}
__device__ __forceinline__ int64_t offset(const tensor_shape &s, int64_t n, int64_t y, int64_t x, int64_t c)
{
    return ((n * s.h + y) * s.w + x) * s.c + c;
}

/* ---- max: the winner is the first largest of its window, kept as ky * kernel + kx */
template <class T> struct max_forward {
    tensor_shape from, to;
    int kernel, stride, pad;
    const T *x;
    T *y;
    int32_t *winner; /* NULL: not wanted */
    __device__ void operator()(int64_t i) const
    {
        spot at = spot_of(to, i);
        float best = -INFINITY;
        int place = 0;
        for (int ky = 0; ky < kernel; ky++)
            for (int kx = 0; kx < kernel; kx++) {
                int64_t iy = at.y * stride - pad + ky, ix = at.x * stride - pad + kx;
                if (iy < 0 || iy >= from.h || ix < 0 || ix >= from.w) continue;
                float v = get(x[offset(from, at.n, iy, ix, at.c)]);
                if (best == -INFINITY || v > best) {
                    best = v;
                    place = ky * kernel + kx;
                }
            }
        put(y + i, best);
        if (winner) winner[i] = place;
    }
};

template <class T> struct max_backward {
    tensor_shape from, to;
    int kernel, stride, pad;
    const T *dy;
    const int32_t *winner;
    T *dx;
    __device__ void operator()(int64_t i) const
    {
        spot at = spot_of(from, i);
        float sum = 0;
        for (int ky = 0; ky < kernel; ky++)
            for (int kx = 0; kx < kernel; kx++) {
                int64_t oy = at.y + pad - ky, ox = at.x + pad - kx; /* times the stride */
                if (oy < 0 || ox < 0 || oy % stride || ox % stride || oy / stride >= to.h || ox / stride >= to.w) continue;
                int64_t o = offset(to, at.n, oy / stride, ox / stride, at.c);
                if (winner[o] == ky * kernel + kx) sum += get(dy[o]);
            }
        put(dx + i, sum);
    }
};

template <class T> static status max_run(plan *p, const op_args *a)
{
    const op *o = &p->o;
    size_t n;
    COV_TRY(tensor_count(p->pass == OP_FORWARD ? p->s.y : p->s.x[0], &n));
    if (p->pass == OP_FORWARD)
        return each(p->d, (int64_t)n,
                    max_forward<T>{p->s.x[0], p->s.y, o->kernel, o->stride, o->pad, (const T *)a->x[0].data, (T *)a->y.data,
                                   (int32_t *)a->saved[0].data});
    if (!a->dx[0].data) return COV_OK;
    return each(p->d, (int64_t)n,
                max_backward<T>{p->s.x[0], p->s.y, o->kernel, o->stride, o->pad, (const T *)a->dy.data,
                                (const int32_t *)a->saved[0].data, (T *)a->dx[0].data});
}

/* ---- global average: a thread a channel and image */
template <class T> struct average_forward {
    const T *x;
    T *y;
    int64_t area, c;
    __device__ void operator()(int64_t i) const
    {
        const T *from = x + i / c * area * c + i % c;
        double sum = 0;
        for (int64_t k = 0; k < area; k++) sum += (double)get(from[k * c]);
        put(y + i, (float)(sum / (double)area));
    }
};
template <class T> struct average_backward {
    const T *dy;
    T *dx;
    int64_t area, c;
    __device__ void operator()(int64_t i) const { put(dx + i, get(dy[i / (area * c) * c + i % c]) / (float)area); }
};

template <class T> static status average_run(plan *p, const op_args *a)
{
    tensor_shape x = p->s.x[0];
    int64_t area = x.h * x.w;
    if (p->pass == OP_FORWARD) return each(p->d, x.n * x.c, average_forward<T>{(const T *)a->x[0].data, (T *)a->y.data, area, x.c});
    if (!a->dx[0].data) return COV_OK;
    return each(p->d, x.n * area * x.c, average_backward<T>{(const T *)a->dy.data, (T *)a->dx[0].data, area, x.c});
}

extern "C" status cuda_pool_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    COV_TRY(cuda_plan_alloc(d, o, s, pass, sizeof(plan), out));
    if (o->kind == OP_MAXPOOL) (*out)->run = (*out)->bf16 ? max_run<bf16> : max_run<float>;
    else (*out)->run = (*out)->bf16 ? average_run<bf16> : average_run<float>;
    return COV_OK;
}

/* ---- resizing: half-pixel centres; one axis of a target pixel, its two sources and their weights */
struct tap {
    int64_t at[2];
    float weight[2];
};
__device__ inline tap tap_of(int nearest, int64_t target, int64_t in, int64_t out)
{
    tap t;
    if (nearest) {
        t.at[0] = t.at[1] = (2 * target + 1) * in / (2 * out);
        t.weight[0] = 1;
        t.weight[1] = 0;
        return t;
    }
    double centre = ((double)target + 0.5) * (double)in / (double)out - 0.5, low = floor(centre);
    int64_t a = (int64_t)low;
    t.at[0] = a < 0 ? 0 : a;
    t.at[1] = a + 1 >= in ? in - 1 : a + 1;
    t.weight[1] = (float)(centre - low);
    t.weight[0] = (float)(1 - (centre - low));
    return t;
}
/* Of the source pixel `at` in target pixel t. */
__device__ __forceinline__ float tap_weight(const tap &t, int64_t at)
{
    return (t.at[0] == at ? t.weight[0] : 0) + (t.at[1] == at ? t.weight[1] : 0);
}
/* The target pixels that may read source pixel `at` lie in first .. last. */
__device__ inline void tap_range(int64_t at, int64_t in, int64_t out, int64_t *first, int64_t *last)
{
    double scale = (double)out / (double)in;
    int64_t a = (int64_t)floor(((double)at - 0.5) * scale - 0.5) - 1, b = (int64_t)ceil(((double)at + 1.5) * scale - 0.5) + 1;
    *first = a < 0 || at == 0 ? 0 : a;
    *last = b >= out || at == in - 1 ? out - 1 : b;
}

template <class T, int V> struct resize_forward {
    tensor_shape from, to; /* channels in packs of V */
    int nearest;
    const T *x;
    T *y;
    __device__ void operator()(int64_t i) const
    {
        spot at = spot_of(to, i);
        tap v = tap_of(nearest, at.y, from.h, to.h), u = tap_of(nearest, at.x, from.w, to.w);
        float sum[V] = {}, part[V];
        for (int j = 0; j < 4; j++) {
            float w = v.weight[j / 2] * u.weight[j % 2];
            if (w == 0) continue;
            load<T, V>(part, x + offset(from, at.n, v.at[j / 2], u.at[j % 2], at.c) * V);
#pragma unroll
            for (int k = 0; k < V; k++) sum[k] += w * part[k];
        }
        store<T, V>(y + i * V, sum);
    }
};

template <class T, int V> struct resize_backward {
    tensor_shape from, to;
    int nearest;
    const T *dy;
    T *dx;
    __device__ void operator()(int64_t i) const
    {
        spot at = spot_of(from, i);
        int64_t y0, y1, x0, x1;
        float sum[V] = {}, part[V];
        tap_range(at.y, from.h, to.h, &y0, &y1);
        tap_range(at.x, from.w, to.w, &x0, &x1);
        for (int64_t oy = y0; oy <= y1; oy++) {
            float wy = tap_weight(tap_of(nearest, oy, from.h, to.h), at.y);
            if (wy == 0) continue;
            for (int64_t ox = x0; ox <= x1; ox++) {
                float w = wy * tap_weight(tap_of(nearest, ox, from.w, to.w), at.x);
                if (w == 0) continue;
                load<T, V>(part, dy + offset(to, at.n, oy, ox, at.c) * V);
#pragma unroll
                for (int k = 0; k < V; k++) sum[k] += w * part[k];
            }
        }
        store<T, V>(dx + i * V, sum);
    }
};

template <class T, int V> static status resize(plan *p, const op_args *a)
{
    tensor_shape from = p->s.x[0], to = p->s.y;
    from.c /= V;
    to.c /= V;
    if (p->pass == OP_FORWARD)
        return each(p->d, to.n * to.h * to.w * to.c, resize_forward<T, V>{from, to, p->o.nearest, (const T *)a->x[0].data, (T *)a->y.data});
    if (!a->dx[0].data) return COV_OK;
    return each(p->d, from.n * from.h * from.w * from.c,
                resize_backward<T, V>{from, to, p->o.nearest, (const T *)a->dy.data, (T *)a->dx[0].data});
}

template <class T> static status resize_run(plan *p, const op_args *a)
{
    enum { V = widest<T>::v };
    return p->s.y.c % V == 0 ? resize<T, V>(p, a) : resize<T, 1>(p, a);
}

extern "C" status cuda_resize_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    COV_TRY(cuda_plan_alloc(d, o, s, pass, sizeof(plan), out));
    (*out)->run = (*out)->bf16 ? resize_run<bf16> : resize_run<float>;
    return COV_OK;
}
