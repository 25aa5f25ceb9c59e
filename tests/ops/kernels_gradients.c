/* The reference backend is the oracle of the op tests, so it is held to something else here: gradients to central
 * finite differences of its own forward pass, and forward passes to numbers worked out by hand.
 *
 * L(x, p) = sum of dy * y with random dy. F32 throughout; the differences are taken over steps of 2^-6 in sums of
 * double, which leaves errors of about 1e-4; the tolerance is 2e-3 of the largest gradient, and the rounding of y.
 * Where a step moves some output across a fused ReLU's corner, or an error across smooth L1's, there is no derivative
 * to compare: skipped. */
#include "op_run.h"

static const float step = 0x1p-6f;

typedef struct setting {
    bench t;
    plan *forward;
    float *dy;
    size_t ny;
} setting;

/* L after a forward pass, and a hash of which outputs are above zero. */
static double loss_of(setting *g, uint64_t *signs)
{
    double sum = 0;
    MUST(g->t.b->plan_run(g->forward, &g->t.a));
    float *y = bench_floats(&g->t, SLOT_Y, "gradient");
    *signs = 0;
    for (size_t i = 0; i < g->ny; i++) {
        sum += (double)y[i] * g->dy[i];
        *signs = *signs * 31 + (y[i] > 0);
    }
    free(y);
    return sum;
}

/* Is element i of slot so near to smooth L1's corner that the step crosses it? */
static bool at_corner(const setting *g, const float *values, size_t i)
{
    if (g->t.o.kind != OP_LOSS_L1S) return false;
    const float *target = g->t.put[SLOT_X + 1];
    return fabsf(fabsf(values[i] - target[i]) - g->t.o.beta) <= step;
}

/* Compares one gradient tensor with differences over its input; at most about 60 of its elements. */
static int check_gradient(setting *g, int input, int gradient, const float *start, const char *text, int *compared)
{
    size_t n = slot_count(&g->t, input), stride = n / 60 + 1;
    float *values = floats_from(TENSOR_F32, g->t.put[input], n), *got = bench_floats(&g->t, gradient, text);
    bool cuts = g->t.o.relu || g->t.o.kind == OP_RELU;
    double most = 1e-3;
    int bad = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)got[i] - (start ? start[i] : 0)));
    for (size_t i = 0; i < n; i += stride) {
        uint64_t up, down;
        float keep = values[i];
        if (at_corner(g, values, i)) continue;
        values[i] = keep + step;
        bench_put_floats(&g->t, input, values);
        double high = loss_of(g, &up);
        values[i] = keep - step;
        bench_put_floats(&g->t, input, values);
        double low = loss_of(g, &down);
        float span = (keep + step) - (keep - step);
        values[i] = keep;
        if (cuts && up != down) continue;
        double rounding = g->ny == 1 ? fabs(high) * 0x1p-23 / (double)span : 0; /* of a loss; else in the tolerance */
        double want = (high - low) / (double)span, have = (double)got[i] - (start ? start[i] : 0);
        if (!(fabs(want - have) <= 2e-3 * most + rounding)) {
            print_error("FAIL %s: gradient of slot %d [%zu of %zu] is %.7g, differences say %.7g\n", text, input, i, n,
                        have, want);
            bad++;
        }
        ++*compared;
    }
    bench_put_floats(&g->t, input, values);
    free(values);
    free(got);
    return bad;
}

static int check_case(device *d, const op_case *c, int *compared)
{
    setting g = {0};
    op_shapes s;
    char text[256];
    int bad = 0;
    op_case_text(c, TENSOR_F32, text, sizeof text);
    MUST(op_case_shapes(c, TENSOR_F32, &s));
    bench_new(&g.t, backend_at(0), d, &c->o, &s);
    bench_fill(&g.t, 1234);
    g.ny = slot_count(&g.t, SLOT_Y);
    g.dy = floats_from(TENSOR_F32, g.t.put[SLOT_DY], g.ny);
    MUST(g.t.b->plan_new(d, &g.t.o, &g.t.s, OP_FORWARD, &g.forward));
    MUST(g.t.b->plan_run(g.forward, &g.t.a));
    bench_run(&g.t, OP_BACKWARD);
    for (int k = 0; k < c->nx; k++)
        if (g.t.memory[SLOT_DX + k]) bad += check_gradient(&g, SLOT_X + k, SLOT_DX + k, NULL, text, compared);
    for (int k = 0; k < OP_MAX_P; k++)
        if (g.t.memory[SLOT_DP + k]) /* dp began as random numbers, and was added to */
            bad += check_gradient(&g, SLOT_P + k, SLOT_DP + k, g.t.put[SLOT_DP + k], text, compared);
    g.t.b->plan_free(&g.forward);
    bench_free(&g.t);
    free(g.dy);
    return bad;
}

