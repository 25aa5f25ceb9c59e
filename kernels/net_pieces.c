/* net_pieces: the array of gradients in pieces that are final one after the other while the backward pass still runs, so
 * that ranks can sum them beside it. In: the compiled graph and the least size of a piece. Out: pieces from the end of the
 * array to its start, each with the node whose backward pass is the last to add to it or to one before it.
 *
 * Parameters lie in the order in which they were built, so the backward pass is done with them mostly from the end. The
 * trap: not always. A parameter may be read by several nodes, the first of them far down, or by none that has a backward
 * pass; so a piece goes by the nodes, and ends only where the next parameter has to wait longer. */
#include "kernels/net_internal.h"

#include <stdlib.h>

/* What no backward pass adds to is final after the first part, which zeroes everything. */
static void find_last(net *n)
{
    for (int k = 0; k < n->param_count; k++) n->params[k].last = n->node_count - 1;
    for (int k = n->node_count - 1; k >= 0; k--)
        for (int j = 0; n->nodes[k].backward && j < n->nodes[k].np; j++) n->params[n->nodes[k].p[j]].last = k;
}

status net_pieces_plan(net *n)
{
    size_t start = n->trainable, end = n->trainable;
    int node = n->node_count - 1;
    if (!n->pieces) n->pieces = calloc((size_t)n->param_count + 1, sizeof *n->pieces); /* no parameter comes after this */
    if (!n->pieces) return COV_FAIL(COV_NOMEM, "no memory for the pieces of %d gradients", n->param_count);
    n->piece_count = 0;
    find_last(n);
    for (int k = n->param_count - 1; k >= 0; k--) {
        const net_parameter *p = &n->params[k];
        if (!p->public.grad) continue;
        if (start < end && end - start >= n->least && p->last < node) {
            n->pieces[n->piece_count++] = (net_piece){.first = start, .count = end - start, .node = node};
            end = start;
        }
        start = p->offset;
        if (p->last < node) node = p->last;
    }
    n->pieces[n->piece_count++] = (net_piece){.first = 0, .count = end, .node = 0};
    return COV_OK;
}

status net_on_gradients(net *n, size_t least, net_gradients_fn fn, void *ctx)
{
    size_t before = n->least;
    n->on_gradients = fn;
    n->on_gradients_ctx = ctx;
    n->least = fn ? least : SIZE_MAX;
    if (n->least == before || !n->compiled || n->mode != NET_TRAIN) return COV_OK;
    net_record_drop(n);
    return net_pieces_plan(n);
}

status net_piece_final(net *n, const net_piece *p)
{
    return n->on_gradients ? n->on_gradients(n->on_gradients_ctx, p->first, p->count) : COV_OK;
}
