/* wgrad: a convolution's gradient by its weights: dw[o][ky][kx][i] += sum over pixels of dy[..][o] * x[..][i], where
 * we are faster than oneDNN. In F32 its direct kernels reach a quarter of the machine with few channels; loops of
 * ours keep a tile of dw in registers along a strip of rows that stays in the cache for all tiles. In bf16 on AMX
 * tiles: wgrad_amx.h. Each sum is taken in an order that no number of threads changes. */
#ifndef COV_KERNELS_CPU_WGRAD_H
#define COV_KERNELS_CPU_WGRAD_H
#include "kernels/cpu/cpu.h"

/* 1 if it can do this convolution and is expected to be the fastest here. */
int wgrad_fits(const device *d, const op *o, const op_shapes *s);
/* x and dy of the op's type. dw as op.h lays out the parameter; added to. dy: with the ReLU's mask already in it. */
void wgrad_run(const device *d, const op *o, const op_shapes *s, const void *x, const void *dy, float *dw, void *scratch);
/* Bytes of its scratch memory. */
size_t wgrad_scratch(const device *d, const op *o, const op_shapes *s);
#endif
