/* phantom: analytic chests for demonstration and tests: body, fat, ribs, spine, heart, aorta, airways, vessels,
 * diaphragm, liver, two lungs and lesions from tiny to large, with reconstruction blur and noise. Every figure of
 * the truth is counted on the same grid as the image, so volumes and areas are known exactly. The same options
 * give the same bytes on any number of threads. No patient's data is in it. Local. */
#ifndef COV_STAGES_PHANTOM_H
#define COV_STAGES_PHANTOM_H
#include "base/status.h"
#include <stdint.h>

typedef enum phantom_body { PHANTOM_CHEST, PHANTOM_HEAD } phantom_body;

typedef struct phantom_options {
    uint64_t seed;
    phantom_body body;
    int64_t nx, ny, nz;   /* canonical grid, LPS+ (data/volume.h) */
    double spacing_mm[3];
    int lesions;          /* 0: healthy */
    int threads;
} phantom_options;

typedef struct phantom {
    int16_t *hu;          /* (nz,ny,nx) HU; owned */
    uint8_t *lung;        /* 0, 1 right, 2 left; owned */
    uint8_t *lesion;      /* 0/1, inside the lung; owned */
    double lung_right_ml, lung_left_ml, lesion_ml;
    int regions, tiny;    /* lesion cross-sections placed; those below 0.059 % of the slice at their largest */
} phantom;

status phantom_new(const phantom_options *o, phantom **out);
void phantom_free(phantom **p);
/* Repeatable uniform number in [0,1) number k of stream `seed`: what the phantom and its job draw from. */
double phantom_uniform(uint64_t seed, uint64_t k);
#endif
