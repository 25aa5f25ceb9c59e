/* unit: how an archive is cut into pieces of work: a study, or a handful of small ones. Dearest first, so that the last
 * unit to finish is a short one. The list depends on the studies alone, not on ranks. A study that is dear for the
 * ranks there are may be cut up further, into steps. Local. */
#ifndef COV_DATA_UNIT_H
#define COV_DATA_UNIT_H
#include "base/status.h"
#include <stdint.h>

/* What of a study is to be done: all, or what must come first, or a range of its slices, or what comes last. */
typedef enum unit_step { UNIT_WHOLE, UNIT_BEGIN, UNIT_RANGE, UNIT_END } unit_step;
/* Slices a range of a study that is cut up; 0: it is not. wanted < 0: never; > 0: that many, where there are two ranges
 * of it; 0: where the study costs more than half of a rank's share of all (total voxels). */
int64_t unit_range(int64_t slices, double voxels, double total, int ranks, int64_t wanted);

typedef struct unit_study {
    int64_t index;          /* the caller's name for it */
    int64_t slices, pixels; /* pixels a slice; its cost is slices x pixels. 0: to be recorded only */
    int last;               /* was open when an earlier run died: after all others, and alone */
} unit_study;

typedef struct unit {
    int64_t first, count; /* in unit_list.studies */
    double cost;          /* voxels */
} unit;

typedef struct unit_list {
    int64_t count, study_count;
    unit *units;         /* owned; in the order in which they are to be dealt out */
    unit_study *studies; /* owned; each unit's lie together */
} unit_list;

/* Studies of at most together_slices / 4 slices are put together up to together_slices; 0: 32. 1: never. */
status unit_plan(const unit_study *studies, int64_t count, int64_t together_slices, unit_list *out);
void unit_list_free(unit_list *l);
#endif
