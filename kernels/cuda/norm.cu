/* norm: GroupNorm and BatchNorm, forward and backward, with the residual and ReLU that are fused; formulas in
 * kernels/ref/norm.c. A set is what shares a mean: one sample's group of channels, or one channel of all samples.
 *
 * Forward: every chunk of rows sums (x - K) and its square for each channel, K its first pixel, so that nothing cancels;
 * chunks join in double (Chan et al. 1983). Backward: sums of dy and dy * xhat a channel and chunk serve dgamma and dbeta
 * and, joined over a set with gamma, dx. Scratch: the chunks' sums, then two doubles and two floats a set. */
#include "kernels/cuda/channels.cuh"

struct norm_plan {
    plan base;
    channels g;
    int v, group, frozen;
    int64_t sets, width; /* width: channels of a set */
};

/* Index of the set of a sample's channel. */
struct set_of {
    int group;
    int64_t groups, width;
    __device__ int64_t operator()(int64_t n, int64_t c) const { return group ? n * groups + c / width : c; }
};

template <class T, int V> struct shifted_terms {
    const T *x;
    int64_t rows, c;
    struct channel {
        float k[V];
    };
    __device__ void begin(channel *s, int64_t n, int64_t first, int64_t ch) const { load<T, V>(s->k, x + (n * rows + first) * c + ch); }
    __device__ void step(const channel &s, int64_t at, float *a, float *b) const
    {
        load<T, V>(a, x + at);
#pragma unroll
        for (int k = 0; k < V; k++) {
            a[k] -= s.k[k];
            b[k] = a[k] * a[k];
        }
    }
};

/* Statistics of one set by one block: saved and run may be NULL. */
template <class T> struct statistics_of {
    channels g;
    const T *x;
    const double *part;
    float *mean, *rstd, *saved_mean, *saved_rstd, *moved_mean, *moved_var;
    int group;
    int64_t groups, width;
    float eps, momentum;
};

template <class T> __global__ void __launch_bounds__(BLOCK) statistics_kernel(statistics_of<T> s)
{
    __shared__ double room[BLOCK];
    const channels g = s.g;
    int64_t set = blockIdx.x, chunks = s.group ? g.chunks : g.n * g.chunks, ch0 = s.group ? set % s.groups * s.width : set;
    int64_t chunk0 = s.group ? set / s.groups * g.chunks : 0;
    double weighted = 0, size = (double)(s.group ? g.rows * s.width : g.n * g.rows), squares = 0;
    for (int pass = 0; pass < 2; pass++) {
        double centre = weighted / size, sum = 0; /* of the set, once known */
        for (int64_t i = threadIdx.x; i < chunks * s.width; i += BLOCK) {
            int64_t k = chunk0 + i / s.width, ch = ch0 + i % s.width, first = k % g.chunks * g.each;
            double count = (double)(first + g.each < g.rows ? g.each : g.rows - first);
            double shift = (double)get(s.x[(k / g.chunks * g.rows + first) * g.c + ch]);
            const double *p = s.part + (k * g.c + ch) * 2;
            double mean = shift + p[0] / count, spread = p[1] - p[0] * p[0] / count;
            sum += pass == 0 ? count * mean : (spread > 0 ? spread : 0) + count * (mean - centre) * (mean - centre);
        }
        sum = block_sum(sum, room);
        if (pass == 0) weighted = sum;
        else squares = sum;
    }
    if (threadIdx.x > 0) return;
    double mean = weighted / size, var = squares / size;
    float rstd = (float)(1 / sqrt(var + (double)s.eps));
    s.mean[set] = (float)mean;
    s.rstd[set] = rstd;
    if (s.saved_mean) s.saved_mean[set] = (float)mean;
    if (s.saved_rstd) s.saved_rstd[set] = rstd;
    if (!s.moved_mean) return;
    double m = (double)s.momentum, unbiased = size > 1 ? squares / (size - 1) : var;
    s.moved_mean[set] = (float)((1 - m) * (double)s.moved_mean[set] + m * mean);
    s.moved_var[set] = (float)((1 - m) * (double)s.moved_var[set] + m * unbiased);
}

struct frozen_statistics {
    const float *run_mean, *run_var;
    float *mean, *rstd, *saved_mean, *saved_rstd;
    float eps;
    __device__ void operator()(int64_t c) const
    {
        float r = (float)(1 / sqrt((double)run_var[c] + (double)eps));
        mean[c] = run_mean[c];
        rstd[c] = r;
        if (saved_mean) saved_mean[c] = run_mean[c];
        if (saved_rstd) saved_rstd[c] = r;
    }
};

