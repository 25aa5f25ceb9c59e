/* pointwise: ops that touch every element once: add, ReLU, sigmoid, softmax over channels, concat, and the
 * table's accumulate, convert and sum_squares. All are bound by memory: pieces of VEC_PIECE elements are dealt
 * to threads, a leaf kernel runs over each. */
#include "kernels/cpu/vec.h"
#include <math.h>
#include <stdlib.h>

typedef struct pointwise_plan {
    plan base;
    size_t count; /* elements of y */
    int64_t rows;
} pointwise_plan;

/* A leaf over n elements from element `at` of each array; a, b inputs, y output. */
typedef void pointwise_leaf(int bf16, size_t at, size_t n, const void *a, const void *b, void *y);

static void pointwise_each(const device *d, pointwise_leaf *leaf, int bf16, size_t n, const void *a, const void *b, void *y)
{
    const size_t pieces = (n + VEC_PIECE - 1) / VEC_PIECE;
#pragma omp parallel for schedule(static) num_threads(d->threads) if (pieces > 1)
    for (size_t k = 0; k < pieces; k++) {
        size_t at = k * VEC_PIECE;
        leaf(bf16, at, n - at < VEC_PIECE ? n - at : VEC_PIECE, a, b, y);
    }
}

#define VEC_BODY "kernels/cpu/pointwise_body.h"
#include "kernels/cpu/vec_isas.h"

VEC_TABLE(pointwise_leaf, leaf_add);
VEC_TABLE(pointwise_leaf, leaf_add_relu);
VEC_TABLE(pointwise_leaf, leaf_relu);
VEC_TABLE(pointwise_leaf, leaf_mask);
VEC_TABLE(pointwise_leaf, leaf_sigmoid);
VEC_TABLE(pointwise_leaf, leaf_sigmoid_back);

void vec_mask(device *d, tensor_type type, size_t n, const void *y, const void *dy, void *out)
{
    pointwise_each(d, VEC_PICK(d, leaf_mask), type == TENSOR_BF16, n, y, dy, out);
}

typedef void leaf_bias_type(int bf16, size_t at, size_t n, const float *bias, size_t lanes, int relu, void *y);
typedef void leaf_columns_type(int bf16, size_t at, size_t n, size_t lanes, const void *y, float *sum);
VEC_TABLE(leaf_bias_type, leaf_bias);
VEC_TABLE(leaf_columns_type, leaf_columns);

/* Elements of a piece that ends where a pixel and a vector do. */
static size_t pointwise_run(size_t lanes) { return VEC_PIECE > lanes ? VEC_PIECE / lanes * lanes : lanes; }

status vec_bias(device *d, tensor_type type, int64_t rows, int64_t c, const float *bias, int relu, void *y)
{
    const size_t lanes = (size_t)vec_lanes(c), n = (size_t)(rows * c), run = pointwise_run(lanes), pieces = (n + run - 1) / run;
    leaf_bias_type *leaf = VEC_PICK(d, leaf_bias);
    float *spread = malloc(lanes * sizeof *spread);
    if (spread == NULL) return COV_FAIL(COV_NOMEM, "no memory for a bias of %zu", lanes);
    for (size_t k = 0; k < lanes; k++) spread[k] = bias[k % (size_t)c];
#pragma omp parallel for schedule(static) num_threads(d->threads) if (pieces > 1)
    for (size_t k = 0; k < pieces; k++)
        leaf(type == TENSOR_BF16, k * run, n - k * run < run ? n - k * run : run, spread, lanes, relu, y);
    free(spread);
    return COV_OK;
}

status vec_column_sums(device *d, tensor_type type, int64_t rows, int64_t c, const void *y, float *sum)
{
    const size_t lanes = (size_t)vec_lanes(c), n = (size_t)(rows * c), run = pointwise_run(lanes), pieces = (n + run - 1) / run;
    leaf_columns_type *leaf = VEC_PICK(d, leaf_columns);
    float *part = calloc(pieces * lanes, sizeof *part);
    if (part == NULL) return COV_FAIL(COV_NOMEM, "no memory for %zu partial sums", pieces);
#pragma omp parallel for schedule(static) num_threads(d->threads) if (pieces > 1)
    for (size_t k = 0; k < pieces; k++)
        leaf(type == TENSOR_BF16, k * run, n - k * run < run ? n - k * run : run, lanes, y, part + k * lanes);
    for (int64_t j = 0; j < c; j++) {
        double total = 0;
        for (size_t k = (size_t)j; k < pieces * lanes; k += (size_t)c) total += (double)part[k];
        sum[j] += (float)total;
    }
    free(part);
    return COV_OK;
}

