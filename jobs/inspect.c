/* inspect: a cohort on the terminal: a table of studies, every column of one study, or everything as CSV. */
#include "jobs/jobs.h"
#include "jobs/select.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum kind { TEXT, I32, F64, U8 } kind;
typedef struct column { const char *name; kind kind; int extent; const char *units, *long_name; size_t offset; } column;
static const column columns[] = {
#define X(field, KIND, extent, units, long_name) {#field, KIND, extent, units, long_name, offsetof(study_row, field)},
    STUDY_COLUMNS(X)
#undef X
};
enum { COLUMN_COUNT = sizeof columns / sizeof columns[0] };

static int is_unknown(const column *c, const char *field)
{
    for (int k = 0; k < c->extent && c->kind == F64; k++)
        if (!isnan(((const double *)(const void *)field)[k])) return 0;
    return c->kind == F64;
}

/* One cell; several elements are blank-separated, NaN is empty, opaque bytes are left out. */
static void put_cell(const study_row *row, const column *c, str *to)
{
    const char *field = (const char *)row + c->offset;
    if (is_unknown(c, field)) return;
    if (c->kind == TEXT) str_put(to, field);
    else if (strcmp(c->name, "status") == 0) str_put(to, outcome_name((outcome)row->status));
    else if (strcmp(c->name, "reason") == 0) str_put(to, reason_code((reason)row->reason));
    else if (strcmp(c->name, "qc_flags") == 0) select_flags(row, to);
    else if (strcmp(c->name, "period") == 0) str_put(to, study_period_name(row->period));
    else for (int k = 0; k < c->extent && c->kind != U8; k++) {
        if (k) str_put(to, " ");
        if (c->kind == I32) str_putf(to, "%d", ((const int32_t *)(const void *)field)[k]);
        else if (!isnan(((const double *)(const void *)field)[k])) str_putf(to, "%.6g", ((const double *)(const void *)field)[k]);
    }
}

static status print_csv(cohort *c, const int64_t *studies, int64_t count)
{
    str line = {0}, cell = {0};
    status s = COV_OK;
    for (int i = 0; i < COLUMN_COUNT; i++)
        if (columns[i].kind != U8) str_putf(&line, "%s%s", i ? "," : "", columns[i].name);
    for (int i = 0; i < cohort_extra_count(c); i++) { str_put(&line, ","); str_put_csv(&line, cohort_extra_name(c, i)); }
    puts(str_text(&line));
    for (int64_t k = 0; k < count; k++) {
        study_row row;
        COV_GO(cohort_row(c, studies[k], &row));
        str_clear(&line);
        for (int i = 0; i < COLUMN_COUNT; i++) {
            if (columns[i].kind == U8) continue;
            str_clear(&cell);
            put_cell(&row, &columns[i], &cell);
            if (i) str_put(&line, ",");
            str_put_csv(&line, str_text(&cell));
        }
        for (int i = 0; i < cohort_extra_count(c); i++) {
            char text[COHORT_CELL];
            COV_GO(cohort_extra_cell(c, i, studies[k], text));
            str_put(&line, ",");
            str_put_csv(&line, text);
        }
        puts(str_text(&line));
    }
done:
    str_free(&line);
    str_free(&cell);
    return s;
}

static status print_lesions(cohort *c, int64_t k)
{
    lesion_row *rows;
    int64_t count;
    COV_TRY(cohort_lesions(c, k, &rows, &count));
    if (count) printf("%6s %5s %-23s %6s %8s %9s %8s %5s  %s\n", "lesion", "z", "rows, columns", "score", "area_px", "area_mm2", "mean_hu", "tiny", "period");
    for (int64_t i = 0; i < count; i++) {
        const lesion_row *l = &rows[i];
        char box[48], mm2[16] = "", hu[16] = "";
        snprintf(box, sizeof box, "%d-%d, %d-%d", l->box_yxyx[0], l->box_yxyx[2] - 1, l->box_yxyx[1], l->box_yxyx[3] - 1);
        if (!isnan(l->area_mm2)) snprintf(mm2, sizeof mm2, "%.1f", l->area_mm2);
        if (!isnan(l->mean_hu)) snprintf(hu, sizeof hu, "%.0f", l->mean_hu);
        printf("%6d %5d %-23s %6.3f %8d %9s %8s %5s  %s\n", l->lesion_id, l->z, box, l->score, l->area_px, mm2, hu, l->tiny ? "tiny" : "", study_period_name(l->period));
    }
    free(rows);
    return COV_OK;
}

