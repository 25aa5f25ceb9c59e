/* crf: the fully connected CRF on the GPU is not written yet: it says so by name. */
#include "kernels/cuda/launch.cuh"

extern "C" status cuda_crf(device *, const crf_options *, const crf_batch *)
{
    return COV_FAIL(COV_UNSUPPORTED, "cuda: the CRF has no kernel yet (--no-crf does without)");
}
