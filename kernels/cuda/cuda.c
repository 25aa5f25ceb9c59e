/* cuda: the backend's table: device, memory, the dispatch of plans to the file of their family, and the one symbol that
 * the plugin shows; see cuda.h. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dnn.h"
#include "kernels/plugin.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_CAPABILITY = 80 }; /* bf16 on tensor cores */

status cuda_fail(cudaError_t e, const char *call, const char *file, int line)
{
    status s = e == cudaErrorMemoryAllocation ? COV_NOMEM : COV_DEVICE;
    (void)cudaGetLastError(); /* an error that passes is told once */
    return status_fail(s, file, line, "cuda: %s: %s (%s)", call, cudaGetErrorString(e), cudaGetErrorName(e));
}

static int affinity_count(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    return n > 0 ? n : 1;
}

/* How many GPUs there are; COV_UNSUPPORTED says what is missing. */
static status count_devices(int *count)
{
    *count = 0;
    cudaError_t e = cudaGetDeviceCount(count);
    if (e == cudaErrorInsufficientDriver)
        return COV_FAIL(COV_UNSUPPORTED, "cuda: no NVIDIA driver on this machine, or one older than CUDA %d.%d needs", CUDART_VERSION / 1000,
                        CUDART_VERSION % 1000 / 10);
    if (e == cudaErrorNoDevice || (e == cudaSuccess && *count < 1))
        return COV_FAIL(COV_UNSUPPORTED, "cuda: no GPU to be seen (CUDA_VISIBLE_DEVICES is %s)",
                        getenv("CUDA_VISIBLE_DEVICES") ? getenv("CUDA_VISIBLE_DEVICES") : "not set");
    CUDA_TRY(e);
    return COV_OK;
}

static void cuda_close(device **d)
{
    if (d == NULL || *d == NULL) return;
    cudaSetDevice((*d)->ordinal);
    if ((*d)->stream != NULL) cudaStreamSynchronize((*d)->stream);
    cuda_send_close(*d);
    dnn_close(&(*d)->dnn);
    cudaFree((*d)->scratch);
    if ((*d)->stream != NULL) cudaStreamDestroy((*d)->stream);
    free(*d);
    *d = NULL;
}

static status open_on(device *d, int ordinal)
{
    struct cudaDeviceProp of;
    int count;
    COV_TRY(count_devices(&count));
    d->ordinal = ordinal % count;
    CUDA_TRY(cudaSetDevice(d->ordinal));
    CUDA_TRY(cudaGetDeviceProperties(&of, d->ordinal));
    CUDA_TRY(cudaDeviceGetPCIBusId(d->key, DEVICE_KEY_BYTES, d->ordinal));
    snprintf(d->name, sizeof d->name, "%.*s", (int)sizeof d->name - 1, of.name);
    if (10 * of.major + of.minor < LEAST_CAPABILITY)
        return COV_FAIL(COV_UNSUPPORTED, "cuda: %s has compute capability %d.%d, expected %d.%d or more", of.name, of.major, of.minor,
                        LEAST_CAPABILITY / 10, LEAST_CAPABILITY % 10);
    d->bf16 = 1;
    d->processors = of.multiProcessorCount;
    CUDA_TRY(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking));
    COV_TRY(dnn_open(d, &d->dnn));
    return COV_OK;
}

static status cuda_open(const device_options *o, device **out)
{
    *out = NULL;
    if (o->threads < 0) return COV_FAIL(COV_USAGE, "%d threads, expected 0 (all) or more", o->threads);
    if (o->ordinal < 0) return COV_FAIL(COV_USAGE, "GPU %d, expected 0 or more", o->ordinal);
    device *d = calloc(1, sizeof *d);
    if (d == NULL) return COV_FAIL(COV_NOMEM, "no memory for a device");
    d->threads = o->threads > 0 ? o->threads : affinity_count();
    status s = open_on(d, o->ordinal);
    if (s != COV_OK) cuda_close(&d);
    *out = d;
    return s;
}

static int cuda_bf16(device *d) { return d->bf16; }
static int cuda_threads(device *d) { return d->threads; }
static const char *cuda_name(device *d) { return d->name; }
static void cuda_key(device *d, char key[DEVICE_KEY_BYTES]) { memcpy(key, d->key, DEVICE_KEY_BYTES); }

