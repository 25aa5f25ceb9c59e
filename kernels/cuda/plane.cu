/* plane: planes and parts of a volume that lies on the device; see kernels/plane.h. A thread makes one number from those it
 * is made of: a block has a row, and neighbours of a row are written by neighbours. Taps are computed where they are used.
 * Nothing waits for the GPU but plane_bounds, which gives numbers. */
#include "kernels/cuda/launch.cuh"
#include "kernels/tap.h"

/* ---- cut: row (plane, row), i a column */
struct cut_pixel {
    plane_set p;
    plane_range range;
    const int16_t *volume;
    int64_t first;
    float *to;
    __device__ void operator()(int64_t row, int i) const
    {
        int64_t k = row / p.rows, y = row - k * p.rows - p.row0, x = i - p.col0;
        float v = 0;
        if (y >= 0 && y < p.used_rows && x >= 0 && x < p.used_cols) v = plane_shown(range, sample(first + k, y, x));
        to[row * p.cols + i] = v;
    }
    __device__ float sample(int64_t k, int64_t y, int64_t x) const
    {
        int64_t slice = p.nx * p.ny, down = p.sagittal ? slice : p.nx, along = p.sagittal ? p.nx : 1;
        const int16_t *base = volume + (p.sagittal ? plane_middle_x(&p, k) : k * slice);
        tap r = tap_at(y, p.used_rows, p.sagittal ? p.nz : p.ny), c = tap_at(x, p.used_cols, p.sagittal ? p.ny : p.nx);
        const int16_t *above = base + r.a * down, *below = base + r.b * down;
        float a = above[c.a * along], b = below[c.a * along];
        a += c.fraction * ((float)above[c.b * along] - a);
        b += c.fraction * ((float)below[c.b * along] - b);
        return a + r.fraction * (b - a);
    }
};

extern "C" status cuda_plane_cut(device *d, const plane_set *p, plane_range r, const int16_t *volume, int64_t first, int64_t count,
                                 float *to)
{
    COV_TRY(plane_set_check(p, first, count));
    CUDA_TRY(cudaSetDevice(d->ordinal));
    return each_in_rows(d, count * p->rows, p->cols, cut_pixel{*p, r, volume, first, to});
}

/* ---- put: row (slice, y) of the volume */
struct put_voxel {
    plane_set p;
    const float *from;
    int64_t first; /* plane at `from` */
    float *to;
    __device__ void operator()(int64_t row, int64_t x, int64_t k, tap r, tap c) const
    {
        const float *plane = from + ((k - first) * p.rows + p.row0) * p.cols + p.col0;
        const float *above = plane + r.a * p.cols, *below = plane + r.b * p.cols;
        float a = above[c.a] + c.fraction * (above[c.b] - above[c.a]);
        float b = below[c.a] + c.fraction * (below[c.b] - below[c.a]);
        to[row * p.width + x - p.x0] = a + r.fraction * (b - a);
    }
};
struct put_slices { /* rows of the slices that are given; i is x */
    put_voxel put;
    __device__ void operator()(int64_t row, int i) const
    {
        const plane_set &p = put.p;
        int64_t k = row / p.ny;
        tap r = tap_at(row - k * p.ny, p.ny, p.used_rows);
        put(put.first * p.ny + row, i, put.first + k, r, tap_at(i, p.nx, p.used_cols));
    }
};
struct put_sagittal { /* all rows of the volume; i counts from x0 on, the first x of the planes that are given */
    put_voxel put;
    int64_t x0;
    __device__ void operator()(int64_t row, int i) const
    {
        const plane_set &p = put.p;
        int64_t z = row / p.ny, x = x0 + i, k = ((x + 1) * p.all - 1) / p.nx - p.first; /* the last with first_x(k) <= x */
        put(row, x, k, tap_at(z, p.nz, p.used_rows), tap_at(row - z * p.ny, p.ny, p.used_cols));
    }
};

extern "C" status cuda_plane_put(device *d, const plane_set *p, const float *from, int64_t first, int64_t count, float *to)
{
    COV_TRY(plane_set_check(p, first, count));
    CUDA_TRY(cudaSetDevice(d->ordinal));
    put_voxel put = {*p, from, first, to};
    if (!p->sagittal) return each_in_rows(d, count * p->ny, p->nx, put_slices{put});
    int64_t x0 = plane_first_x(p, first), x1 = plane_first_x(p, first + count);
    return each_in_rows(d, p->nz * p->ny, x1 - x0, put_sagittal{put, x0});
}

