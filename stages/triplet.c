/* triplet: see triplet.h. */
#include "stages/triplet.h"
#include <stddef.h>

enum { EDGE = 16 };

plane_frame triplet_whole(int64_t ny, int64_t nx, int64_t rows, int64_t cols)
{
    return (plane_frame){.ny = ny, .nx = nx, .height = rows, .width = cols, .rows = rows, .cols = cols};
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

plane_frame triplet_around(const uint8_t *lung, int64_t nz, int64_t ny, int64_t nx)
{
    plane_frame f = triplet_whole(ny, nx, TRIPLET_CANVAS, TRIPLET_CANVAS);
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

void triplet_margin(int64_t ny, int64_t nx, double *ry, double *rx)
{
    *ry = (double)TRIPLET_MARGIN * (double)ny / TRIPLET_CANVAS;
    *rx = (double)TRIPLET_MARGIN * (double)nx / TRIPLET_CANVAS;
}

void triplet_roi(const uint8_t *lung, int64_t ny, int64_t nx, uint8_t *roi)
{
    double ry, rx;
    triplet_margin(ny, nx, &ry, &rx);
    plane_near_on_host(ny, nx, ry, rx, lung, roi);
}

void triplet_mask(const plane_frame *f, const uint8_t *mask, float *out)
{
    for (int64_t r = 0; r < f->rows; r++) {
        int64_t y = f->y0 + r;
        const uint8_t *row = y >= 0 && y < f->height ? mask + plane_nearest(y, f->height, f->ny) * f->nx : NULL;
        for (int64_t c = 0; c < f->cols; c++) {
            int64_t x = f->x0 + c;
            out[r * f->cols + c] = row && x >= 0 && x < f->width && row[plane_nearest(x, f->width, f->nx)] ? 1.0f : 0.0f;
        }
    }
}

box triplet_box_to_slice(const plane_frame *f, box b)
{
    float y = (float)f->ny / (float)f->height, x = (float)f->nx / (float)f->width, y0 = (float)f->y0, x0 = (float)f->x0;
    return (box){(b.y0 + y0) * y, (b.x0 + x0) * x, (b.y1 + y0) * y, (b.x1 + x0) * x};
}

box triplet_box_to_input(const plane_frame *f, box b)
{
    float y = (float)f->height / (float)f->ny, x = (float)f->width / (float)f->nx, y0 = (float)f->y0, x0 = (float)f->x0;
    return (box){b.y0 * y - y0, b.x0 * x - x0, b.y1 * y - y0, b.x1 * x - x0};
}
