/* h5: see h5.h. Anything read from a file is suspect: links are followed only within the file, and sizes are compared
 * with limits first. */
#include "data/h5.h"

#include "base/size.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_LIMIT = 256 << 20, COMPACT_LIMIT = 32 << 10, PART_NAME = 256 };

static herr_t keep_first(unsigned depth, const H5E_error2_t *error, void *into)
{
    (void)depth;
    const char **text = into;
    if (!*text && error->desc && error->desc[0]) *text = error->desc;
    return 0;
}

status h5_fail(status code, const char *source, int line, const char *file, const char *name)
{
    const char *text = NULL;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &text); /* the innermost message says most */
    status s = status_fail(code, source, line, "%s: %s: HDF5: %s", file, name, text ? text : "failed");
    H5Eclear2(H5E_DEFAULT);
    return s;
}

void h5_quiet(void) { H5Eset_auto2(H5E_DEFAULT, NULL, NULL); }

void h5_close(hid_t *id)
{
    if (*id >= 0) H5Idec_ref(*id);
    *id = H5I_INVALID_HID;
}

/* ---------------------------------------------------------------- files */

static status access_list(const char *file, hid_t *out)
{
    status s = COV_OK;
    H5_GO(COV_NOMEM, file, "access list", *out = H5Pcreate(H5P_FILE_ACCESS));
    H5_GO(COV_BROKEN, file, "access list", H5Pset_file_locking(*out, 0, 1));
    /* An object left open must not keep the file open behind our back. */
    H5_GO(COV_BROKEN, file, "access list", H5Pset_fclose_degree(*out, H5F_CLOSE_STRONG));
    /* HDF5 caches 1 MiB, and unpacks a larger chunk anew for every few rows of it. 521 and 0.75 are its own values. */
    H5_GO(COV_BROKEN, file, "access list", H5Pset_cache(*out, 0, 521, H5_CHUNK_CACHE, 0.75));
done:
    return s;
}

status h5_create_file(const char *file, hsize_t user_block, hid_t *out)
{
    hid_t list = H5I_INVALID_HID, create = H5I_INVALID_HID;
    status s;
    *out = H5I_INVALID_HID;
    COV_GO(access_list(file, &list));
    H5_GO(COV_NOMEM, file, "creation list", create = H5Pcreate(H5P_FILE_CREATE));
    H5_GO(COV_BROKEN, file, "user block", H5Pset_userblock(create, user_block));
    H5_GO(COV_IO, file, "create", *out = H5Fcreate(file, H5F_ACC_TRUNC, create, list));
done:
    h5_close(&create);
    h5_close(&list);
    return s;
}

status h5_open_file(const char *file, unsigned flags, hid_t *out)
{
    hid_t list = H5I_INVALID_HID;
    status s;
    *out = H5I_INVALID_HID;
    if (access(file, R_OK) != 0) return COV_FAIL(COV_IO, "%s: cannot open: %s", file, strerror(errno));
    COV_GO(access_list(file, &list));
    H5_GO(COV_FORMAT, file, "not a sound HDF5 file", *out = H5Fopen(file, flags, list));
done:
    h5_close(&list);
    return s;
}

hid_t h5_text_type(size_t bytes)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0 || H5Tset_size(type, bytes ? bytes : 1) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0 ||
        H5Tset_strpad(type, H5T_STR_NULLPAD) < 0) {
        h5_close(&type);
    }
    return type;
}

/* ---------------------------------------------------------------- attributes */

/* count < 0: one value, a scalar. */
static status put_attribute(hid_t at, const char *file, const char *name, hid_t type, int count, const void *values)
{
    hid_t space = H5I_INVALID_HID, attribute = H5I_INVALID_HID;
    hsize_t n = (hsize_t)count;
    status s = COV_OK;
    if (H5Aexists(at, name) > 0) H5_GO(COV_IO, file, name, H5Adelete(at, name));
    H5_GO(COV_NOMEM, file, name, space = count < 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &n, NULL));
    H5_GO(COV_IO, file, name, attribute = H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT));
    H5_GO(COV_IO, file, name, H5Awrite(attribute, type, values));
