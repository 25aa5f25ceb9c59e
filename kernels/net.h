/* net: a graph of ops built by functions that read like the paper's figures, compiled once for a size,
 * run often, forward and backward from the same graph.
 *
 * Builders never fail: the first error is kept and net_compile returns it. A net_t is a tensor of the
 * graph. Parameters are named "block/conv1/w", fp32, initialised He-normal (convs, linear) from the seed,
 * gamma 1, beta 0. Activations are fp32 or bf16 (`precision`); losses and norms accumulate in fp32. Memory is
 * planned once: inference reuses buffers as soon as the last reader has run; training keeps what backward needs.
 * A net is used by one thread at a time. Local; data-parallel training sums gradients between
 * net_backward and optim_run, over net_gradients(), or piece by piece beside the backward pass, by net_on_gradients. */
#ifndef COV_KERNELS_NET_H
#define COV_KERNELS_NET_H
#include "kernels/backend.h"
#include <stdbool.h>

typedef struct net net;
typedef int net_t; /* a tensor of the graph; -1 after an error (all builders accept it) */

typedef enum net_mode { NET_INFER, NET_TRAIN } net_mode;
typedef enum net_precision { NET_FP32, NET_BF16 } net_precision;

typedef struct net_param {
    const char *name; /* borrowed */
    tensor_shape shape;
    int frozen;    /* no gradient, no update */
    int statistic; /* BatchNorm's running mean and variance: kept with the weights, moved in training unless frozen */
    int decay;     /* weight decay applies (weights yes; norms and biases no) */
    /* Device memory inside two flat arrays, see net_gradients; value NULL before the first compile, net_param_set or
     * net_param_get (after which nothing can be built); grad NULL if frozen or inference. */
    float *value, *grad;
} net_param;

/* b and d are borrowed and must outlive the net. */
status net_new(const backend *b, device *d, uint64_t seed, net **out);
void net_free(net **n);

/* ---- builders; names are unique in the net, "a/b/c" */
/* Activations: given as F32, turned to the precision. Constants (labels, targets, weights) keep their type and
 * have no gradient. */
net_t net_input(net *n, const char *name, tensor_shape shape);
net_t net_constant(net *n, const char *name, tensor_shape shape);
net_t net_conv(net *n, const char *name, net_t x, int channels, int kernel, int stride, int pad, int bias, int relu);
net_t net_convt(net *n, const char *name, net_t x, int channels, int kernel, int stride, int pad, int bias, int relu);
net_t net_linear(net *n, const char *name, net_t x, int channels, int relu);
net_t net_groupnorm(net *n, const char *name, net_t x, net_t residual, int groups, int relu); /* residual -1: none */
net_t net_batchnorm(net *n, const char *name, net_t x, net_t residual, int relu);
net_t net_resize(net *n, net_t x, int64_t h, int64_t w, int nearest);
net_t net_resize_like(net *n, net_t x, net_t like, int nearest); /* to like's h and w, also after net_reshape */
net_t net_maxpool(net *n, net_t x, int kernel, int stride, int pad);
net_t net_avgpool(net *n, net_t x);
net_t net_concat(net *n, const net_t *x, int count);
net_t net_concat_pixels(net *n, const net_t *x, int count); /* (n, sum of h*w, 1, c) */
net_t net_add(net *n, net_t a, net_t b, int relu);
net_t net_relu(net *n, net_t x);
net_t net_sigmoid(net *n, net_t x);
net_t net_softmax(net *n, net_t x);
net_t net_loss_bce(net *n, net_t logits, net_t target, net_t weight); /* weight -1: none */
net_t net_loss_dice(net *n, net_t logits, net_t target);
net_t net_loss_ce(net *n, net_t logits, net_t label);
net_t net_loss_l1s(net *n, net_t prediction, net_t target, net_t weight, float beta);
/* The op that made `like`, with its very parameters, on another x: a head shared by the levels of a pyramid. Ops of one
 * input. */
net_t net_again(net *n, net_t like, net_t x);
/* levels[0..count-1] finest first, level k of stride `stride << k`; rois F32 (n,r,1,4), a constant or of a host step,
 * without gradient: see OP_ROIALIGN. Gives (n*r,size,size,c). */
net_t net_roialign(net *n, const net_t *levels, int count, net_t rois, int stride, int size, int samples);
net_t net_output(net *n, const char *name, net_t x); /* kept to the end and readable; F32 for the reader */
tensor_shape net_shape(const net *n, net_t x);       /* as inferred; zeros after an error */
/* Parameters built from now on are (not) frozen. A BatchNorm built frozen uses its running statistics in training too,
 * and does not move them. Where nothing before trains either, there is no backward, and norms fold as in inference. */
void net_freeze(net *n, bool frozen);

