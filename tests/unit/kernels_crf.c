/* The CRF: a backend's filter against the exact double sum of ref, the cpu's for every instruction set that this processor
 * runs, and what both promise about stopping, threads and bad input. Prints the error table of docs/CRF.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kernels/backend.h"
#include "kernels/cpu/crf_rows.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* splitmix64, and from it a number in 0..1 and a rough normal deviate (the sum of twelve). */
static uint64_t next_u64(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}
static double uniform(uint64_t *state) { return (double)(next_u64(state) >> 11) * 0x1p-53; }
static double normal(uint64_t *state)
{
    double s = -6;
    for (int i = 0; i < 12; i++) s += uniform(state);
    return s;
}

typedef struct slice {
    int64_t n, h, w;
    float *logit, *intensity, *probability;
} slice;

/* Two dark ellipses in a bright field with noise of 12 gray levels; unaries of 0.7 and 0.3, one in seven of them
 * wrong. */
static slice slice_new(int64_t n, int64_t h, int64_t w, uint64_t seed, int whole_grays)
{
    slice s = {n, h, w, NULL, NULL, NULL};
    size_t count = (size_t)(n * h * w), at = 0;
    s.logit = malloc(count * sizeof(float));
    s.intensity = malloc(count * sizeof(float));
    s.probability = malloc(count * sizeof(float));
    assert_non_null(s.logit);
    assert_non_null(s.intensity);
    assert_non_null(s.probability);
    for (int64_t i = 0; i < n; i++)
        for (int64_t y = 0; y < h; y++)
            for (int64_t x = 0; x < w; x++, at++) {
                double v = 2 * (double)y / (double)h - 1, u = 2 * (double)x / (double)w - 1;
                double left = v * v / 0.39 + (u + 0.33) * (u + 0.33) / 0.14;
                double right = v * v / 0.39 + (u - 0.42) * (u - 0.42) / 0.11;
                int lung = left < 1 || right < 1;
                double gray = fmin(fmax((lung ? 60 : 170) + 12 * normal(&seed), 0), 255);
                double p = lung ? 0.7 : 0.3;
                if (uniform(&seed) < 0.15) p = 1 - p;
                p = fmin(fmax(p + 0.1 * normal(&seed), 0.02), 0.98);
                s.intensity[at] = (float)(whole_grays ? rint(gray) : gray);
                s.logit[at] = (float)log(p / (1 - p));
            }
    return s;
}
static void slice_free(slice *s)
{
    free(s->logit);
    free(s->intensity);
    free(s->probability);
}

static crf_batch batch_of(const slice *s, float *probability, int *done)
{
    return (crf_batch){s->n, s->h, s->w, s->logit, s->intensity, probability, done};
}

typedef struct error {
    double max, mean;
} error;

/* The ways to filter that are compared with ref: the cpu backend's instruction sets; or, where the tests are built for
 * another backend, that one. */
static int is_cpu(void) { return strcmp(backend_at(1)->name, "cpu") == 0; }

/* NULL past the last. */
static const char *way_name(int k)
{
    if (is_cpu()) return crf_rows_at(k) ? crf_rows_at(k)->name : NULL;
    return k == 0 ? backend_at(1)->name : NULL;
}

static status way_run(int k, int threads, const crf_options *o, const crf_batch *b)
{
    device *d;
    if (is_cpu()) return crf_rows_run(crf_rows_at(k), threads, o, b);
    assert_int_equal(backend_at(1)->open(&(device_options){.threads = threads}, &d), COV_OK);
    status s = backend_crf(backend_at(1), d, o, b);
    backend_at(1)->close(&d);
    return s;
}

/* ref's answer in s->probability, then the error of one way's. */
static error compare(int way, const crf_options *o, const slice *s)
{
    size_t count = (size_t)(s->n * s->h * s->w);
    float *p = malloc(count * sizeof *p);
    assert_non_null(p);
    crf_batch b = batch_of(s, p, NULL);
    assert_int_equal(way_run(way, 1, o, &b), COV_OK);
    error e = {0, 0};
    for (size_t i = 0; i < count; i++) {
        double d = fabs((double)p[i] - (double)s->probability[i]);
        assert_true(p[i] >= 0.0F && p[i] <= 1.0F);
        e.max = fmax(e.max, d);
        e.mean += d / (double)count;
    }
    free(p);
    return e;
}

