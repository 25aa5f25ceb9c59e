/* pointwise: ReLU, sigmoid, softmax, add and concat, forward and backward; formulas in kernels/op.h. */
#include "kernels/cuda/launch.cuh"

/* y = f(x) and dx = f(y, dy) of one element, for each kind. */
struct relu_f {
    __device__ static float forward(float x) { return x > 0 ? x : 0; }
    __device__ static float backward(float y, float dy) { return y > 0 ? dy : 0; }
};
struct sigmoid_f {
    __device__ static float forward(float x) { return 1 / (1 + expf(-x)); }
    __device__ static float backward(float y, float dy) { return dy * y * (1 - y); }
};

template <class T, class F, int V> struct unary_forward {
    const T *x;
    T *y;
    __device__ void operator()(int64_t i) const
    {
        float a[V];
        load<T, V>(a, x + i * V);
#pragma unroll
        for (int k = 0; k < V; k++) a[k] = F::forward(a[k]);
        store<T, V>(y + i * V, a);
    }
};
template <class T, class F, int V> struct unary_backward {
    const T *y, *dy;
    T *dx;
    __device__ void operator()(int64_t i) const
    {
        float a[V], b[V];
        load<T, V>(a, y + i * V);
        load<T, V>(b, dy + i * V);
#pragma unroll
        for (int k = 0; k < V; k++) a[k] = F::backward(a[k], b[k]);
        store<T, V>(dx + i * V, a);
    }
};

template <class T, class F> static status unary(device *d, op_pass pass, int64_t n, const void *in, const void *dy, void *out)
{
    enum { V = widest<T>::v };
    const T *x = (const T *)in, *g = (const T *)dy;
    T *to = (T *)out;
    int wide = n % V == 0;
    if (pass == OP_FORWARD && wide) return each(d, n / V, unary_forward<T, F, V>{x, to});
    if (pass == OP_FORWARD) return each(d, n, unary_forward<T, F, 1>{x, to});
    if (wide) return each(d, n / V, unary_backward<T, F, V>{x, g, to});
    return each(d, n, unary_backward<T, F, 1>{x, g, to});
}

extern "C" status cuda_relu_cut(device *d, int is_bf16, size_t n, const void *y, const void *dy, void *to)
{
    return is_bf16 ? unary<bf16, relu_f>(d, OP_BACKWARD, (int64_t)n, y, dy, to)
                   : unary<float, relu_f>(d, OP_BACKWARD, (int64_t)n, y, dy, to);
}

template <class T, class F> static status unary_run(plan *p, const op_args *a)
{
    size_t n;
    COV_TRY(tensor_count(p->s.y, &n));
    if (p->pass == OP_FORWARD) return unary<T, F>(p->d, OP_FORWARD, (int64_t)n, a->x[0].data, NULL, a->y.data);
    if (!a->dx[0].data) return COV_OK;
    return unary<T, F>(p->d, OP_BACKWARD, (int64_t)n, a->y.data, a->dy.data, a->dx[0].data);
}

/* ---- add */
template <class T, int V> struct add_forward {
    const T *a, *b;
    T *y;
    int relu;
    __device__ void operator()(int64_t i) const
    {
        float u[V], v[V];
        load<T, V>(u, a + i * V);
        load<T, V>(v, b + i * V);
#pragma unroll
        for (int k = 0; k < V; k++) {
            u[k] += v[k];
            if (relu && !(u[k] > 0)) u[k] = 0;
        }
        store<T, V>(y + i * V, u);
    }
};

template <class T> static status add_run(plan *p, const op_args *a)
{
    enum { V = widest<T>::v };
    size_t n;
    COV_TRY(tensor_count(p->s.y, &n));
    const T *x0 = (const T *)a->x[0].data, *x1 = (const T *)a->x[1].data;
    T *y = (T *)a->y.data;
    if (p->pass == OP_FORWARD && n % V == 0) return each(p->d, (int64_t)(n / V), add_forward<T, V>{x0, x1, y, p->o.relu});
    if (p->pass == OP_FORWARD) return each(p->d, (int64_t)n, add_forward<T, 1>{x0, x1, y, p->o.relu});
    for (int k = 0; k < 2; k++) {
        if (!a->dx[k].data) continue;
        if (p->o.relu) COV_TRY(cuda_relu_cut(p->d, p->bf16, n, a->y.data, a->dy.data, a->dx[k].data));
        else CUDA_TRY(cudaMemcpyAsync(a->dx[k].data, a->dy.data, n * sizeof(T), cudaMemcpyDeviceToDevice, p->d->stream));
    }
    return COV_OK;
}

