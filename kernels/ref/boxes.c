/* ref/boxes: the boxes of a detector, word by word as kernels/boxes.h and backend.h say it: lists are sorted whole, and each box is
 * held against every one that was kept. */
#include "kernels/ref/ref.h"

#include <stdlib.h>
#include <string.h>

typedef struct found {
    box at;
    float score;
    int64_t place;
} found;

static int by_score(const void *a, const void *b)
{
    const found *x = a, *y = b;
    if (isnan(x->score) != isnan(y->score)) return isnan(x->score) ? 1 : -1;
    if (x->score > y->score || x->score < y->score) return x->score > y->score ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* All places of a level, best first, cut to the candidates, decoded, thinned; returns how many stand in list. */
static int64_t level_of(const boxes_choice *c, int level, tensor_type type, const void *score, const void *delta, const box *from,
                        int64_t image, found *list)
{
    int64_t places = c->first[c->levels], first = c->first[level], n = c->first[level + 1] - first, kept = 0;
    for (int64_t i = 0; i < n; i++) {
        list[i].place = first + i;
        list[i].score = tensor_number(type, score, (image * places + first + i) * c->score_step + c->score_first);
    }
    qsort(list, (size_t)n, sizeof *list, by_score);
    for (int64_t i = 0; i < n && i < c->candidates && kept < c->most; i++) {
        found f = list[i];
        float d[4];
        for (int k = 0; k < 4; k++) d[k] = tensor_number(type, delta, 4 * (image * places + f.place) + k);
        box of = from ? from[image * places + f.place] : box_anchor(&c->anchors[level], c->wide[level], f.place - first);
        f.at = box_clip(box_decode(of, d, c->weight), c->height, c->width);
        int stays = f.at.y1 - f.at.y0 >= c->side && f.at.x1 - f.at.x0 >= c->side;
        for (int64_t k = 0; k < kept; k++) stays &= !(box_iou(list[k].at, f.at) > c->iou);
        if (stays) list[kept++] = f;
    }
    return kept;
}

/* The best of all levels, without those that lie in better ones. */
static int64_t image_of(const boxes_choice *c, found *list, int64_t n)
{
    int64_t kept = 0;
    qsort(list, (size_t)n, sizeof *list, by_score);
    for (int64_t i = 0; i < n && i < c->most; i++) {
        int stays = 1;
        for (int64_t k = 0; k < kept; k++) stays &= !(box_shared(list[i].at, list[k].at) > c->inside * box_area(list[i].at));
        if (stays) list[kept++] = list[i];
    }
    return kept;
}

status ref_boxes_select(device *d, const boxes_choice *c, int64_t images, tensor_type type, const void *score, const void *delta,
                        const float *from, float *to)
{
    (void)d;
    COV_TRY(boxes_choice_check(c, images, type, from));
    int row = c->scored ? 5 : 4;
    found *list = malloc((size_t)(c->first[c->levels] + 1) * sizeof *list);
    if (!list) return COV_FAIL(COV_NOMEM, "ref: no memory for %lld boxes", (long long)c->first[c->levels]);
    memset(to, 0, (size_t)(images * c->most * row) * sizeof *to);
    for (int64_t i = 0; i < images; i++) {
        int64_t n = 0;
        for (int k = 0; k < c->levels; k++) n += level_of(c, k, type, score, delta, (const box *)from, i, list + n);
        n = image_of(c, list, n);
        for (int64_t k = 0; k < n; k++) {
            float *at = to + (i * c->most + k) * row;
            memcpy(at, &list[k].at, sizeof list[k].at);
            if (c->scored) at[4] = list[k].score;
        }
    }
    free(list);
    return COV_OK;
}

status ref_boxes_around(device *d, tensor_type type, int64_t n, int64_t h, int64_t w, int64_t c, int64_t channel, const void *x, float *to)
{
    (void)d;
    COV_TRY(boxes_around_check(type, n, h, w, c, channel));
    for (int64_t i = 0; i < n; i++) {
        int64_t y0 = h, y1 = 0, x0 = w, x1 = 0;
        for (int64_t p = 0; p < h * w; p++) {
            if (!(tensor_number(type, x, (i * h * w + p) * c + channel) != 0)) continue;
            int64_t y = p / w, at = p % w;
            y0 = y < y0 ? y : y0;
            y1 = y + 1;
            x0 = at < x0 ? at : x0;
            x1 = at + 1 > x1 ? at + 1 : x1;
        }
        const float around[4] = {y1 ? (float)y0 : 0, y1 ? (float)x0 : 0, (float)(y1 ? y1 : h), (float)(y1 ? x1 : w)};
        memcpy(to + 4 * i, around, sizeof around);
    }
    return COV_OK;
}

status ref_boxes_paste(device *d, const boxes_pasting *p)
{
    (void)d;
    COV_TRY(boxes_pasting_check(p));
    uint8_t *to = p->to;
    for (int k = 0; k < p->count; k++)
        for (int64_t y = p->y0[k]; y < p->y1[k]; y++)
            for (int64_t x = p->x0[k]; x < p->x1[k]; x++) {
                int seen = !p->inside || p->inside[y * p->nx + x];
                *to++ = seen ? box_pasted(p->probability + k * p->size * p->size, p->size, p->at[k], p->threshold, y, x) : 0;
            }
    return COV_OK;
}
