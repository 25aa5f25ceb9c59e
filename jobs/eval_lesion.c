/* eval lesion: lesion models over annotated cases: every study is read once and goes through every model; rows become
 * the paper's tables. With --cross the weights are the folds of one cross-validation, and each study is scored by those
 * that held its patient out. With --choose nothing is reported: each file's score threshold is chosen on the patients
 * it was trained on, and written into it. */
#include "data/durable.h"
#include "data/weights.h"
#include "jobs/eval.h"
#include "jobs/losscurve.h"
#include "jobs/setup.h"
#include "stages/lesion.h"
#include "stages/lesiondraw.h"
#include "stages/lungeval.h"
#include "stages/period.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MODELS_MOST = 64 };
static const float SCORE_LEAST = 0.05f; /* what the curves begin with */

typedef struct model {
    char path[SETUP_PATH];
    char left_out[1024]; /* patients, separated by commas; "" where the file does not say */
    lesion *net;
    float threshold;
    size_t line;
    int64_t seen; /* studies scored whose patient it was trained on */
} model;

typedef struct eval_state {
    const options *o;
    setup machine;
    pipeline_options p;
    setup_paths paths;
    lung *lungs; /* opened when a volume needs them */
    model *models;
    size_t model_count;
    lesionreport *report;
    int baseline_hu, has_baseline; /* the last line */
    evalset_pool *pool;
} eval_state;

/* ---- models and lines */

static status read_record(model *m)
{
    weights_file *w = NULL;
    COV_TRY(weights_load(m->path, &w));
    trainset_left_out(w, m->left_out, sizeof m->left_out);
    weights_free(&w);
    return COV_OK;
}

static status open_model(eval_state *e, const char *path, size_t length)
{
    model *m = &e->models[e->model_count];
    if (e->model_count == MODELS_MOST || length == 0 || length >= sizeof m->path)
        return COV_FAIL(COV_USAGE, "--weights %s: expected 1 to %d files, separated by commas", e->o->weights,
                        MODELS_MOST);
    e->model_count++;
    memcpy(m->path, path, length);
    COV_TRY(read_record(m));
    COV_TRY(lesion_open(e->machine.backend, e->machine.device, e->machine.precision, m->path, &m->net));
    m->threshold = e->o->score >= 0 ? (float)e->o->score : lesion_score_threshold(m->net);
    return COV_OK;
}

static const char *name_of(const model *m)
{
    return lesionnet_name(lesion_model(m->net));
}

static int alone(const eval_state *e, const model *m)
{
    int same = 0;
    for (size_t k = 0; k < e->model_count; k++) same += lesion_model(e->models[k].net) == lesion_model(m->net);
    return same == 1;
}

/* Which line of the report each file belongs to. Returns how many lines there are. */
static size_t deal_lines(eval_state *e)
{
    size_t lines = 0;
    for (size_t k = 0; k < e->model_count; k++) {
        model *m = &e->models[k];
        m->line = lines;
        for (size_t j = 0; e->o->cross && j < k && m->line == lines; j++)
            if (lesion_model(e->models[j].net) == lesion_model(m->net)) m->line = e->models[j].line;
        lines += m->line == lines;
    }
    return lines;
}

static void describe_line(eval_state *e, model *m)
{
    lesionreport_line *l = &e->report->lines[m->line];
    const char *base = strrchr(m->path, '/') ? strrchr(m->path, '/') + 1 : m->path;
    if (e->o->cross || alone(e, m)) snprintf(l->name, sizeof l->name, "%s", name_of(m));
    else snprintf(l->name, sizeof l->name, "%s %.40s", name_of(m), base);
    snprintf(l->paper, sizeof l->paper, "%s", name_of(m));
    str_putf(&l->note, "%s%s, preset %s, %.12s, score ≥ %.2f, held out: %s", l->note.length ? "; " : "", base,
             lesion_preset(m->net), lesion_digest(m->net), (double)m->threshold,
             *m->left_out ? m->left_out : "not recorded");
}