done:
    h5_close(&attribute);
    h5_close(&space);
    return s;
}

status h5_put_value(hid_t at, const char *file, const char *name, hid_t type, const void *value)
{
    COV_TRY(put_attribute(at, file, name, type, -1, value));
    return COV_OK;
}

status h5_put_array(hid_t at, const char *file, const char *name, hid_t type, int count, const void *values)
{
    COV_TRY(put_attribute(at, file, name, type, count, values));
    return COV_OK;
}

status h5_put_text(hid_t at, const char *file, const char *name, const char *text)
{
    status s = COV_OK;
    hid_t type = H5I_INVALID_HID;
    H5_GO(COV_NOMEM, file, name, type = h5_text_type(strlen(text)));
    COV_GO(put_attribute(at, file, name, type, -1, text));
done:
    h5_close(&type);
    return s;
}

/* Opens a scalar attribute (or an array of one element, as some tools write them). */
static status open_scalar(hid_t at, const char *file, const char *name, hid_t *attribute, hid_t *type)
{
    hid_t space = H5I_INVALID_HID;
    status s = COV_OK;
    if (H5Aexists(at, name) <= 0) {
        s = COV_FAIL(COV_FORMAT, "%s: the attribute '%s' is missing", file, name);
        goto done;
    }
    H5_GO(COV_FORMAT, file, name, *attribute = H5Aopen(at, name, H5P_DEFAULT));
    H5_GO(COV_FORMAT, file, name, space = H5Aget_space(*attribute));
    if (H5Sget_simple_extent_npoints(space) != 1) {
        s = COV_FAIL(COV_FORMAT, "%s: the attribute '%s' is not a single value", file, name);
        goto done;
    }
    H5_GO(COV_FORMAT, file, name, *type = H5Aget_type(*attribute));
done:
    h5_close(&space);
    return s;
}

status h5_get_text(hid_t at, const char *file, const char *name, size_t limit, char **out)
{
    hid_t attribute = H5I_INVALID_HID, type = H5I_INVALID_HID;
    status s;
    *out = NULL;
    COV_GO(open_scalar(at, file, name, &attribute, &type));
    size_t n = H5Tget_size(type);
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 || n == 0 || n > limit) {
        s = COV_FAIL(COV_FORMAT, "%s: the attribute '%s' is not a fixed-length text of 1 to %zu bytes", file, name,
                     limit);
        goto done;
    }
    if (!(*out = calloc(n + 1, 1))) {
        s = COV_FAIL(COV_NOMEM, "%s: no memory for the attribute '%s'", file, name);
        goto done;
    }
    H5_GO(COV_FORMAT, file, name, H5Aread(attribute, type, *out));
done:
    if (s != COV_OK) {
        free(*out);
        *out = NULL;
    }
    h5_close(&type);
    h5_close(&attribute);
    return s;
}

status h5_get_text_into(hid_t at, const char *file, const char *name, char *out, size_t room)
{
    char *text = NULL;
    out[0] = 0;
    COV_TRY(h5_get_text(at, file, name, room - 1, &text));
    memcpy(out, text, strlen(text) + 1);
    free(text);
    return COV_OK;
}

status h5_get_int(hid_t at, const char *file, const char *name, int64_t *out)
{
    hid_t attribute = H5I_INVALID_HID, type = H5I_INVALID_HID;
    status s;
    *out = 0;
    COV_GO(open_scalar(at, file, name, &attribute, &type));
    if (H5Tget_class(type) != H5T_INTEGER) {
        s = COV_FAIL(COV_FORMAT, "%s: the attribute '%s' is not an integer", file, name);
        goto done;
    }
    H5_GO(COV_FORMAT, file, name, H5Aread(attribute, H5T_NATIVE_INT64, out));
done:
    h5_close(&type);
    h5_close(&attribute);
    return s;
}

/* ---------------------------------------------------------------- datasets */

