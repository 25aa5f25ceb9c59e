/* lungplane: how the planes of a volume become a lung network's input, and how its logits come back. Training, pipeline and
 * evaluation all go through here, so that a network meets the same geometry everywhere.
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
#include "stages/lungnet.h"
#include "stages/window.h"

enum { LUNGPLANE_FIELD_MM = 300 };

typedef struct lungplane {
    lungnet_view view;
    int64_t nx, ny, nz;               /* of the volume */
    int64_t planes, first, all;       /* how many are in use, from which on, and how many the view has */
    int64_t x0, width;                /* the x that the sagittal planes in use stand for; axial: 0, nx */
    int64_t rows, cols;               /* the network's input: multiples of LUNGNET_STRIDE */
    int64_t row0, col0;               /* where the part begins that shows the volume; the rest is padding */
    int64_t used_rows, used_cols;     /* its size */
    int64_t source_rows, source_cols; /* samples of one plane in the volume: (ny, nx), or (nz, ny) */
} lungplane;

/* COV_UNSUPPORTED if a dimension is below 1 or the spacing is not positive. */
status lungplane_of(lungnet_view view, const volume_header *h, lungplane *out);

/* Keeps the sagittal planes that stand for an x in x0 .. x1-1; none if that is empty. */
void lungplane_between(lungplane *p, int64_t x0, int64_t x1);

/* Planes first .. first+count-1, of those in use, to out (count, rows, cols), windowed to [0, 1]. hu: the whole volume, canonical. threads >= 1. */
void lungplane_get(const lungplane *p, window w, const int16_t *hu, int64_t first, int64_t count, int threads, float *out);
/* Adds the logits, resampled back, to the voxels that these planes stand for: to (nz, ny, width). Every voxel belongs to exactly one
 * axial and one sagittal plane, so putting all planes of a view adds its logit once everywhere. Sagittal: take planes
 * in runs of 8 or more, as x is the fastest axis of `to`. logits (count, rows, cols). */
void lungplane_put(const lungplane *p, const float *logits, int64_t first, int64_t count, int threads, float *to);
#endif
