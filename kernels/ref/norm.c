/* ref/norm: GroupNorm and BatchNorm, forward and backward.
 * Both normalise sets of elements and differ only in what a set is: all pixels of one sample and one group of
 * channels (GroupNorm), or all pixels of all samples and one channel (BatchNorm). Set k's statistics are saved[0][k]
 * (mean) and saved[1][k] (1/sqrt(var + eps)). A frozen BatchNorm takes them from p[2] and p[3] instead. */
#include "kernels/ref/ref.h"

#include <math.h>

/* One set: samples n0..n1-1, channels c0..c1-1, all rows and columns. */
typedef struct set {
    int64_t n0, n1, c0, c1;
    double size;
} set;

static int64_t set_count(const ref_run *r)
{
    tensor_shape x = r->s->x[0];
    return r->o->kind == OP_GROUPNORM ? x.n * r->o->groups : x.c;
}

static set set_of(const ref_run *r, int64_t k)
{
    tensor_shape x = r->s->x[0];
    set g = {0, x.n, k, k + 1, 0};
    if (r->o->kind == OP_GROUPNORM) {
        int64_t width = x.c / r->o->groups, group = k % r->o->groups, n = k / r->o->groups;
        g = (set){n, n + 1, group * width, (group + 1) * width, 0};
    }
    g.size = (double)((g.n1 - g.n0) * x.h * x.w * (g.c1 - g.c0));
    return g;
}

/* Runs the body with `i` the offset of every element of set g and `c` its channel. */
#define EACH(x, g, i, c)                                                                                               \
    for (int64_t row_ = (g).n0 * (x).h * (x).w; row_ < (g).n1 * (x).h * (x).w; row_++)                                 \
        for (int64_t c = (g).c0, i = row_ * (x).c + c; c < (g).c1; c++, i++)

static int is_frozen(const op *o) { return o->kind == OP_BATCHNORM && !o->training; }

/* Mean and biased variance of set k; a training BatchNorm also moves its running statistics. */
static void statistics(const ref_run *r, int64_t k, double *mean, double *var)
{
    tensor_shape x = r->s->x[0];
    set g = set_of(r, k);
    if (is_frozen(r->o)) {
        *mean = r->p[2][k];
        *var = r->p[3][k];
        return;
    }
    double sum = 0, squares = 0;
    EACH(x, g, i, c) sum += r->x[0][i];
    *mean = sum / g.size;
    EACH(x, g, i, c) squares += (r->x[0][i] - *mean) * (r->x[0][i] - *mean);
    *var = squares / g.size;
    if (r->o->kind == OP_BATCHNORM) {
        double momentum = r->o->momentum, unbiased = g.size > 1 ? squares / (g.size - 1) : *var;
        r->p[2][k] = (float)((1 - momentum) * r->p[2][k] + momentum * *mean);
        r->p[3][k] = (float)((1 - momentum) * r->p[3][k] + momentum * unbiased);
    }
}

void ref_norm_forward(const ref_run *r)
{
    tensor_shape x = r->s->x[0];
    for (int64_t k = 0; k < set_count(r); k++) {
        set g = set_of(r, k);
        double mean, var;
        statistics(r, k, &mean, &var);
        double rstd = 1 / sqrt(var + r->o->eps);
        if (r->saved[0]) ((float *)r->saved[0])[k] = (float)mean;
        if (r->saved[1]) ((float *)r->saved[1])[k] = (float)rstd;
        EACH(x, g, i, c)
        {
            double y = (r->x[0][i] - mean) * rstd * r->p[0][c] + r->p[1][c];
            r->y[i] = (float)(y + (r->o->residual ? r->x[1][i] : 0));
        }
    }
}

/* dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), g = dy * gamma; a frozen norm's statistics are constants. */
static void set_backward(const ref_run *r, int64_t k)
{
    tensor_shape x = r->s->x[0];
    set g = set_of(r, k);
    double mean = ((const float *)r->saved[0])[k], rstd = ((const float *)r->saved[1])[k], sum = 0, product = 0;
    EACH(x, g, i, c)
    {
        double grad = (double)r->dy[i] * r->p[0][c];
        sum += grad;
        product += grad * (r->x[0][i] - mean) * rstd;
    }
    if (is_frozen(r->o)) sum = product = 0;
    EACH(x, g, i, c)
    {
        double grad = (double)r->dy[i] * r->p[0][c], hat = (r->x[0][i] - mean) * rstd;
        r->dx[0][i] = (float)(rstd * (grad - sum / g.size - hat * product / g.size));
    }
}

/* dgamma[c] += sum of dy * xhat, dbeta[c] += sum of dy: over all samples, whatever the sets are. */
static void channel_backward(const ref_run *r, int64_t c)
{
    tensor_shape x = r->s->x[0];
    int64_t rows = x.h * x.w;
    double dgamma = 0, dbeta = 0;
    for (int64_t n = 0; n < x.n; n++) {
        int64_t k = r->o->kind == OP_GROUPNORM ? n * r->o->groups + c / (x.c / r->o->groups) : c;
        double mean = ((const float *)r->saved[0])[k], rstd = ((const float *)r->saved[1])[k];
        for (int64_t i = n * rows; i < (n + 1) * rows; i++) {
            dgamma += r->dy[i * x.c + c] * (r->x[0][i * x.c + c] - mean) * rstd;
            dbeta += r->dy[i * x.c + c];
        }
    }
    if (r->dp[0]) r->dp[0][c] += (float)dgamma;
    if (r->dp[1]) r->dp[1][c] += (float)dbeta;
}

void ref_norm_backward(const ref_run *r)
{
    tensor_shape x = r->s->x[0];
    if (r->dx[0])
        for (int64_t k = 0; k < set_count(r); k++) set_backward(r, k);
    if (r->dp[0] || r->dp[1])
        for (int64_t c = 0; c < x.c; c++) channel_backward(r, c);
    if (r->o->residual && r->dx[1])
        for (int64_t i = 0; i < ref_count(x); i++) r->dx[1][i] = r->dy[i];
}
