/* columns: the tables of parts and cohort files, one entry a dataset, and the only code that moves records (structs)
 * to columns and back. The lists are in data/study.h. Private to data/. All local, except that column_write is
 * collective when its transfer list says so. */
#ifndef COV_DATA_COLUMNS_H
#define COV_DATA_COLUMNS_H
#include "data/h5.h"
#include "data/study.h"

typedef enum column_kind { COLUMN_TEXT, COLUMN_I32, COLUMN_I64, COLUMN_F64, COLUMN_U8 } column_kind;

typedef struct column {
    const char *name;
    column_kind kind;
    int extent; /* TEXT: bytes; others: elements a row */
    const char *units, *long_name;
    size_t offset; /* in the record */
} column;

typedef struct gather_record {
    int64_t duplicate_of;
    char mask_set[32];
    int64_t mask_row0, slice_row0, lesion_row0, lesion_rows;
} gather_record;

const column *columns_study(int *count);  /* of study_row */
const column *columns_slice(int *count);  /* of slice_row */
const column *columns_lesion(int *count); /* of lesion_row */
const column *columns_gather(int *count); /* of gather_record */

/* A mask's dataset: "lung" uint8, "lesion" uint16. The type is one of HDF5's own: not to be closed. */
const char *columns_mask_name(study_mask m);
hid_t columns_mask_type(study_mask m);
size_t columns_mask_bytes(study_mask m);

size_t column_bytes(const column *c); /* a row's */
/* The type on disk and, hosts being little-endian, in memory. Caller closes with h5_close. */
hid_t column_type(const column *c);
/* Shape of the dataset for so many rows; chunk_rows 0: not chunked. Filters are the caller's. */
h5_layout column_layout(const column *c, hsize_t rows, hsize_t chunk_rows);
/* Opens <group>/<name>, which must have exactly the column's type, shape and `rows` rows. */
status column_open(hid_t at, const char *file, const char *group, const column *c, hsize_t rows, hid_t *out);
/* Records are `stride` bytes apart. Text is cut at its NUL and padded with zeros; what is read always ends with one. */
status column_write(hid_t dataset, const char *file, const column *c, hsize_t row0, hsize_t rows, const void *records,
                    size_t stride, hid_t transfer);
status column_read(hid_t dataset, const char *file, const column *c, hsize_t row0, hsize_t rows, void *records,
                   size_t stride);
#endif
