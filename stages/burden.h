/* burden: the figures of a screened study, from its volume and its masks: volumes in ml, densities, a row a slice.
 * Local. */
#ifndef COV_STAGES_BURDEN_H
#define COV_STAGES_BURDEN_H
#include "data/study.h"

/* lung: canonical, 0/1/2, borrowed. Fills lung_* of out->row (of isolated slices all stay NaN), and out->slices
 * (allocated here, owned by out). */
status burden_lung(const volume *v, const uint8_t *lung, study_result *out);
#endif
