/* crf_rows: the tables. The loops are written once, in crf_rows_body.h, with vectors of the compiler, and compiled for
 * plain x86-64, AVX2 and AVX-512; which one runs is asked of the processor. */
#include "kernels/cpu/crf_rows.h"
#include <stddef.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wpsabi" /* vectors are handed to functions that are always inlined only */

#define NAME(f) f##_plain
#define LANES 4
#define INTERLEAVE(i) (i), 4 + (i), (i) + 1, 5 + (i)
#define TARGET
#include "kernels/cpu/crf_rows_body.h"
#undef NAME
#undef LANES
#undef INTERLEAVE
#undef TARGET

#define NAME(f) f##_avx2
#define LANES 8
#define INTERLEAVE(i) (i), 8 + (i), (i) + 1, 9 + (i), (i) + 2, 10 + (i), (i) + 3, 11 + (i)
#define TARGET __attribute__((target("avx2,fma")))
#include "kernels/cpu/crf_rows_body.h"
#undef NAME
#undef LANES
#undef INTERLEAVE
#undef TARGET

#define NAME(f) f##_avx512
#define LANES 16
#define INTERLEAVE(i)                                                                                            \
    (i), 16 + (i), (i) + 1, 17 + (i), (i) + 2, 18 + (i), (i) + 3, 19 + (i), (i) + 4, 20 + (i), (i) + 5, 21 + (i), \
        (i) + 6, 22 + (i), (i) + 7, 23 + (i)
#define TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")))
#include "kernels/cpu/crf_rows_body.h"
#undef NAME
#undef LANES
#undef INTERLEAVE
#undef TARGET

static void slice_wide(const crf_slice *s)
{
    if (s->grid->cell % CRF_LANES == 0 && s->grid->levels <= 64) crf_slice_avx512(s);
    else slice_avx512(s);
}

static const crf_rows wide = {"avx512",   columns_avx512, row_avx512,    axis_avx512,
                              slice_wide, splat_avx512,   window_avx512, update_avx512};
static const crf_rows middle = {"avx2",     columns_avx2, row_avx2,    axis_avx2,
                                slice_avx2, splat_avx2,   window_avx2, update_avx2};
static const crf_rows plain = {"plain",     columns_plain, row_plain,    axis_plain,
                               slice_plain, splat_plain,   window_plain, update_plain};

const crf_rows *crf_rows_at(int k)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && k-- == 0)
        return &wide;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && k-- == 0) return &middle;
    return k == 0 ? &plain : NULL;
}

const crf_rows *crf_rows_best(void) { return crf_rows_at(0); }
