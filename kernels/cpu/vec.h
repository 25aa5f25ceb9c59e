/* vec: the vectorised building blocks of the cpu backend.
 *
 * A leaf kernel walks one contiguous piece; it is compiled for several instruction sets (VEC_CLONES) and the
 * loader picks one, so one binary serves every node. Leaves are called from OpenMP loops in plain functions, because
 * gcc does not clone an outlined parallel region. Element access goes through vec_get/vec_put with a constant
 * `bf16`, so that each leaf is one loop for both types. */
#ifndef COV_KERNELS_CPU_VEC_H
#define COV_KERNELS_CPU_VEC_H
#include "kernels/cpu/cpu.h"
#include <string.h>

#define VEC_CLONES __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#define VEC_INLINE static inline __attribute__((always_inline))

/* Elements of one piece of work in element-wise ops; a fixed block of sums. */
enum { VEC_PIECE = 16384 };

VEC_INLINE float vec_float(uint16_t b)
{
    union { uint32_t u; float f; } v = {.u = (uint32_t)b << 16};
    return v.f;
}

/* Round to nearest even; NaN stays NaN. */
VEC_INLINE uint16_t vec_bf16(float f)
{
    union { float f; uint32_t u; } v = {.f = f};
    uint32_t rounded = (v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16;
    uint32_t nan = (v.u >> 16) | 0x40u;
    return (uint16_t)((v.u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

VEC_INLINE float vec_get(const void *x, int bf16, size_t i)
{
    return bf16 ? vec_float(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

VEC_INLINE void vec_put(void *y, int bf16, size_t i, float v)
{
    if (bf16) ((uint16_t *)y)[i] = vec_bf16(v);
    else ((float *)y)[i] = v;
}

/* Sixteen floats: one register of AVX-512, two of AVX2. Passed by pointer only: by value the ABI would depend on the
 * instruction set. */
typedef float vec16 __attribute__((vector_size(64)));
typedef uint32_t vec16u __attribute__((vector_size(64)));
typedef uint16_t vec16h __attribute__((vector_size(32)));

VEC_INLINE void vec_load(vec16 *v, const void *x, int bf16, size_t i)
{
    if (bf16) {
        vec16h h;
        memcpy(&h, (const uint16_t *)x + i, sizeof h);
        vec16u w = __builtin_convertvector(h, vec16u) << 16;
        *v = (vec16)w;
    } else memcpy(v, (const float *)x + i, sizeof *v);
}

VEC_INLINE void vec_store(void *y, int bf16, size_t i, const vec16 *v)
{
    if (bf16) {
        vec16u u = (vec16u)*v, high = u >> 16, rounded = (u + 0x7fffu + (high & 1u)) >> 16;
        vec16u nan = (vec16u)((u & 0x7fffffffu) > 0x7f800000u);
        vec16h h = __builtin_convertvector((nan & (high | 0x40u)) | (~nan & rounded), vec16h);
        memcpy((uint16_t *)y + i, &h, sizeof h);
    } else memcpy((float *)y + i, v, sizeof *v);
}

/* The first n < 16 elements only; the rest of *v becomes 0. */
VEC_INLINE void vec_load_part(vec16 *v, const void *x, int bf16, size_t i, size_t n)
{
    char room[64] = {0};
    memcpy(room, (const char *)x + (bf16 ? 2 : 4) * i, (bf16 ? 2 : 4) * n);
    vec_load(v, room, bf16, 0);
}

VEC_INLINE void vec_store_part(void *y, int bf16, size_t i, const vec16 *v, size_t n)
{
    char room[64];
    vec_store(room, bf16, 0, v);
    memcpy((char *)y + (bf16 ? 2 : 4) * i, room, (bf16 ? 2 : 4) * n);
}

/* v where m > 0, else 0. */
VEC_INLINE void vec_where_positive(vec16 *v, const vec16 *m) { *v = (vec16)((vec16u)*v & (vec16u)(*m > 0.0f)); }

VEC_INLINE size_t vec_bytes(int bf16, size_t n) { return bf16 ? n * 2 : n * 4; }

/* out = y > 0 ? dy : 0. */
void vec_mask(device *d, tensor_type type, size_t n, const void *y, const void *dy, void *out);
#endif
