/* eval: `covpipe eval lesion` is jobs/eval_lesion; `covpipe eval lung`: the lung networks against annotated volumes,
 * each way that they can be used, as a Markdown table, JSON and pictures; with --grid, fusions times CRF
 * options over the cases given and over copies of them with made-up consolidation. */
#include "base/sha256.h"
#include "data/durable.h"
#include "data/image.h"
#include "jobs/eval.h"
#include "jobs/jobs.h"
#include "jobs/losscurve.h"
#include "jobs/setup.h"
#include "stages/consolidation.h"
#include "stages/draw.h"
#include "stages/lungeval.h"
#include "stages/metrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 256, COLUMNS = 5, AXIAL_TILES = 10, CAPTION = 22 };
static const draw_colour PAPER = {16, 16, 16}, INK = {230, 230, 230}, TRUTH = {60, 220, 60}, FOUND = {255, 70, 50};

typedef struct eval_state {
    const options *o;
    pipeline_options p;
    setup_paths paths;
    device *device;
    lung *nets;
    lung_fusion fusion;
    str rows, json; /* Markdown and JSON so far */
    struct scored {
        const char *patient;
        lungeval_score score[LUNGEVAL_COUNT];
    } * scored; /* owned; a case each; NaN: not run */
    int count, room;
} eval_state;

/* ---- pictures */

/* Copies one plane: axial slice z, or the sagittal plane x with its rows upside down (head up). */
static void plane_of(const volume_header *h, int sagittal, int64_t k, const void *from, size_t bytes, char *to)
{
    const char *source = from;
    if (!sagittal) {
        memcpy(to, source + (size_t)(k * h->nx * h->ny) * bytes, (size_t)(h->nx * h->ny) * bytes);
        return;
    }
    for (int64_t z = 0; z < h->nz; z++)
        for (int64_t y = 0; y < h->ny; y++)
            memcpy(to + (size_t)((h->nz - 1 - z) * h->ny + y) * bytes,
                   source + (size_t)((z * h->ny + y) * h->nx + k) * bytes, bytes);
}

static void draw_plane(draw *d, draw_tile t, const trainset_volume *v, const uint8_t *mask, int sagittal, int64_t k,
                       char *room)
{
    const volume_header *h = &v->ct.head;
    char text[32];
    t.nx = sagittal ? h->ny : h->nx;
    t.ny = sagittal ? h->nz : h->ny;
    plane_of(h, sagittal, k, v->ct.hu, sizeof(int16_t), room);
    draw_slice(d, &t, window_lung(), (const int16_t *)(const void *)room);
    if (v->lung) {
        plane_of(h, sagittal, k, v->lung, 1, room);
        draw_contour(d, &t, (const uint8_t *)room, 0, TRUTH);
    }
    plane_of(h, sagittal, k, mask, 1, room);
    draw_contour(d, &t, (const uint8_t *)room, 0, FOUND);
    snprintf(text, sizeof text, "%c %lld", sagittal ? 'X' : 'Z', (long long)k);
    draw_text(d, t.x + 4, t.y + 4, 1, INK, text);
}

static status draw_case(const eval_state *e, const char *id, const trainset_volume *v, const uint8_t *mask,
                        lungeval_score score)
{
    status s;
    draw *d = NULL;
    const volume_header *h = &v->ct.head;
    char text[160], path[SETUP_PATH];
    int64_t side = h->nx > h->nz ? h->nx : h->nz;
    void *room = malloc(sizeof(int16_t) * (size_t)(side * h->ny));
    if (!room) COV_GO(COV_FAIL(COV_NOMEM, "no memory for a picture of %s", id));
    COV_GO(draw_new(COLUMNS * TILE, CAPTION + 3 * TILE, PAPER, &d));
    snprintf(text, sizeof text, "%s  DICE %.4f  LESION KEPT %.4f  LUNG %.0f ML  GREEN REFERENCE, RED RESULT", id,
             score.dice, score.lesion_kept, score.lung_ml);
    draw_text(d, 4, 7, 1, INK, text);
    for (int64_t k = 0; k < AXIAL_TILES + COLUMNS; k++) {
        int sagittal = k >= AXIAL_TILES;
        draw_tile t = {.x = k % COLUMNS * TILE, .y = CAPTION + k / COLUMNS * TILE, .w = TILE, .h = TILE};
        int64_t at =
            sagittal ? h->nx * (2 * (k - AXIAL_TILES) + 3) / 14 : h->nz - 1 - h->nz * (2 * k + 1) / (2 * AXIAL_TILES);
        draw_plane(d, t, v, mask, sagittal, at, room);
    }
    snprintf(path, sizeof path, "%s/%s.png", e->o->pictures, id);
    COV_GO(image_write_rgb(path, (int32_t)d->height, (int32_t)d->width, d->rgb));
done:
    draw_free(&d);
    free(room);
    return s;
}

