/* dnn: convolutions by cuDNN's graph API; see dnn.h. A want becomes an operation graph (a convolution, and where asked a
 * bias and a ReLU behind it), heuristics name engines for it, the first that is exact enough and can be built becomes the
 * plan. Plans are kept in a list by want: a network that is compiled again, or has many like layers, asks once.
 * The trap: descriptors refer to one another and must live as long as the plan, so a plan owns all that it was made of. */
#include "kernels/cuda/dnn.h"
#include <cudnn.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS = 96, CANDIDATES = 16, NOTES = CUDNN_NUMERICAL_NOTE_TYPE_COUNT };
enum { ID_A = 1, ID_B, ID_OUT, ID_BIAS, ID_SUM, ID_BIASED };
static const int64_t WORKSPACE_MOST = (int64_t)1 << 30;

struct dnn_conv {
    dnn_want want;
    dnn_conv *next;
    cudnnBackendDescriptor_t part[PARTS]; /* owned: everything but plan and run */
    int parts;
    cudnnBackendDescriptor_t graph, plan;
    int64_t workspace;
    int missing; /* no engine does this */
};

struct cuda_dnn {
    cudnnHandle_t handle;            /* NULL: plans are only made, for the device described by: */
    cudnnBackendDescriptor_t properties;
    dnn_conv *first; /* owned list */
};

/* cuDNN's one wrapper. */
#define DNN_TRY(call)                                                                          \
    do {                                                                                       \
        cudnnStatus_t dnn_s_ = (call);                                                         \
        if (dnn_s_ != CUDNN_STATUS_SUCCESS) return dnn_fail(dnn_s_, #call, __FILE__, __LINE__); \
    } while (0)

static status dnn_fail(cudnnStatus_t e, const char *call, const char *file, int line)
{
    char more[256] = "";
    status s = e == CUDNN_STATUS_ALLOC_FAILED || e == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
                       e == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
                   ? COV_NOMEM
                   : COV_DEVICE;
    cudnnGetLastErrorString(more, sizeof more);
    return status_fail(s, file, line, "cudnn: %s: %s %s", call, cudnnGetErrorString(e), more);
}

status dnn_open(device *d, cuda_dnn **out)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return COV_FAIL(COV_NOMEM, "no memory for cuDNN's handle");
    DNN_TRY(cudnnCreate(&(*out)->handle));
    DNN_TRY(cudnnSetStream((*out)->handle, d->stream));
    return COV_OK;
}

status dnn_open_for(const char *json, cuda_dnn **out)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return COV_FAIL(COV_NOMEM, "no memory for cuDNN's handle");
    cudnnBackendDescriptor_t *d = &(*out)->properties;
    DNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, d));
    DNN_TRY(cudnnBackendSetAttribute(*d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(json), json));
    DNN_TRY(cudnnBackendFinalize(*d));
    return COV_OK;
}

static void conv_drop(dnn_conv *c)
{
    if (c->plan) cudnnBackendDestroyDescriptor(c->plan);
    for (int k = c->parts - 1; k >= 0; k--) cudnnBackendDestroyDescriptor(c->part[k]);
    free(c);
}

void dnn_close(cuda_dnn **c)
{
    if (!c || !*c) return;
    for (dnn_conv *at = (*c)->first, *next; at; at = next) {
        next = at->next;
        conv_drop(at);
    }
    if ((*c)->properties) cudnnBackendDestroyDescriptor((*c)->properties);
    if ((*c)->handle) cudnnDestroy((*c)->handle);
    free(*c);
    *c = NULL;
}

/* ---- descriptors */
typedef cudnnBackendDescriptor_t descriptor;

static status make(dnn_conv *c, cudnnBackendDescriptorType_t type, descriptor *out)
{
    if (c->parts == PARTS) return COV_FAIL(COV_BROKEN, "cudnn: a convolution of more than %d descriptors", PARTS);
    DNN_TRY(cudnnBackendCreateDescriptor(type, out));
    c->part[c->parts++] = *out;
    return COV_OK;
}

