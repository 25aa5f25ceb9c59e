/* lesionreport: see lesionreport.h. The paper's figures stand here and nowhere else in the program. */
#include "stages/lesionreport.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct set { const char *name, *paper; double dice, accuracy, sensitivity; } sets[] = {
#define X(NAME, name, paper, dice, accuracy, sensitivity) {name, paper, dice, accuracy, sensitivity},
    LESIONREPORT_SETS(X)
#undef X
};
static const struct paper_size { const char *name; int regions; double mean, median, tiny; } paper_sizes[] = {
    {"paper, training set", 15907, 954.11, 230, 41.28},
    {"paper, testing set", 7953, 1013.32, 179, 43.06},
};
static const struct paper_row { const char *model, *name; double dice, accuracy, sensitivity, tiny; } paper_rows[] = {
    {"st", "paper, Ours", 0.9197, 0.9839, 0.9725, 0.9442},
    {"sp", "paper, Ours-SP", 0.9062, 0.9783, 0.9689, 0.9413},
    {"maskrcnn", "paper, Mask R-CNN", 0.9024, 0.9717, 0.9590, 0.9165},
    {"unet", "paper, U-net", 0.8801, 0.9691, 0.9246, 0.8408},
};
static const char *const kind_names[] = {"all", "volumes", "isolated slices"};
static const double froc_rates[] = {0.125, 0.25, 0.5, 1, 2, 4, 8};
enum {
    RATES = sizeof froc_rates / sizeof *froc_rates,
    PAPER_ROWS = sizeof paper_rows / sizeof *paper_rows,
    CURVE_POINTS = 200
};

const char *lesionreport_set_name(lesionreport_set s) { return sets[s].name; }

status lesionreport_new(size_t lines, lesionreport **out)
{
    *out = calloc(1, sizeof **out);
    if (*out) (*out)->lines = calloc(lines + 1, sizeof *(*out)->lines);
    if (!*out || !(*out)->lines) {
        free(*out);
        *out = NULL;
        return COV_FAIL(COV_NOMEM, "no memory for a report of %zu models", lines);
    }
    (*out)->count = lines;
    (*out)->suspicion_threshold = 0.5;
    return COV_OK;
}

void lesionreport_free(lesionreport **at)
{
    lesionreport *r = at ? *at : NULL;
    if (!r) return;
    for (size_t k = 0; k < r->count; k++) {
        for (int s = 0; s < LESIONREPORT_SETS_COUNT; s++) {
            for (size_t i = 0; i < r->lines[k].rows[s].count; i++) lesioneval_row_free(&r->lines[k].rows[s].at[i]);
            free(r->lines[k].rows[s].at);
            for (int kind = 0; kind < LESIONEVAL_KINDS; kind++) lesioneval_summary_free(&r->lines[k].sum[s][kind]);
        }
        str_free(&r->lines[k].note);
    }
    free(r->lines);
    lesionmetrics_sizes_free(&r->scored);
    lesionmetrics_sizes_free(&r->others);
    str_free(&r->notes);
    free(r);
    *at = NULL;
}

status lesionreport_add(lesionreport_line *line, lesionreport_set set, lesioneval_row *row)
{
    lesionreport_rows *rows = &line->rows[set];
    if (rows->count == rows->room) {
        size_t room = rows->room ? 2 * rows->room : 16;
        lesioneval_row *more = realloc(rows->at, room * sizeof *more);
        if (!more) {
            lesioneval_row_free(row);
            return COV_FAIL(COV_NOMEM, "no memory for %zu scored studies", room);
        }
        rows->at = more;
        rows->room = room;
    }
    rows->at[rows->count++] = *row;
    *row = (lesioneval_row){0};
    return COV_OK;
}

status lesionreport_sum(lesionreport *r)
{
    for (size_t k = 0; k < r->count; k++)
        for (int s = 0; s < LESIONREPORT_SETS_COUNT; s++)
            for (int kind = 0; kind < LESIONEVAL_KINDS; kind++) {
                const lesionreport_rows *rows = &r->lines[k].rows[s];
                COV_TRY(lesioneval_sum(rows->at, rows->count, (lesioneval_kind)kind, r->suspicion_threshold,
                                       &r->lines[k].sum[s][kind]));
            }
    return COV_OK;
}