status cuda_reserve(device *d, size_t bytes)
{
    if (bytes <= d->scratch_bytes) return COV_OK;
    CUDA_TRY(cudaStreamSynchronize(d->stream));
    CUDA_TRY(cudaFree(d->scratch));
    d->scratch = NULL;
    d->scratch_bytes = 0;
    d->scratch_moves++;
    CUDA_TRY(cudaMalloc(&d->scratch, bytes));
    d->scratch_bytes = bytes;
    return COV_OK;
}

/* The thread that calls may never have seen this device: CUDA keeps the current one by thread. */
static status cuda_alloc(device *d, size_t bytes, void **out)
{
    *out = NULL;
    CUDA_TRY(cudaSetDevice(d->ordinal));
    cudaError_t e = cudaMalloc(out, bytes ? bytes : 1);
    if (e == cudaSuccess) return COV_OK;
    *out = NULL;
    return cuda_fail(e, "cudaMalloc", __FILE__, __LINE__);
}

static void cuda_release(device *d, void *memory)
{
    if (memory == NULL) return;
    cudaSetDevice(d->ordinal);
    cudaFree(memory); /* waits for what still uses it */
}

static status cuda_alloc_host(device *d, size_t bytes, void **out)
{
    *out = NULL;
    CUDA_TRY(cudaSetDevice(d->ordinal));
    cudaError_t e = cudaMallocHost(out, bytes ? bytes : 1);
    if (e == cudaSuccess) return COV_OK;
    *out = NULL;
    return cuda_fail(e, "cudaMallocHost", __FILE__, __LINE__);
}

static void cuda_release_host(device *d, void *memory)
{
    if (memory == NULL) return;
    cudaSetDevice(d->ordinal);
    cudaStreamSynchronize(d->stream);
    cudaFreeHost(memory);
}

/* From pageable memory this returns when the bytes were taken over. */
static status cuda_upload(device *d, void *to, const void *from_host, size_t bytes)
{
    if (!bytes) return COV_OK;
    CUDA_TRY(cudaSetDevice(d->ordinal));
    CUDA_TRY(cudaMemcpyAsync(to, from_host, bytes, cudaMemcpyHostToDevice, d->stream));
    return COV_OK;
}

static status cuda_download(device *d, void *to_host, const void *from, size_t bytes)
{
    if (!bytes) return COV_OK;
    CUDA_TRY(cudaSetDevice(d->ordinal));
    CUDA_TRY(cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, d->stream));
    CUDA_TRY(cudaStreamSynchronize(d->stream));
    return COV_OK;
}

static status cuda_zero(device *d, void *memory, size_t bytes)
{
    if (!bytes) return COV_OK;
    CUDA_TRY(cudaSetDevice(d->ordinal));
    CUDA_TRY(cudaMemsetAsync(memory, 0, bytes, d->stream));
    return COV_OK;
}

static status cuda_sync(device *d)
{
    CUDA_TRY(cudaSetDevice(d->ordinal));
    CUDA_TRY(cudaStreamSynchronize(d->stream));
    return COV_OK;
}

status cuda_plan_alloc(device *d, const op *o, const op_shapes *s, op_pass pass, size_t bytes, plan **out)
{
    plan *p = calloc(1, bytes);
    *out = p;
    if (p == NULL) return COV_FAIL(COV_NOMEM, "no memory for a plan of %s", op_name(o->kind));
    p->d = d;
    p->o = *o;
    p->s = *s;
    p->pass = pass;
    p->bf16 = s->x[0].type == TENSOR_BF16;
    p->way = "own";
    return COV_OK;
}

static void cuda_plan_free(plan **p)
{
    if (p == NULL || *p == NULL) return;
    cudaSetDevice((*p)->d->ordinal);
    if ((*p)->free != NULL) (*p)->free(*p);
    free(*p);
    *p = NULL;
}

