/* ref/pointwise: concat, add, ReLU, sigmoid and softmax, forward and backward.
 * ReLU itself happens in run.c, as for the ops it is fused into: here it is the identity. */
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

/* What of one input lies together in y: the channels of a pixel, or all pixels of an image. */
static int64_t concat_run(const ref_run *r, tensor_shape s)
{
    return r->o->pixels ? s.h * s.w * s.c : s.c;
}

/* Copies the runs of input k to (forward) or from (backward) its place among the joined ones. */
static void concat_copy(const ref_run *r, int k, int64_t offset, int backward)
{
    int64_t c = concat_run(r, r->s->x[k]), wide = concat_run(r, r->s->y), rows = ref_count(r->s->y) / wide;
    for (int64_t i = 0; i < rows; i++) {
        if (backward) memcpy(r->dx[k] + i * c, r->dy + i * wide + offset, (size_t)c * sizeof(float));
        else memcpy(r->y + i * wide + offset, r->x[k] + i * c, (size_t)c * sizeof(float));
    }
}

void ref_concat_forward(const ref_run *r)
{
    int64_t offset = 0;
    for (int k = 0; k < r->s->nx; offset += concat_run(r, r->s->x[k]), k++) concat_copy(r, k, offset, 0);
}

void ref_concat_backward(const ref_run *r)
{
    int64_t offset = 0;
    for (int k = 0; k < r->s->nx; offset += concat_run(r, r->s->x[k]), k++)
        if (r->dx[k]) concat_copy(r, k, offset, 1);
}

void ref_add_forward(const ref_run *r)
{
    for (int64_t i = 0; i < ref_count(r->s->y); i++) r->y[i] = r->x[0][i] + r->x[1][i];
}

void ref_add_backward(const ref_run *r)
{
    for (int k = 0; k < 2; k++)
        if (r->dx[k]) memcpy(r->dx[k], r->dy, (size_t)ref_count(r->s->y) * sizeof(float));
}

void ref_relu_forward(const ref_run *r) { memcpy(r->y, r->x[0], (size_t)ref_count(r->s->y) * sizeof(float)); }

void ref_relu_backward(const ref_run *r)
{
    if (r->dx[0]) memcpy(r->dx[0], r->dy, (size_t)ref_count(r->s->y) * sizeof(float));
}

void ref_sigmoid_forward(const ref_run *r)
{
    for (int64_t i = 0; i < ref_count(r->s->y); i++) r->y[i] = (float)(1 / (1 + exp(-(double)r->x[0][i])));
}

void ref_sigmoid_backward(const ref_run *r)
{
    if (!r->dx[0]) return;
    for (int64_t i = 0; i < ref_count(r->s->y); i++)
        r->dx[0][i] = (float)((double)r->dy[i] * r->y[i] * (1 - (double)r->y[i]));
}

void ref_softmax_forward(const ref_run *r)
{
    int64_t c = r->s->y.c, rows = ref_count(r->s->y) / c;
    for (int64_t i = 0; i < rows; i++) {
        const float *x = r->x[0] + i * c;
        double top = x[0], sum = 0;
        for (int64_t k = 1; k < c; k++) top = fmax(top, x[k]);
        for (int64_t k = 0; k < c; k++) sum += exp(x[k] - top);
        for (int64_t k = 0; k < c; k++) r->y[i * c + k] = (float)(exp(x[k] - top) / sum);
    }
}

void ref_softmax_backward(const ref_run *r)
{
    int64_t c = r->s->y.c, rows = ref_count(r->s->y) / c;
    if (!r->dx[0]) return;
    for (int64_t i = 0; i < rows; i++) {
        const float *y = r->y + i * c, *dy = r->dy + i * c;
        double dot = 0;
        for (int64_t k = 0; k < c; k++) dot += (double)y[k] * dy[k];
        for (int64_t k = 0; k < c; k++) r->dx[0][i * c + k] = (float)(y[k] * (dy[k] - dot));
    }
}
