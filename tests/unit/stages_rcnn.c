/* Steps of rcnn on hand-made samples: what is proposed and found, which anchors and regions are drawn, and from what the
 * draw depends. */
#include "stages/rcnn_steps.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { SIDE = 128, CELLS = SIDE / 16, ROOM = 8 /* rows of boxes */, PROPOSALS = 20, REGIONS = 16, MASKS = 6, BINS = 8 };

static const backend *b;
static device *d;
static net *n;
static rcnn *r;
static net_t map;

static int open_all(void **state)
{
    (void)state;
    rcnn_options o = {.hidden = 8,
                      .candidates = 64,
                      .proposals = PROPOSALS,
                      .anchors = 64,
                      .regions = REGIONS,
                      .masks = MASKS,
                      .mask_size = BINS,
                      .seed = 3};
    rcnn_level level = {0, {.stride = 16, .sizes = 3, .ratios = 1, .size = {8, 32, 64}, .ratio = {1}}};
    if (backend_find("ref", &b) != COV_OK || b->open(&(device_options){.threads = 1}, &d) != COV_OK ||
        net_new(b, d, 1, &n) != COV_OK)
        return 1;
    level.map = map = net_input(n, "map", tensor_shape_of(2, CELLS, CELLS, 4, TENSOR_F32));
    return rcnn_new(n, &o, &level, 1, SIDE, SIDE, &r) != COV_OK;
}

static int close_all(void **state)
{
    (void)state;
    rcnn_free(&r);
    net_free(&n);
    b->close(&d);
    return 0;
}

static tensor floats(int64_t count, int64_t h, int64_t w, int64_t c)
{
    return (tensor){.shape = tensor_shape_of(count, h, w, c, TENSOR_F32),
                    .data = calloc((size_t)(count * h * w * c), 4)};
}

/* Image, boxes and target of two samples: one lesion of 30 x 24 pixels in the first, nothing in the second. */
typedef struct sample { tensor image, boxes, target, proposals; } sample;
static const box lesion = {40, 50, 70, 74};

static void put_lesion(sample *s, int64_t i)
{
    float *row = (float *)s->boxes.data + i * ROOM * RCNN_TRUTH;
    memcpy(row, &lesion, sizeof lesion);
    row[4] = 1;
    for (int64_t y = 40; y < 70; y++)
        for (int64_t x = 50; x < 74; x++) ((float *)s->target.data)[(i * SIDE + y) * SIDE + x] = 1;
}

static sample sample_new(int with_lesion)
{
    sample s = {floats(2, SIDE, SIDE, 3), floats(2, ROOM, 1, RCNN_TRUTH), floats(2, SIDE, SIDE, 1),
                floats(2, PROPOSALS, 1, 4)};
    for (int i = 0; i < 2 * SIDE * SIDE * 3; i++) ((float *)s.image.data)[i] = (float)((i * 7919) % 1000) / 1000;
    if (with_lesion) put_lesion(&s, 0);
    for (int k = 0; k < 2 * PROPOSALS; k++) {
        float y = (float)(k % PROPOSALS * 4), x = (float)(k % PROPOSALS % 7 * 12);
        ((box *)s.proposals.data)[k] = (box){y, x, y + 20, x + 20};
    }
    return s;
}

static void sample_free(sample *s)
{
    free(s->image.data);
    free(s->boxes.data);
    free(s->target.data);
    free(s->proposals.data);
}

typedef struct outputs { tensor y[7]; int count; } outputs;

static outputs anchors_of(const sample *s)
{
    int64_t rows = CELLS * CELLS;
    outputs o = {{floats(2, rows, 1, 3), floats(2, rows, 1, 3), floats(2, rows, 1, 12), floats(2, rows, 1, 12)}, 4};
    assert_int_equal(rcnn_anchor_step(r, (tensor[]){s->image, s->boxes, s->target}, 3, o.y, 4), COV_OK);
    return o;
}

static outputs regions_of(const sample *s)
{
    outputs o = {{floats(2, REGIONS, 1, 4), floats(2 * REGIONS, 1, 1, 1), floats(2 * REGIONS, 1, 1, 4),
                  floats(2 * REGIONS, 1, 1, 4), floats(2, MASKS, 1, 4), floats(2 * MASKS, BINS, BINS, 1),
                  floats(2 * MASKS, BINS, BINS, 1)},
                 7};
    assert_int_equal(rcnn_region_step(r, (tensor[]){s->proposals, s->image, s->boxes, s->target}, 4, o.y, 7),
                     COV_OK);
    return o;
}

