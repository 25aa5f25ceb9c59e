/* train: see train.h. The state of a training is one struct; the functions below are, in order: what decides the result,
 * checkpoints, one step, the clock, the loop. */
#include "stages/train.h"
#include "stages/lungio.h"
#include "stages/netio.h"
#include "stages/prefetch.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 4096, PATH_ROOM = 4096, CURVE_POINTS = 200 };
enum { SUM_BCE, SUM_DICE, SUM_STOP, SUMS }; /* what travels behind the gradients */
#define REPORT_SECONDS 5.0

typedef struct training {
    train_options o;
    const sampler *samples;
    net *n;
    lungnet graph;
    optim *op;
    optim_options schedule;
    prefetch *ahead;   /* NULL: this rank has no group */
    int compiled, coarse; /* for half-size samples or full ones */
    int groups, mine;  /* of a step, in all and this rank's */
    int64_t step, steps;
    float *grads, *values; /* the net's, on the device */
    size_t count;
    float *total;      /* device: the gradients of this rank's earlier groups */
    float *host;       /* count + SUMS: what is summed over ranks */
    float *curve;      /* loss of every step so far; room for `steps` */
    char text[TEXT], checkpoint[PATH_ROOM];
    int resumed;
} training;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- what decides the result */

train_options train_defaults(lungnet_view view)
{
    return (train_options){.view = view, .preset = "compact", .record = "", .coarse = -1.0f, .checkpoint_minutes = 5.0,
                           .seed = 1, .ranks = {.size = 1}};
}

static void fill_in(train_options *o)
{
    int axial = o->view == LUNGNET_AXIAL;
    if (o->rows == 0) o->rows = axial ? 512 : 256;
    if (o->cols == 0) o->cols = axial ? 512 : 256;
    if (o->batch == 0) o->batch = 4;
    if (o->micro == 0) o->micro = 1;
    if (o->coarse < 0.0f) o->coarse = axial ? 0.6f : 0.0f;
    if (o->rate <= 0.0f) o->rate = 4e-3f;
}

static status check(const train_options *o)
{
    if (o->batch < 1 || o->micro < 1 || o->batch % o->micro)
        return COV_FAIL(COV_USAGE, "a batch of %d does not divide into groups of %d", o->batch, o->micro);
    if (!(o->coarse <= 1.0f) || (o->coarse > 0.0f && (o->rows % (2 * LUNGNET_STRIDE) || o->cols % (2 * LUNGNET_STRIDE))))
        return COV_FAIL(COV_USAGE, "a coarse share of %g of an input of %lld x %lld cannot be trained", (double)o->coarse,
                        (long long)o->rows, (long long)o->cols);
    if ((o->steps > 0) == (o->minutes > 0.0))
        return COV_FAIL(COV_USAGE, "a training needs a length: minutes or steps, and not both");
    if (!o->out || !*o->out || strlen(o->out) + 16 > PATH_ROOM) return COV_FAIL(COV_USAGE, "a training needs a file to write");
    return COV_OK;
}

void train_describe(const train_options *options, char *to, size_t room)
{
    train_options o = *options;
    fill_in(&o);
    snprintf(to, room, "model %s; preset %s; input %lld x %lld, %g of the steps at half; batch %d in groups of %d; AdamW rate %g; seed %llu; %s; length %g min %lld steps; %s",
             lungnet_model(o.view), o.preset, (long long)o.rows, (long long)o.cols, (double)o.coarse,
             o.batch, o.micro, (double)o.rate,
             (unsigned long long)o.seed, o.precision == NET_BF16 ? "bf16" : "fp32", o.minutes, (long long)o.steps, o.record);
}

/* ---- checkpoints */

