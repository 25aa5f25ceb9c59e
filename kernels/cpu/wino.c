/* wino: see wino.h. The image is cut into tiles of 4x4 outputs, each from 6x6 inputs. Three steps: every tile's input is
 * transformed into 36 values a channel; for each of the 36, the tiles' rows are multiplied with the transformed filters
 * (36 products of matrices, where nearly all the work is); 36 values become 4x4 outputs.
 *
 * Tiles are taken in blocks, so that what lies between the steps stays in a cache. With small filters each thread
 * takes whole blocks by itself (`own`); with large ones all threads share a block and part the products among them, so
 * that the filters are read as few times as possible. Neither changes the order of a sum.
 *
 * Between the steps: v[36][tiles][ci + 16], m[36][tiles][co + 16]; the 16 keep rows off the same cache sets. Filters:
 * u[36][panel of 32 outputs][ci][32]. */
#include "kernels/cpu/wino.h"
#include "kernels/cpu/dnn.h"
#include "kernels/cpu/vec.h"
#include <omp.h>
#include <stdlib.h>

enum { WINO_POINTS = 36, WINO_SKEW = 16, WINO_PANEL = 32, WINO_ROWS = 14 };

struct wino {
    int64_t n, h, w, ci, co, across, down; /* tiles across and down one image */
    int64_t tiles, block;                  /* in all, and at most together */
    int64_t v_plane, m_plane;              /* floats of one of the 36 */
    int back, own, bf16;
    float *u;
    const void *source; /* of u */
    uint64_t version;
};

/* One block of tiles [first, first + count) for the leaves. */
typedef struct wino_block {
    const wino *k;
    const void *x;
    void *y;
    const float *bias; /* NULL: none */
    int relu;
    int64_t first, count;
    float *v, *m;
} wino_block;

#include "kernels/cpu/vec_avx512.h"

