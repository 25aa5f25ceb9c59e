/* archive: the studies of a folder tree (or of one file, or of a list), in one order that depends on nothing but
 * their paths. Files are looked at by name; only a file without a telling name is looked into, for DICOM's mark.
 * Local.
 *
 * A study is one volume file (.hdr with its .img is one), or one folder of files of a per_folder format. Names that
 * begin with a dot are left out. A symbolic link counts where it stays inside the root and its target is not found by
 * itself; circles end where they close. Names may be any bytes: `path` opens, `shown` is for people.
 *
 * id: a function of the path alone, so that a study keeps it when others come and go: "a/b/ct.nii.gz" is "a__b__ct".
 * Where that would not be unique (cut to fit, odd characters, "__" in a name), 16 digits of the path's SHA-256 follow.
 * With id_key it is 16 digits of SHA-256(key || path) and tells nothing about the path. */
#ifndef COV_DATA_ARCHIVE_H
#define COV_DATA_ARCHIVE_H
#include "base/status.h"
#include "data/study.h"
#include <stddef.h>
#include <stdint.h>

enum { ARCHIVE_PATH_MOST = 4096, ARCHIVE_DEPTH = 256, ARCHIVE_ERRORS_KEPT = 100 };

typedef struct archive_options {
    /* Shell patterns on the relative path ('*' crosses '/'); one without a '/' is tried on the last name too. No
     * include pattern: all. Exclude wins, and a folder that it names is not looked into. NULL where the count is 0. */
    const char *const *include, *const *exclude;
    int include_count, exclude_count;
    const char *list;   /* file of relative paths, one a line, or a CSV with a `path` column; NULL: the whole tree */
    const char *id_key; /* NULL: readable ids */
    void (*progress)(void *with, int64_t files, int64_t folders); /* now and then during the walk; NULL: none */
    void *progress_with;
} archive_options;

typedef struct archive_entry {
    const char *path;   /* relative to the root, raw bytes; "." for slices in the root itself; borrowed */
    const char *shown;  /* the same as valid UTF-8 without control characters; borrowed */
    const char *id;     /* unique, below STUDY_ID bytes, safe as a file name; borrowed */
    const char *format; /* a reader's name (data/reader.h); static */
    int64_t bytes;      /* all its files, satellites too */
    int64_t mtime_ns;   /* the newest of its files */
    int64_t stamp;      /* changes when one of them does, for comparing within a run (data/reader.h) */
    int32_t files;      /* of a folder study, 1 otherwise; satellites not counted */
} archive_entry;

typedef struct archive {
    char *root;             /* owned; the folder that paths are relative to */
    archive_entry *entries; /* owned; sorted by path (bytes), then format */
    int64_t count;
    int64_t ignored;  /* files of no known format, and what the patterns left out */
    int64_t special;  /* devices, sockets, FIFOs; links to what is found anyway */
    int64_t errors;   /* folders that could not be read, links that lead outside or nowhere, listed paths not there */
    int64_t unreadable; /* those of them that could not be looked at: studies may be missing */
    char *error_text; /* owned; one line each, the first ARCHIVE_ERRORS_KEPT; "" if none */
    void *arena;      /* owned; the strings */
} archive;

/* COV_IO if the root cannot be read, COV_USAGE for a bad list. On failure *out is NULL. */
status archive_walk(const char *root, const archive_options *options, archive **out);
void archive_free(archive **a);
/* root/path into room bytes; COV_USAGE if it does not fit. */
status archive_full_path(const archive *a, const archive_entry *e, char *out, size_t room);
/* The id that a study at `path` (of a folder study: format is appended) gets. out[STUDY_ID]. */
status archive_id(const char *path, const char *folder_format, const char *id_key, char *out);
#endif
