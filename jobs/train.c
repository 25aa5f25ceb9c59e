/* train: `covpipe train MODEL`: annotated cases into samples, one rank or many, the loss lines. `covpipe train all`
 * runs the lesion networks' chain, each stage from the file of the one before; a stage whose file is finished is passed
 * over, so the same command goes on from wherever the last one was stopped. Runs in the ranks themselves, without
 * children. */
#include "base/sha256.h"
#include "jobs/jobs.h"
#include "jobs/setup.h"
#include "mpi/reduce.h"
#include "stages/lesiontrain.h"
#include "stages/lungtrain.h"
#include "stages/trainset.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char licence[] =
    "Research use only. Trained on images of which some are licensed for non-commercial or research use; see the model "
    "card (docs/MODELS.md). Not for clinical use.";

typedef struct train_show {
    const options *o;
    world *w;
} train_show;

static void show(void *ctx, const train_report *r)
{
    const train_show *at = ctx;
    str line = {0};
    if (at->o->quiet && !r->finished) return;
    if (at->o->log_json) {
        str_putf(&line, "{\"event\":\"step\",\"step\":%lld,\"steps\":%lld,\"loss\":%.5f", (long long)r->step,
                 (long long)r->steps, (double)r->loss);
        for (int k = 0; k < r->losses; k++) str_putf(&line, ",\"%s\":%.5f", r->name[k], (double)r->part[k]);
        str_putf(&line, ",\"rate\":%.3g,\"norm\":%.4g,\"seconds\":%.1f,\"samples_per_s\":%.2f}", (double)r->rate,
                 (double)r->norm, r->seconds, r->samples_per_s);
    } else {
        str_putf(&line, "step %6lld of %lld  loss %.4f (", (long long)r->step, (long long)r->steps, (double)r->loss);
        for (int k = 0; k < r->losses; k++) str_putf(&line, "%s%s %.4f", k ? ", " : "", r->name[k], (double)r->part[k]);
        str_putf(&line, ")  rate %.2e  norm %.2f  %.1f samples/s  %.0f s%s", (double)r->rate, (double)r->norm,
                 r->samples_per_s, r->seconds, r->resumed ? "  (resumed)" : "");
    }
    fprintf(stderr, "%s\n", str_text(&line));
    str_free(&line);
}

static int asked_to_stop(void *ctx)
{
    const train_show *at = ctx;
    return world_signals(at->w) > 0;
}

typedef struct training {
    const options *o;
    world *w;
    setup machine;
    reduce *sums;
    int on_devices; /* gradients are summed there */
    train_show show;
    str record;
} training;

/* What the weights' record says, and what must agree when a training is resumed: the cases, who was left out. */
static status record_of(const options *o, str *to)
{
    char hex[SHA256_HEX];
    COV_TRY(sha256_file(o->cases, hex));
    str_putf(to, "cases.csv %.16s; " TRAINSET_LEFT_OUT "%s", hex, *o->fold ? o->fold : "nobody");
    return to->failed ? COV_FAIL(COV_NOMEM, "no memory for the training's record") : COV_OK;
}

static train_options options_of(training *t, const char *out)
{
    const options *o = t->o;
    train_options to = train_defaults();
    to.ranks = (train_ranks){.rank = world_rank(t->w),
                             .size = world_size(t->w),
                             .sum = reduce_sum,
                             .start = t->on_devices ? reduce_start : NULL,
                             .finish = t->on_devices ? reduce_finish : NULL,
                             .piece = REDUCE_PIECE,
                             .broadcast = reduce_broadcast,
                             .ctx = t->sums};
    to.out = out;
    to.record = str_text(&t->record);
    to.licence = licence;
    to.batch = (int)o->batch;
    to.rate = (float)o->rate;
    to.coarse = (float)o->coarse;
    to.minutes = o->minutes;
    to.steps = o->steps;
    to.checkpoint_minutes = o->checkpoint;
    to.seed = (uint64_t)o->seed;
    to.backend = t->machine.backend;
    to.device = t->machine.device;
    to.precision = t->machine.precision;
    to.stop = asked_to_stop;
    to.report = show;
    to.ctx = &t->show;
    return to;
}

static int talks(const training *t) { return world_rank(t->w) == 0 && !t->o->quiet; }

/* What an earlier stage has learnt from a patient cannot be left out of this one. */
static status check_start(const options *o, const char *start)
{
    char left_out[1024], patient[128];
    weights_file *w = NULL;
    COV_TRY(weights_load(start, &w));
    trainset_left_out(w, left_out, sizeof left_out);
    weights_free(&w);
    for (const char *at = o->fold; *at;) {
        size_t n = strcspn(at, ",");
        snprintf(patient, sizeof patient, "%.*s", (int)(n < sizeof patient ? n : sizeof patient - 1), at);
        if (n > 0 && !trainset_held_out(left_out, patient))
            return COV_FAIL(COV_USAGE, "%s has learnt from the patient '%s' of --fold; it left out: %s", start, patient,
                            *left_out ? left_out : "not recorded");
        at += n + (at[n] == ',');
    }
    return COV_OK;
}

