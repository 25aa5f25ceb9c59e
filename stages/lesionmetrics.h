/* lesionmetrics: how lesions are scored as things that are found or missed: sizes, detection, its curves, calibration,
 * periods, studies. One slice at a time goes in; what is kept is small enough for a whole test set. Pixel scores are
 * stages/metrics. docs/METHOD.md, "What is measured", defines each. Local. */
#ifndef COV_STAGES_LESIONMETRICS_H
#define COV_STAGES_LESIONMETRICS_H
#include "stages/metrics.h"
#include "stages/regions.h"

/* Two boxes meet if their intersection over union is above one half; exact, in integers. */
int lesionmetrics_meet(const region *a, const region *b);

/* ---- sizes: Table 1 */
typedef struct lesionmetrics_sizes {
    int64_t count, tiny, room;
    double *area; /* owned; pixels of a 512 x 512 slice */
} lesionmetrics_sizes;
status lesionmetrics_sizes_add(lesionmetrics_sizes *s, const region *r, int64_t count, int64_t rows, int64_t cols);
double lesionmetrics_mean_area(const lesionmetrics_sizes *s); /* NaN without regions, as all three */
double lesionmetrics_median_area(lesionmetrics_sizes *s);     /* sorts */
double lesionmetrics_tiny_percent(const lesionmetrics_sizes *s);
void lesionmetrics_sizes_free(lesionmetrics_sizes *s); /* accepts a zeroed one */

/* ---- detection: every region of the truth with the best score among the boxes that meet it, every box with its score
 * and whether it meets a region. Neither is used up: two boxes on one region are both right, one box counts for every
 * region it meets. */
typedef struct lesionmetrics_region { float best; /* score; -1: no box meets it */ uint8_t tiny; } lesionmetrics_region;
typedef struct lesionmetrics_found { float score; uint8_t right; } lesionmetrics_found;
typedef struct lesionmetrics_detection {
    int64_t slices, studies;
    int64_t region_count, region_room, found_count, found_room;
    lesionmetrics_region *regions; /* owned */
    lesionmetrics_found *found;    /* owned */
} lesionmetrics_detection;
/* One slice of rows x cols pixels. score[m], in [0, 1]. */
status lesionmetrics_detection_add(lesionmetrics_detection *d, const region *truth, int64_t n, const region *found,
                                   const float *score, int64_t m, int64_t rows, int64_t cols);
status lesionmetrics_detection_merge(lesionmetrics_detection *into, const lesionmetrics_detection *more);
void lesionmetrics_detection_free(lesionmetrics_detection *d); /* accepts a zeroed one */

/* At a score threshold (score >= threshold is found). */
typedef struct lesionmetrics_point {
    float threshold;
    int64_t regions, hit, tiny, tiny_hit; /* sensitivity hit/regions; tiny sensitivity */
    int64_t found, right;                 /* precision right/found; found-right are false */
} lesionmetrics_point;
lesionmetrics_point lesionmetrics_at(const lesionmetrics_detection *d, float threshold);
/* FROC: a point at every distinct score, from the highest down. Owned by the caller (free); NULL without findings. */
status lesionmetrics_froc(const lesionmetrics_detection *d, lesionmetrics_point **out, int64_t *count);

/* ---- calibration of scores: in each of ten equal bins of score, how many findings, their mean score, and the share
 * that is right */
enum { LESIONMETRICS_BINS = 10 };
typedef struct lesionmetrics_calibration {
    int64_t count[LESIONMETRICS_BINS];
    double score[LESIONMETRICS_BINS], right[LESIONMETRICS_BINS]; /* means; NaN in an empty bin */
    double error; /* expected calibration error: mean of |score - right| over bins, weighted by count; NaN without
                     findings */
} lesionmetrics_calibration;
lesionmetrics_calibration lesionmetrics_calibrate(const lesionmetrics_detection *d);

/* ---- periods: rows truth, columns the most probable period. Slices without a label, or without an answer (NaN), are
 * not counted. */
enum { LESIONMETRICS_PERIODS = 4 };
typedef struct lesionmetrics_periods {
    int64_t count[LESIONMETRICS_PERIODS][LESIONMETRICS_PERIODS];
} lesionmetrics_periods;
void lesionmetrics_periods_add(lesionmetrics_periods *p, int truth, const float probability[LESIONMETRICS_PERIODS]);
metrics_ratio lesionmetrics_periods_right(const lesionmetrics_periods *p);

/* ---- studies: positive if they have any lesion; suspicion >= threshold calls one positive */
typedef struct lesionmetrics_studies {
    metrics_ratio sensitivity, specificity;
    double auc;
} lesionmetrics_studies;
lesionmetrics_studies lesionmetrics_of_studies(const double *suspicion, const uint8_t *positive, size_t n,
                                               double threshold);

/* ---- Dice at many thresholds from one look: score (n) is the highest score of the findings on each pixel, -1 where
 * there is none. Step k counts what score >= k/LESIONMETRICS_STEPS finds. Adds to out[LESIONMETRICS_STEPS]. */
enum { LESIONMETRICS_STEPS = 20 };
void lesionmetrics_sweep(const uint8_t *truth, const float *score, size_t n, metrics_overlap out[LESIONMETRICS_STEPS]);
float lesionmetrics_step(int k); /* its threshold */
#endif
