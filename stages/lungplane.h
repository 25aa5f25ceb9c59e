/* lungplane: which planes of a volume become a lung network's input, and at what size; cutting them and putting logits back is
 * the backend's (kernels/plane.h). Training, pipeline and evaluation all go through here, so that a network meets the same
 * geometry everywhere.
 *
 * Axial: every slice, resampled to 512 x 512. Sagittal: [Z][Y] planes with square pixels, of 512/256 of an axial input's pixel
 * (about 256 columns), every second x of the 512 the axial network sees: the sagittal network is there for context along z, which
 * needs no fine grid. Padded below and to the right with 0 (air) to multiples of the stride; at most 1024 rows, beyond which z is
 * scaled. Row 0 is the volume's lowest slice. Resampling is bilinear with half-pixel centres.
 *
 * [ours] A field narrower than LUNGPLANE_FIELD_MM cuts the chest, as in CT of the heart: it is shown at the size that it has in a field of
 * that width, in the middle of the plane; the networks know chests, not enlarged pieces. Not where the spacing means nothing. Local. */
#ifndef COV_STAGES_LUNGPLANE_H
#define COV_STAGES_LUNGPLANE_H
#include "data/volume.h"
#include "kernels/plane.h"
#include "stages/lungnet.h"

enum { LUNGPLANE_FIELD_MM = 300 };

/* All planes of the view. COV_UNSUPPORTED if a dimension is below 1 or the spacing is not positive. */
status lungplane_of(lungnet_view view, const volume_header *h, plane_set *out);

/* Keeps the sagittal planes that stand for an x in x0 .. x1-1; none if that is empty. */
void lungplane_between(plane_set *p, int64_t x0, int64_t x1);
#endif