/* ---- Markdown */

static void put_number(str *to, double v, int digits)
{
    if (isnan(v)) str_put(to, " –");
    else str_putf(to, " %.*f", digits, v);
}

static void put_cell(str *to, double v, int digits)
{
    put_number(to, v, digits);
    str_put(to, " |");
}

static void put_interval(str *to, metrics_interval i, int digits)
{
    put_number(to, i.value, digits);
    if (!isnan(i.low))
        str_putf(to, " (%.*f–%.*f)", digits > 2 ? digits - 1 : digits, i.low, digits > 2 ? digits - 1 : digits, i.high);
    str_put(to, " |");
}

/* "| a | b |" and the line below it. */
static void put_head(str *to, const char *title, const char *const *columns, int count)
{
    str_putf(to, "\n## %s\n\n|", title);
    for (int k = 0; k < count; k++) str_putf(to, " %s |", columns[k]);
    str_put(to, "\n|");
    for (int k = 0; k < count; k++) str_put(to, " --- |");
    str_put(to, "\n");
}
#define HEAD(to, title, ...)                                                                     \
    do {                                                                                         \
        static const char *const columns_[] = {__VA_ARGS__};                                     \
        put_head(to, title, columns_, (int)(sizeof columns_ / sizeof *columns_));                \
    } while (0)

static void put_sizes(str *to, const char *name, lesionmetrics_sizes *s)
{
    if (!s->count) return;
    str_putf(to, "| %s | %lld |", name, (long long)s->count);
    put_cell(to, lesionmetrics_mean_area(s), 2);
    put_cell(to, lesionmetrics_median_area(s), 0);
    put_cell(to, lesionmetrics_tiny_percent(s), 2);
    str_put(to, "\n");
}

static void put_table_1(lesionreport *r, str *to)
{
    HEAD(to, "Table 1: sizes of lesion regions, in pixels of a 512 × 512 slice", "set", "regions", "mean", "median",
         "tiny %");
    for (size_t k = 0; r->paper && k < sizeof paper_sizes / sizeof *paper_sizes; k++)
        str_putf(to, "| %s | %d | %.2f | %.0f | %.2f |\n", paper_sizes[k].name, paper_sizes[k].regions,
                 paper_sizes[k].mean, paper_sizes[k].median, paper_sizes[k].tiny);
    put_sizes(to, "the other patients", &r->others);
    put_sizes(to, "cases scored", &r->scored);
}

/* A kind is shown if it has studies and is not all there is. */
static int shown(const lesionreport_line *l, lesionreport_set set, int kind)
{
    int64_t n = l->sum[set][kind].studies;
    return n > 0 && (kind == LESIONEVAL_ALL || n < l->sum[set][LESIONEVAL_ALL].studies);
}

static void put_metrics(const lesionreport *r, lesionreport_set set, int first, int count, str *to)
{
    for (size_t k = 0; k < r->count; k++)
        for (int kind = 0; kind < LESIONEVAL_KINDS; kind++) {
            const lesioneval_summary *s = &r->lines[k].sum[set][kind];
            if (!shown(&r->lines[k], set, kind)) continue;
            str_putf(to, "| %s | %s: %lld of %lld patients, %lld positive slices, %lld regions |", r->lines[k].name,
                     kind_names[kind], (long long)s->studies, (long long)s->patients, (long long)s->positive_slices,
                     (long long)s->regions);
            for (int m = first; m < first + count; m++)
                put_interval(to, s->m[m], lesioneval_digits((lesioneval_metric)m));
            str_put(to, "\n");
        }
}

static int has_line(const lesionreport *r, const char *model)
{
    for (size_t k = 0; k < r->count; k++)
        if (strcmp(r->lines[k].paper, model) == 0) return 1;
    return 0;
}

