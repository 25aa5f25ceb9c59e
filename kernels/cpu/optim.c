/* optim: one optimiser step over flat fp32 arrays; formulas in backend.h. Element-wise, so any split gives
 * the same bits. */
#include "kernels/cpu/vec.h"
#include <math.h>

/* Both formulas' coefficients with the powers of beta taken out of the loop. */
typedef struct optim_rates {
    optim_step o;
    float first, second; /* 1/(1-beta1^t), 1/(1-beta2^t) */
} optim_rates;

#define VEC_BODY "kernels/cpu/optim_body.h"
#include "kernels/cpu/vec_isas.h"

typedef void optim_sgd(const optim_rates *r, size_t n, float *restrict w, const float *restrict g, float *restrict m);
typedef void optim_adamw(const optim_rates *r, size_t n, float *restrict w, const float *restrict g, float *restrict m,
                         float *restrict v);
VEC_TABLE(optim_sgd, leaf_sgd);
VEC_TABLE(optim_adamw, leaf_adamw);

/* How many of the n from `at` on are alike in weight decay, and whether it applies. */
static size_t alike(const uint8_t *decays, size_t at, size_t n, int *decay)
{
    *decay = !decays || decays[at / OPTIM_RUN];
    if (!decays) return n;
    size_t end = (at / OPTIM_RUN + 1) * OPTIM_RUN;
    while (end < at + n && !decays[end / OPTIM_RUN] == !*decay) end += OPTIM_RUN;
    return end < at + n ? end - at : n;
}

status cpu_optim(device *d, const optim_step *o, size_t n, const uint8_t *decays, float *w, const float *g, float *m, float *v)
{
    const size_t pieces = (n + VEC_PIECE - 1) / VEC_PIECE;
    optim_rates r = {.o = *o};
    if (o->adamw) {
        r.first = (float)(1.0 / (1.0 - pow(o->beta1, (double)o->t)));
        r.second = (float)(1.0 / (1.0 - pow(o->beta2, (double)o->t)));
    }
#pragma omp parallel for schedule(static) num_threads(d->threads) if (pieces > 1)
    for (size_t k = 0; k < pieces; k++) {
        size_t end = (k + 1) * VEC_PIECE < n ? (k + 1) * VEC_PIECE : n;
        for (size_t at = k * VEC_PIECE, count; at < end; at += count) {
            optim_rates own = r;
            int decay;
            count = alike(decays, at, end - at, &decay);
            if (!decay) own.o.decay = 0;
            if (o->adamw) VEC_PICK(d, leaf_adamw)(&own, count, w + at, g + at, m + at, v + at);
            else VEC_PICK(d, leaf_sgd)(&own, count, w + at, g + at, m + at);
        }
    }
    return COV_OK;
}
