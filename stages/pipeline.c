/* pipeline: volume -> lung logits -> CRF -> components and sides -> figures and flags -> findings -> lesions. The one
 * large array beside the volume and the masks is the logits', on the device; the CRF works on a few slices at a time. A volume in
 * which nothing is lung is a skipped study with a reason, not an error. */
#include "stages/pipeline.h"

#include "base/size.h"
#include "stages/burden.h"
#include "stages/lesion.h"
#include "stages/lesionpost.h"
#include "stages/lung.h"
#include "stages/lungcrf.h"
#include "stages/lungpost.h"
#include "stages/qc.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Fewer slices than this carry no sagittal plane worth the name. */
enum { SAGITTAL_LEAST = 8 };
/* A chest shows at least this much lung; darker it is air around a body, brighter no lung, however shaped. */
static const double LUNG_ML_LEAST = 100, LUNG_HU_LEAST = -950, LUNG_HU_MOST = -150;
/* Of isolated slices neither is known. Two per cent of a picture is a lung's tip. */
static const double LUNG_SHARE_LEAST = 0.02;

struct pipeline {
    pipeline_options options;
    device *device;
    lung *lung;
    lesion *lesion; /* NULL: none are looked for */
    lung_fusion fusion;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int threads_of(const pipeline *p) { return p->options.backend->threads(p->device); }

status pipeline_open(const pipeline_options *o, pipeline **out)
{
    status s;
    *out = NULL;
    pipeline *p = calloc(1, sizeof *p);
    if (!p) return COV_FAIL(COV_NOMEM, "no memory for a pipeline");
    p->options = *o;
    COV_GO(o->backend->open(&(device_options){.threads = o->threads, .ordinal = o->ordinal}, &p->device));
    COV_GO(lung_open(o->backend, p->device, o->precision, o->lung_axial_path,
                     o->use_sagittal ? o->lung_sagittal_path : NULL, &p->lung));
    if (o->lesion_path) COV_GO(lesion_open(o->backend, p->device, o->precision, o->lesion_path, &p->lesion));
    p->fusion = lung_fusion_of(p->lung, o->fusion_weight, o->fusion_prior);
done:
    if (s != COV_OK) pipeline_close(&p);
    *out = p;
    return s;
}

void pipeline_close(pipeline **pp)
{
    pipeline *p = pp ? *pp : NULL;
    if (!p) return;
    lesion_close(&p->lesion);
    lung_close(&p->lung);
    if (p->device) p->options.backend->close(&p->device);
    free(p);
    *pp = NULL;
}

static void skip(study_result *out, reason why, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void skip(study_result *out, reason why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(out->row.detail, sizeof out->row.detail, format, args);
    va_end(args);
    out->row.status = (int32_t)reason_outcome(why);
    out->row.reason = (int32_t)why;
    study_result_free(out);
    out->row.lung_ml = out->row.lung_right_ml = out->row.lung_left_ml = out->row.lung_mean_hu =
        out->row.lung_high_percent = NAN;
}

/* ---- lungs */

/* A volume with that header, hu on the device or (`coming`) on its way there, into mask (nz,ny,nx): 0/1, before components and
 * sides. Adds to the seconds of the row. */
static status segment(pipeline *p, const volume_header *h, const int16_t *hu, sending *coming, lung_fusion fusion, uint8_t *mask,
                      study_row *row)
{
    const backend *b = p->options.backend;
    size_t bytes;
    void *logit = NULL;
    status s = COV_OK;
    if (!size_product((const int64_t[]){h->nx, h->ny, h->nz, sizeof(float)}, 4, &bytes))
        return COV_FAIL(COV_NOMEM, "no memory for the logits of %lld x %lld x %lld voxels", (long long)h->nx, (long long)h->ny, (long long)h->nz);
    double start = now();
    COV_GO(b->alloc(p->device, bytes, &logit));
    COV_GO(lung_logits(p->lung, h, hu, coming, fusion, logit));
    COV_GO(b->sync(p->device));
    double middle = now();
    COV_GO(lungcrf_run(b, p->device, p->options.use_crf ? &p->options.crf : NULL, h, hu, logit, mask));
    row->seconds_lung += middle - start;
    row->seconds_crf += now() - middle;
done:
    b->release(p->device, logit);
    return s;
}

/* v's hu on the device until it is given back: a volume goes there once. coming NULL: it is there when this returns; else it is
 * where *coming ends as NULL, and is on its way otherwise. */
static status lend(const pipeline *p, const volume *v, void **hu, sending **coming)
{
    const backend *b = p->options.backend;
    size_t bytes;
    *hu = NULL;
    if (!size_product((const int64_t[]){v->head.nx, v->head.ny, v->head.nz, sizeof *v->hu}, 4, &bytes))
        return COV_FAIL(COV_NOMEM, "no memory for %lld x %lld x %lld voxels", (long long)v->head.nx, (long long)v->head.ny,
                        (long long)v->head.nz);
    COV_TRY(backend_lend(b, p->device, v->hu, bytes, coming == NULL, hu));
    return coming && !b->host_memory ? b->send(p->device, *hu, v->hu, bytes, coming) : COV_OK;
}

static void give_back(const pipeline *p, const volume *v, void **hu, sending **coming)
{
    if (coming && *coming) p->options.backend->send_end(coming);
    backend_return(p->options.backend, p->device, v->hu, hu);
}

/* The upper left corner that both kinds of planes have, for so many of them. */
static void copy_corner(const void *from, int64_t from_rows, int64_t from_cols, void *to, int64_t to_rows,
                        int64_t to_cols, int64_t planes, size_t element)
{
    int64_t rows = from_rows < to_rows ? from_rows : to_rows, cols = from_cols < to_cols ? from_cols : to_cols;
    for (int64_t z = 0; z < planes; z++)
        for (int64_t y = 0; y < rows; y++)
            memcpy((char *)to + (size_t)((z * to_rows + y) * to_cols) * element,
                   (const char *)from + (size_t)((z * from_rows + y) * from_cols) * element, (size_t)cols * element);
}

/* Isolated slices z0 .. *z1-1 of one extent, as a volume of that size; its hu is owned by the caller. */
static status cut_run(const volume *v, int64_t z0, int64_t *z1, volume *out)
{
    int64_t rows, cols, r, c;
    size_t bytes;
    volume_extent(v, z0, &rows, &cols);
    for (*z1 = z0 + 1; *z1 < v->head.nz; ++*z1) {
        volume_extent(v, *z1, &r, &c);
        if (r != rows || c != cols) break;
    }
    *out = (volume){.head = v->head};
    out->head.ny = rows;
    out->head.nx = cols;
    out->head.nz = *z1 - z0;
    if (!size_product((const int64_t[]){rows, cols, out->head.nz, sizeof *out->hu}, 4, &bytes) ||
        !(out->hu = malloc(bytes)))
        return COV_FAIL(COV_NOMEM, "no memory for %lld slices of %lld x %lld", (long long)out->head.nz, (long long)cols,
                        (long long)rows);
    copy_corner(v->hu + z0 * v->head.ny * v->head.nx, v->head.ny, v->head.nx, out->hu, rows, cols, out->head.nz,
                sizeof *v->hu);
    return COV_OK;
}

/* Every picture has lungs of its own: components and sides are found slice by slice. */
static status segment_isolated(pipeline *p, const volume *v, uint8_t *lungs, study_row *row)
{
    uint8_t *mask = NULL;
    void *hu = NULL;
    volume run = {0};
    status s = COV_OK;
    const volume_header *h = &v->head;
    memset(lungs, 0, (size_t)(h->nx * h->ny * h->nz));
    for (int64_t z = 0, end; z < v->head.nz; z = end) {
        lungpost_report report;
        COV_GO(cut_run(v, z, &end, &run));
        int64_t area = run.head.nx * run.head.ny;
        if (!(mask = malloc((size_t)(area * run.head.nz)))) {
            s = COV_FAIL(COV_NOMEM, "no memory for a mask");
            goto done;
        }
        COV_GO(lend(p, &run, &hu, NULL));
        COV_GO(segment(p, &run.head, hu, NULL, (lung_fusion){0}, mask, row));
        for (int64_t k = 0; k < run.head.nz; k++)
            COV_GO(lungpost_run(mask + k * area, run.head.nx, run.head.ny, 1, 1, &report));
        copy_corner(mask, run.head.ny, run.head.nx, lungs + z * h->ny * h->nx, h->ny, h->nx, run.head.nz, 1);
        give_back(p, &run, &hu, NULL);
        free(mask);
        free(run.hu);
        mask = NULL;
        run.hu = NULL;
    }
done:
    give_back(p, &run, &hu, NULL);
    free(mask);
    free(run.hu);
    return s;
}

/* Of the pixels that isolated slices show, how many are lung. */
static double lung_share(const volume *v, const study_result *r)
{
    double inside = 0, shown = 0;
    for (int64_t z = 0; z < v->head.nz; z++) {
        int64_t rows, cols;
        volume_extent(v, z, &rows, &cols);
        shown += (double)(rows * cols);
        inside += r->slices[z].lung_px;
    }
    return inside / shown;
}

static void judge(const volume *v, const volume_stats *stats, const lungpost_report *report, study_result *out)
{
    const study_row *row = &out->row;
    double share = v->head.isolated ? lung_share(v, out) : 1;
    if (share < LUNG_SHARE_LEAST)
        skip(out, REASON_NO_LUNG, "%.2f %% of the pictures look like lung; expected at least %.0f %%", 100 * share,
             100 * LUNG_SHARE_LEAST);
    else if (row->lung_ml < LUNG_ML_LEAST || row->lung_mean_hu < LUNG_HU_LEAST || row->lung_mean_hu > LUNG_HU_MOST)
        skip(out, REASON_NO_LUNG,
             "%.0f ml look like lung, of %.0f HU on average; expected at least %.0f ml of %.0f to %.0f HU",
             row->lung_ml, report->voxels ? row->lung_mean_hu : 0.0, LUNG_ML_LEAST, LUNG_HU_LEAST, LUNG_HU_MOST);
    else qc_run(v, stats, out->lung, report->side_doubt, &out->row);
}

/* hu: v's, on the device or on its way; not looked at where slices are isolated, which go there by themselves. */
static status find_lungs(pipeline *p, const volume *v, const int16_t *hu, sending *coming, const volume_stats *stats, study_result *out)
{
    const volume_header *h = &v->head;
    lungpost_report report = {0};
    size_t count;
    status s;
    if (!size_product((const int64_t[]){h->nx, h->ny, h->nz}, 3, &count) || !(out->lung = malloc(count)))
        return COV_FAIL(COV_NOMEM, "no memory for the mask of %lld x %lld x %lld voxels", (long long)h->nx,
                        (long long)h->ny, (long long)h->nz);
    out->threads = threads_of(p);
    out->row.seconds_lung = out->row.seconds_crf = 0;
    if (h->isolated) COV_GO(segment_isolated(p, v, out->lung, &out->row));
    else {
        COV_GO(segment(p, h, hu, coming, h->nz < SAGITTAL_LEAST ? (lung_fusion){0} : p->fusion, out->lung, &out->row));
        COV_GO(lungpost_run(out->lung, h->nx, h->ny, h->nz, out->threads, &report));
    }
    COV_GO(burden_lung(v, out->lung, out));
    judge(v, stats, &report, out);
done:
    if (s != COV_OK) study_result_free(out);
    return s;
}

status pipeline_lungs(pipeline *p, const volume *v, const volume_stats *stats, study_result *out)
{
    void *hu = NULL;
    sending *coming = NULL;
    status s = v->head.isolated ? COV_OK : lend(p, v, &hu, &coming);
    if (s == COV_OK) s = find_lungs(p, v, hu, coming, stats, out);
    give_back(p, v, &hu, &coming);
    return s;
}

/* ---- lesions */

int pipeline_has_lesions(const pipeline *p) { return p->lesion != NULL; }

/* A run's findings are those of the study's slices z0 and on. */
static status take_run(findings *of_run, int64_t z0, findings *out)
{
    for (int64_t i = 0; i < of_run->count; i++) {
        finding f = of_run->at[i];
        f.z += z0;
        COV_TRY(findings_add(out, &f));
    }
    for (int64_t z = 0; z < of_run->nz; z++) memcpy(out->period[z0 + z], of_run->period[z], sizeof *out->period);
    return COV_OK;
}

static status find_isolated(pipeline *p, const lesion_options *o, const volume *v, const uint8_t *lungs, int64_t z0,
                            int64_t z1, findings *out)
{
    uint8_t *mask = NULL;
    void *hu = NULL;
    findings *f = NULL;
    volume run = {0};
    status s = COV_OK;
    for (int64_t z = 0, end; z < z1; z = end) { /* runs are those of the study, whatever the range asked for */
        COV_GO(cut_run(v, z, &end, &run));
        int64_t from = z > z0 ? z : z0, to = end < z1 ? end : z1;
        if (from < to) {
            if (!(mask = malloc((size_t)(run.head.nx * run.head.ny * run.head.nz)))) {
                s = COV_FAIL(COV_NOMEM, "no memory for a mask");
                goto done;
            }
            copy_corner(lungs + z * v->head.ny * v->head.nx, v->head.ny, v->head.nx, mask, run.head.ny, run.head.nx,
                        run.head.nz, 1);
            COV_GO(findings_new(run.head.nz, &f));
            COV_GO(lend(p, &run, &hu, NULL));
            COV_GO(lesion_run(p->lesion, o, &run.head, hu, mask, from - z, to - z, f));
            COV_GO(take_run(f, z, out));
        }
        findings_free(&f);
        give_back(p, &run, &hu, NULL);
        free(mask);
        free(run.hu);
        mask = NULL;
        run.hu = NULL;
    }
done:
    findings_free(&f);
    give_back(p, &run, &hu, NULL);
    free(mask);
    free(run.hu);
    return s;
}

/* hu as in find_lungs. */
static status find_lesions(pipeline *p, const volume *v, const int16_t *hu, const uint8_t *lungs, int64_t z0, int64_t z1, findings *out)
{
    lesion_options o = lesion_defaults();
    o.score_least = p->options.score_least;
    o.isolated = v->head.isolated != 0;
    if (o.isolated) COV_TRY(find_isolated(p, &o, v, lungs, z0, z1, out));
    else COV_TRY(lesion_run(p->lesion, &o, &v->head, hu, lungs, z0, z1, out));
    return COV_OK;
}

status pipeline_find(pipeline *p, const volume *v, const uint8_t *lungs, int64_t z0, int64_t z1, findings *out)
{
    void *hu = NULL;
    status s = v->head.isolated ? COV_OK : lend(p, v, &hu, NULL);
    if (s == COV_OK) s = find_lesions(p, v, hu, lungs, z0, z1, out);
    give_back(p, v, &hu, NULL);
    return s;
}

status pipeline_finish(pipeline *p, const volume *v, findings *f, study_result *out)
{
    out->threads = threads_of(p);
    return lesionpost_run(v, out->lung, f, out);
}

status pipeline_run(pipeline *p, const volume *v, const volume_stats *stats, study_result *out)
{
    findings *f = NULL;
    void *hu = NULL;
    sending *coming = NULL;
    double start = now();
    status s = COV_OK;
    if (!v->head.isolated) COV_GO(lend(p, v, &hu, &coming));
    COV_GO(find_lungs(p, v, hu, coming, stats, out));
    double middle = now();
    if (p->lesion && out->row.status == OUTCOME_DONE) {
        COV_GO(findings_new(v->head.nz, &f));
        COV_GO(find_lesions(p, v, hu, out->lung, 0, v->head.nz, f));
        COV_GO(pipeline_finish(p, v, f, out));
        out->row.seconds_lesion = now() - middle;
    }
    out->row.seconds_total = now() - start;
done:
    findings_free(&f);
    give_back(p, v, &hu, &coming);
    if (s != COV_OK) study_result_free(out);
    return s;
}