/* The norm of two values is -1 and 1 whatever they are: all its slope comes from eps, which is therefore made as large
 * as their variance. */
static op_case with_slope(const op_case *c)
{
    op_case out = *c;
    if (c->o.kind == OP_BATCHNORM && c->o.training && c->n * c->h * c->w == 2) out.o.eps = 0.25f;
    return out;
}

static void gradients_are_those_of_finite_differences(void **state)
{
    const op_kind kind = *(const op_kind *)*state;
    int cases = 0, bad = 0, compared = 0;
    device *d = NULL;
    MUST(backend_at(0)->open(&(device_options){0}, &d));
    for (int i = 0; i < OP_CASES; i++)
        if (op_cases[i].o.kind == kind) {
            op_case c = with_slope(&op_cases[i]);
            bad += check_case(d, &c, &compared);
            cases++;
        }
    backend_at(0)->close(&d);
    if (!cases || compared < 20)
        fail_msg("%s: only %d gradients in %d cases were compared", op_name(kind), compared, cases);
    assert_int_equal(bad, 0);
}

/* ---- forward passes worked out by hand. Each gives the values of x and p, and what y must be. */
typedef struct example {
    op_case c;
    const float *x[OP_ROI_LEVELS + 1], *p[4], *y;
    float tolerance;
} example;

static void must_give(const example *e)
{
    bench t;
    op_shapes s;
    char text[256];
    device *d = NULL;
    MUST(backend_at(0)->open(&(device_options){0}, &d));
    op_case_text(&e->c, TENSOR_F32, text, sizeof text);
    MUST(op_case_shapes(&e->c, TENSOR_F32, &s));
    bench_new(&t, backend_at(0), d, &e->c.o, &s);
    for (int k = 0; k < s.nx; k++) bench_put_floats(&t, SLOT_X + k, e->x[k]);
    for (int k = 0; k < s.np; k++) bench_put_floats(&t, SLOT_P + k, e->p[k]);
    bench_run(&t, OP_FORWARD);
    float *y = bench_floats(&t, SLOT_Y, text);
    for (size_t i = 0; i < slot_count(&t, SLOT_Y); i++)
        if (!(fabsf(y[i] - e->y[i]) <= e->tolerance))
            fail_msg("%s: y[%zu] is %.8g, not %.8g", text, i, (double)y[i], (double)e->y[i]);
    free(y);
    bench_free(&t);
    backend_at(0)->close(&d);
}

#define V(...) ((const float[]){__VA_ARGS__})

static void convolution_correlates_without_flipping(void **state)
{
    (void)state;
    /* 3 x 3 image 1..9; the kernel's rows are 1 2 / 3 4: 1*1 + 2*2 + 3*4 + 4*5 = 37. */
    must_give(&(example){WINDOW_(OP_CONV, 1, 1, 2, 1, 0, 1, 0, 1, 3, 3),
                         {V(1, 2, 3, 4, 5, 6, 7, 8, 9)},
                         {V(1, 2, 3, 4), V(0.5f)},
                         V(37.5f, 47.5f, 67.5f, 77.5f),
                         0});
    /* Two input channels, padding 1, stride 2, on 2 x 2: each output sees one pixel, by taps (1,1) (1,0) (0,1) (0,0).
     */
    must_give(&(example){WINDOW_(OP_CONV, 2, 1, 2, 2, 1, 0, 0, 1, 2, 2),
                         {V(1, 10, 2, 20, 3, 30, 4, 40)},
                         {V(1, 0, 2, 0, 3, 0, 4, 1)},
                         V(4 + 10, 6, 6, 4),
                         0});
    must_give(&(example){WINDOW_(OP_CONV, 1, 1, 1, 1, 0, 0, 1, 1, 1, 3), {V(-1, 0, 2)}, {V(3)}, V(0, 0, 6), 0});
}

