/* lungpost: components by union-find over runs (maximal spans of one value along x), so that the work follows the number
 * of spans and not of voxels. Joined lungs are parted slice by slice along the seam, from front to back, that crosses
 * the least lung: the anterior and posterior junction lines are one voxel of partial volume in many scans. */
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
} runs;

static void runs_free(runs *r)
{
    free(r->at);
    free(r->row);
    free(r->parent);
    free(r->size);
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

/* Runs of voxels that are (lung = 1) or are not (0) set. */
static status find_runs(const uint8_t *mask, int lung, runs *r)
{
    size_t rows = (size_t)(r->ny * r->nz);
    r->row = malloc(sizeof *r->row * (rows + 1));
    if (!r->row) return COV_FAIL(COV_NOMEM, "no memory for the rows of a mask");
    for (size_t k = 0; k < rows; k++) {
        const uint8_t *line = mask + k * (size_t)r->nx;
        r->row[k] = r->count;
        for (int64_t x = 0; x < r->nx;) {
            while (x < r->nx && (line[x] != 0) != lung) x++;
            int64_t from = x;
            while (x < r->nx && (line[x] != 0) == lung) x++;
            if (x > from) COV_TRY(add_run(r, from, x));
        }
    }
    r->row[rows] = r->count;
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

static status label(const uint8_t *mask, int lung, runs *r)
{
    COV_TRY(find_runs(mask, lung, r));
    r->parent = malloc(sizeof *r->parent * (size_t)(r->count + 1));
    r->size = calloc((size_t)(r->count + 1), sizeof *r->size);
    if (!r->parent || !r->size) return COV_FAIL(COV_NOMEM, "no memory for %lld runs of a mask", (long long)r->count);
    for (int64_t k = 0; k < r->count; k++) r->parent[k] = k;
    for (int64_t z = 0; z < r->nz; z++)
        for (int64_t y = 0; y < r->ny; y++) {
            if (y) join_rows(r, z * r->ny + y - 1, z * r->ny + y);
            if (z) join_rows(r, (z - 1) * r->ny + y, z * r->ny + y);
        }
    for (int64_t k = 0; k < r->count; k++) r->size[root_of(r->parent, k)] += r->at[k].to - r->at[k].from;
    return COV_OK;
}

static void paint(uint8_t *mask, const runs *r, int64_t row, int64_t k, uint8_t value)
{
    memset(mask + row * r->nx + r->at[k].from, value, (size_t)(r->at[k].to - r->at[k].from));
}

/* Keeps the two largest components, as values 1 and 2 (by first run), and clears the others. */
static status keep_largest(uint8_t *mask, int64_t nx, int64_t ny, int64_t nz, lungpost_report *report)
{
    runs r = {.nx = nx, .ny = ny, .nz = nz};
    int64_t first = -1, second = -1;
    status s;
    COV_GO(label(mask, 1, &r));
    for (int64_t k = 0; k < r.count; k++) {
        if (r.parent[k] != k) continue;
        if (first < 0 || r.size[k] > r.size[first]) { second = first; first = k; }
        else if (second < 0 || r.size[k] > r.size[second]) second = k;
    }
    if (second >= 0 && r.size[second] * 10 < r.size[first]) second = -1;
    report->components = (first >= 0) + (second >= 0);
    for (int64_t row = 0; row < ny * nz; row++)
        for (int64_t k = r.row[row]; k < r.row[row + 1]; k++) {
            int64_t root = root_of(r.parent, k);
            uint8_t value = root == first ? 1 : root == second ? 2 : 0;
            if (!value) report->removed += r.at[k].to - r.at[k].from;
            if (value != 1) paint(mask, &r, row, k, value);
        }
done:
    runs_free(&r);
    return s;
}

/* A hole takes the value of the lung on its left end, which is the lung around it. */
static status fill_holes(uint8_t *mask, int64_t nx, int64_t ny, int64_t nz, lungpost_report *report)
{
    runs r = {.nx = nx, .ny = ny, .nz = nz};
    uint8_t *open = NULL;
    status s;
    COV_GO(label(mask, 0, &r));
    open = calloc((size_t)r.count + 1, 1);
    if (!open) { s = COV_FAIL(COV_NOMEM, "no memory to fill holes"); goto done; }
    for (int64_t row = 0; row < ny * nz; row++) {
        int64_t y = row % ny, z = row / ny;
        int border = y == 0 || y == ny - 1 || z == 0 || z == nz - 1;
        for (int64_t k = r.row[row]; k < r.row[row + 1]; k++)
            if (border || r.at[k].from == 0 || r.at[k].to == nx) open[root_of(r.parent, k)] = 1;
    }
    for (int64_t row = 0; row < ny * nz; row++)
        for (int64_t k = r.row[row]; k < r.row[row + 1]; k++) {
            if (open[root_of(r.parent, k)]) continue;
            paint(mask, &r, row, k, mask[row * nx + r.at[k].from - 1]);
            report->filled += r.at[k].to - r.at[k].from;
        }
done:
    free(open);
    runs_free(&r);
    return s;
}

typedef struct extent { int64_t count[3]; double sum_x[3]; int64_t low, high; } extent; /* by value; x range of all */

static extent measure(const uint8_t *mask, int64_t nx, int64_t rows)
{
    extent e = {{0, 0, 0}, {0, 0, 0}, nx, -1};
    for (int64_t row = 0; row < rows; row++)
        for (int64_t x = 0; x < nx; x++) {
            uint8_t v = mask[row * nx + x];
            if (!v) continue;
            e.count[v]++;
            e.sum_x[v] += (double)x;
            if (x < e.low) e.low = x;
            if (x > e.high) e.high = x;
        }
    return e;
}

/* The seam from the first to the last line of one slice, x within [low, high], that crosses the least lung; a step
 * aside costs a tenth of a voxel. seam[y] out; returns the lung voxels crossed. cost and from: (ny, width) work space. */
static int64_t find_seam(const uint8_t *slice, int64_t nx, int64_t ny, int64_t low, int64_t high, int32_t *cost, int8_t *from, int64_t *seam)
{
    int64_t width = high - low + 1, best = 0, crossed = 0;
    for (int64_t y = 0; y < ny; y++)
        for (int64_t x = 0; x < width; x++) {
            int32_t least = y ? cost[(y - 1) * width + x] : 0;
            int8_t step = 0;
            for (int8_t d = -1; y && d <= 1; d += 2) {
                if (x + d < 0 || x + d >= width) continue;
                int32_t c = cost[(y - 1) * width + x + d] + 1;
                if (c < least) { least = c; step = d; }
            }
            cost[y * width + x] = least + 10 * (slice[y * nx + low + x] != 0);
            from[y * width + x] = step;
        }
    for (int64_t x = 0; x < width; x++) {
        int64_t middle = width / 2, here = llabs(x - middle), there = llabs(best - middle);
        int32_t a = cost[(ny - 1) * width + x], b = cost[(ny - 1) * width + best];
        if (a < b || (a == b && here < there)) best = x;
    }
    for (int64_t y = ny - 1; y >= 0; y--) {
        seam[y] = low + best;
        crossed += slice[y * nx + low + best] != 0;
        best += from[y * width + best];
    }
    return crossed;
}

/* Parts one joined component into right (1) and left (2). */
static status split_joined(uint8_t *mask, int64_t nx, int64_t ny, int64_t nz, const extent *e, int64_t *crossed)
{
    int64_t middle = (e->low + e->high) / 2, reach = (e->high - e->low) * 3 / 20;
    int64_t low = middle - reach, high = middle + reach, width = high - low + 1;
    int32_t *cost = malloc(sizeof *cost * (size_t)(ny * width));
    int8_t *from = malloc((size_t)(ny * width));
    int64_t *seam = malloc(sizeof *seam * (size_t)ny);
    status s = cost && from && seam ? COV_OK : COV_FAIL(COV_NOMEM, "no memory to part joined lungs");
    *crossed = 0;
    for (int64_t z = 0; s == COV_OK && z < nz; z++) {
        uint8_t *slice = mask + z * nx * ny;
        *crossed += find_seam(slice, nx, ny, low, high, cost, from, seam);
        for (int64_t y = 0; y < ny; y++)
            for (int64_t x = 0; x < nx; x++)
                if (slice[y * nx + x]) slice[y * nx + x] = x < seam[y] ? 1 : 2;
    }
    free(cost);
    free(from);
    free(seam);
    return s;
}

static void name_two(uint8_t *mask, int64_t count, const extent *e, int64_t nx, lungpost_report *report)
{
    double one = e->sum_x[1] / (double)e->count[1], two = e->sum_x[2] / (double)e->count[2];
    report->side_doubt = fabs(one - two) < 0.1 * (double)nx; /* one above the other: not a pair */
    if (one <= two) return;
    for (int64_t i = 0; i < count; i++) mask[i] = (uint8_t)(mask[i] ? 3 - mask[i] : 0);
}

static void name_single(uint8_t *mask, int64_t count, int64_t nx, double centre)
{
    uint8_t side = centre < (double)(nx - 1) / 2 ? 1 : 2;
    for (int64_t i = 0; i < count; i++) mask[i] = mask[i] ? side : 0;
}

static status name_sides(uint8_t *mask, int64_t nx, int64_t ny, int64_t nz, lungpost_report *report)
{
    extent e = measure(mask, nx, ny * nz);
    int64_t count = nx * ny * nz, crossed;
    report->voxels = e.count[1] + e.count[2];
    if (report->components == 2) { name_two(mask, count, &e, nx, report); return COV_OK; }
    if (report->components == 0) return COV_OK;
    double centre = e.sum_x[1] / (double)e.count[1];
    /* A component that keeps to one side of the image is one lung, not two joined ones. */
    if ((double)e.high < 0.55 * (double)nx || (double)e.low > 0.45 * (double)nx) {
        name_single(mask, count, nx, centre);
        report->side_doubt = 1;
        return COV_OK;
    }
    COV_TRY(split_joined(mask, nx, ny, nz, &e, &crossed));
    extent parted = measure(mask, nx, ny * nz);
    int64_t smaller = parted.count[1] < parted.count[2] ? parted.count[1] : parted.count[2];
    report->side_doubt = crossed * 50 > report->voxels || smaller * 10 < report->voxels;
    return COV_OK;
}

status lungpost_run(uint8_t *mask, int64_t nx, int64_t ny, int64_t nz, lungpost_report *report)
{
    *report = (lungpost_report){0};
    COV_TRY(keep_largest(mask, nx, ny, nz, report));
    COV_TRY(fill_holes(mask, nx, ny, nz, report));
    return name_sides(mask, nx, ny, nz, report);
}
