/* regions: the 8-connected components of a slice that lies on the device; see kernels/regions.h. A forest over its pixels:
 * `parent` is never greater than the pixel, and equal to it at a root. Trees are joined until each component is one, whose
 * root is then its first pixel in raster order, whatever came first: so roots counted in order give flood fill's numbers.
 * Sums, rectangles and areas are integers, so that atomics in any order give the same bits.
 *
 * Joining runs at once everywhere, without locks. Why it is right:
 * - A root gets a parent by an atomic compare-and-swap alone, which finds it still a root; the parent is a lesser pixel of
 *   the tree that it is to be joined to. Any other pixel's parent is replaced only by what was an ancestor of that parent
 *   (root_of), which is in the same tree and less, too. So parents are always less, there is no circle, and no two pixels
 *   that were in one tree are ever in two: the way from a parent to its root does not lead through its child.
 * - What a thread reads of others may be old. Then a pixel may look like a root that is one no more. If it is the greater of
 *   the two, the swap finds that out and gives its parent, to go on from; as the lesser it is a pixel of the right tree all
 *   the same. An old parent was an ancestor, and still is a lesser pixel of the same tree.
 * - Each turn of the loop ends it or replaces the greater pixel by a lesser one, and a walk goes to lesser pixels alone: both
 *   end, and nobody waits for anybody. */
#include "kernels/cuda/launch.cuh"
#include <stdlib.h>

enum { NONE = -1 }; /* parent of a pixel that belongs to no region */

struct start_pixel {
    const float *value;
    int *parent;
    __device__ void operator()(int64_t i) const { parent[i] = region_has(value[i]) ? (int)i : NONE; }
};

/* Halves the way for those who come after: a spiral's would have a step for each of its pixels, from each of them. volatile:
 * others write what this reads. */
__device__ __forceinline__ int root_of(volatile int *parent, int i)
{
    for (;;) {
        int above = parent[i], next = parent[above];
        if (next == above) return above;
        parent[i] = next;
        i = next;
    }
}

/* Row y, x along it: a pixel is joined to its neighbours in the row above and to the one before it, but to one alone of
 * two that are neighbours of each other: those are joined by the threads of their own row. (From the first row down: all
 * neighbours of the rows above are joined, so those of this row are.) */
struct join_pixel {
    int nx;
    int *parent;
    /* NONE never changes, so it does not matter when this reads. */
    __device__ bool has(int y, int x) const { return y >= 0 && x >= 0 && x < nx && parent[y * nx + x] != NONE; }
    __device__ void operator()(int64_t row, int x) const
    {
        int y = (int)row, at = y * nx + x;
        if (!has(y, x)) return;
        if (has(y - 1, x)) {
            join(at, at - nx);
            return;
        }
        if (has(y, x - 1)) join(at, at - 1);
        else if (has(y - 1, x - 1)) join(at, at - nx - 1);
        if (has(y - 1, x + 1)) join(at, at - nx + 1);
    }
    __device__ void join(int a, int b) const
    {
        for (;;) {
            a = root_of(parent, a);
            b = root_of(parent, b);
            if (a == b) return;
            int high = a > b ? a : b, low = a > b ? b : a, found = atomicCAS(&parent[high], high, low);
            if (found == high) return;
            a = found;
            b = low;
        }
    }
};

/* to: each pixel's root, or NONE; rank: of a root, its place among those of its block, from 1 on; roots: how many the block has. */
__global__ void __launch_bounds__(BLOCK) rank_kernel(int64_t n, int *parent, int *to, int *rank, int *roots)
{
    __shared__ int room[BLOCK];
    int64_t i = thread_number();
    int root = i < n && parent[i] != NONE ? root_of(parent, (int)i) : NONE, own = root == i, place = sum_so_far<BLOCK>(own, room);
    if (i < n) to[i] = root;
    if (own) rank[i] = place;
    if ((int)threadIdx.x == BLOCK - 1) roots[blockIdx.x] = place;
}

/* Of each of n blocks, how many roots those before it have; of all at roots[n]. One block. */
__global__ void __launch_bounds__(BLOCK) offset_kernel(int n, int *roots)
{
    __shared__ int room[BLOCK], total;
    int t = (int)threadIdx.x, before = 0;
    for (int first = 0; first < n; first += BLOCK) {
        int own = first + t < n ? roots[first + t] : 0, sum = sum_so_far<BLOCK>(own, room);
        if (first + t < n) roots[first + t] = before + sum - own;
        if (t == BLOCK - 1) total = before + sum;
        __syncthreads();
        before = total;
    }
    if (t == 0) roots[n] = before;
}

