/* world: MPI, wrapped. The traps: errors return only after MPI_Comm_set_errhandler; a singleton must be told not to
 * look for a daemon before MPI_Init; matched probes, because a plain probe and receive may block in a long message; and
 * a signal mask must be set before MPI starts its threads, or one of them takes the signal. */
#include "mpi/world.h"
#include "mpi/world_comm.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { TAG = 7, HOST = 64 };
static const double SAME_WISH_SECONDS = 1;

typedef struct letter {
    struct letter *next;
    message m;
    MPI_Request request;
} letter;

typedef struct guard {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    double deadline; /* 0: off */
    int stop, started;
    char what[160];
    void (*late)(void *context, const char *message);
    void *context;
} guard;

struct world {
    MPI_Comm farm, collective;
    int rank, size, signals, signal_count, pending;
    char (*hosts)[HOST];
    letter *sending;            /* held by MPI */
    letter *self, **self_end;   /* to oneself, in order */
    letter *receiving;          /* matched, arriving */
    int receiving_from;
    double end_seconds, signalled;
    guard guard;
};

double world_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int world_rank(const world *w) { return w->rank; }
int world_size(const world *w) { return w->size; }
const char *world_host(const world *w, int rank) { return w->hosts[rank]; }
int world_signal_socket(const world *w) { return w->signals; }
int world_pending(const world *w) { return w->pending; }
MPI_Comm world_comm(const world *w) { return w->collective; }

status world_mpi_fail(int code, const char *call, const char *file, int line)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n;
    MPI_Error_string(code, text, &n);
    return status_fail(COV_COMM, file, line, "%s: %s", call, text);
}

/* ---- the watchdog */