static status curve_text(const training *t, weights_file *w)
{
    char text[CURVE_POINTS * 24] = "";
    size_t at = 0;
    int64_t points = t->step < CURVE_POINTS ? t->step : CURVE_POINTS;
    for (int64_t k = 0; k < points; k++) {
        int64_t a = k * t->step / points, b = (k + 1) * t->step / points;
        double sum = 0.0;
        for (int64_t i = a; i < b; i++) sum += (double)t->curve[i];
        at += (size_t)snprintf(text + at, sizeof text - at, "%lld %.4f\n", (long long)b, sum / (double)(b - a));
    }
    return weights_put_text(w, "loss_curve", text);
}

static status save(training *t, const char *path, int complete)
{
    status s;
    weights_file *w = NULL;
    float *moments = NULL;
    COV_GO(weights_new(lungnet_model(t->o.view), t->o.preset, &w));
    w->store = complete ? WEIGHTS_BF16 : WEIGHTS_F32;
    COV_GO(netio_save(t->n, w));
    COV_GO(weights_put_text(w, "training", t->text));
    if (t->o.licence) COV_GO(weights_put_text(w, "licence", t->o.licence));
    COV_GO(curve_text(t, w));
    if (!complete) {
        int64_t numbers[2] = {t->step, t->steps};
        moments = malloc(2 * t->count * sizeof *moments);
        if (!moments) COV_GO(COV_FAIL(COV_NOMEM, "no memory for a checkpoint of %zu parameters", t->count));
        COV_GO(optim_get(t->op, moments, moments + t->count));
        COV_GO(weights_put_array(w, "m", WEIGHTS_ARRAY_F32, (int64_t)t->count, moments));
        COV_GO(weights_put_array(w, "v", WEIGHTS_ARRAY_F32, (int64_t)t->count, moments + t->count));
        COV_GO(weights_put_array(w, "losses", WEIGHTS_ARRAY_F32, t->step, t->curve));
        COV_GO(weights_put_array(w, "step_and_steps", WEIGHTS_ARRAY_I64, 2, numbers));
        w->step = t->step;
    }
    COV_GO(weights_save(path, w));
done:
    free(moments);
    weights_free(&w);
    return s;
}

/* Only rank 0 touches the disk; the others learn how it went. */
static status save_on_rank_0(training *t, const char *path, int complete)
{
    int failed = 0;
    status s = COV_OK;
    if (t->o.ranks.rank == 0) {
        s = save(t, path, complete);
        if (s == COV_OK && complete) unlink(t->checkpoint); /* a left-over one would only be read again */
        failed = s != COV_OK;
    }
    if (t->o.ranks.size > 1) COV_TRY(t->o.ranks.broadcast(t->o.ranks.ctx, &failed, sizeof failed));
    if (failed && s == COV_OK) s = COV_FAIL(COV_IO, "rank 0 could not write %s", path);
    return s;
}

static status same_training(const training *t, const weights_file *w, const char *path)
{
    const char *text = weights_find_text(w, "training");
    if (text && strcmp(text, t->text) == 0) return COV_OK;
    return COV_FAIL(COV_USAGE, "%s is of another training (%s); this one is (%s): remove it or write elsewhere", path,
                    text ? text : "no record", t->text);
}

static const void *array_of(const weights_file *w, const char *name, weights_type type, int64_t count)
{
    const weights_array *a = weights_find_array(w, name);
    return a && a->type == type && a->count == count ? a->data : NULL;
}

