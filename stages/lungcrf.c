/* lungcrf: see lungcrf.h. Slices go through a few at a time, so that every thread has one. */
#include "stages/lungcrf.h"
#include "stages/window.h"
#include <stdlib.h>
#include <string.h>

crf_options lungcrf_defaults(void)
{
    crf_options o = crf_defaults();
    o.w_appearance = 0.5f;
    o.w_smooth = 1;
    o.theta_alpha = 40;
    o.theta_beta = 15;
    o.theta_gamma = 3;
    return o;
}

enum { DEVICE_SLICES = 64 }; /* at once on a GPU */

typedef struct room {
    int64_t slices; /* at most this many at once */
    int64_t *z;     /* which ones */
    float *logit, *intensity, *probability;
} room;

static status room_new(room *r, int64_t slices, int64_t area)
{
    size_t bytes = sizeof(float) * (size_t)(slices * area);
    *r = (room){.slices = slices, .z = malloc(sizeof *r->z * (size_t)slices), .logit = malloc(bytes), .intensity = malloc(bytes),
                .probability = malloc(bytes)};
    if (r->z && r->logit && r->intensity && r->probability) return COV_OK;
    return COV_FAIL(COV_NOMEM, "no memory for the CRF of %lld slices", (long long)slices);
}

static void room_free(room *r)
{
    free(r->z);
    free(r->logit);
    free(r->intensity);
    free(r->probability);
}

static status run_slices(const backend *b, device *d, const crf_options *o, const volume *v, const float *logit, room *r,
                         int64_t n, uint8_t *mask)
{
    int64_t area = v->head.nx * v->head.ny;
    for (int64_t k = 0; k < n; k++) {
        memcpy(r->logit + k * area, logit + r->z[k] * area, sizeof *logit * (size_t)area);
        window_run(window_lung(), (size_t)area, v->hu + r->z[k] * area, r->intensity + k * area);
    }
    for (int64_t i = 0; i < n * area; i++) r->intensity[i] *= 255.0f;
    crf_batch batch = {.n = n, .h = v->head.ny, .w = v->head.nx, .logit = r->logit, .intensity = r->intensity,
                       .probability = r->probability};
    COV_TRY(backend_crf(b, d, o, &batch));
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < area; i++) mask[r->z[k] * area + i] = r->probability[k * area + i] > 0.5f;
    return COV_OK;
}

static int has_lung(const float *logit, int64_t area)
{
    for (int64_t i = 0; i < area; i++)
        if (logit[i] > 0) return 1;
    return 0;
}

/* A bandwidth of a 512-pixel slice on a grid of nx pixels, within what the CRF takes: 16-pixel slices are no error. */
static float scaled_theta(float theta, int64_t nx)
{
    float scaled = theta * (float)nx / 512.0f;
    scaled = scaled > (float)CRF_MIN_THETA ? scaled : (float)CRF_MIN_THETA;
    return scaled < (float)CRF_MAX_THETA ? scaled : (float)CRF_MAX_THETA;
}

status lungcrf_run(const backend *b, device *d, const crf_options *o, const volume *v, const float *logit, uint8_t *mask)
{
    status s;
    room r = {0};
    int64_t area = v->head.nx * v->head.ny, n = 0;
    crf_options scaled = *o;
    scaled.theta_alpha = scaled_theta(o->theta_alpha, v->head.nx);
    scaled.theta_gamma = scaled_theta(o->theta_gamma, v->head.nx);
    COV_GO(room_new(&r, b->host_memory ? 2 * (int64_t)b->threads(d) : DEVICE_SLICES, area));
    for (int64_t z = 0; z < v->head.nz; z++) {
        if (has_lung(logit + z * area, area))
            r.z[n++] = z;
        else
            memset(mask + z * area, 0, (size_t)area);
        if (n == r.slices || (n > 0 && z + 1 == v->head.nz)) {
            COV_GO(run_slices(b, d, &scaled, v, logit, &r, n, mask));
            n = 0;
        }
    }
done:
    room_free(&r);
    return s;
}
