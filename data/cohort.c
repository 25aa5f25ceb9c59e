/* cohort: the serial reader of cohort files; data/cohort_write is the writer. A file may come from anywhere: opening
 * checks that every column has the type and the number of rows that the schema says, and reading checks every position
 * that one dataset gives into another. Rows are read in blocks of a chunk, because a single one costs as much. */
#include "data/cohort.h"

#include "base/size.h"
#include "data/columns.h"
#include "data/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS_LIMIT = 64, EXTRAS_LIMIT = 1024, ATTRIBUTES_LIMIT = 1024, PACKING_LIMIT = 1100, SMALL = 1 << 16 };

/* A study's rows are read by themselves: of a chunk that is larger than the cache, each study would unpack the whole. */
#define X(field, ...) _Static_assert(SCHEMA_STUDY_ROWS * sizeof((study_row *)0)->field <= H5_CHUNK_CACHE, #field);
STUDY_COLUMNS(X)
#undef X
#define X(field, ...) _Static_assert(SCHEMA_SLICE_ROWS * sizeof((slice_row *)0)->field <= H5_CHUNK_CACHE, #field);
SLICE_COLUMNS(X)
#undef X
#define X(field, ...) _Static_assert(SCHEMA_SLICE_ROWS * sizeof((lesion_row *)0)->field <= H5_CHUNK_CACHE, #field);
LESION_COLUMNS(X)
#undef X

typedef struct attribute {
    char name[COHORT_NAME], *value;
} attribute;
typedef struct extra {
    char name[COHORT_NAME];
    column about;
    hid_t dataset;
    char *cells;
} extra; /* cells: of the block */

struct cohort {
    char *file; /* owned */
    hid_t root;
    int64_t count, slices, lesions;
    hid_t study[COLUMNS_LIMIT], gather[COLUMNS_LIMIT], slice[COLUMNS_LIMIT], lesion[COLUMNS_LIMIT];
    int attribute_count, extra_count;
    attribute *attributes; /* owned */
    extra *extras;         /* owned */
    int64_t block0, block; /* the rows in memory */
    study_row *rows;       /* owned; SCHEMA_STUDY_ROWS */
    gather_record *places; /* owned; SCHEMA_STUDY_ROWS */
};

/* ---------------------------------------------------------------- opening */

static status open_table(cohort *c, const char *group, const column *columns, int count, int64_t rows, hid_t *datasets)
{
    if (count > COLUMNS_LIMIT) return COV_FAIL(COV_BROKEN, "%s: %d columns", group, count);
    for (int k = 0; k < count; k++)
        COV_TRY(column_open(c->root, c->file, group, &columns[k], (hsize_t)rows, &datasets[k]));
    return COV_OK;
}

static status rows_of(cohort *c, const char *name, int64_t *out)
{
    hid_t dataset = H5I_INVALID_HID;
    h5_layout layout;
    COV_TRY(h5_open_dataset(c->root, c->file, name, &dataset, &layout));
    h5_close(&dataset);
    if (layout.dims[0] > INT32_MAX)
        return COV_FAIL(COV_FORMAT, "%s: %s: %llu rows", c->file, name, (unsigned long long)layout.dims[0]);
    *out = (int64_t)layout.dims[0];
    return COV_OK;
}

/* An attribute as text; *out NULL if it is of a kind that is not shown. */
static status attribute_text(cohort *c, const char *name, char **out)
{
    hid_t at = H5I_INVALID_HID, type = H5I_INVALID_HID;
    char digits[32];
    int64_t value;
    status s = COV_OK;
    *out = NULL;
    H5_GO(COV_FORMAT, c->file, name, at = H5Aopen(c->root, name, H5P_DEFAULT));
    H5_GO(COV_FORMAT, c->file, name, type = H5Aget_type(at));
    if (H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0) {
        COV_GO(h5_get_text(c->root, c->file, name, SCHEMA_TEXT_LIMIT, out));
    } else if (H5Tget_class(type) == H5T_INTEGER) {
        COV_GO(h5_get_int(c->root, c->file, name, &value));
        snprintf(digits, sizeof digits, "%lld", (long long)value);
        if (!(*out = strdup(digits))) s = COV_FAIL(COV_NOMEM, "%s: no memory", c->file);
    }
done:
    h5_close(&type);
    h5_close(&at);
    return s;
}

