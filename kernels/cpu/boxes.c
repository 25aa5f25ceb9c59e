/* boxes: the boxes of a detector on the CPU: levels of images, then images, are dealt to the threads; none changes a result.
 * Scratch memory is taken and given back in each call, as a step may run for several nets at once. */
#include "kernels/cpu/cpu.h"
#include <stdlib.h>
#include <string.h>

/* Of all images, level after level: candidates, and which of them NMS keeps; then what was kept. */
typedef struct selecting {
    const boxes_choice *c;
    tensor_type type;
    const void *score, *delta;
    const box *from;
    float *scores;   /* of each place */
    int32_t *index, *keep;
    box *decoded, *kept;
    float *best;    /* scores of kept */
    int64_t *count; /* kept of an image's level */
} selecting;

/* The best of level k of an image, decoded and thinned. */
static void select_level(const selecting *s, int64_t image, int k)
{
    const boxes_choice *c = s->c;
    int64_t first = c->first[k], n = c->first[k + 1] - first, boxes = 0, task = image * c->levels + k;
    int64_t start = image * c->first[c->levels] + first;
    float *scores = s->scores + start, *best = s->best + task * c->most;
    int32_t *index = s->index + task * c->candidates, *keep = s->keep + task * c->candidates;
    box *decoded = s->decoded + task * c->candidates, *kept = s->kept + task * c->most;
    for (int64_t i = 0; i < n; i++) scores[i] = tensor_number(s->type, s->score, (start + i) * c->score_step + c->score_first);
    int64_t got = box_top_k(scores, n, c->candidates, index);
    for (int64_t j = 0; j < got; j++) {
        float delta[4];
        for (int e = 0; e < 4; e++) delta[e] = tensor_number(s->type, s->delta, 4 * (start + index[j]) + e);
        box of = s->from ? s->from[start + index[j]] : box_anchor(&c->anchors[k], c->wide[k], index[j]);
        box b = box_clip(box_decode(of, delta, c->weight), c->height, c->width);
        if (!(b.y1 - b.y0 >= c->side && b.x1 - b.x0 >= c->side)) continue;
        index[boxes] = index[j];
        decoded[boxes++] = b;
    }
    int64_t count = s->count[task] = box_nms(decoded, NULL, boxes, c->iou, c->most, keep);
    for (int64_t j = 0; j < count; j++) {
        kept[j] = decoded[keep[j]];
        best[j] = scores[index[keep[j]]];
    }
}

/* The best of an image's levels, which are moved together first. */
static void select_image(const selecting *s, int64_t image, float *to)
{
    const boxes_choice *c = s->c;
    int64_t task = image * c->levels, count = s->count[task], most = c->most;
    box *kept = s->kept + task * most;
    float *best = s->best + task * most;
    int32_t *order = s->index + task * c->candidates;
    int row = c->scored ? 5 : 4;
    for (int k = 1; k < c->levels; k++) {
        memmove(kept + count, kept + k * most, (size_t)s->count[task + k] * sizeof *kept);
        memmove(best + count, best + k * most, (size_t)s->count[task + k] * sizeof *best);
        count += s->count[task + k];
    }
    int64_t n = box_top_k(best, count, most, order);
    if (c->inside < 1) n = box_drop_inside(kept, n, c->inside, order);
    memset(to, 0, (size_t)(most * row) * sizeof *to);
    for (int64_t j = 0; j < n; j++) {
        memcpy(to + j * row, &kept[order[j]], sizeof *kept);
        if (c->scored) to[j * row + 4] = best[order[j]];
    }
}

