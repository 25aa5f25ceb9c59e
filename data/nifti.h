/* nifti: writes a volume as NIfTI, .nii or .nii.gz by its name, whole or not at all (temporary name, fsync, rename).
 * Little-endian. Local. */
#ifndef COV_DATA_NIFTI_H
#define COV_DATA_NIFTI_H
#include "data/volume.h"

typedef enum nifti_type { NIFTI_U8, NIFTI_I16, NIFTI_U16, NIFTI_F32 } nifti_type;

size_t nifti_type_bytes(nifti_type t);

/* data: native.size[0..2] elements in the study's own order (volume_to_native); borrowed. qform, sform, pixdim and
 * units are those of h->native, bit for bit, in the same version of NIfTI; a study of another format (version 0)
 * gets NIfTI-1 with an sform made from h->affine. */
status nifti_write(const char *path, const volume_header *h, const void *data, nifti_type type);

/* How nifti_write_canonical stores: canonical axis c along stored axis axis[c], reversed if flip[c]. */
typedef struct nifti_layout {
    int8_t axis[3], flip[3];
    int version;         /* 1 or 2 */
    nifti_type type;
    float slope, inter;  /* stored = round((value - inter) / slope), clipped; slope 0: as is */
    int big_endian;      /* 1: written in the other byte order (for tests of readers) */
    int qform_only;      /* 1: the orientation goes into the qform alone (no shear, else COV_USAGE) */
} nifti_layout;

/* The layout of most files: axes as canonical in RAS+ direction, NIfTI-1, as is. */
nifti_layout nifti_layout_plain(nifti_type type);

/* hu: (nz, ny, nx) int16 canonical (LPS+ indices); affine: canonical index -> RAS+ mm. A mask goes the same way, its
 * bytes widened by the caller. */
status nifti_write_canonical(const char *path, const int16_t *hu, int64_t nx, int64_t ny, int64_t nz,
                             const double affine[4][4], const nifti_layout *layout);
/* The same for a mask of bytes; the layout's type must be NIFTI_U8 and its slope 0. */
status nifti_write_canonical_u8(const char *path, const uint8_t *mask, int64_t nx, int64_t ny, int64_t nz,
                                const double affine[4][4], const nifti_layout *layout);
#endif
