/* lesiontrain: the lesion networks and their samples, as train.h wants them. Pictures are windows of the canvas (stages/triplet) around the
 * lungs; at half the size they show the same on half the pixels. Local. */
#ifndef COV_STAGES_LESIONTRAIN_H
#define COV_STAGES_LESIONTRAIN_H
#include "stages/lesionnet.h"
#include "stages/lesionset.h"
#include "stages/train.h"

typedef struct lesiontrain {
    train_model model; /* for train_run; refers to this struct, which must stay where it is */
    lesionnet_model which;
    uint64_t seed;     /* of the sampling of anchors and regions */
    const lesionset *set;
    lesionset_options samples;
    lesionnet graph;   /* while there is a net */
} lesiontrain;

/* Borrows preset and set. size: rows and columns of a picture, 0: the
 * preset's own. COV_USAGE on a preset that is not there, or a set that has nothing for this model. */
status lesiontrain_of(lesionnet_model m, const char *preset, int64_t size, uint64_t seed, const lesionset *set,
                      const lesionset_options *samples, lesiontrain *out);
#endif
