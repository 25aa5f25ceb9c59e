/* net_run: forward and backward over compiled plans, and what goes in and out. The trap: packed copies of
 * parameters are kept by version, so every argument list gets today's versions before it runs. */
#include "kernels/net_internal.h"

static status need_compiled(const net *n)
{
    if (n->failed != COV_OK) return COV_FAIL(n->failed, "%s", n->message);
    if (!n->compiled) return COV_FAIL(COV_BROKEN, "the net is not compiled (or was reshaped since)");
    return COV_OK;
}

static status find_input(net *n, net_t input, net_value **out)
{
    COV_TRY(need_compiled(n));
    if (input < 0 || input >= n->value_count || n->values[input].node >= 0)
        return COV_FAIL(COV_BROKEN, "tensor %d is no input of this net", input);
    *out = &n->values[input];
    return COV_OK;
}

static void *memory_of(const net *n, const net_value *v) { return n->arena + n->slots[v->slot].offset; }

status net_input_begin(net *n, net_t input, void **to)
{
    net_value *v;
    *to = NULL;
    COV_TRY(find_input(n, input, &v));
    if (!v->needed) return COV_OK; /* labels of a net compiled without its losses */
    v->at_hand = 0;
    *to = v->run.type == v->shape.type ? memory_of(n, v) : n->staging;
    return COV_OK;
}

status net_input_end(net *n, net_t input)
{
    net_value *v;
    size_t count;
    COV_TRY(find_input(n, input, &v));
    if (!v->needed || v->run.type == v->shape.type) return COV_OK;
    COV_TRY(tensor_count(v->shape, &count));
    COV_TRY(n->b->convert(n->d, count, v->shape.type, n->staging, v->run.type, memory_of(n, v)));
    return COV_OK;
}

status net_set_input(net *n, net_t input, const void *host)
{
    size_t bytes;
    void *to;
    COV_TRY(net_input_begin(n, input, &to));
    if (!to) return COV_OK;
    COV_TRY(tensor_bytes(n->values[input].shape, &bytes));
    COV_TRY(n->b->upload(n->d, to, host, bytes));
    return net_input_end(n, input);
}

status net_set_input_from(net *n, net_t input, const net *from, net_t output)
{
    size_t count;
    net_value *v;
    COV_TRY(find_input(n, input, &v));
    COV_TRY(need_compiled(from));
    if (n->b != from->b || n->d != from->d) return COV_FAIL(COV_BROKEN, "the nets are not on one device");
    if (output < 0 || output >= from->value_count || !from->values[output].output)
        return COV_FAIL(COV_BROKEN, "tensor %d is no output of the other net", output);
    const net_value *x = &from->values[output];
    if (x->shape.type != TENSOR_F32 || !tensor_same_shape(v->shape, x->shape))
        return COV_FAIL(COV_BROKEN, "input '%s' is not of the type and shape of the output '%s'", v->name, x->output);
    if (!v->needed) return COV_OK;
    v->at_hand = 0;
    COV_TRY(tensor_count(v->shape, &count));
    COV_TRY(n->b->convert(n->d, count, x->run.type, memory_of(from, x), v->run.type, memory_of(n, v)));
    return COV_OK;
}

static void set_versions(const net *n, const net_node *v, op_args *a)
{
    for (int j = 0; j < v->shapes.np; j++) a->p[j].version = net_record_version(n, v, j);
}

static status run_call(net *n, const net_node *v)
{
    tensor x[NET_HOST_MAX];
    const net_value *to = &n->values[v->y];
    tensor y = {.shape = to->run, .data = memory_of(n, to)};
    for (int k = 0; k < v->nx; k++) x[k] = (tensor){.shape = n->values[v->x[k]].run, .data = memory_of(n, &n->values[v->x[k]])};
    return v->step->on_device(v->step->ctx, n->b, n->d, x, v->nx, &y);
}

static status forward_part(net *n, int from, int to)
{
    for (int k = from; k < to; k++) {
        net_node *v = &n->nodes[k];
        if (!v->needed) continue;
        if (v->step) {
            COV_TRY(run_call(n, v));
            continue;
        }
        set_versions(n, v, &v->args);
        COV_TRY(n->b->plan_run(v->forward_plan, &v->args));
    }
    return COV_OK;
}

