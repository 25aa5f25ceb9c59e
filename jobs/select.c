/* select: see select.h. */
#include "jobs/select.h"

#include <stdlib.h>

status select_studies(cohort *c, const option_list *names, int64_t **studies, int64_t *count)
{
    *count = names->count ? names->count : cohort_count(c);
    *studies = malloc(sizeof **studies * (size_t)(*count + 1));
    if (!*studies) return COV_FAIL(COV_NOMEM, "no memory for %lld studies", (long long)*count);
    for (int64_t k = 0; k < *count; k++) {
        (*studies)[k] = k;
        status s = names->count ? cohort_find(c, names->items[k], &(*studies)[k]) : COV_OK;
        if (s == COV_OK) continue;
        free(*studies);
        *studies = NULL;
        return s;
    }
    return COV_OK;
}

void select_flags(const study_row *row, str *to)
{
    static const struct { int bit; const char *name; } flags[] = {
#define X(name, bit, text) {bit, #name},
        QC_FLAGS(X)
#undef X
    };
    for (size_t k = 0; k < sizeof flags / sizeof flags[0]; k++)
        if (row->qc_flags >> flags[k].bit & 1) str_putf(to, "%s%s", to->length ? " " : "", flags[k].name);
}
