/* The functions of the backend table that work on flat arrays, and its memory: on every backend, for lengths around
 * vector widths and blocks, against formulas written out here in double. */
#include "op_variant.h"

static const size_t lengths[] = {1, 2, 15, 16, 17, 63, 1000, 16384, 16385, 100003};
enum { LENGTHS = sizeof lengths / sizeof lengths[0] };

/* n random floats in [-1, 1). */
static float *random_floats(size_t n, uint64_t seed)
{
    float *x = must_alloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = draw(&seed);
    return x;
}

static void memory_keeps_what_was_put_there_and_is_aligned(void **state)
{
    variant at;
    (void)state;
    for (int k = 0; variant_open(k, 1, &at); at.b->close(&at.d), k++) {
        void *memory = NULL;
        char in[1000], out[1000];
        for (int i = 0; i < 1000; i++) in[i] = (char)(i * 7);
        MUST(at.b->alloc(at.d, sizeof in, &memory));
        assert_int_equal((uintptr_t)memory % 64, 0);
        MUST(at.b->upload(at.d, memory, in, sizeof in));
        MUST(at.b->zero(at.d, (char *)memory + 100, 50));
        MUST(at.b->sync(at.d));
        MUST(at.b->download(at.d, out, memory, sizeof out));
        memset(in + 100, 0, 50);
        assert_memory_equal(in, out, sizeof in);
        at.b->release(at.d, memory);
        at.b->release(at.d, NULL);
        assert_true(at.b->threads(at.d) >= 1);
    }
}

/* Read by AddressSanitizer, where it is built in: a refused allocation is what the next test is about. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

static void an_impossible_allocation_fails_and_gives_nothing(void **state)
{
    variant at;
    (void)state;
    for (int k = 0; variant_open(k, 1, &at); at.b->close(&at.d), k++) {
        void *memory = &at;
        assert_int_equal(at.b->alloc(at.d, (size_t)1 << 62, &memory), COV_NOMEM);
        assert_null(memory);
    }
}

static void accumulate_adds(void **state)
{
    variant at;
    (void)state;
    for (int k = 0; variant_open(k, 2, &at); at.b->close(&at.d), k++)
        for (int i = 0; i < LENGTHS; i++) {
            size_t n = lengths[i];
            float *x = random_floats(n, 1), *y = random_floats(n, 2);
            char *on_x = guarded(&at, x, n * 4), *on_y = guarded(&at, y, n * 4);
            MUST(at.b->accumulate(at.d, TENSOR_F32, n, on_x + GUARD, on_y + GUARD));
            float *sum = harvest(&at, on_y, n * 4), *same = harvest(&at, on_x, n * 4);
            for (size_t e = 0; e < n; e++) assert_float_equal(sum[e], x[e] + y[e], 0);
            assert_memory_equal(same, x, n * 4);
            free(x), free(y), free(sum), free(same);
        }
}

static void accumulate_adds_bf16_with_one_rounding(void **state)
{
    variant at;
    (void)state;
    for (int k = 0; variant_open(k, 2, &at); at.b->close(&at.d), k++)
        for (int i = 0; i < LENGTHS; i++) {
            size_t n = lengths[i];
            float *x = random_floats(n, 1), *y = random_floats(n, 2);
            uint16_t *hx = must_alloc(n * 2), *hy = must_alloc(n * 2);
            for (size_t e = 0; e < n; e++) hx[e] = tensor_bf16_from_f32(x[e]), hy[e] = tensor_bf16_from_f32(y[e]);
            char *on_x = guarded(&at, hx, n * 2), *on_y = guarded(&at, hy, n * 2);
            MUST(at.b->accumulate(at.d, TENSOR_BF16, n, on_x + GUARD, on_y + GUARD));
            uint16_t *sum = harvest(&at, on_y, n * 2);
            at.b->release(at.d, on_x);
            for (size_t e = 0; e < n; e++)
                assert_int_equal(sum[e],
                                 tensor_bf16_from_f32(tensor_f32_from_bf16(hx[e]) + tensor_f32_from_bf16(hy[e])));
            free(x), free(y), free(hx), free(hy), free(sum);
        }
}

static void convert_rounds_to_nearest_even_and_keeps_nan(void **state)
{
    /* 1 + 2^-8 is half way between two bf16: to even. 0x7f7fffff, the largest float, rounds to infinity. */
    const uint32_t special[] = {0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0x00000000, 0x80000000, 0x7f800000,
                                0xff800000, 0x7f7fffff, 0x7f800001, 0xffffffff, 0x00000001, 0x7fc00000, 0x477fe000};
    const uint16_t rounded[] = {0x3f80, 0x3f82, 0x3f81, 0x3f80, 0, 0x8000, 0x7f80, 0xff80, 0x7f80, 1, 1, 0, 1, 0x4780};
    enum { SPECIAL = sizeof special / sizeof special[0] };
    variant at;
    (void)state;
    for (int k = 0; variant_open(k, 2, &at); at.b->close(&at.d), k++)
        for (int i = 0; i < LENGTHS; i++) {
            size_t n = lengths[i];
            uint32_t *x = must_alloc(n * 4);
            for (size_t e = 0; e < n; e++) x[e] = special[e % SPECIAL];
            uint16_t *zero = calloc(n, 2);
            char *from = guarded(&at, x, n * 4), *to = guarded(&at, zero, n * 2);
            MUST(at.b->convert(at.d, n, TENSOR_F32, from + GUARD, TENSOR_BF16, to + GUARD));
            uint16_t *got = harvest(&at, to, n * 2);
            for (size_t e = 0; e < n; e++) {
                if (rounded[e % SPECIAL] == 1) assert_true(isnan(tensor_f32_from_bf16(got[e]))); /* 1 stands for NaN */
                else assert_int_equal(got[e], rounded[e % SPECIAL]);
            }
            char *back = guarded(&at, x, n * 4), *narrow = guarded(&at, got, n * 2);
            MUST(at.b->convert(at.d, n, TENSOR_BF16, narrow + GUARD, TENSOR_F32, back + GUARD));
            uint32_t *wide = harvest(&at, back, n * 4);
            for (size_t e = 0; e < n; e++) assert_int_equal(wide[e], (uint32_t)got[e] << 16);
            at.b->release(at.d, from);
            at.b->release(at.d, narrow);
            free(x), free(zero), free(got), free(wide);
        }
}

