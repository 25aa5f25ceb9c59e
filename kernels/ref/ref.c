/* ref: the reference backend's table, its memory (the host's) and the functions on flat arrays.
 * Everything is written to be read beside its formula in kernels/backend.h and kernels/op.h; nothing is fast. */
#include "kernels/ref/ref.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

static status ref_open(const device_options *o, device **out)
{
    (void)o;
    *out = calloc(1, sizeof **out);
    if (!*out) return COV_FAIL(COV_NOMEM, "ref: no memory for a device");
    (*out)->open = 1;
    return COV_OK;
}

static void ref_close(device **d)
{
    if (!d) return;
    free(*d);
    *d = NULL;
}

static int ref_bf16(device *d) { return (void)d, 0; }
static int ref_threads(device *d) { return (void)d, 1; }

static status ref_alloc(device *d, size_t bytes, void **out)
{
    (void)d;
    *out = NULL;
    if (posix_memalign(out, ALIGNMENT, bytes ? bytes : 1) != 0) {
        *out = NULL;
        return COV_FAIL(COV_NOMEM, "ref: no memory for %zu bytes", bytes);
    }
    return COV_OK;
}

static void ref_release(device *d, void *memory)
{
    (void)d;
    free(memory);
}

static status ref_upload(device *d, void *to, const void *from_host, size_t bytes)
{
    (void)d;
    if (bytes) memcpy(to, from_host, bytes);
    return COV_OK;
}

static status ref_download(device *d, void *to_host, const void *from, size_t bytes)
{
    (void)d;
    if (bytes) memcpy(to_host, from, bytes);
    return COV_OK;
}

static status ref_zero(device *d, void *memory, size_t bytes)
{
    (void)d;
    if (bytes) memset(memory, 0, bytes);
    return COV_OK;
}

static status ref_sync(device *d) { return (void)d, COV_OK; }

/* Element i of an array of either activation type. */
static float get(tensor_type type, const void *x, size_t i)
{
    return type == TENSOR_BF16 ? tensor_f32_from_bf16(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

static void put(tensor_type type, void *x, size_t i, float value)
{
    if (type == TENSOR_BF16) ((uint16_t *)x)[i] = tensor_bf16_from_f32(value);
    else ((float *)x)[i] = value;
}

static status check_type(tensor_type type, const char *what)
{
    if (type == TENSOR_F32 || type == TENSOR_BF16) return COV_OK;
    return COV_FAIL(COV_UNSUPPORTED, "ref: %s: tensor type %d is neither F32 nor BF16", what, (int)type);
}

static status ref_accumulate(device *d, tensor_type type, size_t n, const void *x, void *y)
{
    (void)d;
    COV_TRY(check_type(type, "accumulate"));
    for (size_t i = 0; i < n; i++) put(type, y, i, get(type, y, i) + get(type, x, i));
    return COV_OK;
}

static status ref_convert(device *d, size_t n, tensor_type from, const void *x, tensor_type to, void *y)
{
    (void)d;
    COV_TRY(check_type(from, "convert"));
    COV_TRY(check_type(to, "convert"));
    for (size_t i = 0; i < n; i++) put(to, y, i, get(from, x, i));
    return COV_OK;
}

static status ref_sum_squares(device *d, size_t n, const float *x, double *out)
{
    (void)d;
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    *out = sum;
    return COV_OK;
}

static status ref_optim(device *d, const optim_step *o, size_t n, const uint8_t *decays, float *w, const float *g, float *m, float *v)
{
    (void)d;
    /* The bias corrections in double: 1 - 0.999^1 keeps 4 digits only in float. */
    double correct1 = 1 - pow(o->beta1, (double)o->t), correct2 = 1 - pow(o->beta2, (double)o->t);
    for (size_t i = 0; i < n; i++) {
        double grad = (double)g[i] * o->grad_scale, decay = !decays || decays[i / OPTIM_RUN] ? (double)o->decay : 0;
        if (!o->adamw) {
            m[i] = (float)((double)o->momentum * m[i] + grad + decay * w[i]);
            w[i] = (float)(w[i] - (double)o->rate * m[i]);
            continue;
        }
        m[i] = (float)((double)o->beta1 * m[i] + (1 - (double)o->beta1) * grad);
        v[i] = (float)((double)o->beta2 * v[i] + (1 - (double)o->beta2) * grad * grad);
        double step = m[i] / correct1 / (sqrt(v[i] / correct2) + (double)o->eps);
        w[i] = (float)(w[i] - (double)o->rate * (step + decay * w[i]));
    }
    return COV_OK;
}

const backend backend_ref = {
    .name = "ref",
    .host_memory = 1,
    .open = ref_open,
    .close = ref_close,
    .bf16 = ref_bf16,
    .threads = ref_threads,
    .alloc = ref_alloc,
    .release = ref_release,
    .alloc_host = ref_alloc,
    .release_host = ref_release,
    .upload = ref_upload,
    .download = ref_download,
    .zero = ref_zero,
    .sync = ref_sync,
    .plan_new = ref_plan_new,
    .plan_run = ref_plan_run,
    .plan_free = ref_plan_free,
    .accumulate = ref_accumulate,
    .convert = ref_convert,
    .sum_squares = ref_sum_squares,
    .optim = ref_optim,
    .crf = ref_crf,
    .plane_cut = ref_plane_cut,
    .plane_put = ref_plane_put,
    .plane_fuse = ref_plane_fuse,
    .plane_bounds = ref_plane_bounds,
    .plane_crop = ref_plane_crop,
    .plane_mark = ref_plane_mark,
    .plane_near = ref_plane_near,
    .plane_stack = ref_plane_stack,
    .plane_keep = ref_plane_keep,
    .plane_regions = ref_plane_regions,
    .boxes_select = ref_boxes_select,
    .boxes_around = ref_boxes_around,
    .boxes_paste = ref_boxes_paste,
};
