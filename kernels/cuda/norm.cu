/* norm: GroupNorm and BatchNorm, forward and backward, with the residual and ReLU that are fused; formulas in
 * kernels/ref/norm.c. A set is what shares a mean: one sample's group of channels, or one channel of all samples.
 *
 * Forward: each thread sums x - K and its square, K the first element that it reads, so that nothing cancels; its sums
 * become sums of x and x^2 in double, which simply add. (What cancels there is less than what rounding x itself to F32
 * has lost.) Backward: sums of dy * xhat and dy a channel and sample serve dgamma and dbeta and, joined over a set with
 * gamma, dx. Scratch: the chunks' sums, then a channel's of each sample, then four floats a set. */
#include "kernels/cuda/channels.cuh"

struct norm_plan {
    plan base;
    channels g, sums; /* of what goes over elements, and of what is summed: columns are sets forward, channels backward */
    int v, group, frozen;
    int64_t sets, samples, width; /* samples: that have sets of their own; width: channels of a set */
};

/* Statistics of a set: saved and moved may be NULL. */
struct set_statistics {
    int64_t columns;
    double size;
    float eps, momentum;
    float *mean, *rstd, *saved_mean, *saved_rstd, *moved_mean, *moved_var;
    __device__ void operator()(int64_t column, int64_t sample, const double *sum) const
    {
        int64_t set = sample * columns + column;
        double centre = sum[0] / size, squares = sum[1] - sum[0] * centre;
        squares = squares > 0 ? squares : 0;
        float m = (float)centre, r = (float)(1 / sqrt(squares / size + (double)eps));
        mean[set] = m;
        rstd[set] = r;
        if (saved_mean) saved_mean[set] = m;
        if (saved_rstd) saved_rstd[set] = r;
        if (!moved_mean) return;
        double part = (double)momentum, unbiased = size > 1 ? squares / (size - 1) : squares;
        moved_mean[set] = (float)((1 - part) * (double)moved_mean[set] + part * centre);
        moved_var[set] = (float)((1 - part) * (double)moved_var[set] + part * unbiased);
    }
};

template <class T, int V> struct shifted_terms {
    enum { sums = 2, ahead = 4 };
    const T *x;
    int common; /* one K for the pack: its channels are of one set */
    struct channel {
        float k[V];
    };
    typedef pack<T, V> input;
    __device__ void begin(channel *s, int64_t, int, int64_t at) const
    {
        load<T, V>(s->k, x + at);
#pragma unroll
        for (int k = 1; k < V; k++) s->k[k] = common ? s->k[0] : s->k[k];
    }
    __device__ void read(input *in, int64_t at) const { take(in, x + at); }
    __device__ void add(const channel &s, const input &in, float (*sum)[V]) const
    {
#pragma unroll
        for (int k = 0; k < V; k++) {
            float v = get(in.v[k]) - s.k[k];
            sum[0][k] += v;
            sum[1][k] += v * v;
        }
    }
    /* Of x - K and its square to x and its square. */
    template <int Q> __device__ void finish(const channel &s, int rows, const float (*sum)[V], double (*total)[Q]) const
    {
        double count = (double)(rows * (V / Q));
#pragma unroll
        for (int q = 0; q < Q; q++) {
            double shift = (double)s.k[q], a = (double)gathered<V, Q>(sum[0], q), b = (double)gathered<V, Q>(sum[1], q);
            total[0][q] = a + count * shift;
            total[1][q] = b + shift * (2 * a + count * shift);
        }
    }
};

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

/* Of each of a pack's channels, the value of its set; sets of a sample lie one after the other. */
struct set_of {
    int group, groups, width;
    template <int V> __device__ __forceinline__ void read(float to[V], const float *from, int64_t n, int ch) const
    {
        int set = ch / width, left = width - (ch - set * width);
        from += (group ? n * groups : 0) + set;
        to[0] = *from;
#pragma unroll
        for (int k = 1; k < V; k++) {
            to[k] = to[0];
            if (width >= V) continue; /* all of one set */
            if (--left == 0) from++, left = width;
            to[k] = *from;
        }
    }
};