/* ---- scores */

static void put_number(str *to, double v, int digits)
{
    if (isnan(v)) str_put(to, "–");
    else str_putf(to, "%.*f", digits, v);
}

static void put_json_number(str *to, const char *name, double v)
{
    if (isnan(v)) str_putf(to, ",\"%s\":null", name);
    else str_putf(to, ",\"%s\":%.6f", name, v);
}

/* kept: what the share of lesion kept is called. */
static void put_json(eval_state *e, const cases_row *row, const char *variant, const char *more, const char *kept,
                     lungeval_score s)
{
    str_put(&e->json, e->json.length ? ",\n{\"id\":" : "{\"id\":");
    str_put_json(&e->json, row->id);
    str_put(&e->json, ",\"patient\":");
    str_put_json(&e->json, row->patient);
    str_putf(&e->json, ",\"variant\":\"%s\"%s", variant, more);
    put_json_number(&e->json, "dice", s.dice);
    put_json_number(&e->json, "surface_dice", s.surface);
    put_json_number(&e->json, kept, s.lesion_kept);
    put_json_number(&e->json, "lung_ml", s.lung_ml);
    put_json_number(&e->json, "false_ml", s.false_ml);
    put_json_number(&e->json, "missed_ml", s.missed_ml);
    str_put(&e->json, "}");
}

static void put_row(eval_state *e, const cases_row *row, lungeval_variant v, lungeval_score s)
{
    str_putf(&e->rows, "| %s | %s | %s | ", row->id, row->patient, lungeval_name(v));
    put_number(&e->rows, s.dice, 4);
    str_put(&e->rows, " | ");
    put_number(&e->rows, s.surface, 4);
    str_put(&e->rows, " | ");
    put_number(&e->rows, s.lesion_kept, 4);
    str_put(&e->rows, " | ");
    put_number(&e->rows, s.lung_ml, 0);
    str_put(&e->rows, " | ");
    put_number(&e->rows, s.false_ml, 1);
    str_put(&e->rows, " | ");
    put_number(&e->rows, s.missed_ml, 1);
    str_put(&e->rows, " |\n");
    put_json(e, row, lungeval_name(v), "", "lesion_kept", s);
}

/* Room for one more case, whose scores are all NaN. */
static status add_case(eval_state *e, const char *patient, struct scored **out)
{
    if (e->count == e->room) {
        int room = e->room ? 2 * e->room : 16;
        struct scored *more = realloc(e->scored, (size_t)room * sizeof *more);
        if (!more) return COV_FAIL(COV_NOMEM, "no memory for the scores of %d cases", room);
        e->scored = more;
        e->room = room;
    }
    *out = &e->scored[e->count++];
    (*out)->patient = patient;
    for (int k = 0; k < LUNGEVAL_COUNT; k++)
        (*out)->score[k] = (lungeval_score){.dice = NAN, .surface = NAN, .lesion_kept = NAN};
    return COV_OK;
}

