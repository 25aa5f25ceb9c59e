/* reduce: data-parallel training's sums over ranks. The result is the same bits on every rank and from run to run for a
 * given number of ranks: each element is summed in rank order by one rank, in float, and handed to all. */
#ifndef COV_MPI_REDUCE_H
#define COV_MPI_REDUCE_H
#include "kernels/backend.h"
#include "mpi/world.h"

typedef struct reduce reduce;
/* Local. Borrows w. deadline_seconds: how long one call may wait for the slowest rank; 0: 600. */
status reduce_new(world *w, double deadline_seconds, reduce **out);
void reduce_free(reduce **r);
/* Collective over all ranks, same n everywhere: v[i] = sum over ranks of v[i]. ctx is the reduce (the signature that
 * training takes). */
status reduce_sum(void *ctx, float *v, size_t n);
/* Collective, same backend everywhere. *used 1: from now on reduce_sum_device adds on the devices themselves, in the
 * backend's own way (NCCL); 0: it cannot, or ranks share a device, and sums go through host memory as before. b and d are
 * borrowed until reduce_free. */
status reduce_use_device(reduce *r, const backend *b, device *d, int *used);
/* As reduce_sum, of device memory; only after *used was 1. The same bits on every rank. */
status reduce_sum_device(void *ctx, float *v, size_t n);
/* Collective: rank 0's bytes to all. */
status reduce_broadcast(void *ctx, void *bytes, size_t n);
/* Collective: n bytes of every rank, in rank order, to all: all has room for n x ranks. */
status reduce_collect(reduce *r, const void *mine, size_t n, void *all);
#endif
