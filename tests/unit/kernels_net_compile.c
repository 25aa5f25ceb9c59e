/* What net_compile does beyond the graph: memory plans against plans without reuse on random graphs, every allocation
 * failing in turn, folded norms against unfolded ones, one net at many sizes against fresh nets. */
#include "net_fixture.h"

/* ---- memory */
typedef struct maze {
    net *n;
    net_t image, target, loss;
} maze;

/* A target between 0 and 1, smooth in all that is read. */
static status maze_host(void *ctx, const tensor *x, int nx, tensor *y, int ny)
{
    (void)ctx, (void)ny;
    for (size_t i = 0; i < count_of(y[0].shape); i++) {
        double sum = 0;
        for (int k = 0; k < nx; k++) sum += ((const float *)x[k].data)[i];
        ((float *)y[0].data)[i] = (float)(0.5 + 0.5 * sin(sum));
    }
    return COV_OK;
}

static net_t maze_step(net *n, int k, net_t a, net_t b)
{
    net_t both[2] = {a, b};
    char name[24], inner[24];
    snprintf(name, sizeof name, "n%d", k);
    snprintf(inner, sizeof inner, "n%d/inner", k);
    switch (dice() % 8) {
    case 0:
        return net_conv(n, name, a, 4, 3, 1, 1, 1, 1);
    case 1:
        return net_add(n, a, b, (int)(dice() % 2));
    case 2:
        return net_groupnorm(n, name, a, b, 2, 1);
    case 3:
        return net_conv(n, name, net_concat(n, both, 2), 4, 1, 1, 0, 0, 0);
    case 4:
        return net_resize_like(n, net_maxpool(n, a, 2, 2, 0), a, 1);
    case 5:
        return net_sigmoid(n, a);
    case 6:
        return net_batchnorm(n, name, net_conv(n, inner, a, 4, 1, 1, 0, 0, 0), -1, 0);
    default:
        return net_relu(n, a);
    }
}

/* A random graph of 4 to 40 steps over one size, with forks, joins, dead ends, some outputs on the way,
 * and a host step that makes the target of what came before. */
static maze maze_build(const backend *b, device *d, uint32_t seed)
{
    maze z;
    ok(net_new(b, d, 7, &z.n));
    net_t made[48];
    int count = 0;
    char name[24];
    dice_state = seed * 7919u + 1;
    int steps = 4 + (int)(dice() % 37);
    z.image = net_input(z.n, "image", f32(1, 4, 4, 4));
    z.target = net_constant(z.n, "target", f32(1, 4, 4, 1));
    made[count++] = z.image;
    for (int k = 0; k < steps; k++, count++) {
        net_t one = made[dice() % (uint32_t)count], other = made[dice() % (uint32_t)count];
        made[count] = maze_step(z.n, k, one, other);
        snprintf(name, sizeof name, "out%d", k);
        if (dice() % 6 == 0) net_output(z.n, name, made[count]);
    }
    net_t ends[3] = {made[count - 1], made[count - 2], made[dice() % (uint32_t)count]};
    net_t logits = net_output(z.n, "logits", net_conv(z.n, "logits/conv", net_concat(z.n, ends, 3), 1, 1, 1, 0, 1, 0));
    net_t seen[4] = {z.target, made[count / 2], ends[2], logits}, target;
    net_host(z.n, "host", seen, 4, (tensor_shape[]){f32(1, 4, 4, 1)}, 1, maze_host, NULL, &target);
    z.loss = net_loss_bce(z.n, logits, target, -1);
    return z;
}

/* Everything a caller can see of one run: outputs, loss, gradients. Freed by the caller. */
static float *maze_run(maze *z, int train, net_precision precision, size_t *length)
{
    size_t room = 1 << 16, at = 0, count;
    float *seen = calloc(room, sizeof *seen), *grads, *values;
    ok(net_compile(z->n, train ? NET_TRAIN : NET_INFER, precision, &z->loss, NULL, 1));
    dice_state = 3;
    feed(z->n, z->image, 0);
    feed(z->n, z->target, 1);
    for (int turn = 0; turn < 2; turn++) { /* the second finds what the first left */
        at = 0;
        ok(net_forward(z->n));
        if (train) ok(net_backward(z->n));
        for (int k = 0; k < z->n->value_count; k++) {
            size_t size = count_of(net_shape(z->n, k));
            if (!z->n->values[k].output && k != z->loss) continue;
            assert_true(at + size <= room);
            ok(net_get(z->n, k, seen + at));
            at += size;
        }
        ok(net_gradients(z->n, &grads, &values, &count));
        assert_true(at + count <= room);
        if (train) ok(z->n->b->download(z->n->d, seen + at, grads, count * sizeof *seen));
        if (train) at += count;
    }
    *length = at;
    return seen;
}

