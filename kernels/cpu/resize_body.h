/* resize_body: one row of results from rows of x, c channels; see resize.c. No include guard: compiled once an
 * instruction set. */

VEC_STEP void VEC(resize_pixel)(const resize_plan *p, int bf16, int64_t row, int64_t j, int64_t width, int64_t c, int64_t k,
                                size_t m, const char *x, char *y)
{
    const resize_axis *v = &p->rows, *u = &p->cols;
    vec16 sum = {0}, value;
    for (int64_t a = v->first[row]; a < v->first[row + 1]; a++)
        for (int64_t b = u->first[j]; b < u->first[j + 1]; b++) {
            VEC(vec_take)(&value, x, bf16, (size_t)((v->index[a] * width + u->index[b]) * c + k), m);
            sum += value * (v->weight[a] * u->weight[b]);
        }
    VEC(vec_give)(y, bf16, (size_t)(j * c + k), &sum, m);
}

/* Few channels (logits, images): one at a time. */
VEC_STEP void VEC(resize_single)(const resize_plan *p, int bf16, int64_t row, int64_t j, int64_t width, int64_t c, const char *x,
                                 char *y)
{
    const resize_axis *v = &p->rows, *u = &p->cols;
    for (int64_t k = 0; k < c; k++) {
        float sum = 0;
        for (int64_t a = v->first[row]; a < v->first[row + 1]; a++)
            for (int64_t b = u->first[j]; b < u->first[j + 1]; b++)
                sum += vec_get(x, bf16, (size_t)((v->index[a] * width + u->index[b]) * c + k)) * (v->weight[a] * u->weight[b]);
        vec_put(y, bf16, (size_t)(j * c + k), sum);
    }
}

VEC_STEP void VEC(resize_body)(const resize_plan *p, int bf16, int64_t row, int64_t width, int64_t c, const char *x, char *y)
{
    for (int64_t j = 0; j < p->cols.count; j++) {
        int64_t k = 0;
        if (c < 4) {
            VEC(resize_single)(p, bf16, row, j, width, c, x, y);
            continue;
        }
        for (; k + 16 <= c; k += 16) VEC(resize_pixel)(p, bf16, row, j, width, c, k, 16, x, y);
        if (k < c) VEC(resize_pixel)(p, bf16, row, j, width, c, k, (size_t)(c - k), x, y);
    }
}

VEC_LEAF void VEC(resize_leaf)(const resize_plan *p, int64_t row, int64_t width, int64_t c, const char *x, char *y)
{
    if (p->bf16) VEC(resize_body)(p, 1, row, width, c, x, y);
    else VEC(resize_body)(p, 0, row, width, c, x, y);
}