static status selecting_new(selecting *s, int64_t images)
{
    const boxes_choice *c = s->c;
    size_t tasks = (size_t)images * (size_t)c->levels, each = tasks * (size_t)c->candidates, all = tasks * (size_t)c->most;
    s->scores = malloc(((size_t)(images * c->first[c->levels]) + 1) * sizeof *s->scores);
    s->index = malloc(each * sizeof *s->index); /* what is kept of all levels is no more */
    s->keep = malloc(each * sizeof *s->keep);
    s->decoded = malloc(each * sizeof *s->decoded);
    s->kept = malloc(all * sizeof *s->kept);
    s->best = malloc(all * sizeof *s->best);
    s->count = malloc(tasks * sizeof *s->count);
    if (s->scores && s->index && s->keep && s->decoded && s->kept && s->best && s->count) return COV_OK;
    return COV_FAIL(COV_NOMEM, "no memory for the boxes of %lld images", (long long)images);
}

static void selecting_free(selecting *s)
{
    free(s->scores);
    free(s->index);
    free(s->keep);
    free(s->decoded);
    free(s->kept);
    free(s->best);
    free(s->count);
}

status cpu_boxes_select(device *d, const boxes_choice *c, int64_t images, tensor_type type, const void *score, const void *delta,
                        const float *from, float *to)
{
    selecting s = {.c = c, .type = type, .score = score, .delta = delta, .from = (const box *)from};
    status r;
    COV_TRY(boxes_choice_check(c, images, type, from));
    if (images == 0) return COV_OK;
    r = selecting_new(&s, images);
    if (r == COV_OK) {
#pragma omp parallel num_threads(d->threads)
        {
#pragma omp for schedule(dynamic, 1)
            for (int64_t t = 0; t < images * c->levels; t++) /* the finest level of each image, the largest, first */
                select_level(&s, t % images, (int)(t / images));
#pragma omp for schedule(dynamic, 1)
            for (int64_t i = 0; i < images; i++) select_image(&s, i, to + i * c->most * (c->scored ? 5 : 4));
        }
    }
    selecting_free(&s);
    return r;
}

status cpu_boxes_around(device *d, tensor_type type, int64_t n, int64_t h, int64_t w, int64_t c, int64_t channel, const void *x, float *to)
{
    COV_TRY(boxes_around_check(type, n, h, w, c, channel));
    for (int64_t i = 0; i < n; i++) {
        int64_t y0 = h, y1 = 0, x0 = w, x1 = 0;
#pragma omp parallel for num_threads(d->threads) reduction(min : y0, x0) reduction(max : y1, x1)
        for (int64_t y = 0; y < h; y++) {
            int64_t row = (i * h + y) * w, a = 0, b = w;
            while (a < w && !(tensor_number(type, x, (row + a) * c + channel) != 0)) a++;
            if (a == w) continue;
            while (!(tensor_number(type, x, (row + b - 1) * c + channel) != 0)) b--;
            y0 = y < y0 ? y : y0;
            y1 = y + 1 > y1 ? y + 1 : y1;
            x0 = a < x0 ? a : x0;
            x1 = b > x1 ? b : x1;
        }
        float *b = to + 4 * i;
        b[0] = y1 ? (float)y0 : 0;
        b[1] = y1 ? (float)x0 : 0;
        b[2] = (float)(y1 ? y1 : h);
        b[3] = (float)(y1 ? x1 : w);
    }
    return COV_OK;
}

status cpu_boxes_paste(device *d, const boxes_pasting *p)
{
    COV_TRY(boxes_pasting_check(p));
    for (int k = 0; k < p->count; k++) {
        const float *probability = p->probability + k * p->size * p->size;
        uint8_t *to = p->to + boxes_pasting_at(p, k);
        int64_t wide = p->x1[k] - p->x0[k];
#pragma omp parallel for num_threads(d->threads)
        for (int64_t y = p->y0[k]; y < p->y1[k]; y++)
            for (int64_t x = p->x0[k]; x < p->x1[k]; x++) {
                int seen = !p->inside || p->inside[y * p->nx + x];
                to[(y - p->y0[k]) * wide + x - p->x0[k]] = seen ? box_pasted(probability, p->size, p->at[k], p->threshold, y, x) : 0;
            }
    }
    return COV_OK;
}
