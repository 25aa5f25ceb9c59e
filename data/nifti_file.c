/* nifti_file: NIfTI headers and their voxels as a stream.
 *
 * The header's bytes are read and checked here before anything is believed: libnifti2 itself allocates what a
 * 377-byte file asks for and fills a truncated gzip with zeros. From libnifti2 come the header's layout, its byte
 * swapping, the sizes of the datatypes and the quaternion's matrix. The voxels are read here through zlib, slab by
 * slab, so that a volume is never held twice and damage in the stream is seen. (zlib inflates CT at 300-370 MB/s;
 * ISA-L and libdeflate at 600-700, which would save 1 % of a study's time: not worth a dependency.)
 *
 * The trap is arithmetic on what the file says: every size is int64_t, checked, and compared with what the image
 * file can hold (deflate never expands more than 1032 times) before a byte is allocated. */
#include "data/nifti_file.h"
#include "base/size.h"
#include "base/str.h"
#include "data/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <nifti2_io.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    GZ_BUFFER = 256 * 1024,
    READ_MOST = 1 << 30,
    DEFLATE_MOST = 1032,
    AXIS_MOST = 32767,
    TAIL_MOST = 1 << 20,
    SLICE_MOST = 8192 * 8192
};

#define REFUSE(s, r, ...) (*why = REASON_##r, COV_FAIL(s, __VA_ARGS__))

/* The fields of both versions that matter here, in the wider version's types. */
typedef struct fields {
    int version;
    bool swap, single; /* single: "n+1", the image follows the header */
    int type, bits, intent;
    int64_t dim[8];
    double offset, slope, inter;
    volume_native native;
} fields;

/* ---- files ---- */

/* Opens a regular file, gzip or not, without ever blocking on a FIFO. */
static status open_stream(const char *path, gzFile *out, int64_t *file_bytes, reason *why)
{
    struct stat st;
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return REFUSE(COV_IO, IO_ERROR, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return REFUSE(COV_IO, IO_ERROR, "%s: not a regular file", path);
    }
    gzFile in = gzdopen(fd, "rb");
    if (!in) {
        close(fd);
        return REFUSE(COV_NOMEM, TOO_LARGE, "%s: no memory to open it", path);
    }
    gzbuffer(in, GZ_BUFFER);
    *out = in;
    *file_bytes = st.st_size;
    return COV_OK;
}

/* As many of `want` bytes as there are. A stream that breaks is an error, one that ends is not. */
static status read_some(gzFile in, const char *path, void *to, size_t want, size_t *got, reason *why)
{
    *got = 0;
    while (*got < want) {
        size_t left = want - *got;
        int n = gzread(in, (char *)to + *got, left < READ_MOST ? (unsigned)left : READ_MOST);
        int code = Z_OK;
        const char *text = n <= 0 ? gzerror(in, &code) : "";
        if (n == 0 && (code == Z_OK || code == Z_STREAM_END)) return COV_OK;
        if (n <= 0 && code == Z_BUF_ERROR) return COV_OK; /* a gzip that ends early: the caller sees the short count */
        if (n <= 0 && code == Z_ERRNO) return REFUSE(COV_IO, IO_ERROR, "%s: read error: %s", path, strerror(errno));
        if (n <= 0 && code == Z_MEM_ERROR) return REFUSE(COV_NOMEM, TOO_LARGE, "%s: no memory to inflate it", path);
        if (n <= 0) return REFUSE(COV_FORMAT, CORRUPT, "%s: damaged gzip data: %s", path, text);
        *got += (size_t)n;
    }
    return COV_OK;
}

/* Whether the file is stored as it is, not as gzip. zlib looks at its first bytes for that, and a file that cannot be read seems plain. */
static status is_plain(gzFile in, const char *path, bool *plain, reason *why)
{
    int code;
    *plain = gzdirect(in);
    gzerror(in, &code);
    if (code == Z_ERRNO) return REFUSE(COV_IO, IO_ERROR, "%s: read error: %s", path, strerror(errno));
    if (code == Z_MEM_ERROR) return REFUSE(COV_NOMEM, TOO_LARGE, "%s: no memory to inflate it", path);
    return COV_OK;
}

bool nifti_file_is_image_of_pair(const char *path)
{
    static const char *const headers[] = {".hdr", ".hdr.gz", ".HDR", ".HDR.gz", ".HDR.GZ", NULL};
    size_t cut = str_ends_with(path, ".img") ? 4 : str_ends_with(path, ".img.gz") ? 7 : 0;
    char *header = cut ? reader_sibling(path, cut, headers) : NULL;
    free(header);
    return header != NULL;
}