/* Number of steps done and in all, and the parameters, into t->host = [values | m | v]. */
static status load_numbers(training *t, weights_file *w, int64_t numbers[2], float *m, float *v)
{
    const int64_t *n = array_of(w, "step_and_steps", WEIGHTS_ARRAY_I64, 2);
    const float *from_m = array_of(w, "m", WEIGHTS_ARRAY_F32, (int64_t)t->count);
    const float *from_v = array_of(w, "v", WEIGHTS_ARRAY_F32, (int64_t)t->count);
    if (!n || !from_m || !from_v || n[0] < 0 || n[1] < n[0])
        return COV_FAIL(COV_FORMAT, "%s is no checkpoint of this network", t->checkpoint);
    const float *losses = array_of(w, "losses", WEIGHTS_ARRAY_F32, n[0]);
    if (!losses) return COV_FAIL(COV_FORMAT, "%s lacks its loss curve", t->checkpoint);
    t->curve = malloc((size_t)(n[1] + 1) * sizeof *t->curve);
    if (!t->curve) return COV_FAIL(COV_NOMEM, "no memory for %lld steps", (long long)n[1]);
    memcpy(t->curve, losses, (size_t)n[0] * sizeof *losses);
    memcpy(numbers, n, 2 * sizeof *n);
    memcpy(m, from_m, t->count * sizeof *m);
    memcpy(v, from_v, t->count * sizeof *v);
    return netio_load(w, t->n);
}

static status make_optimiser(training *t)
{
    t->schedule = optim_defaults(1);
    t->schedule.rate = t->o.rate;
    t->schedule.clip = 1.0f;
    t->schedule.schedule = OPTIM_COSINE;
    t->schedule.steps = t->steps;
    t->schedule.warmup = t->steps / 20 < 50 ? t->steps / 20 : 50;
    return optim_new(t->n, &t->schedule, &t->op);
}

/* Rank 0 reads the checkpoint if there is one; every rank ends with its parameters, moments and step. */
static status resume(training *t)
{
    status s = COV_OK, found = COV_OK;
    const train_ranks *r = &t->o.ranks;
    const backend *b = t->o.backend;
    int64_t numbers[3] = {0, 0, 0}; /* step, steps, and 1 if there is something to resume, -1 after an error */
    weights_file *w = NULL;
    float *m = malloc(3 * t->count * sizeof *m), *v = m + t->count, *values = v + t->count;
    if (!m) COV_GO(COV_FAIL(COV_NOMEM, "no memory to resume a training"));
    if (r->rank == 0 && access(t->checkpoint, F_OK) == 0) {
        found = weights_load(t->checkpoint, &w);
        if (found == COV_OK) found = same_training(t, w, t->checkpoint);
        if (found == COV_OK) found = load_numbers(t, w, numbers, m, v);
        numbers[2] = found == COV_OK ? 1 : -1;
    }
    if (r->size > 1) COV_GO(r->broadcast(r->ctx, numbers, sizeof numbers));
    if (numbers[2] < 0) COV_GO(found != COV_OK ? found : COV_FAIL(COV_IO, "rank 0 could not read %s", t->checkpoint));
    if (numbers[2] == 0) goto done;
    if (r->size > 1) {
        if (r->rank == 0) COV_GO(b->download(t->o.device, values, t->values, t->count * sizeof *values));
        COV_GO(r->broadcast(r->ctx, m, 3 * t->count * sizeof *m));
        COV_GO(b->upload(t->o.device, t->values, values, t->count * sizeof *values));
        net_touch(t->n);
    }
    t->step = numbers[0];
    t->steps = numbers[1];
    t->resumed = 1;
    COV_GO(make_optimiser(t));
    COV_GO(optim_set(t->op, t->step, m, v));
done:
    free(m);
    weights_free(&w);
    return s;
}

/* ---- one step */

static int is_coarse(const training *t, int64_t step)
{
    return step < (int64_t)((double)t->o.coarse * (double)t->steps);
}

/* Plans the network for coarse or full samples; parameters and moments stay. */
static status set_size(training *t, int coarse)
{
    if (t->compiled && t->coarse == coarse) return COV_OK;
    const train_options *o = &t->o;
    tensor_shape shape = tensor_shape_of(o->micro, o->rows >> coarse, o->cols >> coarse, 1, TENSOR_F32);
    COV_TRY(net_reshape(t->n, t->graph.image, shape));
    COV_TRY(net_reshape(t->n, t->graph.target, shape));
    COV_TRY(net_reshape(t->n, t->graph.weight, shape));
    COV_TRY(net_compile(t->n, NET_TRAIN, o->precision, (net_t[]){t->graph.bce, t->graph.dice}, (float[]){1.0f, 1.0f}, 2));
    COV_TRY(net_gradients(t->n, &t->grads, &t->values, &t->count)); /* compiling may have moved them */
    t->compiled = 1;
    t->coarse = coarse;
    return COV_OK;
}

