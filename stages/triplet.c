/* triplet: see triplet.h. Columns' taps are made once a call; rows' as they come. */
#include "stages/triplet.h"
#include "kernels/tap.h"
#include <math.h>
#include <string.h>

enum { EDGE = 16, CHANNELS = 3, COLS_MOST = 2048 };

triplet_frame triplet_whole(int64_t ny, int64_t nx, int64_t rows, int64_t cols)
{
    return (triplet_frame){.ny = ny, .nx = nx, .height = rows, .width = cols, .rows = rows, .cols = cols};
}

/* Canvas pixels low .. high-1 on an axis of n source samples, of which first .. last are lung: wider by EDGE, out to
 * the stride. */
static void span(int64_t first, int64_t last, int64_t n, int64_t *start, int64_t *length)
{
    int64_t low = first * TRIPLET_CANVAS / n - EDGE, high = (last + 1) * TRIPLET_CANVAS / n + EDGE + 1;
    low = low < 0 ? 0 : low / TRIPLET_STRIDE * TRIPLET_STRIDE;
    high = (high + TRIPLET_STRIDE - 1) / TRIPLET_STRIDE * TRIPLET_STRIDE;
    *start = low;
    *length = (high > TRIPLET_CANVAS ? TRIPLET_CANVAS : high) - low;
}

triplet_frame triplet_around(const uint8_t *lung, int64_t nz, int64_t ny, int64_t nx)
{
    triplet_frame f = triplet_whole(ny, nx, TRIPLET_CANVAS, TRIPLET_CANVAS);
    int64_t y0 = ny, y1 = -1, x0 = nx, x1 = -1;
    for (int64_t r = 0; lung && r < nz * ny; r++) {
        const uint8_t *row = lung + r * nx;
        int64_t a = 0, b = nx - 1, y = r % ny;
        while (a < nx && !row[a]) a++;
        if (a == nx) continue;
        while (!row[b]) b--;
        x0 = a < x0 ? a : x0;
        x1 = b > x1 ? b : x1;
        y0 = y < y0 ? y : y0;
        y1 = y > y1 ? y : y1;
    }
    if (y1 < 0) return f;
    span(y0, y1, ny, &f.y0, &f.rows);
    span(x0, x1, nx, &f.x0, &f.cols);
    return f;
}

/* to |= from, widened by `reach` to both sides. */
static void widen(const uint8_t *from, int64_t n, int64_t reach, uint8_t *to)
{
    int64_t since = 2 * reach + 1; /* pixels since the last lung */
    for (int64_t x = 0; x < n + reach; x++) {
        since = x < n && from[x] ? 0 : since + 1;
        if (x >= reach && since <= 2 * reach) to[x - reach] = 1;
    }
}

void triplet_roi(const uint8_t *lung, int64_t ny, int64_t nx, uint8_t *roi)
{
    double ry = (double)TRIPLET_MARGIN * (double)ny / TRIPLET_CANVAS,
           rx = (double)TRIPLET_MARGIN * (double)nx / TRIPLET_CANVAS;
    memset(roi, 0, (size_t)(ny * nx));
    for (int64_t y = 0; y < ny; y++) {
        const uint8_t *row = lung + y * nx;
        int64_t a = 0, b = nx;
        while (a < nx && !row[a]) a++;
        if (a == nx) continue;
        while (!row[b - 1]) b--;
        for (int64_t d = -(int64_t)ry; d <= (int64_t)ry; d++) {
            if (y + d < 0 || y + d >= ny) continue;
            double across = ry > 0.0 ? (double)d / ry : 0.0;
            int64_t reach = (int64_t)floor(rx * sqrt(1.0 - across * across) + 1e-9);
            int64_t low = a > reach ? a - reach : 0, high = b + reach < nx ? b + reach : nx;
            widen(row + low, high - low, reach, roi + (y + d) * nx + low);
        }
    }
}

static int64_t nearest(int64_t to, int64_t to_n, int64_t from_n)
{
    return (2 * to + 1) * from_n / (2 * to_n);
}

typedef struct column {
    tap at;
    int64_t near;
} column;

