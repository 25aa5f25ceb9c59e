/* reason: why a study was skipped or failed. Codes are stable: they are written into parts, cohort
 * files, CSVs and scripts; numbers are never reused, new ones are added at the end. */
#ifndef COV_DATA_REASON_H
#define COV_DATA_REASON_H

/*   code         number  outcome  what it means */
#define REASONS(X)                                                                                                     \
    X(NONE, 0, DONE, "screened")                                                                                       \
    X(NOT_CT, 1, SKIPPED, "intensities are not Hounsfield units: a label map, another modality or a windowed image")   \
    X(NOT_3D, 2, SKIPPED, "not one three-dimensional volume: 2-D, 4-D, 5-D, colour or vector data")                    \
    X(NO_LUNG, 3, SKIPPED, "a CT in which no lung was found")                                                          \
    X(UNSUPPORTED, 4, SKIPPED, "a known format or variant that this version cannot read")                              \
    X(BAD_HEADER, 5, FAILED, "the header contradicts itself or the file")                                              \
    X(TRUNCATED, 6, FAILED, "the file ends before its data does, or its image is missing")                             \
    X(GEOMETRY, 7, FAILED, "spacing or orientation is missing, singular or implausible")                               \
    X(IO_ERROR, 8, FAILED, "the file could not be opened or read")                                                     \
    X(CORRUPT, 9, FAILED, "the data does not decode")                                                                  \
    X(TOO_LARGE, 10, FAILED, "needs more memory than the limit")                                                       \
    X(CRASHED, 11, FAILED, "a process died on it three times")                                                         \
    X(TIMEOUT, 12, FAILED, "took longer than the deadline three times")                                                \
    X(CHANGED, 13, FAILED, "the file changed during the run")                                                          \
    X(INTERNAL, 14, FAILED, "an error of covpipe's own; please report it")

typedef enum reason {
#define X(code, number, outcome, text) REASON_##code = number,
    REASONS(X)
#undef X
        REASON_COUNT
} reason;

typedef enum outcome { OUTCOME_DONE = 0, OUTCOME_SKIPPED = 1, OUTCOME_FAILED = 2 } outcome;

const char *reason_code(reason r); /* "NOT_CT"; "" for NONE; never NULL */
const char *reason_text(reason r);
outcome reason_outcome(reason r);
const char *outcome_name(outcome o); /* "done", "skipped", "failed" */
int reason_find(const char *code);   /* the number, -1 if there is none */
#endif
