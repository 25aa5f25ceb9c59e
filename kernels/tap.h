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

/* Where sample `at` of n lies among the `used` samples from `start` on of a canvas of `size` that covers the same length as the
 * n; the ends are held. 0: not among them. */
COV_BOTH static inline int tap_within(int64_t at, int64_t n, int64_t size, int64_t start, int64_t used, tap *out)
{
    double centre = ((double)at + 0.5) * (double)size / (double)n - (double)start;
    if (centre < 0.0 || centre >= (double)used) return 0;
    double place = centre - 0.5 < 0.0 ? 0.0 : centre - 0.5 > (double)(used - 1) ? (double)(used - 1) : centre - 0.5;
    int64_t a = (int64_t)place;
    tap t = {a, a + 1 < used ? a + 1 : a, (float)(place - (double)a)};
    *out = t;
    return 1;
}
#endif
