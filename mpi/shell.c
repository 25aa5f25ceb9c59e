/* shell: tasks, children and deadlines of one rank.
 *
 * A task is a study: WAITING for a reader, READING, READY (its volume is in shared memory, or there is only a reason to
 * record), WORKING. A batch is a list of paths whose headers are wanted. A child has at most one of the two, so its
 * death convicts exactly one file. The trap: a child's last words may still lie in its socket when the spawner reports
 * its end; they are read first. */
#include "mpi/shell.h"
#include "base/str.h"
#include "mpi/channel.h"
#include "mpi/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const double RECORD_SECONDS = 60; /* deadline of committing a part that holds no result */
enum { STRIKES = 3, STRIKES_RECORDING = 6, BATCHES = 2, OPENINGS = 3, TRIES = 2 };

typedef enum task_state { TASK_WAITING, TASK_READING, TASK_READY, TASK_WORKING } task_state;
typedef struct task {
    struct task *next;
    protocol_study study;
    protocol_head head;
    task_state state;
    int volume; /* memfd; -1: none */
    int strikes, tries;
    double since; /* in this state */
} task;

typedef struct batch {
    struct batch *next;
    protocol_path *paths; /* owned */
    int64_t count, at;    /* at: the first without an answer */
    int strikes;          /* of that one */
    int reading;
} batch;

typedef struct child {
    struct child *next;
    spawn_kind kind;
    int64_t ticket;
    int socket;
    task *task;
    batch *batch;
    double deadline; /* 0: none */
    int late;        /* killed for being late */
    int opened;      /* worker: has loaded its weights */
    int leaving;     /* nothing more is expected of it */
} child;

struct shell {
    world *world;
    spawner *spawner;
    const farm_options *o;
    message out, in, start; /* start: WORK_OPEN, as every worker gets it */
    task *tasks;
    batch *batches;
    child *children;
    int started, wanting, finishing, gone, draining, stopped, openings, signals;
    double drain_end, last_heard, last_beat, last_step, finish_by;
    double seconds_worked, voxels_worked;
    double idle_since, waited; /* 0: the worker is not idle, or nothing is being read; seconds that it was, not yet told */
};

/* ---- saying things to the dealer */

static status tell(shell *sh) { return world_send(sh->world, 0, &sh->out); }

static status tell_event(shell *sh, farm_event_kind kind, int64_t index, const char *text)
{
    message_start(&sh->out, PROTOCOL_EVENT);
    message_put_i64(&sh->out, kind);
    message_put_i64(&sh->out, index);
    message_put_text(&sh->out, text);
    return tell(sh);
}

static status tell_head(shell *sh, const protocol_head *h)
{
    message_start(&sh->out, PROTOCOL_HEAD);
    protocol_put_head(&sh->out, h);
    return tell(sh);
}

