/* screen: the main job. Fork the spawner, start MPI, walk (rank 0), run the farm, gather, say what became of everything. What
 * every rank must do together is one straight line in run(); what only rank 0 knows is in struct plan. */
#include "data/archive.h"
#include "data/metadata.h"
#include "data/weights.h"
#include "jobs/journal.h"
#include "jobs/jobs.h"
#include "jobs/screen.h"
#include "mpi/claim.h"
#include "mpi/farm.h"
#include "mpi/gather.h"
#include "mpi/progress.h"
#include "mpi/reduce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_ROOM = 4096 };

/* Rank 0's. */
typedef struct plan {
    archive *archive;
    char *paths;         /* owned; absolute paths of all studies, one after the other */
    farm_study *studies; /* owned */
    int64_t count;       /* of studies: the archive's, or a shard's */
    claim *claim;
    metadata *metadata;
    char root[PATH_ROOM], failures[PATH_ROOM];
} plan;

typedef struct run_state {
    const options *o;
    screen_context context;
    journal journal;
    world *world;
    spawner *spawner;
    plan plan;
    char parts[PATH_ROOM], settled[32];
    int shard, shards;   /* 1..shards; 0 of 0: the whole archive */
    char shard_name[32]; /* "3-of-8" */
    part_key key;
    farm_report report;
} run_state;

static void plan_free(plan *p)
{
    claim_close(&p->claim);
    archive_free(&p->archive);
    metadata_free(&p->metadata);
    free(p->studies);
    free(p->paths);
}

/* Every rank must be able to do what rank 0 settles on: a GPU only where all have one. Collective. */
static status settle_device(run_state *r, reduce *sum)
{
    pipeline_options *p = &r->context.pipeline;
    options o = *r->o;
    float able = strcmp(p->backend->name, "cuda") == 0;
    int ranks = world_size(r->world);
    COV_TRY(reduce_sum(sum, &able, 1));
    if ((int)able == ranks || strcmp(p->backend->name, "cuda") != 0) return COV_OK;
    if (world_rank(r->world) == 0) journal_note(&r->journal, "only %d of %d ranks have a GPU: all compute on the CPU", (int)able, ranks);
    o.device = "cpu"; /* --device cuda would have ended a rank that has none */
    return setup_probe(&o, &p->backend, &p->precision);
}

/* The same for bf16. Collective. */
static status settle(run_state *r)
{
    reduce *sum = NULL;
    float able;
    status s;
    COV_GO(reduce_new(r->world, 0, &sum));
    COV_GO(settle_device(r, sum));
    able = r->context.pipeline.precision == NET_BF16;
    COV_GO(reduce_sum(sum, &able, 1));
    if ((int)able < world_size(r->world)) {
        if (strcmp(r->o->precision, "bf16") == 0 && able > 0) { s = COV_FAIL(COV_USAGE, "--precision bf16: only %d of %d ranks have it", (int)able, world_size(r->world)); goto done; }
        r->context.pipeline.precision = NET_FP32;
    }
    screen_settled(&r->context.pipeline, r->settled, sizeof r->settled);
done:
    reduce_free(&sum);
    return s;
}

static status weights_digest(const screen_context *c, char hex[SHA256_HEX])
{
    weights_file *w = NULL;
    str all = {0};
    status s = COV_OK;
    const char *paths[] = {c->pipeline.lung_axial_path, c->pipeline.use_sagittal ? c->pipeline.lung_sagittal_path : NULL,
                           c->pipeline.lesion_path};
    for (size_t k = 0; k < sizeof paths / sizeof paths[0]; k++) {
        if (!paths[k]) continue;
        COV_GO(weights_load(paths[k], &w));
        str_put(&all, w->sha256);
        weights_free(&w);
    }
    COV_GO(sha256_bytes(str_text(&all), all.length, hex));
done:
    weights_free(&w);
    str_free(&all);
    return s;
}

