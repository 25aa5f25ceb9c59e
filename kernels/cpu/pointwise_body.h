/* pointwise_body: element-wise leaves over one piece; see pointwise.c. No include guard: compiled once an
 * instruction set. */

/* A leaf for both types from a step on (u, v) of sixteen elements, u from a and v from b, result in u. */
#undef POINTWISE_LEAF
#define POINTWISE_LEAF(name, uses_b, step)                                                                    \
    VEC_STEP void VEC(name##_some)(int bf16, size_t i, size_t m, const void *a, const void *b, void *y)        \
    {                                                                                                         \
        vec16 u, v = {0};                                                                                     \
        VEC(vec_take)(&u, a, bf16, i, m);                                                                     \
        if (uses_b) VEC(vec_take)(&v, b, bf16, i, m);                                                         \
        step;                                                                                                 \
        VEC(vec_give)(y, bf16, i, &u, m);                                                                     \
    }                                                                                                         \
    VEC_STEP void VEC(name##_all)(int bf16, size_t at, size_t n, const void *a, const void *b, void *y)        \
    {                                                                                                         \
        size_t i = at;                                                                                        \
        for (; i + 16 <= at + n; i += 16) VEC(name##_some)(bf16, i, 16, a, b, y);                             \
        if (i < at + n) VEC(name##_some)(bf16, i, at + n - i, a, b, y);                                       \
    }                                                                                                         \
    VEC_LEAF void VEC(name)(int bf16, size_t at, size_t n, const void *a, const void *b, void *y)              \
    {                                                                                                         \
        if (bf16) VEC(name##_all)(1, at, n, a, b, y);                                                         \
        else VEC(name##_all)(0, at, n, a, b, y);                                                              \
    }

POINTWISE_LEAF(leaf_add, 1, u += v)
POINTWISE_LEAF(leaf_add_relu, 1, u += v; VEC(vec_where_positive)(&u, &u))
POINTWISE_LEAF(leaf_relu, 0, VEC(vec_where_positive)(&u, &u))
POINTWISE_LEAF(leaf_mask, 1, VEC(vec_where_positive)(&v, &u); u = v)    /* a = y, b = dy */
POINTWISE_LEAF(leaf_sigmoid, 0, VEC(vec_sigmoid)(&u))
POINTWISE_LEAF(leaf_sigmoid_back, 1, u = v * u * (1.0f - u))            /* a = y, b = dy */

/* y += bias by channel, then ReLU if asked. n elements from `at`, where a pixel begins; bias repeats every `lanes`. */
VEC_STEP void VEC(leaf_bias_all)(int bf16, size_t at, size_t n, const float *bias, size_t lanes, int relu, void *y)
{
    for (size_t i = 0, k = 0; i < n; i += 16, k = k + 16 < lanes ? k + 16 : 0) {
        const size_t m = n - i < 16 ? n - i : 16;
        vec16 u, v;
        if (m == 16) VEC(vec_load)(&u, y, bf16, at + i);
        else VEC(vec_take)(&u, y, bf16, at + i, m);
        VEC(vec_load)(&v, bias, 0, k);
        u += v;
        if (relu) VEC(vec_where_positive)(&u, &u);
        if (m == 16) VEC(vec_store)(y, bf16, at + i, &u);
        else VEC(vec_give)(y, bf16, at + i, &u, m);
    }
}

VEC_LEAF void VEC(leaf_bias)(int bf16, size_t at, size_t n, const float *bias, size_t lanes, int relu, void *y)
{
    if (bf16) VEC(leaf_bias_all)(1, at, n, bias, lanes, relu, y);
    else VEC(leaf_bias_all)(0, at, n, bias, lanes, relu, y);
}

/* sum[k] = the elements at, at + lanes, at + 2 lanes ... of n. */
VEC_STEP void VEC(leaf_columns_all)(int bf16, size_t at, size_t n, size_t lanes, const void *y, float *sum)
{
    for (size_t k = 0; k < lanes && k < n; k += 16) {
        vec16 s = {0}, u;
        for (size_t i = k; i < n; i += lanes) {
            if (n - i < 16) VEC(vec_take)(&u, y, bf16, at + i, n - i);
            else VEC(vec_load)(&u, y, bf16, at + i);
            s += u;
        }
        VEC(vec_store)(sum, 0, k, &s);
    }
}

VEC_LEAF void VEC(leaf_columns)(int bf16, size_t at, size_t n, size_t lanes, const void *y, float *sum)
{
    if (bf16) VEC(leaf_columns_all)(1, at, n, lanes, y, sum);
    else VEC(leaf_columns_all)(0, at, n, lanes, y, sum);
}

VEC_LEAF void VEC(leaf_retype)(size_t n, int from_bf16, const void *x, void *y)
{
    vec16 v;
    for (size_t i = 0; i < n; i += 16) {
        const size_t m = n - i < 16 ? n - i : 16;
        if (from_bf16) {
            VEC(vec_take)(&v, x, 1, i, m);
            VEC(vec_give)(y, 0, i, &v, m);
        } else {
            VEC(vec_take)(&v, x, 0, i, m);
            VEC(vec_give)(y, 1, i, &v, m);
        }
    }
}

VEC_LEAF double VEC(leaf_sum_squares)(size_t n, const float *x)
{
    double lane[16] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++) lane[k] += (double)x[i + (size_t)k] * (double)x[i + (size_t)k];
    for (int k = 0; k < 16; k++) sum += lane[k];
    for (; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}
