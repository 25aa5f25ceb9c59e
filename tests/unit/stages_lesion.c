/* stages/lesion over a phantom with networks of random weights: what is found does not depend on how the study is gone
 * through. */
#include "stages/lesion.h"

#include "stages/netio.h"
#include "stages/phantom.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { N = 96, Z = 4 };
static const backend *b;
static phantom *p;
static uint8_t *lung; /* slice 0 has none */
static char folder[] = "/tmp/stages_lesion_XXXXXX";

static void ok(status s)
{
    if (s != COV_OK) fail_msg("%s", status_message());
}

static const char *path_of(lesionnet_model m)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/%s.h5", folder, lesionnet_name(m));
    return path;
}

/* A weights file of model m with random parameters; the class head's are large, so that scores differ. */
static void make_weights(lesionnet_model m)
{
    device *d;
    net *n;
    lesionnet g;
    weights_file *w;
    ok(b->open(&(device_options){.threads = 1}, &d));
    ok(net_new(b, d, 9, &n));
    ok(lesionnet_build_training(n, m, "compact", 1, 64, 64, 1, &g));
    ok(weights_new(lesionnet_name(m), "compact", &w));
    ok(netio_save(n, w));
    ok(weights_put_text(w, LESION_SCORE_THRESHOLD, "0.25"));
    ok(weights_save(path_of(m), w));
    weights_free(&w);
    net_free(&n);
    lesionnet_free(&g);
    b->close(&d);
}

static int make_study(void **state)
{
    (void)state;
    phantom_options o = {.seed = 5, .nx = N, .ny = N, .nz = Z, .spacing_mm = {3.5, 3.5, 40}, .lesions = 3};
    if (backend_find("cpu", &b) != COV_OK || phantom_new(&o, &p) != COV_OK || !mkdtemp(folder)) return 1;
    lung = malloc(N * N * Z);
    for (int i = 0; i < N * N * Z; i++) lung[i] = i < N * N ? 0 : p->lung[i];
    for (int m = 0; m < LESIONNET_COUNT; m++) make_weights((lesionnet_model)m);
    return 0;
}

static int drop_study(void **state)
{
    (void)state;
    for (int m = 0; m < LESIONNET_COUNT; m++) unlink(path_of((lesionnet_model)m));
    rmdir(folder);
    free(lung);
    phantom_free(&p);
    return 0;
}

static volume study(void)
{
    volume v = {.hu = p->hu};
    v.head.nx = v.head.ny = N;
    v.head.nz = Z;
    return v;
}

/* Everything that model m finds with `threads`, slices `split` .. Z-1 first and then the rest. */
static findings *run(lesionnet_model m, int threads, int64_t split, const lesion_options *o, const uint8_t *mask)
{
    device *d;
    lesion *l;
    findings *f;
    volume v = study();
    ok(b->open(&(device_options){.threads = threads}, &d));
    ok(lesion_open(b, d, NET_FP32, path_of(m), &l));
    assert_int_equal(lesion_model(l), m);
    assert_true(lesion_score_threshold(l) == 0.25f);
    ok(findings_new(Z, &f));
    if (split < Z) ok(lesion_run(l, o, &v.head, v.hu, mask, split, Z, f));
    ok(lesion_run(l, o, &v.head, v.hu, mask, 0, split, f));
    findings_sort(f);
    lesion_close(&l);
    b->close(&d);
    return f;
}

static void must_agree(const findings *f, const findings *g)
{
    assert_int_equal(f->count, g->count);
    for (int64_t k = 0; k < f->count; k++) {
        const finding *a = &f->at[k], *c = &g->at[k];
        assert_true(a->z == c->z && a->y0 == c->y0 && a->x0 == c->x0 && a->y1 == c->y1 && a->x1 == c->x1 &&
                    a->area_px == c->area_px);
        assert_memory_equal(&a->score, &c->score, sizeof a->score);
        assert_memory_equal(a->mask, c->mask, (size_t)(a->y1 - a->y0) * (size_t)(a->x1 - a->x0));
    }
    assert_memory_equal(f->period, g->period, Z * sizeof *f->period);
}

static void findings_do_not_depend_on_ranges_or_threads(void **state)
{
    (void)state;
    static const lesionnet_model models[] = {LESIONNET_ST, LESIONNET_MASKRCNN, LESIONNET_UNET};
    lesion_options o = lesion_defaults();
    o.score_least = 0;
    for (int m = 0; m < 3; m++) {
        findings *whole = run(models[m], 1, Z, &o, lung), *parts = run(models[m], 1, 2, &o, lung),
                 *two = run(models[m], 2, Z, &o, lung);
        assert_true(whole->count > 0);
        must_agree(whole, parts);
        must_agree(whole, two);
        findings_free(&whole);
        findings_free(&parts);
        findings_free(&two);
    }
}