static status read_attributes(cohort *c)
{
    H5O_info_t about;
    char name[COHORT_NAME];
    status s = COV_OK;
    H5_GO(COV_FORMAT, c->file, "attributes",
          H5Oget_info_by_name2(c->root, "/", &about, H5O_INFO_NUM_ATTRS, H5P_DEFAULT));
    if (about.num_attrs > ATTRIBUTES_LIMIT) return COV_FAIL(COV_FORMAT, "%s: too many attributes", c->file);
    c->attributes = calloc((size_t)about.num_attrs + 1, sizeof *c->attributes);
    if (!c->attributes) return COV_FAIL(COV_NOMEM, "%s: no memory for its attributes", c->file);
    for (hsize_t k = 0; k < about.num_attrs; k++) {
        attribute *to = &c->attributes[c->attribute_count];
        ssize_t n = H5Aget_name_by_idx(c->root, "/", H5_INDEX_NAME, H5_ITER_INC, k, name, sizeof name, H5P_DEFAULT);
        H5_GO(COV_FORMAT, c->file, "attributes", n);
        if (n >= (ssize_t)sizeof name) continue;
        COV_GO(attribute_text(c, name, &to->value));
        if (!to->value) continue;
        memcpy(to->name, name, sizeof name);
        c->attribute_count++;
    }
done:
    return s;
}

static int is_ours(const char *name)
{
    int ours, gathered;
    const column *study = columns_study(&ours), *gather = columns_gather(&gathered);
    for (int k = 0; k < ours; k++)
        if (strcmp(study[k].name, name) == 0) return 1;
    for (int k = 0; k < gathered; k++)
        if (strcmp(gather[k].name, name) == 0) return 1;
    return 0;
}

/* Takes a dataset of /study that is not ours, if it is a text column. */
static status take_extra(cohort *c, const char *name)
{
    char path[COHORT_NAME + 8];
    hid_t dataset = H5I_INVALID_HID, type = H5I_INVALID_HID;
    h5_layout layout;
    status s = COV_OK;
    snprintf(path, sizeof path, "study/%s", name);
    if (h5_open_dataset(c->root, c->file, path, &dataset, &layout) != COV_OK)
        return COV_OK; /* a group or a link of others */
    H5_GO(COV_FORMAT, c->file, path, type = H5Dget_type(dataset));
    size_t width = H5Tget_size(type);
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 || H5Tget_cset(type) != H5T_CSET_UTF8 ||
        width > COHORT_CELL || layout.rank != 1 || layout.dims[0] != (hsize_t)c->count)
        goto done;
    extra *e = &c->extras[c->extra_count];
    *e = (extra){.about = {NULL, COLUMN_TEXT, (int)width, "", "", 0}, .dataset = dataset};
    memcpy(e->name, name, strlen(name) + 1);
    if (!(e->cells = malloc(width * SCHEMA_STUDY_ROWS))) {
        s = COV_FAIL(COV_NOMEM, "%s: no memory for %s", c->file, path);
        goto done;
    }
    c->extra_count++;
    dataset = H5I_INVALID_HID;
done:
    h5_close(&type);
    h5_close(&dataset);
    return s;
}

static status find_extras(cohort *c)
{
    hid_t group = H5I_INVALID_HID;
    H5G_info_t about;
    char name[COHORT_NAME];
    status s = COV_OK;
    H5_GO(COV_FORMAT, c->file, "study", group = H5Gopen2(c->root, "study", H5P_DEFAULT));
    H5_GO(COV_FORMAT, c->file, "study", H5Gget_info(group, &about));
    if (about.nlinks > EXTRAS_LIMIT) {
        s = COV_FAIL(COV_FORMAT, "%s: study: too many columns", c->file);
        goto done;
    }
    if (!(c->extras = calloc((size_t)about.nlinks + 1, sizeof *c->extras))) {
        s = COV_FAIL(COV_NOMEM, "%s: no memory", c->file);
        goto done;
    }
    for (hsize_t k = 0; k < about.nlinks; k++) {
        ssize_t n = H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, k, name, sizeof name, H5P_DEFAULT);
        H5_GO(COV_FORMAT, c->file, "study", n);
        if (n >= (ssize_t)sizeof name || is_ours(name)) continue;
        COV_GO(take_extra(c, name));
    }
    for (int k = 0; k < c->extra_count; k++) c->extras[k].about.name = c->extras[k].name;