/* Batch k of this rank: group rank + (k mod mine) * size of step k / mine. */
static void fill(void *ctx, uint64_t k, augment_canvas *to)
{
    const training *t = ctx;
    const train_options *o = &t->o;
    uint64_t step = k / (uint64_t)t->mine, group = (uint64_t)o->ranks.rank + k % (uint64_t)t->mine * (uint64_t)o->ranks.size;
    uint64_t first = step * (uint64_t)o->batch + group * (uint64_t)o->micro;
    int coarse = is_coarse(t, (int64_t)step);
    to->rows = o->rows >> coarse;
    to->cols = o->cols >> coarse;
    size_t pixels = (size_t)(to->rows * to->cols);
    for (int i = 0; i < o->micro; i++) {
        augment_canvas one = {.rows = to->rows, .cols = to->cols, .image = to->image + (size_t)i * pixels,
                              .target = to->target + (size_t)i * pixels, .weight = to->weight + (size_t)i * pixels};
        sampler_get(t->samples, first + (uint64_t)i, &one);
    }
}

static status run_group(training *t, const augment_canvas *batch, float sums[SUMS])
{
    float bce, dice;
    COV_TRY(net_set_input(t->n, t->graph.image, batch->image));
    COV_TRY(net_set_input(t->n, t->graph.target, batch->target));
    COV_TRY(net_set_input(t->n, t->graph.weight, batch->weight));
    COV_TRY(net_forward(t->n));
    COV_TRY(net_backward(t->n));
    COV_TRY(net_get(t->n, t->graph.bce, &bce));
    COV_TRY(net_get(t->n, t->graph.dice, &dice));
    sums[SUM_BCE] += bce;
    sums[SUM_DICE] += dice;
    return COV_OK;
}

/* This rank's groups, their gradients summed into the net's gradient array. */
static status run_groups(training *t, float sums[SUMS])
{
    const backend *b = t->o.backend;
    device *d = t->o.device;
    size_t bytes = t->count * sizeof(float);
    if (t->mine == 0) return b->zero(d, t->grads, bytes);
    if (t->mine > 1) COV_TRY(b->zero(d, t->total, bytes));
    for (int g = 0; g < t->mine; g++) {
        COV_TRY(run_group(t, prefetch_next(t->ahead), sums));
        if (g + 1 < t->mine) COV_TRY(b->accumulate(d, TENSOR_F32, t->count, t->grads, t->total));
    }
    if (t->mine > 1) COV_TRY(b->accumulate(d, TENSOR_F32, t->count, t->total, t->grads));
    return COV_OK;
}

static status run_step(training *t, float sums[SUMS], float *norm)
{
    const backend *b = t->o.backend;
    const train_ranks *r = &t->o.ranks;
    memset(sums, 0, SUMS * sizeof *sums);
    COV_TRY(set_size(t, is_coarse(t, t->step)));
    COV_TRY(run_groups(t, sums));
    if (t->o.stop && t->o.stop(t->o.ctx)) sums[SUM_STOP] = 1.0f;
    if (r->size > 1) {
        COV_TRY(b->download(t->o.device, t->host, t->grads, t->count * sizeof(float)));
        memcpy(t->host + t->count, sums, SUMS * sizeof *sums);
        COV_TRY(r->sum(r->ctx, t->host, t->count + SUMS));
        COV_TRY(b->upload(t->o.device, t->grads, t->host, t->count * sizeof(float)));
        memcpy(sums, t->host + t->count, SUMS * sizeof *sums);
    }
    sums[SUM_BCE] /= (float)t->groups;
    sums[SUM_DICE] /= (float)t->groups;
    float loss = sums[SUM_BCE] + sums[SUM_DICE];
    if (!isfinite(loss))
        return COV_FAIL(COV_BROKEN, "the loss of step %lld is not finite: try a smaller learning rate", (long long)t->step);
    COV_TRY(optim_run(t->op, 1.0f / (float)t->groups, norm));
    t->curve[t->step++] = loss;
    return COV_OK;
}

