/* optim: SGD with momentum and AdamW over a net's trainable parameters, fp32 master weights,
 * learning-rate schedules, gradient clipping by global norm. The moments are device arrays that a
 * checkpoint saves and restores bit for bit. Local: every rank takes the same step on the same sums. */
#ifndef COV_KERNELS_OPTIM_H
#define COV_KERNELS_OPTIM_H
#include "kernels/net.h"

typedef enum optim_schedule { OPTIM_CONSTANT, OPTIM_COSINE, OPTIM_POLY } optim_schedule;

typedef struct optim_options {
    int adamw;
    float rate, momentum, decay, beta1, beta2, eps;
    float clip; /* global gradient norm at most; 0: off */
    optim_schedule schedule;
    int64_t warmup, steps; /* linear warm-up, then the schedule down to 0 at `steps` */
} optim_options;

typedef struct optim optim;
optim_options optim_defaults(int adamw);
status optim_new(net *n, const optim_options *o, optim **out); /* borrows n */
void optim_free(optim **o);
float optim_rate(const optim_options *o, int64_t step); /* step 0 is the first */
/* One step with the gradients of net_gradients(), multiplied by grad_scale (1/ranks after a sum). *norm: before clipping;
 * where it is not finite, only the step number has changed. */
status optim_run(optim *o, float grad_scale, float *norm);
/* For checkpoints: the step number and the moment arrays (count each; v NULL for SGD), host copies. */
int64_t optim_step_number(const optim *o);
status optim_get(optim *o, float *m, float *v);
status optim_set(optim *o, int64_t step, const float *m, const float *v);
#endif
