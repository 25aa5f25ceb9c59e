/* lesionset: the annotated triplets that lesion networks are trained on, in memory (int16 HU, one byte of marks a
 * voxel), and which of them a sample is made of. Every axial slice with lung is once the key of a triplet; an isolated
 * slice is (0, s, 0). Sources: positive volumes    lung and lesion mask                      healthy cases    period 0
 * in the table, no lesion; lung mask isolated slices     lesion mask; without a lung mask everything is inside Other
 * cases (no masks) are left out. A sample draws its kind, then a patient (by the square root of how many slices the
 * patient has, so that neither one long volume nor fifty single slices outweigh the rest), then a slice. Slices without
 * lesion of positive patients and of healthy ones take part in proportion: detectors trained without them raise false
 * alarms.
 *
 * Labels of the period: the table's where it has one; else, if asked for, the proxy of stages/period; -1 where a
 * positive study's slice shows no lesion, and in merged pictures unless all parts agree. Sample k is a pure function of
 * (options, seed, k). Local; lesionset_get may run on several threads at once. */
#ifndef COV_STAGES_LESIONSET_H
#define COV_STAGES_LESIONSET_H
#include "data/cases.h"
#include "data/volume.h"
#include "stages/tripletaug.h"

typedef struct lesionset lesionset;

typedef enum lesionset_kind {
    LESIONSET_VOLUME,
    LESIONSET_ISOLATED,
    LESIONSET_HEALTHY /* volumes */,
    LESIONSET_KINDS
} lesionset_kind;

/* What a stage of training sees. The rest are positive volumes; the share of a kind that is not there falls to the
 * others. */
typedef struct lesionset_options {
    uint64_t seed;
    int period_proxy;   /* label by stages/period where the table has no period */
    float healthy;      /* share of samples from healthy volumes */
    float slices;       /* share from isolated slices */
    float clean;        /* of a positive patient's samples, share without lesion */
    float alone;        /* share of a volume's samples shown as isolated slices */
    float merge;        /* share of pictures merged of two to four slices */
    tripletaug_options augment;
} lesionset_options;
lesionset_options lesionset_defaults(void);
/* The options as text for the weights' record. */
void lesionset_describe(const lesionset_options *o, char *to, size_t room);

status lesionset_new(lesionset **out);
void lesionset_free(lesionset **s);
/* Adds every case of c that can be learnt from, but for the patients in the comma-separated list hold_out, whose files
 * are not opened. */
status lesionset_load(lesionset *s, const cases *c, const char *hold_out);

/* One source as lesionset_load makes them. classes: 0, 1 ground glass, 2 consolidation; lung NULL: everything is
 * inside; lesion NULL: none; period: the table's, or -1. Arrays (nz, ny, nx), canonical; hu is taken (free), on failure
 * too, the others are borrowed. */
typedef struct lesionset_source {
    const char *patient;
    int64_t nx, ny, nz;
    int isolated, eight_bit, period;
    int16_t *hu;
    const uint8_t *lung, *lesion, *classes;
} lesionset_source;
status lesionset_add(lesionset *s, const lesionset_source *from);

typedef struct lesionset_counts {
    int sources[LESIONSET_KINDS], patients[LESIONSET_KINDS];
    int64_t slices[LESIONSET_KINDS], with_lesion;
    int64_t period[4]; /* slices by label, as the options give them */
} lesionset_counts;
void lesionset_count(const lesionset *s, const lesionset_options *o, lesionset_counts *out);
/* COV_USAGE if there is nothing that these options can draw. */
status lesionset_check(const lesionset *s, const lesionset_options *o);

enum { LESIONSET_BOXES = 64 };
/* All written: image (rows, cols, 3), target (rows, cols) 0/1, period, boxes (64, 5): y0 x0 y1 x1 (half-open, pixels)
 * and 1, largest first, zeros behind. Regions of a few pixels, made by the resampling, have no box. */
typedef struct lesionset_sample {
    float *image, *target;
    int32_t *period;
    float *boxes;
} lesionset_sample;
/* zoom: pixels of the picture a pixel of the canvas (512 x 512 a slice). */
status lesionset_get(const lesionset *s, const lesionset_options *o, uint64_t k, float zoom, int64_t rows, int64_t cols,
                     const lesionset_sample *to);
#endif
