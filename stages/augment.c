/* augment: see augment.h. The canvas holds HU until the window is applied, so that opacities are drawn in HU. */
#include "stages/augment.h"
#include "stages/opacity.h"
#include <math.h>
#include <string.h>

#define BODY_HU (-200.0f)
#define OUTSIDE_HU (-2000.0f) /* below every window: 0 after windowing */

augment_options augment_none(void)
{
    return (augment_options){.scale_low = 1.0f, .scale_high = 1.0f, .dense = 0.16f, .pleura_to = 6.2831853f, .lesion_weight = 1.0f};
}

augment_options augment_defaults(void)
{
    return (augment_options){.shift = 0.08f, .scale_low = 0.75f, .scale_high = 1.25f, .stretch = 0.12f, .rotate = 0.14f,
                             .opacity = 0.5f, .dense = 0.16f, .pleura_to = 6.2831853f, .gas = 0.3f,
                             .level = 90.0f, .width = 0.15f, .tone = 0.5f, .blur = 0.2f, .noise = 0.35f, .lesion_weight = 3.0f};
}

/* ---- geometry */

/* Source position of canvas position (r, c): row = at_r + r*rr + c*rc, col = at_c + r*cr + c*cc. */
typedef struct affine {
    float at_r, rr, rc, at_c, cr, cc;
} affine;

/* A plane smaller or larger than the canvas may lie anywhere in it; a fitting one only jitters. */
static float draw_shift(const augment_options *o, rng *r, double fit, int64_t canvas)
{
    float slack = o->shift > 0.0f ? 0.5f * fabsf((float)(fit - (double)canvas)) : 0.0f;
    float jitter = o->shift * (float)canvas;
    return rng_range(r, -1.0f, 1.0f) * (slack > jitter ? slack : jitter);
}

static affine draw_affine(const augment_options *o, rng *r, const augment_plane *from, const augment_canvas *to)
{
    float scale = expf(rng_range(r, logf(o->scale_low), logf(o->scale_high)));
    float stretch = scale * expf(rng_range(r, -o->stretch, o->stretch));
    float angle = rng_range(r, -o->rotate, o->rotate);
    float shift_r = draw_shift(o, r, from->fit_rows * stretch, to->rows);
    float shift_c = draw_shift(o, r, from->fit_cols * scale, to->cols);
    float per_r = (float)((double)from->rows / from->fit_rows) / stretch; /* source samples a canvas pixel */
    float per_c = (float)((double)from->cols / from->fit_cols) / scale;
    float u = 0.5f - 0.5f * (float)to->rows - shift_r, v = 0.5f - 0.5f * (float)to->cols - shift_c;
    affine a = {.rr = cosf(angle) * per_r, .rc = sinf(angle) * per_r, .cr = -sinf(angle) * per_c, .cc = cosf(angle) * per_c};
    a.at_r = u * a.rr + v * a.rc + 0.5f * (float)from->rows - 0.5f;
    a.at_c = u * a.cr + v * a.cc + 0.5f * (float)from->cols - 0.5f;
    return a;
}

/* weight is 1 on lesions and 0 elsewhere until spread_weight. Masks are interpolated and cut at one half: nearest would leave stairs where slices are thick. */
static void resample(const affine *a, const augment_plane *p, const augment_canvas *to)
{
    for (int64_t r = 0; r < to->rows; r++)
        for (int64_t c = 0; c < to->cols; c++) {
            int64_t i = r * to->cols + c;
            float y = a->at_r + (float)r * a->rr + (float)c * a->rc, x = a->at_c + (float)r * a->cr + (float)c * a->cc;
            to->image[i] = OUTSIDE_HU;
            to->target[i] = 0.0f;
            to->weight[i] = 0.0f;
            if (!(y > -0.5f && x > -0.5f && y < (float)p->rows - 0.5f && x < (float)p->cols - 0.5f)) continue;
            y = y > 0.0f ? y : 0.0f;
            x = x > 0.0f ? x : 0.0f;
            int64_t y0 = (int64_t)y, x0 = (int64_t)x;
            float fy = y - (float)y0, fx = x - (float)x0;
            int64_t o00 = y0 * p->row_step + x0 * p->col_step;
            int64_t o10 = o00 + (y0 + 1 < p->rows ? p->row_step : 0), dx = x0 + 1 < p->cols ? p->col_step : 0;
            float w00 = (1 - fy) * (1 - fx), w01 = (1 - fy) * fx, w10 = fy * (1 - fx), w11 = fy * fx;
            to->image[i] = w00 * p->hu[o00] + w01 * p->hu[o00 + dx] + w10 * p->hu[o10] + w11 * p->hu[o10 + dx];
            float lung = w00 * (p->lung[o00] > 0) + w01 * (p->lung[o00 + dx] > 0) + w10 * (p->lung[o10] > 0) +
                         w11 * (p->lung[o10 + dx] > 0);
            to->target[i] = lung > 0.5f;
            if (p->lesion && p->lesion[w00 + w01 > 0.5f ? o00 : o10] && lung > 0.5f) to->weight[i] = 1.0f;
        }
}

