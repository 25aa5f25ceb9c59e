/* metadata: a CSV with keys. Look-up is by binary search over each key column's sorted row numbers; with a path and
 * an id column, the path decides, because an id may be a hash. */
#include "data/metadata.h"
#include "data/csv.h"

#include <stdlib.h>
#include <string.h>

enum { PATH, ID, KEYS };
static const char *const key_names[KEYS] = {"path", "id"};

typedef struct key {
    const char *text;
    size_t row;
} key;

struct metadata {
    csv *table;
    key *keys[KEYS]; /* sorted; NULL: no such column */
    size_t key_count[KEYS];
    int *columns; /* of the table, without the keys */
    int count;
};

static int by_text(const void *a, const void *b)
{
    const key *x = a, *y = b;
    int order = strcmp(x->text, y->text);
    return order ? order : x->row < y->row ? -1 : x->row > y->row;
}

/* Rows with an empty key are left out: they may have the other one. */
static status index_column(const char *path, metadata *m, int which, int column)
{
    const csv *t = m->table;
    key *k = malloc((t->rows + 1) * sizeof *k);
    if (!k) return COV_FAIL(COV_NOMEM, "%s: no memory for %zu rows", path, t->rows);
    m->keys[which] = k;
    size_t n = 0;
    for (size_t r = 0; r < t->rows; r++)
        if (*csv_get(t, r, column)) k[n++] = (key){csv_get(t, r, column), r};
    qsort(k, n, sizeof *k, by_text);
    m->key_count[which] = n;
    for (size_t i = 1; i < n; i++)
        if (strcmp(k[i].text, k[i - 1].text) == 0)
            return COV_FAIL(COV_USAGE, "%s:%ld: %s '%s' is that of line %ld", path, t->lines[k[i].row],
                            key_names[which], k[i].text, t->lines[k[i - 1].row]);
    return COV_OK;
}

static status fill(const char *path, metadata *m)
{
    int at[KEYS];
    COV_TRY(csv_read(path, &m->table));
    for (int k = 0; k < KEYS; k++) at[k] = csv_column(m->table, key_names[k]);
    if (at[PATH] < 0 && at[ID] < 0)
        return COV_FAIL(COV_USAGE, "%s: its header line has neither a path nor an id column to join by", path);
    for (int k = 0; k < KEYS; k++)
        if (at[k] >= 0) COV_TRY(index_column(path, m, k, at[k]));
    m->columns = malloc((size_t)m->table->columns * sizeof *m->columns);
    if (!m->columns) return COV_FAIL(COV_NOMEM, "%s: no memory for %d columns", path, m->table->columns);
    for (int c = 0; c < m->table->columns; c++)
        if (c != at[PATH] && c != at[ID]) m->columns[m->count++] = c;
    return COV_OK;
}

status metadata_read(const char *path, metadata **out)
{
    status s = COV_OK;
    *out = NULL;
    metadata *m = calloc(1, sizeof *m);
    if (!m) return COV_FAIL(COV_NOMEM, "%s: no memory", path);
    COV_GO(fill(path, m));
    *out = m;
    return COV_OK;
done:
    metadata_free(&m);
    return s;
}

void metadata_free(metadata **m)
{
    if (!m || !*m) return;
    csv_free(&(*m)->table);
    for (int k = 0; k < KEYS; k++) free((*m)->keys[k]);
    free((*m)->columns);
    free(*m);
    *m = NULL;
}

int metadata_columns(const metadata *m) { return m->count; }
size_t metadata_rows(const metadata *m) { return m->table->rows; }
const char *metadata_name(const metadata *m, int column) { return m->table->names[m->columns[column]]; }

size_t metadata_width(const metadata *m, int column)
{
    size_t most = 0;
    for (size_t r = 0; r < m->table->rows; r++) {
        size_t n = strlen(csv_get(m->table, r, m->columns[column]));
        if (n > most) most = n;
    }
    return most;
}

static long find(const metadata *m, int which, const char *text)
{
    size_t low = 0, high = m->key_count[which];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(m->keys[which][middle].text, text);
        if (order == 0) return (long)m->keys[which][middle].row;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return -1;
}

long metadata_find(const metadata *m, const char *id, const char *path)
{
    long row = path ? find(m, PATH, path) : -1;
    return row >= 0 || !id ? row : find(m, ID, id);
}

const char *metadata_get(const metadata *m, long row, int column)
{
    return row < 0 ? "" : csv_get(m->table, (size_t)row, m->columns[column]);
}
