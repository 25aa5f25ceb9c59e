/* regions: see regions.h. A flood fill with its own stack: a pixel is labelled when it is put there, so each is put
 * once and the stack never holds more than the slice has pixels that belong to a region. */
#include "kernels/regions.h"

#include "kernels/plane.h"

#include <stdlib.h>

enum { UNSEEN = -1 }; /* a label: belongs to a region, which one is not known yet */

typedef struct fill {
    int64_t rows, cols;
    int32_t *labels;
    int32_t *stack; /* of pixel indices */
} fill;

static region fill_from(const fill *f, int32_t first, int32_t label)
{
    region r = {(int32_t)f->rows, (int32_t)f->cols, 0, 0, 0};
    int64_t depth = 0;
    f->labels[first] = label;
    f->stack[depth++] = first;
    while (depth) {
        int32_t at = f->stack[--depth], y = (int32_t)(at / f->cols), x = (int32_t)(at % f->cols);
        r.area++;
        r.y0 = y < r.y0 ? y : r.y0;
        r.x0 = x < r.x0 ? x : r.x0;
        r.y1 = y >= r.y1 ? y + 1 : r.y1;
        r.x1 = x >= r.x1 ? x + 1 : r.x1;
        for (int64_t v = y > 0 ? y - 1 : 0; v <= y + 1 && v < f->rows; v++)
            for (int64_t u = x > 0 ? x - 1 : 0; u <= x + 1 && u < f->cols; u++) {
                int64_t next = v * f->cols + u;
                if (f->labels[next] != UNSEEN) continue;
                f->labels[next] = label;
                f->stack[depth++] = (int32_t)next;
            }
    }
    return r;
}

static status add(region **list, int64_t *count, region r)
{
    if ((*count & (*count - 1)) == 0) {
        region *more = realloc(*list, sizeof **list * (size_t)(*count ? 2 * *count : 1));
        if (!more) return COV_FAIL(COV_NOMEM, "no memory for %lld regions", (long long)*count + 1);
        *list = more;
    }
    (*list)[(*count)++] = r;
    return COV_OK;
}

/* Numbers what is UNSEEN in labels, `set` pixels; elsewhere they are 0. */
static status number(int64_t rows, int64_t cols, size_t set, int32_t *labels, region **out, int64_t *count)
{
    status s = COV_OK;
    fill f = {rows, cols, labels, NULL};
    *out = NULL;
    *count = 0;
    if (!set) return COV_OK;
    f.stack = malloc(set * sizeof *f.stack);
    if (!f.stack) return COV_FAIL(COV_NOMEM, "no memory for the regions of %zu pixels", set);
    for (int64_t i = 0; i < rows * cols; i++)
        if (labels[i] == UNSEEN) COV_GO(add(out, count, fill_from(&f, (int32_t)i, (int32_t)*count + 1)));
done:
    free(f.stack);
    if (s != COV_OK) {
        free(*out);
        *out = NULL;
        *count = 0;
    }
    return s;
}

status regions_find(const uint8_t *mask, int64_t rows, int64_t cols, int32_t *labels, region **out, int64_t *count)
{
    size_t set = 0;
    *out = NULL;
    *count = 0;
    COV_TRY(plane_regions_check(rows, cols));
    for (int64_t i = 0; i < rows * cols; i++) {
        labels[i] = mask[i] ? UNSEEN : 0;
        set += mask[i] != 0;
    }
    return number(rows, cols, set, labels, out, count);
}

status regions_sum(const float *value, int64_t rows, int64_t cols, int32_t *labels, region_sum **out, int64_t *count)
{
    region *list = NULL;
    size_t set = 0;
    *out = NULL;
    *count = 0;
    COV_TRY(plane_regions_check(rows, cols));
    for (int64_t i = 0; i < rows * cols; i++) {
        labels[i] = region_has(value[i]) ? UNSEEN : 0;
        set += labels[i] == UNSEEN;
    }
    COV_TRY(number(rows, cols, set, labels, &list, count));
    if (*count) *out = calloc((size_t)*count, sizeof **out);
    if (*count && !*out) {
        free(list);
        set = (size_t)*count;
        *count = 0;
        return COV_FAIL(COV_NOMEM, "no memory for %zu regions", set);
    }
    for (int64_t k = 0; k < *count; k++) (*out)[k].at = list[k];
    for (int64_t i = 0; i < rows * cols; i++)
        if (labels[i]) (*out)[labels[i] - 1].sum += region_units(value[i]);
    free(list);
    return COV_OK;
}