static void slots_alive_together_never_share_bytes(const net *n)
{
    for (int a = 0; a < n->slot_count; a++) {
        const net_slot *s = &n->slots[a];
        assert_true(s->first <= s->last);
        assert_true(s->offset % NET_ALIGN == 0 && s->offset + s->bytes <= n->arena_bytes);
        for (int b = 0; b < a; b++) {
            const net_slot *t = &n->slots[b];
            if (s->first > t->last || t->first > s->last) continue;
            assert_true(s->offset + s->bytes <= t->offset || t->offset + t->bytes <= s->offset);
        }
    }
}

static void reusing_memory_changes_no_result_of_any_graph(void **state)
{
    (void)state;
    int smaller = 0;
    for (uint32_t seed = 0; seed < 120; seed++) {
        for (int train = 0; train < 2; train++) {
            net_precision precision = seed % 3 ? NET_FP32 : NET_BF16;
            float *seen[2];
            size_t length[2], bytes[2];
            for (int reuse = 0; reuse < 2; reuse++) {
                maze z = maze_build(&watched, handle, seed);
                z.n->reuse = reuse;
                seen[reuse] = maze_run(&z, train, precision, &length[reuse]);
                bytes[reuse] = net_activation_bytes(z.n);
                if (reuse) slots_alive_together_never_share_bytes(z.n);
                net_free(&z.n);
            }
            assert_int_equal(length[0], length[1]);
            for (size_t i = 0; i < length[0]; i++) assert_true(isfinite(seen[0][i]));
            assert_memory_equal(seen[0], seen[1], length[0] * sizeof(float));
            assert_true(bytes[1] <= bytes[0]);
            smaller += 2 * bytes[1] < bytes[0];
            free(seen[0]);
            free(seen[1]);
        }
    }
    assert_true(smaller > 20); /* or the test above compares nothing */
}

static void every_backend_runs_random_graphs_as_ref_does(void **state)
{
    (void)state;
    for (int k = 0; backend_at(k); k++) {
        const backend *b[2] = {watch.ref, backend_at(k)};
        device *d[2] = {handle, NULL};
        ok(b[1]->open(&(device_options){.threads = 1}, &d[1]));
        for (uint32_t seed = 200; seed < 240; seed++) {
            float *seen[2];
            size_t length[2];
            double far = 0, size = 0;
            for (int way = 0; way < 2; way++) {
                maze z = maze_build(b[way], d[way], seed);
                seen[way] = maze_run(&z, (int)seed % 2, NET_FP32, &length[way]);
                net_free(&z.n);
            }
            assert_int_equal(length[0], length[1]);
            for (size_t i = 0; i < length[0]; i++) {
                far += pow((double)seen[0][i] - (double)seen[1][i], 2);
                size += pow((double)seen[0][i], 2);
            }
            if (!(far <= 1e-6 * size)) fail_msg("%s, graph %u: %g of %g", b[1]->name, seed, sqrt(far), sqrt(size));
            free(seen[0]);
            free(seen[1]);
        }
        b[1]->close(&d[1]);
    }
}

static void a_chain_runs_in_the_memory_of_its_two_largest_neighbours(void **state)
{
    (void)state;
    net *n = fresh();
    net_t x = net_input(n, "x", f32(1, 16, 16, 1));
    char name[16];
    for (int k = 0; k < 10; k++) {
        snprintf(name, sizeof name, "c%d", k);
        x = net_conv(n, name, x, 16, 3, 1, 1, 1, 1);
    }
    net_output(n, "y", net_conv(n, "last", x, 1, 1, 1, 0, 1, 0));
    ok(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0));
    assert_true(net_activation_bytes(n) <= 2 * 16 * 16 * 16 * 4 + 2 * 16 * 16 * 4);
    net_free(&n);
}

