/* crf_rows_body: the loops of crf_rows for one instruction set. No include guard: crf_rows.c includes it once a set,
 * with NAME(f) giving each function and type its own name, LANES the floats a vector and TARGET the set itself. */

typedef float NAME(vf) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t NAME(vi) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define VF NAME(vf)
#define VI NAME(vi)
#define LOAD(p) (*(const VF *)(p))
#define STORE(p, v) (*(VF *)(p) = (v))

TARGET static void NAME(columns)(const float *const *rows, int radius, const float *taps, int64_t n, float *out,
                                 int64_t stride)
{
    const float *const *mid = rows + radius;
    for (int64_t x = 0; x < n; x += LANES) {
        VF up0 = LOAD(mid[0] + x), up1 = LOAD(mid[1] + x), up2 = LOAD(mid[2] + x), up3 = LOAD(mid[3] + x);
        VF dn0 = up0, dn1 = up1, dn2 = up2, dn3 = up3;
        VF t = (VF){0} + taps[0];
        VF a0 = t * up0, a1 = t * up1, a2 = t * up2, a3 = t * up3;
        for (int k = 1; k <= radius; k++) { /* each row is loaded once for the four sums */
            up3 = up2, up2 = up1, up1 = up0, up0 = LOAD(mid[-k] + x);
            dn0 = dn1, dn1 = dn2, dn2 = dn3, dn3 = LOAD(mid[3 + k] + x);
            t = (VF){0} + taps[k];
            a0 += t * (up0 + dn0);
            a1 += t * (up1 + dn1);
            a2 += t * (up2 + dn2);
            a3 += t * (up3 + dn3);
        }
        STORE(out + x, a0);
        STORE(out + stride + x, a1);
        STORE(out + 2 * stride + x, a2);
        STORE(out + 3 * stride + x, a3);
    }
}

TARGET static void NAME(row)(const float *in, int radius, const float *taps, int64_t n, float *out)
{
    int64_t x = 0;
    for (; x + 4 * LANES <= n; x += 4 * LANES) {
        const float *p = in + x;
        VF t = (VF){0} + taps[0];
        VF a0 = t * LOAD(p), a1 = t * LOAD(p + LANES), a2 = t * LOAD(p + 2 * LANES), a3 = t * LOAD(p + 3 * LANES);
        for (int k = 1; k <= radius; k++) {
            t = (VF){0} + taps[k];
            a0 += t * (LOAD(p - k) + LOAD(p + k));
            a1 += t * (LOAD(p + LANES - k) + LOAD(p + LANES + k));
            a2 += t * (LOAD(p + 2 * LANES - k) + LOAD(p + 2 * LANES + k));
            a3 += t * (LOAD(p + 3 * LANES - k) + LOAD(p + 3 * LANES + k));
        }
        STORE(out + x, a0);
        STORE(out + x + LANES, a1);
        STORE(out + x + 2 * LANES, a2);
        STORE(out + x + 3 * LANES, a3);
    }
    for (; x < n; x += LANES) {
        VF a = taps[0] * LOAD(in + x);
        for (int k = 1; k <= radius; k++) a += taps[k] * (LOAD(in + x - k) + LOAD(in + x + k));
        STORE(out + x, a);
    }
}

TARGET static void NAME(axis)(const float *in, float *out, int64_t count, int64_t run, int radius, const float *taps)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t first = i < radius ? 0 : i - radius, last = i + radius < count ? i + radius : count - 1;
        for (int64_t e = 0; e < run; e += LANES) {
            VF a = {0};
            for (int64_t j = first; j <= last; j++) a += taps[j < i ? i - j : j - i] * LOAD(in + j * run + e);
            STORE(out + i * run + e, a);
        }
    }
}

