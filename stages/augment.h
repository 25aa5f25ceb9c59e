/* augment: one training sample out of one plane: an affine resampling of image and masks in a single pass, then what makes the
 * network indifferent to scanner, window and disease:
 *   geometry    shift, scale, slight rotation, stretch of the rows (slice spacing is often only nominal); never flips
 *   opacities   [ours] smooth-edged patches inside the lung, from ground glass to consolidation: there are few consolidated
 *               lungs to learn from, and a lung mask must keep them. For the lung networks only: the lesion networks
 *               never see made-up lesions. Pockets of gas outside the lung are their counterpart.
 *   intensity   window level and width around (-500, 1600), gamma, gain, bias, blur, noise: HU and 8-bit images mix
 * Everything drawn comes from one rng, so a sample is a pure function of (plane, options, stream). Local. */
#ifndef COV_STAGES_AUGMENT_H
#define COV_STAGES_AUGMENT_H
#include "base/status.h"
#include "stages/rng.h"
#include "stages/window.h"
#include <stddef.h>
#include <stdint.h>

typedef struct augment_options {
    float shift;                 /* +- share of the canvas, each axis */
    float scale_low, scale_high; /* log-uniform; 1: as the network meets the plane */
    float stretch;               /* rows by exp(+- stretch) */
    float rotate;                /* +- radians */
    float opacity;               /* probability that opacities are added */
    float dense;                 /* largest dense opacity's radius, share of the canvas: where the plane shows little else of the chest,
                                    larger ones teach to see lung in any soft tissue */
    float pleura_from, pleura_to; /* radians: where from inside the lung a dense opacity looks for the pleura it lies at. 0: along the
                                    columns, pi/2: down the rows */
    float gas;                   /* probability that pockets of air are added outside the lung, as in bowel and stomach */
    float level, width;          /* window level +- HU, width by exp(+- width) */
    float tone;                  /* probability of gamma, gain and bias */
    float blur, noise;           /* probability of each */
    float lesion_weight;         /* weight in the loss of lesions, opacities and gas and of what lies around them, inside the
                                    lung and outside alike so that its edge is not pushed either way; others 1 */
} augment_options;

augment_options augment_none(void);     /* resampling alone */
augment_options augment_defaults(void); /* the axial network's; the sagittal one stretches more */

/* One plane, borrowed: sample (r, c) is at r*row_step + c*col_step. */
typedef struct augment_plane {
    const int16_t *hu; /* HU, or 8-bit grey mapped to the window's HU */
    const uint8_t *lung;
    const uint8_t *lesion; /* NULL: none known */
    int64_t rows, cols, row_step, col_step;
    double fit_rows, fit_cols; /* network pixels that the whole plane covers */
} augment_plane;

/* All three arrays (rows, cols), dense, written: image in [0, 1] with 0 outside the plane, target 0/1, weight > 0. */
typedef struct augment_canvas {
    int64_t rows, cols;
    float *image, *target, *weight;
} augment_canvas;

/* What stages/tripletaug draws from, too: tones[] maps [0, 1] in AUGMENT_TONES steps by gamma, gain and bias; a [1 2 1]/4 blur along both
 * axes in place; noise of a drawn strength on n values in [0, 1], which stay there. */
enum { AUGMENT_TONES = 1024 };
void augment_draw_tones(rng *r, float tones[AUGMENT_TONES + 1]);
void augment_blur(int64_t rows, int64_t cols, float *image);
void augment_noise(rng *r, size_t n, float *image);

void augment_run(const augment_options *o, rng *r, const augment_plane *from, const augment_canvas *to);
#endif
