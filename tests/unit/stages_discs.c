/* The chain from the spatial resolver to the detector, trained for seconds on synthetic discs, finds discs. */
#include "tests/unit/lesion_fixture.h"

#include "kernels/box.h"
#include "stages/netio.h"

/* Best IoU of a slice's lesion with what is found on it with a score of 0.3 or more; *false_alarms: found without any
 * overlap. */
static float best_iou(net *n, const lesionnet_find *f, const batch *t, const lesionnet_spec *spec, int *false_alarms)
{
    box truth = {t->boxes[0], t->boxes[1], t->boxes[2], t->boxes[3]};
    float *found = malloc((size_t)spec->found * RCNN_FOUND * sizeof *found), best = 0;
    ok(net_set_input(n, f->image, t->image));
    ok(net_forward(n));
    ok(net_get(n, f->found, found));
    for (int64_t k = 0; k < spec->found; k++) {
        const float *row = found + k * RCNN_FOUND;
        box at = {row[0], row[1], row[2], row[3]};
        if (!(box_area(at) > 0) || row[4] < 0.3f) continue;
        float iou = box_iou(at, truth);
        best = iou > best ? iou : best;
        *false_alarms += iou == 0.0f;
    }
    free(found);
    return best;
}

static void after_the_spatial_resolver_the_detector_finds_discs_and_nothing_else(void **state)
{
    (void)state;
    enum { SIDE = 96, SLICES = 30 };
    float first[LESIONNET_LOSSES], last[LESIONNET_LOSSES];
    const lesionnet_spec *spec;
    lesionnet_find f;
    weights_file *w, *v;
    net *n;
    int found = 0, false_alarms = 0;
    ok(lesionnet_preset("compact", &spec));
    training spatial = training_new(LESIONNET_SPATIAL, "compact", 2, SIDE),
             t = training_new(LESIONNET_SP, "compact", 2, SIDE);
    training_run(&spatial, 100, 200, 3e-3f, first, last);
    ok(weights_new("spatial", "compact", &w));
    ok(netio_save(spatial.n, w));
    ok(netio_take(w, t.n, 0, NULL));
    training_run(&t, 120, 240, 3e-3f, first, last);
    ok(weights_new("sp", "compact", &v));
    ok(netio_save(t.n, v));
    ok(net_new(b, d, 1, &n));
    ok(lesionnet_build_find(n, LESIONNET_SP, "compact", 1, SIDE, SIDE, &f));
    ok(netio_take(v, n, 1, NULL));
    ok(net_compile(n, NET_INFER, NET_FP32, NULL, NULL, 0));
    batch one = batch_new(1, SIDE);
    for (int k = 0; k < SLICES; k++) {
        batch_draw(&one, 0, 1000000 + (uint64_t)k, k % 3 != 0);
        found += best_iou(n, &f, &one, spec, &false_alarms) > 0.5f;
    }
    print_message("found %d of 20 discs, %d false alarms on 30 slices\n", found, false_alarms);
    assert_true(found >= 13);
    assert_true(false_alarms <= 6);
    batch_free(&one);
    net_free(&n);
    lesionnet_find_free(&f);
    training_free(&spatial);
    training_free(&t);
    weights_free(&w);
    weights_free(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_the_spatial_resolver_the_detector_finds_discs_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
