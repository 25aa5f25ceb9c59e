/* Every op, on every backend, in both activation types, against the reference backend: values, gradients, and the
 * promises of kernels/op.h about who writes what. All failures of a kind are printed before its test fails.
 *
 * Tolerance: |got - want| <= rel * |want| + part * max|want|. F32: only the order of sums differs. BF16: results of
 * both backends are rounded once (they may differ by one unit in the last place, 2^-7), and a backend may round
 * weights to bf16 before a sum, an error of up to 2^-9 of each of its terms. */
#include "op_variant.h"

typedef struct tolerance {
    double rel, part;
} tolerance;

static bool has_weights(op_kind k) { return k == OP_CONV || k == OP_CONVT || k == OP_LINEAR; }

static tolerance tolerance_of(op_kind kind, tensor_type type, tensor_type result)
{
    if (type == TENSOR_F32) return (tolerance){3e-6, 3e-6};
    if (result != TENSOR_BF16) return (tolerance){1e-4, 2e-4};
    return (tolerance){0.0079, has_weights(kind) ? 0.004 : 2e-4};
}

/* Prints the worst element if it is out of tolerance; 1 if so. least: what max|want| is at least taken for. */
static int differ(const char *text, const char *what, const float *got, const float *want, size_t n, tolerance tol,
                  double least)
{
    double most = least, worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)want[i]));
    for (size_t i = 0; i < n; i++) {
        double room = tol.rel * fabs((double)want[i]) + tol.part * most + 1e-12, error = fabs((double)got[i] - want[i]);
        double excess = isfinite(got[i]) ? error / room : INFINITY;
        if (excess > worst) worst = excess, at = i;
    }
    if (worst <= 1) return 0;
    print_error("FAIL %s: %s[%zu of %zu] = %.8g, ref has %.8g (%.1f times the tolerance; largest is %.3g)\n", text,
                what, at, n, (double)got[at], (double)want[at], worst, most);
    return 1;
}

static const char *slot_name(int slot)
{
    /* clang-format off */
    static const char *const names[SLOTS] = {
        [SLOT_X] = "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", [SLOT_P] = "p0", "p1", "p2", "p3", [SLOT_Y] = "y",
        [SLOT_SAVED] = "saved0", "saved1", [SLOT_DY] = "dy", [SLOT_DX] = "dx0", "dx1", "dx2", "dx3", "dx4", "dx5",
        "dx6", "dx7", [SLOT_DP] = "dp0", "dp1", "dp2", "dp3"};
    /* clang-format on */
    return names[slot];
}

/* Values are of -1 to 1. So a mean near 0, a norm's dx that cancels, and a sum of `rows` products (of a roi's points)
 * that cancel, can be as exact as this; in BF16 the tolerance is wide enough for the sums. */
static double least_of(const bench *ref, int slot)
{
    tensor_shape x = ref->s.x[0];
    bool norm = ref->o.kind == OP_GROUPNORM || ref->o.kind == OP_BATCHNORM;
    int points = ref->o.size * ref->o.samples;
    if (norm && (slot == SLOT_SAVED || slot == SLOT_DX)) return 1;
    if (ref->o.kind == OP_ROIALIGN && slot >= SLOT_DX) return (double)points * points / 100;
    return slot >= SLOT_DP && x.type == TENSOR_F32 ? (double)(x.n * x.h * x.w) / 100 : 0;
}

static int compare(bench *t, bench *ref, int slot, const char *text)
{
    size_t n = slot_count(ref, slot);
    if (!n) return 0;
    float *got = bench_floats(t, slot, text), *want = bench_floats(ref, slot, text);
    double least = least_of(ref, slot);
    tolerance tol = tolerance_of(ref->o.kind, ref->s.x[0].type, slot_type(ref, slot));
    int bad = differ(text, slot_name(slot), got, want, n, tol, least);
    free(got);
    free(want);
    return bad;
}

static bool is_written_by_forward(const op *o, int slot)
{
    return slot == SLOT_Y || (slot >= SLOT_SAVED && slot < SLOT_DY) ||
           (o->kind == OP_BATCHNORM && o->training && (slot == SLOT_P + 2 || slot == SLOT_P + 3));
}