static void transposed_convolution_stamps_its_kernel(void **state)
{
    (void)state;
    must_give(&(example){WINDOW_(OP_CONVT, 1, 1, 2, 2, 0, 1, 0, 1, 1, 2),
                         {V(1, 2)},
                         {V(1, 2, 3, 4), V(1)},
                         V(2, 3, 3, 5, 4, 5, 7, 9),
                         0});
    /* Stride 1: stamps overlap and are added; two output channels. */
    must_give(&(example){WINDOW_(OP_CONVT, 1, 2, 2, 1, 0, 0, 0, 1, 1, 2),
                         {V(1, 10)},
                         {V(1, 5, 2, 6, 3, 7, 4, 8)},
                         V(1, 5, 12, 56, 20, 60, 3, 7, 34, 78, 40, 80),
                         0});
}

static void resizing_uses_half_pixel_centres(void **state)
{
    (void)state;
    must_give(&(example){RESIZE_(1, 1, 4, 0, 1, 1, 2), {V(0, 1)}, {0}, V(0, 0.25f, 0.75f, 1), 1e-7f});
    must_give(&(example){RESIZE_(1, 1, 2, 0, 1, 1, 4), {V(0, 1, 2, 3)}, {0}, V(0.5f, 2.5f), 1e-7f});
    must_give(&(example){RESIZE_(1, 2, 2, 0, 1, 1, 1), {V(7)}, {0}, V(7, 7, 7, 7), 0});
    must_give(&(example){RESIZE_(1, 1, 4, 1, 1, 1, 2), {V(3, 5)}, {0}, V(3, 3, 5, 5), 0});
    must_give(&(example){RESIZE_(1, 1, 2, 1, 1, 1, 5), {V(0, 1, 2, 3, 4)}, {0}, V(1, 3), 0});
}

static void pooling_takes_the_largest_and_the_mean(void **state)
{
    (void)state;
    must_give(
        &(example){MAXPOOL(1, 3, 2, 1, 1, 3, 3), {V(-9, -8, -7, -6, -5, -4, -3, -2, -1)}, {0}, V(-5, -4, -2, -1), 0});
    must_give(&(example){PLAIN(OP_AVGPOOL, 1, 2, 1, 1, 3), {V(1, 10, 2, 20, 6, 60)}, {0}, V(3, 30), 0});
}

static void norms_give_mean_0_and_variance_1_then_gamma_and_beta(void **state)
{
    (void)state;
    /* Two groups of one channel: -1 and 1 after normalising 1, 3 and 10, 30; eps is 1e-5 of variance 1 and 100. */
    must_give(&(example){
        NORM_(OP_GROUPNORM, 2, 0, 0, 0, 2, 1, 1, 2), {V(1, 10, 3, 30)}, {V(1, 2), V(0, 5)}, V(-1, 3, 1, 7), 2e-5f});
    /* One group of both: mean 4, deviations -3 -1 1 3, variance 5. */
    must_give(&(example){NORM_(OP_GROUPNORM, 1, 0, 0, 0, 2, 1, 1, 2),
                         {V(1, 3, 5, 7)},
                         {V(1, 1), V(0, 0)},
                         V(-1.3416408f, -0.4472136f, 0.4472136f, 1.3416408f),
                         2e-5f});
    /* The residual is added before the ReLU. */
    must_give(
        &(example){NORM_(OP_GROUPNORM, 1, 0, 1, 1, 1, 1, 1, 2), {V(1, 3), V(3, -3)}, {V(1), V(0)}, V(2, 0), 2e-5f});
    /* A frozen BatchNorm: (x - 2) / sqrt(4) * 3 + 1. */
    must_give(
        &(example){NORM_(OP_BATCHNORM, 0, 0, 0, 0, 1, 1, 1, 2), {V(4, 6)}, {V(3), V(1), V(2), V(4)}, V(4, 7), 2e-5f});
    /* In training over both samples. */
    must_give(
        &(example){NORM_(OP_BATCHNORM, 0, 1, 0, 0, 1, 2, 1, 1), {V(4, 6)}, {V(3), V(1), V(2), V(4)}, V(-2, 4), 4e-5f});
}

