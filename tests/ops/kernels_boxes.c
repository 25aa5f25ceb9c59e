/* The functions of the backend table that work on the boxes of a detector: on every backend, against ref, between guards:
 * few and many places, levels that are empty or smaller than what is asked for, ties, NaN and infinite scores, both types. Where
 * sizes change by an exponential, places are few: another library's last bit could move an overlap across its limit. */
#include "op_variant.h"

#include <math.h>

typedef struct choice_case {
    int levels, wide, high, sizes, ratios; /* of the finest level; each next is half of it */
    int candidates, most, images;
    float iou, inside;
    int grows, scored, step; /* deltas change sizes */
} choice_case;

static const choice_case choices[] = {
    {1, 3, 2, 1, 1, 1, 1, 1, 0.7f, 1, 1, 0, 1},
    {1, 5, 4, 3, 2, 400, 50, 3, 0.7f, 1, 1, 1, 1},
    {1, 7, 9, 2, 3, 60, 1000, 2, 0.3f, 0.7f, 1, 1, 3},
    {1, 61, 40, 3, 3, 1000, 1000, 2, 0.7f, 1, 0, 0, 1},
    {1, 60, 60, 1, 3, 1024, 1024, 1, 0.9f, 0.95f, 0, 1, 2},
    {3, 8, 8, 2, 1, 40, 30, 2, 0.5f, 0.5f, 1, 1, 1},
    {5, 64, 48, 1, 3, 1000, 1000, 2, 0.7f, 1, 0, 0, 1},
    {5, 8, 5, 1, 3, 100, 17, 3, 0, 1, 0, 1, 1}, /* the last levels are empty */
};
enum { CHOICES = sizeof choices / sizeof choices[0] };
static const float one[4] = {1, 1, 1, 1}, box_weight[4] = {10, 10, 5, 5};

static boxes_choice choice_of(const choice_case *c, int given)
{
    boxes_choice b = {.levels = given ? 1 : c->levels, .candidates = c->candidates, .most = c->most, .height = (float)(8 * c->high),
                      .width = (float)(8 * c->wide - 3), .side = 1, .iou = c->iou, .inside = c->inside, .score_step = c->step,
                      .score_first = c->step - 1, .scored = c->scored};
    memcpy(b.weight, given ? box_weight : one, sizeof b.weight);
    for (int k = 0; k < b.levels; k++) {
        b.anchors[k] = (box_anchors){.stride = 8 << k, .sizes = c->sizes, .ratios = c->ratios, .ratio = {1, 0.5f, 2},
                                     .size = {(float)(12 << k), (float)(33 << k), (float)(5 << k)}};
        b.wide[k] = c->wide >> k > 0 ? c->wide >> k : 1;
        b.first[k + 1] = b.first[k] + (int64_t)(c->wide >> k) * (c->high >> k) * c->sizes * c->ratios;
    }
    return b;
}

/* Scores with ties, zeros of both signs and what is no number; deltas; boxes, some of them empty. */
static void fill_scores(float *v, size_t n, uint64_t *seed)
{
    for (size_t i = 0; i < n; i++) {
        float x = 8 * draw(seed);
        v[i] = i % 3 == 0 ? (float)(int)x : x;
        if (i % 41 == 7) v[i] = -0.0f;
        if (i % 97 == 5) v[i] = NAN;
        if (i % 101 == 3) v[i] = i % 2 ? INFINITY : -INFINITY;
    }
}

static void fill_deltas(float *v, size_t n, int grows, float weight, uint64_t *seed)
{
    for (size_t i = 0; i < n; i++) v[i] = i % 4 < 2 ? 0.4f * weight * draw(seed) : grows ? weight * draw(seed) : 0;
}

