/* plane: the planes of a volume that a network looks at one by one, and the parts of it that the CRF works on: geometry
 * and formulas that all backends share. In: sizes, from whoever knows what the volume shows; the work is the backend's
 * (plane_cut and those below it in backend.h).
 *
 * A volume is (nz, ny, nx), x fastest, and so is an array of one number a voxel. Planes are its slices [y][x] or,
 * sagittal, [z][y] at some x. Plane k of `all` sagittal ones stands for the voxels plane_first_x(k) .. plane_first_x(k+1)-1
 * and shows the middle one; each voxel has exactly one plane. Resampling is bilinear with half-pixel centres (tap.h). */
#ifndef COV_KERNELS_PLANE_H
#define COV_KERNELS_PLANE_H
#include "base/status.h"
#include "kernels/both.h"
#include <stdint.h>

enum { PLANE_COLS_MOST = 512, PLANE_FRAME_COLS_MOST = 2048, PLANE_STACK = 3 };

typedef struct plane_set {
    int sagittal;
    int64_t nx, ny, nz;               /* of the volume */
    int64_t planes, first, all;       /* how many are in use, from which on, and how many there are */
    int64_t x0, width;                /* the x that the sagittal planes in use stand for; slices: 0, nx */
    int64_t rows, cols;               /* of a network's input */
    int64_t row0, col0;               /* where the part begins that shows the volume; the rest is padding */
    int64_t used_rows, used_cols;     /* its size; used_cols at most PLANE_COLS_MOST */
} plane_set;

/* Of plane k of those in use: the first x that it stands for, and the x that it shows. */
COV_BOTH static inline int64_t plane_first_x(const plane_set *p, int64_t k) { return (p->first + k) * p->nx / p->all; }
COV_BOTH static inline int64_t plane_middle_x(const plane_set *p, int64_t k) { return (plane_first_x(p, k) + plane_first_x(p, k + 1)) / 2; }

/* The numbers low .. low + width are shown as 0 .. 1, those beyond are clipped; width > 0. */
typedef struct plane_range {
    float low, width;
} plane_range;

COV_BOTH static inline float plane_shown(plane_range r, float v)
{
    v = (v - r.low) / r.width; /* divided, not multiplied by 1/width: 1 stays exactly 1 */
    v = v > 0.0f ? v : 0.0f;
    return v < 1.0f ? v : 1.0f;
}

/* How a second number of a voxel changes a first one, by whether the volume is above `level` there. */
typedef struct plane_blend {
    int16_t level;
    float weight[2], offset[2]; /* [0]: at most `level`; [1]: above it */
} plane_blend;

/* Weight 1: the second number alone, to the bit. */
COV_BOTH static inline float plane_blended(plane_blend b, int16_t at, float first, float second)
{
    float weight = at > b.level ? b.weight[1] : b.weight[0], offset = at > b.level ? b.offset[1] : b.offset[0];
    return (weight >= 1.0f ? second : first + weight * (second - first)) + offset;
}

/* A box of neighbouring slices of a volume. */
typedef struct plane_part {
    int64_t nx, ny, nz;  /* of the volume */
    int64_t x0, y0, z0;  /* its first voxel */
    int64_t w, h, n;     /* its size along x, y and z; n may be 0 */
} plane_part;

/* Where a slice has numbers above 0: rows y0 .. y1-1, columns x0 .. x1-1; all 0 where it has none. */
typedef struct plane_bound {
    int32_t y0, y1, x0, x1;
} plane_bound;

/* Where a network's input lies on a slice: a canvas, whatever the slice's own size, shows the whole of it; the input is a window of
 * the canvas. */
typedef struct plane_frame {
    int64_t ny, nx;        /* the slice, pixels */
    int64_t height, width; /* the canvas */
    int64_t y0, x0;        /* the input's first pixel on it; may lie outside */
    int64_t rows, cols;    /* the input; cols at most PLANE_FRAME_COLS_MOST */
} plane_frame;

/* Neighbouring slices that become the channels of one input. */
typedef struct plane_slices {
    const int16_t *slice[PLANE_STACK]; /* (ny,nx) each, borrowed; NULL: 0 */
    const uint8_t *near[PLANE_STACK];  /* (ny,nx) each, borrowed: what is 0 here is shown as 0; NULL: all is shown */
} plane_slices;

/* The sample of n that pixel `at` of a canvas of `size` lies in. */
COV_BOTH static inline int64_t plane_nearest(int64_t at, int64_t size, int64_t n) { return (2 * at + 1) * n / (2 * size); }

/* near (ny,nx) is 1 within an ellipse of ry x rx pixels around a pixel that is not 0 in mask (ny,nx), else 0. Host memory: for the
 * CPU's table, and for samplers, which have no device. */
void plane_near_on_host(int64_t ny, int64_t nx, double ry, double rx, const uint8_t *mask, uint8_t *near);

/* For backends: COV_BROKEN for sizes that do not fit together, for planes first .. first+count-1 or a part that is not
 * there, or where bytes cannot be counted. Local. */
status plane_set_check(const plane_set *p, int64_t first, int64_t count);
status plane_fuse_check(const plane_set *p, int64_t reach);
status plane_part_check(const plane_part *p);
status plane_volume_check(int64_t nz, int64_t ny, int64_t nx);
status plane_near_check(int64_t ny, int64_t nx, double ry, double rx);
status plane_frame_check(const plane_frame *f);
status plane_keep_check(const plane_frame *f, float least);
status plane_regions_check(int64_t ny, int64_t nx); /* labels must be able to number the pixels */
#endif
