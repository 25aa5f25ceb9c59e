/* roialign: ROI Align, forward and backward, sixteen channels side by side.
 *
 * A bin's mean of bilinear points is a product: weights of rows times weights of columns. So each roi gets a list of
 * (pixel, weight) for every bin along each axis, points that meet in a pixel joined; a row of bins first joins its rows
 * of pixels, over the columns that any bin uses, then each bin its columns. Backward goes the same way back.
 * Forward: threads over rois. Backward: a thread takes one image and sixteen channels, sums all rois in their order
 * into a fp32 picture of its own and writes it out, so that no sum depends on the threads. */
#include "base/size.h"
#include "kernels/cpu/vec.h"
#include <omp.h>

enum { ROI_TAPS = OP_ROI_SIZE * OP_ROI_SAMPLES * 2 };

/* One axis of one roi. Bin b has the entries first[b] .. first[b+1]-1, each a slot and a weight; pixel[] ascends. */
typedef struct roi_axis {
    int bins, slots;
    int first[OP_ROI_SIZE + 1];
    int slot[ROI_TAPS], pixel[ROI_TAPS];
    float weight[ROI_TAPS];
} roi_axis;

typedef struct roi_plan {
    plan base;
    int levels, bf16;
    int64_t rois;                  /* of one image */
    int64_t start[OP_ROI_LEVELS + 1]; /* pixels of one image before each level, in a thread's picture */
} roi_plan;

/* One roi on one level for a leaf. Backward: m channels, of c, from dy's first. */
typedef struct roi_work {
    const roi_axis *rows, *cols;
    int64_t width, c;
    size_t m;
    const char *x, *dy;
    char *y;
    float *picture; /* the level's; sixteen floats a pixel */
} roi_work;

#define VEC_BODY "kernels/cpu/roialign_body.h"
#include "kernels/cpu/vec_isas.h"

typedef void roi_leaf(const roi_work *w, int bf16);
typedef void roi_out(int bf16, int64_t pixels, int64_t c, size_t m, const float *picture, char *dx);
VEC_TABLE(roi_leaf, roi_forward_leaf);
VEC_TABLE(roi_leaf, roi_backward_leaf);
VEC_TABLE(roi_out, roi_out_leaf);

/* Adds a weight of a pixel to the bin that is being made. Pixels come almost in order: a point's two, then the next's. */
static void axis_add(roi_axis *a, int bin, int pixel, double weight)
{
    int s = a->slots - 1, e = a->first[bin + 1] - 1;
    if (weight == 0) return;
    while (s >= 0 && a->pixel[s] > pixel) s--;
    if (s < 0 || a->pixel[s] != pixel) a->pixel[s = a->slots++] = pixel;
    while (e >= a->first[bin] && a->slot[e] != s) e--;
    if (e < a->first[bin]) {
        e = a->first[bin + 1]++;
        a->slot[e] = s;
        a->weight[e] = 0;
    }
    a->weight[e] += (float)weight;
}

/* The side from `from` to `to` on a level of so many pixels and this stride: see kernels/op.h. */
static void axis_make(roi_axis *a, const op *o, double from, double to, double stride, int64_t pixels)
{
    const int points = o->size * o->samples;
    a->bins = o->size;
    a->slots = a->first[0] = 0;
    for (int bin = 0; bin < a->bins; bin++) {
        a->first[bin + 1] = a->first[bin];
        for (int k = bin * o->samples; k < (bin + 1) * o->samples; k++) {
            double place = (from + (k + 0.5) * (to - from) / points) / stride - 0.5;
            if (!(place >= -1 && place <= (double)pixels)) continue;
            if (place < 0) place = 0;
            if (place > (double)(pixels - 1)) place = (double)(pixels - 1);
            const int low = (int)place;
            axis_add(a, bin, low, (1 - (place - low)) / o->samples);
            axis_add(a, bin, low + 1, (place - low) / o->samples);
        }
    }
}

/* The roi's level, and where on it its bins lie; -1: no area. */
static int roi_axes(const roi_plan *p, const float *roi, roi_axis *rows, roi_axis *cols)
{
    const int level = op_roi_level(roi, p->levels);
    if (level < 0) return level;
    const double stride = (double)p->base.o.stride * (1 << level);
    axis_make(rows, &p->base.o, roi[0], roi[2], stride, p->base.s.x[level].h);
    axis_make(cols, &p->base.o, roi[1], roi[3], stride, p->base.s.x[level].w);
    return level;
}

