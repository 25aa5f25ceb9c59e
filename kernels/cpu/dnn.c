/* dnn: oneDNN's primitives, reorders and errors in our own terms; see dnn.h. Memory objects are made without
 * data and get their pointers at each run, so that a run allocates nothing. */
#include "kernels/cpu/dnn.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

status cpu_dnn_fail(dnnl_status_t s, const char *call, const char *file, int line)
{
    static const char *const names[] = {"success", "out of memory", "invalid arguments", "unimplemented",
                                        "iterator ends", "runtime error", "not required"};
    const char *name = (unsigned)s < sizeof names / sizeof *names ? names[s] : "unknown";
    status r = s == dnnl_out_of_memory ? COV_NOMEM : s == dnnl_unimplemented ? COV_UNSUPPORTED : COV_DEVICE;
    return status_fail(r, file, line, "oneDNN: %s: %.120s", name, call);
}

/* Large pieces start on a huge page and ask for huge pages: fewer faults and TLB misses. */
status cpu_memory_new(size_t bytes, void **out)
{
    const size_t huge = (size_t)2 << 20, small = 64;
    size_t align = bytes >= huge ? huge : small;
    *out = NULL;
    if (bytes > SIZE_MAX - huge) return COV_FAIL(COV_NOMEM, "%zu bytes asked of the cpu backend", bytes);
    size_t whole = (bytes + align - 1) / align * align;
    if (whole == 0) whole = align;
    void *m = aligned_alloc(align, whole);
    if (m == NULL) return COV_FAIL(COV_NOMEM, "no memory for %zu bytes", bytes);
    if (align == huge) madvise(m, whole, MADV_HUGEPAGE);
    *out = m;
    return COV_OK;
}

dnnl_data_type_t cpu_dnn_type(tensor_type t)
{
    return t == TENSOR_BF16 ? dnnl_bf16 : t == TENSOR_I32 ? dnnl_s32 : t == TENSOR_U8 ? dnnl_u8 : dnnl_f32;
}

status cpu_md_nhwc(const tensor_shape *s, dnnl_memory_desc_t *out)
{
    const dnnl_dims_t dims = {s->n, s->c, s->h, s->w};
    CPU_DNN(dnnl_memory_desc_init_by_tag(out, 4, dims, cpu_dnn_type(s->type), dnnl_nhwc));
    return COV_OK;
}

/* User-mode scratchpad, and the ReLU. */
static status dnn_attr(int relu, int add, dnnl_primitive_attr_t *out)
{
    dnnl_post_ops_t post = NULL;
    CPU_DNN(dnnl_primitive_attr_create(out));
    CPU_DNN(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user));
    if (!relu && !add) return COV_OK;
    CPU_DNN(dnnl_post_ops_create(&post));
    dnnl_status_t s = add ? dnnl_post_ops_append_sum(post, 1.0f)
                          : dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
    if (s == dnnl_success) s = dnnl_primitive_attr_set_post_ops(*out, post);
    dnnl_post_ops_destroy(post);
    CPU_DNN(s);
    return COV_OK;
}

/* From out->desc: the primitive, a memory object for each argument, the scratchpad's reservation. */
static status dnn_prim_finish(device *d, const int *args, int count, cpu_prim *out)
{
    CPU_DNN(dnnl_primitive_create(&out->prim, out->desc));
    for (int i = 0; i < count; i++) {
        const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(out->desc, dnnl_query_exec_arg_md, args[i]);
        if (md == NULL) return COV_FAIL(COV_DEVICE, "oneDNN: no descriptor for argument %d", args[i]);
        out->arg[i].arg = args[i];
        CPU_DNN(dnnl_memory_create(&out->arg[i].memory, md, d->engine, DNNL_MEMORY_NONE));
        out->count = i + 1;
    }
    const dnnl_memory_desc_t *pad = dnnl_primitive_desc_query_md(out->desc, dnnl_query_scratchpad_md, 0);
    size_t bytes = pad != NULL ? dnnl_memory_desc_get_size(pad) : 0;
    if (bytes == 0) return COV_OK;
    COV_TRY(cpu_reserve(d, bytes));
    out->arg[count].arg = DNNL_ARG_SCRATCHPAD;
    CPU_DNN(dnnl_memory_create(&out->arg[count].memory, pad, d->engine, DNNL_MEMORY_NONE));
    out->scratchpad = 1;
    out->scratch_bytes = bytes;
    return COV_OK;
}

static int dnn_has_tiles(const_dnnl_primitive_desc_t p)
{
    const char *name = NULL;
    return dnnl_primitive_desc_query(p, dnnl_query_impl_info_str, 0, &name) == dnnl_success && strstr(name, "amx") != NULL;
}

