/* comm: sums over the GPUs of several ranks, by NCCL, on a stream of its own, beside the device's. NCCL never blocks us: every
 * call is polled, ncclCommGetAsyncError is read between, and after the deadline the communicator is aborted, so that a rank
 * that died shows as a message and not as a hang. The traps: after an abort nothing works but comm_close; and memory must not
 * be freed under a sum, since cudaFree waits for all of the device, without a deadline. */
#include "kernels/cuda/cuda.h"
#include <nccl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct comm {
    device *d; /* borrowed */
    ncclComm_t nccl; /* NULL: aborted */
    cudaStream_t stream;
    cudaEvent_t before, after;
    int rank, ranks;
    double deadline;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void rest(void) { nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL); }

/* NCCL's one wrapper: a communicator that has failed is aborted at once. */
static status nccl_fail(comm *c, ncclResult_t e, const char *what)
{
    char more[256] = "";
    if (c->nccl) {
        strncpy(more, ncclGetLastError(c->nccl), sizeof more - 1);
        ncclCommAbort(c->nccl);
        c->nccl = NULL;
    }
    return COV_FAIL(COV_COMM, "nccl: %s on rank %d of %d: %s %s", what, c->rank, c->ranks, ncclGetErrorString(e), more);
}

static status late(comm *c, const char *what)
{
    if (c->nccl) ncclCommAbort(c->nccl);
    c->nccl = NULL;
    return COV_FAIL(COV_COMM, "nccl: %s on rank %d of %d: the other ranks did not answer within %g s", what, c->rank, c->ranks, c->deadline);
}

/* Until what was asked for has been taken on by NCCL. */
static status settle(comm *c, ncclResult_t e, const char *what)
{
    double end = now() + c->deadline;
    while (e == ncclInProgress) {
        ncclResult_t asked = ncclCommGetAsyncError(c->nccl, &e);
        if (asked != ncclSuccess) return nccl_fail(c, asked, what);
        if (e == ncclInProgress && now() > end) return late(c, what);
        if (e == ncclInProgress) rest();
    }
    return e == ncclSuccess ? COV_OK : nccl_fail(c, e, what);
}

status cuda_comm_id(device *d, void *id)
{
    ncclUniqueId made;
    (void)d;
    _Static_assert(sizeof made <= COMM_ID_BYTES, "NCCL's id is larger");
    ncclResult_t e = ncclGetUniqueId(&made);
    if (e != ncclSuccess) return COV_FAIL(COV_COMM, "nccl: no id for a communicator: %s", ncclGetErrorString(e));
    memset(id, 0, COMM_ID_BYTES);
    memcpy(id, &made, sizeof made);
    return COV_OK;
}

static status comm_start(comm *c, const void *id)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId made;
    config.blocking = 0;
    memcpy(&made, id, sizeof made);
    CUDA_TRY(cudaSetDevice(c->d->ordinal));
    CUDA_TRY(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking));
    CUDA_TRY(cudaEventCreateWithFlags(&c->before, cudaEventDisableTiming));
    CUDA_TRY(cudaEventCreateWithFlags(&c->after, cudaEventDisableTiming));
    return settle(c, ncclCommInitRankConfig(&c->nccl, c->ranks, made, c->rank, &config), "joining the other GPUs");
}

status cuda_comm_open(device *d, const void *id, int rank, int ranks, double deadline_seconds, comm **out)
{
    *out = NULL;
    comm *c = calloc(1, sizeof *c);
    if (!c) return COV_FAIL(COV_NOMEM, "no memory for a communicator");
    *c = (comm){.d = d, .rank = rank, .ranks = ranks, .deadline = deadline_seconds};
    status s = comm_start(c, id);
    if (s != COV_OK) cuda_comm_close(&c);
    *out = c;
    return s;
}

void cuda_comm_close(comm **out)
{
    comm *c = out ? *out : NULL;
    if (!c) return;
    if (c->nccl && settle(c, ncclCommFinalize(c->nccl), "leaving the other GPUs") == COV_OK) ncclCommDestroy(c->nccl);
    if (c->before) cudaEventDestroy(c->before);
    if (c->after) cudaEventDestroy(c->after);
    if (c->stream) cudaStreamDestroy(c->stream);
    free(c);
    *out = NULL;
}

static const char summing[] = "a sum over the GPUs";

static status joined(const comm *c)
{
    if (!c->nccl) return COV_FAIL(COV_COMM, "nccl: %s on rank %d: the communicator was aborted", summing, c->rank);
    CUDA_TRY(cudaSetDevice(c->d->ordinal));
    return COV_OK;
}

/* `before` is recorded anew by each sum, while the last one's wait may still be ahead of the GPU: a wait is for the record
 * that there was when it was asked for, and later ones do not move it. */
status cuda_comm_sum(comm *c, float *v, size_t n)
{
    COV_TRY(joined(c));
    CUDA_TRY(cudaEventRecord(c->before, c->d->stream));
    CUDA_TRY(cudaStreamWaitEvent(c->stream, c->before, 0));
    return settle(c, ncclAllReduce(v, v, n, ncclFloat, ncclSum, c->nccl, c->stream), summing);
}

/* The host waits, so whatever the device's stream is given afterwards comes after the sums. */
status cuda_comm_finish(comm *c)
{
    COV_TRY(joined(c));
    double end = now() + c->deadline;
    CUDA_TRY(cudaEventRecord(c->after, c->stream));
    for (cudaError_t done; (done = cudaEventQuery(c->after)) != cudaSuccess; rest()) {
        ncclResult_t e = ncclSuccess;
        if (done != cudaErrorNotReady) return cuda_fail(done, summing, __FILE__, __LINE__);
        if (ncclCommGetAsyncError(c->nccl, &e) != ncclSuccess || (e != ncclSuccess && e != ncclInProgress)) return nccl_fail(c, e, summing);
        if (now() > end) return late(c, summing);
    }
    return COV_OK;
}
