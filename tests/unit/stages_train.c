/* Training on made-up discs: it learns, it resumes bit for bit, ranks do what one rank does, and files of another
 * training are refused; with GroupNorm (the lung network) and with BatchNorm (a small network of this test's own, in
 * two stages of which the second keeps the first's encoder frozen). Ranks are threads here; the sums are those of a
 * barrier. */
#include "stages/lungtrain.h"
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { SIDE = 48, SLICES = 12, INPUT = 32, RANKS_MOST = 5, SUMS_MOST = 64 };
static const backend *b;
static sampler *samples;
static lungtrain disc;
static char folder[] = "/tmp/stages_train_XXXXXX";

/* ---- the small network: image, target and a number a sample, of which it needs the first two */

static status small_graph(net *n, int frozen, int64_t micro, int64_t rows, int64_t cols, train_graph *g)
{
    tensor_shape shape = tensor_shape_of(micro, rows, cols, 1, TENSOR_F32);
    net_t image = net_input(n, "image", shape), target = net_constant(n, "target", shape);
    net_t label = net_constant(n, "label", tensor_shape_of(micro, 1, 1, 1, TENSOR_I32));
    if (frozen) net_freeze(n, true);
    net_t x = net_batchnorm(n, "encoder/norm", net_conv(n, "encoder/conv", image, 8, 3, 1, 1, 0, 0), -1, 1);
    net_freeze(n, false);
    if (frozen) x = net_batchnorm(n, "own/norm", net_conv(n, "own/conv", x, 8, 3, 1, 1, 0, 0), -1, 1);
    net_t logit = net_conv(n, "head", x, 1, 1, 1, 0, 1, 0);
    net_t period = net_linear(n, "period", net_avgpool(n, x), 3, 0);
    *g = (train_graph){.input = {image, target, label},
                       .losses = 3,
                       .weight = {1.0f, 0.5f, 0.1f},
                       .loss_name = {"bce", "dice", "period"}};
    g->loss[0] = net_loss_bce(n, logit, target, -1);
    g->loss[1] = net_loss_dice(n, logit, target);
    g->loss[2] = net_loss_ce(n, period, label);
    return COV_OK;
}

static status build_first(void *ctx, net *n, int64_t micro, int64_t rows, int64_t cols, train_graph *g)
{
    (void)ctx;
    return small_graph(n, 0, micro, rows, cols, g);
}

static status build_second(void *ctx, net *n, int64_t micro, int64_t rows, int64_t cols, train_graph *g)
{
    (void)ctx;
    return small_graph(n, 1, micro, rows, cols, g);
}

static status small_fill(void *ctx, uint64_t k, int64_t rows, int64_t cols, void *const *to)
{
    (void)ctx;
    float weight[INPUT * INPUT];
    augment_canvas canvas = {.rows = rows, .cols = cols, .image = to[0], .target = to[1], .weight = weight};
    sampler_get(samples, k, &canvas);
    *(int32_t *)to[2] = (int32_t)(k % 4) - 1;
    return COV_OK;
}

static train_model small_model(int second)
{
    train_input pixels = {.channels = 1, .type = TENSOR_F32},
                number = {.rows = 1, .cols = 1, .channels = 1, .type = TENSOR_I32};
    return (train_model){.name = second ? "second" : "first",
                         .preset = "tiny",
                         .starts_from = second ? "first" : NULL,
                         .inputs = 3,
                         .input = {pixels, pixels, number},
                         .stride = 2,
                         .rows = INPUT,
                         .cols = INPUT,
                         .batch = 6,
                         .micro = 1,
                         .coarse = 0.5f,
                         .rate = 1e-2f,
                         .build = second ? build_second : build_first,
                         .fill = small_fill};
}

