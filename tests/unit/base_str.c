/* base/str: growing strings; escapes for JSON and CSV; UTF-8 repair; numbers from whole strings. Much of the input is
 * hostile: file names and headers are bytes that anyone may have written. */
#include "base/str.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void an_empty_str_is_an_empty_text(void **state)
{
    str s = {0};
    (void)state;
    assert_string_equal(str_text(&s), "");
    str_clear(&s);
    str_free(&s);
    assert_string_equal(str_text(&s), "");
    str_put(&s, "");
    assert_string_equal(str_text(&s), "");
    str_free(&s);
    assert_null(s.text);
}

static void puts_are_joined_and_stay_terminated(void **state)
{
    str s = {0};
    (void)state;
    str_put(&s, "one ");
    str_putf(&s, "%d %s", 2, "three");
    str_put_bytes(&s, "\0x", 2);
    assert_int_equal(s.length, 13);
    assert_memory_equal(s.text, "one 2 three\0x", 14);
    assert_false(s.failed);
    str_free(&s);
}

static void it_grows_far_beyond_its_first_room(void **state)
{
    str s = {0};
    (void)state;
    for (int i = 0; i < 100000; i++) str_putf(&s, "%05d,", i);
    assert_int_equal(s.length, 600000);
    for (int i = 0; i < 100000; i++) assert_int_equal(atoi(s.text + i * 6), i);
    str_free(&s);
}

static void clearing_keeps_the_room_and_forgets_the_text(void **state)
{
    str s = {0};
    (void)state;
    str_put(&s, "some text");
    size_t room = s.room;
    str_clear(&s);
    assert_string_equal(str_text(&s), "");
    assert_int_equal(s.room, room);
    str_put(&s, "x");
    assert_string_equal(str_text(&s), "x");
    str_free(&s);
}

static void a_failed_str_takes_nothing_more(void **state)
{
    str s = {0};
    (void)state;
    str_put(&s, "kept");
    str_put_bytes(&s, "x", SIZE_MAX - 2); /* no room for that, and nothing is read */
    assert_true(s.failed);
    str_put(&s, "more");
    assert_string_equal(str_text(&s), "kept");
    str_clear(&s);
    assert_false(s.failed);
    str_free(&s);
}

static void must_become(void (*put)(str *, const char *), const char *in, const char *out)
{
    str s = {0};
    put(&s, in);
    assert_string_equal(str_text(&s), out);
    str_free(&s);
}

static void json_strings_are_quoted_and_escaped(void **state)
{
    (void)state;
    must_become(str_put_json, "", "\"\"");
    must_become(str_put_json, "plain", "\"plain\"");
    must_become(str_put_json, "a\"b\\c", "\"a\\\"b\\\\c\"");
    must_become(str_put_json, "\n\t\x01\x1f", "\"\\u000a\\u0009\\u0001\\u001f\"");
    must_become(str_put_json, "K\xc3\xb6ln \xe2\x82\xac \xf0\x9f\x98\x80",
                "\"K\xc3\xb6ln \xe2\x82\xac \xf0\x9f\x98\x80\"");
}

