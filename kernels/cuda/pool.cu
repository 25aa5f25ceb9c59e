/* pool: max pooling, global average pooling and resizing, forward and backward; as kernels/ref/pool.c has them.
 * Backward gathers: each element of dx sums what reaches it, so that nothing depends on the order of threads. */
#include "kernels/cuda/launch.cuh"

/* Rows are image rows, (sample, y), of packs of V channels; c of a shape counts packs. */
struct spot {
    int64_t n;
    int y, x, c;
};
__device__ __forceinline__ spot spot_of(const tensor_shape &s, int64_t row, int i)
{
    spot at;
    at.n = (int64_t)((unsigned)row / (unsigned)s.h);
    at.y = (int)(row - at.n * s.h);
    at.x = i / (int)s.c;
    at.c = i - at.x * (int)s.c;
    return at;
}
__device__ __forceinline__ int64_t offset(const tensor_shape &s, int64_t n, int y, int x, int c) { return ((n * s.h + y) * s.w + x) * s.c + c; }

static tensor_shape in_packs(tensor_shape s, int v)
{
    s.c /= v;
    return s;
}

template <class F> static status each_pack(device *d, tensor_shape s, F f) { return each_in_rows(d, s.n * s.h, s.w * s.c, f); }

/* ---- max: the winner is the first largest of its window, kept as ky * kernel + kx. TWO: windows of 2 x 2 that lie within
 * the image, as our networks have. */
template <class T, int V, int TWO> struct max_forward {
    tensor_shape from, to;
    int kernel, stride, pad;
    const T *x;
    T *y;
    int32_t *winner; /* NULL: not wanted */
    __device__ void operator()(int64_t row, int i) const
    {
        spot at = spot_of(to, row, i);
        int size = TWO ? 2 : kernel, y0 = at.y * stride - pad, x0 = at.x * stride - pad;
        float best[V], v[V];
        pack<int32_t, V> place = {};
#pragma unroll
        for (int k = 0; k < V; k++) best[k] = -INFINITY;
#pragma unroll(TWO ? 4 : 1)
        for (int tap = 0; tap < size * size; tap++) {
            int iy = y0 + tap / size, ix = x0 + tap % size;
            if (!TWO && (iy < 0 || iy >= from.h || ix < 0 || ix >= from.w)) continue;
            load<T, V>(v, x + offset(from, at.n, iy, ix, at.c) * V);
#pragma unroll
            for (int k = 0; k < V; k++)
                if (best[k] == -INFINITY || v[k] > best[k]) best[k] = v[k], place.v[k] = tap;
        }
        int64_t to_at = (row * to.w * to.c + i) * V;
        store<T, V>(y + to_at, best);
        if (winner) *reinterpret_cast<pack<int32_t, V> *>(winner + to_at) = place;
    }
};

template <class T, int V> struct max_backward {
    tensor_shape from, to;
    int kernel, stride, pad;
    const T *dy;
    const int32_t *winner;
    T *dx;
    __device__ void operator()(int64_t row, int i) const
    {
        spot at = spot_of(from, row, i);
        float sum[V] = {}, v[V];
        for (int ky = 0; ky < kernel; ky++)
            for (int kx = 0; kx < kernel; kx++) {
                int oy = at.y + pad - ky, ox = at.x + pad - kx; /* times the stride */
                if (oy < 0 || ox < 0 || oy % stride || ox % stride || oy / stride >= to.h || ox / stride >= to.w) continue;
                int64_t o = offset(to, at.n, oy / stride, ox / stride, at.c) * V;
                pack<int32_t, V> won;
                take(&won, winner + o);
                load<T, V>(v, dy + o);
#pragma unroll
                for (int k = 0; k < V; k++) sum[k] += won.v[k] == ky * kernel + kx ? v[k] : 0;
            }
        store<T, V>(dx + (row * from.w * from.c + i) * V, sum);
    }
};

template <class T, int V> static status pool_max(plan *p, const op_args *a)
{
    const op *o = &p->o;
    tensor_shape from = in_packs(p->s.x[0], V), to = in_packs(p->s.y, V);
    const T *x = (const T *)a->x[0].data;
    T *y = (T *)a->y.data;
    int32_t *winner = (int32_t *)a->saved[0].data;
    if (p->pass == OP_FORWARD && o->kernel == 2 && o->pad == 0)
        return each_pack(p->d, to, max_forward<T, V, 1>{from, to, o->kernel, o->stride, o->pad, x, y, winner});
    if (p->pass == OP_FORWARD) return each_pack(p->d, to, max_forward<T, V, 0>{from, to, o->kernel, o->stride, o->pad, x, y, winner});
    if (!a->dx[0].data) return COV_OK;
    return each_pack(p->d, from, max_backward<T, V>{from, to, o->kernel, o->stride, o->pad, (const T *)a->dy.data, winner, (T *)a->dx[0].data});
}