static void a_training_batchnorm_moves_its_statistics_as_pytorch_does(void **state)
{
    static const op_case c = NORM_(OP_BATCHNORM, 0, 1, 0, 0, 1, 1, 1, 4);
    bench t;
    op_shapes s;
    device *d = NULL;
    (void)state;
    for (int k = 0; backend_at(k); k++) {
        MUST(backend_at(k)->open(&(device_options){.threads = 1}, &d));
        MUST(op_case_shapes(&c, TENSOR_F32, &s));
        bench_new(&t, backend_at(k), d, &c.o, &s);
        bench_fill(&t, 1);
        bench_put_floats(&t, SLOT_X, V(1, 2, 3, 6)); /* mean 3, squares 4+1+0+9 = 14: variance 14/4, unbiased 14/3 */
        bench_put_floats(&t, SLOT_P + 2, V(10));
        bench_put_floats(&t, SLOT_P + 3, V(20));
        bench_run(&t, OP_FORWARD);
        float *mean = bench_floats(&t, SLOT_P + 2, "mean"), *var = bench_floats(&t, SLOT_P + 3, "var");
        float *rstd = bench_floats(&t, SLOT_SAVED + 1, "rstd");
        assert_float_equal(mean[0], 0.9 * 10 + 0.1 * 3, 1e-5);
        assert_float_equal(var[0], 0.9 * 20 + 0.1 * 14 / 3, 1e-5);
        assert_float_equal(rstd[0], 1 / sqrt(14.0 / 4 + 1e-5), 1e-6);
        free(mean);
        free(var);
        free(rstd);
        bench_free(&t);
        backend_at(k)->close(&d);
    }
}

static void a_large_mean_does_not_drown_the_variance(void **state)
{
    static const op_case kinds[] = {NORM_(OP_GROUPNORM, 2, 0, 0, 0, 16, 1, 24, 24),
                                    NORM_(OP_BATCHNORM, 0, 1, 0, 0, 16, 1, 24, 24)};
    (void)state;
    for (int k = 0; backend_at(k); k++)
        for (int i = 0; i < 2; i++) {
            bench t;
            op_shapes s;
            device *d = NULL;
            MUST(backend_at(k)->open(&(device_options){.threads = 2}, &d));
            MUST(op_case_shapes(&kinds[i], TENSOR_F32, &s));
            bench_new(&t, backend_at(k), d, &kinds[i].o, &s);
            bench_fill(&t, 8);
            size_t n = slot_count(&t, SLOT_X);
            float *x = must_alloc(n * sizeof *x);
            for (size_t at = 0; at < n; at++) x[at] = 1000 + (at / 16 % 2 ? 1.0f : -1.0f); /* variance 1 */
            bench_put_floats(&t, SLOT_X, x);
            bench_run(&t, OP_FORWARD);
            float *rstd = bench_floats(&t, SLOT_SAVED + 1, "rstd");
            for (size_t at = 0; at < slot_count(&t, SLOT_SAVED + 1); at++)
                if (!(fabsf(rstd[at] - 1) < 1e-3f))
                    fail_msg("%s: %s: rstd %g of data of variance 1", t.b->name, op_name(t.o.kind), (double)rstd[at]);
            free(x);
            free(rstd);
            bench_free(&t);
            backend_at(k)->close(&d);
        }
}

static void pointwise_ops_follow_their_formulas(void **state)
{
    (void)state;
    must_give(&(example){PLAIN(OP_SIGMOID, 1, 1, 1, 1, 3), {V(0, 100, -100)}, {0}, V(0.5f, 1, 0), 1e-7f});
    must_give(&(example){
        PLAIN(OP_SOFTMAX, 1, 2, 1, 1, 2), {V(0, 0, 1000, 1000 + logf(3))}, {0}, V(0.5f, 0.5f, 0.25f, 0.75f), 2e-5f});
    must_give(&(example){PLAIN(OP_RELU, 1, 1, 1, 1, 3), {V(-1, 0, 2)}, {0}, V(0, 0, 2), 0});
    must_give(&(example){PIXELS(2, 1, 1, 2, 1, 2), {V(1, 2), V(3, 4, 5, 6)}, {0}, V(1, 3, 4, 2, 5, 6), 0});
    must_give(&(example){CONCAT(1, 1, 2, 2, 1, 2), {V(1, 2), V(3, 4, 5, 6)}, {0}, V(1, 3, 4, 2, 5, 6), 0});
}