static status score_variants(eval_state *e, const cases_row *row, const trainset_volume *v, uint8_t *mask)
{
    status s;
    static const struct { int weight, crf; } how[] = {
#define X(NAME, name, weight, crf) {weight, crf},
        LUNGEVAL_VARIANTS(X)
#undef X
    };
    int last = -1;
    struct scored *to = NULL;
    lungeval *logits = NULL;
    COV_GO(lungeval_new(e->p.backend, e->device, e->nets, e->p.use_sagittal, v, &logits));
    COV_GO(add_case(e, row->patient, &to));
    for (int k = 0; k < LUNGEVAL_COUNT; k++) {
        if ((how[k].weight != 0 && !e->p.use_sagittal) || (how[k].crf && !e->p.use_crf)) continue;
        lung_fusion fusion = how[k].weight < 0 ? e->fusion : (lung_fusion){.weight = (float)how[k].weight};
        COV_GO(lungeval_mask(logits, fusion, how[k].crf ? &e->p.crf : NULL, mask));
        COV_GO(lungeval_score_of(v, mask, &to->score[k]));
        put_row(e, row, (lungeval_variant)k, to->score[k]);
        last = k;
    }
    if (*e->o->pictures && last >= 0)
        COV_GO(draw_case(e, row->id, v, mask, to->score[last])); /* the last variant is the fullest */
done:
    lungeval_free(&logits);
    return s;
}

/* ---- grid search: fusions, with and without the CRF, on the volume itself and on copies of it with consolidation drawn
 * into the lung, which are scored like any volume: what was drawn is their lesion. scripts/lung-choice.py chooses for
 * each patient on the others */

typedef struct grid_volume {
    const cases_row *row;
    int copy; /* 0: the volume itself */
    const trainset_volume *v;
    lungeval *logits;
    uint8_t *mask;
} grid_volume;

static status grid_point(eval_state *e, const grid_volume *g, lung_fusion f, const crf_options *crf, lungeval_score *score)
{
    char more[192];
    const char *kept = g->copy ? "drawn_kept" : "lesion_kept";
    int n = 0;
    if (g->copy) n += snprintf(more, sizeof more, ",\"copy\":%d", g->copy);
    n += snprintf(more + n, sizeof more - (size_t)n, ",\"fusion\":%g,\"prior\":%g", (double)f.weight, (double)f.prior);
    if (crf)
        snprintf(more + n, sizeof more - (size_t)n, ",\"crf\":[%g,%g,%g,%g,%g,%d]", (double)crf->w_appearance,
                 (double)crf->w_smooth, (double)crf->theta_alpha, (double)crf->theta_beta, (double)crf->theta_gamma,
                 crf->iterations);
    COV_TRY(lungeval_mask(g->logits, f, crf, g->mask));
    COV_TRY(lungeval_score_of(g->v, g->mask, score));
    put_json(e, g->row, g->copy ? "drawn" : "grid", more, kept, *score);
    printf("%s%s  dice %.5f  %s %.5f\n", g->row->id, more, score->dice, kept, score->lesion_kept);
    fflush(stdout);
    return COV_OK;
}

static status grid_points(eval_state *e, const grid_volume *g)
{
    static const float weights[] = {0.5f, 0.85f, 0.95f}, priors[] = {0, 0.35f, 0.7f, 1, 1.4f};
    lungeval_score score;
    for (size_t k = 0; k < (e->p.use_sagittal ? sizeof weights / sizeof *weights : 1); k++)
        for (size_t i = 0; i < (e->p.use_sagittal ? sizeof priors / sizeof *priors : 1); i++) {
            lung_fusion f = e->p.use_sagittal ? (lung_fusion){.weight = weights[k], .prior = priors[i]} : (lung_fusion){0};
            COV_TRY(grid_point(e, g, f, NULL, &score));
            if (e->p.use_crf) COV_TRY(grid_point(e, g, f, &e->p.crf, &score));
        }
    if (!*e->o->pictures) return COV_OK;
    char name[SETUP_PATH];
    snprintf(name, sizeof name, "%s-copy%d", g->row->id, g->copy);
    return draw_case(e, name, g->v, g->mask, score); /* with the last point's mask */
}

