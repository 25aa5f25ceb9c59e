/* nifti: the writer. Both versions of the header have the same field names, so one list fills either; the gzip
 * carries no time stamp, so the same input gives the same bytes.
 *
 * The trap is `export`: a viewer overlays a mask on its CT only if qform, sform, pixdim and units are the CT's own
 * bits. They are copied from volume_native, never computed again from the affine. */
#include "data/nifti.h"
#include "base/size.h"
#include "base/str.h"
#include "data/durable.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <nifti2_io.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { WRITE_MOST = 1 << 30, DIM_MOST_1 = 32767 };

/* What is written before the voxels. */
typedef struct preface {
    int version, datatype, bits;
    double slope, inter;
    volume_native native;
} preface;

size_t nifti_type_bytes(nifti_type t) { return t == NIFTI_U8 ? 1 : t == NIFTI_F32 ? 4 : 2; }

static int datatype_of(nifti_type t)
{
    return t == NIFTI_U8 ? DT_UINT8 : t == NIFTI_I16 ? DT_INT16 : t == NIFTI_U16 ? DT_UINT16 : DT_FLOAT32;
}

/* ---- header ---- */

#define PUT_FIELDS(h, p, real)                                                                                         \
    do {                                                                                                               \
        (h)->datatype = (int16_t)(p)->datatype;                                                                        \
        (h)->bitpix = (int16_t)(p)->bits;                                                                              \
        (h)->scl_slope = (real)(p)->slope;                                                                             \
        (h)->scl_inter = (real)(p)->inter;                                                                             \
        for (int a_ = 0; a_ < 8; a_++) (h)->pixdim[a_] = (real)(p)->native.pixdim[a_];                                 \
        for (int a_ = 0; a_ < 4; a_++) {                                                                               \
            (h)->srow_x[a_] = (real)(p)->native.srow[0][a_];                                                           \
            (h)->srow_y[a_] = (real)(p)->native.srow[1][a_];                                                           \
            (h)->srow_z[a_] = (real)(p)->native.srow[2][a_];                                                           \
        }                                                                                                              \
        (h)->quatern_b = (real)(p)->native.quatern[0];                                                                 \
        (h)->quatern_c = (real)(p)->native.quatern[1];                                                                 \
        (h)->quatern_d = (real)(p)->native.quatern[2];                                                                 \
        (h)->qoffset_x = (real)(p)->native.qoffset[0];                                                                 \
        (h)->qoffset_y = (real)(p)->native.qoffset[1];                                                                 \
        (h)->qoffset_z = (real)(p)->native.qoffset[2];                                                                 \
        memcpy((h)->descrip, "covpipe " COVPIPE_VERSION, sizeof "covpipe " COVPIPE_VERSION);                           \
    } while (0)

/* Header and the four bytes that say "no extensions"; returns their length. */
static size_t make_header(const preface *p, int swap, unsigned char out[sizeof(nifti_2_header) + 4])
{
    size_t size = p->version == 1 ? sizeof(nifti_1_header) : sizeof(nifti_2_header);
    memset(out, 0, size + 4);
    if (p->version == 1) {
        nifti_1_header h = {.sizeof_hdr = (int)size, .magic = "n+1", .vox_offset = (float)(size + 4), .regular = 'r'};
        PUT_FIELDS(&h, p, float);
        h.xyzt_units = (char)p->native.xyzt_units;
        h.qform_code = (short)p->native.qform_code;
        h.sform_code = (short)p->native.sform_code;
        for (int a = 0; a < 8; a++) h.dim[a] = (short)(a == 0 ? 3 : a <= 3 ? p->native.size[a - 1] : 1);
        if (swap) nifti_swap_as_nifti1(&h);
        memcpy(out, &h, size);
    } else {
        nifti_2_header h = {.sizeof_hdr = (int)size,
                            .magic = {'n', '+', '2', 0, '\r', '\n', 032, '\n'},
                            .vox_offset = (int64_t)size + 4};
        PUT_FIELDS(&h, p, double);
        h.xyzt_units = p->native.xyzt_units;
        h.qform_code = p->native.qform_code;
        h.sform_code = p->native.sform_code;
        for (int a = 0; a < 8; a++) h.dim[a] = a == 0 ? 3 : a <= 3 ? p->native.size[a - 1] : 1;
        if (swap) nifti_swap_as_nifti2(&h);
        memcpy(out, &h, size);
    }
    return size + 4;
}

