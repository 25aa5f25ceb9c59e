/* cohort_write: gather, the one collective phase. In order, every rank in step:
 *   survey   each rank verifies its share of the parts and tells all ranks sizes and digests
 *   layout   every rank computes the same places: row k of /study is study k, masks of one size lie in one dataset
 *   create   rank 0 makes the empty file (data/schema) and fills what needs no part
 *   masks    packed chunks, read by all ranks and written by rank 0 (data/cohort_masks)
 *   fill     the tables: rounds of collective writes; a round is whole chunks for each rank, so no two ranks ever share one
 *   check    rank 0 reads the file back and compares; fsync, rename
 * After every step the ranks agree on the first failure, so that all leave together. HDF5 wants every rank in every
 * collective call: a rank without rows writes an empty selection.
 * The trap: filtered chunks must be written whole; a partial one would be read back and grow in the file. */
#include "data/cohort_writer.h"

#include "base/size.h"
#include "data/columns.h"
#include "data/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { CHECKED = 256 /* chunks of masks that are unpacked to check them */, COLUMNS_LIMIT = 64 };

/* ---------------------------------------------------------------- agreement */

status cohort_agree(writer *w, status mine)
{
    struct {
        int status;
        char message[MESSAGE];
    } told = {COV_OK, ""};
    int failed = mine == COV_OK ? w->size : w->rank, first = w->size;
    status s = COV_OK;
    MPI_GO(MPI_Allreduce(&failed, &first, 1, MPI_INT, MPI_MIN, w->comm));
    if (first == w->size) return COV_OK;
    if (first == w->rank) {
        told.status = mine;
        snprintf(told.message, sizeof told.message, "%s", status_message());
    }
    MPI_GO(MPI_Bcast(&told, sizeof told, MPI_BYTE, first, w->comm));
    if (first == w->rank) return status_relay(mine, __FILE__, __LINE__);
    return COV_FAIL((status)told.status, "%s", told.message);
done:
    return s;
}

/* A step that every rank takes, and whose failure on one rank is a failure on all. */
#define TOGETHER(w, expr) COV_TRY(cohort_agree((w), (expr)))

void cohort_report(writer *w, int64_t pixels)
{
    w->pixels_done += pixels;
    if (w->source->progress) w->source->progress(w->source->context, w->pixels_done, w->pixels);
}

int64_t cohort_share(int64_t n, int rank, int size) { return n / size * rank + (n % size * rank) / size; }

/* FNV-1a over a record and its index; sums of these do not depend on the order. */
static uint64_t mark(uint64_t index, const void *bytes, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u ^ (index * 0x9e3779b97f4a7c15u);
    for (size_t k = 0; k < n; k++) h = (h ^ ((const unsigned char *)bytes)[k]) * 0x100000001b3u;
    return h;
}

/* Rows are read column by column into zeroed records, so that the bytes between their fields are equal too. */
static uint64_t mark_row(table t, int64_t index, const void *row, size_t bytes)
{
    return mark((uint64_t)index * TABLES + (uint64_t)t, row, bytes);
}

/* ---------------------------------------------------------------- survey */

static status look_at(writer *w, int64_t k, survey *out, char *path)
{
    const char *file = w->source->parts[k];
    struct stat about;
    part_head h;
    status s = part_verify(file);
    if (s == COV_OK) s = part_check(file, &h);
    if (s == COV_FORMAT) { /* to be computed again; the message of part_verify stays */
        char aside[PATH_MAX];
        int n = snprintf(aside, sizeof aside, "%s.damaged", file);
        if (n > 0 && n < (int)sizeof aside) rename(file, aside);
    }
    if (s != COV_OK) return status_relay(s, __FILE__, __LINE__);
    if (strcmp(h.key.unit, PART_WHOLE_STUDY) != 0)
        return COV_FAIL(COV_USAGE, "%s: the part holds '%s', not a study", file, h.key.unit);
    if (stat(file, &about) != 0) return COV_FAIL(COV_IO, "%s: cannot stat: %s", file, strerror(errno));
    *out = (survey){.status = h.status, .reason = h.reason, .rows = h.rows, .cols = h.cols, .slices = h.slices,
                    .has_lung = h.has_lung, .has_lesion = h.has_lesion, .slice_count = h.slice_count,
                    .lesion_rows = h.lesion_rows, .bytes = about.st_size};
    memcpy(out->input_sha256, h.key.input_sha256, SHA256_HEX);
    memcpy(path, h.key.path, STUDY_PATH);
    return COV_OK;
}