static void fill_boxes(float *v, size_t boxes, const boxes_choice *c, uint64_t *seed)
{
    for (size_t i = 0; i < boxes; i++, v += 4) {
        v[0] = c->height * (0.4f + 0.5f * draw(seed));
        v[1] = c->width * (0.4f + 0.5f * draw(seed));
        v[2] = v[0] + (i % 5 == 4 ? 0 : 12 + 10 * draw(seed));
        v[3] = v[1] + 12 + 10 * draw(seed);
    }
}

static void *as_type(tensor_type type, const float *v, size_t n)
{
    void *bytes = must_alloc(n * 4 + 4);
    for (size_t i = 0; i < n; i++) {
        if (type == TENSOR_BF16) ((uint16_t *)bytes)[i] = tensor_bf16_from_f32(v[i]);
        else ((float *)bytes)[i] = v[i];
    }
    return bytes;
}

/* What a backend makes of the case: floats, freed by the caller. */
static float *select_on(const variant *at, const boxes_choice *c, int64_t images, tensor_type type, const float *score, const float *delta,
                        const float *from)
{
    size_t places = (size_t)(images * c->first[c->levels]), width = type == TENSOR_BF16 ? 2 : 4, scores = places * (size_t)c->score_step;
    size_t bytes = (size_t)(images * c->most * (c->scored ? 5 : 4)) * sizeof(float);
    void *s = as_type(type, score, scores), *d = as_type(type, delta, 4 * places), *start = must_alloc(bytes);
    memset(start, 0x7F, bytes);
    char *on_s = guarded(at, s, scores * width), *on_d = guarded(at, d, 4 * places * width), *on_to = guarded(at, start, bytes);
    char *on_f = from ? guarded(at, from, 16 * places) : NULL;
    const float *boxes = from ? (float *)(on_f + GUARD) : NULL;
    MUST(at->b->boxes_select(at->d, c, images, type, on_s + GUARD, on_d + GUARD, boxes, (float *)(on_to + GUARD)));
    MUST(at->b->sync(at->d));
    free(harvest(at, on_s, scores * width)), free(harvest(at, on_d, 4 * places * width));
    if (from) free(harvest(at, on_f, 16 * places));
    free(s), free(d), free(start);
    return harvest(at, on_to, bytes);
}

/* Best first, apart from each other, within the image, and zeros after the last; returns how many there are. */
static int64_t check_rows(const boxes_choice *c, const float *rows)
{
    int64_t n = 0, wide = c->scored ? 5 : 4;
    while (n < c->most && rows[n * wide + 2] > rows[n * wide]) n++;
    for (int64_t i = n * wide; i < c->most * wide; i++) assert_true(rows[i] == 0);
    for (int64_t i = 0; i < n; i++) {
        const float *r = rows + i * wide;
        box b = {r[0], r[1], r[2], r[3]};
        assert_true(b.y0 >= 0 && b.x0 >= 0 && b.y1 <= c->height && b.x1 <= c->width);
        assert_true(b.y1 - b.y0 >= c->side && b.x1 - b.x0 >= c->side);
        if (c->scored && i > 0) assert_true(!(r[4] > r[4 - wide]));
        for (int64_t k = 0; k < i; k++) {
            const float *q = rows + k * wide;
            box better = {q[0], q[1], q[2], q[3]};
            if (c->levels == 1) assert_true(box_iou(better, b) <= c->iou);
            assert_true(!(box_shared(b, better) > c->inside * box_area(b)));
        }
    }
    return n;
}

static void same_rows(const variant *at, int number, const float *got, const float *want, size_t n, int wide)
{
    for (size_t i = 0; i < n; i++) {
        float room = i % (size_t)wide == 4 ? 0 : 1e-4f * (1 + fabsf(want[i]));
        if (!(fabsf(got[i] - want[i]) <= room) && !(isnan(got[i]) && isnan(want[i])) && got[i] != want[i])
            fail_msg("%s: case %d: %g at %zu of row %zu, expected %g", at->name, number, (double)got[i], i % (size_t)wide,
                     i / (size_t)wide, (double)want[i]);
    }
}

