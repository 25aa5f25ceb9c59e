/* optim: the steps of SGD and AdamW over the flat arrays of a net. Weight decay applies to some parameters only: a
 * byte for every few neighbours says to which. Everything is fp32 on the device; the norm is summed there in a
 * fixed order. The trap: a gradient that is not finite would poison weights and moments, so such a step changes nothing
 * but the step number, and the caller sees the norm. */
#include "kernels/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct optim {
    net *n; /* borrowed */
    optim_options o;
    int64_t step;
    size_t count;
    float *m, *v; /* device, owned; v NULL for SGD */
    uint8_t *decays; /* device, owned; NULL: no weight decay */
};

optim_options optim_defaults(int adamw)
{
    optim_options o = {
        .adamw = adamw, .momentum = 0.9f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .schedule = OPTIM_CONSTANT};
    o.rate = adamw ? 1e-3f : 1e-2f;
    o.decay = adamw ? 1e-2f : 1e-4f;
    return o;
}

float optim_rate(const optim_options *o, int64_t step)
{
    if (step < o->warmup) return (float)(o->rate * ((double)(step + 1) / (double)o->warmup));
    if (o->schedule == OPTIM_CONSTANT) return o->rate;
    double done = step >= o->steps ? 1 : (double)(step - o->warmup) / (double)(o->steps - o->warmup);
    double left = o->schedule == OPTIM_COSINE ? 0.5 * (1 + cos(3.14159265358979323846 * done)) : pow(1 - done, 0.9);
    return (float)(o->rate * left);
}

static status check(const optim_options *o)
{
    if (!(o->rate >= 0) || !isfinite(o->rate))
        return COV_FAIL(COV_USAGE, "learning rate %g, expected 0 or more", (double)o->rate);
    if (!(o->decay >= 0)) return COV_FAIL(COV_USAGE, "weight decay %g, expected 0 or more", (double)o->decay);
    if (!(o->clip >= 0)) return COV_FAIL(COV_USAGE, "gradient clip %g, expected 0 (off) or more", (double)o->clip);
    if (o->adamw && (!(o->beta1 >= 0 && o->beta1 < 1) || !(o->beta2 >= 0 && o->beta2 < 1) || !(o->eps > 0)))
        return COV_FAIL(COV_USAGE, "adamw: beta1 %g, beta2 %g, eps %g: expected 0 to below 1, and eps above 0",
                        (double)o->beta1, (double)o->beta2, (double)o->eps);
    if (!o->adamw && !(o->momentum >= 0 && o->momentum < 1))
        return COV_FAIL(COV_USAGE, "sgd: momentum %g, expected 0 to below 1", (double)o->momentum);
    if (o->warmup < 0) return COV_FAIL(COV_USAGE, "warm-up of %lld steps, expected 0 or more", (long long)o->warmup);
    if (o->schedule != OPTIM_CONSTANT && o->steps <= o->warmup)
        return COV_FAIL(COV_USAGE, "%lld steps with %lld of warm-up leave nothing to schedule", (long long)o->steps,
                        (long long)o->warmup);
    return COV_OK;
}

/* Parameters start at multiples of OPTIM_RUN floats; the gap after one belongs to it. */
static status find_decays(optim *o, const float *values)
{
    const backend *b = net_backend(o->n);
    size_t runs = (o->count + OPTIM_RUN - 1) / OPTIM_RUN;
    void *memory = NULL;
    if (!(o->o.decay > 0) || !runs) return COV_OK;
    uint8_t *host = calloc(runs, 1);
    if (!host) return COV_FAIL(COV_NOMEM, "no memory for an optimiser");
    for (int k = 0; k < net_param_count(o->n); k++) {
        const net_param *p = net_param_at(o->n, k);
        size_t count = 0;
        if (p->frozen || p->statistic || !p->decay) continue;
        status s = tensor_count(p->shape, &count);
        if (s != COV_OK) {
            free(host);
            return status_relay(s, __FILE__, __LINE__);
        }
        memset(host + (size_t)(p->value - values) / OPTIM_RUN, 1, (count + OPTIM_RUN - 1) / OPTIM_RUN);
    }
    status s = b->alloc(net_device(o->n), runs, &memory);
    o->decays = memory;
    if (s == COV_OK) s = b->upload(net_device(o->n), o->decays, host, runs);
    free(host);
    return s == COV_OK ? COV_OK : status_relay(s, __FILE__, __LINE__);
}