/* A step of the forward pass that runs on the host: proposals, training targets. fn gets x (nx, up to NET_HOST_MAX) in
 * dense host memory, activations as F32 whatever the precision, constants in their own type, and fills y (ny, up to
 * NET_HOST_MAX; F32 or I32, of the given shapes, which no reshape changes), which comes zeroed. It must depend on its
 * inputs (and a constant *ctx, borrowed) alone. No gradient flows through it. y[k] become tensors of the graph that
 * keep their type in every precision, -1 after an error. A failure of fn is net_forward's. */
enum { NET_HOST_MAX = 16 };
typedef status (*net_host_fn)(void *ctx, const tensor *x, int nx, tensor *y, int ny);
void net_host(net *n, const char *name, const net_t *x, int nx, const tensor_shape *shape, int ny, net_host_fn fn,
              void *ctx, net_t *y);

/* A step that is a function of the backend's table instead of an op: fn gets x and fills all of y (F32 or I32, of the given shape,
 * which no reshape changes) in dense device memory, activations in the type they run in. It hands its work to the device, waits for
 * nothing and asks for nothing else, so that a pass with it can be recorded. It must depend on its inputs (and a constant *ctx,
 * borrowed) alone. No gradient flows through it. */
typedef status (*net_call_fn)(void *ctx, const backend *b, device *d, const tensor *x, int nx, tensor *y);
net_t net_call(net *n, const char *name, const net_t *x, int nx, tensor_shape shape, net_call_fn fn, void *ctx);

/* Another size or batch for an input or constant; the type stays, parameters are kept, the net must be compiled again
 * (which reports sizes that do not fit). A net_resize keeps the ratio of its output to its input. */
status net_reshape(net *n, net_t input, tensor_shape shape);

/* ---- compile and run */
/* `losses` (count, may be 0) with their weights are what NET_TRAIN differentiates: sum of weight * loss. */
/* weights NULL: all 1. May be called again with another mode, precision or losses; only what outputs and these losses
 * need is run. Inference folds BatchNorm into a plain convolution before it. Inputs must be set again afterwards. */
status net_compile(net *n, net_mode mode, net_precision precision, const net_t *losses, const float *weights,
                   int count);
/* Dense, F32 (input) or its own type (constant); kept until set again or compiled again. */
status net_set_input(net *n, net_t input, const void *host);
/* The same from an output of another net on the same device, without a way through the host: both F32 (or an input's
 * bf16), of one shape. */
status net_set_input_from(net *n, net_t input, const net *from, net_t output);
/* Or filled on the device: begin gives the place (dense, as net_set_input takes it; NULL where nothing that was compiled reads the
 * input), end says that it is filled. Nothing else may be asked of the net in between. */
status net_input_begin(net *n, net_t input, void **to);
status net_input_end(net *n, net_t input);
status net_forward(net *n);
status net_backward(net *n);                     /* once after each net_forward; gradients are zeroed first */
/* For sums over ranks beside the backward pass. During each net_backward from now on fn is called as soon as gradients
 * first .. first+count-1 of net_gradients() are final, which is when all work on them has been given to the device: it may
 * give the device more, but ask nothing of the net. The pieces go from the end of the array to its start and tile it once,
 * each of at least `least` floats but the last; they depend on the graph and `least` alone, so on every rank they are the same.
 * A failure of fn is net_backward's. fn NULL: nobody waits (as at first). ctx is borrowed. Lasts until called again, also over
 * net_compile; called again with the same `least` it costs nothing. */
typedef status (*net_gradients_fn)(void *ctx, size_t first, size_t count);
status net_on_gradients(net *n, size_t least, net_gradients_fn fn, void *ctx);
/* In place of a backward pass, where there is nothing to learn from: the gradients are zero, and fn gets the same pieces. */
status net_backward_none(net *n);
status net_get(net *n, net_t output, void *host); /* an output or a loss, dense, as F32; I32 of a host step as I32 */
/* The same on the device: borrowed until anything but this is asked of the net. */
status net_output_at(net *n, net_t output, const void **from);
status net_sync(net *n);

/* ---- parameters */
int net_param_count(const net *n);
const net_param *net_param_at(const net *n, int k);
status net_param_set(net *n, int k, const float *host); /* bumps versions */
status net_param_get(net *n, int k, float *host);
/* One flat device array each over all trainable parameters, in order: what a reduction or optimiser walks. Each
 * parameter starts at a multiple of 64 floats; the gaps are zero in both arrays. *grads is NULL where the net is not
 * compiled for training. */
status net_gradients(net *n, float **grads, float **values, size_t *count);
/* The same for the running statistics that training moves (not those of frozen norms): for averaging over ranks. */
status net_statistics(net *n, float **values, size_t *count);
void net_touch(net *n); /* parameters were changed through net_gradients(), or statistics through net_statistics() */
size_t net_activation_bytes(const net *n);
double net_flops(const net *n); /* one forward pass */
const backend *net_backend(const net *n);
device *net_device(const net *n);
#endif
