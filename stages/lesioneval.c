/* lesioneval: see lesioneval.h. One pass over the slices of a study; the mask at the threshold and the sweep over
 * thresholds both come from one map of scores a slice, so they cannot disagree. */
#include "stages/lesioneval.h"
#include "base/str.h"

#include "stages/lesionpost.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct metric { const char *name; int digits; const char *meaning; } metrics[] = {
#define X(NAME, name, digits, meaning) {name, digits, meaning},
    LESIONEVAL_METRICS(X)
#undef X
};
const char *lesioneval_name(lesioneval_metric m) { return metrics[m].name; }
const char *lesioneval_meaning(lesioneval_metric m) { return metrics[m].meaning; }
int lesioneval_digits(lesioneval_metric m) { return metrics[m].digits; }

void lesioneval_row_free(lesioneval_row *r)
{
    lesionmetrics_detection_free(&r->detection);
    free(r->slice_dice);
    *r = (lesioneval_row){0};
}

/* The findings of slice z are [*from, *to) of the sorted list. */
static void slice_range(const findings *f, int64_t z, int64_t *from, int64_t *to)
{
    int64_t low = 0, high = f->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (f->at[middle].z < z) low = middle + 1;
        else high = middle;
    }
    *from = low;
    for (*to = low; *to < f->count && f->at[*to].z == z; (*to)++) continue;
}

void lesioneval_scores(const findings *f, int64_t z, int64_t ny, int64_t nx, float *to)
{
    int64_t from, end;
    for (int64_t i = 0; i < ny * nx; i++) to[i] = -1.0f;
    slice_range(f, z, &from, &end);
    for (int64_t k = from; k < end; k++) {
        const finding *g = &f->at[k];
        for (int32_t y = g->y0; y < g->y1; y++)
            for (int32_t x = g->x0; x < g->x1; x++) {
                if (y < 0 || x < 0 || y >= ny || x >= nx ||
                    !g->mask[(int64_t)(y - g->y0) * (g->x1 - g->x0) + x - g->x0])
                    continue;
                float *at = &to[y * nx + x];
                *at = g->score > *at ? g->score : *at;
            }
    }
}

typedef struct room { /* of one slice */
    float *scores;
    int32_t *labels;
    region *truth, *found;
    float *score;
    int64_t truths, founds;
    double found_score; /* sum over the pixels found, of the whole study */
} room;

static status boxes_of(const findings *f, int64_t z, room *r)
{
    int64_t from, to;
    slice_range(f, z, &from, &to);
    r->founds = to - from;
    if (!r->founds) return COV_OK;
    r->found = malloc((size_t)r->founds * sizeof *r->found);
    r->score = malloc((size_t)r->founds * sizeof *r->score);
    if (!r->found || !r->score) return COV_FAIL(COV_NOMEM, "no memory for %lld boxes", (long long)r->founds);
    for (int64_t k = from; k < to; k++) {
        const finding *g = &f->at[k];
        r->found[k - from] = (region){g->y0, g->x0, g->y1, g->x1, g->area_px};
        r->score[k - from] = g->score;
    }
    return COV_OK;
}

static void clear_slice(room *r)
{
    free(r->truth);
    free(r->found);
    free(r->score);
    r->truth = r->found = NULL;
    r->score = NULL;
}

static void score_pixels(const lesioneval_input *in, int64_t z, const room *r, const uint8_t *mask, lesioneval_row *out)
{
    const trainset_volume *v = &in->study->v;
    size_t n = (size_t)v->ct.head.nx * (size_t)v->ct.head.ny, at = (size_t)z * n;
    metrics_overlap o = metrics_overlap_of(v->lesion + at, mask + at, n), sweep[LESIONMETRICS_STEPS] = {{0}};
    int positive = o.truth > 0;
    lesionmetrics_sweep(v->lesion + at, r->scores, n, sweep);
    for (int k = 0; k < LESIONMETRICS_STEPS; k++) {
        metrics_ratio dice = {metrics_dice(sweep[k]), 1};
        if (positive) metrics_ratio_add(&out->step[k].dice, dice);
        metrics_ratio_add(&out->step[k].all, dice);
        metrics_overlap_add(&out->step[k].whole, sweep[k]);
    }
    metrics_overlap_add(&out->whole, o);
    metrics_ratio_add(&out->m[LESIONEVAL_ALL_DICE], (metrics_ratio){metrics_dice(o), 1});
    out->slice_dice[z] = positive ? metrics_dice(o) : NAN;
    if (!positive) return;
    out->positive_slices++;
    metrics_ratio_add(&out->m[LESIONEVAL_DICE], (metrics_ratio){metrics_dice(o), 1});
    double accuracy = v->lung ? metrics_value(metrics_accuracy(v->lesion + at, mask + at, v->lung + at, n)) : NAN;
    if (!isnan(accuracy)) metrics_ratio_add(&out->m[LESIONEVAL_ACCURACY], (metrics_ratio){accuracy, 1});
}