static status make_key(run_state *r)
{
    str text = {0};
    options o = *r->o;
    o.lung_axial = o.lung_sagittal = o.lesion = o.model = o.device = o.precision = ""; /* their content is in the key by itself */
    options_key(&o, &text);
    part_key_init(&r->key);
    snprintf(r->key.backend, sizeof r->key.backend, "%s", r->context.pipeline.backend->name);
    snprintf(r->key.precision, sizeof r->key.precision, "%s", r->context.pipeline.precision == NET_BF16 ? "bf16" : "fp32");
    status s = sha256_bytes(str_text(&text), text.length, r->key.options_sha256);
    str_free(&text);
    COV_TRY(s);
    return weights_digest(&r->context, r->key.weights_sha256);
}

/* A study stays in its shard whatever else comes and goes. */
static status in_shard(const run_state *r, const char *path, int *in)
{
    char hex[SHA256_HEX];
    *in = 1;
    if (!r->shards) return COV_OK;
    COV_TRY(sha256_bytes(path, strlen(path), hex));
    hex[8] = 0;
    *in = (int)(strtoul(hex, NULL, 16) % (unsigned long)r->shards) + 1 == r->shard;
    return COV_OK;
}

static status walk(run_state *r)
{
    const options *o = r->o;
    plan *p = &r->plan;
    archive_options walk = {.include = o->include.items, .include_count = o->include.count, .exclude = o->exclude.items,
                            .exclude_count = o->exclude.count, .list = *o->list ? o->list : NULL, .id_key = *o->id_key ? o->id_key : NULL};
    COV_TRY(archive_walk(o->archive, &walk, &p->archive));
    const archive *a = p->archive;
    size_t bytes = 1, used = 0;
    for (int64_t k = 0; k < a->count; k++) bytes += strlen(a->root) + strlen(a->entries[k].path) + 2;
    p->paths = malloc(bytes);
    p->studies = calloc((size_t)a->count + 1, sizeof *p->studies);
    if (!p->paths || !p->studies) return COV_FAIL(COV_NOMEM, "no memory for %lld studies", (long long)a->count);
    for (int64_t k = 0; k < a->count; k++) {
        const archive_entry *e = &a->entries[k];
        int mine;
        COV_TRY(in_shard(r, e->path, &mine));
        if (!mine) continue;
        COV_TRY(archive_full_path(a, e, p->paths + used, bytes - used));
        p->studies[p->count++] = (farm_study){.path_abs = p->paths + used, .path_rel = e->path, .id = e->id, .format = e->format,
                                     .bytes = e->bytes, .mtime_ns = e->mtime_ns, .stamp = e->stamp};
        used += strlen(p->paths + used) + 1;
    }
    if (!realpath(a->root, p->root)) snprintf(p->root, sizeof p->root, "%s", a->root);
    if (a->errors) journal_note(&r->journal, "%lld places could not be read:\n%s", (long long)a->errors, a->error_text);
    journal_note(&r->journal, "%s: %lld studies, %lld other files ignored", a->root, (long long)a->count, (long long)a->ignored + (long long)a->special);
    if (r->shards) journal_note(&r->journal, "shard %d of %d: %lld of them", r->shard, r->shards, (long long)p->count);
    return COV_OK;
}

/* Rank 0, before the farm: everything that can be wrong with the command is found here, before any work. */
static status prepare(run_state *r)
{
    const options *o = r->o;
    COV_TRY(make_key(r));
    COV_TRY(walk(r));
    if (!r->context.pipeline.lesion_path && strcmp(o->model, "none") != 0)
        journal_note(&r->journal, "no lesion weights of preset %s are installed: lungs only (covpipe doctor shows where they are looked for)", o->preset);
    if (*o->metadata) COV_TRY(metadata_read(o->metadata, &r->plan.metadata));
    if (!o->dry_run && r->plan.count) COV_TRY(claim_open(r->parts, r->plan.root, r->shards ? r->shard_name : NULL, &r->plan.claim));
    return COV_OK;
}