/* ---- opacities */

/* A pixel of the lung, or of the body outside it; 0 if none was met. */
static int find_place(rng *r, const augment_canvas *to, int lung, int64_t *row, int64_t *col)
{
    for (int tries = 0; tries < 64; tries++) {
        *row = (int64_t)rng_below(r, (uint64_t)to->rows);
        *col = (int64_t)rng_below(r, (uint64_t)to->cols);
        int64_t i = *row * to->cols + *col;
        if (lung ? to->target[i] > 0.5f : to->target[i] < 0.5f && to->image[i] > BODY_HU) return 1;
    }
    return 0;
}

typedef struct patch {
    int64_t row, col;
    float radius_r, radius_c; /* pixels */
    opacity look;             /* cell in pixels */
} patch;

/* From a pixel of the lung straight on to its edge. */
static void walk_to_edge(const augment_options *o, rng *r, const augment_canvas *to, int64_t *row, int64_t *col)
{
    float angle = rng_range(r, o->pleura_from, o->pleura_to), y = (float)*row, x = (float)*col;
    float dy = sinf(angle), dx = cosf(angle);
    for (;;) {
        int64_t at_r = (int64_t)(y += dy), at_c = (int64_t)(x += dx);
        if (at_r < 0 || at_c < 0 || at_r >= to->rows || at_c >= to->cols || to->target[at_r * to->cols + at_c] < 0.5f) return;
        *row = at_r;
        *col = at_c;
    }
}

/* At the pleura dense patches hide the lung's edge, which must then be known from the chest's shape: the hard case, and so
 * the most frequent one. */
static patch draw_patch(const augment_options *o, rng *r, const augment_canvas *to, int64_t row, int64_t col)
{
    float u = rng_unit(r), size = (float)to->cols;
    opacity_kind kind = u < 0.45f ? OPACITY_PLEURAL : u < 0.65f ? OPACITY_DENSE : OPACITY_GLASS;
    float radius = size * expf(rng_range(r, logf(kind == OPACITY_PLEURAL ? 0.04f : 0.02f), logf(kind == OPACITY_GLASS ? 0.28f : o->dense)));
    float shape = expf(rng_range(r, -0.6f, 0.6f));
    if (kind == OPACITY_PLEURAL) walk_to_edge(o, r, to, &row, &col);
    opacity look = opacity_draw(r, kind);
    look.cell *= size;
    return (patch){.row = row, .col = col, .radius_r = radius * shape, .radius_c = radius / shape, .look = look};
}

static int64_t clip_to(int64_t v, int64_t n)
{
    return v < 0 ? 0 : v > n ? n : v;
}

/* inside: into the lung, adding density, as disease does; else outside, taking it away, as gas does. */
static void add_patch(const patch *p, rng *r, const augment_canvas *to, int inside)
{
    const opacity *look = &p->look;
    int64_t r0 = clip_to(p->row - (int64_t)p->radius_r, to->rows), r1 = clip_to(p->row + (int64_t)p->radius_r + 1, to->rows);
    int64_t c0 = clip_to(p->col - (int64_t)p->radius_c, to->cols), c1 = clip_to(p->col + (int64_t)p->radius_c + 1, to->cols);
    for (int64_t y = r0; y < r1; y++)
        for (int64_t x = c0; x < c1; x++) {
            int64_t i = y * to->cols + x;
            float dy = (float)(y - p->row) / p->radius_r, dx = (float)(x - p->col) / p->radius_c, d2 = dy * dy + dx * dx;
            if ((to->target[i] > 0.5f) != inside || d2 >= 1.0f) continue;
            float noise = opacity_noise(look->key, 0.0f, (float)y / look->cell, (float)x / look->cell);
            float alpha = opacity_cover(look, sqrtf(d2), noise), hu = look->hu + look->grain * rng_normal(r);
            if ((hu > to->image[i]) != inside || alpha <= 0.0f) continue; /* vessels and air outside stay */
            to->image[i] += alpha * (hu - to->image[i]);
            if (alpha > 0.3f) to->weight[i] = 1.0f;
        }
}

static void add_opacities(const augment_options *o, rng *r, const augment_canvas *to)
{
    int64_t row, col;
    uint64_t count = 1 + rng_below(r, 4);
    for (uint64_t k = 0; k < count && find_place(r, to, 1, &row, &col); k++) {
        patch p = draw_patch(o, r, to, row, col);
        add_patch(&p, r, to, 1);
    }
}