static void select_case(int number, int given, tensor_type type)
{
    const choice_case *with = &choices[number];
    boxes_choice c = choice_of(with, given);
    uint64_t seed = 77 + (uint64_t)number;
    size_t places = (size_t)(with->images * c.first[c.levels]), n = (size_t)(with->images * c.most * (c.scored ? 5 : 4));
    float *score = must_alloc(places * (size_t)c.score_step * 4), *delta = must_alloc(16 * places), *from = must_alloc(16 * places);
    float *want = NULL;
    variant at;
    fill_scores(score, places * (size_t)c.score_step, &seed);
    fill_deltas(delta, 4 * places, with->grows, given ? 10 : 1, &seed);
    fill_boxes(from, places, &c, &seed);
    for (int k = 0; variant_open(k, 1 + k % 3, &at); at.b->close(&at.d), k++) {
        float *got = select_on(&at, &c, with->images, type, score, delta, given ? from : NULL);
        if (k) {
            same_rows(&at, number, got, want, n, c.scored ? 5 : 4);
            free(got);
            continue;
        }
        want = got;
        for (int i = 0; i < with->images; i++) assert_true(check_rows(&c, want + (size_t)i * n / (size_t)with->images) > 0);
    }
    free(score), free(delta), free(from), free(want);
}

static void the_best_boxes_of_all_levels_stay_in_order_and_apart(void **state)
{
    (void)state;
    for (int k = 0; k < CHOICES; k++) {
        select_case(k, 0, TENSOR_F32);
        select_case(k, 0, TENSOR_BF16);
    }
}

static void boxes_that_are_given_are_moved_and_those_without_area_left_out(void **state)
{
    (void)state;
    for (int k = 0; k < CHOICES; k++) {
        select_case(k, 1, TENSOR_F32);
        select_case(k, 1, TENSOR_BF16);
    }
}

/* A case whose answer is known: anchors of 32 and 64 pixels on 4 x 4 cells of 16. */
static void a_known_image_gives_its_two_boxes_and_ties_go_to_the_lower_place(void **state)
{
    (void)state;
    enum { CELLS = 4, EACH = 2, PLACES = CELLS * CELLS * EACH, MOST = 6 };
    const box_anchors anchors = {.stride = 16, .sizes = EACH, .ratios = 1, .size = {32, 64}, .ratio = {1}};
    boxes_choice c = {.levels = 1, .anchors = {anchors}, .wide = {CELLS}, .first = {0, PLACES}, .candidates = 8, .most = MOST,
                      .weight = {1, 1, 1, 1}, .height = 64, .width = 64, .side = 1, .iou = 0.5f, .inside = 1, .score_step = 1, .scored = 1};
    float score[PLACES], delta[4 * PLACES] = {0};
    const int best = EACH * (CELLS * 1 + 1), corner = EACH * 0 + 1;
    variant at;
    for (int i = 0; i < PLACES; i++) score[i] = -5;
    score[best] = 4, delta[4 * best] = 0.25f; /* a quarter of its height down */
    score[corner] = 3;
    for (int k = 0; variant_open(k, 1, &at); at.b->close(&at.d), k++) {
        float *got = select_on(&at, &c, 1, TENSOR_F32, score, delta, NULL);
        const float want[2][5] = {{24 + 8 - 16, 8, 24 + 8 + 16, 40, 4}, {0, 0, 40, 40, 3}};
        assert_memory_equal(got, want, sizeof want);
        box tied = box_clip(box_anchor(&c.anchors[0], CELLS, 0), 64, 64); /* of all with -5 the first place */
        assert_memory_equal(got + 10, &tied, sizeof tied);
        assert_true(got[14] == -5);
        free(got);
    }
}