/* b = B^T d for six values. */
VEC_STEP void wino_in(const vec16 d[6], vec16 b[6])
{
    const vec16 p = d[4] - 4.0f * d[2], q = d[3] - 4.0f * d[1], r = d[4] - d[2], s = 2.0f * (d[3] - d[1]);
    b[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    b[1] = p + q;
    b[2] = p - q;
    b[3] = r + s;
    b[4] = r - s;
    b[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

/* a = A^T m: six values to four. */
VEC_STEP void wino_out(const vec16 m[6], vec16 a[4])
{
    const vec16 p = m[1] + m[2], q = m[1] - m[2], r = m[3] + m[4], s = m[3] - m[4];
    a[0] = m[0] + p + r;
    a[1] = q + 2.0f * s;
    a[2] = p + 4.0f * r;
    a[3] = q + 8.0f * s + m[5];
}

/* Where tile t begins: sample, and first output row and column. */
VEC_STEP void wino_place(const wino *k, int64_t t, int64_t *n, int64_t *oy, int64_t *ox)
{
    const int64_t in_image = t % (k->across * k->down);
    *n = t / (k->across * k->down);
    *oy = in_image / k->across * 4;
    *ox = in_image % k->across * 4;
}

/* Sixteen channels of one tile; inside: no part of it lies in the padding. */
VEC_STEP void wino_input_tile(const wino *k, const void *x, int bf16, int inside, int64_t n, int64_t oy, int64_t ox, int64_t c,
                              float *v)
{
    vec16 part[6][6], d[6], b[6];
    for (int64_t j = 0; j < 6; j++) {
        for (int64_t i = 0; i < 6; i++) {
            const int64_t iy = oy - 1 + i, ix = ox - 1 + j;
            if (inside || (iy >= 0 && iy < k->h && ix >= 0 && ix < k->w))
                VEC(vec_load)(&d[i], x, bf16, (size_t)(((n * k->h + iy) * k->w + ix) * k->ci + c));
            else d[i] = (vec16){0};
        }
        wino_in(d, b);
        for (int i = 0; i < 6; i++) part[i][j] = b[i];
    }
    for (int i = 0; i < 6; i++) {
        wino_in(part[i], b);
        for (int j = 0; j < 6; j++) VEC(vec_store)(v, 0, (size_t)((i * 6 + j) * k->v_plane), &b[j]);
    }
}

VEC_STEP void wino_input_one(const wino_block *b, int bf16, int64_t t)
{
    const wino *k = b->k;
    int64_t n, oy, ox;
    wino_place(k, b->first + t, &n, &oy, &ox);
    const int inside = oy > 0 && ox > 0 && oy + 5 <= k->h && ox + 5 <= k->w;
    float *v = b->v + t * (k->ci + WINO_SKEW);
    for (int64_t c = 0; c < k->ci; c += 16) {
        if (inside) wino_input_tile(k, b->x, bf16, 1, n, oy, ox, c, v + c);
        else wino_input_tile(k, b->x, bf16, 0, n, oy, ox, c, v + c);
    }
}

/* Tiles [from, to) of the block. */
VEC_LEAF void wino_input(const wino_block *b, int64_t from, int64_t to)
{
    for (int64_t t = from; t < to; t++) {
        if (b->k->bf16) wino_input_one(b, 1, t);
        else wino_input_one(b, 0, t);
    }
}

VEC_STEP void wino_output_tile(const wino_block *b, int bf16, int64_t n, int64_t oy, int64_t ox, int64_t c, const float *m)
{
    const wino *k = b->k;
    vec16 part[4][6], d[6], a[4], bias = {0};
    for (int j = 0; j < 6; j++) {
        for (int i = 0; i < 6; i++) VEC(vec_load)(&d[i], m, 0, (size_t)((i * 6 + j) * k->m_plane));
        wino_out(d, a);
        for (int i = 0; i < 4; i++) part[i][j] = a[i];
    }
    if (b->bias != NULL) VEC(vec_load)(&bias, b->bias, 0, (size_t)c);
    for (int64_t i = 0; i < 4 && oy + i < k->h; i++) {
        wino_out(part[i], a);
        for (int64_t j = 0; j < 4; j++) {
            if (ox + j >= k->w) break;
            vec16 v = a[j] + bias;
            if (b->relu) VEC(vec_where_positive)(&v, &v);
            VEC(vec_store)(b->y, bf16, (size_t)(((n * k->h + oy + i) * k->w + ox + j) * k->co + c), &v);
        }
    }
}

VEC_LEAF void wino_output(const wino_block *b, int64_t from, int64_t to)
{
    const wino *k = b->k;
    for (int64_t t = from; t < to; t++) {
        int64_t n, oy, ox;
        wino_place(k, b->first + t, &n, &oy, &ox);
        const float *m = b->m + t * (k->co + WINO_SKEW);
        for (int64_t c = 0; c < k->co; c += 16) {
            if (k->bf16) wino_output_tile(b, 1, n, oy, ox, c, m + c);
            else wino_output_tile(b, 0, n, oy, ox, c, m + c);
        }
    }
}

/* `rows` tiles times `wide` registers of outputs: m = v u over all input channels, sums in registers. */
VEC_STEP void wino_product(int rows, int wide, int64_t depth, const float *v, int64_t v_row, const float *u, float *m,
                           int64_t m_row)
{
    __m512 sum[WINO_ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < wide; q++) sum[r][q] = _mm512_setzero_ps();
    for (int64_t c = 0; c < depth; c++) {
        __m512 f[2];
        for (int q = 0; q < wide; q++) f[q] = _mm512_loadu_ps(u + c * WINO_PANEL + 16 * q);
        for (int r = 0; r < rows; r++) {
            const __m512 a = _mm512_set1_ps(v[r * v_row + c]);
            for (int q = 0; q < wide; q++) sum[r][q] = _mm512_fmadd_ps(a, f[q], sum[r][q]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < wide; q++) _mm512_storeu_ps(m + r * m_row + 16 * q, sum[r][q]);
}

/* One of the 36 and one panel, tiles [from, to): whole groups of 14, then what is left. */
VEC_LEAF void wino_panel(const wino_block *b, int64_t point, int64_t panel, int64_t from, int64_t to)
{
    const wino *k = b->k;
    const int64_t v_row = k->ci + WINO_SKEW, m_row = k->co + WINO_SKEW;
    const int64_t panels = (k->co + WINO_PANEL - 1) / WINO_PANEL;
    const float *u = k->u + (point * panels + panel) * k->ci * WINO_PANEL, *v = b->v + point * k->v_plane;
    float *m = b->m + point * k->m_plane + panel * WINO_PANEL;
    const int wide = k->co - panel * WINO_PANEL >= WINO_PANEL ? 2 : 1;
    int64_t t = from;
#define WINO_GROUP(rows)                                                                                              \
    for (; t + (rows) <= to; t += (rows)) {                                                                           \
        if (wide == 2) wino_product(rows, 2, k->ci, v + t * v_row, v_row, u, m + t * m_row, m_row);                   \
        else wino_product(rows, 1, k->ci, v + t * v_row, v_row, u, m + t * m_row, m_row);                             \
    }
    WINO_GROUP(14)
    WINO_GROUP(8)
    WINO_GROUP(4)
    WINO_GROUP(2)
    WINO_GROUP(1)
#undef WINO_GROUP
}

/* ---- filters: u = G g G^T */

static void wino_filter_row(const float g[3], float u[6])
{
    const float even = (g[0] + g[2]) / 6, odd = g[1] / 6, far = g[0] / 24 + g[2] / 6, middle = g[1] / 12;
    u[0] = g[0] / 4;
    u[1] = -even - odd;
    u[2] = odd - even;
    u[3] = far + middle;
    u[4] = far - middle;
    u[5] = g[2];
}

/* The filter from input i to output o as the pass needs it: backward swaps them and turns it round. */
static void wino_filter(const wino *k, const float *w, int64_t i, int64_t o, float u[WINO_POINTS])
{
    float part[3][6], column[3], turned[6];
    for (int a = 0; a < 3; a++) {
        float g[3];
        for (int b = 0; b < 3; b++)
            g[b] = k->back ? w[((i * 3 + 2 - a) * 3 + 2 - b) * k->co + o] : w[((o * 3 + a) * 3 + b) * k->ci + i];
        wino_filter_row(g, part[a]);
    }
    for (int j = 0; j < 6; j++) {
        for (int a = 0; a < 3; a++) column[a] = part[a][j];
        wino_filter_row(column, turned);
        for (int a = 0; a < 6; a++) u[a * 6 + j] = turned[a];
    }
}

static void wino_filters(const device *d, wino *k, const float *w)
{
    const int64_t panels = (k->co + WINO_PANEL - 1) / WINO_PANEL, ci = k->ci, co = k->co;
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int64_t i = 0; i < ci; i++)
        for (int64_t o = 0; o < co; o++) {
            float u[WINO_POINTS];
            wino_filter(k, w, i, o, u);
            for (int64_t p = 0; p < WINO_POINTS; p++)
                k->u[((p * panels + o / WINO_PANEL) * ci + i) * WINO_PANEL + o % WINO_PANEL] = u[p];
        }
}

/* ---- the whole */

/* One thread, one block, all three steps. */
static void wino_alone(const wino_block *b)
{
    const int64_t panels = (b->k->co + WINO_PANEL - 1) / WINO_PANEL;
    wino_input(b, 0, b->count);
    for (int64_t p = 0; p < WINO_POINTS; p++)
        for (int64_t q = 0; q < panels; q++) wino_panel(b, p, q, 0, b->count);
    wino_output(b, 0, b->count);
}

static wino_block wino_block_at(const wino *k, const wino_block *like, int64_t j)
{
    wino_block b = *like;
    b.first = j * k->block;
    b.count = k->tiles - b.first < k->block ? k->tiles - b.first : k->block;
    return b;
}

static void wino_own(const device *d, const wino *k, const wino_block *like)
{
    const int64_t blocks = (k->tiles + k->block - 1) / k->block, room = WINO_POINTS * (k->v_plane + k->m_plane);
#pragma omp parallel for schedule(dynamic, 1) num_threads(d->threads)
    for (int64_t j = 0; j < blocks; j++) {
        wino_block b = wino_block_at(k, like, j);
        b.v = like->v + omp_get_thread_num() * room;
        b.m = b.v + k->v_plane * WINO_POINTS;
        wino_alone(&b);
    }
}

/* All threads on one block after the other. */
static void wino_shared(const device *d, const wino *k, const wino_block *like)
{
    const int64_t blocks = (k->tiles + k->block - 1) / k->block, panels = (k->co + WINO_PANEL - 1) / WINO_PANEL;
#pragma omp parallel num_threads(d->threads)
    for (int64_t j = 0; j < blocks; j++) {
        const wino_block b = wino_block_at(k, like, j);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < b.count; t++) wino_input(&b, t, t + 1);
#pragma omp for schedule(static)
        for (int64_t p = 0; p < WINO_POINTS * panels; p++) wino_panel(&b, p / panels, p % panels, 0, b.count);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < b.count; t++) wino_output(&b, t, t + 1);
    }
}

/* Measured: against bf16 products it pays from 16 to 32 channels on, against fp32 ones from 16; and not in tiny images. */
int wino_fits(const device *d, const op *o, const op_shapes *s)
{
    const tensor_shape *x = &s->x[0];
    const int64_t ci = x->c, co = s->y.c;
    return d->isa == 2 && o->kind == OP_CONV && o->kernel == 3 && o->stride == 1 && o->pad == 1 && ci % 16 == 0 &&
           co % 16 == 0 && ci + co >= (x->type == TENSOR_BF16 ? 48 : 32) && x->h >= 16 && x->w >= 16 &&
           x->n * x->h * x->w >= ((int64_t)1 << 20) / (ci * co);
}

/* An odd number of cache lines, so that the 36 planes begin in different sets. */
static int64_t wino_plane(int64_t tiles, int64_t channels)
{
    return ((tiles * (channels + WINO_SKEW) / 16) | 1) * 16;
}

/* Blocks: what lies between the steps fits half a core's L2 if a thread has its own, else a good part of the L3. */
static void wino_blocks(const device *d, wino *k)
{
    const int64_t tile = WINO_POINTS * (k->ci + k->co + 2 * WINO_SKEW) * (int64_t)sizeof(float);
    const int64_t filters = WINO_POINTS * k->ci * k->co * (int64_t)sizeof(float);
    int64_t block = ((int64_t)768 << 10) / tile / WINO_ROWS * WINO_ROWS;
    if (block < WINO_ROWS) block = WINO_ROWS;
    k->own = filters <= (int64_t)3 << 20 && (k->tiles + block - 1) / block >= 4 * d->threads;
    if (!k->own) {
        block = ((int64_t)24 << 20) / tile;
        if (block < 4 * WINO_ROWS) block = 4 * WINO_ROWS;
        const int64_t blocks = (k->tiles + block - 1) / block;
        block = (k->tiles + blocks - 1) / blocks;
    }
    k->block = block < k->tiles ? block : k->tiles;
    k->v_plane = wino_plane(k->block, k->ci);
    k->m_plane = wino_plane(k->block, k->co);
}

size_t wino_scratch(const device *d, const wino *k)
{
    const size_t room = (size_t)(WINO_POINTS * (k->v_plane + k->m_plane)) * sizeof(float);
    return room * (size_t)(k->own ? d->threads : 1);
}

status wino_new(device *d, const op_shapes *s, int back, wino **out)
{
    const tensor_shape *x = &s->x[0];
    wino *k = calloc(1, sizeof *k);
    *out = k;
    if (k == NULL) return COV_FAIL(COV_NOMEM, "no memory for a plan of conv");
    k->n = x->n, k->h = x->h, k->w = x->w;
    k->ci = back ? s->y.c : x->c;
    k->co = back ? x->c : s->y.c;
    k->across = (x->w + 3) / 4;
    k->down = (x->h + 3) / 4;
    k->tiles = k->n * k->across * k->down;
    k->back = back;
    k->bf16 = x->type == TENSOR_BF16;
    wino_blocks(d, k);
    const int64_t panels = (k->co + WINO_PANEL - 1) / WINO_PANEL;
    const size_t filters = (size_t)(WINO_POINTS * panels * WINO_PANEL * k->ci) * sizeof(float);
    status r = cpu_memory_new(filters, (void **)&k->u);
    if (r == COV_OK) r = cpu_reserve(d, wino_scratch(d, k));
    if (r != COV_OK) wino_free(out);
    return r;
}

status wino_run(device *d, wino *k, const tensor *w, const float *bias, int relu, const void *x, void *y)
{
    if (w->version == 0 || k->source != w->data || k->version != w->version) {
        wino_filters(d, k, w->data);
        k->source = w->data;
        k->version = w->version;
    }
    float *v = d->scratch;
    const wino_block like = {.k = k, .x = x, .y = y, .bias = bias, .relu = relu, .v = v, .m = v + WINO_POINTS * k->v_plane};
    if (k->own) wino_own(d, k, &like);
    else wino_shared(d, k, &like);
    return COV_OK;
}

void wino_free(wino **k)
{
    if (k == NULL || *k == NULL) return;
    free((*k)->u);
    free(*k);
    *k = NULL;
}