static farm_options farm_options_of(run_state *r)
{
    const options *o = r->o;
    return (farm_options){.parts_dir = r->parts, .studies = r->plan.studies, .study_count = r->plan.count,
                          .key = &r->key, .settled = r->settled, .claim = r->plan.claim, .dry_run = o->dry_run, .verify = o->verify,
                          .unit_slices = (int)o->unit_slices, .split_slices = r->context.pipeline.lesion_path ? (int)o->split : -1, .progress = journal_progress, .event = journal_event, .context = &r->journal,
                          .read_ahead = (int)o->read_ahead, .volume_bytes = r->context.volume_bytes, .timeout_seconds = o->timeout,
                          .grace_seconds = o->grace};
}

static void print_plan(const run_state *r)
{
    const farm_report *f = &r->report;
    int64_t slices = 0, readable = 0;
    printf("%-48s %-16s %8s  %s\n", "study", "size", "slices", "plan");
    for (int64_t k = 0; k < f->study_count; k++) {
        const farm_outcome *s = &f->outcomes[k];
        char size[48] = "", path[49];
        str_shown(path, sizeof path, r->plan.studies[k].path_rel);
        if (s->slices) snprintf(size, sizeof size, "%dx%dx%d", s->cols, s->rows, s->slices);
        printf("%-48s %-16s %8d  %s%s\n", path, size, s->slices, s->kept ? "kept: " : "", s->settled ? *reason_code(s->reason) ? reason_code(s->reason) : "done" : "screen");
        if (!s->settled) { slices += s->slices; readable++; }
    }
    printf("%lld studies found; to screen: %lld studies, %lld slices, in %lld units, about %.0f s on %d rank(s)\n", (long long)f->study_count,
           (long long)readable, (long long)slices, (long long)f->units, f->estimate_seconds, world_size(r->world));
}

/* ---- gather */

typedef struct columns { /* metadata, in the order of the parts */
    cohort_extra *extras;
    const char **cells;
    int count;
} columns;

static status join_metadata(const run_state *r, const int64_t *studies, int64_t count, columns *c)
{
    const metadata *m = r->plan.metadata;
    c->count = m ? metadata_columns(m) : 0;
    if (!c->count) return COV_OK;
    c->extras = calloc((size_t)c->count, sizeof *c->extras);
    c->cells = calloc((size_t)(c->count * count + 1), sizeof *c->cells);
    if (!c->extras || !c->cells) return COV_FAIL(COV_NOMEM, "no memory to join %d columns", c->count);
    for (int i = 0; i < c->count; i++) {
        const char **cells = c->cells + i * count;
        for (int64_t k = 0; k < count; k++) {
            const farm_study *s = &r->plan.studies[studies[k]];
            cells[k] = metadata_get(m, metadata_find(m, s->id, s->path_rel), i);
        }
        c->extras[i] = (cohort_extra){.name = metadata_name(m, i), .long_name = "joined by --metadata", .values = cells};
    }
    return COV_OK;
}

static int exit_code(const run_state *r)
{
    const farm_progress *t = &r->report.totals;
    if (r->report.stopped) return EXIT_RESUME;
    const archive *a = r->plan.archive;
    int unreadable = a && a->unreadable; /* studies may be missing */
    if (t->found == 0 && !unreadable) return r->shards && a && a->count ? EXIT_OK : EXIT_NOTHING;
    return unreadable || t->failed || (r->o->strict && t->skipped) ? EXIT_STUDIES : EXIT_OK;
}

/* What `covpipe status` shows once the farm is done. A courtesy: the run does not fail for it. */
static void tell_phase(const run_state *r, const char *phase)
{
    farm_progress p = r->report.totals;
    p.phase = phase;
    if (r->plan.claim && progress_write(claim_folder(r->plan.claim), &p, world_size(r->world)) != COV_OK) status_clear();
}

