/* cpu_crf: the fully connected CRF by mean field, each slice on one thread.
 *
 * With d = Q1 - Q0 = tanh(l/2) an iteration is l <- logit + w_a D_a K_a D_a d + w_s D_s K_s D_s d, D the diagonal of
 * 1/sqrt(row sum). K_a is summed on a bilateral grid (crf_grid.h), K_s by a truncated Gaussian along columns and rows,
 * or, where it is wide, on a grid without intensity. A sweep goes down the image in bands of one row of cells: a band's
 * pixels get their sums, are updated, and are splatted at once into the grid of the next iteration. Where a grid would
 * be larger or dearer than the sum itself (narrow theta_alpha, tiny theta_beta), K_a is summed over a window of pixels.
 * The order of every sum depends on the sizes only, so the number of threads changes no byte. */
#include "base/size.h"
#include "kernels/cpu/cpu.h"
#include "kernels/crf_grid.h"
#include "kernels/cpu/crf_rows.h"
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NODES = 1 << 26, SKEW = 48 }; /* floats between arrays, so that they do not share the same cache sets */
static const float widest_fir = 8;       /* theta_gamma beyond which the smoothness kernel takes a grid */

/* What all slices of a batch share. */
typedef struct field {
    crf_options o;
    int64_t h, w, n; /* n: w padded to CRF_LANES */
    int64_t stride;  /* of a plane */
    int band;        /* rows a band */
    const crf_rows *rows;
    crf_grid grid;
    int tiled;       /* cells are large enough, and levels few enough, for private sums */
    int window;      /* radius of the plain sum in place of the grid; 0: the grid */
    int fir;         /* radius of the smoothness filter; 0: smooth_grid */
    float taps[CRF_RADIUS + 1];
    crf_grid smooth_grid;
} field;

/* What one thread needs for a slice; all inside `memory`. */
typedef struct work {
    void *memory;
    float *plane[2];         /* scale_s * d, now and next; a row of `stride` floats */
    float *logit, *level, *scale_a; /* h rows of n */
    float *scale_s;          /* h rows of n; with a fir one row, to be multiplied by row_s */
    float *row_s;            /* h; ones without a fir */
    uint16_t *bins;          /* see crf_splat: rows in eights, n, 8 */
    uint16_t *range;         /* for each cell the lowest and highest first node of intensity */
    float *pairs;            /* band rows of 2n + SKEW */
    float *nodes[2];         /* the grid being read, and the one being filled */
    float *smooth_nodes[2];
    float *profile, *line, *scratch;
    float *fx, *smooth_fx;   /* position in a cell */
    float *columns;          /* CRF_ROWS rows with margins */
    float *sum_a, *sum_s;    /* CRF_ROWS rows of n */
    float *zeros;            /* a row */
    float *window_value, *window_level, *window_sum, *window_taps;
} work;

typedef enum pass { PASS_ONES, PASS_SCALE, PASS_START, PASS_STEP, PASS_LAST } pass;

static field field_plan(const crf_options *o, const crf_batch *b, const crf_rows *rows)
{
    field f = {.o = *o, .h = b->h, .w = b->w, .rows = rows};
    f.n = (b->w + CRF_LANES - 1) / CRF_LANES * CRF_LANES;
    f.stride = f.n + SKEW;
    f.grid = crf_grid_plan(b->h, b->w, o->theta_alpha, o->theta_beta);
    int64_t radius = (int64_t)ceilf(3.33F * o->theta_alpha), taps = (2 * radius + 1) * (2 * radius + 1);
    /* A node costs about 4 cycles an iteration, a tap of the plain sum 1.6. */
    if (f.grid.nodes > MAX_NODES || 4 * f.grid.nodes > b->h * b->w * taps * 8 / 5) f.window = (int)radius;
    f.tiled = f.grid.cell >= CRF_SPLAT_CELL && f.grid.levels * CRF_COPIES * CRF_BIN <= UINT16_MAX;
    f.band = f.window ? CRF_ROWS : f.grid.cell * ((CRF_ROWS + f.grid.cell - 1) / f.grid.cell);
    if (o->theta_gamma <= widest_fir)
        f.fir = crf_grid_taps((double)o->theta_gamma * (double)o->theta_gamma, f.taps);
    else
        f.smooth_grid = crf_grid_plan(b->h, b->w, o->theta_gamma, 0);
    return f;
}

