/* Lesion networks: their shapes, what trains in them and what does not. That they find something: stages_discs.c. */
#include "tests/unit/lesion_fixture.h"

#include "stages/netio.h"

static const net_param *param(const net *n, const char *name)
{
    for (int k = 0; k < net_param_count(n); k++)
        if (strcmp(net_param_at(n, k)->name, name) == 0) return net_param_at(n, k);
    return NULL;
}

static void must_have(const net *n, const char *name, int64_t out, int64_t in)
{
    const net_param *p = param(n, name);
    if (!p || p->shape.n != out || p->shape.c != in)
        fail_msg("%s is %lld x %lld, expected %lld x %lld", name, p ? (long long)p->shape.n : 0,
                 p ? (long long)p->shape.c : 0, (long long)out, (long long)in);
}

static void every_model_of_both_presets_gives_outputs_of_its_inputs_size(void **state)
{
    (void)state;
    for (int m = 0; m < LESIONNET_COUNT; m++)
        for (int k = 0; k < 2; k++) {
            const char *preset = k ? "paper" : "compact";
            const lesionnet_spec *spec;
            lesionnet_find f;
            lesionnet_cut c;
            net *n, *second;
            ok(lesionnet_preset(preset, &spec));
            ok(net_new(b, d, 1, &n));
            ok(lesionnet_build_find(n, (lesionnet_model)m, preset, 2, 64, 96, &f));
            assert_int_equal(f.period >= 0, lesionnet_has_period((lesionnet_model)m));
            assert_int_equal(f.found >= 0, lesionnet_detects((lesionnet_model)m));
            if (f.period >= 0)
                assert_true(net_shape(n, f.period).n == 2 && net_shape(n, f.period).c == LESIONNET_PERIODS);
            if (f.found < 0) {
                tensor_shape s = net_shape(n, f.probability);
                assert_true(s.n == 2 && s.h == 64 && s.w == 96 && s.c == 1);
            } else {
                assert_true(net_shape(n, f.found).n == 2 && net_shape(n, f.found).h == spec->found && net_shape(n, f.found).c == RCNN_FOUND);
                ok(net_new(b, d, 1, &second));
                ok(lesionnet_build_cut(second, (lesionnet_model)m, preset, n, &f, 3, &c));
                tensor_shape s = net_shape(second, c.probability);
                assert_true(s.n == 6 && s.h == c.size && s.w == c.size && s.c == 1);
                net_free(&second);
            }
            net_free(&n);
            lesionnet_find_free(&f);
        }
}

static void the_paper_preset_has_the_papers_widths(void **state)
{
    (void)state;
    lesionnet_find f;
    net *n;
    ok(net_new(b, d, 1, &n));
    ok(lesionnet_build_find(n, LESIONNET_ST, "paper", 1, 64, 64, &f));
    must_have(n, "spatial/conv1/w", 64, 3);
    must_have(n, "spatial/layer3.5/conv3/w", 1024, 256);
    must_have(n, "temporal/fuse3/w", 1024, 2048);
    must_have(n, "temporal/period/w", 4, 1024);
    must_have(n, "dock/w", 256, 2048);
    must_have(n, "detector/block2/conv2/w", 256, 256);
    must_have(n, "rpn/objectness/w", 18, 256);
    assert_null(param(n, "spatial/layer4.0/conv1/w")); /* four times down, no further */
    net_free(&n);
    lesionnet_find_free(&f);
    ok(net_new(b, d, 1, &n));
    ok(lesionnet_build_find(n, LESIONNET_MASKRCNN, "paper", 1, 64, 64, &f));
    must_have(n, "encoder/layer4.2/conv3/w", 2048, 512);
    must_have(n, "fpn/inner5/w", 256, 2048);
    must_have(n, "fpn/layer2/w", 256, 256);
    must_have(n, "rpn/objectness/w", 3, 256);
    must_have(n, "box/hidden1/w", 1024, 256);
    net_free(&n);
    lesionnet_find_free(&f);
}

/* A file of the training's parameters serves both graphs of inference, with none left over; another model's does
 * not. */
