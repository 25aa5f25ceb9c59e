/* net_host: runs a host step of the graph: its inputs come down to the host (the desk), its function fills the outputs
 * there, and those that somebody reads go up. Every backend takes the same way.
 *
 * Each value that a step reads or makes has a place of its own on the desk. What lies there already stays: inputs of the
 * net until they are set again, and what another step made. A step that reads nothing else does not wait for the device,
 * which goes on with what it was given. The trap: outputs go up while the host goes on, so their places may be filled
 * again only after the device was waited for. */
#include "base/size.h"
#include "kernels/net_internal.h"

#include <string.h>

/* What the host sees of a value: F32 for activations, whatever they run in. */
static tensor_shape seen(const net_value *v)
{
    tensor_shape s = v->run;
    if (s.type == TENSOR_BF16) s.type = TENSOR_F32;
    return s;
}

static status give_place(net_value *v, tensor_shape shape, size_t *end)
{
    size_t bytes;
    if (v->has_place) return COV_OK;
    COV_TRY(tensor_bytes(shape, &bytes));
    v->has_place = 1;
    v->place = *end;
    if (!size_add(bytes, NET_ALIGN - 1, &bytes) || !size_add(*end, bytes / NET_ALIGN * NET_ALIGN, end))
        return COV_FAIL(COV_NOMEM, "inputs and outputs of host steps do not fit in memory");
    return COV_OK;
}

status net_host_ready(net *n)
{
    size_t end = 0;
    void *memory;
    for (int k = 0; k < n->value_count; k++) n->values[k].has_place = n->values[k].at_hand = 0;
    for (int k = 0; k < n->node_count; k++) {
        const net_node *v = &n->nodes[k];
        if (!net_on_host(v) || !v->needed) continue;
        v->step->sent = 0;
        for (int j = 0; j < v->nx; j++) COV_TRY(give_place(&n->values[v->x[j]], seen(&n->values[v->x[j]]), &end));
        for (int j = 0; j < v->step->ny; j++) COV_TRY(give_place(&n->values[v->step->y[j]], v->step->shape[j], &end));
    }
    if (!end) return COV_OK;
    COV_TRY(n->b->alloc_host(n->d, end, &memory));
    n->desk = memory;
    return COV_OK;
}

static status fetch(net *n, net_value *v, const tensor *to)
{
    const void *from = n->arena + n->slots[v->slot].offset;
    size_t bytes, count;
    if (v->at_hand) return COV_OK;
    COV_TRY(tensor_bytes(to->shape, &bytes));
    COV_TRY(tensor_count(to->shape, &count));
    if (v->run.type == TENSOR_BF16) {
        COV_TRY(n->b->convert(n->d, count, TENSOR_BF16, from, TENSOR_F32, n->staging));
        from = n->staging;
    }
    COV_TRY(n->b->download(n->d, to->data, from, bytes));
    n->waits++;
    v->at_hand = v->node < 0;
    return COV_OK;
}

/* The step's outputs, zeroed, when the last of them has gone up. */
static status clear(net *n, const net_node *v, tensor *y)
{
    size_t bytes;
    if (v->step->sent > n->waits) {
        COV_TRY(n->b->sync(n->d));
        n->waits++;
    }
    for (int k = 0; k < v->step->ny; k++) {
        y[k] = (tensor){.shape = v->step->shape[k], .data = n->desk + n->values[v->step->y[k]].place};
        COV_TRY(tensor_bytes(y[k].shape, &bytes));
        memset(y[k].data, 0, bytes);
    }
    return COV_OK;
}

status net_host_run(net *n, const net_node *v)
{
    tensor x[NET_HOST_MAX], y[NET_HOST_MAX];
    size_t bytes;
    for (int k = 0; k < v->nx; k++) {
        net_value *from = &n->values[v->x[k]];
        x[k] = (tensor){.shape = seen(from), .data = n->desk + from->place};
        COV_TRY(fetch(n, from, &x[k]));
    }
    COV_TRY(clear(n, v, y));
    COV_TRY(v->step->on_host(v->step->ctx, x, v->nx, y, v->step->ny));
    for (int k = 0; k < v->step->ny; k++) {
        net_value *to = &n->values[v->step->y[k]];
        to->at_hand = 1;
        if (to->slot < 0) continue;
        COV_TRY(tensor_bytes(y[k].shape, &bytes));
        COV_TRY(n->b->upload(n->d, n->arena + n->slots[to->slot].offset, y[k].data, bytes));
        v->step->sent = n->waits + 1;
    }
    return COV_OK;
}
