/* roialign_body: one roi, forward and (up to sixteen channels) backward; see roialign.c. No include guard: compiled
 * once an instruction set. */

/* One row of bins, m channels from k. */
VEC_STEP void VEC(roi_forward_row)(const roi_work *w, int bf16, int py, int64_t k, size_t m)
{
    const roi_axis *v = w->rows, *u = w->cols;
    vec16 line[ROI_TAPS], x;
    for (int s = 0; s < u->slots; s++) {
        vec16 sum = {0};
        for (int e = v->first[py]; e < v->first[py + 1]; e++) {
            VEC(vec_take)(&x, w->x, bf16, (size_t)((v->pixel[v->slot[e]] * w->width + u->pixel[s]) * w->c + k), m);
            sum += x * v->weight[e];
        }
        line[s] = sum;
    }
    for (int px = 0; px < u->bins; px++) {
        vec16 sum = {0};
        for (int e = u->first[px]; e < u->first[px + 1]; e++) sum += line[u->slot[e]] * u->weight[e];
        VEC(vec_give)(w->y, bf16, (size_t)((py * u->bins + px) * w->c + k), &sum, m);
    }
}

/* All channels of a row of bins before the next, so that y is written from front to back. */
VEC_STEP void VEC(roi_forward_body)(const roi_work *w, int bf16)
{
    for (int py = 0; py < w->rows->bins; py++) {
        int64_t k = 0;
        for (; k + 16 <= w->c; k += 16) VEC(roi_forward_row)(w, bf16, py, k, 16);
        if (k < w->c) VEC(roi_forward_row)(w, bf16, py, k, (size_t)(w->c - k));
    }
}

VEC_LEAF void VEC(roi_forward_leaf)(const roi_work *w, int bf16)
{
    if (bf16) VEC(roi_forward_body)(w, 1);
    else VEC(roi_forward_body)(w, 0);
}

VEC_STEP void VEC(roi_backward_body)(const roi_work *w, int bf16, size_t m)
{
    const roi_axis *v = w->rows, *u = w->cols;
    vec16 line[ROI_TAPS], dy, sum;
    for (int py = 0; py < v->bins; py++) {
        for (int s = 0; s < u->slots; s++) line[s] = (vec16){0};
        for (int px = 0; px < u->bins; px++) {
            VEC(vec_take)(&dy, w->dy, bf16, (size_t)((py * u->bins + px) * w->c), m);
            for (int e = u->first[px]; e < u->first[px + 1]; e++) line[u->slot[e]] += dy * u->weight[e];
        }
        for (int e = v->first[py]; e < v->first[py + 1]; e++)
            for (int s = 0; s < u->slots; s++) {
                const size_t at = (size_t)(v->pixel[v->slot[e]] * w->width + u->pixel[s]) * 16;
                VEC(vec_load)(&sum, w->picture, 0, at);
                sum += line[s] * v->weight[e];
                VEC(vec_store)(w->picture, 0, at, &sum);
            }
    }
}

VEC_LEAF void VEC(roi_backward_leaf)(const roi_work *w, int bf16)
{
    if (bf16 && w->m == 16) VEC(roi_backward_body)(w, 1, 16);
    else if (w->m == 16) VEC(roi_backward_body)(w, 0, 16);
    else VEC(roi_backward_body)(w, bf16, w->m);
}

VEC_LEAF void VEC(roi_out_leaf)(int bf16, int64_t pixels, int64_t c, size_t m, const float *picture, char *dx)
{
    vec16 v;
    for (int64_t i = 0; i < pixels; i++) {
        VEC(vec_load)(&v, picture, 0, (size_t)i * 16);
        VEC(vec_give)(dx, bf16, (size_t)(i * c), &v, m);
    }
}
