/* protocol: names, puts and gets. Text is cut to its field, numbers from a reader are not believed: whoever uses a
 * header checks it against the memory that came with it. */
#include "mpi/protocol.h"

#include <stdio.h>
#include <string.h>

const char *protocol_name(int kind)
{
    static const char *const names[] = {
        "?",
#define X(name, way, text) #name,
        PROTOCOL_MESSAGES(X)
#undef X
    };
    return (size_t)kind < sizeof names / sizeof names[0] ? names[kind] : "?";
}

/* A text that does not fit would name another file: that is a failed message, not a shorter name. */
static void get_name(message *m, char *out, size_t room)
{
    const char *text = message_get_text(m);
    size_t n = strlen(text);
    if (n >= room) { m->failed = 1; n = 0; }
    memcpy(out, text, n);
    out[n] = 0;
}

/* A message for people may be cut. */
static void get_detail(message *m, char out[STUDY_DETAIL])
{
    const char *text = message_get_text(m);
    size_t n = strnlen(text, STUDY_DETAIL - 1);
    memcpy(out, text, n);
    out[n] = 0;
}

void protocol_piece(unit_step step, int64_t z0, int64_t range, char name[PART_UNIT])
{
    if (step == UNIT_BEGIN) snprintf(name, PART_UNIT, "begin");
    else snprintf(name, PART_UNIT, "range-%lld-%lld", (long long)z0, (long long)range);
}

void protocol_put_study(message *m, const protocol_study *s)
{
    message_put_i64(m, s->index);
    message_put_i64(m, s->unit);
    message_put_i64(m, s->bytes);
    message_put_i64(m, s->mtime_ns);
    message_put_i64(m, s->stamp);
    message_put_i64(m, s->voxels);
    message_put_f64(m, s->seconds);
    message_put_i64(m, s->reason);
    message_put_i64(m, s->step);
    message_put_i64(m, s->z0);
    message_put_i64(m, s->z1);
    message_put_i64(m, s->range);
    message_put_text(m, s->detail);
    message_put_text(m, s->path_abs);
    message_put_text(m, s->path_rel);
    message_put_text(m, s->id);
    message_put_text(m, s->format);
}

void protocol_get_study(message *m, protocol_study *s)
{
    s->index = message_get_i64(m);
    s->unit = message_get_i64(m);
    s->bytes = message_get_i64(m);
    s->mtime_ns = message_get_i64(m);
    s->stamp = message_get_i64(m);
    s->voxels = message_get_i64(m);
    s->seconds = message_get_f64(m);
    s->reason = message_get_i64(m);
    s->step = message_get_i64(m);
    s->z0 = message_get_i64(m);
    s->z1 = message_get_i64(m);
    s->range = message_get_i64(m);
    get_detail(m, s->detail);
    get_name(m, s->path_abs, sizeof s->path_abs);
    get_name(m, s->path_rel, sizeof s->path_rel);
    get_name(m, s->id, sizeof s->id);
    get_name(m, s->format, sizeof s->format);
}

void protocol_put_path(message *m, const protocol_path *p)
{
    message_put_i64(m, p->index);
    message_put_i64(m, p->digest);
    message_put_i64(m, p->stamp);
    message_put_text(m, p->path);
}

void protocol_get_path(message *m, protocol_path *p)
{
    p->index = message_get_i64(m);
    p->digest = message_get_i64(m);
    p->stamp = message_get_i64(m);
    get_name(m, p->path, sizeof p->path);
}

void protocol_put_head(message *m, const protocol_head *h)
{
    message_put_i64(m, h->index);
    message_put_i64(m, h->reason);
    message_put_i64(m, h->has_head);
    message_put_text(m, h->detail);
    message_put_bytes(m, &h->head, sizeof h->head);
    message_put_bytes(m, &h->stats, sizeof h->stats);
    message_put_text(m, h->sha256);
    message_put_f64(m, h->seconds);
}

void protocol_get_head(message *m, protocol_head *h)
{
    h->index = message_get_i64(m);
    h->reason = message_get_i64(m);
    h->has_head = message_get_i64(m);
    get_detail(m, h->detail);
    message_get_bytes(m, &h->head, sizeof h->head);
    message_get_bytes(m, &h->stats, sizeof h->stats);
    get_name(m, h->sha256, sizeof h->sha256);
    h->seconds = message_get_f64(m);
    if (h->reason < 0 || h->reason >= REASON_COUNT) m->failed = 1;
    h->head.format[sizeof h->head.format - 1] = 0;
}

void protocol_put_done(message *m, const protocol_done *d)
{
    message_put_i64(m, d->index);
    message_put_i64(m, d->failure);
    message_put_i64(m, d->outcome);
    message_put_i64(m, d->reason);
    message_put_i64(m, d->strikes);
    message_put_i64(m, d->voxels);
    message_put_i64(m, d->more);
    message_put_f64(m, d->seconds);
    message_put_f64(m, d->waited);
    message_put_text(m, d->detail);
}

void protocol_get_done(message *m, protocol_done *d)
{
    d->index = message_get_i64(m);
    d->failure = message_get_i64(m);
    d->outcome = message_get_i64(m);
    d->reason = message_get_i64(m);
    d->strikes = message_get_i64(m);
    d->voxels = message_get_i64(m);
    d->more = message_get_i64(m);
    d->seconds = message_get_f64(m);
    d->waited = message_get_f64(m);
    get_detail(m, d->detail);
    if (d->reason < 0 || d->reason >= REASON_COUNT || d->outcome < 0 || d->outcome > OUTCOME_FAILED) m->failed = 1;
}
