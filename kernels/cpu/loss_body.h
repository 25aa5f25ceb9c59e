/* loss_body: one piece of a loss's sums or of its gradient; see loss.c. No include guard: compiled once an instruction
 * set. A piece is short (LOSS_PIECE), so its sums may be float; they are joined in double. */

VEC_STEP void VEC(loss_abs)(vec16 *v) { *v = (vec16)((vec16i)*v & 0x7fffffff); }

/* Weights of m elements: 1 without any, never negative, 0 in the lanes behind m. */
VEC_STEP void VEC(loss_weight)(vec16 *w, const loss_view *v, size_t i, size_t m)
{
    const vec16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, inside = (float)m - lane;
    if (v->weight != NULL) VEC(vec_take)(w, v->weight, 0, i, m);
    else *w = (vec16){0} + 1.0f;
    VEC(vec_where_positive)(w, w);
    VEC(vec_where_positive)(w, &inside);
}

VEC_LEAF void VEC(sum_bce)(const loss_view *v, size_t at, size_t n, double s[LOSS_SUMS])
{
    vec16 value = {0}, weights = {0};
    for (size_t i = at; i < at + n; i += 16) {
        const size_t m = at + n - i < 16 ? at + n - i : 16;
        vec16 z, t, w, e, top;
        VEC(vec_take)(&z, v->x, v->bf16, i, m);
        VEC(vec_take)(&t, v->target, 0, i, m);
        VEC(loss_weight)(&w, v, i, m);
        e = z;
        VEC(loss_abs)(&e);
        e = -e;
        VEC(vec_exp)(&e);
        VEC(vec_log1p)(&e);
        top = z;
        VEC(vec_where_positive)(&top, &z);
        value += w * (top - z * t + e);
        weights += w;
    }
    s[0] = VEC(vec_total)(&value);
    s[1] = VEC(vec_total)(&weights);
}

VEC_LEAF void VEC(grad_bce)(const loss_view *v, size_t at, size_t n, const double s[LOSS_SUMS], float scale, void *dx)
{
    const float f = s[1] > 0 ? (float)((double)scale / s[1]) : 0.0f;
    for (size_t i = at; i < at + n; i += 16) {
        const size_t m = at + n - i < 16 ? at + n - i : 16;
        vec16 z, t, w;
        VEC(vec_take)(&z, v->x, v->bf16, i, m);
        VEC(vec_take)(&t, v->target, 0, i, m);
        VEC(loss_weight)(&w, v, i, m);
        VEC(vec_sigmoid)(&z);
        z = f * w * (z - t);
        VEC(vec_give)(dx, v->bf16, i, &z, m);
    }
}

VEC_LEAF void VEC(sum_dice)(const loss_view *v, size_t at, size_t n, double s[LOSS_SUMS])
{
    const vec16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    vec16 both = {0}, sum = {0};
    for (size_t i = at; i < at + n; i += 16) {
        const size_t m = at + n - i < 16 ? at + n - i : 16;
        const vec16 inside = (float)m - lane;
        vec16 p, t;
        VEC(vec_take)(&p, v->x, v->bf16, i, m);
        VEC(vec_take)(&t, v->target, 0, i, m);
        VEC(vec_sigmoid)(&p);
        VEC(vec_where_positive)(&p, &inside);
        both += p * t;
        sum += p + t;
    }
    s[0] = 2 * VEC(vec_total)(&both);
    s[1] = VEC(vec_total)(&sum);
}

VEC_LEAF void VEC(grad_dice)(const loss_view *v, size_t at, size_t n, const double s[LOSS_SUMS], float scale, void *dx)
{
    const float first = (float)(2 / s[1]), second = (float)(s[0] / (s[1] * s[1]));
    for (size_t i = at; i < at + n; i += 16) {
        const size_t m = at + n - i < 16 ? at + n - i : 16;
        vec16 p, t;
        VEC(vec_take)(&p, v->x, v->bf16, i, m);
        VEC(vec_take)(&t, v->target, 0, i, m);
        VEC(vec_sigmoid)(&p);
        p = -scale * (t * first - second) * p * (1.0f - p);
        VEC(vec_give)(dx, v->bf16, i, &p, m);
    }
}