/* Fills size, pixdim, sform and (where the axes are at right angles) qform from a stored-voxel affine. */
static void native_from_affine(const double m[4][4], volume_native *n)
{
    nifti_dmat44 exact, rebuilt;
    double qfac = 1;
    memcpy(exact.m, m, sizeof exact.m);
    memcpy(n->srow, m, sizeof n->srow);
    n->sform_code = n->qform_code = NIFTI_XFORM_SCANNER_ANAT;
    n->xyzt_units = NIFTI_UNITS_MM;
    for (int a = 0; a < 8; a++) n->pixdim[a] = a > 3 ? 0 : 1;
    nifti_dmat44_to_quatern(exact, &n->quatern[0], &n->quatern[1], &n->quatern[2], &n->qoffset[0], &n->qoffset[1],
                            &n->qoffset[2], &n->pixdim[1], &n->pixdim[2], &n->pixdim[3], &qfac);
    n->pixdim[0] = qfac;
    rebuilt = nifti_quatern_to_dmat44(n->quatern[0], n->quatern[1], n->quatern[2], n->qoffset[0], n->qoffset[1],
                                      n->qoffset[2], n->pixdim[1], n->pixdim[2], n->pixdim[3], qfac);
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 3; c++)
            if (fabs(rebuilt.m[r][c] - m[r][c]) > 1e-4 * n->pixdim[c + 1]) n->qform_code = NIFTI_XFORM_UNKNOWN;
}

/* Canonical affine -> that of the stored grid described by h->native's axis, flip and size. */
static void stored_affine(const double canonical[4][4], const volume_native *n, double m[4][4])
{
    memset(m, 0, 16 * sizeof m[0][0]);
    m[3][3] = 1;
    for (int r = 0; r < 3; r++) {
        m[r][3] = canonical[r][3];
        for (int c = 0; c < 3; c++) {
            int a = n->axis[c];
            m[r][a] = n->flip[c] ? 0 - canonical[r][c] : canonical[r][c];
            if (n->flip[c]) m[r][3] += canonical[r][c] * (double)(n->size[a] - 1);
        }
    }
}

/* ---- file ---- */

typedef struct sink {
    const char *path;
    gzFile out;
} sink;

static status put(sink *k, const void *bytes, size_t n)
{
    for (size_t done = 0; done < n;) {
        size_t left = n - done;
        int wrote = gzwrite(k->out, (const char *)bytes + done, left < WRITE_MOST ? (unsigned)left : WRITE_MOST);
        if (wrote <= 0) return COV_FAIL(COV_IO, "%s: cannot write: %s", k->path, strerror(errno));
        done += (size_t)wrote;
    }
    return COV_OK;
}

/* gzip by the name; "T" writes as it is. Labels compress well at any effort, noise at none: little effort for it. */
static status open_sink(const char *path, const char *temporary, const preface *p, sink *k)
{
    const char *mode = !str_ends_with(path, ".gz") ? "wbTe" : p->bits == 8 ? "wb6e" : "wb2e";
    k->path = path;
    k->out = gzopen(temporary, mode);
    if (!k->out) return COV_FAIL(COV_IO, "%s: cannot create: %s", temporary, strerror(errno));
    gzbuffer(k->out, 128 * 1024);
    return COV_OK;
}