static void every_failing_allocation_leaves_a_net_that_can_still_compile(void **state)
{
    (void)state;
    zoo z = zoo_build(&watched, handle, 1, 8);
    for (int mode = 0; mode < 2; mode++) {
        int steps = 0;
        for (;; steps++) {
            watch.fail_after = steps;
            status s = net_compile(z.n, mode ? NET_TRAIN : NET_INFER, NET_BF16, z.losses, zoo_weights, 4);
            watch.fail_after = -1;
            if (s == COV_OK) break;
            assert_int_equal(s, COV_NOMEM);
            assert_int_equal(watch.plans, 0);
            assert_true(watch.memory <= 2); /* parameters and gradients stay */
            assert_int_equal(net_forward(z.n), COV_BROKEN);
        }
        assert_true(steps > 20);
        zoo_feed(&z);
        ok(net_forward(z.n));
    }
    net_free(&z.n);
}

static void compiling_again_leaks_no_plan_and_no_memory(void **state)
{
    (void)state;
    zoo z = zoo_build(&watched, handle, 1, 8);
    int plans[2] = {0}, memory[2] = {0};
    for (int turn = 0; turn < 6; turn++) {
        int mode = turn % 2;
        ok(net_compile(z.n, mode ? NET_TRAIN : NET_INFER, NET_FP32, z.losses, zoo_weights, 4));
        zoo_feed(&z);
        ok(net_forward(z.n));
        if (turn > 1) assert_int_equal(plans[mode], watch.plans);
        if (turn > 1) assert_int_equal(memory[mode], watch.memory);
        plans[mode] = watch.plans;
        memory[mode] = watch.memory;
        assert_true(mode ? net_param_at(z.n, 0)->grad != NULL : net_param_at(z.n, 0)->grad == NULL);
    }
    net_free(&z.n);
}

/* ---- BatchNorm */
typedef struct folding {
    net *n;
    net_t x, y, z;
} folding;

static folding folding_build(int bias)
{
    folding f = {.n = fresh()};
    net_freeze(f.n, true);
    f.x = net_input(f.n, "x", f32(2, 6, 6, 3));
    net_t a = net_batchnorm(f.n, "norm1", net_conv(f.n, "conv1", f.x, 5, 3, 1, 1, bias, 0), -1, 1);
    net_t b = net_batchnorm(f.n, "norm2", net_conv(f.n, "conv2", a, 5, 3, 1, 1, bias, 0), a, 1); /* a residual: stays */
    net_t c = net_conv(f.n, "conv3", b, 5, 3, 1, 1, 1, 0); /* two readers: stays */
    net_t d = net_add(f.n, c, net_batchnorm(f.n, "norm3", c, -1, 0), 0);
    net_t e =
        net_batchnorm(f.n, "norm4", net_conv(f.n, "conv4", d, 5, 1, 1, 0, bias, 1), -1, 0); /* after a ReLU: stays */
    net_t g = net_batchnorm(f.n, "norm5", net_conv(f.n, "conv5", e, 5, 1, 1, 0, bias, 0), -1, 0);
    f.y = net_output(f.n, "y", net_batchnorm(f.n, "norm6", g, -1, 1)); /* norm5 folds, norm6 stays */
    f.z = net_output(f.n, "z", net_conv(f.n, "conv7", f.y, 2, 1, 1, 0, 0, 0));
    net_output(f.n, "w", net_batchnorm(f.n, "norm7", f.z, -1, 0)); /* conv7 is an output: stays */
    return f;
}

static void folding_scramble(folding *f)
{
    for (int k = 0; k < net_param_count(f->n); k++) {
        const net_param *p = net_param_at(f->n, k);
        float v[256];
        assert_true(count_of(p->shape) <= 256);
        int variance = strstr(p->name, "/var") != NULL;
        for (size_t i = 0; i < count_of(p->shape); i++)
            v[i] = variance ? 0.2f + (float)(dice() % 64) / 32 : 0.5f * spread();
        ok(net_param_set(f->n, k, v));
    }
}