static size_t header_ending(const char *path)
{
    return str_ends_with(path, ".hdr") ? 4 : str_ends_with(path, ".hdr.gz") ? 7 : 0;
}

char *nifti_file_image_of(const char *path)
{
    static const char *const images[] = {".img", ".img.gz", ".IMG", ".IMG.gz", ".IMG.GZ", NULL};
    size_t cut = header_ending(path);
    return cut ? reader_sibling(path, cut, images) : NULL;
}

static status find_image(nifti_file *f, bool single, reason *why)
{
    const char *path = f->header_path;
    if (single) f->image_path = strdup(path);
    else {
        if (!header_ending(path))
            return REFUSE(COV_FORMAT, BAD_HEADER,
                          "%s: the header (magic \"ni1\") says that the image is in another file, "
                          "but the name does not end in .hdr",
                          path);
        f->image_path = nifti_file_image_of(path);
        if (!f->image_path)
            return REFUSE(COV_FORMAT, TRUNCATED, "%s: a header without its image: no .img or .img.gz beside it", path);
    }
    return f->image_path ? COV_OK : REFUSE(COV_NOMEM, TOO_LARGE, "%s: no memory", path);
}

/* ---- header ---- */

/* Both versions have the same field names: one list serves. */
#define TAKE_FIELDS(h, n)                                                                                              \
    do {                                                                                                               \
        (n)->type = (h).datatype;                                                                                      \
        (n)->bits = (h).bitpix;                                                                                        \
        (n)->intent = (h).intent_code;                                                                                 \
        (n)->offset = (double)(h).vox_offset;                                                                          \
        (n)->slope = (h).scl_slope;                                                                                    \
        (n)->inter = (h).scl_inter;                                                                                    \
        for (int a_ = 0; a_ < 8; a_++) {                                                                               \
            (n)->dim[a_] = (h).dim[a_];                                                                                \
            (n)->native.pixdim[a_] = (h).pixdim[a_];                                                                   \
        }                                                                                                              \
        for (int a_ = 0; a_ < 4; a_++) {                                                                               \
            (n)->native.srow[0][a_] = (h).srow_x[a_];                                                                  \
            (n)->native.srow[1][a_] = (h).srow_y[a_];                                                                  \
            (n)->native.srow[2][a_] = (h).srow_z[a_];                                                                  \
        }                                                                                                              \
        (n)->native.quatern[0] = (h).quatern_b;                                                                        \
        (n)->native.quatern[1] = (h).quatern_c;                                                                        \
        (n)->native.quatern[2] = (h).quatern_d;                                                                        \
        (n)->native.qoffset[0] = (h).qoffset_x;                                                                        \
        (n)->native.qoffset[1] = (h).qoffset_y;                                                                        \
        (n)->native.qoffset[2] = (h).qoffset_z;                                                                        \
        (n)->native.qform_code = (h).qform_code;                                                                       \
        (n)->native.sform_code = (h).sform_code;                                                                       \
        (n)->native.xyzt_units = (h).xyzt_units;                                                                       \
    } while (0)

/* bytes has room for a NIfTI-2 header and holds `got` of them. */
static status parse_header(const char *path, const unsigned char *bytes, size_t got, fields *n, reason *why)
{
    int32_t size = 0;
    memset(n, 0, sizeof *n);
    if (got >= sizeof size) memcpy(&size, bytes, sizeof size);
    int32_t other = (int32_t)__builtin_bswap32((uint32_t)size);
    n->swap = other == 348 || other == 540;
    if (n->swap) size = other;
    if (size != 348 && size != 540)
        return REFUSE(COV_FORMAT, BAD_HEADER, "%s: not NIfTI: its first 4 bytes are neither 348 nor 540", path);
    if (got < (size_t)size)
        return REFUSE(COV_FORMAT, TRUNCATED, "%s: ends after %zu bytes of a header of %ld", path, got, (long)size);
    const char *magic = (const char *)bytes + (size == 348 ? 344 : 4);
    const char *one = size == 348 ? "n+1" : "n+2\0\r\n\032\n", *two = size == 348 ? "ni1" : "ni2\0\r\n\032\n";
    size_t length = size == 348 ? 4 : 8;
    n->single = memcmp(magic, one, length) == 0;
    if (!n->single && memcmp(magic, two, length) != 0) {
        if (size == 348 && (str_ends_with(path, ".hdr") || str_ends_with(path, ".hdr.gz")))
            return REFUSE(COV_UNSUPPORTED, UNSUPPORTED,
                          "%s: an Analyze 7.5 header, which does not say how it is oriented; "
                          "expected NIfTI",
                          path);
        return REFUSE(COV_FORMAT, BAD_HEADER, "%s: a header of %ld bytes without NIfTI's magic number", path,
                      (long)size);
    }
    n->version = size == 348 ? 1 : 2;
    if (n->version == 1) {
        nifti_1_header h;
        memcpy(&h, bytes, sizeof h);
        if (n->swap) nifti_swap_as_nifti1(&h);
        TAKE_FIELDS(h, n);
    } else {
        nifti_2_header h;
        memcpy(&h, bytes, sizeof h);
        if (n->swap) nifti_swap_as_nifti2(&h);
        TAKE_FIELDS(h, n);
    }
    return COV_OK;
}

