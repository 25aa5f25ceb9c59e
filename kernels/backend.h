/* backend: the table that a backend fills (ref, cpu; cuda as a plugin), and the list of those there are.
 * All functions are local, and a device is used by one thread at a time. Memory from alloc is the device's:
 * host code reaches it by upload and download only, except where `host_memory` is 1. Everything runs in order;
 * download and sync wait for what was started before. A backend that lacks an op says so by name in plan_new
 * (COV_UNSUPPORTED); nothing falls back in silence. */
#ifndef COV_KERNELS_BACKEND_H
#define COV_KERNELS_BACKEND_H
#include "kernels/boxes.h"
#include "kernels/crf.h"
#include "kernels/op.h"
#include "kernels/plane.h"
#include "kernels/regions.h"

typedef struct device device; /* a backend's own: threads or GPU, streams, handles */
typedef struct plan plan;     /* a backend's own: one op at one size; primitives, packed weights, workspace */

typedef struct recording recording; /* a backend's own: work that is kept to be run again as one */
typedef struct sending sending; /* a backend's own: host memory on its way to the device */
typedef struct comm comm;     /* a backend's own: this device's place among those of other ranks */
enum { COMM_ID_BYTES = 128, DEVICE_KEY_BYTES = 32, OPTIM_RUN = 64 };

typedef enum op_pass { OP_FORWARD, OP_BACKWARD } op_pass;

typedef struct device_options {
    int threads; /* host threads to use; 0: as many as this process may run on (its affinity mask) */
    int ordinal; /* GPU number on this node, counted round where there are fewer: ranks may share one */
} device_options;

/* Coefficients of one optimiser step, the same formulas on every backend; all arrays F32 of n elements.
 * sgd:   m = momentum*m + (g + decay*w);  w -= rate*m
 * adamw: m = b1*m+(1-b1)*g; v = b2*v+(1-b2)*g*g; w -= rate*(m/(1-b1^t)/(sqrt(v/(1-b2^t))+eps) + decay*w)   */
typedef struct optim_step {
    int adamw; /* 0: sgd */
    float rate, momentum, decay, beta1, beta2, eps;
    int64_t t;        /* 1 for the first step */
    float grad_scale; /* g is multiplied by it first (clipping, ranks) */
} optim_step;

