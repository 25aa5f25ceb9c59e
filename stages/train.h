/* train: the training loop of the lung networks, alone or data-parallel.
 *
 * The first `coarse` share of the steps sees its samples at half the size [ours]: what a lung looks like is learnt there at a
 * quarter of the cost, its outline afterwards.
 *
 * A step takes the `batch` samples step*batch .. step*batch+batch-1 of the sampler; group g of `micro` of them belongs to rank
 * g mod size. Every rank sums its groups' gradients, the sums are added over the ranks, every rank takes the same optimiser step.
 * One rank with the same batch does the same up to the order of summation, for any number of ranks, as GroupNorm
 * and the losses know single samples only (micro 1) or means of equally many.
 *
 * Everything a training needs to go on is in the checkpoint OUT.checkpoint: parameters in fp32, both moments, step number,
 * the schedule's length, the loss curve; samples are a function of (seed, step). A training that was stopped and resumed
 * is the same bit for bit. OUT itself is written at the end, then the checkpoint is removed; an OUT that the same
 * training has finished is left alone. Collective over the ranks given; library code prints nothing: `report` is called. */
#ifndef COV_STAGES_TRAIN_H
#define COV_STAGES_TRAIN_H
#include "data/weights.h"
#include "kernels/optim.h"
#include "stages/lungnet.h"
#include "stages/sampler.h"

/* The ranks of a data-parallel training; size 1 needs no functions. Filled by jobs/ from mpi/reduce. Collective calls. */
typedef struct train_ranks {
    int rank, size;
    status (*sum)(void *ctx, float *v, size_t n);           /* in place; host memory; the same result on every rank */
    status (*broadcast)(void *ctx, void *bytes, size_t n);  /* from rank 0 */
    void *ctx;
} train_ranks;

typedef struct train_report {
    int64_t step, steps;      /* done, in all */
    float loss, bce, dice;    /* means since the last report; dice is the soft Dice loss */
    float rate, norm;         /* learning rate and gradient norm of the last step */
    double seconds, samples_per_s; /* since the start of this process's training */
    int finished, resumed;    /* last report; training went on from a checkpoint */
} train_report;

typedef struct train_options {
    lungnet_view view;
    const char *preset;
    const char *out;    /* weights file */
    const char *record; /* text for the weights' record "training": command, cases, fold; part of what must agree on resume */
    const char *licence; /* text for the record "licence"; may be NULL */
    int64_t rows, cols; /* network input; 0: 512 x 512 axial, 256 x 256 sagittal */
    float coarse;       /* share of the steps, the first ones, at half the size: a quarter of the work; <0: the model's own */
    int batch, micro;   /* global batch; samples a forward pass. batch must be a multiple of micro. 0: the model's own */
    float rate;         /* 0: the model's own */
    double minutes;     /* length of the training by the clock, measured before the first step and then fixed as steps; or: */
    int64_t steps;      /* length in steps */
    double checkpoint_minutes; /* 0: only at the end and when stopped */
    uint64_t seed;      /* of the initial parameters; the sampler has its own */
    const backend *backend;
    device *device;
    net_precision precision;
    train_ranks ranks;
    int (*stop)(void *ctx); /* asked after every step on every rank: nonzero checkpoints and returns COV_STOPPED; may be NULL */
    void (*report)(void *ctx, const train_report *r); /* on rank 0, every few seconds and at the end; may be NULL */
    void *ctx;
} train_options;

train_options train_defaults(lungnet_view view);
/* Trains; returns COV_STOPPED when asked to stop (the checkpoint is written), COV_OK when OUT is complete. */
status train_run(const train_options *o, const sampler *s);
/* The same with a record of the options that decide the result: what the checkpoint stores and compares. to[room]. */
void train_describe(const train_options *o, char *to, size_t room);
#endif