static void *guard_main(void *argument)
{
    guard *g = argument;
    pthread_mutex_lock(&g->lock);
    while (!g->stop) {
        if (g->deadline == 0) { pthread_cond_wait(&g->changed, &g->lock); continue; }
        if (world_now() >= g->deadline) {
            char text[256];
            snprintf(text, sizeof text, "%s took too long: another rank is gone or stopped; the job ends", g->what);
            if (g->late) g->late(g->context, text);
            _exit(1);
        }
        struct timespec until = {(time_t)g->deadline, (long)((g->deadline - (double)(time_t)g->deadline) * 1e9)};
        pthread_cond_timedwait(&g->changed, &g->lock, &until);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

void world_guard(world *w, const char *what, double seconds)
{
    guard *g = &w->guard;
    pthread_mutex_lock(&g->lock);
    g->deadline = seconds > 0 ? world_now() + seconds : 0;
    snprintf(g->what, sizeof g->what, "%s", what);
    pthread_cond_signal(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

void world_guard_off(world *w) { world_guard(w, "", 0); }

static status guard_start(guard *g, const world_options *o)
{
    pthread_condattr_t clock;
    g->late = o->late;
    g->context = o->context;
    pthread_mutex_init(&g->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&g->changed, &clock);
    pthread_condattr_destroy(&clock);
    int e = pthread_create(&g->thread, NULL, guard_main, g);
    if (e) return COV_FAIL(COV_NOMEM, "cannot start the watchdog thread: %s", strerror(e));
    g->started = 1;
    return COV_OK;
}

static void guard_stop(guard *g)
{
    if (!g->started) return;
    pthread_mutex_lock(&g->lock);
    g->stop = 1;
    pthread_cond_signal(&g->changed);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->thread, NULL);
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
}

/* ---- open and close */

static status take_signals(world *w)
{
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &stop, NULL);
    w->signals = signalfd(-1, &stop, SFD_NONBLOCK | SFD_CLOEXEC);
    return w->signals >= 0 ? COV_OK : COV_FAIL(COV_IO, "signalfd: %s", strerror(errno));
}

/* One wish to stop may come as several signals: `timeout` and mpirun send theirs to a process and to its group. */
int world_signals(world *w)
{
    struct signalfd_siginfo s;
    while (read(w->signals, &s, sizeof s) == (ssize_t)sizeof s)
        if (w->signal_count == 0 || world_now() - w->signalled > SAME_WISH_SECONDS) {
            w->signal_count++;
            w->signalled = world_now();
        }
    return w->signal_count;
}

/* Will MPI find the other ranks? mpirun, PMIx and PMI-2 each leave a mark. */
static int launched(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMIX_RANK") || (MPI_TAKES_PMI2 && getenv("PMI_RANK"));
}

/* N tasks that each believe to be alone would all write one file. Asked before MPI_Init, which would end the process
 * with a page of text. */
static status check_launch(int size, int by_mpirun)
{
    const char *tasks = getenv("SLURM_STEP_NUM_TASKS"), *step = getenv("SLURM_STEP_ID");
    long n = tasks && step ? strtol(tasks, NULL, 10) : 1;
    if (size > 1 || n <= 1 || by_mpirun) return COV_OK;
    return COV_FAIL(COV_USAGE, "Slurm started %ld tasks, but MPI sees one rank: use `srun --mpi=pmix covpipe ...`", n);
}

static status exchange_hosts(world *w)
{
    char mine[HOST] = "";
    gethostname(mine, sizeof mine - 1);
    w->hosts = calloc((size_t)w->size, sizeof *w->hosts);
    if (!w->hosts) return COV_FAIL(COV_NOMEM, "no memory for %d host names", w->size);
    WORLD_MPI(MPI_Allgather(mine, HOST, MPI_CHAR, w->hosts, HOST, MPI_CHAR, w->collective));
    return COV_OK;
}

static status connect(world *w)
{
    int given, by_mpirun = getenv("OMPI_COMM_WORLD_SIZE") != NULL; /* asked before MPI_Init, which may set it */
    if (!launched()) {
        COV_TRY(check_launch(1, by_mpirun));
        unsetenv("SLURM_STEP_ID"); /* in a step of one task Open MPI would look for a PMI server, and end */
        setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
        /* All of a user's singletons on a node have one session folder, which nothing is put into; while one that ends removes it, another
         * that starts would fail to make it. */
        setenv("OMPI_MCA_orte_create_session_dirs", "0", 0);
        /* No shared file pointers are used, and this one's file lies in a session folder that a singleton lacks. */
        setenv("OMPI_MCA_sharedfp", "^sm", 0);
    }
    setenv("OMPI_MCA_io", "romio321", 0); /* OMPIO hangs where a collective write fails; ROMIO returns the error on all ranks */
    int e = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given);
    if (e != MPI_SUCCESS) return COV_FAIL(COV_COMM, "MPI_Init_thread failed with %d", e);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    WORLD_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &w->rank));
    WORLD_MPI(MPI_Comm_size(MPI_COMM_WORLD, &w->size));
    COV_TRY(check_launch(w->size, by_mpirun));
    WORLD_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &w->farm));
    WORLD_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &w->collective));
    WORLD_MPI(MPI_Comm_set_errhandler(w->farm, MPI_ERRORS_RETURN));
    WORLD_MPI(MPI_Comm_set_errhandler(w->collective, MPI_ERRORS_RETURN));
    return exchange_hosts(w);
}

status world_open(const world_options *o, world **out)
{
    status s;
    *out = NULL;
    world *w = calloc(1, sizeof *w);
    if (!w) return COV_FAIL(COV_NOMEM, "no memory for the world");
    w->farm = w->collective = MPI_COMM_NULL;
    w->signals = -1;
    w->self_end = &w->self;
    w->end_seconds = o->end_seconds > 0 ? o->end_seconds : 60;
    COV_GO(take_signals(w));
    COV_GO(guard_start(&w->guard, o));
    world_guard(w, "MPI's start", o->start_seconds > 0 ? o->start_seconds : 300);
    COV_GO(connect(w));
    world_guard_off(w);
    *out = w;
    return COV_OK;
done:
    world_close(&w);
    return s;
}

static void free_letters(letter *l)
{
    while (l) {
        letter *next = l->next;
        message_free(&l->m);
        free(l);
        l = next;
    }
}

