/* prefetch: see prefetch.h. A ring of batches, one mutex, two conditions. Batches are begun in order; one that is begun is
 * finished, so all before a failed one come out. */
#include "stages/prefetch.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { AHEAD = 3 }; /* blocks beside those that are being filled */

typedef struct block {
    void *memory;
    uint64_t ready; /* number of the batch in it plus 1; 0: none yet */
} block;

struct prefetch {
    prefetch_source source;
    block *ring;
    pthread_t *threads;
    uint64_t room, first, begun, taken; /* blocks; batches begun and handed out; the one in use is taken - 1 */
    int stop, started;
    status failed;           /* of a fill, with its batch and message; nothing is begun after it */
    uint64_t failed_at;
    char message[512];
    pthread_mutex_t lock;
    pthread_cond_t can_make, can_take;
};

/* Of several failures the lowest batch's stays. */
static void keep_failure(prefetch *p, status s, uint64_t k)
{
    if (p->failed != COV_OK && p->failed_at < k) return;
    p->failed = s;
    p->failed_at = k;
    snprintf(p->message, sizeof p->message, "%s", status_message()); /* it belongs to this thread */
}

/* A block is free again when the batch after it has been asked for. */
static void *work(void *argument)
{
    prefetch *p = argument;
    pthread_mutex_lock(&p->lock);
    while (!p->stop && p->failed == COV_OK) {
        if (p->begun + 1 >= p->taken + p->room) {
            pthread_cond_wait(&p->can_make, &p->lock);
            continue;
        }
        uint64_t k = p->begun++;
        block *to = &p->ring[k % p->room];
        pthread_mutex_unlock(&p->lock);
        status s = p->source.fill(p->source.ctx, p->first + k, to->memory);
        pthread_mutex_lock(&p->lock);
        if (s == COV_OK) to->ready = k + 1;
        else keep_failure(p, s, k);
        pthread_cond_signal(&p->can_take);
    }
    pthread_cond_broadcast(&p->can_make); /* all end */
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static status start(prefetch *p, size_t bytes, int threads)
{
    p->room = (uint64_t)threads + AHEAD;
    p->ring = calloc(p->room, sizeof *p->ring);
    p->threads = calloc((size_t)threads, sizeof *p->threads);
    if (!p->ring || !p->threads) return COV_FAIL(COV_NOMEM, "no memory for the prefetcher");
    for (uint64_t k = 0; k < p->room; k++)
        if (!(p->ring[k].memory = calloc(1, bytes)))
            return COV_FAIL(COV_NOMEM, "no memory for %llu batches of %zu bytes", (unsigned long long)p->room, bytes);
    for (; p->started < threads; p->started++)
        if (pthread_create(&p->threads[p->started], NULL, work, p) != 0)
            return COV_FAIL(COV_NOMEM, "the prefetcher's thread %d of %d could not be started", p->started + 1, threads);
    return COV_OK;
}

status prefetch_new(const prefetch_source *source, size_t bytes, uint64_t first, int threads, prefetch **out)
{
    prefetch *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p) return COV_FAIL(COV_NOMEM, "no memory for the prefetcher");
    p->source = *source;
    p->first = first;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->can_make, NULL);
    pthread_cond_init(&p->can_take, NULL);
    status s = start(p, bytes, threads < 1 ? 1 : threads);
    if (s != COV_OK) prefetch_free(&p);
    *out = p;
    return s;
}

void prefetch_free(prefetch **pp)
{
    prefetch *p = *pp;
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->stop = 1;
    pthread_cond_broadcast(&p->can_make);
    pthread_mutex_unlock(&p->lock);
    for (int k = 0; k < p->started; k++) pthread_join(p->threads[k], NULL);
    for (uint64_t k = 0; p->ring && k < p->room; k++) free(p->ring[k].memory);
    pthread_cond_destroy(&p->can_take);
    pthread_cond_destroy(&p->can_make);
    pthread_mutex_destroy(&p->lock);
    free(p->ring);
    free(p->threads);
    free(p);
    *pp = NULL;
}

status prefetch_next(prefetch *p, const void **out)
{
    pthread_mutex_lock(&p->lock);
    uint64_t k = p->taken++;
    const block *from = &p->ring[k % p->room];
    pthread_cond_broadcast(&p->can_make);
    while (from->ready != k + 1 && !(p->failed != COV_OK && p->failed_at <= k)) pthread_cond_wait(&p->can_take, &p->lock);
    status s = from->ready == k + 1 ? COV_OK : p->failed;
    pthread_mutex_unlock(&p->lock);
    *out = s == COV_OK ? from->memory : NULL;
    return s == COV_OK ? COV_OK : COV_FAIL(s, "%s", p->message);
}