static status open_models(eval_state *e)
{
    const char *at = e->o->weights;
    e->models = calloc(MODELS_MOST, sizeof *e->models);
    if (!e->models) return COV_FAIL(COV_NOMEM, "no memory for the models");
    while (*at) {
        size_t length = strcspn(at, ",");
        COV_TRY(open_model(e, at, length));
        at += length + (at[length] == ',');
    }
    size_t lines = deal_lines(e);
    COV_TRY(lesionreport_new(lines + (size_t)e->has_baseline, &e->report));
    for (size_t k = 0; k < e->model_count; k++) describe_line(e, &e->models[k]);
    if (e->has_baseline) {
        lesionreport_line *l = &e->report->lines[lines];
        snprintf(l->name, sizeof l->name, "HU > %d", e->baseline_hu);
        str_putf(&l->note, "no model: every voxel above %d HU inside the lung of a volume; vessels are false positives",
                 e->baseline_hu);
    }
    return COV_OK;
}

/* ---- one study */

/* The lung mask that models are given: the reference, or our own pipeline's where there is none or --own-lung asks for
 * it. NULL for isolated slices without one: everything is lung. */
static status lung_of(eval_state *e, const evalset_study *of, uint8_t **out)
{
    status s;
    lungeval *logits = NULL;
    size_t n = (size_t)of->v.ct.head.nx * (size_t)of->v.ct.head.ny * (size_t)of->v.ct.head.nz;
    *out = NULL;
    if (of->isolated && !of->v.lung) return COV_OK;
    if (!(*out = malloc(n))) return COV_FAIL(COV_NOMEM, "no memory for the lung of %s", of->id);
    if (of->isolated || (of->v.lung && !e->o->own_lung)) {
        memcpy(*out, of->v.lung, n);
        return COV_OK;
    }
    if (!e->lungs) {
        COV_GO(setup_pipeline(e->o, &e->paths, &e->p));
        COV_GO(lung_open(e->machine.backend, e->machine.device, e->machine.precision, e->p.lung_axial_path,
                         e->p.use_sagittal ? e->p.lung_sagittal_path : NULL, &e->lungs));
    }
    COV_GO(lungeval_new(e->machine.backend, e->machine.device, e->lungs, e->p.use_sagittal, &of->v, &logits));
    lung_fusion fusion = lung_fusion_of(e->lungs, e->p.fusion_weight, e->p.fusion_prior);
    COV_GO(lungeval_mask(logits, fusion, e->p.use_crf ? &e->p.crf : NULL, *out));
done:
    lungeval_free(&logits);
    if (s != COV_OK) {
        free(*out);
        *out = NULL;
    }
    return s;
}

/* Labels of the slices: a healthy study's are 0; of others, the slices with lesion have the table's or, if asked for,
 * the proxy's; -1 elsewhere. */
static status periods_of(const evalset_study *of, int proxy, int8_t **out)
{
    const volume_header *h = &of->v.ct.head;
    size_t area = (size_t)h->nx * (size_t)h->ny;
    *out = malloc((size_t)h->nz);
    if (!*out) return COV_FAIL(COV_NOMEM, "no memory for the periods of %s", of->id);
    for (int64_t z = 0; z < h->nz; z++) {
        size_t at = (size_t)z * area;
        int label = of->period;
        if (label && !memchr(of->v.lesion + at, 1, area)) label = -1;
        else if (label < 0 && proxy)
            label = period_proxy(
                period_count(area, of->v.ct.hu + at, of->v.lung ? of->v.lung + at : NULL, of->v.lesion + at, NULL));
        (*out)[z] = (int8_t)label;
    }
    return COV_OK;
}

static status draw_scored(const eval_state *e, const char *line, const evalset_study *of, const uint8_t *inside,
                          const findings *f, float threshold, const uint8_t *mask, const lesioneval_row *row)
{
    char path[SETUP_PATH];
    int n = snprintf(path, sizeof path, "%s/%s-%s.png", e->o->pictures, of->id, line);
    for (char *c = path + strlen(e->o->pictures) + 1; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '-' && *c != '.') *c = '_';
    if (n < 0 || n >= (int)sizeof path)
        return COV_FAIL(COV_USAGE, "--pictures %.200s: too long a path", e->o->pictures);
    return lesiondraw_study(path, line, of, inside, f, threshold, mask, row);
}