void world_close(world **wp)
{
    int begun = 0, ended = 0;
    if (!wp || !*wp) return;
    world *w = *wp;
    MPI_Initialized(&begun);
    MPI_Finalized(&ended);
    if (w->guard.started) world_guard(w, "MPI's end", w->end_seconds);
    if (begun && !ended) {
        while (w->sending) { /* bounded by the watchdog */
            message none = {0};
            int from;
            if (world_next(w, &none, &from) != COV_OK) break;
            message_free(&none);
        }
        if (w->farm != MPI_COMM_NULL) MPI_Comm_free(&w->farm);
        if (w->collective != MPI_COMM_NULL) MPI_Comm_free(&w->collective);
        MPI_Finalize();
    }
    guard_stop(&w->guard);
    free_letters(w->sending);
    free_letters(w->self);
    free_letters(w->receiving);
    free(w->hosts);
    if (w->signals >= 0) close(w->signals);
    free(w);
    *wp = NULL;
}

void world_abort(world *w, int code)
{
    if (w && w->guard.started) world_guard(w, "MPI_Abort", 10);
    if (w && w->size == 1) _exit(code); /* nobody else waits: no need for Open MPI's ten lines */
    MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
}

/* ---- messages */

static void test_sends(world *w)
{
    for (letter **at = &w->sending; *at;) {
        letter *l = *at;
        int done = 0;
        if (MPI_Test(&l->request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || !done) { at = &l->next; continue; }
        *at = l->next;
        l->next = NULL;
        w->pending--;
        free_letters(l);
    }
}

status world_send(world *w, int to, const message *m)
{
    COV_TRY(message_check(m, "to a rank"));
    letter *l = calloc(1, sizeof *l);
    if (l) message_put_bytes(&l->m, m->bytes, m->used);
    if (!l || l->m.failed) { free(l); return COV_FAIL(COV_NOMEM, "no memory for a message of %zu bytes", m->used); }
    if (to == w->rank) {
        *w->self_end = l;
        w->self_end = &l->next;
        return COV_OK;
    }
    int e = MPI_Isend(l->m.bytes, (int)l->m.used, MPI_BYTE, to, TAG, w->farm, &l->request);
    if (e != MPI_SUCCESS) { free_letters(l); return world_mpi_fail(e, "MPI_Isend", __FILE__, __LINE__); }
    l->next = w->sending;
    w->sending = l;
    w->pending++;
    return COV_OK;
}

static status start_receive(world *w)
{
    int any = 0, bytes = 0;
    MPI_Message match;
    MPI_Status st;
    WORLD_MPI(MPI_Improbe(MPI_ANY_SOURCE, TAG, w->farm, &any, &match, &st));
    if (!any) return COV_OK;
    WORLD_MPI(MPI_Get_count(&st, MPI_BYTE, &bytes));
    letter *l = calloc(1, sizeof *l);
    if (l) l->m.bytes = malloc((size_t)bytes + 1);
    if (!l || !l->m.bytes) { free(l); return COV_FAIL(COV_NOMEM, "no memory for a message of %d bytes", bytes); }
    l->m.room = (size_t)bytes + 1;
    l->m.used = (size_t)bytes;
    w->receiving = l;
    w->receiving_from = st.MPI_SOURCE;
    WORLD_MPI(MPI_Imrecv(l->m.bytes, bytes, MPI_BYTE, &match, &l->request));
    return COV_OK;
}

status world_next(world *w, message *in, int *from)
{
    letter *l = w->self;
    *from = -1;
    test_sends(w);
    if (l) {
        w->self = l->next;
        if (!w->self) w->self_end = &w->self;
        *from = w->rank;
    } else {
        int done = 0;
        if (w->size == 1) return COV_OK;
        if (!w->receiving) COV_TRY(start_receive(w));
        if (!w->receiving) return COV_OK;
        WORLD_MPI(MPI_Test(&w->receiving->request, &done, MPI_STATUS_IGNORE));
        if (!done) return COV_OK;
        l = w->receiving;
        w->receiving = NULL;
        *from = w->receiving_from;
    }
    message_free(in);
    *in = l->m;
    message_rewind(in);
    free(l);
    return COV_OK;
}