/* --- memory ------------------------------------------------------------------------------------------------------ */

/* Gives out the next `count` floats; with base NULL it only counts. */
static float *carve(float *base, size_t *used, int64_t count)
{
    float *p = base ? base + *used : NULL;
    *used += ((size_t)count + CRF_LANES - 1) / CRF_LANES * CRF_LANES + SKEW;
    return p;
}

static size_t work_layout(const field *f, float *base, work *k)
{
    size_t used = 0;
    int64_t pixels = f->h * f->n, nodes = f->window ? 0 : f->grid.nodes;
    for (int i = 0; i < 2; i++) k->plane[i] = carve(base, &used, f->h * f->stride);
    k->logit = carve(base, &used, pixels);
    k->level = carve(base, &used, pixels);
    k->scale_a = carve(base, &used, pixels);
    k->scale_s = carve(base, &used, f->fir ? f->n : pixels);
    k->row_s = carve(base, &used, f->h);
    k->bins = (uint16_t *)carve(base, &used, (f->h + CRF_COPIES) * f->n / 2);
    k->range = (uint16_t *)carve(base, &used, f->grid.ny * f->grid.nx);
    k->pairs = carve(base, &used, f->band * (2 * f->n + SKEW));
    for (int i = 0; i < 2; i++) k->nodes[i] = carve(base, &used, nodes + CRF_LANES);
    for (int i = 0; i < 2; i++) k->smooth_nodes[i] = carve(base, &used, f->smooth_grid.nodes + CRF_LANES);
    int64_t depth = f->grid.depth, row = f->grid.nx * depth, smooth_row = f->smooth_grid.nx * f->smooth_grid.depth;
    k->profile = carve(base, &used, (row > smooth_row ? row : smooth_row) + CRF_LANES);
    int64_t long_line = row > smooth_row ? row : smooth_row;
    k->line = carve(base, &used, (depth > long_line ? depth : long_line) + 2 * CRF_MARGIN);
    k->scratch = carve(base, &used, CRF_COPIES * CRF_BIN * f->grid.levels + (int64_t)f->grid.cell * CRF_BIN);
    k->fx = carve(base, &used, f->grid.cell);
    k->smooth_fx = carve(base, &used, f->smooth_grid.cell + 1);
    k->columns = carve(base, &used, CRF_ROWS * (f->n + 2 * CRF_MARGIN));
    k->sum_a = carve(base, &used, CRF_ROWS * f->n);
    k->sum_s = carve(base, &used, CRF_ROWS * f->n);
    k->zeros = carve(base, &used, f->stride);
    if (f->window) {
        int64_t rim = (int64_t)f->window + CRF_LANES, area = (f->h + 2 * rim) * (f->n + 2 * rim);
        k->window_value = carve(base, &used, area);
        k->window_level = carve(base, &used, area);
        k->window_sum = carve(base, &used, pixels);
        k->window_taps = carve(base, &used, f->window + 1);
    }
    return used;
}

/* out[i] = 1/sqrt(sum of the taps that fall on 0..n-1). */
static void fir_scale(const field *f, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t k = -f->fir; k <= f->fir; k++)
            if (i + k >= 0 && i + k < n) sum += (double)f->taps[k < 0 ? -k : k];
        out[i] = (float)(1 / sqrt(sum));
    }
}

