/* tripletaug: see tripletaug.h. Works on planes (3, rows, cols) and a mask of the ROI of each, interleaved at the end.
 * Draws are made once, for all three slices, in a fixed order. */
#include "stages/tripletaug.h"
#include "base/size.h"
#include "stages/augment.h"
#include "stages/triplet.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SLICES = 3, KEY = 1, BINS = 256, TILES = 8 };
#define OUTSIDE_HU (-2000.0f) /* below every window: 0 after windowing */

tripletaug_options tripletaug_none(void)
{
    return (tripletaug_options){.scale_low = 1.0f, .scale_high = 1.0f};
}

tripletaug_options tripletaug_defaults(void)
{
    return (tripletaug_options){.shift = 0.06f,
                                .scale_low = 0.8f,
                                .scale_high = 1.25f,
                                .stretch = 0.1f,
                                .rotate = 3.14159265f,
                                .mirror = 0.5f,
                                .level = 80.0f,
                                .width = 0.15f,
                                .tone = 0.6f,
                                .blur = 0.4f,
                                .noise = 0.4f,
                                .equalise = 0.35f};
}

/* ---- geometry */

/* Slice position of picture pixel (r, c): row = at_r + r*rr + c*rc, col = at_c + r*cr + c*cc. */
typedef struct affine {
    float at_r, rr, rc, at_c, cr, cc;
} affine;

/* What is smaller or larger than the picture may lie anywhere in it. */
static float draw_shift(const tripletaug_options *o, rng *r, float extent, float picture)
{
    float slack = o->shift > 0.0f ? 0.5f * fabsf(extent - picture) : 0.0f, jitter = o->shift * picture;
    return rng_range(r, -1.0f, 1.0f) * (slack > jitter ? slack : jitter);
}

static affine draw_affine(const tripletaug_options *o, rng *r, const tripletaug_part *p, float zoom, float rows,
                          float cols)
{
    float scale = zoom * expf(rng_range(r, logf(o->scale_low), logf(o->scale_high)));
    float stretch = expf(rng_range(r, -o->stretch, o->stretch)), angle = rng_range(r, -o->rotate, o->rotate);
    float by_r = scale * stretch * (float)TRIPLET_CANVAS / (float)p->rows,
          by_c = scale * (float)TRIPLET_CANVAS / (float)p->cols;
    float up = cosf(angle), across = sinf(angle), mirror = rng_chance(r, o->mirror) ? -1.0f : 1.0f;
    float high = hypotf(p->high * by_r * up, p->wide * by_c * across), /* of the lungs as an ellipse, turned */
        wide = hypotf(p->wide * by_c * up, p->high * by_r * across);
    if (p->fit && (high > rows || wide > cols)) {
        float shrink = rows / high < cols / wide ? rows / high : cols / wide;
        by_r *= shrink;
        by_c *= shrink;
        high *= shrink;
        wide *= shrink;
    }
    float u = 0.5f - 0.5f * rows - draw_shift(o, r, high, rows), v = 0.5f - 0.5f * cols - draw_shift(o, r, wide, cols);
    affine a = {
        .rr = up / by_r, .rc = mirror * across / by_r, .cr = -across / by_c, .cc = mirror * up / by_c};
    a.at_r = p->row + u * a.rr + v * a.rc;
    a.at_c = p->col + u * a.cr + v * a.cc;
    return a;
}

