/* dnn: cuDNN's convolutions through its graph API, behind an interface without cuDNN's types.
 *
 * A convolution joins a small image (CONV's output, CONVT's input) and a large one (CONV's input, CONVT's output) by the
 * same rule, large = small * stride - pad + k, and the same weights (c_small, k, k, c_large); see kernels/ref/conv.c.
 * Three results serve all passes of CONV, CONVT and LINEAR. Local. */
#ifndef COV_KERNELS_CUDA_DNN_H
#define COV_KERNELS_CUDA_DNN_H
#include "kernels/cuda/cuda.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuda_dnn cuda_dnn;
typedef struct dnn_conv dnn_conv;

typedef enum dnn_result { DNN_SMALL, DNN_LARGE, DNN_WEIGHTS } dnn_result;

typedef struct dnn_pair {
    tensor_shape small, large; /* of one type, F32 or BF16 */
    int kernel, stride, pad;
} dnn_pair;

typedef struct dnn_want {
    dnn_pair pair;
    dnn_result result;
    int bias, relu; /* after SMALL or LARGE, in the same pass over memory; bias F32 */
    int tf32;       /* F32 images may be multiplied as TF32: they hold bf16 values, so that nothing is lost */
} dnn_want;

status dnn_open(device *d, cuda_dnn **out);
/* For a device that is not here, as cuDNN describes one in JSON: plans can be made, to see that there are any, not run. */
status dnn_open_for(const char *json, cuda_dnn **out);
void dnn_close(cuda_dnn **c);
/* The plan for this want, made once a device and kept until dnn_close; *out is borrowed. Weights have the images' type
 * where they are read, and are F32 where they are the result. COV_UNSUPPORTED where no engine does it exactly enough:
 * deterministic, without FFT or Winograd, F32 without TF32 unless it is allowed. */
status dnn_conv_find(device *d, const dnn_want *w, const dnn_conv **out);
size_t dnn_conv_workspace(const dnn_conv *c); /* bytes, to be given to each run */
/* SMALL: a large, b weights. LARGE: a small, b weights. WEIGHTS: a small, b large. */
status dnn_conv_run(device *d, const dnn_conv *c, const void *a, const void *b, const float *bias, void *out, void *workspace);
#ifdef __cplusplus
}
#endif
#endif
