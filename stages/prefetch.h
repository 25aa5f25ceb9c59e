/* prefetch: makes training samples on a thread of its own, a few ahead of the network, in the order they will be asked for.
 * Sample numbers come from a function, so a rank of a data-parallel training gets its own ones. Local. */
#ifndef COV_STAGES_PREFETCH_H
#define COV_STAGES_PREFETCH_H
#include "base/status.h"
#include "stages/augment.h"
#include <stdint.h>

typedef struct prefetch prefetch;

/* What is fetched: `fill` makes batch number k (0, 1, ...) on the canvas arrays; called on the prefetcher's thread only. */
typedef struct prefetch_source {
    void (*fill)(void *ctx, uint64_t k, augment_canvas *to);
    void *ctx;
} prefetch_source;

/* count: floats of each of the three arrays of one batch. The first batch asked for will be `first`. */
status prefetch_new(const prefetch_source *source, size_t count, uint64_t first, prefetch **out);
void prefetch_free(prefetch **p);
/* The next batch, borrowed until the next call. */
const augment_canvas *prefetch_next(prefetch *p);
#endif