static void describe_end(int wait_status, char *out, size_t room)
{
    if (WIFSIGNALED(wait_status))
        snprintf(out, room, "died of signal %d (%s)", WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
    else snprintf(out, room, "ended with exit code %d", WEXITSTATUS(wait_status));
}

/* ---- tasks */

static void free_task(shell *sh, task *t)
{
    for (task **at = &sh->tasks; *at; at = &(*at)->next)
        if (*at == t) { *at = t->next; break; }
    if (t->volume >= 0) close(t->volume);
    free(t);
}

static void append_task(shell *sh, task *t)
{
    task **at = &sh->tasks;
    while (*at) at = &(*at)->next;
    t->next = NULL;
    *at = t;
}

static void move_to_end(shell *sh, task *t)
{
    for (task **at = &sh->tasks; *at; at = &(*at)->next)
        if (*at == t) { *at = t->next; break; }
    append_task(sh, t);
}

static int count_tasks(const shell *sh, task_state state)
{
    int n = 0;
    for (const task *t = sh->tasks; t; t = t->next) n += t->state == state;
    return n;
}

static void set_state(task *t, task_state state)
{
    t->state = state;
    t->since = world_now();
}

/* From now on there is nothing to compute, only this to be written down. */
static void record_instead(task *t, reason why, const char *detail)
{
    if (t->volume >= 0) close(t->volume);
    t->volume = -1;
    t->head.reason = why;
    str_utf8(t->head.detail, sizeof t->head.detail, detail);
    set_state(t, TASK_READY);
}

/* A child died on this task, or was killed for being late. */
static status strike(shell *sh, task *t, int late, const char *who, const char *how)
{
    char text[STUDY_DETAIL];
    snprintf(text, sizeof text, "the %s %s", who, how);
    t->strikes++;
    COV_TRY(tell_event(sh, FARM_STRIKE, t->study.index, text));
    if (t->strikes >= STRIKES_RECORDING)
        return COV_FAIL(COV_BROKEN, "%s: %s again and again, even while its failure was recorded", t->study.path_rel,
                        text);
    if (t->head.reason != REASON_NONE) set_state(t, TASK_READY);
    else if (t->strikes >= STRIKES) record_instead(t, late ? REASON_TIMEOUT : REASON_CRASHED, text);
    else set_state(t, t->volume >= 0 ? TASK_READY : TASK_WAITING);
    move_to_end(sh, t);
    return COV_OK;
}

static status drop_task(shell *sh, task *t)
{
    message_start(&sh->out, PROTOCOL_DROPPED);
    message_put_i64(&sh->out, t->study.index);
    free_task(sh, t);
    return tell(sh);
}

static void free_batch(shell *sh, batch *b)
{
    for (batch **at = &sh->batches; *at; at = &(*at)->next)
        if (*at == b) { *at = b->next; break; }
    free(b->paths);
    free(b);
}

/* A reader died on the first path without an answer. */
static status strike_batch(shell *sh, batch *b, int late, const char *how)
{
    const protocol_path *p = &b->paths[b->at];
    char text[STUDY_DETAIL];
    snprintf(text, sizeof text, "the reader of its header %s", how);
    b->reading = 0;
    b->strikes++;
    COV_TRY(tell_event(sh, FARM_STRIKE, p->index, text));
    if (b->strikes < STRIKES) return COV_OK;
    protocol_head h = {.index = p->index, .reason = late ? REASON_TIMEOUT : REASON_CRASHED};
    str_utf8(h.detail, sizeof h.detail, text);
    b->strikes = 0;
    if (++b->at == b->count) free_batch(sh, b);
    return tell_head(sh, &h);
}

/* ---- children */

static child *worker_of(const shell *sh)
{
    for (child *c = sh->children; c; c = c->next)
        if (c->kind == SPAWN_WORKER && !c->leaving) return c;
    return NULL;
}

static int count_readers(const shell *sh)
{
    int n = 0;
    for (const child *c = sh->children; c; c = c->next) n += c->kind == SPAWN_READER && !c->leaving;
    return n;
}

static status start_child(shell *sh, spawn_kind kind, child **out)
{
    child *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return COV_FAIL(COV_NOMEM, "no memory for a child process");
    c->kind = kind;
    status s = spawn_child(sh->spawner, kind, &c->ticket, &c->socket);
    if (s != COV_OK) { free(c); return s; }
    c->next = sh->children;
    sh->children = c;
    *out = c;
    return COV_OK;
}

/* Sends m to a child. One that is dead already will be reported as such: that is no failure here. One that lives and was not told
 * is sent away, or it would be waited for. */
static void say(child *c, const message *m, int fd)
{
    if (channel_send(c->socket, m, fd) == COV_OK) return;
    status_clear();
    shutdown(c->socket, SHUT_RDWR);
}

static status retire(shell *sh, child *c)
{
    c->leaving = 1;
    c->task = NULL;
    c->batch = NULL;
    return spawn_kill(sh->spawner, c->ticket);
}

static status start_worker(shell *sh)
{
    child *c;
    COV_TRY(start_child(sh, SPAWN_WORKER, &c));
    c->deadline = world_now() + sh->o->open_seconds;
    say(c, &sh->start, -1);
    return COV_OK;
}

static status start_batch(shell *sh, batch *b)
{
    child *c;
    double each = sh->o->header_seconds;
    COV_TRY(start_child(sh, SPAWN_READER, &c));
    message_start(&sh->out, PROTOCOL_READ_HEADERS);
    message_put_f64(&sh->out, each * (double)(b->count - b->at));
    message_put_text(&sh->out, "");
    message_put_i64(&sh->out, b->count - b->at);
    for (int64_t k = b->at; k < b->count; k++) protocol_put_path(&sh->out, &b->paths[k]);
    COV_TRY(message_check(&sh->out, "READ_HEADERS"));
    c->batch = b;
    c->deadline = world_now() + each;
    b->reading = 1;
    say(c, &sh->out, -1);
    return COV_OK;
}

static status start_reading(shell *sh, task *t)
{
    child *c;
    COV_TRY(start_child(sh, SPAWN_READER, &c));
    message_start(&sh->out, PROTOCOL_READ_VOXELS);
    message_put_f64(&sh->out, t->study.seconds);
    message_put_text(&sh->out, t->study.path_abs);
    message_put_i64(&sh->out, t->study.index);
    message_put_i64(&sh->out, t->study.stamp);
    message_put_i64(&sh->out, sh->o->volume_bytes);
    message_put_text(&sh->out, t->study.path_abs);
    COV_TRY(message_check(&sh->out, "READ_VOXELS"));
    c->task = t;
    c->deadline = world_now() + t->study.seconds;
    set_state(t, TASK_READING);
    say(c, &sh->out, -1);
    return COV_OK;
}

static status start_working(shell *sh, child *c, task *t)
{
    int kind = t->head.reason == REASON_NONE ? PROTOCOL_WORK_RUN : PROTOCOL_WORK_RECORD;
    message_start(&sh->out, kind);
    protocol_put_study(&sh->out, &t->study);
    protocol_put_head(&sh->out, &t->head);
    COV_TRY(message_check(&sh->out, protocol_name(kind)));
    c->task = t;
    c->deadline = world_now() +
                  (kind == PROTOCOL_WORK_RUN || t->study.seconds > RECORD_SECONDS ? t->study.seconds : RECORD_SECONDS);
    set_state(t, TASK_WORKING);
    say(c, &sh->out, kind == PROTOCOL_WORK_RUN ? t->volume : -1);
    return COV_OK;
}

/* ---- what children say */

/* A volume is believed when it is sealed and has the size that its header says. */
static int sound_volume(const protocol_head *h, int fd)
{
    struct stat st;
    int64_t n = 0;
    int need = F_SEAL_SHRINK | F_SEAL_WRITE, seals = fd >= 0 ? fcntl(fd, F_GET_SEALS) : -1;
    if (h->reason != REASON_NONE) return fd < 0;
    if (seals < 0 || (seals & need) != need || fstat(fd, &st) != 0) return 0;
    const volume_header *v = &h->head;
    return v->nx > 0 && v->ny > 0 && v->nz > 0 && v->nx < 1 << 30 && v->ny < 1 << 30 &&
           !__builtin_mul_overflow(v->nx * v->ny, v->nz, &n) && !__builtin_mul_overflow(n, (int64_t)2, &n) &&
           n == st.st_size;
}

static status hear_volume(shell *sh, child *c, int *fd)
{
    protocol_head h;
    protocol_get_head(&sh->in, &h);
    if (message_end(&sh->in, "READ_VOLUME") != COV_OK || h.index != c->task->study.index || !sound_volume(&h, *fd))
        return spawn_kill(sh->spawner, c->ticket); /* a strike, when its end is reported */
    task *t = c->task;
    t->head = h;
    t->volume = *fd;
    *fd = -1;
    set_state(t, TASK_READY);
    c->task = NULL;
    c->leaving = 1;
    c->deadline = world_now() + 10;
    return COV_OK;
}

static status hear_head(shell *sh, child *c)
{
    protocol_head h;
    batch *b = c->batch;
    protocol_get_head(&sh->in, &h);
    if (message_end(&sh->in, "READ_HEAD") != COV_OK || h.index != b->paths[b->at].index)
        return spawn_kill(sh->spawner, c->ticket);
    c->deadline = world_now() + sh->o->header_seconds;
    b->strikes = 0;
    if (++b->at == b->count) {
        c->batch = NULL;
        c->leaving = 1;
        free_batch(sh, b);
    }
    return tell_head(sh, &h);
}

/* The worker could not; it may be its device or its memory, so a fresh one tries again. */
static status hear_failure(shell *sh, child *c, const protocol_done *d)
{
    task *t = c->task;
    const char *host = world_host(sh->world, world_rank(sh->world));
    if (!t) return COV_FAIL((status)d->failure, "rank %d (%s): %s", world_rank(sh->world), host, d->detail);
    if (d->failure != COV_DEVICE && d->failure != COV_NOMEM)
        return COV_FAIL((status)d->failure, "rank %d (%s), %s: %s", world_rank(sh->world), host, t->study.path_rel,
                        d->detail);
    COV_TRY(tell_event(sh, FARM_WORKER, t->study.index, d->detail));
    if (++t->tries < TRIES) set_state(t, TASK_READY);
    else record_instead(t, d->failure == COV_NOMEM ? REASON_TOO_LARGE : REASON_INTERNAL, d->detail);
    return retire(sh, c);
}

static status hear_result(shell *sh, child *c)
{
    protocol_done d;
    protocol_get_done(&sh->in, &d);
    COV_TRY(message_end(&sh->in, "WORK_RESULT"));
    c->deadline = 0;
    if (d.failure) return hear_failure(sh, c, &d);
    if (!c->opened) { c->opened = 1; sh->openings = 0; return COV_OK; }
    task *t = c->task;
    if (!t || d.index != t->study.index)
        return COV_FAIL(COV_BROKEN, "the worker answers for study %lld, not the one it has", (long long)d.index);
    if (t->head.reason == REASON_NONE) {
        sh->seconds_worked += d.seconds;
        sh->voxels_worked += (double)d.voxels;
    }
    d.strikes = t->strikes;
    d.waited = sh->waited;
    sh->waited = 0;
    message_start(&sh->out, PROTOCOL_DONE);
    protocol_put_done(&sh->out, &d);
    c->task = NULL;
    free_task(sh, t);
    return tell(sh);
}

static status hear(shell *sh, child *c)
{
    for (int got = 1, open, fd; got;) {
        status s = COV_OK;
        COV_TRY(channel_receive(c->socket, 0, &sh->in, &fd, &got, &open));
        int kind = got ? message_kind(&sh->in) : 0;
        if (kind == PROTOCOL_READ_VOLUME && c->kind == SPAWN_READER && c->task) s = hear_volume(sh, c, &fd);
        if (kind == PROTOCOL_READ_HEAD && c->kind == SPAWN_READER && c->batch) s = hear_head(sh, c);
        if (kind == PROTOCOL_WORK_RESULT && c->kind == SPAWN_WORKER && !c->leaving) s = hear_result(sh, c);
        if (fd >= 0) close(fd);
        if (s != COV_OK) return s;
    }
    return COV_OK;
}

/* ---- how children end */

static status worker_died(shell *sh, child *c, const char *how)
{
    char text[STUDY_DETAIL];
    if (c->task) COV_TRY(strike(sh, c->task, c->late, "worker", how));
    else if (!c->opened && ++sh->openings >= OPENINGS)
        return COV_FAIL(COV_BROKEN, "rank %d (%s): the worker %s while it loaded its weights, %d times",
                        world_rank(sh->world), world_host(sh->world, world_rank(sh->world)), how, OPENINGS);
    snprintf(text, sizeof text, "the worker %s and is replaced", how);
    return tell_event(sh, FARM_WORKER, -1, text);
}

static status child_ended(shell *sh, child *c, int started, int wait_status)
{
    char how[120];
    status s = COV_OK;
    COV_TRY(hear(sh, c));
    if (!started) snprintf(how, sizeof how, "could not be started: %s", strerror(wait_status));
    else describe_end(wait_status, how, sizeof how);
    int late = c->late || (started && WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGXCPU);
    if (c->late) snprintf(how, sizeof how, "was too slow and was ended");
    if (!c->leaving && c->kind == SPAWN_WORKER) s = worker_died(sh, c, how);
    else if (c->task) s = strike(sh, c->task, late, "reader", how);
    else if (c->batch) s = strike_batch(sh, c->batch, late, how);
    for (child **at = &sh->children; *at; at = &(*at)->next)
        if (*at == c) { *at = c->next; break; }
    close(c->socket);
    free(c);
    return s;
}

static status hear_children(shell *sh)
{
    for (child *c = sh->children; c; c = c->next) COV_TRY(hear(sh, c));
    for (int any = 1; any;) {
        spawn_event e;
        COV_TRY(spawn_next(sh->spawner, &e, &any));
        if (!any || !e.ended) continue;
        for (child *c = sh->children; c; c = c->next)
            if (c->ticket == e.ticket) { COV_TRY(child_ended(sh, c, e.pid > 0, e.wait_status)); break; }
    }
    return COV_OK;
}

static status kill_late(shell *sh, double now)
{
    for (child *c = sh->children; c; c = c->next)
        if (c->deadline > 0 && now > c->deadline) {
            c->late = 1;
            c->deadline = 0;
            COV_TRY(spawn_kill(sh->spawner, c->ticket));
        }
    return COV_OK;
}

/* ---- starting work */

static int64_t held_bytes(const shell *sh)
{
    int64_t n = 0;
    for (const task *t = sh->tasks; t; t = t->next)
        if (t->state != TASK_WAITING && (t->state == TASK_READING || t->volume >= 0)) n += 2 * t->study.voxels;
    return n;
}

static status start_readers(shell *sh)
{
    for (batch *b = sh->batches; b; b = b->next)
        if (!b->reading && count_readers(sh) < sh->o->read_ahead) COV_TRY(start_batch(sh, b));
    for (task *t = sh->tasks; t; t = t->next) {
        int ahead = count_tasks(sh, TASK_READING) + count_tasks(sh, TASK_READY);
        int64_t held = held_bytes(sh);
        if (ahead >= sh->o->read_ahead || count_readers(sh) >= sh->o->read_ahead) return COV_OK;
        if (t->state != TASK_WAITING || (held > 0 && held + 2 * t->study.voxels > sh->o->ahead_bytes)) continue;
        COV_TRY(start_reading(sh, t));
    }
    return COV_OK;
}

static double estimate(const shell *sh, const task *t)
{
    if (t->head.reason != REASON_NONE) return 0;
    return sh->voxels_worked > 0 ? sh->seconds_worked / sh->voxels_worked * (double)t->study.voxels : 1e9;
}

static status feed_worker(shell *sh, double now)
{
    child *c = worker_of(sh);
    if (!c) return sh->tasks || sh->batches ? start_worker(sh) : COV_OK;
    if (!c->opened || c->task) return COV_OK;
    for (task *t = sh->tasks; t; t = t->next) {
        if (t->state != TASK_READY) continue;
        if (sh->draining && now + 1.5 * estimate(sh, t) > sh->drain_end) continue;
        if (sh->idle_since > 0) sh->waited += now - sh->idle_since;
        sh->idle_since = 0;
        return start_working(sh, c, t);
    }
    if (count_tasks(sh, TASK_READING) == 0) sh->idle_since = 0;
    else if (sh->idle_since == 0 && sh->voxels_worked > 0) sh->idle_since = now; /* there is nothing to compute beside the first file */
    return COV_OK;
}

static status want_more(shell *sh)
{
    int batches = 0;
    for (const batch *b = sh->batches; b; b = b->next) batches++;
    int ahead = count_tasks(sh, TASK_READING) + count_tasks(sh, TASK_READY);
    if (sh->wanting || batches >= BATCHES || count_tasks(sh, TASK_WAITING) > 0 || ahead >= sh->o->read_ahead)
        return COV_OK;
    sh->wanting = 1;
    message_start(&sh->out, PROTOCOL_WANT);
    return tell(sh);
}

/* ---- draining and leaving */

static status drop_what_waits(shell *sh)
{
    while (sh->batches) {
        for (child *c = sh->children; c; c = c->next)
            if (c->batch == sh->batches) COV_TRY(retire(sh, c));
        free_batch(sh, sh->batches);
    }
    for (task *t = sh->tasks, *next; t; t = next) {
        next = t->next;
        if (t->state == TASK_WORKING || t->state == TASK_READY) continue;
        for (child *c = sh->children; c; c = c->next)
            if (c->task == t) COV_TRY(retire(sh, c));
        COV_TRY(drop_task(sh, t));
    }
    return COV_OK;
}

/* Ready ones stay for as long as the worker may get to them; at the end whatever is left is dropped. */
static status drain_step(shell *sh, double now)
{
    child *c = worker_of(sh);
    for (task *t = sh->tasks, *next; t; t = next) {
        next = t->next;
        int idle_worker = c && c->opened && !c->task;
        int hopeless = t->state == TASK_WAITING || (t->state == TASK_READY && (idle_worker || !c || !c->opened));
        if (now < sh->drain_end && !hopeless) continue;
        if (t->state == TASK_WORKING && c && c->task == t) COV_TRY(retire(sh, c));
        COV_TRY(drop_task(sh, t));
        c = worker_of(sh);
    }
    return COV_OK;
}

static status leave_step(shell *sh, double now)
{
    for (child *c = sh->children; c; c = c->next) {
        int idle_worker = c->kind == SPAWN_WORKER && !c->task && now <= sh->finish_by;
        if (!c->leaving && idle_worker) {
            c->leaving = 1;
            shutdown(c->socket, SHUT_WR); /* it closes what it holds, and ends */
        } else if (!c->leaving || now > sh->finish_by) COV_TRY(retire(sh, c));
    }
    if (sh->children) return COV_OK;
    message_start(&sh->out, PROTOCOL_BYE);
    sh->gone = 1;
    return tell(sh);
}

/* ---- what the dealer says */

static status take_start(shell *sh, message *in)
{
    part_key key;
    const char *folder = message_get_text(in), *settled = message_get_text(in);
    message_get_bytes(in, &key, sizeof key);
    COV_TRY(message_end(in, "START"));
    message_start(&sh->start, PROTOCOL_WORK_OPEN);
    message_put_text(&sh->start, folder);
    message_put_text(&sh->start, settled);
    message_put_i64(&sh->start, world_rank(sh->world));
    message_put_bytes(&sh->start, &key, sizeof key);
    sh->started = 1;
    return message_check(&sh->start, "WORK_OPEN");
}

static status take_headers(shell *sh, message *in)
{
    int64_t count = message_get_i64(in);
    if (in->failed || count < 1 || count > 4096) return COV_FAIL(COV_COMM, "a batch of %lld headers", (long long)count);
    batch *b = calloc(1, sizeof *b);
    if (b) b->paths = calloc((size_t)count, sizeof *b->paths);
    if (!b || !b->paths) { free(b); return COV_FAIL(COV_NOMEM, "no memory for %lld paths", (long long)count); }
    b->count = count;
    for (int64_t k = 0; k < count; k++) protocol_get_path(in, &b->paths[k]);
    b->next = sh->batches;
    sh->batches = b;
    sh->wanting = 0;
    return message_end(in, "HEADERS");
}

static status take_unit(shell *sh, message *in)
{
    int64_t count = message_get_i64(in);
    for (int64_t k = 0; k < count && !in->failed; k++) {
        task *t = calloc(1, sizeof *t);
        if (!t) return COV_FAIL(COV_NOMEM, "no memory for a study");
        t->volume = -1;
        protocol_get_study(in, &t->study);
        append_task(sh, t);
        if (t->study.reason != REASON_NONE) record_instead(t, (reason)t->study.reason, t->study.detail);
        else set_state(t, TASK_WAITING);
    }
    sh->wanting = 0;
    return message_end(in, "UNIT");
}

static status take_fatal(message *in)
{
    int64_t s = message_get_i64(in);
    const char *text = message_get_text(in);
    return COV_FAIL(s > COV_OK && s <= COV_STOPPED ? (status)s : COV_BROKEN, "%s", text);
}

status shell_take(shell *sh, message *in)
{
    sh->last_heard = world_now();
    switch (message_kind(in)) {
    case PROTOCOL_BEAT: return COV_OK;
    case PROTOCOL_START: return take_start(sh, in);
    case PROTOCOL_HEADERS: return take_headers(sh, in);
    case PROTOCOL_UNIT: return take_unit(sh, in);
    case PROTOCOL_FATAL: return take_fatal(in);
    case PROTOCOL_FINISH:
        sh->finishing = 1;
        sh->stopped = message_get_i64(in) != 0;
        sh->finish_by = sh->last_heard + 5;
        return message_end(in, "FINISH");
    case PROTOCOL_DRAIN:
        if (sh->draining) return COV_OK;
        sh->draining = 1;
        sh->drain_end = sh->last_heard + message_get_f64(in);
        COV_TRY(message_end(in, "DRAIN"));
        return drop_what_waits(sh);
    default: return COV_FAIL(COV_BROKEN, "a shell got the message %s", protocol_name(message_kind(in)));
    }
}

/* ---- */

static status beat(shell *sh, double now)
{
    if (now - sh->last_beat < 1) return COV_OK;
    sh->last_beat = now;
    message_start(&sh->out, PROTOCOL_BEAT);
    return tell(sh);
}

static status check_dealer(shell *sh, double now)
{
    /* If this process itself was stopped, messages wait that it has not seen yet. */
    if (now - sh->last_step > 2) sh->last_heard += now - sh->last_step;
    sh->last_step = now;
    double patience = sh->started ? sh->o->beat_seconds : sh->o->start_seconds;
    if (now - sh->last_heard <= patience) return COV_OK;
    return COV_FAIL(COV_COMM, "rank 0 (%s) has been silent for %.0f s", world_host(sh->world, 0), now - sh->last_heard);
}

status shell_step(shell *sh)
{
    double now = world_now();
    if (sh->gone) return COV_OK;
    COV_TRY(check_dealer(sh, now));
    int signals = world_signals(sh->world);
    if (signals > sh->signals) {
        sh->signals = signals;
        message_start(&sh->out, PROTOCOL_SIGNAL);
        message_put_i64(&sh->out, signals);
        COV_TRY(tell(sh));
    }
    if (!sh->started) return COV_OK;
    COV_TRY(hear_children(sh));
    if (sh->finishing) return leave_step(sh, now);
    COV_TRY(kill_late(sh, now));
    COV_TRY(beat(sh, now));
    if (!sh->o->dry_run) COV_TRY(feed_worker(sh, now));
    if (sh->draining) return drain_step(sh, now);
    COV_TRY(start_readers(sh));
    return want_more(sh);
}

int shell_sockets(const shell *sh, struct pollfd p[SHELL_SOCKETS])
{
    int n = 0;
    p[n++] = (struct pollfd){.fd = spawn_socket(sh->spawner), .events = POLLIN};
    p[n++] = (struct pollfd){.fd = world_signal_socket(sh->world), .events = POLLIN};
    for (const child *c = sh->children; c && n < SHELL_SOCKETS; c = c->next)
        if (!c->leaving) p[n++] = (struct pollfd){.fd = c->socket, .events = POLLIN};
    return n;
}

int shell_gone(const shell *sh) { return sh->gone; }
int shell_stopped(const shell *sh) { return sh->stopped; }

status shell_new(world *w, spawner *s, const farm_options *o, shell **out)
{
    *out = NULL;
    shell *sh = calloc(1, sizeof *sh);
    if (!sh) return COV_FAIL(COV_NOMEM, "no memory for a shell");
    sh->world = w;
    sh->spawner = s;
    sh->o = o;
    sh->last_heard = sh->last_step = world_now();
    *out = sh;
    return COV_OK;
}

void shell_free(shell **shp)
{
    if (!shp || !*shp) return;
    shell *sh = *shp;
    for (child *c; (c = sh->children);) {
        sh->children = c->next;
        if (spawn_kill(sh->spawner, c->ticket) != COV_OK) status_clear();
        close(c->socket);
        free(c);
    }
    while (sh->tasks) free_task(sh, sh->tasks);
    while (sh->batches) free_batch(sh, sh->batches);
    message_free(&sh->out);
    message_free(&sh->in);
    message_free(&sh->start);
    free(sh);
    *shp = NULL;
}
