/* finding: see finding.h. One allocation a mask: findings are few (tens a slice), and freed together. Packed: nz, then
 * nz rows of periods, the count, and each finding's fields and its mask, a bit a pixel; as they lie in memory, for like
 * machines. */
#include "stages/finding.h"

#include "base/size.h"
#include "base/str.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM_FIRST = 64 };

status findings_new(int64_t nz, findings **out)
{
    size_t bytes;
    *out = NULL;
    if (!size_product((const int64_t[]){nz, sizeof(float[FINDING_PERIODS])}, 2, &bytes))
        return COV_FAIL(COV_BROKEN, "findings of %lld slices", (long long)nz);
    findings *f = calloc(1, sizeof *f);
    if (f) f->period = malloc(bytes ? bytes : 1);
    if (!f || !f->period) {
        free(f);
        return COV_FAIL(COV_NOMEM, "no memory for the findings of %lld slices", (long long)nz);
    }
    f->nz = nz;
    for (int64_t z = 0; z < nz; z++)
        for (int k = 0; k < FINDING_PERIODS; k++) f->period[z][k] = NAN;
    *out = f;
    return COV_OK;
}

void findings_free(findings **at)
{
    findings *f = at ? *at : NULL;
    if (!f) return;
    for (int64_t i = 0; i < f->count; i++) free(f->at[i].mask);
    free(f->at);
    free(f->period);
    free(f);
    *at = NULL;
}

static status reserve(findings *f, int64_t count)
{
    size_t bytes;
    if (count <= f->room) return COV_OK;
    int64_t room = f->room ? f->room : ROOM_FIRST;
    while (room < count) room *= 2;
    finding *at = size_product((const int64_t[]){room, sizeof *at}, 2, &bytes) ? realloc(f->at, bytes) : NULL;
    if (!at) return COV_FAIL(COV_NOMEM, "no memory for %lld findings", (long long)room);
    f->at = at;
    f->room = room;
    return COV_OK;
}

status findings_add(findings *f, const finding *one)
{
    size_t bytes = 0;
    finding copy = *one;
    if (one->z < 0 || one->z >= f->nz || one->y0 >= one->y1 || one->x0 >= one->x1 || !isfinite(one->score) ||
        !size_product((const int64_t[]){(int64_t)one->y1 - one->y0, (int64_t)one->x1 - one->x0}, 2, &bytes))
        return COV_FAIL(COV_BROKEN, "a finding on slice %lld of %lld, rows %d to %d, columns %d to %d, score %g",
                        (long long)one->z, (long long)f->nz, one->y0, one->y1, one->x0, one->x1, (double)one->score);
    copy.area_px = 0;
    for (size_t i = 0; i < bytes; i++) copy.area_px += one->mask[i] != 0;
    if (!copy.area_px) return COV_OK;
    COV_TRY(reserve(f, f->count + 1));
    if (!(copy.mask = malloc(bytes))) return COV_FAIL(COV_NOMEM, "no memory for a mask of %zu pixels", bytes);
    for (size_t i = 0; i < bytes; i++) copy.mask[i] = one->mask[i] != 0;
    f->at[f->count++] = copy;
    return COV_OK;
}

/* Findings that are equal in all of this differ in their masks alone: then those decide. */
static int in_order(const void *pa, const void *pb)
{
    const finding *a = pa, *b = pb;
    if (a->z != b->z) return a->z < b->z ? -1 : 1;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (a->y0 != b->y0) return a->y0 < b->y0 ? -1 : 1;
    if (a->x0 != b->x0) return a->x0 < b->x0 ? -1 : 1;
    if (a->y1 != b->y1) return a->y1 < b->y1 ? -1 : 1;
    if (a->x1 != b->x1) return a->x1 < b->x1 ? -1 : 1;
    return memcmp(a->mask, b->mask, (size_t)(a->y1 - a->y0) * (size_t)(a->x1 - a->x0));
}

void findings_sort(findings *f)
{
    if (f->count > 1) qsort(f->at, (size_t)f->count, sizeof *f->at, in_order);
}