done:
    h5_close(&group);
    return s;
}

static status open_all(cohort *c)
{
    char conventions[COHORT_NAME];
    int64_t version;
    int count;
    const column *columns;
    COV_TRY(h5_open_file(c->file, H5F_ACC_RDONLY, &c->root));
    COV_TRY(h5_get_text_into(c->root, c->file, "Conventions", conventions, sizeof conventions));
    if (strcmp(conventions, SCHEMA_NAME) != 0)
        return COV_FAIL(COV_FORMAT, "%s: Conventions '%s', expected '" SCHEMA_NAME "'", c->file, conventions);
    COV_TRY(h5_get_int(c->root, c->file, "schema_version", &version));
    if (version != SCHEMA_VERSION)
        return COV_FAIL(COV_FORMAT, "%s: schema_version %lld, expected %d: made by another version of covpipe", c->file,
                        (long long)version, SCHEMA_VERSION);
    COV_TRY(read_attributes(c));
    COV_TRY(rows_of(c, "study/id", &c->count));
    COV_TRY(rows_of(c, "slice/study", &c->slices));
    COV_TRY(rows_of(c, "lesion/study", &c->lesions));
    columns = columns_study(&count);
    COV_TRY(open_table(c, "study", columns, count, c->count, c->study));
    columns = columns_gather(&count);
    COV_TRY(open_table(c, "study", columns, count, c->count, c->gather));
    columns = columns_slice(&count);
    COV_TRY(open_table(c, "slice", columns, count, c->slices, c->slice));
    columns = columns_lesion(&count);
    COV_TRY(open_table(c, "lesion", columns, count, c->lesions, c->lesion));
    COV_TRY(find_extras(c));
    c->rows = calloc(SCHEMA_STUDY_ROWS, sizeof *c->rows);
    c->places = calloc(SCHEMA_STUDY_ROWS, sizeof *c->places);
    if (!c->rows || !c->places) return COV_FAIL(COV_NOMEM, "%s: no memory for its rows", c->file);
    return COV_OK;
}

status cohort_open(const char *path, cohort **out)
{
    *out = NULL;
    h5_quiet();
    cohort *c = calloc(1, sizeof *c);
    if (!c) return COV_FAIL(COV_NOMEM, "%s: no memory", path);
    c->root = H5I_INVALID_HID;
    for (int k = 0; k < COLUMNS_LIMIT; k++)
        c->study[k] = c->gather[k] = c->slice[k] = c->lesion[k] = H5I_INVALID_HID;
    c->file = strdup(path);
    status s = c->file ? open_all(c) : COV_FAIL(COV_NOMEM, "%s: no memory", path);
    if (s != COV_OK) {
        cohort_close(&c);
        return status_relay(s, __FILE__, __LINE__);
    }
    *out = c;
    return COV_OK;
}

void cohort_close(cohort **at)
{
    if (!at || !*at) return;
    cohort *c = *at;
    for (int k = 0; k < COLUMNS_LIMIT; k++) {
        h5_close(&c->study[k]);
        h5_close(&c->gather[k]);
        h5_close(&c->slice[k]);
        h5_close(&c->lesion[k]);
    }
    for (int k = 0; k < c->extra_count; k++) {
        h5_close(&c->extras[k].dataset);
        free(c->extras[k].cells);
    }
    for (int k = 0; k < c->attribute_count; k++) free(c->attributes[k].value);
    h5_close(&c->root);
    free(c->attributes);
    free(c->extras);
    free(c->rows);
    free(c->places);
    free(c->file);
    free(c);
    *at = NULL;
}

/* ---------------------------------------------------------------- rows */

int64_t cohort_count(const cohort *c) { return c->count; }
int cohort_attribute_count(const cohort *c) { return c->attribute_count; }

const char *cohort_attribute_name(const cohort *c, int i)
{
    return i >= 0 && i < c->attribute_count ? c->attributes[i].name : NULL;
}

const char *cohort_attribute_value(const cohort *c, int i)
{
    return i >= 0 && i < c->attribute_count ? c->attributes[i].value : NULL;
}

const char *cohort_attribute_find(const cohort *c, const char *name)
{
    for (int i = 0; i < c->attribute_count; i++)
        if (strcmp(c->attributes[i].name, name) == 0) return c->attributes[i].value;
    return NULL;
}