struct label_pixel { /* roots become labels */
    const int *rank, *before;
    int *label;
    __device__ void operator()(int64_t i) const
    {
        int root = label[i];
        label[i] = root == NONE ? 0 : before[root / BLOCK] + rank[root];
    }
};

struct start_region {
    int ny, nx;
    region_sum *list;
    __device__ void operator()(int64_t k) const
    {
        region_sum none = {{ny, nx, 0, 0, 0}, 0};
        list[k] = none;
    }
};

/* Row y, i along x: the first pixel of a run tells its region of all of it. */
struct measure_run {
    int nx;
    const float *value;
    const int *label;
    region_sum *list;
    __device__ void operator()(int64_t y, int i) const
    {
        const int *own = label + y * nx;
        if (own[i] == 0 || (i > 0 && own[i - 1] != 0)) return;
        unsigned long long sum = 0;
        int end = i;
        for (; end < nx && own[end] != 0; end++) sum += region_units(value[y * nx + end]);
        region_sum *r = &list[own[i] - 1];
        atomicMin(&r->at.y0, (int)y);
        atomicMin(&r->at.x0, i);
        atomicMax(&r->at.y1, (int)y + 1);
        atomicMax(&r->at.x1, end);
        atomicAdd(&r->at.area, end - i);
        atomicAdd((unsigned long long *)&r->sum, sum);
    }
};

/* Room on the device: how many roots a block has and all have, then regions; before labels are there, parents and ranks in
 * their place. As much as a slice may ever need, so that it is asked for once a size. */
struct places {
    int blocks;
    int *roots, *parent, *rank;
    region_sum *list;
};

static status reserve(device *d, int64_t ny, int64_t nx, places *out)
{
    int64_t n = ny * nx, blocks = (n + BLOCK - 1) / BLOCK, most = ((ny + 1) / 2) * ((nx + 1) / 2);
    size_t head = ((size_t)blocks + 1) * sizeof(int), forest = (size_t)n * 2 * sizeof(int), list = (size_t)most * sizeof(region_sum);
    head = (head + alignof(region_sum) - 1) / alignof(region_sum) * alignof(region_sum);
    COV_TRY(cuda_reserve(d, head + (forest > list ? forest : list)));
    char *room = (char *)d->scratch;
    *out = {(int)blocks, (int *)room, (int *)(room + head), (int *)(room + head) + n, (region_sum *)(room + head)};
    return COV_OK;
}

static status measure(device *d, const places *p, int64_t ny, int64_t nx, const float *value, const int *labels, int count, region_sum *out)
{
    COV_TRY(each(d, count, start_region{(int)ny, (int)nx, p->list}));
    COV_TRY(each_in_rows(d, ny, nx, measure_run{(int)nx, value, labels, p->list}));
    CUDA_TRY(cudaMemcpyAsync(out, p->list, (size_t)count * sizeof *out, cudaMemcpyDeviceToHost, d->stream));
    CUDA_TRY(cudaStreamSynchronize(d->stream));
    return COV_OK;
}

extern "C" status cuda_plane_regions(device *d, int64_t ny, int64_t nx, const float *value, int32_t *labels, region_sum **out, int64_t *count)
{
    int found = 0;
    places p;
    *out = NULL;
    *count = 0;
    COV_TRY(plane_regions_check(ny, nx));
    int64_t n = ny * nx;
    CUDA_TRY(cudaSetDevice(d->ordinal));
    COV_TRY(reserve(d, ny, nx, &p));
    COV_TRY(each(d, n, start_pixel{value, p.parent}));
    COV_TRY(each_in_rows(d, ny, nx, join_pixel{(int)nx, p.parent}));
    LAUNCH(d, rank_kernel, blocks_for(n), n, p.parent, labels, p.rank, p.roots);
    LAUNCH(d, offset_kernel, dim3(1), p.blocks, p.roots);
    COV_TRY(each(d, n, label_pixel{p.rank, p.roots, labels}));
    CUDA_TRY(cudaMemcpyAsync(&found, p.roots + p.blocks, sizeof found, cudaMemcpyDeviceToHost, d->stream));
    CUDA_TRY(cudaStreamSynchronize(d->stream));
    if (found == 0) return COV_OK;
    region_sum *list = (region_sum *)malloc((size_t)found * sizeof *list);
    if (!list) return COV_FAIL(COV_NOMEM, "no memory for %d regions", found);
    status s = measure(d, &p, ny, nx, value, labels, found, list);
    if (s != COV_OK) {
        free(list);
        return status_relay(s, __FILE__, __LINE__);
    }
    *out = list;
    *count = found;
    return COV_OK;
}