static void a_folded_norm_gives_the_unfolded_values_and_follows_its_parameters(void **state)
{
    (void)state;
    for (int bias = 0; bias < 2; bias++) {
        folding f = folding_build(bias);
        for (int turn = 0; turn < 3; turn++) {
            float *y[3], *z[3];
            dice_state = 40 + (uint32_t)turn;
            folding_scramble(&f);
            for (int mode = 0; mode < 3; mode++) { /* folded, unfolded, and folded in training, as all is frozen */
                f.n->fold = mode != 1;
                ok(net_compile(f.n, mode == 2 ? NET_TRAIN : NET_INFER, NET_FP32, NULL, NULL, 0));
                assert_int_equal(f.n->fold_count, mode == 1 ? 0 : 2);
                dice_state = 77;
                feed(f.n, f.x, 0);
                ok(net_forward(f.n));
                if (mode != 1) { /* changed between two runs of one compiled net */
                    dice_state = 50 + (uint32_t)turn;
                    folding_scramble(&f);
                    ok(net_forward(f.n));
                }
                y[mode] = get(f.n, f.y);
                z[mode] = get(f.n, f.z);
            }
            size_t count = count_of(net_shape(f.n, f.y));
            double size = 0;
            for (size_t i = 0; i < count; i++) size += fabs((double)y[1][i]) / (double)count;
            assert_true(size > 1e-3);
            assert_true(furthest(y[0], y[1], count) < 1e-4 * (1 + size));
            assert_true(furthest(z[0], z[1], count_of(net_shape(f.n, f.z))) < 1e-4 * (1 + size));
            assert_memory_equal(y[0], y[2], count * sizeof(float));
            for (int mode = 0; mode < 3; mode++) {
                free(y[mode]);
                free(z[mode]);
            }
        }
        net_free(&f.n);
    }
}

static void training_moves_the_statistics_of_a_norm_and_inference_uses_them(void **state)
{
    (void)state;
    net *n = fresh();
    net_t x = net_input(n, "x", f32(4, 8, 8, 1)), t = net_constant(n, "t", f32(4, 8, 8, 3));
    net_t y = net_output(n, "y", net_batchnorm(n, "norm", net_conv(n, "conv", x, 3, 1, 1, 0, 1, 0), -1, 0));
    net_t loss = net_loss_bce(n, y, t, -1);
    ok(net_compile(n, NET_TRAIN, NET_FP32, &loss, NULL, 1));
    dice_state = 5;
    feed(n, x, 0);
    feed(n, t, 1);
    for (int k = 0; k < 200; k++) ok(net_forward(n));
    float *train = get(n, y);
    ok(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0));
    dice_state = 5;
    feed(n, x, 0);
    ok(net_forward(n));
    float *infer = get(n, y);
    assert_true(furthest(train, infer, count_of(net_shape(n, y))) <
                0.02); /* biased and unbiased variance differ a little */
    assert_int_equal(net_param_at(n, 4)->statistic, 1);
    free(train);
    free(infer);
    net_free(&n);
}

/* ---- sizes */
static void one_net_at_many_sizes_equals_fresh_nets_with_its_parameters(void **state)
{
    (void)state;
    static const int64_t batches[] = {1, 3, 2, 1}, sizes[] = {8, 12, 16, 8};
    zoo z = zoo_build(&watched, handle, 2, 8);
    ok(net_compile(z.n, NET_TRAIN, NET_FP32, z.losses, zoo_weights, 4));
    for (int turn = 0; turn < 4; turn++) {
        int64_t b = batches[turn], s = sizes[turn];
        zoo y = zoo_build(&watched, handle, b, s), *both[2] = {&y, &z};
        ok(net_reshape(z.n, z.image, f32(b, s, s, 2)));
        assert_int_equal(net_forward(z.n), COV_BROKEN);
        ok(net_reshape(z.n, z.target, f32(b, s, s, 1)));
        ok(net_reshape(z.n, z.weight, f32(b, s, s, 1)));
        ok(net_reshape(z.n, z.label, tensor_shape_of(b, 1, 1, 1, TENSOR_I32)));
        ok(net_reshape(z.n, z.wanted, f32(b, 1, 1, 4)));
        ok(net_reshape(z.n, z.wanted + 1, f32(b, 1, 1, 4)));
        assert_true(tensor_same_shape(net_shape(z.n, z.logits), f32(b, s, s, 1)));
        float *grads[2], *values, *logits[2];
        size_t count[2];
        for (int k = 0; k < 2; k++) {
            ok(net_compile(both[k]->n, NET_TRAIN, NET_FP32, both[k]->losses, zoo_weights, 4));
            zoo_feed(both[k]);
            ok(net_forward(both[k]->n));
            ok(net_backward(both[k]->n));
            logits[k] = get(both[k]->n, both[k]->logits);
            ok(net_gradients(both[k]->n, &grads[k], &values, &count[k]));
        }
        assert_int_equal(count[0], count[1]);
        assert_memory_equal(grads[0], grads[1], count[0] * sizeof(float));
        assert_memory_equal(logits[0], logits[1], (size_t)(b * s * s) * sizeof(float));
        free(logits[0]);
        free(logits[1]);
        net_free(&y.n);
    }
    net_free(&z.n);
}

