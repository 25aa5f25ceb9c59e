/* csv: RFC 4180 tables with a header line, whole in memory: quoted fields, doubled quotes, line breaks inside quotes,
 * CRLF or LF, a UTF-8 byte order mark. Columns are found by name. Local. */
#ifndef COV_DATA_CSV_H
#define COV_DATA_CSV_H
#include "base/status.h"
#include <stddef.h>

typedef struct csv {
    int columns;
    size_t rows;         /* without the header line */
    const char **names;  /* (columns); owned, as all texts are */
    const char **fields; /* (rows, columns), never NULL: a short row is COV_FORMAT */
    long *lines;         /* (rows), the line of the file where the row starts, from 1 */
    char *text;          /* the fields' bytes */
} csv;

/* COV_IO, or COV_FORMAT with the line number: no header, a row of another length, a quote that is not closed, a NUL. */
status csv_read(const char *path, csv **out);
/* The same from memory; `name` is used in messages. */
status csv_parse(const char *name, const char *bytes, size_t n, csv **out);
void csv_free(csv **t);
int csv_column(const csv *t, const char *name); /* -1 if there is none; ASCII case is ignored */
const char *csv_get(const csv *t, size_t row, int column);
#endif