/* ---- fuse: row (slice, y), i counts from p.x0 on. Sums run in the CPU's order. */
struct fuse_voxel {
    plane_set p;
    plane_blend blend;
    int reach;
    const int16_t *volume;
    const float *second;
    float *first;
    __device__ void operator()(int64_t row, int i) const
    {
        const float *from = second + row * p.width;
        int n = (int)p.width, low = i > reach ? i - reach : 0, high = i + reach < n ? i + reach : n - 1;
        float sum = 0;
        for (int k = low; k <= high; k++) sum += mean(from, n, k);
        int64_t at = row * p.nx + p.x0 + i;
        first[at] = plane_blended(blend, volume[at], first[at], ended(sum, low, high));
    }
    __device__ float mean(const float *from, int n, int x) const
    {
        int low = x > reach ? x - reach : 0, high = x + reach < n ? x + reach : n - 1;
        float sum = 0;
        for (int k = low; k <= high; k++) sum += from[k];
        return ended(sum, low, high);
    }
    __device__ float ended(float sum, int low, int high) const
    {
        sum *= 1.0f / (float)(2 * reach + 1);
        return high - low < 2 * reach ? sum * ((float)(2 * reach + 1) / (float)(high - low + 1)) : sum;
    }
};

extern "C" status cuda_plane_fuse(device *d, const plane_set *p, plane_blend blend, int64_t reach, const int16_t *volume,
                                  float *second, float *first)
{
    COV_TRY(plane_fuse_check(p, reach));
    if (reach > INT32_MAX / 4)
        return COV_FAIL(COV_UNSUPPORTED, "cuda: a mean of %lld voxels to each side", (long long)reach);
    CUDA_TRY(cudaSetDevice(d->ordinal));
    return each_in_rows(d, p->nz * p->ny, p->width, fuse_voxel{*p, blend, (int)reach, volume, second, first});
}

/* ---- bounds: a block a slice */
enum { Y0, Y1, X0, X1, SIDES };

__global__ void __launch_bounds__(BLOCK) bounds_kernel(int ny, int nx, const float *value, plane_bound *bound)
{
    __shared__ int room[SIDES][BLOCK]; /* the largest of: -y0, y1, -x0, x1 */
    int t = (int)threadIdx.x, most[SIDES] = {-ny, 0, -nx, 0};
    const float *row = value + (int64_t)blockIdx.x * ny * nx;
    for (int y = 0; y < ny; y++, row += nx)
        for (int x = t; x < nx; x += BLOCK) {
            if (!(row[x] > 0)) continue;
            if (most[Y1] == 0) most[Y0] = -y;
            most[Y1] = y + 1;
            most[X0] = -x > most[X0] ? -x : most[X0];
            most[X1] = x + 1 > most[X1] ? x + 1 : most[X1];
        }
    for (int k = 0; k < SIDES; k++) room[k][t] = most[k];
    __syncthreads();
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        for (int k = 0; t < half && k < SIDES; k++)
            if (room[k][t + half] > room[k][t]) room[k][t] = room[k][t + half];
        __syncthreads();
    }
    if (t != 0) return;
    plane_bound b = {};
    if (room[Y1][0] > 0) b = {-room[Y0][0], room[Y1][0], -room[X0][0], room[X1][0]};
    bound[blockIdx.x] = b;
}

extern "C" status cuda_plane_bounds(device *d, int64_t nz, int64_t ny, int64_t nx, const float *value, plane_bound *bound)
{
    COV_TRY(plane_volume_check(nz, ny, nx));
    if (nz > INT32_MAX) return COV_FAIL(COV_UNSUPPORTED, "cuda: %lld slices are too many", (long long)nz);
    CUDA_TRY(cudaSetDevice(d->ordinal));
    size_t bytes = (size_t)nz * sizeof *bound;
    COV_TRY(cuda_reserve(d, bytes));
    LAUNCH(d, bounds_kernel, dim3((unsigned)nz), (int)ny, (int)nx, value, (plane_bound *)d->scratch);
    CUDA_TRY(cudaMemcpyAsync(bound, d->scratch, bytes, cudaMemcpyDeviceToHost, d->stream));
    CUDA_TRY(cudaStreamSynchronize(d->stream));
    return COV_OK;
}

/* ---- parts: row (slice, y) of the part, i along x */
struct crop_voxel {
    plane_part p;
    plane_range range;
    const int16_t *volume;
    const float *value;
    float *gray, *to;
    __device__ void operator()(int64_t row, int i) const
    {
        int64_t z = row / p.h, at = ((p.z0 + z) * p.ny + p.y0 + row - z * p.h) * p.nx + p.x0 + i;
        gray[row * p.w + i] = 255 * plane_shown(range, volume[at]);
        to[row * p.w + i] = value[at];
    }
};

extern "C" status cuda_plane_crop(device *d, const plane_part *p, plane_range r, const int16_t *volume, const float *value,
                                  float *gray, float *to)
{
    COV_TRY(plane_part_check(p));
    CUDA_TRY(cudaSetDevice(d->ordinal));
    return each_in_rows(d, p->n * p->h, p->w, crop_voxel{*p, r, volume, value, gray, to});
}

struct mark_voxel {
    plane_part p;
    const float *value;
    float least;
    uint8_t *mask;
    __device__ void operator()(int64_t row, int i) const
    {
        int64_t z = row / p.h, at = ((p.z0 + z) * p.ny + p.y0 + row - z * p.h) * p.nx + p.x0 + i;
        mask[at] = value[row * p.w + i] > least;
    }
};

