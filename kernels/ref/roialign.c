/* ref/roialign: ROI Align, forward and backward, as the sentence in kernels/op.h says it: point by point, four pixels
 * and their weights each. Source: He et al. 2017. */
#include "kernels/ref/ref.h"

#include <string.h>

/* One axis of a point: the two pixels it lies between and their weights; none if it lies too far outside. */
typedef struct axis {
    int64_t at[2];
    double weight[2];
} axis;

static axis axis_of(double place, int64_t size)
{
    if (!(place >= -1 && place <= (double)size)) return (axis){{0, 0}, {0, 0}};
    if (place < 0) place = 0;
    if (place > (double)(size - 1)) place = (double)(size - 1);
    int64_t low = (int64_t)place, high = low + 1 < size ? low + 1 : low;
    return (axis){{low, high}, {1 - (place - (double)low), place - (double)low}};
}

/* Point k of all along the side from a to b of a roi, in pixels of a level; centres of pixels are at whole numbers. */
static double place_of(double a, double b, double stride, int64_t k, int64_t all)
{
    return (a + ((double)k + 0.5) * (b - a) / (double)all) / stride - 0.5;
}

/* Calls visit with the offset in x[level] and in y of each pixel-bin pair, but for the channel, and the weight. */
static void walk(const ref_run *r, void (*visit)(const ref_run *r, int level, int64_t in, int64_t out, double weight))
{
    int rois = r->s->nx - 1;
    int64_t size = r->o->size, points = size * r->o->samples;
    double share = 1.0 / (r->o->samples * r->o->samples);
    for (int64_t i = 0; i < r->s->y.n; i++) {
        const float *roi = r->x[rois] + 4 * i;
        int level = op_roi_level(roi, rois);
        if (level < 0) continue;
        tensor_shape x = r->s->x[level];
        double stride = (double)r->o->stride * (1 << level);
        for (int64_t py = 0; py < points; py++)
            for (int64_t px = 0; px < points; px++) {
                axis v = axis_of(place_of(roi[0], roi[2], stride, py, points), x.h);
                axis u = axis_of(place_of(roi[1], roi[3], stride, px, points), x.w);
                int64_t out = ref_at(r->s->y, i, py / r->o->samples, px / r->o->samples);
                for (int k = 0; k < 4; k++)
                    visit(r, level, ref_at(x, i / r->s->x[rois].h, v.at[k / 2], u.at[k % 2]), out,
                          v.weight[k / 2] * u.weight[k % 2] * share);
            }
    }
}

static void gather(const ref_run *r, int level, int64_t in, int64_t out, double weight)
{
    for (int64_t c = 0; c < r->s->y.c; c++) r->y[out + c] += (float)(weight * r->x[level][in + c]);
}

static void scatter(const ref_run *r, int level, int64_t in, int64_t out, double weight)
{
    for (int64_t c = 0; c < r->s->y.c && r->dx[level]; c++) r->dx[level][in + c] += (float)(weight * r->dy[out + c]);
}

void ref_roialign_forward(const ref_run *r)
{
    memset(r->y, 0, (size_t)ref_count(r->s->y) * sizeof(float));
    walk(r, gather);
}

void ref_roialign_backward(const ref_run *r)
{
    for (int k = 0; k < r->s->nx - 1; k++)
        if (r->dx[k]) memset(r->dx[k], 0, (size_t)ref_count(r->s->x[k]) * sizeof(float));
    walk(r, scatter);
}
