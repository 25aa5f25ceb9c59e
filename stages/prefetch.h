/* prefetch: makes training samples on threads of its own, a few ahead of the network, and hands them out in the order of
 * their numbers, whichever is ready first: what comes out is the same for any number of threads. Local. */
#ifndef COV_STAGES_PREFETCH_H
#define COV_STAGES_PREFETCH_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

typedef struct prefetch prefetch;

/* What is fetched: `fill` makes batch number k (0, 1, ...) in its block, a pure function of k; called on the prefetcher's
 * threads only, on several at once. */
typedef struct prefetch_source {
    status (*fill)(void *ctx, uint64_t k, void *block);
    void *ctx;
} prefetch_source;

/* bytes: of a block, which is zero before it is filled first; there are three more of them than threads (at least 1).
 * The first batch asked for will be `first`. */
status prefetch_new(const prefetch_source *source, size_t bytes, uint64_t first, int threads, prefetch **out);
void prefetch_free(prefetch **p);
/* The next batch, borrowed until the next call; or what `fill` failed with: of several failures that of the lowest
 * number, after the batches before it. */
status prefetch_next(prefetch *p, const void **out);
#endif
