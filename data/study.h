/* study: the row of one study and everything a finished study leaves: what parts, gather, inspect,
 * CSV and the pipeline share. One table (STUDY_COLUMNS) names every column of /study once: its C field, its
 * type, its extent, its units and its meaning; readers, writers and docs/FORMATS.md walk that table. */
#ifndef COV_DATA_STUDY_H
#define COV_DATA_STUDY_H
#include "data/volume.h"

enum { STUDY_ID = 64, STUDY_PATH = 1024, STUDY_DETAIL = 256, STUDY_SHA = 65, STUDY_PERIODS = 4 };

/* QC flags, bits of qc_flags. Stable. */
#define QC_FLAGS(X)                                                                        \
    X(LUNG_SMALL, 0, "lung volume below 800 ml")                                           \
    X(LUNG_LARGE, 1, "lung volume above 10000 ml")                                         \
    X(CUT_TOP, 2, "lung reaches the first or last slice: cut field of view, top")          \
    X(CUT_BOTTOM, 3, "lung reaches the lowest slice: cut field of view, bottom")           \
    X(CUT_SIDE, 4, "lung touches the edge of the image")                                   \
    X(FEW_SLICES, 5, "fewer than 8 slices: axial network alone")                           \
    X(UNEVEN_GAPS, 6, "slice positions are unevenly spaced")                               \
    X(SIDE_DOUBT, 7, "left and right lung could not be told apart with confidence")        \
    X(SATURATED, 8, "intensities are saturated at their upper or lower end")               \
    X(ONE_LUNG, 9, "only one lung was found")                                              \
    X(THICK_SLICES, 10, "slices thicker than 10 mm")                                       \
    X(NOMINAL_SPACING, 11, "spacing looks nominal (1 x 1 x 1 mm): volumes in ml are doubtful")             \
    X(ISOLATED, 12, "isolated slices, not a volume: no figure in ml or HU")
enum {
#define X(name, bit, text) STUDY_QC_##name = 1 << bit,
    QC_FLAGS(X)
#undef X
};

typedef struct study_row {
    char id[STUDY_ID];           /* from the relative path, or a keyed hash of it */
    char path[STUDY_PATH];       /* relative to the archive's root, UTF-8 repaired */
    char format[16];
    int32_t status;              /* outcome */
    int32_t reason;              /* reason */
    char detail[STUDY_DETAIL];   /* the message, for skipped and failed */
    int32_t rows, cols, slices;  /* canonical ny, nx, nz */
    double spacing_mm[3];
    double affine[16];           /* row-major 4 x 4, canonical index -> RAS+ mm */
    uint8_t native[sizeof(volume_native)];
    char input_sha256[STUDY_SHA];
    double lung_ml, lung_right_ml, lung_left_ml;
    double lung_mean_hu;         /* mean over the lung */
    double lung_high_percent;    /* share of the lung above -500 HU */
    double lesion_ml, lesion_right_ml, lesion_left_ml;
    double involvement_percent, involvement_right_percent, involvement_left_percent; /* lesion, of the lung or of one */
    int32_t lesion_count;        /* lesions linked in 3-D; -1: not looked for */
    int32_t tiny_count;          /* of them, those whose largest slice is tiny; -1 likewise */
    double largest_lesion_ml;
    int32_t period;              /* 0 healthy, 1 early, 2 advanced, 3 severe; -1: the model has no period head */
    double period_probability[STUDY_PERIODS];
    double suspicion;            /* 0..1, for triage: stages/lesionpost.h */
    int32_t qc_flags;
    double seconds_read, seconds_lung, seconds_crf, seconds_lesion, seconds_total;
    int32_t rank;                /* which rank computed it; with seconds_* the only columns that differ between runs */
} study_row;

/* X(field, kind, extent, units, long_name): kind TEXT (extent bytes incl. NUL), I32, F64, U8; extent is elements a row. */
#define STUDY_COLUMNS(X)                                                                                      \
    X(id, TEXT, STUDY_ID, "", "study identifier")                                                             \
    X(path, TEXT, STUDY_PATH, "", "path relative to the archive")                                             \
    X(format, TEXT, 16, "", "file format")                                                                    \
    X(status, I32, 1, "", "outcome")                                                                          \
    X(reason, I32, 1, "", "reason code")                                                                      \
    X(detail, TEXT, STUDY_DETAIL, "", "message of a skipped or failed study")                                 \
    X(rows, I32, 1, "pixel", "rows of a slice")                                                               \
    X(cols, I32, 1, "pixel", "columns of a slice")                                                            \
    X(slices, I32, 1, "", "number of slices")                                                                 \
    X(spacing_mm, F64, 3, "mm", "spacing along x, y, z")                                                      \
    X(affine, F64, 16, "mm", "canonical voxel index to RAS+ world, row-major 4 x 4")                          \
    X(native, U8, (int)sizeof(volume_native), "", "the input's own grid, for export")                         \
    X(input_sha256, TEXT, STUDY_SHA, "", "SHA-256 of the input file")                                         \
    X(lung_ml, F64, 1, "ml", "lung volume")                                                                   \
    X(lung_right_ml, F64, 1, "ml", "right lung volume")                                                       \
    X(lung_left_ml, F64, 1, "ml", "left lung volume")                                                         \
    X(lung_mean_hu, F64, 1, "HU", "mean lung density")                                                        \
    X(lung_high_percent, F64, 1, "percent", "share of the lung above -500 HU")                                \
    X(lesion_ml, F64, 1, "ml", "lesion volume")                                                               \
    X(lesion_right_ml, F64, 1, "ml", "lesion volume in the right lung")                                       \
    X(lesion_left_ml, F64, 1, "ml", "lesion volume in the left lung")                                         \
    X(involvement_percent, F64, 1, "percent", "share of the lung that is lesion")                             \
    X(involvement_right_percent, F64, 1, "percent", "share of the right lung that is lesion")                 \
    X(involvement_left_percent, F64, 1, "percent", "share of the left lung that is lesion")                   \
    X(lesion_count, I32, 1, "", "lesions, linked in 3-D; -1 if none were looked for")                         \
    X(tiny_count, I32, 1, "", "lesions that are tiny on every slice; -1 if none were looked for")             \
    X(largest_lesion_ml, F64, 1, "ml", "volume of the largest lesion")                                        \
    X(period, I32, 1, "", "period of the disease; -1 from a model that does not tell")                        \
    X(period_probability, F64, STUDY_PERIODS, "", "probability of each period")                               \
    X(suspicion, F64, 1, "", "suspicion of disease, 0 to 1, for triage")                                      \
    X(qc_flags, I32, 1, "", "quality flags")                                                                  \
    X(seconds_read, F64, 1, "s", "time to read")                                                              \
    X(seconds_lung, F64, 1, "s", "time in the lung networks")                                                 \
    X(seconds_crf, F64, 1, "s", "time in the CRF")                                                            \
    X(seconds_lesion, F64, 1, "s", "time in the lesion network")                                              \
    X(seconds_total, F64, 1, "s", "time of the study in the worker")                                          \
    X(rank, I32, 1, "", "rank that computed it")

