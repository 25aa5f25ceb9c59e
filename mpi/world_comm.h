/* world_comm: the communicator for collectives, for the few files that include <mpi.h>. Borrowed. */
#ifndef COV_MPI_WORLD_COMM_H
#define COV_MPI_WORLD_COMM_H
#include "mpi/world.h"
#include <mpi.h>

MPI_Comm world_comm(const world *w); /* MPI_ERRORS_RETURN is set */

#define WORLD_MPI(call)                                                                                             \
    do {                                                                                                            \
        int mpi_s_ = (call);                                                                                        \
        if (mpi_s_ != MPI_SUCCESS) {                                                                                \
            world_mpi_fail(mpi_s_, #call, __FILE__, __LINE__);                                                      \
            return COV_COMM;                                                                                        \
        }                                                                                                           \
    } while (0)
status world_mpi_fail(int code, const char *call, const char *file, int line); /* COV_COMM with MPI's own words */
#endif