static void a_resize_keeps_its_ratio_and_says_where_it_cannot(void **state)
{
    (void)state;
    net *n = fresh();
    net_t x = net_input(n, "x", f32(1, 8, 6, 1));
    net_t y = net_output(n, "y", net_resize(n, x, 4, 9, 0));
    ok(net_reshape(n, x, f32(2, 12, 4, 1)));
    assert_true(tensor_same_shape(net_shape(n, y), f32(2, 6, 6, 1)));
    ok(net_reshape(n, x, f32(2, 7, 4, 1)));
    assert_int_equal(net_shape(n, y).h, 0);
    assert_int_equal(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0), COV_BROKEN);
    assert_non_null(strstr(status_message(), "7x4"));
    ok(net_reshape(n, x, f32(2, 8, 4, 1)));
    ok(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0));
    net_free(&n);
}

static void a_reshape_that_does_not_fit_is_reported_by_compile_and_can_be_undone(void **state)
{
    (void)state;
    zoo z = zoo_build(&watched, handle, 2, 8);
    ok(net_reshape(z.n, z.image, f32(2, 16, 16, 2)));
    assert_int_equal(net_compile(z.n, NET_TRAIN, NET_FP32, z.losses, NULL, 4), COV_BROKEN);
    assert_non_null(strstr(status_message(), "loss_bce"));
    assert_int_equal(net_reshape(z.n, z.image, f32(2, 16, 0, 2)), COV_BROKEN);
    assert_int_equal(net_reshape(z.n, z.image, tensor_shape_of(2, 8, 8, 2, TENSOR_BF16)), COV_BROKEN);
    assert_int_equal(net_reshape(z.n, z.logits, f32(2, 8, 8, 2)), COV_BROKEN);
    ok(net_reshape(z.n, z.image, f32(2, 8, 8, 3)));
    assert_int_equal(net_compile(z.n, NET_TRAIN, NET_FP32, z.losses, NULL, 4), COV_BROKEN);
    assert_non_null(strstr(status_message(), "enc/conv1/w"));
    ok(net_reshape(z.n, z.image, f32(2, 8, 8, 2)));
    ok(net_compile(z.n, NET_TRAIN, NET_FP32, z.losses, NULL, 4));
    net_free(&z.n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reusing_memory_changes_no_result_of_any_graph),
        TEST(every_backend_runs_random_graphs_as_ref_does),
        TEST(a_chain_runs_in_the_memory_of_its_two_largest_neighbours),
        TEST(every_failing_allocation_leaves_a_net_that_can_still_compile),
        TEST(compiling_again_leaks_no_plan_and_no_memory),
        TEST(a_folded_norm_gives_the_unfolded_values_and_follows_its_parameters),
        TEST(training_moves_the_statistics_of_a_norm_and_inference_uses_them),
        TEST(one_net_at_many_sizes_equals_fresh_nets_with_its_parameters),
        TEST(a_resize_keeps_its_ratio_and_says_where_it_cannot),
        TEST(a_reshape_that_does_not_fit_is_reported_by_compile_and_can_be_undone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