static status read_table(cohort *c, const column *columns, int count, const hid_t *datasets, int64_t row0, int64_t rows,
                         void *records, size_t stride)
{
    for (int k = 0; k < count; k++)
        COV_TRY(column_read(datasets[k], c->file, &columns[k], (hsize_t)row0, (hsize_t)rows, records, stride));
    return COV_OK;
}

/* Brings the block of rows that holds row k into memory. */
static status load_block(cohort *c, int64_t k)
{
    int count;
    const column *columns;
    if (k < 0 || k >= c->count)
        return COV_FAIL(COV_USAGE, "%s: there is no study %lld of %lld", c->file, (long long)k, (long long)c->count);
    if (c->block && k >= c->block0 && k < c->block0 + c->block) return COV_OK;
    int64_t row0 = k / SCHEMA_STUDY_ROWS * SCHEMA_STUDY_ROWS, rows = c->count - row0;
    if (rows > SCHEMA_STUDY_ROWS) rows = SCHEMA_STUDY_ROWS;
    c->block = 0;
    memset(c->rows, 0, SCHEMA_STUDY_ROWS * sizeof *c->rows);
    columns = columns_study(&count);
    COV_TRY(read_table(c, columns, count, c->study, row0, rows, c->rows, sizeof *c->rows));
    columns = columns_gather(&count);
    COV_TRY(read_table(c, columns, count, c->gather, row0, rows, c->places, sizeof *c->places));
    for (int i = 0; i < c->extra_count; i++) {
        extra *e = &c->extras[i];
        COV_TRY(column_read(e->dataset, c->file, &e->about, (hsize_t)row0, (hsize_t)rows, e->cells,
                            column_bytes(&e->about)));
    }
    c->block0 = row0;
    c->block = rows;
    return COV_OK;
}

/* What one study's row says about the others must hold, whatever wrote the file. */
static status check_row(cohort *c, int64_t k)
{
    const study_row *row = &c->rows[k - c->block0];
    const gather_record *place = &c->places[k - c->block0];
    if (row->status < OUTCOME_DONE || row->status > OUTCOME_FAILED || row->reason < 0 || row->reason >= REASON_COUNT)
        return COV_FAIL(COV_FORMAT, "%s: study %lld: status %d, reason %d", c->file, (long long)k, row->status,
                        row->reason);
    if (row->rows < 0 || row->cols < 0 || row->slices < 0 || (int64_t)row->rows * row->cols > PART_PLANE_LIMIT ||
        row->slices > PART_SLICES_LIMIT)
        return COV_FAIL(COV_FORMAT, "%s: study %lld: %d x %d x %d pixels", c->file, (long long)k, row->slices,
                        row->rows, row->cols);
    if (place->duplicate_of < -1 || place->duplicate_of >= k || place->mask_row0 < -1 || place->slice_row0 < -1 ||
        place->slice_row0 > c->slices || (place->slice_row0 >= 0 && row->slices > c->slices - place->slice_row0) ||
        (place->mask_row0 >= 0) != (place->mask_set[0] != 0) || place->lesion_row0 < -1 ||
        place->lesion_rows < 0 || place->lesion_rows > c->lesions ||
        (place->lesion_row0 >= 0) != (place->lesion_rows > 0) || place->lesion_row0 > c->lesions - place->lesion_rows)
        return COV_FAIL(COV_FORMAT, "%s: study %lld: its places in other tables are outside them", c->file,
                        (long long)k);
    return COV_OK;
}

status cohort_row(cohort *c, int64_t k, study_row *out)
{
    COV_TRY(load_block(c, k));
    COV_TRY(check_row(c, k));
    *out = c->rows[k - c->block0];
    return COV_OK;
}

status cohort_place_of(cohort *c, int64_t k, cohort_place *out)
{
    COV_TRY(load_block(c, k));
    COV_TRY(check_row(c, k));
    const gather_record *g = &c->places[k - c->block0];
    *out = (cohort_place){.duplicate_of = g->duplicate_of,
                          .mask_row0 = g->mask_row0,
                          .slice_row0 = g->slice_row0,
                          .slice_count = g->slice_row0 < 0 ? 0 : c->rows[k - c->block0].slices,
                          .lesion_row0 = g->lesion_row0,
                          .lesion_rows = g->lesion_rows};
    memcpy(out->mask_set, g->mask_set, sizeof out->mask_set);
    return COV_OK;
}