/* A rank looks at all of its share, even after a damaged part: all damaged ones are then set aside at once. */
static status look_at_share(writer *w, int64_t first, int64_t end, survey *mine, char ends[2][STUDY_PATH])
{
    char path[STUDY_PATH] = "", message[MESSAGE] = ""; /* of a damaged part: that of the part before */
    status worst = COV_OK;
    for (int64_t k = first; k < end; k++) {
        status s = look_at(w, k, &mine[k - first], path);
        cohort_report(w, 0);
        if (s == COV_OK && k > first && strcmp(ends[1], path) >= 0)
            s = COV_FAIL(COV_USAGE, "%s: not in the order of paths: '%s' after '%s'", w->source->parts[k], path,
                         ends[1]);
        if (s != COV_OK && worst == COV_OK) {
            worst = s;
            snprintf(message, sizeof message, "%s", status_message());
        }
        if (s != COV_OK && s != COV_FORMAT) break;
        memcpy(ends[1], path, STUDY_PATH);
        if (k == first) memcpy(ends[0], path, STUDY_PATH);
    }
    return worst == COV_OK ? COV_OK : COV_FAIL(worst, "%s", message);
}

/* ends: first and last path of every rank's share, in order of ranks; empty shares have empty paths. */
static status check_order(const char *ends, int size)
{
    const char *last = "";
    for (int r = 0; r < size; r++) {
        const char *first = ends + (size_t)r * 2 * STUDY_PATH;
        if (!first[0]) continue;
        if (last[0] && strcmp(last, first) >= 0)
            return COV_FAIL(COV_USAGE, "parts are not in the order of paths: '%s' after '%s'", first, last);
        last = first + STUDY_PATH;
    }
    return COV_OK;
}

static status survey_parts(writer *w)
{
    int64_t n = w->source->count, first = cohort_share(n, w->rank, w->size), end = cohort_share(n, w->rank + 1, w->size);
    int *counts = calloc((size_t)w->size, sizeof *counts), *starts = calloc((size_t)w->size, sizeof *starts);
    survey *mine = calloc((size_t)(end - first) + 1, sizeof *mine);
    char ends[2][STUDY_PATH] = {"", ""}, *all_ends = calloc((size_t)w->size, sizeof ends);
    MPI_Datatype item = MPI_DATATYPE_NULL;
    status s = COV_OK;
    w->studies = calloc((size_t)n + 1, sizeof *w->studies);
    if (!counts || !starts || !mine || !all_ends || !w->studies)
        s = COV_FAIL(COV_NOMEM, "no memory for %lld studies", (long long)n);
    if (s == COV_OK) s = look_at_share(w, first, end, mine, ends);
    COV_GO(cohort_agree(w, s));
    for (int r = 0; r < w->size; r++) {
        starts[r] = (int)cohort_share(n, r, w->size);
        counts[r] = (int)cohort_share(n, r + 1, w->size) - starts[r];
    }
    MPI_GO(MPI_Type_contiguous(sizeof *mine, MPI_BYTE, &item)); /* counts are of studies: they fit an int */
    MPI_GO(MPI_Type_commit(&item));
    MPI_GO(MPI_Allgatherv(mine, (int)(end - first), item, w->studies, counts, starts, item, w->comm));
    MPI_GO(MPI_Allgather(ends, sizeof ends, MPI_BYTE, all_ends, sizeof ends, MPI_BYTE, w->comm));
    COV_GO(check_order(all_ends, w->size));
done:
    if (item != MPI_DATATYPE_NULL) MPI_Type_free(&item);
    free(all_ends);
    free(mine);
    free(starts);
    free(counts);
    return s;
}

/* ---------------------------------------------------------------- layout */

