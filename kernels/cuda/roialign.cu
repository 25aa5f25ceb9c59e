/* roialign: ROI Align, forward and backward, as the sentence in kernels/op.h says it; see kernels/ref/roialign.c.
 * Backward gathers: an element of dx asks every roi of its image whether it reaches it, so that nothing depends on the
 * order of threads. */
#include "kernels/cuda/launch.cuh"

/* One axis of a point: the two pixels it lies between and their weights; none if it lies too far outside. */
struct axis {
    int64_t at[2];
    float weight[2];
};
__device__ inline axis axis_of(double place, int64_t size)
{
    axis a = {{0, 0}, {0, 0}};
    if (!(place >= -1 && place <= (double)size)) return a;
    if (place < 0) place = 0;
    if (place > (double)(size - 1)) place = (double)(size - 1);
    a.at[0] = (int64_t)place;
    a.at[1] = a.at[0] + 1 < size ? a.at[0] + 1 : a.at[0];
    a.weight[1] = (float)(place - (double)a.at[0]);
    a.weight[0] = 1 - a.weight[1];
    return a;
}
__device__ __forceinline__ float axis_weight(const axis &a, int64_t at) { return (a.at[0] == at ? a.weight[0] : 0) + (a.at[1] == at ? a.weight[1] : 0); }

/* Point k of all along the side from a to b of a roi, in pixels of a level. */
__device__ __forceinline__ double place_of(float a, float b, double stride, int64_t k, int64_t all)
{
    return ((double)a + ((double)k + 0.5) * ((double)b - (double)a) / (double)all) / stride - 0.5;
}

/* As op_roi_level. */
__device__ inline int level_of(const float roi[4], int levels)
{
    int level = 0;
    if (!(roi[2] > roi[0] && roi[3] > roi[1])) return -1;
    float area = (roi[2] - roi[0]) * (roi[3] - roi[1]);
    for (float side = 2.0f * OP_ROI_BASE; level < levels - 1 && area >= side * side; side *= 2) level++;
    return level;
}

template <class T> struct align_forward {
    tensor_shape x[OP_ROI_LEVELS];
    const T *from[OP_ROI_LEVELS];
    const float *rois;
    T *y;
    int levels, stride, size, samples;
    int64_t each; /* rois an image */
    __device__ void operator()(int64_t i) const
    {
        int64_t c = i % x[0].c, bin = i / x[0].c, bx = bin % size, by = bin / size % size, r = bin / size / size;
        const float *roi = rois + 4 * r;
        int level = level_of(roi, levels);
        float sum = 0;
        if (level >= 0) {
            tensor_shape s = x[level];
            const T *image = from[level] + r / each * s.h * s.w * s.c + c;
            double step = (double)stride * (1 << level);
            int64_t points = (int64_t)size * samples;
            for (int sy = 0; sy < samples; sy++) {
                axis v = axis_of(place_of(roi[0], roi[2], step, by * samples + sy, points), s.h);
                for (int sx = 0; sx < samples; sx++) {
                    axis u = axis_of(place_of(roi[1], roi[3], step, bx * samples + sx, points), s.w);
                    for (int k = 0; k < 4; k++)
                        sum += v.weight[k / 2] * u.weight[k % 2] * get(image[(v.at[k / 2] * s.w + u.at[k % 2]) * s.c]);
                }
            }
        }
        put(y + i, sum / (float)(samples * samples));
    }
};

/* The points that may reach pixel `at`: first .. last, none where first > last. */
__device__ inline void reach(float a, float b, double stride, int64_t at, int64_t size, int64_t points, int64_t *first, int64_t *last)
{
    double per = (double)points / ((double)b - (double)a), low = at == 0 ? -1 : (double)at - 1, high = at == size - 1 ? (double)size : (double)at + 1;
    double from = ((low + 0.5) * stride - (double)a) * per - 0.5, to = ((high + 0.5) * stride - (double)a) * per - 0.5;
    *first = from < 1 ? 0 : from > (double)points ? points : (int64_t)from - 1;
    *last = to < -1 ? -1 : to > (double)points - 2 ? points - 1 : (int64_t)to + 1;
}

/* One level's dx. */
template <class T> struct align_backward {
    tensor_shape x;
    const T *dy;
    const float *rois;
    T *dx;
    int level, levels, stride, size, samples;
    int64_t each;
    __device__ void operator()(int64_t i) const
    {
        int64_t c = i % x.c, px = i / x.c % x.w, py = i / x.c / x.w % x.h, n = i / x.c / x.w / x.h;
        int64_t points = (int64_t)size * samples, y0, y1, x0, x1;
        double step = (double)stride * (1 << level);
        float sum = 0;
        for (int64_t r = n * each; r < (n + 1) * each; r++) {
            const float *roi = rois + 4 * r;
            if (level_of(roi, levels) != level) continue;
            reach(roi[0], roi[2], step, py, x.h, points, &y0, &y1);
            reach(roi[1], roi[3], step, px, x.w, points, &x0, &x1);
            for (int64_t ky = y0; ky <= y1; ky++) {
                float wy = axis_weight(axis_of(place_of(roi[0], roi[2], step, ky, points), x.h), py);
                if (wy == 0) continue;
                for (int64_t kx = x0; kx <= x1; kx++) {
                    float w = wy * axis_weight(axis_of(place_of(roi[1], roi[3], step, kx, points), x.w), px);
                    if (w != 0) sum += w * get(dy[((r * size + ky / samples) * size + kx / samples) * x.c + c]);
                }
            }
        }
        put(dx + i, sum / (float)(samples * samples));
    }
};

template <class T> static status run(plan *p, const op_args *a)
{
    int levels = p->s.nx - 1;
    const float *rois = (const float *)a->x[levels].data;
    int64_t each_image = p->s.x[levels].h;
    size_t n;
    if (p->pass == OP_FORWARD) {
        align_forward<T> f = {{}, {}, rois, (T *)a->y.data, levels, p->o.stride, p->o.size, p->o.samples, each_image};
        for (int k = 0; k < levels; k++) {
            f.x[k] = p->s.x[k];
            f.from[k] = (const T *)a->x[k].data;
        }
        COV_TRY(tensor_count(p->s.y, &n));
        return each(p->d, (int64_t)n, f);
    }
    for (int k = 0; k < levels; k++) {
        if (!a->dx[k].data) continue;
        COV_TRY(tensor_count(p->s.x[k], &n));
        COV_TRY(each(p->d, (int64_t)n,
                     align_backward<T>{p->s.x[k], (const T *)a->dy.data, rois, (T *)a->dx[k].data, k, levels, p->o.stride, p->o.size,
                                       p->o.samples, each_image}));
    }
    return COV_OK;
}

extern "C" status cuda_roialign_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    COV_TRY(cuda_plan_alloc(d, o, s, pass, sizeof(plan), out));
    (*out)->run = (*out)->bf16 ? run<bf16> : run<float>;
    return COV_OK;
}