static void convert_to_the_same_type_copies(void **state)
{
    variant at;
    (void)state;
    for (int k = 0; variant_open(k, 2, &at); at.b->close(&at.d), k++) {
        float *x = random_floats(1001, 3), *y = random_floats(1001, 4);
        char *from = guarded(&at, x, 4004), *to = guarded(&at, y, 4004);
        MUST(at.b->convert(at.d, 1001, TENSOR_F32, from + GUARD, TENSOR_F32, to + GUARD));
        float *got = harvest(&at, to, 4004);
        assert_memory_equal(got, x, 4004);
        at.b->release(at.d, from);
        free(x), free(y), free(got);
    }
}

static void sum_of_squares_is_a_double_sum_whatever_the_threads(void **state)
{
    variant at;
    (void)state;
    for (int k = 0; variant_open(k, 1, &at); at.b->close(&at.d), k++)
        for (int i = 0; i < LENGTHS; i++) {
            size_t n = lengths[i];
            float *x = random_floats(n, 5);
            double want = 0, got[2] = {-1, -1};
            for (size_t e = 0; e < n; e++) want += (double)x[e] * x[e];
            for (int threads = 1; threads <= 2; threads++) {
                at.b->close(&at.d);
                variant_open(k, threads, &at);
                char *on = guarded(&at, x, n * 4);
                MUST(at.b->sum_squares(at.d, n, (const float *)(on + GUARD), &got[threads - 1]));
                free(harvest(&at, on, n * 4));
            }
            if (!(fabs(got[0] - want) <= 1e-12 * want)) fail_msg("%s: %.17g, not %.17g", at.name, got[0], want);
            assert_memory_equal(&got[0], &got[1], sizeof got[0]);
            free(x);
        }
}

