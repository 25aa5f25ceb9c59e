/* no_dnn: there is no cuDNN to emulate: a device opens without it, and convolutions run in own.cu. */
#include "kernels/cuda/dnn.h"

status dnn_open(device *d, cuda_dnn **out) { return (void)d, *out = NULL, COV_OK; }
void dnn_close(cuda_dnn **c) { (void)c; }
size_t dnn_conv_workspace(const dnn_conv *c) { return (void)c, 0; }

status dnn_conv_find(device *d, const dnn_want *w, const dnn_conv **out)
{
    (void)d, (void)w;
    *out = NULL;
    return COV_FAIL(COV_UNSUPPORTED, "no cuDNN in the emulation");
}

status dnn_conv_run(device *d, const dnn_conv *c, const void *a, const void *b, const float *bias, void *out, void *workspace)
{
    (void)d, (void)c, (void)a, (void)b, (void)bias, (void)out, (void)workspace;
    return COV_FAIL(COV_BROKEN, "no cuDNN in the emulation");
}
