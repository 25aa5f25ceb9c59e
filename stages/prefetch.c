/* prefetch: see prefetch.h. A ring of batches, one mutex, two conditions. */
#include "stages/prefetch.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { RING = 4 };

struct prefetch {
    prefetch_source source;
    void *ring[RING];
    uint64_t first, made, taken; /* batches finished and handed out; the one in use is taken - 1 */
    int stop, started;
    status failed;       /* of a fill, with its message; nothing is made after it */
    char message[512];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t can_make, can_take;
};

/* A slot is free again when the batch after it has been asked for: RING - 1 ahead of the one in use at most. */
static void *work(void *argument)
{
    prefetch *p = argument;
    pthread_mutex_lock(&p->lock);
    while (!p->stop && p->failed == COV_OK) {
        if (p->made + 1 >= p->taken + RING) {
            pthread_cond_wait(&p->can_make, &p->lock);
            continue;
        }
        uint64_t k = p->made;
        pthread_mutex_unlock(&p->lock);
        status s = p->source.fill(p->source.ctx, p->first + k, p->ring[k % RING]);
        pthread_mutex_lock(&p->lock);
        if (s == COV_OK) p->made = k + 1;
        else snprintf(p->message, sizeof p->message, "%s", status_message()); /* it belongs to this thread */
        p->failed = s;
        pthread_cond_signal(&p->can_take);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

status prefetch_new(const prefetch_source *source, size_t bytes, uint64_t first, prefetch **out)
{
    prefetch *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p) return COV_FAIL(COV_NOMEM, "no memory for the prefetcher");
    p->source = *source;
    p->first = first;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->can_make, NULL);
    pthread_cond_init(&p->can_take, NULL);
    for (int k = 0; k < RING; k++) {
        p->ring[k] = calloc(1, bytes);
        if (!p->ring[k]) {
            prefetch_free(&p);
            return COV_FAIL(COV_NOMEM, "no memory for %d batches of %zu bytes", RING, bytes);
        }
    }
    p->started = pthread_create(&p->thread, NULL, work, p) == 0;
    if (!p->started) {
        prefetch_free(&p);
        return COV_FAIL(COV_NOMEM, "the prefetcher's thread could not be started");
    }
    *out = p;
    return COV_OK;
}

void prefetch_free(prefetch **pp)
{
    prefetch *p = *pp;
    if (!p) return;
    if (p->started) {
        pthread_mutex_lock(&p->lock);
        p->stop = 1;
        pthread_cond_signal(&p->can_make);
        pthread_mutex_unlock(&p->lock);
        pthread_join(p->thread, NULL);
    }
    for (int k = 0; k < RING; k++) free(p->ring[k]);
    pthread_cond_destroy(&p->can_take);
    pthread_cond_destroy(&p->can_make);
    pthread_mutex_destroy(&p->lock);
    free(p);
    *pp = NULL;
}

status prefetch_next(prefetch *p, const void **out)
{
    pthread_mutex_lock(&p->lock);
    uint64_t k = p->taken++;
    pthread_cond_signal(&p->can_make);
    while (p->made <= k && p->failed == COV_OK) pthread_cond_wait(&p->can_take, &p->lock);
    status s = p->made > k ? COV_OK : p->failed;
    pthread_mutex_unlock(&p->lock);
    *out = s == COV_OK ? p->ring[k % RING] : NULL;
    return s == COV_OK ? COV_OK : COV_FAIL(s, "%s", p->message);
}
