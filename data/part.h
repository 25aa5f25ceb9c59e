/* part: what one finished unit leaves on disk, so that nothing is ever computed twice.
 *
 * A part is a file OUT.parts/xx/<hash of path and unit>.h5: 4096 bytes of text (magic, SHA-256 of everything after it,
 * the key, a summary), which HDF5 sees as its user block, then an HDF5 image with the cohort's own columns for one
 * study. Resume reads the text alone; the digest is checked before HDF5 sees a byte. A part is written under a
 * temporary name, fsynced, renamed, and its folder fsynced: it is there whole or not at all. All functions are local.
 */
#ifndef COV_DATA_PART_H
#define COV_DATA_PART_H
#include "base/sha256.h"
#include "data/study.h"

enum {
    PART_UNIT = 32,
    PART_SCHEMA = 3,
    PART_HEAD = 4096,
    PART_PLANE_LIMIT = 1 << 28,
    PART_SLICES_LIMIT = 1 << 20, /* pixels a slice, slices a study */
    PART_LESIONS_LIMIT = 1 << 26 /* rows of /lesion */
};
#define PART_WHOLE_STUDY "study" /* the unit of a part that holds a whole study */

/* What a result depends on. A part whose key matches the wanted one is kept, any other is done again. */
typedef struct part_key {
    char path[STUDY_PATH];  /* the study's path relative to the archive, raw bytes as the file system gives them */
    char unit[PART_UNIT];   /* PART_WHOLE_STUDY; no blanks */
    int64_t size, mtime_ns; /* of the input (a folder: sum and latest) */
    char input_sha256[SHA256_HEX];   /* "" if not known (unreadable input) */
    char weights_sha256[SHA256_HEX]; /* over all weights files in use; "" if none */
    char options_sha256[SHA256_HEX]; /* over the options that can change a result */
    char precision[16], backend[16];
    char version[32]; /* of covpipe; part_key_init fills it */
} part_key;

/* The head of a part: the key, and what gather needs for its layout. */
typedef struct part_head {
    part_key key;
    int32_t status, reason;
    int32_t rows, cols, slices; /* canonical; 0 if the header was never read */
    int64_t slice_count;        /* rows of /slice; slices, or 0 */
    int64_t lesion_rows;        /* rows of /lesion */
    int32_t has_lung, has_lesion;
    char sha256[SHA256_HEX]; /* of the part's bytes after the first line, which holds it */
} part_head;

typedef struct part_entry {
    char *file; /* owned; the part's file name, folder included */
    part_head head;
} part_entry;

typedef struct part_list {
    int64_t count;
    part_entry *entries; /* owned; sorted by key.path, then key.unit */
    int64_t damaged;     /* files named like parts whose head cannot be read: they are to be computed again */
    int64_t temporary;   /* left by a killed run; part_sweep removes them */
} part_list;

void part_key_init(part_key *key); /* zeros, PART_WHOLE_STUDY, this version */
/* 1: a part with key `have` answers for `want`. Size and mtime_ns decide whether the input is the same; where they
 * differ, or with `verify`, want->input_sha256 does (empty: no match). */
int part_key_matches(const part_key *have, const part_key *want, int verify);
/* "<folder>/xx/<64 hex digits>.h5"; COV_USAGE if it does not fit. */
status part_name(const char *folder, const part_key *key, char *out, size_t room);

/* Commits a result (borrowed) under `folder` (made where missing). result->row.rows, cols, slices give the masks'
 * shape; slice_count must be 0 or row.slices; row.status must be the outcome of row.reason; slices, lesions and masks
 * must count the same pixels. input_sha256 of key and row are one value: where one is empty, the other is stored for
 * both. COV_BROKEN on a result that contradicts itself. */
status part_write(const char *folder, const part_key *key, const study_result *result);
/* Reads and verifies a whole part. key may be NULL. Caller frees result with study_result_free.
 * COV_FORMAT: not a part, damaged, or it contradicts itself. */
status part_read(const char *file, part_key *key, study_result *result);
/* The first 4096 bytes alone: cheap, and the rest is not verified. */
status part_check(const char *file, part_head *out);
/* Whole file against its digest, without HDF5. */
status part_verify(const char *file);

/* ---- pieces: what one step of a study that is cut up leaves for the next, under PART_PIECES in the folder of parts,
 * where no scan looks. key.unit names the step. What the first step leaves is a part as above (part_write into
 * part_pieces' folder). */
#define PART_PIECES "pieces"
status part_pieces(const char *folder, char *out, size_t room); /* "<folder>/pieces" */
/* Bytes with their digest, durably; read whole (caller frees) or COV_FORMAT. */
status part_piece_write(const char *folder, const part_key *key, const void *bytes, size_t count);
status part_piece_read(const char *folder, const part_key *key, void **bytes, size_t *count);
/* Removes a study's piece (key.unit), or with key NULL all pieces of all studies. What is not there is no error. */
void part_piece_remove(const char *folder, const part_key *key);

/* Every part under folder. A folder that is not there is an empty list. Caller frees with part_list_free. */
status part_scan(const char *folder, part_list *out);
void part_list_free(part_list *list);
/* Removes temporary files of killed runs; only for the run that holds the lock, before any worker writes. */
status part_sweep(const char *folder);

/* Slices in a chunk of a mask: about 4 MiB, 1 to 32 slices (a study's last chunk is padded). The same in parts and
 * cohort files. */
int64_t part_chunk_slices(int64_t rows, int64_t cols);

/* ---- for gather: a part read piecewise. verify: the whole file against its digest, before HDF5 opens it. */
typedef struct part part;
status part_open(const char *file, int verify, part **out);
void part_close(part **p);
const part_head *part_head_of(const part *p); /* borrowed */
status part_row(const part *p, study_row *out);
status part_slices(const part *p, slice_row *out);                        /* head.slice_count rows */
status part_lesions(const part *p, lesion_row *out);                      /* head.lesion_rows rows */
/* (count, rows, cols): uint8_t of STUDY_LUNG, uint16_t of STUDY_LESION. */
status part_mask(part *p, study_mask which, int64_t z0, int64_t count, void *out);
/* Chunk k of a mask as it is packed, with the checksum that the cohort file's masks have, into part_chunk_room bytes. */
size_t part_chunk_room(int64_t rows, int64_t cols, study_mask which);
status part_chunk(part *p, study_mask which, int64_t k, void *out, size_t *count);
/* The same of a chunk of nothing but zeros, for a study that has no such mask. */
status part_chunk_empty(int64_t rows, int64_t cols, study_mask which, void *out, size_t *count);
#endif