static void exact(const crf_options *o, slice *s, int *done)
{
    const backend *ref;
    device *d;
    assert_int_equal(backend_find("ref", &ref), COV_OK);
    assert_int_equal(ref->open(&(device_options){.threads = 1}, &d), COV_OK);
    crf_batch b = batch_of(s, s->probability, done);
    assert_int_equal(ref->crf(d, o, &b), COV_OK);
    ref->close(&d);
}

static void the_filter_meets_its_bars_on_48x48_at_every_iteration_count(void **state)
{
    (void)state;
    slice s = slice_new(1, 48, 48, 1, 1);
    print_message("48 x 48, theta 20/20/3, weights 1.5/1.0: error of Q against the exact sum\n");
    print_message("iterations  instructions  max       mean\n");
    for (int iterations = 0; iterations <= 10; iterations++) {
        crf_options o = {1.5F, 1.0F, 20, 20, 3, iterations, 0};
        exact(&o, &s, NULL);
        for (int k = 0; way_name(k); k++) {
            error e = compare(k, &o, &s);
            print_message("%10d  %-12s  %.2e  %.2e\n", iterations, way_name(k), e.max, e.mean);
            assert_true(e.max < 7e-3);
            assert_true(e.mean < 8e-4);
            if (iterations == 0) assert_true(e.max < 1e-6);
        }
    }
    slice_free(&s);
}

static void the_filter_stays_in_tolerance_for_other_thetas_weights_and_shapes(void **state)
{
    (void)state;
    static const struct {
        int64_t h, w;
        crf_options o;
    } cases[] = {
        {48, 48, {10, 3, 80, 13, 3, 5, 0}},    {33, 70, {3, 1, 40, 13, 3, 5, 0}},   {70, 33, {3, 1, 32, 8, 2, 5, 0}},
        {50, 40, {3, 1, 20, 30, 5, 5, 0}},     {40, 50, {1.5F, 1, 10, 13, 8, 5, 0}}, {37, 41, {1.5F, 1, 6, 5, 9, 5, 0}},
        {41, 37, {1.5F, 1, 4, 60, 20, 5, 0}},  {48, 48, {1.5F, 1, 3, 20, 1, 5, 0}},
        {30, 60, {1.5F, 1, 2, 9, 0.5F, 5, 0}},
        {24, 24, {1.5F, 1, 0.5F, 20, 3, 5, 0}}, {40, 40, {1.5F, 1, 500, 500, 500, 5, 0}},
        {40, 40, {1.5F, 1, 40, 0.5F, 3, 5, 0}}, {40, 40, {1.5F, 1, 7, 0.5F, 3, 5, 0}}, {1, 90, {3, 1, 40, 13, 3, 5, 0}},
        {90, 1, {3, 1, 40, 13, 3, 5, 0}},      {1, 1, {3, 1, 80, 13, 3, 5, 0}},     {17, 100, {0, 3, 80, 13, 3, 5, 0}},
        {65, 64, {3, 0, 64, 11, 3, 5, 0}},     {1, 1100, {3, 1, 40, 13, 3, 5, 0}}, {1100, 1, {3, 1, 90, 13, 9, 5, 0}},
    };
    print_message("      h x w   alpha beta gamma   w_a  w_s  instructions  max       mean\n");
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        slice s = slice_new(1, cases[c].h, cases[c].w, 100 + c, 0);
        const crf_options *o = &cases[c].o;
        exact(o, &s, NULL);
        for (int k = 0; way_name(k); k++) {
            error e = compare(k, o, &s);
            print_message("%7d x %-3d %6g %4g %5g %5g %4g  %-12s  %.2e  %.2e\n", (int)s.h, (int)s.w,
                          (double)o->theta_alpha, (double)o->theta_beta, (double)o->theta_gamma,
                          (double)o->w_appearance, (double)o->w_smooth, way_name(k), e.max, e.mean);
            assert_true(e.max < 1e-2);
            assert_true(e.mean < 2e-3);
        }
        slice_free(&s);
    }
}