static status work_new(const field *f, work *k)
{
    *k = (work){0};
    size_t floats = work_layout(f, NULL, k), bytes;
    if (!size_mul(floats, sizeof(float), &bytes)) return COV_FAIL(COV_BROKEN, "crf: %zu floats of work", floats);
    bytes = (bytes + 63) / 64 * 64;
    k->memory = aligned_alloc(64, bytes);
    if (!k->memory) return COV_FAIL(COV_NOMEM, "crf: no memory for %zu bytes of work", bytes);
    memset(k->memory, 0, bytes);
    work_layout(f, k->memory, k);
    for (int i = 0; i < f->grid.cell; i++) k->fx[i] = (float)i / (float)f->grid.cell;
    for (int i = 0; i < f->smooth_grid.cell; i++) k->smooth_fx[i] = (float)i / (float)f->smooth_grid.cell;
    for (int64_t y = 0; y < f->h; y++) k->row_s[y] = 1;
    if (f->fir) {
        fir_scale(f, f->w, k->scale_s);
        fir_scale(f, f->h, k->row_s);
    }
    for (int i = 0; f->window && i <= f->window; i++)
        k->window_taps[i] = expf(-0.5F * (float)i * (float)i / (f->o.theta_alpha * f->o.theta_alpha));
    return COV_OK;
}

/* --- sums -------------------------------------------------------------------------------------------------------- */

static void grid_blur(const field *f, const crf_grid *g, work *k, float *nodes, float *spare)
{
    int64_t row = g->nx * g->depth;
    if (g->per_gray > 0) {
        float *line = k->line + CRF_MARGIN;
        memset(k->line, 0, (size_t)(g->depth + 2 * CRF_MARGIN) * sizeof(float));
        for (int64_t i = 0; i < g->ny * g->nx; i++) {
            memcpy(line, nodes + i * g->depth, (size_t)g->depth * sizeof(float));
            f->rows->row(line, g->radius_i, g->taps_i, g->depth, nodes + i * g->depth);
        }
    }
    for (int64_t y = 0; y < g->ny; y++)
        f->rows->axis(nodes + y * row, spare + y * row, g->nx, g->depth, g->radius, g->taps);
    f->rows->axis(spare, nodes, g->ny, row, g->radius, g->taps);
}

static void grid_slice(const field *f, const crf_grid *g, work *k, const float *nodes, const float *fx,
                       const float *level, int64_t y, float *sum)
{
    int64_t row = g->nx * g->depth;
    f->rows->slice(&(crf_slice){.grid = g,
                                .nodes = nodes + y / g->cell * row,
                                .fy = (float)(y % g->cell) / (float)g->cell,
                                .fx = fx,
                                .level = level,
                                .profile = k->profile,
                                .sum = sum,
                                .n = f->w});
}

/* sum_a and sum_s of rows y .. y+count-1. */
static void sum_rows(const field *f, work *k, int64_t y, int count)
{
    if (f->fir) {
        const float *rows[CRF_ROWS + 2 * CRF_RADIUS];
        for (int i = 0; i < CRF_ROWS + 2 * f->fir; i++) {
            int64_t at = y + i - f->fir;
            rows[i] = at >= 0 && at < f->h ? k->plane[0] + at * f->stride : k->zeros;
        }
        int64_t stride = f->n + 2 * CRF_MARGIN;
        f->rows->columns(rows, f->fir, f->taps, f->n, k->columns + CRF_MARGIN, stride);
        for (int r = 0; r < count; r++)
            f->rows->row(k->columns + CRF_MARGIN + r * stride, f->fir, f->taps, f->n, k->sum_s + r * f->n);
    } else {
        for (int r = 0; r < count; r++)
            grid_slice(f, &f->smooth_grid, k, k->smooth_nodes[0], k->smooth_fx, k->zeros, y + r, k->sum_s + r * f->n);
    }
    for (int r = 0; r < count; r++) {
        if (f->window)
            memcpy(k->sum_a + r * f->n, k->window_sum + (y + r) * f->n, (size_t)f->n * sizeof(float));
        else
            grid_slice(f, &f->grid, k, k->nodes[0], k->fx, k->level + (y + r) * f->n, y + r, k->sum_a + r * f->n);
    }
}

/* --- what a finished band feeds into the next iteration ---------------------------------------------------------- */

