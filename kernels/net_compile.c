/* net_compile: from a graph to plans and memory: which nodes are needed, which of them have a backward pass, which
 * tensors must live from when to when, then one arena, the argument lists and the backend's plans. All of it is
 * undone by net_uncompile, so that mode, precision and sizes can change while the parameters stay. */
#include "kernels/net_internal.h"

#include <stdlib.h>
#include <string.h>

void net_uncompile(net *n)
{
    net_record_drop(n);
    n->refused = 0;
    for (int k = 0; k < n->node_count; k++) {
        if (n->nodes[k].forward_plan) n->b->plan_free(&n->nodes[k].forward_plan);
        if (n->nodes[k].backward_plan) n->b->plan_free(&n->nodes[k].backward_plan);
        n->nodes[k].forward_plan = n->nodes[k].backward_plan = NULL;
        n->nodes[k].fold = -1;
    }
    n->b->release(n->d, n->arena);
    n->b->release(n->d, n->staging);
    n->b->release(n->d, n->folded);
    n->b->release_host(n->d, n->desk);
    free(n->folds);
    n->desk = NULL;
    n->arena = NULL;
    n->staging = NULL;
    n->folded = NULL;
    n->folds = NULL;
    n->fold_count = n->slot_count = n->piece_count = n->compiled = n->ran = 0;
    n->arena_bytes = 0;
}

static status mark_losses(net *n, const net_t *losses, const float *weights, int count)
{
    for (int k = 0; k < n->value_count; k++) {
        net_value *v = &n->values[k];
        v->needed = v->output != NULL;
        v->loss = v->trains = v->reaches = v->visits = 0;
        v->weight = 0;
        v->slot = v->grad = -1;
    }
    for (int k = 0; k < count; k++) {
        net_t x = losses[k];
        if (x < 0 || x >= n->value_count || n->values[x].node < 0 || !op_is_loss(n->nodes[n->values[x].node].o.kind))
            return COV_FAIL(COV_BROKEN, "loss %d of %d (tensor %d) is not the result of a loss", k, count, x);
        n->values[x].needed = n->values[x].loss = 1;
        n->values[x].weight += weights ? weights[k] : 1;
    }
    return COV_OK;
}

static int differentiable(const net_node *v, int k) { return !v->step && op_differentiable(v->o.kind, k, v->nx); }

static int own_trainable(const net *n, const net_node *v)
{
    for (int k = 0; k < v->np; k++)
        if (!n->params[v->p[k]].public.frozen) return 1;
    return 0;
}

static void mark_needed(net *n)
{
    for (int k = n->node_count - 1; k >= 0; k--) {
        net_node *v = &n->nodes[k];
        v->needed = n->values[v->y].needed;
        for (int j = 0; v->step && j < v->step->ny; j++) v->needed |= n->values[v->step->y[j]].needed;
        v->backward = 0;
        for (int j = 0; j < v->nx && v->needed; j++) n->values[v->x[j]].needed = 1;
        for (int j = 0; j < v->nx && v->needed && net_on_host(v); j++) n->values[v->x[j]].visits = 1;
    }
}

/* trains flows from parameters forward, reaches from losses back; where both meet there is a backward pass. */
static void mark_backward(net *n)
{
    for (int k = 0; k < n->node_count; k++) {
        net_node *v = &n->nodes[k];
        if (v->step) continue;
        int trains = own_trainable(n, v);
        for (int j = 0; j < v->nx; j++) trains |= differentiable(v, j) && n->values[v->x[j]].trains;
        n->values[v->y].trains = trains;
    }
    for (int k = n->node_count - 1; k >= 0; k--) {
        net_node *v = &n->nodes[k];
        net_value *y = &n->values[v->y];
        y->reaches |= y->loss;
        v->backward = !v->step && y->reaches && y->trains;
        for (int j = 0; j < v->nx && v->backward; j++)
            if (differentiable(v, j)) n->values[v->x[j]].reaches = 1;
    }
}

static int wants_grad(const net_value *v) { return v->trains && v->reaches; }

static int slot_new(net *n, size_t bytes, int first, int last)
{
    n->slots[n->slot_count] = (net_slot){.bytes = bytes, .first = first, .last = last};
    return n->slot_count++;
}

/* Slots of values: from the step that makes them to the last that reads them; what goes in or out stays for good,
 * since a caller may run again on the same input, or read an output late. */
