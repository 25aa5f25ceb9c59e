/* schema: see schema.h. The columns come from data/columns; what is said about them here is what a reader without any
 * code of ours needs: units, long_name, the meaning of codes and bits, and which rows belong together. */
#include "data/schema.h"

#include "base/str.h"
#include "data/columns.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TABLE_DEFLATE = 4, MASK_DEFLATE = 3, NAME_ROOM = 160 };

static h5_layout table_layout(const column *c, int64_t rows, int64_t chunk_rows)
{
    h5_layout l = column_layout(c, (hsize_t)rows, (hsize_t)(rows < chunk_rows ? rows : chunk_rows));
    l.deflate = TABLE_DEFLATE;
    l.shuffle = c->kind != COLUMN_TEXT;
    l.fletcher32 = 1;
    return l;
}

/* ---------------------------------------------------------------- the meaning of codes */

static status put_flags(hid_t dataset, const char *file, const char *values, const int32_t *codes, int count,
                        const char *meanings)
{
    COV_TRY(h5_put_array(dataset, file, values, H5T_STD_I32LE, count, codes));
    COV_TRY(h5_put_text(dataset, file, "flag_meanings", meanings));
    return COV_OK;
}

static status describe_reasons(hid_t dataset, const char *file)
{
#define X(code, number, outcome, text) number,
    static const int32_t codes[] = {REASONS(X)};
#undef X
#define X(code, number, outcome, text) " " #code
    static const char meanings[] = REASONS(X);
#undef X
    COV_TRY(put_flags(dataset, file, "flag_values", codes, sizeof codes / sizeof codes[0], meanings + 1));
    return COV_OK;
}

static status describe_quality(hid_t dataset, const char *file)
{
#define X(name, bit, text) 1 << (bit),
    static const int32_t codes[] = {QC_FLAGS(X)};
#undef X
#define X(name, bit, text) " " #name
    static const char meanings[] = QC_FLAGS(X);
#undef X
    COV_TRY(put_flags(dataset, file, "flag_masks", codes, sizeof codes / sizeof codes[0], meanings + 1));
    return COV_OK;
}

static status describe(hid_t dataset, const char *file, const column *c)
{
    static const int32_t outcomes[] = {OUTCOME_DONE, OUTCOME_SKIPPED, OUTCOME_FAILED}, periods[] = {-1, 0, 1, 2, 3};
    if (c->units[0]) COV_TRY(h5_put_text(dataset, file, "units", c->units));
    COV_TRY(h5_put_text(dataset, file, "long_name", c->long_name));
    if (strcmp(c->name, "status") == 0)
        COV_TRY(put_flags(dataset, file, "flag_values", outcomes, 3, "done skipped failed"));
    if (strcmp(c->name, "reason") == 0) COV_TRY(describe_reasons(dataset, file));
    if (strcmp(c->name, "qc_flags") == 0) COV_TRY(describe_quality(dataset, file));
    if (strcmp(c->name, "period") == 0)
        COV_TRY(put_flags(dataset, file, "flag_values", periods, 5, "unknown healthy early advanced severe"));
    return COV_OK;
}

/* ---------------------------------------------------------------- tables */

/* Makes the columns of one table and appends them to `uses`, which the caller closes. */
static status create_columns(hid_t root, const char *file, const char *group, const column *columns, int count,
                             int64_t rows, int64_t chunk_rows, h5_use *uses, int *used)
{
    hid_t type = H5I_INVALID_HID;
    char name[NAME_ROOM];
    status s = COV_OK;
    for (int k = 0; k < count; k++) {
        h5_layout layout = table_layout(&columns[k], rows, chunk_rows);
        snprintf(name, sizeof name, "%s/%s", group, columns[k].name);
        H5_GO(COV_NOMEM, file, name, type = column_type(&columns[k]));
        COV_GO(h5_create_dataset(root, file, name, type, &layout, &uses[*used].dataset));
        uses[(*used)++].dimension = 0;
        h5_close(&type);
        COV_GO(describe(uses[*used - 1].dataset, file, &columns[k]));
    }
done:
    h5_close(&type);
    return s;
}

