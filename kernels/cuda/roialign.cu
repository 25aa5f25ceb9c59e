/* roialign: ROI Align, forward and backward, as the sentence in kernels/op.h says it; see kernels/ref/roialign.c.
 * Where the points of a roi lie is worked out first, once a roi and axis, into scratch; after that no thread divides or
 * counts in double. Forward: a thread a bin and pack of channels. Backward gathers: a thread has a pixel's pack and asks
 * every roi of its image whether it reaches the pixel, so that nothing depends on the order of threads. */
#include "kernels/cuda/launch.cuh"

/* One axis of a point: the two pixels it lies between and their weights; none if it lies too far outside. */
struct alignas(16) axis {
    int at[2];
    float weight[2];
};
/* A roi's level (-1: it has none) and, of rows [0] and columns [1], the first and last pixel that its points reach. */
struct alignas(8) roi_extent {
    int level, first[2], last[2], unused;
};

__device__ inline axis axis_of(double place, int64_t size)
{
    axis a = {{0, 0}, {0, 0}};
    if (!(place >= -1 && place <= (double)size)) return a;
    if (place < 0) place = 0;
    if (place > (double)(size - 1)) place = (double)(size - 1);
    a.at[0] = (int)place;
    a.at[1] = a.at[0] + 1 < size ? a.at[0] + 1 : a.at[0];
    a.weight[1] = (float)(place - (double)a.at[0]);
    a.weight[0] = 1 - a.weight[1];
    return a;
}
__device__ __forceinline__ float axis_weight(const axis &a, int at) { return (a.at[0] == at ? a.weight[0] : 0) + (a.at[1] == at ? a.weight[1] : 0); }

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

/* A thread a roi and axis (0: rows): its points go to points[i * all], from the first on. */
struct lay_points {
    tensor_shape x[OP_ROI_LEVELS];
    const float *rois;
    roi_extent *extents;
    axis *points;
    int levels, stride, all;
    __device__ void operator()(int64_t i) const
    {
        int64_t r = i / 2;
        int way = (int)(i - 2 * r), first = INT32_MAX, last = -1;
        const float *roi = rois + 4 * r;
        int level = level_of(roi, levels);
        int64_t size = level < 0 ? 0 : way ? x[level].w : x[level].h;
        for (int k = 0; k < all && level >= 0; k++) {
            axis a = axis_of(place_of(roi[way], roi[2 + way], (double)stride * (1 << level), k, all), size);
            points[i * all + k] = a;
            if (!(a.weight[0] > 0 || a.weight[1] > 0)) continue;
            first = a.at[0] < first ? a.at[0] : first;
            last = a.at[1] > last ? a.at[1] : last;
        }
        if (way == 0) extents[r].level = level;
        extents[r].first[way] = first;
        extents[r].last[way] = last;
    }
};

template <class T, int V> struct align_forward {
    tensor_shape x[OP_ROI_LEVELS];
    const T *from[OP_ROI_LEVELS];
    const roi_extent *extents;
    const axis *points;
    T *y;
    int size, samples, packs;
    int64_t each; /* rois an image */
    /* row: roi and row of bins */
    __device__ void operator()(int64_t row, int i) const
    {
        int r = (int)((unsigned)row / (unsigned)size), by = (int)row - r * size, bx = i / packs, c = (i - bx * packs) * V, level = extents[r].level;
        float sum[V] = {}, v[V];
        if (level >= 0) {
            int w = (int)x[level].w, channels = (int)x[level].c;
            const T *image = from[level] + r / each * x[level].h * w * channels + c;
            const axis *rows = points + (int64_t)r * 2 * size * samples, *columns = rows + size * samples;
            for (int sy = 0; sy < samples; sy++) {
                axis a = rows[by * samples + sy];
                for (int sx = 0; sx < samples; sx++) {
                    axis b = columns[bx * samples + sx];
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        float weight = a.weight[k / 2] * b.weight[k % 2];
                        load<T, V>(v, image + ((int64_t)a.at[k / 2] * w + b.at[k % 2]) * channels);
#pragma unroll
                        for (int j = 0; j < V; j++) sum[j] += weight * v[j];
                    }
                }
            }
        }
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] /= (float)(samples * samples);
        store<T, V>(y + (row * size * packs + i) * V, sum);
    }
};

