/* lungplane: see lungplane.h. */
#include "stages/lungplane.h"
#include <math.h>

enum { AXIAL_SIZE = PLANE_COLS_MOST, SAGITTAL_SIZE = 256, ROWS_MOST = 1024 };

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

status lungplane_of(lungnet_view view, const volume_header *h, plane_set *out)
{
    if (h->nx < 1 || h->ny < 1 || h->nz < 1 || !(h->spacing_mm[0] > 0.0) || !(h->spacing_mm[1] > 0.0) || !(h->spacing_mm[2] > 0.0))
        return COV_FAIL(COV_UNSUPPORTED, "a volume of %lld x %lld x %lld voxels, %g x %g x %g mm, has no planes to segment",
                        (long long)h->nx, (long long)h->ny, (long long)h->nz, h->spacing_mm[0], h->spacing_mm[1],
                        h->spacing_mm[2]);
    plane_set p = {.sagittal = view == LUNGNET_SAGITTAL, .nx = h->nx, .ny = h->ny, .nz = h->nz};
    int64_t size = view == LUNGNET_AXIAL ? AXIAL_SIZE : SAGITTAL_SIZE, used_x = size, used_y = size;
    double width_mm = (double)h->nx * h->spacing_mm[0], height_mm = (double)h->ny * h->spacing_mm[1], pixel_mm = height_mm / (double)size;
    if (cuts_chest(h)) {
        pixel_mm = LUNGPLANE_FIELD_MM / (double)size;
        used_x = pixels(width_mm / pixel_mm, size);
        used_y = pixels(height_mm / pixel_mm, size);
    }
    if (view == LUNGNET_AXIAL) {
        p.planes = h->nz;
        p.used_rows = used_y;
        p.used_cols = used_x;
        p.rows = size;
        p.row0 = (size - used_y) / 2;
    } else {
        p.planes = h->nx < used_x ? h->nx : used_x;
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

void lungplane_between(plane_set *p, int64_t x0, int64_t x1)
{
    int64_t last = p->all;
    while (p->first < last && plane_first_x(p, 1) <= x0) p->first++;
    while (last > p->first && plane_first_x(p, last - p->first - 1) >= x1) last--;
    p->planes = last - p->first;
    p->x0 = plane_first_x(p, 0);
    p->width = plane_first_x(p, p->planes) - p->x0;
}