static status creation_list(const char *file, const char *name, hid_t type, const h5_layout *layout, hid_t *out)
{
    status s = COV_OK;
    size_t bytes = H5Tget_size(type);
    for (int k = 0; k < layout->rank; k++) bytes *= layout->dims[k];
    H5_GO(COV_NOMEM, file, name, *out = H5Pcreate(H5P_DATASET_CREATE));
    H5_GO(COV_BROKEN, file, name, H5Pset_obj_track_times(*out, 0)); /* equal content gives equal files */
    if (layout->chunk[0]) {
        H5_GO(COV_BROKEN, file, name, H5Pset_chunk(*out, layout->rank, layout->chunk));
        if (layout->shuffle) H5_GO(COV_BROKEN, file, name, H5Pset_shuffle(*out));
        if (layout->deflate) H5_GO(COV_BROKEN, file, name, H5Pset_deflate(*out, (unsigned)layout->deflate));
        if (layout->fletcher32) H5_GO(COV_BROKEN, file, name, H5Pset_fletcher32(*out));
    } else if (bytes <= COMPACT_LIMIT) {
        H5_GO(COV_BROKEN, file, name, H5Pset_layout(*out, H5D_COMPACT));
    }
done:
    return s;
}

status h5_create_dataset(hid_t at, const char *file, const char *name, hid_t type, const h5_layout *layout, hid_t *out)
{
    hid_t space = H5I_INVALID_HID, create = H5I_INVALID_HID, links = H5I_INVALID_HID, dataset = H5I_INVALID_HID;
    hsize_t most[H5_RANK]; /* HDF5 takes a chunk that is larger than a dataset only where that could still grow to it */
    status s = COV_OK;
    for (int k = 0; k < layout->rank; k++) most[k] = layout->dims[k] > layout->chunk[k] ? layout->dims[k] : layout->chunk[k];
    H5_GO(COV_NOMEM, file, name, space = H5Screate_simple(layout->rank, layout->dims, most));
    COV_GO(creation_list(file, name, type, layout, &create));
    H5_GO(COV_NOMEM, file, name, links = H5Pcreate(H5P_LINK_CREATE));
    H5_GO(COV_BROKEN, file, name, H5Pset_create_intermediate_group(links, 1));
    H5_GO(COV_IO, file, name, dataset = H5Dcreate2(at, name, type, space, links, create, H5P_DEFAULT));
done:
    if (out) *out = dataset;
    else h5_close(&dataset);
    h5_close(&links);
    h5_close(&create);
    h5_close(&space);
    return s;
}

int h5_has(hid_t at, const char *name)
{
    H5L_info_t link;
    int found = H5Lget_info(at, name, &link, H5P_DEFAULT) >= 0 && link.type == H5L_TYPE_HARD;
    if (!found) H5Eclear2(H5E_DEFAULT);
    return found;
}

/* Every prefix of "a/b/c" must be a hard link: soft and external ones lead elsewhere. */
static status check_links(hid_t at, const char *file, const char *name)
{
    char prefix[PART_NAME];
    size_t n = strlen(name);
    if (n == 0 || n >= sizeof prefix) return COV_FAIL(COV_FORMAT, "%s: '%s' is not a usable object name", file, name);
    for (size_t k = 1; k <= n; k++) {
        if (name[k] != '/' && name[k] != 0) continue;
        memcpy(prefix, name, k);
        prefix[k] = 0;
        if (!h5_has(at, prefix))
            return COV_FAIL(COV_FORMAT, "%s: '%s' is missing, or a link that leads elsewhere", file, prefix);
    }
    return COV_OK;
}

