/* Claims of stages/lesionreport and stages/lesiondraw: rows made by hand come out where the tables, the JSON and the
 * pictures promise. */
#include "stages/lesiondraw.h"

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

static void has(const char *text, const char *what)
{
    if (!strstr(text, what)) fail_msg("'%s' is not in:\n%s", what, text);
}

static void lacks(const char *text, const char *what)
{
    if (strstr(text, what)) fail_msg("'%s' is in:\n%s", what, text);
}

static lesioneval_row row(const char *id, const char *patient, int isolated, double dice)
{
    lesioneval_row r = {.patient = patient,
                        .isolated = isolated,
                        .positive = dice >= 0,
                        .slices = 4,
                        .volume_dice = NAN,
                        .surface = NAN,
                        .truth_percent = dice >= 0 ? 3 : 0,
                        .found_percent = 2.5,
                        .suspicion = 0.75};
    snprintf(r.id, sizeof r.id, "%s", id);
    if (dice < 0) return r;
    r.positive_slices = 2;
    r.m[LESIONEVAL_DICE] = (metrics_ratio){2 * dice, 2};
    r.m[LESIONEVAL_SENSITIVITY] = (metrics_ratio){3, 4};
    const region truth[1] = {{0, 0, 10, 10, 100}};
    const float score[1] = {0.8f};
    assert_int_equal(lesionmetrics_detection_add(&r.detection, truth, 1, truth, score, 1, 512, 512), COV_OK);
    return r;
}

static lesionreport *make(int paper)
{
    lesionreport *r;
    lesioneval_row rows[3] = {row("a1", "a", 0, 0.5), row("b", "b", 1, 0.75), row("healthy", "h", 0, -1)},
                   coronal = row("a1 coronal", "a", 0, 0.25);
    assert_int_equal(lesionreport_new(1, &r), COV_OK);
    strcpy(r->lines[0].name, "st");
    strcpy(r->lines[0].paper, "st");
    r->paper = paper;
    for (int k = 0; k < 3; k++) assert_int_equal(lesionreport_add(&r->lines[0], LESIONREPORT_CASES, &rows[k]), COV_OK);
    assert_int_equal(lesionreport_add(&r->lines[0], LESIONREPORT_CORONAL, &coronal), COV_OK);
    assert_int_equal(lesionmetrics_sizes_add(&r->scored, (const region[]){{.area = 120}}, 1, 512, 512), COV_OK);
    assert_int_equal(lesionreport_sum(r), COV_OK);
    return r;
}

static void the_papers_rows_stand_beside_ours(void **state)
{
    (void)state;
    lesionreport *r = make(1);
    str text = {0};
    lesionreport_markdown(r, &text);
    const char *t = str_text(&text);
    has(t, "| paper, testing set | 7953 | 1013.32 | 179 | 43.06 |");
    has(t, "| cases scored | 1 | 120.00 | 120 | 100.00 |");
    has(t, "| paper, Ours | 7953 regions | 0.9197 | 0.9839 | 0.9725 | 0.9442 |");
    lacks(t, "U-net");
    has(t, "| st | all: 3 of 3 patients, 4 positive slices, 8 regions | 0.6250 (0.500–0.750) | – | 0.7500 "
           "(0.750–0.750) | – |");
    has(t, "| st | volumes: 2 of 2 patients, 2 positive slices, 4 regions | 0.5000 |"); /* one patient with lesion: no
                                                                                           interval */
    has(t, "| paper, Ours | Coronal view: 10 volumes | 0.8907 | 0.9619 | 0.9420 |");
    has(t, "| st | coronal: 1 volumes of 1 patients, 2 positive slices, 4 regions | 0.2500 | – | 0.7500 |");
    lacks(t, "Multi-augmentation");
    has(t, "| st | 1 | 2.50 | 2.50 |"); /* the healthy one's burden */
    has(t, "| st | 2 of 2 | 0 of 1 |"); /* calls */
    has(t, "| healthy | h | st | 0 of 4 |");
    has(t, "| st | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 | 0.200 | 2 |"); /* every finding of 0.8 is
                                                                                             right */
    str_free(&text);
    lesionreport_free(&r);
    r = make(0);
    lesionreport_markdown(r, &text);
    lacks(str_text(&text), "paper, ");
    str_free(&text);
    lesionreport_free(&r);
}

static void json_has_an_object_for_every_row_summary_and_point(void **state)
{
    (void)state;
    lesionreport *r = make(0);
    str text = {0};
    lesionreport_json(r, &text);
    const char *t = str_text(&text);
    has(t, "{\"what\":\"study\",\"model\":\"st\",\"set\":\"cases\",\"id\":\"a1\",\"patient\":\"a\",\"isolated\":0");
    has(t, "\"mean Dice\":[1,2]");
    has(t, "\"volume_dice\":null");
    has(t, "{\"what\":\"summary\",\"model\":\"st\",\"set\":\"coronal\",\"kind\":\"all\"");
    has(t, "{\"what\":\"froc\"");
    has(t, "{\"what\":\"sweep\"");
    has(t, "{\"what\":\"study sweep\",\"model\":\"st\",\"set\":\"cases\",\"id\":\"a1\",\"patient\":\"a\",\"isolated\":0");
    int depth = 0, lowest = 0;
    for (const char *c = t; *c; c++) {
        depth += (*c == '{') - (*c == '}');
        lowest = depth < lowest ? depth : lowest;
    }
    assert_int_equal(depth, 0);
    assert_int_equal(lowest, 0);
    str_free(&text);
    lesionreport_free(&r);
}

static void curves_and_slices_are_drawn_as_png(void **state)
{
    (void)state;
    char folder[] = "/tmp/covpipe-report-XXXXXX", path[128];
    static const char *const names[] = {"froc.png", "calibration.png", "a.png"};
    lesionreport *r = make(0);
    evalset_study s;
    findings *f;
    lesioneval_row scored;
    static uint8_t mask[5 * 32 * 24], where[16];
    assert_non_null(mkdtemp(folder));
    assert_int_equal(lesiondraw_curves(r, folder), COV_OK);
    assert_int_equal(evalset_make(24, 32, 5, 0, &s), COV_OK);
    s.patient = "a";
    for (int z = 1; z < 5; z++) s.v.lesion[z * 32 * 24 + 100] = 1;
    memset(where, 1, sizeof where);
    assert_int_equal(findings_new(5, &f), COV_OK);
    assert_int_equal(
        findings_add(f, &(finding){.z = 2, .y0 = 2, .x0 = 3, .y1 = 6, .x1 = 7, .score = 0.9f, .mask = where}), COV_OK);
    assert_int_equal(lesioneval_score(&(lesioneval_input){.study = &s, .found = f, .threshold = 0.5f}, mask, &scored),
                     COV_OK);
    snprintf(path, sizeof path, "%s/a.png", folder);
    assert_int_equal(lesiondraw_study(path, "st", &s, NULL, f, 0.5f, mask, &scored), COV_OK);
    for (int k = 0; k < 3; k++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[k]);
        assert_int_equal(access(path, R_OK), 0);
        unlink(path);
    }
    rmdir(folder);
    lesioneval_row_free(&scored);
    findings_free(&f);
    evalset_free(&s);
    lesionreport_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_papers_rows_stand_beside_ours),
        cmocka_unit_test(json_has_an_object_for_every_row_summary_and_point),
        cmocka_unit_test(curves_and_slices_are_drawn_as_png),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
