/* lung: the lung networks over a whole volume. Each view's planes go through its network in small batches; their
 * logits, back on the volume's own grid, add up with the fusion weights. Weights are loaded once. Local. */
#ifndef COV_STAGES_LUNG_H
#define COV_STAGES_LUNG_H
#include "data/volume.h"
#include "kernels/net.h"
#include "stages/lungnet.h"

typedef struct lung lung;

/* b and d are borrowed and must outlive *out. sagittal_path NULL: the axial network alone. COV_FORMAT if a file holds another model. */
status lung_open(const backend *b, device *d, net_precision precision, const char *axial_path, const char *sagittal_path, lung **out);
void lung_close(lung **l);
/* How the two logits become one [ours]. */
typedef struct lung_fusion {
    float weight; /* of the sagittal logit in dense tissue, 0 .. 1; 0: the axial one alone, 1: the sagittal one alone */
    float prior;  /* log odds added there to the fused logit: to lose consolidated lung costs more than to take a vessel along */
} lung_fusion;
/* What is asked for, or where that is negative what is stored with the sagittal weights; the axial logit alone without them. */
lung_fusion lung_fusion_of(const lung *l, float weight, float prior);
/* logit (nz,ny,nx), fused by lung_fused; sagittal planes outside lung_span are not looked at, and their logit is the axial one. */
status lung_logits(lung *l, const volume *v, lung_fusion f, float *logit);
/* The columns x0 .. x1-1 that hold a positive one of these axial logits (nz,ny,nx), with a 16th of the width to spare on
 * each side; x0 = x1 where there is none. */
void lung_span(const volume_header *h, const float *axial, int64_t *x0, int64_t *x1);
/* One voxel's logit. In dense tissue the sagittal one has its weight, as consolidated lung is not told from the chest's wall in an
 * axial slice; where there is air, which both see, one half at most. */
static inline float lung_fused(lung_fusion f, int16_t hu, float axial, float sagittal)
{
    enum { DENSE_HU = -400 };
    if (f.weight >= 1) return sagittal;
    if (hu > DENSE_HU) return axial + f.weight * (sagittal - axial) + f.prior;
    return axial + (f.weight < 0.5f ? f.weight : 0.5f) * (sagittal - axial);
}
/* Identity of what was loaded: SHA-256 of both files' contents, joined; borrowed. */
const char *lung_digest(const lung *l);
#endif
