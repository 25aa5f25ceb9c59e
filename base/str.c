/* str: growing strings and text helpers. The trap: input text is untrusted bytes, so every function
 * that shows it to a person or a parser escapes or repairs it first. */
#include "base/str.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool grow(str *s, size_t more)
{
    if (s->failed) return false;
    if (more > SIZE_MAX / 2 - s->length - 1) { s->failed = true; return false; }
    size_t need = s->length + more + 1;
    if (need <= s->room) return true;
    size_t room = s->room ? s->room : 64;
    while (room < need) room *= 2;
    char *text = realloc(s->text, room);
    if (!text) { s->failed = true; return false; }
    s->text = text;
    s->room = room;
    return true;
}

void str_put_bytes(str *s, const void *bytes, size_t n)
{
    if (!grow(s, n)) return;
    if (n) memcpy(s->text + s->length, bytes, n);
    s->length += n;
    s->text[s->length] = 0;
}

void str_put(str *s, const char *text) { str_put_bytes(s, text, strlen(text)); }

void str_putf(str *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) { s->failed = true; return; }
    if (!grow(s, (size_t)n)) return;
    va_start(args, format);
    vsnprintf(s->text + s->length, (size_t)n + 1, format, args);
    va_end(args);
    s->length += (size_t)n;
}

/* Bytes of the valid UTF-8 character at p (RFC 3629: no surrogates, no overlongs), 0 if invalid. */
static int utf8_bytes(const unsigned char *p)
{
    if (p[0] < 0x80) return 1;
    int n = p[0] >= 0xC2 && p[0] <= 0xDF ? 2 : (p[0] & 0xF0) == 0xE0 ? 3 : p[0] >= 0xF0 && p[0] <= 0xF4 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    if (n == 3 && ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F))) return 0;
    if (n == 4 && ((p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))) return 0;
    return n;
}

void str_put_json(str *s, const char *text)
{
    str_put(s, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        int n = utf8_bytes(p);
        if (n == 0) { str_put(s, "\\ufffd"); p++; continue; }
        if (*p == '"' || *p == '\\') str_putf(s, "\\%c", *p);
        else if (*p < 0x20) str_putf(s, "\\u%04x", *p);
        else str_put_bytes(s, p, (size_t)n);
        p += n;
    }
    str_put(s, "\"");
}

void str_put_csv(str *s, const char *field)
{
    if (!strpbrk(field, ",\"\r\n")) { str_put(s, field); return; }
    str_put(s, "\"");
    for (; *field; field++) {
        if (*field == '"') str_put(s, "\"");
        str_put_bytes(s, field, 1);
    }
    str_put(s, "\"");
}

const char *str_text(const str *s) { return s->text ? s->text : ""; }

void str_clear(str *s)
{
    s->length = 0;
    s->failed = false;
    if (s->text) s->text[0] = 0;
}

void str_free(str *s)
{
    free(s->text);
    *s = (str){0};
}

void str_utf8(char *dst, size_t room, const char *src)
{
    size_t used = 0;
    if (!room) return;
    for (const unsigned char *p = (const unsigned char *)src; *p;) {
        int n = utf8_bytes(p);
        if (used + (size_t)(n ? n : 1) >= room) break;
        if (n == 0) { dst[used++] = '?'; p++; continue; }
        memcpy(dst + used, p, (size_t)n);
        used += (size_t)n;
        p += n;
    }
    dst[used] = 0;
}

void str_shown(char *dst, size_t room, const char *src)
{
    str_utf8(dst, room, src);
    for (unsigned char *p = (unsigned char *)dst; *p; p++) {
        if (*p < 0x20 || *p == 0x7F) *p = '?';
        if (*p == 0xC2 && p[1] < 0xA0) p[0] = p[1] = '?';
    }
}

bool str_ends_with(const char *text, const char *ending)
{
    size_t a = strlen(text), b = strlen(ending);
    return a >= b && strcasecmp(text + a - b, ending) == 0;
}

bool str_to_int(const char *text, long long *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno) return false;
    *out = v;
    return true;
}

bool str_to_double(const char *text, double *out)
{
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v)) return false;
    *out = v;
    return true;
}
