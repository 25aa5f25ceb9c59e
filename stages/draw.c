/* draw: see draw.h. The font holds only what labels need; each glyph is seven rows of five bits, the left pixel
 * highest. */
#include "stages/draw.h"

#include "base/size.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct glyph { char c; uint8_t row[7]; } font[] = {
    {'0', {14, 17, 19, 21, 25, 17, 14}}, {'1', {4, 12, 4, 4, 4, 4, 14}},      {'2', {14, 17, 1, 6, 8, 16, 31}},
    {'3', {14, 17, 1, 6, 1, 17, 14}},    {'4', {2, 6, 10, 18, 31, 2, 2}},     {'5', {31, 16, 30, 1, 1, 17, 14}},
    {'6', {6, 8, 16, 30, 17, 17, 14}},   {'7', {31, 1, 2, 4, 8, 8, 8}},       {'8', {14, 17, 17, 14, 17, 17, 14}},
    {'9', {14, 17, 17, 15, 1, 2, 12}},   {'A', {14, 17, 17, 31, 17, 17, 17}}, {'B', {30, 17, 17, 30, 17, 17, 30}},
    {'C', {14, 17, 16, 16, 16, 17, 14}}, {'D', {30, 17, 17, 17, 17, 17, 30}}, {'E', {31, 16, 16, 30, 16, 16, 31}},
    {'F', {31, 16, 16, 30, 16, 16, 16}}, {'G', {14, 17, 16, 23, 17, 17, 14}}, {'H', {17, 17, 17, 31, 17, 17, 17}},
    {'I', {14, 4, 4, 4, 4, 4, 14}},      {'J', {7, 2, 2, 2, 2, 18, 12}},      {'K', {17, 18, 20, 24, 20, 18, 17}},
    {'L', {16, 16, 16, 16, 16, 16, 31}}, {'M', {17, 27, 21, 21, 17, 17, 17}}, {'N', {17, 25, 21, 19, 17, 17, 17}},
    {'O', {14, 17, 17, 17, 17, 17, 14}}, {'P', {30, 17, 17, 30, 16, 16, 16}}, {'Q', {14, 17, 17, 17, 21, 18, 13}},
    {'R', {30, 17, 17, 30, 20, 18, 17}}, {'S', {15, 16, 16, 14, 1, 1, 30}},   {'T', {31, 4, 4, 4, 4, 4, 4}},
    {'U', {17, 17, 17, 17, 17, 17, 14}}, {'V', {17, 17, 17, 17, 17, 10, 4}},  {'W', {17, 17, 17, 21, 21, 27, 17}},
    {'X', {17, 17, 10, 4, 10, 17, 17}},  {'Y', {17, 17, 10, 4, 4, 4, 4}},     {'Z', {31, 1, 2, 4, 8, 16, 31}},
    {'.', {0, 0, 0, 0, 0, 12, 12}},      {',', {0, 0, 0, 0, 12, 4, 8}},       {'-', {0, 0, 0, 14, 0, 0, 0}},
    {'_', {0, 0, 0, 0, 0, 0, 31}},       {'/', {1, 1, 2, 4, 8, 16, 16}},      {':', {0, 12, 12, 0, 12, 12, 0}},
    {'%', {24, 25, 2, 4, 8, 19, 3}},     {'(', {2, 4, 8, 8, 8, 4, 2}},        {')', {8, 4, 2, 2, 2, 4, 8}},
    {'+', {0, 4, 4, 31, 4, 4, 0}},       {'=', {0, 0, 31, 0, 31, 0, 0}},      {'<', {2, 4, 8, 16, 8, 4, 2}},
    {'>', {8, 4, 2, 1, 2, 4, 8}},
};

status draw_new(int64_t width, int64_t height, draw_colour background, draw **out)
{
    size_t bytes;
    *out = NULL;
    if (width < 1 || height < 1 || !size_product((const int64_t[]){width, height, 3}, 3, &bytes))
        return COV_FAIL(COV_USAGE, "a picture of %lld x %lld pixels", (long long)width, (long long)height);
    draw *d = calloc(1, sizeof *d);
    if (!d || !(d->rgb = malloc(bytes))) {
        free(d);
        return COV_FAIL(COV_NOMEM, "no memory for a picture of %lld x %lld", (long long)width, (long long)height);
    }
    d->width = width;
    d->height = height;
    for (size_t i = 0; i < bytes; i += 3) memcpy(d->rgb + i, &background, 3);
    *out = d;
    return COV_OK;
}

void draw_free(draw **d)
{
    if (!d || !*d) return;
    free((*d)->rgb);
    free(*d);
    *d = NULL;
}

static void dot(draw *d, int64_t x, int64_t y, draw_colour c)
{
    if (x < 0 || y < 0 || x >= d->width || y >= d->height) return;
    memcpy(d->rgb + 3 * (y * d->width + x), &c, 3);
}

