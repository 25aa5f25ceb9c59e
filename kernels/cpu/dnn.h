/* dnn: what the cpu backend's files share of oneDNN 2.6: a primitive with its memory objects, and weights
 * packed into the layout that a primitive likes best.
 *
 * Descriptors of activations are dense NHWC given as oneDNN's logical (n,c,h,w); weights are left to the
 * primitive (`any`) and packed by a reorder, once for each (pointer, version) of the parameter. */
#ifndef COV_KERNELS_CPU_DNN_H
#define COV_KERNELS_CPU_DNN_H
#include "kernels/cpu/cpu.h"

enum { CPU_PRIM_ARGS = 5 };

/* A primitive, its arguments' memory objects (without data until a run) and its share of the scratch area. */
typedef struct cpu_prim {
    dnnl_primitive_t prim; /* NULL: not made */
    dnnl_primitive_desc_t desc;
    int count;                                  /* arguments that the caller gives */
    dnnl_exec_arg_t arg[CPU_PRIM_ARGS + 1];     /* the last is the scratchpad, where there is one */
    int scratchpad;                             /* 1: arg[count] is the scratchpad, at the start of the scratch area */
    size_t scratch_bytes;                       /* its size */
} cpu_prim;

/* `args`: count DNNL_ARG_ numbers, in the order in which run takes the data. hint: the forward descriptor, or NULL.
 * Reserves the scratchpad. */
enum {
    CPU_PRIM_RELU = 1,  /* fuses a ReLU after it */
    CPU_PRIM_SECOND = 2 /* takes oneDNN's second choice instead of its first, if that is for AMX tiles, too */
};
status cpu_prim_new(device *d, const_dnnl_op_desc_t desc, int how, const_dnnl_primitive_desc_t hint, const int *args,
                    int count, cpu_prim *out);
status cpu_prim_run(device *d, cpu_prim *p, void *const *data);
void cpu_prim_free(cpu_prim *p);

/* A reorder from one layout to another, packing or unpacking; add: 1 adds to what is there. */
status cpu_reorder_new(device *d, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to, int add, cpu_prim *out);

/* Weights in a primitive's own layout, kept as long as pointer and version stay. */
typedef struct cpu_pack {
    cpu_prim reorder; /* not made: the layouts agree, the parameter is used as it is */
    void *data;       /* owned */
    const void *source;
    uint64_t version;
} cpu_pack;
status cpu_pack_new(device *d, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to, cpu_pack *out);
status cpu_pack_get(device *d, cpu_pack *k, const tensor *w, void **out);
void cpu_pack_free(cpu_pack *k);

/* Dense NHWC as (n,c,h,w); rows x c as (rows,c). */
status cpu_md_nhwc(const tensor_shape *s, dnnl_memory_desc_t *out);
dnnl_data_type_t cpu_dnn_type(tensor_type t);
status cpu_memory_new(size_t bytes, void **out);
#endif
