/* columns: see columns.h. A column is copied between records and a dense buffer, then moved in one HDF5 call. */
#include "data/columns.h"

#include "base/size.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define X(field, kind, extent, units, long_name)                                                                       \
    {#field, COLUMN_##kind, (extent), (units), (long_name), offsetof(study_row, field)},
static const column study_table[] = {STUDY_COLUMNS(X)};
#undef X
#define X(field, kind, extent, units, long_name)                                                                       \
    {#field, COLUMN_##kind, (extent), (units), (long_name), offsetof(slice_row, field)},
static const column slice_table[] = {SLICE_COLUMNS(X)};
#undef X
#define X(field, kind, extent, units, long_name)                                                                       \
    {#field, COLUMN_##kind, (extent), (units), (long_name), offsetof(lesion_row, field)},
static const column lesion_table[] = {LESION_COLUMNS(X)};
#undef X
#define X(field, kind, extent, units, long_name)                                                                       \
    {#field, COLUMN_##kind, (extent), (units), (long_name), offsetof(gather_record, field)},
static const column gather_table[] = {GATHER_COLUMNS(X)};
#undef X

const column *columns_study(int *count)
{
    *count = sizeof study_table / sizeof study_table[0];
    return study_table;
}

const column *columns_slice(int *count)
{
    *count = sizeof slice_table / sizeof slice_table[0];
    return slice_table;
}

const column *columns_lesion(int *count)
{
    *count = sizeof lesion_table / sizeof lesion_table[0];
    return lesion_table;
}

const column *columns_gather(int *count)
{
    *count = sizeof gather_table / sizeof gather_table[0];
    return gather_table;
}

const char *columns_mask_name(study_mask m) { return m == STUDY_LESION ? "lesion" : "lung"; }
hid_t columns_mask_type(study_mask m) { return m == STUDY_LESION ? H5T_STD_U16LE : H5T_STD_U8LE; }
size_t columns_mask_bytes(study_mask m) { return m == STUDY_LESION ? sizeof(uint16_t) : sizeof(uint8_t); }

size_t column_bytes(const column *c)
{
    static const size_t element[] = {
        [COLUMN_TEXT] = 1, [COLUMN_I32] = 4, [COLUMN_I64] = 8, [COLUMN_F64] = 8, [COLUMN_U8] = 1};
    return element[c->kind] * (size_t)c->extent;
}

hid_t column_type(const column *c)
{
    switch (c->kind) {
    case COLUMN_TEXT:
        return h5_text_type((size_t)c->extent);
    case COLUMN_I32:
        return H5Tcopy(H5T_STD_I32LE);
    case COLUMN_I64:
        return H5Tcopy(H5T_STD_I64LE);
    case COLUMN_F64:
        return H5Tcopy(H5T_IEEE_F64LE);
    case COLUMN_U8:
        return H5Tcopy(H5T_STD_U8LE);
    }
    return H5I_INVALID_HID;
}

h5_layout column_layout(const column *c, hsize_t rows, hsize_t chunk_rows)
{
    h5_layout l = {.rank = 1, .dims = {rows}, .chunk = {chunk_rows}};
    if (c->kind == COLUMN_TEXT || c->extent == 1) return l;
    if (c->kind == COLUMN_F64 && c->extent == 16) { /* an affine: a 4 x 4 matrix for whoever loads it */
        l.rank = 3;
        l.dims[1] = l.dims[2] = l.chunk[1] = l.chunk[2] = 4;
    } else {
        l.rank = 2;
        l.dims[1] = l.chunk[1] = (hsize_t)c->extent;
    }
    return l;
}

status column_open(hid_t at, const char *file, const char *group, const column *c, hsize_t rows, hid_t *out)
{
    char name[128];
    hid_t type = H5I_INVALID_HID;
    h5_layout have, want = column_layout(c, rows, 0);
    status s;
    snprintf(name, sizeof name, "%s/%s", group, c->name);
    COV_GO(h5_open_dataset(at, file, name, out, &have));
    H5_GO(COV_NOMEM, file, name, type = column_type(c));
    COV_GO(h5_check_type(*out, file, name, type));
    if (have.rank != want.rank || memcmp(have.dims, want.dims, sizeof have.dims) != 0)
        s = COV_FAIL(COV_FORMAT, "%s: %s: has %llu rows and %d dimensions, expected %llu and %d", file, name,
                     (unsigned long long)have.dims[0], have.rank, (unsigned long long)rows, want.rank);
done:
    h5_close(&type);
    if (s != COV_OK) h5_close(out);
    return s;
}

static status buffer_for(const column *c, const char *file, hsize_t rows, unsigned char **out)
{
    size_t bytes;
    if (!size_mul(column_bytes(c), (size_t)rows, &bytes))
        return COV_FAIL(COV_FORMAT, "%s: %s: too many rows", file, c->name);
    *out = malloc(bytes ? bytes : 1);
    if (!*out) return COV_FAIL(COV_NOMEM, "%s: %s: no memory for %llu rows", file, c->name, (unsigned long long)rows);
    return COV_OK;
}

status column_write(hid_t dataset, const char *file, const column *c, hsize_t row0, hsize_t rows, const void *records,
                    size_t stride, hid_t transfer)
{
    unsigned char *dense = NULL;
    hid_t type = H5I_INVALID_HID;
    size_t bytes = column_bytes(c);
    status s = buffer_for(c, file, rows, &dense);
    H5_GO(COV_NOMEM, file, c->name, type = column_type(c));
    if (s != COV_OK) { /* other ranks may wait in the collective write: take part in it with nothing */
        h5_rows_write(dataset, file, c->name, type, 0, 0, NULL, transfer);
        s = COV_FAIL(COV_NOMEM, "%s: %s: no memory for %llu rows", file, c->name, (unsigned long long)rows);
        goto done;
    }
    for (size_t k = 0; k < rows; k++) {
        const unsigned char *from = (const unsigned char *)records + k * stride + c->offset;
        size_t used = c->kind == COLUMN_TEXT ? strnlen((const char *)from, bytes) : bytes;
        memcpy(dense + k * bytes, from, used);
        memset(dense + k * bytes + used, 0, bytes - used);
    }
    COV_GO(h5_rows_write(dataset, file, c->name, type, row0, rows, dense, transfer));
done:
    h5_close(&type);
    free(dense);
    return s;
}

status column_read(hid_t dataset, const char *file, const column *c, hsize_t row0, hsize_t rows, void *records,
                   size_t stride)
{
    unsigned char *dense = NULL;
    hid_t type = H5I_INVALID_HID;
    size_t bytes = column_bytes(c);
    status s;
    COV_GO(buffer_for(c, file, rows, &dense));
    H5_GO(COV_NOMEM, file, c->name, type = column_type(c));
    COV_GO(h5_rows_read(dataset, file, c->name, type, row0, rows, dense));
    for (size_t k = 0; k < rows; k++) {
        unsigned char *to = (unsigned char *)records + k * stride + c->offset;
        memcpy(to, dense + k * bytes, bytes);
        if (c->kind == COLUMN_TEXT) to[bytes - 1] = 0;
    }
done:
    h5_close(&type);
    free(dense);
    return s;
}