/* The formulas of kernels/backend.h for one element, in double. */
static void step_of(const optim_step *o, double g, double *w, double *m, double *v)
{
    g *= (double)o->grad_scale;
    if (!o->adamw) {
        *m = (double)o->momentum * *m + (g + (double)o->decay * *w);
        *w -= (double)o->rate * *m;
        return;
    }
    *m = (double)o->beta1 * *m + (1 - (double)o->beta1) * g;
    *v = (double)o->beta2 * *v + (1 - (double)o->beta2) * g * g;
    double mean = *m / (1 - pow((double)o->beta1, (double)o->t)),
           square = *v / (1 - pow((double)o->beta2, (double)o->t));
    *w -= (double)o->rate * (mean / (sqrt(square) + (double)o->eps) + (double)o->decay * *w);
}

/* Five steps on n elements; the device's arrays against the formulas. some: weight decay for some of them, else for all. */
static void check_optim(const variant *at, optim_step o, size_t n, int some)
{
    const float decay = o.decay;
    size_t runs = (n + OPTIM_RUN - 1) / OPTIM_RUN;
    uint8_t *decays = must_alloc(runs);
    for (size_t k = 0; k < runs; k++) decays[k] = k % 5 == 1 || k % 7 > 4;
    char *on_decays = guarded(at, decays, runs);
    float *w = random_floats(n, 6), *g = random_floats(n, 7), *zero = calloc(n, 4);
    double *state = must_alloc(3 * n * sizeof *state);
    for (size_t e = 0; e < n; e++) state[3 * e] = w[e], state[3 * e + 1] = state[3 * e + 2] = 0;
    char *on_w = guarded(at, w, n * 4), *on_g = guarded(at, g, n * 4);
    char *on_m = guarded(at, zero, n * 4), *on_v = o.adamw ? guarded(at, zero, n * 4) : NULL;
    for (o.t = 1; o.t <= 5; o.t++) {
        MUST(at->b->optim(at->d, &o, n, some ? (uint8_t *)(on_decays + GUARD) : NULL, (float *)(on_w + GUARD), (float *)(on_g + GUARD), (float *)(on_m + GUARD),
                          on_v ? (float *)(on_v + GUARD) : NULL));
        for (size_t e = 0; e < n; e++, o.decay = decay) {
            if (some && !decays[e / OPTIM_RUN]) o.decay = 0;
            step_of(&o, g[e], &state[3 * e], &state[3 * e + 1], &state[3 * e + 2]);
        }
    }
    float *got_w = harvest(at, on_w, n * 4), *got_m = harvest(at, on_m, n * 4), *got_g = harvest(at, on_g, n * 4);
    float *got_v = on_v ? harvest(at, on_v, n * 4) : NULL;
    for (size_t e = 0; e < n; e++) {
        if (!(fabs(got_w[e] - state[3 * e]) <= 2e-6))
            fail_msg("%s: w[%zu] %.9g, not %.9g", at->name, e, (double)got_w[e], state[3 * e]);
        assert_true(fabs(got_m[e] - state[3 * e + 1]) <= 2e-6 * (1 + fabs(state[3 * e + 1])));
        if (got_v) assert_true(fabs(got_v[e] - state[3 * e + 2]) <= 2e-6 * fabs(state[3 * e + 2]) + 1e-12);
    }
    assert_memory_equal(got_g, g, n * 4);
    free(harvest(at, on_decays, runs));
    free(w), free(g), free(zero), free(state), free(got_w), free(got_m), free(got_g), free(got_v), free(decays);
}

static void optimisers_follow_their_formulas(void **state)
{
    const optim_step sgd = {.rate = 0.1f, .momentum = 0.9f, .decay = 0.01f, .grad_scale = 0.5f};
    const optim_step adamw = {
        .adamw = 1, .rate = 0.01f, .decay = 0.05f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .grad_scale = 0.5f};
    variant at;
    (void)state;
    for (int k = 0; variant_open(k, 2, &at); at.b->close(&at.d), k++)
        for (int i = 0; i < 2 * LENGTHS; i++) {
            check_optim(&at, sgd, lengths[i / 2], i % 2);
            check_optim(&at, adamw, lengths[i / 2], i % 2);
        }
}

