/* cases: the annotated cases that training and evaluation use, from a CSV with the columns id, patient, kind, ct,
 * lung, lesion, period, split, intensity (any order, others ignored). Splits are by patient, never by case. Local. */
#ifndef COV_DATA_CASES_H
#define COV_DATA_CASES_H
#include "base/status.h"
#include <stddef.h>

typedef enum cases_kind { CASES_VOLUME, CASES_SLICE } cases_kind;
typedef enum cases_intensity {
    CASES_HU,        /* "hu" */
    CASES_HU_APPROX, /* "hu-approx": refitted from a window, saturated above about +150 */
    CASES_8BIT       /* "8bit...": a windowed image, 0 ... 255 */
} cases_intensity;

typedef struct cases_row {
    const char *id, *patient;
    cases_kind kind;
    const char *ct;            /* path that opens (the CSV's folder is prepended) */
    const char *lung, *lesion; /* likewise; NULL: no such mask */
    int period;                /* 0 ... 3; -1: not labelled */
    const char *split;         /* "train", "val", "test" or "" */
    cases_intensity intensity;
    const char *intensity_name; /* as written */
    long line;                  /* of the CSV, for messages */
} cases_row;

typedef struct cases {
    cases_row *rows; /* owned, with all texts; in the file's order */
    size_t count;
    void *store;
} cases;

/* COV_USAGE names missing columns; COV_FORMAT names the line and the value that is not understood, or an id that
 * comes twice. Files are not opened. */
status cases_read(const char *path, cases **out);
void cases_free(cases **c);

/* Leave-one-patient-out: the distinct patients whose name starts with prefix ("" for all), in order of first
 * appearance. names is owned by the caller (free), its texts borrowed from c. */
status cases_folds(const cases *c, const char *prefix, const char ***names, size_t *count);
#endif