status cpu_accumulate(device *d, tensor_type type, size_t n, const void *x, void *y)
{
    if (type != TENSOR_F32 && type != TENSOR_BF16) return COV_FAIL(COV_UNSUPPORTED, "cpu: accumulate on type %d", (int)type);
    pointwise_each(d, VEC_PICK(d, leaf_add), type == TENSOR_BF16, n, x, y, y);
    return COV_OK;
}

typedef void leaf_convert(size_t n, int from_bf16, const void *x, void *y);
typedef double leaf_sum(size_t n, const float *x);
VEC_TABLE(leaf_convert, leaf_retype);
VEC_TABLE(leaf_sum, leaf_sum_squares);

status cpu_convert(device *d, size_t n, tensor_type from, const void *x, tensor_type to, void *y)
{
    const int narrow = from == TENSOR_F32 && to == TENSOR_BF16, widen = from == TENSOR_BF16 && to == TENSOR_F32;
    if (from == to) {
        memcpy(y, x, n * tensor_type_bytes(from));
        return COV_OK;
    }
    if (!narrow && !widen) return COV_FAIL(COV_UNSUPPORTED, "cpu: convert type %d to %d", (int)from, (int)to);
    const size_t pieces = (n + VEC_PIECE - 1) / VEC_PIECE;
#pragma omp parallel for schedule(static) num_threads(d->threads) if (pieces > 1)
    for (size_t k = 0; k < pieces; k++) {
        size_t at = k * VEC_PIECE, m = n - at < VEC_PIECE ? n - at : VEC_PIECE;
        VEC_PICK(d, leaf_retype)(m, widen, (const char *)x + vec_bytes(widen, at), (char *)y + vec_bytes(narrow, at));
    }
    return COV_OK;
}

status cpu_sum_squares(device *d, size_t n, const float *x, double *out)
{
    const size_t pieces = (n + VEC_PIECE - 1) / VEC_PIECE;
    double *part = malloc((pieces > 0 ? pieces : 1) * sizeof *part);
    if (part == NULL) return COV_FAIL(COV_NOMEM, "no memory for %zu partial sums", pieces);
#pragma omp parallel for schedule(static) num_threads(d->threads) if (pieces > 1)
    for (size_t k = 0; k < pieces; k++) {
        size_t at = k * VEC_PIECE;
        part[k] = VEC_PICK(d, leaf_sum_squares)(n - at < VEC_PIECE ? n - at : VEC_PIECE, x + at);
    }
    *out = 0;
    for (size_t k = 0; k < pieces; k++) *out += part[k];
    free(part);
    return COV_OK;
}

static status pointwise_binary_run(plan *base, const op_args *a)
{
    pointwise_plan *p = (pointwise_plan *)base;
    const int bf16 = base->s.y.type == TENSOR_BF16;
    const device *d = base->d;
    pointwise_leaf *leaf = base->o.kind == OP_ADD && base->o.relu ? VEC_PICK(d, leaf_add_relu)
                           : base->o.kind == OP_ADD               ? VEC_PICK(d, leaf_add)
                           : base->o.kind == OP_SIGMOID           ? VEC_PICK(d, leaf_sigmoid)
                                                                  : VEC_PICK(d, leaf_relu);
    pointwise_each(base->d, leaf, bf16, p->count, a->x[0].data, base->s.nx > 1 ? a->x[1].data : NULL, a->y.data);
    return COV_OK;
}

static void pointwise_copy(const device *d, size_t bytes, const void *x, void *y)
{
    const size_t piece = (size_t)VEC_PIECE * 4, pieces = (bytes + piece - 1) / piece;
#pragma omp parallel for schedule(static) num_threads(d->threads) if (pieces > 1)
    for (size_t k = 0; k < pieces; k++) {
        size_t at = k * piece;
        memcpy((char *)y + at, (const char *)x + at, bytes - at < piece ? bytes - at : piece);
    }
}

static status pointwise_back_run(plan *base, const op_args *a)
{
    pointwise_plan *p = (pointwise_plan *)base;
    const int bf16 = base->s.y.type == TENSOR_BF16;
    const int through = base->o.kind == OP_ADD && !base->o.relu;
    pointwise_leaf *leaf = base->o.kind == OP_SIGMOID ? VEC_PICK(base->d, leaf_sigmoid_back) : VEC_PICK(base->d, leaf_mask);
    for (int k = 0; k < base->s.nx; k++) {
        if (a->dx[k].data == NULL) continue;
        if (through) pointwise_copy(base->d, vec_bytes(bf16, p->count), a->dy.data, a->dx[k].data);
        else pointwise_each(base->d, leaf, bf16, p->count, a->y.data, a->dy.data, a->dx[k].data);
    }
    return COV_OK;
}