static void put_table_2(const lesionreport *r, str *to)
{
    HEAD(to, "Table 2", "model", "studies", "mean Dice", "mean accuracy", "sensitivity", "tiny sensitivity");
    for (int k = 0; r->paper && k < PAPER_ROWS; k++)
        if (has_line(r, paper_rows[k].model))
            str_putf(to, "| %s | 7953 regions | %.4f | %.4f | %.4f | %.4f |\n", paper_rows[k].name, paper_rows[k].dice,
                     paper_rows[k].accuracy, paper_rows[k].sensitivity, paper_rows[k].tiny);
    put_metrics(r, LESIONREPORT_CASES, LESIONEVAL_DICE, 4, to);
    HEAD(to, "Further figures", "model", "studies", "volume Dice", "Dice, all slices", "surface Dice, 2 mm",
         "precision", "false a slice", "false a study");
    put_metrics(r, LESIONREPORT_CASES, LESIONEVAL_VOLUME_DICE, LESIONEVAL_COUNT - LESIONEVAL_VOLUME_DICE, to);
}

static void put_table_3(const lesionreport *r, str *to)
{
    int64_t studies[LESIONREPORT_SETS_COUNT] = {0};
    for (size_t k = 0; k < r->count; k++)
        for (int s = 0; s < LESIONREPORT_SETS_COUNT; s++) studies[s] += r->lines[k].sum[s][LESIONEVAL_ALL].studies;
    if (studies[LESIONREPORT_CORONAL] + studies[LESIONREPORT_MERGED] == 0) return;
    HEAD(to, "Table 3: pictures that no model was trained on", "model", "set", "mean Dice", "mean accuracy",
         "sensitivity");
    for (int s = LESIONREPORT_CORONAL; s < LESIONREPORT_SETS_COUNT; s++) {
        if (!studies[s]) continue;
        if (r->paper)
            str_putf(to, "| paper, Ours | %s: %s | %.4f | %.4f | %.4f |\n", sets[s].paper,
                     s == LESIONREPORT_CORONAL ? "10 volumes" : "300 samples of 200 slices", sets[s].dice,
                     sets[s].accuracy, sets[s].sensitivity);
        for (size_t k = 0; k < r->count; k++) {
            const lesioneval_summary *sum = &r->lines[k].sum[s][LESIONEVAL_ALL];
            if (!sum->studies) continue;
            str_putf(to, "| %s | %s: ", r->lines[k].name, sets[s].name);
            if (s == LESIONREPORT_CORONAL) str_putf(to, "%lld volumes", (long long)sum->studies);
            else str_putf(to, "%lld samples of %lld slices", (long long)sum->slices, (long long)r->merged_from);
            str_putf(to, " of %lld patients, %lld positive slices, %lld regions |", (long long)sum->patients,
                     (long long)sum->positive_slices, (long long)sum->regions);
            for (int m = LESIONEVAL_DICE; m <= LESIONEVAL_SENSITIVITY; m++) put_interval(to, sum->m[m], 4);
            str_put(to, "\n");
        }
    }
}

/* The best sensitivity that costs no more than `rate` false findings a slice. */
static double sensitivity_at(const lesionmetrics_detection *d, const lesionmetrics_point *p, int64_t n, double rate)
{
    int64_t hit = 0;
    if (!d->region_count) return NAN;
    for (int64_t k = 0; k < n; k++)
        if ((double)(p[k].found - p[k].right) <= rate * (double)d->slices) hit = p[k].hit;
    return (double)hit / (double)d->region_count;
}

static void put_detection(const lesionreport *r, str *to)
{
    HEAD(to, "Detection over all thresholds", "model", "sensitivity at 0.125 false a slice", "0.25", "0.5", "1", "2",
         "4", "8", "calibration error", "findings");
    for (size_t k = 0; k < r->count; k++) {
        const lesionmetrics_detection *d = &r->lines[k].sum[LESIONREPORT_CASES][LESIONEVAL_ALL].detection;
        lesionmetrics_point *p;
        int64_t n;
        if (lesionmetrics_froc(d, &p, &n) != COV_OK) { to->failed = true; return; }
        str_putf(to, "| %s |", r->lines[k].name);
        for (int i = 0; i < RATES; i++) put_cell(to, sensitivity_at(d, p, n, froc_rates[i]), 3);
        put_cell(to, lesionmetrics_calibrate(d).error, 3);
        str_putf(to, " %lld |\n", (long long)d->found_count);
        free(p);
    }
}