status cohort_find(cohort *c, const char *name, int64_t *k)
{
    int64_t by_path = -1;
    *k = -1;
    for (int64_t i = 0; i < c->count; i++) {
        COV_TRY(load_block(c, i));
        const study_row *row = &c->rows[i - c->block0];
        if (by_path < 0 && strcmp(row->path, name) == 0) by_path = i;
        if (strcmp(row->id, name) != 0) continue;
        if (*k >= 0)
            return COV_FAIL(COV_USAGE, "%s: more than one study has the id '%s': name its path", c->file, name);
        *k = i;
    }
    if (*k < 0) *k = by_path;
    if (*k < 0) return COV_FAIL(COV_USAGE, "%s: no study has the id or path '%s'", c->file, name);
    return COV_OK;
}

int cohort_extra_count(const cohort *c) { return c->extra_count; }
const char *cohort_extra_name(const cohort *c, int i)
{
    return i >= 0 && i < c->extra_count ? c->extras[i].name : NULL;
}

status cohort_extra_cell(cohort *c, int i, int64_t k, char out[COHORT_CELL])
{
    out[0] = 0;
    if (i < 0 || i >= c->extra_count) return COV_FAIL(COV_USAGE, "%s: there is no extra column %d", c->file, i);
    COV_TRY(load_block(c, k));
    const char *cell = c->extras[i].cells + (size_t)(k - c->block0) * column_bytes(&c->extras[i].about);
    memcpy(out, cell, strlen(cell) + 1); /* column_read ends it within its width, which is at most COHORT_CELL */
    return COV_OK;
}

/* ---------------------------------------------------------------- slices and masks */

/* `rows` rows from row0 on into zeroed records, caller frees; NULL for none. */
static status read_children(cohort *c, const column *columns, int count, const hid_t *datasets, int64_t row0,
                            int64_t rows, size_t stride, void **out)
{
    *out = NULL;
    if (rows == 0) return COV_OK;
    if (!(*out = calloc((size_t)rows, stride)))
        return COV_FAIL(COV_NOMEM, "%s: no memory for %lld rows", c->file, (long long)rows);
    status s = read_table(c, columns, count, datasets, row0, rows, *out, stride);
    if (s == COV_OK) return COV_OK;
    free(*out);
    *out = NULL;
    status_relay(s, __FILE__, __LINE__);
    return s;
}

static status astray(cohort *c, const char *group, int64_t row, int study, int64_t k)
{
    return COV_FAIL(COV_FORMAT, "%s: %s: row %lld is of study %d, not %lld", c->file, group, (long long)row, study,
                    (long long)k);
}

status cohort_slices(cohort *c, int64_t k, slice_row **out, int64_t *count)
{
    int columns_count;
    const column *columns = columns_slice(&columns_count);
    cohort_place place;
    status s = COV_OK;
    *out = NULL;
    *count = 0;
    COV_TRY(cohort_place_of(c, k, &place));
    COV_TRY(read_children(c, columns, columns_count, c->slice, place.slice_row0, place.slice_count, sizeof **out,
                          (void **)out));
    for (int64_t i = 0; s == COV_OK && i < place.slice_count; i++)
        if ((*out)[i].study != k) s = astray(c, "slice", place.slice_row0 + i, (*out)[i].study, k);
    if (s == COV_OK) *count = place.slice_count;
    else free(*out), *out = NULL;
    return s;
}

status cohort_lesions(cohort *c, int64_t k, lesion_row **out, int64_t *count)
{
    int columns_count;
    const column *columns = columns_lesion(&columns_count);
    cohort_place place;
    status s = COV_OK;
    *out = NULL;
    *count = 0;
    COV_TRY(cohort_place_of(c, k, &place));
    COV_TRY(read_children(c, columns, columns_count, c->lesion, place.lesion_row0, place.lesion_rows, sizeof **out,
                          (void **)out));
    for (int64_t i = 0; s == COV_OK && i < place.lesion_rows; i++)
        if ((*out)[i].study != k) s = astray(c, "lesion", place.lesion_row0 + i, (*out)[i].study, k);
    if (s == COV_OK) *count = place.lesion_rows;
    else free(*out), *out = NULL;
    return s;
}

