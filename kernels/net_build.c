/* net_build: the builders of the graph, and shape inference over it. Builders never fail: the first error
 * is kept with its message, later calls return -1, and net_compile reports it. Shapes are inferred while
 * building, so that net_shape answers and a misfit is reported at the op that has it. */
#include "kernels/net_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static net_t fail(net *n, status s, const char *where)
{
    if (n->failed == COV_OK) {
        n->failed = s;
        snprintf(n->message, sizeof n->message, "%s: %s", where, status_message());
    }
    return -1;
}

/* Room for one more; the arrays hold plain structs, so moving them is fine. */
static int grow(void **array, int count, int *room, size_t each)
{
    if (count < *room) return 1;
    int wanted = *room ? 2 * *room : 16;
    void *bigger = realloc(*array, (size_t)wanted * each);
    if (!bigger) return 0;
    *array = bigger;
    *room = wanted;
    return 1;
}

status net_new(const backend *b, device *d, uint64_t seed, net **out)
{
    *out = NULL;
    net *n = calloc(1, sizeof *n);
    if (!n) return COV_FAIL(COV_NOMEM, "no memory for a net");
    n->b = b;
    n->d = d;
    n->seed = seed;
    n->version = 1;
    n->reuse = n->fold = 1;
    n->least = SIZE_MAX;
    *out = n;
    return COV_OK;
}

void net_free(net **n)
{
    if (!n || !*n) return;
    net *g = *n;
    net_uncompile(g);
    g->b->release(g->d, g->weights);
    g->b->release(g->d, g->grads);
    for (int k = 0; k < g->value_count; k++) {
        free(g->values[k].name);
        free(g->values[k].output);
    }
    for (int k = 0; k < g->node_count; k++) {
        free(g->nodes[k].name);
        free(g->nodes[k].step);
    }
    for (int k = 0; k < g->param_count; k++) free(g->params[k].name);
    free(g->values);
    free(g->nodes);
    free(g->params);
    free(g->slots);
    free(g->pieces);
    free(g);
    *n = NULL;
}

/* Values, outputs and named nodes share one name space: a message or a weights file means one thing. */
static int name_taken(const net *n, const char *name)
{
    for (int k = 0; k < n->value_count; k++) {
        if (n->values[k].name && !strcmp(n->values[k].name, name)) return 1;
        if (n->values[k].output && !strcmp(n->values[k].output, name)) return 1;
    }
    for (int k = 0; k < n->node_count; k++)
        if (!strcmp(n->nodes[k].name, name)) return 1;
    return 0;
}

static int may_build(net *n, const char *name)
{
    if (n->failed != COV_OK) return 0;
    if (n->weights) fail(n, COV_FAIL(COV_BROKEN, "built after the net was compiled or its parameters were used"), name);
    else if (!*name) fail(n, COV_FAIL(COV_BROKEN, "a name is empty"), "net");
    else if (name_taken(n, name)) fail(n, COV_FAIL(COV_BROKEN, "the name is taken"), name);
    return n->failed == COV_OK;
}

static int known(net *n, const char *name, net_t x)
{
    if (x >= 0 && x < n->value_count) return 1;
    fail(n, COV_FAIL(COV_BROKEN, "tensor %d is not of this net", x), name);
    return 0;
}

static net_t add_value(net *n, const char *name, net_value v)
{
    if (!grow((void **)&n->values, n->value_count, &n->value_room, sizeof *n->values) ||
        (name && !(v.name = strdup(name))))
        return fail(n, COV_FAIL(COV_NOMEM, "no memory for the graph"), name ? name : "net");
    v.slot = v.grad = -1;
    n->values[n->value_count] = v;
    return n->value_count++;
}

static net_t add_source(net *n, const char *name, tensor_shape shape, net_value_kind kind)
{
    size_t bytes;
    if (!may_build(n, name)) return -1;
    status s = tensor_bytes(shape, &bytes);
    if (s == COV_OK && kind == NET_VALUE_INPUT && shape.type != TENSOR_F32)
        s = COV_FAIL(COV_BROKEN, "an input is given as f32");
    if (s != COV_OK) return fail(n, s, name);
    return add_value(n, name, (net_value){.kind = kind, .node = -1, .shape = shape});
}

net_t net_input(net *n, const char *name, tensor_shape shape) { return add_source(n, name, shape, NET_VALUE_INPUT); }

net_t net_constant(net *n, const char *name, tensor_shape shape)
{
    return add_source(n, name, shape, NET_VALUE_CONSTANT);
}

