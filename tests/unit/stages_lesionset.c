/* Samples of lesion triplets: a function of their number alone; nothing outside the dilated lung; neighbours in space,
 * zero where there are none; the period's rules; boxes and regions that belong together, merged pictures with all of
 * them. */
#include "stages/lesionset.h"
#include "stages/period.h"
#include "stages/regions.h"
#include "stages/triplet.h"
#include "stages/window.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { SIDE = 64, SLICES = 6, PX = SIDE * SIDE };
static float image[2][PX * 3], target[2][PX], boxes[2][LESIONSET_BOXES * 5];
static int32_t period[2];

static lesionset_sample at(int k)
{
    return (lesionset_sample){
        .image = image[k], .target = target[k], .period = &period[k], .boxes = boxes[k]};
}

/* Two square lungs in every slice but the last; slice z is -900 + 100 z HU in the lung. Lesions (two squares in one
 * lung) in slices 2 and 3. */
static void add(lesionset *s, const char *patient, int isolated, int period_given, int ill, int with_lung,
                int eight_bit)
{
    int nz = isolated ? 1 : SLICES;
    int16_t *hu = malloc(sizeof *hu * PX * SLICES);
    static uint8_t lung[PX * SLICES], lesion[PX * SLICES];
    for (int i = 0; i < PX * nz; i++) {
        int z = i / PX, y = i / SIDE % SIDE, x = i % SIDE;
        lung[i] = y >= 16 && y < 48 && ((x >= 8 && x < 28) || (x >= 36 && x < 56)) && (isolated || z < SLICES - 1);
        lesion[i] = ill && lung[i] && (isolated || z == 2 || z == 3) && x >= 12 && x < 20 &&
                    ((y >= 20 && y < 24) || (y >= 30 && y < 42));
        hu[i] = (int16_t)(lesion[i] ? -550 : lung[i] ? -900 + 100 * z : 40);
    }
    lesionset_source from = {.patient = patient,
                             .nx = SIDE,
                             .ny = SIDE,
                             .nz = nz,
                             .isolated = isolated,
                             .eight_bit = eight_bit,
                             .period = period_given,
                             .hu = hu,
                             .lung = with_lung ? lung : NULL,
                             .lesion = ill ? lesion : NULL};
    assert_int_equal(lesionset_add(s, &from), COV_OK);
}

static lesionset *of(int positive, int healthy, int isolated)
{
    lesionset *s;
    assert_int_equal(lesionset_new(&s), COV_OK);
    if (positive) add(s, "v", 0, -1, 1, 1, 0);
    if (healthy) add(s, "h", 0, 0, 0, 1, 0);
    if (isolated) add(s, "i", 1, -1, 1, 1, 1);
    return s;
}

/* As inference shows it, one slice a picture. */
static lesionset_options plain(void)
{
    lesionset_options o = lesionset_defaults();
    o.augment = tripletaug_none();
    o.merge = o.alone = 0.0f;
    return o;
}

static void get(const lesionset *s, const lesionset_options *o, uint64_t k, int to)
{
    lesionset_sample sample = at(to);
    assert_int_equal(lesionset_get(s, o, k, (float)SIDE / TRIPLET_CANVAS, SIDE, SIDE, &sample), COV_OK);
}

static int count_boxes(int k)
{
    int n = 0;
    while (n < LESIONSET_BOXES && boxes[k][5 * n + 4] == 1.0f) n++;
    return n;
}

static void a_sample_is_a_function_of_its_number(void **state)
{
    (void)state;
    lesionset *s = of(1, 1, 1);
    lesionset_options o = lesionset_defaults();
    int different = 0;
    for (uint64_t k = 0; k < 20; k++) {
        get(s, &o, k, 0);
        get(s, &o, k + 1, 1);
        different += memcmp(image[0], image[1], sizeof image[0]) != 0;
        get(s, &o, k, 1);
        assert_memory_equal(image[0], image[1], sizeof image[0]);
        assert_memory_equal(target[0], target[1], sizeof target[0]);
        assert_memory_equal(boxes[0], boxes[1], sizeof boxes[0]);
        assert_int_equal(period[0], period[1]);
    }
    assert_true(different >= 18);
    o.seed = 2;
    get(s, &o, 19, 0);
    assert_memory_not_equal(image[0], image[1], sizeof image[0]);
    lesionset_free(&s);
}

