/* crf: the defaults, and the checks every backend makes before it touches a slice. */
#include "kernels/crf.h"
#include "base/size.h"
#include <math.h>

crf_options crf_defaults(void)
{
    return (crf_options){.w_appearance = 10.0F,
                         .w_smooth = 3.0F,
                         .theta_alpha = 80.0F,
                         .theta_beta = 13.0F,
                         .theta_gamma = 3.0F,
                         .iterations = 10,
                         .tolerance = 1e-3F};
}

static status check_theta(const char *name, float theta)
{
    if (theta >= CRF_MIN_THETA && theta <= CRF_MAX_THETA) return COV_OK; /* a NaN fails both */
    return COV_FAIL(COV_USAGE, "crf %s is %g, it must be from %g to %g", name, (double)theta, CRF_MIN_THETA,
                    CRF_MAX_THETA);
}

static status check_weight(const char *name, float w)
{
    if (w >= 0.0F && w <= 1e6F) return COV_OK;
    return COV_FAIL(COV_USAGE, "crf %s is %g, it must be from 0 to 1e6", name, (double)w);
}

status crf_check(const crf_options *o, const crf_batch *b)
{
    COV_TRY(check_theta("theta_alpha", o->theta_alpha));
    COV_TRY(check_theta("theta_beta", o->theta_beta));
    COV_TRY(check_theta("theta_gamma", o->theta_gamma));
    COV_TRY(check_weight("w_appearance", o->w_appearance));
    COV_TRY(check_weight("w_smooth", o->w_smooth));
    if (o->iterations < 0) return COV_FAIL(COV_USAGE, "crf iterations is %d, it must be 0 or more", o->iterations);
    if (!(o->tolerance >= 0.0F && o->tolerance < 1.0F))
        return COV_FAIL(COV_USAGE, "crf tolerance is %g, it must be from 0 to 1", (double)o->tolerance);
    if (b->n < 0 || b->h < 1 || b->w < 1)
        return COV_FAIL(COV_BROKEN, "crf batch is %lld x %lld x %lld", (long long)b->n, (long long)b->h,
                        (long long)b->w);
    if (b->h > CRF_MAX_SIDE || b->w > CRF_MAX_SIDE)
        return COV_FAIL(COV_UNSUPPORTED, "crf slices are %lld x %lld, sides may be up to %d", (long long)b->h,
                        (long long)b->w, CRF_MAX_SIDE);
    size_t bytes;
    if (!size_product((int64_t[]){b->n, b->h, b->w, (int64_t)sizeof(float)}, 4, &bytes))
        return COV_FAIL(COV_BROKEN, "crf batch of %lld slices is too large to count", (long long)b->n);
    return COV_OK;
}

int64_t crf_first_bad(const float *logit, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(logit[i])) return i;
    return -1;
}
