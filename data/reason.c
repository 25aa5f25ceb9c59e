/* reason: names, texts and outcomes of the codes in reason.h, all from its one list. */
#include "data/reason.h"

#include <string.h>

typedef struct entry { const char *code, *text; outcome result; } entry;
static const entry entries[] = {
#define X(code, number, outcome, text) [number] = {#code, text, OUTCOME_##outcome},
    REASONS(X)
#undef X
};

static const entry *at(reason r) { return &entries[(unsigned)r < REASON_COUNT ? r : REASON_INTERNAL]; }
const char *reason_code(reason r) { return r == REASON_NONE ? "" : at(r)->code; }
const char *reason_text(reason r) { return at(r)->text; }
outcome reason_outcome(reason r) { return at(r)->result; }
const char *outcome_name(outcome o) { return o == OUTCOME_DONE ? "done" : o == OUTCOME_SKIPPED ? "skipped" : "failed"; }

int reason_find(const char *code)
{
    for (int k = 1; k < REASON_COUNT; k++)
        if (strcmp(entries[k].code, code) == 0) return k;
    return -1;
}