/* The lungs' middle is the slice's, so a plain picture is the slice itself. */
static void without_augmentation_a_sample_is_what_inference_shows(void **state)
{
    (void)state;
    lesionset *s = of(1, 0, 0);
    lesionset_options o = plain();
    window w = window_lung();
    for (uint64_t k = 0; k < 12; k++) {
        get(s, &o, k, 0);
        /* Slice z of the lung is -900 + 100 z: the three channels say which slices they are. Pixel (18, 50) is lung,
         * never lesion. */
        const float *px = image[0] + 3 * (18 * SIDE + 50);
        float step = 100.0f / w.width, first = window_one(w, -900.0f);
        int z = (int)lroundf((px[1] - first) / step);
        assert_in_range(z, 0, SLICES - 2);
        assert_float_equal(px[1], first + step * (float)z, 1e-5);
        assert_float_equal(px[0], z > 0 ? first + step * (float)(z - 1) : 0.0f, 1e-5);
        assert_float_equal(px[2], z + 1 < SLICES - 1 ? first + step * (float)(z + 1) : 0.0f,
                           1e-5); /* the last slice shows no lung: nothing inside */
        assert_int_equal(count_boxes(0), z == 2 || z == 3 ? 2 : 0);
    }
    lesionset_free(&s);
}

static void outside_the_dilated_lung_all_is_zero(void **state)
{
    (void)state;
    lesionset *s = of(1, 0, 0);
    lesionset_options o = plain();
    uint8_t mask[PX] = {0}, roi[PX];
    for (int i = 0; i < PX; i++) {
        int y = i / SIDE, x = i % SIDE;
        mask[i] = y >= 16 && y < 48 && ((x >= 8 && x < 28) || (x >= 36 && x < 56));
    }
    triplet_roi(mask, SIDE, SIDE, roi);
    o.augment.noise = o.augment.tone = o.augment.blur = o.augment.equalise =
        1.0f; /* intensities may change, the ROI not */
    for (uint64_t k = 0; k < 6; k++) {
        get(s, &o, k, 0);
        for (int i = 0; i < PX; i++)
            for (int c = 0; c < 3; c++)
                if (!roi[i]) assert_true(image[0][3 * i + c] == 0.0f);
    }
    lesionset_free(&s);
}

static void isolated_slices_have_no_neighbours_and_are_enough_to_train_on(void **state)
{
    (void)state;
    lesionset *s = of(1, 0, 1);
    lesionset_options o = plain();
    o.slices = 0.5f;
    int alone = 0;
    for (uint64_t k = 0; k < 40; k++) {
        float sum[3] = {0};
        get(s, &o, k, 0);
        for (int i = 0; i < PX; i++)
            for (int c = 0; c < 3; c++) sum[c] += image[0][3 * i + c];
        assert_true(sum[1] > 0.0f);
        alone += sum[0] == 0.0f && sum[2] == 0.0f;
    }
    assert_in_range(alone, 10, 30);
    lesionset_free(&s);
    s = of(0, 1, 1);
    assert_int_equal(lesionset_check(s, &o), COV_OK);
    lesionset_free(&s);
    s = of(0, 1, 0);
    assert_int_equal(lesionset_check(s, &o), COV_USAGE);
    lesionset_free(&s);
}

static void healthy_cases_have_no_boxes_and_period_0_lesion_free_slices_of_others_none(void **state)
{
    (void)state;
    lesionset *s = of(1, 1, 0);
    lesionset_options o = plain();
    o.healthy = 0.5f;
    o.clean = 0.5f;
    int seen[3] = {0}; /* healthy, positive without lesion, with lesion */
    for (int proxy = 0; proxy < 2; proxy++)
        for (uint64_t k = 0; k < 60; k++) {
            o.period_proxy = proxy;
            get(s, &o, k, 0);
            int n = count_boxes(0);
            seen[n ? 2 : period[0] == 0 ? 0 : 1]++;
            assert_int_equal(period[0], n ? (proxy ? 2 : -1) : period[0] == 0 ? 0 : -1);
        }
    for (int k = 0; k < 3; k++) assert_true(seen[k] > 10);
    lesionset_counts c;
    lesionset_count(s, &o, &c);
    assert_int_equal(c.slices[LESIONSET_VOLUME], SLICES - 1);
    assert_int_equal(c.with_lesion, 2);
    assert_int_equal(c.period[0], SLICES - 1);
    assert_int_equal(c.period[2], 2);
    lesionset_free(&s);
}

static void the_tables_period_wins_over_the_proxy(void **state)
{
    (void)state;
    lesionset *s;
    assert_int_equal(lesionset_new(&s), COV_OK);
    add(s, "v", 0, 3, 1, 1, 0);
    lesionset_options o = plain();
    o.period_proxy = 1;
    o.clean = 0.0f;
    get(s, &o, 0, 0);
    assert_int_equal(period[0], 3);
    lesionset_free(&s);
}