static void bytes_that_are_no_utf8_become_the_replacement_character_in_json(void **state)
{
    (void)state;
    must_become(str_put_json,
                "a\xff"
                "b",
                "\"a\\ufffdb\"");
    must_become(str_put_json, "\xc3", "\"\\ufffd\"");                                  /* cut off */
    must_become(str_put_json, "\xe2\x82", "\"\\ufffd\\ufffd\"");                       /* cut off after two */
    must_become(str_put_json, "\xc0\xaf", "\"\\ufffd\\ufffd\"");                       /* overlong '/' */
    must_become(str_put_json, "\xe0\x80\xaf", "\"\\ufffd\\ufffd\\ufffd\"");            /* overlong, three bytes */
    must_become(str_put_json, "\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"");            /* a surrogate */
    must_become(str_put_json, "\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""); /* above U+10FFFF */
    must_become(str_put_json, "\xf0\x80\x80\xaf", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""); /* overlong, four bytes */
    must_become(str_put_json, "\x80", "\"\\ufffd\"");
}

static void csv_fields_are_quoted_only_when_they_must_be(void **state)
{
    (void)state;
    must_become(str_put_csv, "", "");
    must_become(str_put_csv, "plain text", "plain text");
    must_become(str_put_csv, "a,b", "\"a,b\"");
    must_become(str_put_csv, "say \"x\"", "\"say \"\"x\"\"\"");
    must_become(str_put_csv, "two\nlines", "\"two\nlines\"");
    must_become(str_put_csv, "cr\r", "\"cr\r\"");
}

static void utf8_copies_are_cut_between_characters(void **state)
{
    char dst[8];
    (void)state;
    str_utf8(dst, sizeof dst, "1234567");
    assert_string_equal(dst, "1234567");
    str_utf8(dst, sizeof dst, "12345678");
    assert_string_equal(dst, "1234567");
    str_utf8(dst, sizeof dst, "12345\xe2\x82\xac"); /* 5 + 3 bytes and a NUL do not fit 8 */
    assert_string_equal(dst, "12345");
    str_utf8(dst, sizeof dst, "1234\xe2\x82\xac");
    assert_string_equal(dst, "1234\xe2\x82\xac");
    str_utf8(dst, sizeof dst,
             "a\xff\xc3"
             "b\x80");
    assert_string_equal(dst, "a??b?");
    str_utf8(dst, 1, "abc");
    assert_string_equal(dst, "");
    memset(dst, 'x', sizeof dst);
    str_utf8(dst, 0, "abc");
    assert_int_equal(dst[0], 'x');
}

static void endings_are_compared_without_ascii_case(void **state)
{
    (void)state;
    assert_true(str_ends_with("ct.nii.gz", ".nii.gz"));
    assert_true(str_ends_with("CT.NII.GZ", ".nii.gz"));
    assert_true(str_ends_with(".nii", ".nii"));
    assert_true(str_ends_with("x", ""));
    assert_false(str_ends_with("nii", ".nii"));
    assert_false(str_ends_with("ct.nii.gz", ".nii"));
}

static void whole_integers_are_read_and_others_refused(void **state)
{
    const char *const bad[] = {"",  " ",    "12x", "1.5", "9223372036854775808", "-9223372036854775809",
                               "x", "0x10", "--1"};
    long long v = 77;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (str_to_int(bad[i], &v)) fail_msg("\"%s\" was read as %lld", bad[i], v);
    assert_int_equal(v, 77);
    assert_true(str_to_int("9223372036854775807", &v) && v == INT64_MAX);
    assert_true(str_to_int("-12", &v) && v == -12);
    assert_true(str_to_int("007", &v) && v == 7);
}

static void whole_finite_numbers_are_read_and_others_refused(void **state)
{
    const char *const bad[] = {"", "1.5mm", "nan", "inf", "-infinity", "1e999", "1,5", ".", "e3", "1.5 "};
    double v = 77;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (str_to_double(bad[i], &v)) fail_msg("\"%s\" was read as %g", bad[i], v);
    assert_true(v == 77);
    assert_true(str_to_double("-0.75", &v) && v == -0.75);
    assert_true(str_to_double("1e-3", &v) && fabs(v - 1e-3) < 1e-18);
    assert_true(str_to_double("12", &v) && v == 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_str_is_an_empty_text),
        cmocka_unit_test(puts_are_joined_and_stay_terminated),
        cmocka_unit_test(it_grows_far_beyond_its_first_room),
        cmocka_unit_test(clearing_keeps_the_room_and_forgets_the_text),
        cmocka_unit_test(a_failed_str_takes_nothing_more),
        cmocka_unit_test(json_strings_are_quoted_and_escaped),
        cmocka_unit_test(bytes_that_are_no_utf8_become_the_replacement_character_in_json),
        cmocka_unit_test(csv_fields_are_quoted_only_when_they_must_be),
        cmocka_unit_test(utf8_copies_are_cut_between_characters),
        cmocka_unit_test(endings_are_compared_without_ascii_case),
        cmocka_unit_test(whole_integers_are_read_and_others_refused),
        cmocka_unit_test(whole_finite_numbers_are_read_and_others_refused),
    };
    return cmocka_run_group_tests_name("str", tests, NULL, NULL);
}
