/* wino: 3x3 convolution of stride 1 and pad 1 by Winograd's minimal filtering F(4x4, 3x3), a quarter of the
 * multiplications (Lavin & Gray 2016). For AVX2 and AVX-512, NHWC in and out, F32 or BF16 activations; all arithmetic is
 * F32, so a bf16 net loses nothing by it, and an fp32 one about one digit (errors near 1e-5 of the largest value).
 * The backward pass by data is the same with the filters turned round. */
#ifndef COV_KERNELS_CPU_WINO_H
#define COV_KERNELS_CPU_WINO_H
#include "kernels/cpu/cpu.h"

typedef struct wino wino;

/* 1 if it can do this convolution and is expected to be the fastest here. */
int wino_fits(const device *d, const op *o, const op_shapes *s);
/* Planned for the convolution, or, with back, for its gradient by data. Reserves scratch. */
status wino_new(device *d, const op_shapes *s, int back, wino **out);
/* Bytes at the start of the scratch area that a run uses. */
size_t wino_scratch(const device *d, const wino *k);
/* y = conv(x, w) + bias, then a ReLU if asked; back: y = dx, x = dy. w is transformed once for each (pointer, version). */
status wino_run(device *d, wino *k, const tensor *w, const float *bias, int relu, const void *x, void *y);
void wino_free(wino **k);
#endif