static void the_proxy_follows_extent_and_density(void **state)
{
    (void)state;
    assert_int_equal(period_proxy((period_counts){1000, 0, 0}), -1);
    assert_int_equal(period_proxy((period_counts){1000, 50, 0}), 1);
    assert_int_equal(period_proxy((period_counts){1000, 50, 10}), 2);
    assert_int_equal(period_proxy((period_counts){1000, 50, 30}), 3);
    assert_int_equal(period_proxy((period_counts){1000, 200, 0}), 2);
    assert_int_equal(period_proxy((period_counts){1000, 401, 0}), 3);
    int16_t hu[6] = {-900, -900, -200, -400, 50, -200};
    uint8_t lung[6] = {1, 1, 1, 1, 0, 0}, lesion[6] = {0, 0, 1, 1, 0, 0}, classes[6] = {0, 0, 1, 2, 0, 0};
    period_counts c = period_count(6, hu, lung, lesion, NULL);
    assert_int_equal(c.lung, 4);
    assert_int_equal(c.lesion, 2);
    assert_int_equal(c.consolidated, 1);
    assert_int_equal(period_count(6, hu, NULL, lesion, classes).consolidated, 1);
    assert_int_equal(period_count(6, hu, NULL, lesion, classes).lung, 4);
}

/* Every box is the rectangle of a region of its own, and they come largest first. What has no box is a few pixels. */
static void check_boxes(int k)
{
    enum { FEW = 4 };
    static uint8_t mask[PX];
    static int32_t labels[PX];
    region *list = NULL;
    int64_t count = 0, last = PX + 1;
    for (int i = 0; i < PX; i++) mask[i] = target[k][i] > 0;
    assert_int_equal(regions_find(mask, SIDE, SIDE, labels, &list, &count), COV_OK);
    for (int b = 0; b < count_boxes(k); b++) {
        const float *at = &boxes[k][5 * b];
        int64_t j = 0;
        while (j < count && !(at[0] == (float)list[j].y0 && at[1] == (float)list[j].x0 && at[2] == (float)list[j].y1 &&
                              at[3] == (float)list[j].x1))
            j++;
        assert_true(j < count && list[j].area <= last);
        last = list[j].area;
        list[j].y1 = -1; /* taken */
    }
    for (int64_t j = 0; j < count; j++) assert_true(list[j].y1 == -1 || list[j].area < FEW);
    free(list);
}

static void merged_pictures_keep_every_slices_boxes(void **state)
{
    (void)state;
    lesionset *s = of(1, 0, 0);
    lesionset_options o = plain();
    o.merge = 1.0f;
    o.clean = 0.0f;
    int counts[5] = {0};
    for (uint64_t k = 0; k < 30; k++) {
        get(s, &o, k, 0);
        check_boxes(0);
        int n = count_boxes(0);
        assert_true(n == 4 || n == 8); /* two lesions a part, two or four parts */
        counts[n / 2]++;
        assert_int_equal(period[0], -1);
    }
    assert_true(counts[2] > 5 && counts[4] > 2);
    lesionset_free(&s);
}

static void boxes_are_made_after_the_geometry(void **state)
{
    (void)state;
    lesionset *s = of(1, 1, 1);
    lesionset_options o = lesionset_defaults();
    for (uint64_t k = 0; k < 60; k++) {
        get(s, &o, k, 0);
        check_boxes(0);
        for (int i = 0; i < PX; i++)
            assert_true(image[0][3 * i] >= 0.0f && image[0][3 * i] <= 1.0f && image[0][3 * i + 1] <= 1.0f);
    }
    lesionset_free(&s);
}

static void a_slice_without_a_lung_mask_is_all_inside(void **state)
{
    (void)state;
    lesionset *s;
    assert_int_equal(lesionset_new(&s), COV_OK);
    add(s, "crop", 1, -1, 1, 0, 1);
    lesionset_options o = plain();
    get(s, &o, 0, 0);
    int zero = 0;
    for (int i = 0; i < PX; i++) zero += image[0][3 * i + 1] == 0.0f;
    assert_int_equal(zero, 0);
    lesionset_free(&s);
}

/* Three slices alike under every geometry and no change of intensity: three channels alike, and the lesion where its HU
 * is. */
