/* lungcrf: see lungcrf.h. Slices go through a few at a time, so that every thread has one. */
#include "stages/lungcrf.h"
#include "stages/window.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

typedef struct rectangle { int64_t y0, x0, rows, cols; } rectangle;

typedef struct room {
    int64_t slices; /* at most this many at once */
    int64_t *z;     /* which ones */
    rectangle box;  /* of each */
    float *logit, *intensity, *probability;
} room;

static status room_new(room *r, int64_t slices, const rectangle *box)
{
    size_t bytes = sizeof(float) * (size_t)(slices * box->rows * box->cols);
    *r = (room){.slices = slices, .box = *box, .z = malloc(sizeof *r->z * (size_t)slices), .logit = malloc(bytes), .intensity = malloc(bytes),
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
    rectangle box = r->box;
    for (int64_t k = 0; k < n; k++)
        for (int64_t y = 0; y < box.rows; y++) {
            int64_t from = (r->z[k] * v->head.ny + box.y0 + y) * v->head.nx + box.x0, to = (k * box.rows + y) * box.cols;
            memcpy(r->logit + to, logit + from, sizeof *logit * (size_t)box.cols);
            window_run(window_lung(), (size_t)box.cols, v->hu + from, r->intensity + to);
        }
    for (int64_t i = 0; i < n * box.rows * box.cols; i++) r->intensity[i] *= 255.0f;
    crf_batch batch = {.n = n, .h = box.rows, .w = box.cols, .logit = r->logit, .intensity = r->intensity,
                       .probability = r->probability};
    COV_TRY(backend_crf(b, d, o, &batch));
    for (int64_t k = 0; k < n; k++)
        for (int64_t y = 0; y < box.rows; y++) {
            uint8_t *row = mask + (r->z[k] * v->head.ny + box.y0 + y) * v->head.nx + box.x0;
            const float *probability = r->probability + (k * box.rows + y) * box.cols;
            for (int64_t x = 0; x < box.cols; x++) row[x] = probability[x] > 0.5f;
        }
    return COV_OK;
}

/* Around all pixels that the networks call lung, wider by `spare`; without a row where there are none. */
static rectangle around_lungs(const volume *v, const float *logit, int64_t spare)
{
    int64_t nx = v->head.nx, ny = v->head.ny, y0 = ny, y1 = 0, x0 = nx, x1 = 0;
    for (int64_t k = 0; k < v->head.nz * ny; k++) {
        const float *row = logit + k * nx;
        int64_t first = 0, last = nx, y = k % ny;
        while (first < nx && row[first] <= 0) first++;
        if (first == nx) continue;
        while (row[last - 1] <= 0) last--;
        x0 = first < x0 ? first : x0;
        x1 = last > x1 ? last : x1;
        y0 = y < y0 ? y : y0;
        y1 = y + 1 > y1 ? y + 1 : y1;
    }
    if (x1 == 0) return (rectangle){0};
    y0 = y0 > spare ? y0 - spare : 0;
    x0 = x0 > spare ? x0 - spare : 0;
    y1 = y1 + spare < ny ? y1 + spare : ny;
    x1 = x1 + spare < nx ? x1 + spare : nx;
    return (rectangle){.y0 = y0, .x0 = x0, .rows = y1 - y0, .cols = x1 - x0};
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
    memset(mask, 0, (size_t)(v->head.nz * area));
    rectangle box = around_lungs(v, logit, (int64_t)ceilf(2 * scaled.theta_alpha));
    if (box.rows == 0) return COV_OK;
    COV_GO(room_new(&r, b->host_memory ? 2 * (int64_t)b->threads(d) : DEVICE_SLICES, &box));
    for (int64_t z = 0; z < v->head.nz; z++) {
        if (has_lung(logit + z * area, area)) r.z[n++] = z;
        if (n == r.slices || (n > 0 && z + 1 == v->head.nz)) {
            COV_GO(run_slices(b, d, &scaled, v, logit, &r, n, mask));
            n = 0;
        }
    }
done:
    room_free(&r);
    return s;
}
