/* doctor: what its two halves share: a line of the report, and the check of a launch with several ranks. */
#ifndef COV_JOBS_DOCTOR_H
#define COV_JOBS_DOCTOR_H
#include "jobs/options.h"
#include "mpi/world.h"

typedef struct tally { int problems; } tally;

/* "ok  what  text", or PROBLEM, which counts. */
void doctor_line(tally *f, int ok, const char *what, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Collective over w. Do the ranks fit together: launch, cores, device, clocks, and the file system of this folder as every
 * rank sees it. Rank 0 prints. */
status doctor_ranks(world *w, const options *o, tally *f);
#endif
