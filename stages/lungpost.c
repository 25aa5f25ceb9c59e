/* lungpost: components by union-find over runs (maximal spans along x). The voxels are looked at once, for the runs of
 * lung; what is not lung are the gaps between them, and sides are named on runs before any voxel is written. Joined
 * lungs are parted slice by slice along the seam, from front to back, that crosses the least lung: the anterior and
 * posterior junction lines are one voxel of partial volume in many scans. */
#include "stages/lungpost.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct run { int32_t from, to; } run; /* [from, to) along x */

typedef struct runs {
    int64_t nx, ny, nz, count, room;
    run *at;
    int64_t *row;    /* first run of row z*ny+y; nz*ny+1 entries */
    int64_t *parent; /* union-find; roots point at themselves, and are the smallest run of their component */
    int64_t *size;   /* voxels, valid at roots */
    uint8_t *value;  /* 0 background, 1 and 2 the components that are kept; of a gap, that of the lung on its left */
} runs;

static void runs_free(runs *r)
{
    free(r->at);
    free(r->row);
    free(r->parent);
    free(r->size);
    free(r->value);
}

static status add_run(runs *r, int64_t from, int64_t to)
{
    if (r->count == r->room) {
        int64_t room = r->room ? 2 * r->room : 4096;
        run *at = realloc(r->at, sizeof *at * (size_t)room);
        if (!at) return COV_FAIL(COV_NOMEM, "no memory for %lld runs of a mask", (long long)room);
        r->at = at;
        r->room = room;
    }
    r->at[r->count++] = (run){(int32_t)from, (int32_t)to};
    return COV_OK;
}

static status new_rows(runs *r)
{
    r->row = malloc(sizeof *r->row * (size_t)(r->ny * r->nz + 1));
    return r->row ? COV_OK : COV_FAIL(COV_NOMEM, "no memory for the rows of a mask");
}

static status find_runs(const uint8_t *mask, runs *r)
{
    COV_TRY(new_rows(r));
    for (int64_t k = 0; k < r->ny * r->nz; k++) {
        const uint8_t *line = mask + k * r->nx, *end = line + r->nx, *at = line, *to;
        r->row[k] = r->count;
        for (; at < end && (at = memchr(at, 1, (size_t)(end - at))); at = to) {
            to = memchr(at, 0, (size_t)(end - at));
            if (!to) to = end;
            COV_TRY(add_run(r, at - line, to - line));
        }
    }
    r->row[r->ny * r->nz] = r->count;
    return COV_OK;
}

/* What lies beside the runs of lung that are kept. */
static status find_gaps(const runs *lung, runs *r)
{
    COV_TRY(new_rows(r));
    for (int64_t row = 0; row < r->ny * r->nz; row++) {
        int64_t x = 0;
        r->row[row] = r->count;
        for (int64_t k = lung->row[row]; k < lung->row[row + 1]; k++) {
            if (!lung->value[k]) continue;
            if (lung->at[k].from > x) COV_TRY(add_run(r, x, lung->at[k].from));
            x = lung->at[k].to;
        }
        if (x < r->nx) COV_TRY(add_run(r, x, r->nx));
    }
    r->row[r->ny * r->nz] = r->count;
    return COV_OK;
}

static int64_t root_of(int64_t *parent, int64_t k)
{
    while (parent[k] != k) k = parent[k] = parent[parent[k]];
    return k;
}

static void join(int64_t *parent, int64_t a, int64_t b)
{
    a = root_of(parent, a);
    b = root_of(parent, b);
    if (a < b) parent[b] = a;
    else parent[a] = b;
}

/* Joins the runs of two rows that overlap in x. */
static void join_rows(runs *r, int64_t one, int64_t two)
{
    int64_t a = r->row[one], b = r->row[two], a_end = r->row[one + 1], b_end = r->row[two + 1];
    while (a < a_end && b < b_end) {
        if (r->at[a].from < r->at[b].to && r->at[b].from < r->at[a].to) join(r->parent, a, b);
        if (r->at[a].to < r->at[b].to) a++;
        else b++;
    }
}

static status label(runs *r)
{
    r->parent = malloc(sizeof *r->parent * (size_t)(r->count + 1));
    r->size = calloc((size_t)(r->count + 1), sizeof *r->size);
    r->value = calloc((size_t)(r->count + 1), 1);
    if (!r->parent || !r->size || !r->value)
        return COV_FAIL(COV_NOMEM, "no memory for %lld runs of a mask", (long long)r->count);
    for (int64_t k = 0; k < r->count; k++) r->parent[k] = k;
    for (int64_t z = 0; z < r->nz; z++)
        for (int64_t y = 0; y < r->ny; y++) {
            if (y) join_rows(r, z * r->ny + y - 1, z * r->ny + y);
            if (z) join_rows(r, (z - 1) * r->ny + y, z * r->ny + y);
        }
    for (int64_t k = 0; k < r->count; k++) r->size[root_of(r->parent, k)] += r->at[k].to - r->at[k].from;
    return COV_OK;
}

