/* regions: the 8-connected components of one slice, each with its minimum rectangle and area, and of numbers what they add
 * up to: the flood fill of all host memory, and what a backend's own way (plane_regions) must give. Regions are numbered
 * by their first pixel in raster order.
 *
 * Sums are integers, in units of 2^-32 a number, so that no order of summation changes one: numbers from 2^-9 on are
 * multiples of it, and the largest slice (INT32_MAX pixels) of numbers up to 1 stays below 2^63. Local. */
#ifndef COV_KERNELS_REGIONS_H
#define COV_KERNELS_REGIONS_H
#include "base/status.h"
#include "kernels/both.h"
#include <stdint.h>

typedef struct region {
    int32_t y0, x0, y1, x1; /* half-open rectangle, pixels of the slice */
    int32_t area;           /* pixels */
} region;

typedef struct region_sum {
    region at;
    uint64_t sum; /* of its numbers, each as region_units has it */
} region_sum;

/* Does the number belong to a region? A NaN does not. */
COV_BOTH static inline int region_has(float v) { return v > 0.0f; }
/* One that does, in the sum's units: above 1 it counts as 1. */
COV_BOTH static inline uint64_t region_units(float v) { return (uint64_t)((v < 1.0f ? (double)v : 1.0) * 4294967296.0); }
static inline double region_mean(const region_sum *r) { return (double)r->sum / 4294967296.0 / (double)r->at.area; }

/* mask (rows, cols): any value other than 0 belongs to a region. labels (rows, cols) is overwritten: 0, or 1 + the
 * region's place in *out. *out is owned by the caller (free); NULL where there are none. */
status regions_find(const uint8_t *mask, int64_t rows, int64_t cols, int32_t *labels, region **out, int64_t *count);
/* The same of numbers above 0. */
status regions_sum(const float *value, int64_t rows, int64_t cols, int32_t *labels, region_sum **out, int64_t *count);
#endif
