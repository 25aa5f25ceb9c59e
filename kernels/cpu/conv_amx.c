/* conv_amx: see conv_amx.h. A tile product takes 16 pixels by 32 inputs and 32 inputs by 16 outputs, and adds to
 * 16 x 16 sums; a block is two tiles of pixels by two of outputs, whose sums stay in registers while it goes through
 * all taps of the window and all inputs.
 *
 * Pixels of a tile lie one after the other. A 1x1 window without a stride takes them from x as they are. Else a strip
 * of x is copied to planes, one for each 32 inputs (with a stride once for every phase of it), on a grid whose rows are
 * as long as an output's row and what the window sticks out of it, with zeros where x ends, and whose images have as
 * many more rows. There a tap of the window is a constant distance. A tile begins with a row of outputs, or tiles go
 * on from row to row where that makes fewer; what lies off the output is not stored.
 *
 * Work is parted in strips of pixels and in groups of outputs, so that a strip and the group's weights share the L2.
 *
 * Three things are slow here, and each has its remedy between the products: the sums of one block are put away while
 * the next is made; lines of y are called for one block of pixels ahead, and of x where nobody has copied it. And a
 * core with two busy threads has about ten registers for each one's tiles, so that eight which hold something leave
 * two to rename to, and products wait for each other: a tile that was used is set to zero, which gives its register
 * back (40 instead of 70 cycles a product; on a core of one's own 18 either way). */
#include "kernels/cpu/conv_amx.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/dnn.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SIDE = AMX_SIDE, /* pixels or outputs of a tile */
    TILE = AMX_TILE, /* its sums */
    BLOCK = 4 * TILE,
    TAPS = 49 /* at most */
};
static const int64_t ROOM = (int64_t)800 << 10; /* for a strip and a group's weights */

struct conv_amx {
    int64_t n, h, w, ci, ho, wo, co, kernel, stride, pad;
    int back;
    int direct;                /* tiles lie in x as they are; then a row of the grid is a tile, of the image as well */
    int64_t depth;             /* inputs of a step, and of a plane: 32, or 16 */
    int64_t taps, chunks;      /* steps of a block are taps times chunks of `depth` inputs */
    int64_t tap[TAPS];         /* distance, in elements */
    int64_t phases, reach;     /* along one side: of x under the stride; of the window, in pixels of the grid */
    int64_t width, image, rows; /* of the grid: pixels of a row, rows of an image, of all */
    int64_t across;            /* tiles of a row; 0: they go on from row to row */
    int64_t strip, strips;     /* rows of a strip, and their number */
    int64_t group, groups;     /* tiles of a group of outputs, and their number */
    int64_t tiles, plane;      /* of a strip, at most; elements */
    size_t plane_bytes, list_bytes; /* of all planes; of `start` and `at` */
    uint16_t *weights;         /* [two tiles of outputs][tap][chunk][tile][depth / 2][16][2]; owned */
    const void *source;
    uint64_t version;
};

/* What one thread works on. */
typedef struct worker {
    const conv_amx *k;
    const uint16_t *x, *base; /* base: where tiles are loaded from, x or planes */
    uint16_t *y, *planes;
    const float *bias;
    float least;              /* of a result: 0 under a ReLU */
    int64_t pixel, chunk;     /* distances in base, elements */
    int64_t tiles;            /* of the strip */
    int32_t *start, *at;      /* of each tile: its first pixel in base, and its pixels of y, -1 for none */
    float *sums;              /* of two blocks */
    const float *old;         /* the block that is to be put away: rows of sums, none at first; its pixels, outputs */
    const int32_t *old_at;
    int64_t old_rows, old_output;
    __mmask32 old_some;
} worker;

/* ---- a strip: rows [from, from + rows) of the grid */

