/* volume: the canonical grid. Finds which stored axis is which anatomical one, moves voxels between the
 * stored and the canonical order, and measures a volume's values.
 *
 * The trap is the direction: axis[c] names the stored axis that canonical axis c runs along, so a walk in
 * stored order writes canonical memory with the steps of the inverse permutation. Where x is not the
 * fastest stored axis, copies go in tiles, because one voxel a cache line is ten times slower. */
#include "data/volume.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 32, VALUES = 65536 };
static const double SPACING_LEAST_MM = 0.01, SPACING_MOST_MM = 100;
static const double VOLUME_LEAST = 1e-2; /* of the cell spanned by the unit axes: below it they are nearly coplanar */

/* ---- copying ---- */

/* A copy of n[0] x n[1] x n[2] elements, each side with its own steps (in elements, may be negative). */
typedef struct walk {
    int64_t n[3];
    ptrdiff_t from_step[3], to_step[3];
} walk;

/* p is the axis that moves by one element in `to`, q the other axis of the tile, r the outermost. */
#define DEFINE_COPY(T)                                                                                                 \
    static void copy_##T(const walk *w, int p, int q, int r, const T *from, T *to)                                     \
    {                                                                                                                  \
        int64_t tile = w->from_step[p] == 1 ? w->n[p] : TILE; /* both sides contiguous: whole rows */                  \
        ptrdiff_t fp = w->from_step[p], tp = w->to_step[p];                                                            \
        for (int64_t c = 0; c < w->n[r]; c++)                                                                          \
            for (int64_t b0 = 0; b0 < w->n[q]; b0 += TILE)                                                             \
                for (int64_t a0 = 0; a0 < w->n[p]; a0 += tile) {                                                       \
                    int64_t b1 = b0 + TILE < w->n[q] ? b0 + TILE : w->n[q];                                            \
                    int64_t a1 = a0 + tile < w->n[p] ? a0 + tile : w->n[p];                                            \
                    for (int64_t b = b0; b < b1; b++) {                                                                \
                        const T *f = from + c * w->from_step[r] + b * w->from_step[q];                                 \
                        T *t = to + c * w->to_step[r] + b * w->to_step[q];                                             \
                        if (fp == 1 && tp == 1) memcpy(t + a0, f + a0, (size_t)(a1 - a0) * sizeof(T));                 \
                        else                                                                                           \
                            for (int64_t a = a0; a < a1; a++) t[a * tp] = f[a * fp];                                   \
                    }                                                                                                  \
                }                                                                                                      \
    }
DEFINE_COPY(uint8_t)
DEFINE_COPY(uint16_t)
DEFINE_COPY(uint32_t)

static void copy(const walk *w, const void *from, void *to, size_t element_bytes)
{
    int p = 0;
    while (p < 2 && labs(w->to_step[p]) != 1) p++;
    int q = p == 0 || labs(w->from_step[p]) == 1 ? (p + 1) % 3 : 0;
    for (int a = 0; a < 3; a++) /* the tile's other axis is the one contiguous in `from`, if that is not p */
        if (a != p && labs(w->from_step[a]) == 1) q = a;
    int r = 3 - p - q;
    if (element_bytes == 1) copy_uint8_t(w, p, q, r, from, to);
    else if (element_bytes == 2) copy_uint16_t(w, p, q, r, from, to);
    else if (element_bytes == 4) copy_uint32_t(w, p, q, r, from, to);
}

/* Canonical steps along the stored axes, and the canonical offset of stored voxel (0,0,0). */
static int64_t canonical_steps(const volume_header *h, ptrdiff_t step[3])
{
    const int64_t size[3] = {h->nx, h->ny, h->nz}, pitch[3] = {1, h->nx, h->nx * h->ny};
    int64_t origin = 0;
    for (int c = 0; c < 3; c++) {
        step[h->native.axis[c]] = h->native.flip[c] ? -pitch[c] : pitch[c];
        if (h->native.flip[c]) origin += (size[c] - 1) * pitch[c];
    }
    return origin;
}

void volume_put_slab(const volume_header *h, int64_t first, int64_t last, const void *from, void *canonical,
                     size_t element_bytes)
{
    const int64_t *size = h->native.size;
    walk w = {{size[0], size[1], last - first}, {1, size[0], size[0] * size[1]}, {0}};
    int64_t origin = canonical_steps(h, w.to_step) + first * w.to_step[2];
    copy(&w, from, (char *)canonical + origin * (int64_t)element_bytes, element_bytes);
}

void volume_from_native(const volume_header *h, const void *from, void *canonical, size_t element_bytes)
{
    volume_put_slab(h, 0, h->native.size[2], from, canonical, element_bytes);
}

void volume_to_native(const volume_header *h, const void *canonical, void *to, size_t element_bytes)
{
    const int64_t *size = h->native.size;
    walk w = {{size[0], size[1], size[2]}, {0}, {1, size[0], size[0] * size[1]}};
    int64_t origin = canonical_steps(h, w.from_step);
    copy(&w, (const char *)canonical + origin * (int64_t)element_bytes, to, element_bytes);
}

/* ---- orientation ---- */

