/* cpu: the backend on the host's cores, inside view. oneDNN does convolutions, matrix products, pooling;
 * our own vectorised loops do norms, element-wise ops, losses and the optimiser.
 *
 * A device holds the thread count, oneDNN's engine and stream, and one scratch area that all plans of the
 * device share (a device is used by one thread at a time, so two plans never need it at once). Plans ask for
 * their share with cpu_reserve when they are made; only a plan_new may move the area, never a plan_run.
 * Own reductions use fixed blocks, so that the number of threads does not change a result in inference. */
#ifndef COV_KERNELS_CPU_CPU_H
#define COV_KERNELS_CPU_CPU_H
#include "kernels/backend.h"
#include <oneapi/dnnl/dnnl.h>

struct device {
    int threads;
    int isa;  /* which version of our own loops runs: see vec.h */
    int bf16; /* 1: the processor multiplies bf16 by itself (avx512_bf16) */
    int amx;  /* 1: it has tiles for products in bf16, and this process may use them */
    int bf16_layers; /* 1: oneDNN has convolutions in bf16 (AVX-512) */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    void *scratch; /* shared by all plans; see cpu_reserve */
    size_t scratch_bytes;
};

/* One op at one size. Each kind of op has its own struct that begins with this one. */
struct plan {
    device *d;
    op o;
    op_shapes s;
    op_pass pass;
    int threads; /* of OpenMP, as oneDNN sees them, when planned and when run */
    status (*run)(plan *p, const op_args *a);
    void (*free)(plan *p); /* frees what the kind's own struct holds, not the struct; may be NULL */
};

/* oneDNN's one wrapper: relays its failure as COV_DEVICE (COV_NOMEM, COV_UNSUPPORTED where it says so). */
#define CPU_DNN(call)                                                                     \
    do {                                                                                  \
        dnnl_status_t cpu_s_ = (call);                                                    \
        if (cpu_s_ != dnnl_success) return cpu_dnn_fail(cpu_s_, #call, __FILE__, __LINE__); \
    } while (0)
status cpu_dnn_fail(dnnl_status_t s, const char *call, const char *file, int line);

/* Makes the scratch area at least so large. For plan_new only. */
status cpu_reserve(device *d, size_t bytes);
/* Zeroed memory for a plan's struct, base filled in. */
status cpu_plan_alloc(device *d, const op *o, const op_shapes *s, op_pass pass, size_t bytes, plan **out);

/* Planning, one function a family of ops: *out is made by cpu_plan_alloc. */
status cpu_conv_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
status cpu_widen_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out); /* CONV, CONVT, LINEAR in bf16 */
status cpu_norm_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
status cpu_pool_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
status cpu_resize_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
status cpu_pointwise_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
status cpu_roialign_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
status cpu_loss_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);

/* The rest of the table that has a file of its own. */
status cpu_accumulate(device *d, tensor_type type, size_t n, const void *x, void *y);
status cpu_convert(device *d, size_t n, tensor_type from, const void *x, tensor_type to, void *y);
status cpu_sum_squares(device *d, size_t n, const float *x, double *out);
status cpu_optim(device *d, const optim_step *o, size_t n, const uint8_t *decays, float *w, const float *g, float *m, float *v);
status cpu_crf(device *d, const crf_options *o, const crf_batch *b);
status cpu_plane_cut(device *d, const plane_set *p, plane_range r, const int16_t *volume, int64_t first, int64_t count, float *to);
status cpu_plane_put(device *d, const plane_set *p, const float *from, int64_t first, int64_t count, float *to);
status cpu_plane_fuse(device *d, const plane_set *p, plane_blend blend, int64_t reach, const int16_t *volume, float *second, float *first);
status cpu_plane_bounds(device *d, int64_t nz, int64_t ny, int64_t nx, const float *value, plane_bound *bound);
status cpu_plane_crop(device *d, const plane_part *p, plane_range r, const int16_t *volume, const float *value, float *gray, float *to);
status cpu_plane_mark(device *d, const plane_part *p, const float *value, float least, uint8_t *mask);
status cpu_plane_near(device *d, int64_t ny, int64_t nx, double ry, double rx, const uint8_t *mask, uint8_t *near);
status cpu_plane_stack(device *d, const plane_frame *f, plane_range r, const plane_slices *s, float *to);
status cpu_plane_keep(device *d, const plane_frame *f, const float *from, float least, const uint8_t *mask, float *to);
status cpu_plane_regions(device *d, int64_t ny, int64_t nx, const float *value, int32_t *labels, region_sum **out, int64_t *count);
status cpu_boxes_select(device *d, const boxes_choice *c, int64_t images, tensor_type type, const void *score, const void *delta,
                        const float *from, float *to);
status cpu_boxes_around(device *d, tensor_type type, int64_t n, int64_t h, int64_t w, int64_t c, int64_t channel, const void *x, float *to);
status cpu_boxes_paste(device *d, const boxes_pasting *p);
#endif
