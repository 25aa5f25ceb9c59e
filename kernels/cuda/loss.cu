/* loss: BCE, soft Dice, cross-entropy and smooth L1 on logits, value and gradient; formulas in kernels/op.h.
 *
 * Sums run over fixed pieces in double and are joined in order. Backward computes its denominators again instead of
 * saving them. An element without weight or label has no gradient. Scratch: pieces' sums, then the samples'. */
#include "kernels/cuda/launch.cuh"

enum { PIECE = 4 * BLOCK };

struct loss_plan {
    plan base;
    int64_t samples, count, pieces; /* Dice: its samples, and elements of one; else one, and all elements (ce: rows) */
};

template <class T> struct loss_view {
    const T *x;
    const float *target, *weight;
    const int32_t *label;
    int64_t c;
    float beta, eps;
};

__device__ __forceinline__ float sigmoid(float z) { return 1 / (1 + expf(-z)); }
template <class T> __device__ __forceinline__ float weight_of(const loss_view<T> &v, int64_t i) { return v.weight ? fmaxf(v.weight[i], 0) : 1; }
/* A label outside 0..c-1 is none. */
template <class T> __device__ __forceinline__ int labelled(const loss_view<T> &v, int64_t r) { return v.label[r] >= 0 && v.label[r] < v.c; }

template <class T> __device__ inline float log_sum(const T *row, int64_t c)
{
    float top = get(row[0]), sum = 0;
    for (int64_t k = 1; k < c; k++) top = fmaxf(top, get(row[k]));
    for (int64_t k = 0; k < c; k++) sum += expf(get(row[k]) - top);
    return top + logf(sum);
}

/* Each loss: terms of element (row) i for the two sums, and the gradient of element i from the sums of its sample. */
struct bce {
    template <class T> __device__ static void terms(const loss_view<T> &v, int64_t i, double s[2])
    {
        float z = get(v.x[i]), w = weight_of(v, i);
        s[0] += (double)(w * (fmaxf(z, 0) - z * v.target[i] + log1pf(expf(-fabsf(z)))));
        s[1] += (double)w;
    }
    template <class T> __device__ static float gradient(const loss_view<T> &v, int64_t i, const double s[2], double scale)
    {
        return s[1] > 0 ? (float)(scale / s[1]) * weight_of(v, i) * (sigmoid(get(v.x[i])) - v.target[i]) : 0;
    }
};
struct dice {
    template <class T> __device__ static void terms(const loss_view<T> &v, int64_t i, double s[2])
    {
        float p = sigmoid(get(v.x[i])), t = v.target[i];
        s[0] += 2 * (double)(p * t);
        s[1] += (double)(p + t);
    }
    template <class T> __device__ static float gradient(const loss_view<T> &v, int64_t i, const double s[2], double scale)
    {
        double above = s[0] + (double)v.eps, below = s[1] + (double)v.eps;
        float p = sigmoid(get(v.x[i]));
        return (float)(-scale * (2 * (double)v.target[i] * below - above) / (below * below)) * p * (1 - p);
    }
};
struct cross_entropy {
    template <class T> __device__ static void terms(const loss_view<T> &v, int64_t r, double s[2])
    {
        if (!labelled(v, r)) return;
        s[0] += (double)(log_sum(v.x + r * v.c, v.c) - get(v.x[r * v.c + v.label[r]]));
        s[1] += 1;
    }
    template <class T> __device__ static float gradient(const loss_view<T> &v, int64_t i, const double s[2], double scale)
    {
        int64_t r = i / v.c;
        if (!labelled(v, r)) return 0;
        return (float)(scale / s[1]) * (expf(get(v.x[i]) - log_sum(v.x + r * v.c, v.c)) - (i % v.c == v.label[r] ? 1 : 0));
    }
};
struct smooth_l1 {
    template <class T> __device__ static void terms(const loss_view<T> &v, int64_t i, double s[2])
    {
        float e = fabsf(get(v.x[i]) - v.target[i]);
        s[0] += (double)(v.weight[i] * (e < v.beta ? e * e / (2 * v.beta) : e - v.beta / 2));
        s[1] += (double)v.weight[i];
    }
    template <class T> __device__ static float gradient(const loss_view<T> &v, int64_t i, const double s[2], double scale)
    {
        float e = get(v.x[i]) - v.target[i], slope = fabsf(e) < v.beta ? e / v.beta : (float)((e > 0) - (e < 0));
        return (float)(scale / (s[1] > 1 ? s[1] : 1)) * v.weight[i] * slope;
    }
};