/* Two volumes of two "lungs" each, of different sizes, and one isolated slice. */
static void add_volume(const char *patient, int radius)
{
    volume_header h = {.nx = SIDE, .ny = SIDE, .nz = SLICES, .spacing_mm = {8, 8, 24}}; /* a whole chest's field */
    size_t n = (size_t)SIDE * SIDE * SLICES;
    int16_t *hu = malloc(n * sizeof *hu);
    uint8_t *lung = malloc(n), *lesion = calloc(n, 1);
    for (size_t i = 0; i < n; i++) {
        int x = (int)(i % SIDE), y = (int)(i / SIDE % SIDE), z = (int)(i / SIDE / SIDE);
        int dx = abs(x - SIDE / 2) - 11, dy = y - SIDE / 2, dz = (z - SLICES / 2) * 3;
        lung[i] = dx * dx + dy * dy + dz * dz < radius * radius;
        hu[i] = lung[i] ? -860 : 30;
        lesion[i] = lung[i] && dy > radius / 2;
    }
    assert_int_equal(sampler_add_volume(samples, patient, &h, hu, lung, lesion), COV_OK);
}

static int set_up(void **state)
{
    (void)state;
    uint8_t grey[INPUT * INPUT], lung[INPUT * INPUT];
    sampler_options o = sampler_defaults(LUNGNET_AXIAL);
    o.augment.opacity = 0; /* a disc of a few pixels is not seen through one */
    if (!mkdtemp(folder) || backend_find("cpu", &b) != COV_OK || sampler_new(&o, &samples) != COV_OK) return 1;
    lungtrain_of(LUNGNET_AXIAL, "compact", samples, &disc);
    add_volume("first", 10);
    add_volume("second", 7);
    for (int i = 0; i < INPUT * INPUT; i++) {
        lung[i] = i % INPUT > 8 && i % INPUT < 24 && i / INPUT > 8 && i / INPUT < 24 ? 255 : 0;
        grey[i] = lung[i] ? 40 : 190;
    }
    return sampler_add_slice(samples, "third", INPUT, INPUT, grey, lung, NULL) != COV_OK;
}