static const char *param_suffix(op_kind kind, int k)
{
    static const char *const dense[] = {"w", "b"}, *const norm[] = {"gamma", "beta", "mean", "var"};
    return kind == OP_GROUPNORM || kind == OP_BATCHNORM ? norm[k] : dense[k];
}

/* He et al. 2015: variance 2 / (inputs that meet in one output). */
static float he_spread(const op *o, tensor_shape w)
{
    double meet = (double)w.h * (double)w.w * (double)w.c;
    if (o->kind == OP_CONVT) {
        double steps = (double)o->stride * o->stride, window = (double)w.h * (double)w.w;
        meet = (double)w.n * (window > steps ? window / steps : 1);
    }
    return (float)sqrt(2.0 / meet);
}

static status add_param(net *n, net_node *v, int k, tensor_shape shape)
{
    int norm = v->o.kind == OP_GROUPNORM || v->o.kind == OP_BATCHNORM;
    const char *suffix = param_suffix(v->o.kind, k);
    net_parameter p = {.version = 1};
    size_t length = strlen(v->name) + strlen(suffix) + 2;
    COV_TRY(tensor_count(shape, &p.count));
    if (!grow((void **)&n->params, n->param_count, &n->param_room, sizeof *n->params) || !(p.name = malloc(length)))
        return COV_FAIL(COV_NOMEM, "no memory for the graph");
    snprintf(p.name, length, "%s/%s", v->name, suffix);
    p.public.name = p.name;
    p.public.shape = shape;
    p.public.statistic = norm && k >= 2;
    p.public.frozen = n->freeze || p.public.statistic;
    p.moves = p.public.statistic && !n->freeze;
    p.public.decay = !norm && k == 0;
    p.spread = p.public.decay ? he_spread(&v->o, shape) : 0;
    p.start = norm && (k == 0 || k == 3) ? 1 : 0; /* gamma and var */
    v->p[k] = n->param_count;
    n->params[n->param_count++] = p;
    return COV_OK;
}

/* The shapes of node v from those of its inputs in values[].run. */
static status infer_node(net *n, net_node *v)
{
    v->run = v->o;
    for (int k = 0; v->step && k < v->step->ny; k++) n->values[v->step->y[k]].run = v->step->shape[k];
    if (v->step) return COV_OK;
    v->shapes.nx = v->nx;
    for (int k = 0; k < v->nx; k++) v->shapes.x[k] = n->values[v->x[k]].run;
    if (v->o.kind == OP_RESIZE && v->like >= 0) {
        v->run.out_h = n->values[v->like].run.h;
        v->run.out_w = n->values[v->like].run.w;
    } else if (v->o.kind == OP_RESIZE && (v->shapes.x[0].h != v->from_h || v->shapes.x[0].w != v->from_w)) {
        tensor_shape x = v->shapes.x[0];
        if (x.h * v->o.out_h % v->from_h || x.w * v->o.out_w % v->from_w)
            return COV_FAIL(COV_BROKEN,
                            "resize: built as %lldx%lld to %lldx%lld, which gives no whole size for %lldx%lld",
                            (long long)v->from_h, (long long)v->from_w, (long long)v->o.out_h, (long long)v->o.out_w,
                            (long long)x.h, (long long)x.w);
        v->run.out_h = x.h * v->o.out_h / v->from_h;
        v->run.out_w = x.w * v->o.out_w / v->from_w;
    }
    COV_TRY(op_infer(&v->run, &v->shapes));
    for (int k = 0; k < v->np; k++)
        if (!tensor_same_shape(v->shapes.p[k], n->params[v->p[k]].public.shape))
            return COV_FAIL(COV_BROKEN, "%s: parameter %s was built for other channels", op_name(v->o.kind),
                            n->params[v->p[k]].name);
    return COV_OK;
}

/* Takes x as the inputs of a node that is being built. */
static int take_inputs(net *n, const char *name, net_node *v, const net_t *x, int nx, int most)
{
    v->nx = nx;
    if (nx < 1 || nx > most) {
        fail(n, COV_FAIL(COV_BROKEN, "%d inputs, expected 1 to %d", nx, most), name);
        return 0;
    }
    for (int k = 0; k < nx; k++) {
        if (!known(n, name, v->x[k] = x[k])) return 0;
        net_value *from = &n->values[x[k]];
        from->run = from->shape;
        if (from->node < 0 || !op_is_loss(n->nodes[from->node].o.kind)) continue;
        fail(n, COV_FAIL(COV_BROKEN, "reads the loss %s; a loss ends the graph", n->nodes[from->node].name), name);
        return 0;
    }
    return 1;
}