/* ---- softmax: a thread a row; rows are short */
template <class T> struct softmax_forward {
    const T *x;
    T *y;
    int64_t c;
    __device__ void operator()(int64_t i) const
    {
        const T *row = x + i * c;
        float top = get(row[0]), sum = 0;
        for (int64_t k = 1; k < c; k++) top = fmaxf(top, get(row[k]));
        for (int64_t k = 0; k < c; k++) sum += expf(get(row[k]) - top);
        for (int64_t k = 0; k < c; k++) put(y + i * c + k, expf(get(row[k]) - top) / sum);
    }
};
template <class T> struct softmax_backward {
    const T *y, *dy;
    T *dx;
    int64_t c;
    __device__ void operator()(int64_t i) const
    {
        float dot = 0;
        for (int64_t k = i * c; k < (i + 1) * c; k++) dot += get(y[k]) * get(dy[k]);
        for (int64_t k = i * c; k < (i + 1) * c; k++) put(dx + k, get(y[k]) * (get(dy[k]) - dot));
    }
};

template <class T> static status softmax_run(plan *p, const op_args *a)
{
    size_t n;
    COV_TRY(tensor_count(p->s.y, &n));
    int64_t c = p->s.y.c, rows = (int64_t)n / c;
    if (p->pass == OP_FORWARD) return each(p->d, rows, softmax_forward<T>{(const T *)a->x[0].data, (T *)a->y.data, c});
    if (!a->dx[0].data) return COV_OK;
    return each(p->d, rows, softmax_backward<T>{(const T *)a->y.data, (const T *)a->dy.data, (T *)a->dx[0].data, c});
}

/* ---- concat: run k of y is run k of each input, one after the other */
template <class P> struct join {
    P *part[OP_MAX_X]; /* NULL: nothing to do */
    int end[OP_MAX_X]; /* in packs of a run of y */
    P *whole;
    int wide, split; /* a run of y; whole to parts */
    int64_t runs;    /* of a row */
    __device__ void operator()(int64_t row, int i) const
    {
        int run = i / wide, at = i - run * wide, first = 0;
        P *y = whole + row * runs * wide + i;
#pragma unroll
        for (int k = 0; k < OP_MAX_X; k++) {
            if (at >= first && at < end[k] && part[k]) {
                P *x = part[k] + (row * runs + run) * (end[k] - first) + (at - first);
                if (split) *x = *y;
                else *y = *x;
            }
            first = end[k];
        }
    }
};

/* What of one input lies together in y: the channels of a pixel, or all pixels of an image. */
static int64_t run_of(const plan *p, tensor_shape s) { return p->o.pixels ? s.h * s.w * s.c : s.c; }

template <class P, class T> static status join_all(plan *p, const op_args *a)
{
    const int64_t per = sizeof(P) / sizeof(T);
    tensor_shape y = p->s.y;
    join<P> f = {};
    f.wide = (int)(run_of(p, y) / per);
    f.split = p->pass == OP_BACKWARD;
    f.runs = p->o.pixels ? 1 : y.w;
    f.whole = (P *)(f.split ? a->dy.data : a->y.data);
    int64_t end = 0;
    for (int k = 0; k < OP_MAX_X; k++) {
        if (k < p->s.nx) end += run_of(p, p->s.x[k]) / per;
        f.end[k] = (int)end;
        if (k < p->s.nx) f.part[k] = (P *)(f.split ? a->dx[k].data : a->x[k].data);
    }
    return each_in_rows(p->d, p->o.pixels ? y.n : y.n * y.h, f.runs * f.wide, f);
}

template <class T> static status concat_run(plan *p, const op_args *a)
{
    enum { V = widest<T>::v };
    int wide = 1;
    for (int k = 0; k < p->s.nx; k++) wide &= run_of(p, p->s.x[k]) % V == 0;
    return wide ? join_all<pack<T, V>, T>(p, a) : join_all<T, T>(p, a);
}

template <class T> static status (*runner(op_kind kind))(plan *, const op_args *)
{
    switch (kind) {
    case OP_RELU:
        return unary_run<T, relu_f>;
    case OP_SIGMOID:
        return unary_run<T, sigmoid_f>;
    case OP_SOFTMAX:
        return softmax_run<T>;
    case OP_ADD:
        return add_run<T>;
    default:
        return concat_run<T>;
    }
}

extern "C" status cuda_pointwise_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    COV_TRY(cuda_plan_alloc(d, o, s, pass, sizeof(plan), out));
    (*out)->run = (*out)->bf16 ? runner<bf16>(o->kind) : runner<float>(o->kind);
    return COV_OK;
}