static status score_slice(const lesioneval_input *in, int64_t z, room *r, uint8_t *mask, lesioneval_row *out)
{
    const volume_header *h = &in->study->v.ct.head;
    size_t n = (size_t)h->nx * (size_t)h->ny, at = (size_t)z * n;
    lesioneval_scores(in->found, z, h->ny, h->nx, r->scores);
    for (size_t i = 0; i < n; i++) {
        mask[at + i] = r->scores[i] >= 0 && r->scores[i] >= in->threshold;
        if (mask[at + i]) r->found_score += (double)r->scores[i];
    }
    score_pixels(in, z, r, mask, out);
    COV_TRY(regions_find(in->study->v.lesion + at, h->ny, h->nx, r->labels, &r->truth, &r->truths));
    COV_TRY(boxes_of(in->found, z, r));
    COV_TRY(
        lesionmetrics_detection_add(&out->detection, r->truth, r->truths, r->found, r->score, r->founds, h->ny, h->nx));
    if (in->period) lesionmetrics_periods_add(&out->periods, in->period[z], in->found->period[z]);
    return COV_OK;
}

static void score_detection(lesioneval_row *out, float threshold)
{
    lesionmetrics_point p = lesionmetrics_at(&out->detection, threshold);
    double wrong = (double)(p.found - p.right);
    out->m[LESIONEVAL_SENSITIVITY] = (metrics_ratio){(double)p.hit, (double)p.regions};
    out->m[LESIONEVAL_TINY] = (metrics_ratio){(double)p.tiny_hit, (double)p.tiny};
    out->m[LESIONEVAL_PRECISION] = (metrics_ratio){(double)p.right, (double)p.found};
    out->m[LESIONEVAL_FALSE_SLICE] = (metrics_ratio){wrong, (double)out->slices};
    out->m[LESIONEVAL_FALSE_STUDY] = (metrics_ratio){wrong, 1};
}

/* What needs the whole volume. */
static status score_volume(const lesioneval_input *in, const uint8_t *mask, lesioneval_row *out)
{
    const volume_header *h = &in->study->v.ct.head;
    metrics_ratio near = {0, 0};
    out->volume_dice = out->surface = NAN;
    if (out->isolated || !out->positive) return COV_OK;
    out->volume_dice = metrics_dice(out->whole);
    COV_TRY(metrics_surface(in->study->v.lesion, mask, (const int64_t[]){h->nx, h->ny, h->nz}, h->spacing_mm,
                            LESIONEVAL_TOLERANCE_MM, 1, &near));
    out->surface = metrics_value(near);
    if (out->whole.truth < LESIONEVAL_VOXELS_LEAST) return COV_OK;
    out->m[LESIONEVAL_VOLUME_DICE] = (metrics_ratio){out->volume_dice, 1};
    out->m[LESIONEVAL_SURFACE] = (metrics_ratio){out->surface, 1};
    return COV_OK;
}

status lesioneval_score(const lesioneval_input *in, uint8_t *mask, lesioneval_row *out)
{
    status s;
    const volume_header *h = &in->study->v.ct.head;
    size_t area = (size_t)h->nx * (size_t)h->ny, n = area * (size_t)h->nz;
    room r = {.scores = malloc(area * sizeof *r.scores), .labels = malloc(area * sizeof *r.labels)};
    *out = (lesioneval_row){.patient = in->study->patient, .isolated = in->study->isolated, .slices = h->nz};
    out->slice_dice = malloc((size_t)h->nz * sizeof *out->slice_dice);
    snprintf(out->id, sizeof out->id, "%s", in->study->id);
    if (!r.scores || !r.labels || !out->slice_dice) COV_GO(COV_FAIL(COV_NOMEM, "no memory to score %s", out->id));
    if (in->found->nz != h->nz)
        COV_GO(COV_FAIL(COV_BROKEN, "%s: findings of %lld slices for %lld", out->id, (long long)in->found->nz,
                        (long long)h->nz));
    for (int64_t z = 0; z < h->nz; z++) {
        COV_GO(score_slice(in, z, &r, mask, out));
        clear_slice(&r);
    }
    out->detection.studies = 1;
    out->positive = out->whole.truth > 0;
    for (size_t i = 0; i < n; i++) out->lung_px += !in->lung || in->lung[i];
    out->truth_percent = out->lung_px ? 100.0 * (double)out->whole.truth / (double)out->lung_px : NAN;
    out->found_percent = out->lung_px ? 100.0 * (double)out->whole.found / (double)out->lung_px : NAN;
    out->suspicion =
        lesionpost_suspicion(out->whole.found ? r.found_score / (double)out->whole.found : 0, out->found_percent);
    if (!out->lung_px) out->suspicion = NAN;
    score_detection(out, in->threshold);
    COV_GO(score_volume(in, mask, out));
done:
    clear_slice(&r);
    free(r.scores);
    free(r.labels);
    if (s != COV_OK) lesioneval_row_free(out);
    return s;
}