static status print_study(cohort *c, int64_t k)
{
    study_row row;
    cohort_place place;
    str cell = {0};
    status s;
    COV_GO(cohort_row(c, k, &row));
    COV_GO(cohort_place_of(c, k, &place));
    for (int i = 0; i < COLUMN_COUNT; i++) {
        str_clear(&cell);
        put_cell(&row, &columns[i], &cell);
        if (cell.length) printf("%-18s %s%s%s\n", columns[i].name, str_text(&cell), *columns[i].units ? " " : "", columns[i].units);
    }
    for (int i = 0; i < cohort_extra_count(c); i++) {
        char text[COHORT_CELL];
        COV_GO(cohort_extra_cell(c, i, k, text));
        printf("%-18s %s\n", cohort_extra_name(c, i), text);
    }
    if (place.duplicate_of >= 0) printf("%-18s study %lld has the same bytes\n", "duplicate_of", (long long)place.duplicate_of);
    if (*place.mask_set) printf("%-18s /mask/%s rows %lld to %lld\n", "mask", place.mask_set, (long long)place.mask_row0, (long long)(place.mask_row0 + row.slices - 1));
    COV_GO(print_lesions(c, k));
done:
    str_free(&cell);
    return s;
}

/* A figure that is not known is blank. */
static void print_figure(int width, int digits, double value)
{
    if (isnan(value)) printf(" %*s", width, "");
    else printf(" %*.*f", width, digits, value);
}

static void print_figures(const study_row *row)
{
    print_figure(8, 0, row->lung_ml);
    print_figure(7, 0, row->lung_mean_hu);
    print_figure(9, 1, row->lesion_ml);
    print_figure(8, 2, row->involvement_percent);
    print_figure(7, 0, row->lesion_count < 0 ? NAN : row->lesion_count);
    print_figure(4, 0, row->tiny_count < 0 ? NAN : row->tiny_count);
    printf(" %-8s", study_period_name(row->period));
    print_figure(9, 3, row->suspicion);
}

static status print_table(cohort *c, const int64_t *studies, int64_t count)
{
    str flags = {0};
    status s = COV_OK;
    int64_t outcomes[3] = {0};
    printf("%-32s %-8s %-12s %-15s %8s %7s %9s %8s %7s %4s %-8s %9s  %s\n", "id", "status", "reason", "size", "lung_ml", "mean_hu", "lesion_ml", "involv_%",
           "lesions", "tiny", "period", "suspicion", "flags");
    for (int64_t k = 0; k < count; k++) {
        study_row row;
        char size[48] = "";
        COV_GO(cohort_row(c, studies[k], &row));
        str_clear(&flags);
        select_flags(&row, &flags);
        if (row.slices) snprintf(size, sizeof size, "%dx%dx%d", row.cols, row.rows, row.slices);
        outcomes[row.status >= 0 && row.status < 3 ? row.status : OUTCOME_FAILED]++;
        printf("%-32.32s %-8s %-12s %-15s", row.id, outcome_name((outcome)row.status), reason_code((reason)row.reason), size);
        if (row.status == OUTCOME_DONE) {
            print_figures(&row);
            printf("  %s", str_text(&flags));
        }
        putchar('\n');
    }
    printf("%lld studies: %lld done, %lld skipped, %lld failed\n", (long long)count, (long long)outcomes[0], (long long)outcomes[1], (long long)outcomes[2]);
done:
    str_free(&flags);
    return s;
}

int inspect_job(const options *o)
{
    cohort *c = NULL;
    int64_t *studies = NULL, count;
    status s;
    COV_GO(cohort_open(o->words[0], &c));
    COV_GO(select_studies(c, &o->study, &studies, &count));
    if (o->csv) COV_GO(print_csv(c, studies, count));
    else if (!o->study.count) COV_GO(print_table(c, studies, count));
    else for (int64_t k = 0; k < count; k++) {
        if (k) putchar('\n');
        COV_GO(print_study(c, studies[k]));
    }
done:
    free(studies);
    cohort_close(&c);
    return s == COV_OK ? EXIT_OK : jobs_fail(s);
}