/* y, saved statistics and running statistics agree; nothing else was written. */
static int check_forward(bench *t, bench *ref, const char *text)
{
    int bad = 0;
    bench_run(t, OP_FORWARD);
    bench_run(ref, OP_FORWARD);
    for (int slot = 0; slot < SLOTS; slot++) {
        bool winner = t->o.kind == OP_MAXPOOL && slot == SLOT_SAVED; /* the backend's own */
        if (!is_written_by_forward(&t->o, slot)) bench_unchanged(t, slot, text);
        else if (!winner) bad += compare(t, ref, slot, text);
    }
    return bad;
}

/* A backward pass with only those gradients whose bit is set in `wanted` (dx from bit 0, dp from bit 8). dx start as
 * NaN and are overwritten, dp start as random numbers and are added to. */
static void run_backward(bench *t, unsigned wanted)
{
    for (int slot = SLOT_DX; slot < SLOTS; slot++) {
        if (!t->memory[slot]) continue;
        bench_put(t, slot, t->put[slot]);
        bench_tensor(t, slot)->data = wanted >> (slot - SLOT_DX) & 1 ? (char *)t->memory[slot] + GUARD : NULL;
    }
    bench_run(t, OP_BACKWARD);
}

/* The wanted gradients agree with ref, which has them all; nothing else was written. */
static int check_backward(bench *t, bench *ref, unsigned wanted, const char *text)
{
    int bad = 0;
    run_backward(t, wanted);
    for (int slot = 0; slot < SLOTS; slot++) {
        if (slot >= SLOT_DX && (wanted >> (slot - SLOT_DX) & 1)) bad += compare(t, ref, slot, text);
        else bench_unchanged(t, slot, text);
    }
    return bad;
}

/* Both sides go on from ref's y (and running statistics), so that a rounding of y across the ReLU's corner does not
 * count as an error of the gradient; what is saved stays each backend's own. */
static void share_forward(bench *t, bench *ref, const char *text)
{
    for (int slot = 0; slot < SLOT_DX; slot++) {
        if (!t->memory[slot] || !is_written_by_forward(&t->o, slot)) continue;
        bench *from = slot >= SLOT_SAVED && slot < SLOT_DY ? t : ref;
        void *bytes = bench_get(from, slot, text), *own = bench_get(ref, slot, text);
        bench_put(t, slot, bytes);
        bench_put(ref, slot, own);
        free(bytes);
        free(own);
    }
}

static int check_case(const variant *v, device *ref_device, const op_case *c, tensor_type type, uint64_t seed)
{
    static const unsigned subsets[] = {0xFFF, 0x0FF, 0xF00, 0x001, 0x002, 0x100, 0x200, 0x000};
    bench t, ref;
    op_shapes s;
    char text[256];
    int bad = 0;
    int used = snprintf(text, sizeof text, "%s: ", v->name);
    op_case_text(c, type, text + used, sizeof text - (size_t)used);
    MUST(op_case_shapes(c, type, &s));
    bench_new(&t, v->b, v->d, &c->o, &s);
    bench_new(&ref, backend_at(0), ref_device, &c->o, &s);
    bench_fill(&t, seed);
    bench_fill(&ref, seed);
    bad += check_forward(&t, &ref, text);
    share_forward(&t, &ref, text);
    run_backward(&ref, 0xFFF);
    for (size_t k = 0; k < sizeof subsets / sizeof subsets[0] && !bad; k++)
        bad += check_backward(&t, &ref, subsets[k], text);
    bench_free(&t);
    bench_free(&ref);
    return bad;
}

static device *device_of(const backend *b, int threads)
{
    device *d = NULL;
    MUST(b->open(&(device_options){.threads = threads}, &d));
    return d;
}

typedef struct subject {
    op_kind kind;
    tensor_type type;
} subject;

static void agrees_with_ref(void **state)
{
    const subject *of = *state;
    int cases = 0, bad = 0;
    variant v;
    device *ref_device = device_of(backend_at(0), 1);
    for (int k = 0; variant_open(k, 2, &v); k++) {
        for (int i = 0; i < OP_CASES; i++) {
            if (op_cases[i].o.kind != of->kind) continue;
            if (v.lesser && has_weights(of->kind)) continue; /* no loops of our own */
            bad += check_case(&v, ref_device, &op_cases[i], of->type, 77 + (uint64_t)i);
            cases++;
        }
        v.b->close(&v.d);
        assert_null(v.d);
    }
    backend_at(0)->close(&ref_device);
    if (!cases) fail_msg("%s has no test case: give it rows in op_case.h", op_name(of->kind));
    assert_int_equal(bad, 0);
}