/* A row of one phase: column j is pixel first + j * stride of a row of x, where there is one. */
AMX_LEAF void copy_row(const conv_amx *k, const uint16_t *x, int64_t first, uint16_t *to)
{
    const __mmask32 some = k->depth == 32 ? 0xffffffff : 0xffff;
    for (int64_t j = 0; j < k->width; j++, to += k->depth) {
        const int64_t ix = first + j * k->stride;
        const int inside = x != NULL && ix >= 0 && ix < k->w;
        const uint16_t *from = inside ? x + ix * k->ci : NULL;
        for (int64_t c = 0; c < k->chunks; c++) {
            const __m512i v = inside ? _mm512_maskz_loadu_epi16(some, from + c * k->depth) : _mm512_setzero_si512();
            _mm512_mask_storeu_epi16(to + c * k->plane, some, v);
        }
    }
}

static void copy_strip(const worker *t, int64_t from, int64_t rows)
{
    const conv_amx *k = t->k;
    for (int64_t phase = 0; phase < k->phases * k->phases; phase++)
        for (int64_t r = 0; r < rows + k->reach; r++) {
            const int64_t n = (from + r) / k->image, py = phase / k->phases, px = phase % k->phases;
            const int64_t iy = (from + r) % k->image * k->stride + py - k->pad;
            const uint16_t *row = n < k->n && iy >= 0 && iy < k->h ? t->x + (n * k->h + iy) * k->w * k->ci : NULL;
            copy_row(k, row, px - k->pad, t->planes + phase * k->chunks * k->plane + r * k->width * k->depth);
        }
}

/* Pixels of y for a tile that begins at pixel `start` of the strip and ends before row `end`. 1: there are any. */
static int list_tile(const conv_amx *k, int64_t from, int64_t start, int64_t end, int32_t *at)
{
    int64_t row = start / k->width, x = start % k->width, n = (from + row) / k->image, y = (from + row) % k->image;
    int some = 0;
    for (int64_t j = 0; j < SIDE; j++) {
        const int inside = row < end && x < k->wo && n < k->n && y < k->ho;
        at[j] = inside ? (int32_t)((n * k->ho + y) * k->wo + x) : -1;
        some |= inside;
        if (++x < k->width) continue;
        x = 0, row++;
        if (++y == k->image) y = 0, n++;
    }
    return some;
}

/* Tiles of a strip that was copied, without those that hold no output. */
static void list_tiles(worker *t, int64_t from, int64_t rows)
{
    const conv_amx *k = t->k;
    t->tiles = 0;
    if (k->across == 0) {
        for (int64_t start = 0; start < (rows - 1) * k->width + k->wo; start += SIDE) {
            t->start[t->tiles] = (int32_t)start;
            t->tiles += list_tile(k, from, start, rows, t->at + t->tiles * SIDE);
        }
        return;
    }
    for (int64_t row = 0; row < rows; row++)
        for (int64_t x = 0; x < k->across * SIDE; x += SIDE) {
            t->start[t->tiles] = (int32_t)(row * k->width + x);
            t->tiles += list_tile(k, from, row * k->width + x, row + 1, t->at + t->tiles * SIDE);
        }
}

/* Tiles of x as it is. The last ends with x, and repeats some of the pixels of the one before it. */
static void list_pixels(worker *t, int64_t from, int64_t rows)
{
    const conv_amx *k = t->k;
    t->tiles = rows;
    for (int64_t i = 0; i < rows; i++) {
        t->start[i] = (int32_t)amx_fewer((from + i) * SIDE, k->n * k->h * k->w - SIDE);
        for (int j = 0; j < SIDE; j++) t->at[i * SIDE + j] = t->start[i] + j;
    }
}

/* ---- products */

/* Tiles 0 to 3: sums; 4: pixels; 6, 7: weights. */
AMX_LEAF void tiles_on(const conv_amx *k)
{
    amx_tiles c = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        c.bytes[t] = t == 4 ? (uint16_t)(k->depth * 2) : 64;
        c.rows[t] = t < 5 ? SIDE : (uint8_t)(k->depth / 2);
    }
    amx_configure(&c);
}