TARGET static void NAME(slice)(const crf_slice *s)
{
    const crf_grid *g = s->grid;
    int64_t row = g->nx * g->depth;
    for (int64_t i = 0; i < row; i += LANES) {
        VF top = LOAD(s->nodes + i);
        STORE(s->profile + i, top + s->fy * (LOAD(s->nodes + row + i) - top));
    }
    for (int64_t x0 = 0, tile = 0; x0 < s->n; x0 += g->cell, tile++) {
        const float *p = s->profile + tile * g->depth, *q = p + g->depth;
        int64_t end = x0 + g->cell < s->n ? x0 + g->cell : s->n;
        for (int64_t x = x0; x < end; x++) {
            int b = (int)s->level[x];
            float f = s->level[x] - (float)b;
            float left = p[b] + f * (p[b + 1] - p[b]), right = q[b] + f * (q[b + 1] - q[b]);
            s->sum[x] = left + s->fx[x - x0] * (right - left);
        }
    }
}

/* A bin: {x0, x0, x1, x1} of row y0, then of row y1, intensity nodes alternating, so that one 8-byte pair and one
 * vector of weights make all eight products. A level's bins of all copies lie side by side. */
typedef float NAME(v8) __attribute__((vector_size(32), aligned(4), may_alias));
typedef double NAME(d4) __attribute__((vector_size(32)));
typedef double NAME(d1) __attribute__((aligned(4), may_alias));
#define V8 NAME(v8)

/* Pixels x0..x1 of rows y..y+rows-1, y a multiple of 8. Neighbours are often of one level: with a copy for each row a
 * sum is not needed again before eight others have been made. */
TARGET static inline __attribute__((always_inline)) void NAME(splat_rows)(const crf_splat *s, int64_t x0, int64_t x1,
                                                                           int y, int rows, const float *weights,
                                                                           float *sums)
{
    V8 wy[CRF_COPIES];
    const float *pairs[CRF_COPIES];
    for (int r = 0; r < rows; r++) {
        float f = (float)(y + r) / (float)s->grid->cell;
        wy[r] = (V8){1 - f, 1 - f, 1 - f, 1 - f, f, f, f, f};
        pairs[r] = s->pairs + (y + r) * s->stride + 2 * x0;
    }
    const uint16_t *bins = s->bins + y / CRF_COPIES * s->bin_stride + x0 * CRF_COPIES;
    for (int64_t x = 0; x < x1 - x0; x++) {
        V8 wx = *(const V8 *)(weights + x * CRF_BIN);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            double pair = *(const NAME(d1) *)(pairs[r] + 2 * x);
            V8 *bin = (V8 *)(sums + bins[x * CRF_COPIES + r] + r * CRF_BIN);
            *bin += wx * wy[r] * (V8)((NAME(d4)){pair, pair, pair, pair});
        }
    }
}

TARGET static void NAME(splat)(const crf_splat *s)
{
    const crf_grid *g = s->grid;
    enum { LEVEL = CRF_COPIES * CRF_BIN };
    float *sums = s->scratch, *weights = sums + LEVEL * g->levels;
    for (int i = 0; i < g->cell; i++)
        *(V8 *)(weights + i * CRF_BIN) = (V8){1 - s->fx[i], 1 - s->fx[i], s->fx[i], s->fx[i],
                                              1 - s->fx[i], 1 - s->fx[i], s->fx[i], s->fx[i]};
    for (int64_t x0 = 0, tile = 0; x0 < s->n; x0 += g->cell, tile++) {
        int64_t x1 = x0 + g->cell < s->n ? x0 + g->cell : s->n, depth = g->depth;
        int low = s->range[2 * tile], high = s->range[2 * tile + 1];
        memset(sums + low * LEVEL, 0, (size_t)(high + 1 - low) * LEVEL * sizeof *sums);
        int y = 0;
        for (; y + CRF_COPIES <= s->rows; y += CRF_COPIES) NAME(splat_rows)(s, x0, x1, y, CRF_COPIES, weights, sums);
        if (y < s->rows) NAME(splat_rows)(s, x0, x1, y, s->rows - y, weights, sums);
        float *top = s->nodes + tile * depth, *bottom = top + g->nx * depth;
        for (int b = low; b <= high; b++) {
            const float *level = sums + b * LEVEL;
            V8 t = *(const V8 *)level;
            for (int c = 1; c < CRF_COPIES; c++) t += *(const V8 *)(level + c * CRF_BIN);
            top[b] += t[0], top[b + 1] += t[1];
            top[b + depth] += t[2], top[b + depth + 1] += t[3];
            bottom[b] += t[4], bottom[b + 1] += t[5];
            bottom[b + depth] += t[6], bottom[b + depth + 1] += t[7];
        }
    }
}

