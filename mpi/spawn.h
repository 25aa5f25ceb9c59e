/* spawn: a rank's second process, forked before MPI_Init, that only forks. Under srun a rank that has called MPI_Init
 * must not fork and must not die; so the processes that may crash are grandchildren of the rank, and the spawner tells
 * the rank how each of them ended. Everything dies with its parent (PR_SET_PDEATHSIG) and ignores TERM, INT, USR1.
 * Local. */
#ifndef COV_MPI_SPAWN_H
#define COV_MPI_SPAWN_H
#include "mpi/calls.h"
#include <sys/types.h>

typedef enum spawn_kind { SPAWN_READER, SPAWN_WORKER } spawn_kind;

typedef struct spawn_options {
    int64_t
        reader_bytes; /* memory of a reader above what it starts with, before it knows the volume's size; 0: 1 GiB */
    int no_sandbox;       /* readers without any limit: for debuggers and sanitizers */
} spawn_options;

/* What happened to a child. */
typedef struct spawn_event {
    int64_t ticket;
    pid_t pid;
    int ended; /* 0: it was started; 1: it ended, and wait_status says how (waitpid); start failed: ended 1, pid -1,
                  wait_status errno */
    int wait_status;
} spawn_event;

typedef struct spawner spawner;
/* Before MPI_Init, before any thread. Borrows calls until spawn_stop. */
status spawn_start(const farm_calls *calls, const spawn_options *o, spawner **out);
int spawn_socket(const spawner *s); /* for poll: readable when spawn_next has something */
/* Asks for a child; *socket is the caller's end of a channel to it, the caller closes it. tickets start at 1. */
status spawn_child(spawner *s, spawn_kind kind, int64_t *ticket, int *socket);
status spawn_kill(spawner *s, int64_t ticket); /* SIGKILL; one that has already ended is left alone */
/* Never blocks. *any 0: nothing new. COV_BROKEN if the spawner itself is gone. */
status spawn_next(spawner *s, spawn_event *out, int *any);
void spawn_stop(spawner **s); /* kills all children, waits for the spawner; accepts NULL */
#endif
