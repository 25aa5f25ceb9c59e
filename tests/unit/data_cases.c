/* The table of annotated cases, its messages, and folds by patient; the real table where it is there. */
#include "data/cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER "id,patient,kind,ct,lung,lesion,period,split,intensity,source\n"

static char path[64];

static status read_text(const char *text, cases **out)
{
    strcpy(path, "/tmp/covpipe-cases-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    status s = cases_read(path, out);
    unlink(path);
    return s;
}

static void a_table_is_read_with_paths_from_its_own_folder(void **state)
{
    (void)state;
    cases *c;
    assert_int_equal(read_text(HEADER "v1,p1,volume,v/ct.nii.gz,v/lung.nii.gz,,0,train,hu,s\n"
                                      "s1,p2,slice,/abs/a.png,,m.png,,,8bit-clahe,s\n"
                                      "v2,p1,volume,w.nii,,,3,test,hu-approx,s\n",
                               &c),
                     COV_OK);
    assert_int_equal(c->count, 3);
    const cases_row *r = c->rows;
    assert_string_equal(r[0].ct, "/tmp/v/ct.nii.gz");
    assert_string_equal(r[0].lung, "/tmp/v/lung.nii.gz");
    assert_null(r[0].lesion);
    assert_int_equal(r[0].period, 0);
    assert_int_equal(r[0].kind, CASES_VOLUME);
    assert_int_equal(r[0].intensity, CASES_HU);
    assert_string_equal(r[1].ct, "/abs/a.png");
    assert_int_equal(r[1].kind, CASES_SLICE);
    assert_int_equal(r[1].period, -1);
    assert_int_equal(r[1].intensity, CASES_8BIT);
    assert_string_equal(r[1].intensity_name, "8bit-clahe");
    assert_int_equal(r[2].intensity, CASES_HU_APPROX);
    assert_int_equal(r[2].line, 4);
    cases_free(&c);
    assert_null(c);
}

static void missing_columns_are_named(void **state)
{
    (void)state;
    cases *c;
    assert_int_equal(read_text("id,kind,ct,lesion,split\na,volume,x,,\n", &c), COV_USAGE);
    assert_null(c);
    assert_non_null(strstr(status_message(), "patient, lung, period, intensity"));
    assert_non_null(strstr(status_message(), path));
}

static void values_that_are_not_understood_are_named_with_their_line(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {HEADER "a,p,volume,x,,,,train,hu,s\na2,p,film,x,,,,train,hu,s\n", ":3: kind is 'film'"},
        {HEADER "a,p,volume,x,,,4,train,hu,s\n", ":2: period is '4'"},
        {HEADER "a,p,volume,x,,,1.5,train,hu,s\n", "period is '1.5'"},
        {HEADER "a,p,volume,x,,,,train,mr,s\n", "intensity is 'mr'"},
        {HEADER "a,p,volume,,,,,train,hu,s\n", "ct is ''"},
        {HEADER "a,,volume,x,,,,train,hu,s\n", "patient is ''"},
        {HEADER ",p,volume,x,,,,train,hu,s\n", "id is ''"},
        {HEADER "a,p,volume,x,,,,train,hu,s\nb,p,volume,x,,,,train,hu,s\na,p,volume,x,,,,train,hu,s\n",
         ":4: id 'a' is that of line 2"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cases *c;
        assert_int_equal(read_text(bad[i][0], &c), COV_FORMAT);
        assert_null(c);
        if (!strstr(status_message(), bad[i][1])) fail_msg("'%s' lacks '%s'", status_message(), bad[i][1]);
    }
}

static void folds_are_patients_and_never_cases(void **state)
{
    (void)state;
    cases *c;
    const char **names;
    size_t n;
    assert_int_equal(
        read_text(HEADER
                  "a,rp-B,volume,x,,,,,hu,\nb,q,volume,x,,,,,hu,\nc,rp-B,volume,x,,,,,hu,\nd,rp-A,volume,x,,,,,hu,\n",
                  &c),
        COV_OK);
    assert_int_equal(cases_folds(c, "rp", &names, &n), COV_OK);
    assert_int_equal(n, 2);
    assert_string_equal(names[0], "rp-B");
    assert_string_equal(names[1], "rp-A");
    free(names);
    assert_int_equal(cases_folds(c, "", &names, &n), COV_OK);
    assert_int_equal(n, 3);
    free(names);
    assert_int_equal(cases_folds(c, "none", &names, &n), COV_OK);
    assert_int_equal(n, 0);
    free(names);
    cases_free(&c);
}

static void the_real_table_is_read_and_its_files_are_there(void **state)
{
    (void)state;
    const char *root = getenv("COVPIPE_CT");
    char table[512];
    snprintf(table, sizeof table, "%s/cases.csv", root ? root : "");
    if (!root || access(table, R_OK) != 0) skip();
    cases *c;
    assert_int_equal(cases_read(table, &c), COV_OK);
    assert_true(c->count > 700);
    for (size_t i = 0; i < c->count; i++) {
        assert_int_equal(access(c->rows[i].ct, R_OK), 0);
        if (c->rows[i].lung) assert_int_equal(access(c->rows[i].lung, R_OK), 0);
        if (c->rows[i].lesion) assert_int_equal(access(c->rows[i].lesion, R_OK), 0);
    }
    const char **names;
    size_t n;
    assert_int_equal(cases_folds(c, "rp", &names, &n), COV_OK);
    assert_int_equal(n, 4);
    free(names);
    cases_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_is_read_with_paths_from_its_own_folder),
        cmocka_unit_test(missing_columns_are_named),
        cmocka_unit_test(values_that_are_not_understood_are_named_with_their_line),
        cmocka_unit_test(folds_are_patients_and_never_cases),
        cmocka_unit_test(the_real_table_is_read_and_its_files_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
