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

static int same_shape(tensor_shape s, const int64_t shape[4])
{
    return s.n == shape[0] && s.h == shape[1] && s.w == shape[2] && s.c == shape[3];
}

status lungio_to_net(const weights_file *w, net *n)
{
    int count = net_param_count(n);
    if (w->param_count != count)
        return COV_FAIL(COV_FORMAT, "the weights hold %d parameters, the network %s/%s has %d", w->param_count, w->model,
                        w->preset, count);
    for (int k = 0; k < count; k++) {
        const net_param *p = net_param_at(n, k);
        const weights_param *from = weights_find_param(w, p->name);
        if (!from) return COV_FAIL(COV_FORMAT, "the weights lack the parameter '%s' of %s/%s", p->name, w->model, w->preset);
        if (!same_shape(p->shape, from->shape))
            return COV_FAIL(COV_FORMAT, "parameter '%s' is %lld x %lld x %lld x %lld in the weights, %lld x %lld x %lld x %lld expected",
                            p->name, (long long)from->shape[0], (long long)from->shape[1], (long long)from->shape[2],
                            (long long)from->shape[3], (long long)p->shape.n, (long long)p->shape.h, (long long)p->shape.w,
                            (long long)p->shape.c);
        COV_TRY(net_param_set(n, k, from->values));
    }
    return COV_OK;
}

status lungio_from_net(net *n, weights_file *w)
{
    status s = COV_OK;
    float *values = NULL;
    for (int k = 0; k < net_param_count(n); k++) {
        const net_param *p = net_param_at(n, k);
        size_t count;
        COV_GO(tensor_count(p->shape, &count));
        float *larger = realloc(values, count * sizeof *values);
        if (!larger) COV_GO(COV_FAIL(COV_NOMEM, "no memory for parameter '%s' of %zu values", p->name, count));
        values = larger;
        COV_GO(net_param_get(n, k, values));
        int64_t shape[4] = {p->shape.n, p->shape.h, p->shape.w, p->shape.c};
        COV_GO(weights_put_param(w, p->name, shape, values));
    }
done:
    free(values);
    return s;
}

float lungio_fusion(const weights_file *sagittal, float otherwise)
{
    double v;
    const char *text = weights_find_text(sagittal, LUNGIO_FUSION);
    if (!text || !str_to_double(text, &v) || v < 0.0 || v > 1.0) return otherwise;
    return (float)v;
}