static void put_share(str *to, metrics_ratio r)
{
    if (r.bottom > 0) str_putf(to, " %.0f of %.0f |", r.top, r.bottom);
    else str_put(to, " – |");
}

static void put_calls(const lesionreport *r, str *to)
{
    str_putf(to,
             "\n## Studies called positive (suspicion of %.2f and more)\n\n| model | sensitivity | specificity | area "
             "under ROC |\n| --- | --- | --- | --- |\n",
             r->suspicion_threshold);
    for (size_t k = 0; k < r->count; k++) {
        const lesionmetrics_studies *c = &r->lines[k].sum[LESIONREPORT_CASES][LESIONEVAL_ALL].calls;
        if (c->sensitivity.bottom + c->specificity.bottom <= 0) continue;
        str_putf(to, "| %s |", r->lines[k].name);
        put_share(to, c->sensitivity);
        put_share(to, c->specificity);
        put_cell(to, c->auc, 3);
        str_put(to, "\n");
    }
}

static int is_healthy(const lesioneval_row *w)
{
    return !w->positive && !isnan(w->found_percent);
}

/* What a model finds where there is nothing. */
static void put_healthy(const lesionreport *r, str *to)
{
    int any = 0;
    for (size_t k = 0; k < r->count; k++) {
        const lesionreport_rows *rows = &r->lines[k].rows[LESIONREPORT_CASES];
        double worst = 0, sum = 0;
        int n = 0;
        for (size_t i = 0; i < rows->count; i++) {
            if (!is_healthy(&rows->at[i])) continue;
            sum += rows->at[i].found_percent;
            worst = fmax(worst, rows->at[i].found_percent);
            n++;
        }
        if (!n) continue;
        if (!any++)
            HEAD(to, "False burden: studies without lesion", "model", "studies", "mean % of lung found", "worst");
        str_putf(to, "| %s | %d |", r->lines[k].name, n);
        put_cell(to, sum / n, 2);
        put_cell(to, worst, 2);
        str_put(to, "\n");
    }
}

static void put_periods(const lesionreport *r, str *to)
{
    for (size_t k = 0; k < r->count; k++) {
        const lesionmetrics_periods *p = &r->lines[k].sum[LESIONREPORT_CASES][LESIONEVAL_ALL].periods;
        metrics_ratio right = lesionmetrics_periods_right(p);
        if (right.bottom <= 0) continue;
        str_putf(to,
                 "\n## Periods of slices, %s: %.0f of %.0f right\n\n| truth | called 0 | 1 | 2 | 3 |\n| --- | --- | "
                 "--- | --- | --- |\n",
                 r->lines[k].name, right.top, right.bottom);
        for (int t = 0; t < LESIONMETRICS_PERIODS; t++)
            str_putf(to, "| %d | %lld | %lld | %lld | %lld |\n", t, (long long)p->count[t][0],
                     (long long)p->count[t][1], (long long)p->count[t][2], (long long)p->count[t][3]);
    }
}

static void put_study(str *to, const lesionreport_line *l, const lesioneval_row *w)
{
    const metrics_ratio *m = w->m;
    str_putf(to, "| %s | %s | %s | %lld of %lld |", w->id, w->patient, l->name, (long long)w->positive_slices,
             (long long)w->slices);
    put_cell(to, metrics_value(m[LESIONEVAL_DICE]), 4);
    put_cell(to, w->volume_dice, 4);
    put_cell(to, w->surface, 4);
    put_cell(to, metrics_value(m[LESIONEVAL_ACCURACY]), 4);
    put_share(to, m[LESIONEVAL_SENSITIVITY]);
    put_share(to, m[LESIONEVAL_TINY]);
    str_putf(to, " %.0f |", m[LESIONEVAL_FALSE_STUDY].top);
    put_cell(to, w->truth_percent, 2);
    put_cell(to, w->found_percent, 2);
    put_cell(to, w->suspicion, 3);
    str_put(to, "\n");
}