/* A case draws from a stream of its own, by its id. */
static status draw_copy(const cases_row *row, const trainset_volume *from, int copy, trainset_volume *to)
{
    char hex[SHA256_HEX];
    size_t n = (size_t)from->ct.head.nx * (size_t)from->ct.head.ny * (size_t)from->ct.head.nz;
    COV_TRY(sha256_bytes(row->id, strlen(row->id), hex));
    hex[16] = '\0';
    to->ct.head = from->ct.head;
    to->ct.hu = malloc(n * sizeof *to->ct.hu);
    to->lung = malloc(n);
    to->lesion = malloc(n);
    if (!to->ct.hu || !to->lung || !to->lesion) return COV_FAIL(COV_NOMEM, "no memory for a copy of %s", row->id);
    memcpy(to->lung, from->lung, n);
    return consolidation_draw(&from->ct, from->lung, copy - 1, strtoull(hex, NULL, 16), to->ct.hu, to->lesion);
}

static status grid_copy(eval_state *e, const cases_row *row, const trainset_volume *v, int copy, uint8_t *mask)
{
    status s;
    trainset_volume drawn = {0};
    grid_volume g = {.row = row, .copy = copy, .v = copy ? &drawn : v, .mask = mask};
    if (copy) COV_GO(draw_copy(row, v, copy, &drawn));
    COV_GO(lungeval_new(e->p.backend, e->device, e->nets, e->p.use_sagittal, g.v, &g.logits));
    COV_GO(grid_points(e, &g));
done:
    lungeval_free(&g.logits);
    trainset_volume_free(&drawn);
    return s;
}

static status grid_case(eval_state *e, const cases_row *row, const trainset_volume *v, uint8_t *mask)
{
    for (int copy = 0; copy <= (v->lung ? CONSOLIDATION_COPIES : 0); copy++)
        COV_TRY(grid_copy(e, row, v, copy, mask));
    return COV_OK;
}

static status eval_case(eval_state *e, const cases_row *row)
{
    status s;
    trainset_volume v = {0};
    uint8_t *mask = NULL;
    COV_GO(trainset_read(row, &v));
    mask = malloc((size_t)(v.ct.head.nx * v.ct.head.ny * v.ct.head.nz));
    if (!mask) COV_GO(COV_FAIL(COV_NOMEM, "no memory for the mask of %s", row->id));
    COV_GO(e->o->grid ? grid_case(e, row, &v, mask) : score_variants(e, row, &v, mask));
done:
    free(mask);
    trainset_volume_free(&v);
    return s;
}

/* Mean over cases with its interval over patients, and the worst. Which of a score: 0 Dice, 1 Dice of surfaces, 2 share
 * of lesion kept. Returns how many cases. */
static status put_mean(eval_state *e, int variant, int which, metrics_ratio *by_patient, int *cases_done)
{
    double worst = NAN;
    metrics_interval i;
    *cases_done = 0;
    for (int k = 0; k < e->count; k++) {
        const lungeval_score *s = &e->scored[k].score[variant];
        double v = which == 0 ? s->dice : which == 1 ? s->surface : s->lesion_kept;
        int patient = 0;
        while (strcmp(e->scored[patient].patient, e->scored[k].patient) != 0)
            patient++; /* the patient's first case stands for the patient */
        by_patient[k] = (metrics_ratio){0, 0};
        if (isnan(v)) continue;
        metrics_ratio_add(&by_patient[patient], (metrics_ratio){v, 1});
        worst = *cases_done == 0 || v < worst ? v : worst;
        ++*cases_done;
    }
    COV_TRY(metrics_bootstrap(by_patient, e->count, 1, &i));
    str_put(&e->rows, " ");
    put_number(&e->rows, i.value, 4);
    if (!isnan(i.low)) str_putf(&e->rows, " (%.3f–%.3f)", i.low, i.high);
    str_put(&e->rows, " | ");
    put_number(&e->rows, worst, 4);
    str_put(&e->rows, " |");
    return COV_OK;
}

