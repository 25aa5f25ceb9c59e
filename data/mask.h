/* mask: label volumes and label slices for training and evaluation, brought to canonical order. Any NIfTI integer or
 * float type; values are rounded after slope and intercept. Local. */
#ifndef COV_DATA_MASK_H
#define COV_DATA_MASK_H
#include "data/volume.h"

typedef struct mask {
    volume_header head;
    uint8_t *label; /* (nz, ny, nx); labels 0 ... 255; owned */
} mask;

/* COV_FORMAT where a value is not a label (negative, above 255, more than 0.01 from a whole number), besides the
 * reader's own errors. *why as in data/reader.h. On failure *out is zeroed. */
status mask_read(const char *path, mask *out, reason *why);
/* COV_FORMAT unless the mask lies on the same grid as the volume (size, and affine within 1 % of a voxel). */
status mask_check_grid(const mask *m, const volume_header *of, const char *path);
void mask_free(mask *m); /* accepts a zeroed one */
/* A gray PNG of labels: 8-bit values above 0 become 1. rows * cols bytes; owned by the caller. */
status mask_read_slice(const char *path, int32_t *rows, int32_t *cols, uint8_t **out);
#endif
