/* study: an empty row and the end of a result; every figure starts as NaN, or -1, so that what was not computed says
 * so. */
#include "data/study.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *study_period_name(int32_t period)
{
    static const char *const names[STUDY_PERIODS] = {"healthy", "early", "advanced", "severe"};
    return period >= 0 && period < STUDY_PERIODS ? names[period] : "";
}

void study_row_no_lesions(study_row *row)
{
    row->lesion_ml = row->lesion_right_ml = row->lesion_left_ml = row->largest_lesion_ml = row->suspicion = NAN;
    row->involvement_percent = row->involvement_right_percent = row->involvement_left_percent = NAN;
    row->lesion_count = row->tiny_count = row->period = -1;
    for (int k = 0; k < STUDY_PERIODS; k++) row->period_probability[k] = NAN;
}

void study_row_init(study_row *row)
{
    memset(row, 0, sizeof *row);
    double *const figures[] = {&row->lung_ml,      &row->lung_right_ml,     &row->lung_left_ml,
                               &row->lung_mean_hu, &row->lung_high_percent, &row->seconds_read,
                               &row->seconds_lung, &row->seconds_crf,       &row->seconds_lesion,
                               &row->seconds_total};
    for (size_t k = 0; k < sizeof figures / sizeof figures[0]; k++) *figures[k] = NAN;
    study_row_no_lesions(row);
    for (int k = 0; k < 3; k++) row->spacing_mm[k] = NAN;
    for (int k = 0; k < 16; k++) row->affine[k] = NAN;
}

void study_result_free(study_result *r)
{
    if (!r) return;
    free(r->slices);
    free(r->lung);
    free(r->lesion);
    free(r->lesions);
    r->slices = NULL;
    r->lung = NULL;
    r->lesion = NULL;
    r->lesions = NULL;
    r->slice_count = r->lesion_rows = 0;
}
