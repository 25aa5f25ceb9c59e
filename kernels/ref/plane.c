/* ref_plane: planes and parts of a volume, voxel by voxel, as kernels/plane.h says it, in double. What other backends'
 * are compared with. */
#include "kernels/ref/ref.h"
#include "kernels/tap.h"

#include <math.h>
#include <stdlib.h>

static double mix(double a, double b, double fraction) { return a + fraction * (b - a); }

/* Of plane k's used part, pixel (row, col) as the volume has it. */
static double sample(const plane_set *p, const int16_t *volume, int64_t k, int64_t row, int64_t col)
{
    tap r = tap_at(row, p->used_rows, p->sagittal ? p->nz : p->ny), c = tap_at(col, p->used_cols, p->sagittal ? p->ny : p->nx);
    int64_t slice = p->ny * p->nx;
    if (!p->sagittal) {
        const int16_t *above = volume + k * slice + r.a * p->nx, *below = volume + k * slice + r.b * p->nx;
        return mix(mix(above[c.a], above[c.b], (double)c.fraction), mix(below[c.a], below[c.b], (double)c.fraction), (double)r.fraction);
    }
    const int16_t *above = volume + r.a * slice + plane_middle_x(p, k), *below = volume + r.b * slice + plane_middle_x(p, k);
    return mix(mix(above[c.a * p->nx], above[c.b * p->nx], (double)c.fraction),
               mix(below[c.a * p->nx], below[c.b * p->nx], (double)c.fraction), (double)r.fraction);
}

