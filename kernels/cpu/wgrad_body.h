/* wgrad_body: the vector loops of a convolution's weight gradient, compiled once an instruction set; see wgrad.c and vec.h. No include
 * guard. VEC_FLOATS: floats of one register. */
typedef float VEC(wgrad_register) __attribute__((vector_size(4 * VEC_FLOATS)));

/* One tile of dw, `rows` outputs by `wide` registers of inputs, at one tap of the window, over a strip. */
VEC_STEP void VEC(wgrad_tile)(const wgrad_strip *t, int rows, int wide, int64_t ky, int64_t kx, int64_t o, int64_t i)
{
    const wgrad *g = t->g;
    VEC(wgrad_register) sum[4][2] = {0};
    const int64_t x_step = g->stride * g->ci;
    int64_t from = 0, to = g->wo;
    while (from < to && from * g->stride + kx - g->pad < 0) from++;
    while (to > from && (to - 1) * g->stride + kx - g->pad >= g->w) to--;
    for (int64_t y = t->from; y < t->to; y++) {
        const int64_t iy = y * g->stride + ky - g->pad;
        if (iy < 0 || iy >= g->h) continue;
        const float *x = t->x + (iy * g->w + from * g->stride + kx - g->pad) * g->ci + i, *dy = t->dy + (y * g->wo + from) * g->co + o;
        for (int64_t p = from; p < to; p++, x += x_step, dy += g->co) {
            VEC(wgrad_register) v[2];
            for (int q = 0; q < wide; q++) memcpy(&v[q], x + VEC_FLOATS * q, sizeof v[q]);
            for (int r = 0; r < rows; r++)
                for (int q = 0; q < wide; q++) sum[r][q] += dy[r] * v[q];
        }
    }
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < wide; q++) {
            float *to_dw = t->dw + (((o + r) * g->kernel + ky) * g->kernel + kx) * g->ci + i + VEC_FLOATS * q;
            VEC(wgrad_register) before;
            memcpy(&before, to_dw, sizeof before);
            before += sum[r][q];
            memcpy(to_dw, &before, sizeof before);
        }
}

/* All taps and inputs of outputs [o, o + 4). Wide tiles have 8 sums under way, which hides a multiplication's latency. */
VEC_LEAF void VEC(wgrad_outputs)(const wgrad_strip *t, int64_t o)
{
    const wgrad *g = t->g;
    for (int64_t ky = 0; ky < g->kernel; ky++)
        for (int64_t kx = 0; kx < g->kernel; kx++) {
            int64_t i = 0;
            for (; i + 2 * VEC_FLOATS <= g->ci; i += 2 * VEC_FLOATS) VEC(wgrad_tile)(t, 4, 2, ky, kx, o, i);
            if (i < g->ci) VEC(wgrad_tile)(t, 4, 1, ky, kx, o, i);
        }
}