static void outputs_free(outputs *o)
{
    for (int k = 0; k < o->count; k++) free(o->y[k].data);
}

static size_t bytes_of_half(tensor t) { return (size_t)(t.shape.n * t.shape.h * t.shape.w * t.shape.c / 2) * 4; }

/* Of what lies in the picture. */
static float lesion_share(box in)
{
    box at = box_clip(in, SIDE, SIDE);
    float y0 = fmaxf(at.y0, lesion.y0), x0 = fmaxf(at.x0, lesion.x0), y1 = fminf(at.y1, lesion.y1), x1 = fminf(at.x1, lesion.x1);
    return y1 > y0 && x1 > x0 && box_area(at) > 0 ? (y1 - y0) * (x1 - x0) / box_area(at) : 0.0f;
}

static void anchors_are_drawn_up_to_their_number_and_the_best_one_is_positive(void **state)
{
    (void)state;
    sample s = sample_new(1);
    outputs o = anchors_of(&s);
    int64_t per = r->total;
    for (int i = 0; i < 2; i++) {
        const float *target = (const float *)o.y[0].data + i * per, *weight = (const float *)o.y[1].data + i * per;
        int drawn = 0, positive = 0;
        for (int64_t a = 0; a < per; a++) {
            drawn += weight[a] == 1.0f;
            positive += target[a] == 1.0f;
            if (target[a] == 1.0f) assert_true(weight[a] == 1.0f && box_iou(r->anchor[a], lesion) > 0.2f);
            else if (weight[a] == 1.0f && i == 0)
                assert_true(box_iou(r->anchor[a], lesion) < 0.3f && lesion_share(r->anchor[a]) < 0.12f);
        }
        assert_int_equal(drawn, 64);
        assert_int_equal(positive > 0, i == 0);
    }
    outputs_free(&o);
    sample_free(&s);
}

static void deltas_of_positive_anchors_lead_to_the_lesion(void **state)
{
    (void)state;
    static const float ones[4] = {1, 1, 1, 1};
    sample s = sample_new(1);
    outputs o = anchors_of(&s);
    for (int64_t a = 0; a < r->total; a++) {
        const float *delta = (const float *)o.y[2].data + 4 * a, *weight = (const float *)o.y[3].data + 4 * a;
        assert_true((weight[0] == 1.0f) == (((const float *)o.y[0].data)[a] == 1.0f));
        if (weight[0] == 1.0f) assert_true(box_iou(box_decode(r->anchor[a], delta, ones), lesion) > 0.999f);
    }
    outputs_free(&o);
    sample_free(&s);
}

static void regions_hold_the_lesion_itself_a_quarter_of_lesions_at_most_and_background_without_lesion(void **state)
{
    (void)state;
    sample s = sample_new(1);
    outputs o = regions_of(&s);
    const box *roi = o.y[0].data, *mask_roi = o.y[4].data;
    const int32_t *label = o.y[1].data;
    int positive = 0;
    for (int k = 0; k < REGIONS; k++) {
        const float *delta = (const float *)o.y[2].data + 4 * k;
        positive += label[k] == 1;
        if (label[k] >= 0) assert_int_equal(label[k], box_iou(roi[k], lesion) >= 0.5f);
        if (label[k] == 0) assert_true(lesion_share(roi[k]) < 0.12f); /* rectangles count whole pixels */
        if (label[k] == 1) assert_true(box_iou(box_decode(roi[k], delta, rcnn_box_weight), lesion) > 0.999f);
        assert_true(((const float *)o.y[3].data)[4 * k] == (label[k] == 1 ? 1.0f : 0.0f));
    }
    assert_int_equal(positive, REGIONS / 4);
    for (int k = 0; k < MASKS; k++) { /* the mask of a region is the lesion's part of it */
        const float *mask = (const float *)o.y[5].data + k * BINS * BINS,
                    *weight = (const float *)o.y[6].data + k * BINS * BINS;
        float area = 0;
        assert_true(box_area(mask_roi[k]) > 0 && weight[0] == (k < positive ? 1.0f : 0.0f));
        if (k >= positive) continue;
        for (int i = 0; i < BINS * BINS; i++) area += mask[i];
        box common = box_clip(mask_roi[k], 70, 74);
        common.y0 = common.y0 < 40 ? 40 : common.y0;
        common.x0 = common.x0 < 50 ? 50 : common.x0;
        assert_true(fabsf(area / (BINS * BINS) - box_area(common) / box_area(mask_roi[k])) < 0.13f);
    }
    outputs_free(&o);
    sample_free(&s);
}

