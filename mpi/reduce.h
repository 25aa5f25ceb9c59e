/* reduce: data-parallel training's sums over ranks. The result is the same bits on every rank and from run to run for a
 * given number of ranks: each element is summed in rank order by one rank, in float, and handed to all. */
#ifndef COV_MPI_REDUCE_H
#define COV_MPI_REDUCE_H
#include "kernels/backend.h"
#include "mpi/world.h"

/* 25 MiB, as in PyTorch's DistributedDataParallel (Li et al. 2020), which found it large enough for NCCL's full bandwidth and
 * small enough for a network of that age to have several. Not measured here: no two GPUs were at hand. */
enum { REDUCE_PIECE = 25 << 18 };

typedef struct reduce reduce;
/* Local. Borrows w. deadline_seconds: how long one call may wait for the slowest rank; 0: 600. */
status reduce_new(world *w, double deadline_seconds, reduce **out);
void reduce_free(reduce **r);
/* Collective over all ranks, same n everywhere: v[i] = sum over ranks of v[i]. ctx is the reduce (the signature that
 * training takes). */
status reduce_sum(void *ctx, float *v, size_t n);
/* Collective, same backend everywhere. *used 1: from now on reduce_start adds on the devices themselves, in the
 * backend's own way (NCCL); 0: it cannot, or ranks share a device, and sums go through host memory as before. b and d are
 * borrowed until reduce_free. */
status reduce_use_device(reduce *r, const backend *b, device *d, int *used);
/* As reduce_sum, of device memory, beside what the device is given later; only after *used was 1. The same bits on every
 * rank. Started in one order on all ranks; v is the sum's until reduce_finish, which waits for all that were started. A sum
 * costs some latency, whatever its size: REDUCE_PIECE floats at a time are worth one. */
status reduce_start(void *ctx, float *v, size_t n);
status reduce_finish(void *ctx);
/* Collective: rank 0's bytes to all. */
status reduce_broadcast(void *ctx, void *bytes, size_t n);
/* Collective: n bytes of every rank, in rank order, to all: all has room for n x ranks. */
status reduce_collect(reduce *r, const void *mine, size_t n, void *all);
#endif
