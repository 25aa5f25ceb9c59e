/* plane_regions of the backend table, on every backend, between guards, against labels that are found here in the slowest way:
 * each pixel takes the least label around it until nothing changes. Shapes whose pixels hang together by long chains, by
 * corners or not at all; slices of one row, one column, less than a block and many. All of it to the bit. */
#include "op_variant.h"

typedef struct shape {
    const char *name;
    int (*has)(int64_t y, int64_t x, int64_t ny, int64_t nx);
} shape;

static int nothing(int64_t y, int64_t x, int64_t ny, int64_t nx) { return (void)y, (void)x, (void)ny, (void)nx, 0; }
static int everything(int64_t y, int64_t x, int64_t ny, int64_t nx) { return (void)y, (void)x, (void)ny, (void)nx, 1; }
static int last_pixel(int64_t y, int64_t x, int64_t ny, int64_t nx) { return y == ny - 1 && x == nx - 1; }
static int corners(int64_t y, int64_t x, int64_t ny, int64_t nx) { return (y == 0 || y == ny - 1) && (x == 0 || x == nx - 1); }
static int checkerboard(int64_t y, int64_t x, int64_t ny, int64_t nx) { return (void)ny, (void)nx, (y + x) % 2 == 0; }
static int dots(int64_t y, int64_t x, int64_t ny, int64_t nx) { return (void)ny, (void)nx, y % 2 == 0 && x % 2 == 0; } /* as many as there can be */
static int rows(int64_t y, int64_t x, int64_t ny, int64_t nx) { return (void)x, (void)ny, (void)nx, y % 2 == 1; }
static int diagonals(int64_t y, int64_t x, int64_t ny, int64_t nx) { return (void)ny, (void)nx, (y + x) % 4 == 0; }
static int backward_diagonals(int64_t y, int64_t x, int64_t ny, int64_t nx) { return (void)nx, (ny + x - y + ny) % 4 == 0; }
static int comb(int64_t y, int64_t x, int64_t ny, int64_t nx) { return (void)nx, x % 2 == 0 || y == ny - 1; } /* teeth meet in the last row */
static int comb_down(int64_t y, int64_t x, int64_t ny, int64_t nx) { return (void)ny, (void)nx, x % 2 == 0 || y == 0; }
static int comb_aside(int64_t y, int64_t x, int64_t ny, int64_t nx) { return (void)ny, y % 2 == 0 || x == nx - 1; }
static int snake(int64_t y, int64_t x, int64_t ny, int64_t nx) { return (void)ny, y % 2 == 0 || x == (y % 4 == 1 ? nx - 1 : 0); }
/* Rings around rings, each opened above its left edge and tied to the next one there. */
static int spiral(int64_t y, int64_t x, int64_t ny, int64_t nx)
{
    int64_t a = y < ny - 1 - y ? y : ny - 1 - y, b = x < nx - 1 - x ? x : nx - 1 - x, ring = a < b ? a : b;
    if (ring % 2 == 0) return !(x == ring && y == ring + 1 && ny > 4 && nx > 4 && ring + 3 < nx && ring + 3 < ny);
    return x == ring && y == ring + 1;
}
static int noise(int64_t y, int64_t x, int64_t ny, int64_t nx)
{
    uint64_t seed = (uint64_t)(y * nx + x + ny);
    return draw(&seed) > 0.1f;
}
static int much_noise(int64_t y, int64_t x, int64_t ny, int64_t nx)
{
    uint64_t seed = (uint64_t)(y * nx + x + 3 * ny);
    return draw(&seed) > -0.2f;
}

static const shape shapes[] = {
    {"nothing", nothing}, {"everything", everything}, {"last pixel", last_pixel}, {"corners", corners}, {"checkerboard", checkerboard},
    {"dots", dots}, {"rows", rows}, {"diagonals", diagonals}, {"backward diagonals", backward_diagonals}, {"comb", comb},
    {"comb down", comb_down}, {"comb aside", comb_aside}, {"snake", snake}, {"spiral", spiral}, {"noise", noise}, {"much noise", much_noise},
};
static const int64_t sizes[][2] = {{1, 1}, {1, 300}, {300, 1}, {2, 2}, {7, 5}, {16, 16}, {37, 41}, {61, 259}, {3, 515}};
enum { SHAPES = sizeof shapes / sizeof shapes[0], SIZES = sizeof sizes / sizeof sizes[0] };