static void roi_align_reads_between_pixel_centres_without_rounding(void **state)
{
    static const float dot[9] = {0, 0, 0, 0, 16, 0, 0, 0, 0}, four[4] = {1, 2, 3, 4};
    (void)state;
    /* A roi on one pixel: its centre; four points a quarter of a pixel beside it, (3/4)^2 of it each. */
    must_give(&(example){ROIALIGN(1, 1, 1, 1, 1, 1, 1, 3, 3), {dot, V(1, 1, 2, 2)}, {0}, V(16), 0});
    must_give(&(example){ROIALIGN(1, 1, 1, 1, 1, 2, 1, 3, 3), {dot, V(1, 1, 2, 2)}, {0}, V(9), 1e-6f});
    /* Half-pixel alignment: the whole image in bins of one pixel of the level is the level, at any stride. */
    must_give(&(example){ROIALIGN(1, 1, 1, 1, 2, 1, 1, 2, 2), {four, V(0, 0, 2, 2)}, {0}, four, 0});
    must_give(&(example){ROIALIGN(1, 1, 1, 16, 2, 1, 1, 2, 2), {four, V(0, 0, 32, 32)}, {0}, four, 0});
    /* Moved by a quarter of a pixel: a quarter of the next, and the edge's own value beyond the last centre. */
    must_give(&(example){
        ROIALIGN(1, 1, 1, 4, 2, 1, 1, 2, 2), {four, V(0, 1, 8, 9)}, {0}, V(1.25f, 2, 3.25f, 4), 1e-6f});
    /* A bin of two columns, by one point in the middle or by the two centres: the same for any image. */
    must_give(&(example){ROIALIGN(1, 1, 1, 1, 1, 1, 1, 1, 2), {V(1, 7), V(0, 0, 1, 2)}, {0}, V(4), 1e-6f});
    must_give(&(example){ROIALIGN(1, 1, 1, 1, 1, 2, 1, 1, 2), {V(1, 7), V(0, 0, 1, 2)}, {0}, V(4), 1e-6f});
    /* Up to a pixel outside is the edge (points at -1/2 and 1/2), further out nothing (at -3/2). */
    must_give(&(example){
        ROIALIGN(1, 1, 1, 1, 2, 1, 1, 1, 2), {V(8, 8), V(0, -1, 2, 1)}, {0}, V(8, 8, 8, 8), 1e-6f});
    must_give(&(example){
        ROIALIGN(1, 1, 1, 1, 2, 1, 1, 1, 2), {V(8, 8), V(0, -2, 2, 2)}, {0}, V(0, 8, 0, 8), 1e-6f});
}

static void roi_align_gives_zeros_for_what_is_empty_and_each_roi_its_image(void **state)
{
    (void)state;
    must_give(&(example){ROIALIGN(2, 1, 4, 1, 1, 2, 1, 1, 1),
                         {V(3, 5), V(0, 0, 0, 1, /**/ 0, 1, 1, 0, /**/ 0, 0, 1, (float)NAN, /**/ 50, 50, 51, 51)},
                         {0},
                         V(0, 0, 0, 0, 0, 0, 0, 0),
                         0});
    must_give(&(example){ROIALIGN(1, 1, 2, 1, 1, 1, 2, 1, 1),
                         {V(3, 5), V(0, 0, 1, 1, /**/ 0, 0, 0, 0, /**/ 0, 0, 0, 0, /**/ 0, 0, 1, 1)},
                         {0},
                         V(3, 0, 0, 5),
                         0});
}

static void roi_align_reads_the_level_of_a_rois_size(void **state)
{
    (void)state;
    must_give(&(example){ROIALIGN(1, 4, 5, 512, 1, 1, 1, 1, 1),
                         {V(1), V(2), V(3), V(4),
                          V(0, 0, 111, 111, /**/ 0, 0, 112, 112, /**/ 9, 9, 233, 233, /**/ 0, 0, 448, 448, /**/ 0, 0,
                            2000, 2000)},
                         {0},
                         V(1, 2, 3, 4, 4),
                         0});
}

