/* select: which studies of a cohort a job works on: those of --study, or all. */
#ifndef COV_JOBS_SELECT_H
#define COV_JOBS_SELECT_H
#include "data/cohort.h"
#include "jobs/options.h"

/* *studies: indices, owned by the caller (free). COV_USAGE if a named study is not there. */
status select_studies(cohort *c, const option_list *names, int64_t **studies, int64_t *count);
/* The flags of row->qc_flags by name, blank-separated; "" if none. */
void select_flags(const study_row *row, str *to);
#endif
