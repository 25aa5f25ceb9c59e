/* Gradients in pieces, called out while the backward pass runs: each is final when it is called, they tile the array once
 * from its end, and they are the same in every pass, run or recorded. On a net whose parameters are not done with in the
 * order in which they lie. */
#include "net_fixture.h"

enum { PASSES = 4, MOST = 64, FLOATS = 8192 };

/* Where the order goes wrong: `shared` is built early and used again late; `idle` is built before anything that trains below
 * it, but meets the loss only where it is used again; `side` meets none; `frozen` lets gradients through. */
typedef struct tangle {
    net *n;
    net_t x, target, loss;
} tangle;

static tangle tangle_build(const backend *b, device *d)
{
    tangle t;
    ok(net_new(b, d, 7, &t.n));
    net *n = t.n;
    t.x = net_input(n, "x", f32(2, 8, 8, 4));
    t.target = net_constant(n, "target", f32(2, 8, 8, 4));
    net_t a = net_conv(n, "stem", t.x, 8, 3, 1, 1, 0, 0);
    a = net_batchnorm(n, "stem/norm", a, -1, 1);
    net_t shared = net_conv(n, "shared", a, 8, 3, 1, 1, 1, 1);
    net_t idle = net_conv(n, "idle", shared, 8, 1, 1, 0, 1, 0);
    net_t c = net_groupnorm(n, "mid/norm", net_conv(n, "mid", shared, 8, 3, 1, 1, 0, 0), shared, 4, 1);
    net_freeze(n, true);
    c = net_conv(n, "frozen", c, 8, 3, 1, 1, 1, 0);
    net_freeze(n, false);
    c = net_conv(n, "upper", c, 8, 3, 1, 1, 1, 1);
    c = net_again(n, idle, net_again(n, shared, c));
    c = net_conv(n, "wide", c, 16, 3, 1, 1, 1, 1);
    net_output(n, "aside", net_conv(n, "side", c, 20, 1, 1, 0, 1, 0));
    t.loss = net_loss_bce(n, net_conv(n, "head", c, 4, 1, 1, 0, 1, 0), t.target, -1);
    return t;
}

static void tangle_compile(tangle *t, net_precision precision)
{
    ok(net_compile(t->n, NET_TRAIN, precision, &t->loss, NULL, 1));
}

static void tangle_forward(tangle *t, int pass)
{
    dice_state = 1000u + (uint32_t)pass;
    feed(t->n, t->x, 0);
    feed(t->n, t->target, 1);
    ok(net_forward(t->n));
}

static size_t gradients(const tangle *t, const backend *b, device *d, float *to)
{
    float *grads, *values;
    size_t count;
    ok(net_gradients(t->n, &grads, &values, &count));
    assert_true(count <= FLOATS);
    ok(b->download(d, to, grads, count * sizeof *to));
    return count;
}

/* What the hook saw. */
typedef struct seen {
    const backend *b;
    device *d;
    const float *grads;
    size_t start, least; /* of what has been called so far */
    int pieces;
    size_t first[MOST];
    float copy[FLOATS];  /* each piece as it was when it was called */
    double stem[MOST];   /* the sum of the magnitudes of the array's first gradients then */
    status answer;
} seen;

static status see(void *ctx, size_t first, size_t count)
{
    seen *s = ctx;
    float stem[64];
    assert_true(s->pieces < MOST && count > 0 && first + count == s->start);
    assert_true(count >= s->least || first == 0);
    s->start = first;
    s->first[s->pieces] = first;
    ok(s->b->download(s->d, s->copy + first, s->grads + first, count * sizeof *s->copy));
    ok(s->b->download(s->d, stem, s->grads, sizeof stem));
    s->stem[s->pieces] = 0;
    for (int i = 0; i < 64; i++) s->stem[s->pieces] += fabs((double)stem[i]);
    s->pieces++;
    return s->answer;
}

static void see_anew(seen *s, const backend *b, device *d, const tangle *t, size_t least)
{
    float *grads, *values;
    size_t count;
    ok(net_gradients(t->n, &grads, &values, &count));
    *s = (seen){.b = b, .d = d, .grads = grads, .start = count, .least = least};
}

