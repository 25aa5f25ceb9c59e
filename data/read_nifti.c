/* read_nifti: CT from NIfTI: the stream of stored values becomes int16 HU in canonical order, and its statistics,
 * in one pass with one slab of slices in memory.
 *
 * 8- and 16-bit types go through a table of all their values, which does byte order, slope, rounding and clipping
 * in one look-up; wider ones through doubles. Rounding is to the nearest HU, halves to even. A NaN is a voxel without
 * a measurement (outside the field of view): it becomes -1024. */
#include "base/str.h"
#include "data/nifti_file.h"
#include "data/reader.h"

#include <nifti2_io.h>
#include <stdlib.h>
#include <string.h>

enum { NO_DATA_HU = -1024, BLOCK = 4096, SLAB_SLICES = 32, SLAB_MOST = 64 << 20 };

static int claims(const char *path)
{
    if (str_ends_with(path, ".nii") || str_ends_with(path, ".nii.gz") || str_ends_with(path, ".hdr") ||
        str_ends_with(path, ".hdr.gz"))
        return 1;
    return nifti_file_is_image_of_pair(path) ? 2 : 0;
}

static status header(const char *path, volume_header *out, reason *why)
{
    nifti_file f;
    COV_TRY(nifti_file_open(path, &f, why));
    memcpy(out, &f.head, sizeof *out);
    nifti_file_close(&f);
    if (out->nx < 2 || out->ny < 2) {
        *why = REASON_NOT_3D;
        return COV_FAIL(COV_UNSUPPORTED, "%s: axial slices of %lld x %lld voxels", path, (long long)out->nx,
                        (long long)out->ny);
    }
    return COV_OK;
}

static void to_hu(const double *v, size_t count, int16_t *hu)
{
    const double shift = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to an integer, which may be vectorised */
    for (size_t i = 0; i < count; i++) {
        double x = v[i] == v[i] ? v[i] : NO_DATA_HU;
        x = x < INT16_MIN ? INT16_MIN : x > INT16_MAX ? INT16_MAX : x;
        hu[i] = (int16_t)(int32_t)(x + shift - shift);
    }
}

/* HU of every stored bit pattern of an 8- or 16-bit type, in the file's byte order. */
static void fill_table(const nifti_file *f, int16_t *table)
{
    size_t count = f->element_bytes == 1 ? 256 : 65536;
    for (size_t k = 0; k < count; k += 256) {
        uint8_t narrow[256];
        uint16_t wide[256];
        double v[256];
        for (size_t i = 0; i < 256; i++) {
            narrow[i] = (uint8_t)i;
            wide[i] = (uint16_t)(k + i);
        }
        nifti_file_unswap(f, wide, 256);
        nifti_file_doubles(f, f->element_bytes == 1 ? (const void *)narrow : wide, 256, v);
        to_hu(v, 256, table + k);
    }
}

static void convert(const nifti_file *f, const int16_t *table, void *raw, size_t count, int16_t *hu)
{
    if (f->element_bytes == 1) {
        const uint8_t *v = raw;
        for (size_t i = 0; i < count; i++) hu[i] = table[v[i]];
        return;
    }
    if (f->element_bytes == 2) {
        const uint16_t *v = raw;
        for (size_t i = 0; i < count; i++) hu[i] = table[v[i]];
        return;
    }
    double block[BLOCK];
    nifti_file_unswap(f, raw, count);
    for (size_t i = 0; i < count; i += BLOCK) {
        size_t n = count - i < BLOCK ? count - i : BLOCK;
        nifti_file_doubles(f, (const char *)raw + i * f->element_bytes, n, block);
        to_hu(block, n, hu + i);
    }
}

/* Where the stored rows do not run along x, several slices at once keep the copy in whole cache lines. */
static int64_t slab_slices(const nifti_file *f, size_t slice_values)
{
    if (f->head.native.axis[0] == 0) return 1; /* rows stay rows: nothing gained by more */
    int64_t fit = (int64_t)(SLAB_MOST / (slice_values * f->element_bytes));
    int64_t most = fit < SLAB_SLICES ? fit : SLAB_SLICES;
    return most < 1 ? 1 : most < f->head.native.size[2] ? most : f->head.native.size[2];
}

static status stream(nifti_file *f, int16_t *hu, volume_histogram *g, reason *why)
{
    status s = COV_OK;
    const int64_t *size = f->head.native.size;
    size_t slice = (size_t)(size[0] * size[1]);
    int64_t slices = slab_slices(f, slice);
    bool as_is = f->type == DT_INT16 && !f->scaled && !f->swap;
    size_t values = slice * (size_t)slices;
    void *raw = malloc(values * f->element_bytes);
    int16_t *slab = as_is ? raw : malloc(values * sizeof *slab);
    int16_t *table = malloc(65536 * sizeof *table);
    if (!raw || !slab || !table) {
        *why = REASON_TOO_LARGE;
        COV_GO(COV_FAIL(COV_NOMEM, "%s: no memory for slices of %zu voxels", f->image_path, slice));
    }
    if (!as_is && f->element_bytes <= 2) fill_table(f, table);
    COV_GO(nifti_file_start(f, why));
    for (int64_t k = 0; k < size[2]; k += slices) {
        int64_t end = k + slices < size[2] ? k + slices : size[2];
        size_t count = slice * (size_t)(end - k);
        COV_GO(nifti_file_read(f, raw, count * f->element_bytes, why));
        if (!as_is) convert(f, table, raw, count, slab);
        volume_histogram_add(g, slab, count);
        volume_put_slab(&f->head, k, end, slab, hu, sizeof *slab);
    }
    COV_GO(nifti_file_finish(f, why));
done:
    if (slab != raw) free(slab);
    free(raw);
    free(table);
    return s;
}

static status voxels(const char *path, const volume_header *head, int16_t *hu, volume_stats *stats, reason *why)
{
    nifti_file f;
    volume_histogram *g = NULL;
    status s = COV_OK;
    COV_TRY(nifti_file_open(path, &f, why));
    if (memcmp(f.head.native.size, head->native.size, sizeof head->native.size) != 0 ||
        memcmp(f.head.native.axis, head->native.axis, 3) != 0 ||
        memcmp(f.head.native.flip, head->native.flip, 3) != 0) {
        *why = REASON_CHANGED;
        COV_GO(COV_FAIL(COV_FORMAT, "%s: its header changed after it was first read", path));
    }
    COV_GO(volume_histogram_new(&g));
    COV_GO(stream(&f, hu, g, why));
    volume_histogram_stats(g, stats);
done:
    volume_histogram_free(&g);
    nifti_file_close(&f);
    return s;
}

const reader read_nifti = {"nifti", claims, 0, header, voxels, nifti_file_image_of};
