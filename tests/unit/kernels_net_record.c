/* Passes that run again and again: whatever a backend records of them, they must follow inputs, parameters and memory as
 * a net does that was compiled just now. Where a backend cannot record this shows nothing but is true, too. */
#include "net_fixture.h"

enum { RUNS = 6, ROOM = 4096 };

/* Another image, and labels, in every run. */
static void feed_run(zoo *z, int run)
{
    zoo_feed(z);
    dice_state = 1000u + (uint32_t)run;
    feed(z->n, z->image, 0);
    feed(z->n, z->label, 4);
}

/* Parameter k in run number run: a function of both alone. */
static void set_param(net *n, int k, int run)
{
    float v[ROOM];
    size_t count = count_of(net_param_at(n, k)->shape);
    assert_true(count <= ROOM);
    ok(net_param_get(n, k, v));
    for (size_t i = 0; i < count; i++) v[i] = v[i] * (1 + 0.05f * (float)run) + 0.01f * (float)run;
    ok(net_param_set(n, k, v));
}

typedef struct answer {
    float logits[ROOM], grads[2 * ROOM];
} answer;

static answer run_zoo(zoo *z, const backend *b, device *d, int training)
{
    answer a;
    float *grads, *values;
    size_t count;
    memset(&a, 0, sizeof a);
    ok(net_forward(z->n));
    if (training) ok(net_backward(z->n));
    assert_true(count_of(net_shape(z->n, z->logits)) <= ROOM);
    ok(net_get(z->n, z->logits, a.logits));
    if (!training) return a;
    ok(net_gradients(z->n, &grads, &values, &count));
    assert_true(count <= 2 * ROOM);
    ok(b->download(d, a.grads, grads, count * sizeof(float)));
    return a;
}

static void compile_zoo(zoo *z, net_precision precision, int training)
{
    ok(net_compile(z->n, training ? NET_TRAIN : NET_INFER, precision, training ? z->losses : NULL, zoo_weights, training ? 4 : 0));
}

/* Every third run begins by setting all parameters (BatchNorm's statistics are among them), others one of them; a net made
 * for each run alone says what is right, to the bit. */
static void runs_follow(const backend *b, device *d, net_precision precision, int training)
{
    zoo z = zoo_build(b, d, 2, 16);
    compile_zoo(&z, precision, training);
    for (int run = 0; run < RUNS; run++) {
        for (int k = 0; run > 1 && k < net_param_count(z.n); k++)
            if (run % 3 == 0 || (training && k == run)) set_param(z.n, k, run);
        feed_run(&z, run);
        zoo once = zoo_build(b, d, 2, 16);
        compile_zoo(&once, precision, training);
        for (int k = 0; k < net_param_count(z.n); k++) {
            float v[ROOM];
            ok(net_param_get(z.n, k, v));
            ok(net_param_set(once.n, k, v));
        }
        feed_run(&once, run);
        answer found = run_zoo(&z, b, d, training), right = run_zoo(&once, b, d, training);
        if (memcmp(&found, &right, sizeof found))
            fail_msg("%s, precision %d, training %d: run %d is %g off, its gradients %g", b->name, (int)precision, training, run,
                     furthest(found.logits, right.logits, ROOM), furthest(found.grads, right.grads, (size_t)2 * ROOM));
        net_free(&once.n);
    }
    net_free(&z.n);
}

static void a_pass_run_again_follows_its_inputs_and_parameters(void **state)
{
    (void)state;
    for (int k = 0; backend_at(k); k++) {
        device *d;
        ok(backend_at(k)->open(&(device_options){.threads = 1}, &d));
        for (int training = 0; training < 2; training++) {
            runs_follow(backend_at(k), d, NET_FP32, training);
            runs_follow(backend_at(k), d, NET_BF16, training);
        }
        backend_at(k)->close(&d);
    }
}

static void a_pass_run_again_is_right_after_another_net_took_more_of_the_device(void **state)
{
    (void)state;
    for (int k = 0; backend_at(k); k++) {
        const backend *b = backend_at(k);
        device *d;
        ok(b->open(&(device_options){.threads = 1}, &d));
        zoo small = zoo_build(b, d, 2, 16);
        compile_zoo(&small, NET_BF16, 1);
        feed_run(&small, 0);
        answer first = run_zoo(&small, b, d, 1), later;
        for (int64_t size = 16; size <= 64; size *= 2) {
            zoo large = zoo_build(b, d, 2, size);
            compile_zoo(&large, NET_BF16, 1);
            zoo_feed(&large);
            ok(net_forward(large.n));
            ok(net_backward(large.n));
            for (int run = 0; run < 2; run++) {
                later = run_zoo(&small, b, d, 1);
                assert_memory_equal(&first.logits, &later.logits, sizeof first.logits);
                assert_memory_equal(&first.grads, &later.grads, sizeof first.grads);
            }
            net_free(&large.n);
        }
        net_free(&small.n);
        b->close(&d);
    }
}