static void without_a_lesion_there_are_negatives_alone(void **state)
{
    (void)state;
    sample s = sample_new(0);
    outputs o = regions_of(&s);
    for (int k = 0; k < 2 * REGIONS; k++) assert_int_equal(((const int32_t *)o.y[1].data)[k], 0);
    for (int i = 0; i < 2 * REGIONS * 4; i++) assert_true(((const float *)o.y[3].data)[i] == 0.0f);
    for (int i = 0; i < 2 * MASKS * BINS * BINS; i++) assert_true(((const float *)o.y[6].data)[i] == 0.0f);
    for (int k = 0; k < 2 * MASKS; k++)
        assert_true(box_area(((const box *)o.y[4].data)[k]) > 0); /* features for the norms, not zeros */
    outputs_free(&o);
    sample_free(&s);
}

/* The same sample first or second in the batch, today or tomorrow: the same draw. Another image: another one. */
static void a_draw_depends_on_the_sample_alone(void **state)
{
    (void)state;
    sample s = sample_new(1), t = sample_new(0);
    size_t image = bytes_of_half(s.image), plane = bytes_of_half(s.target);
    put_lesion(&t, 1);
    memcpy((char *)t.image.data + image, s.image.data, image);
    memcpy(t.image.data, (char *)s.image.data + image, image);
    assert_memory_equal((char *)t.target.data + plane, s.target.data, plane);
    outputs a = anchors_of(&s), c = anchors_of(&t), again = anchors_of(&s), e = regions_of(&s), f = regions_of(&t);
    for (int k = 0; k < 4; k++) {
        size_t half = bytes_of_half(a.y[k]);
        assert_memory_equal(a.y[k].data, (char *)c.y[k].data + half, half);
        assert_memory_equal((char *)a.y[k].data + half, c.y[k].data, half);
        assert_memory_equal(a.y[k].data, again.y[k].data, 2 * half);
    }
    for (int k = 0; k < 7; k++)
        assert_memory_equal(e.y[k].data, (char *)f.y[k].data + bytes_of_half(e.y[k]), bytes_of_half(e.y[k]));
    ((float *)s.image.data)[0] += 0.25f;
    outputs other = anchors_of(&s);
    assert_memory_not_equal(other.y[1].data, a.y[1].data, bytes_of_half(a.y[1]));
    outputs_free(&a);
    outputs_free(&c);
    outputs_free(&again);
    outputs_free(&e);
    outputs_free(&f);
    outputs_free(&other);
    sample_free(&s);
    sample_free(&t);
}

static void threads_change_nothing(void **state)
{
    (void)state;
    sample s = sample_new(1);
    outputs one = anchors_of(&s), few = regions_of(&s);
    r->threads = 3;
    outputs many = anchors_of(&s), more = regions_of(&s);
    r->threads = 1;
    for (int k = 0; k < one.count; k++) assert_memory_equal(one.y[k].data, many.y[k].data, 2 * bytes_of_half(one.y[k]));
    for (int k = 0; k < few.count; k++) assert_memory_equal(few.y[k].data, more.y[k].data, 2 * bytes_of_half(few.y[k]));
    outputs_free(&one);
    outputs_free(&few);
    outputs_free(&many);
    outputs_free(&more);
    sample_free(&s);
}