/* as: the node whose parameters it takes; -1: it gets its own. */
static net_t add_node_as(net *n, int as, const char *name, op o, const net_t *x, int nx, net_t like)
{
    char made[48];
    snprintf(made, sizeof made, "%s#%d", op_name(o.kind), n->node_count);
    if (!name) name = made;
    if (!may_build(n, name)) return -1;
    net_node v = {.o = o, .like = like, .fold = -1};
    if (!take_inputs(n, name, &v, x, nx, OP_MAX_X)) return -1;
    if (like >= 0) n->values[like].run = n->values[like].shape;
    v.from_h = n->values[x[0]].shape.h;
    v.from_w = n->values[x[0]].shape.w;
    status s = infer_node(n, &v);
    if (s != COV_OK) return fail(n, s, name);
    if (!grow((void **)&n->nodes, n->node_count, &n->node_room, sizeof *n->nodes) || !(v.name = strdup(name)))
        return fail(n, COV_FAIL(COV_NOMEM, "no memory for the graph"), name);
    for (int k = 0; k < v.shapes.np && s == COV_OK; k++) {
        if (as < 0) s = add_param(n, &v, k, v.shapes.p[k]);
        else v.p[k] = n->nodes[as].p[k];
    }
    v.np = v.shapes.np;
    if (as >= 0) s = infer_node(n, &v); /* the parameters must fit */
    net_value y = {.kind = NET_VALUE_NODE, .node = n->node_count, .shape = v.shapes.y};
    v.y = s == COV_OK ? add_value(n, NULL, y) : -1;
    if (v.y < 0) {
        fail(n, s, name);
        free(v.name);
        return -1;
    }
    n->nodes[n->node_count++] = v;
    return v.y;
}

static net_t add_node(net *n, const char *name, op o, const net_t *x, int nx, net_t like)
{
    return add_node_as(n, -1, name, o, x, nx, like);
}

static net_t add_window(net *n, const char *name, op o, net_t x, int kernel, int stride, int pad)
{
    o.kernel = kernel;
    o.stride = stride;
    o.pad = pad;
    return add_node(n, name, o, &x, 1, -1);
}

net_t net_conv(net *n, const char *name, net_t x, int channels, int kernel, int stride, int pad, int bias, int relu)
{
    op o = {.kind = OP_CONV, .channels = channels, .bias = bias, .relu = relu};
    return add_window(n, name, o, x, kernel, stride, pad);
}

net_t net_convt(net *n, const char *name, net_t x, int channels, int kernel, int stride, int pad, int bias, int relu)
{
    op o = {.kind = OP_CONVT, .channels = channels, .bias = bias, .relu = relu};
    return add_window(n, name, o, x, kernel, stride, pad);
}

net_t net_linear(net *n, const char *name, net_t x, int channels, int relu)
{
    return add_node(n, name, (op){.kind = OP_LINEAR, .channels = channels, .bias = 1, .relu = relu}, &x, 1, -1);
}

net_t net_groupnorm(net *n, const char *name, net_t x, net_t residual, int groups, int relu)
{
    net_t in[2] = {x, residual};
    op o = {.kind = OP_GROUPNORM, .groups = groups, .eps = 1e-5f, .relu = relu, .residual = residual >= 0};
    return add_node(n, name, o, in, 1 + o.residual, -1);
}

net_t net_batchnorm(net *n, const char *name, net_t x, net_t residual, int relu)
{
    net_t in[2] = {x, residual};
    op o = {.kind = OP_BATCHNORM, .eps = 1e-5f, .momentum = 0.1f, .relu = relu, .residual = residual >= 0};
    o.training = !n->freeze; /* where the mode is NET_TRAIN: see net_compile */
    return add_node(n, name, o, in, 1 + o.residual, -1);
}

net_t net_resize(net *n, net_t x, int64_t h, int64_t w, int nearest)
{
    return add_node(n, NULL, (op){.kind = OP_RESIZE, .out_h = h, .out_w = w, .nearest = nearest}, &x, 1, -1);
}

net_t net_resize_like(net *n, net_t x, net_t like, int nearest)
{
    if (n->failed != COV_OK || !known(n, "resize", like)) return -1;
    return add_node(n, NULL, (op){.kind = OP_RESIZE, .nearest = nearest}, &x, 1, like);
}

net_t net_maxpool(net *n, net_t x, int kernel, int stride, int pad)
{
    return add_window(n, NULL, (op){.kind = OP_MAXPOOL}, x, kernel, stride, pad);
}

