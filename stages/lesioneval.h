/* lesioneval: what a model found in one study, scored against the reference: one row of figures that add up over
 * studies, the evidence for its curves, and the masks that pictures show. Works on findings and truth alone; runs no
 * network. Local. */
#ifndef COV_STAGES_LESIONEVAL_H
#define COV_STAGES_LESIONEVAL_H
#include "stages/evalset.h"
#include "stages/finding.h"
#include "stages/lesionmetrics.h"

/* X(NAME, "name", digits, "what it is the ratio of"). docs/METHOD.md, "What is measured". */
#define LESIONEVAL_METRICS(X)                                                                          \
    X(DICE, "mean Dice", 4, "Dice of the positive slices / their number")                             \
    X(ACCURACY, "mean accuracy", 4, "accuracy inside the reference lung of the positive slices / their number") \
    X(SENSITIVITY, "sensitivity", 4, "regions that a box meets / regions")                            \
    X(TINY, "tiny sensitivity", 4, "the same over tiny regions")                                      \
    X(VOLUME_DICE, "volume Dice", 4, "Dice of whole volumes, mean of each patient's / patients")     \
    X(ALL_DICE, "Dice, all slices", 4, "Dice of all slices, 1 where both are empty / slices")        \
    X(SURFACE, "surface Dice", 4, "normalised surface Dice of volumes, mean of each patient's / patients") \
    X(PRECISION, "precision", 4, "boxes that meet a region / boxes")                                  \
    X(FALSE_SLICE, "false a slice", 2, "boxes that meet no region / slices")                          \
    X(FALSE_STUDY, "false a study", 1, "boxes that meet no region / studies")
typedef enum lesioneval_metric {
#define X(NAME, ...) LESIONEVAL_##NAME,
    LESIONEVAL_METRICS(X)
#undef X
        LESIONEVAL_COUNT
} lesioneval_metric;
const char *lesioneval_name(lesioneval_metric m);
const char *lesioneval_meaning(lesioneval_metric m);
int lesioneval_digits(lesioneval_metric m);

/* Volumes with fewer lesion voxels are reported and not averaged: their Dice and surface Dice are chance. */
enum { LESIONEVAL_VOXELS_LEAST = 100 };
#define LESIONEVAL_TOLERANCE_MM 2.0

/* At one of the LESIONMETRICS_STEPS thresholds. */
typedef struct lesioneval_step {
    metrics_ratio dice, all; /* as DICE and ALL_DICE */
    metrics_overlap whole;
} lesioneval_step;

typedef struct lesioneval_row {
    char id[128];
    const char *patient; /* borrowed */
    int isolated, positive; /* positive: has any lesion */
    metrics_ratio m[LESIONEVAL_COUNT];
    metrics_overlap whole;  /* pixels of the whole study */
    double volume_dice, surface; /* NaN for isolated slices; also where too little lesion keeps them out of the means */
    int64_t lung_px, slices, positive_slices;
    double truth_percent, found_percent; /* of the lung */
    double suspicion; /* as stages/lesionpost gives it for what was found; NaN without lung */
    lesioneval_step step[LESIONMETRICS_STEPS];
    lesionmetrics_detection detection;
    lesionmetrics_periods periods;
    double *slice_dice; /* (nz), owned; NaN on slices without lesion */
} lesioneval_row;
void lesioneval_row_free(lesioneval_row *r); /* accepts a zeroed one */

typedef struct lesioneval_input {
    const evalset_study *study;
    const uint8_t *lung;      /* (nz,ny,nx), what the model was given: burden is a share of it; NULL: everything */
    const findings *found;    /* sorted; from the lowest score on, for the curves */
    float threshold;          /* findings of score >= threshold count */
    const int8_t *period;     /* (nz) labels 0..3, -1 none; NULL: none at all */
} lesioneval_input;
/* All borrowed. mask (nz,ny,nx): 0/1, what was found at the threshold; the caller's, overwritten. */
status lesioneval_score(const lesioneval_input *in, uint8_t *mask, lesioneval_row *out);

/* The highest score of the findings on each pixel of slice z, -1 elsewhere. to (ny, nx). */
void lesioneval_scores(const findings *f, int64_t z, int64_t ny, int64_t nx, float *to);

/* What HU > hu inside the lung finds, as findings of score 1: no model, the baseline that a model has to beat. */
status lesioneval_baseline(const volume *v, const uint8_t *lung, int hu, findings **out);

/* ---- many rows */
typedef enum lesioneval_kind {
    LESIONEVAL_ALL,
    LESIONEVAL_VOLUMES,
    LESIONEVAL_SLICES,
    LESIONEVAL_KINDS
} lesioneval_kind;
typedef struct lesioneval_summary {
    int64_t studies, patients, slices, positive_slices, regions, tiny, found;
    metrics_interval m[LESIONEVAL_COUNT];
    lesionmetrics_studies calls; /* at the suspicion threshold given */
    lesionmetrics_periods periods;
    lesionmetrics_detection detection; /* owned */
    lesioneval_step step[LESIONMETRICS_STEPS];
    double step_volume[LESIONMETRICS_STEPS]; /* as VOLUME_DICE */
} lesioneval_summary;
status lesioneval_sum(const lesioneval_row *rows, size_t count, lesioneval_kind kind, double suspicion_threshold,
                      lesioneval_summary *out);
void lesioneval_summary_free(lesioneval_summary *s);

/* The step with the best mean: "dice" over positive slices, "volume" over patients' volumes, "all" over all slices, and for an
 * archive of the well and the ill "screen", the mean of the last two: lesion where it is, and nothing where it is not. A
 * tie goes to the lower threshold. Or the step that `by` names itself, as a number: one that was chosen elsewhere, as on the
 * held-out patients of other folds. COV_USAGE for anything else, or where there is nothing to choose on. */
status lesioneval_choose(const lesioneval_summary *s, const char *by, int *step);
#endif
