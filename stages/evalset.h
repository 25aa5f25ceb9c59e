/* evalset: annotated cases as the studies that lesions are scored on. A volume is one study; the isolated slices of one
 * patient that have one size are one study together, a stack without neighbours. Also the two transformed test sets of
 * the paper's Table 3. Local. */
#ifndef COV_STAGES_EVALSET_H
#define COV_STAGES_EVALSET_H
#include "data/cases.h"
#include "stages/trainset.h"

/* A case takes part if it has a lesion mask, or is labelled healthy (period 0). */
typedef struct evalset_entry {
    const char *id;        /* the case's, or the patient's for isolated slices; borrowed, as all here, from the cases */
    const char *patient;
    const cases_row *rows; /* count of them, one after the other in the table */
    size_t count;
    int isolated;
} evalset_entry;
/* In the table's order; *out is owned by the caller (free). Opens the headers of slices. only: comma-separated
 * patients, NULL or "" for all. */
status evalset_list(const cases *c, const char *only, evalset_entry **out, size_t *count);

typedef struct evalset_study {
    char id[128];
    const char *patient; /* borrowed */
    int isolated;
    int scale_known;     /* spacing_mm means millimetres */
    int period;          /* the label of the whole study, -1 none */
    trainset_volume v;   /* v.lung: the reference, NULL if there is none; v.lesion is always there, 0/1 */
} evalset_study;
/* A study of air without lesion, of 1 mm voxels whose millimetres mean nothing; the name and the patient are the
 * caller's to set. */
status evalset_make(int64_t nx, int64_t ny, int64_t nz, int with_lung, evalset_study *out);
/* Reads it. 8-bit slices become HU of the method's window. Free with evalset_free, which accepts a zeroed one. */
status evalset_read(const evalset_entry *e, evalset_study *out);
void evalset_free(evalset_study *s);

/* The volume seen from the front: slices along y from the first to the last that shows lung (of `lung`, which is
 * transposed into *out_lung, owned by the caller), rows from head to foot with square pixels (between slices: HU
 * linear, masks nearest), padded with air to a square. No label. */
status evalset_coronal(const evalset_study *of, const uint8_t *lung, evalset_study *out, uint8_t **out_lung);

/* ---- slices squeezed and merged. A pool collects positive slices; each sample shows one or several of one patient's,
 * in changed proportions. */
typedef struct evalset_pool evalset_pool;
status evalset_pool_new(evalset_pool **out);
void evalset_pool_free(evalset_pool **p);
/* Copies the slices with lesion. lung: that of the model's input, NULL: everything. */
status evalset_pool_add(evalset_pool *p, const evalset_study *s, const uint8_t *lung);
/* Draws `slices` of the pool (all where it has fewer) and makes three samples for every two, a study of isolated 512 x
 * 512 slices for each patient drawn, in *out (owned, *count of them; free each and the array). The same seed and pool
 * give the same samples. *drawn: slices. */
status evalset_pool_merge(const evalset_pool *p, int64_t slices, uint64_t seed, evalset_study **out, size_t *count,
                          int64_t *drawn);
#endif
