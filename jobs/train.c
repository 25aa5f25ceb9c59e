/* train: `covpipe train MODEL`: annotated cases into a sampler, one rank or many, the loss lines. Runs in the ranks
 * themselves, without children. */
#include "base/sha256.h"
#include "jobs/jobs.h"
#include "jobs/setup.h"
#include "mpi/reduce.h"
#include "stages/lungtrain.h"
#include "stages/trainset.h"

#include <stdio.h>
#include <string.h>

static const char licence[] =
    "Research use only. Trained on images of which some are licensed for non-commercial or research use; see the model card "
    "(docs/MODELS.md). Not for clinical use.";

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
        str_putf(&line, "{\"event\":\"step\",\"step\":%lld,\"steps\":%lld,\"loss\":%.5f", (long long)r->step, (long long)r->steps, (double)r->loss);
        for (int k = 0; k < r->losses; k++) str_putf(&line, ",\"%s\":%.5f", r->name[k], (double)r->part[k]);
        str_putf(&line, ",\"rate\":%.3g,\"norm\":%.4g,\"seconds\":%.1f,\"samples_per_s\":%.2f}", (double)r->rate, (double)r->norm,
                 r->seconds, r->samples_per_s);
    } else {
        str_putf(&line, "step %6lld of %lld  loss %.4f (", (long long)r->step, (long long)r->steps, (double)r->loss);
        for (int k = 0; k < r->losses; k++) str_putf(&line, "%s%s %.4f", k ? ", " : "", r->name[k], (double)r->part[k]);
        str_putf(&line, ")  rate %.2e  norm %.2f  %.1f samples/s  %.0f s%s", (double)r->rate, (double)r->norm, r->samples_per_s,
                 r->seconds, r->resumed ? "  (resumed)" : "");
    }
    fprintf(stderr, "%s\n", str_text(&line));
    str_free(&line);
}

static int asked_to_stop(void *ctx)
{
    const train_show *at = ctx;
    return world_signals(at->w) > 0;
}

/* What the weights' record says, and what must agree when a training is resumed: the cases, who was left out. */
static status record_of(const options *o, str *to)
{
    char hex[SHA256_HEX];
    COV_TRY(sha256_file(o->cases, hex));
    str_putf(to, "cases.csv %.16s; left out: %s", hex, *o->fold ? o->fold : "nobody");
    return to->failed ? COV_FAIL(COV_NOMEM, "no memory for the training's record") : COV_OK;
}

static status load(const options *o, lungnet_view view, int rank, sampler **out)
{
    status s;
    cases *c = NULL;
    int volumes, slices, patients;
    sampler_options so = sampler_defaults(view);
    so.seed = (uint64_t)o->seed;
    COV_GO(sampler_new(&so, out));
    COV_GO(cases_read(o->cases, &c));
    COV_GO(trainset_load(c, view, o->fold, *out));
    COV_GO(sampler_check(*out, &volumes, &slices, &patients));
    if (rank == 0 && !o->quiet)
        fprintf(stderr, "%s: %d volumes and %d isolated slices of %d patients\n", lungnet_model(view), volumes, slices, patients);
done:
    cases_free(&c);
    return s;
}

static status check(const options *o)
{
    if (!*o->cases) return COV_FAIL(COV_USAGE, "train needs --cases FILE");
    if (!*o->out) return COV_FAIL(COV_USAGE, "train needs --out FILE");
    if (o->minutes <= 0 && o->steps <= 0) return COV_FAIL(COV_USAGE, "train needs --minutes M or --steps N");
    return COV_OK;
}

static status train_run_job(const options *o, world *w, lungnet_view view)
{
    status s;
    sampler *samples = NULL;
    reduce *sums = NULL;
    setup machine = {0};
    str record = {0};
    train_show at = {.o = o, .w = w};
    train_options t = train_defaults();
    lungtrain lung;
    COV_GO(setup_open(o, &machine));
    COV_GO(load(o, view, world_rank(w), &samples));
    COV_GO(record_of(o, &record));
    COV_GO(reduce_new(w, 0, &sums));
    t.ranks = (train_ranks){.rank = world_rank(w), .size = world_size(w), .sum = reduce_sum, .broadcast = reduce_broadcast, .ctx = sums};
    t.out = o->out;
    t.record = str_text(&record);
    t.licence = licence;
    t.batch = (int)o->batch;
    t.rate = (float)o->rate;
    t.minutes = o->minutes;
    t.steps = o->steps;
    t.checkpoint_minutes = o->checkpoint;
    t.seed = (uint64_t)o->seed;
    t.backend = machine.backend;
    t.device = machine.device;
    t.precision = machine.precision;
    t.stop = asked_to_stop;
    t.report = show;
    t.ctx = &at;
    lungtrain_of(view, o->preset, samples, &lung);
    COV_GO(train_run(&t, &lung.model));
    if (world_rank(w) == 0 && !o->quiet) fprintf(stderr, "%s: done\n", o->out);
done:
    reduce_free(&sums);
    sampler_free(&samples);
    setup_close(&machine);
    str_free(&record);
    return s;
}

int train_job(const options *o)
{
    lungnet_view view;
    world *w = NULL;
    status s = lungnet_view_named(o->words[0], &view);
    if (s == COV_OK) s = check(o);
    if (s == COV_OK) s = world_open(&(world_options){0}, &w);
    if (s != COV_OK) return jobs_fail(s);
    s = train_run_job(o, w, view);
    int rank = world_rank(w), code = s == COV_OK ? EXIT_OK : EXIT_FAILED;
    if (s != COV_OK && (s != COV_STOPPED || rank == 0)) code = jobs_fail(s);
    if (s == COV_STOPPED) code = EXIT_RESUME;
    if (s != COV_OK && s != COV_STOPPED && s != COV_USAGE && world_size(w) > 1) world_abort(w, code); /* the others may wait in a sum */
    world_close(&w);
    return code;
}