/* What forward and backward read of a channel. */
template <int V> struct norm_channel {
    float mean[V], rstd[V], gamma[V], beta[V];
};
template <int V>
__device__ __forceinline__ void channel_load(norm_channel<V> *s, const set_of &of, int64_t n, int64_t ch, const float *mean, const float *rstd,
                                            const float *gamma, const float *beta)
{
#pragma unroll
    for (int k = 0; k < V; k++) {
        int64_t set = of(n, ch + k);
        s->mean[k] = mean[set];
        s->rstd[k] = rstd[set];
        s->gamma[k] = gamma[ch + k];
        s->beta[k] = beta ? beta[ch + k] : 0;
    }
}

template <class T, int V> struct norm_forward {
    const T *x, *residual;
    T *y;
    const float *mean, *rstd, *gamma, *beta;
    set_of of;
    int relu;
    typedef norm_channel<V> channel;
    __device__ void begin(channel *s, int64_t n, int64_t, int64_t ch) const { channel_load<V>(s, of, n, ch, mean, rstd, gamma, beta); }
    __device__ void step(const channel &s, int64_t at) const
    {
        float v[V], more[V];
        load<T, V>(v, x + at);
        if (residual) load<T, V>(more, residual + at);
#pragma unroll
        for (int k = 0; k < V; k++) {
            v[k] = (v[k] - s.mean[k]) * s.rstd[k] * s.gamma[k] + s.beta[k];
            if (residual) v[k] += more[k];
            if (relu && !(v[k] > 0)) v[k] = 0;
        }
        store<T, V>(y + at, v);
    }
};

template <class T, int V> struct backward_terms {
    const T *x, *y, *dy; /* y: NULL without ReLU */
    const float *mean, *rstd, *gamma;
    set_of of;
    typedef norm_channel<V> channel;
    __device__ void begin(channel *s, int64_t n, int64_t, int64_t ch) const { channel_load<V>(s, of, n, ch, mean, rstd, gamma, NULL); }
    /* a: dy * xhat, b: dy */
    __device__ void step(const channel &s, int64_t at, float *a, float *b) const
    {
        float cut[V];
        load<T, V>(a, x + at);
        load<T, V>(b, dy + at);
        if (y) load<T, V>(cut, y + at);
#pragma unroll
        for (int k = 0; k < V; k++) {
            if (y && !(cut[k] > 0)) b[k] = 0;
            a[k] = b[k] * (a[k] - s.mean[k]) * s.rstd[k];
        }
    }
};

/* of_set[2 * set]: the sums over the set of dy * gamma * xhat and dy * gamma. */
__global__ void __launch_bounds__(BLOCK) set_sums_kernel(channels g, int group, int64_t groups, int64_t width, const double *part,
                                                         const float *gamma, double *of_set)
{
    __shared__ double room[BLOCK];
    int64_t set = blockIdx.x, chunks = group ? g.chunks : g.n * g.chunks, ch0 = group ? set % groups * width : set;
    int64_t chunk0 = group ? set / groups * g.chunks : 0;
    for (int j = 0; j < 2; j++) {
        double sum = 0;
        for (int64_t i = threadIdx.x; i < chunks * width; i += BLOCK) {
            int64_t ch = ch0 + i % width;
            sum += (double)gamma[ch] * part[((chunk0 + i / width) * g.c + ch) * 2 + j];
        }
        sum = block_sum(sum, room);
        if (threadIdx.x == 0) of_set[2 * set + j] = sum;
    }
}

template <class T, int V> struct norm_backward {
    const T *x, *y, *dy;
    T *dx, *dr; /* either may be NULL */
    const float *mean, *rstd, *gamma;
    const double *of_set; /* NULL: frozen */
    double size;
    set_of of;
    struct channel {
        norm_channel<V> of;
        float product[V], sum[V]; /* means over the set */
    };
    __device__ void begin(channel *s, int64_t n, int64_t, int64_t ch) const
    {
        channel_load<V>(&s->of, of, n, ch, mean, rstd, gamma, NULL);
#pragma unroll
        for (int k = 0; k < V; k++) {
            int64_t set = of(n, ch + k);
            s->product[k] = of_set ? (float)(of_set[2 * set] / size) : 0;
            s->sum[k] = of_set ? (float)(of_set[2 * set + 1] / size) : 0;
        }
    }
    __device__ void step(const channel &s, int64_t at) const
    {
        float v[V], g[V], cut[V];
        load<T, V>(v, x + at);
        load<T, V>(g, dy + at);
        if (y) load<T, V>(cut, y + at);
#pragma unroll
        for (int k = 0; k < V; k++) {
            if (y && !(cut[k] > 0)) g[k] = 0;
            float hat = (v[k] - s.of.mean[k]) * s.of.rstd[k];
            v[k] = s.of.rstd[k] * (g[k] * s.of.gamma[k] - s.sum[k] - hat * s.product[k]);
        }
        if (dx) store<T, V>(dx + at, v);
        if (dr) store<T, V>(dr + at, g);
    }
};

