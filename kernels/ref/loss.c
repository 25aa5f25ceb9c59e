/* ref/loss: the four losses of kernels/op.h, forward (one number) and backward (to the prediction only).
 * Everything is computed from logits in a form that cannot overflow; sums are double. A loss without a single
 * weighted or labelled element is 0, and so is its gradient. */
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

static double sigmoid(double z) { return 1 / (1 + exp(-z)); }

/* ---- BCE: x[0] logits, x[1] target, x[2] weight or none */
static double bce_weight(const ref_run *r, int64_t i) { return r->s->nx > 2 ? fmax(r->x[2][i], 0) : 1; }

static double bce_weights(const ref_run *r)
{
    double sum = 0;
    for (int64_t i = 0; i < ref_count(r->s->x[0]); i++) sum += bce_weight(r, i);
    return sum;
}

void ref_loss_bce_forward(const ref_run *r)
{
    double sum = 0, weights = bce_weights(r);
    for (int64_t i = 0; i < ref_count(r->s->x[0]); i++) {
        double z = r->x[0][i], t = r->x[1][i];
        sum += bce_weight(r, i) * (fmax(z, 0) - z * t + log1p(exp(-fabs(z))));
    }
    r->y[0] = (float)(weights > 0 ? sum / weights : 0);
}

void ref_loss_bce_backward(const ref_run *r)
{
    double weights = bce_weights(r), scale = weights > 0 ? r->dy[0] / weights : 0;
    if (!r->dx[0]) return;
    for (int64_t i = 0; i < ref_count(r->s->x[0]); i++)
        r->dx[0][i] = (float)(scale * bce_weight(r, i) * (sigmoid(r->x[0][i]) - r->x[1][i]));
}

/* ---- soft Dice: x[0] logits, x[1] target; numerator and denominator of sample n */
static void dice_sums(const ref_run *r, int64_t n, double *above, double *below)
{
    int64_t m = ref_count(r->s->x[0]) / r->s->x[0].n;
    *above = *below = r->o->eps;
    for (int64_t i = n * m; i < (n + 1) * m; i++) {
        double p = sigmoid(r->x[0][i]), t = r->x[1][i];
        *above += 2 * p * t;
        *below += p + t;
    }
}

void ref_loss_dice_forward(const ref_run *r)
{
    double sum = 0, above, below;
    for (int64_t n = 0; n < r->s->x[0].n; n++) {
        dice_sums(r, n, &above, &below);
        sum += above / below;
    }
    r->y[0] = (float)(1 - sum / (double)r->s->x[0].n);
}

void ref_loss_dice_backward(const ref_run *r)
{
    int64_t samples = r->s->x[0].n, m = ref_count(r->s->x[0]) / samples;
    double above, below;
    if (!r->dx[0]) return;
    for (int64_t n = 0; n < samples; n++) {
        dice_sums(r, n, &above, &below);
        for (int64_t i = n * m; i < (n + 1) * m; i++) {
            double p = sigmoid(r->x[0][i]), ratio = (2 * r->x[1][i] * below - above) / (below * below);
            r->dx[0][i] = (float)(-r->dy[0] / (double)samples * ratio * p * (1 - p));
        }
    }
}

/* ---- cross-entropy: x[0] logits, label: the class of a row, or -1 */
static int64_t ce_rows(const ref_run *r) { return ref_count(r->s->x[0]) / r->s->x[0].c; }

/* A label outside 0..c-1 is none: it must not read outside the row. */
static int ce_has_label(const ref_run *r, int64_t i) { return r->label[i] >= 0 && r->label[i] < r->s->x[0].c; }

static int64_t ce_labelled(const ref_run *r)
{
    int64_t labelled = 0;
    for (int64_t i = 0; i < ce_rows(r); i++) labelled += ce_has_label(r, i);
    return labelled;
}

/* log of the sum of exp over one row. */
static double ce_log_sum(const float *z, int64_t c)
{
    double top = z[0], sum = 0;
    for (int64_t k = 1; k < c; k++) top = fmax(top, z[k]);
    for (int64_t k = 0; k < c; k++) sum += exp(z[k] - top);
    return top + log(sum);
}

void ref_loss_ce_forward(const ref_run *r)
{
    int64_t c = r->s->x[0].c, labelled = ce_labelled(r);
    double sum = 0;
    for (int64_t i = 0; i < ce_rows(r); i++)
        if (ce_has_label(r, i)) sum += ce_log_sum(r->x[0] + i * c, c) - r->x[0][i * c + r->label[i]];
    r->y[0] = (float)(labelled ? sum / (double)labelled : 0);
}

void ref_loss_ce_backward(const ref_run *r)
{
    int64_t c = r->s->x[0].c, labelled = ce_labelled(r);
    if (!r->dx[0]) return;
    memset(r->dx[0], 0, (size_t)ref_count(r->s->x[0]) * sizeof(float));
    for (int64_t i = 0; i < ce_rows(r); i++) {
        if (!ce_has_label(r, i)) continue;
        double log_sum = ce_log_sum(r->x[0] + i * c, c);
        for (int64_t k = 0; k < c; k++)
            r->dx[0][i * c + k] =
                (float)(r->dy[0] / (double)labelled * (exp(r->x[0][i * c + k] - log_sum) - (k == r->label[i])));
    }
}

/* ---- smooth L1: x[0] prediction, x[1] target, x[2] weight */
static double l1s_weights(const ref_run *r)
{
    double sum = 0;
    for (int64_t i = 0; i < ref_count(r->s->x[0]); i++) sum += r->x[2][i];
    return fmax(sum, 1);
}

void ref_loss_l1s_forward(const ref_run *r)
{
    double beta = r->o->beta, sum = 0;
    for (int64_t i = 0; i < ref_count(r->s->x[0]); i++) {
        double e = fabs((double)r->x[0][i] - r->x[1][i]);
        sum += r->x[2][i] * (e < beta ? e * e / (2 * beta) : e - beta / 2);
    }
    r->y[0] = (float)(sum / l1s_weights(r));
}

void ref_loss_l1s_backward(const ref_run *r)
{
    double beta = r->o->beta, scale = r->dy[0] / l1s_weights(r);
    if (!r->dx[0]) return;
    for (int64_t i = 0; i < ref_count(r->s->x[0]); i++) {
        double e = (double)r->x[0][i] - r->x[1][i];
        double slope = fabs(e) < beta ? e / beta : (e > 0) - (e < 0);
        r->dx[0][i] = (float)(scale * r->x[2][i] * slope);
    }
}
