/* grid: the bilateral grid of the CRF's filter (kernels/crf_grid.h) on a GPU: splat, blur and slice, for n slices at once.
 *
 * Pixels of a cell crowd on few nodes, so nothing is added in global memory. A splatting block is one warp and has one
 * cell: each lane walks down a column of it and adds to sums of its own in shared memory, two a level, for the nodes
 * above and below; no lane waits for another, and no two share a bank. Then the lanes' sums, weighted by their columns'
 * places, become what the cell gives to its 4 corners, and a node gathers that from its 4 cells when it is blurred. All
 * sums have an order that sizes alone decide: the same bytes from run to run.
 *
 * Traps: `half` is the memory of `part`, which is done with once the levels are blurred. A grid that no intensity
 * divides has one level, not the two that crf_grid_plan gives it. */
#ifndef COV_KERNELS_CUDA_GRID_CUH
#define COV_KERNELS_CUDA_GRID_CUH
#include "kernels/cuda/launch.cuh"
extern "C" {
#include "kernels/crf_grid.h"
}

enum {
    GRID_LANES = 32,   /* threads of a splatting block */
    GRID_CHUNK = 64,   /* levels that a splatting block has sums for */
    GRID_AT_ONCE = 8   /* pixels of a column whose loads are under way together */
};

struct grid {
    int h, w, cell, ny, nx, levels;
    int across, cells, nodes; /* cells in a row; cells and nodes of a slice */
    float inverse;            /* 1 / cell */
    int radius, radius_i;
    float taps[CRF_RADIUS + 1], taps_i[CRF_RADIUS + 1];
    float *part; /* (n, cells, 4, levels): what a cell gives to its corners, corner 2 * (below) + (right) */
    float *node; /* (n, ny, nx, levels): blurred in the end */
    float *half; /* (n, ny, nx, levels): on the way there */
};

static grid grid_of(const crf_grid *from, int64_t h, int64_t w)
{
    grid g = {};
    g.h = (int)h;
    g.w = (int)w;
    g.cell = from->cell;
    g.ny = (int)from->ny;
    g.nx = (int)from->nx;
    g.levels = from->per_gray > 0 ? from->levels : 1;
    g.across = g.nx - 1;
    g.cells = (g.ny - 1) * g.across;
    g.nodes = g.ny * g.nx * g.levels;
    g.inverse = 1.0f / (float)g.cell;
    g.radius = from->radius;
    g.radius_i = from->radius_i;
    for (int k = 0; k <= CRF_RADIUS; k++) {
        g.taps[k] = from->taps[k];
        g.taps_i[k] = from->taps_i[k];
    }
    if (g.levels == 1) g.taps_i[0] = 1;
    return g;
}

/* A pixel's place along one axis: the node before it, and how many pixels beyond. */
struct grid_place {
    int node, beyond;
};
__device__ __forceinline__ grid_place grid_place_of(const grid &g, int at) { return {at / g.cell, at % g.cell}; }
__device__ __forceinline__ void grid_step(const grid &g, grid_place *p)
{
    bool over = p->beyond + 1 == g.cell;
    p->beyond = over ? 0 : p->beyond + 1;
    p->node += over;
}

/* ---- splat */
struct alignas(8) grid_sums {
    float above, below;
};
typedef grid_sums grid_column[GRID_LANES]; /* a level's; a lane's at [lane] */

/* Values scale * d of a column's pixels, `rows` from `at` on, to a lane's sums of levels first...first + count - 1. */
__device__ inline void grid_walk(const grid &g, const float *level, const float *scale, const float *d, int rows, int first, int count,
                                 grid_column *sums)
{
    for (int y = 0; y < rows; y += GRID_AT_ONCE) {
        float v[GRID_AT_ONCE], l[GRID_AT_ONCE];
#pragma unroll
        for (int k = 0; k < GRID_AT_ONCE; k++) {
            int64_t i = (int64_t)(y + k) * g.w;
            v[k] = y + k < rows ? scale[i] * d[i] : 0;
            l[k] = y + k < rows && g.levels > 1 ? level[i] : 0;
        }
#pragma unroll
        for (int k = 0; k < GRID_AT_ONCE; k++) {
            int node = (int)l[k], low = node - first, high = low + 1;
            float fy = (float)(y + k) * g.inverse, fi = l[k] - (float)node, below = v[k] * fy, above = v[k] - below;
            if ((unsigned)low < (unsigned)count) {
                grid_sums *s = &sums[low][threadIdx.x];
                s->above += above * (1 - fi);
                s->below += below * (1 - fi);
            }
            if ((unsigned)high < (unsigned)count) {
                grid_sums *s = &sums[high][threadIdx.x];
                s->above += above * fi;
                s->below += below * fi;
            }
        }
    }
}