static void put_studies(const lesionreport *r, str *to)
{
    HEAD(to, "Studies one by one", "study", "patient", "model", "positive slices", "mean Dice", "volume Dice",
         "surface Dice", "accuracy", "regions met", "tiny met", "false boxes", "reference, % of lung",
         "found, % of lung", "suspicion");
    for (int s = 0; s < LESIONREPORT_SETS_COUNT; s++)
        for (size_t k = 0; k < r->count; k++)
            for (size_t i = 0; i < r->lines[k].rows[s].count; i++)
                put_study(to, &r->lines[k], &r->lines[k].rows[s].at[i]);
}

void lesionreport_markdown(lesionreport *r, str *to)
{
    str_put(to, "# Lesions\n\n");
    str_put(to, str_text(&r->notes));
    for (size_t k = 0; k < r->count; k++) str_putf(to, "- `%s`: %s\n", r->lines[k].name, str_text(&r->lines[k].note));
    str_putf(to,
             "\nIn brackets: 95 %% intervals by bootstrap over patients. Volume and surface Dice leave out volumes of "
             "fewer than %d lesion voxels.\n",
             LESIONEVAL_VOXELS_LEAST);
    put_table_1(r, to);
    put_table_2(r, to);
    put_table_3(r, to);
    put_detection(r, to);
    put_healthy(r, to);
    put_calls(r, to);
    put_periods(r, to);
    put_studies(r, to);
}

/* ---- JSON */

static void put_json(str *to, const char *name, double v)
{
    if (isnan(v)) str_putf(to, ",\"%s\":null", name);
    else str_putf(to, ",\"%s\":%.6g", name, v);
}

static void put_json_start(str *to, const char *what, const lesionreport_line *l, int set)
{
    str_putf(to, "%s{\"what\":\"%s\",\"model\":", to->length ? ",\n" : "", what);
    str_put_json(to, l->name);
    str_putf(to, ",\"set\":\"%s\"", sets[set].name);
}

static void put_json_name(str *to, int m)
{
    str_put(to, ",");
    str_put_json(to, lesioneval_name((lesioneval_metric)m));
}

static void json_row(str *to, const lesionreport_line *l, int set, const lesioneval_row *w)
{
    put_json_start(to, "study", l, set);
    str_put(to, ",\"id\":");
    str_put_json(to, w->id);
    str_put(to, ",\"patient\":");
    str_put_json(to, w->patient);
    str_putf(to,
             ",\"isolated\":%d,\"slices\":%lld,\"positive_slices\":%lld,\"lung_px\":%lld,\"truth_px\":%lld,\"found_"
             "px\":%lld,\"both_px\":%lld",
             w->isolated, (long long)w->slices, (long long)w->positive_slices, (long long)w->lung_px,
             (long long)w->whole.truth, (long long)w->whole.found, (long long)w->whole.both);
    put_json(to, "volume_dice", w->volume_dice);
    put_json(to, "surface_dice", w->surface);
    put_json(to, "truth_percent", w->truth_percent);
    put_json(to, "found_percent", w->found_percent);
    put_json(to, "suspicion", w->suspicion);
    for (int m = 0; m < LESIONEVAL_COUNT; m++) {
        put_json_name(to, m);
        str_putf(to, ":[%.6g,%.6g]", w->m[m].top, w->m[m].bottom);
    }
    str_put(to, "}");
}

static void json_summary(str *to, const lesionreport_line *l, int set, int kind)
{
    const lesioneval_summary *s = &l->sum[set][kind];
    put_json_start(to, "summary", l, set);
    str_putf(to,
             ",\"kind\":\"%s\",\"studies\":%lld,\"patients\":%lld,\"slices\":%lld,\"positive_slices\":%lld,\"regions\":"
             "%lld,\"tiny\":%lld",
             kind_names[kind], (long long)s->studies, (long long)s->patients, (long long)s->slices,
             (long long)s->positive_slices, (long long)s->regions, (long long)s->tiny);
    for (int m = 0; m < LESIONEVAL_COUNT; m++) {
        put_json_name(to, m);
        str_put(to, ":{\"n\":");
        str_putf(to, "%d", s->m[m].patients);
        put_json(to, "value", s->m[m].value);
        put_json(to, "low", s->m[m].low);
        put_json(to, "high", s->m[m].high);
        str_put(to, "}");
    }
    put_json(to, "study_sensitivity", metrics_value(s->calls.sensitivity));
    put_json(to, "study_specificity", metrics_value(s->calls.specificity));
    put_json(to, "study_auc", s->calls.auc);
    put_json(to, "calibration_error", lesionmetrics_calibrate(&s->detection).error);
    str_put(to, "}");
}

