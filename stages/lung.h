/* lung: the lung networks over a whole volume that lies where the device sees it, as do the logits. Each view's planes go
 * through its network in small batches; their logits, back on the volume's own grid, are fused. Weights are loaded once.
 * Local. */
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
/* How they are fused, in numbers for plane_fuse. In dense tissue the sagittal logit has its weight, as consolidated lung is not told
 * from the chest's wall in an axial slice; where there is air, which both see, one half at most. */
static inline plane_blend lung_blend(lung_fusion f)
{
    enum { DENSE_HU = -400 };
    if (f.weight >= 1) return (plane_blend){.weight = {1, 1}};
    return (plane_blend){.level = DENSE_HU, .weight = {f.weight < 0.5f ? f.weight : 0.5f, f.weight}, .offset = {0, f.prior}};
}
/* hu, logit (nz,ny,nx), device memory of the device that was opened with: of a volume with that header, and its fused logits.
 * coming: hu on its way there, which has arrived when this returns; NULL: it is there.
 * Sagittal planes outside lung_span are not looked at, and their logit is the axial one. */
status lung_logits(lung *l, const volume_header *h, const int16_t *hu, sending *coming, lung_fusion f, float *logit);
/* The columns x0 .. x1-1 that hold a positive one of these axial logits (nz,ny,nx; device memory), with a 16th of the width to
 * spare on each side; x0 = x1 where there is none. Waits for the device. */
status lung_span(const backend *b, device *d, const volume_header *h, const float *axial, int64_t *x0, int64_t *x1);
/* Identity of what was loaded: SHA-256 of both files' contents, joined; borrowed. */
const char *lung_digest(const lung *l);
#endif
