/* gather: from parts to the cohort file: rank 0 says which parts, all ranks write. The only phase of a run in which
 * ranks wait for one another inside MPI; a watchdog ends the job with a message when nothing moves any more. */
#ifndef COV_MPI_GATHER_H
#define COV_MPI_GATHER_H
#include "data/cohort.h"
#include "mpi/farm.h"

/* The studies that have a part, in ascending order of their paths' bytes. */
typedef struct gather_list {
    int64_t count;
    int64_t *studies; /* owned; indices in farm_options.studies */
    char **parts;     /* owned; the part files */
} gather_list;

/* Local, rank 0. Studies that are open are left out. */
status gather_list_of(const char *parts_dir, const farm_study *studies, const farm_report *r, gather_list *out);
void gather_list_free(gather_list *l);

typedef struct gather_options {
    const char *out; /* the cohort file; every rank the same */
    /* Rank 0 only; the others take them from rank 0. Borrowed. */
    const gather_list *list;
    int attribute_count;
    const cohort_attribute *attributes;
    int extra_count;
    const cohort_extra *extras; /* values in the order of list */
    int complete;               /* no study is open */
    void (*progress)(void *context, int64_t done, int64_t total); /* rank 0; may be NULL */
    void *context;
    double stall_seconds; /* every rank: without progress for so long the job ends; 0: 600 */
} gather_options;

/* Collective. All ranks get the same status; totals may be NULL. COV_FORMAT: a part was damaged and has been put aside;
 * the same command computes that study again. */
status gather_run(world *w, const gather_options *o, cohort_totals *totals);
#endif
