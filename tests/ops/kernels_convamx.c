/* The cpu backend's convolutions in bf16 on AMX tiles, at sizes that they have to cut up: pixels that fill no tile or
 * no pair of them, outputs of one tile and of three, half a step of inputs, rows shorter and longer than a tile,
 * several images, every kind of stride, windows that stick out, more pixels than a strip and more weights than a group
 * takes. Values are sixteenths: all sums fit F32, so nothing depends on their order and ref's bits are the only right
 * ones. */
#include "kernels/cpu/conv_amx.h"
#include "op_variant.h"

#define CASE(ci, co, kernel, stride, pad, ...) WINDOW(OP_CONV, ci, co, kernel, stride, pad, __VA_ARGS__)
static const op_case cases[] = {
    CASE(16, 16, 1, 1, 0, 1, 4, 4),    CASE(32, 16, 1, 1, 0, 1, 5, 7),     CASE(64, 48, 1, 1, 0, 2, 9, 11),
    CASE(256, 64, 1, 1, 0, 1, 3, 33),  CASE(64, 16, 1, 1, 0, 1, 150, 131), CASE(1024, 1024, 1, 1, 0, 1, 3, 11),
    CASE(48, 80, 3, 1, 1, 2, 13, 17),  CASE(32, 64, 3, 1, 1, 1, 16, 32),   CASE(64, 96, 3, 1, 1, 3, 7, 5),
    CASE(64, 32, 3, 1, 1, 1, 1, 37),   CASE(128, 16, 3, 1, 1, 1, 37, 1),    CASE(64, 64, 3, 1, 0, 2, 6, 9),
    CASE(64, 32, 3, 1, 1, 1, 100, 65), CASE(512, 512, 3, 1, 1, 1, 4, 5),   CASE(64, 64, 3, 2, 1, 2, 33, 31),
    CASE(48, 48, 3, 2, 1, 1, 16, 64),  CASE(96, 64, 1, 2, 0, 2, 15, 21),   CASE(64, 32, 1, 2, 0, 1, 32, 32),
    CASE(64, 48, 5, 1, 2, 1, 9, 20),   CASE(16, 128, 7, 2, 3, 1, 13, 15),   CASE(32, 64, 2, 2, 0, 2, 9, 12),
    CASE(32, 16, 1, 3, 0, 1, 14, 25),  CASE(32, 64, 3, 1, 2, 1, 8, 10),
};
#undef CASE
enum { CASES = sizeof cases / sizeof cases[0] };