static status score(eval_state *e, size_t line, lesionreport_set set, const evalset_study *of, const uint8_t *inside,
                    const findings *f, float threshold)
{
    status s;
    const volume_header *h = &of->v.ct.head;
    lesioneval_row row = {0};
    int8_t *period = NULL;
    lesionreport_line *l = &e->report->lines[line];
    uint8_t *mask = malloc((size_t)h->nx * (size_t)h->ny * (size_t)h->nz);
    if (!mask) COV_GO(COV_FAIL(COV_NOMEM, "no memory for the mask of %s", of->id));
    COV_GO(periods_of(of, e->o->period_proxy, &period));
    COV_GO(lesioneval_score(
        &(lesioneval_input){.study = of, .lung = inside, .found = f, .threshold = threshold, .period = period}, mask,
        &row));
    if (*e->o->pictures) COV_GO(draw_scored(e, l->name, of, inside, f, threshold, mask, &row));
    fprintf(stderr, "%s  %s  mean Dice %.4f  volume Dice %.4f  found %.2f %% of lung, reference %.2f %%\n", of->id,
            l->name, metrics_value(row.m[LESIONEVAL_DICE]), row.volume_dice, row.found_percent, row.truth_percent);
    COV_GO(lesionreport_add(l, set, &row));
done:
    lesioneval_row_free(&row);
    free(period);
    free(mask);
    return s;
}

/* Whether a study goes through a model: with --cross only what it never saw, with --choose only what it was trained on.
 */
static int takes(const eval_state *e, const model *m, const char *patient)
{
    int held_out = trainset_held_out(m->left_out, patient);
    if (e->o->cross) return held_out;
    return *e->o->choose ? !held_out : 1;
}

static status score_models(eval_state *e, lesionreport_set set, const evalset_study *of, const uint8_t *inside)
{
    status s = COV_OK;
    const volume *v = &of->v.ct;
    size_t bytes = sizeof *v->hu * (size_t)(v->head.nx * v->head.ny * v->head.nz);
    findings *f = NULL;
    void *hu = NULL;
    uint8_t scored[MODELS_MOST] = {0}; /* lines */
    COV_GO(backend_lend(e->machine.backend, e->machine.device, v->hu, bytes, 1, &hu));
    for (size_t k = 0; k < e->model_count; k++) {
        model *m = &e->models[k];
        lesion_options o = lesion_defaults();
        if (!takes(e, m, of->patient) || scored[m->line]) continue;
        scored[m->line] = 1;
        m->seen += !trainset_held_out(m->left_out, of->patient);
        o.score_least = fminf(SCORE_LEAST, m->threshold);
        o.isolated = of->isolated;
        COV_GO(findings_new(v->head.nz, &f));
        COV_GO(lesion_run(m->net, &o, &v->head, hu, inside, 0, v->head.nz, f));
        findings_sort(f);
        COV_GO(score(e, m->line, set, of, inside, f, m->threshold));
        findings_free(&f);
    }
    if (e->has_baseline && inside && !of->isolated) {
        COV_GO(lesioneval_baseline(v, inside, e->baseline_hu, &f));
        COV_GO(score(e, e->report->count - 1, set, of, inside, f, 0.5f));
    }
done:
    backend_return(e->machine.backend, e->machine.device, v->hu, &hu);
    findings_free(&f);
    return s;
}

static status score_coronal(eval_state *e, const evalset_study *of, const uint8_t *inside)
{
    status s;
    evalset_study turned = {0};
    uint8_t *turned_lung = NULL;
    COV_GO(evalset_coronal(of, inside, &turned, &turned_lung));
    COV_GO(score_models(e, LESIONREPORT_CORONAL, &turned, turned_lung));
done:
    evalset_free(&turned);
    free(turned_lung);
    return s;
}

static status add_sizes(const evalset_study *of, lesionmetrics_sizes *to)
{
    status s = COV_OK;
    const volume_header *h = &of->v.ct.head;
    region *r = NULL;
    int64_t count;
    size_t area = (size_t)h->nx * (size_t)h->ny;
    int32_t *labels = malloc(area * sizeof *labels);
    if (!labels) return COV_FAIL(COV_NOMEM, "no memory for the regions of %s", of->id);
    for (int64_t z = 0; z < h->nz; z++) {
        COV_GO(regions_find(of->v.lesion + (size_t)z * area, h->ny, h->nx, labels, &r, &count));
        COV_GO(lesionmetrics_sizes_add(to, r, count, h->ny, h->nx));
        free(r);
        r = NULL;
    }
done:
    free(r);
    free(labels);
    return s;
}

/* Whether any line has something to say of a patient. */
static int wanted(const eval_state *e, const char *patient)
{
    for (size_t k = 0; k < e->model_count; k++)
        if (takes(e, &e->models[k], patient)) return 1;
    return e->model_count == 0;
}