static void masks_stay_inside_the_lung_and_slices_without_lung_are_not_looked_at(void **state)
{
    (void)state;
    static const lesionnet_model models[] = {LESIONNET_ST, LESIONNET_UNET};
    lesion_options o = lesion_defaults();
    o.score_least = 0;
    for (int m = 0; m < 2; m++) {
        findings *f = run(models[m], 1, Z, &o, lung);
        for (int64_t k = 0; k < f->count; k++) {
            const finding *a = &f->at[k];
            assert_true(a->z > 0 && a->y0 >= 0 && a->x0 >= 0 && a->y1 <= N && a->x1 <= N && a->score >= 0 &&
                        a->score <= 1);
            for (int64_t y = a->y0; y < a->y1; y++)
                for (int64_t x = a->x0; x < a->x1; x++)
                    if (a->mask[(y - a->y0) * (a->x1 - a->x0) + x - a->x0])
                        assert_true(lung[(a->z * N + y) * N + x] != 0);
        }
        for (int64_t z = 0; z < Z; z++)
            for (int c = 0; c < FINDING_PERIODS; c++)
                assert_int_equal(isnan(f->period[z][c]), z == 0 || !lesionnet_has_period(models[m]));
        findings_free(&f);
    }
}

static void the_score_threshold_of_the_file_is_the_default_and_an_option_wins(void **state)
{
    (void)state;
    lesion_options all = lesion_defaults(), own = all, none = all;
    all.score_least = 0;
    none.score_least = 1.1f;
    findings *f = run(LESIONNET_SP, 1, Z, &all, lung), *g = run(LESIONNET_SP, 1, Z, &own, lung),
             *h = run(LESIONNET_SP, 1, Z, &none, lung);
    assert_true(f->count > 0);
    assert_int_equal(h->count, 0);
    for (int64_t k = 0; k < g->count; k++) assert_true(g->at[k].score >= 0.25f);
    findings_free(&f);
    findings_free(&g);
    findings_free(&h);
}

/* Isolated slices have no neighbours: what lies above and below changes nothing, and without a mask every slice is
 * looked at. */
static void isolated_slices_are_seen_by_themselves(void **state)
{
    (void)state;
    lesion_options o = lesion_defaults();
    o.score_least = 0;
    o.isolated = 1;
    findings *f = run(LESIONNET_TEMPORAL, 1, Z, &o, NULL);
    int16_t kept[N];
    memcpy(kept, p->hu + 2 * N * N, sizeof kept);
    for (int i = 0; i < N; i++) p->hu[2 * N * N + i] = 100;
    findings *g = run(LESIONNET_TEMPORAL, 1, Z, &o, NULL);
    memcpy(p->hu + 2 * N * N, kept, sizeof kept);
    for (int64_t z = 0; z < Z; z++) {
        assert_false(isnan(f->period[z][0]));
        assert_int_equal(memcmp(f->period[z], g->period[z], sizeof f->period[z]) != 0, z == 2);
    }
    findings_free(&f);
    findings_free(&g);
}

static void another_models_weights_and_damaged_ones_are_refused_by_name(void **state)
{
    (void)state;
    device *d;
    lesion *l;
    weights_file *w;
    float one = 1;
    ok(b->open(&(device_options){.threads = 1}, &d));
    ok(weights_load(path_of(LESIONNET_SP), &w));
    ok(weights_put_param(w, "left/over", (int64_t[]){1, 1, 1, 1}, &one));
    ok(weights_save(path_of(LESIONNET_SP), w));
    assert_int_equal(lesion_open(b, d, NET_FP32, path_of(LESIONNET_SP), &l), COV_FORMAT);
    assert_null(l);
    weights_free(&w);
    ok(weights_new("lung-axial", "compact", &w));
    ok(weights_put_param(w, "left/over", (int64_t[]){1, 1, 1, 1}, &one));
    ok(weights_save(path_of(LESIONNET_SP), w));
    assert_int_equal(lesion_open(b, d, NET_FP32, path_of(LESIONNET_SP), &l), COV_USAGE);
    assert_non_null(strstr(status_message(), "lung-axial"));
    weights_free(&w);
    b->close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(findings_do_not_depend_on_ranges_or_threads),
        cmocka_unit_test(masks_stay_inside_the_lung_and_slices_without_lung_are_not_looked_at),
        cmocka_unit_test(the_score_threshold_of_the_file_is_the_default_and_an_option_wins),
        cmocka_unit_test(isolated_slices_are_seen_by_themselves),
        cmocka_unit_test(another_models_weights_and_damaged_ones_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, make_study, drop_study);
}
