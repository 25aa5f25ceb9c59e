/* net_internal: the graph as net_build.c makes it, net_compile.c plans it and net_run.c runs it. Private to
 * net_*.c and their tests.
 *
 * A value is a tensor of the graph: an input, a constant or the result of a node (a step has several). Nodes stand
 * in build order, which is a topological one. Time, for the memory plan, counts steps: node i runs forward at i and backward at
 * 2*nodes-1-i. Every piece of memory is a slot with the first and last step at which it must hold its contents;
 * slots whose steps meet never share bytes. */
#ifndef COV_KERNELS_NET_INTERNAL_H
#define COV_KERNELS_NET_INTERNAL_H
#include "kernels/net.h"

enum { NET_MESSAGE_BYTES = 512, NET_ALIGN = 256 };

typedef struct net_slot {
    size_t bytes, offset;
    int first, last; /* steps, both included */
} net_slot;

typedef enum net_value_kind { NET_VALUE_INPUT, NET_VALUE_CONSTANT, NET_VALUE_NODE } net_value_kind;

typedef struct net_value {
    net_value_kind kind;
    char *name;         /* owned; inputs and constants */
    char *output;       /* owned; name as an output, or NULL */
    int node;           /* producer, or -1 */
    tensor_shape shape; /* as inferred with F32 activations; zeros where inference failed */
    /* compiled: */
    tensor_shape run; /* with the activations' precision */
    int needed, loss; /* somebody reads it; it is one of the losses compiled for */
    int visits;       /* a host step reads it */
    int has_place, at_hand; /* on the desk; what lies there is the value, and need not be fetched */
    size_t place;
    int trains;       /* a trainable parameter lies at or before it */
    int reaches;      /* a loss differentiates through it */
    float weight;     /* of the loss */
    int slot, grad;   /* into slots; -1: none */
} net_value;

/* A step instead of an op: one of the two functions. */
typedef struct net_step {
    net_host_fn on_host;
    net_call_fn on_device;
    void *ctx; /* borrowed */
    int ny;
    net_t y[NET_HOST_MAX];
    tensor_shape shape[NET_HOST_MAX];
    uint64_t sent; /* on the host: the net's `waits` from which on its outputs have gone up */
} net_step;

typedef struct net_node {
    op o;       /* as built; of a step: OP_KIND_COUNT */
    char *name; /* owned; given, or made of kind and number */
    int nx, np;
    net_t x[NET_HOST_MAX], y; /* y: of a step its first */
    net_step *step;           /* owned; NULL: an op */
    int p[OP_MAX_P];        /* parameters */
    net_t like;             /* RESIZE: whose h and w it takes; -1: it keeps the ratio it was built with */
    int64_t from_h, from_w; /* RESIZE: input's size when built */
    /* compiled: */
    op run; /* o with the mode's and the folding's changes */
    int needed, backward;
    int fold; /* parameter set in folds; -1: none */
    op_shapes shapes;
    int saved[OP_MAX_SAVED], meet[OP_MAX_X]; /* slots; meet: where a dx waits to be accumulated; -1: none */
    plan *forward_plan, *backward_plan;
    recording *recorded; /* of the forward pass from here to the next host step; NULL: none */
    op_args args, back;  /* back: with dy, dx and dp */
} net_node;

static inline int net_on_host(const net_node *v) { return v->step && v->step->on_host; }

typedef struct net_parameter {
    net_param public;     /* first: net_param_at hands out its address */
    char *name;           /* owned */
    int moves;            /* a statistic that training moves */
    size_t count, offset; /* floats; offset into values, and into grads if trainable */
    float spread;         /* initial standard deviation, or 0 */
    float start;          /* initial value where spread is 0 */
    int last;             /* compiled for training: the node whose backward pass is the last to add to the gradient */
    uint64_t version;
} net_parameter;

