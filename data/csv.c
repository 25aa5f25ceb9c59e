/* csv: parses RFC 4180 in one pass over a copy of the bytes: each field is unquoted in place, which can only make it
 * shorter, and ended with a NUL where its separator was. */
#include "data/csv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COLUMNS_MOST = 4096 };
static const size_t BYTES_MOST = (size_t)1 << 30;

typedef struct parser {
    const char *name;
    char *at, *end; /* end: one past the last byte, writable */
    long line;
    const char **fields; /* grows; becomes the table's */
    long *lines;
    size_t count, room, rows, row_room;
} parser;

static status add_field(parser *p, const char *text)
{
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 256;
        const char **fields = realloc(p->fields, room * sizeof *fields);
        if (!fields) return COV_FAIL(COV_NOMEM, "%s: no memory for %zu fields", p->name, room);
        p->fields = fields;
        p->room = room;
    }
    p->fields[p->count++] = text;
    return COV_OK;
}

static status add_row(parser *p, long line)
{
    if (p->rows == p->row_room) {
        size_t room = p->row_room ? 2 * p->row_room : 256;
        long *lines = realloc(p->lines, room * sizeof *lines);
        if (!lines) return COV_FAIL(COV_NOMEM, "%s: no memory for %zu rows", p->name, room);
        p->lines = lines;
        p->row_room = room;
    }
    p->lines[p->rows++] = line;
    return COV_OK;
}

/* One field, from p->at to its separator. *last: it ended its record. */
static status take_field(parser *p, char **out, bool *last)
{
    char *from = p->at, *to = p->at;
    bool quoted = from < p->end && *from == '"';
    long start = p->line;
    *out = to;
    if (quoted) {
        for (from++;; from++) {
            if (from == p->end) return COV_FAIL(COV_FORMAT, "%s:%ld: a quote is not closed", p->name, start);
            if (*from == '"' && !(from + 1 < p->end && from[1] == '"')) break;
            if (*from == '"') from++;
            if (*from == '\n') p->line++;
            *to++ = *from;
        }
        from++;
        if (from + 1 < p->end && from[0] == '\r' && from[1] == '\n') from++;
        if (from < p->end && *from != ',' && *from != '\n')
            return COV_FAIL(COV_FORMAT, "%s:%ld: text after a closing quote", p->name, p->line);
    } else {
        while (from < p->end && *from != ',' && *from != '\n') from++;
        to = from;
        if (to > p->at && to[-1] == '\r' && (from == p->end || *from == '\n')) to--;
    }
    *last = from == p->end || *from == '\n';
    if (from < p->end && *from == '\n') p->line++;
    p->at = from < p->end ? from + 1 : from;
    *to = 0; /* `end` itself is inside the buffer */
    return COV_OK;
}

/* One record; *fields is how many it had. An empty line gives none. */
static status take_record(parser *p, size_t *fields)
{
    bool last = false;
    size_t before = p->count;
    *fields = 0;
    while (!last) {
        char *text;
        COV_TRY(take_field(p, &text, &last));
        COV_TRY(add_field(p, text));
    }
    *fields = p->count - before;
    if (*fields == 1 && !*p->fields[before]) {
        p->count--;
        *fields = 0;
    }
    return COV_OK;
}

static status parse_all(parser *p, csv *t)
{
    size_t fields = 0;
    while (!fields && p->at < p->end) COV_TRY(take_record(p, &fields));
    if (!fields) return COV_FAIL(COV_FORMAT, "%s: no header line", p->name);
    if (fields > COLUMNS_MOST)
        return COV_FAIL(COV_FORMAT, "%s: %zu columns, at most %d are read", p->name, fields, COLUMNS_MOST);
    t->columns = (int)fields;
    while (p->at < p->end) {
        long line = p->line;
        COV_TRY(take_record(p, &fields));
        if (!fields) continue;
        if (fields != (size_t)t->columns)
            return COV_FAIL(COV_FORMAT, "%s:%ld: %zu fields, expected %d as in the header", p->name, line, fields,
                            t->columns);
        COV_TRY(add_row(p, line));
    }
    return COV_OK;
}

status csv_parse(const char *name, const char *bytes, size_t n, csv **out)
{
    status s = COV_OK;
    parser p = {.name = name, .line = 1};
    *out = NULL;
    csv *t = calloc(1, sizeof *t);
    char *text = n < BYTES_MOST ? malloc(n + 1) : NULL;
    if (!t || !text) COV_GO(COV_FAIL(COV_NOMEM, "%s: no memory for %zu bytes", name, n));
    if (n) memcpy(text, bytes, n);
    if (memchr(text, 0, n)) COV_GO(COV_FAIL(COV_FORMAT, "%s: not text: it holds a NUL byte", name));
    p.at = text;
    p.end = text + n;
    *p.end = 0;
    if (n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) p.at += 3;
    COV_GO(parse_all(&p, t));
    t->names = p.fields;
    t->fields = p.fields + t->columns;
    t->rows = p.rows;
    t->lines = p.lines;
    t->text = text;
    *out = t;
    return COV_OK;
done:
    free(p.fields);
    free(p.lines);
    free(text);
    free(t);
    return s;
}

static status slurp(const char *path, char **out, size_t *n)
{
    struct stat st;
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return COV_FAIL(COV_IO, "%s: %s", path, strerror(errno));
    status s = COV_OK;
    size_t got = 0;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) COV_GO(COV_FAIL(COV_IO, "%s: not a regular file", path));
    if ((size_t)st.st_size >= BYTES_MOST) COV_GO(COV_FAIL(COV_FORMAT, "%s: larger than %zu bytes", path, BYTES_MOST));
    *out = malloc((size_t)st.st_size + 1);
    if (!*out) COV_GO(COV_FAIL(COV_NOMEM, "%s: no memory for %lld bytes", path, (long long)st.st_size));
    while (got < (size_t)st.st_size) {
        ssize_t k = read(fd, *out + got, (size_t)st.st_size - got);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) COV_GO(COV_FAIL(COV_IO, "%s: %s", path, strerror(errno)));
        if (k == 0) break;
        got += (size_t)k;
    }
    *n = got;
done:
    close(fd);
    if (s != COV_OK) {
        free(*out);
        *out = NULL;
    }
    return s;
}

status csv_read(const char *path, csv **out)
{
    char *bytes;
    size_t n = 0;
    *out = NULL;
    COV_TRY(slurp(path, &bytes, &n));
    status s = csv_parse(path, bytes, n, out);
    free(bytes);
    if (s != COV_OK) return status_relay(s, __FILE__, __LINE__);
    return COV_OK;
}

void csv_free(csv **t)
{
    if (!t || !*t) return;
    free((*t)->names); /* the fields follow in the same block */
    free((*t)->lines);
    free((*t)->text);
    free(*t);
    *t = NULL;
}

int csv_column(const csv *t, const char *name)
{
    for (int c = 0; c < t->columns; c++)
        if (strcasecmp(t->names[c], name) == 0) return c;
    return -1;
}

const char *csv_get(const csv *t, size_t row, int column)
{
    return t->fields[row * (size_t)t->columns + (size_t)column];
}
