/* losscurve: see losscurve.h. */
#include "jobs/losscurve.h"

#include "data/image.h"
#include "data/weights.h"
#include "jobs/setup.h"
#include "stages/draw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 760, HEIGHT = 300, MARGIN = 40, POINTS = 512 };

/* From lines of "step loss". */
static int64_t read_curve(const char *text, float *loss)
{
    int64_t n = 0;
    for (const char *at = text ? strchr(text, ' ') : NULL; at && n < POINTS; at = strchr(at + 1, ' ')) loss[n++] = strtof(at, NULL);
    return n;
}

status losscurve_draw(const char *weights, const char *folder)
{
    status s;
    draw *d = NULL;
    weights_file *w = NULL;
    float loss[POINTS];
    char path[SETUP_PATH];
    COV_GO(weights_load(weights, &w));
    int64_t n = read_curve(weights_find_text(w, "loss_curve"), loss);
    if (n < 2) goto done;
    COV_GO(draw_new(WIDTH, HEIGHT, (draw_colour){255, 255, 255}, &d));
    snprintf(path, sizeof path, "%s: loss, log", w->model);
    draw_curve(d, MARGIN, MARGIN, WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN, loss, n, 1, (draw_colour){30, 80, 170}, path);
    snprintf(path, sizeof path, "%s/loss-%s-%s.png", folder, w->model, w->preset);
    COV_GO(image_write_rgb(path, (int32_t)d->height, (int32_t)d->width, d->rgb));
done:
    draw_free(&d);
    weights_free(&w);
    return s;
}