/* The two largest components get the values 1 and 2 (by size), the others 0. */
static status keep_largest(const uint8_t *mask, runs *r, lungpost_report *report)
{
    int64_t first = -1, second = -1;
    COV_TRY(find_runs(mask, r));
    COV_TRY(label(r));
    for (int64_t k = 0; k < r->count; k++) {
        if (r->parent[k] != k) continue;
        if (first < 0 || r->size[k] > r->size[first]) { second = first; first = k; }
        else if (second < 0 || r->size[k] > r->size[second]) second = k;
    }
    if (second >= 0 && r->size[second] * 10 < r->size[first]) second = -1;
    report->components = (first >= 0) + (second >= 0);
    for (int64_t k = 0; k < r->count; k++) {
        int64_t root = root_of(r->parent, k);
        r->value[k] = root == first ? 1 : root == second ? 2 : 0;
        if (!r->value[k]) report->removed += r->at[k].to - r->at[k].from;
    }
    return COV_OK;
}

/* A hole takes the value of the lung on its left end, which is the lung around it. Gaps that are none get 0. */
static status find_holes(const runs *lung, runs *r, lungpost_report *report)
{
    COV_TRY(find_gaps(lung, r));
    COV_TRY(label(r));
    for (int64_t row = 0; row < r->ny * r->nz; row++) { /* the size of what reaches a border becomes 0 */
        int64_t y = row % r->ny, z = row / r->ny;
        int border = y == 0 || y == r->ny - 1 || z == 0 || z == r->nz - 1;
        for (int64_t k = r->row[row]; k < r->row[row + 1]; k++)
            if (border || r->at[k].from == 0 || r->at[k].to == r->nx) r->size[root_of(r->parent, k)] = 0;
    }
    for (int64_t row = 0; row < r->ny * r->nz; row++) {
        int64_t left = lung->row[row];
        for (int64_t k = r->row[row]; k < r->row[row + 1]; k++) {
            if (!r->size[root_of(r->parent, k)]) continue;
            while (lung->at[left].to != r->at[k].from || !lung->value[left]) left++;
            r->value[k] = lung->value[left];
            report->filled += r->at[k].to - r->at[k].from;
        }
    }
    return COV_OK;
}

typedef struct extent { int64_t count[3], sum_x[3], low, high; } extent; /* by value; x range of all */

static void measure(const runs *r, extent *e)
{
    for (int64_t k = 0; k < r->count; k++) {
        int64_t from = r->at[k].from, to = r->at[k].to;
        uint8_t v = r->value[k];
        if (!v) continue;
        e->count[v] += to - from;
        e->sum_x[v] += (from + to - 1) * (to - from) / 2;
        if (from < e->low) e->low = from;
        if (to - 1 > e->high) e->high = to - 1;
    }
}

/* name: of the values. What has the name `there` is so already. */
static void paint(uint8_t *mask, const runs *r, const uint8_t name[3], uint8_t there)
{
    for (int64_t row = 0; row < r->ny * r->nz; row++)
        for (int64_t k = r->row[row]; k < r->row[row + 1]; k++)
            if (name[r->value[k]] != there)
                memset(mask + row * r->nx + r->at[k].from, name[r->value[k]], (size_t)(r->at[k].to - r->at[k].from));
}

/* One line of the seam's costs: the cheapest way to each x from the line above, and the step that it takes there. Both
 * lines have one entry more on either side, from which no way leads. Of joined lungs this is the longest step. */
static void add_line(const uint8_t *line, int64_t width, const int32_t *restrict above, int32_t *restrict cost,
                     int8_t *restrict from)
{
    for (int64_t x = 0; x < width; x++) {
        int32_t left = above[x - 1] + 1, right = above[x + 1] + 1, least = above[x];
        int8_t step = left < least ? -1 : 0;
        least = left < least ? left : least;
        step = right < least ? 1 : step;
        least = right < least ? right : least;
        cost[x] = least + 10 * (line[x] != 0);
        from[x] = step;
    }
}

typedef struct seam_space { /* of one thread */
    int32_t *cost; /* two lines of width + 2 */
    int8_t *from;  /* (ny, width) */
    int64_t *seam; /* ny */
} seam_space;

/* The seam from the first to the last line of one slice, x within [low, low + width), that crosses the least lung; a
 * step aside costs a tenth of a voxel. Into w->seam; returns the lung voxels crossed. */