/* The set of masks of this size, made where it is missing. Sizes are few, but not bounded: the list grows. */
static status find_set(writer *w, const survey *study, int *out)
{
    for (*out = 0; *out < w->set_count; ++*out)
        if (w->sets[*out].rows == study->rows && w->sets[*out].cols == study->cols) return COV_OK;
    if ((w->set_count & (w->set_count - 1)) == 0) {
        schema_set *more = realloc(w->sets, (w->set_count ? 2 * (size_t)w->set_count : 1) * sizeof *more);
        if (!more) return COV_FAIL(COV_NOMEM, "no memory for %d mask sizes", w->set_count + 1);
        w->sets = more;
    }
    schema_set *set = &w->sets[w->set_count++];
    *set = (schema_set){.rows = study->rows, .cols = study->cols, .chunk = part_chunk_slices(study->rows, study->cols)};
    snprintf(set->name, sizeof set->name, "%dx%d", study->rows, study->cols);
    return COV_OK;
}

static status place_rows(writer *w)
{
    for (int64_t k = 0; k < w->source->count; k++) {
        const survey *study = &w->studies[k];
        gather_record *place = &w->places[k];
        *place = (gather_record){.duplicate_of = -1, .mask_row0 = -1, .slice_row0 = -1, .lesion_row0 = -1,
                                 .lesion_rows = study->lesion_rows};
        w->set_of[k] = -1;
        if (study->slice_count) place->slice_row0 = w->rows[TABLE_SLICE];
        if (study->lesion_rows) place->lesion_row0 = w->rows[TABLE_LESION];
        w->rows[TABLE_SLICE] += study->slice_count;
        w->rows[TABLE_LESION] += study->lesion_rows;
        if (!study->has_lung) continue;
        COV_TRY(find_set(w, study, &w->set_of[k]));
        schema_set *set = &w->sets[w->set_of[k]];
        memcpy(place->mask_set, set->name, sizeof place->mask_set);
        place->mask_row0 = set->slices;
        set->slices += (study->slices + set->chunk - 1) / set->chunk * set->chunk;
        set->lesion |= study->has_lesion;
    }
    w->rows[TABLE_STUDY] = w->source->count;
    for (int k = 0; k < w->set_count; k++)
        w->pixels += w->sets[k].slices * w->sets[k].rows * w->sets[k].cols * (w->sets[k].lesion ? STUDY_MASKS : 1);
    return COV_OK;
}

typedef struct same_input {
    const char *sha;
    int64_t k;
} same_input;

static int by_input_and_row(const void *a, const void *b)
{
    const same_input *x = a, *y = b;
    int order = strcmp(x->sha, y->sha);
    return order ? order : (x->k > y->k) - (x->k < y->k);
}

static status place_duplicates(writer *w)
{
    int64_t n = 0, first = 0;
    same_input *order = calloc((size_t)w->source->count + 1, sizeof *order);
    if (!order) return COV_FAIL(COV_NOMEM, "no memory to look for duplicates");
    for (int64_t k = 0; k < w->source->count; k++)
        if (w->studies[k].input_sha256[0]) order[n++] = (same_input){w->studies[k].input_sha256, k};
    qsort(order, (size_t)n, sizeof *order, by_input_and_row);
    for (int64_t i = 1; i < n; i++) {
        if (strcmp(order[i].sha, order[first].sha) != 0) first = i;
        else w->places[order[i].k].duplicate_of = order[first].k;
    }
    free(order);
    return COV_OK;
}

static status layout(writer *w)
{
    const cohort_source *from = w->source;
    w->places = calloc((size_t)from->count + 1, sizeof *w->places);
    w->set_of = calloc((size_t)from->count + 1, sizeof *w->set_of);
    w->extra_bytes = calloc((size_t)from->extra_count + 1, sizeof *w->extra_bytes);
    if (!w->places || !w->set_of || !w->extra_bytes)
        return COV_FAIL(COV_NOMEM, "no memory for %lld studies", (long long)from->count);
    COV_TRY(place_rows(w));
    COV_TRY(place_duplicates(w));
    for (int i = 0; i < from->extra_count; i++) {
        size_t widest = 0;
        for (int64_t k = 0; k < from->count; k++) {
            size_t n = from->extras[i].values[k] ? strnlen(from->extras[i].values[k], COHORT_CELL - 1) : 0;
            widest = n > widest ? n : widest;
        }
        w->extra_bytes[i] = (int)widest + 1;
    }
    return COV_OK;
}

/* ---------------------------------------------------------------- what rank 0 writes alone */

