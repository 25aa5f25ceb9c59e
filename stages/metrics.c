/* metrics: see metrics.h. */
#include "stages/metrics.h"
#include <math.h>

metrics_overlap metrics_overlap_of(const uint8_t *truth, const uint8_t *found, size_t n)
{
    metrics_overlap o = {0};
    for (size_t i = 0; i < n; i++) {
        int t = truth[i] != 0, f = found[i] != 0;
        o.truth += t;
        o.found += f;
        o.both += t & f;
    }
    return o;
}

double metrics_dice(metrics_overlap o)
{
    return o.truth + o.found > 0 ? 2.0 * (double)o.both / (double)(o.truth + o.found) : 1.0;
}

double metrics_kept(metrics_overlap o)
{
    return o.truth > 0 ? (double)o.both / (double)o.truth : NAN;
}

int64_t metrics_false(metrics_overlap o)
{
    return o.found - o.both;
}

int64_t metrics_missed(metrics_overlap o)
{
    return o.truth - o.both;
}
