/* nifti_file: one NIfTI-1 or NIfTI-2 study open for reading: the header checked, the voxels as a stream of
 * stored values. Shared by the CT reader and the mask reader. Local.
 *
 * Semantics, where the standard leaves room: sform wins over qform, qform over pixdim alone (then i, j, k run to
 * R, A, S, as libnifti has it); a slope of 0 means no scaling; spatial units of metres and micrometres are brought
 * to millimetres; dimensions above the third must be 1. */
#ifndef COV_DATA_NIFTI_FILE_H
#define COV_DATA_NIFTI_FILE_H
#include "data/volume.h"
#include <stdbool.h>
#include <zlib.h>

typedef struct nifti_file {
    volume_header head;
    int type;              /* NIfTI datatype code: one of the ten real scalar types */
    size_t element_bytes;  /* 1, 2, 4 or 8 */
    bool swap;             /* stored in the other byte order */
    bool scaled;           /* slope and inter are to be applied */
    double slope, inter;
    int64_t offset;        /* of the first voxel, in the image file */
    char *header_path, *image_path; /* owned; equal texts for a one-file study */
    gzFile in;             /* the image, once started */
} nifti_file;

/* Reads and checks the header, finds the image and checks its size: COV_FORMAT, COV_UNSUPPORTED or COV_IO with
 * *why set otherwise. On failure f holds nothing. */
status nifti_file_open(const char *path, nifti_file *f, reason *why);
/* Opens the image and goes to the first voxel. */
status nifti_file_start(nifti_file *f, reason *why);
/* The next `bytes` bytes as stored, all or TRUNCATED / CORRUPT. */
status nifti_file_read(nifti_file *f, void *to, size_t bytes, reason *why);
/* After the last voxel: reads on to the gzip checksum, which tells a damaged image. */
status nifti_file_finish(nifti_file *f, reason *why);
void nifti_file_close(nifti_file *f); /* accepts a zeroed one */

/* Brings count stored values to this machine's byte order, in place. */
void nifti_file_unswap(const nifti_file *f, void *values, size_t count);
/* count values (host order) as doubles, slope and intercept applied. */
void nifti_file_doubles(const nifti_file *f, const void *values, size_t count, double *out);

/* True where the name is that of a header's image (.img or .img.gz) and the header lies beside it. */
bool nifti_file_is_image_of_pair(const char *path);
/* The image beside the header of a pair (malloc); NULL where the name is no header's, or no image is there. */
char *nifti_file_image_of(const char *path);
#endif
