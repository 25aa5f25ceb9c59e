/* Claims of stages/evalset: how cases become studies, and what the two transformed test sets show. */
#include "stages/evalset.h"

#include "data/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static void write_slice(const char *name, int rows, int cols, uint8_t value)
{
    char path[128];
    uint8_t px[64];
    memset(px, value, sizeof px);
    px[0] = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(image_write_gray(path, rows, cols, px), COV_OK);
}

static void remove_folder(void)
{
    static const char *const names[] = {"a.png", "b.png", "c.png", "cases.csv"};
    char path[128];
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[k]);
        unlink(path);
    }
    rmdir(folder);
}

static void slices_of_one_patient_and_size_are_one_study(void **state)
{
    (void)state;
    char path[128];
    cases *c;
    evalset_entry *e;
    evalset_study s;
    size_t n;
    strcpy(folder, "/tmp/covpipe-evalset-XXXXXX");
    assert_non_null(mkdtemp(folder));
    write_slice("a.png", 4, 6, 255);
    write_slice("b.png", 4, 6, 51);
    write_slice("c.png", 6, 4, 9);
    snprintf(path, sizeof path, "%s/cases.csv", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("id,patient,kind,ct,lung,lesion,period,split,intensity\n"
          "v,p0,volume,v.nii,,,,test,hu\n"           /* no lesion mask and not labelled healthy: cannot be scored */
          "h,p1,volume,v.nii,,,0,test,hu\n"          /* healthy */
          "s1,p2,slice,a.png,,a.png,,test,8bit\n"
          "s2,p2,slice,b.png,,b.png,,test,8bit\n"    /* the same patient and size: joins */
          "s3,p2,slice,c.png,,c.png,,test,8bit\n"    /* another size */
          "s4,p2,slice,c.png,c.png,c.png,,test,8bit\n" /* with a lung mask */
          "s5,p3,slice,a.png,,a.png,,test,8bit\n", f);
    fclose(f);
    assert_int_equal(cases_read(path, &c), COV_OK);
    assert_int_equal(evalset_list(c, "", &e, &n), COV_OK);
    assert_int_equal(n, 5);
    assert_string_equal(e[0].id, "h");
    assert_string_equal(e[1].id, "p2");
    assert_int_equal(e[1].count, 2);
    assert_int_equal(e[2].count + e[3].count + e[4].count, 3);
    assert_int_equal(evalset_read(&e[1], &s), COV_OK);
    assert_true(s.isolated && !s.scale_known && s.v.ct.head.nx == 6 && s.v.ct.head.ny == 4 && s.v.ct.head.nz == 2 &&
                !s.v.lung);
    assert_int_equal(s.v.ct.hu[0], -1300); /* black and white of an 8-bit picture are the ends of the window */
    assert_int_equal(s.v.ct.hu[1], 300);
    assert_int_equal(s.v.ct.hu[24 + 1], -980); /* 51 of 255: a fifth of 1600 */
    assert_true(s.v.lesion[0] == 0 && s.v.lesion[1] == 1 && s.v.lesion[24 + 23] == 1);
    evalset_free(&s);
    free(e);
    assert_int_equal(evalset_list(c, "p1,p3", &e, &n), COV_OK);
    assert_int_equal(n, 2);
    free(e);
    cases_free(&c);
    remove_folder();
}

/* 8 x 6 x 4 voxels of 1 x 2 x 3 mm: hu = 100 z + 10 y + x. */
static evalset_study small(void)
{
    evalset_study s;
    assert_int_equal(evalset_make(8, 6, 4, 1, &s), COV_OK);
    s.patient = "p";
    strcpy(s.id, "p");
    s.v.ct.head.spacing_mm[1] = 2;
    s.v.ct.head.spacing_mm[2] = 3;
    for (int i = 0; i < 8 * 6 * 4; i++) s.v.ct.hu[i] = (int16_t)(100 * (i / 48) + 10 * (i / 8 % 6) + i % 8);
    for (int z = 0; z < 4; z++)
        for (int y = 2; y < 4; y++)
            for (int x = 1; x < 7; x++) s.v.lung[(z * 6 + y) * 8 + x] = 1;
    s.v.lesion[(3 * 6 + 2) * 8 + 5] = 1; /* the uppermost slice */
    return s;
}

static void the_coronal_view_has_the_head_up_and_square_pixels(void **state)
{
    (void)state;
    evalset_study s = small(), c;
    uint8_t *lung;
    assert_int_equal(evalset_coronal(&s, s.v.lung, &c, &lung), COV_OK);
    /* y 1 ... 4 (one beside the lung's 2 and 3); 4 slices of 3 mm are 12 rows of 1 mm, wider than 8 columns. */
    assert_true(c.v.ct.head.nz == 4 && c.v.ct.head.ny == 12 && c.v.ct.head.nx == 12 && !c.isolated);
    assert_true(c.v.ct.head.spacing_mm[0] == 1 && c.v.ct.head.spacing_mm[1] == 1 && c.v.ct.head.spacing_mm[2] == 2);
    assert_int_equal(c.v.ct.hu[0], -1000); /* beside the picture */
    const int16_t *slice = c.v.ct.hu + 144, *row = slice + 12; /* y = 2; second row: the middle of z = 3 */
    assert_int_equal(row[2], 320);
    assert_int_equal(row[9], 327);
    assert_int_equal(slice[11 * 12 + 2], 20);
    assert_int_equal(slice[2 * 12 + 2], 220 + 66); /* a third of a slice lower; rounded towards zero */
    int lesions = 0;
    for (int i = 0; i < 4 * 144; i++) lesions += c.v.lesion[i];
    assert_int_equal(lesions, 3);
    for (int r = 0; r < 3; r++) assert_int_equal(c.v.lesion[144 + r * 12 + 2 + 5], 1);
    assert_int_equal(lung[144 + 2 + 1], 1);
    assert_int_equal(lung[2 + 1], 0);
    assert_memory_equal(lung, c.v.lung, 4 * 144);
    free(lung);
    evalset_free(&c);
    memset(s.v.lung, 0, 192);
    assert_int_equal(evalset_coronal(&s, s.v.lung, &c, &lung), COV_USAGE);
    evalset_free(&s);
}

/* Four slices of 512 x 512 that show their number, with a lesion of 200 x 200 in all but one. */
static evalset_study four(const char *patient)
{
    evalset_study s;
    assert_int_equal(evalset_make(512, 512, 4, 1, &s), COV_OK);
    s.patient = patient;
    for (size_t i = 0; i < 4 * 512 * 512; i++) {
        size_t z = i >> 18, y = i >> 9 & 511, x = i & 511;
        s.v.ct.hu[i] = (int16_t)(100 * z);
        s.v.lesion[i] = z != 2 && y >= 100 && y < 300 && x >= 100 && x < 300;
        s.v.lung[i] = x > 50;
    }
    return s;
}

static void merged_samples_show_whole_positive_slices_in_changed_proportions(void **state)
{
    (void)state;
    evalset_pool *p;
    evalset_study s = four("p"), t = four("q"), *out, *again;
    size_t n, m;
    int64_t drawn;
    assert_int_equal(evalset_pool_new(&p), COV_OK);
    assert_int_equal(evalset_pool_add(p, &s, s.v.lung), COV_OK);
    assert_int_equal(evalset_pool_add(p, &t, t.v.lung), COV_OK);
    assert_int_equal(evalset_pool_merge(p, 100, 7, &out, &n, &drawn), COV_OK);
    assert_int_equal(drawn, 6); /* slice 2 has no lesion */
    assert_int_equal(n, 2);
    assert_int_equal(evalset_pool_merge(p, 100, 7, &again, &m, &drawn), COV_OK);
    for (size_t k = 0; k < n; k++) {
        const volume_header *h = &out[k].v.ct.head;
        assert_true(out[k].isolated && h->nx == 512 && h->ny == 512 && h->nz == 5); /* three slices: 4.5, rounded up */
        assert_memory_equal(out[k].v.ct.hu, again[k].v.ct.hu, 5 * 512 * 512 * 2);
        assert_memory_equal(out[k].v.lesion, again[k].v.lesion, 5 * 512 * 512);
        for (int z = 0; z < 5; z++) {
            int64_t lesion = 0, foreign = 0;
            for (size_t i = 0; i < 512 * 512; i++) {
                int16_t hu = out[k].v.ct.hu[(size_t)z * 512 * 512 + i];
                lesion += out[k].v.lesion[(size_t)z * 512 * 512 + i];
                foreign += hu == 200;
            }
            assert_true(llabs(lesion - 200 * 200) <
                        700); /* whatever the layout, the parts cover the picture: the area is that of one slice */
            assert_int_equal(foreign, 0);
        }
    }
    for (size_t k = 0; k < n; k++) {
        evalset_free(&out[k]);
        evalset_free(&again[k]);
    }
    free(out);
    free(again);
    assert_int_equal(evalset_pool_merge(p, 2, 7, &out, &n, &drawn), COV_OK);
    assert_int_equal(drawn, 2);
    int64_t samples = 0;
    for (size_t k = 0; k < n; k++) {
        samples += out[k].v.ct.head.nz;
        evalset_free(&out[k]);
    }
    assert_true(samples == 3 || samples == 4);
    free(out);
    evalset_pool_free(&p);
    evalset_free(&s);
    evalset_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_of_one_patient_and_size_are_one_study),
        cmocka_unit_test(the_coronal_view_has_the_head_up_and_square_pixels),
        cmocka_unit_test(merged_samples_show_whole_positive_slices_in_changed_proportions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