static void feed_window(const field *f, work *k, int64_t y, int rows)
{
    int64_t rim = (int64_t)f->window + CRF_LANES, stride = f->n + 2 * rim;
    for (int r = 0; r < rows; r++) {
        const float *pairs = k->pairs + r * (2 * f->n + SKEW);
        float *value = k->window_value + (y + r + rim) * stride + rim;
        float *level = k->window_level + (y + r + rim) * stride + rim;
        for (int64_t x = 0; x < f->n; x++) value[x] = pairs[2 * x] + pairs[2 * x + 1];
        memcpy(level, k->level + (y + r) * f->n, (size_t)f->n * sizeof(float));
    }
}

/* The pixels of small cells one by one: tiles of private sums would be dearer to clear than to fill. */
static void feed_scattered(const field *f, work *k, int64_t y, int rows)
{
    const crf_grid *g = &f->grid;
    for (int r = 0; r < rows; r++) {
        const float *pairs = k->pairs + r * (2 * f->n + SKEW);
        const float *level = k->level + (y + r) * f->n;
        float fy = (float)((y + r) % g->cell) / (float)g->cell;
        float *top = k->nodes[1] + (y + r) / g->cell * g->nx * g->depth, *bottom = top + g->nx * g->depth;
        for (int64_t x = 0; x < f->w; x++) {
            float fx = k->fx[x % g->cell], a = pairs[2 * x], b = pairs[2 * x + 1];
            int64_t at = x / g->cell * g->depth + (int)level[x], right = at + g->depth;
            top[at] += (1 - fx) * (1 - fy) * a, top[at + 1] += (1 - fx) * (1 - fy) * b;
            top[right] += fx * (1 - fy) * a, top[right + 1] += fx * (1 - fy) * b;
            bottom[at] += (1 - fx) * fy * a, bottom[at + 1] += (1 - fx) * fy * b;
            bottom[right] += fx * fy * a, bottom[right + 1] += fx * fy * b;
        }
    }
}

static void feed_smooth(const field *f, work *k, int64_t y, int rows)
{
    const crf_grid *g = &f->smooth_grid;
    for (int r = 0; r < rows; r++) {
        const float *value = k->plane[1] + (y + r) * f->stride;
        float fy = (float)((y + r) % g->cell) / (float)g->cell;
        float *top = k->smooth_nodes[1] + (y + r) / g->cell * g->nx * g->depth, *bottom = top + g->nx * g->depth;
        for (int64_t x = 0; x < f->w; x++) {
            float fx = k->smooth_fx[x % g->cell];
            int64_t at = x / g->cell * g->depth, right = at + g->depth;
            top[at] += (1 - fx) * (1 - fy) * value[x], top[right] += fx * (1 - fy) * value[x];
            bottom[at] += (1 - fx) * fy * value[x], bottom[right] += fx * fy * value[x];
        }
    }
}

static void feed_band(const field *f, work *k, int64_t y, int rows)
{
    const crf_grid *g = &f->grid;
    if (!f->fir) feed_smooth(f, k, y, rows);
    if (f->window) {
        feed_window(f, k, y, rows);
    } else if (!f->tiled) {
        feed_scattered(f, k, y, rows);
    } else {
        f->rows->splat(&(crf_splat){.grid = g,
                                    .nodes = k->nodes[1] + y / g->cell * g->nx * g->depth,
                                    .fx = k->fx,
                                    .pairs = k->pairs,
                                    .stride = 2 * f->n + SKEW,
                                    .bins = k->bins + y * f->n,
                                    .bin_stride = CRF_COPIES * f->n,
                                    .range = k->range + y / g->cell * g->nx * 2,
                                    .n = f->w,
                                    .rows = rows,
                                    .scratch = k->scratch});
    }
}

static void swap(float *pair[2])
{
    float *t = pair[0];
    pair[0] = pair[1];
    pair[1] = t;
}