static status check_type(const char *path, const fields *n, size_t *element_bytes, reason *why)
{
    int bytes = 0, swapped;
    switch (n->type) {
    case DT_UINT8:
    case DT_INT8:
    case DT_INT16:
    case DT_UINT16:
    case DT_INT32:
    case DT_UINT32:
    case DT_FLOAT32:
    case DT_FLOAT64:
    case DT_INT64:
    case DT_UINT64:
        break;
    case DT_RGB24:
    case DT_RGBA32:
    case DT_COMPLEX64:
    case DT_COMPLEX128:
    case DT_COMPLEX256:
        return REFUSE(COV_UNSUPPORTED, NOT_3D, "%s: voxels are of datatype %d (colour or complex), not one number each",
                      path, n->type);
    case DT_BINARY:
    case DT_FLOAT128:
        return REFUSE(COV_UNSUPPORTED, UNSUPPORTED, "%s: datatype %d (1 bit or 128 bits a voxel) cannot be read", path,
                      n->type);
    default:
        return REFUSE(COV_FORMAT, BAD_HEADER, "%s: datatype %d is not one of NIfTI's", path, n->type);
    }
    nifti_datatype_sizes(n->type, &bytes, &swapped);
    if (n->bits != 8 * bytes)
        return REFUSE(COV_FORMAT, BAD_HEADER, "%s: bitpix is %d, but datatype %d has %d bits", path, n->bits, n->type,
                      8 * bytes);
    *element_bytes = (size_t)bytes;
    return COV_OK;
}

static status check_dims(const char *path, const fields *n, reason *why)
{
    int64_t rank = n->dim[0];
    if (rank < 1 || rank > 7)
        return REFUSE(COV_FORMAT, BAD_HEADER, "%s: dim[0] is %lld, expected 1 ... 7", path, (long long)rank);
    for (int a = 1; a <= rank; a++)
        if (n->dim[a] < 1)
            return REFUSE(COV_FORMAT, BAD_HEADER, "%s: dim[%d] is %lld, expected at least 1", path, a,
                          (long long)n->dim[a]);
    if (n->intent >= 3000 && n->intent <= 3099)
        return REFUSE(COV_UNSUPPORTED, NOT_3D, "%s: CIFTI data (intent %d), not an image", path, n->intent);
    for (int a = 4; a <= rank; a++)
        if (n->dim[a] > 1)
            return REFUSE(COV_UNSUPPORTED, NOT_3D, "%s: %lld dimensions, dim[%d] is %lld: expected one volume of three",
                          path, (long long)rank, a, (long long)n->dim[a]);
    if (rank < 3) return REFUSE(COV_UNSUPPORTED, NOT_3D, "%s: %lld dimensions: expected three", path, (long long)rank);
    size_t voxels;
    for (int a = 1; a <= 3; a++)
        if (n->dim[a] > AXIS_MOST)
            return REFUSE(COV_FORMAT, TOO_LARGE, "%s: dim[%d] is %lld: more than %d", path, a, (long long)n->dim[a],
                          AXIS_MOST);
    if (!size_product(n->dim + 1, 3, &voxels) || voxels > READER_MOST_BYTES / sizeof(int16_t))
        return REFUSE(COV_FORMAT, TOO_LARGE, "%s: %lld x %lld x %lld voxels need more than %lld bytes", path,
                      (long long)n->dim[1], (long long)n->dim[2], (long long)n->dim[3], (long long)READER_MOST_BYTES);
    for (int a = 1; a <= 3; a++) /* whole slices are buffered, along whichever axes */
        if (n->dim[a] * n->dim[a % 3 + 1] > SLICE_MOST)
            return REFUSE(COV_FORMAT, TOO_LARGE, "%s: slices of %lld x %lld voxels", path, (long long)n->dim[a],
                          (long long)n->dim[a % 3 + 1]);
    return COV_OK;
}