/* What `columns` lanes have of a level, the first of them `from` pixels into the cell, to the sums of the 4 corners. */
__device__ inline void grid_join(const grid &g, const grid_column &sums, int from, int columns, float corner[4])
{
    int lane = (int)threadIdx.x % columns; /* each thread begins at another bank */
    for (int k = 0; k < columns; k++) {
        grid_sums s = sums[lane];
        float fx = (float)(from + lane) * g.inverse;
        corner[0] += s.above * (1 - fx);
        corner[1] += s.above * fx;
        corner[2] += s.below * (1 - fx);
        corner[3] += s.below * fx;
        if (++lane == columns) lane = 0;
    }
}

/* Block (cell, chunk of levels, slice). level, scale, d: (n, h, w). Slices with moving[slice] 0 rest; NULL: none. */
__global__ void __launch_bounds__(GRID_LANES) grid_splat_kernel(grid g, const float *level, const float *scale, const float *d,
                                                                       const int *moving)
{
    __shared__ grid_column sums[GRID_CHUNK];
    if (moving && !moving[blockIdx.z]) return;
    int lane = (int)threadIdx.x, cell = (int)blockIdx.x, y = cell / g.across * g.cell, x = cell % g.across * g.cell;
    int first = (int)blockIdx.y * GRID_CHUNK, count = g.levels - first < GRID_CHUNK ? g.levels - first : GRID_CHUNK;
    int rows = g.h - y < g.cell ? g.h - y : g.cell, wide = g.w - x < g.cell ? g.w - x : g.cell;
    float corner[GRID_CHUNK / GRID_LANES][4] = {};
    for (int from = 0; from < wide; from += GRID_LANES) {
        int columns = wide - from < GRID_LANES ? wide - from : GRID_LANES;
        int64_t at = ((int64_t)blockIdx.z * g.h + y) * g.w + x + from + lane;
        for (int k = 0; k < count; k++) sums[k][lane] = {0, 0};
        if (lane < columns) grid_walk(g, level + at, scale + at, d + at, rows, first, count, sums);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < GRID_CHUNK / GRID_LANES; k++)
            if (lane + k * GRID_LANES < count) grid_join(g, sums[lane + k * GRID_LANES], from, columns, corner[k]);
        __syncthreads();
    }
    float *to = g.part + ((int64_t)blockIdx.z * g.cells + cell) * 4 * g.levels + first + lane;
#pragma unroll
    for (int k = 0; k < GRID_CHUNK / GRID_LANES; k++)
        for (int c = 0; c < 4 && lane + k * GRID_LANES < count; c++) to[(int64_t)c * g.levels + k * GRID_LANES] = corner[k][c];
}

/* ---- blur. A row of nodes is nx * levels floats; block (piece of BLOCK of a row, row, slice). */

/* Node `at` of `count`, blurred along them; p points at it, and they lie `step` apart. */
__device__ __forceinline__ float grid_blurred(const float *p, int step, int at, int count, int radius, const float *taps)
{
    int low = at < radius ? -at : -radius, high = count - 1 - at < radius ? count - 1 - at : radius;
    float sum = 0;
    for (int k = low; k <= high; k++) sum += taps[k < 0 ? -k : k] * p[(int64_t)k * step];
    return sum;
}

/* What the cells round node i of row y give to it. */
__device__ inline float grid_gathered(const grid &g, int64_t slice, int y, int i)
{
    int x = i / g.levels, level = i % g.levels;
    float sum = 0;
    for (int c = 0; c < 4; c++) {
        int cy = y - c / 2, cx = x - c % 2;
        if (cy >= 0 && cy < g.ny - 1 && cx >= 0 && cx < g.across)
            sum += g.part[((slice * g.cells + cy * g.across + cx) * 4 + c) * g.levels + level];
    }
    return sum;
}

