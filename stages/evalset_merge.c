/* evalset_merge: the multi-augmented samples of the paper's Table 3. A sample is a 512 x 512 picture of one to four
 * slices of one patient, in one of four layouts that change their proportions or their size. Nothing is pasted into a
 * slice: a slice stays whole, with its own lesions. Test only: training never sees such pictures. */
#include "stages/evalset.h"
#include "stages/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 512, PARTS_MOST = 4, LAYOUTS = 4 };

typedef struct pool_slice {
    const char *patient;
    int64_t rows, cols;
    int has_lung;
    int16_t *hu;   /* owned, with lesion and lung behind it in the same block */
    uint8_t *lesion, *lung;
} pool_slice;

struct evalset_pool {
    pool_slice *at;
    size_t count, room;
};

status evalset_pool_new(evalset_pool **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? COV_OK : COV_FAIL(COV_NOMEM, "no memory for a pool of slices");
}

void evalset_pool_free(evalset_pool **p)
{
    if (!p || !*p) return;
    for (size_t k = 0; k < (*p)->count; k++) free((*p)->at[k].hu);
    free((*p)->at);
    free(*p);
    *p = NULL;
}

static status add_slice(evalset_pool *p, const evalset_study *s, const uint8_t *lung, int64_t z)
{
    const volume_header *h = &s->v.ct.head;
    size_t n = (size_t)h->nx * (size_t)h->ny, from = (size_t)z * n;
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 64;
        pool_slice *more = realloc(p->at, room * sizeof *more);
        if (!more) return COV_FAIL(COV_NOMEM, "no memory for a pool of %zu slices", room);
        p->at = more;
        p->room = room;
    }
    pool_slice t = {.patient = s->patient, .rows = h->ny, .cols = h->nx, .has_lung = lung != NULL, .hu = malloc(4 * n)};
    if (!t.hu) return COV_FAIL(COV_NOMEM, "no memory for a slice of %zu pixels", n);
    t.lesion = (uint8_t *)(t.hu + n);
    t.lung = t.lesion + n;
    memcpy(t.hu, s->v.ct.hu + from, 2 * n);
    memcpy(t.lesion, s->v.lesion + from, n);
    if (lung) memcpy(t.lung, lung + from, n);
    else memset(t.lung, 1, n);
    p->at[p->count++] = t;
    return COV_OK;
}

status evalset_pool_add(evalset_pool *p, const evalset_study *s, const uint8_t *lung)
{
    const volume_header *h = &s->v.ct.head;
    size_t n = (size_t)h->nx * (size_t)h->ny;
    for (int64_t z = 0; z < h->nz; z++)
        if (memchr(s->v.lesion + (size_t)z * n, 1, n)) COV_TRY(add_slice(p, s, lung, z));
    return COV_OK;
}

/* ---- one slice into a rectangle of the sample */

typedef struct place { int64_t y, x, h, w; } place;

/* A tent as wide as a source pixel or a target pixel, whichever is wider: bilinear when enlarging, averaging when
 * shrinking. */
typedef struct taps { int64_t first, count; double at, reach; } taps;
static taps taps_of(int64_t k, int64_t target, int64_t source)
{
    double scale = (double)source / (double)target, reach = scale > 1 ? scale : 1, at = ((double)k + 0.5) * scale - 0.5;
    int64_t first = (int64_t)ceil(at - reach), last = (int64_t)floor(at + reach);
    return (taps){first, last - first + 1, at, reach};
}

static double tap(const taps *t, int64_t k, int64_t size, int64_t *source)
{
    int64_t i = t->first + k;
    *source = i < 0 ? 0 : i >= size ? size - 1 : i;
    return 1 - fabs((double)i - t->at) / t->reach;
}

static int16_t resampled(const pool_slice *s, const taps *ty, const taps *tx)
{
    double sum = 0, weight = 0;
    for (int64_t j = 0; j < ty->count; j++) {
        int64_t y, x;
        double wy = tap(ty, j, s->rows, &y);
        for (int64_t i = 0; i < tx->count; i++) {
            double w = wy * tap(tx, i, s->cols, &x);
            sum += w * (double)s->hu[y * s->cols + x];
            weight += w;
        }
    }
    return (int16_t)lrint(sum / weight);
}