/* The first of oneDNN's implementations, or the second; see CPU_PRIM_SECOND. */
static dnnl_status_t dnn_choose(dnnl_primitive_desc_iterator_t list, int second, dnnl_primitive_desc_t *out)
{
    *out = dnnl_primitive_desc_iterator_fetch(list);
    if (*out == NULL) return dnnl_out_of_memory;
    if (!second || dnnl_primitive_desc_iterator_next(list) != dnnl_success) return dnnl_success;
    dnnl_primitive_desc_t other = dnnl_primitive_desc_iterator_fetch(list);
    if (other == NULL) return dnnl_success;
    const int better = dnn_has_tiles(other);
    dnnl_primitive_desc_destroy(better ? *out : other);
    if (better) *out = other;
    return dnnl_success;
}

status cpu_prim_new(device *d, const_dnnl_op_desc_t desc, int how, const_dnnl_primitive_desc_t hint, const int *args,
                    int count, cpu_prim *out)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_iterator_t list = NULL;
    status s;
    memset(out, 0, sizeof *out);
    if (count > CPU_PRIM_ARGS) return COV_FAIL(COV_BROKEN, "%d arguments for a primitive", count);
    COV_GO(dnn_attr((how & CPU_PRIM_RELU) != 0, 0, &attr));
    dnnl_status_t r = dnnl_primitive_desc_iterator_create(&list, desc, attr, d->engine, hint);
    if (r == dnnl_success) r = dnn_choose(list, (how & CPU_PRIM_SECOND) != 0, &out->desc);
    if (r != dnnl_success) s = cpu_dnn_fail(r, "dnnl_primitive_desc_iterator_create", __FILE__, __LINE__);
    else s = dnn_prim_finish(d, args, count, out);
done:
    if (list != NULL) dnnl_primitive_desc_iterator_destroy(list);
    if (attr != NULL) dnnl_primitive_attr_destroy(attr);
    if (s != COV_OK) cpu_prim_free(out);
    return s;
}

status cpu_reorder_new(device *d, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to, int add, cpu_prim *out)
{
    const int args[] = {DNNL_ARG_FROM, DNNL_ARG_TO};
    dnnl_primitive_attr_t attr = NULL;
    status s;
    memset(out, 0, sizeof *out);
    COV_GO(dnn_attr(0, add, &attr));
    dnnl_status_t r = dnnl_reorder_primitive_desc_create(&out->desc, from, d->engine, to, d->engine, attr);
    if (r != dnnl_success) s = cpu_dnn_fail(r, "dnnl_reorder_primitive_desc_create", __FILE__, __LINE__);
    else s = dnn_prim_finish(d, args, 2, out);
done:
    if (attr != NULL) dnnl_primitive_attr_destroy(attr);
    if (s != COV_OK) cpu_prim_free(out);
    return s;
}

status cpu_prim_run(device *d, cpu_prim *p, void *const *data)
{
    for (int i = 0; i < p->count; i++) CPU_DNN(dnnl_memory_set_data_handle(p->arg[i].memory, data[i]));
    if (p->scratchpad) CPU_DNN(dnnl_memory_set_data_handle(p->arg[p->count].memory, d->scratch));
    CPU_DNN(dnnl_primitive_execute(p->prim, d->stream, p->count + p->scratchpad, p->arg));
    return COV_OK;
}

void cpu_prim_free(cpu_prim *p)
{
    for (int i = 0; i <= CPU_PRIM_ARGS; i++)
        if (p->arg[i].memory != NULL) dnnl_memory_destroy(p->arg[i].memory);
    if (p->prim != NULL) dnnl_primitive_destroy(p->prim);
    if (p->desc != NULL) dnnl_primitive_desc_destroy(p->desc);
    memset(p, 0, sizeof *p);
}

status cpu_pack_new(device *d, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to, cpu_pack *out)
{
    memset(out, 0, sizeof *out);
    if (dnnl_memory_desc_equal(from, to)) return COV_OK;
    COV_TRY(cpu_memory_new(dnnl_memory_desc_get_size(to), &out->data));
    return cpu_reorder_new(d, from, to, 0, &out->reorder);
}

status cpu_pack_get(device *d, cpu_pack *k, const tensor *w, void **out)
{
    *out = k->reorder.prim != NULL ? k->data : w->data;
    if (k->reorder.prim == NULL) return COV_OK;
    if (w->version != 0 && k->source == w->data && k->version == w->version) return COV_OK;
    void *const data[] = {w->data, k->data};
    k->source = NULL;
    COV_TRY(cpu_prim_run(d, &k->reorder, data));
    k->source = w->data;
    k->version = w->version;
    return COV_OK;
}

void cpu_pack_free(cpu_pack *k)
{
    cpu_prim_free(&k->reorder);
    free(k->data);
    memset(k, 0, sizeof *k);
}