static int tear_down(void **state)
{
    (void)state;
    char command[256];
    sampler_free(&samples);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

typedef struct trained {
    train_report last;
    double first_loss;     /* summed over all steps; a report has the mean since the one before, and when it comes is the clock's affair */
    int64_t stop_at;       /* 0: never */
    int64_t asked, reports;
} trained;

static int stop(void *ctx)
{
    trained *t = ctx;
    return ++t->asked == t->stop_at;
}

static void report(void *ctx, const train_report *r)
{
    trained *t = ctx;
    t->first_loss += (double)r->part[0] * (double)(r->step - t->last.step);
    t->last = *r;
    t->reports++;
}

static train_options options_of(const char *path, int64_t steps, trained *t)
{
    train_options o = train_defaults();
    o.rows = o.cols = INPUT;
    o.steps = steps;
    o.out = path;
    o.record = "test";
    o.batch = 6;
    o.checkpoint_minutes = 0;
    o.backend = b;
    o.precision = NET_FP32;
    o.stop = stop;
    o.report = report;
    o.ctx = t;
    return o;
}

static status run_model(train_options o, const train_model *m)
{
    assert_int_equal(b->open(&(device_options){.threads = 1}, &o.device), COV_OK);
    status s = train_run(&o, m);
    b->close(&o.device);
    return s;
}

static status run(train_options o) { return run_model(o, &disc.model); }

static char *in_folder(char to[64], const char *name)
{
    snprintf(to, 64, "%s/%s", folder, name);
    return to;
}

static weights_file *load(const char *path)
{
    weights_file *w;
    assert_int_equal(weights_load(path, &w), COV_OK);
    return w;
}

static void training_learns_a_disc(void **state)
{
    (void)state;
    char path[64];
    trained t = {0};
    assert_int_equal(run(options_of(in_folder(path, "learns.h5"), 120, &t)), COV_OK);
    assert_true(t.last.finished && t.last.step == 120);
    weights_file *w = load(path);
    const char *curve = weights_find_text(w, "loss_curve");
    assert_non_null(curve);
    float first = strtof(strchr(curve, ' '), NULL), end = strtof(strrchr(curve, ' '), NULL);
    assert_true(end < 0.5f * first);
    assert_false(w->has_checkpoint);
    assert_int_equal(w->store, WEIGHTS_BF16);
    weights_free(&w);
}

static void stop_and_resume(const train_model *m, const char *name)
{
    char whole[64], parts[64];
    trained t = {0};
    snprintf(whole, sizeof whole, "%s/%s-whole.h5", folder, name);
    snprintf(parts, sizeof parts, "%s/%s-parts.h5", folder, name);
    assert_int_equal(run_model(options_of(whole, 11, &t), m), COV_OK);
    for (int64_t at = 0; at < 11; at += 4) { /* stops after 4, 8; the coarse steps end at 5 or 6 */
        trained part = {.stop_at = 4};
        status s = run_model(options_of(parts, 11, &part), m);
        assert_int_equal(s, at + 4 < 11 ? COV_STOPPED : COV_OK);
        assert_int_equal(access(parts, F_OK), at + 4 < 11 ? -1 : 0);
    }
    weights_file *a = load(whole), *c = load(parts);
    assert_int_equal(a->param_count, c->param_count);
    assert_string_equal(a->sha256, c->sha256);
    weights_free(&a);
    weights_free(&c);
}

static void a_training_stopped_at_any_step_resumes_bit_for_bit(void **state)
{
    (void)state;
    train_model small = small_model(0);
    stop_and_resume(&disc.model, "lung");
    stop_and_resume(&small, "small");
}

static void running_statistics_move_and_are_saved(void **state)
{
    (void)state;
    char path[64];
    trained t = {0};
    train_model small = small_model(0);
    assert_int_equal(run_model(options_of(in_folder(path, "moved.h5"), 3, &t), &small), COV_OK);
    assert_int_equal(t.last.losses, 3);
    assert_string_equal(t.last.name[1], "dice");
    weights_file *w = load(path);
    const weights_param *p = weights_find_param(w, "encoder/norm/var");
    assert_non_null(p);
    for (int k = 0; k < 8; k++) assert_true(p->values[k] > 0.0f && p->values[k] != 1.0f);
    weights_free(&w);
}

static void a_stage_starts_from_the_last_ones_file_and_keeps_what_is_frozen(void **state)
{
    (void)state;
    char first[64], second[64], other[64];
    trained t = {0};
    train_model one = small_model(0), two = small_model(1);
    assert_int_equal(run_model(options_of(in_folder(first, "stage1.h5"), 5, &t), &one), COV_OK);
    train_options o = options_of(in_folder(second, "stage2.h5"), 7, &t);
    o.start = first;
    assert_int_equal(run_model(o, &two), COV_OK);
    weights_file *a = load(first), *c = load(second);
    char from[64];
    snprintf(from, sizeof from, "starts from first %.16s", a->sha256);
    assert_non_null(strstr(weights_find_text(c, "training"), from));
    int same = 0;
    for (int k = 0; k < a->param_count; k++) {
        const weights_param *p = &a->params[k], *q = weights_find_param(c, p->name);
        size_t n = (size_t)(p->shape[0] * p->shape[1] * p->shape[2] * p->shape[3]);
        if (strncmp(p->name, "encoder/", 8) != 0) continue;
        assert_memory_equal(p->values, q->values, n * sizeof(float));
        same++;
    }
    assert_int_equal(same, 5); /* w, gamma, beta, mean, var */
    weights_free(&a);
    weights_free(&c);
    o.out = in_folder(other, "stage3.h5");
    o.start = second; /* of another model */
    assert_int_equal(run_model(o, &one), COV_USAGE);
    assert_int_equal(access(other, F_OK), -1);
}

static void a_finished_model_is_trained_further_from_its_own_file(void **state)
{
    (void)state;
    char first[64], further[64], anew[64];
    trained t = {0};
    train_model one = small_model(0);
    assert_int_equal(run_model(options_of(in_folder(first, "first.h5"), 8, &t), &one), COV_OK);
    train_options o = options_of(in_folder(further, "further.h5"), 1, &t);
    o.start = first;
    assert_int_equal(run_model(o, &one), COV_OK);
    float went_on = t.last.loss;
    o.start = NULL;
    o.out = in_folder(anew, "anew.h5");
    assert_int_equal(run_model(o, &one), COV_OK);
    assert_true(went_on < t.last.loss);
    weights_file *a = load(first), *c = load(further);
    char from[64];
    snprintf(from, sizeof from, "starts from first %.16s", a->sha256);
    assert_non_null(strstr(weights_find_text(c, "training"), from));
    weights_free(&a);
    weights_free(&c);
}

static void files_of_another_training_are_refused_and_kept(void **state)
{
    (void)state;
    char path[64];
    trained t = {.stop_at = 2};
    train_options o = options_of(in_folder(path, "mine.h5"), 5, &t);
    assert_int_equal(run(o), COV_STOPPED);
    o.seed = 99;
    assert_int_equal(run(o), COV_USAGE);
    assert_non_null(strstr(status_message(), "another training"));
    o.seed = 1;
    assert_int_equal(run(o), COV_OK);
    o.batch = 2;
    assert_int_equal(run(o), COV_USAGE);
}

static void a_finished_training_is_left_alone(void **state)
{
    (void)state;
    char path[64];
    trained t = {0};
    assert_int_equal(run(options_of(in_folder(path, "done.h5"), 2, &t)), COV_OK);
    int64_t asked = t.asked;
    assert_int_equal(run(options_of(path, 2, &t)), COV_OK);
    assert_int_equal(t.asked, asked);
}

static void a_training_by_the_clock_records_how_many_steps_that_was(void **state)
{
    (void)state;
    char path[64];
    trained t = {0};
    train_options o = options_of(in_folder(path, "clock.h5"), 0, &t);
    o.minutes = 0.01;
    assert_int_equal(run(o), COV_OK);
    assert_true(t.last.finished && t.last.steps >= 1 && t.last.step == t.last.steps);
}

static void the_length_that_the_clock_gave_is_kept_when_a_training_is_resumed(void **state)
{
    (void)state;
    char path[64];
    trained t = {.stop_at = 1};
    train_model small = small_model(0);
    train_options o = options_of(in_folder(path, "kept.h5"), 0, &t);
    o.minutes = 0.01;
    assert_int_equal(run_model(o, &small), COV_STOPPED);
    snprintf(path, sizeof path, "%s/kept.h5.checkpoint", folder);
    weights_file *w = load(path);
    const int64_t *numbers = weights_find_array(w, "step_and_steps")->data;
    int64_t steps = numbers[1];
    assert_int_equal(numbers[0], 1);
    weights_free(&w);
    in_folder(path, "kept.h5");
    assert_int_equal(run_model(o, &small), COV_OK);
    assert_int_equal(t.last.steps, steps);
}

static status no_sample(void *ctx, uint64_t k, int64_t rows, int64_t cols, void *const *to)
{
    if (k < 7) return small_fill(ctx, k, rows, cols, to);
    return COV_FAIL(COV_NOMEM, "sample %d cannot be made", (int)k);
}

static void a_sample_that_cannot_be_made_ends_the_training_with_its_message(void **state)
{
    (void)state;
    char path[64];
    trained t = {0};
    train_model small = small_model(0);
    small.fill = no_sample;
    assert_int_equal(run_model(options_of(in_folder(path, "none.h5"), 5, &t), &small), COV_NOMEM);
    assert_non_null(strstr(status_message(), "sample 7 cannot be made"));
    assert_int_equal(t.asked, 1); /* the step before it */
    assert_int_equal(access(path, F_OK), -1);
}

static void a_length_is_needed_and_groups_must_divide_the_batch(void **state)
{
    (void)state;
    trained t = {0};
    train_options o = options_of("/nowhere/x.h5", 0, &t);
    assert_int_equal(run(o), COV_USAGE);
    o.steps = 3;
    o.batch = 5;
    o.micro = 2;
    assert_int_equal(run(o), COV_USAGE);
    train_model small = small_model(0);
    char path[64];
    small.micro = 2;
    o.out = in_folder(path, "odd.h5");
    o.micro = 0; /* then 1 */
    assert_int_equal(run_model(o, &small), COV_OK);
}

/* ---- ranks as threads */

typedef struct crowd {
    int size;
    pthread_barrier_t barrier;
    float *parts[RANKS_MOST];
    void *shared;
} crowd;

typedef struct member {
    crowd *c;
    int rank;
    train_options o;
    const train_model *model;
    status result;
    int started, pieces; /* sums under way; and of one step */
    struct { float *v, *taken; size_t n; } under_way[SUMS_MOST];
} member;

static status crowd_sum(void *ctx, float *v, size_t n)
{
    member *m = ctx;
    m->c->parts[m->rank] = v;
    float *sum = calloc(n, sizeof *sum);
    pthread_barrier_wait(&m->c->barrier);
    for (int r = 0; r < m->c->size; r++)
        for (size_t i = 0; i < n; i++) sum[i] += m->c->parts[r][i];
    pthread_barrier_wait(&m->c->barrier);
    memcpy(v, sum, n * sizeof *v);
    free(sum);
    return COV_OK;
}

static status crowd_broadcast(void *ctx, void *bytes, size_t n)
{
    member *m = ctx;
    if (m->rank == 0) m->c->shared = bytes;
    pthread_barrier_wait(&m->c->barrier);
    if (m->rank != 0) memcpy(bytes, m->c->shared, n);
    pthread_barrier_wait(&m->c->barrier);
    return COV_OK;
}

/* Sums on devices, as a GPU might at the worst: it takes what is there when the sum is started, and shows nothing before
 * the end. */
static status crowd_start(void *ctx, float *v, size_t n)
{
    member *m = ctx;
    float *taken = malloc(n * sizeof *taken);
    if (m->started == SUMS_MOST || !taken) return COV_FAIL(COV_BROKEN, "more than %d sums under way", SUMS_MOST);
    memcpy(taken, v, n * sizeof *taken);
    m->under_way[m->started].v = v;
    m->under_way[m->started].taken = taken;
    m->under_way[m->started++].n = n;
    return COV_OK;
}

static status crowd_finish(void *ctx)
{
    member *m = ctx;
    for (int k = 0; k < m->started; k++) {
        crowd_sum(m, m->under_way[k].taken, m->under_way[k].n);
        memcpy(m->under_way[k].v, m->under_way[k].taken, m->under_way[k].n * sizeof(float));
        free(m->under_way[k].taken);
    }
    m->pieces = m->started;
    m->started = 0;
    return COV_OK;
}

static void *work(void *argument)
{
    member *m = argument;
    m->result = b->open(&(device_options){.threads = 1}, &m->o.device);
    if (m->result == COV_OK) m->result = train_run(&m->o, m->model);
    b->close(&m->o.device);
    return NULL;
}

/* piece: of sums on devices; 0: through host memory. *pieces, if not NULL: how many a step had. */
static weights_file *train_with_ranks(int size, const train_model *model, const char *start, size_t piece, int *pieces)
{
    char path[64];
    crowd c = {.size = size};
    static member members[RANKS_MOST];
    trained told[RANKS_MOST] = {{.asked = 0}};
    pthread_t threads[RANKS_MOST];
    pthread_barrier_init(&c.barrier, NULL, (unsigned)size);
    snprintf(path, sizeof path, "%s/%s-ranks%d%s.h5", folder, model->name, size, piece ? "-devices" : "");
    unlink(path);
    for (int r = 0; r < size; r++) {
        members[r] = (member){.c = &c, .rank = r, .model = model, .o = options_of(path, 4, &told[r])};
        members[r].o.start = start;
        members[r].o.ranks =
            (train_ranks){.rank = r, .size = size, .sum = crowd_sum, .broadcast = crowd_broadcast, .ctx = &members[r]};
        if (piece) {
            members[r].o.ranks.start = crowd_start;
            members[r].o.ranks.finish = crowd_finish;
            members[r].o.ranks.piece = piece;
        }
        assert_int_equal(pthread_create(&threads[r], NULL, work, &members[r]), 0);
    }
    for (int r = 0; r < size; r++) pthread_join(threads[r], NULL);
    for (int r = 0; r < size; r++) assert_int_equal(members[r].result, COV_OK);
    for (int r = 0; r < size; r++) assert_int_equal(members[r].pieces, members[0].pieces);
    if (pieces) *pieces = members[0].pieces;
    pthread_barrier_destroy(&c.barrier);
    return load(path);
}

/* Relative distance of all parameters, statistics too, from those of one rank. */
static void ranks_agree(const train_model *m, const char *start)
{
    const int sizes[] = {2, 3, 5};
    weights_file *one = train_with_ranks(1, m, start, 0, NULL);
    for (int k = 0; k < 3; k++) {
        weights_file *w = train_with_ranks(sizes[k], m, start, 0, NULL);
        double difference = 0, size = 0;
        for (int p = 0; p < w->param_count; p++)
            for (int64_t i = 0;
                 i < w->params[p].shape[0] * w->params[p].shape[1] * w->params[p].shape[2] * w->params[p].shape[3];
                 i++) {
                double e = (double)w->params[p].values[i] - (double)one->params[p].values[i];
                difference += e * e;
                size += (double)one->params[p].values[i] * (double)one->params[p].values[i];
            }
        assert_true(sqrt(difference / size) <
                    2e-3); /* AdamW turns rounding of tiny gradients into full steps of tiny weights */
        weights_free(&w);
    }
    weights_free(&one);
}

/* With 6 samples a step and groups of `micro` ranks have from 0 to 3 groups of their own. */
static void gradients_summed_on_devices_beside_the_backward_pass_are_those_summed_in_host_memory(void **state)
{
    (void)state;
    static const struct { int size, micro, least, most; } of[] = {{2, 1, 3, 3}, {3, 1, 2, 2}, {5, 1, 1, 2}, {3, 2, 1, 1}, {5, 2, 0, 1}};
    static const struct { size_t piece; int pieces; } cut[] = {{1, 4}, {200, 2}, {1 << 20, 1}};
    for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
        train_model small = small_model(0);
        small.micro = of[k].micro;
        int groups = 6 / small.micro;
        assert_true(groups / of[k].size == of[k].least && (groups + of[k].size - 1) / of[k].size == of[k].most);
        weights_file *host = train_with_ranks(of[k].size, &small, NULL, 0, NULL);
        for (size_t j = 0; j < sizeof cut / sizeof *cut; j++) {
            int pieces;
            weights_file *w = train_with_ranks(of[k].size, &small, NULL, cut[j].piece, &pieces);
            assert_int_equal(pieces, cut[j].pieces);
            assert_string_equal(w->sha256, host->sha256);
            weights_free(&w);
        }
        weights_free(&host);
    }
}