static status fill_gathered(writer *w, hid_t root)
{
    int count;
    const column *columns = columns_gather(&count);
    hid_t dataset = H5I_INVALID_HID;
    status s = COV_OK;
    for (int i = 0; i < count; i++) {
        COV_GO(column_open(root, w->temporary, "study", &columns[i], (hsize_t)w->source->count, &dataset));
        COV_GO(column_write(dataset, w->temporary, &columns[i], 0, (hsize_t)w->source->count, w->places,
                            sizeof *w->places, H5P_DEFAULT));
        h5_close(&dataset);
    }
done:
    h5_close(&dataset);
    return s;
}

static status fill_extra(writer *w, hid_t root, int i)
{
    const cohort_extra *e = &w->source->extras[i];
    column c = {e->name, COLUMN_TEXT, w->extra_bytes[i], "", "", 0};
    size_t width = (size_t)w->extra_bytes[i], bytes;
    hid_t dataset = H5I_INVALID_HID;
    char *cells = NULL;
    status s = COV_OK;
    if (!size_mul(width, (size_t)w->source->count + 1, &bytes) || !(cells = calloc(bytes, 1))) {
        s = COV_FAIL(COV_NOMEM, "no memory for the column '%s'", e->name);
        goto done;
    }
    for (int64_t k = 0; k < w->source->count; k++)
        if (e->values[k]) memcpy(cells + (size_t)k * width, e->values[k], strnlen(e->values[k], width));
    COV_GO(column_open(root, w->temporary, "study", &c, (hsize_t)w->source->count, &dataset));
    COV_GO(column_write(dataset, w->temporary, &c, 0, (hsize_t)w->source->count, cells, width, H5P_DEFAULT));
done:
    h5_close(&dataset);
    free(cells);
    return s;
}

/* /mask/RxC/study: which study a row belongs to, -1 in the padding. */
static status fill_owners(writer *w, hid_t root, int set)
{
    column c = {"study", COLUMN_I32, 1, "", "", 0};
    const schema_set *about = &w->sets[set];
    hid_t dataset = H5I_INVALID_HID;
    char group[COHORT_SET + 8];
    status s = COV_OK;
    int32_t *owners = malloc((size_t)about->slices * sizeof *owners);
    snprintf(group, sizeof group, "mask/%s", about->name);
    if (!owners) {
        s = COV_FAIL(COV_NOMEM, "no memory for %lld mask rows", (long long)about->slices);
        goto done;
    }
    memset(owners, 0xff, (size_t)about->slices * sizeof *owners);
    for (int64_t k = 0; k < w->source->count; k++)
        for (int64_t z = 0; w->set_of[k] == set && z < w->studies[k].slices; z++)
            owners[w->places[k].mask_row0 + z] = (int32_t)k;
    COV_GO(column_open(root, w->temporary, group, &c, (hsize_t)about->slices, &dataset));
    COV_GO(column_write(dataset, w->temporary, &c, 0, (hsize_t)about->slices, owners, sizeof *owners, H5P_DEFAULT));
done:
    h5_close(&dataset);
    free(owners);
    return s;
}