/* All passes of one net with pieces of `least`, beside one without. Gives the number of pieces. */
static int passes(const backend *b, device *d, net_precision precision, size_t least)
{
    static float whole[FLOATS], plain[FLOATS];
    static seen s;
    size_t before[MOST];
    int pieces = 0;
    tangle t = tangle_build(b, d), p = tangle_build(b, d);
    tangle_compile(&t, precision);
    tangle_compile(&p, precision);
    ok(net_on_gradients(t.n, least, see, &s));
    for (int pass = 0; pass < PASSES; pass++) {
        see_anew(&s, b, d, &t, least);
        tangle_forward(&t, pass);
        ok(net_backward(t.n));
        size_t count = gradients(&t, b, d, whole);
        assert_int_equal(s.start, 0);
        assert_memory_equal(s.copy, whole, count * sizeof *whole); /* final when called */
        tangle_forward(&p, pass);
        ok(net_backward(p.n));
        assert_int_equal(gradients(&p, b, d, plain), count);
        assert_memory_equal(whole, plain, count * sizeof *whole);
        for (int k = 0; k + 1 < s.pieces; k++) assert_true(s.stem[k] == 0); /* called before the pass is over */
        assert_true(s.stem[s.pieces - 1] > 0);
        assert_true(pass == 0 || s.pieces == pieces);
        pieces = s.pieces;
        if (pass > 0) assert_memory_equal(s.first, before, (size_t)pieces * sizeof *before);
        memcpy(before, s.first, sizeof before);
        for (int k = 0; k < t.n->piece_count; k++)
            assert_int_equal(t.n->pieces[k].recorded != NULL, b->record_begin && pass > 0);
    }
    see_anew(&s, b, d, &t, least);
    ok(net_backward_none(t.n));
    assert_true(s.start == 0 && s.pieces == pieces);
    assert_memory_equal(s.first, before, (size_t)pieces * sizeof *before);
    for (size_t i = 0; i < FLOATS; i++) assert_true(s.copy[i] == 0);
    net_free(&t.n);
    net_free(&p.n);
    return pieces;
}

static void each_piece_is_final_when_it_is_called_and_all_tile_the_array_from_its_end(void **state)
{
    (void)state;
    for (int k = 0; backend_at(k); k++) {
        const backend *b = backend_at(k);
        device *d;
        ok(b->open(&(device_options){.threads = 1}, &d));
        for (int precision = NET_FP32; precision <= NET_BF16; precision++) {
            /* head and side; wide; upper; mid/norm; mid with idle; shared; stem/norm; stem */
            static const struct { size_t least; int pieces; } of[] = {{0, 8}, {1, 8}, {200, 6}, {600, 5}, {2000, 2}, {1 << 20, 1}, {SIZE_MAX, 1}};
            for (size_t j = 0; j < sizeof of / sizeof *of; j++)
                assert_int_equal(passes(b, d, (net_precision)precision, of[j].least), of[j].pieces);
        }
        b->close(&d);
    }
}

static void pieces_may_change_between_passes_and_stay_over_a_compile(void **state)
{
    (void)state;
    static seen s;
    for (int k = 0; backend_at(k); k++) {
        const backend *b = backend_at(k);
        device *d;
        ok(b->open(&(device_options){.threads = 1}, &d));
        tangle t = tangle_build(b, d);
        ok(net_on_gradients(t.n, 600, see, &s));
        static const size_t least[] = {600, 600, 1, 1, 1, 0, 0, 2000, 2000}; /* 0: nobody waits */
        static const int pieces[] = {5, 5, 8, 8, 8, 0, 0, 2, 2};
        for (int pass = 0; pass < 9; pass++) {
            static float whole[FLOATS];
            if (pass == 0 || pass == 4) tangle_compile(&t, NET_FP32);
            if (pass > 0) ok(net_on_gradients(t.n, least[pass], least[pass] ? see : NULL, &s));
            see_anew(&s, b, d, &t, least[pass]);
            tangle_forward(&t, pass);
            ok(net_backward(t.n));
            assert_int_equal(s.pieces, pieces[pass]);
            size_t count = gradients(&t, b, d, whole);
            if (least[pass]) assert_memory_equal(s.copy, whole, count * sizeof *whole);
        }
        see_anew(&s, b, d, &t, 2000);
        s.answer = COV_COMM;
        tangle_forward(&t, 0);
        assert_int_equal(net_backward(t.n), COV_COMM);
        assert_int_equal(s.pieces, 1);
        net_free(&t.n);
        b->close(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_piece_is_final_when_it_is_called_and_all_tile_the_array_from_its_end),
        TEST(pieces_may_change_between_passes_and_stay_over_a_compile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