static status no_sum(void *ctx, float *v, size_t n)
{
    member *m = ctx;
    return m->started == 1 ? COV_FAIL(COV_COMM, "no second sum of %zu", n) : crowd_start(m, v, n);
}

static void a_sum_that_cannot_be_started_ends_the_training_when_those_before_it_are_done(void **state)
{
    (void)state;
    char path[64];
    trained t = {0};
    train_model small = small_model(0);
    crowd c = {.size = 1};
    member m = {.c = &c, .o = options_of(in_folder(path, "nosum.h5"), 4, &t)};
    pthread_barrier_init(&c.barrier, NULL, 1);
    m.o.ranks = (train_ranks){.size = 1, .start = no_sum, .finish = crowd_finish, .piece = 1, .ctx = &m};
    assert_int_equal(run_model(m.o, &small), COV_COMM);
    assert_non_null(strstr(status_message(), "no second sum"));
    assert_true(m.started == 0 && m.pieces == 1);
    pthread_barrier_destroy(&c.barrier);
}

/* A device of its own memory: the table of b but for that word. */
static status train_beside(const train_model *m, const char *path, train_options o, char *record, size_t room)
{
    backend apart = *b;
    apart.host_memory = 0;
    o.backend = &apart;
    o.out = path;
    COV_TRY(b->open(&(device_options){.threads = 4}, &o.device));
    status s = train_run(&o, m);
    b->close(&o.device);
    COV_TRY(s);
    weights_file *w = load(path);
    snprintf(record, room, "%s", weights_find_text(w, "training"));
    weights_free(&w);
    return COV_OK;
}