/* Makes what was fed the thing that is read, and empties the other for the next sweep. */
static void turn(const field *f, work *k)
{
    swap(k->plane);
    if (f->window) {
        int64_t rim = (int64_t)f->window + CRF_LANES, stride = f->n + 2 * rim;
        for (int64_t y = 0; y < f->h; y++)
            f->rows->window(&(crf_window){.n = f->n,
                                          .stride = stride,
                                          .radius = f->window,
                                          .taps = k->window_taps,
                                          .value = k->window_value + (y + rim) * stride + rim,
                                          .level = k->window_level + (y + rim) * stride + rim,
                                          .sum = k->window_sum + y * f->n});
    } else {
        grid_blur(f, &f->grid, k, k->nodes[1], k->nodes[0]);
        swap(k->nodes);
        memset(k->nodes[1], 0, (size_t)f->grid.nodes * sizeof(float));
    }
    if (!f->fir) {
        grid_blur(f, &f->smooth_grid, k, k->smooth_nodes[1], k->smooth_nodes[0]);
        swap(k->smooth_nodes);
        memset(k->smooth_nodes[1], 0, (size_t)f->smooth_grid.nodes * sizeof(float));
    }
}

/* --- sweeps ------------------------------------------------------------------------------------------------------ */

/* d = 1 and no scales: what the row sums are made of. */
static void ones_row(const field *f, work *k, int64_t y, float *pairs)
{
    const float *level = k->level + y * f->n;
    float *plane = k->plane[1] + y * f->stride;
    for (int64_t x = 0; x < f->w; x++) {
        float part = level[x] - (float)(int)level[x];
        plane[x] = 1;
        pairs[2 * x] = 1 - part;
        pairs[2 * x + 1] = part;
    }
}

static void scale_row(const field *f, work *k, int64_t y, int r)
{
    for (int64_t x = 0; x < f->w; x++) {
        k->scale_a[y * f->n + x] = 1 / sqrtf(k->sum_a[r * f->n + x]);
        if (!f->fir) k->scale_s[y * f->n + x] = 1 / sqrtf(k->sum_s[r * f->n + x]);
    }
}

static float update_row(const field *f, work *k, pass p, int64_t y, int r, float *pairs)
{
    int64_t at = y * f->n;
    int start = p == PASS_START;
    return f->rows->update(&(crf_update){.n = f->n,
                                         .wa = f->o.w_appearance,
                                         .ws = f->o.w_smooth,
                                         .logit = k->logit + at,
                                         .scale_a = k->scale_a + at,
                                         .scale_s = k->scale_s + (f->fir ? 0 : at),
                                         .row_s = k->row_s[y],
                                         .sum_a = start ? k->zeros : k->sum_a + r * f->n,
                                         .sum_s = start ? k->zeros : k->sum_s + r * f->n,
                                         .level = k->level + at,
                                         .before = k->plane[0] + y * f->stride,
                                         .after = k->plane[1] + y * f->stride,
                                         .pairs = pairs,
                                         .tolerance = 2 * f->o.tolerance});
}

/* One way down the image. Returns above 0 while a Q moves by more than the tolerance. */
static float sweep(const field *f, work *k, pass p)
{
    float most = -1;
    for (int64_t y0 = 0; y0 < f->h; y0 += f->band) {
        int64_t end = y0 + f->band < f->h ? y0 + f->band : f->h;
        for (int64_t y = y0; y < end; y += CRF_ROWS) {
            int count = end - y < CRF_ROWS ? (int)(end - y) : CRF_ROWS;
            if (p == PASS_SCALE || p == PASS_STEP || p == PASS_LAST) sum_rows(f, k, y, count);
            for (int r = 0; r < count; r++) {
                float *pairs = k->pairs + (y + r - y0) * (2 * f->n + SKEW), moved = -1;
                if (p == PASS_ONES) ones_row(f, k, y + r, pairs);
                else if (p == PASS_SCALE) scale_row(f, k, y + r, r);
                else moved = update_row(f, k, p, y + r, r, pairs);
                most = moved > most ? moved : most;
            }
        }
        if (p != PASS_SCALE && p != PASS_LAST) feed_band(f, k, y0, (int)(end - y0));
    }
    return most;
}

