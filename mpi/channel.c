/* channel: sendmsg and recvmsg with at most one descriptor. The trap: descriptors that arrive but are not wanted must
 * be closed, or a hostile reader fills the shell's table. */
#include "mpi/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

status channel_pair(int ends[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        ends[0] = ends[1] = -1;
        return COV_FAIL(COV_IO, "socketpair: %s", strerror(errno));
    }
    return COV_OK;
}

typedef union control { /* aligned room for one descriptor */
    struct cmsghdr head;
    char room[CMSG_SPACE(sizeof(int))];
} control;

status channel_send(int socket, const message *m, int fd)
{
    COV_TRY(message_check(m, "to a child"));
    if (m->used > CHANNEL_MOST)
        return COV_FAIL(COV_BROKEN, "a packet of %zu bytes; at most %d fit", m->used, CHANNEL_MOST);
    control c = {0};
    struct iovec piece = {m->bytes, m->used};
    struct msghdr h = {.msg_iov = &piece, .msg_iovlen = 1};
    if (fd >= 0) {
        h.msg_control = c.room;
        h.msg_controllen = sizeof c.room;
        struct cmsghdr *head = CMSG_FIRSTHDR(&h);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(head), &fd, sizeof fd);
    }
    ssize_t n;
    do n = sendmsg(socket, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)m->used) return COV_FAIL(COV_COMM, "cannot send to a child process: %s", strerror(errno));
    return COV_OK;
}

status channel_receive(int socket, int wait, message *m, int *fd, int *got, int *open)
{
    *fd = -1;
    *got = 0;
    *open = 1;
    if (m->room < CHANNEL_MOST) {
        uint8_t *grown = realloc(m->bytes, CHANNEL_MOST);
        if (!grown) return COV_FAIL(COV_NOMEM, "no memory for a packet");
        m->bytes = grown;
        m->room = CHANNEL_MOST;
    }
    control c = {0};
    struct iovec piece = {m->bytes, m->room};
    struct msghdr h = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = c.room, .msg_controllen = sizeof c.room};
    ssize_t n;
    do n = recvmsg(socket, &h, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return COV_OK;
    if (n <= 0) { /* a reset is an end like any other: the spawner says how the child died */
        *open = 0;
        return COV_OK;
    }
    struct cmsghdr *head = CMSG_FIRSTHDR(&h);
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(head), sizeof *fd);
    m->used = (size_t)n;
    message_rewind(m);
    if (h.msg_flags & MSG_TRUNC) m->failed = 1;
    *got = 1;
    return COV_OK;
}