/* Copies `rows` runs of `bytes` between arrays whose rows lie `from_step` and `to_step` bytes apart. */
static void pointwise_rows(const device *d, int64_t rows, size_t bytes, const char *from, size_t from_step, char *to,
                           size_t to_step)
{
#pragma omp parallel for schedule(static) num_threads(d->threads) if (rows > 64)
    for (int64_t r = 0; r < rows; r++) {
        const char *x = from + (size_t)r * from_step;
        char *y = to + (size_t)r * to_step;
        size_t i = 0;
        for (; i + 64 <= bytes; i += 64) memcpy(y + i, x + i, 64);
        for (; i + 16 <= bytes; i += 16) memcpy(y + i, x + i, 16);
        for (; i < bytes; i += 2) memcpy(y + i, x + i, 2);
    }
}

/* Bytes of one input that lie together in y: the channels of a pixel, or all pixels of an image. */
static size_t concat_bytes(const plan *p, tensor_shape s)
{
    return vec_bytes(s.type == TENSOR_BF16, (size_t)(p->o.pixels ? s.h * s.w * s.c : s.c));
}

static status concat_run(plan *base, const op_args *a)
{
    pointwise_plan *p = (pointwise_plan *)base;
    const size_t whole = concat_bytes(base, base->s.y);
    size_t at = 0;
    for (int k = 0; k < base->s.nx; k++) {
        const size_t part = concat_bytes(base, base->s.x[k]);
        if (base->pass == OP_FORWARD)
            pointwise_rows(base->d, p->rows, part, a->x[k].data, part, (char *)a->y.data + at, whole);
        else if (a->dx[k].data != NULL)
            pointwise_rows(base->d, p->rows, part, (const char *)a->dy.data + at, whole, a->dx[k].data, part);
        at += part;
    }
    return COV_OK;
}

static void softmax_row(int bf16, size_t c, const void *x, void *y)
{
    float top = vec_get(x, bf16, 0), sum = 0;
    for (size_t k = 1; k < c; k++) top = fmaxf(top, vec_get(x, bf16, k));
    for (size_t k = 0; k < c; k++) sum += expf(vec_get(x, bf16, k) - top);
    for (size_t k = 0; k < c; k++) vec_put(y, bf16, k, expf(vec_get(x, bf16, k) - top) / sum);
}

static void softmax_row_back(int bf16, size_t c, const void *y, const void *dy, void *dx)
{
    float dot = 0;
    for (size_t k = 0; k < c; k++) dot += vec_get(y, bf16, k) * vec_get(dy, bf16, k);
    for (size_t k = 0; k < c; k++) vec_put(dx, bf16, k, vec_get(y, bf16, k) * (vec_get(dy, bf16, k) - dot));
}

static status softmax_run(plan *base, const op_args *a)
{
    pointwise_plan *p = (pointwise_plan *)base;
    const int bf16 = base->s.y.type == TENSOR_BF16;
    const size_t c = (size_t)base->s.y.c, step = vec_bytes(bf16, c);
    const int back = base->pass == OP_BACKWARD;
    if (back && a->dx[0].data == NULL) return COV_OK;
#pragma omp parallel for schedule(static) num_threads(base->d->threads) if (p->rows > 64)
    for (int64_t r = 0; r < p->rows; r++) {
        size_t at = (size_t)r * step;
        if (back)
            softmax_row_back(bf16, c, (char *)a->y.data + at, (char *)a->dy.data + at, (char *)a->dx[0].data + at);
        else
            softmax_row(bf16, c, (char *)a->x[0].data + at, (char *)a->y.data + at);
    }
    return COV_OK;
}

status cpu_pointwise_plan(device *d, const op *o, const op_shapes *s, op_pass pass, plan **out)
{
    COV_TRY(cpu_plan_alloc(d, o, s, pass, sizeof(pointwise_plan), out));
    pointwise_plan *p = (pointwise_plan *)*out;
    COV_TRY(tensor_count(s->y, &p->count));
    p->rows = o->pixels ? s->y.n : s->y.n * s->y.h * s->y.w;
    if (o->kind == OP_CONCAT) p->base.run = concat_run;
    else if (o->kind == OP_SOFTMAX) p->base.run = softmax_run;
    else p->base.run = pass == OP_FORWARD ? pointwise_binary_run : pointwise_back_run;
    return COV_OK;
}
