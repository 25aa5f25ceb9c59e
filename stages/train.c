/* train: see train.h. The state of a training is one struct; the functions below are, in order: what decides the
 * result, parameters as one array, the network in two sizes, the start file, checkpoints, one step, the clock, the
 * loop. */
#include "stages/train.h"
#include "base/size.h"
#include "stages/netio.h"
#include "stages/prefetch.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 4096, PATH_ROOM = 4096, CURVE_POINTS = 200 };
enum { DEVICE_MICRO = 8, FILLERS = 16 }; /* see train_options.micro and fillers(); at most */
enum { SUM_STOP = TRAIN_LOSSES, SUMS }; /* what travels behind the gradients: the losses, and who wants to stop */
#define REPORT_SECONDS 5.0

typedef struct training {
    train_options o;
    train_model m;
    net *n;            /* for half-size samples (coarse) or full ones */
    int coarse;
    train_graph graph;
    optim *op;
    optim_options schedule;
    prefetch *ahead;   /* NULL: this rank has no group */
    int groups, mine;  /* of a step, in all and this rank's */
    int group;         /* of this rank's, the one that runs */
    int64_t step, steps;
    float *grads, *values, *running; /* the net's, on the device: gradients, trained parameters, running statistics */
    size_t count, statistics;
    float *total;      /* device: the gradients of this rank's earlier groups */
    float *host;       /* count + SUMS + statistics: what is summed over ranks */
    float *kept, *drift,
        *moved; /* BatchNorm's running statistics: the step's, what its groups made of them (a sum), one group's */
    float *curve;      /* loss of every step so far; room for `steps` */
    weights_file *start; /* rank 0, until it has been taken over */
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

train_options train_defaults(void)
{
    return (train_options){.record = "", .coarse = -1.0f, .checkpoint_minutes = 5.0, .seed = 1, .ranks = {.size = 1}};
}

static void fill_in(train_options *o, const train_model *m)
{
    if (o->rows == 0) o->rows = m->rows;
    if (o->cols == 0) o->cols = m->cols;
    if (o->batch == 0) o->batch = m->batch;
    int whole = o->ranks.size == 1 && !o->backend->host_memory; /* a GPU is not filled by a sample or two */
    for (int micro = whole ? DEVICE_MICRO : m->micro; o->micro == 0; micro--) /* as near to it as divides the batch */
        if (micro <= 1 || o->batch % micro == 0) o->micro = micro;
    if (o->coarse < 0.0f) o->coarse = m->coarse;
    if (o->rate <= 0.0f) o->rate = m->rate;
}

static status check(const train_options *o, const train_model *m)
{
    if (o->batch < 1 || o->micro < 1 || o->batch % o->micro)
        return COV_FAIL(COV_USAGE, "a batch of %d does not divide into groups of %d", o->batch, o->micro);
    if (!(o->coarse <= 1.0f) || (o->coarse > 0.0f && (o->rows % (2 * m->stride) || o->cols % (2 * m->stride))))
        return COV_FAIL(COV_USAGE, "a coarse share of %g of an input of %lld x %lld cannot be trained",
                        (double)o->coarse, (long long)o->rows, (long long)o->cols);
    if ((o->steps > 0) == (o->minutes > 0.0))
        return COV_FAIL(COV_USAGE, "a training needs a length: minutes or steps, and not both");
    if (!o->out || !*o->out || strlen(o->out) + 16 > PATH_ROOM)
        return COV_FAIL(COV_USAGE, "a training needs a file to write");
    if (m->inputs < 1 || m->inputs > TRAIN_INPUTS) return COV_FAIL(COV_BROKEN, "%s has %d inputs", m->name, m->inputs);
    return COV_OK;
}

/* The record of what decides the result: what the checkpoint stores and compares. Complete on rank 0, which alone
 * compares. */
static void describe(training *t)
{
    const train_options *o = &t->o;
    char start[160] = "";
    if (t->start) snprintf(start, sizeof start, "; starts from %s %.16s", t->start->model, t->start->sha256);
    snprintf(t->text, sizeof t->text,
             "model %s; preset %s; input %lld x %lld, %g of the steps at half; batch %d in groups of %d; AdamW rate "
             "%g; seed %llu; %s; length %g min %lld steps%s; %s",
             t->m.name, t->m.preset, (long long)o->rows, (long long)o->cols, (double)o->coarse, o->batch, o->micro,
             (double)o->rate, (unsigned long long)o->seed, o->precision == NET_BF16 ? "bf16" : "fp32", o->minutes,
             (long long)o->steps, start, o->record);
}

/* What rank 0 did is every rank's result; the others' message names `what`. Collective. */
static status agree(const training *t, status s, const char *what)
{
    int code = (int)s;
    if (t->o.ranks.size > 1) COV_TRY(t->o.ranks.broadcast(t->o.ranks.ctx, &code, sizeof code));
    if (s == COV_OK && code != COV_OK) s = COV_FAIL((status)code, "rank 0 failed with %s", what);
    return s;
}

/* ---- all parameters, frozen ones and statistics too, as one array */

static status values_count(net *n, size_t *out)
{
    *out = 0;
    for (int k = 0; k < net_param_count(n); k++) {
        size_t count;
        COV_TRY(tensor_count(net_param_at(n, k)->shape, &count));
        *out += count;
    }
    return COV_OK;
}

/* Copies out, or in. */
static status move_values(net *n, int in, float *host)
{
    for (int k = 0; k < net_param_count(n); k++) {
        size_t count;
        COV_TRY(tensor_count(net_param_at(n, k)->shape, &count));
        COV_TRY(in ? net_param_set(n, k, host) : net_param_get(n, k, host));
        host += count;
    }
    return COV_OK;
}

/* Rank 0's parameters to all. Collective. */
static status share_values(training *t)
{
    const train_ranks *r = &t->o.ranks;
    status s;
    size_t count;
    float *host = NULL;
    if (r->size == 1) return COV_OK;
    COV_GO(values_count(t->n, &count));
    host = malloc((count + 1) * sizeof *host);
    if (!host) COV_GO(COV_FAIL(COV_NOMEM, "no memory for %zu parameters", count));
    COV_GO(move_values(t->n, 0, host));
    COV_GO(r->broadcast(r->ctx, host, count * sizeof *host));
    COV_GO(move_values(t->n, 1, host));
done:
    free(host);
    return s;
}

/* ---- the network, for half-size samples or full ones */

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

static tensor_shape input_shape(const training *t, int k, int coarse, int64_t samples)
{
    const train_input *i = &t->m.input[k];
    return i->rows ? tensor_shape_of(samples, i->rows, i->cols, i->channels, i->type)
                   : tensor_shape_of(samples, t->o.rows >> coarse, t->o.cols >> coarse, i->channels, i->type);
}

/* Where each input of a group's samples begins in its block, and the block's bytes. */
static status lay_out(const training *t, int coarse, size_t at[TRAIN_INPUTS], size_t *bytes)
{
    *bytes = 0;
    for (int k = 0; k < t->m.inputs; k++) {
        size_t b;
        COV_TRY(tensor_bytes(input_shape(t, k, coarse, t->o.micro), &b));
        at[k] = *bytes;
        if (!size_add(*bytes, (b + 63) / 64 * 64, bytes))
            return COV_FAIL(COV_NOMEM, "a group of samples of %s is too large", t->m.name);
    }
    return COV_OK;
}

static void drop_net(training *t)
{
    if (!t->n) return;
    optim_free(&t->op);
    net_free(&t->n);
    if (t->m.release) t->m.release(t->m.ctx);
}

static status new_net(training *t, int coarse)
{
    const train_options *o = &t->o;
    COV_TRY(net_new(o->backend, o->device, o->seed, &t->n));
    t->graph = (train_graph){.losses = 0};
    COV_TRY(t->m.build(t->m.ctx, t->n, o->micro, o->rows >> coarse, o->cols >> coarse, &t->graph));
    if (t->graph.losses < 1 || t->graph.losses > TRAIN_LOSSES)
        return COV_FAIL(COV_BROKEN, "%s has %d losses", t->m.name, t->graph.losses);
    COV_TRY(net_compile(t->n, NET_TRAIN, o->precision, t->graph.loss, t->graph.weight, t->graph.losses));
    for (int k = 0; k < t->m.inputs; k++)
        if (!tensor_same_shape(net_shape(t->n, t->graph.input[k]), input_shape(t, k, coarse, o->micro)))
            return COV_FAIL(COV_BROKEN, "input %d of %s has another shape than its samples", k, t->m.name);
    t->coarse = coarse;
    COV_TRY(net_gradients(t->n, &t->grads, &t->values, &t->count));
    return net_statistics(t->n, &t->running, &t->statistics);
}

/* The network for this size; parameters, statistics and moments are those that there were. */
static status set_size(training *t, int coarse)
{
    status s;
    size_t count, moments = 0;
    float *host = NULL;
    int64_t step = 0;
    if (!t->n) return new_net(t, coarse);
    if (t->coarse == coarse) return COV_OK;
    COV_GO(values_count(t->n, &count));
    if (t->op) moments = t->count;
    host = malloc((count + 2 * moments + 1) * sizeof *host);
    if (!host) COV_GO(COV_FAIL(COV_NOMEM, "no memory to carry %zu parameters to another size", count));
    COV_GO(move_values(t->n, 0, host));
    if (moments) {
        step = optim_step_number(t->op);
        COV_GO(optim_get(t->op, host + count, host + count + moments));
    }
    drop_net(t);
    COV_GO(new_net(t, coarse));
    COV_GO(move_values(t->n, 1, host));
    if (moments) {
        COV_GO(make_optimiser(t));
        COV_GO(optim_set(t->op, step, host + count, host + count + moments));
    }
done:
    free(host);
    return s;
}

/* ---- the start file */

/* The earlier stage's weights, or the model's own, to be trained further. */
static int start_fits(const training *t)
{
    const train_model *m = &t->m;
    const char *preset = m->start_preset ? m->start_preset : m->preset;
    return (strcmp(t->start->model, m->name) == 0 && strcmp(t->start->preset, m->preset) == 0) ||
           (m->starts_from && strcmp(t->start->model, m->starts_from) == 0 && strcmp(t->start->preset, preset) == 0);
}

/* Rank 0 reads it at once, as its digest belongs to the record. Collective. */
static status open_start(training *t)
{
    status s = COV_OK;
    if (!t->o.start) return COV_OK;
    if (t->o.ranks.rank == 0) {
        s = weights_load(t->o.start, &t->start);
        if (s == COV_OK && !start_fits(t))
            s = COV_FAIL(COV_USAGE, "%s holds %s/%s, but %s/%s starts from %s%sweights of its own", t->o.start,
                         t->start->model, t->start->preset, t->m.name, t->m.preset,
                         t->m.starts_from ? t->m.starts_from : "", t->m.starts_from ? " or " : "");
    }
    return agree(t, s, "the start file");
}

/* A frozen parameter must come from the file: it would stay what the seed made of it. */
static status take_over(training *t)
{
    int taken;
    for (int k = 0; k < net_param_count(t->n); k++) {
        const net_param *p = net_param_at(t->n, k);
        if (p->frozen && !p->statistic && !weights_find_param(t->start, p->name))
            return COV_FAIL(COV_FORMAT, "%s lacks the parameter '%s', which %s keeps as it is there", t->o.start,
                            p->name, t->m.name);
    }
    COV_TRY(netio_take(t->start, t->n, 0, &taken));
    if (taken == 0) return COV_FAIL(COV_FORMAT, "%s shares no parameter with %s", t->o.start, t->m.name);
    return COV_OK;
}

static status use_start(training *t)
{
    for (int k = 0; !t->o.start && k < net_param_count(t->n); k++)
        if (net_param_at(t->n, k)->frozen && !net_param_at(t->n, k)->statistic)
            return COV_FAIL(COV_USAGE, "%s keeps what an earlier stage has learnt: it starts from %s weights",
                            t->m.name, t->m.starts_from);
    if (!t->o.start) return COV_OK;
    COV_TRY(agree(t, t->o.ranks.rank == 0 ? take_over(t) : COV_OK, "the start file"));
    weights_free(&t->start);
    return share_values(t);
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
    COV_GO(weights_new(t->m.name, t->m.preset, &w));
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
    status s = COV_OK;
    if (t->o.ranks.rank == 0) {
        s = save(t, path, complete);
        if (s == COV_OK && complete) unlink(t->checkpoint); /* a left-over one would only be read again */
    }
    return agree(t, s, path);
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

static status new_curve(training *t, int64_t steps)
{
    t->curve = calloc((size_t)(steps + 1), sizeof *t->curve);
    return t->curve ? COV_OK : COV_FAIL(COV_NOMEM, "no memory for %lld steps", (long long)steps);
}

/* Number of steps done and in all, the moments, and the parameters into the net. */
static status load_numbers(training *t, weights_file *w, int64_t numbers[2], float *m, float *v)
{
    const int64_t *n = array_of(w, "step_and_steps", WEIGHTS_ARRAY_I64, 2);
    const float *from_m = array_of(w, "m", WEIGHTS_ARRAY_F32, (int64_t)t->count);
    const float *from_v = array_of(w, "v", WEIGHTS_ARRAY_F32, (int64_t)t->count);
    if (!n || !from_m || !from_v || n[0] < 0 || n[1] < n[0])
        return COV_FAIL(COV_FORMAT, "%s is no checkpoint of this network", t->checkpoint);
    const float *losses = array_of(w, "losses", WEIGHTS_ARRAY_F32, n[0]);
    if (!losses && n[0] > 0) return COV_FAIL(COV_FORMAT, "%s lacks its loss curve", t->checkpoint);
    COV_TRY(new_curve(t, n[1]));
    if (losses) memcpy(t->curve, losses, (size_t)n[0] * sizeof *losses);
    memcpy(numbers, n, 2 * sizeof *n);
    memcpy(m, from_m, t->count * sizeof *m);
    memcpy(v, from_v, t->count * sizeof *v);
    return netio_load(w, t->n);
}

/* Rank 0 reads the checkpoint if there is one; every rank ends with its parameters, moments and step. */
static status resume(training *t)
{
    status s = COV_OK, found = COV_OK;
    const train_ranks *r = &t->o.ranks;
    int64_t numbers[3] = {0, 0, 0}; /* step, steps, and 1 if there is something to resume */
    weights_file *w = NULL;
    float *m = malloc((2 * t->count + 1) * sizeof *m), *v = NULL;
    if (!m) COV_GO(COV_FAIL(COV_NOMEM, "no memory to resume a training"));
    v = m + t->count;
    if (r->rank == 0 && access(t->checkpoint, F_OK) == 0) {
        found = weights_load(t->checkpoint, &w);
        if (found == COV_OK) found = same_training(t, w, t->checkpoint);
        if (found == COV_OK) found = load_numbers(t, w, numbers, m, v);
        numbers[2] = 1;
    }
    COV_GO(agree(t, found, t->checkpoint));
    if (r->size > 1) COV_GO(r->broadcast(r->ctx, numbers, sizeof numbers));
    if (numbers[2] == 0) goto done;
    if (r->size > 1) COV_GO(r->broadcast(r->ctx, m, 2 * t->count * sizeof *m));
    COV_GO(share_values(t));
    if (!t->curve) COV_GO(new_curve(t, numbers[1]));
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

/* Batch k of this rank: group rank + (k mod mine) * size of step k / mine. */
static status fill(void *ctx, uint64_t k, void *block)
{
    const training *t = ctx;
    const train_options *o = &t->o;
    uint64_t step = k / (uint64_t)t->mine,
             group = (uint64_t)o->ranks.rank + k % (uint64_t)t->mine * (uint64_t)o->ranks.size;
    uint64_t first = step * (uint64_t)o->batch + group * (uint64_t)o->micro;
    int coarse = is_coarse(t, (int64_t)step);
    size_t at[TRAIN_INPUTS], bytes;
    COV_TRY(lay_out(t, coarse, at, &bytes));
    for (int i = 0; i < o->micro; i++) {
        void *to[TRAIN_INPUTS];
        for (int j = 0; j < t->m.inputs; j++) {
            COV_TRY(tensor_bytes(input_shape(t, j, coarse, 1), &bytes));
            to[j] = (char *)block + at[j] + (size_t)i * bytes;
        }
        COV_TRY(t->m.fill(t->m.ctx, first + (uint64_t)i, o->rows >> coarse, o->cols >> coarse, to));
    }
    return COV_OK;
}

/* Threads that make samples: where the network leaves the host's alone, all but the one that feeds it. */
static int fillers(const training *t)
{
    int threads = t->o.backend->host_memory ? 1 : t->o.backend->threads(t->o.device) - 1;
    return threads < 1 ? 1 : threads > FILLERS ? FILLERS : threads;
}

/* No net_touch: training moves running statistics and never reads them, and optim_run touches the net. */
static status set_statistics(training *t, const float *host)
{
    return t->o.backend->upload(t->o.device, t->running, host, t->statistics * sizeof *host);
}

static status get_statistics(training *t, float *host)
{
    return t->statistics ? t->o.backend->download(t->o.device, host, t->running, t->statistics * sizeof *host) : COV_OK;
}

/* What this group made of the running statistics goes into the sum; the next group starts where this one did. */
static status gather_statistics(training *t)
{
    if (t->statistics == 0) return COV_OK;
    COV_TRY(get_statistics(t, t->moved));
    for (size_t i = 0; i < t->statistics; i++) t->drift[i] += t->moved[i] - t->kept[i];
    return set_statistics(t, t->kept);
}

static status run_group(training *t, const char *block, float sums[SUMS])
{
    size_t at[TRAIN_INPUTS], bytes;
    COV_TRY(lay_out(t, t->coarse, at, &bytes));
    for (int k = 0; k < t->m.inputs; k++) COV_TRY(net_set_input(t->n, t->graph.input[k], block + at[k]));
    COV_TRY(net_forward(t->n));
    COV_TRY(net_backward(t->n));
    for (int k = 0; k < t->graph.losses; k++) {
        float loss;
        COV_TRY(net_get(t->n, t->graph.loss[k], &loss));
        sums[k] += loss;
    }
    return gather_statistics(t);
}

/* A piece of a group's gradients is final: to those of the groups before it; in the last group, to the other ranks. */
static status piece_final(void *ctx, size_t first, size_t count)
{
    training *t = ctx;
    const backend *b = t->o.backend;
    const train_ranks *r = &t->o.ranks;
    float *piece = t->grads + first, *total = t->total + first;
    if (t->group + 1 < t->mine) return b->accumulate(t->o.device, TENSOR_F32, count, piece, total);
    if (t->mine > 1) COV_TRY(b->accumulate(t->o.device, TENSOR_F32, count, total, piece));
    return r->start ? r->start(r->ctx, piece, count) : COV_OK;
}

/* This rank's groups, their gradients summed into the net's gradient array, and the sums over ranks started where that is
 * on the device. The clock's groups run without piece_final. */
static status run_groups(training *t, float sums[SUMS])
{
    const train_ranks *r = &t->o.ranks;
    COV_TRY(net_on_gradients(t->n, r->start ? r->piece : SIZE_MAX, piece_final, t));
    t->group = 0;
    if (t->mine == 0) return net_backward_none(t->n);
    if (t->mine > 1) COV_TRY(t->o.backend->zero(t->o.device, t->total, t->count * sizeof(float)));
    for (; t->group < t->mine; t->group++) {
        const void *block;
        COV_TRY(prefetch_next(t->ahead, &block));
        COV_TRY(run_group(t, block, sums));
    }
    return COV_OK;
}

/* Losses and statistics of all ranks, and gradients where nobody has started on them. */
static status sum_over_ranks(training *t, float sums[SUMS])
{
    const backend *b = t->o.backend;
    const train_ranks *r = &t->o.ranks;
    float *statistics = t->host + t->count + SUMS;
    if (r->size == 1) return COV_OK;
    size_t there = r->start ? t->count : 0; /* gradients that stay on the device */
    if (!there) COV_TRY(b->download(t->o.device, t->host, t->grads, t->count * sizeof(float)));
    memcpy(t->host + t->count, sums, SUMS * sizeof *sums);
    if (t->statistics) memcpy(statistics, t->drift, t->statistics * sizeof *statistics);
    COV_TRY(r->sum(r->ctx, t->host + there, t->count - there + SUMS + t->statistics));
    if (!there) COV_TRY(b->upload(t->o.device, t->grads, t->host, t->count * sizeof(float)));
    memcpy(sums, t->host + t->count, SUMS * sizeof *sums);
    if (t->statistics) memcpy(t->drift, statistics, t->statistics * sizeof *statistics);
    return COV_OK;
}

static status run_sums(training *t, float sums[SUMS])
{
    COV_TRY(run_groups(t, sums));
    if (t->o.stop && t->o.stop(t->o.ctx)) sums[SUM_STOP] = 1.0f;
    return sum_over_ranks(t, sums);
}

/* After run_sums, also where that failed with s: nobody may free gradients that are being summed. */
static status finish_sums(const training *t, status s)
{
    const train_ranks *r = &t->o.ranks;
    char why[TEXT];
    if (!r->finish) return s;
    if (s == COV_OK) return r->finish(r->ctx);
    snprintf(why, sizeof why, "%s", status_message()); /* the first failure is the one to tell */
    return r->finish(r->ctx) == COV_OK ? s : COV_FAIL(s, "%s", why);
}

/* sums: ends as the means over the groups, *loss as their weighted sum. */
static status run_step(training *t, float sums[SUMS], float *loss, float *norm)
{
    memset(sums, 0, SUMS * sizeof *sums);
    COV_TRY(set_size(t, is_coarse(t, t->step)));
    if (t->statistics) memset(t->drift, 0, t->statistics * sizeof *t->drift);
    COV_TRY(finish_sums(t, run_sums(t, sums)));
    *loss = 0.0f;
    for (int k = 0; k < t->graph.losses; k++) {
        sums[k] /= (float)t->groups;
        *loss += t->graph.weight[k] * sums[k];
    }
    if (!isfinite(*loss))
        return COV_FAIL(COV_BROKEN, "the loss of step %lld is not finite: try a smaller learning rate",
                        (long long)t->step);
    for (size_t i = 0; i < t->statistics; i++) t->kept[i] += t->drift[i] / (float)t->groups;
    if (t->statistics) COV_TRY(set_statistics(t, t->kept));
    COV_TRY(optim_run(t->op, 1.0f / (float)t->groups, norm));
    t->curve[t->step++] = *loss;
    return COV_OK;
}

/* ---- the clock */

/* Seconds of one group: two warm up, the fastest of four counts, as other programs can only make a timing too long. On a
 * device with memory of its own samples are made beside it. */
static status time_group(training *t, int coarse, double *best)
{
    status s;
    char *block = NULL;
    size_t at[TRAIN_INPUTS], bytes;
    float sums[SUMS] = {0};
    *best = 1e30;
    COV_GO(lay_out(t, coarse, at, &bytes));
    block = malloc(bytes);
    if (!block) COV_GO(COV_FAIL(COV_NOMEM, "no memory for a group of samples of %zu bytes", bytes));
    t->steps = coarse ? INT32_MAX : 0; /* every sample is a coarse one, or none is */
    COV_GO(set_size(t, coarse));
    for (int k = 0; k < 6; k++) {
        double start = now();
        COV_GO(fill(t, (uint64_t)k, block));
        double made = now() - start;
        COV_GO(run_group(t, block, sums));
        double ran = now() - start - made;
        double took = t->o.backend->host_memory ? made + ran : fmax(made / fillers(t), ran);
        if (k >= 2 && took < *best) *best = took;
    }
done:
    free(block);
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
    COV_TRY(set_size(t, 0));
    t->groups = o->batch / o->micro;
    t->mine = (t->groups - o->ranks.rank + o->ranks.size - 1) / o->ranks.size;
    void *total = NULL;
    COV_TRY(o->backend->alloc(o->device, (t->count + 1) * sizeof(float), &total));
    t->total = total;
    t->host = malloc((t->count + SUMS + 4 * t->statistics) * sizeof *t->host);
    if (!t->host) return COV_FAIL(COV_NOMEM, "no memory for %zu gradients", t->count);
    t->kept = t->host + t->count + SUMS + t->statistics;
    t->drift = t->kept + t->statistics;
    t->moved = t->drift + t->statistics;
    return COV_OK;
}

/* A fresh start: the parameters, how many steps, and the optimiser. */
static status begin(training *t)
{
    COV_TRY(use_start(t));
    COV_TRY(get_statistics(t, t->kept)); /* the clock runs groups, too */
    t->steps = t->o.steps;
    if (t->o.minutes > 0.0) COV_TRY(steps_for_minutes(t));
    COV_TRY(new_curve(t, t->steps));
    return make_optimiser(t);
}

/* r holds sums over the steps since the last report, and is cleared. */
static void tell(const training *t, train_report *r, int64_t since, double start, double samples)
{
    r->step = t->step;
    r->steps = t->steps;
    r->losses = t->graph.losses;
    r->name = t->graph.loss_name;
    r->seconds = now() - start;
    r->samples_per_s = r->seconds > 0.0 ? samples / r->seconds : 0.0;
    r->rate = optim_rate(&t->schedule, t->step > 0 ? t->step - 1 : 0);
    for (int k = 0; k < r->losses; k++) r->part[k] /= (float)since;
    r->loss /= (float)since;
    if (t->o.report && t->o.ranks.rank == 0) t->o.report(t->o.ctx, r);
    memset(r->part, 0, sizeof r->part);
    r->loss = 0.0f;
}

static status loop(training *t)
{
    double start = now(), reported = start, saved = start;
    int64_t first = t->step, since = 0;
    train_report r = {.resumed = t->resumed};
    while (t->step < t->steps) {
        float sums[SUMS], loss = 0.0f;
        COV_TRY(run_step(t, sums, &loss, &r.norm));
        for (int k = 0; k < t->graph.losses; k++) r.part[k] += sums[k];
        r.loss += loss;
        since++;
        double samples = (double)(t->step - first) * t->o.batch;
        if (now() - reported > REPORT_SECONDS || t->step == t->steps) {
            r.finished = t->step == t->steps;
            tell(t, &r, since, start, samples);
            reported = now();
            since = 0;
        }
        int stop = sums[SUM_STOP] > 0.0f && t->step<t->steps, due = t->o.checkpoint_minutes> 0.0 &&
                   now() - saved > 60.0 * t->o.checkpoint_minutes;
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
    *done = 0;
    if (t->o.ranks.rank == 0 && access(t->o.out, F_OK) == 0) {
        weights_file *w = NULL;
        s = weights_load(t->o.out, &w);
        if (s == COV_OK) s = same_training(t, w, t->o.out);
        *done = s == COV_OK;
        weights_free(&w);
    }
    COV_TRY(agree(t, s, t->o.out));
    if (t->o.ranks.size > 1) COV_TRY(t->o.ranks.broadcast(t->o.ranks.ctx, done, sizeof *done));
    return COV_OK;
}

static void clear(training *t)
{
    prefetch_free(&t->ahead);
    drop_net(t);
    if (t->total) t->o.backend->release(t->o.device, t->total);
    weights_free(&t->start);
    free(t->host);
    free(t->curve);
}

static status read_ahead(training *t)
{
    size_t at[TRAIN_INPUTS], bytes;
    prefetch_source source = {.fill = fill, .ctx = t};
    if (t->mine == 0) return COV_OK;
    COV_TRY(lay_out(t, 0, at, &bytes));
    return prefetch_new(&source, bytes, (uint64_t)t->step * (uint64_t)t->mine, fillers(t), &t->ahead);
}

status train_run(const train_options *o, const train_model *m)
{
    status s;
    int done = 0;
    training t = {.o = *o, .m = *m};
    fill_in(&t.o, m);
    COV_TRY(check(&t.o, m));
    snprintf(t.checkpoint, sizeof t.checkpoint, "%s.checkpoint", t.o.out);
    COV_GO(open_start(&t));
    describe(&t);
    COV_GO(already_done(&t, &done));
    if (done) goto done;
    COV_GO(build(&t));
    COV_GO(resume(&t));
    if (!t.resumed) COV_GO(begin(&t));
    if (!t.resumed && t.o.minutes > 0.0)
        COV_GO(save_on_rank_0(&t, t.checkpoint, 0)); /* the clock's word stands, whenever it is killed */
    COV_GO(get_statistics(&t, t.kept));
    COV_GO(read_ahead(&t));
    COV_GO(loop(&t));
done:
    clear(&t);
    return s;
}
