/* triplet: slices (z-1, z, z+1) as the three channels that every lesion network sees, the key slice in the middle:
 * windowed to [0, 1], and 0 outside the lung dilated by 3 pixels of 512. What is missing (below the first slice, above
 * the last, around an isolated one) is 0. Neighbours are by position: a volume's slices are sorted.
 *
 * A frame (kernels/plane.h) says where the network's input lies, on a canvas of 512 x 512 whatever the slice's own size; the
 * backend cuts it (plane_stack). Inference cuts the window around the lungs of the whole study, as
 * everything outside is 0; the window does not depend on which slices are asked for. Pixel (r, c) of the input is
 * canvas pixel (y0 + r, x0 + c); canvas and slice cover the same rectangle. Inference and the training's sampler both
 * come here, so that a network meets the same picture. Local. */
#ifndef COV_STAGES_TRIPLET_H
#define COV_STAGES_TRIPLET_H
#include "kernels/box.h"
#include "kernels/plane.h"

enum { TRIPLET_CANVAS = 512, TRIPLET_STRIDE = 32, TRIPLET_MARGIN = 3 };

/* The whole slice on an input of rows x cols. */
plane_frame triplet_whole(int64_t ny, int64_t nx, int64_t rows, int64_t cols);
/* The window of the 512 x 512 canvas around all that is lung: lung (nz,ny,nx), 0: not lung; NULL, or without lung: the
 * whole canvas. Its edges are at least 16 pixels from the lung's where the canvas allows, and at multiples of
 * TRIPLET_STRIDE. */
plane_frame triplet_around(const uint8_t *lung, int64_t nz, int64_t ny, int64_t nx);

/* The radii of TRIPLET_MARGIN canvas pixels on a slice's grid. */
void triplet_margin(int64_t ny, int64_t nx, double *ry, double *rx);
/* roi (ny,nx) = 1 within TRIPLET_MARGIN canvas pixels (an ellipse on the slice's grid) of a pixel that is not 0 in lung
 * (ny,nx), else 0. */
void triplet_roi(const uint8_t *lung, int64_t ny, int64_t nx, uint8_t *roi);

/* A mask of the key slice (0 or not 0) as the network's target: nearest, 0 outside the slice. out (rows, cols) 0/1. */
void triplet_mask(const plane_frame *f, const uint8_t *mask, float *out);
/* A box in pixels of the input, in pixels of the study's slice; and back. */
box triplet_box_to_slice(const plane_frame *f, box b);
box triplet_box_to_input(const plane_frame *f, box b);
#endif