static void close_uses(h5_use *uses, int used)
{
    for (int k = 0; k < used; k++) h5_close(&uses[k].dataset);
    free(uses);
}

/* uses[0] is the scale itself; it is not attached to itself. */
static status attach_first(const char *file, const char *scale, const h5_use *uses, int used)
{
    COV_TRY(h5_make_scale(uses[0].dataset, file, scale));
    if (used > 1) COV_TRY(h5_attach_scale(uses[0].dataset, file, uses + 1, used - 1));
    return COV_OK;
}

static int name_is_good(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    size_t n = strlen(name);
    return n > 0 && n < COHORT_NAME && strspn(name, letters) == n && strspn(name, ".") < n;
}

static status create_studies(hid_t root, const char *file, const schema *what)
{
    int ours, gathered, used = 0;
    const column *study = columns_study(&ours), *gather = columns_gather(&gathered);
    status s = COV_OK;
    h5_use *uses = calloc((size_t)ours + (size_t)gathered + (size_t)what->extra_count, sizeof *uses);
    if (!uses) return COV_FAIL(COV_NOMEM, "%s: no memory for its columns", file);
    COV_GO(create_columns(root, file, "study", study, ours, what->studies, SCHEMA_STUDY_ROWS, uses, &used));
    COV_GO(create_columns(root, file, "study", gather, gathered, what->studies, SCHEMA_STUDY_ROWS, uses, &used));
    for (int k = 0; k < what->extra_count; k++) {
        const cohort_extra *e = &what->extras[k];
        column c = {e->name, COLUMN_TEXT, what->extra_bytes[k], "", e->long_name, 0};
        char name[NAME_ROOM];
        snprintf(name, sizeof name, "study/%s", e->name);
        if (!name_is_good(e->name)) {
            s = COV_FAIL(COV_USAGE, "'%s' cannot be the name of a column", e->name);
            goto done;
        }
        if (h5_has(root, name)) {
            s = COV_FAIL(COV_USAGE, "the column '%s' is there already", e->name);
            goto done;
        }
        COV_GO(create_columns(root, file, "study", &c, 1, what->studies, SCHEMA_STUDY_ROWS, uses, &used));
    }
    COV_GO(attach_first(file, "study", uses, used)); /* the first column is id */
done:
    close_uses(uses, used);
    return s;
}

/* /slice and /lesion: rows that belong to a study, whose first column says to which. */
static status create_rows(hid_t root, const char *file, const char *group, const column *columns, int count,
                          int64_t rows)
{
    int used = 0;
    status s;
    h5_use *uses = calloc((size_t)count, sizeof *uses);
    if (!uses) return COV_FAIL(COV_NOMEM, "%s: no memory for its columns", file);
    COV_GO(create_columns(root, file, group, columns, count, rows, SCHEMA_SLICE_ROWS, uses, &used));
    COV_GO(attach_first(file, group, uses, used));
done:
    close_uses(uses, used);
    return s;
}

/* ---------------------------------------------------------------- masks */

static status describe_mask(hid_t dataset, const char *file, study_mask m)
{
    static const uint8_t labels[] = {0, 1, 2};
    if (m == STUDY_LESION) {
        COV_TRY(h5_put_text(dataset, file, "long_name", "0, or the lesion_id, on the study's canonical grid"));
        return COV_OK;
    }
    COV_TRY(h5_put_text(dataset, file, "long_name", "lung mask on the study's canonical grid"));
    COV_TRY(h5_put_array(dataset, file, "flag_values", H5T_STD_U8LE, 3, labels));
    COV_TRY(h5_put_text(dataset, file, "flag_meanings", "background right left"));
    return COV_OK;
}