static void json_curve(str *to, const lesionreport_line *l)
{
    const lesionmetrics_detection *d = &l->sum[LESIONREPORT_CASES][LESIONEVAL_ALL].detection;
    lesionmetrics_point *p;
    int64_t n;
    if (lesionmetrics_froc(d, &p, &n) != COV_OK) { to->failed = true; return; }
    for (int64_t i = 0, step = n / CURVE_POINTS + 1; i < n; i += step) {
        put_json_start(to, "froc", l, LESIONREPORT_CASES);
        put_json(to, "threshold", (double)p[i].threshold);
        put_json(to, "false_a_slice", d->slices ? (double)(p[i].found - p[i].right) / (double)d->slices : NAN);
        put_json(to, "sensitivity", p[i].regions ? (double)p[i].hit / (double)p[i].regions : NAN);
        put_json(to, "tiny_sensitivity", p[i].tiny ? (double)p[i].tiny_hit / (double)p[i].tiny : NAN);
        put_json(to, "precision", p[i].found ? (double)p[i].right / (double)p[i].found : NAN);
        str_put(to, "}");
    }
    free(p);
}

static void json_sweep(str *to, const lesionreport_line *l)
{
    const lesioneval_summary *s = &l->sum[LESIONREPORT_CASES][LESIONEVAL_ALL];
    for (int k = 0; s->studies && k < LESIONMETRICS_STEPS; k++) {
        put_json_start(to, "sweep", l, LESIONREPORT_CASES);
        put_json(to, "threshold", (double)lesionmetrics_step(k));
        put_json(to, "mean Dice", metrics_value(s->step[k].dice));
        put_json(to, "Dice, all slices", metrics_value(s->step[k].all));
        put_json(to, "volume Dice", s->step_volume[k]);
        str_put(to, "}");
    }
}

/* Each study at each threshold: what scripts/lesion-choice.py chooses on. */
static void json_study_sweep(str *to, const lesionreport_line *l, int set, const lesioneval_row *w)
{
    for (int k = 0; k < LESIONMETRICS_STEPS; k++) {
        const lesioneval_step *at = &w->step[k];
        put_json_start(to, "study sweep", l, set);
        str_put(to, ",\"id\":");
        str_put_json(to, w->id);
        str_put(to, ",\"patient\":");
        str_put_json(to, w->patient);
        str_putf(to, ",\"isolated\":%d,\"lung_px\":%lld,\"truth_px\":%lld,\"found_px\":%lld,\"both_px\":%lld", w->isolated,
                 (long long)w->lung_px, (long long)at->whole.truth, (long long)at->whole.found, (long long)at->whole.both);
        put_json(to, "threshold", (double)lesionmetrics_step(k));
        str_putf(to, ",\"mean Dice\":[%.6g,%.6g],\"Dice, all slices\":[%.6g,%.6g]}", at->dice.top, at->dice.bottom, at->all.top,
                 at->all.bottom);
    }
}

void lesionreport_json(const lesionreport *r, str *items)
{
    for (size_t k = 0; k < r->count; k++) {
        const lesionreport_line *l = &r->lines[k];
        for (int s = 0; s < LESIONREPORT_SETS_COUNT; s++) {
            for (size_t i = 0; i < l->rows[s].count; i++) json_row(items, l, s, &l->rows[s].at[i]);
            for (int kind = 0; kind < LESIONEVAL_KINDS; kind++)
                if (shown(l, (lesionreport_set)s, kind)) json_summary(items, l, s, kind);
        }
        for (size_t i = 0; i < l->rows[LESIONREPORT_CASES].count; i++)
            json_study_sweep(items, l, LESIONREPORT_CASES, &l->rows[LESIONREPORT_CASES].at[i]);
        json_curve(items, l);
        json_sweep(items, l);
    }
}