static void losses_follow_their_formulas(void **state)
{
    const float ln2 = logf(2);
    (void)state;
    must_give(&(example){PLAIN(OP_LOSS_BCE, 2, 1, 1, 1, 2), {V(0, 0), V(0, 1)}, {0}, &ln2, 1e-6f});
    must_give(&(example){PLAIN(OP_LOSS_BCE, 2, 1, 1, 1, 2), {V(100, -50), V(0, 1)}, {0}, V(75), 1e-4f});
    must_give(&(example){
        PLAIN(OP_LOSS_BCE, 3, 1, 1, 1, 3), {V(100, 0, 5), V(0, 1, 0), V(1, 3, 0)}, {0}, V((100 + 3 * ln2) / 4), 1e-4f});
    must_give(&(example){PLAIN(OP_LOSS_BCE, 3, 1, 1, 1, 2), {V(100, 5), V(0, 1), V(0, 0)}, {0}, V(0), 0});
    /* Sample 1: p = 1/2, 1/2 on t = 1, 0: (2*0.5+1)/(1+1+1). Sample 2: all wrong: 1/(1+1+1). */
    must_give(
        &(example){DICE(2, 1, 2), {V(0, 0, -100, 100), V(1, 0, 1, 0)}, {0}, V(1 - (2.0f / 3 + 1.0f / 3) / 2), 1e-6f});
    must_give(&(example){
        PLAIN(OP_LOSS_CE, 2, 2, 1, 1, 3), {V(0, 0, 9, 9, 500, 0), V(1, -1, 1)}, {0}, V((ln2 + 500) / 2), 1e-4f});
    must_give(&(example){PLAIN(OP_LOSS_CE, 2, 2, 1, 1, 1), {V(0, 0), V(-1)}, {0}, V(0), 0});
    /* beta 1: errors 0.5 and 3: 0.125 and 2.5, weights 2 and 1; a sum of weights below 1 divides by 1. */
    must_give(&(example){L1S(1, 1, 1, 1, 2), {V(0.5f, 3), V(0, 0), V(2, 1)}, {0}, V(2.75f / 3), 1e-6f});
    must_give(&(example){L1S(1, 1, 1, 1, 2), {V(0.5f, 3), V(0, 0), V(0.5f, 0)}, {0}, V(0.0625f), 1e-6f});
}

/* Constants alone, or weights of zero: no loss, no gradient, and no division by zero, on every backend. */
static void a_loss_without_labels_is_0_and_so_is_its_gradient(void **state)
{
    static const op_case kinds[] = {PLAIN(OP_LOSS_BCE, 3, 1, 1, 5, 7), PLAIN(OP_LOSS_CE, 2, 4, 1, 5, 7),
                                    L1S(0.5f, 4, 1, 5, 7)};
    (void)state;
    for (int k = 0; backend_at(k); k++)
        for (int i = 0; i < 3; i++) {
            bench t;
            op_shapes s;
            device *d = NULL;
            float none[5 * 7 * 4];
            int last = kinds[i].nx - 1;
            for (size_t at = 0; at < sizeof none / sizeof none[0]; at++)
                none[at] = kinds[i].o.kind == OP_LOSS_CE ? -1 : 0;
            MUST(backend_at(k)->open(&(device_options){.threads = 2}, &d));
            MUST(op_case_shapes(&kinds[i], TENSOR_F32, &s));
            bench_new(&t, backend_at(k), d, &kinds[i].o, &s);
            bench_fill(&t, 2);
            bench_put_floats(&t, SLOT_X + last, none);
            bench_run(&t, OP_FORWARD);
            bench_run(&t, OP_BACKWARD);
            float *y = bench_floats(&t, SLOT_Y, "loss"), *dx = bench_floats(&t, SLOT_DX, "loss");
            if (y[0] != 0) fail_msg("%s: %s without labels is %g", t.b->name, op_name(t.o.kind), (double)y[0]);
            for (size_t at = 0; at < slot_count(&t, SLOT_DX); at++)
                if (dx[at] != 0) fail_msg("%s: %s without labels has a gradient", t.b->name, op_name(t.o.kind));
            free(y);
            free(dx);
            bench_free(&t);
            backend_at(k)->close(&d);
        }
}