AMX_LEAF void tiles_off(void) { _tile_release(); }

/* For the block that is to be put away: biases of its outputs, and the least result. */
typedef struct ending {
    __m512 low, high, least;
} ending;

AMX_STEP ending old_ending(const worker *t)
{
    ending e = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_set1_ps(t->least)};
    if (t->bias == NULL || t->old_rows == 0) return e;
    e.low = _mm512_loadu_ps(t->bias + t->old_output);
    e.high = _mm512_maskz_loadu_ps((__mmask16)(t->old_some >> 16), t->bias + t->old_output + SIDE);
    return e;
}

/* Row j of it. A NaN stays one. */
AMX_STEP void put_row(const worker *t, const ending *e, int64_t j)
{
    const float *sums = t->old + j / SIDE * 2 * TILE + j % SIDE * SIDE;
    if (t->old_at[j] < 0) return;
    const __m512 low = _mm512_max_ps(e->least, _mm512_add_ps(_mm512_load_ps(sums), e->low));
    const __m512 high = _mm512_max_ps(e->least, _mm512_add_ps(_mm512_load_ps(sums + TILE), e->high));
    _mm512_mask_storeu_epi16(t->y + t->old_at[j] * t->k->co + t->old_output, t->old_some,
                             (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

AMX_LEAF void put_rest(worker *t)
{
    const ending e = old_ending(t);
    for (int64_t j = 0; j < t->old_rows; j++) put_row(t, &e, j);
    t->old_rows = 0;
}

/* The block that was made is the next to be put away. */
AMX_STEP void keep(worker *t, int wide_in, int wide_out, int64_t in, int64_t out)
{
    float *sums = t->old == t->sums ? t->sums + BLOCK : t->sums;
    _tile_stored(0, sums, 64);
    if (wide_out) _tile_stored(1, sums + TILE, 64);
    if (wide_in) _tile_stored(2, sums + 2 * TILE, 64);
    if (wide_in && wide_out) _tile_stored(3, sums + 3 * TILE, 64);
    t->old = sums;
    t->old_at = t->at + in * SIDE;
    t->old_rows = SIDE * (1 + wide_in);
    t->old_output = out * SIDE;
    t->old_some = wide_out ? 0xffffffff : 0xffff;
}

/* One block: one or two tiles of pixels from `in` on, by one or two of outputs from `out` on. next: lines to call for,
 * so many a step. */
AMX_STEP void multiply(worker *t, int wide_in, int wide_out, int64_t in, int64_t out, const char *next, int64_t lines)
{
    const conv_amx *k = t->k;
    const int64_t row = t->pixel * 2, part = k->depth * SIDE, each = amx_ceil(2 * SIDE, k->taps * k->chunks);
    const uint16_t *x = t->base + t->start[in] * t->pixel, *w = k->weights + out * k->taps * k->chunks * part;
    const int64_t second = wide_in ? (t->start[in + 1] - t->start[in]) * t->pixel : 0;
    const int64_t old_rows = t->old_rows, ahead = (amx_fewer(t->tiles - in, 4) - 2) * SIDE;
    const int32_t *ahead_at = t->at + (in + 2) * SIDE;
    const ending e = old_ending(t);
    int64_t put = 0, call = 0;
    _tile_zero(0);
    if (wide_out) _tile_zero(1);
    if (wide_in) _tile_zero(2);
    if (wide_in && wide_out) _tile_zero(3);
    for (int64_t tap = 0; tap < k->taps; tap++) {
        const uint16_t *from = x + k->tap[tap];
        for (int64_t c = 0; c < k->chunks; c++, from += t->chunk, w += part * (1 + wide_out)) {
            for (int64_t j = 0; j < lines; j++, next += 64) _mm_prefetch(next, _MM_HINT_T0);
            _tile_loadd(4, from, row);
            _tile_loadd(6, w, 64);
            if (wide_out) _tile_loadd(7, w + part, 64);
            _tile_dpbf16ps(0, 4, 6);
            if (wide_out) _tile_dpbf16ps(1, 4, 7);
            for (const int64_t end = amx_fewer(put + each, old_rows); put < end; put++) put_row(t, &e, put);
            if (wide_in) {
                _tile_loadd(4, from + second, row);
                _tile_dpbf16ps(2, 4, 6);
                if (wide_out) _tile_dpbf16ps(3, 4, 7);
            }
            _tile_zero(4);
            _tile_zero(6);
            if (wide_out) _tile_zero(7);
            for (const int64_t end = amx_fewer(call + each, ahead); call < end; call++)
                if (ahead_at[call] >= 0) __builtin_prefetch(t->y + ahead_at[call] * k->co + out * SIDE, 1, 3);
        }
    }
    keep(t, wide_in, wide_out, in, out);
}

/* All blocks of the strip and a group of outputs. */
AMX_LEAF void run_group(worker *t, int64_t from, int64_t count)
{
    const conv_amx *k = t->k;
    const int64_t steps = k->taps * k->chunks;
    for (int64_t in = 0; in < t->tiles; in += 2) {
        const int64_t lines = k->direct && in + 2 < t->tiles ? amx_ceil(k->ci, amx_ceil(count, 2) * steps) : 0;
        const char *next = (const char *)(t->base + t->start[lines > 0 ? in + 2 : in] * t->pixel);
        const int wide_in = in + 1 < t->tiles;
        for (int64_t out = from; out < from + count; out += 2, next += 64 * lines * steps) {
            const int wide_out = out + 1 < from + count;
            if (wide_in && wide_out) multiply(t, 1, 1, in, out, next, lines);
            else if (wide_in) multiply(t, 1, 0, in, out, next, lines);
            else if (wide_out) multiply(t, 0, 1, in, out, next, lines);
            else multiply(t, 0, 0, in, out, next, lines);
        }
    }
    put_rest(t);
}

/* ---- weights */

/* Two inputs of sixteen outputs side by side, from where the outputs of one input lie in a row. */
AMX_STEP __m512i pair(const float *w, int64_t distance)
{
    const __m512i first = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(w)));
    const __m512i second = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(w + distance)));
    return _mm512_or_si512(first, _mm512_slli_epi32(second, 16));
}

