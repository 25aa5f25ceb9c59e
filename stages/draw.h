/* draw: RGB pictures of slices, mask contours, curves and short labels: what montage, eval and the training record
 * show. Pixels are drawn into memory; data/image writes the PNG. Everything outside the canvas is clipped. Local. */
#ifndef COV_STAGES_DRAW_H
#define COV_STAGES_DRAW_H
#include "base/status.h"
#include "stages/window.h"
#include <stdint.h>

typedef struct draw_colour { uint8_t r, g, b; } draw_colour;

typedef struct draw {
    int64_t width, height;
    uint8_t *rgb; /* (height, width, 3); owned */
} draw;

status draw_new(int64_t width, int64_t height, draw_colour background, draw **out);
void draw_free(draw **d);

/* Where one slice goes: the rectangle (x, y, w, h) of the canvas shows all nx by ny samples, bilinearly. Contours are
 * traced on the canvas's own pixels, so that they stay one pixel wide at any scale. */
typedef struct draw_tile {
    int64_t x, y, w, h;
    int64_t nx, ny;
} draw_tile;
void draw_slice(draw *d, const draw_tile *t, window w, const int16_t *hu);
/* Outline of mask == value (value 0: of mask != 0). */
void draw_contour(draw *d, const draw_tile *t, const uint8_t *mask, uint8_t value, draw_colour colour);
/* Mixes the colour into mask == value with weight 0..1 (value 0: mask != 0). */
void draw_fill(draw *d, const draw_tile *t, const uint8_t *mask, uint8_t value, draw_colour colour, float weight);
void draw_line(draw *d, int64_t x0, int64_t y0, int64_t x1, int64_t y1, draw_colour colour);
void draw_box(draw *d, int64_t x0, int64_t y0, int64_t x1, int64_t y1,
              draw_colour colour); /* outline through both corners */
/* 5 x 7 pixel capitals, digits and signs, times scale; other characters are blanks. Returns the width in pixels. */
int64_t draw_text(draw *d, int64_t x, int64_t y, int scale, draw_colour colour, const char *text);
/* A curve of n values over [0, n) in a framed rectangle, with its range written at the axis. log10 of the values if
 * `logarithmic`. */
void draw_curve(draw *d, int64_t x, int64_t y, int64_t w, int64_t h, const float *values, int64_t n, int logarithmic,
                draw_colour colour, const char *label);

/* Curves of y over x in one framed rectangle with ticks, each named below the other in its colour. Points that are NaN
 * part a curve; what leaves the ranges is cut. */
typedef struct draw_series {
    const double *x, *y; /* n of each; borrowed */
    int64_t n;
    draw_colour colour;
    const char *name;
} draw_series;
typedef struct draw_axes {
    int64_t x, y, w, h; /* the frame on the canvas; labels lie outside, 40 pixels to the left and 30 below */
    double x0, x1, y0, y1;
    const char *x_name, *y_name;
} draw_axes;
void draw_plot(draw *d, const draw_axes *a, const draw_series *series, int count);
#endif
