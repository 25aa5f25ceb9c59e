/* ref_crf: the fully connected CRF as its formula stands, in double precision: for each pixel the sum over all
 * pixels, O(N^2) an iteration. Only for small images; what every other backend's CRF is compared with.
 *
 * The one channel that is carried is d = Q1 - Q0 = tanh(l/2), l the log odds, so that
 * l <- logit + w_a K_a d + w_s K_s d, with the kernels of kernels/crf.h normalised symmetrically. */
#include "base/size.h"
#include "kernels/ref/ref.h"
#include <math.h>
#include <stdlib.h>

typedef struct crf_exact {
    int64_t h, w;
    const crf_options *o;
    double *along_a, *along_s; /* exp(-k^2 / 2 theta^2) of a distance of k pixels, k below max(h,w) */
    double *intensity;         /* the rest: h*w each */
    double *root_a, *root_s;   /* 1/sqrt(s_i) */
    double *in_a, *in_s;       /* d_j / sqrt(s_j) */
    double *out_a, *out_s;
    double *d;
} crf_exact;

static status exact_new(crf_exact *e, void **memory)
{
    size_t pixels = (size_t)(e->h * e->w), side = (size_t)(e->h > e->w ? e->h : e->w), count, bytes;
    if (!size_mul(pixels, 8, &count) || !size_add(count, 2 * side, &count) || !size_mul(count, sizeof(double), &bytes))
        return COV_FAIL(COV_BROKEN, "crf: %zu pixels are too many", pixels);
    double *m = malloc(bytes);
    if (!m) return COV_FAIL(COV_NOMEM, "crf: no memory for %zu bytes", bytes);
    *memory = m;
    e->along_a = m, m += side;
    e->along_s = m, m += side;
    double **arrays[] = {&e->intensity, &e->root_a, &e->root_s, &e->in_a, &e->in_s, &e->out_a, &e->out_s, &e->d};
    for (size_t k = 0; k < sizeof arrays / sizeof arrays[0]; k++) *arrays[k] = m, m += pixels;
    for (size_t k = 0; k < side; k++) {
        double a = (double)k / (double)e->o->theta_alpha, s = (double)k / (double)e->o->theta_gamma;
        e->along_a[k] = exp(-0.5 * a * a);
        e->along_s[k] = exp(-0.5 * s * s);
    }
    return COV_OK;
}

/* out_i = sum_j k(i,j) in_j for both kernels. */
static void exact_filter(crf_exact *e)
{
    double beta = -0.5 / ((double)e->o->theta_beta * (double)e->o->theta_beta);
    for (int64_t yi = 0; yi < e->h; yi++)
        for (int64_t xi = 0; xi < e->w; xi++) {
            int64_t i = yi * e->w + xi, j = 0;
            double a = 0, s = 0;
            for (int64_t yj = 0; yj < e->h; yj++)
                for (int64_t xj = 0; xj < e->w; xj++, j++) {
                    int64_t dy = llabs(yi - yj), dx = llabs(xi - xj);
                    double t = e->intensity[i] - e->intensity[j];
                    a += e->along_a[dy] * e->along_a[dx] * exp(beta * t * t) * e->in_a[j];
                    s += e->along_s[dy] * e->along_s[dx] * e->in_s[j];
                }
            e->out_a[i] = a;
            e->out_s[i] = s;
        }
}

static int exact_slice(crf_exact *e, const float *logit, float *probability)
{
    int64_t n = e->h * e->w;
    for (int64_t i = 0; i < n; i++) e->in_a[i] = e->in_s[i] = 1;
    exact_filter(e);
    for (int64_t i = 0; i < n; i++) {
        e->root_a[i] = 1 / sqrt(e->out_a[i]);
        e->root_s[i] = 1 / sqrt(e->out_s[i]);
        e->d[i] = tanh(0.5 * (double)logit[i]);
    }
    int done = 0;
    for (double change = 1; done < e->o->iterations && change > (double)e->o->tolerance; done++) {
        for (int64_t i = 0; i < n; i++) {
            e->in_a[i] = e->root_a[i] * e->d[i];
            e->in_s[i] = e->root_s[i] * e->d[i];
        }
        exact_filter(e);
        change = 0;
        for (int64_t i = 0; i < n; i++) {
            double l = (double)logit[i] + (double)e->o->w_appearance * e->root_a[i] * e->out_a[i] +
                       (double)e->o->w_smooth * e->root_s[i] * e->out_s[i];
            double d = tanh(0.5 * l);
            change = fmax(change, 0.5 * fabs(d - e->d[i])); /* of Q, which is (1 + d) / 2 */
            e->d[i] = d;
        }
        if (e->o->tolerance == 0.0F) change = 1; /* all iterations, even when nothing moves */
    }
    for (int64_t i = 0; i < n; i++) probability[i] = (float)(0.5 + 0.5 * e->d[i]);
    return done;
}

status ref_crf(device *d, const crf_options *o, const crf_batch *b)
{
    (void)d;
    COV_TRY(crf_check(o, b));
    int64_t pixels = b->h * b->w, bad = crf_first_bad(b->logit, b->n * pixels);
    if (bad >= 0) return COV_FAIL(COV_BROKEN, "crf: logit %lld is not finite", (long long)bad);
    crf_exact e = {.h = b->h, .w = b->w, .o = o};
    void *memory = NULL;
    COV_TRY(exact_new(&e, &memory));
    for (int64_t k = 0; k < b->n; k++) {
        for (int64_t i = 0; i < pixels; i++) {
            double t = (double)b->intensity[k * pixels + i];
            e.intensity[i] = isnan(t) ? 0 : fmin(fmax(t, 0), 255);
        }
        int done = exact_slice(&e, b->logit + k * pixels, b->probability + k * pixels);
        if (b->iterations_done) b->iterations_done[k] = done;
    }
    free(memory);
    return COV_OK;
}
