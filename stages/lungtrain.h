/* lungtrain: the lung networks and their samples, as train.h wants them: image, target and pixel weight, cross-entropy
 * and soft Dice. Local. */
#ifndef COV_STAGES_LUNGTRAIN_H
#define COV_STAGES_LUNGTRAIN_H
#include "stages/lungnet.h"
#include "stages/sampler.h"
#include "stages/train.h"

typedef struct lungtrain {
    train_model model; /* for train_run; refers to this struct, which must stay where it is */
    const sampler *samples;
} lungtrain;

/* Borrows preset and samples. */
void lungtrain_of(lungnet_view view, const char *preset, const sampler *samples, lungtrain *out);
#endif