/* ---- lungs */

static status load_lungs(const training *t, lungnet_view view, sampler **out)
{
    status s;
    cases *c = NULL;
    int volumes, slices, patients;
    sampler_options so = sampler_defaults(view);
    so.seed = (uint64_t)t->o->seed;
    COV_GO(sampler_new(&so, out));
    COV_GO(cases_read(t->o->cases, &c));
    COV_GO(trainset_load(c, view, t->o->fold, *out));
    COV_GO(sampler_check(*out, &volumes, &slices, &patients));
    if (talks(t))
        fprintf(stderr, "%s: %d volumes and %d isolated slices of %d patients\n", lungnet_model(view), volumes, slices,
                patients);
done:
    cases_free(&c);
    return s;
}

static status train_lung(training *t, lungnet_view view)
{
    status s;
    sampler *samples = NULL;
    lungtrain lung;
    COV_GO(load_lungs(t, view, &samples));
    lungtrain_of(view, t->o->preset, samples, &lung);
    train_options o = options_of(t, t->o->out);
    if (*t->o->start && *t->o->fold) COV_GO(check_start(t->o, t->o->start));
    o.start = *t->o->start ? t->o->start : NULL;
    o.rows = o.cols = t->o->size;
    COV_GO(train_run(&o, &lung.model));
    if (talks(t)) fprintf(stderr, "%s: done\n", t->o->out);
done:
    sampler_free(&samples);
    return s;
}

/* ---- lesions */

static status load_lesions(training *t, lesionset_options *samples, lesionset **out)
{
    status s;
    cases *c = NULL;
    char text[512];
    lesionset_counts n;
    *samples = lesionset_defaults();
    samples->seed = (uint64_t)t->o->seed;
    samples->period_proxy = t->o->period_proxy;
    samples->healthy = (float)t->o->healthy_share;
    samples->clean = (float)t->o->clean_share;
    COV_GO(lesionset_new(out));
    COV_GO(cases_read(t->o->cases, &c));
    COV_GO(lesionset_load(*out, c, t->o->fold));
    lesionset_count(*out, samples, &n);
    lesionset_describe(samples, text, sizeof text);
    str_putf(&t->record, "; %s", text);
    if (talks(t))
        fprintf(stderr,
                "%d volumes of %d patients, %d isolated slices of %d, %d healthy volumes of %d; %lld slices with "
                "lesion; periods %lld, %lld, %lld, %lld; %s\n",
                n.sources[LESIONSET_VOLUME], n.patients[LESIONSET_VOLUME], n.sources[LESIONSET_ISOLATED],
                n.patients[LESIONSET_ISOLATED], n.sources[LESIONSET_HEALTHY], n.patients[LESIONSET_HEALTHY],
                (long long)n.with_lesion, (long long)n.period[0], (long long)n.period[1], (long long)n.period[2],
                (long long)n.period[3], text);
done:
    cases_free(&c);
    return s;
}

static status train_lesion(training *t, lesionnet_model m, const lesionset *set, const lesionset_options *samples,
                           const char *start, const char *out, double minutes)
{
    lesiontrain lesion;
    const options *o = t->o;
    if (*start && *o->fold) COV_TRY(check_start(o, start));
    COV_TRY(lesiontrain_of(m, o->preset, o->size, (uint64_t)o->seed, set, samples, &lesion));
    train_options to = options_of(t, out);
    to.start = *start ? start : NULL;
    to.minutes = minutes;
    COV_TRY(train_run(&to, &lesion.model));
    if (talks(t)) fprintf(stderr, "%s: done\n", out);
    return COV_OK;
}

/* Shares of the minutes, so that every finished model has cost the same: unet and maskrcnn alone; sp with its spatial
 * stage; st with its spatial and temporal ones. In the order in which one needs the other. */
static const struct {
    lesionnet_model model;
    double share;
} chain[] = {
    {LESIONNET_SPATIAL, 0.25}, {LESIONNET_TEMPORAL, 0.25}, {LESIONNET_ST, 0.5},
    {LESIONNET_SP, 0.75},      {LESIONNET_MASKRCNN, 1.0},  {LESIONNET_UNET, 1.0},
};
enum { CHAIN = sizeof chain / sizeof *chain };

static status model_named(const char *name, lesionnet_model *out)
{
    return lesionnet_named(strcmp(name, "detector") == 0 ? "st" : name, out); /* the chain's detector stage is st's */
}