static void the_three_slices_and_the_lesion_share_one_geometry(void **state)
{
    (void)state;
    static int16_t hu[PX];
    static uint8_t marks[PX], lesion[PX];
    for (int i = 0; i < PX; i++) {
        int y = i / SIDE, x = i % SIDE, ill = (y - 24) * (y - 24) + (x - 40) * (x - 40) < 49;
        hu[i] = (int16_t)(ill ? 100 : -900);
        marks[i] = (uint8_t)(TRIPLETAUG_ROI | (ill ? TRIPLETAUG_LESION : 0));
    }
    tripletaug_options o = tripletaug_defaults();
    o.level = o.width = o.tone = o.blur = o.noise = o.equalise = 0.0f;
    tripletaug_part p = {.hu = {hu, hu, hu},
                         .marks = {marks, marks, marks},
                         .rows = SIDE,
                         .cols = SIDE,
                         .row = 31.5f,
                         .col = 31.5f,
                         .high = SIDE,
                         .wide = SIDE};
    int moved = 0;
    for (uint64_t k = 0; k < 30; k++) {
        rng r = rng_start(3, k);
        p.fit = k % 3 == 1;
        assert_int_equal(tripletaug_run(&o, &r, &p, (float)SIDE / TRIPLET_CANVAS, SIDE, SIDE, image[0], lesion),
                         COV_OK);
        for (int i = 0; i < PX; i++) {
            const float *v = image[0] + 3 * i;
            assert_true(v[0] == v[1] && v[1] == v[2]);
            if (v[1] > 0.0f) assert_int_equal(lesion[i], v[1] > 0.5625f); /* halfway between the two densities */
            moved += lesion[i] != (marks[i] & TRIPLETAUG_LESION) / TRIPLETAUG_LESION;
        }
    }
    assert_true(moved > 1000);
}

/* One lung is ill in one corner: where the lesion's middle lies in the picture, from the picture's. */
static void lesion_middle(const tripletaug_options *o, uint64_t k, float *row, float *col)
{
    static int16_t hu[PX];
    static uint8_t marks[PX], lesion[PX];
    for (int i = 0; i < PX; i++) {
        int y = i / SIDE, x = i % SIDE, ill = (y - 24) * (y - 24) + (x - 44) * (x - 44) < 25;
        hu[i] = -900;
        marks[i] = (uint8_t)(TRIPLETAUG_ROI | (ill ? TRIPLETAUG_LESION : 0));
    }
    tripletaug_part p = {.hu = {hu, hu, hu}, .marks = {marks, marks, marks}, .rows = SIDE, .cols = SIDE,
                         .row = 31.5f, .col = 31.5f, .high = SIDE, .wide = SIDE};
    rng r = rng_start(5, k);
    float n = 0.0f;
    assert_int_equal(tripletaug_run(o, &r, &p, (float)SIDE / TRIPLET_CANVAS, SIDE, SIDE, image[0], lesion), COV_OK);
    *row = *col = 0.0f;
    for (int i = 0; i < PX; i++)
        if (lesion[i]) {
            *row += (float)(i / SIDE) - 31.5f;
            *col += (float)(i % SIDE) - 31.5f;
            n++;
        }
    assert_true(n > 0.0f);
    *row /= n;
    *col /= n;
}

/* The lesion is 7.5 rows above the middle and 12.5 columns beside it. */
static void mirroring_swaps_sides_and_turning_reaches_every_quarter(void **state)
{
    (void)state;
    tripletaug_options o = tripletaug_none();
    float row, col;
    int quarter[4] = {0}, swapped = 0;
    lesion_middle(&o, 0, &row, &col);
    assert_true(fabsf(row + 7.5f) < 0.6f && fabsf(col - 12.5f) < 0.6f);
    o.mirror = 1.0f;
    lesion_middle(&o, 0, &row, &col);
    assert_true(fabsf(row + 7.5f) < 0.6f && fabsf(col + 12.5f) < 0.6f);
    o.mirror = tripletaug_defaults().mirror;
    for (uint64_t k = 0; k < 40; k++) {
        lesion_middle(&o, k, &row, &col);
        swapped += col < 0.0f;
    }
    assert_in_range(swapped, 10, 30);
    o.mirror = 0.0f;
    o.rotate = tripletaug_defaults().rotate;
    for (uint64_t k = 0; k < 40; k++) {
        lesion_middle(&o, k, &row, &col);
        assert_true(fabsf(hypotf(row, col) - hypotf(7.5f, 12.5f)) < 0.8f);
        quarter[2 * (row > 0.0f) + (col > 0.0f)]++;
    }
    for (int q = 0; q < 4; q++) assert_true(quarter[q] >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mirroring_swaps_sides_and_turning_reaches_every_quarter),
        cmocka_unit_test(a_sample_is_a_function_of_its_number),
        cmocka_unit_test(without_augmentation_a_sample_is_what_inference_shows),
        cmocka_unit_test(outside_the_dilated_lung_all_is_zero),
        cmocka_unit_test(isolated_slices_have_no_neighbours_and_are_enough_to_train_on),
        cmocka_unit_test(healthy_cases_have_no_boxes_and_period_0_lesion_free_slices_of_others_none),
        cmocka_unit_test(the_tables_period_wins_over_the_proxy),
        cmocka_unit_test(the_proxy_follows_extent_and_density),
        cmocka_unit_test(merged_pictures_keep_every_slices_boxes),
        cmocka_unit_test(boxes_are_made_after_the_geometry),
        cmocka_unit_test(the_three_slices_and_the_lesion_share_one_geometry),
        cmocka_unit_test(a_slice_without_a_lung_mask_is_all_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
