/* status: the per-thread error message and trace behind COV_FAIL, COV_TRY and COV_GO.
 * The only state is thread-local, like errno; a long trace is cut, never overflowed. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 1024, TRACE_BYTES = 512 };

static _Thread_local char message[MESSAGE_BYTES];
static _Thread_local char trace[TRACE_BYTES];

static void trace_add(const char *file, int line)
{
    const char *base = strrchr(file, '/');
    size_t used = strlen(trace);
    snprintf(trace + used, TRACE_BYTES - used, "%s%s:%d", used ? " < " : "", base ? base + 1 : file, line);
}

status status_fail(status s, const char *file, int line, const char *format, ...)
{
    va_list args;
    char text[MESSAGE_BYTES]; /* the arguments may include status_message() itself */
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(message, text, sizeof message);
    trace[0] = 0;
    trace_add(file, line);
    return s;
}

status status_relay(status s, const char *file, int line)
{
    trace_add(file, line);
    return s;
}

const char *status_message(void) { return message; }
const char *status_trace(void) { return trace; }

const char *status_name(status s)
{
    static const char *const names[] = {"COV_OK",     "COV_USAGE", "COV_FORMAT", "COV_IO",     "COV_UNSUPPORTED",
                                        "COV_DEVICE", "COV_NOMEM", "COV_COMM",   "COV_BROKEN", "COV_STOPPED"};
    return (unsigned)s < sizeof names / sizeof names[0] ? names[s] : "COV_?";
}

void status_clear(void) { message[0] = trace[0] = 0; }