/* Sixteenths in [-1, 1). */
static void put_sixteenths(bench *t, int slot, uint64_t seed)
{
    const size_t n = slot_count(t, slot);
    float *v = must_alloc(n * sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = floorf(draw(&seed) * 16) / 16;
    bench_put_floats(t, slot, v);
    free(v);
}

/* y, or with `back` dx, of case k as bytes, to be freed. The y of a backward pass, for the ReLU's mask, is computed. */
static void *result(const backend *b, device *d, int k, int back, size_t *bytes)
{
    bench t;
    op_shapes s;
    char text[256];
    MUST(op_case_shapes(&cases[k], TENSOR_BF16, &s));
    op_case_text(&cases[k], TENSOR_BF16, text, sizeof text);
    bench_new(&t, b, d, &cases[k].o, &s);
    bench_fill(&t, 5);
    put_sixteenths(&t, SLOT_X, 11);
    put_sixteenths(&t, SLOT_P, 12);
    if (cases[k].o.bias) put_sixteenths(&t, SLOT_P + 1, 13);
    put_sixteenths(&t, SLOT_DY, 14);
    bench_run(&t, OP_FORWARD);
    t.a.dp[0].data = t.a.dp[1].data = NULL; /* those of the weights are tested elsewhere */
    if (back) bench_run(&t, OP_BACKWARD);
    for (int slot = SLOT_X; slot < SLOT_Y; slot++) bench_unchanged(&t, slot, text);
    void *out = bench_get(&t, back ? SLOT_DX : SLOT_Y, text);
    *bytes = t.bytes[back ? SLOT_DX : SLOT_Y];
    bench_free(&t);
    return out;
}

/* Does case k run on tiles here? A stride's gradient by data is that of the pixels it meets. A bias is not in it. */
static int on_tiles(const device *d, int k, int back)
{
    op_shapes s;
    if (back && cases[k].o.bias) return 0;
    MUST(op_case_shapes(&cases[k], TENSOR_BF16, &s));
    return conv_amx_fits(d, &cases[k].o, &s, back && cases[k].o.stride == 1);
}

/* Of the cpu backend with each number of threads against ref. */
static void compare(int back)
{
    static const int threads[] = {1, 2, 5};
    const backend *b = NULL;
    device *plain = NULL;
    int compared = 0;
    MUST(backend_at(0)->open(&(device_options){.threads = 1}, &plain));
    if (!variant_has_cpu()) skip();
    MUST(backend_find("cpu", &b));
    for (int k = 0; k < CASES; k++) {
        size_t bytes = 0, same;
        void *want = NULL;
        for (int i = 0; i < 3; i++) {
            device *d = NULL;
            MUST(b->open(&(device_options){.threads = threads[i]}, &d));
            if (on_tiles(d, k, back)) {
                char text[256];
                op_case_text(&cases[k], TENSOR_BF16, text, sizeof text);
                if (want == NULL) want = result(backend_at(0), plain, k, back, &bytes);
                void *got = result(b, d, k, back, &same);
                assert_int_equal(same, bytes);
                if (memcmp(got, want, bytes)) fail_msg("%s, %d threads: not ref's bits", text, threads[i]);
                free(got);
                compared++;
            }
            b->close(&d);
        }
        free(want);
    }
    backend_at(0)->close(&plain);
    if (compared == 0) skip();
}

static void convolutions_on_tiles_have_refs_bits_with_any_number_of_threads(void **state)
{
    (void)state;
    compare(0);
}

static void gradients_by_data_on_tiles_have_refs_bits_with_any_number_of_threads(void **state)
{
    (void)state;
    compare(1);
}

/* Random numbers, whose sums are rounded. */
static void threads_do_not_change_a_bit_of_sums_that_are_rounded(void **state)
{
    const backend *b = NULL;
    int compared = 0;
    (void)state;
    if (!variant_has_cpu()) skip();
    MUST(backend_find("cpu", &b));
    for (int k = 0; k < CASES; k++) {
        void *first = NULL;
        for (int threads = 1; threads <= 3; threads++) {
            device *d = NULL;
            MUST(b->open(&(device_options){.threads = threads}, &d));
            if (on_tiles(d, k, 0)) {
                bench t;
                op_shapes s;
                MUST(op_case_shapes(&cases[k], TENSOR_BF16, &s));
                bench_new(&t, b, d, &cases[k].o, &s);
                bench_fill(&t, 21);
                bench_run(&t, OP_FORWARD);
                void *y = bench_get(&t, SLOT_Y, "rounded");
                if (first != NULL) assert_memory_equal(y, first, t.bytes[SLOT_Y]);
                if (first == NULL) first = y;
                else free(y);
                bench_free(&t);
                compared++;
            }
            b->close(&d);
        }
        free(first);
    }
    if (compared == 0) skip();
}

/* One plan: the same weights, weights of the same version that are 0 now, and of another; version 0 is never kept. */
static void weights_are_packed_again_when_their_version_says_so(void **state)
{
    const backend *b = NULL;
    device *d = NULL;
    bench t;
    op_shapes s;
    plan *p = NULL;
    (void)state;
    if (!variant_has_cpu()) skip();
    MUST(backend_find("cpu", &b));
    MUST(b->open(&(device_options){.threads = 2}, &d));
    MUST(op_case_shapes(&cases[0], TENSOR_BF16, &s));
    if (!conv_amx_fits(d, &cases[0].o, &s, 0)) {
        b->close(&d);
        skip();
    }
    bench_new(&t, b, d, &cases[0].o, &s);
    bench_fill(&t, 3);
    MUST(b->plan_new(d, &t.o, &t.s, OP_FORWARD, &p));
    static const struct { uint64_t version; int zeros, expect_zeros; } rounds[] = {
        {1, 0, 0}, {1, 1, 0}, {2, 1, 1}, {0, 0, 0}, {0, 1, 1}};
    void *weights = must_alloc(t.bytes[SLOT_P]);
    memcpy(weights, t.put[SLOT_P], t.bytes[SLOT_P]);
    for (size_t r = 0; r < sizeof rounds / sizeof rounds[0]; r++) {
        if (rounds[r].zeros) MUST(b->zero(d, t.a.p[0].data, t.bytes[SLOT_P]));
        else MUST(b->upload(d, t.a.p[0].data, weights, t.bytes[SLOT_P]));
        t.a.p[0].version = rounds[r].version;
        MUST(b->plan_run(p, &t.a));
        float *y = bench_floats(&t, SLOT_Y, "weights");
        int zeros = 1;
        for (size_t i = 0; i < slot_count(&t, SLOT_Y); i++) zeros &= y[i] == 0;
        assert_int_equal(zeros, rounds[r].expect_zeros);
        free(y);
    }
    free(weights);
    b->plan_free(&p);
    bench_free(&t);
    b->close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_on_tiles_have_refs_bits_with_any_number_of_threads),
        cmocka_unit_test(gradients_by_data_on_tiles_have_refs_bits_with_any_number_of_threads),
        cmocka_unit_test(threads_do_not_change_a_bit_of_sums_that_are_rounded),
        cmocka_unit_test(weights_are_packed_again_when_their_version_says_so),
    };
    return cmocka_run_group_tests_name("convolutions on AMX tiles", tests, NULL, NULL);
}
