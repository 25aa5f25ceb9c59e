/* tripletaug: augmentation of slice triplets (stages/triplet) for the lesion networks: one geometry for the three
 * slices and the key slice's lesion, then what makes a network indifferent to where an image came from.
 *   geometry    shift, scale, slight stretch, rotation by any angle, mirroring: a few patients have their lesions in the
 *               same few places, and networks that see them upright learn the place (docs/METHOD.md)
 *   intensity   window level and width around (-500, 1600), gamma, gain and bias, local contrast equalised as 8-bit
 *               collections often are (CLAHE; Zuiderveld 1994), blur up to that of a slice four times smaller, noise:
 *               whether an image is true HU must not tell the network what is in it
 * Lesions are the ones that were there: nothing is pasted or made up. A pure function of (part, options, stream). Local.
 */
#ifndef COV_STAGES_TRIPLETAUG_H
#define COV_STAGES_TRIPLETAUG_H
#include "base/status.h"
#include "stages/rng.h"
#include <stddef.h>
#include <stdint.h>

typedef struct tripletaug_options {
    float shift;                 /* +- share of the picture, each axis */
    float scale_low, scale_high; /* log-uniform; 1: as inference shows it */
    float stretch;               /* rows by exp(+- stretch) */
    float rotate;                /* +- radians */
    float mirror;                /* probability */
    float level, width;          /* window level +- HU, width by exp(+- width) */
    float tone, blur, noise;     /* probability of each */
    float equalise;              /* probability of equalised local contrast, HU images only */
} tripletaug_options;

tripletaug_options tripletaug_none(void);
tripletaug_options tripletaug_defaults(void);

enum { TRIPLETAUG_ROI = 1, TRIPLETAUG_LESION = 2 }; /* bits of marks */

/* One triplet, borrowed. Slice k is (rows, cols). */
typedef struct tripletaug_part {
    const int16_t *hu[3];    /* z-1, z, z+1; NULL: zero filler. 8-bit images: grey mapped to the method's window */
    const uint8_t *marks[3]; /* beside hu */
    int64_t rows, cols;
    float row, col;          /* what the picture shows in its middle before it is shifted (the lungs' middle), pixels */
    float high, wide;        /* and how far that extends */
    int eight_bit;           /* not HU */
    int fit;                 /* shrunk until all of high x wide is in the picture */
} tripletaug_part;

/* zoom: the picture's pixels a pixel of the canvas (stages/triplet), on which a whole slice is 512 x 512. image (rows,
 * cols, 3), 0 outside the ROI; lesion (rows, cols) 0/1; both written, dense. COV_NOMEM. */
status tripletaug_run(const tripletaug_options *o, rng *r, const tripletaug_part *p, float zoom, int64_t rows,
                      int64_t cols, float *image, uint8_t *lesion);
#endif