/* Block (piece, sample). */
template <class L, class T> __global__ void __launch_bounds__(BLOCK) pieces_kernel(loss_view<T> v, int64_t count, int64_t pieces, double *part)
{
    __shared__ double room[BLOCK];
    int64_t sample = blockIdx.x / pieces, piece = blockIdx.x % pieces;
    int64_t first = piece * PIECE, end = first + PIECE < count ? first + PIECE : count;
    double s[2] = {0, 0};
    for (int64_t i = first + threadIdx.x; i < end; i += BLOCK) L::terms(v, sample * count + i, s);
    for (int j = 0; j < 2; j++) {
        double sum = block_sum(s[j], room);
        if (threadIdx.x == 0) part[(int64_t)blockIdx.x * 2 + j] = sum;
    }
}

/* Block (sample): sums over its pieces. */
__global__ void __launch_bounds__(BLOCK) samples_kernel(int64_t pieces, const double *part, double *total)
{
    __shared__ double room[BLOCK];
    for (int j = 0; j < 2; j++) {
        double sum = 0;
        for (int64_t k = threadIdx.x; k < pieces; k += BLOCK) sum += part[(blockIdx.x * pieces + k) * 2 + j];
        sum = block_sum(sum, room);
        if (threadIdx.x == 0) total[blockIdx.x * 2 + j] = sum;
    }
}

struct loss_value {
    op_kind kind;
    int64_t samples;
    const double *total;
    float eps;
    float *y;
    __device__ void operator()(int64_t) const
    {
        double sum = 0, least = kind == OP_LOSS_L1S ? 1 : 0, below = total[1] > least ? total[1] : least;
        if (kind == OP_LOSS_DICE) {
            for (int64_t k = 0; k < samples; k++) sum += (total[2 * k] + (double)eps) / (total[2 * k + 1] + (double)eps);
            y[0] = (float)(1 - sum / (double)samples);
        } else {
            y[0] = below > 0 ? (float)(total[0] / below) : 0;
        }
    }
};

template <class L, class T> struct loss_gradient {
    loss_view<T> v;
    int64_t each, samples; /* elements of a sample */
    const double *total;
    const float *dy;
    T *dx;
    __device__ void operator()(int64_t i) const
    {
        put(dx + i, L::gradient(v, i, total + i / each * 2, (double)dy[0] / (double)samples));
    }
};

template <class L, class T> static status run(plan *base, const op_args *a)
{
    const loss_plan *p = (const loss_plan *)base;
    device *d = base->d;
    size_t n;
    double *part = (double *)d->scratch, *total = part + p->samples * p->pieces * 2;
    loss_view<T> v = {(const T *)a->x[0].data, (const float *)a->x[1].data, base->s.nx > 2 ? (const float *)a->x[2].data : NULL,
                      (const int32_t *)a->x[1].data, base->s.x[0].c, base->o.beta, base->o.eps};
    if (base->pass == OP_BACKWARD && !a->dx[0].data) return COV_OK;
    auto pieces = pieces_kernel<L, T>;
    LAUNCH(d, pieces, dim3((unsigned)(p->samples * p->pieces)), v, p->count, p->pieces, part);
    LAUNCH(d, samples_kernel, dim3((unsigned)p->samples), p->pieces, (const double *)part, total);
    if (base->pass == OP_FORWARD) return each(d, 1, loss_value{base->o.kind, p->samples, total, base->o.eps, (float *)a->y.data});
    COV_TRY(tensor_count(base->s.x[0], &n));
    return each(d, (int64_t)n,
                loss_gradient<L, T>{v, (int64_t)n / p->samples, p->samples, total, (const float *)a->dy.data, (T *)a->dx[0].data});
}

template <class T> static status (*runner(op_kind kind))(plan *, const op_args *)
{
    switch (kind) {
    case OP_LOSS_BCE:
        return run<bce, T>;
    case OP_LOSS_DICE:
        return run<dice, T>;
    case OP_LOSS_CE:
        return run<cross_entropy, T>;
    default:
        return run<smooth_l1, T>;
    }
}

extern "C" status cuda_loss_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    size_t n;
    COV_TRY(cuda_plan_alloc(d, o, s, pass, sizeof(loss_plan), out));
    loss_plan *p = (loss_plan *)*out;
    COV_TRY(tensor_count(s->x[0], &n));
    p->samples = o->kind == OP_LOSS_DICE ? s->x[0].n : 1;
    p->count = (int64_t)n / p->samples / (o->kind == OP_LOSS_CE ? s->x[0].c : 1);
    p->pieces = (p->count + PIECE - 1) / PIECE;
    p->base.run = p->base.bf16 ? runner<bf16>(o->kind) : runner<float>(o->kind);
    return cuda_reserve(d, (size_t)(p->samples * (p->pieces + 1)) * 2 * sizeof(double));
}