/* All bytes that the passes of the case leave, on a device of so many threads. */
static void *bytes_of(const backend *b, int threads, const op_case *c, tensor_type type, int backward, size_t *n)
{
    bench t;
    op_shapes s;
    char text[256];
    device *d = device_of(b, threads);
    op_case_text(c, type, text, sizeof text);
    MUST(op_case_shapes(c, type, &s));
    bench_new(&t, b, d, &c->o, &s);
    bench_fill(&t, 5);
    bench_run(&t, OP_FORWARD);
    if (backward) bench_run(&t, OP_BACKWARD);
    *n = 0;
    for (int slot = 0; slot < SLOTS; slot++) *n += t.bytes[slot];
    unsigned char *all = must_alloc(*n), *to = all;
    for (int slot = 0; slot < SLOTS; to += t.bytes[slot], slot++) {
        if (!t.memory[slot]) continue;
        void *bytes = bench_get(&t, slot, text);
        memcpy(to, bytes, t.bytes[slot]);
        free(bytes);
    }
    bench_free(&t);
    b->close(&d);
    return all;
}

/* Backward of ROI Align too, where many rois meet in one pixel: its sums have an order of their own. */
static void forward_does_not_depend_on_the_number_of_threads(void **state)
{
    int bad = 0;
    (void)state;
    for (int k = 1; backend_at(k); k++)
        for (int i = 0; i < OP_CASES; i++)
            for (int type = TENSOR_F32; type <= TENSOR_BF16; type++) {
                size_t n1, n2;
                char text[256];
                int both = op_cases[i].o.kind == OP_ROIALIGN;
                void *one = bytes_of(backend_at(k), 1, &op_cases[i], (tensor_type)type, both, &n1);
                void *two = bytes_of(backend_at(k), 2, &op_cases[i], (tensor_type)type, both, &n2);
                op_case_text(&op_cases[i], (tensor_type)type, text, sizeof text);
                assert_int_equal(n1, n2);
                if (memcmp(one, two, n1)) {
                    print_error("FAIL %s: %s: 1 and 2 threads differ\n", backend_at(k)->name, text);
                    bad++;
                }
                free(one);
                free(two);
            }
    assert_int_equal(bad, 0);
}

/* A plan is run again, after another plan was made and run on its device (they may share scratch memory). */
static void plans_of_one_device_do_not_disturb_each_other(void **state)
{
    (void)state;
    for (int k = 0; backend_at(k); k++) {
        const backend *b = backend_at(k);
        device *d = device_of(b, 2);
        for (int i = 0; i < OP_CASES; i++) {
            bench t, other;
            op_shapes s;
            plan *p = NULL, *q = NULL;
            const op_case *o = &op_cases[(i * 31 + 7) % OP_CASES];
            char text[256];
            op_case_text(&op_cases[i], TENSOR_F32, text, sizeof text);
            if (op_cases[i].o.kind == OP_BATCHNORM && op_cases[i].o.training)
                continue; /* each run moves its statistics */
            MUST(op_case_shapes(&op_cases[i], TENSOR_F32, &s));
            bench_new(&t, b, d, &op_cases[i].o, &s);
            bench_fill(&t, 3);
            MUST(b->plan_new(d, &t.o, &t.s, OP_FORWARD, &p));
            MUST(b->plan_run(p, &t.a));
            void *first = bench_get(&t, SLOT_Y, text);
            MUST(op_case_shapes(o, TENSOR_BF16, &s));
            bench_new(&other, b, d, &o->o, &s);
            bench_fill(&other, 4);
            MUST(b->plan_new(d, &other.o, &other.s, OP_FORWARD, &q));
            MUST(b->plan_run(q, &other.a));
            bench_put(&t, SLOT_Y, t.put[SLOT_Y]);
            MUST(b->plan_run(p, &t.a));
            void *again = bench_get(&t, SLOT_Y, text);
            if (memcmp(first, again, t.bytes[SLOT_Y])) fail_msg("%s: %s: a second run differs", b->name, text);
            free(first);
            free(again);
            b->plan_free(&p);
            b->plan_free(&q);
            bench_free(&t);
            bench_free(&other);
        }
        b->close(&d);
    }
}

