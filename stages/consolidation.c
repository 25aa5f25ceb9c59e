/* consolidation: see consolidation.h. Opacities are balls in a space where the half extents of both lungs' box are 1, so
 * that their shape does not depend on a spacing which is often nominal. How large one must be to cover a voxel is known
 * voxel by voxel, so the size that fills a given share of the lung is a quantile over the lung's voxels, and no
 * search. */
#include "stages/consolidation.h"
#include "stages/opacity.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Shares of the lung: a little and a lot, as one lobe or several are consolidated. */
static const struct spot {
    int copy, posterior;
    double share;
} SPOTS[] = {{0, 1, 0.03}, {0, 0, 0.01}, {1, 1, 0.07}, {1, 1, 0.04}, {1, 0, 0.025}, {1, 0, 0.015}};
enum { SPOT_COUNT = sizeof SPOTS / sizeof *SPOTS, BINS = 8192 };
static const float LARGEST = 2.0f; /* the opposite wall of both lungs' box */

typedef struct chest {
    const volume *v;
    const uint8_t *lung;
    int64_t voxels, low[3], high[3]; /* x, y, z of the lungs' box, both inside */
} chest;

typedef struct ball {
    int64_t at[3], low, high; /* columns low .. high-1: the middle's side of the chest */
    float radius[3];          /* voxels of a ball of size 1 */
    opacity look;             /* cell in units of radius */
} ball;

double consolidation_share(int copy)
{
    double sum = 0.0;
    for (int k = 0; k < SPOT_COUNT; k++) sum += SPOTS[k].copy == copy ? SPOTS[k].share : 0.0;
    return sum;
}

static size_t index_of(const volume_header *h, const int64_t at[3])
{
    return (size_t)((at[2] * h->ny + at[1]) * h->nx + at[0]);
}

static status chest_of(const volume *v, const uint8_t *lung, chest *out)
{
    const volume_header *h = &v->head;
    chest c = {.v = v, .lung = lung, .low = {h->nx, h->ny, h->nz}};
    for (int64_t i = 0; i < h->nx * h->ny * h->nz; i++) {
        if (!lung[i]) continue;
        const int64_t at[3] = {i % h->nx, i / h->nx % h->ny, i / h->nx / h->ny};
        for (int k = 0; k < 3; k++) {
            if (at[k] < c.low[k]) c.low[k] = at[k];
            if (at[k] > c.high[k]) c.high[k] = at[k];
        }
        c.voxels++;
    }
    if (c.voxels == 0) return COV_FAIL(COV_USAGE, "no lung to draw consolidation into");
    *out = c;
    return COV_OK;
}

/* A voxel of the lung, every one as likely; posterior: the hindmost one of its column. */
static void find_place(const chest *c, rng *r, int posterior, int64_t at[3])
{
    int64_t left = (int64_t)rng_below(r, (uint64_t)c->voxels), i = 0;
    const volume_header *h = &c->v->head;
    while (!c->lung[i] || left-- > 0) i++;
    at[0] = i % h->nx;
    at[1] = posterior ? c->high[1] : i / h->nx % h->ny;
    at[2] = i / h->nx / h->ny;
    while (!c->lung[index_of(h, at)]) at[1]--;
}

static ball draw_ball(const chest *c, rng *r, int posterior)
{
    ball b = {.low = c->low[0], .high = c->high[0] + 1};
    int64_t middle = (b.low + b.high) / 2;
    find_place(c, r, posterior, b.at);
    if (b.at[0] < middle) b.high = middle;
    else b.low = middle;
    for (int k = 0; k < 3; k++)
        b.radius[k] = 0.5f * (float)(c->high[k] - c->low[k] + 1) * expf(rng_range(r, -0.3f, 0.3f));
    b.look = opacity_draw(r, posterior ? OPACITY_PLEURAL : OPACITY_DENSE);
    b.look.cell *= (float)c->v->head.nx / b.radius[0];
    return b;
}

/* Distance from the ball's middle, and the noise there. */
static float distance_of(const ball *b, const int64_t at[3], float *noise)
{
    float z = (float)(at[0] - b->at[0]) / b->radius[0], y = (float)(at[1] - b->at[1]) / b->radius[1], x = (float)(at[2] - b->at[2]) / b->radius[2];
    *noise = opacity_noise(b->look.key, x / b->look.cell, y / b->look.cell, z / b->look.cell);
    return sqrtf(z * z + y * y + x * x);
}

/* fn for every voxel of the lung on the ball's side. */
static void each_voxel(const chest *c, const ball *b, void (*fn)(void *, size_t, float, float), void *ctx)
{
    const volume_header *h = &c->v->head;
    int64_t at[3];
    for (at[2] = c->low[2]; at[2] <= c->high[2]; at[2]++)
        for (at[1] = c->low[1]; at[1] <= c->high[1]; at[1]++)
            for (at[0] = b->low; at[0] < b->high; at[0]++) {
                size_t i = index_of(h, at);
                float noise;
                if (!c->lung[i]) continue;
                float distance = distance_of(b, at, &noise);
                fn(ctx, i, distance, noise);
            }
}

typedef struct fill {
    const ball *ball;
    float size;
    rng *r;
    int16_t *hu;
    uint8_t *drawn;
    int64_t count[BINS]; /* voxels not yet drawn, by the size at which they are half covered */
} fill;

static void count_voxel(void *ctx, size_t i, float distance, float noise)
{
    fill *f = ctx;
    float half = opacity_half(&f->ball->look, noise);
    if (f->drawn[i] || half * LARGEST <= distance) return;
    f->count[(int)(distance / half / LARGEST * BINS)]++;
}

/* Vessels, which are denser, stay. The noise is drawn for every voxel, so that it does not depend on what is there. */
static void draw_voxel(void *ctx, size_t i, float distance, float noise)
{
    fill *f = ctx;
    const opacity *look = &f->ball->look;
    float cover = opacity_cover(look, distance / f->size, noise), old = (float)f->hu[i];
    float hu = look->hu + look->grain * rng_normal(f->r);
    if (cover >= 0.5f) f->drawn[i] = 1;
    if (hu > old) f->hu[i] = (int16_t)lrintf(old + cover * (hu - old));
}

/* The size of the ball at which it fills so many voxels more. */
static float size_for(const fill *f, double voxels)
{
    int k = 0;
    for (double sum = 0.0; k < BINS && sum < voxels; k++) sum += (double)f->count[k];
    return LARGEST * (float)k / BINS;
}

status consolidation_draw(const volume *v, const uint8_t *lung, int copy, uint64_t seed, int16_t *hu, uint8_t *drawn)
{
    chest c;
    size_t n = (size_t)v->head.nx * (size_t)v->head.ny * (size_t)v->head.nz;
    rng r = rng_start(seed, (uint64_t)copy);
    COV_TRY(chest_of(v, lung, &c));
    fill *f = malloc(sizeof *f);
    if (!f) return COV_FAIL(COV_NOMEM, "no memory to draw consolidation");
    memcpy(hu, v->hu, n * sizeof *hu);
    memset(drawn, 0, n);
    for (int k = 0; k < SPOT_COUNT; k++) {
        if (SPOTS[k].copy != copy) continue;
        ball b = draw_ball(&c, &r, SPOTS[k].posterior);
        *f = (fill){.ball = &b, .r = &r, .hu = hu, .drawn = drawn};
        each_voxel(&c, &b, count_voxel, f);
        f->size = size_for(f, SPOTS[k].share * (double)c.voxels);
        if (f->size > 0.0f) each_voxel(&c, &b, draw_voxel, f);
    }
    free(f);
    return COV_OK;
}
