/* lanes: see lanes.h. One counter deals the items; a failure's message is carried from its thread to the caller's. */
#include "stages/lanes.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE = 512 };
static const size_t MEMORY_MOST = (size_t)1 << 30; /* of all lanes together, where there is more than one */

typedef struct deal {
    pthread_mutex_t lock;
    int64_t next, items;
    status (*work)(void *ctx, int lane, int64_t item);
    void *ctx;
    status failed;
    int64_t failed_item;
    char message[MESSAGE];
} deal;

typedef struct lane {
    deal *deal;
    int number;
    pthread_t thread;
} lane;

static int64_t take(deal *d)
{
    pthread_mutex_lock(&d->lock);
    int64_t item = d->failed == COV_OK && d->next < d->items ? d->next++ : -1;
    pthread_mutex_unlock(&d->lock);
    return item;
}

static void keep_failure(deal *d, status s, int64_t item)
{
    pthread_mutex_lock(&d->lock);
    if (d->failed == COV_OK || item < d->failed_item) {
        d->failed = s;
        d->failed_item = item;
        strncpy(d->message, status_message(), MESSAGE - 1);
    }
    pthread_mutex_unlock(&d->lock);
}

static void *run(void *argument)
{
    lane *l = argument;
    for (int64_t item = take(l->deal); item >= 0; item = take(l->deal)) {
        status s = l->deal->work(l->deal->ctx, l->number, item);
        if (s != COV_OK) keep_failure(l->deal, s, item);
    }
    return NULL;
}

status lanes_run(int lanes, int64_t items, status (*work)(void *ctx, int lane, int64_t item), void *ctx)
{
    deal d = {.items = items, .work = work, .ctx = ctx};
    int started = 1, wanted = items < lanes ? (int)items : lanes;
    lane *all = calloc((size_t)(wanted > 0 ? wanted : 1), sizeof *all);
    if (!all) return COV_FAIL(COV_NOMEM, "no memory for %d lanes", lanes);
    pthread_mutex_init(&d.lock, NULL);
    for (int k = 0; k < wanted; k++) all[k] = (lane){.deal = &d, .number = k};
    while (started < wanted && pthread_create(&all[started].thread, NULL, run, &all[started]) == 0) started++;
    if (started < wanted) {
        (void)COV_FAIL(COV_NOMEM, "thread %d of %d could not be started", started + 1, wanted);
        keep_failure(&d, COV_NOMEM, 0);
    }
    if (wanted > 0) run(&all[0]);
    for (int k = 1; k < started; k++) pthread_join(all[k].thread, NULL);
    pthread_mutex_destroy(&d.lock);
    free(all);
    return d.failed == COV_OK ? COV_OK : COV_FAIL(d.failed, "%s", d.message);
}

int lanes_for(int threads, size_t bytes)
{
    size_t fit = bytes > 0 ? MEMORY_MOST / bytes : (size_t)threads;
    int lanes = fit < (size_t)threads ? (int)fit : threads;
    return lanes > 1 ? lanes : 1;
}
