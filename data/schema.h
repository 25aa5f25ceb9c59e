/* schema: makes an empty cohort file: every group, dataset and attribute of covpipe-cohort-1, with its dimension
 * scales, and no rows yet. One process does this with plain HDF5; afterwards all ranks open the file and fill it, which
 * needs no collective metadata changes. Private to data/. Local. */
#ifndef COV_DATA_SCHEMA_H
#define COV_DATA_SCHEMA_H
#include "data/cohort.h"

#define SCHEMA_NAME "covpipe-cohort-1"
enum {
    SCHEMA_VERSION = 2,        /* 1 had no lesions */
    SCHEMA_STUDY_ROWS = 1024,  /* rows in a chunk of /study: also what one rank fills at a time */
    SCHEMA_SLICE_ROWS = 65536, /* the same of /slice and /lesion */
    SCHEMA_TEXT_LIMIT = 60000  /* bytes in an attribute */
};

typedef struct schema_set { /* masks of one size */
    char name[COHORT_SET];
    int64_t rows, cols;
    int64_t chunk;  /* slices in a chunk */
    int64_t slices; /* of the dataset: a multiple of chunk */
    int lesion;     /* some study of this size was looked at for lesions: there is a lesion mask, too */
} schema_set;

typedef struct schema {
    int64_t studies, slices, lesions;
    int set_count;
    const schema_set *sets;
    int extra_count;
    const cohort_extra *extras;
    const int *extra_bytes; /* width of each extra column */
    int attribute_count;
    const cohort_attribute *attributes;
    int ranks, complete;
} schema;

/* COV_USAGE if an extra column or attribute has a name or length that cannot be stored. */
status schema_create(const char *file, const schema *what);
#endif
