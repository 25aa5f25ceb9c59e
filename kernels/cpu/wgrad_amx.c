/* wgrad_amx: see wgrad_amx.h. dw[o][ky][kx][i] = sum over pixels of x[..][i] * dy[..][o] is a product of matrices
 * with a long inside, the pixels. A tile product takes 16 inputs by 32 pixels and 32 pixels by 16 outputs, and adds
 * to 16 x 16 sums.
 *
 * Pixels are counted on one grid that goes through all images: a row is as long as an output's row and what the
 * window sticks out of it, an image has as many more rows. There a tap of the window is a constant distance, and
 * where the grid holds no output dy counts as 0. x is rearranged to rows of pixels, one a channel (with a stride
 * once for every phase of it), dy to pairs of pixels side by side as tiles want them; both strip by strip, so that
 * what the products read lies in the L2.
 *
 * Threads part the channels in blocks, and each rearranges what it needs, so none waits for another. Every sum goes
 * through the pixels in order, whatever the blocks and strips are. */
#include "kernels/cpu/wgrad_amx.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/vec.h"
#include <omp.h>

enum {
    SIDE = AMX_SIDE, /* channels of a tile */
    STEP = 32, /* pixels of one */
    TILE = AMX_TILE, /* its sums */
    PART = SIDE * STEP /* its elements of x or dy */
};
/* Steps that all taps of four tiles take before the next tiles: what they read then stays in the L1. Taking a strip
 * at once was up to a quarter slower. */
enum { STRETCH = 8 };
static const int64_t ROOM = (int64_t)640 << 10; /* for a strip; and for a block's sums */

typedef struct wgrad_amx {
    int64_t n, h, w, ci, ho, wo, co, kernel, stride, pad;
    int64_t phases;              /* along one side, of x under the stride */
    int64_t width, image, count; /* pixels of a row of the grid, of an image, of all images up to whole steps */
    int64_t span;                /* from a pixel to its furthest tap */
    int64_t in_tiles, out_tiles; /* of 16 channels, of all */
    int64_t in, out;             /* of a block, at most */
    int64_t strip, row;          /* pixels of a strip, and of a channel's row of x in it */
    size_t x_bytes, dy_bytes, sum_bytes, at_bytes;
} wgrad_amx;

/* One block of channels, and the strip [from, from + steps * STEP) of the grid. */
typedef struct wgrad_block {
    const wgrad_amx *g;
    const uint16_t *x, *dy;
    float *dw;
    int64_t first_in, first_out, in, out; /* tiles */
    int64_t from, steps;
    uint16_t *rows, *pairs; /* x and dy, rearranged */
    float *sums;            /* [tap][in][out] tiles, 16 inputs of 16 outputs */
    int64_t *at;            /* for each pixel of the strip, and a step more, its pixel of x or dy, or -1 */
} wgrad_block;

/* ---- sizes */

/* Time of a block of in x out tiles, about, in cycles a step: products, and rearranging. */
static int64_t block_cost(const wgrad_amx *g, int64_t in, int64_t out)
{
    return 24 * in * out * g->kernel * g->kernel + 160 * (in * g->phases * g->phases + out);
}

/* The blocks that make the slowest thread the fastest, of those whose sums find room. */
static void choose_blocks(const device *d, wgrad_amx *g)
{
    const int64_t most = ROOM / (TILE * (int64_t)sizeof(float) * g->kernel * g->kernel);
    int64_t best = INT64_MAX;
    for (int64_t in = 1; in <= g->in_tiles; in++)
        for (int64_t out = 1; out <= g->out_tiles && (in * out <= most || in * out == 1); out++) {
            const int64_t blocks = amx_ceil(g->in_tiles, in) * amx_ceil(g->out_tiles, out);
            const int64_t cost = amx_ceil(blocks, d->threads) * block_cost(g, in, out);
            if (cost >= best) continue;
            best = cost;
            g->in = in;
            g->out = out;
        }
}

