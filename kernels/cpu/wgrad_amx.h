/* wgrad_amx: a convolution's gradient by its weights in bf16 on a processor with AMX tiles; what wgrad.h promises,
 * for that type. */
#ifndef COV_KERNELS_CPU_WGRAD_AMX_H
#define COV_KERNELS_CPU_WGRAD_AMX_H
#include "kernels/cpu/cpu.h"

int wgrad_amx_fits(const device *d, const op *o, const op_shapes *s);
size_t wgrad_amx_scratch(const device *d, const op *o, const op_shapes *s);
void wgrad_amx_run(const device *d, const op *o, const op_shapes *s, const uint16_t *x, const uint16_t *dy, float *dw,
                   void *scratch);
#endif