/* A mask cannot be larger than what deflate could unpack from the bytes that are there. */
static status open_mask(cohort *c, int64_t k, study_mask m, const study_row *row, const cohort_place *place, hid_t *out,
                        size_t *bytes)
{
    char name[COHORT_SET + 16];
    h5_layout layout;
    status s;
    snprintf(name, sizeof name, "mask/%s/%s", place->mask_set, columns_mask_name(m));
    COV_GO(h5_open_dataset(c->root, c->file, name, out, &layout));
    COV_GO(h5_check_type(*out, c->file, name, columns_mask_type(m)));
    if (layout.rank != 3 || layout.dims[1] != (hsize_t)row->rows || layout.dims[2] != (hsize_t)row->cols ||
        (hsize_t)place->mask_row0 > layout.dims[0] ||
        (hsize_t)row->slices > layout.dims[0] - (hsize_t)place->mask_row0) {
        s = COV_FAIL(COV_FORMAT, "%s: %s: too small, or of another size, for study %lld", c->file, name, (long long)k);
        goto done;
    }
    /* bounded: check_row */
    *bytes = (size_t)row->rows * (size_t)row->cols * (size_t)row->slices * columns_mask_bytes(m);
    if (*bytes / PACKING_LIMIT > H5Dget_storage_size(*out) + SMALL)
        s = COV_FAIL(COV_FORMAT, "%s: %s: says it holds far more than its bytes can", c->file, name);
done:
    if (s != COV_OK) h5_close(out);
    return s;
}

/* Study k's mask opened: its size, its first row and its bytes. */
static status find_mask(cohort *c, int64_t k, study_mask m, study_row *row, int64_t *row0, hid_t *out, size_t *bytes)
{
    cohort_place place;
    COV_TRY(cohort_row(c, k, row));
    COV_TRY(cohort_place_of(c, k, &place));
    if (place.mask_row0 < 0 || (m == STUDY_LESION && row->lesion_count < 0))
        return COV_FAIL(COV_USAGE, "%s: study %lld has no %s mask", c->file, (long long)k, columns_mask_name(m));
    *row0 = place.mask_row0;
    COV_TRY(open_mask(c, k, m, row, &place, out, bytes));
    return COV_OK;
}

static status read_mask(cohort *c, int64_t k, study_mask m, void **out)
{
    hid_t dataset = H5I_INVALID_HID;
    study_row row;
    int64_t row0;
    size_t bytes = 0;
    status s;
    *out = NULL;
    COV_GO(find_mask(c, k, m, &row, &row0, &dataset, &bytes));
    if (!(*out = malloc(bytes ? bytes : 1))) {
        s = COV_FAIL(COV_NOMEM, "%s: no memory for a mask of %zu bytes", c->file, bytes);
        goto done;
    }
    COV_GO(h5_rows_read(dataset, c->file, "mask", columns_mask_type(m), (hsize_t)row0, (hsize_t)row.slices, *out));
done:
    h5_close(&dataset);
    if (s != COV_OK) {
        free(*out);
        *out = NULL;
    }
    return s;
}

status cohort_walk_mask(cohort *c, int64_t k, study_mask m, int64_t first, int64_t step, cohort_take take, void *context)
{
    hid_t dataset = H5I_INVALID_HID;
    study_row row;
    int64_t row0;
    size_t bytes = 0;
    void *some = NULL;
    status s;
    COV_GO(find_mask(c, k, m, &row, &row0, &dataset, &bytes));
    int64_t deep = part_chunk_slices(row.rows, row.cols);
    if (row.slices && !(some = malloc(bytes / (size_t)row.slices * (size_t)deep))) {
        s = COV_FAIL(COV_NOMEM, "%s: no memory for %lld slices of a mask", c->file, (long long)deep);
        goto done;
    }
    for (int64_t z = first * deep; z < row.slices; z += step * deep) {
        int64_t count = row.slices - z < deep ? row.slices - z : deep;
        COV_GO(h5_rows_read(dataset, c->file, "mask", columns_mask_type(m), (hsize_t)(row0 + z), (hsize_t)count, some));
        COV_GO(take(context, z, count, some));
    }
done:
    h5_close(&dataset);
    free(some);
    return s;
}

status cohort_lung(cohort *c, int64_t k, uint8_t **lung) { return read_mask(c, k, STUDY_LUNG, (void **)lung); }
status cohort_lesion(cohort *c, int64_t k, uint16_t **lesion) { return read_mask(c, k, STUDY_LESION, (void **)lesion); }