/* Along the levels, from part to node. */
__global__ void __launch_bounds__(BLOCK) grid_levels_kernel(grid g, const int *moving)
{
    __shared__ float line[BLOCK + 2 * CRF_RADIUS];
    if (moving && !moving[blockIdx.z]) return;
    int row = g.nx * g.levels, y = (int)blockIdx.y, i = (int)thread_number(), before = (int)blockIdx.x * BLOCK - g.radius_i;
    for (int k = (int)threadIdx.x; k < BLOCK + 2 * g.radius_i; k += BLOCK)
        line[k] = before + k >= 0 && before + k < row ? grid_gathered(g, blockIdx.z, y, before + k) : 0;
    __syncthreads();
    if (i < row)
        g.node[((int64_t)blockIdx.z * g.ny + y) * row + i] =
            grid_blurred(line + threadIdx.x + g.radius_i, 1, i % g.levels, g.levels, g.radius_i, g.taps_i);
}

/* Along x, from node to half; or along y, back. */
__global__ void __launch_bounds__(BLOCK) grid_blur_kernel(grid g, bool along_y, const int *moving)
{
    int row = g.nx * g.levels, y = (int)blockIdx.y, i = (int)thread_number();
    if ((moving && !moving[blockIdx.z]) || i >= row) return;
    int64_t at = ((int64_t)blockIdx.z * g.ny + y) * row + i;
    if (along_y) g.node[at] = grid_blurred(g.half + at, row, y, g.ny, g.radius, g.taps);
    else g.half[at] = grid_blurred(g.node + at, g.levels, i / g.levels, g.nx, g.radius, g.taps);
}

/* The nodes of the values scale * value of n slices. */
static status grid_filter(device *d, const grid &g, int64_t n, const float *level, const float *scale, const float *value,
                          const int *moving)
{
    unsigned slices = (unsigned)n, chunks = (unsigned)((g.levels + GRID_CHUNK - 1) / GRID_CHUNK);
    dim3 pieces(blocks_for((int64_t)g.nx * g.levels).x, (unsigned)g.ny, slices);
    LAUNCH_OF(d, grid_splat_kernel, dim3((unsigned)g.cells, chunks, slices), GRID_LANES, g, level, scale, value, moving);
    LAUNCH(d, grid_levels_kernel, pieces, g, moving);
    LAUNCH(d, grid_blur_kernel, pieces, g, false, moving);
    LAUNCH(d, grid_blur_kernel, pieces, g, true, moving);
    return COV_OK;
}

/* ---- slice */
__device__ __forceinline__ float grid_slice(const grid &g, const float *node, grid_place y, grid_place x, float level)
{
    int low = (int)level, row = g.nx * g.levels;
    const float *at = node + y.node * row + x.node * g.levels + low;
    float fy = (float)y.beyond * g.inverse, fx = (float)x.beyond * g.inverse, fi = level - (float)low, sum = 0;
#pragma unroll
    for (int c = 0; c < 4; c++) {
        const float *p = at + c / 2 * row + c % 2 * g.levels;
        float v = g.levels > 1 ? p[0] * (1 - fi) + p[1] * fi : p[0];
        sum += v * (c / 2 ? fy : 1 - fy) * (c % 2 ? fx : 1 - fx);
    }
    return sum;
}

/* The values of N pixels of column x from row y on; level: the first's. Below the image, the last pixel's again. */
template <int N>
__device__ __forceinline__ void grid_slice_column(const grid &g, int64_t slice, int y, int x, const float *level, float value[N])
{
    const float *node = g.node + slice * g.nodes;
    grid_place py = grid_place_of(g, y), px = grid_place_of(g, x);
    int last = g.h - 1 - y;
#pragma unroll
    for (int k = 0; k < N; k++) value[k] = g.levels > 1 ? level[(int64_t)(k < last ? k : last) * g.w] : 0; /* all loads at once */
#pragma unroll
    for (int k = 0; k < N; k++) {
        value[k] = grid_slice(g, node, py, px, value[k]);
        grid_place next = py;
        grid_step(g, &next);
        py = k < last ? next : py;
    }
}
#endif
