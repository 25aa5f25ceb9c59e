/* status: what every function that can fail returns, and the trace that says where and why.
 *
 * A failing function records a message with COV_FAIL and returns its status; callers relay with
 * COV_TRY, which adds file:line to the trace. The trace belongs to the calling thread and lasts
 * until its next COV_FAIL or status_clear. Library code never prints and never exits: jobs/ prints
 * status_message(). Messages name the thing, the value and what was expected. */
#ifndef COV_BASE_STATUS_H
#define COV_BASE_STATUS_H

typedef enum status {
    COV_OK = 0,
    COV_USAGE,       /* the caller's options make no sense */
    COV_FORMAT,      /* bytes on disk are not what their format promises: the study is recorded */
    COV_IO,          /* the operating system refused: the study is recorded */
    COV_UNSUPPORTED, /* sound, but nothing here can do it: the study is recorded */
    COV_DEVICE,      /* a device or its library failed: tried once more */
    COV_NOMEM,       /* no memory: tried once more */
    COV_COMM,        /* another rank or child is gone or late: the job ends */
    COV_BROKEN,      /* a contract of our own is broken: the job ends */
    COV_STOPPED      /* a signal or a deadline asked to stop */
} status;

/* Starts a new trace with a printf-style message; returns s, so `return COV_FAIL(COV_IO, "...")`. */
#define COV_FAIL(s, ...) (status_fail((s), __FILE__, __LINE__, __VA_ARGS__), (status)(s)) /* a compiler sees which */
/* Relays a failure out of the function at once. For functions that own nothing yet. */
#define COV_TRY(expr)                                                            \
    do {                                                                         \
        status cov_s_ = (expr);                                                  \
        if (cov_s_ != COV_OK) {                                                  \
            status_relay(cov_s_, __FILE__, __LINE__);                            \
            return cov_s_;                                                       \
        }                                                                        \
    } while (0)
/* Relays a failure to the function's one exit: needs a local `status s` and a label `done:`. */
#define COV_GO(expr)                                                             \
    do {                                                                         \
        s = (expr);                                                              \
        if (s != COV_OK) { status_relay(s, __FILE__, __LINE__); goto done; }     \
    } while (0)

status status_fail(status s, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
status status_relay(status s, const char *file, int line);
/* The last message of this thread, without the trace; "" if none. Borrowed, valid until the next failure. */
const char *status_message(void);
/* The file:line steps the failure came through, "a.c:10 < b.c:20"; "" if none. Borrowed likewise. */
const char *status_trace(void);
/* The status's own name, "COV_IO". Never NULL. */
const char *status_name(status s);
void status_clear(void);
#endif
