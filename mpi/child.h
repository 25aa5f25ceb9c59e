/* child: what runs in a rank's grandchildren: a reader, that reads one file (or a batch of headers) in a sandbox and
 * hands the volume over in sealed shared memory, and the worker, that computes one study after another and commits the
 * parts itself. Both obey the messages READ_* and WORK_* of their shell, and end when its socket closes. Local. */
#ifndef COV_MPI_CHILD_H
#define COV_MPI_CHILD_H
#include "mpi/calls.h"

/* reader_bytes, no_sandbox: see spawn_options. Takes the socket. Returns when there is nothing left to do. */
void child_main(int is_worker, const farm_calls *calls, int64_t reader_bytes, int no_sandbox, int socket);
#endif
