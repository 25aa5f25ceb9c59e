/* plane: planes and parts of a volume; see kernels/plane.h. Resampling is separable: tables of taps (two neighbours and a
 * fraction for each row and column). Rows are dealt to the device's threads; none changes a result. Several devices may put
 * planes into one array at once (stages/lanes): each plane has voxels of its own. */
#include "kernels/cpu/cpu.h"
#include "kernels/tap.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* ---- cut */

/* One input row: two source rows blended along the row and across. at(r, c) = row_base[c * step]. */
static void cut_row(int64_t n, plane_range r, const int16_t *above, const int16_t *below, float fraction, int64_t step,
                    const tap *columns, float *to)
{
    for (int64_t c = 0; c < n; c++) {
        tap t = columns[c];
        float a = (float)above[t.a * step], b = (float)below[t.a * step];
        a += t.fraction * ((float)above[t.b * step] - a);
        b += t.fraction * ((float)below[t.b * step] - b);
        to[c] = plane_shown(r, a + fraction * (b - a));
    }
}

status cpu_plane_cut(device *d, const plane_set *p, plane_range range, const int16_t *volume, int64_t first, int64_t count, float *to)
{
    tap columns[PLANE_COLS_MOST];
    COV_TRY(plane_set_check(p, first, count));
    int64_t slice = p->nx * p->ny, row_step = p->sagittal ? slice : p->nx, step = p->sagittal ? p->nx : 1;
    for (int64_t c = 0; c < p->used_cols; c++) columns[c] = tap_at(c, p->used_cols, p->sagittal ? p->ny : p->nx);
#pragma omp parallel for collapse(2) num_threads(d->threads)
    for (int64_t k = 0; k < count; k++)
        for (int64_t r = 0; r < p->rows; r++) {
            float *row = to + (k * p->rows + r) * p->cols;
            int inside = r >= p->row0 && r < p->row0 + p->used_rows;
            if (!inside || p->used_cols < p->cols) memset(row, 0, (size_t)p->cols * sizeof *row);
            if (!inside) continue;
            const int16_t *base = volume + (p->sagittal ? plane_middle_x(p, first + k) : (first + k) * slice);
            tap t = tap_at(r - p->row0, p->used_rows, p->sagittal ? p->nz : p->ny);
            cut_row(p->used_cols, range, base + t.a * row_step, base + t.b * row_step, t.fraction, step, columns, row + p->col0);
        }
    return COV_OK;
}

/* ---- put */

static float blend(const float *plane, const plane_set *p, tap r, tap c)
{
    plane += p->row0 * p->cols + p->col0;
    const float *above = plane + r.a * p->cols, *below = plane + r.b * p->cols;
    float a = above[c.a] + c.fraction * (above[c.b] - above[c.a]);
    float b = below[c.a] + c.fraction * (below[c.b] - below[c.a]);
    return a + r.fraction * (b - a);
}

static void put_slices(const plane_set *p, const float *from, int64_t first, int64_t count, int threads, float *to)
{
#pragma omp parallel for collapse(2) num_threads(threads)
    for (int64_t k = 0; k < count; k++)
        for (int64_t y = 0; y < p->ny; y++) {
            const float *plane = from + k * p->rows * p->cols;
            float *row = to + ((first + k) * p->ny + y) * p->nx;
            tap r = tap_at(y, p->ny, p->used_rows);
            if (p->nx == p->used_cols && p->ny == p->used_rows) {
                memcpy(row, plane + (p->row0 + y) * p->cols + p->col0, (size_t)p->nx * sizeof *row);
                continue;
            }
            for (int64_t x = 0; x < p->nx; x++) row[x] = blend(plane, p, r, tap_at(x, p->nx, p->used_cols));
        }
}

/* (z, y) outside and planes inside: the run's voxels of one (z, y) are neighbours in memory. */
static void put_sagittal(const plane_set *p, const float *from, int64_t first, int64_t count, int threads, float *to)
{
    int64_t plane = p->rows * p->cols;
#pragma omp parallel for collapse(2) num_threads(threads)
    for (int64_t z = 0; z < p->nz; z++)
        for (int64_t y = 0; y < p->ny; y++) {
            float *row = to + (z * p->ny + y) * p->width - p->x0;
            tap r = tap_at(z, p->nz, p->used_rows), c = tap_at(y, p->ny, p->used_cols);
            for (int64_t k = 0; k < count; k++) {
                float v = blend(from + k * plane, p, r, c);
                for (int64_t x = plane_first_x(p, first + k); x < plane_first_x(p, first + k + 1); x++) row[x] = v;
            }
        }
}