/* Where the splat finds its sums, and in which part of them each cell's pixels fall. */
static void bins_load(const field *f, work *k)
{
    const crf_grid *g = &f->grid;
    for (int64_t i = 0; i < g->ny * g->nx; i++) k->range[2 * i] = UINT16_MAX, k->range[2 * i + 1] = 0;
    for (int64_t y = 0; y < f->h; y++) {
        uint16_t *bins = k->bins + y / CRF_COPIES * CRF_COPIES * f->n + y % CRF_COPIES;
        for (int64_t x = 0; x < f->w; x++) {
            uint16_t b = (uint16_t)k->level[y * f->n + x];
            uint16_t *range = k->range + 2 * (y / g->cell * g->nx + x / g->cell);
            bins[x * CRF_COPIES] = (uint16_t)(b * (CRF_COPIES * CRF_BIN));
            range[0] = b < range[0] ? b : range[0];
            range[1] = b > range[1] ? b : range[1];
        }
    }
}

static void slice_load(const field *f, work *k, const float *logit, const float *intensity)
{
    for (int i = 0; i < 2 && !f->window; i++) memset(k->nodes[i], 0, (size_t)f->grid.nodes * sizeof(float));
    for (int i = 0; i < 2 && !f->fir; i++)
        memset(k->smooth_nodes[i], 0, (size_t)f->smooth_grid.nodes * sizeof(float));
    for (int64_t y = 0; y < f->h; y++)
        for (int64_t x = 0; x < f->w; x++) {
            float t = intensity[y * f->w + x];
            t = t > 0 ? t : 0; /* a NaN too */
            t = t < 255 ? t : 255;
            k->logit[y * f->n + x] = logit[y * f->w + x];
            k->level[y * f->n + x] = t * f->grid.per_gray;
        }
    if (!f->window && f->tiled) bins_load(f, k);
}

/* The number of iterations done. */
static int slice_run(const field *f, work *k, const float *logit, const float *intensity, float *probability)
{
    slice_load(f, k, logit, intensity);
    sweep(f, k, PASS_ONES);
    turn(f, k);
    sweep(f, k, PASS_SCALE);
    sweep(f, k, PASS_START);
    int done = 0;
    for (int moving = 1; done < f->o.iterations && moving; done++) {
        turn(f, k);
        float moved = sweep(f, k, done + 1 < f->o.iterations ? PASS_STEP : PASS_LAST);
        moving = f->o.tolerance == 0.0F || moved > 0;
    }
    for (int64_t y = 0; y < f->h; y++) {
        const float *plane = k->plane[1] + y * f->stride, *scale = k->scale_s + (f->fir ? 0 : y * f->n);
        for (int64_t x = 0; x < f->w; x++)
            probability[y * f->w + x] = 0.5F + 0.5F * plane[x] / (k->row_s[y] * scale[x]);
    }
    return done;
}

status crf_rows_run(const crf_rows *rows, int threads, const crf_options *o, const crf_batch *b)
{
    COV_TRY(crf_check(o, b));
    int64_t pixels = b->h * b->w, bad = crf_first_bad(b->logit, b->n * pixels);
    if (bad >= 0)
        return COV_FAIL(COV_BROKEN, "crf: logit of slice %lld, pixel %lld is not finite", (long long)(bad / pixels),
                        (long long)(bad % pixels));
    if (b->n == 0) return COV_OK;
    status s = COV_OK;
    field f = field_plan(o, b, rows);
    if (threads > b->n) threads = (int)b->n;
    int made = 0;
    work *works = calloc((size_t)threads, sizeof *works);
    if (!works) return COV_FAIL(COV_NOMEM, "crf: no memory for %d threads", threads);
    for (; made < threads; made++) COV_GO(work_new(&f, &works[made]));
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t i = 0; i < b->n; i++) {
        int done = slice_run(&f, &works[omp_get_thread_num()], b->logit + i * pixels, b->intensity + i * pixels,
                             b->probability + i * pixels);
        if (b->iterations_done) b->iterations_done[i] = done;
    }
done:
    for (int i = 0; i < made; i++) free(works[i].memory);
    free(works);
    return s;
}

status cpu_crf(device *d, const crf_options *o, const crf_batch *b)
{
    COV_TRY(crf_rows_run(crf_rows_best(), d->threads, o, b));
    return COV_OK;
}