static void numbers_that_do_not_fit_are_refused_and_nothing_is_written(void **state)
{
    (void)state;
    boxes_choice good = choice_of(&choices[1], 0), bad[8];
    variant at;
    float to[4] = {1, 2, 3, 4}, x[4] = {0};
    uint8_t byte = 9;
    boxes_pasting paste = {.count = 1, .size = 2, .ny = 4, .nx = 4, .y1 = {3}, .x1 = {3}, .probability = x, .to = &byte};
    boxes_pasting outside[3] = {paste, paste, paste};
    for (int k = 0; k < 8; k++) bad[k] = good;
    bad[0].levels = 0, bad[1].levels = BOXES_LEVELS + 1, bad[2].candidates = BOXES_SELECT_MOST + 1, bad[3].most = 0;
    bad[4].first[1] = -1, bad[5].score_step = 0, bad[6].anchors[0].ratios = BOX_RATIOS + 1, bad[7].side = 0;
    outside[0].count = BOXES_PASTE_MOST + 1, outside[1].y1[0] = 5, outside[2].x0[0] = -1;
    for (int k = 0; variant_open(k, 1, &at); at.b->close(&at.d), k++) {
        for (int j = 0; j < 8; j++) assert_int_equal(at.b->boxes_select(at.d, &bad[j], 1, TENSOR_F32, x, x, NULL, to), COV_BROKEN);
        assert_int_equal(at.b->boxes_select(at.d, &good, 1, TENSOR_I32, x, x, NULL, to), COV_BROKEN);
        assert_int_equal(at.b->boxes_around(at.d, TENSOR_F32, 1, 2, 2, 1, 1, x, to), COV_BROKEN);
        assert_int_equal(at.b->boxes_around(at.d, TENSOR_F32, 1, 0, 2, 1, 0, x, to), COV_BROKEN);
        for (int j = 0; j < 3; j++) assert_int_equal(at.b->boxes_paste(at.d, &outside[j]), COV_BROKEN);
    }
    assert_true(to[0] == 1 && to[3] == 4 && byte == 9);
}

static void the_box_around_what_is_not_zero_is_that_of_its_channel_and_the_whole_image_where_there_is_none(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = {{1, 1, 1, 1}, {3, 7, 5, 3}, {2, 300, 270, 2}, {4, 33, 517, 1}};
    for (int s = 0; s < 4; s++)
        for (int bf = 0; bf < 2; bf++) {
            const int64_t *z = sizes[s], channel = z[3] / 2;
            tensor_type type = bf ? TENSOR_BF16 : TENSOR_F32;
            size_t n = (size_t)(z[0] * z[1] * z[2] * z[3]), width = bf ? 2 : 4, bytes = (size_t)z[0] * 16;
            float *v = must_alloc(n * 4), *want = NULL, start[16] = {0};
            uint64_t seed = 5;
            variant at;
            for (size_t i = 0; i < n; i++) {
                int64_t pixel = (int64_t)i / z[3], c = (int64_t)i % z[3], col = pixel % z[2], row = pixel / z[2] % z[1];
                int set = pixel / z[2] / z[1] != 1 && col >= z[2] / 4 && row >= z[1] / 3 && row < (z[1] * 9 + 9) / 10 && draw(&seed) > 0.6f;
                v[i] = c != channel ? 1 : set ? draw(&seed) : 0;
            }
            void *x = as_type(type, v, n);
            for (int k = 0; variant_open(k, 1 + k % 3, &at); at.b->close(&at.d), k++) {
                char *on_x = guarded(&at, x, n * width), *on_to = guarded(&at, start, bytes);
                MUST(at.b->boxes_around(at.d, type, z[0], z[1], z[2], z[3], channel, on_x + GUARD, (float *)(on_to + GUARD)));
                float *got = harvest(&at, on_to, bytes);
                free(harvest(&at, on_x, n * width));
                if (k == 0) want = got;
                else assert_memory_equal(got, want, bytes), free(got);
            }
            if (z[0] > 1) assert_true(want[4] == 0 && want[5] == 0 && want[6] == (float)z[1] && want[7] == (float)z[2]);
            if (z[1] > 100) assert_true(want[0] >= (float)(z[1] / 3) && want[1] >= (float)(z[2] / 4) && want[2] < (float)z[1]);
            free(v), free(x), free(want);
        }
}