static wgrad_amx geometry(const device *d, const op *o, const op_shapes *s)
{
    const tensor_shape *x = &s->x[0], *y = &s->y;
    wgrad_amx g = {.n = x->n, .h = x->h, .w = x->w, .ci = x->c, .ho = y->h, .wo = y->w, .co = y->c,
                   .kernel = o->kernel, .stride = o->stride, .pad = o->pad};
    const int64_t reach = (g.kernel - 1) / g.stride;
    g.phases = g.stride < g.kernel ? g.stride : g.kernel;
    g.width = g.wo + reach;
    g.image = (g.ho + reach) * g.width;
    g.count = amx_ceil(g.n * g.image, STEP) * STEP;
    g.span = reach * g.width + reach;
    g.in_tiles = amx_ceil(g.ci, SIDE);
    g.out_tiles = amx_ceil(g.co, SIDE);
    choose_blocks(d, &g);
    const int64_t in = g.in * g.phases * g.phases, pixel = (in + g.out) * SIDE * 2, ahead = in * SIDE * 2 * g.span;
    g.strip = ahead < ROOM ? (ROOM - ahead) / pixel / STEP * STEP : 0;
    if (g.strip < g.span) g.strip = amx_ceil(g.span, STEP) * STEP;
    if (g.strip < 8 * STEP) g.strip = 8 * STEP;
    if (g.strip > 32 * STEP) g.strip = 32 * STEP;
    if (g.strip > g.count) g.strip = g.count;
    /* An odd number of cache lines, so that rows begin in different sets. */
    g.row = (amx_ceil(g.strip + g.span, STEP) | 1) * STEP;
    g.x_bytes = (size_t)(in * SIDE * g.row) * 2;
    g.dy_bytes = (size_t)(g.out * SIDE * g.strip) * 2;
    g.sum_bytes = (size_t)(g.in * g.out * g.kernel * g.kernel * TILE) * sizeof(float);
    g.at_bytes = (size_t)(g.row + STEP) * sizeof(int64_t);
    return g;
}

static size_t thread_bytes(const wgrad_amx *g)
{
    return (g->x_bytes + g->dy_bytes + g->sum_bytes + g->at_bytes + 4095) / 4096 * 4096;
}

/* ---- rearranging */

/* at[k]: where pixel from + k of the grid lies in an array of images h x w, read from (y, x) on with a stride; -1:
 * nowhere. */
static void find_pixels(const wgrad_amx *g, int64_t from, int64_t count, int64_t h, int64_t w, int64_t stride, int64_t y,
                        int64_t x, int64_t *at)
{
    const int64_t left = x < 0 ? amx_ceil(-x, stride) : 0;
    int64_t right = x < w ? amx_ceil(w - x, stride) : 0;
    if (right > g->width) right = g->width;
    for (int64_t k = 0; k < count;) {
        const int64_t n = (from + k) / g->image, rest = (from + k) % g->image, first = rest % g->width;
        const int64_t iy = y + rest / g->width * stride, end = amx_fewer(g->width, first + count - k);
        const int64_t pixel = (n * h + iy) * w + x, inside = n < g->n && iy >= 0 && iy < h;
        int64_t *to = at + k - first;
        for (int64_t j = first; j < end; j++) to[j] = inside && j >= left && j < right ? pixel + j * stride : -1;
        k += end - first;
    }
}

/* Sixteen channels of two pixels, side by side by channel. Those of the step after this are called for: pixels are too
 * many streams for the processor to foresee. */
