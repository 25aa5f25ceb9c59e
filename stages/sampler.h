/* sampler: which plane a training sample is made of. Holds the annotated volumes and isolated slices in memory (int16 HU and
 * byte masks) and makes sample k of a training as a pure function of (seed, k): the order does not depend on ranks,
 * threads or resumes. Draws a patient first and then one of its planes, so that a long volume does not outweigh a short one, and
 * planes with lesions more often than they occur. Local; sampler_get may run on several threads at once. */
#ifndef COV_STAGES_SAMPLER_H
#define COV_STAGES_SAMPLER_H
#include "data/volume.h"
#include "stages/augment.h"
#include "stages/lungnet.h"

typedef struct sampler sampler;

typedef struct sampler_options {
    lungnet_view view;
    uint64_t seed;
    augment_options augment;
    float slices;  /* share of samples from isolated slices, where both kinds are there; axial only */
    float lesions; /* share of a volume's or patient's samples from planes with lesions, where it has any */
    float empty;   /* share of a volume's samples from planes without lung, where it has any */
} sampler_options;

sampler_options sampler_defaults(lungnet_view view);
status sampler_new(const sampler_options *o, sampler **out);
void sampler_free(sampler **s);

/* Takes the arrays (free); frees them on failure too. lesion may be NULL. hu: canonical order, lung and lesion alike. */
status sampler_add_volume(sampler *s, const char *patient, const volume_header *head, int16_t *hu, uint8_t *lung,
                          uint8_t *lesion);
/* An isolated axial slice. grey: 8 bit, taken for the method's window. Copies. */
status sampler_add_slice(sampler *s, const char *patient, int64_t rows, int64_t cols, const uint8_t *grey,
                         const uint8_t *lung, const uint8_t *lesion);
/* Volumes, slices and patients there are; COV_USAGE if there is nothing this view can be trained on. */
status sampler_check(const sampler *s, int *volumes, int *slices, int *patients);
/* Sample k onto the canvas, which shows what a whole network input does (512 x 512 axial, 256 x 256 sagittal), whatever its size. */
void sampler_get(const sampler *s, uint64_t k, const augment_canvas *to);
#endif
