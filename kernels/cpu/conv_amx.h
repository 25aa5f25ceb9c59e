/* conv_amx: convolution in bf16 on a processor with AMX tiles, NHWC in and out, sums in F32. The gradient by data of
 * one without a stride is the same with the filters turned round. Each sum is taken in one order, whatever the number
 * of threads. */
#ifndef COV_KERNELS_CPU_CONV_AMX_H
#define COV_KERNELS_CPU_CONV_AMX_H
#include "kernels/cpu/cpu.h"

typedef struct conv_amx conv_amx;

/* 1 if it can do this convolution, or, with back, its gradient by data, and is expected to be the fastest here. */
int conv_amx_fits(const device *d, const op *o, const op_shapes *s, int back);
/* Planned for what fits. Reserves scratch. */
status conv_amx_new(device *d, const op *o, const op_shapes *s, int back, conv_amx **out);
/* Bytes at the start of the scratch area that a run uses. */
size_t conv_amx_scratch(const device *d, const conv_amx *k);
/* y = conv(x, w) + bias (NULL: none), then a ReLU if asked; back: y = dx, x = dy. w is packed once for each (pointer,
 * version). */
status conv_amx_run(device *d, conv_amx *k, const tensor *w, const float *bias, int relu, const void *x, void *y);
void conv_amx_free(conv_amx **k);
#endif
