/* lungpost: from the voxels that the CRF calls lung to two named lungs: largest components, filled holes, sides.
 * Canonical grid (x to the patient's left, x fastest). Everything is integer and in a fixed order. Local. */
#ifndef COV_STAGES_LUNGPOST_H
#define COV_STAGES_LUNGPOST_H
#include "base/status.h"
#include <stdint.h>

typedef struct lungpost_report {
    int components;  /* kept: 0, 1 (joined, or only one) or 2 */
    int side_doubt;  /* the sides could not be told apart with confidence */
    int64_t voxels;  /* of lung, at the end */
    int64_t removed; /* voxels of components that were dropped */
    int64_t filled;  /* voxels of holes */
} lungpost_report;

/* mask (nz,ny,nx): in 0/1, out 0 background, 1 right, 2 left. 6-connected in 3-D. A second component smaller than a
 * tenth of the first is dropped with the rest. A hole is background that reaches no border of the volume. threads: at
 * least 1; their number changes no result. */
status lungpost_run(uint8_t *mask, int64_t nx, int64_t ny, int64_t nz, int threads, lungpost_report *report);
#endif
