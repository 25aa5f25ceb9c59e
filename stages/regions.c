/* regions: see regions.h. A flood fill with its own stack: a pixel is labelled when it is put there, so each is put
 * once and the stack never holds more than the mask has pixels. */
#include "stages/regions.h"

#include "base/size.h"

#include <stdlib.h>
#include <string.h>

static const double TINY_SHARE = 0.059 / 100, PAPER_PIXELS = 512.0 * 512.0;

typedef struct fill {
    const uint8_t *mask;
    int64_t rows, cols;
    int32_t *labels;
    int64_t *stack; /* of pixel indices */
} fill;

static region fill_from(const fill *f, int64_t first, int32_t label)
{
    region r = {(int32_t)f->rows, (int32_t)f->cols, 0, 0, 0};
    int64_t depth = 0;
    f->labels[first] = label;
    f->stack[depth++] = first;
    while (depth) {
        int64_t at = f->stack[--depth];
        int32_t y = (int32_t)(at / f->cols), x = (int32_t)(at % f->cols);
        r.area++;
        r.y0 = y < r.y0 ? y : r.y0;
        r.x0 = x < r.x0 ? x : r.x0;
        r.y1 = y >= r.y1 ? y + 1 : r.y1;
        r.x1 = x >= r.x1 ? x + 1 : r.x1;
        for (int64_t v = y > 0 ? y - 1 : 0; v <= y + 1 && v < f->rows; v++)
            for (int64_t u = x > 0 ? x - 1 : 0; u <= x + 1 && u < f->cols; u++) {
                int64_t next = v * f->cols + u;
                if (!f->mask[next] || f->labels[next]) continue;
                f->labels[next] = label;
                f->stack[depth++] = next;
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

status regions_find(const uint8_t *mask, int64_t rows, int64_t cols, int32_t *labels, region **out, int64_t *count)
{
    status s = COV_OK;
    size_t n, set = 0;
    *out = NULL;
    *count = 0;
    if (rows < 1 || cols < 1 || rows > INT32_MAX || cols > INT32_MAX ||
        !size_product((const int64_t[]){rows, cols, sizeof(int64_t)}, 3, &n))
        return COV_FAIL(COV_USAGE, "regions of a slice of %lld x %lld pixels", (long long)rows, (long long)cols);
    n /= sizeof(int64_t);
    memset(labels, 0, n * sizeof *labels);
    for (size_t i = 0; i < n; i++) set += mask[i] != 0;
    if (!set) return COV_OK;
    fill f = {mask, rows, cols, labels, malloc(set * sizeof(int64_t))};
    if (!f.stack) return COV_FAIL(COV_NOMEM, "no memory for the regions of %zu pixels", set);
    for (size_t i = 0; i < n; i++)
        if (mask[i] && !labels[i]) COV_GO(add(out, count, fill_from(&f, (int64_t)i, (int32_t)*count + 1)));
done:
    free(f.stack);
    if (s != COV_OK) {
        free(*out);
        *out = NULL;
        *count = 0;
    }
    return s;
}

int regions_tiny(int64_t area, int64_t rows, int64_t cols)
{
    return (double)area < TINY_SHARE * (double)rows * (double)cols;
}

double regions_area_512(int64_t area, int64_t rows, int64_t cols)
{
    return (double)area * PAPER_PIXELS / ((double)rows * (double)cols);
}