/* HU bilinear, the ROI nearest, the lesion bilinear and cut at one half. lesion NULL: not this slice's. */
static void resample(const affine *a, const tripletaug_part *p, int k, int64_t rows, int64_t cols, float *plane,
                     uint8_t *roi, uint8_t *lesion)
{
    const int16_t *hu = p->hu[k];
    const uint8_t *marks = p->marks[k];
    for (int64_t r = 0, i = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++, i++) {
            float y = a->at_r + (float)r * a->rr + (float)c * a->rc, x = a->at_c + (float)r * a->cr + (float)c * a->cc;
            plane[i] = OUTSIDE_HU;
            roi[i] = 0;
            if (lesion) lesion[i] = 0;
            if (!(y > -0.5f && x > -0.5f && y < (float)p->rows - 0.5f && x < (float)p->cols - 0.5f)) continue;
            y = y > 0.0f ? y : 0.0f;
            x = x > 0.0f ? x : 0.0f;
            int64_t y0 = (int64_t)y, x0 = (int64_t)x;
            float fy = y - (float)y0, fx = x - (float)x0;
            int64_t o00 = y0 * p->cols + x0, o10 = o00 + (y0 + 1 < p->rows ? p->cols : 0),
                    dx = x0 + 1 < p->cols ? 1 : 0;
            float w00 = (1 - fy) * (1 - fx), w01 = (1 - fy) * fx, w10 = fy * (1 - fx), w11 = fy * fx;
            plane[i] = w00 * hu[o00] + w01 * hu[o00 + dx] + w10 * hu[o10] + w11 * hu[o10 + dx];
            roi[i] = marks[(fy < 0.5f ? o00 : o10) + (fx < 0.5f ? 0 : dx)] & TRIPLETAUG_ROI;
            if (lesion)
                lesion[i] = w00 * (marks[o00] & TRIPLETAUG_LESION) + w01 * (marks[o00 + dx] & TRIPLETAUG_LESION) +
                                w10 * (marks[o10] & TRIPLETAUG_LESION) + w11 * (marks[o10 + dx] & TRIPLETAUG_LESION) >
                            0.5f * TRIPLETAUG_LESION;
        }
}

/* ---- intensity */

/* The grey map of one tile: its cumulative histogram, no bin counting for more than `clip` times the mean. */
static void tile_map(const float *plane, int64_t cols, int64_t r0, int64_t r1, int64_t c0, int64_t c1, float clip,
                     float map[BINS])
{
    float count[BINS] = {0}, over = 0.0f, sum = 0.0f, n = (float)((r1 - r0) * (c1 - c0)), most = clip * n / BINS;
    for (int64_t r = r0; r < r1; r++)
        for (int64_t c = c0; c < c1; c++) count[(int)(plane[r * cols + c] * (BINS - 1) + 0.5f)] += 1.0f;
    for (int k = 0; k < BINS; k++)
        if (count[k] > most) {
            over += count[k] - most;
            count[k] = most;
        }
    for (int k = 0; k < BINS; k++) {
        sum += count[k] + over / BINS;
        map[k] = n > 0.0f ? sum / n : 0.0f;
    }
}

static int64_t tile_start(int64_t k, int64_t n) { return k * n / TILES; }

/* Contrast-limited adaptive histogram equalisation, mixed with what there was: map is (TILES * TILES, BINS), scratch.
 */
static void equalise(float clip, float share, int64_t rows, int64_t cols, float *plane, float (*map)[BINS])
{
    for (int k = 0; k < TILES * TILES; k++)
        tile_map(plane, cols, tile_start(k / TILES, rows), tile_start(k / TILES + 1, rows), tile_start(k % TILES, cols),
                 tile_start(k % TILES + 1, cols), clip, map[k]);
    for (int64_t r = 0; r < rows; r++) {
        float y = ((float)r + 0.5f) * TILES / (float)rows - 0.5f;
        int y0 = y > 0.0f ? (int)y : 0, y1 = y > 0.0f && y0 + 1 < TILES ? y0 + 1 : y0;
        float fy = y > 0.0f ? y - (float)y0 : 0.0f;
        for (int64_t c = 0; c < cols; c++) {
            float x = ((float)c + 0.5f) * TILES / (float)cols - 0.5f;
            int x0 = x > 0.0f ? (int)x : 0, x1 = x > 0.0f && x0 + 1 < TILES ? x0 + 1 : x0;
            float fx = x > 0.0f ? x - (float)x0 : 0.0f, *v = &plane[r * cols + c];
            int bin = (int)(*v * (BINS - 1) + 0.5f);
            float top = (1 - fx) * map[y0 * TILES + x0][bin] + fx * map[y0 * TILES + x1][bin];
            float low = (1 - fx) * map[y1 * TILES + x0][bin] + fx * map[y1 * TILES + x1][bin];
            *v += share * ((1 - fy) * top + fy * low - *v);
        }
    }
}

