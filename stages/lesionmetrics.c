/* lesionmetrics: see lesionmetrics.h. Written for being read beside the definitions; the largest loop is findings x
 * regions of one slice. */
#include "stages/lesionmetrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Room for `more` elements beyond count. */
static status grow(void **array, int64_t count, int64_t more, int64_t *room, size_t element)
{
    if (count + more <= *room) return COV_OK;
    int64_t wanted = 2 * (count + more);
    void *at = realloc(*array, (size_t)wanted * element);
    if (!at) return COV_FAIL(COV_NOMEM, "no memory for %lld entries of a score", (long long)wanted);
    *array = at;
    *room = wanted;
    return COV_OK;
}

static int64_t box_area(const region *r)
{
    return (int64_t)(r->y1 - r->y0) * (r->x1 - r->x0);
}

int lesionmetrics_meet(const region *a, const region *b)
{
    int64_t y0 = a->y0 > b->y0 ? a->y0 : b->y0, y1 = a->y1 < b->y1 ? a->y1 : b->y1;
    int64_t x0 = a->x0 > b->x0 ? a->x0 : b->x0, x1 = a->x1 < b->x1 ? a->x1 : b->x1;
    if (y0 >= y1 || x0 >= x1) return 0;
    int64_t both = (y1 - y0) * (x1 - x0);
    return 2 * both > box_area(a) + box_area(b) - both;
}

/* ---- sizes */

status lesionmetrics_sizes_add(lesionmetrics_sizes *s, const region *r, int64_t count, int64_t rows, int64_t cols)
{
    COV_TRY(grow((void **)&s->area, s->count, count, &s->room, sizeof *s->area));
    for (int64_t k = 0; k < count; k++) {
        s->area[s->count++] = regions_area_512(r[k].area, rows, cols);
        s->tiny += regions_tiny(r[k].area, rows, cols);
    }
    return COV_OK;
}