static status check_storage(hid_t dataset, const char *file, const char *name, h5_layout *layout)
{
    hid_t create = H5I_INVALID_HID, type = H5I_INVALID_HID;
    status s = COV_OK;
    H5_GO(COV_FORMAT, file, name, create = H5Dget_create_plist(dataset));
    H5_GO(COV_FORMAT, file, name, type = H5Dget_type(dataset));
    H5D_layout_t kind = H5Pget_layout(create);
    if ((kind != H5D_COMPACT && kind != H5D_CONTIGUOUS && kind != H5D_CHUNKED) || H5Pget_external_count(create) != 0) {
        s = COV_FAIL(COV_FORMAT, "%s: %s: its data does not lie in this file", file, name);
        goto done;
    }
    for (int k = 0, n = H5Pget_nfilters(create); k < n; k++) {
        H5Z_filter_t filter = H5Pget_filter2(create, (unsigned)k, NULL, NULL, NULL, 0, NULL, NULL);
        layout->deflate |= filter == H5Z_FILTER_DEFLATE;
        layout->shuffle |= filter == H5Z_FILTER_SHUFFLE;
        layout->fletcher32 |= filter == H5Z_FILTER_FLETCHER32;
        if (filter == H5Z_FILTER_DEFLATE || filter == H5Z_FILTER_SHUFFLE || filter == H5Z_FILTER_FLETCHER32) continue;
        s = COV_FAIL(COV_FORMAT, "%s: %s: unexpected filter %d", file, name, (int)filter);
        goto done;
    }
    size_t bytes = H5Tget_size(type);
    if (kind != H5D_CHUNKED) {
        hsize_t stored = H5Dget_storage_size(dataset); /* HDF5 itself reads on behind a compact one that is shorter */
        int fits = 1;
        for (int k = 0; k < layout->rank; k++) fits = fits && size_mul(bytes, (size_t)layout->dims[k], &bytes);
        if (!fits || (stored != bytes && (stored != 0 || kind == H5D_COMPACT)))
            s = COV_FAIL(COV_FORMAT, "%s: %s: %llu bytes are stored, not what its size says", file, name,
                         (unsigned long long)stored);
        goto done;
    }
    H5_GO(COV_FORMAT, file, name, H5Pget_chunk(create, layout->rank, layout->chunk));
    for (int k = 0; k < layout->rank; k++)
        if (!size_mul(bytes, (size_t)layout->chunk[k], &bytes) || bytes > CHUNK_LIMIT) {
            s = COV_FAIL(COV_FORMAT, "%s: %s: a chunk is larger than %d MiB", file, name, CHUNK_LIMIT >> 20);
            goto done;
        }
done:
    h5_close(&type);
    h5_close(&create);
    return s;
}

status h5_open_dataset(hid_t at, const char *file, const char *name, hid_t *out, h5_layout *layout)
{
    hid_t space = H5I_INVALID_HID;
    status s;
    *out = H5I_INVALID_HID;
    memset(layout, 0, sizeof *layout);
    COV_GO(check_links(at, file, name));
    H5_GO(COV_FORMAT, file, name, *out = H5Dopen2(at, name, H5P_DEFAULT));
    H5_GO(COV_FORMAT, file, name, space = H5Dget_space(*out));
    layout->rank = H5Sget_simple_extent_ndims(space);
    if (H5Sget_simple_extent_type(space) != H5S_SIMPLE || layout->rank < 1 || layout->rank > H5_RANK) {
        s = COV_FAIL(COV_FORMAT, "%s: %s: expected an array of 1 to %d dimensions", file, name, H5_RANK);
        goto done;
    }
    H5_GO(COV_FORMAT, file, name, H5Sget_simple_extent_dims(space, layout->dims, NULL));
    COV_GO(check_storage(*out, file, name, layout));
done:
    h5_close(&space);
    if (s != COV_OK) h5_close(out);
    return s;
}

status h5_check_type(hid_t dataset, const char *file, const char *name, hid_t type)
{
    status s = COV_OK;
    hid_t have = H5I_INVALID_HID;
    H5_GO(COV_FORMAT, file, name, have = H5Dget_type(dataset));
    if (H5Tequal(have, type) <= 0) s = COV_FAIL(COV_FORMAT, "%s: %s: not of the type that the format says", file, name);
done:
    h5_close(&have);
    return s;
}

