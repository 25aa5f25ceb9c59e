/* base/sha256: the published examples (FIPS 180-4), pieces, files, and files that cannot be read. */
#include "base/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const char empty_digest[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
static const char abc_digest[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
static const char million_a_digest[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
enum { MILLION = 1000000 };

static char *million_a(void)
{
    char *text = malloc(MILLION);
    assert_non_null(text);
    return memset(text, 'a', MILLION);
}

static void published_examples_come_out(void **state)
{
    char hex[SHA256_HEX], *text = million_a();
    (void)state;
    assert_int_equal(sha256_bytes("", 0, hex), COV_OK);
    assert_string_equal(hex, empty_digest);
    assert_int_equal(sha256_bytes("abc", 3, hex), COV_OK);
    assert_string_equal(hex, abc_digest);
    assert_int_equal(sha256_bytes(text, MILLION, hex), COV_OK);
    assert_string_equal(hex, million_a_digest);
    free(text);
}

static void pieces_make_the_digest_of_the_whole(void **state)
{
    char hex[SHA256_HEX], *text = million_a();
    sha256 *h = NULL;
    (void)state;
    assert_int_equal(sha256_new(&h), COV_OK);
    for (size_t at = 0, n = 1; at < MILLION; at += n, n = n * 3 + 1) {
        if (n > MILLION - at) n = MILLION - at;
        assert_int_equal(sha256_put(h, text + at, n), COV_OK);
    }
    assert_int_equal(sha256_end(h, hex), COV_OK);
    assert_string_equal(hex, million_a_digest);
    sha256_free(&h);
    assert_null(h);
    sha256_free(&h);
    sha256_free(NULL);
    free(text);
}

static void a_file_has_the_digest_of_its_bytes(void **state)
{
    char hex[SHA256_HEX], *text = million_a(), path[] = "/tmp/covpipe-sha256-XXXXXX";
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(sha256_file(path, hex), COV_OK);
    assert_string_equal(hex, empty_digest);
    for (size_t at = 0; at < MILLION;) {
        ssize_t n = write(fd, text + at, MILLION - at);
        assert_true(n > 0);
        at += (size_t)n;
    }
    assert_int_equal(sha256_file(path, hex), COV_OK);
    assert_string_equal(hex, million_a_digest);
    close(fd);
    unlink(path);
    free(text);
}

static void a_file_that_cannot_be_read_is_an_io_failure_that_names_it(void **state)
{
    char hex[SHA256_HEX];
    (void)state;
    assert_int_equal(sha256_file("/nonexistent/volume.nii", hex), COV_IO);
    assert_non_null(strstr(status_message(), "/nonexistent/volume.nii"));
    assert_int_equal(sha256_file("/tmp", hex), COV_IO); /* a folder opens, but does not read */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_examples_come_out),
        cmocka_unit_test(pieces_make_the_digest_of_the_whole),
        cmocka_unit_test(a_file_has_the_digest_of_its_bytes),
        cmocka_unit_test(a_file_that_cannot_be_read_is_an_io_failure_that_names_it),
    };
    return cmocka_run_group_tests_name("sha256", tests, NULL, NULL);
}