static void inference_takes_every_parameter_that_training_made(void **state)
{
    (void)state;
    for (int m = 0; m < LESIONNET_COUNT; m++) {
        lesionnet g;
        lesionnet_find f;
        lesionnet_cut c;
        weights_file *w;
        net *n, *first, *second = NULL;
        int used = 0, more = 0;
        ok(net_new(b, d, 1, &n));
        ok(lesionnet_build_training(n, (lesionnet_model)m, "compact", 1, 64, 64, 1, &g));
        ok(weights_new(lesionnet_name((lesionnet_model)m), "compact", &w));
        ok(netio_save(n, w));
        ok(net_new(b, d, 2, &first));
        ok(lesionnet_build_find(first, (lesionnet_model)m, "compact", 1, 96, 64, &f));
        if (lesionnet_detects((lesionnet_model)m)) {
            ok(net_new(b, d, 2, &second));
            ok(lesionnet_build_cut(second, (lesionnet_model)m, "compact", first, &f, 2, &c));
            ok(netio_take(w, second, 1, &more));
        }
        ok(netio_take(w, first, 1, &used));
        assert_int_equal(used + more, w->param_count);
        net_free(&second);
        net_free(&first);
        net_free(&n);
        lesionnet_find_free(&f);
        lesionnet_free(&g);
        weights_free(&w);
    }
}

static void a_training_starts_from_the_encoders_of_the_model_before_it(void **state)
{
    (void)state;
    static const char *const shared[LESIONNET_COUNT] = {
        [LESIONNET_TEMPORAL] = "spatial/", [LESIONNET_ST] = "temporal/", [LESIONNET_SP] = "spatial/"};
    for (int m = 0; m < LESIONNET_COUNT; m++) {
        int before = lesionnet_starts_from((lesionnet_model)m), expected = 0, taken;
        if (before < 0) continue;
        lesionnet g, h;
        weights_file *w;
        net *n, *next;
        ok(net_new(b, d, 1, &n));
        ok(net_new(b, d, 2, &next));
        ok(lesionnet_build_training(n, (lesionnet_model)before, "compact", 1, 64, 64, 1, &g));
        ok(lesionnet_build_training(next, (lesionnet_model)m, "compact", 1, 64, 64, 1, &h));
        ok(weights_new(lesionnet_name((lesionnet_model)before), "compact", &w));
        ok(netio_save(n, w));
        ok(netio_take(w, next, 0, &taken));
        for (int k = 0; k < net_param_count(next); k++) {
            const char *name = net_param_at(next, k)->name;
            expected += strncmp(name, shared[m], strlen(shared[m])) == 0 || strncmp(name, "spatial/", 8) == 0;
        }
        assert_true(taken == expected && taken > 100);
        net_free(&n);
        net_free(&next);
        lesionnet_free(&g);
        lesionnet_free(&h);
        weights_free(&w);
    }
}

static void every_loss_falls_in_a_few_steps_on_the_same_two_slices(void **state)
{
    (void)state;
    static const int steps[LESIONNET_COUNT] = {
        [LESIONNET_SPATIAL] = 16, [LESIONNET_TEMPORAL] = 16, [LESIONNET_UNET] = 16,
        [LESIONNET_ST] = 8,       [LESIONNET_SP] = 8,        [LESIONNET_MASKRCNN] = 16,
    };
    for (int m = 0; m < LESIONNET_COUNT; m++) {
        float first[LESIONNET_LOSSES], last[LESIONNET_LOSSES];
        training t = training_new((lesionnet_model)m, "compact", 2, 64);
        training_run(&t, steps[m], 2, 3e-3f, first, last);
        for (int k = 0; k < t.g.losses; k++)
            if (!(last[k] < first[k]))
                fail_msg("%s: %s went from %g to %g", lesionnet_name((lesionnet_model)m), t.g.loss_name[k],
                         (double)first[k], (double)last[k]);
        training_free(&t);
    }
}

/* What a training changes, by the first part of the names. */
static int moved(lesionnet_model m, const char *preset, const char *prefix)
{
    float first[LESIONNET_LOSSES], last[LESIONNET_LOSSES];
    training t = training_new(m, preset, 1, 64);
    int count = net_param_count(t.n), found = 0;
    float **before = calloc((size_t)count, sizeof *before);
    for (int k = 0; k < count; k++) {
        size_t n;
        ok(tensor_count(net_param_at(t.n, k)->shape, &n));
        before[k] = malloc(n * sizeof(float));
        ok(net_param_get(t.n, k, before[k]));
    }
    training_run(&t, 2, 2, 1e-2f, first, last);
    for (int k = 0; k < count; k++) {
        const net_param *p = net_param_at(t.n, k);
        size_t n;
        ok(tensor_count(p->shape, &n));
        float *after = malloc(n * sizeof(float));
        ok(net_param_get(t.n, k, after));
        if (strncmp(p->name, prefix, strlen(prefix)) == 0) found += memcmp(before[k], after, n * sizeof(float)) != 0;
        free(after);
        free(before[k]);
    }
    free(before);
    training_free(&t);
    return found;
}