/* ---- the baseline */

static status add_region(const region *r, int32_t label, const int32_t *labels, int64_t nx, int64_t z, findings *to)
{
    int64_t w = r->x1 - r->x0, h = r->y1 - r->y0;
    uint8_t *mask = malloc((size_t)(w * h));
    if (!mask) return COV_FAIL(COV_NOMEM, "no memory for a mask of %lld pixels", (long long)(w * h));
    for (int64_t i = 0; i < w * h; i++) mask[i] = labels[(r->y0 + i / w) * nx + r->x0 + i % w] == label;
    status s = findings_add(
        to, &(finding){.z = z, .y0 = r->y0, .x0 = r->x0, .y1 = r->y1, .x1 = r->x1, .score = 1, .mask = mask});
    free(mask);
    return s;
}

status lesioneval_baseline(const volume *v, const uint8_t *lung, int hu, findings **out)
{
    status s;
    size_t area = (size_t)v->head.nx * (size_t)v->head.ny;
    uint8_t *high = malloc(area);
    int32_t *labels = malloc(area * sizeof *labels);
    region *r = NULL;
    COV_GO(findings_new(v->head.nz, out));
    if (!high || !labels) COV_GO(COV_FAIL(COV_NOMEM, "no memory for a slice of %zu pixels", area));
    for (int64_t z = 0; z < v->head.nz; z++) {
        int64_t count;
        size_t at = (size_t)z * area;
        for (size_t i = 0; i < area; i++) high[i] = lung[at + i] && v->hu[at + i] > hu;
        COV_GO(regions_find(high, v->head.ny, v->head.nx, labels, &r, &count));
        for (int64_t k = 0; k < count; k++) COV_GO(add_region(&r[k], (int32_t)k + 1, labels, v->head.nx, z, *out));
        free(r);
        r = NULL;
    }
    findings_sort(*out);
done:
    free(high);
    free(labels);
    free(r);
    if (s != COV_OK) findings_free(out);
    return s;
}

/* ---- sums */

static int counts(const lesioneval_row *r, lesioneval_kind kind)
{
    return kind == LESIONEVAL_ALL || (kind == LESIONEVAL_SLICES) == (r->isolated != 0);
}

/* place[k]: which patient row k belongs to, -1 if its kind is not asked for. Returns how many patients. */
static int place_patients(const lesioneval_row *rows, size_t count, lesioneval_kind kind, int *place)
{
    int patients = 0;
    for (size_t k = 0; k < count; k++) {
        place[k] = -1;
        if (!counts(&rows[k], kind)) continue;
        for (size_t j = 0; j < k && place[k] < 0; j++)
            if (place[j] >= 0 && strcmp(rows[j].patient, rows[k].patient) == 0) place[k] = place[j];
        if (place[k] < 0) place[k] = patients++;
    }
    return patients;
}

/* Each patient's mean counts once, however many volumes it has. */
static void one_each(metrics_ratio *by_patient, int patients)
{
    for (int p = 0; p < patients; p++)
        if (by_patient[p].bottom > 0) by_patient[p] = (metrics_ratio){metrics_value(by_patient[p]), 1};
}

