/* amx: what the cpu backend's own loops on AMX tiles share. For conv_amx.c and wgrad_amx.c alone: functions of AMX_LEAF
 * and AMX_STEP may run only where device.amx says so. */
#ifndef COV_KERNELS_CPU_AMX_H
#define COV_KERNELS_CPU_AMX_H
#include <immintrin.h>
#include <stdint.h>

enum {
    AMX_SIDE = 16, /* rows of a tile, and sums in one */
    AMX_TILE = AMX_SIDE * AMX_SIDE
};

/* Called from outside, and inlined in one of those. */
#define AMX_SETS "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,prfchw,amx-tile,amx-bf16"
#define AMX_TARGET __attribute__((target(AMX_SETS)))
#define AMX_LEAF AMX_TARGET static
#define AMX_STEP AMX_TARGET __attribute__((always_inline, unused)) static inline

static inline int64_t amx_ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t amx_fewer(int64_t a, int64_t b) { return a < b ? a : b; }

/* The tiles' sizes as the processor wants them. */
typedef struct amx_tiles {
    uint8_t palette, start, zero[14];
    uint16_t bytes[16]; /* of a row */
    uint8_t rows[16];
} amx_tiles;

/* The barrier: gcc 12 believes that _tile_loadconfig reads eight bytes, and leaves out stores to the others. */
AMX_STEP void amx_configure(const amx_tiles *c)
{
    __asm__ volatile("" : : "r"(c) : "memory");
    _tile_loadconfig(c);
}

/* Turns sixteen rows of sixteen 32-bit numbers over. */
AMX_STEP void amx_turn(__m512i r[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int q = 0; q < 4; q++) {
        t[q] = _mm512_shuffle_i32x4(r[q], r[q + 4], 0x88);
        t[q + 4] = _mm512_shuffle_i32x4(r[q], r[q + 4], 0xdd);
        t[q + 8] = _mm512_shuffle_i32x4(r[q + 8], r[q + 12], 0x88);
        t[q + 12] = _mm512_shuffle_i32x4(r[q + 8], r[q + 12], 0xdd);
    }
    for (int q = 0; q < 4; q++) {
        r[q] = _mm512_shuffle_i32x4(t[q], t[q + 8], 0x88);
        r[q + 4] = _mm512_shuffle_i32x4(t[q + 4], t[q + 12], 0x88);
        r[q + 8] = _mm512_shuffle_i32x4(t[q], t[q + 8], 0xdd);
        r[q + 12] = _mm512_shuffle_i32x4(t[q + 4], t[q + 12], 0xdd);
    }
}
#endif