/* MORE: there is a residual. */
template <class T, int V, int MORE> struct norm_forward {
    enum { ahead = MORE ? 2 : 4 };
    const T *x, *residual;
    T *y;
    const float *mean, *rstd, *gamma, *beta;
    set_of of;
    int relu;
    struct channel {
        float mean[V], scale[V], beta[V];
    };
    struct input {
        pack<T, V> x, more[MORE + 1];
    };
    __device__ void begin(channel *s, int64_t n, int ch) const
    {
        float by[V];
        of.read<V>(s->mean, mean, n, ch);
        of.read<V>(s->scale, rstd, n, ch);
        load<float, V>(by, gamma + ch);
        load<float, V>(s->beta, beta + ch);
#pragma unroll
        for (int k = 0; k < V; k++) s->scale[k] *= by[k];
    }
    __device__ void read(input *in, int64_t at) const
    {
        take(&in->x, x + at);
        if (MORE) take(&in->more[MORE], residual + at);
    }
    __device__ void write(const channel &s, const input &in, int64_t at) const
    {
        float v[V];
#pragma unroll
        for (int k = 0; k < V; k++) {
            v[k] = (get(in.x.v[k]) - s.mean[k]) * s.scale[k] + s.beta[k];
            if (MORE) v[k] += get(in.more[MORE].v[k]);
            if (relu && !(v[k] > 0)) v[k] = 0;
        }
        store<T, V>(y + at, v);
    }
};

/* CUT: a ReLU came behind, and where y is 0, dy counts as 0. */
template <class T, int V, int CUT> struct normed {
    pack<T, V> x, dy, y[CUT + 1];
    __device__ __forceinline__ void read(const T *from_x, const T *from_dy, const T *from_y, int64_t at)
    {
        take(&x, from_x + at);
        take(&dy, from_dy + at);
        if (CUT) take(&y[CUT], from_y + at);
    }
    __device__ __forceinline__ float gradient(int k) const { return CUT && !(get(y[CUT].v[k]) > 0) ? 0 : get(dy.v[k]); }
};

template <class T, int V, int CUT> struct backward_terms {
    enum { sums = 2, ahead = 2 };
    const T *x, *y, *dy;
    const float *mean, *rstd;
    set_of of;
    struct channel {
        float mean[V], rstd[V];
    };
    typedef normed<T, V, CUT> input;
    __device__ void begin(channel *s, int64_t n, int ch, int64_t) const
    {
        of.read<V>(s->mean, mean, n, ch);
        of.read<V>(s->rstd, rstd, n, ch);
    }
    __device__ void read(input *in, int64_t at) const { in->read(x, dy, y, at); }
    /* dy * xhat, and dy */
    __device__ void add(const channel &s, const input &in, float (*sum)[V]) const
    {
#pragma unroll
        for (int k = 0; k < V; k++) {
            float g = in.gradient(k);
            sum[0][k] += g * (get(in.x.v[k]) - s.mean[k]) * s.rstd[k];
            sum[1][k] += g;
        }
    }
    template <int Q> __device__ void finish(const channel &, int, const float (*sum)[V], double (*total)[Q]) const
    {
        channels_as_added<2, V, Q>(sum, total);
    }
};

/* A channel's sums of one sample (or of all) are kept. */
struct keep_sums {
    int64_t c;
    double *to;
    __device__ void operator()(int64_t column, int64_t sample, const double *sum) const
    {
        to[(sample * c + column) * 2] = sum[0];
        to[(sample * c + column) * 2 + 1] = sum[1];
    }
};

/* A block a set: the means over the set of dy * gamma * xhat and dy * gamma; with the first sample's sets, dgamma and
 * dbeta (NULL: not wanted) of all samples. */