static status create_set(hid_t root, const char *file, const schema_set *set)
{
    column study = {"study", COLUMN_I32, 1, "", "row of /study that the mask row belongs to, -1 for padding", 0};
    char group[COHORT_SET + 8], name[NAME_ROOM];
    h5_layout layout = {.rank = 3,
                        .dims = {(hsize_t)set->slices, (hsize_t)set->rows, (hsize_t)set->cols},
                        .chunk = {(hsize_t)set->chunk, (hsize_t)set->rows, (hsize_t)set->cols},
                        .deflate = MASK_DEFLATE,
                        .fletcher32 = 1};
    int used = 0;
    status s;
    snprintf(group, sizeof group, "mask/%s", set->name);
    h5_use *uses = calloc(1 + STUDY_MASKS, sizeof *uses);
    if (!uses) return COV_FAIL(COV_NOMEM, "%s: no memory for its masks", file);
    COV_GO(create_columns(root, file, group, &study, 1, set->slices, SCHEMA_SLICE_ROWS, uses, &used));
    for (int m = 0; m < (set->lesion ? STUDY_MASKS : STUDY_LESION); m++) {
        snprintf(name, sizeof name, "%s/%s", group, columns_mask_name((study_mask)m));
        layout.shuffle = columns_mask_bytes((study_mask)m) > 1;
        COV_GO(h5_create_dataset(root, file, name, columns_mask_type((study_mask)m), &layout, &uses[used].dataset));
        COV_GO(describe_mask(uses[used++].dataset, file, (study_mask)m));
    }
    COV_GO(attach_first(file, "slice", uses, used));
done:
    close_uses(uses, used);
    return s;
}

/* ---------------------------------------------------------------- the file */

static status put_attributes(hid_t root, const char *file, const schema *what)
{
    char created[32];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &utc);
    COV_TRY(h5_put_text(root, file, "Conventions", SCHEMA_NAME));
    COV_TRY(h5_put_value(root, file, "schema_version", H5T_STD_I32LE, &(int32_t){SCHEMA_VERSION}));
    COV_TRY(h5_put_text(root, file, "created", created));
    COV_TRY(h5_put_text(root, file, "covpipe_version", COVPIPE_VERSION));
    COV_TRY(h5_put_value(root, file, "ranks", H5T_STD_I32LE, &(int32_t){what->ranks}));
    COV_TRY(h5_put_value(root, file, "complete", H5T_STD_I32LE, &(int32_t){what->complete != 0}));
    for (int k = 0; k < what->attribute_count; k++) {
        const cohort_attribute *a = &what->attributes[k];
        if (!name_is_good(a->name) || H5Aexists(root, a->name) > 0)
            return COV_FAIL(COV_USAGE, "'%s' cannot be the name of an attribute, or is one already", a->name);
        if (strlen(a->value) > SCHEMA_TEXT_LIMIT)
            return COV_FAIL(COV_USAGE, "the attribute '%s' has %zu bytes, %d are allowed", a->name, strlen(a->value),
                            SCHEMA_TEXT_LIMIT);
        COV_TRY(h5_put_text(root, file, a->name, a->value));
    }
    return COV_OK;
}

status schema_create(const char *file, const schema *what)
{
    hid_t root = H5I_INVALID_HID;
    int slice_count, lesion_count;
    const column *slice = columns_slice(&slice_count), *lesion = columns_lesion(&lesion_count);
    status s;
    COV_GO(h5_create_file(file, 0, &root));
    COV_GO(put_attributes(root, file, what));
    COV_GO(create_studies(root, file, what));
    COV_GO(create_rows(root, file, "slice", slice, slice_count, what->slices));
    COV_GO(create_rows(root, file, "lesion", lesion, lesion_count, what->lesions));
    for (int k = 0; k < what->set_count; k++) COV_GO(create_set(root, file, &what->sets[k]));
    herr_t closed = H5Fclose(root);
    root = H5I_INVALID_HID;
    H5_GO(COV_IO, file, "close", closed);
done:
    h5_close(&root);
    return s;
}