static status gather(run_state *r)
{
    plan *p = &r->plan;
    gather_list list = {0};
    columns c = {0};
    cohort_totals totals;
    str command = {0}, key = {0};
    status s = COV_OK;
    int first = world_rank(r->world) == 0;
    double started = world_now();
    options_command(r->o, &command);
    options_key(r->o, &key);
    if (first) tell_phase(r, "gather");
    const cohort_attribute attributes[] = {
        {"archive", p->root}, {"command_line", str_text(&command)}, {"options", str_text(&key)}, {"model", r->context.paths.model}, {"preset", r->o->preset},
        {"weights_sha256", r->key.weights_sha256}, {"backend", r->settled},
    };
    if (first) COV_GO(gather_list_of(r->parts, p->studies, &r->report, &list));
    if (first) COV_GO(join_metadata(r, list.studies, list.count, &c));
    COV_GO(gather_run(r->world, &(gather_options){.out = r->o->out, .list = &list, .attribute_count = sizeof attributes / sizeof attributes[0],
                                                  .attributes = attributes, .extra_count = c.count, .extras = c.extras,
                                                  .complete = r->report.totals.open == 0 && !(p->archive && p->archive->unreadable)}, &totals));
    if (first) journal_note(&r->journal, "%s: %lld studies, %.1f MiB, gathered in %.1f s", r->o->out, (long long)totals.studies, (double)totals.file_bytes / (1 << 20), world_now() - started);
done:
    free(c.extras);
    free(c.cells);
    gather_list_free(&list);
    str_free(&command);
    str_free(&key);
    return s;
}

/* A drained run gathers only if that fits into what is left of the grace time: 50 studies a second is slow for it. */
static int time_to_gather(const run_state *r)
{
    return !r->report.stopped || r->report.grace_left > 2 + (double)r->report.totals.found / 50;
}

static status report(run_state *r, double started)
{
    plan *p = &r->plan;
    journal_summary(&r->journal, &r->report, world_now() - started);
    const farm_progress *t = &r->report.totals;
    if (!r->shards) COV_TRY(journal_failures(p->failures, p->studies, &r->report));
    else journal_note(&r->journal, "when all shards have run, the same command without --shard gathers them into %s", r->o->out);
    if (!r->shards && t->skipped + t->failed) journal_note(&r->journal, "what was skipped or failed, and why: %s (--list takes it back)", p->failures);
    if (r->report.stopped) journal_note(&r->journal, "stopped by a signal; the same command goes on where it was");
    tell_phase(r, r->report.stopped ? "stopped" : "finished");
    if (t->found && !t->open) claim_settle(p->claim);
    return COV_OK;
}

/* Every rank must learn of rank 0's failure before the first collective call. Collective. */
static status agree(run_state *r, status mine)
{
    reduce *sum = NULL;
    float failed = mine != COV_OK;
    status s;
    COV_GO(reduce_new(r->world, 0, &sum));
    COV_GO(reduce_sum(sum, &failed, 1));
    if (failed > 0 && mine == COV_OK) s = COV_STOPPED; /* rank 0 has the message */
done:
    reduce_free(&sum);
    return mine != COV_OK ? mine : s;
}

static status run(run_state *r, int *code)
{
    double started = world_now();
    int first = world_rank(r->world) == 0;
    COV_TRY(settle(r));
    COV_TRY(agree(r, first ? prepare(r) : COV_OK));
    farm_options f = farm_options_of(r);
    status s = farm_run(r->world, r->spawner, &f, &r->report);
    if (s != COV_OK) {
        if (r->report.speaker) jobs_fail(s);
        world_abort(r->world, s == COV_STOPPED ? EXIT_RESUME : EXIT_FAILED);
    }
    /* Everybody needs to know what only rank 0 counted: is there anything to gather, and what is the exit code? */
    reduce *sum = NULL;
    float told[2] = {0, 0};
    if (first) told[0] = (float)exit_code(r), told[1] = !r->o->dry_run && !r->shards && r->report.totals.found > r->report.totals.open && time_to_gather(r);
    COV_TRY(reduce_new(r->world, 0, &sum));
    s = reduce_broadcast(sum, told, sizeof told);
    reduce_free(&sum);
    COV_TRY(s);
    *code = (int)told[0];
    if (told[1] > 0) s = gather(r);
    if (s != COV_OK) world_abort(r->world, jobs_fail(s)); /* HDF5 may hold a file that it could not close: MPI_Finalize would crash or hang in it */
    if (!first) return COV_OK;
    if (r->o->dry_run) { print_plan(r); return COV_OK; }
    return report(r, started);
}