static status eval_entry(eval_state *e, const evalset_entry *entry)
{
    status s;
    evalset_study of = {0};
    uint8_t *inside = NULL;
    COV_GO(evalset_read(entry, &of));
    COV_GO(lung_of(e, &of, &inside));
    COV_GO(add_sizes(&of, &e->report->scored));
    COV_GO(score_models(e, LESIONREPORT_CASES, &of, inside));
    if (e->o->coronal && !of.isolated &&
        memchr(of.v.lesion, 1, (size_t)of.v.ct.head.nx * (size_t)of.v.ct.head.ny * (size_t)of.v.ct.head.nz))
        COV_GO(score_coronal(e, &of, inside));
    if (e->pool) COV_GO(evalset_pool_add(e->pool, &of, inside));
done:
    evalset_free(&of);
    free(inside);
    return s;
}

static status eval_merged(eval_state *e)
{
    evalset_study *merged = NULL;
    size_t count = 0;
    status s;
    COV_GO(evalset_pool_merge(e->pool, e->o->merge, 1, &merged, &count, &e->report->merged_from));
    for (size_t k = 0; k < count; k++) COV_GO(score_models(e, LESIONREPORT_MERGED, &merged[k], merged[k].v.lung));
done:
    for (size_t k = 0; k < count; k++) evalset_free(&merged[k]);
    free(merged);
    return s;
}

/* Table 1's other half: the regions of the patients that --fold leaves to training. */
static status size_others(eval_state *e, const cases *c)
{
    status s;
    evalset_entry *all = NULL;
    size_t count;
    COV_GO(evalset_list(c, NULL, &all, &count));
    for (size_t k = 0; k < count; k++) {
        evalset_study of = {0};
        if (trainset_held_out(e->o->fold, all[k].patient) || !all[k].rows->lesion) continue;
        COV_GO(evalset_read(&all[k], &of));
        s = add_sizes(&of, &e->report->others);
        evalset_free(&of);
        if (s != COV_OK) goto done;
    }
done:
    free(all);
    return s;
}

/* ---- what comes out */

/* The step that is best for the file's training patients, into the file. */
static status choose_threshold(const eval_state *e, const model *m)
{
    status s;
    int best;
    char text[16];
    weights_file *w = NULL;
    const lesioneval_summary *sum = &e->report->lines[m->line].sum[LESIONREPORT_CASES][LESIONEVAL_ALL];
    printf("%s: %lld studies of %lld patients it was trained on\n\n| score | mean Dice | Dice, all slices | volume "
           "Dice | sensitivity | false a slice |\n"
           "| --- | --- | --- | --- | --- | --- |\n",
           m->path, (long long)sum->studies, (long long)sum->patients);
    for (int k = 1; k < LESIONMETRICS_STEPS; k++) {
        lesionmetrics_point p = lesionmetrics_at(&sum->detection, lesionmetrics_step(k));
        printf("| %.2f | %.4f | %.4f | %.4f | %.4f | %.2f |\n", (double)lesionmetrics_step(k),
               metrics_value(sum->step[k].dice), metrics_value(sum->step[k].all), sum->step_volume[k],
               metrics_value((metrics_ratio){(double)p.hit, (double)p.regions}),
               metrics_value((metrics_ratio){(double)(p.found - p.right), (double)sum->slices}));
    }
    COV_GO(lesioneval_choose(sum, e->o->choose, &best));
    snprintf(text, sizeof text, "%.2f", (double)lesionmetrics_step(best));
    COV_GO(weights_load(m->path, &w));
    COV_GO(weights_put_text(w, LESION_SCORE_THRESHOLD, text));
    COV_GO(weights_save(m->path, w));
    printf("\nchosen by %s: score >= %s, written into %s\n\n", e->o->choose, text, m->path);
done:
    weights_free(&w);
    return s;
}

static void put_notes(eval_state *e)
{
    str *to = &e->report->notes;
    str command = {0};
    options_command(e->o, &command);
    str_putf(to, "`%s`\n\nLung: %s. ", str_text(&command),
             e->o->own_lung ? "our own pipeline's in volumes"
                            : "the reference mask; our own pipeline's where a volume has none");
    str_putf(to,
             "Findings from a score of %.2f on make the curves; each model's own threshold makes its figures.%s\n\n",
             (double)SCORE_LEAST,
             e->o->period_proxy
                 ? " Periods of slices with lesion rest on a proxy (extent and density), not on a radiologist's label."
                 : "");
    for (size_t k = 0; k < e->model_count; k++)
        if (e->models[k].seen)
            str_putf(to,
                     "**%s is not recorded as having left out the patients of %lld of the studies below: their figures "
                     "prove nothing.**\n\n",
                     e->models[k].path, (long long)e->models[k].seen);
    str_free(&command);
}

