/* period: see period.h. */
#include "stages/period.h"

enum { AERATED_HU = -500, CONSOLIDATED_HU = -300, CONSOLIDATED_CLASS = 2 };

period_counts period_count(size_t n, const int16_t *hu, const uint8_t *lung, const uint8_t *lesion,
                           const uint8_t *classes)
{
    period_counts c = {0};
    for (size_t i = 0; i < n; i++) {
        int ill = lesion[i] != 0;
        c.lesion += ill;
        c.lung += lung ? lung[i] != 0 : ill || hu[i] < AERATED_HU;
        c.consolidated += ill && (classes ? classes[i] == CONSOLIDATED_CLASS : hu[i] > CONSOLIDATED_HU);
    }
    return c;
}

int period_proxy(period_counts c)
{
    if (c.lesion == 0) return -1;
    double lesion = (double)c.lesion, lung = (double)c.lung, consolidated = (double)c.consolidated;
    if (lesion > 0.4 * lung || consolidated > 0.4 * lesion) return 3;
    return lesion < 0.1 * lung && consolidated < 0.1 * lesion ? 1 : 2;
}