/* Two levels, of 16 and 32 pixels; each image's scores fall from -5 on, but for three anchors. */
static void proposals_come_best_first_thinned_and_clipped_and_what_is_found_is_moved_from_them(void **state)
{
    (void)state;
    enum { ROWS = CELLS * CELLS * 5 / 4, FOUND = 4 };
    const rcnn_options o = {.hidden = 8, .candidates = 64, .proposals = PROPOSALS, .found = FOUND, .anchors = 64,
                            .regions = REGIONS, .masks = MASKS, .mask_size = BINS};
    rcnn_level level[2] = {{0, {.stride = 16, .sizes = 3, .ratios = 1, .size = {8, 32, 64}, .ratio = {1}}},
                           {0, {.stride = 32, .sizes = 3, .ratios = 1, .size = {16, 48, 100}, .ratio = {1}}}};
    const int64_t best = 3 * 27 + 1, second = 3 * 0 + 2, coarse = 3 * (CELLS * CELLS + 15) + 1;
    tensor x[2] = {floats(2, ROWS, 1, 3), floats(2, ROWS, 1, 12)};
    tensor logits = floats(2 * PROPOSALS, 1, 1, 2), delta = floats(2 * PROPOSALS, 1, 1, 4);
    float out[2][PROPOSALS][4], found[2][FOUND][RCNN_FOUND];
    net *m;
    rcnn *q;
    assert_int_equal(net_new(b, d, 1, &m), COV_OK);
    for (int k = 0; k < 2; k++)
        level[k].map = net_input(m, k ? "coarse" : "fine", tensor_shape_of(2, CELLS >> k, CELLS >> k, 4, TENSOR_F32));
    assert_int_equal(rcnn_new(m, &o, level, 2, SIDE, SIDE, &q), COV_OK);
    rcnn_rows rows = {net_input(m, "objectness", x[0].shape), net_input(m, "delta", x[1].shape)};
    net_t rois = net_output(m, "rois", rcnn_propose(m, q, rows));
    net_t l = net_input(m, "logits", logits.shape), t = net_input(m, "moves", delta.shape);
    net_t y = net_output(m, "found", rcnn_find(m, q, rois, l, t));
    assert_int_equal(net_compile(m, NET_INFER, NET_FP32, NULL, NULL, 0), COV_OK);
    for (int64_t i = 0; i < 2 * q->total; i++) ((float *)x[0].data)[i] = -5 - (float)(i % q->total) * 1e-3f;
    ((float *)x[0].data)[best] = 4;
    ((float *)x[0].data)[second] = 3;  /* a 64-pixel anchor over the corner */
    ((float *)x[0].data)[coarse] = 2;
    ((float *)x[1].data)[4 * best] = 0.25f; /* a quarter of its height down */
    for (int k = 0; k < PROPOSALS; k++) ((float *)logits.data)[2 * k + 1] = k == 2 ? 1 : -2 - (float)k;
    ((float *)delta.data)[4 * 2 + 1] = -10 * 0.5f; /* half its width to the left */
    assert_int_equal(net_set_input(m, rows.objectness, x[0].data), COV_OK);
    assert_int_equal(net_set_input(m, rows.delta, x[1].data), COV_OK);
    assert_int_equal(net_set_input(m, l, logits.data), COV_OK);
    assert_int_equal(net_set_input(m, t, delta.data), COV_OK);
    assert_int_equal(net_forward(m), COV_OK);
    assert_int_equal(net_get(m, rois, out), COV_OK);
    assert_int_equal(net_get(m, y, found), COV_OK);
    box a = q->anchor[best], c = q->anchor[coarse];
    assert_true(fabsf(out[0][0][0] - a.y0 - 8) < 1e-4f && fabsf(out[0][0][3] - a.x1) < 1e-4f);
    assert_true(out[0][1][0] == 0 && out[0][1][1] == 0 && fabsf(out[0][1][2] - 40) < 1e-4f);
    assert_true(fabsf(out[0][2][0] - c.y0) < 1e-4f && fabsf(out[0][2][1] - c.x0) < 1e-4f && out[0][2][2] == SIDE);
    assert_true(fabsf(found[0][0][1] - (out[0][2][1] - 0.5f * (out[0][2][3] - out[0][2][1]))) < 1e-3f);
    assert_true(fabsf(found[0][0][4] - 1 / (1 + expf(-1))) < 1e-5f && fabsf(found[0][1][4] - 1 / (1 + expf(2))) < 1e-5f);
    assert_true(fabsf(found[0][1][0] - out[0][0][0]) < 1e-4f);
    free(x[0].data), free(x[1].data), free(logits.data), free(delta.data);
    net_free(&m);
    rcnn_free(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(anchors_are_drawn_up_to_their_number_and_the_best_one_is_positive),
        cmocka_unit_test(deltas_of_positive_anchors_lead_to_the_lesion),
        cmocka_unit_test(regions_hold_the_lesion_itself_a_quarter_of_lesions_at_most_and_background_without_lesion),
        cmocka_unit_test(without_a_lesion_there_are_negatives_alone),
        cmocka_unit_test(a_draw_depends_on_the_sample_alone),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(proposals_come_best_first_thinned_and_clipped_and_what_is_found_is_moved_from_them),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
