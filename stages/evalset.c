/* evalset: see evalset.h. Isolated slices are grouped by patient, as a folder of them would be one study in an archive:
 * a false positive "per study" and an interval over patients mean the same for both kinds. */
#include "stages/evalset.h"

#include "base/size.h"
#include "data/image.h"
#include "data/mask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int annotated(const cases_row *r)
{
    return r->lesion || r->period == 0;
}

typedef struct slice_size { int32_t rows, cols; } slice_size;

static status size_of(const cases_row *r, slice_size *out)
{
    reason why;
    image head = {0};
    COV_TRY(image_header(r->ct, &head, &why));
    *out = (slice_size){head.rows, head.cols};
    return COV_OK;
}

status evalset_list(const cases *c, const char *only, evalset_entry **out, size_t *count)
{
    status s = COV_OK;
    slice_size size = {0}, last = {0};
    *count = 0;
    *out = malloc((c->count + 1) * sizeof **out);
    if (!*out) return COV_FAIL(COV_NOMEM, "no memory for %zu cases", c->count);
    for (size_t k = 0; k < c->count; k++) {
        const cases_row *r = &c->rows[k];
        if (!annotated(r) || (only && *only && !trainset_held_out(only, r->patient))) continue;
        int isolated = r->kind == CASES_SLICE;
        if (isolated) COV_GO(size_of(r, &size));
        evalset_entry *open = *count ? &(*out)[*count - 1] : NULL;
        int joins = open && isolated && open->isolated && strcmp(open->patient, r->patient) == 0 &&
                    open->rows + open->count == r && size.rows == last.rows && size.cols == last.cols &&
                    !open->rows->lung == !r->lung && open->rows->period == r->period;
        if (joins) open->count++;
        else (*out)[(*count)++] = (evalset_entry){isolated ? r->patient : r->id, r->patient, r, 1, isolated};
        last = size;
    }
done:
    if (s != COV_OK) {
        free(*out);
        *out = NULL;
    }
    return s;
}

static size_t voxels(const volume_header *h)
{
    return (size_t)h->nx * (size_t)h->ny * (size_t)h->nz;
}

status evalset_make(int64_t nx, int64_t ny, int64_t nz, int with_lung, evalset_study *out)
{
    enum { AIR = -1000 };
    size_t n, bytes;
    *out = (evalset_study){.period = -1};
    if (!size_product((const int64_t[]){nx, ny, nz}, 3, &n) || !size_mul(n, sizeof(int16_t), &bytes))
        return COV_FAIL(COV_NOMEM, "a study of %lld x %lld x %lld voxels", (long long)nx, (long long)ny, (long long)nz);
    out->v.ct.head = (volume_header){.nx = nx, .ny = ny, .nz = nz, .spacing_mm = {1, 1, 1}};
    for (int k = 0; k < 4; k++) out->v.ct.head.affine[k][k] = k < 2 ? -1 : 1;
    out->v.ct.hu = malloc(bytes);
    out->v.lesion = calloc(n, 1);
    if (with_lung) out->v.lung = calloc(n, 1);
    if (!out->v.ct.hu || !out->v.lesion || (with_lung && !out->v.lung)) {
        evalset_free(out);
        return COV_FAIL(COV_NOMEM, "no memory for a study of %zu voxels", n);
    }
    for (size_t i = 0; i < n; i++) out->v.ct.hu[i] = AIR;
    return COV_OK;
}

static status copy_mask(const cases_row *r, const char *path, int64_t rows, int64_t cols, uint8_t *to)
{
    int32_t h, w;
    uint8_t *label = NULL;
    COV_TRY(mask_read_slice(path, &h, &w, &label));
    status s = h == rows && w == cols ? COV_OK
                                      : COV_FAIL(COV_FORMAT, "case %s: %s is %d x %d, its image %lld x %lld", r->id,
                                                 path, h, w, (long long)rows, (long long)cols);
    if (s == COV_OK) memcpy(to, label, (size_t)rows * (size_t)cols);
    free(label);
    return s;
}

static status read_slice(const cases_row *r, int64_t z, evalset_study *out)
{
    const volume_header *h = &out->v.ct.head;
    const window w = window_lung();
    int32_t rows, cols;
    uint8_t *grey = NULL;
    size_t n = (size_t)h->nx * (size_t)h->ny, at = (size_t)z * n;
    COV_TRY(image_read_u8(r->ct, &rows, &cols, &grey));
    for (size_t i = 0; i < n; i++)
        out->v.ct.hu[at + i] = (int16_t)(w.level - 0.5f * w.width + w.width * (float)grey[i] / 255.0f);
    free(grey);
    if (r->lung) COV_TRY(copy_mask(r, r->lung, h->ny, h->nx, out->v.lung + at));
    if (r->lesion) COV_TRY(copy_mask(r, r->lesion, h->ny, h->nx, out->v.lesion + at));
    return COV_OK;
}