/* One level's dx. */
template <class T, int V> struct align_backward {
    tensor_shape x;
    const T *dy;
    const roi_extent *extents;
    const axis *points;
    T *dx;
    int level, size, samples, packs;
    int64_t each;
    /* What roi r adds at row py, column px. */
    __device__ void add(int64_t r, int py, int px, int c, float *sum) const
    {
        const int all = size * samples;
        const axis *rows = points + r * 2 * all, *columns = rows + all;
        float v[V];
        for (int ky = 0; ky < all; ky++) {
            float wy = axis_weight(rows[ky], py);
            if (wy == 0) continue;
            for (int kx = 0; kx < all; kx++) {
                float w = wy * axis_weight(columns[kx], px);
                if (w == 0) continue;
                load<T, V>(v, dy + ((r * size + ky / samples) * size + kx / samples) * x.c + c);
#pragma unroll
                for (int j = 0; j < V; j++) sum[j] += w * v[j];
            }
        }
    }
    /* row: image and row of pixels */
    __device__ void operator()(int64_t row, int i) const
    {
        int n = (int)((unsigned)row / (unsigned)x.h), py = (int)(row - n * x.h), px = i / packs, c = (i - px * packs) * V;
        float sum[V] = {};
        for (int64_t r = n * each; r < (n + 1) * each; r++) {
            roi_extent e = extents[r];
            if (e.level != level || py < e.first[0] || py > e.last[0] || px < e.first[1] || px > e.last[1]) continue;
            add(r, py, px, c, sum);
        }
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] /= (float)(samples * samples);
        store<T, V>(dx + (row * x.w * packs + i) * V, sum);
    }
};

/* In scratch: extents of all rois, then points. */
static size_t extents_bytes(const op_shapes *s)
{
    size_t bytes = (size_t)(s->x[s->nx - 1].n * s->x[s->nx - 1].h) * sizeof(roi_extent);
    return (bytes + sizeof(axis) - 1) / sizeof(axis) * sizeof(axis);
}
static size_t points_bytes(const op *o, const op_shapes *s)
{
    return (size_t)(s->x[s->nx - 1].n * s->x[s->nx - 1].h) * 2 * (size_t)(o->size * o->samples) * sizeof(axis);
}

template <class T, int V> static status align(plan *p, const op_args *a)
{
    int levels = p->s.nx - 1, size = p->o.size, samples = p->o.samples, packs = (int)(p->s.y.c / V);
    int64_t each_image = p->s.x[levels].h, rois = p->s.y.n;
    roi_extent *extents = (roi_extent *)p->d->scratch;
    axis *points = (axis *)((char *)p->d->scratch + extents_bytes(&p->s));
    lay_points lay = {{}, (const float *)a->x[levels].data, extents, points, levels, p->o.stride, size * samples};
    align_forward<T, V> f = {{}, {}, extents, points, (T *)a->y.data, size, samples, packs, each_image};
    for (int k = 0; k < levels; k++) {
        lay.x[k] = f.x[k] = p->s.x[k];
        f.from[k] = (const T *)a->x[k].data;
    }
    COV_TRY(each(p->d, 2 * rois, lay));
    if (p->pass == OP_FORWARD) return each_in_rows(p->d, rois * size, (int64_t)size * packs, f);
    for (int k = 0; k < levels; k++) {
        tensor_shape x = p->s.x[k];
        if (!a->dx[k].data) continue;
        COV_TRY(each_in_rows(p->d, x.n * x.h, x.w * packs,
                             align_backward<T, V>{x, (const T *)a->dy.data, extents, points, (T *)a->dx[k].data, k, size, samples, packs,
                                                  each_image}));
    }
    return COV_OK;
}

template <class T> static status run(plan *p, const op_args *a)
{
    enum { V = widest<T>::v };
    return p->s.y.c % V == 0 ? align<T, V>(p, a) : align<T, 1>(p, a);
}

extern "C" status cuda_roialign_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    COV_TRY(cuda_plan_alloc(d, o, s, pass, sizeof(plan), out));
    (*out)->run = (*out)->bf16 ? run<bf16> : run<float>;
    return cuda_reserve(d, extents_bytes(s) + points_bytes(o, s));
}