static void cut_row(const triplet_frame *f, window w, const int16_t *hu, const uint8_t *roi, const column *columns,
                    int64_t y, float *out)
{
    const float low = w.level - 0.5f * w.width;
    tap t = tap_at(y, f->height, f->ny);
    const int16_t *above = hu + t.a * f->nx, *below = hu + t.b * f->nx;
    const uint8_t *mask = roi ? roi + nearest(y, f->height, f->ny) * f->nx : NULL;
    for (int64_t c = 0; c < f->cols; c++) {
        column k = columns[c];
        float v = 0.0f;
        if (k.near >= 0 && (!mask || mask[k.near])) {
            float a = (float)above[k.at.a] + k.at.fraction * ((float)above[k.at.b] - (float)above[k.at.a]);
            float b = (float)below[k.at.a] + k.at.fraction * ((float)below[k.at.b] - (float)below[k.at.a]);
            v = (a + t.fraction * (b - a) - low) / w.width;
            v = v > 0.0f ? v : 0.0f;
            v = v < 1.0f ? v : 1.0f;
        }
        out[CHANNELS * c] = v;
    }
}

static void columns_of(const triplet_frame *f, column *columns)
{
    for (int64_t c = 0; c < f->cols; c++) {
        int64_t x = f->x0 + c;
        int inside = x >= 0 && x < f->width;
        columns[c] = (column){.near = -1};
        if (inside) columns[c] = (column){.at = tap_at(x, f->width, f->nx), .near = nearest(x, f->width, f->nx)};
    }
}

void triplet_cut(const triplet_frame *f, window w, const triplet_slices *s, int threads, float *out)
{
    column columns[COLS_MOST];
    columns_of(f, columns);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t r = 0; r < f->rows; r++) {
        float *row = out + r * f->cols * CHANNELS;
        int64_t y = f->y0 + r;
        for (int k = 0; k < CHANNELS; k++) {
            if (s->hu[k] && y >= 0 && y < f->height) cut_row(f, w, s->hu[k], s->roi[k], columns, y, row + k);
            else for (int64_t c = 0; c < f->cols; c++) row[CHANNELS * c + k] = 0.0f;
        }
    }
}

void triplet_mask(const triplet_frame *f, const uint8_t *mask, float *out)
{
    column columns[COLS_MOST];
    columns_of(f, columns);
    for (int64_t r = 0; r < f->rows; r++) {
        int64_t y = f->y0 + r;
        const uint8_t *row = y >= 0 && y < f->height ? mask + nearest(y, f->height, f->ny) * f->nx : NULL;
        for (int64_t c = 0; c < f->cols; c++)
            out[r * f->cols + c] = row && columns[c].near >= 0 && row[columns[c].near] ? 1.0f : 0.0f;
    }
}

box triplet_box_to_slice(const triplet_frame *f, box b)
{
    float y = (float)f->ny / (float)f->height, x = (float)f->nx / (float)f->width, y0 = (float)f->y0, x0 = (float)f->x0;
    return (box){(b.y0 + y0) * y, (b.x0 + x0) * x, (b.y1 + y0) * y, (b.x1 + x0) * x};
}

box triplet_box_to_input(const triplet_frame *f, box b)
{
    float y = (float)f->height / (float)f->ny, x = (float)f->width / (float)f->nx, y0 = (float)f->y0, x0 = (float)f->x0;
    return (box){b.y0 * y - y0, b.x0 * x - x0, b.y1 * y - y0, b.x1 * x - x0};
}

/* Where slice sample `at` of n lies among the input's `used` samples from `start` of a canvas of `size`; -1 outside. */
static int inside(int64_t at, int64_t n, int64_t size, int64_t start, int64_t used, tap *out)
{
    double centre = ((double)at + 0.5) * (double)size / (double)n - (double)start;
    if (centre < 0.0 || centre >= (double)used) return 0;
    double place = centre - 0.5 < 0.0 ? 0.0 : centre - 0.5 > (double)(used - 1) ? (double)(used - 1) : centre - 0.5;
    int64_t a = (int64_t)place;
    *out = (tap){.a = a, .b = a + 1 < used ? a + 1 : a, .fraction = (float)(place - (double)a)};
    return 1;
}

void triplet_put(const triplet_frame *f, const float *from, float outside, int threads, float *to)
{
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t y = 0; y < f->ny; y++) {
        tap r = {0, 0, 0}, c = r;
        int shown = inside(y, f->ny, f->height, f->y0, f->rows, &r);
        for (int64_t x = 0; x < f->nx; x++) {
            float v = outside;
            if (shown && inside(x, f->nx, f->width, f->x0, f->cols, &c)) {
                const float *above = from + r.a * f->cols, *below = from + r.b * f->cols;
                float a = above[c.a] + c.fraction * (above[c.b] - above[c.a]);
                float b = below[c.a] + c.fraction * (below[c.b] - below[c.a]);
                v = a + r.fraction * (b - a);
            }
            to[y * f->nx + x] = v;
        }
    }
}
