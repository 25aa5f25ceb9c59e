/* progress: OUT.parts/status.json, so that `covpipe status OUT` can say from another terminal how far a run is. Written
 * whole under another name and renamed; losing it loses nothing. Local. */
#ifndef COV_MPI_PROGRESS_H
#define COV_MPI_PROGRESS_H
#include "base/str.h"
#include "mpi/farm.h"

/* What the file says beside the counts. */
typedef struct progress_run {
    char host[64];
    int process, ranks;
    double updated; /* seconds since 1970 */
} progress_run;

/* The counts as JSON, one line, no newline. */
void progress_json(const farm_progress *p, const progress_run *run, str *to);
/* host, process and time are filled in. */
status progress_write(const char *parts_dir, const farm_progress *p, int ranks);
/* COV_IO if there is none; COV_FORMAT if it is not ours. out->phase is a constant. */
status progress_read(const char *parts_dir, farm_progress *out, progress_run *run);
#endif