/* The file's space with `rows` rows selected, and a dense memory space of that size; no rows select nothing. */
static status select_rows(hid_t dataset, const char *file, const char *name, hsize_t row0, hsize_t rows, hid_t *in_file,
                          hid_t *in_memory)
{
    hsize_t start[H5_RANK] = {0}, count[H5_RANK] = {0};
    status s = COV_OK;
    H5_GO(COV_FORMAT, file, name, *in_file = H5Dget_space(dataset));
    int rank = H5Sget_simple_extent_ndims(*in_file);
    if (rank < 1 || rank > H5_RANK) {
        s = COV_FAIL(COV_BROKEN, "%s: %s: %d dimensions", file, name, rank);
        goto done;
    }
    H5_GO(COV_FORMAT, file, name, H5Sget_simple_extent_dims(*in_file, count, NULL));
    if (row0 > count[0] || rows > count[0] - row0) {
        s = COV_FAIL(COV_FORMAT, "%s: %s: rows %llu to %llu of %llu", file, name, (unsigned long long)row0,
                     (unsigned long long)(row0 + rows), (unsigned long long)count[0]);
        goto done;
    }
    start[0] = row0;
    count[0] = rows ? rows : 1; /* an empty memory space is one row with nothing selected */
    H5_GO(COV_NOMEM, file, name, *in_memory = H5Screate_simple(rank, count, NULL));
    if (rows) {
        H5_GO(COV_BROKEN, file, name, H5Sselect_hyperslab(*in_file, H5S_SELECT_SET, start, NULL, count, NULL));
    } else {
        H5_GO(COV_BROKEN, file, name, H5Sselect_none(*in_file));
        H5_GO(COV_BROKEN, file, name, H5Sselect_none(*in_memory));
    }
done:
    return s;
}

/* A chunk that is not there would be read as zeros. Ours are all written: a missing one is damage. */
static status check_chunks(hid_t dataset, const char *file, const char *name, hsize_t row0, hsize_t rows)
{
    hid_t space = H5I_INVALID_HID, create = H5I_INVALID_HID;
    hsize_t dims[H5_RANK] = {0}, chunk[H5_RANK] = {0}, at[H5_RANK] = {0}, bytes;
    status s = COV_OK;
    H5_GO(COV_FORMAT, file, name, create = H5Dget_create_plist(dataset));
    H5_GO(COV_FORMAT, file, name, space = H5Dget_space(dataset));
    int rank = H5Sget_simple_extent_dims(space, dims, NULL), axis = 0;
    if (H5Pget_layout(create) != H5D_CHUNKED || rank < 1) goto done;
    H5_GO(COV_FORMAT, file, name, H5Pget_chunk(create, rank, chunk));
    dims[0] = row0 + rows;
    at[0] = row0 / chunk[0] * chunk[0];
    while (axis >= 0) { /* an odometer over the chunks of these rows */
        bytes = 0;
        if (H5Dget_chunk_storage_size(dataset, at, &bytes) < 0 || bytes == 0) {
            H5Eclear2(H5E_DEFAULT);
            s = COV_FAIL(COV_FORMAT, "%s: %s: damaged: the chunk of row %llu is missing", file, name,
                         (unsigned long long)at[0]);
            goto done;
        }
        for (axis = rank - 1; axis >= 0; axis--) {
            at[axis] += chunk[axis];
            if (at[axis] < dims[axis]) break;
            if (axis) at[axis] = 0;
        }
    }
done:
    h5_close(&space);
    h5_close(&create);
    return s;
}

status h5_rows_read(hid_t dataset, const char *file, const char *name, hid_t type, hsize_t row0, hsize_t rows,
                    void *out)
{
    hid_t in_file = H5I_INVALID_HID, in_memory = H5I_INVALID_HID;
    status s = COV_OK;
    if (!rows) return COV_OK;
    COV_GO(select_rows(dataset, file, name, row0, rows, &in_file, &in_memory));
    COV_GO(check_chunks(dataset, file, name, row0, rows));
    H5_GO(COV_FORMAT, file, name, H5Dread(dataset, type, in_memory, in_file, H5P_DEFAULT, out));
done:
    h5_close(&in_memory);
    h5_close(&in_file);
    return s;
}

