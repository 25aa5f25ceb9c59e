/* vec: how the cpu backend's own loops are compiled for several instruction sets and picked when they run.
 *
 * A file that has loops keeps them in a body, written once with vectors of sixteen floats, and includes vec_isas.h,
 * which compiles the body for plain x86-64, AVX2, and AVX-512 with bf16: one binary serves every node. In a
 * body every function is called VEC(name) and begins with VEC_LEAF (called from outside) or VEC_STEP (inlined). Outside,
 * VEC_TABLE makes the table of one leaf's versions and VEC_PICK takes the processor's. Leaves are called from OpenMP loops
 * in plain functions. Element access goes through vec_load and vec_store with a constant `bf16`, so a leaf is
 * one loop for both types. */
#ifndef COV_KERNELS_CPU_VEC_H
#define COV_KERNELS_CPU_VEC_H
#include "kernels/cpu/cpu.h"
#include <string.h>

/* Elements of one piece of work in element-wise ops; a fixed block of sums. */
enum { VEC_PIECE = 16384 };

/* Sixteen floats: one register of AVX-512, two of AVX2. Handed over by pointer: by value the ABI would depend on the
 * instruction set. */
typedef float vec16 __attribute__((vector_size(64)));
typedef uint32_t vec16u __attribute__((vector_size(64)));
typedef int32_t vec16i __attribute__((vector_size(64)));
typedef uint16_t vec16h __attribute__((vector_size(32)));

/* Versions of a leaf, in the order of device.isa. */
#define VEC_TABLE(type, name) \
    static type *const name##_table[] = {name##_plain, name##_avx2, name##_avx512}
#define VEC_PICK(d, name) (name##_table[(d)->isa])

/* What this processor can do, as an index of such a table. */
int vec_isa(void);
/* 1: it has AMX tiles for bf16. Asks the system for them, which a process has to do once. */
int vec_amx(void);

static inline float vec_float(uint16_t b)
{
    union { uint32_t u; float f; } v = {.u = (uint32_t)b << 16};
    return v.f;
}

/* Round to nearest even; NaN stays NaN. */
static inline uint16_t vec_bf16(float f)
{
    union { float f; uint32_t u; } v = {.f = f};
    uint32_t rounded = (v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16;
    uint32_t nan = (v.u >> 16) | 0x40u;
    return (uint16_t)((v.u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

static inline float vec_get(const void *x, int bf16, size_t i)
{
    return bf16 ? vec_float(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

static inline void vec_put(void *y, int bf16, size_t i, float v)
{
    if (bf16) ((uint16_t *)y)[i] = vec_bf16(v);
    else ((float *)y)[i] = v;
}

static inline size_t vec_bytes(int bf16, size_t n) { return bf16 ? n * 2 : n * 4; }

/* The least common multiple of c and 16: after so many elements, pixels and vectors end together. */
static inline int64_t vec_lanes(int64_t c)
{
    const int64_t low = c & -c; /* the largest power of two that divides c */
    return c / (low < 16 ? low : 16) * 16;
}

/* out = y > 0 ? dy : 0. */
void vec_mask(device *d, tensor_type type, size_t n, const void *y, const void *dy, void *out);
/* y += bias for each of `rows` pixels of c channels, then a ReLU if asked. */
status vec_bias(device *d, tensor_type type, int64_t rows, int64_t c, const float *bias, int relu, void *y);
/* sum += the sum of y over the pixels, by channel; fixed order. */
status vec_column_sums(device *d, tensor_type type, int64_t rows, int64_t c, const void *y, float *sum);
#endif