/* ---- ref, with a recording that holds nothing and a replay that says whether it ran */
static struct {
    int begun, alive, replays, fail_begin, fail_end;
} fake;

static status fake_begin(device *d)
{
    (void)d;
    fake.begun++;
    return fake.fail_begin ? COV_FAIL(COV_DEVICE, "no recording begins") : COV_OK;
}

static status fake_end(device *d, recording **out)
{
    *out = NULL;
    if (fake.fail_end) return COV_FAIL(COV_DEVICE, "no recording ends");
    fake.alive++;
    *out = (recording *)d;
    return COV_OK;
}

static status fake_replay(recording *r, int *done)
{
    (void)r;
    fake.replays++;
    *done = 1;
    return COV_OK;
}

static void fake_free(recording **r)
{
    fake.alive -= *r != NULL;
    *r = NULL;
}

static void with_fake(void)
{
    memset(&fake, 0, sizeof fake);
    watched.record_begin = fake_begin;
    watched.record_end = fake_end;
    watched.replay = fake_replay;
    watched.record_free = fake_free;
}

static void what_cannot_be_recorded_runs_plainly_and_is_tried_once(void **state)
{
    (void)state;
    for (int where = 0; where < 2; where++) {
        zoo plain = zoo_build(watch.ref, handle, 2, 8);
        compile_zoo(&plain, NET_FP32, 1);
        with_fake();
        fake.fail_begin = where == 0;
        fake.fail_end = where == 1;
        zoo z = zoo_build(&watched, handle, 2, 8);
        compile_zoo(&z, NET_FP32, 1);
        for (int run = 0; run < 4; run++) {
            feed_run(&plain, run);
            feed_run(&z, run);
            answer right = run_zoo(&plain, watch.ref, handle, 1), found = run_zoo(&z, &watched, handle, 1);
            assert_memory_equal(&right.logits, &found.logits, sizeof right.logits);
            if (where == 0) assert_memory_equal(&right.grads, &found.grads, sizeof right.grads);
        }
        assert_int_equal(fake.begun, 1);
        assert_int_equal(fake.alive + fake.replays, 0);
        net_free(&z.n);
        net_free(&plain.n);
    }
}

static void the_second_pass_is_recorded_and_a_frozen_parameter_set_anew_drops_it(void **state)
{
    (void)state;
    float w[ROOM] = {0};
    with_fake();
    net *n = fresh();
    net_t x = net_input(n, "x", f32(1, 8, 8, 2)), t = net_constant(n, "t", f32(1, 8, 8, 1));
    net_freeze(n, true);
    net_t y = net_conv(n, "frozen", x, 2, 3, 1, 1, 0, 0);
    net_freeze(n, false);
    net_t loss = net_loss_bce(n, net_conv(n, "head", y, 1, 1, 1, 0, 0, 0), t, -1);
    ok(net_compile(n, NET_TRAIN, NET_FP32, &loss, NULL, 1));
    feed(n, x, 0);
    feed(n, t, 1);
    static const int alive[] = {0, 2, 2, 2, 0, 2, 0}, replays[] = {0, 2, 4, 6, 6, 8, 8};
    for (int run = 0; run < 7; run++) { /* before 3 the head is set, before 4 the frozen part; before 6 it is compiled */
        if (run == 3) ok(net_param_set(n, 1, w));
        if (run == 4) ok(net_param_set(n, 0, w));
        if (run == 6) {
            ok(net_compile(n, NET_TRAIN, NET_FP32, &loss, NULL, 1));
            feed(n, x, 0);
            feed(n, t, 1);
        }
        ok(net_forward(n));
        ok(net_backward(n));
        assert_int_equal(fake.alive, alive[run]);
        assert_int_equal(fake.replays, replays[run]);
    }
    net_free(&n);
    assert_int_equal(fake.alive, 0);
}

static status count_call(void *ctx, size_t first, size_t count)
{
    (void)first, (void)count;
    ++*(int *)ctx;
    return COV_OK;
}

static void each_piece_of_gradients_has_a_recording_until_the_pieces_change(void **state)
{
    (void)state;
    int calls = 0;
    with_fake();
    zoo z = zoo_build(&watched, handle, 2, 8);
    compile_zoo(&z, NET_FP32, 1);
    for (int least = 1; least <= ROOM; least *= ROOM) {
        ok(net_on_gradients(z.n, (size_t)least, count_call, &calls));
        assert_int_equal(fake.alive, 0);
        for (int run = 0; run < 3; run++) {
            calls = 0;
            feed_run(&z, run);
            ok(net_forward(z.n));
            ok(net_backward(z.n));
            assert_int_equal(calls, z.n->piece_count);
            assert_int_equal(fake.alive, run ? 1 + calls : 0);
        }
        assert_true(least == 1 ? calls > 5 : calls <= 2);
    }
    net_free(&z.n);
    assert_int_equal(fake.alive, 0);
}