status cpu_plane_put(device *d, const plane_set *p, const float *from, int64_t first, int64_t count, float *to)
{
    COV_TRY(plane_set_check(p, first, count));
    if (p->sagittal) put_sagittal(p, from, first, count, d->threads, to);
    else put_slices(p, from, first, count, d->threads, to);
    return COV_OK;
}

/* ---- fuse */

/* The mean of the `reach` samples on each side and the one between, fewer at the ends, of a row of n. Shifted rows are added up, as
 * a running sum would keep the loop from being vectorized. */
static void mean_along(const float *from, int64_t n, int64_t reach, float *to)
{
    float inside = 1.0f / (float)(2 * reach + 1);
    memset(to, 0, (size_t)n * sizeof *to);
    for (int64_t k = -reach; k <= reach; k++) {
        int64_t low = k < 0 ? -k : 0, high = k > 0 ? n - k : n;
        for (int64_t x = low; x < high; x++) to[x] += from[x + k];
    }
    for (int64_t x = 0; x < n; x++) to[x] *= inside;
    for (int64_t x = 0; x < n; x = x + 1 == reach && n - reach > reach ? n - reach : x + 1) { /* the ends alone */
        int64_t low = x > reach ? x - reach : 0, high = x + reach < n ? x + reach : n - 1;
        to[x] *= (float)(2 * reach + 1) / (float)(high - low + 1);
    }
}

status cpu_plane_fuse(device *d, const plane_set *p, plane_blend blend_by, int64_t reach, const int16_t *volume, float *second, float *first)
{
    COV_TRY(plane_fuse_check(p, reach));
    int64_t n = p->width, rows = p->ny * p->nz;
    if (n == 0) return COV_OK;
    float *room = malloc((size_t)d->threads * (size_t)n * sizeof *room);
    if (!room) return COV_FAIL(COV_NOMEM, "no memory for rows of %lld numbers", (long long)n);
#pragma omp parallel num_threads(d->threads)
    {
        float *row = room + omp_get_thread_num() * n;
#pragma omp for
        for (int64_t k = 0; k < rows; k++) {
            float *from = second + k * n, *to = first + k * p->nx + p->x0;
            const int16_t *at = volume + k * p->nx + p->x0;
            mean_along(from, n, reach, row);
            mean_along(row, n, reach, from);
            for (int64_t x = 0; x < n; x++) to[x] = plane_blended(blend_by, at[x], to[x], from[x]);
        }
    }
    free(room);
    return COV_OK;
}

/* ---- parts */

static plane_bound bound_of(const float *slice, int32_t ny, int32_t nx)
{
    plane_bound b = {.y0 = ny, .x0 = nx};
    for (int32_t y = 0; y < ny; y++) {
        const float *row = slice + (int64_t)y * nx;
        int32_t first = 0, last = nx;
        while (first < nx && !(row[first] > 0)) first++;
        if (first == nx) continue;
        while (!(row[last - 1] > 0)) last--;
        b.x0 = first < b.x0 ? first : b.x0;
        b.x1 = last > b.x1 ? last : b.x1;
        b.y0 = y < b.y0 ? y : b.y0;
        b.y1 = y + 1;
    }
    return b.y1 ? b : (plane_bound){0};
}

status cpu_plane_bounds(device *d, int64_t nz, int64_t ny, int64_t nx, const float *value, plane_bound *bound)
{
    COV_TRY(plane_volume_check(nz, ny, nx));
#pragma omp parallel for num_threads(d->threads)
    for (int64_t z = 0; z < nz; z++) bound[z] = bound_of(value + z * ny * nx, (int32_t)ny, (int32_t)nx);
    return COV_OK;
}

/* Voxel of the whole array at which row `row` (all slices counted through) of a part begins. */
static int64_t row_start(const plane_part *p, int64_t row)
{
    return ((p->z0 + row / p->h) * p->ny + p->y0 + row % p->h) * p->nx + p->x0;
}

static void gray_row(int64_t n, plane_range r, const int16_t *restrict volume, float *restrict to)
{
    for (int64_t x = 0; x < n; x++) to[x] = plane_shown(r, (float)volume[x]) * 255.0f;
}

status cpu_plane_crop(device *d, const plane_part *p, plane_range r, const int16_t *volume, const float *value, float *gray, float *to)
{
    COV_TRY(plane_part_check(p));
#pragma omp parallel for num_threads(d->threads)
    for (int64_t row = 0; row < p->n * p->h; row++) {
        int64_t from = row_start(p, row);
        memcpy(to + row * p->w, value + from, sizeof *to * (size_t)p->w);
        gray_row(p->w, r, volume + from, gray + row * p->w);
    }
    return COV_OK;
}

