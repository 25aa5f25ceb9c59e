/* lungeval: the lung networks scored on an annotated volume, each way that they can be used. The networks run once a
 * view; every variant and every point of a grid search starts from those two volumes of logits. Local. */
#ifndef COV_STAGES_LUNGEVAL_H
#define COV_STAGES_LUNGEVAL_H
#include "kernels/crf.h"
#include "stages/lung.h"
#include "stages/trainset.h"

/* X(NAME, "name", sagittal weight: 0 axial alone, 1 sagittal alone, -1 fused; CRF) */
#define LUNGEVAL_VARIANTS(X)               \
    X(AXIAL, "axial", 0, 0)                \
    X(SAGITTAL, "sagittal", 1, 0)          \
    X(FUSED, "fused", -1, 0)               \
    X(AXIAL_CRF, "axial + CRF", 0, 1)      \
    X(SAGITTAL_CRF, "sagittal + CRF", 1, 1) \
    X(FUSED_CRF, "fused + CRF", -1, 1)
typedef enum lungeval_variant {
#define X(NAME, ...) LUNGEVAL_##NAME,
    LUNGEVAL_VARIANTS(X)
#undef X
        LUNGEVAL_COUNT
} lungeval_variant;
const char *lungeval_name(lungeval_variant v);

typedef struct lungeval_score {
    double dice, surface, lesion_kept; /* NaN where the case has no such mask, or no lesion; surface: Dice of surfaces
                                          in 3-D, LUNGEVAL_TOLERANCE_MM */
    double lung_ml, false_ml, missed_ml;
} lungeval_score;

#define LUNGEVAL_TOLERANCE_MM 2.0

typedef struct lungeval lungeval; /* one volume's logits */
/* Runs both networks. Borrows all four. sagittal 0: the axial network alone (variants with a sagittal part are then not
 * scored). */
status lungeval_new(const backend *b, device *d, lung *nets, int sagittal, const trainset_volume *v, lungeval **out);
void lungeval_free(lungeval **e);
/* Fuses, runs the CRF (crf NULL: none) and the component step; mask (nz, ny, nx) 0, 1 right, 2 left. */
status lungeval_mask(lungeval *e, lung_fusion f, const crf_options *crf, uint8_t *mask);
status lungeval_score_of(const trainset_volume *v, const uint8_t *mask, lungeval_score *out);
#endif