static status report(eval_state *e)
{
    status s;
    const options *o = e->o;
    str text = {0}, json = {0};
    COV_GO(lesionreport_sum(e->report));
    for (size_t k = 0; *o->choose && k < e->model_count; k++) COV_GO(choose_threshold(e, &e->models[k]));
    if (*o->choose) goto done;
    put_notes(e);
    lesionreport_markdown(e->report, &text);
    lesionreport_json(e->report, &json);
    if (text.failed || json.failed) COV_GO(COV_FAIL(COV_NOMEM, "no memory for the tables"));
    fputs(str_text(&text), stdout);
    if (*o->out) COV_GO(durable_write(o->out, str_text(&text), text.length));
    if (*o->json) COV_GO(setup_write_json(o->json, &json));
    if (*o->pictures) COV_GO(lesiondraw_curves(e->report, o->pictures));
    for (size_t k = 0; *o->pictures && !o->cross && k < e->model_count; k++) COV_GO(losscurve_draw(e->models[k].path, o->pictures));
done:
    str_free(&text);
    str_free(&json);
    return s;
}

static status check(eval_state *e)
{
    const options *o = e->o;
    double hu;
    if (!*o->weights && !*o->threshold_baseline)
        return COV_FAIL(COV_USAGE, "eval lesion needs --weights FILE[,FILE...], or --threshold-baseline HU");
    if (*o->choose && (o->cross || o->coronal || o->merge || *o->threshold_baseline || !*o->weights))
        return COV_FAIL(
            COV_USAGE,
            "--choose takes --weights and --cases, without --cross, --coronal, --merge or --threshold-baseline");
    if (o->score > 1)
        return COV_FAIL(COV_USAGE, "--score %g: expected 0 to 1, or -1 for the one in the weights", o->score);
    if (o->merge < 0) return COV_FAIL(COV_USAGE, "--merge %lld: expected a number of slices", o->merge);
    if (!*o->threshold_baseline) return COV_OK;
    if (!str_to_double(o->threshold_baseline, &hu) || hu < -2000 || hu > 2000)
        return COV_FAIL(COV_USAGE, "--threshold-baseline %s: expected Hounsfield units", o->threshold_baseline);
    e->baseline_hu = (int)hu;
    e->has_baseline = 1;
    return COV_OK;
}

static status eval_all(eval_state *e)
{
    status s;
    cases *c = NULL;
    evalset_entry *entries = NULL;
    size_t count = 0, done_studies = 0;
    COV_GO(cases_read(e->o->cases, &c));
    COV_GO(evalset_list(c, e->o->fold, &entries, &count));
    COV_GO(setup_open(e->o, &e->machine));
    COV_GO(open_models(e));
    if (e->o->merge) COV_GO(evalset_pool_new(&e->pool));
    if (*e->o->pictures) COV_GO(durable_folder(e->o->pictures));
    for (size_t k = 0; k < count; k++) {
        if (!wanted(e, entries[k].patient)) continue;
        COV_GO(eval_entry(e, &entries[k]));
        done_studies++;
    }
    if (!done_studies)
        COV_GO(COV_FAIL(COV_USAGE,
                        "no annotated case to score: --cases, --fold and what the weights left out leave none"));
    if (e->pool) COV_GO(eval_merged(e));
    if (e->o->tables && *e->o->fold) COV_GO(size_others(e, c));
    e->report->paper = e->o->tables;
    COV_GO(report(e));
done:
    free(entries);
    cases_free(&c);
    return s;
}

status eval_lesion(const options *o)
{
    eval_state e = {.o = o};
    status s = check(&e);
    if (s == COV_OK) s = eval_all(&e);
    for (size_t k = 0; k < e.model_count; k++) lesion_close(&e.models[k].net);
    free(e.models);
    lesionreport_free(&e.report);
    evalset_pool_free(&e.pool);
    lung_close(&e.lungs);
    setup_close(&e.machine);
    return s;
}
