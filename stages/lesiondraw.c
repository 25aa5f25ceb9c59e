/* lesiondraw: see lesiondraw.h. */
#include "stages/lesiondraw.h"

#include "data/image.h"
#include "stages/draw.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 512, TILES = 3, CAPTION = 24, PATH_ROOM = 4096 };
static const draw_colour DARK = {16, 16, 16}, INK = {230, 230, 230}, TRUTH = {60, 220, 60}, FOUND = {255, 70, 50},
                         BOX = {255, 220, 60}, LUNG = {110, 110, 120};

typedef struct ranked { int64_t z; double value; } ranked;

static int descending(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? 1 : -1;
    return (x->z > y->z) - (x->z < y->z);
}

/* Which slices are shown: best, median and worst of those with lesion; else those with most found. Returns how many. */
static status choose(const lesioneval_row *row, const uint8_t *mask, size_t area, int64_t shown[TILES], int *count)
{
    int64_t n = 0;
    ranked *r = malloc((size_t)row->slices * sizeof *r);
    if (!r) return COV_FAIL(COV_NOMEM, "no memory to rank %lld slices", (long long)row->slices);
    for (int64_t z = 0; z < row->slices; z++) {
        double value = row->slice_dice[z];
        if (!row->positive)
            value = (double)metrics_overlap_of(mask + (size_t)z * area, mask + (size_t)z * area, area).found;
        if (!isnan(value)) r[n++] = (ranked){z, value};
    }
    if (n) qsort(r, (size_t)n, sizeof *r, descending);
    *count = n < TILES ? (int)n : TILES;
    for (int k = 0; k < *count; k++) shown[k] = r[row->positive && *count == TILES ? k * (n - 1) / (TILES - 1) : k].z;
    free(r);
    return COV_OK;
}

static void draw_boxes(draw *d, const draw_tile *t, const findings *f, int64_t z, float threshold)
{
    char text[16];
    for (int64_t k = 0; k < f->count; k++) {
        const finding *g = &f->at[k];
        if (g->z != z || g->score < threshold) continue;
        int64_t x0 = t->x + g->x0 * t->w / t->nx, y0 = t->y + g->y0 * t->h / t->ny;
        draw_box(d, x0, y0, t->x + g->x1 * t->w / t->nx - 1, t->y + g->y1 * t->h / t->ny - 1, BOX);
        snprintf(text, sizeof text, "%.2f", (double)g->score);
        draw_text(d, x0, y0 - 9, 1, BOX, text);
    }
}

status lesiondraw_study(const char *path, const char *model, const evalset_study *s, const uint8_t *lung,
                        const findings *f, float threshold, const uint8_t *mask, const lesioneval_row *row)
{
    status result;
    const volume_header *h = &s->v.ct.head;
    size_t area = (size_t)h->nx * (size_t)h->ny;
    int64_t shown[TILES], height = TILE * h->ny / h->nx;
    int count;
    draw *d = NULL;
    char text[400];
    height = height < TILE / 2 ? TILE / 2 : height > 2 * TILE ? 2 * TILE : height;
    COV_TRY(choose(row, mask, area, shown, &count));
    COV_TRY(draw_new(TILES * TILE, CAPTION + height, DARK, &d));
    int n = snprintf(text, sizeof text, "%s  %s  ", s->id, model);
    if (row->positive)
        n += snprintf(text + n, sizeof text - (size_t)n, "mean Dice %.3f  ", metrics_value(row->m[LESIONEVAL_DICE]));
    if (!isnan(row->volume_dice))
        n += snprintf(text + n, sizeof text - (size_t)n, "volume Dice %.3f  ", row->volume_dice);
    snprintf(text + n, sizeof text - (size_t)n,
             "reference %.2f %%  found %.2f %% of lung   green reference, red found, yellow boxes from %.2f on",
             row->truth_percent, row->found_percent, (double)threshold);
    draw_text(d, 4, 8, 1, INK, text);
    for (int k = 0; k < count; k++) {
        size_t at = (size_t)shown[k] * area;
        draw_tile t = {k * TILE, CAPTION, TILE, height, h->nx, h->ny};
        draw_slice(d, &t, window_lung(), s->v.ct.hu + at);
        if (lung) draw_contour(d, &t, lung + at, 0, LUNG);
        draw_contour(d, &t, s->v.lesion + at, 0, TRUTH);
        draw_contour(d, &t, mask + at, 0, FOUND);
        draw_boxes(d, &t, f, shown[k], threshold);
        n = snprintf(text, sizeof text, "Z %lld", (long long)shown[k]);
        if (row->positive) snprintf(text + n, sizeof text - (size_t)n, "  Dice %.3f", row->slice_dice[shown[k]]);
        draw_text(d, t.x + 6, t.y + 6, 1, INK, text);
    }
    result = image_write_rgb(path, (int32_t)d->height, (int32_t)d->width, d->rgb);
    draw_free(&d);
    return result;
}