/* A BatchNorm folded into the conv before it: the conv's own weights stay, and these are run. */
typedef struct net_fold {
    int conv, norm;                   /* nodes */
    size_t offset, weights, channels; /* floats in folded: weights first, then `channels` biases at bias */
    size_t bias;
    uint64_t version; /* of the newest parameter in it, when it was made; 0: not yet */
} net_fold;

/* A run of the array of gradients, final when the backward passes of all nodes from `node` on have been given to the device. */
typedef struct net_piece {
    size_t first, count; /* floats */
    int node;            /* the last piece's is 0, so that every node belongs to some piece's part of the pass */
    recording *recorded; /* of the nodes from `node` up to the piece before; NULL: none */
} net_piece;

struct net {
    const backend *b;       /* borrowed */
    device *d;              /* borrowed */
    uint64_t seed, version; /* version: of the newest change to any parameter */
    bool freeze;
    status failed; /* the first builder's error, and its message */
    char message[NET_MESSAGE_BYTES];

    net_value *values;
    int value_count, value_room;
    net_node *nodes;
    int node_count, node_room;
    net_parameter *params;
    int param_count, param_room;

    float *weights, *grads; /* device: trainable, frozen, statistics that move; and gradients of the first */
    size_t trainable, statistics, total; /* floats, each parameter padded to NET_ALIGN bytes: end of the first part, start
                                            of the last, end of all */

    int reuse, fold;   /* 1; tests set 0 to see that the memory plan, or folding, changes nothing */
    int compiled, ran; /* ran: net_forward was called since, so net_backward may be */
    net_mode mode;
    net_precision precision;
    net_slot *slots;
    int slot_count, slot_room;
    char *arena; /* device: all slots */
    size_t arena_bytes;
    float *staging; /* device: F32 copies of bf16 inputs and outputs on their way; NULL in fp32 */
    char *desk;     /* host: where host steps find their inputs and put their outputs; NULL without host steps */
    uint64_t waits; /* how often a host step has waited for the device */
    net_fold *folds;
    int fold_count;
    float *folded; /* device */
    uint64_t folded_version; /* net's version when folded was last looked through */

    net_piece *pieces; /* from the array's end to its start; one where nobody asked for more */
    int piece_count;
    size_t least; /* floats a piece, as asked for; SIZE_MAX: all in one */
    net_gradients_fn on_gradients;
    void *on_gradients_ctx;   /* borrowed */
    uint64_t held;            /* newest version of the parameters that recordings rely on */
    int warm[2];              /* by op_pass: it has run plainly since compile, or since `held` changed */
    int recording, refused;   /* now; it failed once since compile, and is not tried again */
};

/* net_build.c: shapes of all nodes with activations of `type`, into nodes[].shapes and values[].run. */
status net_infer(net *n, tensor_type type);
/* net_param.c: allocates and initialises the parameters, once; the graph takes no more of them after that. */
status net_params_ready(net *n);
status net_grads_ready(net *n, int wanted);
/* net_memory.c: chooses offsets; *total: bytes of all. Host work only. */
status net_place(net_slot *slots, int count, int reuse, size_t *total);
/* net_host.c */
status net_host_ready(net *n); /* at compile: room on the host for all steps */
status net_host_run(net *n, const net_node *v);
/* net_fold.c */
status net_fold_find(net *n);
status net_fold_update(net *n); /* nothing to do while no parameter changed */
/* net_record.c: `run` does the nodes from..to-1 of a pass; *kept is where their recording lies. */
typedef status net_part(net *n, int from, int to);
void net_record_check(net *n); /* before a pass: drops recordings that no longer hold */
status net_record_run(net *n, op_pass pass, net_part *run, int from, int to, recording **kept);
void net_record_drop(net *n);
/* Of parameter j of a node, as its plan is to see it now. */
uint64_t net_record_version(const net *n, const net_node *v, int j);
/* net_pieces.c */
status net_pieces_plan(net *n);                         /* nothing may be recorded of the backward pass */
status net_piece_final(net *n, const net_piece *p); /* calls whoever waits for it */
/* net_compile.c: back to a graph without plans and activations. */
void net_uncompile(net *n);
#endif