/* Numbers above 0 where the shape is: small and tiny ones, a one, and more than one; elsewhere 0, less, and no number. */
static float *values(const shape *of, int64_t ny, int64_t nx)
{
    static const float in[] = {0.5f, 1.0f, 0.75000006f, 1e-30f, 0.1f, 7.0f, 2.3283064e-10f}, out[] = {0, -1, NAN, -0.0f};
    float *v = must_alloc((size_t)(ny * nx) * sizeof *v);
    for (int64_t i = 0; i < ny * nx; i++) v[i] = of->has(i / nx, i % nx, ny, nx) ? in[i % 7] : out[i % 4];
    return v;
}

/* The least label of the pixel and those around it. */
static int32_t least_around(const int32_t *label, int64_t ny, int64_t nx, int64_t y, int64_t x)
{
    int32_t least = label[y * nx + x];
    for (int64_t v = y - 1; v <= y + 1; v++)
        for (int64_t u = x - 1; u <= x + 1; u++)
            if (v >= 0 && v < ny && u >= 0 && u < nx && label[v * nx + u] && label[v * nx + u] < least) least = label[v * nx + u];
    return least;
}

/* to: 0, or 1 + the region's number in the order of first pixels; returns how many there are. */
static int64_t slow_labels(const float *value, int64_t ny, int64_t nx, int32_t *to)
{
    int64_t n = ny * nx, count = 0;
    for (int64_t i = 0; i < n; i++) to[i] = value[i] > 0 ? (int32_t)i + 1 : 0;
    for (int changed = 1; changed;) {
        changed = 0;
        for (int64_t k = 0; k < 2 * n; k++) { /* down and up again */
            int64_t i = k < n ? k : 2 * n - 1 - k;
            int32_t least = to[i] ? least_around(to, ny, nx, i / nx, i % nx) : 0;
            changed |= least != to[i];
            to[i] = least;
        }
    }
    int32_t *number = must_alloc((size_t)n * sizeof *number);
    for (int64_t i = 0; i < n; i++) {
        if (to[i] == i + 1) number[i] = (int32_t)++count;
        if (to[i]) to[i] = number[to[i] - 1];
    }
    free(number);
    return count;
}

/* The k-th region's numbers, pixel by pixel. */
static region_sum slow_region(const float *value, const int32_t *label, int64_t ny, int64_t nx, int32_t k)
{
    region_sum r = {{(int32_t)ny, (int32_t)nx, 0, 0, 0}, 0};
    for (int32_t y = 0; y < ny; y++)
        for (int32_t x = 0; x < nx; x++) {
            if (label[y * nx + x] != k + 1) continue;
            double v = (double)value[y * nx + x];
            r.at.y0 = y < r.at.y0 ? y : r.at.y0;
            r.at.x0 = x < r.at.x0 ? x : r.at.x0;
            r.at.y1 = y + 1;
            r.at.x1 = x + 1 > r.at.x1 ? x + 1 : r.at.x1;
            r.at.area++;
            r.sum += (uint64_t)floor(ldexp(v > 1 ? 1 : v, 32));
        }
    return r;
}

static int same_region(const region_sum *a, const region_sum *b) { return !memcmp(&a->at, &b->at, sizeof a->at) && a->sum == b->sum; }

static void check(const variant *at, const char *name, int64_t ny, int64_t nx, const float *value, const int32_t *want, const region_sum *sums,
                  int64_t regions)
{
    size_t n = (size_t)(ny * nx);
    int32_t *start = must_alloc(n * sizeof *start);
    memset(start, 0x55, n * sizeof *start);
    char *on_value = guarded(at, value, n * sizeof *value), *on_labels = guarded(at, start, n * sizeof *start);
    region_sum *list = (region_sum *)start; /* anything */
    int64_t count = -1;
    MUST(at->b->plane_regions(at->d, ny, nx, (float *)(on_value + GUARD), (int32_t *)(on_labels + GUARD), &list, &count));
    int32_t *labels = harvest(at, on_labels, n * sizeof *start);
    float *kept = harvest(at, on_value, n * sizeof *value);
    if (count != regions || (list == NULL) != (count == 0))
        fail_msg("%s: %s of %d x %d: %d regions, expected %d", at->name, name, (int)ny, (int)nx, (int)count, (int)regions);
    if (memcmp(labels, want, n * sizeof *want)) fail_msg("%s: %s of %d x %d: other labels", at->name, name, (int)ny, (int)nx);
    for (int64_t k = 0; k < count; k++)
        if (!same_region(&list[k], &sums[k])) fail_msg("%s: %s of %d x %d: region %d differs", at->name, name, (int)ny, (int)nx, (int)k);
    assert_memory_equal(kept, value, n * sizeof *value);
    free(start), free(labels), free(kept), free(list);
}