static void put_slice(const pool_slice *s, place p, int16_t *hu, uint8_t *lesion, uint8_t *lung)
{
    for (int64_t y = 0; y < p.h; y++)
        for (int64_t x = 0; x < p.w; x++) {
            int64_t to = (p.y + y) * SIDE + p.x + x,
                    from = (2 * y + 1) * s->rows / (2 * p.h) * s->cols + (2 * x + 1) * s->cols / (2 * p.w);
            taps ty = taps_of(y, p.h, s->rows), tx = taps_of(x, p.w, s->cols);
            hu[to] = resampled(s, &ty, &tx);
            lesion[to] = s->lesion[from];
            if (lung) lung[to] = s->lung[from];
        }
}

/* Fills places; returns how many. *same: all show one slice. */
static int layout(int kind, place to[PARTS_MOST], int *same)
{
    enum { HALF = SIDE / 2, THIRD = SIDE / 3 };
    *same = kind == 0;
    if (kind == 0) { /* one slice three times, squeezed to a third of its width */
        for (int k = 0; k < 3; k++) to[k] = (place){0, k * THIRD, SIDE, THIRD};
        return 3;
    }
    if (kind == 1 || kind == 2) { /* two, squeezed side by side or one above the other */
        for (int k = 0; k < 2; k++)
            to[k] = kind == 1 ? (place){0, k * HALF, SIDE, HALF} : (place){k * HALF, 0, HALF, SIDE};
        return 2;
    }
    for (int k = 0; k < 4; k++)
        to[k] = (place){k / 2 * HALF, k % 2 * HALF, HALF, HALF}; /* four, in their proportions */
    return 4;
}

/* One patient's slices, n of them, into 3 n / 2 samples. */
static status merge_patient(const pool_slice *const *slices, int64_t n, uint64_t seed, evalset_study *out)
{
    const int64_t samples = (3 * n + 1) / 2;
    const size_t area = (size_t)SIDE * SIDE;
    COV_TRY(evalset_make(SIDE, SIDE, samples, slices[0]->has_lung, out));
    out->patient = slices[0]->patient;
    out->isolated = out->v.ct.head.isolated = 1;
    snprintf(out->id, sizeof out->id, "%.110s merged", slices[0]->patient);
    for (int64_t k = 0; k < samples; k++) {
        rng r = rng_start(seed, (uint64_t)k);
        place to[PARTS_MOST];
        int same, parts = layout((int)rng_below(&r, LAYOUTS), to, &same);
        for (int p = 0; p < parts; p++) {
            const pool_slice *s = slices[same || p == 0 ? k % n : (int64_t)rng_below(&r, (uint64_t)n)];
            put_slice(s, to[p], out->v.ct.hu + (size_t)k * area, out->v.lesion + (size_t)k * area,
                      out->v.lung ? out->v.lung + (size_t)k * area : NULL);
        }
    }
    return COV_OK;
}

/* The first `take` of a shuffle, put back into the pool's order, in which a patient's slices with and without lung are
 * runs. */
static void draw(const evalset_pool *p, size_t take, uint64_t seed, uint8_t *chosen)
{
    rng r = rng_start(seed, UINT64_MAX);
    size_t left = take;
    for (size_t k = 0; k < p->count; k++)
        if (rng_below(&r, p->count - k) < left) { chosen[k] = 1; left--; }
}

status evalset_pool_merge(const evalset_pool *p, int64_t slices, uint64_t seed, evalset_study **out, size_t *count,
                          int64_t *drawn)
{
    status s = COV_OK;
    size_t take = slices < 0 ? 0 : (size_t)slices < p->count ? (size_t)slices : p->count, n = 0;
    uint8_t *chosen = calloc(p->count + 1, 1);
    const pool_slice **run = malloc((p->count + 1) * sizeof *run);
    *count = 0;
    *drawn = (int64_t)take;
    *out = calloc(p->count + 1, sizeof **out);
    if (!chosen || !run || !*out) COV_GO(COV_FAIL(COV_NOMEM, "no memory to merge %zu slices", p->count));
    draw(p, take, seed, chosen);
    for (size_t k = 0; k <= p->count; k++) {
        const pool_slice *at = k < p->count ? &p->at[k] : NULL;
        if (n && (!at || strcmp(at->patient, run[0]->patient) != 0 || at->has_lung != run[0]->has_lung)) {
            COV_GO(merge_patient(run, (int64_t)n, seed + *count, &(*out)[*count]));
            (*count)++;
            n = 0;
        }
        if (at && chosen[k]) run[n++] = at;
    }
done:
    free(chosen);
    free(run);
    if (s != COV_OK) {
        for (size_t k = 0; *out && k < *count; k++) evalset_free(&(*out)[k]);
        free(*out);
        *out = NULL;
        *count = 0;
    }
    return s;
}