static void a_device_with_memory_of_its_own_takes_a_whole_batch_and_the_same_samples(void **state)
{
    (void)state;
    char one[64], path[64], record[1024];
    double loss[2];
    trained t = {0};
    train_options o = options_of(in_folder(one, "groups.h5"), 9, &t);
    o.micro = 6; /* losses are a group's: with other groups they would be others */
    assert_int_equal(run(o), COV_OK);
    loss[0] = t.first_loss;
    t = (trained){0};
    o.micro = 0;
    assert_int_equal(train_beside(&disc.model, in_folder(path, "whole.h5"), o, record, sizeof record), COV_OK);
    loss[1] = t.first_loss;
    assert_non_null(strstr(record, "batch 6 in groups of 6"));
    assert_true(fabs(loss[0] - loss[1]) < 1e-5 * loss[0]);
}

static void any_number_of_ranks_trains_what_one_rank_trains(void **state)
{
    (void)state;
    ranks_agree(&disc.model, NULL);
}

static void so_it_does_with_batchnorm_and_from_a_start_file(void **state)
{
    (void)state;
    char start[64];
    train_model one = small_model(0), two = small_model(1);
    one.micro = two.micro = 2;
    ranks_agree(&one, NULL);
    ranks_agree(&two, in_folder(start, "first-ranks1.h5"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_learns_a_disc),
        cmocka_unit_test(a_training_stopped_at_any_step_resumes_bit_for_bit),
        cmocka_unit_test(running_statistics_move_and_are_saved),
        cmocka_unit_test(a_stage_starts_from_the_last_ones_file_and_keeps_what_is_frozen),
        cmocka_unit_test(a_finished_model_is_trained_further_from_its_own_file),
        cmocka_unit_test(files_of_another_training_are_refused_and_kept),
        cmocka_unit_test(a_finished_training_is_left_alone),
        cmocka_unit_test(a_training_by_the_clock_records_how_many_steps_that_was),
        cmocka_unit_test(the_length_that_the_clock_gave_is_kept_when_a_training_is_resumed),
        cmocka_unit_test(a_sample_that_cannot_be_made_ends_the_training_with_its_message),
        cmocka_unit_test(a_length_is_needed_and_groups_must_divide_the_batch),
        cmocka_unit_test(a_device_with_memory_of_its_own_takes_a_whole_batch_and_the_same_samples),
        cmocka_unit_test(any_number_of_ranks_trains_what_one_rank_trains),
        cmocka_unit_test(so_it_does_with_batchnorm_and_from_a_start_file),
        cmocka_unit_test(gradients_summed_on_devices_beside_the_backward_pass_are_those_summed_in_host_memory),
        cmocka_unit_test(a_sum_that_cannot_be_started_ends_the_training_when_those_before_it_are_done),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