/* ---- the clock */

/* Seconds of one group: two warm up, the fastest of four counts, as other programs can only make a timing too long. */
static status time_group(training *t, int coarse, double *best)
{
    size_t n = (size_t)t->o.micro * (size_t)(t->o.rows * t->o.cols);
    augment_canvas c = {.image = malloc(3 * n * sizeof(float))};
    status s;
    float sums[SUMS] = {0};
    *best = 1e30;
    if (!c.image) COV_GO(COV_FAIL(COV_NOMEM, "no memory for a batch of %zu pixels", n));
    c.target = c.image + n;
    c.weight = c.target + n;
    t->steps = coarse ? INT32_MAX : 0; /* every sample is a coarse one, or none is */
    COV_GO(set_size(t, coarse));
    for (int k = 0; k < 6; k++) {
        double start = now();
        fill(t, (uint64_t)k, &c);
        COV_GO(run_group(t, &c, sums));
        if (k >= 2 && now() - start < *best) *best = now() - start;
    }
done:
    free(c.image);
    return s;
}

/* Steps that fit into the minutes by rank 0's measure, which is everybody's. */
static status steps_for_minutes(training *t)
{
    const train_ranks *r = &t->o.ranks;
    double coarse = 0.0, fine = 0.0;
    int64_t steps = 0;
    if (t->mine > 0 && t->o.coarse > 0.0f) COV_TRY(time_group(t, 1, &coarse));
    if (t->mine > 0) COV_TRY(time_group(t, 0, &fine));
    double mean = (double)t->o.coarse * coarse + (1.0 - (double)t->o.coarse) * fine;
    if (t->mine > 0) steps = (int64_t)(t->o.minutes * 60.0 / (mean * t->mine + 1e-4));
    if (r->size > 1) COV_TRY(r->broadcast(r->ctx, &steps, sizeof steps));
    t->steps = steps < 1 ? 1 : steps;
    return COV_OK;
}

/* ---- the loop */

static status build(training *t)
{
    const train_options *o = &t->o;
    COV_TRY(net_new(o->backend, o->device, o->seed, &t->n));
    COV_TRY(lungnet_build(t->n, o->preset, o->micro, o->rows, o->cols, true, &t->graph));
    COV_TRY(set_size(t, 0));
    t->groups = o->batch / o->micro;
    t->mine = (t->groups - o->ranks.rank + o->ranks.size - 1) / o->ranks.size;
    void *total = NULL;
    COV_TRY(o->backend->alloc(o->device, t->count * sizeof(float), &total));
    t->total = total;
    t->host = malloc((t->count + SUMS) * sizeof *t->host);
    if (!t->host) return COV_FAIL(COV_NOMEM, "no memory for %zu gradients", t->count);
    return COV_OK;
}

/* A fresh start: how many steps, and the optimiser. */
static status begin(training *t)
{
    t->steps = t->o.steps;
    if (t->o.minutes > 0.0) COV_TRY(steps_for_minutes(t));
    t->curve = malloc((size_t)(t->steps + 1) * sizeof *t->curve);
    if (!t->curve) return COV_FAIL(COV_NOMEM, "no memory for %lld steps", (long long)t->steps);
    return make_optimiser(t);
}