/* Sixteen or 32 inputs of an output, two and two. */
AMX_STEP __m512i inputs(const float *w, int64_t depth)
{
    const __m512 high = depth == 32 ? _mm512_loadu_ps(w + 16) : _mm512_setzero_ps();
    return (__m512i)_mm512_cvtne2ps_pbh(high, _mm512_loadu_ps(w));
}

/* One tile: step `step` of outputs `out` to `out` + 15. */
AMX_LEAF void pack_tile(const conv_amx *k, const float *w, int64_t out, int64_t step, uint16_t *to)
{
    const int64_t tap = step / k->chunks, in = step % k->chunks * k->depth;
    __m512i r[16];
    for (int j = 0; j < 16 && !k->back; j++) r[j] = inputs(w + ((out + j) * k->taps + tap) * k->ci + in, k->depth);
    if (!k->back) amx_turn(r);
    for (int j = 0; j < k->depth / 2; j++) {
        if (k->back) r[j] = pair(w + ((in + 2 * j) * k->taps + k->taps - 1 - tap) * k->co + out, k->taps * k->co);
        _mm512_storeu_si512(to + j * 2 * SIDE, r[j]);
    }
}

static void pack(const device *d, const conv_amx *k, const float *w)
{
    const int64_t outs = k->co / SIDE, steps = k->taps * k->chunks;
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int64_t j = 0; j < outs * steps; j++) {
        const int64_t out = j / steps, step = j % steps, wide = amx_fewer(outs - out / 2 * 2, 2);
        uint16_t *to = k->weights + (out / 2 * 2 * steps + step * wide + out % 2) * k->depth * SIDE;
        pack_tile(k, w, out * SIDE, step, to);
    }
}