/* Nodes from..to-1 are about to move their running statistics. */
static void statistics_move(net *n, int from, int to)
{
    for (int k = from; k < to; k++) {
        const net_node *v = &n->nodes[k];
        if (!v->needed || v->run.kind != OP_BATCHNORM || !v->run.training) continue;
        n->version++;
        n->params[v->p[2]].version = n->params[v->p[3]].version = n->version;
    }
}

status net_forward(net *n)
{
    COV_TRY(need_compiled(n));
    COV_TRY(net_fold_update(n));
    net_record_check(n);
    n->ran = 0;
    for (int k = 0, end; k < n->node_count; k = end) {
        net_node *v = &n->nodes[k];
        for (end = k; end < n->node_count && !net_on_host(&n->nodes[end]); end++) {}
        if (end == k) {
            if (v->needed) COV_TRY(net_host_run(n, v));
            end++;
            continue;
        }
        statistics_move(n, k, end);
        COV_TRY(net_record_run(n, OP_FORWARD, forward_part, k, end, &v->recorded));
    }
    n->warm[OP_FORWARD] = n->ran = 1;
    return COV_OK;
}

static status backward_part(net *n, int from, int to)
{
    if (to == n->node_count) COV_TRY(n->b->zero(n->d, n->grads, n->trainable * sizeof(float)));
    for (int k = to - 1; k >= from; k--) {
        net_node *v = &n->nodes[k];
        if (!v->backward) continue;
        set_versions(n, v, &v->back);
        COV_TRY(n->b->plan_run(v->backward_plan, &v->back));
        for (int j = 0; j < v->nx; j++) {
            const net_value *x = &n->values[v->x[j]];
            size_t count;
            if (v->meet[j] < 0) continue;
            COV_TRY(tensor_count(x->run, &count));
            COV_TRY(
                n->b->accumulate(n->d, x->run.type, count, v->back.dx[j].data, n->arena + n->slots[x->grad].offset));
        }
    }
    return COV_OK;
}

static status need_training(const net *n)
{
    COV_TRY(need_compiled(n));
    if (n->mode != NET_TRAIN) return COV_FAIL(COV_BROKEN, "backward: the net is compiled for inference");
    return COV_OK;
}

status net_backward(net *n)
{
    int to = n->node_count;
    COV_TRY(need_training(n));
    if (!n->ran) return COV_FAIL(COV_BROKEN, "backward: no forward pass before it");
    n->ran = 0; /* activations are used up: their memory may have been reused */
    net_record_check(n);
    for (int k = 0; k < n->piece_count; k++) {
        net_piece *p = &n->pieces[k];
        COV_TRY(net_record_run(n, OP_BACKWARD, backward_part, p->node, to, &p->recorded));
        COV_TRY(net_piece_final(n, p));
        to = p->node;
    }
    n->warm[OP_BACKWARD] = 1;
    return COV_OK;
}

status net_backward_none(net *n)
{
    COV_TRY(need_training(n));
    COV_TRY(n->b->zero(n->d, n->grads, n->trainable * sizeof(float)));
    for (int k = 0; k < n->piece_count; k++) COV_TRY(net_piece_final(n, &n->pieces[k]));
    return COV_OK;
}

status net_output_at(net *n, net_t output, const void **from)
{
    size_t count;
    *from = NULL;
    COV_TRY(need_compiled(n));
    if (output < 0 || output >= n->value_count || !(n->values[output].output || n->values[output].loss))
        return COV_FAIL(COV_BROKEN, "tensor %d is neither an output nor a loss that was compiled", output);
    const net_value *v = &n->values[output];
    COV_TRY(tensor_count(v->shape, &count));
    if (v->run.type == TENSOR_BF16) COV_TRY(n->b->convert(n->d, count, TENSOR_BF16, memory_of(n, v), TENSOR_F32, n->staging));
    *from = v->run.type == TENSOR_BF16 ? n->staging : memory_of(n, v);
    return COV_OK;
}

status net_get(net *n, net_t output, void *host)
{
    const void *from;
    size_t bytes;
    COV_TRY(net_output_at(n, output, &from));
    COV_TRY(tensor_bytes(n->values[output].shape, &bytes));
    return n->b->download(n->d, host, from, bytes);
}

status net_sync(net *n)
{
    COV_TRY(n->b->sync(n->d));
    return COV_OK;
}