/* ---- curves */

enum { PLOT_WIDTH = 760, PLOT_HEIGHT = 460, FRAME_WIDTH = 520, FRAME_HEIGHT = 380 };
static const draw_colour line_colours[] = {{200, 40, 40},  {30, 80, 170}, {20, 140, 60}, {170, 110, 10},
                                           {120, 50, 150}, {60, 60, 60},  {0, 150, 160}, {220, 100, 160}};
enum { COLOURS = sizeof line_colours / sizeof *line_colours };
static const double FALSE_MOST = 8;

typedef struct curve { double *x, *y; int64_t n; } curve;

static status froc_of(const lesionmetrics_detection *d, curve *c)
{
    lesionmetrics_point *p;
    int64_t n;
    COV_TRY(lesionmetrics_froc(d, &p, &n));
    c->x = malloc((size_t)(n + 1) * sizeof *c->x);
    c->y = malloc((size_t)(n + 1) * sizeof *c->y);
    if (!c->x || !c->y) {
        free(p);
        return COV_FAIL(COV_NOMEM, "no memory for a curve of %lld points", (long long)n);
    }
    for (int64_t k = 0; k < n; k++) {
        c->x[k] = d->slices ? (double)(p[k].found - p[k].right) / (double)d->slices : NAN;
        c->y[k] = p[k].regions ? (double)p[k].hit / (double)p[k].regions : NAN;
    }
    c->n = n;
    free(p);
    return COV_OK;
}

static status calibration_of(const lesionmetrics_detection *d, curve *c)
{
    lesionmetrics_calibration k = lesionmetrics_calibrate(d);
    c->x = malloc(LESIONMETRICS_BINS * sizeof *c->x);
    c->y = malloc(LESIONMETRICS_BINS * sizeof *c->y);
    if (!c->x || !c->y) return COV_FAIL(COV_NOMEM, "no memory for a curve");
    for (int b = 0; b < LESIONMETRICS_BINS; b++)
        if (k.count[b]) {
            c->x[c->n] = k.score[b];
            c->y[c->n++] = k.right[b];
        }
    return COV_OK;
}

static status draw_curves(const lesionreport *r, const char *path, int calibration)
{
    status s = COV_OK;
    draw *d = NULL;
    static const double diagonal[2] = {0, 1};
    curve *curves = calloc(r->count + 1, sizeof *curves);
    draw_series *series = calloc(r->count + 1, sizeof *series);
    double most = 0.2;
    if (!curves || !series) COV_GO(COV_FAIL(COV_NOMEM, "no memory for %zu curves", r->count));
    for (size_t k = 0; k < r->count; k++) {
        const lesionmetrics_detection *of = &r->lines[k].sum[LESIONREPORT_CASES][LESIONEVAL_ALL].detection;
        COV_GO(calibration ? calibration_of(of, &curves[k]) : froc_of(of, &curves[k]));
        series[k] = (draw_series){curves[k].x, curves[k].y, curves[k].n, line_colours[k % COLOURS], r->lines[k].name};
        if (curves[k].n) most = fmax(most, curves[k].x[curves[k].n - 1]);
    }
    series[r->count] =
        (draw_series){diagonal, diagonal, calibration ? 2 : 0, {150, 150, 150}, calibration ? "perfect" : ""};
    COV_GO(draw_new(PLOT_WIDTH, PLOT_HEIGHT, (draw_colour){255, 255, 255}, &d));
    draw_axes a = {50,
                   30,
                   FRAME_WIDTH,
                   FRAME_HEIGHT,
                   0,
                   calibration ? 1 : fmin(ceil(most * 5) / 5, FALSE_MOST),
                   0,
                   1,
                   calibration ? "mean score" : "false findings a slice",
                   calibration ? "share of findings that are right" : "sensitivity"};
    draw_plot(d, &a, series, (int)r->count + 1);
    COV_GO(image_write_rgb(path, (int32_t)d->height, (int32_t)d->width, d->rgb));
done:
    draw_free(&d);
    for (size_t k = 0; curves && k < r->count; k++) {
        free(curves[k].x);
        free(curves[k].y);
    }
    free(curves);
    free(series);
    return s;
}

status lesiondraw_curves(const lesionreport *r, const char *folder)
{
    char path[PATH_ROOM];
    snprintf(path, sizeof path, "%s/froc.png", folder);
    COV_TRY(draw_curves(r, path, 0));
    snprintf(path, sizeof path, "%s/calibration.png", folder);
    return draw_curves(r, path, 1);
}
