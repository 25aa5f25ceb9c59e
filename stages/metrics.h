/* metrics: what results are scored by. Counts add up, so a score over several volumes is that of the summed counts or the
 * mean of the volumes' scores, as the caller says. Local. */
#ifndef COV_STAGES_METRICS_H
#define COV_STAGES_METRICS_H
#include <stddef.h>
#include <stdint.h>

typedef struct metrics_overlap {
    int64_t both, truth, found; /* voxels */
} metrics_overlap;

/* Any value other than 0 counts. */
metrics_overlap metrics_overlap_of(const uint8_t *truth, const uint8_t *found, size_t n);
double metrics_dice(metrics_overlap o);  /* 2*both/(truth+found); 1 where both are empty */
double metrics_kept(metrics_overlap o);  /* both/truth: share of the truth that was found; NaN where there is none */
int64_t metrics_false(metrics_overlap o);  /* found, not truth */
int64_t metrics_missed(metrics_overlap o); /* truth, not found */
#endif
