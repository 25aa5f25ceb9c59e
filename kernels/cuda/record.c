/* record: a run of plans as a CUDA graph, by capturing the device's stream. Everything that plans do is launched on that
 * stream without waiting, so all of it can be captured; a call that cannot breaks the capture, and record_end says so. A
 * graph holds the scratch area's address: after cuda_reserve has moved it, the graph must not run. Recordings are the caller's. */
#include "kernels/cuda/cuda.h"
#include <stdlib.h>

struct recording {
    device *d;
    cudaGraphExec_t graph; /* owned */
    uint64_t scratch_moves; /* the device's when it was captured */
};

status cuda_record_begin(device *d)
{
    CUDA_TRY(cudaSetDevice(d->ordinal));
    CUDA_TRY(cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal));
    return COV_OK;
}

status cuda_record_end(device *d, recording **out)
{
    cudaGraph_t graph = NULL;
    *out = NULL;
    CUDA_TRY(cudaStreamEndCapture(d->stream, &graph));
    recording *r = calloc(1, sizeof *r);
    cudaError_t e = r ? cudaGraphInstantiate(&r->graph, graph, 0) : cudaErrorMemoryAllocation;
    cudaGraphDestroy(graph);
    if (e != cudaSuccess) {
        free(r);
        return cuda_fail(e, "cudaGraphInstantiate", __FILE__, __LINE__);
    }
    r->d = d;
    r->scratch_moves = d->scratch_moves;
    *out = r;
    return COV_OK;
}

status cuda_replay(recording *r, int *done)
{
    *done = 0;
    if (r->scratch_moves != r->d->scratch_moves) return COV_OK;
    CUDA_TRY(cudaSetDevice(r->d->ordinal));
    CUDA_TRY(cudaGraphLaunch(r->graph, r->d->stream));
    *done = 1;
    return COV_OK;
}

void cuda_record_free(recording **r)
{
    if (*r == NULL) return;
    cudaSetDevice((*r)->d->ordinal);
    cudaGraphExecDestroy((*r)->graph); /* a launch that still runs is left to finish */
    free(*r);
    *r = NULL;
}
