/* pool_body: one row of max pooling, forward and backward, and the mean over a sample; see pool.c. No include
 * guard: compiled once an instruction set. */

/* Places [from, to) of a window that lie inside the input. */
VEC_STEP void VEC(pool_inside)(const op *o, int64_t out, int64_t size, int64_t *from, int64_t *to)
{
    const int64_t at = out * o->stride - o->pad;
    *from = at < 0 ? -at : 0;
    *to = size - at < o->kernel ? size - at : o->kernel;
}

/* One window, m <= 16 channels from c: ky in [y0, y1), kx in [x0, x1). */
VEC_STEP void VEC(pool_window)(const pool_row *r, int bf16, int64_t ox, int64_t y0, int64_t y1, int64_t x0, int64_t x1,
                               int64_t c, size_t m)
{
    const int64_t width = r->s->x[0].w, channels = r->s->x[0].c, kernel = r->o->kernel;
    const int64_t iy = r->at * r->o->stride - r->o->pad, ix = ox * r->o->stride - r->o->pad;
    vec16 v, best = (vec16){0} - INFINITY;
    vec16i winner = (vec16i){0} + (int32_t)(y0 * kernel + x0);
    for (int64_t ky = y0; ky < y1; ky++)
        for (int64_t kx = x0; kx < x1; kx++) {
            VEC(vec_take)(&v, r->x, bf16, (size_t)(((iy + ky) * width + ix + kx) * channels + c), m);
            const vec16i more = v > best;
            best = (vec16)((more & (vec16i)v) | (~more & (vec16i)best));
            winner = (more & (int32_t)(ky * kernel + kx)) | (~more & winner);
        }
    VEC(vec_give)(r->y, bf16, (size_t)(ox * channels + c), &best, m);
    if (r->saved == NULL) return;
    const pool_places places = __builtin_convertvector(winner, pool_places);
    memcpy(r->saved + (r->at * r->s->y.w + ox) * channels + c, &places, m);
}

VEC_STEP void VEC(pool_max_row)(const pool_row *r, int bf16)
{
    const int64_t channels = r->s->x[0].c;
    int64_t y0, y1, x0, x1;
    VEC(pool_inside)(r->o, r->at, r->s->x[0].h, &y0, &y1);
    for (int64_t ox = 0; ox < r->s->y.w; ox++) {
        int64_t c = 0;
        VEC(pool_inside)(r->o, ox, r->s->x[0].w, &x0, &x1);
        for (; c + 16 <= channels; c += 16) VEC(pool_window)(r, bf16, ox, y0, y1, x0, x1, c, 16);
        if (c < channels) VEC(pool_window)(r, bf16, ox, y0, y1, x0, x1, c, (size_t)(channels - c));
    }
}

VEC_LEAF void VEC(pool_max_leaf)(const pool_row *r, int bf16)
{
    if (bf16) VEC(pool_max_row)(r, 1);
    else VEC(pool_max_row)(r, 0);
}

/* Windows [from, to) along one axis that cover input index i. */
VEC_STEP void VEC(pool_covering)(const op *o, int64_t i, int64_t outs, int64_t *from, int64_t *to)
{
    const int64_t first = i + o->pad - o->kernel + 1;
    *from = first <= 0 ? 0 : (first + o->stride - 1) / o->stride;
    *to = (i + o->pad) / o->stride + 1;
    if (*to > outs) *to = outs;
}

/* m channels of one input pixel: dx = sum of dy over the windows [y0, y1) x [x0, x1) that it won. */
VEC_STEP void VEC(pool_gather)(const pool_row *r, int bf16, int64_t ix, int64_t y0, int64_t y1, int64_t x0, int64_t x1,
                               int64_t c, size_t m)
{
    const int64_t channels = r->s->x[0].c, outs = r->s->y.w;
    vec16 sum = {0}, v;
    for (int64_t oy = y0; oy < y1; oy++)
        for (int64_t ox = x0; ox < x1; ox++) {
            const int64_t i = (oy * outs + ox) * channels + c;
            const int64_t place =
                (r->at + r->o->pad - oy * r->o->stride) * r->o->kernel + ix + r->o->pad - ox * r->o->stride;
            pool_places saved = {0};
            memcpy(&saved, r->saved + i, m);
            const vec16i won = __builtin_convertvector(saved, vec16i) == (int32_t)place;
            VEC(vec_take)(&v, r->x, bf16, (size_t)i, m);
            sum += (vec16)((vec16i)v & won);
        }
    VEC(vec_give)(r->y, bf16, (size_t)(ix * channels + c), &sum, m);
}

VEC_STEP void VEC(pool_back_row)(const pool_row *r, int bf16)
{
    const int64_t channels = r->s->x[0].c;
    int64_t y0, y1, x0, x1;
    VEC(pool_covering)(r->o, r->at, r->s->y.h, &y0, &y1);
    for (int64_t ix = 0; ix < r->s->x[0].w; ix++) {
        int64_t c = 0;
        VEC(pool_covering)(r->o, ix, r->s->y.w, &x0, &x1);
        for (; c + 16 <= channels; c += 16) VEC(pool_gather)(r, bf16, ix, y0, y1, x0, x1, c, 16);
        if (c < channels) VEC(pool_gather)(r, bf16, ix, y0, y1, x0, x1, c, (size_t)(channels - c));
    }
}

VEC_LEAF void VEC(pool_back_leaf)(const pool_row *r, int bf16)
{
    if (bf16) VEC(pool_back_row)(r, 1);
    else VEC(pool_back_row)(r, 0);
}

/* Sums of 64 pixels are joined, so that a large area loses no digits. */
VEC_LEAF void VEC(pool_mean_leaf)(int bf16, int64_t area, int64_t channels, size_t m, const char *x, char *y)
{
    vec16 sum = {0}, block = {0}, v;
    for (int64_t i = 0; i < area; i++) {
        VEC(vec_take)(&v, x, bf16, (size_t)(i * channels), m);
        block += v;
        if (i % 64 == 63 || i == area - 1) {
            sum += block;
            block = (vec16){0};
        }
    }
    sum /= (float)area;
    VEC(vec_give)(y, bf16, 0, &sum, m);
}
