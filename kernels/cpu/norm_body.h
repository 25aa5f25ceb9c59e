/* norm_body: one block of a norm's first pass (sums) and second pass (result); see norm.c. No include guard: compiled
 * once an instruction set. A step treats m <= 16 elements at offset i, whose first channel is k. */
VEC_STEP void VEC(norm_coef)(vec16 *v, const norm_block *b, int which, size_t k)
{
    VEC(vec_load)(v, b->coef, 0, (size_t)which * b->lanes + k);
}

/* g = dy, masked by y > 0: y itself with a residual, else as forward computed it from hat = x - mean. */
VEC_STEP void VEC(norm_masked)(vec16 *g, const vec16 *hat, const norm_block *b, int bf16, int relu, int residual, size_t i,
                            size_t k, size_t m)
{
    VEC(vec_take)(g, b->dy, bf16, i, m);
    if (!relu) return;
    vec16 y, scale, offset;
    if (residual) {
        VEC(vec_take)(&y, b->y, bf16, i, m);
    } else {
        VEC(norm_coef)(&scale, b, NORM_A, k);
        VEC(norm_coef)(&offset, b, NORM_B, k);
        y = *hat * scale + offset;
    }
    VEC(vec_where_positive)(g, &y);
}

/* back = 0: sums of (x-shift), (x-shift)^2. back = 1: sums of g, g*(x-shift). */
VEC_STEP void VEC(norm_sum_step)(const norm_block *b, int bf16, int back, int relu, int residual, size_t i, size_t k, size_t m,
                              vec16 *s, vec16 *s2)
{
    vec16 x, shift, g;
    VEC(vec_take)(&x, b->x, bf16, i, m);
    VEC(norm_coef)(&shift, b, NORM_SHIFT, k);
    x -= shift;
    if (back) {
        VEC(norm_masked)(&g, &x, b, bf16, relu, residual, i, k, m);
        *s += g;
        *s2 += g * x;
    } else {
        g = x;
        if (m < 16) {
            vec16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
            lane = (float)m - lane;
            VEC(vec_where_positive)(&g, &lane);
        }
        *s += g;
        *s2 += g * g;
    }
}

/* `width` vectors side by side, `deep` runs at once, so that four sums are under way. */
VEC_STEP void VEC(norm_sum_strip)(const norm_block *b, int bf16, int back, int relu, int residual, size_t k, size_t width,
                               size_t deep)
{
    vec16 s[4] = {0}, s2[4] = {0};
    size_t r = 0;
    for (; r + deep <= b->runs; r += deep)
        for (size_t j = 0; j < deep; j++)
            for (size_t w = 0; w < width; w++)
                VEC(norm_sum_step)(b, bf16, back, relu, residual, (r + j) * b->lanes + k + 16 * w, k + 16 * w, 16,
                              &s[j * width + w], &s2[j * width + w]);
    for (; r < b->runs; r++)
        for (size_t w = 0; w < width; w++)
            VEC(norm_sum_step)(b, bf16, back, relu, residual, r * b->lanes + k + 16 * w, k + 16 * w, 16, &s[w], &s2[w]);
    for (size_t w = 0; w < width; w++) {
        for (size_t j = 1; j < deep; j++) s[w] += s[j * width + w], s2[w] += s2[j * width + w];
        memcpy(b->sum + k + 16 * w, &s[w], sizeof(vec16));
        memcpy(b->sum2 + k + 16 * w, &s2[w], sizeof(vec16));
    }
}

VEC_STEP void VEC(norm_sum_body)(const norm_block *b, int bf16, int back, int relu, int residual)
{
    size_t k = 0;
    for (; k + 64 <= b->lanes; k += 64) VEC(norm_sum_strip)(b, bf16, back, relu, residual, k, 4, 1);
    for (; k + 32 <= b->lanes; k += 32) VEC(norm_sum_strip)(b, bf16, back, relu, residual, k, 2, 2);
    for (; k + 16 <= b->lanes; k += 16) VEC(norm_sum_strip)(b, bf16, back, relu, residual, k, 1, 4);
    for (k = 0; k < b->tail; k += 16) {
        const size_t m = b->tail - k < 16 ? b->tail - k : 16;
        vec16 s, s2;
        memcpy(&s, b->sum + k, sizeof s);
        memcpy(&s2, b->sum2 + k, sizeof s2);
        VEC(norm_sum_step)(b, bf16, back, relu, residual, b->runs * b->lanes + k, k, m, &s, &s2);
        memcpy(b->sum + k, &s, sizeof s);
        memcpy(b->sum2 + k, &s2, sizeof s2);
    }
}

VEC_STEP void VEC(norm_apply_step)(const norm_block *b, int bf16, int back, int relu, int residual, size_t i, size_t k, size_t m)
{
    vec16 x, v, p, q;
    VEC(vec_take)(&x, b->x, bf16, i, m);
    VEC(norm_coef)(&p, b, NORM_SHIFT, k);
    x -= p;
    if (!back) {
        VEC(norm_coef)(&p, b, NORM_A, k);
        VEC(norm_coef)(&q, b, NORM_B, k);
        v = x * p + q;
        if (residual) {
            VEC(vec_take)(&p, b->residual, bf16, i, m);
            v += p;
        }
        if (relu) VEC(vec_where_positive)(&v, &v);
        VEC(vec_give)(b->out, bf16, i, &v, m);
        return;
    }
    VEC(norm_masked)(&v, &x, b, bf16, relu, residual, i, k, m);
    if (b->out2 != NULL) VEC(vec_give)(b->out2, bf16, i, &v, m);
    VEC(norm_coef)(&p, b, NORM_DX, k);
    VEC(norm_coef)(&q, b, NORM_DC, k);
    x = x * p + q;
    VEC(norm_coef)(&p, b, NORM_DG, k);
    v = v * p + x;
    if (b->out != NULL) VEC(vec_give)(b->out, bf16, i, &v, m);
}

VEC_STEP void VEC(norm_apply_body)(const norm_block *b, int bf16, int back, int relu, int residual)
{
    for (size_t r = 0; r < b->runs; r++)
        for (size_t k = 0; k < b->lanes; k += 16)
            VEC(norm_apply_step)(b, bf16, back, relu, residual, r * b->lanes + k, k, 16);
    for (size_t k = 0; k < b->tail; k += 16)
        VEC(norm_apply_step)(b, bf16, back, relu, residual, b->runs * b->lanes + k, k, b->tail - k < 16 ? b->tail - k : 16);
}

/* The sums of forward know no ReLU or residual; what is fused is fixed in each loop, the rest is asked inside. */
VEC_LEAF void VEC(norm_sum_leaf)(const norm_block *b, int bf16, int back, int relu, int residual)
{
    if (!back && bf16) VEC(norm_sum_body)(b, 1, 0, 0, 0);
    else if (!back) VEC(norm_sum_body)(b, 0, 0, 0, 0);
    else if (bf16) VEC(norm_sum_body)(b, 1, 1, relu, residual);
    else VEC(norm_sum_body)(b, 0, 1, relu, residual);
}

VEC_LEAF void VEC(norm_apply_leaf)(const norm_block *b, int bf16, int back, int relu, int residual)
{
    if (!back && bf16) VEC(norm_apply_body)(b, 1, 0, relu, residual);
    else if (!back) VEC(norm_apply_body)(b, 0, 0, relu, residual);
    else if (bf16) VEC(norm_apply_body)(b, 1, 1, relu, residual);
    else VEC(norm_apply_body)(b, 0, 1, relu, residual);
}
