/* qc: flags that tell a reader of the cohort which figures to doubt (data/study.h lists them). Local. */
#ifndef COV_STAGES_QC_H
#define COV_STAGES_QC_H
#include "data/study.h"

/* After burden_lung. lung: canonical 0/1/2. side_doubt: from naming the sides. Adds to row->qc_flags. */
void qc_run(const volume *v, const volume_stats *stats, const uint8_t *lung, int side_doubt, study_row *row);
#endif
