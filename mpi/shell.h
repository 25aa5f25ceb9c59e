/* shell: a rank's side of the farm. It takes units from the dealer, has readers read ahead, feeds the worker, counts
 * strikes, and says what became of each study. It never waits: shell_step does what can be done now. Local. */
#ifndef COV_MPI_SHELL_H
#define COV_MPI_SHELL_H
#include "mpi/farm.h"
#include <poll.h>

enum { SHELL_SOCKETS = 64 };

typedef struct shell shell;
/* Borrows all three. o has no zeros left where a default exists. */
status shell_new(world *w, spawner *s, const farm_options *o, shell **out);
void shell_free(shell **sh); /* accepts NULL */
/* A message from the dealer. A failure ends the job. */
status shell_take(shell *sh, message *in);
status shell_step(shell *sh);
int shell_sockets(const shell *sh, struct pollfd p[SHELL_SOCKETS]); /* how many; readable ones want a step */
int shell_gone(const shell *sh);                                    /* has said BYE: no children, nothing open */
int shell_stopped(const shell *sh);                                 /* the dealer finished with studies left open */
#endif
