/* lungcrf: the fully connected CRF over the slices of a volume: fused logits in, a lung mask out. Local. */
#ifndef COV_STAGES_LUNGCRF_H
#define COV_STAGES_LUNGCRF_H
#include "data/volume.h"
#include "kernels/backend.h"

/* What lungs are screened with: an appearance kernel that reaches 12 pixels only trims edges. At the bandwidths that the CRF's authors
 * and peers use (80) consolidated lung, as bright as the body beside it, is taken out of the mask. Three iterations do what
 * ten do at these weights: docs/MODELS.md. */
crf_options lungcrf_defaults(void);

/* Of a volume with that header: hu and logit (nz, ny, nx), device memory; mask (nz, ny, nx) 0/1, host memory. Bandwidths are
 * pixels of a 512-pixel slice; on another grid they keep their share of the image. A slice without one pixel that the networks
 * call lung stays empty: a Potts CRF has nothing to spread there. Each slice is seen in the rectangle around the whole
 * volume's lungs, wider by twice theta_alpha [ours]. o NULL: no CRF, the mask is where the logit is positive. */
status lungcrf_run(const backend *b, device *d, const crf_options *o, const volume_header *h, const int16_t *hu, const float *logit,
                   uint8_t *mask);
#endif
