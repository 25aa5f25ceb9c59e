/* ref: the reference backend, plain loops for every op; the oracle of every op test. Internal header.
 *
 * run.c turns the tensors of a run into float arrays (a BF16 tensor becomes a work copy, rounded back at the end) and
 * does the fused ReLU, so that the ops below see floats only and know neither types nor ReLU. Sums are double.
 * One thread. All functions local; none of the ops can fail. */
#ifndef COV_KERNELS_REF_REF_H
#define COV_KERNELS_REF_REF_H
#include "kernels/backend.h"

struct device {
    int open; /* a backend needs a handle; this one has no state */
};

/* What one op sees. NHWC as in kernels/op.h; sizes in s. An array that is not there, or not wanted, is NULL. */
typedef struct ref_run {
    const op *o;
    const op_shapes *s;
    const float *x[OP_MAX_X]; /* LOSS_CE: x[1] is NULL, see label */
    const int32_t *label;     /* LOSS_CE: (n,h,w,1) */
    float *p[OP_MAX_P];       /* written by a training BATCHNORM's forward only */
    void *saved[OP_MAX_SAVED];
    float *y;            /* forward: out, before the ReLU; backward: in, after it */
    const float *dy;     /* backward: already 0 where the fused ReLU cut; losses: one number */
    float *dx[OP_MAX_X]; /* backward: overwritten */
    float *dp[OP_MAX_P]; /* backward: added to */
} ref_run;

void ref_conv_forward(const ref_run *r); /* CONV, LINEAR */
void ref_conv_backward(const ref_run *r);
void ref_convt_forward(const ref_run *r);
void ref_convt_backward(const ref_run *r);
void ref_resize_forward(const ref_run *r);
void ref_resize_backward(const ref_run *r);
void ref_maxpool_forward(const ref_run *r);
void ref_maxpool_backward(const ref_run *r);
void ref_avgpool_forward(const ref_run *r);
void ref_avgpool_backward(const ref_run *r);
void ref_norm_forward(const ref_run *r); /* GROUPNORM, BATCHNORM */
void ref_norm_backward(const ref_run *r);
void ref_concat_forward(const ref_run *r);
void ref_concat_backward(const ref_run *r);
void ref_add_forward(const ref_run *r);
void ref_add_backward(const ref_run *r);
void ref_relu_forward(const ref_run *r);
void ref_relu_backward(const ref_run *r);
void ref_sigmoid_forward(const ref_run *r);
void ref_sigmoid_backward(const ref_run *r);
void ref_softmax_forward(const ref_run *r);
void ref_softmax_backward(const ref_run *r);
void ref_roialign_forward(const ref_run *r);
void ref_roialign_backward(const ref_run *r);
void ref_loss_bce_forward(const ref_run *r);
void ref_loss_bce_backward(const ref_run *r);
void ref_loss_dice_forward(const ref_run *r);
void ref_loss_dice_backward(const ref_run *r);
void ref_loss_ce_forward(const ref_run *r);
void ref_loss_ce_backward(const ref_run *r);
void ref_loss_l1s_forward(const ref_run *r);
void ref_loss_l1s_backward(const ref_run *r);

/* run.c: the plan functions of the backend table. */
status ref_plan_new(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
status ref_plan_run(plan *p, const op_args *a);
void ref_plan_free(plan **p);

/* crf.c: the exact O(N^2) CRF, see kernels/crf.h. */
status ref_crf(device *d, const crf_options *o, const crf_batch *b);

/* plane.c: planes and parts of a volume, see kernels/plane.h. */
status ref_plane_cut(device *d, const plane_set *p, plane_range r, const int16_t *volume, int64_t first, int64_t count, float *to);
status ref_plane_put(device *d, const plane_set *p, const float *from, int64_t first, int64_t count, float *to);
status ref_plane_fuse(device *d, const plane_set *p, plane_blend blend, int64_t reach, const int16_t *volume, float *second, float *first);
status ref_plane_bounds(device *d, int64_t nz, int64_t ny, int64_t nx, const float *value, plane_bound *bound);
status ref_plane_crop(device *d, const plane_part *p, plane_range r, const int16_t *volume, const float *value, float *gray, float *to);
status ref_plane_mark(device *d, const plane_part *p, const float *value, float least, uint8_t *mask);
status ref_plane_near(device *d, int64_t ny, int64_t nx, double ry, double rx, const uint8_t *mask, uint8_t *near);
status ref_plane_stack(device *d, const plane_frame *f, plane_range r, const plane_slices *s, float *to);
status ref_plane_keep(device *d, const plane_frame *f, const float *from, float least, const uint8_t *mask, float *to);
status ref_plane_regions(device *d, int64_t ny, int64_t nx, const float *value, int32_t *labels, region_sum **out, int64_t *count);
status ref_boxes_select(device *d, const boxes_choice *c, int64_t images, tensor_type type, const void *score, const void *delta,
                        const float *from, float *to);
status ref_boxes_around(device *d, tensor_type type, int64_t n, int64_t h, int64_t w, int64_t c, int64_t channel, const void *x, float *to);
status ref_boxes_paste(device *d, const boxes_pasting *p);

/* All elements of a shape that op_infer has accepted. */
static inline int64_t ref_count(tensor_shape s) { return s.n * s.h * s.w * s.c; }
/* Offset of (n,y,x,0). */
static inline int64_t ref_at(tensor_shape s, int64_t n, int64_t y, int64_t x)
{
    return ((n * s.h + y) * s.w + x) * s.c;
}
#endif
