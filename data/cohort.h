/* cohort: the one file that a run leaves (schema covpipe-cohort-1, docs/FORMATS.md). Written collectively from parts,
 * read serially by inspect, export and montage.
 *
 * cohort_write is the only collective function; it is the one place in data/ that knows an MPI communicator. Every rank
 * makes every collective call, and a failure on one rank is returned by all. The bytes of tables and masks do not
 * depend on the number of ranks. The file is written as "<path>.tmp", checked, fsynced and renamed: a kill at any
 * instant leaves the old file or the new one. */
#ifndef COV_DATA_COHORT_H
#define COV_DATA_COHORT_H
#include "data/part.h"
#include <mpi.h>

enum { COHORT_SET = 32, COHORT_NAME = 64, COHORT_CELL = 1024 };

typedef struct cohort_attribute {
    const char *name, *value; /* root attribute, UTF-8 text of at most 60000 bytes */
} cohort_attribute;

/* A column joined from elsewhere (--metadata): fixed-length UTF-8 text in /study/<name>. */
typedef struct cohort_extra {
    const char *name;      /* letters, digits, '_' '-' '.'; not the name of a column of ours */
    const char *long_name; /* what it is, or where it came from */
    const char *const
        *values; /* one a study, in the order of parts; NULL: empty; at most COHORT_CELL - 1 bytes are kept */
} cohort_extra;

/* Everything here is borrowed and the same on every rank. */
typedef struct cohort_source {
    int64_t count;
    const char *const *parts; /* part files, one a study, in ascending order of key.path (bytes) */
    int attribute_count;      /* command_line, options, model, preset, weights_sha256, backend, history, ... */
    const cohort_attribute *attributes;
    int extra_count;
    const cohort_extra *extras;
    int complete; /* 0: the run was cut short, studies are missing */
    /* May be NULL. Called on every rank after every part it has verified and every round of batches: feeds a progress
     * line and a watchdog. total is 0 until the parts are known. */
    void (*progress)(void *context, int64_t done, int64_t total); /* pixels of masks */
    void *context;
} cohort_source;

typedef struct cohort_totals {
    int64_t studies, outcome[3]; /* by outcome */
    int64_t reasons[REASON_COUNT];
    int64_t slices, lesions; /* rows of the tables */
    int64_t mask_pixels, file_bytes;
} cohort_totals;

/* Collective over comm: all ranks get the same status, and totals (may be NULL) on success. The old file at path stays
 * until the new one is complete. A part that fails its digest is renamed to "<part>.damaged", so that the same command
 * computes it again, and COV_FORMAT is returned. Room on the disk is asked for before anything is written: COV_IO. If a
 * collective write fails all the same, COV_COMM is returned, and the process must end by MPI_Abort: HDF5 can then
 * neither close the file nor be finalised, and MPI_Finalize would finalise it. With Open MPI, choose ROMIO before
 * MPI_Init (OMPI_MCA_io=romio321): its OMPIO does not return a failed collective write on every rank. */
status cohort_write(MPI_Comm comm, const char *path, const cohort_source *source, cohort_totals *totals);

/* ---- reader, local and serial. k counts studies from 0. Errors name the file and the dataset. */
typedef struct cohort cohort;

/* Where a study's other rows are, as computed by gather. */
typedef struct cohort_place {
    int64_t duplicate_of;      /* first study with the same input_sha256; -1: none */
    char mask_set[COHORT_SET]; /* "512x512": the group under /mask; "" without a mask */
    int64_t mask_row0;         /* first row in that group's datasets; -1 without a mask */
    int64_t slice_row0;        /* first row in /slice; -1 without */
    int64_t slice_count;
    int64_t lesion_row0; /* first row in /lesion; -1 without */
    int64_t lesion_rows;
} cohort_place;

/* Checks the schema and the shape and type of every column against each other. COV_FORMAT otherwise. */
status cohort_open(const char *path, cohort **out);
void cohort_close(cohort **c);
int64_t cohort_count(const cohort *c);
/* Root attributes as text, in the order of their names. Borrowed; NULL past the end or if there is none. */
int cohort_attribute_count(const cohort *c);
const char *cohort_attribute_name(const cohort *c, int i);
const char *cohort_attribute_value(const cohort *c, int i);
const char *cohort_attribute_find(const cohort *c, const char *name);
status cohort_row(cohort *c, int64_t k, study_row *out);
status cohort_place_of(cohort *c, int64_t k, cohort_place *out);
/* The study whose id, or else whose path, is `name`; COV_USAGE if there is none or the id is not unique. */
status cohort_find(cohort *c, const char *name, int64_t *k);
int cohort_extra_count(const cohort *c);
const char *cohort_extra_name(const cohort *c, int i); /* borrowed */
status cohort_extra_cell(cohort *c, int i, int64_t k, char out[COHORT_CELL]);
/* Caller frees. *count 0 and *out NULL for a study without slices. */
status cohort_slices(cohort *c, int64_t k, slice_row **out, int64_t *count);
/* By z. Caller frees. *count 0 and *out NULL for a study in which no lesion was found, or none were looked for. */
status cohort_lesions(cohort *c, int64_t k, lesion_row **out, int64_t *count);
/* (slices, rows, cols); caller frees. COV_USAGE for a study without such a mask. */
status cohort_lung(cohort *c, int64_t k, uint8_t **lung);
status cohort_lesion(cohort *c, int64_t k, uint16_t **lesion);
/* The same mask chunk by chunk (part_chunk_slices): `first` and every step-th behind it. take sees slices z0 .. z0+count-1, which
 * are gone when it returns, and may fail. */
typedef status (*cohort_take)(void *context, int64_t z0, int64_t count, const void *slices);
status cohort_walk_mask(cohort *c, int64_t k, study_mask m, int64_t first, int64_t step, cohort_take take, void *context);
#endif
