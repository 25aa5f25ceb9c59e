/* lesionpost: see lesionpost.h. While linking, the mask holds each slice's own numbers (the place of the instance among
 * its slice's findings, from 1); in the end they are exchanged for the lesions'. Sums are of integers, so that no order
 * of summation shows in a figure; what is not is summed in the order of findings or slices. */
#include "stages/lesionpost.h"

#include "base/size.h"
#include "stages/regions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double HALF_SUSPICION_PERCENT = 0.5;
enum { BLOCK = 256 /* voxels counted at a time */ };

typedef struct instance {
    int64_t parent; /* union-find: an instance on the same slice or lower */
    int64_t area, side[3], hu_sum;
    int64_t first; /* pixel of its slice, raster order */
    int32_t id;    /* 0: kept no pixel, or dropped */
    int tiny;
} instance;

typedef struct whole { /* a lesion */
    int64_t root, voxels, z, first;
    int tiny;
} whole;

typedef struct work {
    const volume *v;
    const uint8_t *lung;
    const findings *f;
    instance *at;   /* f->count */
    int64_t *start; /* nz + 1: first finding of a slice */
    whole *lesions; /* count */
    int64_t count;
    study_result *out;
} work;

/* ---- a slice's own labels */

static void paint(work *w, int64_t i, uint16_t label)
{
    const finding *f = &w->f->at[i];
    instance *to = &w->at[i];
    int64_t nx = w->v->head.nx, ny = w->v->head.ny, base = f->z * nx * ny;
    for (int64_t y = f->y0 > 0 ? f->y0 : 0; y < f->y1 && y < ny; y++)
        for (int64_t x = f->x0 > 0 ? f->x0 : 0; x < f->x1 && x < nx; x++) {
            int64_t p = y * nx + x;
            if (!f->mask[(y - f->y0) * (f->x1 - f->x0) + x - f->x0] || !w->lung[base + p] || w->out->lesion[base + p])
                continue;
            w->out->lesion[base + p] = label;
            if (!to->area++) to->first = p;
            to->side[w->lung[base + p] == 2 ? 2 : 1]++;
            to->hu_sum += w->v->hu[base + p];
        }
}

static void paint_slices(work *w)
{
    int64_t i = 0;
    for (int64_t z = 0; z < w->v->head.nz; z++) {
        int64_t rows = 0, cols = 0;
        w->start[z] = i;
        for (; i < w->f->count && w->f->at[i].z == z; i++) {
            w->at[i].parent = i;
            if (i - w->start[z] < UINT16_MAX) paint(w, i, (uint16_t)(i - w->start[z] + 1));
        }
        if (i > w->start[z]) volume_extent(w->v, z, &rows, &cols);
        for (int64_t k = w->start[z]; k < i; k++) w->at[k].tiny = regions_tiny(w->at[k].area, rows, cols);
    }
    w->start[w->v->head.nz] = i;
}

typedef struct rectangle { int64_t y0, x0, y1, x1; } rectangle;

/* Where a slice's labels may lie: what is around is zero, and stays memory that was never touched. */
static rectangle painted(const work *w, int64_t z)
{
    rectangle b = {w->v->head.ny, w->v->head.nx, 0, 0};
    for (int64_t i = w->start[z]; i < w->start[z + 1]; i++) {
        const finding *f = &w->f->at[i];
        if (f->y0 < b.y0) b.y0 = f->y0 > 0 ? f->y0 : 0;
        if (f->x0 < b.x0) b.x0 = f->x0 > 0 ? f->x0 : 0;
        if (f->y1 > b.y1) b.y1 = f->y1 < w->v->head.ny ? f->y1 : w->v->head.ny;
        if (f->x1 > b.x1) b.x1 = f->x1 < w->v->head.nx ? f->x1 : w->v->head.nx;
    }
    return b;
}

/* ---- linking */

static int64_t root_of(instance *at, int64_t i)
{
    while (at[i].parent != i) i = at[i].parent = at[at[i].parent].parent;
    return i;
}

/* The lower index stays, which is on the same slice or a lower one. */
static void join(instance *at, int64_t a, int64_t b)
{
    a = root_of(at, a);
    b = root_of(at, b);
    if (a < b) at[b].parent = a;
    else at[a].parent = b;
}

static void link_slices(work *w)
{
    int64_t nx = w->v->head.nx, area = nx * w->v->head.ny;
    for (int64_t z = 1; z < w->v->head.nz; z++) {
        if (w->start[z] == w->start[z - 1]) continue;
        const uint16_t *here = w->out->lesion + z * area, *below = here - area;
        rectangle b = painted(w, z);
        for (int64_t y = b.y0; y < b.y1; y++)
            for (int64_t p = y * nx + b.x0; p < y * nx + b.x1; p++)
                if (here[p] && below[p]) join(w->at, w->start[z - 1] + below[p] - 1, w->start[z] + here[p] - 1);
    }
}