static status put_means(eval_state *e)
{
    int done_cases[3];
    metrics_ratio *by_patient = calloc((size_t)e->count + 1, sizeof *by_patient);
    if (!by_patient) return COV_FAIL(COV_NOMEM, "no memory for the means of %d cases", e->count);
    str_put(&e->rows, "\n| variant | mean Dice (95 % over patients) | worst | mean surface Dice, 2 mm | worst | mean "
                      "lesion kept | worst | cases |\n"
                      "| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    status s = COV_OK;
    for (int v = 0; v < LUNGEVAL_COUNT && s == COV_OK; v++) {
        int run = 0;
        for (int k = 0; k < e->count; k++)
            run |= !isnan(e->scored[k].score[v].dice) || !isnan(e->scored[k].score[v].lesion_kept);
        if (!run) continue;
        str_putf(&e->rows, "| %s |", lungeval_name((lungeval_variant)v));
        for (int which = 0; which < 3 && s == COV_OK; which++)
            s = put_mean(e, v, which, by_patient, &done_cases[which]);
        str_putf(&e->rows, " %d |\n", done_cases[0]);
    }
    free(by_patient);
    return s;
}

static status finish(eval_state *e, int cases_done)
{
    if (cases_done == 0) return COV_FAIL(COV_USAGE, "no annotated volume to score: --cases and --fold leave none");
    if (!e->o->grid) {
        COV_TRY(put_means(e));
        fputs(str_text(&e->rows), stdout);
        if (*e->o->out) COV_TRY(durable_write(e->o->out, str_text(&e->rows), e->rows.length));
    }
    if (e->rows.failed || e->json.failed) return COV_FAIL(COV_NOMEM, "no memory for the table");
    return *e->o->json ? setup_write_json(e->o->json, &e->json) : COV_OK;
}

static status eval_lung(const options *o)
{
    status s;
    eval_state e = {.o = o};
    setup machine = {0};
    cases *c = NULL;
    int done_cases = 0;
    COV_GO(cases_read(o->cases, &c));
    COV_GO(setup_pipeline(o, &e.paths, &e.p));
    COV_GO(setup_open(o, &machine));
    e.p.backend = machine.backend;
    e.p.precision = machine.precision;
    e.device = machine.device;
    COV_GO(lung_open(e.p.backend, e.device, e.p.precision, e.p.lung_axial_path,
                     e.p.use_sagittal ? e.p.lung_sagittal_path : NULL, &e.nets));
    e.fusion = lung_fusion_of(e.nets, e.p.fusion_weight, e.p.fusion_prior);
    if (*o->pictures) COV_GO(losscurve_draw(e.p.lung_axial_path, o->pictures));
    if (*o->pictures && e.p.use_sagittal) COV_GO(losscurve_draw(e.p.lung_sagittal_path, o->pictures));
    str_put(&e.rows, "| case | patient | variant | Dice | surface Dice | lesion kept | lung ml | false ml | missed ml "
                     "|\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for (size_t k = 0; k < c->count; k++) {
        const cases_row *row = &c->rows[k];
        if (row->kind != CASES_VOLUME || (*o->fold && !trainset_held_out(o->fold, row->patient))) continue;
        COV_GO(eval_case(&e, row));
        done_cases++;
    }
    COV_GO(finish(&e, done_cases));
done:
    lung_close(&e.nets);
    if (e.device) e.p.backend->close(&e.device);
    cases_free(&c);
    str_free(&e.rows);
    str_free(&e.json);
    free(e.scored);
    return s;
}

int eval_job(const options *o)
{
    status s = COV_OK;
    int lesions = strcmp(o->words[0], "lesion") == 0;
    if (!lesions && strcmp(o->words[0], "lung") != 0)
        s = COV_FAIL(COV_USAGE, "eval %s: expected lung or lesion", o->words[0]);
    else if (!*o->cases) s = COV_FAIL(COV_USAGE, "eval needs --cases FILE");
    if (s == COV_OK) s = lesions ? eval_lesion(o) : eval_lung(o);
    return s == COV_OK ? EXIT_OK : jobs_fail(s);
}
