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
/* The fusion weight of the sagittal logit: the one stored with the sagittal weights, 0 without them. */
float lung_fusion(const lung *l);
/* logit (nz,ny,nx): the axial network's alone with weight 0, the sagittal one's alone with weight 1. Else both, fused voxel by
 * voxel with lung_weight; sagittal planes outside lung_span are not looked at, and their logit is the axial one. */
status lung_logits(lung *l, const volume *v, float sagittal_weight, float *logit);
/* The columns x0 .. x1-1 that hold a positive one of these axial logits (nz,ny,nx), with a 16th of the width to spare on
 * each side; x0 = x1 where there is none. */
void lung_span(const volume_header *h, const float *axial, int64_t *x0, int64_t *x1);
/* The sagittal logit's share of the fused one in a voxel of this density: weight in dense tissue, as consolidated lung is not told
 * from the chest's wall in an axial slice; one half at most where there is air, which both see [ours]. */
static inline float lung_weight(float weight, int16_t hu)
{
    enum { DENSE_HU = -400 };
    return hu > DENSE_HU || weight < 0.5f ? weight : 0.5f;
}
/* Identity of what was loaded: SHA-256 of both files' contents, joined; borrowed. */
const char *lung_digest(const lung *l);
#endif
