/* wgrad: a convolution's gradient by its weights in F32: dw[o][ky][kx][i] += sum over pixels of dy[..][o] * x[..][i]. oneDNN's direct kernels
 * reach a quarter of the machine here with few channels; this keeps a tile of dw in registers along a strip of rows that stays
 * in the cache for all tiles. Sums are taken strip by strip, in an order that no number of threads changes. */
#ifndef COV_KERNELS_CPU_WGRAD_H
#define COV_KERNELS_CPU_WGRAD_H
#include "kernels/cpu/cpu.h"

/* 1 if it can do this convolution and is expected to be the fastest here. */
int wgrad_fits(const device *d, const op *o, const op_shapes *s);
/* dw as op.h lays out the parameter; added to. dy: with the ReLU's mask already in it. */
void wgrad_run(const device *d, const op *o, const op_shapes *s, const float *x, const float *dy, float *dw);
#endif
