/* str: growing byte strings, and the few text helpers that messages, JSON lines and CSV need.
 * A str is always NUL-terminated; running out of memory sets `failed` and later puts do nothing, so
 * a builder checks once at the end. str_free accepts a zeroed str. */
#ifndef COV_BASE_STR_H
#define COV_BASE_STR_H
#include <stdbool.h>
#include <stddef.h>

typedef struct str {
    char *text;    /* owned; NULL while empty */
    size_t length; /* bytes before the NUL */
    size_t room;
    bool failed;
} str;

void str_put(str *s, const char *text);
void str_put_bytes(str *s, const void *bytes, size_t n);
void str_putf(str *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "text" with JSON escapes; invalid UTF-8 bytes become U+FFFD. */
void str_put_json(str *s, const char *text);
/* One CSV field (RFC 4180): quoted when it holds a comma, quote, CR or LF. */
void str_put_csv(str *s, const char *field);
const char *str_text(const str *s); /* never NULL */
void str_clear(str *s);
void str_free(str *s);

/* Copies src into dst[room] as valid UTF-8, cut at a character boundary; bad bytes become '?'. */
void str_utf8(char *dst, size_t room, const char *src);
/* The same without control characters: a name from outside may not paint the terminal. */
void str_shown(char *dst, size_t room, const char *src);
bool str_ends_with(const char *text, const char *ending); /* ASCII case is ignored */
/* A whole-string number; false (and *out untouched) on trailing text, overflow, NaN or infinity. */
bool str_to_int(const char *text, long long *out);
bool str_to_double(const char *text, double *out);
#endif
