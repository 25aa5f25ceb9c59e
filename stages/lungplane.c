/* lungplane: see lungplane.h. Both directions are separable bilinear resampling with tables of taps (two neighbours and a
 * fraction for each output row and column), the same half-pixel convention as net_resize. */
#include "stages/lungplane.h"
#include "base/size.h"
#include "kernels/tap.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { AXIAL_SIZE = 512, SAGITTAL_SIZE = 256, ROWS_MOST = 1024 };

static int64_t padded(int64_t n)
{
    return (n + LUNGNET_STRIDE - 1) / LUNGNET_STRIDE * LUNGNET_STRIDE;
}

/* The spacing of pictures, and of a header that was never filled in, means nothing. */
static int cuts_chest(const volume_header *h)
{
    int nominal = h->spacing_mm[0] == 1.0 && h->spacing_mm[1] == 1.0 && h->spacing_mm[2] == 1.0;
    return !h->isolated && !nominal && (double)h->nx * h->spacing_mm[0] < LUNGPLANE_FIELD_MM;
}

/* Whole pixels, 1 to `most`. */
static int64_t pixels(double n, int64_t most)
{
    return n < 1.0 ? 1 : n > (double)most ? most : (int64_t)lround(n);
}

status lungplane_of(lungnet_view view, const volume_header *h, lungplane *out)
{
    if (h->nx < 1 || h->ny < 1 || h->nz < 1 || !(h->spacing_mm[0] > 0.0) || !(h->spacing_mm[1] > 0.0) || !(h->spacing_mm[2] > 0.0))
        return COV_FAIL(COV_UNSUPPORTED, "a volume of %lld x %lld x %lld voxels, %g x %g x %g mm, has no planes to segment",
                        (long long)h->nx, (long long)h->ny, (long long)h->nz, h->spacing_mm[0], h->spacing_mm[1],
                        h->spacing_mm[2]);
    lungplane p = {.view = view, .nx = h->nx, .ny = h->ny, .nz = h->nz};
    int64_t size = view == LUNGNET_AXIAL ? AXIAL_SIZE : SAGITTAL_SIZE, used_x = size, used_y = size;
    double width_mm = (double)h->nx * h->spacing_mm[0], height_mm = (double)h->ny * h->spacing_mm[1], pixel_mm = height_mm / (double)size;
    if (cuts_chest(h)) {
        pixel_mm = LUNGPLANE_FIELD_MM / (double)size;
        used_x = pixels(width_mm / pixel_mm, size);
        used_y = pixels(height_mm / pixel_mm, size);
    }
    if (view == LUNGNET_AXIAL) {
        p.planes = h->nz;
        p.source_rows = h->ny;
        p.source_cols = h->nx;
        p.used_rows = used_y;
        p.used_cols = used_x;
        p.rows = size;
        p.row0 = (size - used_y) / 2;
    } else {
        p.planes = h->nx < used_x ? h->nx : used_x;
        p.source_rows = h->nz;
        p.source_cols = h->ny;
        p.used_rows = pixels((double)h->nz * h->spacing_mm[2] / pixel_mm, ROWS_MOST);
        p.used_cols = used_y;
        p.rows = padded(p.used_rows);
    }
    p.cols = size;
    p.col0 = (size - p.used_cols) / 2;
    p.all = p.planes;
    p.width = p.nx;
    *out = p;
    return COV_OK;
}

/* The x whose plane stands for sagittal plane k, and the voxels first_x(k) .. first_x(k+1)-1 that take its logits. */
static int64_t first_x(const lungplane *p, int64_t k)
{
    return (p->first + k) * p->nx / p->all;
}

static int64_t middle_x(const lungplane *p, int64_t k)
{
    return (first_x(p, k) + first_x(p, k + 1)) / 2;
}

void lungplane_between(lungplane *p, int64_t x0, int64_t x1)
{
    int64_t last = p->all;
    while (p->first < last && first_x(p, 1) <= x0) p->first++;
    while (last > p->first && first_x(p, last - p->first - 1) >= x1) last--;
    p->planes = last - p->first;
    p->x0 = first_x(p, 0);
    p->width = first_x(p, p->planes) - p->x0;
}

