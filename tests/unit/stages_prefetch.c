/* Batches come in the order of their numbers and with their own bytes, however many threads make them and whichever is
 * ready first; a failure comes after the batches before it. */
#include "stages/prefetch.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

enum { WORDS = 1000, NEVER = 1000000 };

typedef struct maker {
    uint64_t fail_from; /* this batch and all after it cannot be made */
    pthread_mutex_t lock;
    int inside, most; /* threads in fill, now and at most */
} maker;

/* Later batches are ready sooner, by turns. */
static status fill(void *ctx, uint64_t k, void *block)
{
    maker *m = ctx;
    uint64_t *to = block;
    pthread_mutex_lock(&m->lock);
    if (++m->inside > m->most) m->most = m->inside;
    pthread_mutex_unlock(&m->lock);
    nanosleep(&(struct timespec){.tv_nsec = (long)(1 + 2 * (7 - k % 8)) * 200000}, NULL);
    for (int i = 0; i < WORDS; i++) to[i] = k * WORDS + (uint64_t)i;
    pthread_mutex_lock(&m->lock);
    m->inside--;
    pthread_mutex_unlock(&m->lock);
    return k < m->fail_from ? COV_OK : COV_FAIL(COV_FORMAT, "batch %d is broken", (int)k);
}

static void batches_come_in_order_on_any_number_of_threads(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 9; threads += 4) {
        maker m = {.fail_from = NEVER, .lock = PTHREAD_MUTEX_INITIALIZER};
        prefetch *p;
        const void *got;
        assert_int_equal(prefetch_new(&(prefetch_source){.fill = fill, .ctx = &m}, WORDS * sizeof(uint64_t), 5, threads, &p), COV_OK);
        for (uint64_t k = 5; k < 60; k++) {
            assert_int_equal(prefetch_next(p, &got), COV_OK);
            for (uint64_t i = 0; i < WORDS; i++) assert_true(((const uint64_t *)got)[i] == k * WORDS + i);
        }
        prefetch_free(&p);
        assert_int_equal(m.inside, 0);
        assert_true(m.most <= threads && (threads == 1 || m.most > 1));
    }
}

static void the_lowest_failure_comes_after_the_batches_before_it(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 9; threads += 4) {
        maker m = {.fail_from = 9, .lock = PTHREAD_MUTEX_INITIALIZER};
        prefetch *p;
        const void *got;
        assert_int_equal(prefetch_new(&(prefetch_source){.fill = fill, .ctx = &m}, WORDS * sizeof(uint64_t), 0, threads, &p), COV_OK);
        for (uint64_t k = 0; k < 9; k++) assert_int_equal(prefetch_next(p, &got), COV_OK);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(prefetch_next(p, &got), COV_FORMAT);
            assert_null(got);
            assert_non_null(strstr(status_message(), "batch 9 is broken"));
        }
        prefetch_free(&p);
    }
}

static void a_prefetcher_ends_while_batches_are_being_made(void **state)
{
    (void)state;
    for (int taken = 0; taken < 4; taken++) {
        maker m = {.fail_from = NEVER, .lock = PTHREAD_MUTEX_INITIALIZER};
        prefetch *p;
        const void *got;
        assert_int_equal(prefetch_new(&(prefetch_source){.fill = fill, .ctx = &m}, WORDS * sizeof(uint64_t), 0, 4, &p), COV_OK);
        for (int k = 0; k < taken; k++) assert_int_equal(prefetch_next(p, &got), COV_OK);
        prefetch_free(&p);
        assert_null(p);
        prefetch_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_come_in_order_on_any_number_of_threads),
        cmocka_unit_test(the_lowest_failure_comes_after_the_batches_before_it),
        cmocka_unit_test(a_prefetcher_ends_while_batches_are_being_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
