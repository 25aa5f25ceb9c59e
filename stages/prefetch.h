/* prefetch: makes training samples on a thread of its own, a few ahead of the network, in the order they will be asked
 * for. Sample numbers come from a function, so a rank of a data-parallel training gets its own ones. Local. */
#ifndef COV_STAGES_PREFETCH_H
#define COV_STAGES_PREFETCH_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

typedef struct prefetch prefetch;

/* What is fetched: `fill` makes batch number k (0, 1, ...) in its block; called on the prefetcher's thread only. */
typedef struct prefetch_source {
    status (*fill)(void *ctx, uint64_t k, void *block);
    void *ctx;
} prefetch_source;

/* bytes: of a block, which is zero before it is filled first. The first batch asked for will be `first`. */
status prefetch_new(const prefetch_source *source, size_t bytes, uint64_t first, prefetch **out);
void prefetch_free(prefetch **p);
/* The next batch, borrowed until the next call; or what `fill` failed with. */
status prefetch_next(prefetch *p, const void **out);
#endif