/* "3/8" */
static status parse_shard(run_state *r, const char *text)
{
    char rest;
    if (!*text) return COV_OK;
    if (sscanf(text, "%d/%d%c", &r->shard, &r->shards, &rest) != 2 || r->shard < 1 || r->shard > r->shards || r->shards > 1000000)
        return COV_FAIL(COV_USAGE, "--shard %s: expected I/N, such as 3/8 for the third of eight", text);
    snprintf(r->shard_name, sizeof r->shard_name, "%d-of-%d", r->shard, r->shards);
    return COV_OK;
}

/* "cohort.h5" -> "cohort.h5.parts", "cohort-failures.csv" */
static status names(run_state *r, options *o)
{
    if (!*o->archive) return COV_FAIL(COV_USAGE, "which archive? Type: covpipe --archive DIR (covpipe --help shows more)");
    if (!*o->out) o->out = "cohort.h5";
    size_t stem = strlen(o->out) - (str_ends_with(o->out, ".h5") ? 3 : 0);
    if ((size_t)snprintf(r->parts, sizeof r->parts, "%s.parts", o->out) >= sizeof r->parts ||
        (size_t)snprintf(r->plan.failures, sizeof r->plan.failures, "%.*s-failures.csv", (int)stem, o->out) >= sizeof r->plan.failures)
        return COV_FAIL(COV_USAGE, "--out %.100s...: the path is too long", o->out);
    struct stat st;
    if (stat(o->out, &st) == 0 && S_ISDIR(st.st_mode)) return COV_FAIL(COV_USAGE, "--out %s is a folder; expected a file name such as %s/cohort.h5", o->out, o->out);
    if (o->read_ahead < 1 || o->read_ahead > 64) return COV_FAIL(COV_USAGE, "--read-ahead %lld: expected 1 to 64", o->read_ahead);
    if (!(o->max_gib > 0 && o->max_gib <= 1024)) return COV_FAIL(COV_USAGE, "--max-gib %g: expected more than 0, at most 1024", o->max_gib);
    if (o->grace < 0 || o->timeout < 0 || o->unit_slices < 0 || o->unit_slices > 1000000) return COV_FAIL(COV_USAGE, "--grace, --timeout and --unit-slices are 0 or more");
    if (o->split < -1 || o->split > 1000000) return COV_FAIL(COV_USAGE, "--split %lld: expected -1, 0 or a number of slices", o->split);
    r->context.volume_bytes = (int64_t)(o->max_gib * (1 << 30));
    return COV_OK;
}

int screen_job(const options *given)
{
    options o = *given;
    run_state *r = calloc(1, sizeof *r);
    status s = COV_OK;
    int code = EXIT_OK;
    if (!r) return jobs_fail(COV_FAIL(COV_NOMEM, "no memory to start"));
    r->o = r->context.options = &o;
    r->journal = journal_of(&o);
    farm_calls calls = screen_calls(&r->context);
    COV_GO(names(r, &o));
    COV_GO(parse_shard(r, o.shard));
    COV_GO(setup_pipeline(&o, &r->context.paths, &r->context.pipeline));
    COV_GO(setup_probe(&o, &r->context.pipeline.backend, &r->context.pipeline.precision));
    COV_GO(spawn_start(&calls, &(spawn_options){0}, &r->spawner));
    COV_GO(world_open(&(world_options){0}, &r->world));
    COV_GO(run(r, &code));
done:
    if (s != COV_OK && *status_message()) code = jobs_fail(s);
    else if (s != COV_OK) code = EXIT_FAILED;
    plan_free(&r->plan);
    farm_report_free(&r->report);
    world_close(&r->world);
    spawn_stop(&r->spawner);
    free(r);
    return code;
}
