/* train: the training loop of every network, alone or data-parallel. It knows no medicine: a train_model says what the
 * network is and what its samples are.
 *
 * The first `coarse` share of the steps sees its samples at half the size [ours]: what an organ or a lesion looks like
 * is learnt there at a quarter of the cost, its outline afterwards. The network is built anew for the other size and
 * takes everything over.
 *
 * A step takes the `batch` samples step*batch .. step*batch+batch-1; group g of `micro` of them belongs to rank g mod
 * size. Every rank sums its groups' gradients, the sums are added over the ranks, every rank takes the same optimiser
 * step. One rank with the same batch and groups does the same up to the order of summation, for any number of ranks:
 * GroupNorm and the losses know single samples only, or means of equally many, and BatchNorm normalises by its own
 * group. Its running statistics: every group of a step starts from those that the step found, and what the groups, of
 * all ranks, made of them is averaged.
 *
 * Everything a training needs to go on is in the checkpoint OUT.checkpoint: parameters in fp32, running statistics,
 * both moments, step number, the schedule's length, the loss curve; samples are a function of (seed, step). A training
 * that was stopped and resumed is the same bit for bit. OUT itself is written at the end, then the checkpoint is
 * removed; an OUT that the same training has finished is left alone. Collective over the ranks given; library code
 * prints nothing: `report` is called. */
#ifndef COV_STAGES_TRAIN_H
#define COV_STAGES_TRAIN_H
#include "data/weights.h"
#include "kernels/optim.h"

enum { TRAIN_INPUTS = 8, TRAIN_LOSSES = 8 };

/* An input of the network, one sample of it: (rows, cols, channels) of 4 bytes an element. rows 0: as many rows and
 * columns as the network is built for. */
typedef struct train_input {
    int64_t rows, cols, channels;
    tensor_type type; /* TENSOR_F32 or TENSOR_I32 */
} train_input;

typedef struct train_graph {
    net_t input[TRAIN_INPUTS]; /* in the model's order, each (micro, rows, cols, channels) */
    int losses;
    net_t loss[TRAIN_LOSSES];
    float weight[TRAIN_LOSSES];
    const char *loss_name[TRAIN_LOSSES]; /* "dice": for the log; borrowed */
} train_graph;

typedef struct train_model {
    const char *name, *preset;  /* as the weights file says them; borrowed */
    const char *starts_from;    /* earlier stage that a start file may hold; NULL: none. Its own weights may be trained further */
    const char *start_preset;   /* and its preset; NULL: the model's own */
    int inputs;
    train_input input[TRAIN_INPUTS];
    int64_t stride;             /* rows and columns must be multiples of it, at half the size too */
    int64_t rows, cols;         /* from here on: what an option left at 0 (coarse: below 0) means */
    int batch, micro;
    float coarse, rate;
    /* Adds the graph with its losses to a fresh net. Called again for the other size, after `release` (may be NULL). */
    status (*build)(void *ctx, net *n, int64_t micro, int64_t rows, int64_t cols, train_graph *g);
    void (*release)(void *ctx); /* what build made beside the net, which is already gone */
    /* Sample number k onto one array an input: a pure function of k, rows and cols. Runs on threads of its own, several
     * at once, beside build. */
    status (*fill)(void *ctx, uint64_t k, int64_t rows, int64_t cols, void *const *to);
    void *ctx;
} train_model;

/* The ranks of a data-parallel training; size 1 needs no functions. Filled by jobs/ from mpi/reduce. Collective calls.
 */
typedef struct train_ranks {
    int rank, size;
    status (*sum)(void *ctx, float *v, size_t n);           /* in place; host memory; the same result on every rank */
    status (*broadcast)(void *ctx, void *bytes, size_t n);  /* from rank 0 */
    /* The same sum of device memory, of gradients, beside the backward pass that makes the next ones: start is called for pieces of
     * at least `piece` floats, the same on every rank, as soon as they are final, and finish waits for all. NULL: gradients go
     * through the host's memory, after the backward pass. */
    status (*start)(void *ctx, float *v, size_t n);
    status (*finish)(void *ctx);
    size_t piece;
    void *ctx;
} train_ranks;

typedef struct train_report {
    int64_t step, steps;      /* done, in all */
    float loss;               /* weighted sum; it and the parts are means since the last report */
    int losses;
    float part[TRAIN_LOSSES]; /* without their weights */
    const char *const *name;  /* of the parts; borrowed during the call */
    float rate, norm;         /* learning rate and gradient norm of the last step */
    double seconds, samples_per_s; /* since the start of this process's training */
    int finished, resumed;    /* last report; training went on from a checkpoint */
} train_report;

typedef struct train_options {
    const char *out;    /* weights file */
    const char *start;  /* weights of an earlier stage or of this model: parameters of the same name are taken over; NULL: none */
    const char
        *record; /* text for the weights' record "training": command, cases, fold; part of what must agree on resume */
    const char *licence; /* text for the record "licence"; may be NULL */
    int64_t rows, cols; /* network input; 0: the model's own, as everywhere below */
    float coarse; /* share of the steps, the first ones, at half the size: a quarter of the work; <0: the model's own */
    int batch, micro; /* global batch; samples a forward pass, which must divide it; micro 0: at most the model's own, or 8
                         where one rank has a device with memory of its own */
    float rate;
    double minutes; /* length of the training by the clock, measured before the first step, then fixed as steps and at
                       once saved; or: */
    int64_t steps;      /* length in steps */
    double checkpoint_minutes; /* 0: only at the end and when stopped */
    uint64_t seed;      /* of the initial parameters; the samples have their own */
    const backend *backend;
    device *device;
    net_precision precision;
    train_ranks ranks;
    int (*stop)(
        void *ctx); /* asked after every step on every rank: nonzero checkpoints and returns COV_STOPPED; may be NULL */
    void (*report)(void *ctx, const train_report *r); /* on rank 0, every few seconds and at the end; may be NULL */
    void *ctx;
} train_options;

train_options train_defaults(void);
/* Trains; returns COV_STOPPED when asked to stop (the checkpoint is written), COV_OK when OUT is complete. COV_USAGE
 * where OUT, its checkpoint or the start file are of something else. */
status train_run(const train_options *o, const train_model *m);
#endif