typedef struct backend {
    const char *name;
    int host_memory;

    status (*open)(const device_options *o, device **out);
    void (*close)(device **d);
    int (*bf16)(device *d);    /* 1: bf16 is fast here, and `auto` takes it */
    int (*threads)(device *d); /* host threads in use */
    const char *(*device_name)(device *d); /* "NVIDIA H100"; NULL in a table whose device is the host. Borrowed */

    status (*alloc)(device *d, size_t bytes, void **out); /* 64-byte aligned at least; contents undefined */
    void (*release)(device *d, void *memory);             /* NULL accepted */
    /* Host memory, aligned in the same way, that the device reads and writes fast: an upload from it need not have
     * finished when it returns, and release_host waits for those that have not. */
    status (*alloc_host)(device *d, size_t bytes, void **out);
    void (*release_host)(device *d, void *memory); /* NULL accepted */
    status (*upload)(device *d, void *to, const void *from_host, size_t bytes);
    status (*download)(device *d, void *to_host, const void *from, size_t bytes);
    /* Host memory that goes to the device from its start to its end, piece by piece, beside what the device computes; all NULL in
     * tables with host_memory. send returns when it has begun; both arrays must stay, and no other send be made on the device,
     * until send_end. arrived: what the device is given from now on finds the first `bytes` there. send_end: what is not yet under
     * way stays behind; *s NULL accepted. */
    status (*send)(device *d, void *to, const void *from_host, size_t bytes, sending **out);
    status (*arrived)(sending *s, size_t bytes);
    void (*send_end)(sending **s);
    status (*zero)(device *d, void *memory, size_t bytes);
    status (*sync)(device *d);

    status (*plan_new)(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out);
    status (*plan_run)(plan *p, const op_args *a);
    void (*plan_free)(plan **p);
    const char *(*plan_way)(const plan *p); /* "cudnn", "own": what runs it, for tests and figures; may be NULL. Static */

    /* Recording, all NULL in tables without. What plan_run, zero, accumulate and convert are given between record_begin and
     * record_end does not run but is kept, addresses and all; replay runs it, in order with everything else. Nothing else may
     * be called in between. Where something fails, record_end included, the device is as before record_begin and *out is NULL:
     * the same calls can be made plainly. Plans must have run once before, must outlive the recording, and do in every replay
     * what their parameters' versions made them do then. replay: *done is 0, and nothing was run, where the device's own
     * memory has moved since. record_free: NULL accepted; no replay need have finished. */
    status (*record_begin)(device *d);
    status (*record_end)(device *d, recording **out);
    status (*replay)(recording *r, int *done);
    void (*record_free)(recording **r);

    /* y += x, both of the given type and n elements: gradients that meet at a fork. */
    status (*accumulate)(device *d, tensor_type type, size_t n, const void *x, void *y);
    status (*convert)(device *d, size_t n, tensor_type from, const void *x, tensor_type to, void *y);
    status (*sum_squares)(device *d, size_t n, const float *x, double *out); /* fixed order of summation */
    /* decays (device memory; NULL: all ones): one for each OPTIM_RUN neighbours, 0 where weight decay does not apply. */
    status (*optim)(device *d, const optim_step *o, size_t n, const uint8_t *decays, float *w, const float *g, float *m, float *v);

    status (*crf)(device *d, const crf_options *o, const crf_batch *b);

    /* A volume's planes and parts (plane.h, regions.h). Device memory, dense, borrowed, no two arrays overlap; volume (nz, ny, nx). What
     * their checks refuse is COV_BROKEN, and nothing was written.
     * plane_cut: planes first .. first+count-1 of those in use, as the range shows them, to (count, rows, cols); padding is 0.
     * plane_put: what a network says of these planes, (count, rows, cols), onto the voxels that they stand for: written over in
     *   to (nz, ny, width), whose first column is x0; the others stay. Sagittal: give 8 or more at once, they are neighbours along x.
     * plane_fuse: smooths second (nz, ny, width) along x by two means of `reach` >= 0 voxels to each side and the one between,
     *   fewer at its ends, and blends it into its columns of first (nz, ny, nx). second is used up.
     * plane_bounds: of value (nz, ny, nx), to bound (nz) in host memory; waits for it.
     * plane_crop: a part of the volume, the range as 0 .. 255, to gray, and of value (nz, ny, nx) to `to`; both (n, h, w).
     * plane_mark: mask (nz, ny, nx), in the part alone: 1 where value (n, h, w) is above `least`, else 0.
     * plane_near: near (ny, nx) is 1 within an ellipse of ry x rx pixels around a pixel that is not 0 in mask (ny, nx), else 0.
     * plane_stack: what the frame shows of three slices, to (rows, cols, 3): bilinear, as the range shows it; 0 beyond the
     *   canvas, and where the nearest sample of `near` is 0.
     * plane_keep: what a network says of its input (rows, cols), bilinearly on the slice: to (ny, nx). 0 where it is less than
     *   `least` > 0, where mask (ny, nx) is 0 (NULL: it is 0 nowhere), and where the input shows nothing.
     * plane_regions: regions_sum (regions.h) of value (ny, nx), to the bit: labels (ny, nx) in device memory; *out in host memory,
     *   owned by the caller (free), NULL where there are none; waits for it. */
    status (*plane_cut)(device *d, const plane_set *p, plane_range r, const int16_t *volume, int64_t first, int64_t count, float *to);
    status (*plane_put)(device *d, const plane_set *p, const float *from, int64_t first, int64_t count, float *to);
    status (*plane_fuse)(device *d, const plane_set *p, plane_blend blend, int64_t reach, const int16_t *volume, float *second, float *first);
    status (*plane_bounds)(device *d, int64_t nz, int64_t ny, int64_t nx, const float *value, plane_bound *bound);
    status (*plane_crop)(device *d, const plane_part *p, plane_range r, const int16_t *volume, const float *value, float *gray, float *to);
    status (*plane_mark)(device *d, const plane_part *p, const float *value, float least, uint8_t *mask);
    status (*plane_near)(device *d, int64_t ny, int64_t nx, double ry, double rx, const uint8_t *mask, uint8_t *near);
    status (*plane_stack)(device *d, const plane_frame *f, plane_range r, const plane_slices *s, float *to);
    status (*plane_keep)(device *d, const plane_frame *f, const float *from, float least, const uint8_t *mask, float *to);
    status (*plane_regions)(device *d, int64_t ny, int64_t nx, const float *value, int32_t *labels, region_sum **out, int64_t *count);

    /* Boxes of a detector (boxes.h): all but the structs is device memory, dense, borrowed, no two arrays overlap; nothing is waited
     * for. What boxes.h's checks refuse is COV_BROKEN, and nothing was written.
     * boxes_select: score (images, places, score_step) and delta (images, places, 4) of `type`, from: F32 (images, places, 4), NULL:
     *   the anchors. to: F32 (images, most, 4 or, scored, 5), best first, then zeros.
     * boxes_around: of each image of x (n,h,w,c) the rectangle of the pixels whose `channel` is not 0, y0 x0 y1 x1 to F32 (n,4); the
     *   whole image where none is.
     * boxes_paste: the bytes that boxes_pasting names. */
    status (*boxes_select)(device *d, const boxes_choice *c, int64_t images, tensor_type type, const void *score, const void *delta,
                           const float *from, float *to);
    status (*boxes_around)(device *d, tensor_type type, int64_t n, int64_t h, int64_t w, int64_t c, int64_t channel, const void *x, float *to);
    status (*boxes_paste)(device *d, const boxes_pasting *p);

    /* Sums over the devices of several ranks, all NULL in tables without. Each rank needs a device of its own: device_key
     * (a string) tells those of one node apart. Rank 0 makes an id that all get. Collective: comm_open, comm_sum,
     * comm_finish, in one order on all ranks. What does not answer within the deadline is COV_COMM, never a hang.
     * comm_sum: starts a sum in place, of device memory, the same bits on every rank: after all that the device was given so far,
     *   beside what it is given later, which must leave v alone until comm_finish. Several may be under way.
     * comm_finish: waits for all that were started; what the device is given from then on sees their sums. */
    void (*device_key)(device *d, char key[DEVICE_KEY_BYTES]);
    status (*comm_id)(device *d, void *id);
    status (*comm_open)(device *d, const void *id, int rank, int ranks, double deadline_seconds, comm **out);
    void (*comm_close)(comm **c);
    status (*comm_sum)(comm *c, float *v, size_t n);
    status (*comm_finish)(comm *c);
} backend;