static void one_pixel_follows_the_formula(void **state)
{
    (void)state;
    for (int k = 0; backend_at(k); k++) {
        const backend *e = backend_at(k);
        device *d;
        assert_int_equal(e->open(&(device_options){.threads = 1}, &d), COV_OK);
        float logit = 0.3F, intensity = 77, p = 0;
        crf_options o = {2, 1, 80, 13, 3, 4, 0};
        crf_batch b = {1, 1, 1, &logit, &intensity, &p, NULL};
        assert_int_equal(backend_crf(e, d, &o, &b), COV_OK);
        double want = tanh(0.15);
        for (int i = 0; i < 4; i++) want = tanh(0.5 * (0.3 + 3 * want));
        assert_true(fabs((double)p - 0.5 - 0.5 * want) < 1e-5);
        e->close(&d);
    }
}

static void it_stops_when_nothing_moves_and_says_after_how_many_iterations(void **state)
{
    (void)state;
    slice s = slice_new(1, 40, 56, 5, 0);
    crf_options o = {1.5F, 1, 20, 20, 3, 40, 1e-3F};
    int want = 0;
    exact(&o, &s, &want);
    assert_true(want > 1 && want < 40);
    for (int k = 0; way_name(k); k++) {
        float early[40 * 56], fixed[40 * 56];
        int done = 0;
        crf_batch b = batch_of(&s, early, &done);
        assert_int_equal(way_run(k, 1, &o, &b), COV_OK);
        assert_true(abs(done - want) <= 1);
        crf_options same = o;
        same.tolerance = 0;
        same.iterations = done;
        b = batch_of(&s, fixed, NULL);
        assert_int_equal(way_run(k, 1, &same, &b), COV_OK);
        assert_memory_equal(early, fixed, sizeof early);
    }
    slice_free(&s);
}

static void the_bytes_do_not_depend_on_threads_or_on_the_other_slices(void **state)
{
    (void)state;
    slice s = slice_new(5, 60, 44, 9, 0);
    size_t one = 60 * 44;
    float *a = malloc(5 * one * sizeof *a), *b = malloc(5 * one * sizeof *b);
    assert_non_null(a);
    assert_non_null(b);
    crf_options o = crf_defaults();
    for (int k = 0; way_name(k); k++) {
        crf_batch all = batch_of(&s, a, NULL);
        assert_int_equal(way_run(k, 1, &o, &all), COV_OK);
        for (int threads = 2; threads <= 7; threads += 5) {
            all.probability = b;
            assert_int_equal(way_run(k, threads, &o, &all), COV_OK);
            assert_memory_equal(a, b, 5 * one * sizeof *a);
        }
        for (size_t i = 0; i < 5; i++) {
            crf_batch single = {1, 60, 44, s.logit + i * one, s.intensity + i * one, b, NULL};
            assert_int_equal(way_run(k, 1, &o, &single), COV_OK);
            assert_memory_equal(a + i * one, b, one * sizeof *a);
        }
    }
    free(a);
    free(b);
    slice_free(&s);
}

/* Runs every backend and hands its answer to `check`. */
static void on_every_backend(const crf_options *o, const slice *s, status want, float *out)
{
    for (int k = 0; backend_at(k); k++) {
        device *d;
        assert_int_equal(backend_at(k)->open(&(device_options){.threads = 2}, &d), COV_OK);
        crf_batch b = batch_of(s, out, NULL);
        assert_int_equal(backend_crf(backend_at(k), d, o, &b), want);
        backend_at(k)->close(&d);
    }
}