static void draw_window(const tripletaug_options *o, rng *r, size_t n, float *planes)
{
    window w = window_lung();
    w.level += rng_range(r, -o->level, o->level);
    w.width *= expf(rng_range(r, -o->width, o->width));
    for (size_t i = 0; i < n; i++) planes[i] = window_one(w, planes[i]);
}

static status draw_equalise(const tripletaug_options *o, rng *r, const tripletaug_part *p, int64_t rows, int64_t cols,
                            float *planes)
{
    float clip = rng_range(r, 1.5f, 5.0f), share = rng_range(r, 0.3f, 1.0f);
    if (!rng_chance(r, o->equalise) || p->eight_bit) return COV_OK;
    float (*map)[BINS] = malloc(sizeof(float[TILES * TILES][BINS]));
    if (!map) return COV_FAIL(COV_NOMEM, "no memory to equalise a slice");
    for (int k = 0; k < SLICES; k++)
        if (p->hu[k]) equalise(clip, share, rows, cols, planes + (size_t)k * (size_t)(rows * cols), map);
    free(map);
    return COV_OK;
}

static void draw_tone(const tripletaug_options *o, rng *r, size_t n, float *planes)
{
    float table[AUGMENT_TONES + 1];
    if (!rng_chance(r, o->tone)) return;
    augment_draw_tones(r, table);
    for (size_t i = 0; i < n; i++) planes[i] = table[(int)(planes[i] * AUGMENT_TONES + 0.5f)];
}

/* Repeated [1 2 1]/4: 1 to 6 times blur by 0.7 to 1.7 pixels, which is what slices of 128 x 128 come with. */
static void draw_blur(const tripletaug_options *o, rng *r, const tripletaug_part *p, int64_t rows, int64_t cols,
                      float *planes)
{
    int times = 1 + (int)(rng_below(r, 6) * rng_below(r, 6) / 5);
    if (!rng_chance(r, o->blur)) return;
    for (int k = 0; k < SLICES; k++)
        for (int t = 0; p->hu[k] && t < times; t++)
            augment_blur(rows, cols, planes + (size_t)k * (size_t)(rows * cols));
}

static status intensity(const tripletaug_options *o, rng *r, const tripletaug_part *p, int64_t rows, int64_t cols,
                        float *planes)
{
    size_t n = SLICES * (size_t)(rows * cols);
    draw_window(o, r, n, planes);
    COV_TRY(draw_equalise(o, r, p, rows, cols, planes));
    draw_tone(o, r, n, planes);
    draw_blur(o, r, p, rows, cols, planes);
    if (rng_chance(r, o->noise)) augment_noise(r, n, planes);
    return COV_OK;
}

status tripletaug_run(const tripletaug_options *o, rng *r, const tripletaug_part *p, float zoom, int64_t rows,
                      int64_t cols, float *image, uint8_t *lesion)
{
    status s;
    size_t n = 0, bytes = 0;
    if (!size_product((int64_t[]){rows, cols, SLICES}, 3, &n) || !size_mul(n, sizeof(float) + 1, &bytes))
        return COV_FAIL(COV_NOMEM, "a picture of %lld x %lld is too large", (long long)rows, (long long)cols);
    float *planes = malloc(bytes);
    if (!planes) return COV_FAIL(COV_NOMEM, "no memory for a picture of %lld x %lld", (long long)rows, (long long)cols);
    uint8_t *roi = (uint8_t *)(planes + n);
    n /= SLICES;
    affine a = draw_affine(o, r, p, zoom, (float)rows, (float)cols);
    for (int k = 0; k < SLICES; k++) {
        if (p->hu[k]) {
            resample(&a, p, k, rows, cols, planes + (size_t)k * n, roi + (size_t)k * n, k == KEY ? lesion : NULL);
            continue;
        }
        for (size_t i = 0; i < n; i++) planes[(size_t)k * n + i] = OUTSIDE_HU;
        memset(roi + (size_t)k * n, 0, n);
    }
    COV_GO(intensity(o, r, p, rows, cols, planes));
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < SLICES; k++) image[i * SLICES + k] = roi[k * n + i] ? planes[k * n + i] : 0.0f;
    for (size_t i = 0; i < n; i++) lesion[i] &= roi[KEY * n + i];
done:
    free(planes);
    return s;
}
