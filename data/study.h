/* study: the row of one study and everything a finished study leaves: what parts, gather, inspect,
 * CSV and the pipeline share. One table (STUDY_COLUMNS) names every column of /study once: its C field, its
 * type, its extent, its units and its meaning; readers, writers and docs/FORMATS.md walk that table. */
#ifndef COV_DATA_STUDY_H
#define COV_DATA_STUDY_H
#include "data/volume.h"

enum { STUDY_ID = 64, STUDY_PATH = 1024, STUDY_DETAIL = 256, STUDY_SHA = 65 };

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
    X(NOMINAL_SPACING, 11, "spacing looks nominal (1 x 1 x 1 mm): volumes in ml are doubtful")
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
    int32_t qc_flags;
    double seconds_read, seconds_lung, seconds_crf, seconds_total;
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
    X(qc_flags, I32, 1, "", "quality flags")                                                                  \
    X(seconds_read, F64, 1, "s", "time to read")                                                              \
    X(seconds_lung, F64, 1, "s", "time in the lung networks")                                                 \
    X(seconds_crf, F64, 1, "s", "time in the CRF")                                                            \
    X(seconds_total, F64, 1, "s", "time of the study in the worker")                                          \
    X(rank, I32, 1, "", "rank that computed it")

/* As STUDY_COLUMNS: the columns of /slice, and those that gather adds to /study (kind I64 besides). */
#define SLICE_COLUMNS(X)                                                                                               \
    X(study, I32, 1, "", "row of /study that the slice belongs to")                                                    \
    X(z, I32, 1, "", "index of the slice in the study, from the lowest upwards")                                       \
    X(position_mm, F64, 1, "mm", "world position along the slice normal")                                              \
    X(lung_px, I32, 1, "pixel", "lung pixels in the slice")

#define GATHER_COLUMNS(X)                                                                                              \
    X(duplicate_of, I64, 1, "", "first row with the same input_sha256, -1 if none comes before")                       \
    X(mask_set, TEXT, 32, "", "group under /mask that holds the masks, empty if there is none")                        \
    X(mask_row0, I64, 1, "", "first row in the datasets of that group, -1 if there is none")                           \
    X(slice_row0, I64, 1, "", "first row in /slice, -1 if there is none")

typedef struct slice_row {
    int32_t z;
    double position_mm; /* world position along the slice normal */
    int32_t lung_px;
} slice_row;

/* What the pipeline fills and a part stores. */
typedef struct study_result {
    study_row row;
    int64_t slice_count;
    slice_row *slices; /* owned; slice_count */
    uint8_t *lung;     /* owned; (slices, rows, cols) 0 background, 1 right, 2 left; NULL if not done */
} study_result;

void study_row_init(study_row *row); /* zeros, NaN in every figure */
void study_result_free(study_result *r);
#endif