static int larger_first(const void *pa, const void *pb)
{
    const whole *a = pa, *b = pb;
    if (a->voxels != b->voxels) return a->voxels > b->voxels ? -1 : 1;
    if (a->z != b->z) return a->z < b->z ? -1 : 1;
    return a->first < b->first ? -1 : a->first > b->first;
}

/* Lesions, numbered. While they are counted an instance's id is its root's place among them, from 1. */
static status number_lesions(work *w)
{
    w->lesions = calloc((size_t)w->f->count + 1, sizeof *w->lesions);
    int32_t *id_of = calloc((size_t)w->f->count + 1, sizeof *id_of); /* by root */
    if (!w->lesions || !id_of) {
        free(id_of);
        return COV_FAIL(COV_NOMEM, "no memory for %lld lesions", (long long)w->f->count);
    }
    for (int64_t i = 0; i < w->f->count; i++) {
        int64_t r = root_of(w->at, i), z = w->f->at[i].z;
        if (!w->at[i].area) continue;
        if (!w->at[r].id) {
            w->lesions[w->count++] = (whole){.root = r, .z = z, .first = w->at[i].first, .tiny = 1};
            w->at[r].id = (int32_t)w->count;
        }
        whole *l = &w->lesions[w->at[r].id - 1];
        l->voxels += w->at[i].area;
        l->tiny &= w->at[i].tiny;
        if (z == l->z && w->at[i].first < l->first) l->first = w->at[i].first;
    }
    qsort(w->lesions, (size_t)w->count, sizeof *w->lesions, larger_first);
    if (w->count > LESIONPOST_MOST) w->count = LESIONPOST_MOST;
    for (int64_t k = 0; k < w->count; k++) id_of[w->lesions[k].root] = (int32_t)(k + 1);
    for (int64_t i = 0; i < w->f->count; i++) w->at[i].id = w->at[i].area ? id_of[root_of(w->at, i)] : 0;
    free(id_of);
    return COV_OK;
}

/* ---- what goes into the result */

static void relabel(work *w)
{
    int64_t nx = w->v->head.nx, area = nx * w->v->head.ny;
    for (int64_t z = 0; z < w->v->head.nz; z++) {
        uint16_t *slice = w->out->lesion + z * area;
        slice_row *row = &w->out->slices[z];
        rectangle b = painted(w, z);
        for (int64_t y = b.y0; y < b.y1; y++)
            for (int64_t p = y * nx + b.x0; p < y * nx + b.x1; p++)
                if (slice[p]) slice[p] = (uint16_t)w->at[w->start[z] + slice[p] - 1].id;
        row->lesion_px = 0;
        for (int64_t i = w->start[z]; i < w->start[z + 1]; i++)
            row->lesion_px += w->at[i].id ? (int32_t)w->at[i].area : 0;
        for (int k = 0; k < STUDY_PERIODS; k++) row->period_probability[k] = (double)w->f->period[z][k];
    }
}

/* The likeliest, of equals the earlier; -1 where nothing is known. Where lesions were found nobody is healthy [ours]. */
static int32_t period_of(const double *probability, int lesions)
{
    int best = lesions ? 1 : 0;
    if (isnan(probability[0])) return -1;
    for (int k = best + 1; k < STUDY_PERIODS; k++)
        if (probability[k] > probability[best]) best = k;
    return best;
}

static status put_rows(work *w)
{
    const volume_header *h = &w->v->head;
    study_result *out = w->out;
    for (int64_t i = 0; i < w->f->count; i++) out->lesion_rows += w->at[i].id != 0;
    if (!out->lesion_rows) return COV_OK;
    out->lesions = calloc((size_t)out->lesion_rows, sizeof *out->lesions);
    if (!out->lesions) return COV_FAIL(COV_NOMEM, "no memory for %lld rows of lesions", (long long)out->lesion_rows);
    lesion_row *row = out->lesions;
    for (int64_t i = 0; i < w->f->count; i++) {
        const finding *f = &w->f->at[i];
        const instance *a = &w->at[i];
        if (!a->id) continue;
        *row++ = (lesion_row){.z = (int32_t)f->z,
                              .lesion_id = a->id,
                              .box_yxyx = {f->y0, f->x0, f->y1, f->x1},
                              .score = (double)f->score,
                              .area_px = (int32_t)a->area,
                              .area_mm2 = h->isolated ? NAN : (double)a->area * h->spacing_mm[0] * h->spacing_mm[1],
                              .mean_hu = h->isolated ? NAN : (double)a->hu_sum / (double)a->area,
                              .tiny = a->tiny,
                              .period = period_of(out->slices[f->z].period_probability, 1)};
    }
    return COV_OK;
}