static status check_scale(const char *path, const fields *n, nifti_file *f, reason *why)
{
    if (!isfinite(n->slope) || !isfinite(n->inter))
        return REFUSE(COV_FORMAT, BAD_HEADER, "%s: scl_slope %g or scl_inter %g is not a number", path, n->slope,
                      n->inter);
    f->slope = n->slope;
    f->inter = n->inter;
    f->scaled = n->slope != 0 && (n->slope != 1 || n->inter != 0);
    double least = n->single ? (n->version == 1 ? 348 : 540) : 0;
    if (!(n->offset >= least && n->offset < 1e15)) /* NaN fails too */
        return REFUSE(COV_FORMAT, BAD_HEADER, "%s: vox_offset is %g, expected at least %g", path, n->offset, least);
    f->offset = (int64_t)n->offset;
    return COV_OK;
}

/* Stored voxel -> RAS+ millimetres, from the sform, else the qform, else pixdim alone. */
static status native_affine(const char *path, const volume_native *n, double m[4][4], reason *why)
{
    const double *d = n->pixdim;
    for (int a = 0; a <= 3; a++)
        if (!isfinite(d[a])) return REFUSE(COV_FORMAT, GEOMETRY, "%s: pixdim[%d] is not finite", path, a);
    int unit = n->xyzt_units & 7;
    double mm = unit == NIFTI_UNITS_METER ? 1e3 : unit == NIFTI_UNITS_MICRON ? 1e-3 : 1;
    memset(m, 0, 16 * sizeof m[0][0]);
    if (n->sform_code > 0) memcpy(m, n->srow, sizeof n->srow);
    else {
        for (int a = 1; a <= 3; a++)
            if (d[a] <= 0)
                return REFUSE(COV_FORMAT, GEOMETRY, "%s: pixdim[%d] is %g, expected a size above 0", path, a, d[a]);
        if (n->qform_code > 0) {
            nifti_dmat44 q = nifti_quatern_to_dmat44(n->quatern[0], n->quatern[1], n->quatern[2], n->qoffset[0],
                                                     n->qoffset[1], n->qoffset[2], d[1], d[2], d[3], d[0] < 0 ? -1 : 1);
            memcpy(m, q.m, 16 * sizeof m[0][0]);
        } else
            for (int a = 0; a < 3; a++) m[a][a] = d[a + 1];
    }
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 4; c++) m[r][c] *= mm;
    m[3][3] = 1;
    return COV_OK;
}

/* The image must be able to hold what the header promises: exactly known where it is not compressed. */
static status check_image_size(const nifti_file *f, int64_t file_bytes, bool plain, reason *why)
{
    const int64_t *size = f->head.native.size;
    int64_t need = f->offset + size[0] * size[1] * size[2] * (int64_t)f->element_bytes;
    int64_t most = plain ? file_bytes : file_bytes < INT64_MAX / DEFLATE_MOST ? file_bytes * DEFLATE_MOST : INT64_MAX;
    if (need > most)
        return REFUSE(COV_FORMAT, TRUNCATED,
                      "%s: %lld bytes%s, but the header promises an image that ends at byte %lld", f->image_path,
                      (long long)file_bytes, plain ? "" : " of gzip", (long long)need);
    return COV_OK;
}

static status read_header(const char *path, fields *n, reason *why)
{
    unsigned char bytes[sizeof(nifti_2_header)];
    gzFile in;
    int64_t file_bytes;
    size_t got;
    COV_TRY(open_stream(path, &in, &file_bytes, why));
    status s = read_some(in, path, bytes, sizeof bytes, &got, why);
    bool packed = !gzdirect(in);
    gzclose_r(in);
    COV_TRY(s);
    if (got == 0 && packed) return REFUSE(COV_FORMAT, TRUNCATED, "%s: the gzip ends before its data does", path);
    return parse_header(path, bytes, got, n, why);
}