static status sum_metrics(const lesioneval_row *rows, size_t count, const int *place, metrics_ratio *by_patient,
                          lesioneval_summary *out)
{
    int patients = (int)out->patients;
    for (int m = 0; m < LESIONEVAL_COUNT; m++) {
        memset(by_patient, 0, (size_t)patients * sizeof *by_patient);
        for (size_t k = 0; k < count; k++)
            if (place[k] >= 0) metrics_ratio_add(&by_patient[place[k]], rows[k].m[m]);
        if (m == LESIONEVAL_VOLUME_DICE || m == LESIONEVAL_SURFACE) one_each(by_patient, patients);
        COV_TRY(metrics_bootstrap(by_patient, patients, 1, &out->m[m]));
    }
    for (int t = 0; t < LESIONMETRICS_STEPS; t++) {
        metrics_ratio mean = {0, 0};
        memset(by_patient, 0, (size_t)patients * sizeof *by_patient);
        for (size_t k = 0; k < count; k++)
            if (place[k] >= 0 && rows[k].m[LESIONEVAL_VOLUME_DICE].bottom > 0)
                metrics_ratio_add(&by_patient[place[k]], (metrics_ratio){metrics_dice(rows[k].step[t].whole), 1});
        one_each(by_patient, patients);
        for (int p = 0; p < patients; p++) metrics_ratio_add(&mean, by_patient[p]);
        out->step_volume[t] = metrics_value(mean);
    }
    return COV_OK;
}

static status sum_row(const lesioneval_row *r, lesioneval_summary *out)
{
    out->studies++;
    out->slices += r->slices;
    out->positive_slices += r->positive_slices;
    out->regions += (int64_t)r->m[LESIONEVAL_SENSITIVITY].bottom;
    out->tiny += (int64_t)r->m[LESIONEVAL_TINY].bottom;
    out->found += (int64_t)r->m[LESIONEVAL_PRECISION].bottom;
    for (int t = 0; t < LESIONMETRICS_PERIODS; t++)
        for (int f = 0; f < LESIONMETRICS_PERIODS; f++) out->periods.count[t][f] += r->periods.count[t][f];
    for (int t = 0; t < LESIONMETRICS_STEPS; t++) {
        metrics_ratio_add(&out->step[t].dice, r->step[t].dice);
        metrics_ratio_add(&out->step[t].all, r->step[t].all);
        metrics_overlap_add(&out->step[t].whole, r->step[t].whole);
    }
    return lesionmetrics_detection_merge(&out->detection, &r->detection);
}

status lesioneval_sum(const lesioneval_row *rows, size_t count, lesioneval_kind kind, double suspicion_threshold,
                      lesioneval_summary *out)
{
    status s = COV_OK;
    size_t n = 0;
    int *place = malloc((count + 1) * sizeof *place);
    metrics_ratio *by_patient = malloc((count + 1) * sizeof *by_patient);
    double *suspicion = malloc((count + 1) * sizeof *suspicion);
    uint8_t *positive = malloc(count + 1);
    *out = (lesioneval_summary){0};
    if (!place || !by_patient || !suspicion || !positive)
        COV_GO(COV_FAIL(COV_NOMEM, "no memory to sum up %zu studies", count));
    out->patients = place_patients(rows, count, kind, place);
    COV_GO(sum_metrics(rows, count, place, by_patient, out));
    for (size_t k = 0; k < count; k++) {
        if (place[k] < 0) continue;
        COV_GO(sum_row(&rows[k], out));
        if (isnan(rows[k].suspicion)) continue;
        suspicion[n] = rows[k].suspicion;
        positive[n++] = (uint8_t)rows[k].positive;
    }
    out->calls = lesionmetrics_of_studies(suspicion, positive, n, suspicion_threshold);
done:
    free(place);
    free(by_patient);
    free(suspicion);
    free(positive);
    if (s != COV_OK) lesioneval_summary_free(out);
    return s;
}

void lesioneval_summary_free(lesioneval_summary *s)
{
    lesionmetrics_detection_free(&s->detection);
}

status lesioneval_choose(const lesioneval_summary *s, const char *by, int *step)
{
    double best = NAN, given;
    int by_volume = strcmp(by, "volume") == 0, dice = strcmp(by, "dice") == 0, screen = strcmp(by, "screen") == 0;
    *step = 0;
    for (int k = 0; str_to_double(by, &given) && k < LESIONMETRICS_STEPS; k++) {
        *step = k;
        if (fabs(given - (double)lesionmetrics_step(k)) < 1e-3) return COV_OK;
    }
    if (!by_volume && !dice && !screen && strcmp(by, "all") != 0)
        return COV_FAIL(COV_USAGE, "--choose %s: expected dice, volume, all or screen, or a score in steps of 0.05", by);
    for (int k = 0; k < LESIONMETRICS_STEPS; k++) {
        double all = metrics_value(s->step[k].all);
        double v = by_volume ? s->step_volume[k] : dice ? metrics_value(s->step[k].dice) : screen ? (s->step_volume[k] + all) / 2 : all;
        if (isnan(v) || v <= best) continue;
        best = v;
        *step = k;
    }
    return isnan(best) ? COV_FAIL(COV_USAGE, "--choose %s: no case that it could be chosen on", by) : COV_OK;
}
