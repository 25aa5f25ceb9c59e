/* regions: which of a slice's regions (kernels/regions.h) are small, and their area as the paper counts it. A region is the
 * method's unit of a lesion: in the ground truth, in a detector's targets, and where a segmentation is turned into boxes. Local. */
#ifndef COV_STAGES_REGIONS_H
#define COV_STAGES_REGIONS_H
#include "kernels/regions.h"

/* Tiny (the paper's word): less than 0.059 % of the slice, which is 154 pixels or fewer of 512 x 512. */
int regions_tiny(int64_t area, int64_t rows, int64_t cols);
/* Area in pixels of a 512 x 512 slice, in which the paper counts. */
double regions_area_512(int64_t area, int64_t rows, int64_t cols);
#endif
