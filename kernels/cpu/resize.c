/* resize: bilinear (half-pixel centres, clamped) and nearest, forward and backward.
 *
 * Each target index has two taps along an axis (source index and weight; nearest: one of weight 1), made when planning.
 * Forward blends four source pixels. Backward gathers: for each source index a list of the targets that use it, so
 * that threads share no output and the order of additions is fixed. */
#include "kernels/cpu/vec.h"
#include <math.h>
#include <stdlib.h>

/* One axis: for each of `count` results a run of entries first[i] .. first[i+1]-1 of (index, weight). */
typedef struct resize_axis {
    int64_t count;
    int64_t *first;
    int64_t *index;
    float *weight;
} resize_axis;

typedef struct resize_plan {
    plan base;
    resize_axis rows, cols;
    int bf16;
} resize_plan;

static void resize_taps(int nearest, int64_t target, int64_t in, int64_t out, int64_t at[2], double weight[2])
{
    if (nearest) {
        at[0] = at[1] = (2 * target + 1) * in / (2 * out);
        weight[0] = 1;
        weight[1] = 0;
        return;
    }
    const double centre = ((double)target + 0.5) * (double)in / (double)out - 0.5, low = floor(centre);
    const int64_t a = (int64_t)low;
    at[0] = a < 0 ? 0 : a;
    at[1] = a + 1 >= in ? in - 1 : a + 1;
    weight[0] = 1 - (centre - low);
    weight[1] = centre - low;
}

/* Forward: results are targets, entries their sources; back: results are sources, entries the targets, ascending. */
static status resize_axis_new(int nearest, int64_t in, int64_t out, int back, resize_axis *x)
{
    int64_t at[2];
    double weight[2];
    x->count = back ? in : out;
    x->first = calloc((size_t)x->count + 2, sizeof *x->first);
    x->index = malloc((size_t)out * 2 * sizeof *x->index);
    x->weight = malloc((size_t)out * 2 * sizeof *x->weight);
    if (x->first == NULL || x->index == NULL || x->weight == NULL) return COV_FAIL(COV_NOMEM, "no memory for resize's taps");
    for (int64_t t = 0; t < out; t++) {
        resize_taps(nearest, t, in, out, at, weight);
        for (int k = 0; k < 2; k++)
            if (weight[k] != 0) x->first[(back ? at[k] : t) + 2]++;
    }
    for (int64_t i = 2; i < x->count + 2; i++) x->first[i] += x->first[i - 1];
    for (int64_t t = 0; t < out; t++) { /* first[i+1] runs from the start of i's entries to their end */
        resize_taps(nearest, t, in, out, at, weight);
        for (int k = 0; k < 2; k++) {
            if (weight[k] == 0) continue;
            const int64_t e = x->first[(back ? at[k] : t) + 1]++;
            x->index[e] = back ? t : at[k];
            x->weight[e] = (float)weight[k];
        }
    }
    return COV_OK;
}

#define VEC_BODY "kernels/cpu/resize_body.h"
#include "kernels/cpu/vec_isas.h"

typedef void resize_row(const resize_plan *p, int64_t row, int64_t width, int64_t c, const char *x, char *y);
VEC_TABLE(resize_row, resize_leaf);

static status resize_run(plan *base, const op_args *a)
{
    const resize_plan *p = (const resize_plan *)base;
    const int back = base->pass == OP_BACKWARD;
    const tensor_shape *from = back ? &base->s.y : &base->s.x[0], *to = back ? &base->s.x[0] : &base->s.y;
    const char *x = back ? a->dy.data : a->x[0].data;
    char *y = back ? a->dx[0].data : a->y.data;
    const int64_t height = to->h, width = to->w, count = to->n * height, c = from->c;
    resize_row *leaf = VEC_PICK(base->d, resize_leaf);
    if (y == NULL) return COV_OK;
#pragma omp parallel for schedule(static) num_threads(base->d->threads)
    for (int64_t k = 0; k < count; k++)
        leaf(p, k % height, from->w, c, x + vec_bytes(p->bf16, (size_t)(k / height * from->h * from->w * c)),
                    y + vec_bytes(p->bf16, (size_t)(k * width * c)));
    return COV_OK;
}

static void resize_free(plan *base)
{
    resize_plan *p = (resize_plan *)base;
    resize_axis *const axes[] = {&p->rows, &p->cols};
    for (int k = 0; k < 2; k++) {
        free(axes[k]->first);
        free(axes[k]->index);
        free(axes[k]->weight);
    }
}

status cpu_resize_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    const int back = pass == OP_BACKWARD;
    COV_TRY(cpu_plan_alloc(d, o, s, pass, sizeof(resize_plan), out));
    resize_plan *p = (resize_plan *)*out;
    p->base.free = resize_free;
    p->base.run = resize_run;
    p->bf16 = s->x[0].type == TENSOR_BF16;
    COV_TRY(resize_axis_new(o->nearest, s->x[0].h, s->y.h, back, &p->rows));
    return resize_axis_new(o->nearest, s->x[0].w, s->y.w, back, &p->cols);
}
