/* cohort_writer: what the files of gather share: what the ranks know of studies and places, and how they stay in step.
 * Private to data/cohort_write.c and data/cohort_masks.c. */
#ifndef COV_DATA_COHORT_WRITER_H
#define COV_DATA_COHORT_WRITER_H
#include "data/cohort.h"
#include "data/chunks.h"
#include "data/columns.h"
#include "data/schema.h"
#include <limits.h>

#define MPI_GO(call)                                                                                                   \
    do {                                                                                                               \
        if ((call) != MPI_SUCCESS) {                                                                                   \
            s = COV_FAIL(COV_COMM, #call " failed");                                                                   \
            goto done;                                                                                                 \
        }                                                                                                              \
    } while (0)

enum { MESSAGE = 1024 /* bytes of a failure's message that go from rank to rank */ };

/* What all ranks must know of a study; sent as bytes between equal hosts. */
typedef struct survey {
    int32_t status, reason, rows, cols, slices, has_lung, has_lesion;
    int64_t slice_count, lesion_rows, bytes; /* bytes: of the part file */
    char input_sha256[SHA256_HEX];
} survey;

/* Rows of /slice and /lesion belong to a study, and lie together. */
typedef enum table { TABLE_STUDY, TABLE_SLICE, TABLE_LESION, TABLES } table;

typedef struct writer {
    MPI_Comm comm;
    int rank, size;
    const char *path;
    char temporary[PATH_MAX];
    const cohort_source *source;
    survey *studies;       /* owned; count */
    gather_record *places; /* owned; count */
    int *set_of;           /* owned; count; -1: no mask */
    schema_set *sets;      /* owned */
    int set_count;
    int *extra_bytes; /* owned */
    int64_t rows[TABLES];
    int64_t pixels, pixels_done;
    uint64_t sum; /* of what this rank wrote, then of all ranks */
    int torn;     /* a collective write failed somewhere: HDF5 cannot be asked to close the file any more */
    hid_t root, transfer;
} writer;

/* Collective: all ranks return the status and message of the lowest rank that failed. */
status cohort_agree(writer *w, status mine);
/* Local: so many more pixels of masks are in the file; feeds the caller's progress line and watchdog. */
void cohort_report(writer *w, int64_t pixels);
/* Of n things, the first that belongs to rank; they end where those of rank + 1 begin. */
int64_t cohort_share(int64_t n, int rank, int size);
/* Local, rank 0. Takes the disk space that the file will need, while a refusal is still an error of one rank like any other: a full
 * disk in the middle of a collective write leaves nothing that could be closed. Packed masks are as large as in the
 * parts, rows smaller. HDF5 gives back what is too much. */
status cohort_reserve(writer *w);
/* Collective: the masks of all studies, between the file's creation and its tables. */
status cohort_write_masks(writer *w);
#endif
