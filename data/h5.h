/* h5: the one cover over HDF5 for weights, parts and cohort files: errors become statuses with the file's and
 * object's name, sizes and types that come from a file are checked before anything is allocated or read.
 * Private to data/. HDF5 keeps global state and Debian builds it without threads: one thread at a time. All local;
 * h5_rows_write is collective when its transfer list says so. */
#ifndef COV_DATA_H5_H
#define COV_DATA_H5_H
#include "base/status.h"
#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

enum { H5_RANK = 4, H5_CHUNK_CACHE = 2 << 20 /* bytes a dataset: the largest chunk of a table */ };

/* Relays a negative HDF5 return to `done:` with status `code`; `file` and `name` go into the message. */
#define H5_GO(code, file, name, call)                                                                                  \
    do {                                                                                                               \
        if ((call) < 0) {                                                                                              \
            s = h5_fail((code), __FILE__, __LINE__, (file), (name));                                                   \
            goto done;                                                                                                 \
        }                                                                                                              \
    } while (0)

status h5_fail(status code, const char *source, int line, const char *file, const char *name);
/* Every public function of data/ that uses HDF5 calls this first: the library must not print. */
void h5_quiet(void);
/* Closes whatever id is and sets it to H5I_INVALID_HID; accepts an invalid one. */
void h5_close(hid_t *id);

/* Create (truncating) and open without HDF5's file locks, which network file systems refuse: here files are only ever
 * read after a rename. user_block: bytes before HDF5's own, 0 or 512 * 2^k. */
status h5_create_file(const char *file, hsize_t user_block, hid_t *out);
status h5_open_file(const char *file, unsigned flags, hid_t *out); /* COV_IO: not there; COV_FORMAT: not HDF5 */
hid_t h5_text_type(size_t bytes);                                  /* fixed-length UTF-8; negative on failure */

/* ---- attributes of an object */
status h5_put_text(hid_t at, const char *file, const char *name, const char *text);
/* Of a type that is the same on disk and in memory. An attribute of that name is replaced. */
status h5_put_value(hid_t at, const char *file, const char *name, hid_t type, const void *value);
status h5_put_array(hid_t at, const char *file, const char *name, hid_t type, int count, const void *values);
/* Caller frees. COV_FORMAT if it is missing, not one string, or longer than `limit` bytes. */
status h5_get_text(hid_t at, const char *file, const char *name, size_t limit, char **out);
status h5_get_text_into(hid_t at, const char *file, const char *name, char *out, size_t room);
status h5_get_int(hid_t at, const char *file, const char *name, int64_t *out);

/* ---- datasets */
typedef struct h5_layout {
    int rank;
    hsize_t dims[H5_RANK];
    hsize_t chunk[H5_RANK]; /* chunk[0] == 0: contiguous, or compact where it is small; may reach beyond dims */
    int deflate;            /* level; 0: none */
    int shuffle, fletcher32;
} h5_layout;

/* Makes missing groups on the way. *out may be NULL: then the dataset is closed again. */
status h5_create_dataset(hid_t at, const char *file, const char *name, hid_t type, const h5_layout *layout, hid_t *out);
/* Opens "a/b/c" below `at`, if every step is a hard link, and the data lies in this very file, in chunks of at most
 * 256 MiB, with no filters but deflate, shuffle and fletcher32. layout->deflate: 1 for any level. */
status h5_open_dataset(hid_t at, const char *file, const char *name, hid_t *out, h5_layout *layout);
/* COV_FORMAT unless the dataset's type is exactly this one. */
status h5_check_type(hid_t dataset, const char *file, const char *name, hid_t type);
/* Rows [row0, row0 + rows) of dimension 0, whole; memory is dense. */
status h5_rows_read(hid_t dataset, const char *file, const char *name, hid_t type, hsize_t row0, hsize_t rows,
                    void *out);
status h5_rows_write(hid_t dataset, const char *file, const char *name, hid_t type, hsize_t row0, hsize_t rows,
                     const void *values, hid_t transfer);
/* Dimension scales (the HDF5 dimension scale specification, as h5py, netCDF and MATLAB read them): h5_make_scale once
 * on the scale, then h5_attach_scale once for every dataset and dimension, all with the file open by one process. */
status h5_make_scale(hid_t scale, const char *file, const char *name);
typedef struct h5_use {
    hid_t dataset;
    unsigned dimension;
} h5_use;
/* `uses` of one scale, all at once; a dataset's other dimensions stay without a scale. */
status h5_attach_scale(hid_t scale, const char *file, const h5_use *uses, int count);
/* Is the last step of this path a hard link? */
int h5_has(hid_t at, const char *name);
#endif