/* At inference net keeps no state for backward and gives none: the outputs are the same. */
static void inference_needs_no_saved_state(void **state)
{
    variant v;
    (void)state;
    for (int k = 0; variant_open(k, 2, &v); v.b->close(&v.d), k++)
        for (int i = 0; i < OP_CASES; i++) {
            bench t;
            op_shapes s;
            char text[256];
            op_case_text(&op_cases[i], TENSOR_BF16, text, sizeof text);
            MUST(op_case_shapes(&op_cases[i], TENSOR_BF16, &s));
            if (!s.nsaved) continue;
            bench_new(&t, v.b, v.d, &op_cases[i].o, &s);
            bench_fill(&t, 6);
            bench_run(&t, OP_FORWARD);
            void *with = bench_get(&t, SLOT_Y, text);
            bench_fill(&t, 6); /* running statistics moved */
            bench_put(&t, SLOT_Y, t.put[SLOT_Y]);
            for (int j = 0; j < OP_MAX_SAVED; j++) t.a.saved[j].data = NULL;
            bench_run(&t, OP_FORWARD);
            void *without = bench_get(&t, SLOT_Y, text);
            if (memcmp(with, without, t.bytes[SLOT_Y])) fail_msg("%s: %s: y depends on saved", v.name, text);
            free(with);
            free(without);
            bench_free(&t);
        }
}

/* Runs a convolution's plan with weights 1 (or 2), which are told to be of this version, and returns one output. */
static float run_with_weights(bench *t, plan *p, float weight, uint64_t version)
{
    float w[16 * 16 * 9];
    for (size_t i = 0; i < sizeof w / sizeof w[0]; i++) w[i] = weight;
    bench_put_floats(t, SLOT_P, w);
    t->a.p[0].version = version;
    MUST(t->b->plan_run(p, &t->a));
    MUST(t->b->sync(t->d));
    float *y = bench_floats(t, SLOT_Y, "conv"), first = y[0];
    free(y);
    return first;
}

static void weights_that_changed_are_used_at_once(void **state)
{
    static const op_case c = WINDOW_(OP_CONV, 16, 16, 3, 1, 1, 0, 0, 1, 6, 6);
    (void)state;
    for (int k = 0; backend_at(k); k++)
        for (int type = TENSOR_F32; type <= TENSOR_BF16; type++) {
            bench t;
            op_shapes s;
            plan *p = NULL;
            device *d = device_of(backend_at(k), 1);
            MUST(op_case_shapes(&c, (tensor_type)type, &s));
            bench_new(&t, backend_at(k), d, &c.o, &s);
            bench_fill(&t, 9);
            MUST(t.b->plan_new(d, &t.o, &t.s, OP_FORWARD, &p));
            float at_1 = run_with_weights(&t, p, 1, 1);
            assert_true(fabsf(at_1) > 1e-3f);
            assert_float_equal(run_with_weights(&t, p, 2, 2), 2 * at_1, 0.02f * fabsf(at_1)); /* a new version */
            assert_float_equal(run_with_weights(&t, p, 1, 0), at_1, 0.02f * fabsf(at_1));     /* 0: never cached */
            assert_float_equal(run_with_weights(&t, p, 2, 0), 2 * at_1, 0.02f * fabsf(at_1));
            t.b->plan_free(&p);
            bench_free(&t);
            t.b->close(&d);
        }
}

