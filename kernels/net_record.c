/* net_record: a pass that runs again and again is recorded where the backend can (see backend.h) and then replayed, which
 * costs the host one call where it was one or more a node. In: the parts of a pass (forward between host steps, backward between pieces of
 * gradients that somebody waits for); out: the same work.
 *
 * The first pass after compile runs plainly: libraries get their kernels ready, packed copies of parameters are made. The
 * second is recorded, later ones are replayed. A recording holds addresses, which stay from compile to compile, and what
 * plans do about the versions of parameters. The trap is there: a replay packs what was packed when it was recorded. So
 * parameters that training moves are shown to plans without a version while they record: each replay packs them, whatever
 * they hold. All others stand still; when one of them is set anew, every recording is dropped and the next pass is plain.
 * What cannot be recorded runs plainly from then on, and is no error. */
#include "kernels/net_internal.h"

/* 1: parameter j of the node changes from step to step, and no recording may rely on its version. */
static int moves(const net *n, const net_node *v, int j)
{
    const net_parameter *p = &n->params[v->p[j]];
    return n->mode == NET_TRAIN && v->fold < 0 && (p->moves || !p->public.frozen);
}

uint64_t net_record_version(const net *n, const net_node *v, int j)
{
    if (n->recording && moves(n, v, j)) return 0;
    return v->fold >= 0 ? n->folds[v->fold].version : n->params[v->p[j]].version;
}

void net_record_drop(net *n)
{
    for (int k = 0; k < n->node_count; k++)
        if (n->nodes[k].recorded) n->b->record_free(&n->nodes[k].recorded);
    for (int k = 0; k < n->piece_count; k++)
        if (n->pieces[k].recorded) n->b->record_free(&n->pieces[k].recorded);
    n->warm[OP_FORWARD] = n->warm[OP_BACKWARD] = 0;
}

/* Versions only grow, over all parameters: where one was set, the newest is another. */
void net_record_check(net *n)
{
    uint64_t newest = 0;
    if (!n->b->record_begin) return;
    for (int k = 0; k < n->node_count; k++) {
        const net_node *v = &n->nodes[k];
        for (int j = 0; v->needed && !v->step && j < v->shapes.np; j++) {
            uint64_t version = moves(n, v, j) ? 0 : net_record_version(n, v, j);
            if (version > newest) newest = version;
        }
    }
    if (newest != n->held) net_record_drop(n);
    n->held = newest;
}

/* *kept stays NULL where it cannot be done. */
static void record(net *n, net_part *run, int from, int to, recording **kept)
{
    n->refused = n->b->record_begin(n->d) != COV_OK;
    if (n->refused) return;
    n->recording = 1;
    status ran = run(n, from, to), ended = n->b->record_end(n->d, kept);
    n->recording = 0;
    n->refused = ran != COV_OK || ended != COV_OK;
    if (n->refused) n->b->record_free(kept);
}

status net_record_run(net *n, op_pass pass, net_part *run, int from, int to, recording **kept)
{
    int done = 0;
    if (*kept) COV_TRY(n->b->replay(*kept, &done));
    if (!done && n->warm[pass] && !n->refused && n->b->record_begin) {
        n->b->record_free(kept);
        record(n, run, from, to, kept);
        if (*kept) COV_TRY(n->b->replay(*kept, &done));
    }
    return done ? COV_OK : run(n, from, to);
}