static boxes_pasting random_pasting(int count, int size, int64_t ny, int64_t nx, uint64_t *seed)
{
    boxes_pasting p = {.count = count, .size = size, .threshold = 0.5f, .ny = ny, .nx = nx};
    for (int k = 0; k < count; k++) {
        float y = (float)ny * (0.4f + 0.4f * draw(seed)), x = (float)nx * (0.4f + 0.4f * draw(seed));
        box b = {y, x, y + (float)ny * (0.3f + 0.29f * draw(seed)), x + (float)nx * (0.3f + 0.29f * draw(seed))};
        b = box_clip(b, (float)ny, (float)nx);
        if (k % 4 == 3) b = (box){y, x, y, x + 1}; /* no pixel */
        p.at[k] = b;
        p.y0[k] = (int32_t)lrintf(b.y0), p.x0[k] = (int32_t)lrintf(b.x0);
        p.y1[k] = (int32_t)lrintf(b.y1), p.x1[k] = (int32_t)lrintf(b.x1);
    }
    return p;
}

static void masks_are_pasted_one_behind_the_other_and_cut_to_what_is_inside(void **state)
{
    (void)state;
    static const int counts[] = {0, 1, 5, BOXES_PASTE_MOST};
    for (int c = 0; c < 4; c++)
        for (int cut = 0; cut < 2; cut++) {
            int64_t ny = 61 + 40 * c, nx = 90;
            int size = 14 + c;
            uint64_t seed = 11 + (uint64_t)c;
            boxes_pasting p = random_pasting(counts[c], size, ny, nx, &seed);
            size_t n = (size_t)(counts[c] * size * size), bytes = (size_t)boxes_pasting_at(&p, p.count), area = (size_t)(ny * nx), set = 0;
            float *v = must_alloc(n * 4 + 4);
            uint8_t *inside = must_alloc(area), *start = must_alloc(bytes), *want = NULL;
            variant at;
            for (size_t i = 0; i < n; i++) v[i] = 0.5f + 0.5f * draw(&seed);
            for (size_t i = 0; i < area; i++) inside[i] = draw(&seed) > -0.4f;
            memset(start, 7, bytes);
            for (int k = 0; variant_open(k, 1 + k % 3, &at); at.b->close(&at.d), k++) {
                char *on_v = guarded(&at, v, n * 4), *on_in = guarded(&at, inside, area), *on_to = guarded(&at, start, bytes);
                p.probability = (float *)(on_v + GUARD), p.to = (uint8_t *)(on_to + GUARD);
                p.inside = cut ? (uint8_t *)(on_in + GUARD) : NULL;
                MUST(at.b->boxes_paste(at.d, &p));
                uint8_t *got = harvest(&at, on_to, bytes);
                free(harvest(&at, on_v, n * 4)), free(harvest(&at, on_in, area));
                if (k == 0) want = got;
                else assert_memory_equal(got, want, bytes), free(got);
            }
            for (size_t i = 0; i < bytes; i++) set += want[i];
            if (bytes) assert_true(set > bytes / 8 && set < bytes * 7 / 8);
            free(v), free(inside), free(start), free(want);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_boxes_of_all_levels_stay_in_order_and_apart),
        cmocka_unit_test(boxes_that_are_given_are_moved_and_those_without_area_left_out),
        cmocka_unit_test(a_known_image_gives_its_two_boxes_and_ties_go_to_the_lower_place),
        cmocka_unit_test(numbers_that_do_not_fit_are_refused_and_nothing_is_written),
        cmocka_unit_test(the_box_around_what_is_not_zero_is_that_of_its_channel_and_the_whole_image_where_there_is_none),
        cmocka_unit_test(masks_are_pasted_one_behind_the_other_and_cut_to_what_is_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