extern "C" status cuda_plane_mark(device *d, const plane_part *p, const float *value, float least, uint8_t *mask)
{
    COV_TRY(plane_part_check(p));
    CUDA_TRY(cudaSetDevice(d->ordinal));
    return each_in_rows(d, p->n * p->h, p->w, mark_voxel{*p, value, least, mask});
}

/* ---- stacks */
struct near_pixel { /* row y, i along x */
    int64_t ny, nx;
    double ry, rx;
    const uint8_t *mask;
    uint8_t *near;
    __device__ void operator()(int64_t y, int i) const
    {
        int64_t most = (int64_t)ry, low = y > most ? -most : -y, high = y + most < ny ? most : ny - 1 - y;
        uint8_t found = 0;
        for (int64_t dy = low; dy <= high && !found; dy++) found = in_row(mask + (y + dy) * nx, (double)dy, i);
        near[y * nx + i] = found;
    }
    __device__ uint8_t in_row(const uint8_t *row, double dy, int64_t x) const
    {
        double across = ry > 0 ? dy / ry : 0;
        int64_t reach = (int64_t)floor(rx * sqrt(1 - across * across) + 1e-9);
        int64_t low = x > reach ? x - reach : 0, high = x + reach < nx ? x + reach : nx - 1;
        for (int64_t k = low; k <= high; k++)
            if (row[k]) return 1;
        return 0;
    }
};

extern "C" status cuda_plane_near(device *d, int64_t ny, int64_t nx, double ry, double rx, const uint8_t *mask, uint8_t *near)
{
    COV_TRY(plane_near_check(ny, nx, ry, rx));
    CUDA_TRY(cudaSetDevice(d->ordinal));
    return each_in_rows(d, ny, nx, near_pixel{ny, nx, ry, rx, mask, near});
}

struct stack_pixel { /* row of the input, i counts its columns' channels */
    plane_frame f;
    plane_range range;
    plane_slices s;
    float *to;
    __device__ void operator()(int64_t row, int i) const
    {
        int column = i / PLANE_STACK, k = i - column * PLANE_STACK;
        int64_t y = f.y0 + row, x = f.x0 + column;
        const int16_t *slice = s.slice[k];
        float v = 0;
        if (slice && y >= 0 && y < f.height && x >= 0 && x < f.width && seen(s.near[k], y, x)) v = plane_shown(range, sample(slice, y, x));
        to[row * f.cols * PLANE_STACK + i] = v;
    }
    __device__ bool seen(const uint8_t *near, int64_t y, int64_t x) const
    {
        return !near || near[plane_nearest(y, f.height, f.ny) * f.nx + plane_nearest(x, f.width, f.nx)];
    }
    __device__ float sample(const int16_t *slice, int64_t y, int64_t x) const
    {
        tap r = tap_at(y, f.height, f.ny), c = tap_at(x, f.width, f.nx);
        const int16_t *above = slice + r.a * f.nx, *below = slice + r.b * f.nx;
        float a = (float)above[c.a] + c.fraction * ((float)above[c.b] - (float)above[c.a]);
        float b = (float)below[c.a] + c.fraction * ((float)below[c.b] - (float)below[c.a]);
        return a + r.fraction * (b - a);
    }
};

extern "C" status cuda_plane_stack(device *d, const plane_frame *f, plane_range r, const plane_slices *s, float *to)
{
    COV_TRY(plane_frame_check(f));
    CUDA_TRY(cudaSetDevice(d->ordinal));
    return each_in_rows(d, f->rows, f->cols * PLANE_STACK, stack_pixel{*f, r, *s, to});
}

/* ---- back onto the slice: row y, i along x */
struct keep_pixel {
    plane_frame f;
    const float *from;
    float least;
    const uint8_t *mask;
    float *to;
    __device__ void operator()(int64_t y, int i) const
    {
        int64_t at = y * f.nx + i;
        float v = 0;
        tap r, c;
        if ((!mask || mask[at]) && tap_within(y, f.ny, f.height, f.y0, f.rows, &r) && tap_within(i, f.nx, f.width, f.x0, f.cols, &c))
            v = sample(r, c);
        to[at] = v >= least ? v : 0;
    }
    __device__ float sample(tap r, tap c) const
    {
        const float *above = from + r.a * f.cols, *below = from + r.b * f.cols;
        float a = above[c.a] + c.fraction * (above[c.b] - above[c.a]);
        float b = below[c.a] + c.fraction * (below[c.b] - below[c.a]);
        return a + r.fraction * (b - a);
    }
};

extern "C" status cuda_plane_keep(device *d, const plane_frame *f, const float *from, float least, const uint8_t *mask, float *to)
{
    COV_TRY(plane_keep_check(f, least));
    CUDA_TRY(cudaSetDevice(d->ordinal));
    return each_in_rows(d, f->ny, f->nx, keep_pixel{*f, from, least, mask, to});
}
