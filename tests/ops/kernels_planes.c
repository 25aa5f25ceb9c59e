/* The functions of the backend table that work on planes and parts of a volume: on every backend, against ref, between guards:
 * sizes that are multiples of nothing, volumes smaller and larger than the planes, padding on both sides, a few planes of
 * many, and none; stacks that lie beyond the canvas. */
#include "op_variant.h"

#include <math.h>

static const plane_range lung = {-1300, 1600};

static const plane_set sets[] = {
    {0, 37, 29, 5, 5, 0, 5, 0, 37, 48, 64, 0, 0, 48, 64},
    {0, 600, 523, 2, 2, 0, 2, 0, 600, 512, 512, 0, 0, 512, 512},
    {0, 33, 41, 3, 3, 0, 3, 0, 33, 64, 64, 11, 15, 41, 33}, /* the planes' pixels are the volume's */
    {0, 53, 41, 4, 4, 0, 4, 0, 53, 64, 80, 10, 7, 43, 66},
    {0, 1, 1, 1, 1, 0, 1, 0, 1, 16, 16, 0, 0, 16, 16},
    {1, 37, 29, 11, 37, 0, 37, 0, 37, 32, 32, 0, 0, 30, 32},
    {1, 301, 23, 9, 101, 40, 256, 47, 118, 16, 48, 0, 4, 13, 40},
    {1, 601, 7, 3, 1, 100, 256, 234, 3, 16, 16, 2, 0, 11, 16},
    {1, 64, 5, 4, 0, 20, 64, 20, 0, 16, 16, 0, 0, 16, 16}, /* an empty span */
    {1, 1, 1, 1, 1, 0, 1, 0, 1, 16, 16, 0, 0, 16, 16},
};
enum { SETS = sizeof sets / sizeof sets[0] };

/* Which of the planes in use are asked for, k = 0, 1, ...: all, some in the middle, the last, none. */
static bool range_of(const plane_set *p, int k, int64_t *first, int64_t *count)
{
    const int64_t from[] = {0, p->planes / 3, p->planes - 1, p->planes}, to[] = {p->planes, p->planes / 3 + p->planes / 2, p->planes, p->planes};
    *first = from[k] < 0 ? 0 : from[k];
    *count = to[k] - *first;
    return k + 1 < 4;
}

static size_t voxels_of(const plane_set *p) { return (size_t)(p->nx * p->ny * p->nz); }