net_t net_avgpool(net *n, net_t x) { return add_node(n, NULL, (op){.kind = OP_AVGPOOL}, &x, 1, -1); }
net_t net_concat(net *n, const net_t *x, int count) { return add_node(n, NULL, (op){.kind = OP_CONCAT}, x, count, -1); }

net_t net_concat_pixels(net *n, const net_t *x, int count)
{
    return add_node(n, NULL, (op){.kind = OP_CONCAT, .pixels = 1}, x, count, -1);
}

net_t net_relu(net *n, net_t x) { return add_node(n, NULL, (op){.kind = OP_RELU}, &x, 1, -1); }
net_t net_sigmoid(net *n, net_t x) { return add_node(n, NULL, (op){.kind = OP_SIGMOID}, &x, 1, -1); }
net_t net_softmax(net *n, net_t x) { return add_node(n, NULL, (op){.kind = OP_SOFTMAX}, &x, 1, -1); }

net_t net_add(net *n, net_t a, net_t b, int relu)
{
    net_t in[2] = {a, b};
    return add_node(n, NULL, (op){.kind = OP_ADD, .relu = relu}, in, 2, -1);
}

net_t net_roialign(net *n, const net_t *levels, int count, net_t rois, int stride, int size, int samples)
{
    net_t in[OP_ROI_LEVELS + 1];
    if (count < 1 || count > OP_ROI_LEVELS)
        return fail(n, COV_FAIL(COV_BROKEN, "%d levels, expected 1 to %d", count, OP_ROI_LEVELS), "roialign");
    for (int k = 0; k < count; k++) in[k] = levels[k];
    in[count] = rois;
    return add_node(n, NULL, (op){.kind = OP_ROIALIGN, .stride = stride, .size = size, .samples = samples}, in,
                    count + 1, -1);
}

net_t net_loss_bce(net *n, net_t logits, net_t target, net_t weight)
{
    net_t in[3] = {logits, target, weight};
    return add_node(n, NULL, (op){.kind = OP_LOSS_BCE}, in, weight >= 0 ? 3 : 2, -1);
}

net_t net_loss_dice(net *n, net_t logits, net_t target)
{
    net_t in[2] = {logits, target};
    op o = {.kind = OP_LOSS_DICE, .eps = 1}; /* 1: an empty slice predicted empty costs 0 */
    return add_node(n, NULL, o, in, 2, -1);
}

net_t net_loss_ce(net *n, net_t logits, net_t label)
{
    net_t in[2] = {logits, label};
    return add_node(n, NULL, (op){.kind = OP_LOSS_CE}, in, 2, -1);
}

net_t net_loss_l1s(net *n, net_t prediction, net_t target, net_t weight, float beta)
{
    net_t in[3] = {prediction, target, weight};
    return add_node(n, NULL, (op){.kind = OP_LOSS_L1S, .beta = beta}, in, 3, -1);
}

net_t net_again(net *n, net_t like, net_t x)
{
    if (n->failed != COV_OK || !known(n, "again", like)) return -1;
    int as = n->values[like].node;
    if (as < 0 || n->nodes[as].nx != 1 || n->nodes[as].step)
        return fail(n, COV_FAIL(COV_BROKEN, "tensor %d was not made by an op of one input", like), "again");
    return add_node_as(n, as, NULL, n->nodes[as].o, &x, 1, -1);
}

net_t net_output(net *n, const char *name, net_t x)
{
    if (!may_build(n, name) || !known(n, name, x)) return -1;
    net_value *v = &n->values[x];
    if (v->output) return fail(n, COV_FAIL(COV_BROKEN, "the tensor is already output '%s'", v->output), name);
    if (v->kind == NET_VALUE_CONSTANT) return fail(n, COV_FAIL(COV_BROKEN, "a constant is no output"), name);
    if (!(v->output = strdup(name))) return fail(n, COV_FAIL(COV_NOMEM, "no memory for the graph"), name);
    return x;
}

