/* lesionreport: scored studies as the paper's tables, Markdown and JSON, with the paper's own rows beside ours, and as
 * curves. A line is a model: one weights file, or the folds of one cross-validation. Local. */
#ifndef COV_STAGES_LESIONREPORT_H
#define COV_STAGES_LESIONREPORT_H
#include "base/str.h"
#include "stages/lesioneval.h"

/* X(NAME, "name", "paper's row of Table 3", Dice, accuracy, sensitivity): the cases as they are, and the two
 * transformed sets. */
#define LESIONREPORT_SETS(X)                                     \
    X(CASES, "cases", NULL, 0, 0, 0)                             \
    X(CORONAL, "coronal", "Coronal view", 0.8907, 0.9619, 0.9420) \
    X(MERGED, "merged", "Multi-augmentation", 0.9011, 0.9703, 0.9691)
typedef enum lesionreport_set {
#define X(NAME, ...) LESIONREPORT_##NAME,
    LESIONREPORT_SETS(X)
#undef X
        LESIONREPORT_SETS_COUNT
} lesionreport_set;
const char *lesionreport_set_name(lesionreport_set s);

typedef struct lesionreport_rows {
    lesioneval_row *at; /* owned */
    size_t count, room;
} lesionreport_rows;

typedef struct lesionreport_line {
    char name[64];   /* "st", "HU > -600" */
    char paper[16];  /* the model's name, by which the paper's row is found; "" none */
    str note;        /* weights, thresholds, what is doubtful; owned */
    lesionreport_rows rows[LESIONREPORT_SETS_COUNT];
    lesioneval_summary sum[LESIONREPORT_SETS_COUNT][LESIONEVAL_KINDS]; /* owned; lesionreport_sum fills them */
} lesionreport_line;

typedef struct lesionreport {
    lesionreport_line *lines; /* owned; count of them */
    size_t count;
    lesionmetrics_sizes scored, others; /* regions of the cases scored, and of the other patients; owned */
    int paper;                          /* show the paper's rows */
    double suspicion_threshold;
    int64_t merged_from;                /* slices that the merged samples were drawn from */
    str notes;                          /* Markdown above the tables; owned */
} lesionreport;

status lesionreport_new(size_t lines, lesionreport **out);
void lesionreport_free(lesionreport **r);
/* Takes the row, on failure too. */
status lesionreport_add(lesionreport_line *line, lesionreport_set set, lesioneval_row *row);
/* After the last row and before what is below. */
status lesionreport_sum(lesionreport *r);
void lesionreport_markdown(lesionreport *r, str *to);
/* Objects with a comma between them: one a row, one a summary, one a point of a FROC curve (at most 200 a line), one a
 * threshold. */
void lesionreport_json(const lesionreport *r, str *items);
#endif