/* Lengths of the columns; false if a number is not finite, a length out of range or the axes (nearly) coplanar. */
static bool affine_is_sound(const double m[4][4], double length[3])
{
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 4; c++)
            if (!isfinite(m[r][c]) || fabs(m[r][c]) > 1e9) return false;
    for (int c = 0; c < 3; c++) {
        length[c] = sqrt(m[0][c] * m[0][c] + m[1][c] * m[1][c] + m[2][c] * m[2][c]);
        if (length[c] < SPACING_LEAST_MM || length[c] > SPACING_MOST_MM) return false;
    }
    double det = m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
                 m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
    return fabs(det) > VOLUME_LEAST * length[0] * length[1] * length[2];
}

/* The permutation under which the stored axes point most along R, A and S; the first of equals. */
static void nearest_axes(const double m[4][4], const double length[3], int8_t axis[3])
{
    static const int8_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    double best = -1;
    for (int k = 0; k < 6; k++) {
        double along = 0;
        for (int c = 0; c < 3; c++) along += fabs(m[c][orders[k][c]]) / length[orders[k][c]];
        if (along > best + 1e-9) {
            best = along;
            memcpy(axis, orders[k], 3);
        }
    }
}

status volume_orient(const double native_affine[4][4], volume_header *h, reason *why)
{
    double length[3] = {0};
    volume_native *n = &h->native;
    if (!affine_is_sound(native_affine, length)) {
        *why = REASON_GEOMETRY;
        return COV_FAIL(COV_FORMAT,
                        "voxel axes (%g %g %g), (%g %g %g), (%g %g %g) mm are not finite, singular or their lengths "
                        "outside %g ... %g mm",
                        native_affine[0][0], native_affine[1][0], native_affine[2][0], native_affine[0][1],
                        native_affine[1][1], native_affine[2][1], native_affine[0][2], native_affine[1][2],
                        native_affine[2][2], SPACING_LEAST_MM, SPACING_MOST_MM);
    }
    nearest_axes(native_affine, length, n->axis);
    double affine[4][4] = {{0}};
    for (int r = 0; r < 3; r++) affine[r][3] = native_affine[r][3];
    affine[3][3] = 1;
    for (int c = 0; c < 3; c++) {
        int a = n->axis[c];
        /* L and P are the negative directions of RAS+, S the positive one. */
        n->flip[c] = c == 2 ? native_affine[c][a] < 0 : native_affine[c][a] > 0;
        h->spacing_mm[c] = length[a];
        for (int r = 0; r < 3; r++) {
            affine[r][c] = n->flip[c] ? 0 - native_affine[r][a] : native_affine[r][a]; /* no negative zeros */
            if (n->flip[c]) affine[r][3] += native_affine[r][a] * (double)(n->size[a] - 1);
        }
    }
    memcpy(h->affine, affine, sizeof affine);
    h->nx = n->size[n->axis[0]];
    h->ny = n->size[n->axis[1]];
    h->nz = n->size[n->axis[2]];
    return COV_OK;
}

/* ---- statistics ---- */

/* Two counters a value, taken in turn: a run of equal values would otherwise wait on its own last store. */
struct volume_histogram {
    uint32_t count[2][VALUES];
};

status volume_histogram_new(volume_histogram **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? COV_OK : COV_FAIL(COV_NOMEM, "no memory for a histogram");
}

void volume_histogram_free(volume_histogram **g)
{
    if (!g) return;
    free(*g);
    *g = NULL;
}

void volume_histogram_add(volume_histogram *g, const int16_t *hu, size_t count)
{
    size_t i = 0;
    for (; i + 1 < count; i += 2) {
        g->count[0][(uint16_t)hu[i]]++;
        g->count[1][(uint16_t)hu[i + 1]]++;
    }
    if (i < count) g->count[0][(uint16_t)hu[i]]++;
}

void volume_histogram_stats(const volume_histogram *g, volume_stats *out)
{
    uint64_t total = 0, air = 0, soft = 0, first = 0, last = 0;
    *out = (volume_stats){0};
    for (int v = INT16_MIN; v <= INT16_MAX; v++) {
        uint64_t n = (uint64_t)g->count[0][(uint16_t)v] + g->count[1][(uint16_t)v];
        if (!n) continue;
        if (!out->distinct++) {
            out->lowest = (int16_t)v;
            first = n;
        }
        out->highest = (int16_t)v;
        last = n;
        total += n;
        if (v <= -900) air += n;
        if (v > -200 && v < 200) soft += n;
    }
    if (!total) return;
    out->share_air = (double)air / (double)total;
    out->share_soft = (double)soft / (double)total;
    out->share_lowest = (double)first / (double)total;
    out->share_highest = (double)last / (double)total;
}

void volume_extent(const volume *v, int64_t z, int64_t *rows, int64_t *cols)
{
    const int16_t *slice = v->hu + z * v->head.ny * v->head.nx;
    *rows = v->head.ny;
    *cols = v->head.nx;
    if (!v->head.isolated) return;
    while (*cols > 0 && slice[*cols - 1] == VOLUME_OUTSIDE) --*cols;
    while (*rows > 0 && slice[(*rows - 1) * v->head.nx] == VOLUME_OUTSIDE) --*rows;
}