struct set_means {
    int64_t samples, c, width;
    double size;
    const double *sums;
    const float *gamma;
    float *product, *sum, *dgamma, *dbeta;
};
__global__ void __launch_bounds__(BLOCK) set_means_kernel(set_means s)
{
    __shared__ double room[2 * BLOCK];
    int64_t sets = s.c / s.width, sample = blockIdx.x / sets, first = blockIdx.x % sets * s.width;
    double of_set[2] = {};
    for (int64_t ch = first + threadIdx.x; ch < first + s.width; ch += BLOCK) {
        const double *own = s.sums + (sample * s.c + ch) * 2;
        of_set[0] += (double)s.gamma[ch] * own[0];
        of_set[1] += (double)s.gamma[ch] * own[1];
        double all[2] = {};
        for (int64_t n = 0; n < s.samples && sample == 0; n++)
            for (int j = 0; j < 2; j++) all[j] += own[n * s.c * 2 + j];
        if (s.dgamma && sample == 0) s.dgamma[ch] += (float)all[0];
        if (s.dbeta && sample == 0) s.dbeta[ch] += (float)all[1];
    }
    block_sums<2>(of_set, room);
    if (threadIdx.x > 0) return;
    s.product[blockIdx.x] = (float)(of_set[0] / s.size);
    s.sum[blockIdx.x] = (float)(of_set[1] / s.size);
}

/* dx = rstd * (gamma * dy - sum - xhat * product) */
template <class T, int V, int CUT> struct norm_backward {
    enum { ahead = 2 };
    const T *x, *y, *dy;
    T *dx, *dr; /* either may be NULL */
    const float *mean, *rstd, *gamma, *product, *sum; /* product, sum: NULL: frozen */
    set_of of;
    struct channel {
        float mean[V], rstd[V], gamma[V], product[V], sum[V];
    };
    typedef normed<T, V, CUT> input;
    __device__ void begin(channel *s, int64_t n, int ch) const
    {
        of.read<V>(s->mean, mean, n, ch);
        of.read<V>(s->rstd, rstd, n, ch);
        load<float, V>(s->gamma, gamma + ch);
        if (product) of.read<V>(s->product, product, n, ch);
        if (product) of.read<V>(s->sum, sum, n, ch);
#pragma unroll
        for (int k = 0; k < V && !product; k++) s->product[k] = s->sum[k] = 0;
    }
    __device__ void read(input *in, int64_t at) const { in->read(x, dy, y, at); }
    __device__ void write(const channel &s, const input &in, int64_t at) const
    {
        float v[V], g[V];
#pragma unroll
        for (int k = 0; k < V; k++) {
            g[k] = in.gradient(k);
            float hat = (get(in.x.v[k]) - s.mean[k]) * s.rstd[k];
            v[k] = s.rstd[k] * (g[k] * s.gamma[k] - s.sum[k] - hat * s.product[k]);
        }
        if (dx) store<T, V>(dx + at, v);
        if (dr) store<T, V>(dr + at, g);
    }
};

struct norm_scratch {
    double *part, *sums;
    float *mean, *rstd, *product, *sum;
};
static size_t scratch_of(const norm_plan *p, char *base, norm_scratch *s)
{
    size_t part = channels_part_bytes(p->sums, 2), sums = (size_t)(p->samples * p->g.c) * 2 * sizeof(double), sets = (size_t)p->sets;
    if (base) {
        s->part = (double *)base;
        s->sums = (double *)(base + part);
        s->mean = (float *)(base + part + sums);
        s->rstd = s->mean + sets;
        s->product = s->rstd + sets;
        s->sum = s->product + sets;
    }
    return part + sums + 4 * sets * sizeof(float);
}

