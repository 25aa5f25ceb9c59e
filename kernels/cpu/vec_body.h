/* vec_body: loads, stores and the few functions of a vector that the bodies share, for one instruction set; see
 * vec.h. No include guard. */

VEC_STEP void VEC(vec_load)(vec16 *v, const void *x, int bf16, size_t i)
{
    if (bf16) {
        vec16h h;
        memcpy(&h, (const uint16_t *)x + i, sizeof h);
        vec16u w = __builtin_convertvector(h, vec16u) << 16;
        *v = (vec16)w;
    } else {
        memcpy(v, (const float *)x + i, sizeof *v);
    }
}

/* bf16: round to nearest even, NaN stays NaN. */
VEC_STEP void VEC(vec_store)(void *y, int bf16, size_t i, const vec16 *v)
{
    if (!bf16) {
        memcpy((float *)y + i, v, sizeof *v);
        return;
    }
#if VEC_HAS_BF16
    __m256bh h = _mm512_cvtneps_pbh((__m512)*v);
    memcpy((uint16_t *)y + i, &h, sizeof h);
#else
    vec16u u = (vec16u)*v, high = u >> 16, rounded = (u + 0x7fffu + (high & 1u)) >> 16;
    vec16u nan = (vec16u)((u & 0x7fffffffu) > 0x7f800000u);
    vec16h h = __builtin_convertvector((nan & (high | 0x40u)) | (~nan & rounded), vec16h);
    memcpy((uint16_t *)y + i, &h, sizeof h);
#endif
}

VEC_TARGET __attribute__((noinline, unused)) static void VEC(vec_load_part)(vec16 *v, const void *x, int bf16, size_t i, size_t m)
{
    char room[64] = {0};
    memcpy(room, (const char *)x + (bf16 ? 2 : 4) * i, (bf16 ? 2 : 4) * m);
    VEC(vec_load)(v, room, bf16, 0);
}

VEC_TARGET __attribute__((noinline, unused)) static void VEC(vec_store_part)(void *y, int bf16, size_t i, const vec16 *v, size_t m)
{
    char room[64];
    VEC(vec_store)(room, bf16, 0, v);
    memcpy((char *)y + (bf16 ? 2 : 4) * i, room, (bf16 ? 2 : 4) * m);
}

/* The first m elements only; the other lanes become 0. The odd end of an array goes through memory, so that whole
 * vectors (a constant m of 16) stay in registers. */
VEC_STEP void VEC(vec_take)(vec16 *v, const void *x, int bf16, size_t i, size_t m)
{
    vec16 part;
    if (m == 16) {
        VEC(vec_load)(v, x, bf16, i);
    } else {
        VEC(vec_load_part)(&part, x, bf16, i, m);
        *v = part;
    }
}

VEC_STEP void VEC(vec_give)(void *y, int bf16, size_t i, const vec16 *v, size_t m)
{
    if (m == 16) {
        VEC(vec_store)(y, bf16, i, v);
    } else {
        const vec16 part = *v;
        VEC(vec_store_part)(y, bf16, i, &part, m);
    }
}

/* v where m > 0, else 0. */
VEC_STEP void VEC(vec_where_positive)(vec16 *v, const vec16 *m)
{
    const vec16i positive = *m > (vec16){0};
    *v = (vec16)((vec16i)*v & positive);
}

/* a where a > b, else b. */
VEC_STEP void VEC(vec_max)(vec16 *a, const vec16 *b)
{
    const vec16i more = *a > *b;
    *a = (vec16)(((vec16i)*a & more) | ((vec16i)*b & ~more));
}

/* exp to about 1e-7 relative (Cephes' polynomial after x = n ln 2 + r); clamped to the normal numbers. */
VEC_STEP void VEC(vec_exp)(vec16 *v)
{
    const vec16 zero = {0}, low = zero - 87.3f, high = zero + 88.3f;
    VEC(vec_max)(v, &low);
    vec16 x = zero - *v, n;
    const vec16 minus_high = zero - high;
    VEC(vec_max)(&x, &minus_high);
    x = zero - x;
    n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f; /* adding 1.5 * 2^23 rounds to an integer */
    x = x - n * 0.693359375f;
    x = x - n * -2.12194440e-4f;
    vec16 p = x * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * x + 8.3334519073e-3f;
    p = p * x + 4.1665795894e-2f;
    p = p * x + 1.6666665459e-1f;
    p = p * x + 5.0000001201e-1f;
    p = p * (x * x) + x + 1.0f;
    const vec16i scale = (__builtin_convertvector(n, vec16i) + 127) << 23;
    *v = p * (vec16)scale;
}

/* 1 / (1 + exp(-v)). */
VEC_STEP void VEC(vec_sigmoid)(vec16 *v)
{
    vec16 e = -*v;
    VEC(vec_exp)(&e);
    *v = 1.0f / (1.0f + e);
}

/* log(1 + e) for 0 <= e <= 1: 2 atanh(s), s = e / (2 + e) <= 1/3. */
VEC_STEP void VEC(vec_log1p)(vec16 *v)
{
    const vec16 s = *v / (2.0f + *v), q = s * s;
    vec16 p = q * (1.0f / 15.0f) + 1.0f / 13.0f;
    p = p * q + 1.0f / 11.0f;
    p = p * q + 1.0f / 9.0f;
    p = p * q + 1.0f / 7.0f;
    p = p * q + 1.0f / 5.0f;
    p = p * q + 1.0f / 3.0f;
    *v = 2.0f * s * (p * q + 1.0f);
}

/* log of a positive normal number: exponent, and 2 atanh of the mantissa brought to [sqrt(1/2), sqrt(2)). */
VEC_STEP void VEC(vec_log)(vec16 *v)
{
    vec16i bits = (vec16i)*v;
    const vec16i exponent = (bits - 0x3f3504f3) >> 23; /* 0x3f3504f3 is sqrt(1/2) */
    bits -= exponent << 23;
    const vec16 m = (vec16)bits, s = (m - 1.0f) / (m + 1.0f), q = s * s;
    vec16 p = q * (1.0f / 11.0f) + 1.0f / 9.0f;
    p = p * q + 1.0f / 7.0f;
    p = p * q + 1.0f / 5.0f;
    p = p * q + 1.0f / 3.0f;
    *v = __builtin_convertvector(exponent, vec16) * 0.69314718056f + 2.0f * s * (p * q + 1.0f);
}

/* The sum of the lanes, in double. */
VEC_STEP double VEC(vec_total)(const vec16 *v)
{
    double sum = 0;
    for (int k = 0; k < 16; k++) sum += (double)(*v)[k];
    return sum;
}