/* What the voxels come from: a function that gives stored slice z in `buffer` or points to it. */
typedef struct source {
    const void *native; /* stored order, elements of the stored type unless `scale` */
    nifti_type type;
    size_t from_bytes; /* of an element of native */
    int scale, swap;
    double slope, inter;
} source;

static double clip(double v, double low, double high) { return v < low ? low : v > high ? high : v; }

static void scale_slice(const source *f, const int16_t *from, size_t count, void *to)
{
    double slope = f->slope != 0 ? f->slope : 1, inter = f->slope != 0 ? f->inter : 0;
    for (size_t i = 0; i < count; i++) {
        double v = (from[i] - inter) / slope;
        switch (f->type) {
        case NIFTI_U8:
            ((uint8_t *)to)[i] = (uint8_t)clip(nearbyint(v), 0, UINT8_MAX);
            break;
        case NIFTI_I16:
            ((int16_t *)to)[i] = (int16_t)clip(nearbyint(v), INT16_MIN, INT16_MAX);
            break;
        case NIFTI_U16:
            ((uint16_t *)to)[i] = (uint16_t)clip(nearbyint(v), 0, UINT16_MAX);
            break;
        case NIFTI_F32:
            ((float *)to)[i] = (float)v;
            break;
        }
    }
}

static status put_voxels(sink *k, const source *f, const int64_t size[3])
{
    size_t count = (size_t)(size[0] * size[1]), bytes = nifti_type_bytes(f->type);
    if (!f->scale && !f->swap) return put(k, f->native, count * (size_t)size[2] * bytes);
    void *buffer = malloc(count * bytes);
    if (!buffer) return COV_FAIL(COV_NOMEM, "%s: no memory for a slice", k->path);
    status s = COV_OK;
    for (int64_t z = 0; s == COV_OK && z < size[2]; z++) {
        const char *from = (const char *)f->native + (size_t)z * count * f->from_bytes;
        if (f->scale) scale_slice(f, (const int16_t *)(const void *)from, count, buffer);
        else memcpy(buffer, from, count * bytes);
        if (f->swap && bytes > 1) nifti_swap_Nbytes((int64_t)count, (int)bytes, buffer);
        s = put(k, buffer, count * bytes);
    }
    free(buffer);
    return s;
}

static status write_file(const char *path, const preface *p, const source *f)
{
    char temporary[PATH_MAX];
    unsigned char header[sizeof(nifti_2_header) + 4];
    sink k = {0};
    for (int a = 0; a < 3; a++)
        if (p->native.size[a] < 1 || p->native.size[a] > DIM_MOST_1)
            return COV_FAIL(COV_USAGE, "%s: a size of %lld", path, (long long)p->native.size[a]);
    COV_TRY(durable_temporary(path, temporary, sizeof temporary));
    COV_TRY(open_sink(path, temporary, p, &k));
    status s = put(&k, header, make_header(p, f->swap, header));
    if (s == COV_OK) s = put_voxels(&k, f, p->native.size);
    int closed = gzclose_w(k.out);
    if (s == COV_OK && closed != Z_OK) s = COV_FAIL(COV_IO, "%s: cannot write: %s", path, strerror(errno));
    if (s != COV_OK) {
        unlink(temporary);
        return status_relay(s, __FILE__, __LINE__);
    }
    COV_TRY(durable_commit(temporary, path));
    return COV_OK;
}

status nifti_write(const char *path, const volume_header *h, const void *data, nifti_type type)
{
    preface p = {.version = h->native.version,
                 .datatype = datatype_of(type),
                 .bits = 8 * (int)nifti_type_bytes(type),
                 .slope = 1};
    memcpy(&p.native, &h->native, sizeof p.native);
    if (p.version == 0) {
        double m[4][4];
        stored_affine(h->affine, &h->native, m);
        native_from_affine((const double(*)[4])m, &p.native);
        p.version = 1;
    }
    if (p.version != 1 && p.version != 2) return COV_FAIL(COV_USAGE, "%s: there is no NIfTI-%d", path, p.version);
    return write_file(path, &p, &(source){.native = data, .type = type, .from_bytes = nifti_type_bytes(type)});
}