status cohort_reserve(writer *w)
{
    int64_t bytes = 1 << 20;
    struct statvfs disk;
    for (int64_t k = 0; k < w->source->count; k++) bytes += w->studies[k].bytes;
    for (int i = 0; i < w->source->extra_count; i++) bytes += w->extra_bytes[i] * w->source->count;
    int fd = open(w->temporary, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return COV_FAIL(COV_IO, "%s: cannot create: %s", w->temporary, strerror(errno));
    int refused = fallocate(fd, 0, 0, bytes) != 0, why = errno;
    close(fd);
    if (!refused) return COV_OK;
    if (why == EOPNOTSUPP || why == ENOSYS) { /* this file system cannot reserve: ask it how much is free */
        if (statvfs(w->temporary, &disk) != 0 || (double)disk.f_bavail * (double)disk.f_frsize > (double)bytes)
            return COV_OK;
        why = ENOSPC;
    }
    return COV_FAIL(COV_IO, "%s: no room for %lld MiB: %s", w->temporary, (long long)bytes >> 20, strerror(why));
}

static status create_file(writer *w)
{
    const cohort_source *from = w->source;
    hid_t root = H5I_INVALID_HID;
    schema what = {.studies = from->count,
                   .slices = w->rows[TABLE_SLICE],
                   .lesions = w->rows[TABLE_LESION],
                   .set_count = w->set_count,
                   .sets = w->sets,
                   .extra_count = from->extra_count,
                   .extras = from->extras,
                   .extra_bytes = w->extra_bytes,
                   .attribute_count = from->attribute_count,
                   .attributes = from->attributes,
                   .ranks = w->size,
                   .complete = from->complete};
    status s;
    COV_GO(cohort_reserve(w)); /* HDF5 empties the file when it creates it: ask before, and once more after */
    COV_GO(schema_create(w->temporary, &what));
    COV_GO(h5_open_file(w->temporary, H5F_ACC_RDWR, &root));
    if (from->count) {
        COV_GO(fill_gathered(w, root));
        for (int i = 0; i < from->extra_count; i++) COV_GO(fill_extra(w, root, i));
    }
    for (int i = 0; i < w->set_count; i++) COV_GO(fill_owners(w, root, i));
    herr_t closed = H5Fclose(root);
    root = H5I_INVALID_HID;
    H5_GO(COV_IO, w->temporary, "close", closed);
    COV_GO(cohort_reserve(w));
done:
    h5_close(&root);
    return s;
}

/* ---------------------------------------------------------------- what all ranks write together */

static status open_together(writer *w)
{
    hid_t access = H5I_INVALID_HID;
    const char *file = w->temporary;
    status s = COV_OK;
    H5_GO(COV_NOMEM, file, "access list", access = H5Pcreate(H5P_FILE_ACCESS));
    H5_GO(COV_BROKEN, file, "access list", H5Pset_fapl_mpio(access, w->comm, MPI_INFO_NULL));
    H5_GO(COV_BROKEN, file, "access list", H5Pset_all_coll_metadata_ops(access, 1));
    H5_GO(COV_BROKEN, file, "access list", H5Pset_coll_metadata_write(access, 1));
    H5_GO(COV_NOMEM, file, "transfer list", w->transfer = H5Pcreate(H5P_DATASET_XFER));
    H5_GO(COV_BROKEN, file, "transfer list", H5Pset_dxpl_mpio(w->transfer, H5FD_MPIO_COLLECTIVE));
    H5_GO(COV_IO, file, "collective open", w->root = H5Fopen(file, H5F_ACC_RDWR, access));
done:
    h5_close(&access);
    return s;
}

/* As agree, for what HDF5 does collectively on the file. A failure there leaves ranks and library in different states:
 * from then on the file is neither flushed nor closed, because that would hang or crash. */
static status agree_written(writer *w, status mine)
{
    status s = cohort_agree(w, mine);
    if (s == COV_OK) return COV_OK;
    w->torn = 1;
    return COV_FAIL(COV_COMM, "%s", status_message());
}

/* Reached by every rank, even after a failure. */
static status close_together(writer *w)
{
    status s = COV_OK;
    hid_t root = w->root;
    w->root = H5I_INVALID_HID;
    h5_close(&w->transfer);
    if (root < 0 || w->torn) return COV_OK;
    H5_GO(COV_IO, w->temporary, "flush", H5Fflush(root, H5F_SCOPE_GLOBAL));
    H5_GO(COV_IO, w->temporary, "close", H5Fclose(root));
done:
    return s;
}

/* One collective write of each column; every rank has its own rows, or none. */
static status write_block(writer *w, const char *group, const column *columns, const hid_t *datasets, int count,
                          int64_t row0, int64_t rows, const void *records, size_t stride)
{
    char file[PATH_MAX + 64];
    snprintf(file, sizeof file, "%s: %s", w->temporary, group);
    for (int i = 0; i < count; i++)
        COV_TRY(agree_written(w, column_write(datasets[i], file, &columns[i], (hsize_t)row0, (hsize_t)rows, records,
                                              stride, w->transfer)));
    cohort_report(w, 0);
    return COV_OK;
}

static const struct {
    const char *group;
    const column *(*columns)(int *count);
    size_t stride;
    int64_t block; /* rows that a rank takes at a time: whole chunks */
} tables[TABLES] = {{"study", columns_study, sizeof(study_row), SCHEMA_STUDY_ROWS},
                    {"slice", columns_slice, sizeof(slice_row), SCHEMA_SLICE_ROWS},
                    {"lesion", columns_lesion, sizeof(lesion_row), SCHEMA_SLICE_ROWS}};

/* Where study k's rows of a table are: the first, and how many. */
static int64_t rows_at(const writer *w, table t, int64_t k, int64_t *count)
{
    *count = t == TABLE_STUDY ? 1 : t == TABLE_SLICE ? w->studies[k].slice_count : w->studies[k].lesion_rows;
    return t == TABLE_STUDY ? k : t == TABLE_SLICE ? w->places[k].slice_row0 : w->places[k].lesion_row0;
}

/* All rows of study k. The first field of a slice's and a lesion's is the study. */
static status read_part(writer *w, table t, int64_t k, int64_t count, void *out)
{
    part *p = NULL;
    status s;
    COV_GO(part_open(w->source->parts[k], 0, &p));
    COV_GO(t == TABLE_STUDY ? part_row(p, out) : t == TABLE_SLICE ? part_slices(p, out) : part_lesions(p, out));
    for (int64_t i = 0; i < count; i++) {
        if (t == TABLE_SLICE) ((slice_row *)out)[i].study = (int32_t)k;
        if (t == TABLE_LESION) ((lesion_row *)out)[i].study = (int32_t)k;
    }
done:
    part_close(&p);
    return s;
}

/* Rows [a, b) of a table, from the parts of all studies that have some there. */
static status read_rows(writer *w, table t, int64_t a, int64_t b, char *out)
{
    size_t stride = tables[t].stride;
    char *rows = NULL;
    status s = COV_OK;
    for (int64_t k = 0, n; k < w->source->count; k++) {
        int64_t first = rows_at(w, t, k, &n);
        if (n == 0 || first + n <= a) continue;
        if (first >= b) break;
        if (!(rows = calloc((size_t)n, stride))) {
            s = COV_FAIL(COV_NOMEM, "no memory for %lld rows", (long long)n);
            goto done;
        }
        COV_GO(read_part(w, t, k, n, rows));
        for (int64_t i = 0; i < n; i++) {
            if (first + i < a || first + i >= b) continue;
            memcpy(out + (size_t)(first + i - a) * stride, rows + (size_t)i * stride, stride);
            w->sum += mark_row(t, first + i, rows + (size_t)i * stride, stride);
        }
        free(rows);
        rows = NULL;
    }
done:
    free(rows);
    return s;
}

static status open_columns(writer *w, const char *group, const column *columns, int count, int64_t rows,
                           hid_t *datasets)
{
    for (int i = 0; i < count; i++)
        COV_TRY(column_open(w->root, w->temporary, group, &columns[i], (hsize_t)rows, &datasets[i]));
    return COV_OK;
}

/* Round after round, rank r takes the r-th block of `block` rows: whole chunks. */
static status write_table(writer *w, table t)
{
    int count;
    const column *columns = tables[t].columns(&count);
    const char *group = tables[t].group;
    int64_t total = w->rows[t], block = tables[t].block;
    size_t stride = tables[t].stride;
    hid_t datasets[COLUMNS_LIMIT];
    status s = COV_OK;
    for (int i = 0; i < COLUMNS_LIMIT; i++) datasets[i] = H5I_INVALID_HID;
    void *records = calloc((size_t)(total < block ? total : block) + 1, stride);
    if (!records || count > COLUMNS_LIMIT) s = COV_FAIL(COV_NOMEM, "no memory for %lld rows", (long long)block);
    COV_GO(cohort_agree(w, s));
    COV_GO(agree_written(w, open_columns(w, group, columns, count, total, datasets)));
    for (int64_t round0 = 0; round0 < total; round0 += block * w->size) {
        int64_t a = round0 + block * w->rank, b = a + block;
        a = a < total ? a : total;
        b = b < total ? b : total;
        COV_GO(cohort_agree(w, read_rows(w, t, a, b, records)));
        COV_GO(write_block(w, group, columns, datasets, count, a, b - a, records, stride));
    }
done:
    for (int i = 0; i < COLUMNS_LIMIT; i++) h5_close(&datasets[i]);
    free(records);
    return s;
}

static status fill(writer *w)
{
    status s;
    COV_GO(cohort_agree(w, open_together(w)));
    for (int t = 0; t < TABLES; t++) COV_GO(write_table(w, (table)t));
done:;
    char message[MESSAGE];
    snprintf(message, sizeof message, "%s", status_message());
    status closed = agree_written(w, close_together(w));
    if (s != COV_OK) return COV_FAIL(s, "%s", message);
    return closed;
}

/* ---------------------------------------------------------------- check */

static status differs(writer *w, const char *what)
{
    return COV_FAIL(COV_IO, "%s: read back, %s differ from what was written", w->temporary, what);
}

typedef struct counting {
    writer *w;
    int64_t k, plane;
    study_mask mask;
    const slice_row *rows;
} counting;

/* Pixels that are set, against the slice's row. */
static status count_slices(void *context, int64_t z0, int64_t count, const void *slices)
{
    const counting *c = context;
    const uint8_t *lung = slices;
    const uint16_t *lesion = slices;
    for (int64_t z = z0; z < z0 + count; z++) {
        int32_t n = 0, said = c->mask == STUDY_LUNG ? c->rows[z].lung_px : c->rows[z].lesion_px; /* a plane has 2^28 pixels at most */
        int64_t first = (z - z0) * c->plane, end = first + c->plane;
        if (c->mask == STUDY_LUNG)
            for (int64_t i = first; i < end; i++) n += lung[i] != 0;
        else
            for (int64_t i = first; i < end; i++) n += lesion[i] != 0;
        if (n != said)
            return COV_FAIL(COV_IO, "%s: study %lld, slice %lld: the %s mask has %d pixels, its row says %d", c->w->temporary,
                            (long long)c->k, (long long)z, columns_mask_name(c->mask), n, said);
    }
    return COV_OK;
}

typedef struct checker {
    cohort *file; /* rank 0 alone has it */
    uint64_t sum;
    int64_t rows[TABLES];
    int64_t step, chunks; /* one of `step` chunks of lung masks is looked at; of the studies so far */
} checker;

static status check_masks(writer *w, checker *c, int64_t k, const slice_row *rows)
{
    const survey *study = &w->studies[k];
    const schema_set *set = &w->sets[w->set_of[k]];
    int64_t first = (c->step - c->chunks % c->step) % c->step, chunks = (study->slices + set->chunk - 1) / set->chunk;
    counting lung = {.w = w, .k = k, .plane = set->rows * set->cols, .mask = STUDY_LUNG, .rows = rows}, lesion = lung;
    lesion.mask = STUDY_LESION;
    c->chunks += chunks;
    if (first >= chunks) return COV_OK;
    COV_TRY(cohort_walk_mask(c->file, k, STUDY_LUNG, first, c->step, count_slices, &lung));
    if (study->has_lesion) COV_TRY(cohort_walk_mask(c->file, k, STUDY_LESION, first, c->step, count_slices, &lesion));
    return COV_OK;
}

static void add_rows(checker *c, table t, const void *rows, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        c->sum += mark_row(t, c->rows[t]++, (const char *)rows + (size_t)i * tables[t].stride, tables[t].stride);
}

/* One study: its rows go into the sum, its places are compared, and some of its masks with its rows. */
static status check_study(writer *w, checker *c, int64_t k)
{
    const gather_record *want = &w->places[k];
    cohort_place place;
    study_row row;
    slice_row *slices = NULL;
    lesion_row *lesions = NULL;
    int64_t count, lesion_count;
    status s;
    COV_GO(cohort_row(c->file, k, &row));
    add_rows(c, TABLE_STUDY, &row, 1);
    COV_GO(cohort_place_of(c->file, k, &place));
    if (place.duplicate_of != want->duplicate_of || place.mask_row0 != want->mask_row0 ||
        place.slice_row0 != want->slice_row0 || place.lesion_row0 != want->lesion_row0 ||
        place.lesion_rows != want->lesion_rows || strcmp(place.mask_set, want->mask_set) != 0) {
        s = differs(w, "places");
        goto done;
    }
    COV_GO(cohort_slices(c->file, k, &slices, &count));
    COV_GO(cohort_lesions(c->file, k, &lesions, &lesion_count));
    add_rows(c, TABLE_SLICE, slices, count);
    add_rows(c, TABLE_LESION, lesions, lesion_count);
    if (place.mask_set[0] && count) COV_GO(check_masks(w, c, k, slices));
done:
    free(lesions);
    free(slices);
    return s;
}

/* Studies [a, b). The first block opens the file, the last one compares the sums. */
static status check_block(writer *w, checker *c, int64_t a, int64_t b)
{
    int64_t n = w->source->count;
    if (a == 0) COV_TRY(cohort_open(w->temporary, &c->file));
    if (cohort_count(c->file) != n) return differs(w, "counts");
    for (int64_t k = a; k < b; k++) COV_TRY(check_study(w, c, k));
    if (b == n && (memcmp(c->rows, w->rows, sizeof c->rows) != 0 || c->sum != w->sum)) return differs(w, "tables");
    return COV_OK;
}

/* All rows of all tables, and some chunks of masks evenly spread over the file. Rank 0 reads; after every block
 * the others hear that it is alive. */
static status check_file(writer *w)
{
    checker c = {0};
    int64_t n = w->source->count, a = 0, chunks = 0;
    status s;
    for (int k = 0; k < w->set_count; k++) chunks += w->sets[k].slices / w->sets[k].chunk;
    c.step = chunks / CHECKED + 1;
    do {
        int64_t b = n - a > SCHEMA_STUDY_ROWS ? a + SCHEMA_STUDY_ROWS : n;
        COV_GO(cohort_agree(w, w->rank == 0 ? check_block(w, &c, a, b) : COV_OK));
        cohort_report(w, 0);
        a = b;
    } while (a < n);
done:
    cohort_close(&c.file);
    return s;
}

static status count_totals(const writer *w, cohort_totals *out)
{
    struct stat about;
    if (!out) return COV_OK;
    if (stat(w->path, &about) != 0) return COV_FAIL(COV_IO, "%s: cannot stat: %s", w->path, strerror(errno));
    *out = (cohort_totals){
        .studies = w->source->count, .slices = w->rows[TABLE_SLICE], .lesions = w->rows[TABLE_LESION],
        .mask_pixels = w->pixels, .file_bytes = about.st_size};
    for (int64_t k = 0; k < w->source->count; k++) {
        out->outcome[w->studies[k].status]++;
        out->reasons[w->studies[k].reason]++;
    }
    return COV_OK;
}

static status write_all(writer *w)
{
    uint64_t all = 0;
    status s = COV_OK;
    TOGETHER(w, survey_parts(w));
    TOGETHER(w, layout(w));
    TOGETHER(w, w->rank == 0 ? create_file(w) : COV_OK);
    COV_TRY(cohort_write_masks(w));
    COV_TRY(fill(w));
    MPI_GO(MPI_Allreduce(&w->sum, &all, 1, MPI_UINT64_T, MPI_SUM, w->comm));
    w->sum = all;
    COV_TRY(check_file(w));
    TOGETHER(w, w->rank == 0 ? durable_commit(w->temporary, w->path) : COV_OK);
done:
    return s;
}

status cohort_write(MPI_Comm comm, const char *path, const cohort_source *source, cohort_totals *totals)
{
    writer w = {
        .comm = MPI_COMM_NULL, .path = path, .source = source, .root = H5I_INVALID_HID, .transfer = H5I_INVALID_HID};
    status s = COV_OK;
    h5_quiet();
    MPI_GO(MPI_Comm_dup(comm, &w.comm));
    MPI_GO(MPI_Comm_set_errhandler(w.comm, MPI_ERRORS_RETURN));
    MPI_GO(MPI_Comm_rank(w.comm, &w.rank));
    MPI_GO(MPI_Comm_size(w.comm, &w.size));
    int n = snprintf(w.temporary, sizeof w.temporary, "%s.tmp", path);
    if (n < 0 || n >= (int)sizeof w.temporary) s = COV_FAIL(COV_USAGE, "%s: the path is too long", path);
    else if (source->count < 0 || source->count > INT32_MAX)
        s = COV_FAIL(COV_USAGE, "%lld studies", (long long)source->count);
    COV_GO(cohort_agree(&w, s));
    COV_GO(write_all(&w));
    COV_GO(cohort_agree(&w, count_totals(&w, totals)));
done:
    if (s != COV_OK && w.comm != MPI_COMM_NULL && w.rank == 0 && w.temporary[0]) unlink(w.temporary);
    free(w.studies);
    free(w.places);
    free(w.set_of);
    free(w.sets);
    free(w.extra_bytes);
    if (w.comm != MPI_COMM_NULL) MPI_Comm_free(&w.comm);
    return s;
}
