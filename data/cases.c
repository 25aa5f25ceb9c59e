/* cases: the table of annotated cases. Every value is checked when the table is read, so that a training of hours
 * does not stop at a typing error in line 700. */
#include "data/cases.h"
#include "base/str.h"
#include "data/csv.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 9 };
enum { ID, PATIENT, KIND, CT, LUNG, LESION, PERIOD, SPLIT, INTENSITY };
static const char *const column_names[COLUMNS] = {"id",     "patient", "kind",  "ct",       "lung",
                                                  "lesion", "period",  "split", "intensity"};

typedef struct store {
    csv *table;
    char **paths; /* the joined ones */
    size_t count;
} store;

static status find_columns(const char *path, const csv *t, int at[COLUMNS])
{
    str missing = {0};
    for (int c = 0; c < COLUMNS; c++) {
        at[c] = csv_column(t, column_names[c]);
        if (at[c] < 0) str_putf(&missing, "%s%s", missing.length ? ", " : "", column_names[c]);
    }
    status s =
        missing.length ? COV_FAIL(COV_USAGE, "%s: its header line has no column %s", path, str_text(&missing)) : COV_OK;
    str_free(&missing);
    return s;
}

/* The file's folder + "/" + name; NULL for an empty name; an absolute name as it is. */
static status join(store *k, const char *csv_path, const char *name, const char **out)
{
    *out = NULL;
    if (!*name) return COV_OK;
    str s = {0};
    const char *slash = strrchr(csv_path, '/');
    if (name[0] != '/' && slash) str_put_bytes(&s, csv_path, (size_t)(slash - csv_path) + 1);
    str_put(&s, name);
    if (s.failed) {
        str_free(&s);
        return COV_FAIL(COV_NOMEM, "%s: no memory for its paths", csv_path);
    }
    k->paths[k->count++] = s.text;
    *out = s.text;
    return COV_OK;
}

static status refuse(const char *path, long line, int column, const char *value, const char *expected)
{
    return COV_FAIL(COV_FORMAT, "%s:%ld: %s is '%s', expected %s", path, line, column_names[column], value, expected);
}

static status read_row(const char *path, store *k, size_t row, const int at[COLUMNS], cases_row *r)
{
    const csv *t = k->table;
    const char *v[COLUMNS];
    long long period;
    for (int c = 0; c < COLUMNS; c++) v[c] = csv_get(t, row, at[c]);
    r->line = t->lines[row];
    r->id = v[ID];
    r->patient = v[PATIENT];
    r->split = v[SPLIT];
    r->intensity_name = v[INTENSITY];
    if (!*r->id) return refuse(path, r->line, ID, r->id, "a name");
    if (!*r->patient) return refuse(path, r->line, PATIENT, r->patient, "a name: splits are by patient");
    if (strcmp(v[KIND], "volume") == 0) r->kind = CASES_VOLUME;
    else if (strcmp(v[KIND], "slice") == 0) r->kind = CASES_SLICE;
    else return refuse(path, r->line, KIND, v[KIND], "volume or slice");
    if (strcmp(v[INTENSITY], "hu") == 0) r->intensity = CASES_HU;
    else if (strcmp(v[INTENSITY], "hu-approx") == 0) r->intensity = CASES_HU_APPROX;
    else if (strncmp(v[INTENSITY], "8bit", 4) == 0) r->intensity = CASES_8BIT;
    else return refuse(path, r->line, INTENSITY, v[INTENSITY], "hu, hu-approx or 8bit...");
    r->period = -1;
    if (*v[PERIOD]) {
        if (!str_to_int(v[PERIOD], &period) || period < 0 || period > 3)
            return refuse(path, r->line, PERIOD, v[PERIOD], "0, 1, 2, 3 or nothing");
        r->period = (int)period;
    }
    if (!*v[CT]) return refuse(path, r->line, CT, v[CT], "a path");
    COV_TRY(join(k, path, v[CT], &r->ct));
    COV_TRY(join(k, path, v[LUNG], &r->lung));
    COV_TRY(join(k, path, v[LESION], &r->lesion));
    return COV_OK;
}

static int by_id(const void *a, const void *b)
{
    const cases_row *x = *(const cases_row *const *)a, *y = *(const cases_row *const *)b;
    int order = strcmp(x->id, y->id);
    return order ? order : x->line < y->line ? -1 : x->line > y->line;
}

static status check_ids(const char *path, const cases *c)
{
    if (!c->count) return COV_OK;
    const cases_row **order = malloc(c->count * sizeof *order);
    if (!order) return COV_FAIL(COV_NOMEM, "%s: no memory for %zu cases", path, c->count);
    for (size_t i = 0; i < c->count; i++) order[i] = &c->rows[i];
    qsort(order, c->count, sizeof *order, by_id);
    status s = COV_OK;
    for (size_t i = 1; s == COV_OK && i < c->count; i++)
        if (strcmp(order[i]->id, order[i - 1]->id) == 0)
            s = COV_FAIL(COV_FORMAT, "%s:%ld: id '%s' is that of line %ld", path, order[i]->line, order[i]->id,
                         order[i - 1]->line);
    free(order);
    return s;
}

status cases_read(const char *path, cases **out)
{
    int at[COLUMNS];
    status s = COV_OK;
    *out = NULL;
    cases *c = calloc(1, sizeof *c);
    store *k = calloc(1, sizeof *k);
    if (!c || !k) {
        free(c);
        free(k);
        return COV_FAIL(COV_NOMEM, "%s: no memory", path);
    }
    c->store = k;
    COV_GO(csv_read(path, &k->table));
    COV_GO(find_columns(path, k->table, at));
    c->count = k->table->rows;
    c->rows = calloc(c->count + 1, sizeof *c->rows);
    k->paths = calloc(3 * c->count + 1, sizeof *k->paths);
    if (!c->rows || !k->paths) COV_GO(COV_FAIL(COV_NOMEM, "%s: no memory for %zu cases", path, c->count));
    for (size_t i = 0; i < c->count; i++) COV_GO(read_row(path, k, i, at, &c->rows[i]));
    COV_GO(check_ids(path, c));
    *out = c;
    return COV_OK;
done:
    cases_free(&c);
    return s;
}

void cases_free(cases **c)
{
    if (!c || !*c) return;
    store *k = (*c)->store;
    csv_free(&k->table);
    for (size_t i = 0; i < k->count; i++) free(k->paths[i]);
    free(k->paths);
    free(k);
    free((*c)->rows);
    free(*c);
    *c = NULL;
}

status cases_folds(const cases *c, const char *prefix, const char ***names, size_t *count)
{
    *count = 0;
    *names = malloc((c->count + 1) * sizeof **names);
    if (!*names) return COV_FAIL(COV_NOMEM, "no memory for the patients of %zu cases", c->count);
    for (size_t i = 0; i < c->count; i++) {
        const char *patient = c->rows[i].patient;
        bool known = strncmp(patient, prefix, strlen(prefix)) != 0;
        for (size_t j = 0; !known && j < *count; j++) known = strcmp((*names)[j], patient) == 0;
        if (!known) (*names)[(*count)++] = patient;
    }
    return COV_OK;
}
