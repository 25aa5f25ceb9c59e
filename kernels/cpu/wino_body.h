/* wino_body: the vector loops of Winograd's convolution, compiled once an instruction set; see wino.c and vec.h. No include
 * guard. VEC_FLOATS: floats of one register. */
typedef float VEC(wino_register) __attribute__((vector_size(4 * VEC_FLOATS)));

/* b = B^T d for six values. */
VEC_STEP void VEC(wino_in)(const vec16 d[6], vec16 b[6])
{
    const vec16 p = d[4] - 4.0f * d[2], q = d[3] - 4.0f * d[1], r = d[4] - d[2], s = 2.0f * (d[3] - d[1]);
    b[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    b[1] = p + q;
    b[2] = p - q;
    b[3] = r + s;
    b[4] = r - s;
    b[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

/* a = A^T m: six values to four. */
VEC_STEP void VEC(wino_out)(const vec16 m[6], vec16 a[4])
{
    const vec16 p = m[1] + m[2], q = m[1] - m[2], r = m[3] + m[4], s = m[3] - m[4];
    a[0] = m[0] + p + r;
    a[1] = q + 2.0f * s;
    a[2] = p + 4.0f * r;
    a[3] = q + 8.0f * s + m[5];
}

/* Where tile t begins: sample, and first output row and column. */
VEC_STEP void VEC(wino_place)(const wino *k, int64_t t, int64_t *n, int64_t *oy, int64_t *ox)
{
    const int64_t in_image = t % (k->across * k->down);
    *n = t / (k->across * k->down);
    *oy = in_image / k->across * 4;
    *ox = in_image % k->across * 4;
}

/* Sixteen channels of one tile; inside: no part of it lies in the padding. */
VEC_STEP void VEC(wino_input_tile)(const wino *k, const void *x, int bf16, int inside, int64_t n, int64_t oy, int64_t ox, int64_t c,
                              float *v)
{
    vec16 part[6][6], d[6], b[6];
    for (int64_t j = 0; j < 6; j++) {
        for (int64_t i = 0; i < 6; i++) {
            const int64_t iy = oy - 1 + i, ix = ox - 1 + j;
            if (inside || (iy >= 0 && iy < k->h && ix >= 0 && ix < k->w))
                VEC(vec_load)(&d[i], x, bf16, (size_t)(((n * k->h + iy) * k->w + ix) * k->ci + c));
            else d[i] = (vec16){0};
        }
        VEC(wino_in)(d, b);
        for (int i = 0; i < 6; i++) part[i][j] = b[i];
    }
    for (int i = 0; i < 6; i++) {
        VEC(wino_in)(part[i], b);
        for (int j = 0; j < 6; j++) VEC(vec_store)(v, 0, (size_t)((i * 6 + j) * k->v_plane), &b[j]);
    }
}

VEC_STEP void VEC(wino_input_one)(const wino_block *b, int bf16, int64_t t)
{
    const wino *k = b->k;
    int64_t n, oy, ox;
    VEC(wino_place)(k, b->first + t, &n, &oy, &ox);
    const int inside = oy > 0 && ox > 0 && oy + 5 <= k->h && ox + 5 <= k->w;
    float *v = b->v + t * (k->ci + WINO_SKEW);
    for (int64_t c = 0; c < k->ci; c += 16) {
        if (inside) VEC(wino_input_tile)(k, b->x, bf16, 1, n, oy, ox, c, v + c);
        else VEC(wino_input_tile)(k, b->x, bf16, 0, n, oy, ox, c, v + c);
    }
}

/* Tiles [from, to) of the block. */
VEC_LEAF void VEC(wino_input)(const wino_block *b, int64_t from, int64_t to)
{
    for (int64_t t = from; t < to; t++) {
        if (b->k->bf16) VEC(wino_input_one)(b, 1, t);
        else VEC(wino_input_one)(b, 0, t);
    }
}

VEC_STEP void VEC(wino_output_tile)(const wino_block *b, int bf16, int64_t n, int64_t oy, int64_t ox, int64_t c, const float *m)
{
    const wino *k = b->k;
    vec16 part[4][6], d[6], a[4], bias = {0};
    for (int j = 0; j < 6; j++) {
        for (int i = 0; i < 6; i++) VEC(vec_load)(&d[i], m, 0, (size_t)((i * 6 + j) * k->m_plane));
        VEC(wino_out)(d, a);
        for (int i = 0; i < 4; i++) part[i][j] = a[i];
    }
    if (b->bias != NULL) VEC(vec_load)(&bias, b->bias, 0, (size_t)c);
    for (int64_t i = 0; i < 4 && oy + i < k->h; i++) {
        VEC(wino_out)(part[i], a);
        for (int64_t j = 0; j < 4; j++) {
            if (ox + j >= k->w) break;
            vec16 v = a[j] + bias;
            if (b->relu) VEC(vec_where_positive)(&v, &v);
            VEC(vec_store)(b->y, bf16, (size_t)(((n * k->h + oy + i) * k->w + ox + j) * k->co + c), &v);
        }
    }
}

VEC_LEAF void VEC(wino_output)(const wino_block *b, int64_t from, int64_t to)
{
    const wino *k = b->k;
    for (int64_t t = from; t < to; t++) {
        int64_t n, oy, ox;
        VEC(wino_place)(k, b->first + t, &n, &oy, &ox);
        const float *m = b->m + t * (k->co + WINO_SKEW);
        for (int64_t c = 0; c < k->co; c += 16) {
            if (k->bf16) VEC(wino_output_tile)(b, 1, n, oy, ox, c, m + c);
            else VEC(wino_output_tile)(b, 0, n, oy, ox, c, m + c);
        }
    }
}

/* `rows` tiles times `wide` registers of outputs: m = v u over all input channels, sums in registers. */
VEC_STEP void VEC(wino_product)(int rows, int wide, int64_t depth, const float *v, int64_t v_row, const float *u, float *m,
                                int64_t m_row)
{
    VEC(wino_register) sum[VEC_FLOATS - 2][2] = {0}; /* 14 or 6 rows: what fits the registers beside the filters */
    for (int64_t c = 0; c < depth; c++) {
        VEC(wino_register) f[2];
        for (int q = 0; q < wide; q++) memcpy(&f[q], u + (2 * c + q) * VEC_FLOATS, sizeof f[q]);
        for (int r = 0; r < rows; r++)
            for (int q = 0; q < wide; q++) sum[r][q] += v[r * v_row + c] * f[q];
    }
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < wide; q++) memcpy(m + r * m_row + VEC_FLOATS * q, &sum[r][q], sizeof sum[r][q]);
}

/* One of the 36 and one panel, tiles [from, to): whole groups of rows, then what is left. */
VEC_LEAF void VEC(wino_panel)(const wino_block *b, int64_t point, int64_t panel, int64_t from, int64_t to)
{
    const wino *k = b->k;
    const int64_t v_row = k->ci + WINO_SKEW, m_row = k->co + WINO_SKEW;
    const float *u = k->u + (point * k->panels + panel) * k->ci * 2 * VEC_FLOATS, *v = b->v + point * k->v_plane;
    float *m = b->m + point * k->m_plane + panel * 2 * VEC_FLOATS;
    const int wide = k->co - panel * 2 * VEC_FLOATS >= 2 * VEC_FLOATS ? 2 : 1;
    int64_t t = from;
#define WINO_GROUP(rows)                                                                                              \
    for (; t + (rows) <= to; t += (rows)) {                                                                           \
        if (wide == 2) VEC(wino_product)(rows, 2, k->ci, v + t * v_row, v_row, u, m + t * m_row, m_row);                   \
        else VEC(wino_product)(rows, 1, k->ci, v + t * v_row, v_row, u, m + t * m_row, m_row);                             \
    }
    WINO_GROUP(VEC_FLOATS - 2)
    WINO_GROUP(VEC_FLOATS / 2)
    WINO_GROUP(2)
    WINO_GROUP(1)
#undef WINO_GROUP
}