/* ---- the whole */

/* Groups: as few as leave half the room to the strip. Strips: as long as find room, as many for each thread. */
static void divide(const device *d, conv_amx *k)
{
    const int64_t pairs = amx_ceil(k->co / SIDE, 2), pair = 2 * SIDE * k->taps * k->ci * 2;
    const int64_t row = k->direct ? SIDE * k->ci * 2 : k->phases * k->phases * k->width * k->ci * 2;
    k->groups = 1;
    while (k->groups < pairs && amx_ceil(pairs, k->groups) * pair > ROOM / 2) k->groups++;
    k->group = amx_ceil(pairs, k->groups) * 2;
    k->groups = amx_ceil(k->co / SIDE, k->group);
    int64_t most = (ROOM - k->group / 2 * pair) / row - k->reach;
    if (most < 1) most = 1;
    k->strips = amx_ceil(k->rows, most);
    if (k->strips > 1 || k->groups < d->threads) k->strips = amx_ceil(k->strips, d->threads) * d->threads;
    k->strip = amx_ceil(k->rows, k->strips);
    if (k->direct) k->strip = (k->strip + 1) / 2 * 2;
    k->strips = amx_ceil(k->rows, k->strip);
}

static size_t worker_bytes(const conv_amx *k)
{
    return (k->plane_bytes + k->list_bytes + 2 * BLOCK * sizeof(float) + 4095) / 4096 * 4096;
}

size_t conv_amx_scratch(const device *d, const conv_amx *k) { return worker_bytes(k) * (size_t)d->threads; }

/* Measured beside oneDNN 2.6, it takes from 0.35 to 0.85 of the time, but not for windows over few channels, where x is
 * rearranged for few products. */
int conv_amx_fits(const device *d, const op *o, const op_shapes *s, int back)
{
    const tensor_shape *x = back ? &s->y : &s->x[0], *y = back ? &s->x[0] : &s->y;
    if (d->isa != 2 || !d->amx || o->kind != OP_CONV || x->type != TENSOR_BF16) return 0;
    if (back && o->stride != 1) return 0;
    if (o->kernel > 1 && x->c * y->c < 2048) return 0;
    return x->c % 16 == 0 && y->c % SIDE == 0 && o->kernel * o->kernel <= TAPS && x->n * x->h * x->w >= SIDE &&
           x->n * x->h * x->w < INT32_MAX && y->n * y->h * y->w < INT32_MAX;
}

/* The grid, and where things lie on it. */
static void lay_out(const device *d, conv_amx *k)
{
    k->depth = k->ci % 32 == 0 ? 32 : 16;
    k->chunks = k->ci / k->depth;
    k->taps = k->kernel * k->kernel;
    k->direct = k->kernel == 1 && k->stride == 1 && k->pad == 0;
    k->reach = (k->kernel - 1) / k->stride;
    k->phases = k->stride < k->kernel ? k->stride : k->kernel;
    k->width = k->wo + k->reach;
    k->image = k->ho + k->reach;
    k->rows = k->direct ? amx_ceil(k->n * k->h * k->w, SIDE) : k->n * k->image - k->reach;
    divide(d, k);
    const int64_t by_row = k->strip * amx_ceil(k->wo, SIDE), on = amx_ceil((k->strip - 1) * k->width + k->wo, SIDE);
    k->across = by_row <= on ? amx_ceil(k->wo, SIDE) : 0;
    k->tiles = k->direct ? k->strip : amx_fewer(by_row, on);
    /* With what the last tile reads beyond the strip; odd, so that planes begin in different sets of the cache. */
    k->plane = (((k->strip + k->reach) * k->width + SIDE) | 1) * k->depth;
    for (int64_t t = 0; t < k->taps && !k->direct; t++) {
        const int64_t ky = t / k->kernel, kx = t % k->kernel, phase = ky % k->stride * k->phases + kx % k->stride;
        k->tap[t] = phase * k->chunks * k->plane + (ky / k->stride * k->width + kx / k->stride) * k->depth;
    }
    k->plane_bytes = k->direct ? 0 : (size_t)(k->phases * k->phases * k->chunks * k->plane * 2 + 63) / 64 * 64;
    k->list_bytes = ((size_t)(k->tiles * (SIDE + 1)) * sizeof(int32_t) + 63) / 64 * 64;
}

