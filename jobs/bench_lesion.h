/* bench_lesion: a lesion network as `bench` times it: forward, whole inputs and then masks of as many regions as a
 * slice may show (the peers' detectors are timed at the same number of detections); or a training step with every loss.
 * A frozen encoder's backward pass is counted in GFLOP all the same. Local. */
#ifndef COV_JOBS_BENCH_LESION_H
#define COV_JOBS_BENCH_LESION_H
#include "jobs/setup.h"

typedef struct bench_lesion bench_lesion;
const char *bench_lesion_name(int k); /* "st-paper", ...; NULL past the end */
enum { BENCH_LESION_TRAIN_BATCH = 4 };
status bench_lesion_open(const setup *s, int k, net_precision precision, int64_t batch, int64_t size, int training,
                         bench_lesion **out);
void bench_lesion_close(bench_lesion **b);
status bench_lesion_step(bench_lesion *b);
double bench_lesion_flops(const bench_lesion *b); /* of one step */
#endif
