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

status cpu_optim(device *d, const optim_step *o, size_t n, float *w, const float *g, float *m, float *v)
{
    const size_t pieces = (n + VEC_PIECE - 1) / VEC_PIECE;
    optim_rates r = {.o = *o};
    if (o->adamw) {
        r.first = (float)(1.0 / (1.0 - pow(o->beta1, (double)o->t)));
        r.second = (float)(1.0 / (1.0 - pow(o->beta2, (double)o->t)));
    }
#pragma omp parallel for schedule(static) num_threads(d->threads) if (pieces > 1)
    for (size_t k = 0; k < pieces; k++) {
        size_t at = k * VEC_PIECE, count = n - at < VEC_PIECE ? n - at : VEC_PIECE;
        if (o->adamw) VEC_PICK(d, leaf_adamw)(&r, count, w + at, g + at, m + at, v + at);
        else VEC_PICK(d, leaf_sgd)(&r, count, w + at, g + at, m + at);
    }
    return COV_OK;
}
