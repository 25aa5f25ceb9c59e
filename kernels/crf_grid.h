/* crf_grid: the bilateral grid that backends sum the appearance kernel on: its geometry, the same for all of them.
 *
 * A grid has a node every `cell` pixels along y and x (theta/3 or, rounded for speed, theta/2.5 and less) and every
 * theta_beta/3 of intensity. A filter pass is: splat
 * (each pixel's value goes to its 8 nodes, linearly), a Gaussian along each axis, slice (each pixel reads its 8 nodes,
 * linearly). Splat and slice blur by themselves, by (1 - 1/cell^2)/6 cells^2 each where positions are whole pixels and
 * 1/6 where they are not; the Gaussian has that much less variance. Without an intensity axis (per_gray 0) the same
 * grid serves a wide smoothness kernel. */
#ifndef COV_KERNELS_CRF_GRID_H
#define COV_KERNELS_CRF_GRID_H
#include "base/status.h"
#include <stdint.h>

enum {
    CRF_RADIUS = 31,   /* the longest one-sided filter, in nodes or pixels */
    CRF_LANES = 16,    /* rows and intensity columns are padded to a multiple of this many floats */
    CRF_SPLAT_CELL = 16, /* cells of at least so many pixels are splatted tile by tile */
    CRF_LEVELS_A_SIGMA = 3
};

typedef struct crf_grid {
    int cell;           /* pixels from node to node */
    int64_t ny, nx;     /* nodes */
    int levels, depth;  /* intensity nodes in use; the same padded */
    float per_gray;     /* intensity nodes a gray level; 0 where intensity plays no part */
    int radius, radius_i;
    float taps[CRF_RADIUS + 1], taps_i[CRF_RADIUS + 1];
    int64_t nodes;      /* floats in one grid array: ny * nx * depth */
} crf_grid;

/* Geometry for an image of h x w. theta_beta 0: no intensity axis. Local; cannot fail for sizes that crf_check took. */
crf_grid crf_grid_plan(int64_t h, int64_t w, float theta, float theta_beta);
/* One-sided taps exp(-k^2 / 2 variance), and the radius beyond which nothing is left worth adding. */
int crf_grid_taps(double variance, float taps[CRF_RADIUS + 1]);
#endif