/* One attribute of n values. */
#define SET(d, name, type, n, values) DNN_TRY(cudnnBackendSetAttribute(d, name, type, n, values))

static cudnnDataType_t type_of(tensor_type t) { return t == TENSOR_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT; }

/* dim: n, c, h, w; the array is dense with c last, as images and weights of ours are. */
static status make_tensor(dnn_conv *c, int64_t id, cudnnDataType_t type, const int64_t dim[4], bool inner, descriptor *out)
{
    const int64_t stride[4] = {dim[1] * dim[2] * dim[3], 1, dim[1] * dim[3], dim[1]}, alignment = 16;
    COV_TRY(make(c, CUDNN_BACKEND_TENSOR_DESCRIPTOR, out));
    SET(*out, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    SET(*out, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    SET(*out, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dim);
    SET(*out, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
    SET(*out, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    SET(*out, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &inner);
    DNN_TRY(cudnnBackendFinalize(*out));
    return COV_OK;
}

static status make_image(dnn_conv *c, int64_t id, tensor_shape s, bool inner, descriptor *out)
{
    const int64_t dim[4] = {s.n, s.c, s.h, s.w};
    return make_tensor(c, id, inner ? CUDNN_DATA_FLOAT : type_of(s.type), dim, inner, out);
}

static status make_geometry(dnn_conv *c, descriptor *out)
{
    const dnn_pair *g = &c->want.pair;
    const int64_t pad[2] = {g->pad, g->pad}, stride[2] = {g->stride, g->stride}, dilation[2] = {1, 1}, dims = 2;
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    COV_TRY(make(c, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, out));
    SET(*out, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    SET(*out, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    SET(*out, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dims);
    SET(*out, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    SET(*out, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    SET(*out, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    SET(*out, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    DNN_TRY(cudnnBackendFinalize(*out));
    return COV_OK;
}

/* The convolution itself: what cuDNN calls its three operations and their tensors. */
static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t small, large, weights, geometry, alpha, beta;
} operations[] = {
    [DNN_SMALL] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [DNN_LARGE] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [DNN_WEIGHTS] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

static status make_convolution(dnn_conv *c, descriptor small, descriptor large, descriptor weights, descriptor *out)
{
    const float one = 1, zero = 0;
    const dnn_result r = c->want.result;
    descriptor geometry;
    COV_TRY(make_geometry(c, &geometry));
    COV_TRY(make(c, operations[r].type, out));
    SET(*out, operations[r].small, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &small);
    SET(*out, operations[r].large, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &large);
    SET(*out, operations[r].weights, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &weights);
    SET(*out, operations[r].geometry, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &geometry);
    SET(*out, operations[r].alpha, CUDNN_TYPE_FLOAT, 1, &one);
    SET(*out, operations[r].beta, CUDNN_TYPE_FLOAT, 1, &zero);
    DNN_TRY(cudnnBackendFinalize(*out));
    return COV_OK;
}

/* y = x + b (b NULL where the mode has one input). */
static status make_pointwise(dnn_conv *c, cudnnPointwiseMode_t mode, descriptor x, descriptor b, descriptor y, descriptor *out)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    descriptor how;
    COV_TRY(make(c, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, &how));
    SET(how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    SET(how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type);
    DNN_TRY(cudnnBackendFinalize(how));
    COV_TRY(make(c, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, out));
    SET(*out, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &how);
    SET(*out, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x);
    if (b) SET(*out, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &b);
    SET(*out, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y);
    DNN_TRY(cudnnBackendFinalize(*out));
    return COV_OK;
}

/* All operations of a want; step: room for three. Weights from bf16 images leave as F32 by way of a second operation that
 * does nothing: engines that add in F32 round at the end of the first. */
static status make_operations(dnn_conv *c, descriptor step[3], int *count)
{
    const dnn_want *w = &c->want;
    const dnn_pair *g = &w->pair;
    const int64_t filter[4] = {g->small.c, g->large.c, g->kernel, g->kernel};
    const int is_weights = w->result == DNN_WEIGHTS, turns = is_weights && g->small.type == TENSOR_BF16;
    const int behind = w->bias + w->relu;
    tensor_shape image = w->result == DNN_SMALL ? g->small : g->large;
    const int64_t channels[4] = {1, image.c, 1, 1};
    descriptor small, large, weights, from, to, bias;
    COV_TRY(make_image(c, w->result == DNN_SMALL ? (behind ? ID_SUM : ID_OUT) : ID_A, g->small, w->result == DNN_SMALL && behind, &small));
    COV_TRY(make_image(c, w->result == DNN_LARGE ? (behind ? ID_SUM : ID_OUT) : is_weights ? ID_B : ID_A, g->large,
                       w->result == DNN_LARGE && behind, &large));
    COV_TRY(make_tensor(c, turns ? ID_SUM : is_weights ? ID_OUT : ID_B, is_weights ? CUDNN_DATA_FLOAT : type_of(g->small.type), filter,
                        turns, &weights));
    COV_TRY(make_convolution(c, small, large, weights, &step[0]));
    *count = 1;
    if (turns) {
        COV_TRY(make_tensor(c, ID_OUT, CUDNN_DATA_FLOAT, filter, false, &to));
        COV_TRY(make_pointwise(c, CUDNN_POINTWISE_IDENTITY, weights, NULL, to, &step[(*count)++]));
    }
    from = w->result == DNN_SMALL ? small : large;
    if (w->bias) {
        COV_TRY(make_tensor(c, ID_BIAS, CUDNN_DATA_FLOAT, channels, false, &bias));
        COV_TRY(make_image(c, w->relu ? ID_BIASED : ID_OUT, image, w->relu, &to));
        COV_TRY(make_pointwise(c, CUDNN_POINTWISE_ADD, from, bias, to, &step[(*count)++]));
        from = to;
    }
    if (w->relu) {
        COV_TRY(make_image(c, ID_OUT, image, false, &to));
        COV_TRY(make_pointwise(c, CUDNN_POINTWISE_RELU_FWD, from, NULL, to, &step[(*count)++]));
    }
    return COV_OK;
}

/* ---- engines */

/* 1 if the engine's results are what dnn.h promises. */
static status exact_enough(dnn_conv *c, descriptor config, int *out)
{
    cudnnBackendNumericalNote_t note[NOTES];
    int64_t count = 0;
    descriptor engine;
    int f32 = c->want.pair.small.type == TENSOR_F32 && !c->want.tf32;
    *out = 0;
    COV_TRY(make(c, CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine));
    DNN_TRY(cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &engine));
    DNN_TRY(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, NOTES, &count, note));
    for (int64_t k = 0; k < count && k < NOTES; k++) {
        int plain = note[k] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE || note[k] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
        if (plain && !f32) continue;
        if (note[k] == CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP) continue;
        return COV_OK;
    }
    *out = 1;
    return COV_OK;
}

/* A plan of this configuration; not an error where it cannot be built. */
static status try_config(cuda_dnn *n, dnn_conv *c, descriptor config)
{
    descriptor made;
    int64_t count, workspace = 0;
    DNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &made));
    cudnnStatus_t on = n->handle ? cudnnBackendSetAttribute(made, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &n->handle)
                                 : cudnnBackendSetAttribute(made, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                                            &n->properties);
    int built = on == CUDNN_STATUS_SUCCESS &&
                cudnnBackendSetAttribute(made, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config) ==
                    CUDNN_STATUS_SUCCESS &&
                cudnnBackendFinalize(made) == CUDNN_STATUS_SUCCESS &&
                cudnnBackendGetAttribute(made, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count, &workspace) ==
                    CUDNN_STATUS_SUCCESS &&
                workspace <= WORKSPACE_MOST;
    if (!built) {
        cudnnBackendDestroyDescriptor(made);
        return COV_OK;
    }
    c->plan = made;
    c->workspace = workspace;
    return COV_OK;
}

static status try_mode(cuda_dnn *n, dnn_conv *c, cudnnBackendHeurMode_t mode)
{
    descriptor heuristic, config[CANDIDATES];
    int64_t count = 0;
    int exact;
    COV_TRY(make(c, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristic));
    SET(heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &c->graph);
    SET(heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (n->properties) SET(heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n->properties);
    if (cudnnBackendFinalize(heuristic) != CUDNN_STATUS_SUCCESS) return COV_OK; /* it knows nothing of such graphs */
    for (int k = 0; k < CANDIDATES; k++) COV_TRY(make(c, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config[k]));
    if (cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, CANDIDATES, &count, config) !=
        CUDNN_STATUS_SUCCESS)
        return COV_OK;
    for (int64_t k = 0; k < count && k < CANDIDATES && !c->plan; k++) {
        COV_TRY(exact_enough(c, config[k], &exact));
        if (exact) COV_TRY(try_config(n, c, config[k]));
    }
    return COV_OK;
}

static status build(cuda_dnn *n, dnn_conv *c)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    descriptor step[3];
    int count = 0;
    COV_TRY(make_operations(c, step, &count));
    COV_TRY(make(c, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &c->graph));
    if (n->handle) SET(c->graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &n->handle);
    SET(c->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, step);
    /* A graph that no engine has is refused here, or finds no plan below. */
    if (cudnnBackendFinalize(c->graph) != CUDNN_STATUS_SUCCESS) return COV_OK;
    for (size_t k = 0; k < sizeof modes / sizeof modes[0] && !c->plan; k++) COV_TRY(try_mode(n, c, modes[k]));
    return COV_OK;
}

/* ---- the cache */
static int same_want(const dnn_want *a, const dnn_want *b)
{
    return a->result == b->result && a->bias == b->bias && a->relu == b->relu && a->tf32 == b->tf32 && a->pair.kernel == b->pair.kernel &&
           a->pair.stride == b->pair.stride && a->pair.pad == b->pair.pad && tensor_same_shape(a->pair.small, b->pair.small) &&
           tensor_same_shape(a->pair.large, b->pair.large);
}

status dnn_conv_find(device *d, const dnn_want *w, const dnn_conv **out)
{
    cuda_dnn *n = d->dnn;
    dnn_conv *c = n->first;
    *out = NULL;
    while (c && !same_want(&c->want, w)) c = c->next;
    if (!c) {
        if (!(c = calloc(1, sizeof *c))) return COV_FAIL(COV_NOMEM, "no memory for a convolution");
        c->want = *w;
        status s = build(n, c);
        if (s != COV_OK) {
            conv_drop(c);
            return status_relay(s, __FILE__, __LINE__);
        }
        c->missing = !c->plan;
        c->next = n->first;
        n->first = c;
    }
    if (c->missing)
        return COV_FAIL(COV_UNSUPPORTED, "cudnn: no engine for result %d of a convolution %d x %d, stride %d, of %lld and %lld channels",
                        (int)w->result, w->pair.kernel, w->pair.kernel, w->pair.stride, (long long)w->pair.large.c,
                        (long long)w->pair.small.c);
    *out = c;
    return COV_OK;
}

size_t dnn_conv_workspace(const dnn_conv *c) { return (size_t)c->workspace; }

static status execute(cuda_dnn *n, const dnn_conv *c, descriptor pack, int64_t count, const int64_t *ids, void **data, void *workspace)
{
    SET(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids);
    SET(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, data);
    SET(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    DNN_TRY(cudnnBackendFinalize(pack));
    DNN_TRY(cudnnBackendExecute(n->handle, c->plan, pack));
    return COV_OK;
}

status dnn_conv_run(device *d, const dnn_conv *c, const void *a, const void *b, const float *bias, void *out, void *workspace)
{
    const int64_t ids[] = {ID_A, ID_B, ID_OUT, ID_BIAS};
    /* cuDNN's interface has no const; it writes on the result alone. */
    void *data[4];
    memcpy(data, (const void *[]){a, b, out, bias}, sizeof data);
    descriptor pack;
    DNN_TRY(cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack));
    status s = execute(d->dnn, c, pack, c->want.bias ? 4 : 3, ids, data, workspace);
    cudnnBackendDestroyDescriptor(pack);
    return s == COV_OK ? COV_OK : status_relay(s, __FILE__, __LINE__);
}