static void tell(const training *t, train_report *r, int64_t since, double start, double samples)
{
    r->step = t->step;
    r->steps = t->steps;
    r->seconds = now() - start;
    r->samples_per_s = r->seconds > 0.0 ? samples / r->seconds : 0.0;
    r->rate = optim_rate(&t->schedule, t->step > 0 ? t->step - 1 : 0);
    if (since > 0) {
        r->bce /= (float)since;
        r->dice /= (float)since;
    }
    r->loss = r->bce + r->dice;
    if (t->o.report && t->o.ranks.rank == 0) t->o.report(t->o.ctx, r);
    r->bce = r->dice = 0.0f;
}

static status loop(training *t)
{
    double start = now(), reported = start, saved = start;
    int64_t first = t->step, since = 0;
    train_report r = {.resumed = t->resumed};
    while (t->step < t->steps) {
        float sums[SUMS];
        COV_TRY(run_step(t, sums, &r.norm));
        r.bce += sums[SUM_BCE];
        r.dice += sums[SUM_DICE];
        since++;
        double samples = (double)(t->step - first) * t->o.batch;
        if (now() - reported > REPORT_SECONDS || t->step == t->steps) {
            r.finished = t->step == t->steps;
            tell(t, &r, since, start, samples);
            reported = now();
            since = 0;
        }
        int stop = sums[SUM_STOP] > 0.0f && t->step < t->steps, due = t->o.checkpoint_minutes > 0.0 && now() - saved > 60.0 * t->o.checkpoint_minutes;
        if (t->o.ranks.size > 1) COV_TRY(t->o.ranks.broadcast(t->o.ranks.ctx, &due, sizeof due)); /* clocks differ */
        if (stop || due) {
            COV_TRY(save_on_rank_0(t, t->checkpoint, 0));
            saved = now();
        }
        if (stop)
            return COV_FAIL(COV_STOPPED, "training stopped after step %lld of %lld; the same command goes on from %s",
                            (long long)t->step, (long long)t->steps, t->checkpoint);
    }
    return save_on_rank_0(t, t->o.out, 1);
}

/* 1: OUT is there and of this very training. Another training's OUT is an error, not overwritten. */
static status already_done(training *t, int *done)
{
    status s = COV_OK;
    int state = 0;
    if (t->o.ranks.rank == 0 && access(t->o.out, F_OK) == 0) {
        weights_file *w = NULL;
        s = weights_load(t->o.out, &w);
        if (s == COV_OK) s = same_training(t, w, t->o.out);
        state = s == COV_OK ? 1 : -1;
        weights_free(&w);
    }
    if (t->o.ranks.size > 1) COV_TRY(t->o.ranks.broadcast(t->o.ranks.ctx, &state, sizeof state));
    *done = state == 1;
    if (state < 0 && s == COV_OK) s = COV_FAIL(COV_USAGE, "rank 0 found another training's result in %s", t->o.out);
    return s;
}

static void clear(training *t)
{
    prefetch_free(&t->ahead);
    optim_free(&t->op);
    if (t->total) t->o.backend->release(t->o.device, t->total);
    net_free(&t->n);
    free(t->host);
    free(t->curve);
}

status train_run(const train_options *o, const sampler *samples)
{
    status s;
    int done = 0;
    training t = {.o = *o, .samples = samples};
    fill_in(&t.o);
    COV_TRY(check(&t.o));
    train_describe(&t.o, t.text, sizeof t.text);
    snprintf(t.checkpoint, sizeof t.checkpoint, "%s.checkpoint", t.o.out);
    COV_GO(already_done(&t, &done));
    if (done) goto done;
    COV_GO(build(&t));
    COV_GO(resume(&t));
    if (!t.resumed) COV_GO(begin(&t));
    if (t.mine > 0) {
        size_t n = (size_t)t.o.micro * (size_t)(t.o.rows * t.o.cols);
        prefetch_source source = {.fill = fill, .ctx = &t};
        COV_GO(prefetch_new(&source, n, (uint64_t)t.step * (uint64_t)t.mine, &t.ahead));
    }
    COV_GO(loop(&t));
done:
    clear(&t);
    return s;
}
