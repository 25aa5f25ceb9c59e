/* spawn: the spawner's loop, and the shell's side of it. The spawner keeps the table of living children, so a kill can
 * never hit a process number that the system has given to somebody else. */
#include "mpi/spawn.h"
#include "mpi/channel.h"
#include "mpi/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ORDER_FORK = 1, ORDER_KILL, REPORT };
enum { CHILDREN_MOST = 256 };

struct spawner {
    int socket;
    pid_t pid;
    int64_t next_ticket;
    message out, in;
};

/* ---- in the spawner process */

typedef struct living { int64_t ticket; pid_t pid; } living;
typedef struct nursery {
    const farm_calls *calls;
    const spawn_options *options;
    int socket, signals;
    pid_t shell;
    living children[CHILDREN_MOST];
    int count;
    message in, out;
} nursery;

static void die_with_parent(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1); /* it was gone before prctl */
}

static void ignore_signals(void)
{
    static const int ignored[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGHUP, SIGPIPE};
    for (size_t k = 0; k < sizeof ignored / sizeof ignored[0]; k++) signal(ignored[k], SIG_IGN);
}

static void report(nursery *n, int64_t ticket, pid_t pid, int ended, int wait_status)
{
    spawn_event e = {.ticket = ticket, .pid = pid, .ended = ended, .wait_status = wait_status};
    message_start(&n->out, REPORT);
    message_put_bytes(&n->out, &e, sizeof e);
    /* The shell reads often; when it does not for so long that the buffer is full, all is lost anyway. */
    if (channel_send(n->socket, &n->out, -1) != COV_OK) _exit(1);
}

static void fork_child(nursery *n, spawn_kind kind, int64_t ticket, int socket)
{
    pid_t self = getpid();
    pid_t pid = n->count < CHILDREN_MOST ? fork() : (errno = EAGAIN, -1);
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        die_with_parent(self);
        close(n->socket);
        close(n->signals);
        sigprocmask(SIG_SETMASK, &none, NULL);
        child_main(kind == SPAWN_WORKER, n->calls, n->options->reader_bytes, n->options->no_sandbox, socket);
        _exit(0);
    }
    int why = errno;
    close(socket);
    if (pid < 0) { report(n, ticket, -1, 1, why); return; }
    n->children[n->count++] = (living){ticket, pid};
    report(n, ticket, pid, 0, 0);
}

static void take_order(nursery *n, int fd)
{
    int kind = message_kind(&n->in);
    int64_t what = message_get_i64(&n->in), ticket = message_get_i64(&n->in);
    if (kind == ORDER_FORK && fd >= 0) { fork_child(n, (spawn_kind)what, ticket, fd); return; }
    if (fd >= 0) close(fd);
    for (int k = 0; kind == ORDER_KILL && k < n->count; k++)
        if (n->children[k].ticket == ticket) kill(n->children[k].pid, SIGKILL);
}

static void reap(nursery *n)
{
    int wait_status;
    for (pid_t pid; (pid = waitpid(-1, &wait_status, WNOHANG)) > 0;)
        for (int k = 0; k < n->count; k++)
            if (n->children[k].pid == pid) {
                int64_t ticket = n->children[k].ticket;
                n->children[k] = n->children[--n->count];
                report(n, ticket, pid, 1, wait_status);
                break;
            }
}

static void spawner_main(nursery *n)
{
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_SETMASK, &chld, NULL);
    n->signals = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null >= 0) dup2(null, 0);
    if (null > 0) close(null);
    for (;;) {
        struct pollfd p[2] = {{.fd = n->socket, .events = POLLIN}, {.fd = n->signals, .events = POLLIN}};
        if (poll(p, 2, 1000) < 0 && errno != EINTR) _exit(1);
        struct signalfd_siginfo gone;
        while (read(n->signals, &gone, sizeof gone) > 0) {}
        reap(n);
        for (int got = 1, open = 1, fd; got;) {
            if (channel_receive(n->socket, 0, &n->in, &fd, &got, &open) != COV_OK || !open) _exit(0);
            if (got) take_order(n, fd);
        }
    }
}

/* ---- in the shell */

status spawn_start(const farm_calls *calls, const spawn_options *o, spawner **out)
{
    status s = COV_OK;
    int ends[2] = {-1, -1};
    *out = NULL;
    spawner *me = calloc(1, sizeof *me);
    nursery *n = calloc(1, sizeof *n);
    if (!me || !n) { s = COV_FAIL(COV_NOMEM, "no memory for the spawner"); goto done; }
    COV_GO(channel_pair(ends));
    pid_t parent = getpid();
    me->pid = fork();
    if (me->pid < 0) { s = COV_FAIL(COV_IO, "cannot fork the spawner: %s", strerror(errno)); goto done; }
    if (me->pid == 0) {
        die_with_parent(parent);
        ignore_signals();
        close(ends[0]);
        *n = (nursery){.calls = calls, .options = o, .socket = ends[1], .shell = parent};
        spawner_main(n);
    }
    me->socket = ends[0];
    ends[0] = -1;
    *out = me;
    me = NULL;
done:
    if (ends[0] >= 0) close(ends[0]);
    if (ends[1] >= 0) close(ends[1]);
    free(n);
    free(me);
    return s;
}

int spawn_socket(const spawner *s) { return s->socket; }

static status order(spawner *s, int kind, int64_t what, int64_t ticket, int fd)
{
    message_start(&s->out, kind);
    message_put_i64(&s->out, what);
    message_put_i64(&s->out, ticket);
    if (channel_send(s->socket, &s->out, fd) != COV_OK)
        return COV_FAIL(COV_BROKEN, "the spawner process %d is gone", (int)s->pid);
    return COV_OK;
}

status spawn_child(spawner *s, spawn_kind kind, int64_t *ticket, int *socket)
{
    int ends[2];
    *socket = -1;
    *ticket = 0;
    COV_TRY(channel_pair(ends));
    status done = order(s, ORDER_FORK, kind, s->next_ticket + 1, ends[1]);
    close(ends[1]);
    if (done != COV_OK) { close(ends[0]); return done; }
    *ticket = ++s->next_ticket;
    *socket = ends[0];
    return COV_OK;
}

status spawn_kill(spawner *s, int64_t ticket) { return order(s, ORDER_KILL, 0, ticket, -1); }

status spawn_next(spawner *s, spawn_event *out, int *any)
{
    int fd, open;
    *out = (spawn_event){0};
    COV_TRY(channel_receive(s->socket, 0, &s->in, &fd, any, &open));
    if (fd >= 0) close(fd);
    if (!open) return COV_FAIL(COV_BROKEN, "the spawner process %d is gone", (int)s->pid);
    if (*any) message_get_bytes(&s->in, out, sizeof *out);
    return COV_OK;
}

void spawn_stop(spawner **s)
{
    if (!s || !*s) return;
    close((*s)->socket);
    waitpid((*s)->pid, NULL, 0); /* it leaves when its socket closes, and its children die with it */
    message_free(&(*s)->in);
    message_free(&(*s)->out);
    free(*s);
    *s = NULL;
}