static void logits_that_are_not_finite_are_a_broken_contract(void **state)
{
    (void)state;
    slice s = slice_new(2, 9, 11, 3, 0);
    crf_options o = crf_defaults();
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        s.logit[150] = bad[i];
        on_every_backend(&o, &s, COV_BROKEN, s.probability);
    }
    s.logit[150] = 3e38F; /* huge, but finite */
    s.logit[10] = -3e38F;
    on_every_backend(&o, &s, COV_OK, s.probability);
    assert_true(s.probability[150] > 0.999F && s.probability[10] < 0.001F);
    slice_free(&s);
}

static void intensities_out_of_range_are_clamped_and_nan_counts_as_zero(void **state)
{
    (void)state;
    slice s = slice_new(1, 20, 30, 4, 0);
    float clean[600], dirty[600];
    crf_options o = crf_defaults();
    for (int k = 0; way_name(k); k++) {
        s.intensity[5] = 0, s.intensity[6] = 255, s.intensity[7] = 0, s.intensity[8] = 255, s.intensity[9] = 0;
        crf_batch b = batch_of(&s, clean, NULL);
        assert_int_equal(way_run(k, 1, &o, &b), COV_OK);
        s.intensity[5] = NAN, s.intensity[6] = INFINITY, s.intensity[7] = -INFINITY, s.intensity[8] = 1e9F;
        s.intensity[9] = -3;
        b.probability = dirty;
        assert_int_equal(way_run(k, 1, &o, &b), COV_OK);
        assert_memory_equal(clean, dirty, sizeof clean);
    }
    slice_free(&s);
}

static void options_out_of_range_are_a_usage_error(void **state)
{
    (void)state;
    slice s = slice_new(1, 4, 4, 6, 0);
    crf_options bad[10];
    for (int i = 0; i < 10; i++) bad[i] = crf_defaults();
    bad[0].theta_alpha = 0, bad[1].theta_beta = NAN, bad[2].theta_gamma = 501, bad[3].w_appearance = -1;
    bad[4].w_smooth = INFINITY, bad[5].iterations = -1, bad[6].tolerance = -1, bad[7].tolerance = NAN;
    bad[8].theta_beta = 0.1F, bad[9].w_smooth = NAN;
    for (int i = 0; i < 10; i++) on_every_backend(&bad[i], &s, COV_USAGE, s.probability);
    slice empty = {0, 4, 4, s.logit, s.intensity, s.probability};
    crf_options o = crf_defaults();
    on_every_backend(&o, &empty, COV_OK, s.probability);
    slice_free(&s);
}

static void sizes_that_make_no_sense_are_broken_and_sizes_too_large_unsupported(void **state)
{
    (void)state;
    slice s = slice_new(1, 4, 4, 6, 0);
    crf_options o = crf_defaults();
    const struct {
        int64_t n, h, w;
        status want;
    } cases[] = {{-1, 4, 4, COV_BROKEN}, {1, 0, 4, COV_BROKEN}, {1, 4, -4, COV_BROKEN},
                 {1, CRF_MAX_SIDE + 1, 1, COV_UNSUPPORTED}, {1, 1, INT64_MAX, COV_UNSUPPORTED},
                 {INT64_MAX / 8, 4, 4, COV_BROKEN}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        slice odd = {cases[i].n, cases[i].h, cases[i].w, s.logit, s.intensity, s.probability};
        on_every_backend(&o, &odd, cases[i].want, s.probability);
    }
    slice_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_filter_meets_its_bars_on_48x48_at_every_iteration_count),
        cmocka_unit_test(the_filter_stays_in_tolerance_for_other_thetas_weights_and_shapes),
        cmocka_unit_test(one_pixel_follows_the_formula),
        cmocka_unit_test(it_stops_when_nothing_moves_and_says_after_how_many_iterations),
        cmocka_unit_test(the_bytes_do_not_depend_on_threads_or_on_the_other_slices),
        cmocka_unit_test(logits_that_are_not_finite_are_a_broken_contract),
        cmocka_unit_test(intensities_out_of_range_are_clamped_and_nan_counts_as_zero),
        cmocka_unit_test(options_out_of_range_are_a_usage_error),
        cmocka_unit_test(sizes_that_make_no_sense_are_broken_and_sizes_too_large_unsupported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