static status open_checked(nifti_file *f, reason *why)
{
    fields n;
    double m[4][4];
    int64_t file_bytes;
    gzFile in;
    const char *path = f->header_path;
    volume_header *h = &f->head;
    COV_TRY(read_header(path, &n, why));
    COV_TRY(check_dims(path, &n, why));
    COV_TRY(check_type(path, &n, &f->element_bytes, why));
    COV_TRY(check_scale(path, &n, f, why));
    COV_TRY(native_affine(path, &n.native, m, why));
    f->type = n.type;
    f->swap = n.swap;
    memcpy(&h->native, &n.native, sizeof h->native); /* padding too: these bytes are stored */
    h->native.version = (int8_t)n.version;
    memcpy(h->native.size, n.dim + 1, sizeof h->native.size);
    strcpy(h->format, n.version == 1 ? "nifti1" : "nifti2");
    if (volume_orient((const double(*)[4])m, h, why) != COV_OK)
        return COV_FAIL(COV_FORMAT, "%s: %s", path, status_message());
    COV_TRY(find_image(f, n.single, why));
    COV_TRY(open_stream(f->image_path, &in, &file_bytes, why));
    bool plain;
    status s = is_plain(in, f->image_path, &plain, why);
    gzclose_r(in);
    COV_TRY(s);
    return check_image_size(f, file_bytes, plain, why);
}

status nifti_file_open(const char *path, nifti_file *f, reason *why)
{
    memset(f, 0, sizeof *f);
    *why = REASON_NONE;
    f->header_path = strdup(path);
    if (!f->header_path) return REFUSE(COV_NOMEM, TOO_LARGE, "%s: no memory", path);
    status s = open_checked(f, why);
    if (s == COV_OK) return COV_OK;
    nifti_file_close(f);
    return status_relay(s, __FILE__, __LINE__);
}

/* ---- voxels ---- */

status nifti_file_start(nifti_file *f, reason *why)
{
    int64_t file_bytes;
    bool plain;
    COV_TRY(open_stream(f->image_path, &f->in, &file_bytes, why));
    COV_TRY(is_plain(f->in, f->image_path, &plain, why));
    COV_TRY(check_image_size(f, file_bytes, plain, why));
    char skipped[4096];
    for (int64_t left = f->offset; left > 0;) {
        size_t step = left < (int64_t)sizeof skipped ? (size_t)left : sizeof skipped;
        COV_TRY(nifti_file_read(f, skipped, step, why));
        left -= (int64_t)step;
    }
    return COV_OK;
}

status nifti_file_read(nifti_file *f, void *to, size_t bytes, reason *why)
{
    size_t got;
    COV_TRY(read_some(f->in, f->image_path, to, bytes, &got, why));
    if (got < bytes)
        return REFUSE(COV_FORMAT, TRUNCATED, "%s: ends at byte %lld of the image, before its last voxel", f->image_path,
                      (long long)gztell(f->in));
    return COV_OK;
}

status nifti_file_finish(nifti_file *f, reason *why)
{
    char rest[4096];
    size_t got = !gzdirect(f->in); /* nothing to learn from what follows in a plain file */
    for (int64_t read = 0; got && read < TAIL_MOST; read += (int64_t)got)
        COV_TRY(read_some(f->in, f->image_path, rest, sizeof rest, &got, why));
    int code;
    gzerror(f->in, &code);
    if (code == Z_BUF_ERROR)
        return REFUSE(COV_FORMAT, TRUNCATED, "%s: the gzip ends before its checksum", f->image_path);
    return COV_OK;
}

void nifti_file_close(nifti_file *f)
{
    if (f->in) gzclose_r(f->in);
    free(f->header_path);
    free(f->image_path);
    memset(f, 0, sizeof *f);
}

void nifti_file_unswap(const nifti_file *f, void *values, size_t count)
{
    if (f->swap && f->element_bytes > 1) nifti_swap_Nbytes((int64_t)count, (int)f->element_bytes, values);
}

void nifti_file_doubles(const nifti_file *f, const void *values, size_t count, double *out)
{
    double slope = f->scaled ? f->slope : 1, inter = f->scaled ? f->inter : 0;
#define EACH(T)                                                                                                        \
    {                                                                                                                  \
        const T *v = values;                                                                                           \
        for (size_t i = 0; i < count; i++) out[i] = (double)v[i] * slope + inter;                                      \
    }                                                                                                                  \
    break
    switch (f->type) {
    case DT_UINT8:
        EACH(uint8_t);
    case DT_INT8:
        EACH(int8_t);
    case DT_INT16:
        EACH(int16_t);
    case DT_UINT16:
        EACH(uint16_t);
    case DT_INT32:
        EACH(int32_t);
    case DT_UINT32:
        EACH(uint32_t);
    case DT_INT64:
        EACH(int64_t);
    case DT_UINT64:
        EACH(uint64_t);
    case DT_FLOAT32:
        EACH(float);
    case DT_FLOAT64:
        EACH(double);
    }
#undef EACH
}
