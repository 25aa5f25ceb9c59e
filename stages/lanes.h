/* lanes: independent items of work taken by a few threads side by side. A narrow network on one plane keeps no two cores busy: each of its
 * layers is short, and waiting for the slowest thread of each costs a third. Several planes on one thread each wait for nothing.
 * What an item does must not depend on the lane it runs in, nor on other items. Local. */
#ifndef COV_STAGES_LANES_H
#define COV_STAGES_LANES_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

/* Items 0 .. items-1, each once, in lane 0 .. lanes-1; lane 0 is the calling thread. After a failure no further item is begun; of
 * several failures the one of the lowest item is returned, with its message. COV_NOMEM if a thread cannot be started. */
status lanes_run(int lanes, int64_t items, status (*work)(void *ctx, int lane, int64_t item), void *ctx);
/* How many lanes `threads` threads are worth if each takes `bytes` of memory: at least one; each has threads / lanes threads. */
int lanes_for(int threads, size_t bytes);
#endif
