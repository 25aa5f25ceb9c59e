/* tap: one output sample of a linear resampling, half-pixel centres, as net_resize's. Local. */
#ifndef COV_KERNELS_TAP_H
#define COV_KERNELS_TAP_H
#include "kernels/plane.h"

typedef struct tap {
    int64_t a, b;   /* neighbours among the source's samples */
    float fraction; /* of b */
} tap;

/* Where sample `to` of `to_n` lies among `from_n` samples that cover the same length; the ends are held. */
COV_BOTH static inline tap tap_at(int64_t to, int64_t to_n, int64_t from_n)
{
    double at = ((double)to + 0.5) * (double)from_n / (double)to_n - 0.5;
    at = at < 0.0 ? 0.0 : at;
    at = at > (double)(from_n - 1) ? (double)(from_n - 1) : at;
    int64_t a = (int64_t)at;
    tap t = {a, a + 1 < from_n ? a + 1 : a, (float)(at - (double)a)};
    return t;
}
#endif
