/* unit: sort, then pack. The trap: ties must be broken by index, or the order depends on the sort. */
#include "data/unit.h"

#include <stdlib.h>
#include <string.h>

enum { TOGETHER = 32, RECORDS_TOGETHER = 64, RANGE_LEAST = 16, RANGES_A_RANK = 2 };

int64_t unit_range(int64_t slices, double voxels, double total, int ranks, int64_t wanted)
{
    if (wanted > 0) return slices >= 2 * wanted ? wanted : 0;
    if (wanted < 0 || ranks < 2 || slices < 2 * RANGE_LEAST || voxels * 2 * ranks <= total) return 0;
    int64_t range = (slices + RANGES_A_RANK * ranks - 1) / (RANGES_A_RANK * ranks);
    return range > RANGE_LEAST ? range : RANGE_LEAST;
}

static double cost_of(const unit_study *s) { return (double)s->slices * (double)s->pixels; }

static int before(const void *pa, const void *pb)
{
    const unit_study *a = pa, *b = pb;
    double ca = cost_of(a), cb = cost_of(b);
    if (a->last != b->last) return a->last ? 1 : -1;
    if (ca != cb) return ca > cb ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* How many studies from `at` on belong together. */
static int64_t handful(const unit_study *s, int64_t left, int64_t together)
{
    int64_t n = 1, slices = s[0].slices;
    if (s[0].last || s[0].slices > together / 4) return 1;
    while (n < left && n < RECORDS_TOGETHER && !s[n].last && slices + s[n].slices <= together &&
           (s[0].slices == 0) == (s[n].slices == 0)) {
        slices += s[n].slices;
        n++;
    }
    return n;
}

status unit_plan(const unit_study *studies, int64_t count, int64_t together_slices, unit_list *out)
{
    *out = (unit_list){0};
    if (count < 0) return COV_FAIL(COV_BROKEN, "a plan for %lld studies", (long long)count);
    if (count == 0) return COV_OK;
    out->studies = malloc((size_t)count * sizeof *out->studies);
    out->units = malloc((size_t)count * sizeof *out->units);
    if (!out->studies || !out->units) {
        unit_list_free(out);
        return COV_FAIL(COV_NOMEM, "no memory to plan %lld studies", (long long)count);
    }
    memcpy(out->studies, studies, (size_t)count * sizeof *studies);
    qsort(out->studies, (size_t)count, sizeof *out->studies, before);
    out->study_count = count;
    for (int64_t at = 0; at < count;) {
        unit u = {.first = at, .count = handful(out->studies + at, count - at, together_slices > 0 ? together_slices : TOGETHER)};
        for (int64_t k = 0; k < u.count; k++) u.cost += cost_of(&out->studies[at + k]);
        out->units[out->count++] = u;
        at += u.count;
    }
    return COV_OK;
}

void unit_list_free(unit_list *l)
{
    free(l->units);
    free(l->studies);
    *l = (unit_list){0};
}