/* As STUDY_COLUMNS: the columns of /slice, of /lesion, and those that gather adds to /study (kind I64 besides). */
#define SLICE_COLUMNS(X)                                                                                               \
    X(study, I32, 1, "", "row of /study that the slice belongs to")                                                    \
    X(z, I32, 1, "", "index of the slice in the study, from the lowest upwards")                                       \
    X(position_mm, F64, 1, "mm", "world position along the slice normal")                                              \
    X(lung_px, I32, 1, "pixel", "lung pixels in the slice")                                                            \
    X(lesion_px, I32, 1, "pixel", "lesion pixels in the slice")                                                        \
    X(period_probability, F64, STUDY_PERIODS, "", "probability of each period")

#define LESION_COLUMNS(X)                                                                                              \
    X(study, I32, 1, "", "row of /study that the lesion belongs to")                                                   \
    X(z, I32, 1, "", "index of the slice in the study, from the lowest upwards")                                       \
    X(lesion_id, I32, 1, "", "lesion that this is a slice of, as in the lesion mask")                                  \
    X(box_yxyx, I32, 4, "pixel", "first row, first column, last row + 1, last column + 1")                             \
    X(score, F64, 1, "", "score of the network, 0 to 1")                                                               \
    X(area_px, I32, 1, "pixel", "pixels in the lesion mask")                                                           \
    X(area_mm2, F64, 1, "mm2", "area in the lesion mask")                                                              \
    X(mean_hu, F64, 1, "HU", "mean density of these pixels")                                                           \
    X(tiny, I32, 1, "", "1 if the area is below 0.059 % of the slice")                                                 \
    X(period, I32, 1, "", "likeliest period of the slice; -1 from a model that does not tell")

#define GATHER_COLUMNS(X)                                                                                              \
    X(duplicate_of, I64, 1, "", "first row with the same input_sha256, -1 if none comes before")                       \
    X(mask_set, TEXT, 32, "", "group under /mask that holds the masks, empty if there is none")                        \
    X(mask_row0, I64, 1, "", "first row in the datasets of that group, -1 if there is none")                           \
    X(slice_row0, I64, 1, "", "first row in /slice, -1 if there is none")                                              \
    X(lesion_row0, I64, 1, "", "first row in /lesion, -1 if there is none")                                            \
    X(lesion_rows, I64, 1, "", "rows in /lesion")

typedef struct slice_row {
    int32_t study; /* set by gather; 0 before */
    int32_t z;
    double position_mm; /* world position along the slice normal */
    int32_t lung_px, lesion_px;
    double period_probability[STUDY_PERIODS];
} slice_row;

/* What one finding of the network left of itself on its slice, after a better one took the pixels that they share. */
typedef struct lesion_row {
    int32_t study; /* set by gather; 0 before */
    int32_t z, lesion_id;
    int32_t box_yxyx[4]; /* half-open; the network's box, not the mask's */
    double score;
    int32_t area_px;
    double area_mm2, mean_hu;
    int32_t tiny, period;
} lesion_row;

/* The masks of a study, and of /mask/RxC. */
typedef enum study_mask { STUDY_LUNG, STUDY_LESION, STUDY_MASKS } study_mask;

/* What the pipeline fills and a part stores. */
typedef struct study_result {
    study_row row;
    int64_t slice_count;
    slice_row *slices; /* owned; slice_count */
    uint8_t *lung;     /* owned; (slices, rows, cols) 0 background, 1 right, 2 left; NULL if not done */
    uint16_t *lesion;  /* owned; (slices, rows, cols) 0, or a lesion_id; NULL if none were looked for */
    int64_t lesion_rows;
    lesion_row *lesions; /* owned; lesion_rows, by z */
    int threads;         /* that may pack the masks for a part; 0 as 1. Nothing of it is stored */
} study_result;

const char *study_period_name(int32_t period); /* "healthy" "early" "advanced" "severe"; "" for -1 and any other */
void study_row_init(study_row *row); /* zeros, NaN in every figure, -1 in every count of lesions */
void study_row_no_lesions(study_row *row); /* the figures of lesions, back to "not looked for" */
void study_result_free(study_result *r); /* what it owns; the row stays */
#endif
