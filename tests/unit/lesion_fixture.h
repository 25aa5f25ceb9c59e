/* lesion_fixture: what the tests of lesion networks share: synthetic slices with bright discs for lesions, and a short
 * training. */
#ifndef COV_TESTS_LESION_FIXTURE_H
#define COV_TESTS_LESION_FIXTURE_H
#include "kernels/optim.h"
#include "stages/lesionnet.h"
#include "stages/regions.h"
#include "stages/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const backend *b;
static device *d;

static inline void ok(status s)
{
    if (s != COV_OK) fail_msg("%s", status_message());
}

static inline int open_device(void **state)
{
    (void)state;
    return backend_find("cpu", &b) != COV_OK || b->open(&(device_options){.threads = 1}, &d) != COV_OK;
}

static inline int close_device(void **state)
{
    (void)state;
    b->close(&d);
    return 0;
}

/* One batch of samples: grey noise, `discs` bright discs (or none) in the middle channel. */
typedef struct batch {
    int64_t n, side;
    float *image, *target, *boxes;
    int32_t *period;
} batch;

static inline batch batch_new(int64_t n, int64_t side)
{
    size_t pixels = (size_t)(n * side * side);
    return (batch){.n = n,
                   .side = side,
                   .image = malloc(3 * pixels * sizeof(float)),
                   .target = malloc(pixels * sizeof(float)),
                   .boxes = malloc((size_t)n * LESIONNET_BOXES * 5 * sizeof(float)),
                   .period = malloc((size_t)n * sizeof(int32_t))};
}

static inline void batch_free(batch *t)
{
    free(t->image);
    free(t->target);
    free(t->boxes);
    free(t->period);
}

/* Sample i of the batch, drawn from `seed`. */
static inline void batch_draw(batch *t, int64_t i, uint64_t seed, int discs)
{
    int64_t side = t->side, pixels = side * side, count = 0;
    rng g = rng_start(11, seed);
    uint8_t *mask = calloc((size_t)pixels, 1);
    int32_t *labels = malloc((size_t)pixels * sizeof *labels);
    region *list = NULL;
    for (int k = 0; k < discs; k++) {
        float r = rng_range(&g, 5, (float)side / 6), y = rng_range(&g, r + 1, (float)side - r - 1),
              x = rng_range(&g, r + 1, (float)side - r - 1);
        for (int64_t p = 0; p < pixels; p++) {
            float dy = (float)(p / side) - y, dx = (float)(p % side) - x;
            if (dy * dy + dx * dx <= r * r) mask[p] = 1;
        }
    }
    for (int64_t p = 0; p < pixels; p++)
        for (int c = 0; c < 3; c++)
            t->image[(i * pixels + p) * 3 + c] = 0.2f + 0.05f * rng_normal(&g) + (c == 1 && mask[p] ? 0.5f : 0.0f);
    ok(regions_find(mask, side, side, labels, &list, &count));
    float *row = t->boxes + i * LESIONNET_BOXES * 5;
    memset(row, 0, LESIONNET_BOXES * 5 * sizeof *row);
    for (int64_t k = 0; k < count; k++, row += 5) {
        row[0] = (float)list[k].y0;
        row[1] = (float)list[k].x0;
        row[2] = (float)list[k].y1;
        row[3] = (float)list[k].x1;
        row[4] = 1;
    }
    for (int64_t p = 0; p < pixels; p++) t->target[i * pixels + p] = mask[p];
    t->period[i] = discs ? 2 : 0;
    free(list);
    free(labels);
    free(mask);
}

static inline void batch_give(net *n, const lesionnet *g, const batch *t)
{
    ok(net_set_input(n, g->in.image, t->image));
    ok(net_set_input(n, g->in.target, t->target));
    ok(net_set_input(n, g->in.period, t->period));
    ok(net_set_input(n, g->in.boxes, t->boxes));
}

/* A training: `steps` steps of AdamW, two of three samples with discs. samples: how many there are, the last of a round
 * followed by the first. first, last: means of each loss over the first and the last quarter of the steps. */
typedef struct training {
    net *n;
    lesionnet g;
    batch samples;
} training;

static inline training training_new(lesionnet_model m, const char *preset, int64_t n, int64_t side)
{
    training t = {.samples = batch_new(n, side)};
    ok(net_new(b, d, 3, &t.n));
    ok(lesionnet_build_training(t.n, m, preset, n, side, side, 5, &t.g));
    ok(net_compile(t.n, NET_TRAIN, NET_FP32, t.g.loss, t.g.weight, t.g.losses));
    return t;
}

static inline void training_free(training *t)
{
    net_free(&t->n);
    lesionnet_free(&t->g);
    batch_free(&t->samples);
}

static inline void training_run(training *t, int steps, int samples, float rate, float first[LESIONNET_LOSSES],
                                float last[LESIONNET_LOSSES])
{
    optim_options o = optim_defaults(1);
    optim *adam;
    o.rate = rate;
    o.clip = 5;
    ok(optim_new(t->n, &o, &adam));
    for (int k = 0; k < LESIONNET_LOSSES; k++) first[k] = last[k] = 0;
    for (int s = 0; s < steps; s++) {
        float norm, v;
        for (int64_t i = 0; i < t->samples.n; i++) {
            int64_t k = (s * t->samples.n + i) % samples;
            batch_draw(&t->samples, i, (uint64_t)k, (int)((k + 1) % 3));
        }
        batch_give(t->n, &t->g, &t->samples);
        ok(net_forward(t->n));
        ok(net_backward(t->n));
        for (int k = 0; k < t->g.losses; k++) {
            ok(net_get(t->n, t->g.loss[k], &v));
            assert_true(isfinite(v));
            if (s < steps / 4) first[k] += v / (float)(steps / 4);
            if (s >= steps - steps / 4) last[k] += v / (float)(steps / 4);
        }
        ok(optim_run(adam, 1, &norm));
    }
    optim_free(&adam);
}
#endif