status h5_rows_write(hid_t dataset, const char *file, const char *name, hid_t type, hsize_t row0, hsize_t rows,
                     const void *values, hid_t transfer)
{
    hid_t in_file = H5I_INVALID_HID, in_memory = H5I_INVALID_HID;
    const char nothing[8] = {0}; /* HDF5 wants an address even for an empty selection */
    status s;
    COV_GO(select_rows(dataset, file, name, row0, rows, &in_file, &in_memory));
    H5_GO(COV_IO, file, name, H5Dwrite(dataset, type, in_memory, in_file, transfer, rows ? values : nothing));
done:
    h5_close(&in_memory);
    h5_close(&in_file);
    return s;
}

/* ---------------------------------------------------------------- dimension scales */

/* The specification wants these two NUL-terminated, and its readers check. */
static status put_terminated(hid_t at, const char *file, const char *name, const char *text)
{
    hid_t type = H5I_INVALID_HID;
    status s = COV_OK;
    H5_GO(COV_NOMEM, file, name, type = H5Tcopy(H5T_C_S1));
    H5_GO(COV_BROKEN, file, name, H5Tset_size(type, strlen(text) + 1));
    COV_GO(put_attribute(at, file, name, type, -1, text));
done:
    h5_close(&type);
    return s;
}

status h5_make_scale(hid_t scale, const char *file, const char *name)
{
    COV_TRY(put_terminated(scale, file, "CLASS", "DIMENSION_SCALE"));
    COV_TRY(put_terminated(scale, file, "NAME", name));
    return COV_OK;
}

/* DIMENSION_LIST: for every dimension of the dataset, a list of references to its scales. */
static status list_dimension(const h5_use *use, const char *file, hobj_ref_t *scale)
{
    hid_t type = H5I_INVALID_HID, space = H5I_INVALID_HID;
    hvl_t lists[H5_RANK] = {{0, NULL}};
    status s = COV_OK;
    H5_GO(COV_BROKEN, file, "DIMENSION_LIST", space = H5Dget_space(use->dataset));
    int rank = H5Sget_simple_extent_ndims(space);
    if (rank < 1 || rank > H5_RANK || use->dimension >= (unsigned)rank) {
        s = COV_FAIL(COV_BROKEN, "%s: a scale for dimension %u of %d", file, use->dimension, rank);
        goto done;
    }
    lists[use->dimension] = (hvl_t){1, scale};
    H5_GO(COV_NOMEM, file, "DIMENSION_LIST", type = H5Tvlen_create(H5T_STD_REF_OBJ));
    COV_GO(h5_put_array(use->dataset, file, "DIMENSION_LIST", type, rank, lists));
done:
    h5_close(&space);
    h5_close(&type);
    return s;
}

typedef struct back_reference {
    hobj_ref_t dataset;
    uint32_t dimension;
} back_reference;

status h5_attach_scale(hid_t scale, const char *file, const h5_use *uses, int count)
{
    hid_t type = H5I_INVALID_HID;
    hobj_ref_t to_scale;
    status s = COV_OK;
    back_reference *back = calloc((size_t)count, sizeof *back);
    if (!back) {
        s = COV_FAIL(COV_NOMEM, "%s: no memory for a dimension scale", file);
        goto done;
    }
    H5_GO(COV_BROKEN, file, "scale", H5Rcreate(&to_scale, scale, ".", H5R_OBJECT, -1));
    for (int k = 0; k < count; k++) {
        COV_GO(list_dimension(&uses[k], file, &to_scale));
        H5_GO(COV_BROKEN, file, "scale", H5Rcreate(&back[k].dataset, uses[k].dataset, ".", H5R_OBJECT, -1));
        back[k].dimension = uses[k].dimension;
    }
    H5_GO(COV_NOMEM, file, "scale", type = H5Tcreate(H5T_COMPOUND, sizeof *back));
    H5_GO(COV_BROKEN, file, "scale", H5Tinsert(type, "dataset", offsetof(back_reference, dataset), H5T_STD_REF_OBJ));
    H5_GO(COV_BROKEN, file, "scale",
          H5Tinsert(type, "dimension", offsetof(back_reference, dimension), H5T_NATIVE_UINT32));
    COV_GO(h5_put_array(scale, file, "REFERENCE_LIST", type, count, back));
done:
    h5_close(&type);
    free(back);
    return s;
}