static status slots_of_values(net *n)
{
    int end = 2 * n->node_count;
    for (int k = 0; k < n->value_count; k++) {
        net_value *v = &n->values[k];
        size_t bytes;
        if (!v->needed) continue;
        COV_TRY(tensor_bytes(v->run, &bytes));
        int first = v->node, last = first;
        if (v->node >= 0 && n->nodes[v->node].backward) last = end - 1 - v->node;
        if (v->node < 0 || v->output || v->loss) last = end;
        v->slot = slot_new(n, bytes, first, last);
    }
    for (int k = 0; k < n->node_count; k++) {
        const net_node *v = &n->nodes[k];
        int last = v->backward ? end - 1 - k : k, nx = v->step ? v->nx : v->shapes.nx;
        for (int j = 0; j < nx && v->needed; j++) {
            net_t x = v->fold >= 0 ? n->nodes[n->folds[v->fold].conv].x[j] : v->x[j];
            net_slot *s = &n->slots[n->values[x].slot];
            if (last > s->last) s->last = last;
        }
    }
    return COV_OK;
}

/* Slots of gradients: made by the last reader's backward, read by the producer's. The first to write a gradient
 * writes in place; each later one writes to a slot of its own for that step, from where it is accumulated. */
static status slots_of_grads(net *n)
{
    int end = 2 * n->node_count;
    for (int k = n->node_count - 1; k >= 0; k--) {
        net_node *v = &n->nodes[k];
        int now = end - 1 - k;
        size_t bytes;
        if (!v->backward) continue;
        if (n->values[v->y].loss) n->values[v->y].grad = slot_new(n, sizeof(float), -1, end);
        for (int j = 0; j < v->nx; j++) {
            net_value *x = &n->values[v->x[j]];
            if (!differentiable(v, j) || !wants_grad(x)) continue;
            COV_TRY(tensor_bytes(x->run, &bytes));
            if (x->grad < 0) x->grad = slot_new(n, bytes, now, end - 1 - x->node);
            else v->meet[j] = slot_new(n, bytes, now, now);
        }
    }
    return COV_OK;
}

static status make_slots(net *n)
{
    int end = 2 * n->node_count;
    int most = 2 * n->value_count + (OP_MAX_SAVED + OP_MAX_X) * n->node_count;
    if (most > n->slot_room) {
        net_slot *room = realloc(n->slots, (size_t)most * sizeof *room);
        if (!room) return COV_FAIL(COV_NOMEM, "no memory to plan %d tensors", most);
        n->slots = room;
        n->slot_room = most;
    }
    for (int k = 0; k < n->node_count; k++) {
        for (int j = 0; j < OP_MAX_SAVED; j++) n->nodes[k].saved[j] = -1;
        for (int j = 0; j < OP_MAX_X; j++) n->nodes[k].meet[j] = -1;
    }
    COV_TRY(slots_of_values(n));
    for (int k = 0; k < n->node_count; k++) {
        net_node *v = &n->nodes[k];
        for (int j = 0; j < v->shapes.nsaved && v->backward; j++) { /* NULL where no backward will read it */
            size_t bytes;
            COV_TRY(tensor_bytes(v->shapes.saved[j], &bytes));
            v->saved[j] = slot_new(n, bytes, k, end - 1 - k);
        }
    }
    if (n->mode == NET_TRAIN) COV_TRY(slots_of_grads(n));
    return COV_OK;
}

static tensor view(const net *n, tensor_shape shape, int slot)
{
    return (tensor){.shape = shape, .data = slot >= 0 ? n->arena + n->slots[slot].offset : NULL};
}

/* No backward pass that runs before that of `v` adds to parameter p. */
static int adds_first(const net *n, const net_node *v, int p)
{
    for (const net_node *later = v + 1; later < n->nodes + n->node_count; later++)
        for (int j = 0; later->backward && j < later->np; j++)
            if (later->p[j] == p) return 0;
    return 1;
}

