/* plane: the checks that every backend makes before it touches a volume, and what surrounds a mask, on the host. */
#include "kernels/plane.h"
#include "base/size.h"
#include <math.h>
#include <string.h>

status plane_volume_check(int64_t nz, int64_t ny, int64_t nx)
{
    size_t bytes;
    if (nz >= 1 && ny >= 1 && nx >= 1 && ny <= INT32_MAX && nx <= INT32_MAX &&
        size_product((const int64_t[]){nz, ny, nx, (int64_t)sizeof(float)}, 4, &bytes) && bytes <= INT64_MAX)
        return COV_OK;
    return COV_FAIL(COV_BROKEN, "a volume of %lld x %lld x %lld voxels", (long long)nx, (long long)ny, (long long)nz);
}

/* size samples from `at` on lie among n. */
static int within(int64_t at, int64_t size, int64_t n) { return at >= 0 && size >= 0 && size <= n && at <= n - size; }

static int planes_fit(const plane_set *p)
{
    if (p->all < 1 || p->all > (p->sagittal ? p->nx : p->nz) || !within(p->first, p->planes, p->all)) return 0;
    if (!p->sagittal) return p->first == 0 && p->x0 == 0 && p->width == p->nx;
    size_t most; /* of plane_first_x */
    if (!size_product((const int64_t[]){p->all, p->nx}, 2, &most) || most > INT64_MAX) return 0;
    return p->x0 == plane_first_x(p, 0) && p->width == plane_first_x(p, p->planes) - p->x0;
}

status plane_set_check(const plane_set *p, int64_t first, int64_t count)
{
    size_t bytes;
    COV_TRY(plane_volume_check(p->nz, p->ny, p->nx));
    if (!planes_fit(p))
        return COV_FAIL(COV_BROKEN, "planes %lld to %lld of %lld, for x %lld to %lld of %lld", (long long)p->first,
                        (long long)(p->first + p->planes), (long long)p->all, (long long)p->x0, (long long)(p->x0 + p->width),
                        (long long)p->nx);
    if (p->used_rows < 1 || p->used_cols < 1 || p->used_cols > PLANE_COLS_MOST || !within(p->row0, p->used_rows, p->rows) ||
        !within(p->col0, p->used_cols, p->cols))
        return COV_FAIL(COV_BROKEN, "a plane of %lld x %lld at %lld, %lld of %lld x %lld, of at most %d columns",
                        (long long)p->used_rows, (long long)p->used_cols, (long long)p->row0, (long long)p->col0,
                        (long long)p->rows, (long long)p->cols, PLANE_COLS_MOST);
    if (!within(first, count, p->planes) ||
        !size_product((const int64_t[]){count, p->rows, p->cols, (int64_t)sizeof(float)}, 4, &bytes) || bytes > INT64_MAX)
        return COV_FAIL(COV_BROKEN, "%lld planes from %lld on, of %lld", (long long)count, (long long)first, (long long)p->planes);
    return COV_OK;
}

status plane_fuse_check(const plane_set *p, int64_t reach)
{
    COV_TRY(plane_set_check(p, 0, 0));
    if (reach >= 0 && reach <= p->nx) return COV_OK;
    return COV_FAIL(COV_BROKEN, "a mean of %lld voxels to each side of %lld", (long long)reach, (long long)p->nx);
}

status plane_part_check(const plane_part *p)
{
    COV_TRY(plane_volume_check(p->nz, p->ny, p->nx));
    if (p->w >= 1 && p->h >= 1 && within(p->x0, p->w, p->nx) && within(p->y0, p->h, p->ny) && within(p->z0, p->n, p->nz))
        return COV_OK;
    return COV_FAIL(COV_BROKEN, "a part of %lld x %lld x %lld at %lld, %lld, %lld of %lld x %lld x %lld voxels", (long long)p->w,
                    (long long)p->h, (long long)p->n, (long long)p->x0, (long long)p->y0, (long long)p->z0, (long long)p->nx,
                    (long long)p->ny, (long long)p->nz);
}

status plane_near_check(int64_t ny, int64_t nx, double ry, double rx)
{
    COV_TRY(plane_volume_check(1, ny, nx));
    if (ry >= 0 && ry <= (double)ny && rx >= 0 && rx <= (double)nx) return COV_OK; /* a NaN fails */
    return COV_FAIL(COV_BROKEN, "an ellipse of %g x %g pixels on a slice of %lld x %lld", ry, rx, (long long)ny, (long long)nx);
}

status plane_frame_check(const plane_frame *f)
{
    size_t bytes;
    COV_TRY(plane_volume_check(1, f->ny, f->nx));
    COV_TRY(plane_volume_check(1, f->height, f->width));
    if (f->rows >= 1 && f->rows <= INT32_MAX && f->cols >= 1 && f->cols <= PLANE_FRAME_COLS_MOST &&
        f->y0 >= -INT32_MAX && f->y0 <= INT32_MAX && f->x0 >= -INT32_MAX && f->x0 <= INT32_MAX &&
        size_product((const int64_t[]){f->rows, f->cols, PLANE_STACK, (int64_t)sizeof(float)}, 4, &bytes) && bytes <= INT64_MAX)
        return COV_OK;
    return COV_FAIL(COV_BROKEN, "an input of %lld x %lld at %lld, %lld of a canvas, of at most %d columns", (long long)f->rows,
                    (long long)f->cols, (long long)f->y0, (long long)f->x0, PLANE_FRAME_COLS_MOST);
}

status plane_keep_check(const plane_frame *f, float least)
{
    COV_TRY(plane_frame_check(f));
    if (least > 0.0f) return COV_OK; /* a NaN fails */
    return COV_FAIL(COV_BROKEN, "numbers of at least %g are kept, expected more than 0", (double)least);
}

status plane_regions_check(int64_t ny, int64_t nx)
{
    if (ny >= 1 && nx >= 1 && ny <= INT32_MAX / nx) return COV_OK;
    return COV_FAIL(COV_BROKEN, "regions of a slice of %lld x %lld pixels", (long long)ny, (long long)nx);
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

void plane_near_on_host(int64_t ny, int64_t nx, double ry, double rx, const uint8_t *mask, uint8_t *near)
{
    memset(near, 0, (size_t)(ny * nx));
    for (int64_t y = 0; y < ny; y++) {
        const uint8_t *row = mask + y * nx;
        int64_t a = 0, b = nx;
        while (a < nx && !row[a]) a++;
        if (a == nx) continue;
        while (!row[b - 1]) b--;
        for (int64_t d = -(int64_t)ry; d <= (int64_t)ry; d++) {
            if (y + d < 0 || y + d >= ny) continue;
            double across = ry > 0.0 ? (double)d / ry : 0.0;
            int64_t reach = (int64_t)floor(rx * sqrt(1.0 - across * across) + 1e-9);
            int64_t low = a > reach ? a - reach : 0, high = b + reach < nx ? b + reach : nx;
            widen(row + low, high - low, reach, near + (y + d) * nx + low);
        }
    }
}