static void frozen_encoders_do_not_move_nor_do_their_statistics(void **state)
{
    (void)state;
    assert_true(moved(LESIONNET_SPATIAL, "compact", "spatial/") > 100);
    assert_int_equal(moved(LESIONNET_TEMPORAL, "compact", "spatial/"), 0);
    assert_true(moved(LESIONNET_TEMPORAL, "compact", "temporal/") > 100);
    assert_int_equal(moved(LESIONNET_ST, "compact", "spatial/") + moved(LESIONNET_ST, "compact", "temporal/"), 0);
    assert_true(moved(LESIONNET_ST, "compact", "detector/") > 10);
}

/* Trained by the loss of its last features alone an encoder moves, and no decoder does. */
static void a_resolvers_last_features_have_a_loss_of_their_own(void **state)
{
    (void)state;
    for (int m = LESIONNET_SPATIAL; m <= LESIONNET_TEMPORAL; m++) {
        training t = training_new((lesionnet_model)m, "compact", 1, 64);
        char prefix[32];
        int deep = 0, encoder = 0, decoder = 0;
        for (int k = 0; k < t.g.losses; k++) {
            int own = strncmp(t.g.loss_name[k], "deep ", 5) == 0;
            deep += own;
            t.g.weight[k] = own ? 1.0f : 0.0f;
        }
        assert_int_equal(deep, 2);
        ok(net_compile(t.n, NET_TRAIN, NET_FP32, t.g.loss, t.g.weight, t.g.losses));
        batch_draw(&t.samples, 0, 1, 2);
        batch_give(t.n, &t.g, &t.samples);
        ok(net_forward(t.n));
        ok(net_backward(t.n));
        snprintf(prefix, sizeof prefix, "%s/decoder", lesionnet_name((lesionnet_model)m));
        for (int k = 0; k < net_param_count(t.n); k++) {
            const net_param *p = net_param_at(t.n, k);
            size_t count;
            int moves = 0;
            if (p->frozen) continue;
            ok(tensor_count(p->shape, &count));
            for (size_t i = 0; i < count; i++) moves |= ((const float *)p->grad)[i] != 0;
            if (strncmp(p->name, prefix, strlen(prefix)) == 0) decoder += moves;
            else encoder += moves;
        }
        assert_true(encoder > 50 && decoder == 0);
        training_free(&t);
    }
}

static void tuned_encoders_move_with_the_detector_and_the_period_keeps_its_loss(void **state)
{
    (void)state;
    assert_true(moved(LESIONNET_ST, "compact-tuned", "spatial/") > 100);
    training t = training_new(LESIONNET_ST, "compact-tuned", 1, 64);
    assert_string_equal(t.g.loss_name[t.g.losses - 1], "period");
    training_free(&t);
}

static void a_slice_without_lesion_costs_nothing_but_false_alarms(void **state)
{
    (void)state;
    static const lesionnet_model models[] = {LESIONNET_SP, LESIONNET_MASKRCNN};
    for (int m = 0; m < 2; m++) {
        training t = training_new(models[m], "compact", 2, 64);
        for (int64_t i = 0; i < 2; i++) batch_draw(&t.samples, i, (uint64_t)i, 0);
        batch_give(t.n, &t.g, &t.samples);
        ok(net_forward(t.n));
        ok(net_backward(t.n));
        for (int k = 0; k < t.g.losses; k++) {
            float v;
            ok(net_get(t.n, t.g.loss[k], &v));
            int alarms = strcmp(t.g.loss_name[k], "objectness") == 0 || strcmp(t.g.loss_name[k], "class") == 0;
            assert_int_equal(v > 0.0f, alarms);
        }
        const net_param *masks = param(t.n, "mask/head/w"), *boxes = param(t.n, "box/delta/w");
        size_t n;
        ok(tensor_count(masks->shape, &n));
        for (size_t i = 0; i < n; i++) assert_true(masks->grad[i] == 0.0f);
        ok(tensor_count(boxes->shape, &n));
        for (size_t i = 0; i < n; i++) assert_true(boxes->grad[i] == 0.0f);
        training_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model_of_both_presets_gives_outputs_of_its_inputs_size),
        cmocka_unit_test(the_paper_preset_has_the_papers_widths),
        cmocka_unit_test(inference_takes_every_parameter_that_training_made),
        cmocka_unit_test(a_training_starts_from_the_encoders_of_the_model_before_it),
        cmocka_unit_test(every_loss_falls_in_a_few_steps_on_the_same_two_slices),
        cmocka_unit_test(frozen_encoders_do_not_move_nor_do_their_statistics),
        cmocka_unit_test(a_resolvers_last_features_have_a_loss_of_their_own),
        cmocka_unit_test(tuned_encoders_move_with_the_detector_and_the_period_keeps_its_loss),
        cmocka_unit_test(a_slice_without_lesion_costs_nothing_but_false_alarms),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
