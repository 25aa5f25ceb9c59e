/* crf_rows: the inner loops of the CPU's CRF, one table for each instruction set. Internal to kernels/cpu.
 *
 * Rows are padded to a multiple of CRF_LANES floats and hold zeros there; nothing here allocates or fails. The order of
 * every sum is fixed by the sizes alone. */
#ifndef COV_KERNELS_CPU_CRF_ROWS_H
#define COV_KERNELS_CPU_CRF_ROWS_H
#include "kernels/crf_grid.h"
#include "kernels/crf.h"

enum {
    CRF_ROWS = 4,           /* rows that the vertical filter makes at once */
    CRF_MARGIN = 2 * CRF_LANES, /* zeros on either side of a row that the horizontal filter reads; above CRF_RADIUS */
    CRF_COPIES = 8,         /* private copies of a tile's sums while splatting: row y has copy y % 8 */
    CRF_BIN = 8             /* floats a bin of a tile: 4 spatial nodes x 2 intensity nodes */
};

/* One row of the update l = logit + wa*a*A + ws*s*S, d = tanh(l/2). Arrays of n floats unless said otherwise. */
typedef struct crf_update {
    int64_t n;           /* multiple of CRF_LANES */
    float wa, ws;
    const float *logit;
    const float *scale_a, *scale_s; /* 1/sqrt(row sum), scale_s times row_s; 0 in the padding */
    float row_s;
    const float *sum_a, *sum_s;     /* A and S: the kernels' plain sums of the scaled d */
    const float *level;  /* intensity in nodes of the grid */
    const float *before; /* scale_s * d of the iteration before */
    float *after;        /* out: scale_s * d */
    float *pairs;        /* out, 2n: scale_a * d * (1-f) and * f, f the fraction of level */
    float tolerance;     /* of d */
} crf_update;

/* One row of pixels read from the grid. */
typedef struct crf_slice {
    const crf_grid *grid;
    const float *nodes; /* the grid row above, and the one below right behind it */
    float fy;           /* where the row lies between them, 0..1 */
    const float *fx;    /* the same along x, for each pixel of a cell */
    const float *level; /* n */
    float *profile;     /* scratch: nx * depth + CRF_LANES */
    float *sum;         /* out, n */
    int64_t n;
} crf_slice;

/* One row of tiles added to the grid. */
typedef struct crf_splat {
    const crf_grid *grid;
    float *nodes;           /* as above */
    const float *fx;        /* for each pixel of a cell */
    const float *pairs;     /* rows x stride floats */
    int64_t stride;
    const uint16_t *bins;   /* first intensity node times CRF_BIN * CRF_COPIES: [rows / 8][padded n][8] */
    int64_t bin_stride;     /* padded n times 8 */
    const uint16_t *range;  /* for each tile the lowest and the highest first node */
    int64_t n;              /* pixels a row, without padding */
    int rows;               /* at most cell */
    float *scratch;         /* CRF_COPIES * levels * CRF_BIN + cell * CRF_BIN */
} crf_splat;

/* One row of the appearance kernel summed without a grid, over a window of (2 radius + 1)^2 pixels. */
typedef struct crf_window {
    int64_t n, stride;
    int radius;
    const float *taps;  /* radius + 1 */
    const float *value; /* the row's own first pixel; radius pixels around the image are zero */
    const float *level; /* the same; intensity in units of theta_beta / CRF_LEVELS_A_SIGMA */
    float *sum;         /* out, n */
} crf_window;

typedef struct crf_rows {
    const char *name;
    /* out[r][x] = sum_k taps[|k|] row[radius + r + k][x] for r < CRF_ROWS; rows: CRF_ROWS + 2 radius pointers. */
    void (*columns)(const float *const *rows, int radius, const float *taps, int64_t n, float *out, int64_t stride);
    /* out[x] = sum_k taps[|k|] in[x+k]; in has CRF_MARGIN readable floats on either side. */
    void (*row)(const float *in, int radius, const float *taps, int64_t n, float *out);
    /* The same along an axis of `count` vectors of `run` floats that lie `run` apart; zeros outside. */
    void (*axis)(const float *in, float *out, int64_t count, int64_t run, int radius, const float *taps);
    void (*slice)(const crf_slice *s);
    void (*splat)(const crf_splat *s);
    void (*window)(const crf_window *s);
    /* The largest |after - before| - scale_s * tolerance: above 0 while a pixel of the row still moves. */
    float (*update)(const crf_update *u);
} crf_rows;

/* The fastest table that this processor can run; the k-th best for tests, NULL past the end. Static. */
const crf_rows *crf_rows_best(void);
const crf_rows *crf_rows_at(int k);

/* cpu_crf with a table of the caller's choice, so that tests reach them all. Arrays as in crf_batch, host memory. */
status crf_rows_run(const crf_rows *rows, int threads, const crf_options *o, const crf_batch *b);

/* AVX-512's own way to slice: the intensity profile of a cell's edge is held in registers and looked up there. Needs
 * cells of a multiple of CRF_LANES pixels and at most 64 levels. */
void crf_slice_avx512(const crf_slice *s);
#endif
