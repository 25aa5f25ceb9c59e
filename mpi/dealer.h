/* dealer: rank 0's side of the farm. It decides what earlier parts answer for, deals out headers and then units,
 * listens to every rank's heartbeat, drains, and accounts for every study. It never waits: dealer_step does what can be
 * done now. Local to rank 0. */
#ifndef COV_MPI_DEALER_H
#define COV_MPI_DEALER_H
#include "mpi/farm.h"

typedef struct dealer dealer;
/* Borrows all. o has no zeros left where a default exists. Looks at the parts that are there. */
status dealer_new(world *w, const farm_options *o, dealer **out);
void dealer_free(dealer **d); /* accepts NULL */
/* A message from a shell. COV_STOPPED: a second signal; any failure ends the job. */
status dealer_take(dealer *d, int from, message *in);
status dealer_step(dealer *d);
int dealer_gone(const dealer *d); /* every rank has left */
/* Moves the outcomes into out. COV_BROKEN if a study is not accounted for. */
status dealer_report(dealer *d, farm_report *out);
/* Tells every rank that the job ends; s and status_message() say why. */
void dealer_fatal(dealer *d, status s);
#endif