template <class T> static status max_run(plan *p, const op_args *a)
{
    enum { V = widest<T>::v };
    return p->s.y.c % V == 0 ? pool_max<T, V>(p, a) : pool_max<T, 1>(p, a);
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
    int at[2];
    float weight[2];
};
__device__ inline tap tap_of(int nearest, int target, int64_t in, int64_t out)
{
    tap t;
    if (nearest) {
        t.at[0] = t.at[1] = (int)((2u * (unsigned)target + 1) * (unsigned)in / (2u * (unsigned)out));
        t.weight[0] = 1;
        t.weight[1] = 0;
        return t;
    }
    double centre = ((double)target + 0.5) * (double)in / (double)out - 0.5, low = floor(centre);
    int a = (int)low;
    t.at[0] = a < 0 ? 0 : a;
    t.at[1] = a + 1 >= in ? (int)in - 1 : a + 1;
    t.weight[1] = (float)(centre - low);
    t.weight[0] = (float)(1 - (centre - low));
    return t;
}
/* Of the source pixel `at` in target pixel t. */
__device__ __forceinline__ float tap_weight(const tap &t, int at)
{
    return (t.at[0] == at ? t.weight[0] : 0) + (t.at[1] == at ? t.weight[1] : 0);
}
/* The target pixels that may read source pixel `at` lie in first .. last. */
__device__ inline void tap_range(int at, int64_t in, int64_t out, int *first, int *last)
{
    double scale = (double)out / (double)in;
    int a = (int)floor(((double)at - 0.5) * scale - 0.5) - 1, b = (int)ceil(((double)at + 1.5) * scale - 0.5) + 1;
    *first = a < 0 || at == 0 ? 0 : a;
    *last = b >= out || at == in - 1 ? (int)out - 1 : b;
}

template <class T, int V> struct resize_forward {
    tensor_shape from, to;
    int nearest;
    const T *x;
    T *y;
    __device__ void operator()(int64_t row, int i) const
    {
        spot at = spot_of(to, row, i);
        tap v = tap_of(nearest, at.y, from.h, to.h), u = tap_of(nearest, at.x, from.w, to.w);
        float sum[V] = {}, part[V];
        int64_t y_at = (row * to.w * to.c + i) * V;
        if (nearest) {
            load<T, V>(sum, x + offset(from, at.n, v.at[0], u.at[0], at.c) * V);
            store<T, V>(y + y_at, sum);
            return;
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float w = v.weight[j / 2] * u.weight[j % 2];
            load<T, V>(part, x + offset(from, at.n, v.at[j / 2], u.at[j % 2], at.c) * V);
#pragma unroll
            for (int k = 0; k < V; k++) sum[k] += w != 0 ? w * part[k] : 0;
        }
        store<T, V>(y + y_at, sum);
    }
};

template <class T, int V> struct resize_backward {
    tensor_shape from, to;
    int nearest;
    const T *dy;
    T *dx;
    __device__ void operator()(int64_t row, int i) const
    {
        spot at = spot_of(from, row, i);
        int y0, y1, x0, x1;
        float sum[V] = {}, part[V];
        tap_range(at.y, from.h, to.h, &y0, &y1);
        tap_range(at.x, from.w, to.w, &x0, &x1);
        for (int oy = y0; oy <= y1; oy++) {
            float wy = tap_weight(tap_of(nearest, oy, from.h, to.h), at.y);
            if (wy == 0) continue;
            for (int ox = x0; ox <= x1; ox++) {
                float w = wy * tap_weight(tap_of(nearest, ox, from.w, to.w), at.x);
                if (w == 0) continue;
                load<T, V>(part, dy + offset(to, at.n, oy, ox, at.c) * V);
#pragma unroll
                for (int k = 0; k < V; k++) sum[k] += w * part[k];
            }
        }
        store<T, V>(dx + (row * from.w * from.c + i) * V, sum);
    }
};

template <class T, int V> static status resize(plan *p, const op_args *a)
{
    tensor_shape from = in_packs(p->s.x[0], V), to = in_packs(p->s.y, V);
    int nearest = p->o.nearest;
    if (p->pass == OP_FORWARD) return each_pack(p->d, to, resize_forward<T, V>{from, to, nearest, (const T *)a->x[0].data, (T *)a->y.data});
    if (!a->dx[0].data) return COV_OK;
    return each_pack(p->d, from, resize_backward<T, V>{from, to, nearest, (const T *)a->dy.data, (T *)a->dx[0].data});
}

template <class T> static status resize_run(plan *p, const op_args *a)
{
    enum { V = widest<T>::v };
    return p->s.y.c % V == 0 ? resize<T, V>(p, a) : resize<T, 1>(p, a);
}

extern "C" status cuda_resize_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    enum { SIDE_MOST = 32767 }; /* tap_of multiplies two sides in 32 bits */
    if (s->x[0].h > SIDE_MOST || s->x[0].w > SIDE_MOST || s->y.h > SIDE_MOST || s->y.w > SIDE_MOST)
        return COV_FAIL(COV_UNSUPPORTED, "cuda: resize from or to a side of more than %d pixels", SIDE_MOST);
    COV_TRY(cuda_plan_alloc(d, o, s, pass, sizeof(plan), out));
    (*out)->run = (*out)->bf16 ? resize_run<bf16> : resize_run<float>;
    return COV_OK;
}