/* One input row: two source rows blended along the row and across. at(r, c) = row_base[c * step]. */
static void get_row(const lungplane *p, window w, const int16_t *above, const int16_t *below, float fraction, int64_t step,
                    const tap *columns, float *out)
{
    float low = w.level - 0.5f * w.width;
    for (int64_t c = 0; c < p->used_cols; c++) {
        tap t = columns[c];
        float a = (float)above[t.a * step], b = (float)below[t.a * step];
        a += t.fraction * ((float)above[t.b * step] - a);
        b += t.fraction * ((float)below[t.b * step] - b);
        float v = (a + fraction * (b - a) - low) / w.width;
        v = v > 0.0f ? v : 0.0f;
        out[c] = v < 1.0f ? v : 1.0f;
    }
}

void lungplane_get(const lungplane *p, window w, const int16_t *hu, int64_t first, int64_t count, int threads, float *out)
{
    enum { COLS_MOST = AXIAL_SIZE };
    tap columns[COLS_MOST];
    for (int64_t c = 0; c < p->used_cols; c++) columns[c] = tap_at(c, p->used_cols, p->source_cols);
    int64_t plane = p->nx * p->ny, row_step = p->view == LUNGNET_AXIAL ? p->nx : plane;
    int64_t step = p->view == LUNGNET_AXIAL ? 1 : p->nx;
#pragma omp parallel for collapse(2) num_threads(threads)
    for (int64_t k = 0; k < count; k++)
        for (int64_t r = 0; r < p->rows; r++) {
            float *row = out + (k * p->rows + r) * p->cols;
            int inside = r >= p->row0 && r < p->row0 + p->used_rows;
            if (!inside || p->used_cols < p->cols) memset(row, 0, (size_t)p->cols * sizeof *row);
            if (!inside) continue;
            const int16_t *base = hu + (p->view == LUNGNET_AXIAL ? (first + k) * plane : middle_x(p, first + k));
            tap t = tap_at(r - p->row0, p->used_rows, p->source_rows);
            get_row(p, w, base + t.a * row_step, base + t.b * row_step, t.fraction, step, columns, row + p->col0);
        }
}

static float blend(const float *logits, const lungplane *p, tap r, tap c)
{
    logits += p->row0 * p->cols + p->col0;
    const float *above = logits + r.a * p->cols, *below = logits + r.b * p->cols;
    float a = above[c.a] + c.fraction * (above[c.b] - above[c.a]);
    float b = below[c.a] + c.fraction * (below[c.b] - below[c.a]);
    return a + r.fraction * (b - a);
}

static void put_axial(const lungplane *p, const float *logits, int64_t first, int64_t count, int threads,
                      float *to)
{
#pragma omp parallel for collapse(2) num_threads(threads)
    for (int64_t k = 0; k < count; k++)
        for (int64_t y = 0; y < p->ny; y++) {
            const float *plane = logits + k * p->rows * p->cols;
            float *row = to + ((first + k) * p->ny + y) * p->nx;
            tap r = tap_at(y, p->ny, p->used_rows);
            if (p->nx == p->used_cols && p->ny == p->used_rows) {
                const float *same = plane + (p->row0 + y) * p->cols + p->col0;
                for (int64_t x = 0; x < p->nx; x++) row[x] += same[x];
                continue;
            }
            for (int64_t x = 0; x < p->nx; x++) row[x] += blend(plane, p, r, tap_at(x, p->nx, p->used_cols));
        }
}

/* (z, y) outside and planes inside: the run's voxels of one (z, y) are neighbours in memory. */
static void put_sagittal(const lungplane *p, const float *logits, int64_t first, int64_t count, int threads,
                         float *to)
{
    int64_t plane = p->rows * p->cols;
#pragma omp parallel for collapse(2) num_threads(threads)
    for (int64_t z = 0; z < p->nz; z++)
        for (int64_t y = 0; y < p->ny; y++) {
            float *row = to + (z * p->ny + y) * p->width - p->x0;
            tap r = tap_at(z, p->nz, p->used_rows), c = tap_at(y, p->ny, p->used_cols);
            for (int64_t k = 0; k < count; k++) {
                float v = blend(logits + k * plane, p, r, c);
                for (int64_t x = first_x(p, first + k); x < first_x(p, first + k + 1); x++) row[x] += v;
            }
        }
}

void lungplane_put(const lungplane *p, const float *logits, int64_t first, int64_t count, int threads, float *to)
{
    if (p->view == LUNGNET_AXIAL)
        put_axial(p, logits, first, count, threads, to);
    else
        put_sagittal(p, logits, first, count, threads, to);
}
