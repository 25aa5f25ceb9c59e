/* wino: see wino.h. The image is cut into tiles of 4x4 outputs, each from 6x6 inputs. Three steps: every tile's input is
 * transformed into 36 values a channel; for each of the 36, the tiles' rows are multiplied with the transformed filters
 * (36 products of matrices, where nearly all the work is); 36 values become 4x4 outputs.
 *
 * Tiles are taken in blocks, so that what lies between the steps stays in a cache. With small filters each thread
 * takes whole blocks by itself (`own`); with large ones all threads share a block and part the products among them, so
 * that the filters are read as few times as possible. Neither changes the order of a sum.
 *
 * Between the steps: v[36][tiles][ci + 16], m[36][tiles][co + 16]; the 16 keep rows off the same cache sets. Filters:
 * u[36][panel][ci][32 outputs with AVX-512, else 16]. */
#include "kernels/cpu/wino.h"
#include "kernels/cpu/dnn.h"
#include "kernels/cpu/vec.h"
#include <omp.h>
#include <stdlib.h>

enum { WINO_POINTS = 36, WINO_SKEW = 16 };

struct wino {
    int64_t n, h, w, ci, co, across, down; /* tiles across and down one image */
    int64_t tiles, block;                  /* in all, and at most together */
    int64_t v_plane, m_plane;              /* floats of one of the 36 */
    int64_t rows, panel, panels;           /* of a product in registers: tiles, outputs; panels of all outputs */
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

#define VEC_BODY "kernels/cpu/wino_body.h"
#include "kernels/cpu/vec_isas.h"

typedef void wino_tiles(const wino_block *b, int64_t from, int64_t to);
typedef void wino_products(const wino_block *b, int64_t point, int64_t panel, int64_t from, int64_t to);
VEC_TABLE(wino_tiles, wino_input);
VEC_TABLE(wino_tiles, wino_output);
VEC_TABLE(wino_products, wino_panel);

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
    const int64_t panel = k->panel, panels = k->panels, ci = k->ci, co = k->co;
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int64_t i = 0; i < ci; i++)
        for (int64_t o = 0; o < co; o++) {
            float u[WINO_POINTS];
            wino_filter(k, w, i, o, u);
            for (int64_t p = 0; p < WINO_POINTS; p++)
                k->u[((p * panels + o / panel) * ci + i) * panel + o % panel] = u[p];
        }
}

/* ---- the whole */

/* One thread, one block, all three steps. */
static void wino_alone(const device *d, const wino_block *b)
{
    VEC_PICK(d, wino_input)(b, 0, b->count);
    for (int64_t p = 0; p < WINO_POINTS; p++)
        for (int64_t q = 0; q < b->k->panels; q++) VEC_PICK(d, wino_panel)(b, p, q, 0, b->count);
    VEC_PICK(d, wino_output)(b, 0, b->count);
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
        wino_alone(d, &b);
    }
}

/* All threads on one block after the other. */
static void wino_shared(const device *d, const wino *k, const wino_block *like)
{
    const int64_t blocks = (k->tiles + k->block - 1) / k->block, panels = k->panels;
#pragma omp parallel num_threads(d->threads)
    for (int64_t j = 0; j < blocks; j++) {
        const wino_block b = wino_block_at(k, like, j);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < b.count; t++) VEC_PICK(d, wino_input)(&b, t, t + 1);
#pragma omp for schedule(static)
        for (int64_t p = 0; p < WINO_POINTS * panels; p++) VEC_PICK(d, wino_panel)(&b, p / panels, p % panels, 0, b.count);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < b.count; t++) VEC_PICK(d, wino_output)(&b, t, t + 1);
    }
}

/* Measured: against bf16 products it pays from 16 to 32 channels on, but never where those run on AMX tiles; against
 * fp32 ones from 16; and not in tiny images. */
int wino_fits(const device *d, const op *o, const op_shapes *s)
{
    const tensor_shape *x = &s->x[0];
    const int64_t ci = x->c, co = s->y.c;
    if (d->isa == 2 && d->amx && x->type == TENSOR_BF16) return 0;
    return d->isa > 0 && o->kind == OP_CONV && o->kernel == 3 && o->stride == 1 && o->pad == 1 && ci % 16 == 0 &&
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
    int64_t block = ((int64_t)768 << 10) / tile / k->rows * k->rows;
    if (block < k->rows) block = k->rows;
    k->own = filters <= (int64_t)3 << 20 && (k->tiles + block - 1) / block >= 4 * d->threads;
    if (!k->own) {
        block = ((int64_t)24 << 20) / tile;
        if (block < 4 * k->rows) block = 4 * k->rows;
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
    k->rows = d->isa == 2 ? 14 : 6;
    k->panel = d->isa == 2 ? 32 : 16;
    k->panels = (k->co + k->panel - 1) / k->panel;
    wino_blocks(d, k);
    const size_t filters = (size_t)(WINO_POINTS * k->panels * k->panel * k->ci) * sizeof(float);
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
