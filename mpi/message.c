/* message: a growing byte buffer with a cursor. The trap: message_get_text must find its NUL inside the message. */
#include "mpi/message.h"

#include <stdlib.h>
#include <string.h>

void message_put_bytes(message *m, const void *bytes, size_t n)
{
    if (m->failed) return;
    if (n > MESSAGE_MOST - m->used) { m->failed = 1; return; }
    if (m->used + n > m->room) {
        size_t room = m->room ? m->room : 256;
        while (room < m->used + n) room *= 2;
        uint8_t *grown = realloc(m->bytes, room);
        if (!grown) { m->failed = 1; return; }
        m->bytes = grown;
        m->room = room;
    }
    if (n) memcpy(m->bytes + m->used, bytes, n);
    m->used += n;
}

void message_start(message *m, int kind)
{
    int32_t k = kind;
    m->used = m->at = 0;
    m->failed = 0;
    message_put_bytes(m, &k, sizeof k);
    m->at = sizeof k;
}

void message_free(message *m)
{
    free(m->bytes);
    *m = (message){0};
}

void message_put_i64(message *m, int64_t v) { message_put_bytes(m, &v, sizeof v); }
void message_put_f64(message *m, double v) { message_put_bytes(m, &v, sizeof v); }
void message_put_text(message *m, const char *text) { message_put_bytes(m, text, strlen(text) + 1); }

int message_kind(const message *m)
{
    int32_t k = -1;
    if (m->used >= sizeof k) memcpy(&k, m->bytes, sizeof k);
    return k;
}

void message_rewind(message *m)
{
    m->at = sizeof(int32_t);
    m->failed = m->used < m->at;
}

void message_get_bytes(message *m, void *out, size_t n)
{
    if (m->failed || n > m->used - m->at) {
        m->failed = 1;
        memset(out, 0, n);
        return;
    }
    memcpy(out, m->bytes + m->at, n);
    m->at += n;
}

int64_t message_get_i64(message *m)
{
    int64_t v;
    message_get_bytes(m, &v, sizeof v);
    return v;
}

double message_get_f64(message *m)
{
    double v;
    message_get_bytes(m, &v, sizeof v);
    return v;
}

const char *message_get_text(message *m)
{
    if (m->failed || m->at >= m->used) { m->failed = 1; return ""; }
    const char *text = (const char *)m->bytes + m->at;
    const void *end = memchr(text, 0, m->used - m->at);
    if (!end) { m->failed = 1; return ""; }
    m->at += (size_t)((const char *)end - text) + 1;
    return text;
}

status message_end(const message *m, const char *what)
{
    if (m->failed || m->at != m->used)
        return COV_FAIL(COV_COMM, "message %s of %zu bytes is cut, or has %zu bytes too many", what, m->used,
                        m->used - m->at);
    return COV_OK;
}

status message_check(const message *m, const char *what)
{
    if (!m->failed) return COV_OK;
    return m->used > MESSAGE_MOST / 2 ? COV_FAIL(COV_BROKEN, "message %s is longer than %d bytes", what, MESSAGE_MOST)
                                      : COV_FAIL(COV_NOMEM, "no memory for message %s", what);
}