status evalset_read(const evalset_entry *e, evalset_study *out)
{
    status s;
    slice_size size = {0};
    *out = (evalset_study){0};
    if (e->isolated) {
        COV_GO(size_of(e->rows, &size));
        COV_GO(evalset_make(size.cols, size.rows, (int64_t)e->count, e->rows->lung != NULL, out));
        for (size_t k = 0; k < e->count; k++) COV_GO(read_slice(&e->rows[k], (int64_t)k, out));
    } else {
        COV_GO(trainset_read(e->rows, &out->v));
        if (!out->v.lesion && !(out->v.lesion = calloc(voxels(&out->v.ct.head), 1)))
            COV_GO(COV_FAIL(COV_NOMEM, "no memory for case %s", e->id));
    }
    out->patient = e->patient;
    out->isolated = out->v.ct.head.isolated = e->isolated;
    out->scale_known = !e->isolated;
    out->period = e->rows->period;
    snprintf(out->id, sizeof out->id, "%s", e->id);
done:
    if (s != COV_OK) evalset_free(out);
    return s;
}

void evalset_free(evalset_study *s)
{
    trainset_volume_free(&s->v);
}

/* ---- coronal */

typedef struct coronal {
    const volume_header *from;
    int64_t y0, y1, rows, side, top,
        left; /* y range; rows of the resampled z; the square's side and where the image lies in it */
} coronal;

static status coronal_plan(const volume_header *h, const uint8_t *lung, coronal *c)
{
    int64_t first = h->ny, last = -1;
    for (int64_t z = 0; z < h->nz; z++)
        for (int64_t y = 0; y < h->ny; y++)
            for (int64_t x = 0; x < h->nx; x++)
                if (lung[(z * h->ny + y) * h->nx + x]) {
                    first = y < first ? y : first;
                    last = y > last ? y : last;
                }
    if (last < 0) return COV_FAIL(COV_USAGE, "no lung to show in a coronal view");
    *c = (coronal){.from = h, .y0 = first > 0 ? first - 1 : 0, .y1 = last + 2 < h->ny ? last + 2 : h->ny};
    c->rows = (int64_t)((double)h->nz * h->spacing_mm[2] / h->spacing_mm[0] + 0.5);
    if (c->rows < 1 || c->rows > 4096) return COV_FAIL(COV_USAGE, "a coronal view of %lld rows", (long long)c->rows);
    c->side = c->rows > h->nx ? c->rows : h->nx;
    c->top = (c->side - c->rows) / 2;
    c->left = (c->side - h->nx) / 2;
    return COV_OK;
}

/* One row of one coronal slice; at: 0 for the uppermost. */
static void coronal_row(const coronal *c, const evalset_study *of, const uint8_t *lung, int64_t y, int64_t at,
                        evalset_study *out, uint8_t *out_lung)
{
    const volume_header *h = c->from;
    double z = ((double)(c->rows - 1 - at) + 0.5) * (double)h->nz / (double)c->rows - 0.5;
    z = z < 0 ? 0 : z > (double)(h->nz - 1) ? (double)(h->nz - 1) : z;
    int64_t low = (int64_t)z, high = low + 1 < h->nz ? low + 1 : low, nearest = z - (double)low < 0.5 ? low : high;
    float f = (float)(z - (double)low);
    size_t to = (size_t)(((y - c->y0) * c->side + c->top + at) * c->side + c->left);
    size_t a = (size_t)((low * h->ny + y) * h->nx), b = (size_t)((high * h->ny + y) * h->nx),
           m = (size_t)((nearest * h->ny + y) * h->nx);
    for (size_t x = 0; x < (size_t)h->nx; x++) {
        out->v.ct.hu[to + x] = (int16_t)((1 - f) * (float)of->v.ct.hu[a + x] + f * (float)of->v.ct.hu[b + x]);
        out->v.lesion[to + x] = of->v.lesion[m + x];
        if (out->v.lung) out->v.lung[to + x] = of->v.lung[m + x];
        out_lung[to + x] = lung[m + x];
    }
}

status evalset_coronal(const evalset_study *of, const uint8_t *lung, evalset_study *out, uint8_t **out_lung)
{
    status s;
    coronal c = {0};
    const volume_header *h = &of->v.ct.head;
    *out = (evalset_study){0};
    *out_lung = NULL;
    COV_GO(coronal_plan(h, lung, &c));
    COV_GO(evalset_make(c.side, c.side, c.y1 - c.y0, of->v.lung != NULL, out));
    if (!(*out_lung = calloc(voxels(&out->v.ct.head), 1)))
        COV_GO(COV_FAIL(COV_NOMEM, "no memory for the coronal lung of %s", of->id));
    out->patient = of->patient;
    out->scale_known = of->scale_known;
    out->period = of->period == 0 ? 0 : -1;
    snprintf(out->id, sizeof out->id, "%.110s coronal", of->id);
    out->v.ct.head.spacing_mm[0] = out->v.ct.head.spacing_mm[1] = h->spacing_mm[0];
    out->v.ct.head.spacing_mm[2] = h->spacing_mm[1];
    for (int64_t y = c.y0; y < c.y1; y++)
        for (int64_t r = 0; r < c.rows; r++) coronal_row(&c, of, lung, y, r, out, *out_lung);
done:
    if (s != COV_OK) {
        evalset_free(out);
        free(*out_lung);
        *out_lung = NULL;
    }
    return s;
}
