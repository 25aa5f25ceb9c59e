/* image: gray PNG in, gray or RGB PNG out, through libpng. Every size is checked before it is allocated, and a
 * damaged file is an error, never a partly filled image. Files are written under a temporary name, synced and
 * renamed. Local. */
#ifndef COV_DATA_IMAGE_H
#define COV_DATA_IMAGE_H
#include "base/status.h"
#include "data/reason.h"
#include <stddef.h>
#include <stdint.h>

enum { IMAGE_SIDE_MOST = 8192 };

typedef struct image {
    int32_t rows, cols; /* 1 ... IMAGE_SIDE_MOST */
    int bits;           /* 8 or 16; 1, 2 and 4 bits are widened to 8 (0 ... 255) */
    uint16_t *px;       /* (rows, cols), as stored: 0 ... 255 or 0 ... 65535; owned; NULL from image_header */
} image;

/* Size and depth alone. COV_UNSUPPORTED and NOT_3D for colour, palette or alpha; COV_FORMAT and BAD_HEADER,
 * TRUNCATED, CORRUPT or TOO_LARGE; COV_IO and IO_ERROR. */
status image_header(const char *path, image *out, reason *why);
status image_read(const char *path, image *out, reason *why);
void image_free(image *i); /* accepts a zeroed one */

/* (rows, cols), owned by the caller: stored values as float, or as bytes (a 16-bit image is COV_UNSUPPORTED). */
status image_read_float(const char *path, int32_t *rows, int32_t *cols, float **out);
status image_read_u8(const char *path, int32_t *rows, int32_t *cols, uint8_t **out);

/* Classes drawn in colours: a palette's indices, or a gray image's bytes. */
status image_read_classes(const char *path, int32_t *rows, int32_t *cols, uint8_t **out);

/* px: (rows, cols) gray or (rows, cols, 3) RGB; borrowed. */
status image_write_gray(const char *path, int32_t rows, int32_t cols, const uint8_t *px);
status image_write_gray16(const char *path, int32_t rows, int32_t cols, const uint16_t *px);
status image_write_rgb(const char *path, int32_t rows, int32_t cols, const uint8_t *px);
#endif
