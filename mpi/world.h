/* world: the ranks of a job. Messages between shells are nonblocking: world_send copies and returns, world_next tests.
 * A watchdog thread bounds the few calls that do block in MPI (start, end, gather, training's sums). Rank 0 is the
 * dealer; a message to oneself takes a short way through a queue, so one rank and many run the same code. */
#ifndef COV_MPI_WORLD_H
#define COV_MPI_WORLD_H
#include "mpi/message.h"

typedef struct world_options {
    double start_seconds; /* MPI_Init and the first exchange; 0: 300 */
    double end_seconds;   /* MPI_Finalize; 0: 60 */
    /* Told by the watchdog, on its own thread, when a blocking call is late: prints, and must end the process. NULL:
     * _exit(1). */
    void (*late)(void *context, const char *message);
    void *context;
} world_options;

typedef struct world world;
/* Collective. Call after spawn_start, before any thread. Blocks SIGTERM, SIGINT and SIGUSR1 for world_signals.
 * COV_USAGE when Slurm started several tasks but MPI sees one rank. */
status world_open(const world_options *o, world **out);
/* Collective, unless something has failed: then use world_abort. Accepts NULL. */
void world_close(world **w);
/* Local: ends every rank of the job with this exit code; does not return. */
void world_abort(world *w, int code) __attribute__((noreturn));

int world_rank(const world *w);
int world_size(const world *w);
const char *world_host(const world *w, int rank); /* borrowed */
/* How many signals to stop have come so far; several within a second count as one. Local. */
int world_signals(world *w);
int world_signal_socket(const world *w); /* for poll */
double world_now(void);                  /* seconds, monotonic */

/* Local, never blocks. Messages from one rank arrive in order. */
status world_send(world *w, int to, const message *m);
/* *from -1: nothing has come. Also moves pending sends on: call it often. */
status world_next(world *w, message *in, int *from);
int world_pending(const world *w); /* sends that MPI still holds */

/* Bounds the blocking calls until world_guard_off: `what` (copied) is named in the message. Nesting: the last one
 * counts. */
void world_guard(world *w, const char *what, double seconds);
void world_guard_off(world *w);
#endif