/* wanted[k]: chain[k] is in the comma-separated list. */
static status parse_models(const char *list, int wanted[CHAIN])
{
    char name[32];
    memset(wanted, 0, CHAIN * sizeof *wanted);
    for (const char *at = list; *at;) {
        size_t n = strcspn(at, ",");
        lesionnet_model m;
        snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), at);
        COV_TRY(model_named(name, &m));
        for (int k = 0; k < CHAIN; k++) wanted[k] |= chain[k].model == m;
        at += n + (at[n] == ',');
    }
    return COV_OK;
}

static status train_chain(training *t, const int wanted[CHAIN], const lesionset *set, const lesionset_options *samples)
{
    double sum = 0.0;
    int stages = 0, stage = 0;
    for (int k = 0; k < CHAIN; k++)
        if (wanted[k]) {
            sum += chain[k].share;
            stages++;
        }
    if (world_rank(t->w) == 0) mkdir(t->o->out, 0777); /* what cannot be written is told when it is */
    for (int k = 0; k < CHAIN; k++) {
        if (!wanted[k]) continue;
        str out = {0}, start = {0};
        int from = lesionnet_starts_from(chain[k].model);
        str_putf(&out, "%s/%s.h5", t->o->out, lesionnet_name(chain[k].model));
        if (from >= 0) str_putf(&start, "%s/%s.h5", t->o->out, lesionnet_name((lesionnet_model)from));
        if (talks(t)) fprintf(stderr, "%s: stage %d of %d\n", lesionnet_name(chain[k].model), ++stage, stages);
        status s = train_lesion(t, chain[k].model, set, samples, str_text(&start), str_text(&out),
                                t->o->minutes * chain[k].share / sum);
        str_free(&out);
        str_free(&start);
        COV_TRY(s);
    }
    return COV_OK;
}

static status train_lesions(training *t, const char *name)
{
    status s;
    lesionset *set = NULL;
    lesionset_options samples;
    lesionnet_model m = LESIONNET_SPATIAL;
    int wanted[CHAIN], all = strcmp(name, "all") == 0;
    if (all) COV_GO(parse_models(t->o->models, wanted));
    else COV_GO(model_named(name, &m));
    COV_GO(load_lesions(t, &samples, &set));
    if (all) COV_GO(train_chain(t, wanted, set, &samples));
    else COV_GO(train_lesion(t, m, set, &samples, t->o->start, t->o->out, t->o->minutes));
done:
    lesionset_free(&set);
    return s;
}

/* ---- the job */

static status check(const options *o, const char *name)
{
    lungnet_view view;
    lesionnet_model m;
    if (lungnet_view_named(name, &view) != COV_OK && strcmp(name, "all") != 0 && model_named(name, &m) != COV_OK)
        return COV_FAIL(COV_USAGE,
                        "train %s: no such model: lung-axial, lung-sagittal, spatial, temporal, detector (or st), sp, "
                        "maskrcnn, unet, or all",
                        name);
    if (!*o->cases) return COV_FAIL(COV_USAGE, "train needs --cases FILE");
    if (!*o->out) return COV_FAIL(COV_USAGE, "train needs --out FILE (all: a folder)");
    if (o->minutes <= 0 && o->steps <= 0) return COV_FAIL(COV_USAGE, "train needs --minutes M or --steps N");
    return COV_OK;
}

static status train_open_and_run(const options *o, world *w)
{
    status s;
    lungnet_view view;
    training t = {.o = o, .w = w, .show = {.o = o, .w = w}};
    COV_GO(setup_open(o, &t.machine));
    COV_GO(record_of(o, &t.record));
    COV_GO(reduce_new(w, 0, &t.sums));
    COV_GO(reduce_use_device(t.sums, t.machine.backend, t.machine.device, &t.on_devices));
    if (lungnet_view_named(o->words[0], &view) == COV_OK) COV_GO(train_lung(&t, view));
    else COV_GO(train_lesions(&t, o->words[0]));
done:
    reduce_free(&t.sums);
    setup_close(&t.machine);
    str_free(&t.record);
    return s;
}

int train_job(const options *o)
{
    world *w = NULL;
    status s = check(o, o->words[0]);
    if (s == COV_OK) s = world_open(&(world_options){0}, &w);
    if (s != COV_OK) return jobs_fail(s);
    s = train_open_and_run(o, w);
    int rank = world_rank(w), code = s == COV_OK ? EXIT_OK : EXIT_FAILED;
    if (s != COV_OK && (s != COV_STOPPED || rank == 0)) code = jobs_fail(s);
    if (s == COV_STOPPED) code = EXIT_RESUME;
    if (s != COV_OK && s != COV_STOPPED && s != COV_USAGE && world_size(w) > 1)
        world_abort(w, code); /* the others may wait in a sum */
    world_close(&w);
    return code;
}