/* ---- from canonical order ---- */

nifti_layout nifti_layout_plain(nifti_type type)
{
    return (nifti_layout){.axis = {0, 1, 2}, .flip = {1, 1, 0}, .version = 1, .type = type};
}

static status check_layout(const char *path, const nifti_layout *l)
{
    int seen = 0;
    for (int c = 0; c < 3; c++)
        if (l->axis[c] >= 0 && l->axis[c] < 3) seen |= 1 << l->axis[c];
    if (seen != 7 || (l->version != 1 && l->version != 2) || !isfinite(l->slope) || !isfinite(l->inter))
        return COV_FAIL(COV_USAGE, "%s: axes %d %d %d in version %d, slope %g, intercept %g: no such NIfTI", path,
                        l->axis[0], l->axis[1], l->axis[2], l->version, l->slope, l->inter);
    return COV_OK;
}

static status write_canonical(const char *path, const void *values, size_t element_bytes, const int64_t size[3],
                              const double affine[4][4], const nifti_layout *l)
{
    volume_header h = {.nx = size[0], .ny = size[1], .nz = size[2]};
    double m[4][4];
    size_t count;
    COV_TRY(check_layout(path, l));
    for (int c = 0; c < 3; c++) {
        h.native.axis[c] = l->axis[c];
        h.native.flip[c] = l->flip[c] != 0;
        h.native.size[l->axis[c]] = size[c];
    }
    stored_affine(affine, &h.native, m);
    native_from_affine((const double(*)[4])m, &h.native);
    if (l->qform_only && !h.native.qform_code)
        return COV_FAIL(COV_USAGE, "%s: a qform cannot hold axes that are not at right angles", path);
    if (l->qform_only) h.native.sform_code = NIFTI_XFORM_UNKNOWN;
    if (!size_product(size, 3, &count) || !size_mul(count, element_bytes, &count))
        return COV_FAIL(COV_USAGE, "%s: %lld x %lld x %lld voxels", path, (long long)size[0], (long long)size[1],
                        (long long)size[2]);
    void *native = malloc(count ? count : 1);
    if (!native) return COV_FAIL(COV_NOMEM, "%s: no memory for %zu bytes", path, count);
    volume_to_native(&h, values, native, element_bytes);
    preface p = {.version = l->version,
                 .datatype = datatype_of(l->type),
                 .bits = 8 * (int)nifti_type_bytes(l->type),
                 .slope = l->slope,
                 .inter = l->inter};
    memcpy(&p.native, &h.native, sizeof p.native);
    source f = {.native = native,
                .type = l->type,
                .from_bytes = element_bytes,
                .swap = l->big_endian,
                .slope = l->slope,
                .inter = l->inter};
    f.scale = element_bytes == 2 && (l->type != NIFTI_I16 || l->slope != 0);
    status s = write_file(path, &p, &f);
    free(native);
    return s;
}

status nifti_write_canonical(const char *path, const int16_t *hu, int64_t nx, int64_t ny, int64_t nz,
                             const double affine[4][4], const nifti_layout *layout)
{
    return write_canonical(path, hu, sizeof *hu, (const int64_t[3]){nx, ny, nz}, affine, layout);
}

status nifti_write_canonical_u8(const char *path, const uint8_t *mask, int64_t nx, int64_t ny, int64_t nz,
                                const double affine[4][4], const nifti_layout *layout)
{
    if (layout->type != NIFTI_U8 || layout->slope != 0)
        return COV_FAIL(COV_USAGE, "%s: a mask is written as unsigned bytes without a slope", path);
    return write_canonical(path, mask, 1, (const int64_t[3]){nx, ny, nz}, affine, layout);
}