/* HU as they come, some of them what no CT has. */
static int16_t *random_volume(size_t n, uint64_t seed)
{
    int16_t *v = must_alloc(n * sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = (int16_t)(1000 * draw(&seed) - 400);
    for (size_t i = 5; i < n; i += 97) v[i] = INT16_MIN;
    for (size_t i = 50; i < n; i += 197) v[i] = INT16_MAX;
    return v;
}

static float *random_numbers(size_t n, uint64_t seed)
{
    float *v = must_alloc((n + 1) * sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = 10 * draw(&seed);
    return v;
}

/* The first variant's result is kept in *want; the others' must be near it. Frees got. */
static void same(const variant *at, int k, float *got, size_t n, float **want, const char *what, int number)
{
    if (k == 0) {
        *want = got;
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(got[i] - (*want)[i]) <= 2e-5f))
            fail_msg("%s: %s, set %d: %g at %zu, expected %g", at->name, what, number, (double)got[i], i, (double)(*want)[i]);
    free(got);
}

static void every_pixel_of_a_plane_is_the_volume_there_and_the_padding_is_0(void **state)
{
    (void)state;
    for (int s = 0, more = 1; s < SETS; s++, more = 1)
        for (int part = 0; more; part++) {
            const plane_set *p = &sets[s];
            int64_t first, count;
            more = range_of(p, part, &first, &count);
            size_t n = (size_t)(count * p->rows * p->cols);
            int16_t *volume = random_volume(voxels_of(p), 3);
            float *start = random_numbers(n, 4), *want = NULL;
            variant at;
            for (int k = 0; variant_open(k, 1 + k % 3, &at); at.b->close(&at.d), k++) {
                char *on_volume = guarded(&at, volume, voxels_of(p) * sizeof *volume), *on_to = guarded(&at, start, n * 4);
                MUST(at.b->plane_cut(at.d, p, lung, (int16_t *)(on_volume + GUARD), first, count, (float *)(on_to + GUARD)));
                same(&at, k, harvest(&at, on_to, n * 4), n, &want, "cut", s);
                at.b->release(at.d, on_volume);
            }
            for (int64_t i = 0; i < count * p->rows * p->cols; i++) {
                int64_t r = i / p->cols % p->rows - p->row0, c = i % p->cols - p->col0;
                if (r < 0 || r >= p->used_rows || c < 0 || c >= p->used_cols) assert_true(want[i] == 0);
            }
            free(volume), free(start), free(want);
        }
}

static void planes_are_put_onto_the_voxels_they_stand_for_and_onto_no_other(void **state)
{
    (void)state;
    for (int s = 0, more = 1; s < SETS; s++, more = 1)
        for (int part = 0; more; part++) {
            const plane_set *p = &sets[s];
            int64_t first, count;
            more = range_of(p, part, &first, &count);
            size_t n = (size_t)(count * p->rows * p->cols), all = (size_t)(p->nz * p->ny * p->width), written = 0;
            float *from = random_numbers(n, 5), *start = random_numbers(all, 6), *want = NULL;
            variant at;
            for (int k = 0; variant_open(k, 1 + k % 3, &at); at.b->close(&at.d), k++) {
                char *on_from = guarded(&at, from, n * 4), *on_to = guarded(&at, start, all * 4);
                MUST(at.b->plane_put(at.d, p, (float *)(on_from + GUARD), first, count, (float *)(on_to + GUARD)));
                same(&at, k, harvest(&at, on_to, all * 4), all, &want, "put", s);
                free(harvest(&at, on_from, n * 4));
            }
            for (size_t i = 0; i < all; i++) written += want[i] != start[i];
            int64_t of_plane = p->sagittal ? p->ny * p->nz * (plane_first_x(p, first + count) - plane_first_x(p, first)) : count * p->ny * p->nx;
            assert_int_equal(written, of_plane);
            free(from), free(start), free(want);
        }
}

static void a_second_view_is_smoothed_and_blended_by_density_in_its_columns_alone(void **state)
{
    (void)state;
    const int64_t reaches[] = {0, 1, 2, 7};
    const plane_blend blend = {-400, {0.5f, 0.85f}, {0, 0.7f}};
    for (int s = 0; s < SETS; s++)
        for (size_t r = 0; r < 4; r++) {
            const plane_set *p = &sets[s];
            if (reaches[r] > p->nx) continue;
            size_t all = voxels_of(p), n = (size_t)(p->nz * p->ny * p->width);
            int16_t *volume = random_volume(all, 7);
            float *first = random_numbers(all, 8), *second = random_numbers(n, 9), *want = NULL;
            variant at;
            for (int k = 0; variant_open(k, 1 + k % 3, &at); at.b->close(&at.d), k++) {
                char *on_volume = guarded(&at, volume, all * sizeof *volume), *on_first = guarded(&at, first, all * 4);
                char *on_second = guarded(&at, second, n * 4);
                MUST(at.b->plane_fuse(at.d, p, blend, reaches[r], (int16_t *)(on_volume + GUARD), (float *)(on_second + GUARD),
                                      (float *)(on_first + GUARD)));
                same(&at, k, harvest(&at, on_first, all * 4), all, &want, "fuse", s);
                free(harvest(&at, on_second, n * 4));
                at.b->release(at.d, on_volume);
            }
            for (size_t i = 0; i < all; i++) {
                int64_t x = (int64_t)i % p->nx;
                if (x < p->x0 || x >= p->x0 + p->width) assert_true(want[i] == first[i]);
            }
            free(volume), free(first), free(second), free(want);
        }
}

/* What was there may be anything, not even a number. */
static void of_weight_1_the_second_view_alone_is_kept_to_the_bit(void **state)
{
    (void)state;
    const plane_set *p = &sets[5];
    size_t n = voxels_of(p);
    int16_t *volume = random_volume(n, 10);
    float *first = random_numbers(n, 11), *second = random_numbers(n, 12);
    for (size_t i = 0; i < n; i += 3) first[i] = NAN;
    variant at;
    for (int k = 0; variant_open(k, 2, &at); at.b->close(&at.d), k++) {
        char *on_volume = guarded(&at, volume, n * sizeof *volume), *on_first = guarded(&at, first, n * 4), *on_second = guarded(&at, second, n * 4);
        MUST(at.b->plane_fuse(at.d, p, (plane_blend){.level = -400, .weight = {1, 1}}, 0, (int16_t *)(on_volume + GUARD),
                              (float *)(on_second + GUARD), (float *)(on_first + GUARD)));
        float *got = harvest(&at, on_first, n * 4);
        assert_memory_equal(got, second, n * 4);
        at.b->release(at.d, on_volume), at.b->release(at.d, on_second);
        free(got);
    }
    free(volume), free(first), free(second);
}

static void bounds_are_those_of_each_slices_positive_numbers(void **state)
{
    (void)state;
    enum { NZ = 6, NY = 37, NX = 300 };
    static const plane_bound want[NZ] = {{0, 0, 0, 0}, {0, NY, 0, NX}, {36, 37, 299, 300}, {0, 1, 0, 1}, {5, 31, 17, 270}, {0, 0, 0, 0}};
    float *value = must_alloc(NZ * NY * NX * sizeof *value);
    for (int i = 0; i < NZ * NY * NX; i++) value[i] = i % 5 ? -1.0f : 0.0f; /* 0 is not positive */
    for (int z = 0; z < NZ; z++) { /* two corners, and something in between */
        const plane_bound *b = &want[z];
        if (!b->x1) continue;
        value[(z * NY + b->y0) * NX + b->x1 - 1] = value[(z * NY + b->y1 - 1) * NX + b->x0] = 1e-30f;
        value[(z * NY + (b->y0 + b->y1 - 1) / 2) * NX + (b->x0 + b->x1 - 1) / 2] = 4;
    }
    value[(5 * NY + 3) * NX + 3] = NAN;
    variant at;
    for (int k = 0; variant_open(k, 1 + k % 3, &at); at.b->close(&at.d), k++) {
        plane_bound got[NZ];
        char *on = guarded(&at, value, NZ * NY * NX * sizeof *value);
        MUST(at.b->plane_bounds(at.d, NZ, NY, NX, (float *)(on + GUARD), got));
        for (int z = 0; z < NZ; z++)
            if (memcmp(&got[z], &want[z], sizeof got[z]))
                fail_msg("%s: slice %d: rows %d to %d, columns %d to %d", at.name, z, got[z].y0, got[z].y1, got[z].x0, got[z].x1);
        at.b->release(at.d, on);
    }
    free(value);
}

static const plane_part parts[] = {
    {37, 29, 5, 0, 0, 0, 37, 29, 5}, {37, 29, 5, 3, 4, 1, 17, 19, 3}, {37, 29, 5, 36, 28, 4, 1, 1, 1}, {37, 29, 5, 1, 1, 5, 5, 5, 0},
    {531, 3, 2, 7, 1, 0, 515, 2, 2},
};
enum { PARTS = sizeof parts / sizeof parts[0] };

static void a_part_is_cropped_to_gray_and_numbers_and_marked_where_it_lies(void **state)
{
    (void)state;
    for (int s = 0; s < PARTS; s++) {
        const plane_part *p = &parts[s];
        size_t all = (size_t)(p->nx * p->ny * p->nz), n = (size_t)(p->w * p->h * p->n);
        int16_t *volume = random_volume(all, 13);
        float *value = random_numbers(all, 14), *start = random_numbers(n, 15), *gray = NULL, *cropped = NULL;
        uint8_t *old = must_alloc(all);
        memset(old, 7, all);
        variant at;
        for (int k = 0; variant_open(k, 1 + k % 3, &at); at.b->close(&at.d), k++) {
            char *on_volume = guarded(&at, volume, all * sizeof *volume), *on_value = guarded(&at, value, all * 4);
            char *on_gray = guarded(&at, start, n * 4), *on_to = guarded(&at, start, n * 4), *on_mask = guarded(&at, old, all);
            MUST(at.b->plane_crop(at.d, p, lung, (int16_t *)(on_volume + GUARD), (float *)(on_value + GUARD),
                                  (float *)(on_gray + GUARD), (float *)(on_to + GUARD)));
            MUST(at.b->plane_mark(at.d, p, (float *)(on_to + GUARD), 0.5f, (uint8_t *)(on_mask + GUARD)));
            uint8_t *mask = harvest(&at, on_mask, all);
            for (size_t i = 0; i < all; i++) {
                int64_t x = (int64_t)i % p->nx - p->x0, y = (int64_t)i / p->nx % p->ny - p->y0, z = (int64_t)i / p->nx / p->ny - p->z0;
                int inside = x >= 0 && x < p->w && y >= 0 && y < p->h && z >= 0 && z < p->n;
                assert_int_equal(mask[i], inside ? value[i] > 0.5f : 7);
            }
            same(&at, k, harvest(&at, on_gray, n * 4), n, &gray, "gray", s);
            same(&at, k, harvest(&at, on_to, n * 4), n, &cropped, "crop", s);
            at.b->release(at.d, on_volume), at.b->release(at.d, on_value);
            free(mask);
        }
        for (size_t i = 0; i < n; i++) assert_true(gray[i] >= 0 && gray[i] <= 255);
        free(volume), free(value), free(start), free(gray), free(cropped), free(old);
    }
}

static void what_is_near_a_mask_lies_within_the_ellipse_of_one_of_its_pixels(void **state)
{
    (void)state;
    static const struct { int64_t ny, nx; double ry, rx; } sizes[] = {{1, 1, 0, 0}, {37, 300, 3, 3}, {41, 67, 1.5, 6.25}, {64, 33, 0, 4}, {29, 31, 5.5, 0}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        size_t n = (size_t)(sizes[s].ny * sizes[s].nx);
        uint64_t seed = 16 + s;
        uint8_t *mask = must_alloc(n), *old = must_alloc(n), *want = NULL;
        memset(old, 7, n);
        for (size_t i = 0; i < n; i++) mask[i] = draw(&seed) > 0.97f ? 2 : 0;
        mask[n - 1] = 1;
        variant at;
        for (int k = 0; variant_open(k, 1, &at); at.b->close(&at.d), k++) {
            char *on_mask = guarded(&at, mask, n), *on_near = guarded(&at, old, n);
            MUST(at.b->plane_near(at.d, sizes[s].ny, sizes[s].nx, sizes[s].ry, sizes[s].rx, (uint8_t *)(on_mask + GUARD), (uint8_t *)(on_near + GUARD)));
            uint8_t *got = harvest(&at, on_near, n);
            at.b->release(at.d, on_mask);
            if (k && memcmp(got, want, n)) fail_msg("%s: size %zu differs from ref", at.name, s);
            if (k) free(got);
            else want = got;
        }
        for (size_t i = 0; i < n; i++) assert_true(want[i] == 1 || (want[i] == 0 && !mask[i]));
        free(mask), free(old), free(want);
    }
}

static const plane_frame frames[] = {
    {512, 512, 512, 512, 96, 64, 32, 64}, {37, 61, 512, 512, 0, 32, 64, 96}, {630, 401, 512, 512, 480, 448, 64, 96}, /* beyond two edges */
    {100, 90, 128, 128, -7, -40, 160, 192}, {1, 1, 32, 32, 0, 0, 32, 32}, {9, 7, 32, 32, 64, 0, 3, 5}, /* nothing of the canvas */
};
enum { FRAMES = sizeof frames / sizeof frames[0] };

static void a_stack_shows_each_slice_in_its_channel_and_0_where_there_is_none(void **state)
{
    (void)state;
    for (int s = 0; s < FRAMES; s++)
        for (int gaps = 0; gaps < 3; gaps++) { /* 0: all slices, one of them without a mask; 1: no slice below; 2: the middle alone */
            const plane_frame *f = &frames[s];
            size_t area = (size_t)(f->ny * f->nx), n = (size_t)(f->rows * f->cols) * PLANE_STACK;
            int16_t *slices = random_volume(3 * area, 17);
            uint8_t *masks = must_alloc(2 * area);
            uint64_t seed = 18;
            for (size_t i = 0; i < 2 * area; i++) masks[i] = draw(&seed) > 0;
            float *start = random_numbers(n, 19), *want = NULL;
            variant at;
            for (int k = 0; variant_open(k, 1 + k % 3, &at); at.b->close(&at.d), k++) {
                char *on_slices = guarded(&at, slices, 3 * area * sizeof *slices), *on_masks = guarded(&at, masks, 2 * area);
                char *on_to = guarded(&at, start, n * 4);
                const int16_t *slice = (const int16_t *)(on_slices + GUARD);
                const uint8_t *mask = (const uint8_t *)(on_masks + GUARD);
                plane_slices three = {{gaps ? NULL : slice, slice + area, gaps == 2 ? NULL : slice + 2 * area}, {mask, mask + area, NULL}};
                MUST(at.b->plane_stack(at.d, f, lung, &three, (float *)(on_to + GUARD)));
                same(&at, k, harvest(&at, on_to, n * 4), n, &want, "stack", s);
                at.b->release(at.d, on_slices), at.b->release(at.d, on_masks);
            }
            for (size_t i = 0; i < n; i++)
                if ((gaps && i % 3 == 0) || (gaps == 2 && i % 3 == 2)) assert_true(want[i] == 0);
            free(slices), free(masks), free(start), free(want);
        }
}

/* A slope over the canvas, in (0, 1): linear, so what is put onto the slice is known but for the half pixel at the ends. */
static float slope(double y, double x) { return (float)(0.4 + 4e-4 * y + 3e-4 * x); }

/* Is the centre of the slice's pixel i on the input? *y, *x: where on the canvas. */
static int on_input(const plane_frame *f, int64_t i, double *y, double *x)
{
    *y = ((double)(i / f->nx) + 0.5) * (double)f->height / (double)f->ny;
    *x = ((double)(i % f->nx) + 0.5) * (double)f->width / (double)f->nx;
    return *y >= (double)f->y0 && *x >= (double)f->x0 && *y < (double)(f->y0 + f->rows) && *x < (double)(f->x0 + f->cols);
}

static void what_is_kept_lies_where_the_frame_shows_it_in_the_mask_and_is_enough(void **state)
{
    (void)state;
    for (int s = 0; s < FRAMES; s++)
        for (int masked = 0; masked < 2; masked++) {
            const plane_frame *f = &frames[s];
            const float least = 0.45f;
            size_t area = (size_t)(f->ny * f->nx), n = (size_t)(f->rows * f->cols);
            float *from = must_alloc(n * 4), *start = random_numbers(area, 20);
            uint8_t *mask = must_alloc(area);
            uint64_t seed = 21;
            double y, x;
            for (size_t i = 0; i < area; i++) mask[i] = draw(&seed) > 0 ? 9 : 0;
            for (int64_t i = 0; i < (int64_t)n; i++)
                from[i] = slope((double)(f->y0 + i / f->cols) + 0.5, (double)(f->x0 + i % f->cols) + 0.5);
            variant at;
            for (int k = 0; variant_open(k, 1 + k % 3, &at); at.b->close(&at.d), k++) {
                char *on_from = guarded(&at, from, n * 4), *on_mask = guarded(&at, mask, area), *on_to = guarded(&at, start, area * 4);
                MUST(at.b->plane_keep(at.d, f, (float *)(on_from + GUARD), least, masked ? (uint8_t *)(on_mask + GUARD) : NULL, (float *)(on_to + GUARD)));
                float *got = harvest(&at, on_to, area * 4);
                for (size_t i = 0; i < area; i++) {
                    float want = on_input(f, (int64_t)i, &y, &x) && (mask[i] || !masked) ? slope(y, x) : 0;
                    if (got[i] == 0 ? want >= least + 4e-4f : !(got[i] >= least && fabsf(got[i] - want) <= 4e-4f))
                        fail_msg("%s: frame %d: %g at %zu, expected %g", at.name, s, (double)got[i], i, (double)want);
                }
                free(harvest(&at, on_from, n * 4));
                at.b->release(at.d, on_mask);
                free(got);
            }
            free(from), free(start), free(mask);
        }
}

/* Of numbers that jump from pixel to pixel, and of a threshold that none of them meets exactly. */
static void what_is_kept_is_the_same_on_every_backend(void **state)
{
    (void)state;
    for (int s = 0; s < FRAMES; s++) {
        const plane_frame *f = &frames[s];
        size_t area = (size_t)(f->ny * f->nx), n = (size_t)(f->rows * f->cols), apart = 0;
        float *from = must_alloc(n * 4), *start = random_numbers(area, 22), *want = NULL;
        uint64_t seed = 23;
        for (size_t i = 0; i < n; i++) from[i] = 0.5f + 0.5f * draw(&seed);
        variant at;
        for (int k = 0; variant_open(k, 1 + k % 3, &at); at.b->close(&at.d), k++) {
            char *on_from = guarded(&at, from, n * 4), *on_to = guarded(&at, start, area * 4);
            MUST(at.b->plane_keep(at.d, f, (float *)(on_from + GUARD), 0.6f, NULL, (float *)(on_to + GUARD)));
            float *got = harvest(&at, on_to, area * 4);
            at.b->release(at.d, on_from);
            for (size_t i = 0; k && i < area; i++) /* at the threshold itself rounding decides */
                if ((got[i] == 0) != (want[i] == 0) && fabsf(got[i] + want[i] - 0.6f) <= 1e-6f) got[i] = want[i], apart++;
            same(&at, k, got, area, &want, "keep", s);
        }
        assert_true(apart <= area / 1000);
        free(from), free(start), free(want);
    }
}

/* Every one of them is refused before an array is looked at. */
static void sizes_that_do_not_fit_together_are_refused(void **state)
{
    (void)state;
    const plane_set good = sets[6];
    plane_set bad[8];
    for (int k = 0; k < 8; k++) bad[k] = good;
    bad[0].nx = 0;
    bad[1].used_cols = bad[1].cols = PLANE_COLS_MOST + 1;
    bad[2].row0 = 4;
    bad[3].planes = good.all;
    bad[4].x0 = 46;
    bad[5].width = 119;
    bad[6].nz = INT64_MAX / 8;
    bad[7].rows = INT64_MAX / 64;
    plane_part outside = parts[1], endless = parts[1];
    outside.z0 = 3;
    endless.ny = endless.h = INT64_MAX / 4;
    plane_frame wide = frames[0], none = frames[0], far = frames[0];
    wide.cols = PLANE_FRAME_COLS_MOST + 1;
    none.nx = 0;
    far.y0 = INT64_MAX;
    variant at;
    for (int k = 0; variant_open(k, 1, &at); at.b->close(&at.d), k++) {
        assert_int_equal(at.b->plane_stack(at.d, &wide, lung, &(plane_slices){0}, NULL), COV_BROKEN);
        assert_int_equal(at.b->plane_stack(at.d, &none, lung, &(plane_slices){0}, NULL), COV_BROKEN);
        assert_int_equal(at.b->plane_stack(at.d, &far, lung, &(plane_slices){0}, NULL), COV_BROKEN);
        assert_int_equal(at.b->plane_keep(at.d, &wide, NULL, 0.5f, NULL, NULL), COV_BROKEN);
        assert_int_equal(at.b->plane_keep(at.d, &frames[0], NULL, 0, NULL, NULL), COV_BROKEN);
        assert_int_equal(at.b->plane_keep(at.d, &frames[0], NULL, NAN, NULL, NULL), COV_BROKEN);
        assert_int_equal(at.b->plane_near(at.d, 5, 5, (double)NAN, 1, NULL, NULL), COV_BROKEN);
        for (int s = 0; s < 8; s++) {
            assert_int_equal(at.b->plane_cut(at.d, &bad[s], lung, NULL, 0, 1, NULL), COV_BROKEN);
            assert_int_equal(at.b->plane_put(at.d, &bad[s], NULL, 0, 1, NULL), COV_BROKEN);
        }
        assert_int_equal(at.b->plane_cut(at.d, &good, lung, NULL, 100, 2, NULL), COV_BROKEN);
        assert_int_equal(at.b->plane_put(at.d, &good, NULL, -1, 1, NULL), COV_BROKEN);
        assert_int_equal(at.b->plane_fuse(at.d, &bad[4], (plane_blend){0}, 1, NULL, NULL, NULL), COV_BROKEN);
        assert_int_equal(at.b->plane_fuse(at.d, &good, (plane_blend){0}, -1, NULL, NULL, NULL), COV_BROKEN);
        assert_int_equal(at.b->plane_bounds(at.d, 1, 0, 1, NULL, NULL), COV_BROKEN);
        assert_int_equal(at.b->plane_crop(at.d, &outside, lung, NULL, NULL, NULL, NULL), COV_BROKEN);
        assert_int_equal(at.b->plane_mark(at.d, &endless, NULL, 0, NULL), COV_BROKEN);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pixel_of_a_plane_is_the_volume_there_and_the_padding_is_0),
        cmocka_unit_test(planes_are_put_onto_the_voxels_they_stand_for_and_onto_no_other),
        cmocka_unit_test(a_second_view_is_smoothed_and_blended_by_density_in_its_columns_alone),
        cmocka_unit_test(of_weight_1_the_second_view_alone_is_kept_to_the_bit),
        cmocka_unit_test(bounds_are_those_of_each_slices_positive_numbers),
        cmocka_unit_test(a_part_is_cropped_to_gray_and_numbers_and_marked_where_it_lies),
        cmocka_unit_test(what_is_near_a_mask_lies_within_the_ellipse_of_one_of_its_pixels),
        cmocka_unit_test(a_stack_shows_each_slice_in_its_channel_and_0_where_there_is_none),
        cmocka_unit_test(what_is_kept_lies_where_the_frame_shows_it_in_the_mask_and_is_enough),
        cmocka_unit_test(what_is_kept_is_the_same_on_every_backend),
        cmocka_unit_test(sizes_that_do_not_fit_together_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