AMX_STEP __m512i pair(const uint16_t *x, int64_t channels, __mmask16 some, const int64_t *at)
{
    if (at[STEP] >= 0) _mm_prefetch((const char *)(x + at[STEP] * channels), _MM_HINT_T0);
    if (at[STEP + 1] >= 0) _mm_prefetch((const char *)(x + at[STEP + 1] * channels), _MM_HINT_T0);
    const __m256i a = at[0] < 0 ? _mm256_setzero_si256() : _mm256_maskz_loadu_epi16(some, x + at[0] * channels);
    const __m256i b = at[1] < 0 ? _mm256_setzero_si256() : _mm256_maskz_loadu_epi16(some, x + at[1] * channels);
    return _mm512_or_si512(_mm512_cvtepu16_epi32(a), _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
}

static __mmask16 lanes(int64_t left) { return left >= SIDE ? 0xffff : (__mmask16)((1u << left) - 1); }

/* The strip of x, and of what lies ahead of it, one phase: rows[channel][pixel]. */
AMX_LEAF void turn_inputs(const wgrad_block *b, int64_t py, int64_t px, uint16_t *rows)
{
    const wgrad_amx *g = b->g;
    const int64_t pixels = amx_ceil(b->steps * STEP + g->span, STEP) * STEP;
    find_pixels(g, b->from, pixels + STEP, g->h, g->w, g->stride, py - g->pad, px - g->pad, b->at);
    for (int64_t k = 0; k < pixels; k += STEP)
        for (int64_t i = 0; i < b->in; i++) {
            const int64_t c = (b->first_in + i) * SIDE;
            const __mmask16 some = lanes(g->ci - c);
            __m512i r[16];
            for (int j = 0; j < 16; j++) r[j] = pair(b->x + c, g->ci, some, b->at + k + 2 * j);
            amx_turn(r);
            for (int j = 0; j < 16; j++) _mm512_store_si512(rows + (i * SIDE + j) * g->row + k, r[j]);
        }
}

/* The strip of dy: pairs[tile][step], a pair of pixels a row. */
AMX_LEAF void pair_outputs(const wgrad_block *b)
{
    const wgrad_amx *g = b->g;
    find_pixels(g, b->from, b->steps * STEP + STEP, g->ho, g->wo, 1, 0, 0, b->at);
    for (int64_t k = 0; k < b->steps * STEP; k += STEP)
        for (int64_t o = 0; o < b->out; o++) {
            const int64_t c = (b->first_out + o) * SIDE;
            const __mmask16 some = lanes(g->co - c);
            uint16_t *to = b->pairs + o * g->strip * SIDE + k * SIDE;
            for (int j = 0; j < 16; j++)
                _mm512_store_si512(to + j * STEP, pair(b->dy + c, g->co, some, b->at + k + 2 * j));
        }
}

/* ---- products */

/* Tiles 0 to 3: sums, of two tiles of inputs by two of outputs; 4: inputs; 6, 7: outputs. */
AMX_LEAF void configure(const wgrad_amx *g)
{
    amx_tiles c = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        c.bytes[t] = 64;
        c.rows[t] = t < 6 && g->ci < SIDE ? (uint8_t)g->ci : SIDE; /* few inputs: shorter tiles are done earlier */
    }
    amx_configure(&c);
}

/* Adds the products of some steps to one or two tiles of inputs by one or two of outputs. With more taps, the next one's
 * sums, which lie in the L2, are called for meanwhile. */