/* Sample position of canvas pixel k of n that show `samples`, clamped. */
static double sample_at(int64_t k, int64_t n, int64_t samples)
{
    double at = ((double)k + 0.5) * (double)samples / (double)n - 0.5;
    return at < 0 ? 0 : at > (double)(samples - 1) ? (double)(samples - 1) : at;
}

void draw_slice(draw *d, const draw_tile *t, window w, const int16_t *hu)
{
    for (int64_t y = 0; y < t->h; y++)
        for (int64_t x = 0; x < t->w; x++) {
            double sx = sample_at(x, t->w, t->nx), sy = sample_at(y, t->h, t->ny);
            int64_t x0 = (int64_t)sx, y0 = (int64_t)sy, x1 = x0 + (x0 + 1 < t->nx), y1 = y0 + (y0 + 1 < t->ny);
            double fx = sx - (double)x0, fy = sy - (double)y0;
            double top = hu[y0 * t->nx + x0] * (1 - fx) + hu[y0 * t->nx + x1] * fx;
            double low = hu[y1 * t->nx + x0] * (1 - fx) + hu[y1 * t->nx + x1] * fx;
            uint8_t v = (uint8_t)(255.0f * window_one(w, (float)(top * (1 - fy) + low * fy)));
            dot(d, t->x + x, t->y + y, (draw_colour){v, v, v});
        }
}

static int inside(const draw_tile *t, const uint8_t *mask, uint8_t value, int64_t x, int64_t y)
{
    if (x < 0 || y < 0 || x >= t->w || y >= t->h) return 0;
    int64_t sx = x * t->nx / t->w, sy = y * t->ny / t->h;
    uint8_t m = mask[sy * t->nx + sx];
    return value ? m == value : m != 0;
}

void draw_contour(draw *d, const draw_tile *t, const uint8_t *mask, uint8_t value, draw_colour colour)
{
    for (int64_t y = 0; y < t->h; y++)
        for (int64_t x = 0; x < t->w; x++)
            if (inside(t, mask, value, x, y) &&
                (!inside(t, mask, value, x - 1, y) || !inside(t, mask, value, x + 1, y) ||
                 !inside(t, mask, value, x, y - 1) || !inside(t, mask, value, x, y + 1)))
                dot(d, t->x + x, t->y + y, colour);
}

void draw_fill(draw *d, const draw_tile *t, const uint8_t *mask, uint8_t value, draw_colour colour, float weight)
{
    for (int64_t y = 0; y < t->h; y++)
        for (int64_t x = 0; x < t->w; x++) {
            int64_t cx = t->x + x, cy = t->y + y;
            if (!inside(t, mask, value, x, y) || cx < 0 || cy < 0 || cx >= d->width || cy >= d->height) continue;
            uint8_t *p = d->rgb + 3 * (cy * d->width + cx);
            p[0] = (uint8_t)((1 - weight) * p[0] + weight * colour.r);
            p[1] = (uint8_t)((1 - weight) * p[1] + weight * colour.g);
            p[2] = (uint8_t)((1 - weight) * p[2] + weight * colour.b);
        }
}

void draw_line(draw *d, int64_t x0, int64_t y0, int64_t x1, int64_t y1, draw_colour colour)
{
    int64_t dx = llabs(x1 - x0), dy = llabs(y1 - y0), steps = dx > dy ? dx : dy;
    for (int64_t k = 0; k <= steps; k++) {
        double f = steps ? (double)k / (double)steps : 0;
        dot(d, x0 + (int64_t)lrint(f * (double)(x1 - x0)), y0 + (int64_t)lrint(f * (double)(y1 - y0)), colour);
    }
}

void draw_box(draw *d, int64_t x0, int64_t y0, int64_t x1, int64_t y1, draw_colour colour)
{
    draw_line(d, x0, y0, x1, y0, colour);
    draw_line(d, x0, y1, x1, y1, colour);
    draw_line(d, x0, y0, x0, y1, colour);
    draw_line(d, x1, y0, x1, y1, colour);
}

static const uint8_t *glyph_of(char c)
{
    for (size_t k = 0; k < sizeof font / sizeof font[0]; k++)
        if (font[k].c == toupper((unsigned char)c)) return font[k].row;
    return NULL;
}

int64_t draw_text(draw *d, int64_t x, int64_t y, int scale, draw_colour colour, const char *text)
{
    int64_t start = x;
    for (; *text; text++, x += 6 * scale) {
        const uint8_t *rows = glyph_of(*text);
        for (int64_t k = 0; rows && k < 35 * scale * scale; k++) {
            int64_t gx = k % (5 * scale), gy = k / (5 * scale);
            if (rows[gy / scale] >> (4 - gx / scale) & 1) dot(d, x + gx, y + gy, colour);
        }
    }
    return x - start;
}

