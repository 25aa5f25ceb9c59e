/* volume: one CT in Hounsfield units on the canonical grid, and what is needed to write a mask back
 * onto the study's own grid.
 *
 * Canonical grid (LPS+ in memory): x runs to the patient's left, y to posterior, z to superior; x is the
 * fastest axis: hu[(z*ny + y)*nx + x]. `affine` maps canonical indices (x,y,z,1) to the world of the file,
 * millimetres, RAS+ as in NIfTI. The native grid is what the file stores; axis[] and flip[] lead from one to
 * the other exactly (a permutation and reflections, never a resampling). */
#ifndef COV_DATA_VOLUME_H
#define COV_DATA_VOLUME_H
#include "base/status.h"
#include "data/reason.h"
#include <stddef.h>
#include <stdint.h>

/* The file's own grid, kept bit for bit so that `export` can restore it. Fixed size, no pointers: it is
 * stored as bytes in parts and cohort files (little-endian hosts only; format 1). */
typedef struct volume_native {
    int64_t size[3];  /* stored dimensions i, j, k */
    int8_t axis[3];   /* canonical axis c (0 x, 1 y, 2 z) runs along stored axis axis[c] ... */
    int8_t flip[3];   /* ... reversed if flip[c] */
    int8_t version;   /* 1 NIfTI-1, 2 NIfTI-2, 0 other format */
    int8_t spare;
    int32_t xyzt_units;
    int32_t qform_code, sform_code;
    double pixdim[8];
    double quatern[3], qoffset[3];
    double srow[3][4];
} volume_native;

typedef struct volume_header {
    char format[16];      /* "nifti1", "nifti2", "dicom", ... */
    int64_t nx, ny, nz;   /* canonical size */
    double spacing_mm[3]; /* along x, y, z */
    double affine[4][4];
    volume_native native;
    int64_t
        isolated; /* 1: pictures that do not lie beside one another (a folder of 8-bit PNG): the grey is taken for the
                     method's window, spacing and affine mean nothing, and slices may be smaller (volume_extent) */
} volume_header;

typedef struct volume {
    volume_header head;
    int16_t *hu; /* nx*ny*nz, canonical order, HU after slope and intercept, rounded and clipped to int16; owned or
                    borrowed as the maker says */
} volume;

/* What an isolated slice smaller than the study's largest is filled up with, to the right and below. No CT has it. */
enum { VOLUME_OUTSIDE = INT16_MIN };
/* Rows and columns of slice z that show something: ny and nx, but for isolated slices. */
void volume_extent(const volume *v, int64_t z, int64_t *rows, int64_t *cols);

/* HU statistics of the whole volume, computed while reading. They decide NOT_CT and QC flags. */
typedef struct volume_stats {
    int16_t lowest, highest;
    double share_air;       /* HU <= -900 */
    double share_soft;      /* -200 < HU < 200 */
    double share_lowest, share_highest; /* at exactly the lowest / highest value */
    int64_t distinct;       /* distinct values */
} volume_stats;

/* Copies a canonical mask (element bytes 1 or 2) onto the native grid. to has native.size[0..2] elements. */
void volume_to_native(const volume_header *h, const void *canonical, void *to, size_t element_bytes);
void volume_from_native(const volume_header *h, const void *from, void *canonical, size_t element_bytes);
/* axis, flip, size and spacing and canonical affine from a native voxel-to-RAS+ affine and native.size; REASON_GEOMETRY
 * (COV_FORMAT) if it is singular, not finite or the spacing is outside 0.01 ... 100 mm. */
status volume_orient(const double native_affine[4][4], volume_header *h, reason *why);

/* Copies stored slices first ... last-1 (element bytes 1, 2 or 4; native order, first voxel of slice `first` at
 * `from`) to their places in the canonical array: what a reader that streams slab by slab needs. */
void volume_put_slab(const volume_header *h, int64_t first, int64_t last, const void *from, void *canonical,
                     size_t element_bytes);

/* Counts of every int16 value, from which the statistics follow. Local; add in any order, up to 2^32 values. */
typedef struct volume_histogram volume_histogram;
status volume_histogram_new(volume_histogram **out);
void volume_histogram_add(volume_histogram *g, const int16_t *hu, size_t count);
void volume_histogram_stats(const volume_histogram *g, volume_stats *out); /* of no values: zeros */
void volume_histogram_free(volume_histogram **g);
#endif
