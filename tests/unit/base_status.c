/* base/status: messages, traces and the two macros that relay them. */
#include "base/status.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { FAILS_AT = __LINE__ + 1 };
static status fails(void) { return COV_FAIL(COV_IO, "%s: %d of %d", "a.nii", 3, 7); }

enum { RELAYS_AT = __LINE__ + 3 };
static status relays(status (*f)(void))
{
    COV_TRY(f());
    return COV_OK;
}

static status succeeds(void) { return COV_OK; }

static status cleans_up(status (*f)(void), int *steps, int *cleaned)
{
    status s = COV_OK;
    COV_GO(f());
    ++*steps;
done:
    ++*cleaned;
    return s;
}

static void a_failure_has_its_status_its_message_and_its_line(void **state)
{
    (void)state;
    assert_int_equal(fails(), COV_IO);
    assert_string_equal(status_message(), "a.nii: 3 of 7");
    char trace[64];
    snprintf(trace, sizeof trace, "base_status.c:%d", FAILS_AT);
    assert_string_equal(status_trace(), trace);
}

static void try_relays_the_status_and_adds_its_line(void **state)
{
    (void)state;
    assert_int_equal(relays(fails), COV_IO);
    assert_string_equal(status_message(), "a.nii: 3 of 7");
    char trace[64];
    snprintf(trace, sizeof trace, "base_status.c:%d < base_status.c:%d", FAILS_AT, RELAYS_AT);
    assert_string_equal(status_trace(), trace);
    assert_int_equal(relays(succeeds), COV_OK);
}

static void go_leaves_through_done_and_only_on_failure(void **state)
{
    int steps = 0, cleaned = 0;
    (void)state;
    assert_int_equal(cleans_up(fails, &steps, &cleaned), COV_IO);
    assert_int_equal(steps, 0);
    assert_int_equal(cleaned, 1);
    assert_int_equal(cleans_up(succeeds, &steps, &cleaned), COV_OK);
    assert_int_equal(steps, 1);
    assert_int_equal(cleaned, 2);
}

static void a_new_failure_starts_a_new_trace(void **state)
{
    (void)state;
    relays(fails);
    (void)COV_FAIL(COV_NOMEM, "other");
    assert_string_equal(status_message(), "other");
    assert_null(strstr(status_trace(), "<"));
}

static void a_message_may_contain_the_message_before_it(void **state)
{
    (void)state;
    fails();
    (void)COV_FAIL(COV_FORMAT, "study 5: %s", status_message());
    assert_string_equal(status_message(), "study 5: a.nii: 3 of 7");
}

static void clearing_leaves_nothing(void **state)
{
    (void)state;
    fails();
    status_clear();
    assert_string_equal(status_message(), "");
    assert_string_equal(status_trace(), "");
}

static void long_messages_and_traces_are_cut_not_overflowed(void **state)
{
    char text[5000];
    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    (void)COV_FAIL(COV_IO, "%s", text);
    assert_in_range(strlen(status_message()), 500, sizeof text - 2);
    for (int i = 0; i < 1000; i++) status_relay(COV_IO, "some/folder/file.c", i);
    assert_in_range(strlen(status_trace()), 100, 2000);
    assert_null(strstr(status_trace(), "some/folder")); /* the file's name alone */
}

static void *fail_in_another_thread(void *seen)
{
    snprintf(seen, 64, "%s", status_message());
    (void)COV_FAIL(COV_DEVICE, "from the other thread");
    return NULL;
}

static void each_thread_has_its_own_message(void **state)
{
    pthread_t t;
    char seen[64] = "not run";
    (void)state;
    fails();
    assert_int_equal(pthread_create(&t, NULL, fail_in_another_thread, seen), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_string_equal(seen, "");
    assert_string_equal(status_message(), "a.nii: 3 of 7");
}

static void every_status_has_its_own_name(void **state)
{
    (void)state;
    assert_string_equal(status_name(COV_OK), "COV_OK");
    assert_string_equal(status_name(COV_USAGE), "COV_USAGE");
    assert_string_equal(status_name(COV_FORMAT), "COV_FORMAT");
    assert_string_equal(status_name(COV_IO), "COV_IO");
    assert_string_equal(status_name(COV_UNSUPPORTED), "COV_UNSUPPORTED");
    assert_string_equal(status_name(COV_DEVICE), "COV_DEVICE");
    assert_string_equal(status_name(COV_NOMEM), "COV_NOMEM");
    assert_string_equal(status_name(COV_COMM), "COV_COMM");
    assert_string_equal(status_name(COV_BROKEN), "COV_BROKEN");
    assert_string_equal(status_name(COV_STOPPED), "COV_STOPPED");
    assert_string_equal(status_name((status)(COV_STOPPED + 1)), "COV_?");
    assert_string_equal(status_name((status)-1), "COV_?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_has_its_status_its_message_and_its_line),
        cmocka_unit_test(try_relays_the_status_and_adds_its_line),
        cmocka_unit_test(go_leaves_through_done_and_only_on_failure),
        cmocka_unit_test(a_new_failure_starts_a_new_trace),
        cmocka_unit_test(a_message_may_contain_the_message_before_it),
        cmocka_unit_test(clearing_leaves_nothing),
        cmocka_unit_test(long_messages_and_traces_are_cut_not_overflowed),
        cmocka_unit_test(each_thread_has_its_own_message),
        cmocka_unit_test(every_status_has_its_own_name),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