/* Nothing of a step goes through arguments. */
static void set_args(net *n, net_node *v)
{
    const int *x = v->fold >= 0 ? n->nodes[n->folds[v->fold].conv].x : v->x;
    op_args a = {0};
    for (int j = 0; j < v->shapes.nx; j++) a.x[j] = view(n, v->shapes.x[j], n->values[x[j]].slot);
    for (int j = 0; j < v->shapes.np; j++) {
        a.p[j].shape = v->shapes.p[j];
        if (v->fold < 0) a.p[j].data = n->params[v->p[j]].public.value;
        else a.p[j].data = n->folded + n->folds[v->fold].offset + (j ? n->folds[v->fold].bias : 0);
    }
    a.y = view(n, v->shapes.y, n->values[v->y].slot);
    for (int j = 0; j < v->shapes.nsaved; j++) a.saved[j] = view(n, v->shapes.saved[j], v->saved[j]);
    v->args = a;
    if (!v->backward) return;
    a.dy = view(n, v->shapes.y, n->values[v->y].grad);
    for (int j = 0; j < v->nx; j++) {
        const net_value *from = &n->values[v->x[j]];
        a.dx[j] = view(n, v->shapes.x[j], !differentiable(v, j) ? -1 : v->meet[j] >= 0 ? v->meet[j] : from->grad);
    }
    for (int j = 0; j < v->np; j++) {
        a.dp[j] = a.p[j];
        a.dp[j].data = n->params[v->p[j]].public.grad;
        a.fresh |= adds_first(n, v, v->p[j]) << j;
    }
    v->back = a;
}

static status make_memory(net *n)
{
    void *memory = NULL;
    size_t staging = 0;
    COV_TRY(net_place(n->slots, n->slot_count, n->reuse, &n->arena_bytes));
    COV_TRY(n->b->alloc(n->d, n->arena_bytes ? n->arena_bytes : NET_ALIGN, &memory));
    n->arena = memory;
    for (int k = 0; k < n->value_count && n->precision == NET_BF16; k++) {
        const net_value *v = &n->values[k];
        size_t bytes;
        COV_TRY(tensor_bytes(v->shape, &bytes));
        if (v->needed && v->run.type == TENSOR_BF16 && (v->output || v->node < 0 || v->visits) && bytes > staging)
            staging = bytes;
    }
    if (staging) {
        COV_TRY(n->b->alloc(n->d, staging, &memory));
        n->staging = memory;
    }
    for (int k = 0; k < n->value_count; k++) {
        const net_value *v = &n->values[k];
        if (!v->loss || v->grad < 0) continue;
        COV_TRY(n->b->upload(n->d, view(n, v->run, v->grad).data, &v->weight, sizeof v->weight));
    }
    return COV_OK;
}

static status make_plans(net *n)
{
    for (int k = 0; k < n->node_count; k++) {
        net_node *v = &n->nodes[k];
        if (!v->needed || v->step) continue;
        set_args(n, v);
        COV_TRY(n->b->plan_new(n->d, &v->run, &v->shapes, OP_FORWARD, &v->forward_plan));
        if (v->backward) COV_TRY(n->b->plan_new(n->d, &v->run, &v->shapes, OP_BACKWARD, &v->backward_plan));
    }
    return COV_OK;
}

static status compile(net *n, const net_t *losses, const float *weights, int count)
{
    int train = n->mode == NET_TRAIN, live = 0;
    COV_TRY(net_infer(n, n->precision == NET_BF16 ? TENSOR_BF16 : TENSOR_F32));
    COV_TRY(mark_losses(n, losses, weights, count));
    mark_needed(n);
    for (int k = 0; k < n->node_count; k++) {
        live |= n->nodes[k].needed;
        n->nodes[k].run.training = train && n->nodes[k].o.training;
    }
    if (!live) return COV_FAIL(COV_BROKEN, "the net has no output and no loss: nothing to compute");
    if (train) mark_backward(n);
    COV_TRY(net_fold_find(n));
    COV_TRY(net_grads_ready(n, train));
    if (train) COV_TRY(net_pieces_plan(n));
    COV_TRY(make_slots(n));
    COV_TRY(make_memory(n));
    COV_TRY(net_host_ready(n));
    COV_TRY(make_plans(n));
    return COV_OK;
}

status net_compile(net *n, net_mode mode, net_precision precision, const net_t *losses, const float *weights, int count)
{
    COV_TRY(net_params_ready(n)); /* reports a builder's error, too */
    net_uncompile(n);
    n->mode = mode;
    n->precision = precision;
    status s = compile(n, losses, weights, count);
    if (s != COV_OK) {
        net_uncompile(n);
        return status_relay(s, __FILE__, __LINE__);
    }
    n->compiled = 1;
    return COV_OK;
}

size_t net_activation_bytes(const net *n) { return n->arena_bytes; }

double net_flops(const net *n)
{
    double sum = 0;
    for (int k = 0; k < n->node_count; k++)
        if (n->compiled && n->nodes[k].needed) sum += op_flops(&n->nodes[k].run, &n->nodes[k].shapes);
    return sum;
}

const backend *net_backend(const net *n) { return n->b; }
device *net_device(const net *n) { return n->d; }
