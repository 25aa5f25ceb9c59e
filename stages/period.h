/* period: a stand-in for the radiologists' labels of the disease's period, which no public data has. A proxy: it
 * follows how much of the slice's lung is lesion and how much of the lesion is consolidated, not the course of the
 * disease [ours]: 3 severe     more than 40 % of the lung is lesion, or more than 40 % of the lesion is consolidated 1
 * early      less than 10 % of the lung, and less than 10 % of the lesion 2 advanced   else Consolidated: above -300 HU
 * (8-bit images: their grey taken for the method's window), or class 2 where classes were drawn. Local. */
#ifndef COV_STAGES_PERIOD_H
#define COV_STAGES_PERIOD_H
#include <stddef.h>
#include <stdint.h>

typedef struct period_counts {
    int64_t lung, lesion, consolidated; /* pixels of one slice */
} period_counts;

/* lung NULL: what is aerated (below -500 HU) or lesion counts as lung. classes NULL: by HU. Arrays of n pixels. */
period_counts period_count(size_t n, const int16_t *hu, const uint8_t *lung, const uint8_t *lesion,
                           const uint8_t *classes);
/* 1, 2 or 3; -1 without lesion: in a positive study such a slice has no period. */
int period_proxy(period_counts c);
#endif
