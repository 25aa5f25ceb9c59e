/* sandbox: what a reader child gives up before it touches a file from outside: memory and processor time without bound,
 * core dumps, writing to any file, starting programs, and the network. A decoder that a hostile file takes over can
 * then do no more than hand over a wrong volume. Local; the calling process keeps its limits to its end. */
#ifndef COV_MPI_SANDBOX_H
#define COV_MPI_SANDBOX_H
#include "base/status.h"
#include <stdint.h>

/* Address space of this process: what it has now, plus bytes. May be raised again by a later call. */
status sandbox_memory(int64_t bytes);
/* Seconds of processor time from now on (then SIGXCPU ends the process); no core dumps; few descriptors. */
status sandbox_limits(double cpu_seconds);
/* System calls: an allow list by seccomp, anything else fails with EPERM; files may be opened for reading alone, and by
 * Landlock (where the kernel has it) only beneath the folder of `path`. *level: 0 nothing was available, 1 seccomp,
 * 2 and Landlock. Never undone. */
status sandbox_enter(const char *path, int *level);
#endif