/* Equal values in a window, as ReLU makes them: each dy lands once, and on a largest element. */
static void max_pooling_gives_a_tie_to_one_winner(void **state)
{
    static const op_case c = {
        .o = {.kind = OP_MAXPOOL, .kernel = 2, .stride = 2}, .nx = 1, .n = 2, .h = 8, .w = 6, .c = {16}};
    (void)state;
    for (int k = 0; backend_at(k); k++) {
        bench t;
        op_shapes s;
        device *d = device_of(backend_at(k), 2);
        MUST(op_case_shapes(&c, TENSOR_F32, &s));
        bench_new(&t, backend_at(k), d, &c.o, &s);
        bench_fill(&t, 11);
        float x[2 * 8 * 6 * 16];
        for (size_t i = 0; i < sizeof x / sizeof x[0]; i++) x[i] = (float)(i % 7 % 3 == 0); /* zeros and ones */
        bench_put_floats(&t, SLOT_X, x);
        bench_run(&t, OP_FORWARD);
        bench_run(&t, OP_BACKWARD);
        float *dx = bench_floats(&t, SLOT_DX, "maxpool"), *dy = bench_floats(&t, SLOT_DY, "maxpool");
        float *y = bench_floats(&t, SLOT_Y, "maxpool");
        for (int64_t i = 0; i < 2 * 4 * 3 * 16; i++) {
            int64_t ch = i % 16, ox = i / 16 % 3, oy = i / 48 % 4, n = i / 192;
            int winners = 0;
            for (int64_t place = 0; place < 4; place++) {
                int64_t at = ((n * 8 + oy * 2 + place / 2) * 6 + ox * 2 + place % 2) * 16 + ch;
                if (dx[at] != 0) {
                    assert_float_equal(dx[at], dy[i], 0);
                    assert_float_equal(x[at], y[i], 0);
                    winners++;
                }
            }
            assert_int_equal(winners, 1);
        }
        free(dx);
        free(dy);
        free(y);
        bench_free(&t);
        t.b->close(&d);
    }
}

/* Sums of squares about 0 in F32 would leave nothing of such a variance. */
static void a_norm_finds_a_small_variance_about_a_large_mean(void **state)
{
    static const op_case cases[] = {NORM_(OP_GROUPNORM, 2, 0, 0, 0, 16, 2, 40, 41), NORM_(OP_BATCHNORM, 0, 1, 0, 0, 16, 2, 40, 41)};
    variant v;
    (void)state;
    for (int k = 1; variant_open(k, 2, &v); v.b->close(&v.d), k++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            bench t, ref;
            op_shapes s;
            uint64_t seed = 12;
            float x[2 * 40 * 41 * 16];
            MUST(op_case_shapes(&cases[i], TENSOR_F32, &s));
            device *d = device_of(backend_at(0), 1);
            bench_new(&t, v.b, v.d, &cases[i].o, &s);
            bench_new(&ref, backend_at(0), d, &cases[i].o, &s);
            bench_fill(&t, 12);
            bench_fill(&ref, 12);
            for (size_t e = 0; e < sizeof x / sizeof x[0]; e++) x[e] = 1000 + 0.5f * draw(&seed);
            bench_put_floats(&t, SLOT_X, x);
            bench_put_floats(&ref, SLOT_X, x);
            bench_run(&t, OP_FORWARD);
            bench_run(&ref, OP_FORWARD);
            assert_int_equal(compare(&t, &ref, SLOT_SAVED, v.name), 0);
            assert_int_equal(compare(&t, &ref, SLOT_SAVED + 1, v.name), 0);
            bench_free(&t);
            bench_free(&ref);
            backend_at(0)->close(&d);
        }
}

int main(void)
{
    enum { PER_KIND = 2, OTHERS = 6 };
    static subject subjects[OP_KIND_COUNT * PER_KIND];
    static char names[OP_KIND_COUNT * PER_KIND][64];
    static struct CMUnitTest tests[OP_KIND_COUNT * PER_KIND + OTHERS];
    int n = 0;
    for (int k = 0; k < OP_KIND_COUNT; k++)
        for (int type = TENSOR_F32; type <= TENSOR_BF16; type++, n++) {
            subjects[n] = (subject){(op_kind)k, (tensor_type)type};
            snprintf(names[n], sizeof names[n], "%s agrees with ref in %s", op_name((op_kind)k),
                     type == TENSOR_F32 ? "f32" : "bf16");
            tests[n] = (struct CMUnitTest){names[n], agrees_with_ref, NULL, NULL, &subjects[n]};
        }
    const struct CMUnitTest others[OTHERS] = {
        cmocka_unit_test(forward_does_not_depend_on_the_number_of_threads),
        cmocka_unit_test(plans_of_one_device_do_not_disturb_each_other),
        cmocka_unit_test(inference_needs_no_saved_state),
        cmocka_unit_test(weights_that_changed_are_used_at_once),
        cmocka_unit_test(max_pooling_gives_a_tie_to_one_winner),
        cmocka_unit_test(a_norm_finds_a_small_variance_about_a_large_mean),
    };
    memcpy(tests + n, others, sizeof others);
    return cmocka_run_group_tests_name("ops", tests, NULL, NULL);
}
