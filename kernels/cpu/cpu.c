/* cpu: the backend's table: device, memory, and the dispatch of plans to the file of their family; see cpu.h. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dnn.h"
#include "kernels/cpu/vec.h"
#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

extern const backend backend_cpu;

static int cpu_affinity_count(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    return n > 0 ? n : 1;
}

static void cpu_close(device **d)
{
    if (d == NULL || *d == NULL) return;
    if ((*d)->stream != NULL) dnnl_stream_destroy((*d)->stream);
    if ((*d)->engine != NULL) dnnl_engine_destroy((*d)->engine);
    free((*d)->scratch);
    free(*d);
    *d = NULL;
}

static status cpu_open_engine(device *d)
{
    CPU_DNN(dnnl_engine_create(&d->engine, dnnl_cpu, 0));
    CPU_DNN(dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags));
    return COV_OK;
}

static status cpu_open(const device_options *o, device **out)
{
    *out = NULL;
    if (o->threads < 0) return COV_FAIL(COV_USAGE, "%d threads, expected 0 (all) or more", o->threads);
    device *d = calloc(1, sizeof *d);
    if (d == NULL) return COV_FAIL(COV_NOMEM, "no memory for a device");
    d->threads = o->threads > 0 ? o->threads : cpu_affinity_count();
    d->isa = vec_isa();
    d->bf16 = __builtin_cpu_supports("avx512bf16") != 0;
    d->amx = d->isa == 2 && vec_amx();
    d->bf16_layers = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    omp_set_num_threads(d->threads);
    status s = cpu_open_engine(d);
    if (s != COV_OK) cpu_close(&d);
    *out = d;
    return s;
}

static int cpu_bf16(device *d) { return d->bf16; }
static int cpu_threads(device *d) { return d->threads; }

status cpu_reserve(device *d, size_t bytes)
{
    if (bytes <= d->scratch_bytes) return COV_OK;
    free(d->scratch);
    d->scratch = NULL;
    d->scratch_bytes = 0;
    COV_TRY(cpu_memory_new(bytes, &d->scratch));
    d->scratch_bytes = bytes;
    return COV_OK;
}

static status cpu_alloc(device *d, size_t bytes, void **out)
{
    (void)d;
    return cpu_memory_new(bytes, out);
}

static void cpu_release(device *d, void *memory)
{
    (void)d;
    free(memory);
}

static status cpu_upload(device *d, void *to, const void *from_host, size_t bytes)
{
    (void)d;
    memcpy(to, from_host, bytes);
    return COV_OK;
}

static status cpu_download(device *d, void *to_host, const void *from, size_t bytes)
{
    (void)d;
    memcpy(to_host, from, bytes);
    return COV_OK;
}

static status cpu_zero(device *d, void *memory, size_t bytes)
{
    (void)d;
    memset(memory, 0, bytes);
    return COV_OK;
}

static status cpu_sync(device *d)
{
    CPU_DNN(dnnl_stream_wait(d->stream));
    return COV_OK;
}

status cpu_plan_alloc(device *d, const op *o, const op_shapes *s, op_pass pass, size_t bytes, plan **out)
{
    plan *p = calloc(1, bytes);
    *out = p;
    if (p == NULL) return COV_FAIL(COV_NOMEM, "no memory for a plan of %s", op_name(o->kind));
    p->d = d;
    p->o = *o;
    p->s = *s;
    p->pass = pass;
    return COV_OK;
}

static void cpu_plan_free(plan **p)
{
    if (p == NULL || *p == NULL) return;
    if ((*p)->free != NULL) (*p)->free(*p);
    free(*p);
    *p = NULL;
}

typedef status cpu_planner(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
static cpu_planner *const cpu_planners[OP_KIND_COUNT] = {
    [OP_CONV] = cpu_conv_plan,         [OP_CONVT] = cpu_conv_plan,       [OP_LINEAR] = cpu_conv_plan,
    [OP_RESIZE] = cpu_resize_plan,     [OP_MAXPOOL] = cpu_pool_plan,     [OP_AVGPOOL] = cpu_pool_plan,
    [OP_GROUPNORM] = cpu_norm_plan,    [OP_BATCHNORM] = cpu_norm_plan,   [OP_CONCAT] = cpu_pointwise_plan,
    [OP_ADD] = cpu_pointwise_plan,     [OP_RELU] = cpu_pointwise_plan,   [OP_SIGMOID] = cpu_pointwise_plan,
    [OP_SOFTMAX] = cpu_pointwise_plan, [OP_LOSS_BCE] = cpu_loss_plan,    [OP_LOSS_DICE] = cpu_loss_plan,
    [OP_LOSS_CE] = cpu_loss_plan,      [OP_LOSS_L1S] = cpu_loss_plan,    [OP_ROIALIGN] = cpu_roialign_plan,
};

/* A tiny layer is done before a second thread wakes up; and oneDNN has ways for tiny ones whose sums follow the number of
 * threads, which must not show in a result. */
static int cpu_threads_for(const device *d, const op *o, const op_shapes *s)
{
    const double flops = op_flops(o, s);
    return flops > 0 && flops < 1e6 ? 1 : d->threads;
}

static status cpu_plan_new(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    *out = NULL;
    if ((unsigned)o->kind >= OP_KIND_COUNT || cpu_planners[o->kind] == NULL)
        return COV_FAIL(COV_UNSUPPORTED, "cpu: no kernel for op %s", op_name(o->kind));
    tensor_type type = s->x[0].type;
    if (type != TENSOR_F32 && type != TENSOR_BF16)
        return COV_FAIL(COV_UNSUPPORTED, "cpu: op %s on type %d, expected F32 or BF16", op_name(o->kind), (int)type);
    const int threads = cpu_threads_for(d, o, s);
    omp_set_num_threads(threads);
    status r = cpu_planners[o->kind](d, o, s, pass, out);
    if (r != COV_OK) {
        cpu_plan_free(out);
        return status_relay(r, __FILE__, __LINE__);
    }
    (*out)->threads = threads;
    return COV_OK;
}

static status cpu_plan_run(plan *p, const op_args *a)
{
    omp_set_num_threads(p->threads);
    return p->run(p, a);
}

const backend backend_cpu = {
    .name = "cpu",
    .host_memory = 1,
    .open = cpu_open,
    .close = cpu_close,
    .bf16 = cpu_bf16,
    .threads = cpu_threads,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .alloc_host = cpu_alloc,
    .release_host = cpu_release,
    .upload = cpu_upload,
    .download = cpu_download,
    .zero = cpu_zero,
    .sync = cpu_sync,
    .plan_new = cpu_plan_new,
    .plan_run = cpu_plan_run,
    .plan_free = cpu_plan_free,
    .accumulate = cpu_accumulate,
    .convert = cpu_convert,
    .sum_squares = cpu_sum_squares,
    .optim = cpu_optim,
    .crf = cpu_crf,
    .plane_cut = cpu_plane_cut,
    .plane_put = cpu_plane_put,
    .plane_fuse = cpu_plane_fuse,
    .plane_bounds = cpu_plane_bounds,
    .plane_crop = cpu_plane_crop,
    .plane_mark = cpu_plane_mark,
    .plane_near = cpu_plane_near,
    .plane_stack = cpu_plane_stack,
    .plane_keep = cpu_plane_keep,
    .plane_regions = cpu_plane_regions,
    .boxes_select = cpu_boxes_select,
    .boxes_around = cpu_boxes_around,
    .boxes_paste = cpu_boxes_paste,
};
