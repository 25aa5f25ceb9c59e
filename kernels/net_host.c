/* net_host: runs a host step of the graph: its inputs come down into one piece of host memory (the desk), its function
 * fills the outputs behind them, and those that somebody reads go up. Every backend takes the same way. */
#include "base/size.h"
#include "kernels/net_internal.h"

#include <stdlib.h>
#include <string.h>

/* What the host sees of a value: F32 for activations, whatever they run in. */
static tensor_shape seen(const net_value *v)
{
    tensor_shape s = v->run;
    if (s.type == TENSOR_BF16) s.type = TENSOR_F32;
    return s;
}

/* Places the tensors of a step on the desk (NULL: only counts); *end: bytes of all. */
static status lay(const net *n, const net_node *v, char *desk, tensor *x, tensor *y, size_t *end)
{
    *end = 0;
    for (int k = 0; k < v->nx + v->host->ny; k++) {
        tensor *t = k < v->nx ? &x[k] : &y[k - v->nx];
        size_t bytes;
        *t = (tensor){.shape = k < v->nx ? seen(&n->values[v->x[k]]) : v->host->shape[k - v->nx]};
        COV_TRY(tensor_bytes(t->shape, &bytes));
        if (desk) t->data = desk + *end;
        if (!size_add(bytes, NET_ALIGN - 1, &bytes) || !size_add(*end, bytes / NET_ALIGN * NET_ALIGN, end))
            return COV_FAIL(COV_NOMEM, "%s: inputs and outputs do not fit in memory", v->name);
    }
    return COV_OK;
}

status net_host_ready(net *n)
{
    tensor x[NET_HOST_MAX], y[NET_HOST_MAX];
    size_t most = 0, bytes;
    for (int k = 0; k < n->node_count; k++) {
        if (!n->nodes[k].host || !n->nodes[k].needed) continue;
        COV_TRY(lay(n, &n->nodes[k], NULL, x, y, &bytes));
        if (bytes > most) most = bytes;
    }
    if (most && !(n->desk = aligned_alloc(NET_ALIGN, most)))
        return COV_FAIL(COV_NOMEM, "no memory for %zu bytes of a host step", most);
    return COV_OK;
}

static status fetch(net *n, const net_value *v, const tensor *to)
{
    const void *from = n->arena + n->slots[v->slot].offset;
    size_t bytes, count;
    COV_TRY(tensor_bytes(to->shape, &bytes));
    COV_TRY(tensor_count(to->shape, &count));
    if (v->run.type == TENSOR_BF16) {
        COV_TRY(n->b->convert(n->d, count, TENSOR_BF16, from, TENSOR_F32, n->staging));
        from = n->staging;
    }
    COV_TRY(n->b->download(n->d, to->data, from, bytes));
    return COV_OK;
}

status net_host_run(net *n, const net_node *v)
{
    tensor x[NET_HOST_MAX], y[NET_HOST_MAX];
    size_t bytes;
    COV_TRY(lay(n, v, n->desk, x, y, &bytes));
    for (int k = 0; k < v->nx; k++) COV_TRY(fetch(n, &n->values[v->x[k]], &x[k]));
    for (int k = 0; k < v->host->ny; k++) {
        COV_TRY(tensor_bytes(y[k].shape, &bytes));
        memset(y[k].data, 0, bytes);
    }
    COV_TRY(v->host->fn(v->host->ctx, x, v->nx, y, v->host->ny));
    for (int k = 0; k < v->host->ny; k++) {
        const net_value *to = &n->values[v->host->y[k]];
        if (to->slot < 0) continue;
        COV_TRY(tensor_bytes(y[k].shape, &bytes));
        COV_TRY(n->b->upload(n->d, n->arena + n->slots[to->slot].offset, y[k].data, bytes));
    }
    return COV_OK;
}