static void roi_forward_one(const roi_plan *p, const op_args *a, int64_t i)
{
    roi_axis rows, cols;
    const tensor_shape *s = &p->base.s.y;
    const size_t bytes = vec_bytes(p->bf16, (size_t)(s->h * s->w * s->c));
    char *y = (char *)a->y.data + (size_t)i * bytes;
    const int level = roi_axes(p, (const float *)a->x[p->levels].data + 4 * i, &rows, &cols);
    if (level < 0) {
        memset(y, 0, bytes);
        return;
    }
    const tensor_shape *x = &p->base.s.x[level];
    const char *image = (const char *)a->x[level].data + vec_bytes(p->bf16, (size_t)(i / p->rois * x->h * x->w * x->c));
    roi_work w = {.rows = &rows, .cols = &cols, .width = x->w, .c = x->c, .x = image, .y = y};
    VEC_PICK(p->base.d, roi_forward_leaf)(&w, p->bf16);
}

static status roi_forward_run(plan *base, const op_args *a)
{
    const roi_plan *p = (const roi_plan *)base;
#pragma omp parallel for schedule(dynamic) num_threads(base->d->threads)
    for (int64_t i = 0; i < base->s.y.n; i++) roi_forward_one(p, a, i);
    return COV_OK;
}

/* All rois of one image, sixteen channels from k. */
static void roi_backward_strip(const roi_plan *p, const op_args *a, int64_t image, int64_t k, float *picture)
{
    roi_axis rows, cols;
    const tensor_shape *s = &p->base.s.y;
    const size_t m = s->c - k < 16 ? (size_t)(s->c - k) : 16;
    memset(picture, 0, (size_t)p->start[p->levels] * 16 * sizeof *picture);
    for (int64_t i = image * p->rois; i < (image + 1) * p->rois; i++) {
        const int level = roi_axes(p, (const float *)a->x[p->levels].data + 4 * i, &rows, &cols);
        if (level < 0 || a->dx[level].data == NULL) continue;
        roi_work w = {.rows = &rows, .cols = &cols, .width = p->base.s.x[level].w, .c = s->c, .m = m,
                      .dy = (const char *)a->dy.data + vec_bytes(p->bf16, (size_t)(i * s->h * s->w * s->c + k)),
                      .picture = picture + p->start[level] * 16};
        VEC_PICK(p->base.d, roi_backward_leaf)(&w, p->bf16);
    }
    for (int level = 0; level < p->levels; level++) {
        const int64_t pixels = p->start[level + 1] - p->start[level];
        if (a->dx[level].data == NULL) continue;
        VEC_PICK(p->base.d, roi_out_leaf)(p->bf16, pixels, s->c, m, picture + p->start[level] * 16,
                 (char *)a->dx[level].data + vec_bytes(p->bf16, (size_t)(image * pixels * s->c + k)));
    }
}

static status roi_backward_run(plan *base, const op_args *a)
{
    const roi_plan *p = (const roi_plan *)base;
    const int64_t strips = (base->s.y.c + 15) / 16, work = base->s.x[0].n * strips;
    int wanted = 0;
    for (int k = 0; k < p->levels; k++) wanted |= a->dx[k].data != NULL;
    if (!wanted) return COV_OK;
#pragma omp parallel for schedule(dynamic) num_threads(base->d->threads)
    for (int64_t i = 0; i < work; i++)
        roi_backward_strip(p, a, i / strips, i % strips * 16,
                           (float *)base->d->scratch + omp_get_thread_num() * p->start[p->levels] * 16);
    return COV_OK;
}

status cpu_roialign_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    COV_TRY(cpu_plan_alloc(d, o, s, pass, sizeof(roi_plan), out));
    roi_plan *p = (roi_plan *)*out;
    p->levels = s->nx - 1;
    p->rois = s->x[p->levels].h;
    p->bf16 = s->x[0].type == TENSOR_BF16;
    for (int k = 0; k < p->levels; k++) p->start[k + 1] = p->start[k] + s->x[k].h * s->x[k].w;
    p->base.run = pass == OP_FORWARD ? roi_forward_run : roi_backward_run;
    if (pass == OP_FORWARD) return COV_OK;
    const int64_t sizes[] = {d->threads, p->start[p->levels], 16, sizeof(float)};
    size_t bytes;
    if (!size_product(sizes, 4, &bytes)) return COV_FAIL(COV_NOMEM, "roialign: no memory for gradients of the levels");
    return cpu_reserve(d, bytes);
}
