/* Training on made-up discs: it learns, it resumes bit for bit, ranks do what one rank does, and files of another training
 * are refused. Ranks are threads here; the sums are those of a barrier. */
#include "stages/train.h"
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

enum { SIDE = 48, SLICES = 12, INPUT = 32, RANKS_MOST = 5 };
static const backend *b;
static sampler *samples;
static char folder[] = "/tmp/stages_train_XXXXXX";

/* Two volumes of two "lungs" each, of different sizes, and one isolated slice. */
static void add_volume(const char *patient, int radius)
{
    volume_header h = {.nx = SIDE, .ny = SIDE, .nz = SLICES, .spacing_mm = {4, 4, 12}};
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
    if (!mkdtemp(folder) || backend_find("cpu", &b) != COV_OK || sampler_new(&o, &samples) != COV_OK) return 1;
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
    t->last = *r;
    t->reports++;
}

static train_options options_of(const char *path, int64_t steps, trained *t)
{
    train_options o = train_defaults(LUNGNET_AXIAL);
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

static status run(train_options o)
{
    assert_int_equal(b->open(&(device_options){.threads = 1}, &o.device), COV_OK);
    status s = train_run(&o, samples);
    b->close(&o.device);
    return s;
}

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

static void a_training_stopped_at_any_step_resumes_bit_for_bit(void **state)
{
    (void)state;
    char whole[64], parts[64];
    trained t = {0};
    assert_int_equal(run(options_of(in_folder(whole, "whole.h5"), 11, &t)), COV_OK);
    in_folder(parts, "parts.h5");
    for (int64_t at = 0; at < 11; at += 4) { /* stops after 4, 8; the coarse steps end at 6 */
        trained part = {.stop_at = 4};
        status s = run(options_of(parts, 11, &part));
        assert_int_equal(s, at + 4 < 11 ? COV_STOPPED : COV_OK);
        assert_int_equal(access(parts, F_OK), at + 4 < 11 ? -1 : 0);
    }
    weights_file *a = load(whole), *c = load(parts);
    assert_int_equal(a->param_count, c->param_count);
    assert_string_equal(a->sha256, c->sha256);
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
    status result;
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

static void *work(void *argument)
{
    member *m = argument;
    m->result = b->open(&(device_options){.threads = 1}, &m->o.device);
    if (m->result == COV_OK) m->result = train_run(&m->o, samples);
    b->close(&m->o.device);
    return NULL;
}

static weights_file *train_with_ranks(int size, const char *name)
{
    char path[64];
    crowd c = {.size = size};
    member members[RANKS_MOST];
    trained told[RANKS_MOST] = {{.asked = 0}};
    pthread_t threads[RANKS_MOST];
    pthread_barrier_init(&c.barrier, NULL, (unsigned)size);
    in_folder(path, name);
    for (int r = 0; r < size; r++) {
        members[r] = (member){.c = &c, .rank = r, .o = options_of(path, 4, &told[r])};
        members[r].o.ranks = (train_ranks){.rank = r, .size = size, .sum = crowd_sum, .broadcast = crowd_broadcast, .ctx = &members[r]};
        assert_int_equal(pthread_create(&threads[r], NULL, work, &members[r]), 0);
    }
    for (int r = 0; r < size; r++) pthread_join(threads[r], NULL);
    for (int r = 0; r < size; r++) assert_int_equal(members[r].result, COV_OK);
    pthread_barrier_destroy(&c.barrier);
    return load(path);
}

static void any_number_of_ranks_trains_what_one_rank_trains(void **state)
{
    (void)state;
    const int sizes[] = {2, 3, 5};
    const char *const names[] = {"ranks2.h5", "ranks3.h5", "ranks5.h5"};
    weights_file *one = train_with_ranks(1, "ranks1.h5");
    for (int k = 0; k < 3; k++) {
        weights_file *w = train_with_ranks(sizes[k], names[k]);
        double difference = 0, size = 0;
        for (int p = 0; p < w->param_count; p++)
            for (int64_t i = 0; i < w->params[p].shape[0] * w->params[p].shape[1] * w->params[p].shape[2] * w->params[p].shape[3]; i++) {
                double e = (double)w->params[p].values[i] - (double)one->params[p].values[i];
                difference += e * e;
                size += (double)one->params[p].values[i] * (double)one->params[p].values[i];
            }
        assert_true(sqrt(difference / size) < 2e-3); /* AdamW turns rounding of tiny gradients into full steps of tiny weights */
        weights_free(&w);
    }
    weights_free(&one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_learns_a_disc),
        cmocka_unit_test(a_training_stopped_at_any_step_resumes_bit_for_bit),
        cmocka_unit_test(files_of_another_training_are_refused_and_kept),
        cmocka_unit_test(a_finished_training_is_left_alone),
        cmocka_unit_test(a_training_by_the_clock_records_how_many_steps_that_was),
        cmocka_unit_test(a_length_is_needed_and_groups_must_divide_the_batch),
        cmocka_unit_test(any_number_of_ranks_trains_what_one_rank_trains),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