static status halve(void *ctx, const tensor *x, int nx, tensor *y, int ny)
{
    const float *from = x[0].data;
    float *to = y[0].data;
    (void)ctx, (void)nx, (void)ny;
    for (size_t i = 0; i < 64; i++) to[i] = from[i] / 2;
    return COV_OK;
}

static void a_host_step_runs_in_every_pass_between_two_recordings(void **state)
{
    (void)state;
    tensor_shape shape = f32(1, 8, 8, 1);
    for (int k = 0; backend_at(k); k++) {
        const backend *b = backend_at(k);
        device *d;
        net *n;
        net_t half;
        ok(b->open(&(device_options){.threads = 1}, &d));
        ok(net_new(b, d, 1, &n));
        net_t x = net_input(n, "x", shape), twice = net_add(n, x, x, 0);
        net_host(n, "halve", &twice, 1, &shape, 1, halve, NULL, &half);
        net_t y = net_output(n, "y", net_add(n, half, half, 0));
        ok(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0));
        for (int run = 0; run < 4; run++) {
            float in[64], out[64];
            for (int i = 0; i < 64; i++) in[i] = (float)(i + 100 * run);
            ok(net_set_input(n, x, in));
            ok(net_forward(n));
            ok(net_get(n, y, out));
            for (int i = 0; i < 64; i++) assert_true(out[i] == 2 * in[i]);
            int kept = 0;
            for (int j = 0; j < n->node_count; j++) kept += n->nodes[j].recorded != NULL;
            assert_int_equal(kept, b->record_begin && run > 0 ? 2 : 0);
        }
        net_free(&n);
        b->close(&d);
    }
}

/* y (1,1,1,4): the box around what is not 0 in x (1,8,8,1), in whatever type activations run in. */
static status around(void *ctx, const backend *b, device *d, const tensor *x, int nx, tensor *y)
{
    assert_true(ctx == NULL && nx == 1);
    return b->boxes_around(d, x->shape.type, x->shape.n, x->shape.h, x->shape.w, x->shape.c, 0, x->data, y->data);
}

static status add_ten(void *ctx, const tensor *x, int nx, tensor *y, int ny)
{
    (void)ctx, (void)nx, (void)ny;
    for (int i = 0; i < 4; i++) ((float *)y[0].data)[i] = ((const float *)x[0].data)[i] + 10;
    return COV_OK;
}

static void a_call_of_the_backend_is_a_part_of_the_recorded_pass_and_host_steps_read_it(void **state)
{
    (void)state;
    for (int k = 0; backend_at(k); k++)
        for (int precision = 0; precision < 2; precision++) {
            const backend *b = backend_at(k);
            device *d;
            net *n;
            net_t more;
            tensor_shape row = f32(1, 1, 1, 4);
            ok(b->open(&(device_options){.threads = 1}, &d));
            ok(net_new(b, d, 1, &n));
            net_t x = net_input(n, "x", f32(1, 8, 8, 1)), twice = net_add(n, x, x, 0);
            net_t found = net_output(n, "found", net_call(n, "around", &twice, 1, row, around, NULL));
            net_host(n, "ten", &found, 1, &row, 1, add_ten, NULL, &more);
            net_t y = net_output(n, "y", net_add(n, more, more, 0));
            ok(net_compile(n, NET_INFER, precision ? NET_BF16 : NET_FP32, NULL, NULL, 0));
            for (int run = 0; run < 4; run++) {
                float in[64] = {0}, got[4], sum[4];
                const float want[4] = {(float)(1 + run), 2, 6, (float)(4 + run)};
                in[8 * (1 + run) + 3] = 0.5f, in[8 * 5 + 2] = -2, in[8 * 4 + 3 + run] = 1;
                ok(net_set_input(n, x, in));
                ok(net_forward(n));
                ok(net_get(n, found, got));
                ok(net_get(n, y, sum));
                assert_memory_equal(got, want, sizeof want);
                for (int i = 0; i < 4; i++) assert_true(sum[i] == 2 * (want[i] + 10));
                int kept = 0;
                for (int j = 0; j < n->node_count; j++) kept += n->nodes[j].recorded != NULL;
                assert_int_equal(kept, b->record_begin && run > 0 ? 2 : 0); /* before the host step, and after it */
            }
            net_free(&n);
            b->close(&d);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_pass_run_again_follows_its_inputs_and_parameters),
        TEST(a_pass_run_again_is_right_after_another_net_took_more_of_the_device),
        TEST(what_cannot_be_recorded_runs_plainly_and_is_tried_once),
        TEST(the_second_pass_is_recorded_and_a_frozen_parameter_set_anew_drops_it),
        TEST(each_piece_of_gradients_has_a_recording_until_the_pieces_change),
        TEST(a_host_step_runs_in_every_pass_between_two_recordings),
        TEST(a_call_of_the_backend_is_a_part_of_the_recorded_pass_and_host_steps_read_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
