/* bench_study: a whole study as `bench` times it: a phantom in memory, lungs and CRF, then lesions within its true lungs, so
 * that networks that know nothing have as much to do as others. Weights as for screening. Local. */
#ifndef COV_JOBS_BENCH_STUDY_H
#define COV_JOBS_BENCH_STUDY_H
#include "jobs/setup.h"

typedef struct bench_study bench_study;
/* slices of size x size pixels. The pipeline opens a device of its own. */
status bench_study_open(const options *o, const setup *s, int64_t size, int64_t slices, bench_study **out);
void bench_study_close(bench_study **b);
int bench_study_has_lesions(const bench_study *b);
status bench_study_lungs(bench_study *b);
status bench_study_lesions(bench_study *b); /* where it has them */
#endif