void draw_curve(draw *d, int64_t x, int64_t y, int64_t w, int64_t h, const float *values, int64_t n, int logarithmic,
                draw_colour colour, const char *label)
{
    const draw_colour frame = {120, 120, 120}, ink = {40, 40, 40};
    double low = INFINITY, high = -INFINITY;
    for (int64_t k = 0; k < n; k++) {
        double v = logarithmic ? log10(fmax(values[k], 1e-12)) : values[k];
        low = fmin(low, v);
        high = fmax(high, v);
    }
    if (!(high > low)) { low -= 0.5; high = low + 1; }
    draw_line(d, x, y, x, y + h, frame);
    draw_line(d, x, y + h, x + w, y + h, frame);
    int64_t last_x = x, last_y = y;
    for (int64_t k = 0; k < n; k++) {
        double v = logarithmic ? log10(fmax(values[k], 1e-12)) : values[k];
        int64_t px = x + (n > 1 ? k * w / (n - 1) : 0),
                py = y + h - (int64_t)lrint((v - low) / (high - low) * (double)h);
        if (k) draw_line(d, last_x, last_y, px, py, colour);
        last_x = px;
        last_y = py;
    }
    char text[48];
    snprintf(text, sizeof text, "%.3g", logarithmic ? pow(10, high) : high);
    draw_text(d, x + 4, y, 1, ink, text);
    snprintf(text, sizeof text, "%.3g", logarithmic ? pow(10, low) : low);
    draw_text(d, x + 4, y + h - 10, 1, ink, text);
    draw_text(d, x + w / 3, y, 2, ink, label);
}

enum { TICKS = 5, SAMPLES = 4 };

static void draw_ticks(draw *d, const draw_axes *a)
{
    const draw_colour frame = {120, 120, 120}, faint = {225, 225, 225}, ink = {40, 40, 40};
    char text[24];
    for (int k = 0; k <= TICKS; k++) {
        int64_t px = a->x + k * a->w / TICKS, py = a->y + a->h - k * a->h / TICKS;
        draw_line(d, px, a->y, px, a->y + a->h, faint);
        draw_line(d, a->x, py, a->x + a->w, py, faint);
        snprintf(text, sizeof text, "%.3g", a->x0 + k * (a->x1 - a->x0) / TICKS);
        draw_text(d, px - 6, a->y + a->h + 5, 1, ink, text);
        snprintf(text, sizeof text, "%.3g", a->y0 + k * (a->y1 - a->y0) / TICKS);
        draw_text(d, a->x - 30, py - 3, 1, ink, text);
    }
    draw_box(d, a->x, a->y, a->x + a->w, a->y + a->h, frame);
    draw_text(d, a->x + a->w / 3, a->y + a->h + 18, 1, ink, a->x_name);
    draw_text(d, a->x - 30, a->y - 14, 1, ink, a->y_name);
}

/* One segment, point by point, so that what leaves the frame is cut and not bent. */
static void draw_segment(draw *d, const draw_axes *a, const draw_series *s, int64_t k)
{
    double fx[2], fy[2];
    for (int e = 0; e < 2; e++) {
        fx[e] = (s->x[k - 1 + e] - a->x0) / (a->x1 - a->x0) * (double)a->w;
        fy[e] = (s->y[k - 1 + e] - a->y0) / (a->y1 - a->y0) * (double)a->h;
        if (!isfinite(fx[e]) || !isfinite(fy[e])) return;
    }
    double length = fmin(fmax(fabs(fx[1] - fx[0]), fabs(fy[1] - fy[0])), 1e6);
    int64_t steps = SAMPLES * (int64_t)(length + 1) / 2;
    for (int64_t i = 0; i <= steps; i++) {
        double f = (double)i / (double)steps, px = fx[0] + f * (fx[1] - fx[0]), py = fy[0] + f * (fy[1] - fy[0]);
        if (px < 0 || py < 0 || px > (double)a->w || py > (double)a->h) continue;
        dot(d, a->x + (int64_t)lrint(px), a->y + a->h - (int64_t)lrint(py), s->colour);
        dot(d, a->x + (int64_t)lrint(px), a->y + a->h - (int64_t)lrint(py) - 1, s->colour);
    }
}

void draw_plot(draw *d, const draw_axes *a, const draw_series *series, int count)
{
    draw_ticks(d, a);
    for (int c = 0; c < count; c++) {
        for (int64_t k = 1; k < series[c].n; k++) draw_segment(d, a, &series[c], k);
        draw_text(d, a->x + a->w + 12, a->y + 4 + 14 * c, 1, series[c].colour, series[c].name);
    }
}