static double shown(plane_range r, double v)
{
    v = (v - (double)r.low) / (double)r.width;
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

status ref_plane_cut(device *d, const plane_set *p, plane_range r, const int16_t *volume, int64_t first, int64_t count, float *to)
{
    (void)d;
    COV_TRY(plane_set_check(p, first, count));
    for (int64_t k = 0; k < count; k++)
        for (int64_t row = -p->row0; row < p->rows - p->row0; row++)
            for (int64_t col = -p->col0; col < p->cols - p->col0; col++) {
                int inside = row >= 0 && row < p->used_rows && col >= 0 && col < p->used_cols;
                *to++ = inside ? (float)shown(r, sample(p, volume, first + k, row, col)) : 0;
            }
    return COV_OK;
}

status ref_plane_put(device *d, const plane_set *p, const float *from, int64_t first, int64_t count, float *to)
{
    (void)d;
    COV_TRY(plane_set_check(p, first, count));
    for (int64_t z = 0; z < p->nz; z++)
        for (int64_t y = 0; y < p->ny; y++)
            for (int64_t x = 0; x < p->width; x++) {
                int64_t k = p->sagittal ? 0 : z;
                while (p->sagittal && plane_first_x(p, k + 1) <= p->x0 + x) k++;
                if (k < first || k >= first + count) continue;
                tap r = p->sagittal ? tap_at(z, p->nz, p->used_rows) : tap_at(y, p->ny, p->used_rows);
                tap c = p->sagittal ? tap_at(y, p->ny, p->used_cols) : tap_at(x, p->nx, p->used_cols);
                const float *above = from + ((k - first) * p->rows + p->row0 + r.a) * p->cols + p->col0;
                const float *below = from + ((k - first) * p->rows + p->row0 + r.b) * p->cols + p->col0;
                to[(z * p->ny + y) * p->width + x] =
                    (float)mix(mix((double)above[c.a], (double)above[c.b], (double)c.fraction),
                               mix((double)below[c.a], (double)below[c.b], (double)c.fraction), (double)r.fraction);
            }
    return COV_OK;
}

static double mean_around(const double *row, int64_t n, int64_t x, int64_t reach)
{
    double sum = 0;
    int64_t count = 0;
    for (int64_t k = x - reach; k <= x + reach; k++)
        if (k >= 0 && k < n) sum += row[k], count++;
    return sum / (double)count;
}

status ref_plane_fuse(device *d, const plane_set *p, plane_blend b, int64_t reach, const int16_t *volume, float *second, float *first)
{
    (void)d;
    COV_TRY(plane_fuse_check(p, reach));
    int64_t n = p->width;
    double *once = malloc(sizeof *once * 2 * (size_t)(n + 1));
    if (!once) return COV_FAIL(COV_NOMEM, "ref: no memory for rows of %lld numbers", (long long)n);
    double *row = once + n + 1;
    for (int64_t k = 0; k < p->nz * p->ny; k++) {
        for (int64_t x = 0; x < n; x++) row[x] = (double)second[k * n + x];
        for (int64_t x = 0; x < n; x++) once[x] = mean_around(row, n, x, reach);
        for (int64_t x = 0; x < n; x++) {
            int64_t at = k * p->nx + p->x0 + x;
            first[at] = plane_blended(b, volume[at], first[at], (float)mean_around(once, n, x, reach));
        }
    }
    free(once);
    return COV_OK;
}

status ref_plane_bounds(device *d, int64_t nz, int64_t ny, int64_t nx, const float *value, plane_bound *bound)
{
    (void)d;
    COV_TRY(plane_volume_check(nz, ny, nx));
    for (int64_t z = 0; z < nz; z++) {
        plane_bound b = {.y0 = INT32_MAX, .x0 = INT32_MAX};
        for (int32_t y = 0; y < ny; y++)
            for (int32_t x = 0; x < nx; x++) {
                if (!(value[(z * ny + y) * nx + x] > 0)) continue;
                b.y0 = y < b.y0 ? y : b.y0;
                b.y1 = y + 1 > b.y1 ? y + 1 : b.y1;
                b.x0 = x < b.x0 ? x : b.x0;
                b.x1 = x + 1 > b.x1 ? x + 1 : b.x1;
            }
        bound[z] = b.y1 ? b : (plane_bound){0};
    }
    return COV_OK;
}

/* Of the i-th voxel of a part, its place in the volume. */
static int64_t place(const plane_part *p, int64_t i)
{
    int64_t x = i % p->w, y = i / p->w % p->h, z = i / p->w / p->h;
    return ((p->z0 + z) * p->ny + p->y0 + y) * p->nx + p->x0 + x;
}

status ref_plane_crop(device *d, const plane_part *p, plane_range r, const int16_t *volume, const float *value, float *gray, float *to)
{
    (void)d;
    COV_TRY(plane_part_check(p));
    for (int64_t i = 0; i < p->n * p->h * p->w; i++) {
        gray[i] = (float)(255 * shown(r, volume[place(p, i)]));
        to[i] = value[place(p, i)];
    }
    return COV_OK;
}

status ref_plane_mark(device *d, const plane_part *p, const float *value, float least, uint8_t *mask)
{
    (void)d;
    COV_TRY(plane_part_check(p));
    for (int64_t i = 0; i < p->n * p->h * p->w; i++) mask[place(p, i)] = value[i] > least;
    return COV_OK;
}

/* Is there a pixel of the mask whose ellipse reaches (y, x)? */
static int is_near(int64_t ny, int64_t nx, double ry, double rx, const uint8_t *mask, int64_t y, int64_t x)
{
    for (int64_t dy = -(int64_t)ry; dy <= (int64_t)ry; dy++)
        for (int64_t dx = -(int64_t)rx; dx <= (int64_t)rx; dx++) {
            if (y + dy < 0 || y + dy >= ny || x + dx < 0 || x + dx >= nx || !mask[(y + dy) * nx + x + dx]) continue;
            double u = ry > 0 ? (double)dy / ry : 0, reach = floor(rx * sqrt(1 - u * u) + 1e-9);
            if ((double)llabs(dx) <= reach) return 1;
        }
    return 0;
}

status ref_plane_near(device *d, int64_t ny, int64_t nx, double ry, double rx, const uint8_t *mask, uint8_t *near)
{
    (void)d;
    COV_TRY(plane_near_check(ny, nx, ry, rx));
    for (int64_t i = 0; i < ny * nx; i++) near[i] = (uint8_t)is_near(ny, nx, ry, rx, mask, i / nx, i % nx);
    return COV_OK;
}

status ref_plane_stack(device *d, const plane_frame *f, plane_range range, const plane_slices *s, float *to)
{
    (void)d;
    COV_TRY(plane_frame_check(f));
    for (int64_t i = 0; i < f->rows * f->cols * PLANE_STACK; i++) {
        int64_t k = i % PLANE_STACK, x = f->x0 + i / PLANE_STACK % f->cols, y = f->y0 + i / PLANE_STACK / f->cols;
        const int16_t *slice = s->slice[k];
        const uint8_t *near = s->near[k];
        to[i] = 0;
        if (!slice || y < 0 || y >= f->height || x < 0 || x >= f->width) continue;
        if (near && !near[plane_nearest(y, f->height, f->ny) * f->nx + plane_nearest(x, f->width, f->nx)]) continue;
        tap r = tap_at(y, f->height, f->ny), c = tap_at(x, f->width, f->nx);
        to[i] = (float)shown(range, mix(mix(slice[r.a * f->nx + c.a], slice[r.a * f->nx + c.b], (double)c.fraction),
                                        mix(slice[r.b * f->nx + c.a], slice[r.b * f->nx + c.b], (double)c.fraction), (double)r.fraction));
    }
    return COV_OK;
}

status ref_plane_keep(device *d, const plane_frame *f, const float *from, float least, const uint8_t *mask, float *to)
{
    (void)d;
    COV_TRY(plane_keep_check(f, least));
    for (int64_t i = 0; i < f->ny * f->nx; i++) {
        tap r, c;
        to[i] = 0;
        if (mask && !mask[i]) continue;
        if (!tap_within(i / f->nx, f->ny, f->height, f->y0, f->rows, &r) || !tap_within(i % f->nx, f->nx, f->width, f->x0, f->cols, &c)) continue;
        const float *above = from + r.a * f->cols, *below = from + r.b * f->cols;
        float v = (float)mix(mix((double)above[c.a], (double)above[c.b], (double)c.fraction),
                             mix((double)below[c.a], (double)below[c.b], (double)c.fraction), (double)r.fraction);
        if (v >= least) to[i] = v;
    }
    return COV_OK;
}

status ref_plane_regions(device *d, int64_t ny, int64_t nx, const float *value, int32_t *labels, region_sum **out, int64_t *count)
{
    (void)d;
    return regions_sum(value, ny, nx, labels, out, count);
}