static void add_gas(rng *r, const augment_canvas *to)
{
    int64_t row, col;
    uint64_t count = 1 + rng_below(r, 4);
    for (uint64_t k = 0; k < count && find_place(r, to, 0, &row, &col); k++) {
        float radius = (float)to->cols * expf(rng_range(r, logf(0.01f), logf(0.1f))), shape = expf(rng_range(r, -0.5f, 0.5f));
        opacity look = {.edge = rng_range(r, 0.05f, 0.3f), .hu = rng_range(r, -1000.0f, -750.0f), .grain = rng_range(r, 5.0f, 40.0f),
                        .ragged = rng_range(r, 0.0f, 0.7f), .cell = (float)to->cols * rng_range(r, 0.008f, 0.04f), .key = rng_next(r)};
        patch p = {.row = row, .col = col, .radius_r = radius * shape, .radius_c = radius / shape, .look = look};
        add_patch(&p, r, to, 0);
    }
}

/* Marks within `reach` of a mark along lines of n: a forward and a backward walk that count steps since the last one. */
static void spread_lines(float *mark, int64_t count, int64_t line_step, int64_t n, int64_t step, int64_t reach)
{
    for (int64_t k = 0; k < count; k++)
        for (int way = 0; way < 2; way++) {
            float *p = mark + k * line_step + (way ? (n - 1) * step : 0);
            int64_t since = reach + 1, move = way ? -step : step;
            for (int64_t i = 0; i < n; i++, p += move) {
                since = *p == 1.0f ? 0 : since + 1;
                if (since > 0 && since <= reach && *p == 0.0f) *p = 0.5f; /* not 1: it must not spread on in this direction */
            }
        }
    for (int64_t k = 0; k < count; k++)
        for (int64_t i = 0; i < n; i++)
            if (mark[k * line_step + i * step] > 0.0f) mark[k * line_step + i * step] = 1.0f;
}

static void spread_weight(const augment_options *o, const augment_canvas *to)
{
    int64_t reach = to->cols / 64;
    spread_lines(to->weight, to->rows, to->cols, to->cols, 1, reach);
    spread_lines(to->weight, to->cols, 1, to->rows, to->cols, reach);
    for (int64_t i = 0; i < to->rows * to->cols; i++) to->weight[i] = to->weight[i] > 0.0f ? o->lesion_weight : 1.0f;
}

/* ---- intensity */

/* Gamma, gain and bias by a table over [0, 1]. Air outside the plane stays 0 only in the mean: as in real 8-bit images. */
void augment_draw_tones(rng *r, float table[AUGMENT_TONES + 1])
{
    float gamma = expf(rng_range(r, -0.35f, 0.35f)), gain = rng_range(r, 0.85f, 1.15f), bias = rng_range(r, -0.06f, 0.06f);
    for (int k = 0; k <= AUGMENT_TONES; k++) {
        float v = gain * powf((float)k / AUGMENT_TONES, gamma) + bias;
        table[k] = v < 0.0f ? 0.0f : v > 1.0f ? 1.0f : v;
    }
}

static void window_and_tone(const augment_options *o, rng *r, size_t n, float *image)
{
    float table[AUGMENT_TONES + 1];
    window w = window_lung();
    w.level += rng_range(r, -o->level, o->level);
    w.width *= expf(rng_range(r, -o->width, o->width));
    int tone = rng_chance(r, o->tone);
    if (tone) augment_draw_tones(r, table);
    for (size_t i = 0; i < n; i++) {
        float v = window_one(w, image[i]);
        image[i] = tone ? table[(int)(v * AUGMENT_TONES + 0.5f)] : v;
    }
}

/* [1 2 1]/4 along one axis, in place: `count` lines of `n` samples. */
static void blur_lines(float *image, int64_t count, int64_t line_step, int64_t n, int64_t step)
{
    for (int64_t k = 0; k < count; k++) {
        float *p = image + k * line_step, before = p[0];
        for (int64_t i = 0; i < n; i++) {
            float here = p[i * step], after = i + 1 < n ? p[(i + 1) * step] : here;
            p[i * step] = 0.25f * (before + 2.0f * here + after);
            before = here;
        }
    }
}

void augment_blur(int64_t rows, int64_t cols, float *image)
{
    blur_lines(image, rows, cols, cols, 1);
    blur_lines(image, cols, 1, rows, cols);
}

void augment_noise(rng *r, size_t n, float *image)
{
    float sigma = rng_range(r, 0.0f, 0.05f);
    for (size_t i = 0; i < n; i++) {
        float v = image[i] + sigma * rng_normal(r);
        v = v > 0.0f ? v : 0.0f;
        image[i] = v < 1.0f ? v : 1.0f;
    }
}

void augment_run(const augment_options *o, rng *r, const augment_plane *from, const augment_canvas *to)
{
    size_t n = (size_t)(to->rows * to->cols);
    affine a = draw_affine(o, r, from, to);
    resample(&a, from, to);
    if (rng_chance(r, o->opacity)) add_opacities(o, r, to);
    if (rng_chance(r, o->gas)) add_gas(r, to);
    spread_weight(o, to);
    window_and_tone(o, r, n, to->image);
    if (rng_chance(r, o->blur)) augment_blur(to->rows, to->cols, to->image);
    if (rng_chance(r, o->noise)) augment_noise(r, n, to->image);
}
