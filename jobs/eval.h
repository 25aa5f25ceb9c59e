/* eval: what `covpipe eval` can score, one function each. */
#ifndef COV_JOBS_EVAL_H
#define COV_JOBS_EVAL_H
#include "jobs/options.h"

status eval_lesion(const options *o);
#endif
