/* message: the bytes that ranks, shells and children say to one another. A message starts with its kind; values follow
 * in the order in which they were put. Ranks of one job run the same program on like machines, so numbers travel as
 * they lie in memory. A message may come from a reader that a hostile file has taken over: getters never read past the
 * end, and a getter that fails sets `failed` and returns 0 or "", so a decoder checks once, with message_end. Local. */
#ifndef COV_MPI_MESSAGE_H
#define COV_MPI_MESSAGE_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

enum { MESSAGE_MOST = 1 << 24 }; /* bytes; more is a mistake */

typedef struct message {
    uint8_t *bytes; /* owned */
    size_t used, room;
    size_t at; /* where the next getter reads */
    int failed;
} message;

void message_start(message *m, int kind); /* empties m, keeps its memory */
void message_free(message *m);            /* accepts a zeroed message */
void message_put_i64(message *m, int64_t v);
void message_put_f64(message *m, double v);
void message_put_text(message *m, const char *text);
void message_put_bytes(message *m, const void *bytes, size_t n);
int message_kind(const message *m); /* -1: no message */
void message_rewind(message *m);    /* to the first value */
int64_t message_get_i64(message *m);
double message_get_f64(message *m);
const char *message_get_text(message *m);                  /* borrowed from m; never NULL */
void message_get_bytes(message *m, void *out, size_t n);   /* exactly n bytes, or failed and zeros */
/* COV_COMM unless every value was there and nothing is left; `what` names the message. */
status message_end(const message *m, const char *what);
/* COV_NOMEM or COV_BROKEN if a put failed; `what` names the message. */
status message_check(const message *m, const char *what);
#endif