static double size_of(const norm_plan *p) { return (double)(p->g.n / p->samples * p->g.rows * p->width); }

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
        set_statistics sets = {p->sets / p->samples, size_of(p), o->eps, o->momentum, s.mean, s.rstd, saved_mean, saved_rstd, NULL, NULL};
        if (!p->group) sets.moved_mean = (float *)a->p[2].data, sets.moved_var = (float *)a->p[3].data;
        COV_TRY(channels_sum<V>(d, p->sums, shifted_terms<T, V>{x, p->sums.width >= V}, s.part));
        COV_TRY((channels_total<2>(d, p->sums, p->samples, s.part, sets)));
    }
    const float *gamma = (const float *)a->p[0].data, *beta = (const float *)a->p[1].data;
    set_of of = {p->group, o->groups, (int)p->width};
    T *y = (T *)a->y.data;
    if (!o->residual) return channels_each<V>(d, p->g, norm_forward<T, V, 0>{x, NULL, y, s.mean, s.rstd, gamma, beta, of, o->relu});
    return channels_each<V>(d, p->g, norm_forward<T, V, 1>{x, (const T *)a->x[1].data, y, s.mean, s.rstd, gamma, beta, of, o->relu});
}

template <class T, int V, int CUT> static status backward(const norm_plan *p, const op_args *a)
{
    const op *o = &p->base.o;
    device *d = p->base.d;
    norm_scratch s = {};
    set_of of = {p->group, o->groups, (int)p->width};
    const T *x = (const T *)a->x[0].data, *dy = (const T *)a->dy.data, *y = (const T *)a->y.data;
    const float *mean = (const float *)a->saved[0].data, *rstd = (const float *)a->saved[1].data, *gamma = (const float *)a->p[0].data;
    float *dgamma = (float *)a->dp[0].data, *dbeta = (float *)a->dp[1].data;
    T *dx = (T *)a->dx[0].data, *dr = o->residual ? (T *)a->dx[1].data : NULL;
    scratch_of(p, (char *)d->scratch, &s);
    if (dgamma || dbeta || (dx && !p->frozen)) {
        COV_TRY(channels_sum<V>(d, p->sums, backward_terms<T, V, CUT>{x, y, dy, mean, rstd, of}, s.part));
        COV_TRY((channels_total<2>(d, p->sums, p->samples, s.part, keep_sums{p->g.c, s.sums})));
        LAUNCH(d, set_means_kernel, dim3((unsigned)p->sets),
               set_means{p->samples, p->g.c, p->width, size_of(p), s.sums, gamma, s.product, s.sum, dgamma, dbeta});
    }
    if (!dx && !dr) return COV_OK;
    return channels_each<V>(d, p->g, norm_backward<T, V, CUT>{x, y, dy, dx, dr, mean, rstd, gamma, p->frozen ? NULL : s.product, s.sum, of});
}

template <class T> static status run(plan *base, const op_args *a)
{
    enum { V = widest<T>::v };
    const norm_plan *p = (const norm_plan *)base;
    if (base->pass == OP_FORWARD) return p->v > 1 ? forward<T, V>(p, a) : forward<T, 1>(p, a);
    if (base->o.relu) return p->v > 1 ? backward<T, V, 1>(p, a) : backward<T, 1, 1>(p, a);
    return p->v > 1 ? backward<T, V, 0>(p, a) : backward<T, 1, 0>(p, a);
}

extern "C" status cuda_norm_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    tensor_shape x = s->x[0];
    COV_TRY(cuda_plan_alloc(d, o, s, pass, sizeof(norm_plan), out));
    norm_plan *p = (norm_plan *)*out;
    p->group = o->kind == OP_GROUPNORM;
    p->frozen = !p->group && !o->training;
    p->width = p->group ? x.c / o->groups : 1;
    p->samples = p->group ? x.n : 1;
    p->sets = x.c / p->width * p->samples;
    p->v = channels_pack(p->base.bf16, x.c, p->width);
    p->g = channels_plan(x.n, x.h * x.w, x.c, p->v, 1, CHANNEL_BLOCKS);
    p->sums = channels_plan(x.n, x.h * x.w, x.c, p->v, pass == OP_FORWARD ? p->width : 1, CHANNEL_SUM_BLOCKS);
    p->base.run = p->base.bf16 ? run<bf16> : run<float>;
    return cuda_reserve(d, scratch_of(p, NULL, NULL));
}