status conv_amx_new(device *d, const op *o, const op_shapes *s, int back, conv_amx **out)
{
    const tensor_shape *x = back ? &s->y : &s->x[0], *y = back ? &s->x[0] : &s->y;
    conv_amx *k = calloc(1, sizeof *k);
    *out = k;
    if (k == NULL) return COV_FAIL(COV_NOMEM, "no memory for a plan of conv");
    k->n = x->n, k->h = x->h, k->w = x->w, k->ci = x->c;
    k->ho = y->h, k->wo = y->w, k->co = y->c;
    k->kernel = o->kernel, k->stride = o->stride, k->pad = back ? o->kernel - 1 - o->pad : o->pad;
    k->back = back;
    lay_out(d, k);
    status r = cpu_memory_new((size_t)(k->co * k->taps * k->ci) * sizeof(uint16_t), (void **)&k->weights);
    if (r == COV_OK) r = cpu_reserve(d, conv_amx_scratch(d, k));
    if (r != COV_OK) conv_amx_free(out);
    return r;
}

static worker worker_in(const conv_amx *k, char *room, const worker *like)
{
    worker t = *like;
    t.planes = (uint16_t *)room;
    t.start = (int32_t *)(room + k->plane_bytes);
    t.at = t.start + k->tiles;
    t.sums = (float *)(room + k->plane_bytes + k->list_bytes);
    t.base = k->direct ? t.x : t.planes;
    t.pixel = k->direct ? k->ci : k->depth;
    t.chunk = k->direct ? k->depth : k->plane;
    return t;
}

/* Strip by strip, or, where the weights are the larger part, group by group: what is larger is fetched once. */
static void run_units(worker *t, int64_t from, int64_t to)
{
    const conv_amx *k = t->k;
    const int by_group = k->taps * k->group * SIDE * k->ci > k->strip * k->width * k->phases * k->phases * k->ci;
    int64_t before = -1;
    tiles_on(k);
    for (int64_t j = from; j < to; j++) {
        const int64_t strip = by_group ? j % k->strips : j / k->groups;
        const int64_t group = by_group ? j / k->strips : j % k->groups;
        const int64_t first = strip * k->strip, rows = amx_fewer(k->strip, k->rows - first);
        if (strip != before && k->direct) list_pixels(t, first, rows);
        if (strip != before && !k->direct) {
            copy_strip(t, first, rows);
            list_tiles(t, first, rows);
        }
        before = strip;
        run_group(t, group * k->group, amx_fewer(k->group, k->co / SIDE - group * k->group));
    }
    tiles_off();
}

status conv_amx_run(device *d, conv_amx *k, const tensor *w, const float *bias, int relu, const void *x, void *y)
{
    const int64_t units = k->strips * k->groups, parts = amx_fewer(units, d->threads);
    const worker like = {.k = k, .x = x, .y = y, .bias = bias, .least = relu ? 0 : -INFINITY};
    if (w->version == 0 || k->source != w->data || k->version != w->version) {
        pack(d, k, w->data);
        k->source = w->data;
        k->version = w->version;
    }
#pragma omp parallel for schedule(static, 1) num_threads(d->threads)
    for (int64_t p = 0; p < parts; p++) {
        worker t = worker_in(k, (char *)d->scratch + (size_t)p * worker_bytes(k), &like);
        run_units(&t, p * units / parts, (p + 1) * units / parts);
    }
    return COV_OK;
}

void conv_amx_free(conv_amx **k)
{
    if (k == NULL || *k == NULL) return;
    free((*k)->weights);
    free(*k);
    *k = NULL;
}
