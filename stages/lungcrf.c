/* lungcrf: see lungcrf.h. Slices go through a few at a time, so that every thread has one. */
#include "stages/lungcrf.h"
#include "base/size.h"
#include "stages/window.h"
#include <math.h>
#include <stdlib.h>

crf_options lungcrf_defaults(void)
{
    crf_options o = crf_defaults();
    o.w_appearance = 4;
    o.w_smooth = 0.5f;
    o.theta_alpha = 12;
    o.theta_beta = 15;
    o.theta_gamma = 3;
    o.iterations = 3;
    return o;
}

enum { DEVICE_SLICES = 64 }; /* at once on a GPU */

/* What of one volume is at hand while its slices go through; all but bound and z is device memory. */
typedef struct pass {
    const backend *b;
    device *d;
    crf_options o; /* for this grid */
    const int16_t *hu;
    const float *logit;
    uint8_t *mask;
    plane_bound *bound; /* (nz) owned: where the networks see lung */
    plane_part box;     /* the rectangle of all slices */
    int64_t slices;     /* at most this many at once */
    int64_t *z;         /* (slices) owned: which ones */
    float *part_logit, *gray, *probability; /* (slices, h, w) owned */
} pass;

static status pass_room(pass *p)
{
    size_t bytes;
    float **arrays[] = {&p->part_logit, &p->gray, &p->probability};
    p->slices = p->b->host_memory ? 2 * (int64_t)p->b->threads(p->d) : DEVICE_SLICES;
    p->slices = p->slices < p->box.nz ? p->slices : p->box.nz;
    p->z = malloc(sizeof *p->z * (size_t)p->slices);
    if (!p->z || !size_product((const int64_t[]){p->slices, p->box.h, p->box.w, (int64_t)sizeof(float)}, 4, &bytes))
        return COV_FAIL(COV_NOMEM, "no memory for the CRF of %lld slices", (long long)p->slices);
    for (int k = 0; k < 3; k++) {
        void *memory;
        COV_TRY(p->b->alloc(p->d, bytes, &memory));
        *arrays[k] = memory;
    }
    return COV_OK;
}

static void pass_free(pass *p)
{
    float *const arrays[] = {p->part_logit, p->gray, p->probability};
    for (int k = 0; k < 3; k++) p->b->release(p->d, arrays[k]);
    free(p->z);
    free(p->bound);
}

/* Slices z[k], z[k]+1, ... as far as the list of n has neighbours. */
static plane_part neighbours(const pass *p, int64_t k, int64_t n)
{
    plane_part run = p->box;
    run.z0 = p->z[k];
    for (run.n = 1; k + run.n < n && p->z[k + run.n] == run.z0 + run.n; run.n++) {}
    return run;
}

static status run_slices(const pass *p, int64_t n)
{
    plane_part run;
    int64_t area = p->box.h * p->box.w;
    crf_batch batch = {.n = n, .h = p->box.h, .w = p->box.w, .logit = p->part_logit, .intensity = p->gray, .probability = p->probability};
    for (int64_t k = 0; k < n; k += run.n) {
        run = neighbours(p, k, n);
        COV_TRY(p->b->plane_crop(p->d, &run, window_range(window_lung()), p->hu, p->logit, p->gray + k * area, p->part_logit + k * area));
    }
    COV_TRY(p->b->crf(p->d, &p->o, &batch));
    for (int64_t k = 0; k < n; k += run.n) {
        run = neighbours(p, k, n);
        COV_TRY(p->b->plane_mark(p->d, &run, p->probability + k * area, 0.5f, p->mask));
    }
    return COV_OK;
}

/* The box around all pixels that the networks call lung, wider by `spare`; without a row where there are none. */
static void around_lungs(pass *p, int64_t spare)
{
    int64_t nx = p->box.nx, ny = p->box.ny, y0 = ny, y1 = 0, x0 = nx, x1 = 0;
    for (int64_t z = 0; z < p->box.nz; z++) {
        plane_bound b = p->bound[z];
        if (b.x1 == 0) continue;
        x0 = b.x0 < x0 ? b.x0 : x0;
        x1 = b.x1 > x1 ? b.x1 : x1;
        y0 = b.y0 < y0 ? b.y0 : y0;
        y1 = b.y1 > y1 ? b.y1 : y1;
    }
    if (x1 == 0) return;
    y0 = y0 > spare ? y0 - spare : 0;
    x0 = x0 > spare ? x0 - spare : 0;
    y1 = y1 + spare < ny ? y1 + spare : ny;
    x1 = x1 + spare < nx ? x1 + spare : nx;
    p->box.y0 = y0;
    p->box.x0 = x0;
    p->box.h = y1 - y0;
    p->box.w = x1 - x0;
}

/* A bandwidth of a 512-pixel slice on a grid of nx pixels, within what the CRF takes: 16-pixel slices are no error. */
static float scaled_theta(float theta, int64_t nx)
{
    float scaled = theta * (float)nx / 512.0f;
    scaled = scaled > (float)CRF_MIN_THETA ? scaled : (float)CRF_MIN_THETA;
    return scaled < (float)CRF_MAX_THETA ? scaled : (float)CRF_MAX_THETA;
}

static status run_crf(pass *p, const crf_options *o)
{
    int64_t n = 0;
    p->o = *o;
    p->o.theta_alpha = scaled_theta(o->theta_alpha, p->box.nx);
    p->o.theta_gamma = scaled_theta(o->theta_gamma, p->box.nx);
    p->bound = malloc(sizeof *p->bound * (size_t)p->box.nz);
    if (!p->bound) return COV_FAIL(COV_NOMEM, "no memory for the bounds of %lld slices", (long long)p->box.nz);
    COV_TRY(p->b->plane_bounds(p->d, p->box.nz, p->box.ny, p->box.nx, p->logit, p->bound));
    around_lungs(p, (int64_t)ceilf(2 * p->o.theta_alpha));
    if (p->box.h == 0) return COV_OK;
    COV_TRY(pass_room(p));
    for (int64_t z = 0; z < p->box.nz; z++) {
        if (p->bound[z].x1 > 0) p->z[n++] = z;
        if (n == p->slices || (n > 0 && z + 1 == p->box.nz)) {
            COV_TRY(run_slices(p, n));
            n = 0;
        }
    }
    return COV_OK;
}

status lungcrf_run(const backend *b, device *d, const crf_options *o, const volume_header *h, const int16_t *hu, const float *logit,
                   uint8_t *mask)
{
    void *there = NULL;
    status s;
    plane_part all = {.nx = h->nx, .ny = h->ny, .nz = h->nz, .w = h->nx, .h = h->ny, .n = h->nz};
    pass p = {.b = b, .d = d, .hu = hu, .logit = logit, .box = {.nx = h->nx, .ny = h->ny, .nz = h->nz}};
    size_t bytes = (size_t)(h->nx * h->ny * h->nz);
    COV_GO(backend_lend(b, d, mask, bytes, 0, &there));
    p.mask = there;
    if (o) COV_GO(b->zero(d, there, bytes));
    COV_GO(o ? run_crf(&p, o) : b->plane_mark(d, &all, logit, 0, there));
    COV_GO(backend_fetch(b, d, there, bytes, mask));
done:
    pass_free(&p);
    backend_return(b, d, mask, &there);
    return s;
}