AMX_STEP void multiply(const wgrad_block *b, int64_t steps, int wide_in, int wide_out, const uint16_t *x,
                       const uint16_t *y, float *sums)
{
    const wgrad_amx *g = b->g;
    const int64_t row = g->row * 2;
    const uint16_t *x2 = x + SIDE * g->row, *y2 = y + SIDE * g->strip;
    float *sums2 = sums + b->out * TILE;
    const float *next = sums + b->in * b->out * TILE, *next2 = next + b->out * TILE;
    const int more = g->kernel > 1;
    _tile_loadd(0, sums, 64);
    if (wide_out) _tile_loadd(1, sums + TILE, 64);
    if (wide_in) _tile_loadd(2, sums2, 64);
    if (wide_in && wide_out) _tile_loadd(3, sums2 + TILE, 64);
    for (int64_t k = 0; k < steps; k++, x += STEP, x2 += STEP, y += PART, y2 += PART) {
        for (int j = 0; more && j < 4 * SIDE; j += SIDE) { /* four cache lines of each two tiles, in STRETCH steps all */
            _mm_prefetch((const char *)(next + k * 4 * SIDE + j), _MM_HINT_T0);
            if (wide_in) _mm_prefetch((const char *)(next2 + k * 4 * SIDE + j), _MM_HINT_T0);
        }
        _tile_loadd(4, x, row);
        _tile_loadd(6, y, 64);
        if (wide_out) _tile_loadd(7, y2, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (wide_out) _tile_dpbf16ps(1, 4, 7);
        if (wide_in) {
            _tile_loadd(4, x2, row);
            _tile_dpbf16ps(2, 4, 6);
            if (wide_out) _tile_dpbf16ps(3, 4, 7);
        }
        _tile_zero(4); /* gives registers back: see conv_amx.c */
        _tile_zero(6);
        if (wide_out) _tile_zero(7);
    }
    _tile_stored(0, sums, 64);
    if (wide_out) _tile_stored(1, sums + TILE, 64);
    if (wide_in) _tile_stored(2, sums2, 64);
    if (wide_in && wide_out) _tile_stored(3, sums2 + TILE, 64);
}

/* All taps of two tiles of inputs and two of outputs, as far as there are, over the steps [from, from + steps). */
AMX_LEAF void multiply_taps(const wgrad_block *b, int64_t from, int64_t steps, int64_t i, int64_t o)
{
    const wgrad_amx *g = b->g;
    const int wide_in = i + 1 < b->in, wide_out = o + 1 < b->out;
    for (int64_t ky = 0; ky < g->kernel; ky++)
        for (int64_t kx = 0; kx < g->kernel; kx++) {
            const int64_t phase = ky % g->stride * g->phases + kx % g->stride;
            const int64_t ahead = ky / g->stride * g->width + kx / g->stride;
            const uint16_t *x = b->rows + (phase * b->in + i) * SIDE * g->row + from * STEP + ahead;
            const uint16_t *y = b->pairs + o * g->strip * SIDE + from * PART;
            float *sums = b->sums + ((ky * g->kernel + kx) * b->in * b->out + i * b->out + o) * TILE;
            if (wide_in && wide_out) multiply(b, steps, 1, 1, x, y, sums);
            else if (wide_in) multiply(b, steps, 1, 0, x, y, sums);
            else if (wide_out) multiply(b, steps, 0, 1, x, y, sums);
            else multiply(b, steps, 0, 0, x, y, sums);
        }
}

/* dw += the block's sums. */
AMX_LEAF void add_sums(const wgrad_block *b)
{
    const wgrad_amx *g = b->g;
    const int64_t taps = g->kernel * g->kernel;
    const float *sums = b->sums;
    for (int64_t tap = 0; tap < taps; tap++)
        for (int64_t i = 0; i < b->in; i++)
            for (int64_t o = 0; o < b->out; o++, sums += TILE) {
                const int64_t c = (b->first_in + i) * SIDE, first = (b->first_out + o) * SIDE;
                const int64_t outputs = amx_fewer(g->co - first, SIDE);
                const __mmask16 some = lanes(g->ci - c);
                __m512i r[16];
                for (int j = 0; j < 16; j++) r[j] = _mm512_load_si512(sums + j * SIDE);
                amx_turn(r);
                for (int64_t j = 0; j < outputs; j++) {
                    float *to = b->dw + ((first + j) * taps + tap) * g->ci + c;
                    const __m512 before = _mm512_maskz_loadu_ps(some, to);
                    _mm512_mask_storeu_ps(to, some, _mm512_add_ps(before, _mm512_castsi512_ps(r[j])));
                }
            }
}

AMX_LEAF void run_block(wgrad_block *b)
{
    const wgrad_amx *g = b->g;
    memset(b->sums, 0, g->sum_bytes);
    configure(g);
    for (b->from = 0; b->from < g->count; b->from += g->strip) {
        b->steps = amx_fewer(g->count - b->from, g->strip) / STEP;
        for (int64_t py = 0; py < g->phases; py++)
            for (int64_t px = 0; px < g->phases; px++)
                turn_inputs(b, py, px, b->rows + (py * g->phases + px) * b->in * SIDE * g->row);
        pair_outputs(b);
        for (int64_t k = 0; k < b->steps; k += STRETCH)
            for (int64_t i = 0; i < b->in; i += 2)
                for (int64_t o = 0; o < b->out; o += 2) multiply_taps(b, k, amx_fewer(b->steps - k, STRETCH), i, o);
    }
    _tile_release();
    add_sums(b);
}

/* ---- the whole */

int wgrad_amx_fits(const device *d, const op *o, const op_shapes *s)
{
    return d->isa == 2 && d->amx && o->kind == OP_CONV && s->x[0].type == TENSOR_BF16;
}

size_t wgrad_amx_scratch(const device *d, const op *o, const op_shapes *s)
{
    const wgrad_amx g = geometry(d, o, s);
    return thread_bytes(&g) * (size_t)d->threads;
}

void wgrad_amx_run(const device *d, const op *o, const op_shapes *s, const uint16_t *x, const uint16_t *dy, float *dw,
                   void *scratch)
{
    const wgrad_amx g = geometry(d, o, s);
    const int64_t down = amx_ceil(g.in_tiles, g.in), across = amx_ceil(g.out_tiles, g.out);
#pragma omp parallel for schedule(dynamic, 1) num_threads(d->threads)
    for (int64_t k = 0; k < down * across; k++) {
        char *room = (char *)scratch + (size_t)omp_get_thread_num() * thread_bytes(&g);
        const int64_t i = k / across * g.in, j = k % across * g.out;
        wgrad_block b = {.g = &g, .x = x, .dy = dy, .dw = dw, .first_in = i, .first_out = j,
                         .in = amx_fewer(g.in_tiles - i, g.in), .out = amx_fewer(g.out_tiles - j, g.out),
                         .rows = (uint16_t *)room, .pairs = (uint16_t *)(room + g.x_bytes),
                         .sums = (float *)(room + g.x_bytes + g.dy_bytes),
                         .at = (int64_t *)(room + g.x_bytes + g.dy_bytes + g.sum_bytes)};
        run_block(&b);
    }
}