static void a_first_adamw_step_has_the_size_of_its_rate(void **state)
{
    variant at;
    (void)state;
    /* m/(1-b1) / sqrt(v/(1-b2)) is the gradient's sign at t = 1, however small the gradient. */
    for (int k = 0; variant_open(k, 1, &at); at.b->close(&at.d), k++) {
        const optim_step o = {
            .adamw = 1, .rate = 0.25f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-12f, .t = 1, .grad_scale = 1};
        const float one[2] = {1, 1}, grad[2] = {1e-4f, -30}, zero[2] = {0, 0};
        char *w = guarded(&at, one, 8), *g = guarded(&at, grad, 8), *m = guarded(&at, zero, 8),
             *v = guarded(&at, zero, 8);
        MUST(at.b->optim(at.d, &o, 2, NULL, (float *)(w + GUARD), (float *)(g + GUARD), (float *)(m + GUARD),
                         (float *)(v + GUARD)));
        float *got = harvest(&at, w, 8);
        assert_float_equal(got[0], 0.75, 1e-5);
        assert_float_equal(got[1], 1.25, 1e-5);
        free(got), free(harvest(&at, g, 8)), free(harvest(&at, m, 8)), free(harvest(&at, v, 8));
    }
}

static void every_backend_is_found_by_its_name_and_others_are_refused_by_a_list(void **state)
{
    const backend *found = NULL;
    (void)state;
    for (int k = 0; backend_at(k); k++) {
        MUST(backend_find(backend_at(k)->name, &found));
        assert_ptr_equal(found, backend_at(k));
    }
    assert_null(backend_at(-1));
    assert_int_equal(backend_find("abacus", &found), COV_UNSUPPORTED);
    assert_null(found);
    for (int k = 0; backend_at(k); k++) assert_non_null(strstr(status_message(), backend_at(k)->name));
}

/* Sizes below, at and above a piece's; what is asked for is there, whatever is still on its way, and sends that are ended at once,
 * or are not waited for, leave the device as it was. */
static void what_is_sent_is_there_as_far_as_it_was_waited_for(void **state)
{
    (void)state;
    enum { MOST = (17 << 20) + 12345, SIZES = 5 };
    const size_t sizes[SIZES] = {1, 4097, 8 << 20, MOST, 100};
    unsigned char *from = must_alloc(MOST), *back = must_alloc(MOST);
    uint64_t seed = 3;
    for (size_t i = 0; i < MOST; i++) from[i] = (unsigned char)(100 * draw(&seed));
    for (int k = 0; backend_at(k); k++) {
        const backend *b = backend_at(k);
        device *d;
        if (b->host_memory) {
            assert_null(b->send);
            continue;
        }
        MUST(b->open(&(device_options){.threads = 1}, &d));
        for (int at = 0; at < SIZES; at++) {
            void *to = NULL;
            sending *s;
            size_t n = sizes[at], parts[3] = {n / 3, n / 3 * 2, n};
            MUST(b->alloc(d, n, &to));
            MUST(b->send(d, to, from, n, &s));
            assert_int_equal(b->arrived(s, n + 1), COV_BROKEN);
            for (int part = 0; part < 3; part++) {
                MUST(b->arrived(s, parts[part]));
                MUST(b->download(d, back, to, parts[part]));
                assert_memory_equal(back, from, parts[part]);
            }
            b->send_end(&s);
            assert_null(s);
            b->send_end(&s);
            MUST(b->send(d, to, from, n, &s));
            b->send_end(&s);
            b->release(d, to);
        }
        b->close(&d);
    }
    free(from), free(back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_keeps_what_was_put_there_and_is_aligned),
        cmocka_unit_test(an_impossible_allocation_fails_and_gives_nothing),
        cmocka_unit_test(accumulate_adds),
        cmocka_unit_test(accumulate_adds_bf16_with_one_rounding),
        cmocka_unit_test(convert_rounds_to_nearest_even_and_keeps_nan),
        cmocka_unit_test(convert_to_the_same_type_copies),
        cmocka_unit_test(sum_of_squares_is_a_double_sum_whatever_the_threads),
        cmocka_unit_test(optimisers_follow_their_formulas),
        cmocka_unit_test(a_first_adamw_step_has_the_size_of_its_rate),
        cmocka_unit_test(every_backend_is_found_by_its_name_and_others_are_refused_by_a_list),
        cmocka_unit_test(what_is_sent_is_there_as_far_as_it_was_waited_for),
    };
    return cmocka_run_group_tests_name("vectors", tests, NULL, NULL);
}