static int64_t find_seam(const uint8_t *slice, int64_t nx, int64_t ny, int64_t low, int64_t width, seam_space *w)
{
    int64_t best = 0, crossed = 0;
    int32_t *above = w->cost + 1, *cost = above + width + 2;
    for (int64_t x = -1; x <= width; x++) above[x] = cost[x] = x < 0 || x == width ? INT32_MAX / 2 : 0;
    for (int64_t y = 0; y < ny; y++) {
        add_line(slice + y * nx + low, width, above, cost, w->from + y * width);
        int32_t *line = above;
        above = cost;
        cost = line;
    }
    for (int64_t x = 0; x < width; x++) {
        int64_t middle = width / 2, here = llabs(x - middle), there = llabs(best - middle);
        if (above[x] < above[best] || (above[x] == above[best] && here < there)) best = x;
    }
    for (int64_t y = ny - 1; y >= 0; y--) {
        w->seam[y] = low + best;
        crossed += slice[y * nx + low + best] != 0;
        best += w->from[y * width + best];
    }
    return crossed;
}

/* What lies at the seam or beyond it becomes 2; returns how many voxels. */
static int64_t part_slice(uint8_t *slice, int64_t nx, int64_t ny, const int64_t *seam)
{
    int64_t left = 0;
    for (int64_t y = 0; y < ny; y++) {
        uint8_t *line = slice + y * nx;
        int32_t n = 0;
        for (int64_t x = seam[y]; x < nx; x++) {
            n += line[x];
            line[x] = (uint8_t)(2 * line[x]);
        }
        left += n;
    }
    return left;
}

/* Parts one joined component, of ones, into right (1) and left (2). A slice is one thread's, and sums are integers. */
static status split_joined(uint8_t *mask, const runs *r, const extent *e, int threads, lungpost_report *report)
{
    int64_t middle = (e->low + e->high) / 2, reach = (e->high - e->low) * 3 / 20, nx = r->nx, ny = r->ny;
    int64_t low = middle - reach, width = 2 * reach + 1, crossed = 0, left = 0;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed) reduction(+ : crossed, left)
    {
        seam_space w = {.cost = malloc(sizeof *w.cost * 2 * (size_t)(width + 2)),
                        .from = malloc((size_t)(ny * width)),
                        .seam = malloc(sizeof *w.seam * (size_t)ny)};
        failed = !w.cost || !w.from || !w.seam;
#pragma omp for schedule(static)
        for (int64_t z = 0; z < r->nz; z++) {
            if (failed) continue;
            crossed += find_seam(mask + z * nx * ny, nx, ny, low, width, &w);
            left += part_slice(mask + z * nx * ny, nx, ny, w.seam);
        }
        free(w.cost);
        free(w.from);
        free(w.seam);
    }
    if (failed) return COV_FAIL(COV_NOMEM, "no memory to part joined lungs");
    int64_t smaller = left < report->voxels - left ? left : report->voxels - left;
    report->side_doubt = crossed * 50 > report->voxels || smaller * 10 < report->voxels;
    return COV_OK;
}

/* Values 1 and 2 become the names 1 right and 2 left. */
static void name_two(const extent *e, int64_t nx, lungpost_report *report, uint8_t name[3])
{
    double one = (double)e->sum_x[1] / (double)e->count[1], two = (double)e->sum_x[2] / (double)e->count[2];
    report->side_doubt = fabs(one - two) < 0.1 * (double)nx; /* one above the other: not a pair */
    if (one > two) { name[1] = 2; name[2] = 1; }
}

/* A component that keeps to one side of the image is one lung, not two joined ones. */
static int is_single(const extent *e, int64_t nx)
{
    return (double)e->high < 0.55 * (double)nx || (double)e->low > 0.45 * (double)nx;
}

static status name_sides(uint8_t *mask, const runs *lung, const runs *holes, int threads, lungpost_report *report)
{
    extent e = {{0, 0, 0}, {0, 0, 0}, lung->nx, -1};
    uint8_t name[3] = {0, 1, 2};
    measure(lung, &e);
    measure(holes, &e);
    int joined = report->components == 1 && !is_single(&e, lung->nx);
    report->voxels = e.count[1] + e.count[2];
    if (report->components == 2) name_two(&e, lung->nx, report, name);
    else if (report->components == 1 && !joined) {
        double centre = (double)e.sum_x[1] / (double)e.count[1];
        name[1] = centre < (double)(lung->nx - 1) / 2 ? 1 : 2;
        report->side_doubt = 1;
    }
    paint(mask, lung, name, 1);
    paint(mask, holes, name, 0); /* after what was removed, which may lie in a hole */
    if (!joined) return COV_OK;
    return split_joined(mask, lung, &e, threads, report);
}

status lungpost_run(uint8_t *mask, int64_t nx, int64_t ny, int64_t nz, int threads, lungpost_report *report)
{
    runs lung = {.nx = nx, .ny = ny, .nz = nz}, holes = lung;
    status s;
    *report = (lungpost_report){0};
    COV_GO(keep_largest(mask, &lung, report));
    COV_GO(find_holes(&lung, &holes, report));
    COV_GO(name_sides(mask, &lung, &holes, threads, report));
done:
    runs_free(&lung);
    runs_free(&holes);
    return s;
}
