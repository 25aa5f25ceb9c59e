/* regions: the 8-connected components of one slice's mask, each with its minimum rectangle and area. The method's unit
 * of a lesion: in the ground truth, in a detector's targets, and where a segmentation is turned into boxes. Local. */
#ifndef COV_STAGES_REGIONS_H
#define COV_STAGES_REGIONS_H
#include "base/status.h"
#include <stdint.h>

typedef struct region {
    int32_t y0, x0, y1, x1; /* half-open rectangle, pixels of the slice */
    int32_t area;           /* pixels */
} region;

/* mask (rows, cols): any value other than 0 belongs to a region. labels (rows, cols) is overwritten: 0, or 1 + the
 * region's place in *out. Regions are numbered by their first pixel in raster order. *out is owned by the caller
 * (free); NULL where there are none. */
status regions_find(const uint8_t *mask, int64_t rows, int64_t cols, int32_t *labels, region **out, int64_t *count);

/* Tiny (the paper's word): less than 0.059 % of the slice, which is 154 pixels or fewer of 512 x 512. */
int regions_tiny(int64_t area, int64_t rows, int64_t cols);
/* Area in pixels of a 512 x 512 slice, in which the paper counts. */
double regions_area_512(int64_t area, int64_t rows, int64_t cols);
#endif
