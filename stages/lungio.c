/* lungio: see lungio.h. */
#include "stages/lungio.h"
#include "base/str.h"
#include <stdlib.h>
#include <string.h>

status lungio_open(const char *path, lungnet_view view, const char *preset, weights_file **out)
{
    status s;
    weights_file *w = NULL;
    *out = NULL;
    COV_GO(weights_load(path, &w));
    if (strcmp(w->model, lungnet_model(view)) != 0)
        COV_GO(COV_FAIL(COV_USAGE, "%s holds the model '%s', but '%s' is asked for", path, w->model, lungnet_model(view)));
    if (preset && strcmp(w->preset, preset) != 0)
        COV_GO(COV_FAIL(COV_USAGE, "%s holds the preset '%s', but '%s' is asked for", path, w->preset, preset));
    *out = w;
    w = NULL;
done:
    weights_free(&w);
    return s;
}

float lungio_number(const weights_file *w, const char *name, double least, double most, float otherwise)
{
    double v;
    const char *text = weights_find_text(w, name);
    if (!text || !str_to_double(text, &v) || !(v >= least && v <= most)) return otherwise;
    return (float)v;
}