double lesionmetrics_mean_area(const lesionmetrics_sizes *s)
{
    double sum = 0;
    for (int64_t k = 0; k < s->count; k++) sum += s->area[k];
    return s->count ? sum / (double)s->count : NAN;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double lesionmetrics_median_area(lesionmetrics_sizes *s)
{
    if (!s->count) return NAN;
    qsort(s->area, (size_t)s->count, sizeof *s->area, ascending);
    return (s->area[(s->count - 1) / 2] + s->area[s->count / 2]) / 2;
}

double lesionmetrics_tiny_percent(const lesionmetrics_sizes *s)
{
    return s->count ? 100.0 * (double)s->tiny / (double)s->count : NAN;
}

void lesionmetrics_sizes_free(lesionmetrics_sizes *s)
{
    free(s->area);
    *s = (lesionmetrics_sizes){0};
}

/* ---- detection */

status lesionmetrics_detection_add(lesionmetrics_detection *d, const region *truth, int64_t n, const region *found,
                                   const float *score, int64_t m, int64_t rows, int64_t cols)
{
    COV_TRY(grow((void **)&d->regions, d->region_count, n, &d->region_room, sizeof *d->regions));
    COV_TRY(grow((void **)&d->found, d->found_count, m, &d->found_room, sizeof *d->found));
    lesionmetrics_region *regions = n ? d->regions + d->region_count : NULL;
    for (int64_t i = 0; i < n; i++)
        regions[i] = (lesionmetrics_region){-1.0f, (uint8_t)regions_tiny(truth[i].area, rows, cols)};
    for (int64_t j = 0; j < m; j++) {
        lesionmetrics_found f = {score[j], 0};
        for (int64_t i = 0; i < n; i++) {
            if (!lesionmetrics_meet(&truth[i], &found[j])) continue;
            f.right = 1;
            if (score[j] > regions[i].best) regions[i].best = score[j];
        }
        d->found[d->found_count++] = f;
    }
    d->region_count += n;
    d->slices++;
    return COV_OK;
}

status lesionmetrics_detection_merge(lesionmetrics_detection *into, const lesionmetrics_detection *more)
{
    COV_TRY(grow((void **)&into->regions, into->region_count, more->region_count, &into->region_room,
                 sizeof *into->regions));
    COV_TRY(grow((void **)&into->found, into->found_count, more->found_count, &into->found_room, sizeof *into->found));
    if (more->region_count)
        memcpy(into->regions + into->region_count, more->regions, (size_t)more->region_count * sizeof *more->regions);
    if (more->found_count)
        memcpy(into->found + into->found_count, more->found, (size_t)more->found_count * sizeof *more->found);
    into->region_count += more->region_count;
    into->found_count += more->found_count;
    into->slices += more->slices;
    into->studies += more->studies;
    return COV_OK;
}

void lesionmetrics_detection_free(lesionmetrics_detection *d)
{
    free(d->regions);
    free(d->found);
    *d = (lesionmetrics_detection){0};
}

lesionmetrics_point lesionmetrics_at(const lesionmetrics_detection *d, float threshold)
{
    lesionmetrics_point p = {.threshold = threshold, .regions = d->region_count};
    for (int64_t k = 0; k < d->region_count; k++) {
        int hit = d->regions[k].best >= 0 && d->regions[k].best >= threshold;
        p.hit += hit;
        p.tiny += d->regions[k].tiny;
        p.tiny_hit += d->regions[k].tiny && hit;
    }
    for (int64_t k = 0; k < d->found_count; k++) {
        p.found += d->found[k].score >= threshold;
        p.right += d->found[k].score >= threshold && d->found[k].right;
    }
    return p;
}

static int by_best(const void *a, const void *b)
{
    float x = ((const lesionmetrics_region *)a)->best, y = ((const lesionmetrics_region *)b)->best;
    return (x < y) - (x > y);
}

static int by_score(const void *a, const void *b)
{
    float x = ((const lesionmetrics_found *)a)->score, y = ((const lesionmetrics_found *)b)->score;
    return (x < y) - (x > y);
}

status lesionmetrics_froc(const lesionmetrics_detection *d, lesionmetrics_point **out, int64_t *count)
{
    status s = COV_OK;
    lesionmetrics_detection sorted = {0};
    lesionmetrics_point p = {.regions = d->region_count}, *points = NULL;
    int64_t n = 0, i = 0;
    for (int64_t k = 0; k < d->region_count; k++) p.tiny += d->regions[k].tiny;
    *out = NULL;
    *count = 0;
    if (!d->found_count) return COV_OK;
    COV_GO(lesionmetrics_detection_merge(&sorted, d));
    if (!(points = malloc((size_t)d->found_count * sizeof *points)))
        COV_GO(COV_FAIL(COV_NOMEM, "no memory for a curve of %lld points", (long long)d->found_count));
    if (sorted.region_count) qsort(sorted.regions, (size_t)sorted.region_count, sizeof *sorted.regions, by_best);
    qsort(sorted.found, (size_t)sorted.found_count, sizeof *sorted.found, by_score);
    for (int64_t j = 0; j < sorted.found_count;) {
        p.threshold = sorted.found[j].score;
        for (; j < sorted.found_count && sorted.found[j].score >= p.threshold; j++) {
            p.found++;
            p.right += sorted.found[j].right;
        }
        for (; i < sorted.region_count && sorted.regions[i].best >= p.threshold; i++) {
            p.hit++;
            p.tiny_hit += sorted.regions[i].tiny;
        }
        points[n++] = p;
    }
    *out = points;
    *count = n;
done:
    lesionmetrics_detection_free(&sorted);
    return s;
}

lesionmetrics_calibration lesionmetrics_calibrate(const lesionmetrics_detection *d)
{
    lesionmetrics_calibration c = {.error = NAN};
    double off = 0;
    for (int64_t k = 0; k < d->found_count; k++) {
        int bin = (int)(d->found[k].score * LESIONMETRICS_BINS);
        bin = bin < 0 ? 0 : bin >= LESIONMETRICS_BINS ? LESIONMETRICS_BINS - 1 : bin;
        c.count[bin]++;
        c.score[bin] += (double)d->found[k].score;
        c.right[bin] += d->found[k].right;
    }
    for (int b = 0; b < LESIONMETRICS_BINS; b++) {
        off += fabs(c.score[b] - c.right[b]);
        c.score[b] = c.count[b] ? c.score[b] / (double)c.count[b] : NAN;
        c.right[b] = c.count[b] ? c.right[b] / (double)c.count[b] : NAN;
    }
    if (d->found_count) c.error = off / (double)d->found_count;
    return c;
}

/* ---- periods and studies */

void lesionmetrics_periods_add(lesionmetrics_periods *p, int truth, const float probability[LESIONMETRICS_PERIODS])
{
    int best = 0;
    if (truth < 0 || truth >= LESIONMETRICS_PERIODS) return;
    for (int k = 0; k < LESIONMETRICS_PERIODS; k++) {
        if (isnan(probability[k])) return;
        if (probability[k] > probability[best]) best = k;
    }
    p->count[truth][best]++;
}

metrics_ratio lesionmetrics_periods_right(const lesionmetrics_periods *p)
{
    metrics_ratio r = {0, 0};
    for (int t = 0; t < LESIONMETRICS_PERIODS; t++)
        for (int f = 0; f < LESIONMETRICS_PERIODS; f++)
            metrics_ratio_add(&r, (metrics_ratio){t == f ? (double)p->count[t][f] : 0, (double)p->count[t][f]});
    return r;
}

lesionmetrics_studies lesionmetrics_of_studies(const double *suspicion, const uint8_t *positive, size_t n,
                                               double threshold)
{
    lesionmetrics_studies s = {.auc = metrics_auc(suspicion, positive, n)};
    for (size_t k = 0; k < n; k++) {
        int called = suspicion[k] >= threshold;
        metrics_ratio_add(positive[k] ? &s.sensitivity : &s.specificity,
                          (metrics_ratio){called == (positive[k] != 0), 1});
    }
    return s;
}

/* ---- thresholds */

float lesionmetrics_step(int k)
{
    return (float)k / LESIONMETRICS_STEPS;
}

void lesionmetrics_sweep(const uint8_t *truth, const float *score, size_t n, metrics_overlap out[LESIONMETRICS_STEPS])
{
    int64_t at[LESIONMETRICS_STEPS][2] = {{0}},
            all = 0; /* pixels by the last step that finds them, without and with truth */
    for (size_t i = 0; i < n; i++) {
        int t = truth[i] != 0, k = LESIONMETRICS_STEPS - 1;
        all += t;
        if (score[i] < 0) continue;
        while (k > 0 && score[i] < lesionmetrics_step(k)) k--;
        at[k][t]++;
    }
    int64_t found = 0, both = 0;
    for (int k = LESIONMETRICS_STEPS - 1; k >= 0; k--) {
        found += at[k][0] + at[k][1];
        both += at[k][1];
        metrics_overlap_add(&out[k], (metrics_overlap){.both = both, .truth = all, .found = found});
    }
}
