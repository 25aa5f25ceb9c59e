/* vec_isas: compiles VEC_BODY, a file of loops, once for each instruction set; see vec.h. No include guard: a file
 * includes it once, after defining VEC_BODY. The plain version is for correctness on old processors: its steps are
 * not inlined, which keeps it small. */
#define VEC_LEAF VEC_TARGET static

#define VEC(f) f##_plain
#define VEC_TARGET
#define VEC_STEP __attribute__((noinline, unused)) static
#define VEC_HAS_BF16 0
#define VEC_FLOATS 8
#include "kernels/cpu/vec_body.h"
#include VEC_BODY
#undef VEC
#undef VEC_TARGET
#undef VEC_STEP

#define VEC(f) f##_avx2
#define VEC_STEP VEC_TARGET __attribute__((always_inline, unused)) static inline
/* tune: else gcc 12 copies a vec16 in quarters, through general registers. Norms run 1.2 to 1.7 times, ROI Align
 * 3 times faster on Zen 3. */
#define VEC_TARGET __attribute__((target("avx2,fma,tune=skylake-avx512")))
#include "kernels/cpu/vec_body.h"
#include VEC_BODY
#undef VEC
#undef VEC_TARGET
#undef VEC_STEP
#undef VEC_HAS_BF16
#undef VEC_FLOATS

#include "kernels/cpu/vec_avx512.h"
#include VEC_BODY
#undef VEC
#undef VEC_TARGET
#undef VEC_STEP
#undef VEC_HAS_BF16
#undef VEC_FLOATS
