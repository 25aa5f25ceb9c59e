/* boxes: what backends check before they begin; see boxes.h. */
#include "kernels/boxes.h"

status boxes_choice_check(const boxes_choice *c, int64_t images, tensor_type type, const void *from)
{
    int fits = images >= 0 && c->levels >= 1 && c->levels <= (from ? 1 : BOXES_LEVELS) && c->first[0] == 0 && c->score_step >= 1 &&
               c->score_first >= 0 && c->side > 0 && c->candidates >= 1 && c->candidates <= BOXES_SELECT_MOST && c->most >= 1 &&
               c->most <= BOXES_SELECT_MOST && (type == TENSOR_F32 || type == TENSOR_BF16);
    for (int k = 0; fits && k < c->levels; k++) {
        const box_anchors *a = &c->anchors[k];
        fits = c->first[k + 1] >= c->first[k] && c->first[k + 1] <= INT32_MAX / 4;
        if (!from) fits &= c->wide[k] >= 1 && a->sizes >= 1 && a->sizes <= BOX_SIZES && a->ratios >= 1 && a->ratios <= BOX_RATIOS;
    }
    if (fits && images <= INT32_MAX / BOXES_LEVELS && c->first[c->levels] <= INT32_MAX / c->score_step &&
        images * c->first[c->levels] <= INT64_MAX / 64 / c->score_step)
        return COV_OK;
    return COV_FAIL(COV_BROKEN, "boxes: %d of the best %d of %lld in %d levels of %lld images", c->most, c->candidates,
                    (long long)c->first[fits ? c->levels : 0], c->levels, (long long)images);
}

status boxes_pasting_check(const boxes_pasting *p)
{
    int fits = p->count >= 0 && p->count <= BOXES_PASTE_MOST && p->size >= 1 && p->ny >= 1 && p->nx >= 1 && p->ny <= INT32_MAX / p->nx;
    for (int k = 0; fits && k < p->count; k++)
        fits = p->y0[k] >= 0 && p->y0[k] <= p->y1[k] && p->y1[k] <= p->ny && p->x0[k] >= 0 && p->x0[k] <= p->x1[k] && p->x1[k] <= p->nx;
    if (fits) return COV_OK;
    return COV_FAIL(COV_BROKEN, "masks of %d regions of %d bins on a slice of %lld x %lld, or one that lies outside", p->count,
                    p->size, (long long)p->ny, (long long)p->nx);
}

status boxes_around_check(tensor_type type, int64_t n, int64_t h, int64_t w, int64_t c, int64_t channel)
{
    int fits = n >= 0 && h >= 1 && w >= 1 && c >= 1 && channel >= 0 && channel < c && h <= INT32_MAX && w <= INT32_MAX &&
               n <= INT32_MAX / h && (type == TENSOR_F32 || type == TENSOR_BF16) && n * h <= INT64_MAX / 8 / w / c;
    if (fits) return COV_OK;
    return COV_FAIL(COV_BROKEN, "boxes around channel %lld of %lld images of %lld x %lld x %lld", (long long)channel, (long long)n,
                    (long long)h, (long long)w, (long long)c);
}