/* e^l for l in -80..80, relative error below 2e-7: 2^k times a polynomial on -ln2/2..ln2/2. */
TARGET static inline __attribute__((always_inline)) VF NAME(exp)(VF l)
{
    const float magic = 12582912.0F; /* 1.5 * 2^23: adding it rounds to a whole number in the low bits */
    VF k = l * 1.44269504F + magic;
    VI bits = (VI)k;
    k -= magic;
    VF r = l - k * 0.693359375F + k * 2.12194440e-4F;
    VF p = r * 1.3888889e-3F + 8.3333333e-3F;
    p = p * r + 4.1666667e-2F;
    p = p * r + 1.6666667e-1F;
    p = p * r + 0.5F;
    p = p * r + 1.0F;
    p = p * r + 1.0F;
    return (VF)((VI)p + (bits << 23)); /* the bits above those that matter are shifted out */
}

TARGET static inline __attribute__((always_inline)) VF NAME(max)(VF a, VF b)
{
    VI m = a > b;
    return (VF)(((VI)a & m) | ((VI)b & ~m));
}

TARGET static void NAME(window)(const crf_window *s)
{
    const float shrink = -0.5F / (CRF_LEVELS_A_SIGMA * CRF_LEVELS_A_SIGMA);
    for (int64_t x = 0; x < s->n; x += LANES) {
        VF sum = {0}, here = LOAD(s->level + x);
        for (int dy = -s->radius; dy <= s->radius; dy++) {
            const float *value = s->value + dy * s->stride + x, *level = s->level + dy * s->stride + x;
            VF line = {0};
            for (int dx = -s->radius; dx <= s->radius; dx++) {
                VF t = LOAD(level + dx) - here;
                VF like = NAME(exp)(NAME(max)(t * t * shrink, (VF){0} - 80.0F));
                line += s->taps[dx < 0 ? -dx : dx] * LOAD(value + dx) * like;
            }
            sum += s->taps[dy < 0 ? -dy : dy] * line;
        }
        STORE(s->sum + x, sum);
    }
}

TARGET static float NAME(update)(const crf_update *where)
{
    const crf_update u = *where; /* a copy, which the stores below cannot be taken to change */
    VF most = (VF){0} - 1.0F;
    for (int64_t x = 0; x < u.n; x += LANES) {
        VF sa = LOAD(u.scale_a + x), ss = u.row_s * LOAD(u.scale_s + x), level = LOAD(u.level + x);
        VF l = LOAD(u.logit + x) + u.wa * sa * LOAD(u.sum_a + x) + u.ws * ss * LOAD(u.sum_s + x);
        l = NAME(max)(l, (VF){0} - 80.0F);
        l = -NAME(max)(-l, (VF){0} - 80.0F);
        VF d = 1.0F - 2.0F / (NAME(exp)(l) + 1.0F);
        VF now = ss * d, moved = now - LOAD(u.before + x);
        most = NAME(max)(most, NAME(max)(moved, -moved) - u.tolerance * ss);
        STORE(u.after + x, now);
        VF g = sa * d, f = level - __builtin_convertvector(__builtin_convertvector(level, VI), VF), gf = g * f;
        g -= gf;
        STORE(u.pairs + 2 * x, __builtin_shufflevector(g, gf, INTERLEAVE(0)));
        STORE(u.pairs + 2 * x + LANES, __builtin_shufflevector(g, gf, INTERLEAVE(LANES / 2)));
    }
    float result = most[0];
    for (int i = 1; i < LANES; i++) result = most[i] > result ? most[i] : result;
    return result;
}

#undef VF
#undef VI
#undef V8
#undef LOAD
#undef STORE
