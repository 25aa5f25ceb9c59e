/* cuda: the backend on one NVIDIA GPU, inside view. cuDNN convolves (dnn.h); kernels of our own do everything else.
 *
 * A device holds the GPU's number, one stream on which all its work runs in order, cuDNN's handle, and one scratch area
 * that all plans of the device share: work is in order, so two runs never need it at once. A plan asks for its share
 * with cuda_reserve when it is made. Nothing here waits for the GPU but download, sync, and what returns a number.
 * C files are the host's side; .cu files hold the kernels beside the C functions that launch them. The same sources are
 * compiled once more against tests/emulate, which runs the kernels on the CPU: they use no more of CUDA than that has. */
#ifndef COV_KERNELS_CUDA_CUDA_H
#define COV_KERNELS_CUDA_CUDA_H
#include <cuda_runtime_api.h>
#ifdef __cplusplus
extern "C" {
#endif
#include "base/size.h"
#include "kernels/backend.h"

struct cuda_dnn;

struct device {
    int ordinal, threads, bf16, processors;
    char name[128], key[DEVICE_KEY_BYTES];
    cudaStream_t stream;
    struct cuda_dnn *dnn; /* owned */
    void *scratch;        /* shared by all plans; see cuda_reserve */
    size_t scratch_bytes;
    sending *sending;     /* owned; see send.c. NULL: nothing was sent yet */
    uint64_t scratch_moves; /* how often it got another address: what was recorded before is stale */
};

/* One op at one size. Each kind of op may have its own struct that begins with this one. */
struct plan {
    device *d;
    op o;
    op_shapes s;
    op_pass pass;
    int bf16;        /* of x[0] */
    const char *way; /* "cudnn", "own": what runs it; static */
    status (*run)(plan *p, const op_args *a);
    void (*free)(plan *p); /* frees what the kind's own struct holds, not the struct; may be NULL */
};

/* CUDA's one wrapper: relays its failure as COV_DEVICE, or COV_NOMEM. */
#define CUDA_TRY(call)                                                                       \
    do {                                                                                     \
        cudaError_t cuda_e_ = (call);                                                        \
        if (cuda_e_ != cudaSuccess) return cuda_fail(cuda_e_, #call, __FILE__, __LINE__);    \
    } while (0)
status cuda_fail(cudaError_t e, const char *call, const char *file, int line);

/* Makes the scratch area at least so large. Outside a plan's run only: it waits for the GPU. */
status cuda_reserve(device *d, size_t bytes);
/* Zeroed memory for a plan's struct, base filled in. */
status cuda_plan_alloc(device *d, const op *o, const op_shapes *s, op_pass pass, size_t bytes, plan **out);

/* Planning, one function a family of ops: *out is made by cuda_plan_alloc. */
status cuda_conv_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
status cuda_norm_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
status cuda_pool_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
status cuda_resize_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
status cuda_pointwise_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
status cuda_roialign_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
status cuda_loss_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);

/* The rest of the table that has a file of its own. */
status cuda_accumulate(device *d, tensor_type type, size_t n, const void *x, void *y);
status cuda_convert(device *d, size_t n, tensor_type from, const void *x, tensor_type to, void *y);
status cuda_sum_squares(device *d, size_t n, const float *x, double *out);
status cuda_optim(device *d, const optim_step *o, size_t n, const uint8_t *decays, float *w, const float *g, float *m, float *v);
status cuda_crf(device *d, const crf_options *o, const crf_batch *b);
status cuda_plane_cut(device *d, const plane_set *p, plane_range r, const int16_t *volume, int64_t first, int64_t count, float *to);
status cuda_plane_put(device *d, const plane_set *p, const float *from, int64_t first, int64_t count, float *to);
status cuda_plane_fuse(device *d, const plane_set *p, plane_blend blend, int64_t reach, const int16_t *volume, float *second, float *first);
status cuda_plane_bounds(device *d, int64_t nz, int64_t ny, int64_t nx, const float *value, plane_bound *bound);
status cuda_plane_crop(device *d, const plane_part *p, plane_range r, const int16_t *volume, const float *value, float *gray, float *to);
status cuda_plane_mark(device *d, const plane_part *p, const float *value, float least, uint8_t *mask);
status cuda_plane_near(device *d, int64_t ny, int64_t nx, double ry, double rx, const uint8_t *mask, uint8_t *near);
status cuda_plane_stack(device *d, const plane_frame *f, plane_range r, const plane_slices *s, float *to);
status cuda_plane_keep(device *d, const plane_frame *f, const float *from, float least, const uint8_t *mask, float *to);
status cuda_plane_regions(device *d, int64_t ny, int64_t nx, const float *value, int32_t *labels, region_sum **out, int64_t *count);
status cuda_boxes_select(device *d, const boxes_choice *c, int64_t images, tensor_type type, const void *score, const void *delta,
                         const float *from, float *to);
status cuda_boxes_around(device *d, tensor_type type, int64_t n, int64_t h, int64_t w, int64_t c, int64_t channel, const void *x, float *to);
status cuda_boxes_paste(device *d, const boxes_pasting *p);

/* send.c */
status cuda_send(device *d, void *to, const void *from_host, size_t bytes, sending **out);
status cuda_arrived(sending *s, size_t bytes);
void cuda_send_end(sending **s);
void cuda_send_close(device *d); /* frees what sending took; nothing is under way */

/* record.c: CUDA graphs. */
status cuda_record_begin(device *d);
status cuda_record_end(device *d, recording **out);
status cuda_replay(recording *r, int *done);
void cuda_record_free(recording **r);

/* comm.c: NCCL. */
status cuda_comm_id(device *d, void *id);
status cuda_comm_open(device *d, const void *id, int rank, int ranks, double deadline_seconds, comm **out);
void cuda_comm_close(comm **c);
status cuda_comm_sum(comm *c, float *v, size_t n);
status cuda_comm_finish(comm *c);

/* to = dy where y passed a ReLU, else 0: what the backward pass of a fused ReLU begins with. */
status cuda_relu_cut(device *d, int bf16, size_t n, const void *y, const void *dy, void *to);
#ifdef __cplusplus
}
#endif
#endif