/* The compiled-in backends, one list; and those that are plugins, covpipe-NAME.so, loaded when they are asked for. */
#define BACKENDS(X) X(ref) X(cpu)
#define BACKEND_PLUGINS(X) X(cuda)

/* By name; COV_UNSUPPORTED names those there are, or says why a plugin cannot be loaded. A plugin is looked for in
 * $COVPIPE_PLUGINS, else beside the program, in ../lib/covpipe and in the folder above. Nothing is asked of its devices
 * before open. Borrowed, static. */
status backend_find(const char *name, const backend **out);
/* The k-th compiled-in backend, NULL past the end: for tests that run on every backend. */
const backend *backend_at(int k);
/* An array of the host's, lent to the device: *there is the array itself where the table has host_memory, else device memory
 * of its size, with its contents (whole 1) or undefined. fetch: what is there back into the array. backend_return ends it. */
status backend_lend(const backend *b, device *d, const void *host, size_t bytes, int whole, void **there);
status backend_fetch(const backend *b, device *d, const void *there, size_t bytes, void *host);
void backend_return(const backend *b, device *d, const void *host, void **there); /* *there NULL accepted */
/* b->crf on arrays in host memory, whatever memory the backend has. Same statuses. */
status backend_crf(const backend *b, device *d, const crf_options *o, const crf_batch *batch);
#endif
