/* netio: see netio.h. */
#include "stages/netio.h"
#include <stdlib.h>

static int same_shape(tensor_shape s, const int64_t shape[4])
{
    return s.n == shape[0] && s.h == shape[1] && s.w == shape[2] && s.c == shape[3];
}

status netio_take(const weights_file *w, net *n, int whole, int *taken)
{
    int count = 0;
    for (int k = 0; k < net_param_count(n); k++) {
        const net_param *p = net_param_at(n, k);
        const weights_param *from = weights_find_param(w, p->name);
        if (!from && !whole) continue;
        if (!from)
            return COV_FAIL(COV_FORMAT, "the weights lack the parameter '%s' of %s/%s", p->name, w->model, w->preset);
        if (!same_shape(p->shape, from->shape))
            return COV_FAIL(
                COV_FORMAT,
                "parameter '%s' is %lld x %lld x %lld x %lld in the weights, %lld x %lld x %lld x %lld expected",
                p->name, (long long)from->shape[0], (long long)from->shape[1], (long long)from->shape[2],
                (long long)from->shape[3], (long long)p->shape.n, (long long)p->shape.h, (long long)p->shape.w,
                (long long)p->shape.c);
        COV_TRY(net_param_set(n, k, from->values));
        count++;
    }
    if (taken) *taken = count;
    return COV_OK;
}

status netio_load(const weights_file *w, net *n)
{
    int count = net_param_count(n);
    if (w->param_count != count)
        return COV_FAIL(COV_FORMAT, "the weights hold %d parameters, the network %s/%s has %d", w->param_count,
                        w->model, w->preset, count);
    return netio_take(w, n, 1, NULL);
}

status netio_save(net *n, weights_file *w)
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
