/* vec_avx512: the names of a body's functions for AVX-512 with bf16; see vec.h. A file whose loops exist for these
 * processors alone includes this once instead of vec_isas.h. */
#include <immintrin.h>

#define VEC(f) f##_avx512
#define VEC_TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define VEC_STEP VEC_TARGET __attribute__((always_inline, unused)) static inline
#define VEC_HAS_BF16 1
#define VEC_FLOATS 16
#ifndef VEC_LEAF
#define VEC_LEAF VEC_TARGET static
#endif
#include "kernels/cpu/vec_body.h"