static void every_shapes_regions_are_found_numbered_and_measured_to_the_bit(void **state)
{
    (void)state;
    for (int s = 0; s < SHAPES * SIZES; s++) {
        int64_t ny = sizes[s % SIZES][0], nx = sizes[s % SIZES][1];
        float *value = values(&shapes[s / SIZES], ny, nx);
        int32_t *want = must_alloc((size_t)(ny * nx) * sizeof *want);
        int64_t count = slow_labels(value, ny, nx, want);
        region_sum *sums = must_alloc((size_t)(count + 1) * sizeof *sums);
        for (int64_t k = 0; k < count; k++) sums[k] = slow_region(value, want, ny, nx, (int32_t)k);
        variant at;
        for (int k = 0; variant_open(k, 1 + k % 3, &at); at.b->close(&at.d), k++)
            check(&at, shapes[s / SIZES].name, ny, nx, value, want, sums, count);
        free(value), free(want), free(sums);
    }
}

static void shapes_hang_together_as_they_look(void **state)
{
    (void)state;
    static const struct { int shape; int64_t ny, nx, regions; } seen[] = {
        {0, 37, 41, 0}, {1, 37, 41, 1}, {2, 37, 41, 1}, {3, 37, 41, 4}, {4, 37, 41, 1}, {5, 37, 41, 19 * 21}, {6, 37, 41, 18},
        {9, 37, 41, 1}, {10, 37, 41, 1}, {11, 37, 41, 1}, {12, 37, 41, 1}, {13, 61, 259, 1},
    };
    for (size_t k = 0; k < sizeof seen / sizeof seen[0]; k++) {
        float *value = values(&shapes[seen[k].shape], seen[k].ny, seen[k].nx);
        int32_t *want = must_alloc((size_t)(seen[k].ny * seen[k].nx) * sizeof *want);
        int64_t count = slow_labels(value, seen[k].ny, seen[k].nx, want);
        if (count != seen[k].regions) fail_msg("%s: %d regions, expected %d", shapes[seen[k].shape].name, (int)count, (int)seen[k].regions);
        free(value), free(want);
    }
}

/* A slice of the usual size and more, with what chains are longest in, and as many regions as there can be: against ref. */
static void large_slices_have_the_same_regions_on_every_backend(void **state)
{
    (void)state;
    static const int large[] = {1, 5, 12, 13, 14, 15};
    for (size_t s = 0; s < sizeof large / sizeof large[0]; s++) {
        int64_t ny = 515, nx = 769, count = 0;
        float *value = values(&shapes[large[s]], ny, nx);
        int32_t *want = must_alloc((size_t)(ny * nx) * sizeof *want);
        region_sum *sums = NULL;
        MUST(regions_sum(value, ny, nx, want, &sums, &count));
        variant at;
        for (int k = 0; variant_open(k, 1 + k % 3, &at); at.b->close(&at.d), k++)
            check(&at, shapes[large[s]].name, ny, nx, value, want, sums, count);
        free(value), free(want), free(sums);
    }
}

/* One device, slices that grow and shrink: nothing of the one before is left. */
static void slices_of_any_size_follow_one_another(void **state)
{
    (void)state;
    variant at;
    for (int k = 0; variant_open(k, 2, &at); at.b->close(&at.d), k++)
        for (int s = 0; s < 24; s++) {
            int64_t ny = 1 + s * 37 % 50, nx = 1 + s * 91 % 70, count;
            const shape *of = &shapes[s % 2 ? 14 : 5];
            float *value = values(of, ny, nx);
            int32_t *want = must_alloc((size_t)(ny * nx) * sizeof *want);
            region_sum *sums;
            MUST(regions_sum(value, ny, nx, want, &sums, &count));
            check(&at, of->name, ny, nx, value, want, sums, count);
            free(value), free(want), free(sums);
        }
}

static void slices_that_labels_cannot_number_are_refused(void **state)
{
    (void)state;
    static const int64_t bad[][2] = {{0, 5}, {5, 0}, {-1, 5}, {1 << 16, 1 << 15}, {INT64_MAX, 2}};
    variant at;
    for (int k = 0; variant_open(k, 1, &at); at.b->close(&at.d), k++)
        for (int s = 0; s < 5; s++) {
            region_sum *list;
            int64_t count;
            assert_int_equal(at.b->plane_regions(at.d, bad[s][0], bad[s][1], NULL, NULL, &list, &count), COV_BROKEN);
            assert_null(list);
            assert_int_equal(count, 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shapes_regions_are_found_numbered_and_measured_to_the_bit),
        cmocka_unit_test(shapes_hang_together_as_they_look),
        cmocka_unit_test(large_slices_have_the_same_regions_on_every_backend),
        cmocka_unit_test(slices_of_any_size_follow_one_another),
        cmocka_unit_test(slices_that_labels_cannot_number_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
