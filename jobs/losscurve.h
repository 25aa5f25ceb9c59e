/* losscurve: how a training went, as a picture: the loss that weights keep, step by step. */
#ifndef COV_JOBS_LOSSCURVE_H
#define COV_JOBS_LOSSCURVE_H
#include "base/status.h"

/* Into folder/loss-MODEL-PRESET.png, the loss on a logarithmic axis; nothing where the file keeps none. */
status losscurve_draw(const char *weights, const char *folder);
#endif
