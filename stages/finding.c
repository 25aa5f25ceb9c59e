/* finding: see finding.h. One allocation a mask: findings are few (tens a slice), and freed together. */
#include "stages/finding.h"

#include "base/size.h"

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