struct norm_scratch {
    double *part, *of_set;
    float *mean, *rstd;
};
static size_t scratch_of(const norm_plan *p, char *base, norm_scratch *s)
{
    size_t part = channels_part_bytes(p->g), sets = (size_t)p->sets;
    if (base) {
        s->part = (double *)base;
        s->of_set = (double *)(base + part);
        s->mean = (float *)(base + part + 2 * sets * sizeof(double));
        s->rstd = s->mean + sets;
    }
    return part + sets * (2 * sizeof(double) + 2 * sizeof(float));
}

template <class T, int V> static status forward(const norm_plan *p, const op_args *a)
{
    const op *o = &p->base.o;
    device *d = p->base.d;
    norm_scratch s = {};
    const T *x = (const T *)a->x[0].data;
    float *saved_mean = (float *)a->saved[0].data, *saved_rstd = (float *)a->saved[1].data;
    scratch_of(p, (char *)d->scratch, &s);
    if (p->frozen) {
        COV_TRY(each(d, p->sets, frozen_statistics{(const float *)a->p[2].data, (const float *)a->p[3].data, s.mean, s.rstd, saved_mean,
                                                   saved_rstd, o->eps}));
    } else {
        COV_TRY(channels_sum<V>(d, p->g, shifted_terms<T, V>{x, p->g.rows, p->g.c}, s.part));
        statistics_of<T> of = {p->g, x, s.part, s.mean, s.rstd, saved_mean, saved_rstd, NULL, NULL, p->group, o->groups, p->width, o->eps,
                               o->momentum};
        if (!p->group) of.moved_mean = (float *)a->p[2].data, of.moved_var = (float *)a->p[3].data;
        LAUNCH(d, statistics_kernel<T>, dim3((unsigned)p->sets), of);
    }
    return channels_each<V>(d, p->g,
                            norm_forward<T, V>{x, o->residual ? (const T *)a->x[1].data : NULL, (T *)a->y.data, s.mean, s.rstd,
                                               (const float *)a->p[0].data, (const float *)a->p[1].data,
                                               set_of{p->group, o->groups, p->width}, o->relu});
}

template <class T, int V> static status backward(const norm_plan *p, const op_args *a)
{
    const op *o = &p->base.o;
    device *d = p->base.d;
    norm_scratch s = {};
    set_of of = {p->group, o->groups, p->width};
    const T *x = (const T *)a->x[0].data, *dy = (const T *)a->dy.data, *y = o->relu ? (const T *)a->y.data : NULL;
    const float *mean = (const float *)a->saved[0].data, *rstd = (const float *)a->saved[1].data, *gamma = (const float *)a->p[0].data;
    float *dgamma = (float *)a->dp[0].data, *dbeta = (float *)a->dp[1].data;
    T *dx = (T *)a->dx[0].data, *dr = o->residual ? (T *)a->dx[1].data : NULL;
    int sums = dgamma || dbeta || (dx && !p->frozen);
    scratch_of(p, (char *)d->scratch, &s);
    if (sums) COV_TRY(channels_sum<V>(d, p->g, backward_terms<T, V>{x, y, dy, mean, rstd, gamma, of}, s.part));
    if (dgamma || dbeta) COV_TRY(each(d, p->g.c, channels_total{p->g, s.part, {dgamma, dbeta}}));
    if (!dx && !dr) return COV_OK;
    if (dx && !p->frozen)
        LAUNCH(d, set_sums_kernel, dim3((unsigned)p->sets), p->g, p->group, (int64_t)o->groups, p->width, (const double *)s.part, gamma,
               s.of_set);
    double size = (double)(p->group ? p->g.rows * p->width : p->g.n * p->g.rows);
    return channels_each<V>(d, p->g, norm_backward<T, V>{x, y, dy, dx, dr, mean, rstd, gamma, dx && !p->frozen ? s.of_set : NULL, size, of});
}

template <class T> static status run(plan *base, const op_args *a)
{
    enum { V = widest<T>::v };
    const norm_plan *p = (const norm_plan *)base;
    if (base->pass == OP_FORWARD) return p->v > 1 ? forward<T, V>(p, a) : forward<T, 1>(p, a);
    return p->v > 1 ? backward<T, V>(p, a) : backward<T, 1>(p, a);
}

extern "C" status cuda_norm_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    tensor_shape x = s->x[0];
    COV_TRY(cuda_plan_alloc(d, o, s, pass, sizeof(norm_plan), out));
    norm_plan *p = (norm_plan *)*out;
    p->v = channels_pack(p->base.bf16, x.c);
    p->g = channels_plan(x.n, x.h * x.w, x.c, p->v);
    p->group = o->kind == OP_GROUPNORM;
    p->frozen = !p->group && !o->training;
    p->width = p->group ? x.c / o->groups : 1;
    p->sets = p->group ? x.n * o->groups : x.c;
    p->base.run = p->base.bf16 ? run<bf16> : run<float>;
    return cuda_reserve(d, scratch_of(p, NULL, NULL));
}
