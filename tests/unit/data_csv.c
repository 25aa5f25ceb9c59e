/* CSV by RFC 4180, and the metadata table that joins by path or id. */
#include "data/csv.h"
#include "data/metadata.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static csv *parse(const char *text)
{
    csv *t;
    status s = csv_parse("t.csv", text, strlen(text), &t);
    if (s != COV_OK) fail_msg("%s", status_message());
    return t;
}

static void expect_refused(const char *text, size_t n, const char *message_part)
{
    csv *t;
    assert_int_equal(csv_parse("t.csv", text, n, &t), COV_FORMAT);
    assert_null(t);
    if (!strstr(status_message(), message_part)) fail_msg("'%s' lacks '%s'", status_message(), message_part);
}

static void quotes_line_breaks_and_crlf_are_read_as_the_rfc_says(void **state)
{
    (void)state;
    csv *t = parse("\xEF\xBB\xBF"
                   "a,\"b\"\"c\",D\r\n1,\"x, \"\"y\"\"\r\nz\",\r\n\r\n,\"\",last");
    assert_int_equal(t->columns, 3);
    assert_int_equal(t->rows, 2);
    assert_string_equal(t->names[0], "a");
    assert_string_equal(t->names[1], "b\"c");
    assert_int_equal(csv_column(t, "d"), 2);
    assert_int_equal(csv_column(t, "missing"), -1);
    assert_string_equal(csv_get(t, 0, 1), "x, \"y\"\r\nz");
    assert_string_equal(csv_get(t, 0, 2), "");
    assert_string_equal(csv_get(t, 1, 0), "");
    assert_string_equal(csv_get(t, 1, 2), "last");
    assert_int_equal(t->lines[0], 2);
    assert_int_equal(t->lines[1], 5);
    csv_free(&t);
    assert_null(t);
    t = parse("one\n1\n2");
    assert_int_equal(t->rows, 2);
    csv_free(&t);
}

static void a_table_of_many_rows_keeps_every_field(void **state)
{
    (void)state;
    enum { ROWS = 5000 };
    char *text = malloc(ROWS * 32);
    size_t n = (size_t)sprintf(text, "a,b\n");
    for (int i = 0; i < ROWS; i++) n += (size_t)sprintf(text + n, "%d,\"%d\"\n", i, -i);
    csv *t = parse(text);
    free(text);
    assert_int_equal(t->rows, ROWS);
    for (int i = 0; i < ROWS; i++) {
        assert_int_equal(atoi(csv_get(t, (size_t)i, 0)), i);
        assert_int_equal(atoi(csv_get(t, (size_t)i, 1)), -i);
    }
    csv_free(&t);
}

static void damage_is_refused_with_the_line(void **state)
{
    (void)state;
    expect_refused("", 0, "no header");
    expect_refused("\n\n", 2, "no header");
    expect_refused("a,b\n1,2\n1\n", 10, "t.csv:3: 1 fields");
    expect_refused("a,b\n1,2,3\n", 10, "t.csv:2: 3 fields");
    expect_refused("a,b\n1,\"2\n", 9, "t.csv:2: a quote");
    expect_refused("a,b\n1,\"2\"x\n", 11, "t.csv:2: text after");
    expect_refused("a,b\n1,\0\n", 8, "NUL");
    csv *t;
    assert_int_equal(csv_read("/nonexistent/x.csv", &t), COV_IO);
    assert_int_equal(csv_read("/dev", &t), COV_IO);
    assert_null(t);
}

/* ---- metadata ---- */

static const char *write_csv(const char *text)
{
    static char path[64];
    strcpy(path, "/tmp/covpipe-csv-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    return path;
}

static void metadata_joins_by_path_first_and_by_id_otherwise(void **state)
{
    (void)state;
    metadata *m;
    const char *path =
        write_csv("id,date,path,pseudonym\nx1,2020-03-01,a/ct.nii.gz,P7\nx2,2020-03-09,,\"P8, again\"\n");
    assert_int_equal(metadata_read(path, &m), COV_OK);
    unlink(path);
    assert_int_equal(metadata_columns(m), 2);
    assert_int_equal(metadata_rows(m), 2);
    assert_string_equal(metadata_name(m, 0), "date");
    assert_string_equal(metadata_name(m, 1), "pseudonym");
    assert_int_equal(metadata_width(m, 1), 9);
    assert_int_equal(metadata_find(m, "x2", "a/ct.nii.gz"), 0);
    assert_int_equal(metadata_find(m, "x2", "other"), 1);
    assert_int_equal(metadata_find(m, "none", "none"), -1);
    assert_int_equal(metadata_find(m, "", ""), -1);
    assert_string_equal(metadata_get(m, 1, 1), "P8, again");
    assert_string_equal(metadata_get(m, -1, 1), "");
    metadata_free(&m);
    assert_null(m);
}

static void metadata_without_a_key_or_with_one_twice_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"date,name\n1,2\n", "id,date\na,1\nb,2\na,3\n", "path\nx\nx\n"};
    for (int i = 0; i < 3; i++) {
        metadata *m;
        const char *path = write_csv(bad[i]);
        assert_int_equal(metadata_read(path, &m), COV_USAGE);
        assert_null(m);
        unlink(path);
    }
    assert_non_null(strstr(status_message(), ":3:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quotes_line_breaks_and_crlf_are_read_as_the_rfc_says),
        cmocka_unit_test(a_table_of_many_rows_keeps_every_field),
        cmocka_unit_test(damage_is_refused_with_the_line),
        cmocka_unit_test(metadata_joins_by_path_first_and_by_id_otherwise),
        cmocka_unit_test(metadata_without_a_key_or_with_one_twice_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