status findings_merge(findings *into, findings *from)
{
    if (into->nz != from->nz)
        return COV_FAIL(COV_BROKEN, "findings of %lld slices to be merged into those of %lld", (long long)from->nz,
                        (long long)into->nz);
    COV_TRY(reserve(into, into->count + from->count));
    if (from->count) memcpy(into->at + into->count, from->at, (size_t)from->count * sizeof *from->at);
    into->count += from->count;
    from->count = 0;
    for (int64_t z = 0; z < from->nz; z++)
        if (!isnan(from->period[z][0])) memcpy(into->period[z], from->period[z], sizeof into->period[z]);
    return COV_OK;
}

/* ---- bytes */

typedef struct packed {
    int64_t z;
    int32_t y0, x0, y1, x1;
    float score;
    int32_t spare;
} packed;

static size_t pixels_of(const packed *p) { return (size_t)(p->y1 - p->y0) * (size_t)(p->x1 - p->x0); }

status findings_pack(const findings *f, void **bytes, size_t *count)
{
    str b = {0};
    *bytes = NULL;
    str_put_bytes(&b, &f->nz, sizeof f->nz);
    str_put_bytes(&b, f->period, (size_t)f->nz * sizeof *f->period);
    str_put_bytes(&b, &f->count, sizeof f->count);
    for (int64_t i = 0; i < f->count; i++) {
        const finding *one = &f->at[i];
        packed p = {one->z, one->y0, one->x0, one->y1, one->x1, one->score, 0};
        str_put_bytes(&b, &p, sizeof p);
        for (size_t at = 0, n = pixels_of(&p); at < n; at += 8) {
            uint8_t bits = 0;
            for (size_t k = 0; k < 8 && at + k < n; k++) bits = (uint8_t)(bits | one->mask[at + k] << k);
            str_put_bytes(&b, &bits, 1);
        }
    }
    if (b.failed) {
        str_free(&b);
        return COV_FAIL(COV_NOMEM, "no memory to pack %lld findings", (long long)f->count);
    }
    *bytes = b.text;
    *count = b.length;
    return COV_OK;
}

typedef struct source {
    const uint8_t *at;
    size_t left;
} source;

static int take(source *s, void *to, size_t n)
{
    if (s->left < n) return 0;
    memcpy(to, s->at, n);
    s->at += n;
    s->left -= n;
    return 1;
}

static status unpack_one(source *s, findings *into)
{
    packed p;
    if (!take(s, &p, sizeof p) || p.y0 < 0 || p.x0 < 0 || p.y1 <= p.y0 || p.x1 <= p.x0 ||
        (pixels_of(&p) + 7) / 8 > s->left)
        return COV_FAIL(COV_FORMAT, "packed findings end too early");
    size_t n = pixels_of(&p);
    uint8_t *mask = malloc(n);
    if (!mask) return COV_FAIL(COV_NOMEM, "no memory for a mask of %zu pixels", n);
    for (size_t k = 0; k < n; k++) mask[k] = s->at[k / 8] >> (k % 8) & 1;
    s->at += (n + 7) / 8;
    s->left -= (n + 7) / 8;
    finding one = {.z = p.z, .y0 = p.y0, .x0 = p.x0, .y1 = p.y1, .x1 = p.x1, .score = p.score, .mask = mask};
    status added = findings_add(into, &one);
    free(mask);
    return added == COV_BROKEN ? COV_FAIL(COV_FORMAT, "packed findings of another study") : added;
}

status findings_unpack(const void *bytes, size_t count, findings *into)
{
    source s = {bytes, count};
    int64_t nz = 0, findings_count = 0;
    float row[FINDING_PERIODS];
    if (!take(&s, &nz, sizeof nz) || nz != into->nz)
        return COV_FAIL(COV_FORMAT, "packed findings of %lld slices, expected %lld", (long long)nz,
                        (long long)into->nz);
    for (int64_t z = 0; z < nz; z++) {
        if (!take(&s, row, sizeof row)) return COV_FAIL(COV_FORMAT, "packed findings end too early");
        if (!isnan(row[0])) memcpy(into->period[z], row, sizeof row);
    }
    if (!take(&s, &findings_count, sizeof findings_count)) return COV_FAIL(COV_FORMAT, "packed findings end too early");
    for (int64_t i = 0; i < findings_count; i++) COV_TRY(unpack_one(&s, into));
    return s.left ? COV_FAIL(COV_FORMAT, "packed findings have %zu bytes too many", s.left) : COV_OK;
}
