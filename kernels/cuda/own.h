/* own: convolutions in kernels of our own, for what cuDNN has no engine for, and what surrounds a convolution: bias,
 * ReLU, gradient of the bias. Images as in dnn.h; weights always F32, as they are. Local. */
#ifndef COV_KERNELS_CUDA_OWN_H
#define COV_KERNELS_CUDA_OWN_H
#include "kernels/cuda/dnn.h"
#ifdef __cplusplus
extern "C" {
#endif
/* SMALL or LARGE from the other, with bias (NULL: none) and ReLU. */
status cuda_own_image(device *d, const dnn_pair *g, dnn_result result, const void *from, const float *w, const float *bias, int relu,
                      void *to);
/* dw += the gradient of the weights. */
status cuda_own_weights(device *d, const dnn_pair *g, const void *small, const void *large, float *dw);
/* y = y + bias (NULL: none), and its ReLU. */
status cuda_own_bias(device *d, tensor_shape y, const float *bias, int relu, void *data);
/* db += sum of dy over all rows; part: cuda_own_bias_bytes of scratch. */
size_t cuda_own_bias_bytes(tensor_shape y);
status cuda_own_bias_gradient(device *d, tensor_shape y, const void *dy, double *part, float *db);
#ifdef __cplusplus
}
#endif
#endif