/* The outputs of a step whose inputs are fine. */
static status add_step(net *n, const char *name, net_node *v, const tensor_shape *shape, net_t *y)
{
    size_t bytes;
    for (int k = 0; k < v->step->ny; k++) {
        COV_TRY(tensor_bytes(shape[k], &bytes));
        if (shape[k].type != TENSOR_F32 && shape[k].type != TENSOR_I32)
            return COV_FAIL(COV_BROKEN, "output %d of a step is neither f32 nor i32", k);
        v->step->shape[k] = shape[k];
    }
    if (!grow((void **)&n->nodes, n->node_count, &n->node_room, sizeof *n->nodes) || !(v->name = strdup(name)))
        return COV_FAIL(COV_NOMEM, "no memory for the graph");
    for (int k = 0; k < v->step->ny; k++) {
        y[k] = add_value(n, NULL, (net_value){.kind = NET_VALUE_NODE, .node = n->node_count, .shape = shape[k]});
        if (y[k] < 0) return n->failed;
        v->step->y[k] = y[k];
    }
    v->y = y[0];
    n->nodes[n->node_count++] = *v;
    return COV_OK;
}

static void build_step(net *n, const char *name, const net_t *x, int nx, const tensor_shape *shape, const net_step *step, net_t *y)
{
    net_node v = {.o = {.kind = OP_KIND_COUNT}, .like = -1, .fold = -1};
    status s = COV_OK;
    for (int k = 0; k < step->ny; k++) y[k] = -1;
    if (!may_build(n, name) || !take_inputs(n, name, &v, x, nx, NET_HOST_MAX)) return;
    if (step->ny < 1 || step->ny > NET_HOST_MAX) {
        fail(n, COV_FAIL(COV_BROKEN, "%d outputs, expected 1 to %d", step->ny, NET_HOST_MAX), name);
        return;
    }
    if (!(v.step = malloc(sizeof *v.step))) s = COV_FAIL(COV_NOMEM, "no memory for the graph");
    else {
        *v.step = *step;
        s = add_step(n, name, &v, shape, y);
    }
    if (s == COV_OK) return;
    fail(n, s, name);
    for (int k = 0; k < step->ny; k++) y[k] = -1;
    free(v.name);
    free(v.step);
}

void net_host(net *n, const char *name, const net_t *x, int nx, const tensor_shape *shape, int ny, net_host_fn fn, void *ctx, net_t *y)
{
    build_step(n, name, x, nx, shape, &(net_step){.on_host = fn, .ctx = ctx, .ny = ny}, y);
}

net_t net_call(net *n, const char *name, const net_t *x, int nx, tensor_shape shape, net_call_fn fn, void *ctx)
{
    net_t y;
    build_step(n, name, x, nx, &shape, &(net_step){.on_device = fn, .ctx = ctx, .ny = 1}, &y);
    return y;
}

tensor_shape net_shape(const net *n, net_t x)
{
    return n->failed == COV_OK && x >= 0 && x < n->value_count ? n->values[x].shape : (tensor_shape){0};
}

void net_freeze(net *n, bool frozen) { n->freeze = frozen; }

status net_infer(net *n, tensor_type type)
{
    for (int k = 0; k < n->value_count; k++) {
        net_value *v = &n->values[k];
        if (v->kind == NET_VALUE_NODE) continue;
        v->run = v->shape;
        if (v->kind == NET_VALUE_INPUT) v->run.type = type;
    }
    for (int k = 0; k < n->node_count; k++) {
        net_node *v = &n->nodes[k];
        status s = infer_node(n, v);
        if (s != COV_OK) {
            char text[NET_MESSAGE_BYTES];
            snprintf(text, sizeof text, "%s", status_message());
            return COV_FAIL(s, "%s: %s", v->name, text);
        }
        if (!v->step) n->values[v->y].run = v->shapes.y;
    }
    return COV_OK;
}

status net_reshape(net *n, net_t input, tensor_shape shape)
{
    size_t bytes;
    if (n->failed != COV_OK) return COV_FAIL(n->failed, "%s", n->message);
    if (input < 0 || input >= n->value_count || n->values[input].kind == NET_VALUE_NODE)
        return COV_FAIL(COV_BROKEN, "tensor %d is no input of this net", input);
    COV_TRY(tensor_bytes(shape, &bytes));
    if (shape.type != n->values[input].shape.type)
        return COV_FAIL(COV_BROKEN, "%s: a reshape keeps the type", n->values[input].name);
    net_uncompile(n);
    n->values[input].shape = shape;
    /* Other inputs may be reshaped next: until all fit, the shapes behind a misfit are unknown, not wrong. */
    for (int k = 0; k < n->value_count; k++)
        if (n->values[k].kind == NET_VALUE_NODE) n->values[k].run = (tensor_shape){0};
    if (net_infer(n, TENSOR_F32) != COV_OK) status_clear();
    for (int k = 0; k < n->value_count; k++)
        if (n->values[k].kind == NET_VALUE_NODE) n->values[k].shape = n->values[k].run;
    return COV_OK;
}