static status moment_new(optim *o, float **out)
{
    const backend *b = net_backend(o->n);
    void *memory = NULL;
    COV_TRY(b->alloc(net_device(o->n), (o->count ? o->count : 1) * sizeof(float), &memory));
    *out = memory;
    COV_TRY(b->zero(net_device(o->n), memory, o->count * sizeof(float)));
    return COV_OK;
}

status optim_new(net *n, const optim_options *options, optim **out)
{
    float *grads, *values;
    status s;
    *out = NULL;
    COV_TRY(check(options));
    optim *o = calloc(1, sizeof *o);
    if (!o) return COV_FAIL(COV_NOMEM, "no memory for an optimiser");
    o->n = n;
    o->o = *options;
    COV_GO(net_gradients(n, &grads, &values, &o->count));
    COV_GO(find_decays(o, values));
    COV_GO(moment_new(o, &o->m));
    if (o->o.adamw) COV_GO(moment_new(o, &o->v));
    *out = o;
    o = NULL;
done:
    optim_free(&o);
    return s;
}

void optim_free(optim **o)
{
    if (!o || !*o) return;
    const backend *b = net_backend((*o)->n);
    b->release(net_device((*o)->n), (*o)->m);
    b->release(net_device((*o)->n), (*o)->v);
    b->release(net_device((*o)->n), (*o)->decays);
    free(*o);
    *o = NULL;
}

status optim_run(optim *o, float grad_scale, float *norm)
{
    const backend *b = net_backend(o->n);
    device *d = net_device(o->n);
    float *grads, *values;
    size_t count;
    double squares = 0;
    if (norm) *norm = 0;
    COV_TRY(net_gradients(o->n, &grads, &values, &count));
    if (!grads) return COV_FAIL(COV_BROKEN, "an optimiser step on a net that is not compiled for training");
    COV_TRY(b->sum_squares(d, count, grads, &squares));
    double length = sqrt(squares) * fabs((double)grad_scale);
    if (norm) *norm = (float)length;
    optim_step step = {.adamw = o->o.adamw,
                       .rate = optim_rate(&o->o, o->step),
                       .momentum = o->o.momentum,
                       .beta1 = o->o.beta1,
                       .beta2 = o->o.beta2,
                       .eps = o->o.eps,
                       .decay = o->decays ? o->o.decay : 0,
                       .grad_scale = grad_scale};
    step.t = ++o->step;
    if (!isfinite(length)) return COV_OK;
    if (o->o.clip > 0 && length > o->o.clip) step.grad_scale = (float)(grad_scale * (o->o.clip / length));
    COV_TRY(b->optim(d, &step, count, o->decays, values, grads, o->m, o->v));
    net_touch(o->n);
    return COV_OK;
}

int64_t optim_step_number(const optim *o) { return o->step; }

status optim_get(optim *o, float *m, float *v)
{
    const backend *b = net_backend(o->n);
    COV_TRY(b->download(net_device(o->n), m, o->m, o->count * sizeof(float)));
    if (o->v && v) COV_TRY(b->download(net_device(o->n), v, o->v, o->count * sizeof(float)));
    return COV_OK;
}

status optim_set(optim *o, int64_t step, const float *m, const float *v)
{
    const backend *b = net_backend(o->n);
    if (step < 0 || (o->v && !v))
        return COV_FAIL(COV_BROKEN, "optimiser state of step %lld without all its moments", (long long)step);
    COV_TRY(b->upload(net_device(o->n), o->m, m, o->count * sizeof(float)));
    if (o->v) COV_TRY(b->upload(net_device(o->n), o->v, v, o->count * sizeof(float)));
    o->step = step;
    return COV_OK;
}
