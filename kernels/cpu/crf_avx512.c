/* crf_slice_avx512: reading the grid with the tables in registers.
 *
 * All pixels of one cell in one row lie between the same two nodes along x, so after the blend along y they need two
 * short columns of values, one entry an intensity level: at most 64 floats, four registers. A two-register permutation
 * looks up sixteen of them at once, where a gather would go to memory for each. A second table holds the step to the
 * next level. */
#include "kernels/cpu/crf_rows.h"
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))

typedef struct column {
    __m512 value[4], step[4];
} column;

/* p[0..depth): only `tables` registers of it are in use. */
TARGET static inline __attribute__((always_inline)) void load(column *c, const float *p, int tables)
{
    for (int t = 0; t < tables; t++) {
        c->value[t] = _mm512_loadu_ps(p + 16 * t);
        c->step[t] = _mm512_sub_ps(_mm512_loadu_ps(p + 16 * t + 1), c->value[t]);
    }
}

TARGET static inline __attribute__((always_inline)) __m512 look(const __m512 *t, int tables, __m512i b, __mmask16 high)
{
    if (tables == 1) return _mm512_permutexvar_ps(b, t[0]);
    __m512 low = _mm512_permutex2var_ps(t[0], b, t[1]);
    if (tables == 2) return low;
    if (tables == 3) return _mm512_mask_permutexvar_ps(low, high, b, t[2]);
    return _mm512_mask_blend_ps(high, low, _mm512_permutex2var_ps(t[2], b, t[3]));
}

TARGET static inline __attribute__((always_inline)) void slice(const crf_slice *s, int tables)
{
    const crf_grid *g = s->grid;
    int64_t row = g->nx * g->depth;
    __m512 fy = _mm512_set1_ps(s->fy);
    for (int64_t i = 0; i < row; i += 16) {
        __m512 top = _mm512_loadu_ps(s->nodes + i), bottom = _mm512_loadu_ps(s->nodes + row + i);
        _mm512_storeu_ps(s->profile + i, _mm512_fmadd_ps(fy, _mm512_sub_ps(bottom, top), top));
    }
    column left, right;
    load(&right, s->profile, tables);
    for (int64_t x0 = 0, tile = 0; x0 < s->n; x0 += g->cell, tile++) {
        left = right;
        load(&right, s->profile + (tile + 1) * g->depth, tables);
        int64_t count = x0 + g->cell < s->n ? g->cell : s->n - x0;
        for (int64_t x = 0; x < count; x += 16) {
            __m512 level = _mm512_loadu_ps(s->level + x0 + x), fx = _mm512_loadu_ps(s->fx + x);
            __m512i b = _mm512_cvttps_epi32(level);
            __m512 f = _mm512_sub_ps(level, _mm512_cvtepi32_ps(b));
            __mmask16 high = _mm512_cmpge_epi32_mask(b, _mm512_set1_epi32(32));
            __m512 p = _mm512_fmadd_ps(f, look(left.step, tables, b, high), look(left.value, tables, b, high));
            __m512 q = _mm512_fmadd_ps(f, look(right.step, tables, b, high), look(right.value, tables, b, high));
            _mm512_storeu_ps(s->sum + x0 + x, _mm512_fmadd_ps(fx, _mm512_sub_ps(q, p), p));
        }
    }
}

TARGET void crf_slice_avx512(const crf_slice *s)
{
    if (s->grid->levels <= 16) slice(s, 1);
    else if (s->grid->levels <= 32) slice(s, 2);
    else if (s->grid->levels <= 48) slice(s, 3);
    else slice(s, 4);
}