double lesionpost_suspicion(double mean_score, double involvement_percent)
{
    return involvement_percent > 0 ? mean_score * involvement_percent / (involvement_percent + HALF_SUSPICION_PERCENT)
                                   : 0;
}

static double percent(int64_t part, int64_t of) { return of ? 100.0 * (double)part / (double)of : NAN; }

/* Sums of few voxels fit 32 bits, and are vectors; most blocks have no lung. */
static void count_sides(const uint8_t *lung, int n, int64_t side[3])
{
    int32_t right = 0, left = 0;
    uint8_t any = 0;
    for (int i = 0; i < n; i++) any |= lung[i];
    if (!any) return;
    for (int i = 0; i < n; i++) {
        right += lung[i] == 1;
        left += lung[i] > 1;
    }
    side[1] += right;
    side[2] += left;
}

static void put_burden(work *w)
{
    const volume_header *h = &w->v->head;
    study_row *row = &w->out->row;
    int64_t side[3] = {0}, lung[3] = {0}, voxels = h->nx * h->ny * h->nz;
    double ml = h->isolated ? NAN : h->spacing_mm[0] * h->spacing_mm[1] * h->spacing_mm[2] / 1000, score = 0;
    for (int64_t i = 0; i < w->f->count; i++) {
        if (!w->at[i].id) continue;
        for (int k = 1; k < 3; k++) side[k] += w->at[i].side[k];
        score += (double)w->f->at[i].score * (double)w->at[i].area;
    }
    for (int64_t at = 0; at < voxels; at += BLOCK)
        count_sides(w->lung + at, voxels - at < BLOCK ? (int)(voxels - at) : BLOCK, lung);
    int64_t all = side[1] + side[2];
    row->lesion_right_ml = (double)side[1] * ml;
    row->lesion_left_ml = (double)side[2] * ml;
    row->lesion_ml = (double)all * ml;
    row->involvement_right_percent = percent(side[1], lung[1]);
    row->involvement_left_percent = percent(side[2], lung[2]);
    row->involvement_percent = percent(all, lung[1] + lung[2]);
    row->lesion_count = (int32_t)w->count;
    row->tiny_count = 0;
    for (int64_t k = 0; k < w->count; k++) row->tiny_count += w->lesions[k].tiny;
    row->largest_lesion_ml = (w->count ? (double)w->lesions[0].voxels : 0.0) * ml;
    row->suspicion = all ? lesionpost_suspicion(score / (double)all, row->involvement_percent) : 0;
}

static void put_period(work *w)
{
    study_row *row = &w->out->row;
    double sum[STUDY_PERIODS] = {0}, weight = 0;
    int any = w->count > 0;
    for (int64_t z = 0; z < w->out->slice_count; z++) {
        const slice_row *slice = &w->out->slices[z];
        if (isnan(slice->period_probability[0]) || (any && !slice->lesion_px)) continue;
        double share = any ? slice->lesion_px : 1;
        for (int k = 0; k < STUDY_PERIODS; k++) sum[k] += share * slice->period_probability[k];
        weight += share;
    }
    for (int k = 0; k < STUDY_PERIODS; k++) row->period_probability[k] = weight > 0 ? sum[k] / weight : NAN;
    row->period = period_of(row->period_probability, any);
}

status lesionpost_run(const volume *v, const uint8_t *lung, findings *f, study_result *out)
{
    work w = {.v = v, .lung = lung, .f = f, .out = out};
    const int64_t nz = v->head.nz;
    size_t voxels;
    status s = COV_OK;
    if (nz < 0 || f->nz != nz || out->slice_count != nz)
        return COV_FAIL(COV_BROKEN, "findings of %lld slices and %lld slice rows for a volume of %lld",
                        (long long)f->nz, (long long)out->slice_count, (long long)nz);
    findings_sort(f);
    if (size_product((const int64_t[]){v->head.nx, v->head.ny, v->head.nz}, 3, &voxels))
        out->lesion = calloc(voxels, sizeof *out->lesion);
    w.at = calloc((size_t)f->count + 1, sizeof *w.at);
    w.start = calloc((size_t)nz + 1, sizeof *w.start);
    if (!out->lesion || !w.at || !w.start) {
        s = COV_FAIL(COV_NOMEM, "no memory for the lesions of %lld slices", (long long)nz);
        goto done;
    }
    paint_slices(&w);
    if (!v->head.isolated) link_slices(&w);
    COV_GO(number_lesions(&w));
    relabel(&w);
    COV_GO(put_rows(&w));
    put_burden(&w);
    put_period(&w);
done:
    free(w.at);
    free(w.start);
    free(w.lesions);
    return s;
}
