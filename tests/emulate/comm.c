/* comm: there is no NCCL to emulate: ranks sum from host memory. */
#include "kernels/cuda/cuda.h"

status cuda_comm_id(device *d, void *id) { return (void)d, (void)id, COV_FAIL(COV_UNSUPPORTED, "no NCCL in the emulation"); }
void cuda_comm_close(comm **c) { *c = NULL; }
status cuda_comm_sum(comm *c, float *v, size_t n) { return (void)c, (void)v, (void)n, COV_FAIL(COV_UNSUPPORTED, "no NCCL in the emulation"); }
status cuda_comm_finish(comm *c) { return (void)c, COV_FAIL(COV_UNSUPPORTED, "no NCCL in the emulation"); }

status cuda_comm_open(device *d, const void *id, int rank, int ranks, double deadline_seconds, comm **out)
{
    (void)d, (void)id, (void)rank, (void)ranks, (void)deadline_seconds;
    *out = NULL;
    return COV_FAIL(COV_UNSUPPORTED, "no NCCL in the emulation");
}
