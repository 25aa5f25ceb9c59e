/* metrics: what results are scored by, lungs and lesions alike. Counts add up, so a score over several volumes is that
 * of the summed counts or the mean of the volumes' scores, as the caller says. docs/METHOD.md, "What is measured",
 * defines each. Local. */
#ifndef COV_STAGES_METRICS_H
#define COV_STAGES_METRICS_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

typedef struct metrics_overlap {
    int64_t both, truth, found; /* voxels */
} metrics_overlap;

/* Any value other than 0 counts. */
metrics_overlap metrics_overlap_of(const uint8_t *truth, const uint8_t *found, size_t n);
void metrics_overlap_add(metrics_overlap *to, metrics_overlap more);
double metrics_dice(metrics_overlap o);  /* 2*both/(truth+found); 1 where both are empty */
double metrics_kept(metrics_overlap o);  /* both/truth: share of the truth that was found; NaN where there is none */
int64_t metrics_false(metrics_overlap o);  /* found, not truth */
int64_t metrics_missed(metrics_overlap o); /* truth, not found */

/* Every score is a ratio of two sums: of slices' Dice and their number, of regions found and regions. Sums over cases
 * are ratios again. */
typedef struct metrics_ratio {
    double top, bottom;
} metrics_ratio;
double metrics_value(metrics_ratio r); /* NaN where bottom is 0 */
void metrics_ratio_add(metrics_ratio *to, metrics_ratio more);

/* Pixels where both agree, of the pixels inside `within`: accuracy without the background. */
metrics_ratio metrics_accuracy(const uint8_t *truth, const uint8_t *found, const uint8_t *within, size_t n);

/* Normalised surface Dice: border voxels of either mask that lie within the tolerance of a border voxel of the other,
 * of all border voxels. Border: a set voxel with a face neighbour that is not set, or beyond the array. size and
 * spacing_mm: x, y, z. in_plane: every slice on its own, in two dimensions (borders along z do not count); else in
 * three. Both empty: 0 of 0. */
status metrics_surface(const uint8_t *truth, const uint8_t *found, const int64_t size[3], const double spacing_mm[3],
                       double tolerance_mm, int in_plane, metrics_ratio *out);

/* Area under the ROC curve: the chance that a positive scores above a negative, ties one half. NaN without both kinds.
 * O(n^2), of studies. */
double metrics_auc(const double *score, const uint8_t *positive, size_t n);

typedef struct metrics_interval {
    double value, low, high; /* NaN where there is nothing to say; low and high need two patients */
    int patients;            /* that have anything in their bottom */
} metrics_interval;

enum { METRICS_DRAWS = 2000 };
/* Ratio of the sums over patients, and its 95 % percentile interval over METRICS_DRAWS samples of as many patients,
 * drawn with replacement from those with anything in their bottom. The unit is the patient, never the slice: slices of
 * one patient are alike. The same seed gives the same interval. */
status metrics_bootstrap(const metrics_ratio *by_patient, int patients, uint64_t seed, metrics_interval *out);
#endif