static void losses_of_extreme_logits_are_finite_on_every_backend(void **state)
{
    static const op_case kinds[] = {PLAIN(OP_LOSS_BCE, 2, 1, 1, 8, 8), DICE(1, 8, 8), PLAIN(OP_LOSS_CE, 2, 4, 1, 4, 4),
                                    PLAIN(OP_SIGMOID, 1, 1, 1, 8, 8), PLAIN(OP_SOFTMAX, 1, 4, 1, 4, 4)};
    (void)state;
    for (int k = 0; backend_at(k); k++)
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            bench t;
            op_shapes s;
            device *d = NULL;
            float x[64];
            for (int at = 0; at < 64; at++) x[at] = at % 3 == 0 ? 3e4f : at % 3 == 1 ? -3e4f : 1e-30f;
            MUST(backend_at(k)->open(&(device_options){.threads = 1}, &d));
            MUST(op_case_shapes(&kinds[i], TENSOR_F32, &s));
            bench_new(&t, backend_at(k), d, &kinds[i].o, &s);
            bench_fill(&t, 2);
            bench_put_floats(&t, SLOT_X, x);
            bench_run(&t, OP_FORWARD);
            bench_run(&t, OP_BACKWARD);
            float *y = bench_floats(&t, SLOT_Y, "loss"), *dx = bench_floats(&t, SLOT_DX, "loss");
            for (size_t at = 0; at < slot_count(&t, SLOT_Y); at++)
                if (!isfinite(y[at])) fail_msg("%s: %s of extreme logits is not finite", t.b->name, op_name(t.o.kind));
            for (size_t at = 0; at < slot_count(&t, SLOT_DX); at++)
                if (!isfinite(dx[at]))
                    fail_msg("%s: gradient of %s of extreme logits is not finite", t.b->name, op_name(t.o.kind));
            free(y);
            free(dx);
            bench_free(&t);
            backend_at(k)->close(&d);
        }
}

int main(void)
{
    const struct CMUnitTest others[] = {
        cmocka_unit_test(convolution_correlates_without_flipping),
        cmocka_unit_test(transposed_convolution_stamps_its_kernel),
        cmocka_unit_test(resizing_uses_half_pixel_centres),
        cmocka_unit_test(pooling_takes_the_largest_and_the_mean),
        cmocka_unit_test(norms_give_mean_0_and_variance_1_then_gamma_and_beta),
        cmocka_unit_test(a_training_batchnorm_moves_its_statistics_as_pytorch_does),
        cmocka_unit_test(a_large_mean_does_not_drown_the_variance),
        cmocka_unit_test(pointwise_ops_follow_their_formulas),
        cmocka_unit_test(roi_align_reads_between_pixel_centres_without_rounding),
        cmocka_unit_test(roi_align_gives_zeros_for_what_is_empty_and_each_roi_its_image),
        cmocka_unit_test(roi_align_reads_the_level_of_a_rois_size),
        cmocka_unit_test(losses_follow_their_formulas),
        cmocka_unit_test(a_loss_without_labels_is_0_and_so_is_its_gradient),
        cmocka_unit_test(losses_of_extreme_logits_are_finite_on_every_backend),
    };
    enum { OTHERS = sizeof others / sizeof others[0] };
    static op_kind all[OP_KIND_COUNT];
    static char names[OP_KIND_COUNT][80];
    static struct CMUnitTest tests[OP_KIND_COUNT + OTHERS];
    for (int k = 0; k < OP_KIND_COUNT; k++) {
        all[k] = (op_kind)k;
        snprintf(names[k], sizeof names[k], "gradients of %s are those of finite differences", op_name((op_kind)k));
        tests[k] = (struct CMUnitTest){names[k], gradients_are_those_of_finite_differences, NULL, NULL, &all[k]};
    }
    memcpy(tests + OP_KIND_COUNT, others, sizeof others);
    return cmocka_run_group_tests_name("gradients", tests, NULL, NULL);
}