/* Class k of m rows from row r, a lane a row. */
VEC_STEP void VEC(loss_class)(vec16 *z, const loss_view *v, size_t r, size_t m, size_t k)
{
    float room[16] = {0};
    for (size_t j = 0; j < m; j++) room[j] = vec_get(v->x, v->bf16, (r + j) * v->c + k);
    VEC(vec_load)(z, room, 0, 0);
}

/* log of the sum of exp over the classes of m rows. */
VEC_STEP void VEC(loss_log_sum)(vec16 *out, const loss_view *v, size_t r, size_t m)
{
    vec16 top, z, sum = {0};
    VEC(loss_class)(&top, v, r, m, 0);
    for (size_t k = 1; k < v->c; k++) {
        VEC(loss_class)(&z, v, r, m, k);
        VEC(vec_max)(&top, &z);
    }
    for (size_t k = 0; k < v->c; k++) {
        VEC(loss_class)(&z, v, r, m, k);
        z -= top;
        VEC(vec_exp)(&z);
        sum += z;
    }
    VEC(vec_log)(&sum);
    *out = top + sum;
}

VEC_LEAF void VEC(sum_ce)(const loss_view *v, size_t at, size_t n, double s[LOSS_SUMS])
{
    for (size_t r = at; r < at + n; r += 16) {
        const size_t m = at + n - r < 16 ? at + n - r : 16;
        vec16 log_sum;
        VEC(loss_log_sum)(&log_sum, v, r, m);
        for (size_t j = 0; j < m; j++) {
            if (!loss_labelled(v, r + j)) continue;
            s[0] += (double)(log_sum[j] - vec_get(v->x, v->bf16, (r + j) * v->c + (size_t)v->label[r + j]));
            s[1] += 1;
        }
    }
}

VEC_LEAF void VEC(grad_ce)(const loss_view *v, size_t at, size_t n, const double s[LOSS_SUMS], float scale, void *dx)
{
    const float f = s[1] > 0 ? (float)((double)scale / s[1]) : 0.0f;
    for (size_t r = at; r < at + n; r += 16) {
        const size_t m = at + n - r < 16 ? at + n - r : 16;
        vec16 log_sum, z;
        VEC(loss_log_sum)(&log_sum, v, r, m);
        for (size_t k = 0; k < v->c; k++) {
            VEC(loss_class)(&z, v, r, m, k);
            z -= log_sum;
            VEC(vec_exp)(&z);
            for (size_t j = 0; j < m; j++) {
                const int has = loss_labelled(v, r + j);
                const float hit = has && (size_t)v->label[r + j] == k ? 1.0f : 0.0f;
                vec_put(dx, v->bf16, (r + j) * v->c + k, has ? f * (z[j] - hit) : 0.0f);
            }
        }
    }
}

VEC_LEAF void VEC(sum_l1s)(const loss_view *v, size_t at, size_t n, double s[LOSS_SUMS])
{
    for (size_t i = at; i < at + n; i++) {
        const float e = fabsf(vec_get(v->x, v->bf16, i) - v->target[i]);
        s[0] += (double)(v->weight[i] * (e < v->beta ? e * e / (2 * v->beta) : e - v->beta / 2));
        s[1] += (double)v->weight[i];
    }
}

VEC_LEAF void VEC(grad_l1s)(const loss_view *v, size_t at, size_t n, const double s[LOSS_SUMS], float scale, void *dx)
{
    const float f = (float)((double)scale / fmax(s[1], 1));
    for (size_t i = at; i < at + n; i++) {
        const float e = vec_get(v->x, v->bf16, i) - v->target[i];
        const float slope = fabsf(e) < v->beta ? e / v->beta : (float)((e > 0) - (e < 0));
        vec_put(dx, v->bf16, i, f * v->weight[i] * slope);
    }
}
