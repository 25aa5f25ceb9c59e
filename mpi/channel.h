/* channel: a SOCK_SEQPACKET socket pair between a shell, its spawner and a child. One packet is one message; a file
 * descriptor (a volume in shared memory, the child's own socket) may travel with it. Local. */
#ifndef COV_MPI_CHANNEL_H
#define COV_MPI_CHANNEL_H
#include "mpi/message.h"

enum { CHANNEL_MOST = 192 * 1024 }; /* bytes a packet: below the default socket buffer of Linux */

status channel_pair(int ends[2]); /* both close-on-exec */
/* Never blocks: COV_COMM if the other end is gone or does not read. fd: passed along, stays the caller's; -1: none. */
status channel_send(int socket, const message *m, int fd);
/* *fd is the caller's to close, -1 for none. *got 0: nothing there (wait 0) or, with *open 0, the other end is gone. */
status channel_receive(int socket, int wait, message *m, int *fd, int *got, int *open);
#endif