typedef status cuda_planner(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
static cuda_planner *const planners[OP_KIND_COUNT] = {
    [OP_CONV] = cuda_conv_plan,         [OP_CONVT] = cuda_conv_plan,       [OP_LINEAR] = cuda_conv_plan,
    [OP_RESIZE] = cuda_resize_plan,     [OP_MAXPOOL] = cuda_pool_plan,     [OP_AVGPOOL] = cuda_pool_plan,
    [OP_GROUPNORM] = cuda_norm_plan,    [OP_BATCHNORM] = cuda_norm_plan,   [OP_CONCAT] = cuda_pointwise_plan,
    [OP_ADD] = cuda_pointwise_plan,     [OP_RELU] = cuda_pointwise_plan,   [OP_SIGMOID] = cuda_pointwise_plan,
    [OP_SOFTMAX] = cuda_pointwise_plan, [OP_LOSS_BCE] = cuda_loss_plan,    [OP_LOSS_DICE] = cuda_loss_plan,
    [OP_LOSS_CE] = cuda_loss_plan,      [OP_LOSS_L1S] = cuda_loss_plan,    [OP_ROIALIGN] = cuda_roialign_plan,
};

static status cuda_plan_new(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    *out = NULL;
    if ((unsigned)o->kind >= OP_KIND_COUNT || planners[o->kind] == NULL)
        return COV_FAIL(COV_UNSUPPORTED, "cuda: no kernel for op %s", op_name(o->kind));
    tensor_type type = s->x[0].type;
    if (type != TENSOR_F32 && type != TENSOR_BF16)
        return COV_FAIL(COV_UNSUPPORTED, "cuda: op %s on type %d, expected F32 or BF16", op_name(o->kind), (int)type);
    CUDA_TRY(cudaSetDevice(d->ordinal));
    status r = planners[o->kind](d, o, s, pass, out);
    if (r == COV_OK) return COV_OK;
    cuda_plan_free(out);
    return status_relay(r, __FILE__, __LINE__);
}

static status cuda_plan_run(plan *p, const op_args *a)
{
    CUDA_TRY(cudaSetDevice(p->d->ordinal));
    return p->run(p, a);
}

static const char *cuda_plan_way(const plan *p) { return p->way; }

static const backend backend_cuda = {
    .name = "cuda",
    .host_memory = 0,
    .open = cuda_open,
    .close = cuda_close,
    .bf16 = cuda_bf16,
    .threads = cuda_threads,
    .device_name = cuda_name,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .alloc_host = cuda_alloc_host,
    .release_host = cuda_release_host,
    .upload = cuda_upload,
    .download = cuda_download,
    .send = cuda_send,
    .arrived = cuda_arrived,
    .send_end = cuda_send_end,
    .zero = cuda_zero,
    .sync = cuda_sync,
    .plan_new = cuda_plan_new,
    .plan_run = cuda_plan_run,
    .plan_free = cuda_plan_free,
    .plan_way = cuda_plan_way,
    .record_begin = cuda_record_begin,
    .record_end = cuda_record_end,
    .replay = cuda_replay,
    .record_free = cuda_record_free,
    .accumulate = cuda_accumulate,
    .convert = cuda_convert,
    .sum_squares = cuda_sum_squares,
    .optim = cuda_optim,
    .crf = cuda_crf,
    .plane_cut = cuda_plane_cut,
    .plane_put = cuda_plane_put,
    .plane_fuse = cuda_plane_fuse,
    .plane_bounds = cuda_plane_bounds,
    .plane_crop = cuda_plane_crop,
    .plane_mark = cuda_plane_mark,
    .plane_near = cuda_plane_near,
    .plane_stack = cuda_plane_stack,
    .plane_keep = cuda_plane_keep,
    .plane_regions = cuda_plane_regions,
    .boxes_select = cuda_boxes_select,
    .boxes_around = cuda_boxes_around,
    .boxes_paste = cuda_boxes_paste,
    .device_key = cuda_key,
    .comm_id = cuda_comm_id,
    .comm_open = cuda_comm_open,
    .comm_close = cuda_comm_close,
    .comm_sum = cuda_comm_sum,
    .comm_finish = cuda_comm_finish,
};

const backend *covpipe_backend(const plugin_abi *program)
{
    static const plugin_abi here = PLUGIN_ABI;
    int same = strcmp(program->version, here.version) == 0 && program->backend == here.backend && program->op == here.op &&
               program->shapes == here.shapes && program->args == here.args && program->crf == here.crf &&
               program->optim == here.optim && program->planes == here.planes && program->part == here.part &&
               program->frame == here.frame && program->slices == here.slices && program->choice == here.choice &&
               program->pasting == here.pasting && program->region == here.region;
    return same ? &backend_cuda : NULL;
}