status cpu_plane_mark(device *d, const plane_part *p, const float *value, float least, uint8_t *mask)
{
    COV_TRY(plane_part_check(p));
#pragma omp parallel for num_threads(d->threads)
    for (int64_t row = 0; row < p->n * p->h; row++) {
        uint8_t *to = mask + row_start(p, row);
        const float *from = value + row * p->w;
        for (int64_t x = 0; x < p->w; x++) to[x] = from[x] > least;
    }
    return COV_OK;
}

/* ---- stacks */

status cpu_plane_near(device *d, int64_t ny, int64_t nx, double ry, double rx, const uint8_t *mask, uint8_t *near)
{
    (void)d;
    COV_TRY(plane_near_check(ny, nx, ry, rx));
    plane_near_on_host(ny, nx, ry, rx, mask, near);
    return COV_OK;
}

typedef struct column {
    tap at;
    int64_t near; /* -1: beyond the canvas */
} column;

static void stack_row(const plane_frame *f, plane_range r, const int16_t *slice, const uint8_t *near, const column *columns, int64_t y,
                      float *to)
{
    tap t = tap_at(y, f->height, f->ny);
    const int16_t *above = slice + t.a * f->nx, *below = slice + t.b * f->nx;
    const uint8_t *mask = near ? near + plane_nearest(y, f->height, f->ny) * f->nx : NULL;
    for (int64_t c = 0; c < f->cols; c++) {
        column k = columns[c];
        float v = 0.0f;
        if (k.near >= 0 && (!mask || mask[k.near])) {
            float a = (float)above[k.at.a] + k.at.fraction * ((float)above[k.at.b] - (float)above[k.at.a]);
            float b = (float)below[k.at.a] + k.at.fraction * ((float)below[k.at.b] - (float)below[k.at.a]);
            v = plane_shown(r, a + t.fraction * (b - a));
        }
        to[PLANE_STACK * c] = v;
    }
}

/* Columns' taps are made once a call; rows' as they come. */
status cpu_plane_stack(device *d, const plane_frame *f, plane_range r, const plane_slices *s, float *to)
{
    column columns[PLANE_FRAME_COLS_MOST];
    COV_TRY(plane_frame_check(f));
    for (int64_t c = 0; c < f->cols; c++) {
        int64_t x = f->x0 + c;
        columns[c] = (column){.near = -1};
        if (x >= 0 && x < f->width) columns[c] = (column){.at = tap_at(x, f->width, f->nx), .near = plane_nearest(x, f->width, f->nx)};
    }
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int64_t i = 0; i < f->rows; i++) {
        float *row = to + i * f->cols * PLANE_STACK;
        int64_t y = f->y0 + i;
        for (int k = 0; k < PLANE_STACK; k++) {
            if (s->slice[k] && y >= 0 && y < f->height) stack_row(f, r, s->slice[k], s->near[k], columns, y, row + k);
            else for (int64_t c = 0; c < f->cols; c++) row[PLANE_STACK * c + k] = 0.0f;
        }
    }
    return COV_OK;
}

/* ---- back onto the slice */

static void keep_row(const plane_frame *f, const float *from, tap r, float least, const uint8_t *mask, float *to)
{
    const float *above = from + r.a * f->cols, *below = from + r.b * f->cols;
    for (int64_t x = 0; x < f->nx; x++) {
        tap c;
        to[x] = 0.0f;
        if ((mask && !mask[x]) || !tap_within(x, f->nx, f->width, f->x0, f->cols, &c)) continue;
        float a = above[c.a] + c.fraction * (above[c.b] - above[c.a]);
        float b = below[c.a] + c.fraction * (below[c.b] - below[c.a]);
        float v = a + r.fraction * (b - a);
        if (v >= least) to[x] = v;
    }
}

status cpu_plane_keep(device *d, const plane_frame *f, const float *from, float least, const uint8_t *mask, float *to)
{
    COV_TRY(plane_keep_check(f, least));
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int64_t y = 0; y < f->ny; y++) {
        tap r;
        float *row = to + y * f->nx;
        if (tap_within(y, f->ny, f->height, f->y0, f->rows, &r)) keep_row(f, from, r, least, mask ? mask + y * f->nx : NULL, row);
        else memset(row, 0, (size_t)f->nx * sizeof *row);
    }
    return COV_OK;
}

status cpu_plane_regions(device *d, int64_t ny, int64_t nx, const float *value, int32_t *labels, region_sum **out, int64_t *count)
{
    (void)d;
    return regions_sum(value, ny, nx, labels, out, count);
}
