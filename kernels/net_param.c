/* net_param: the parameters of a net: one flat device array of values [trainable | frozen | moving statistics], each part
 * in build order, and one of gradients beside the first part. Every parameter starts at a multiple of NET_ALIGN bytes;
 * the gap after it is zero in both arrays and stays so. Initial values depend on seed and name alone, so that a net
 * built in another order, or with other parts beside, starts the same. */
#include "base/size.h"
#include "kernels/net_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN_FLOATS = NET_ALIGN / 4 };

/* splitmix64 (Steele, Lea & Flood 2014). */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t random_start(uint64_t seed, const char *name)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h ^ (seed * 0x9e3779b97f4a7c15u);
}

static void initialise(const net *n, const net_parameter *p, float *value)
{
    uint64_t state = random_start(n->seed, p->name);
    for (size_t i = 0; i < p->count; i++) {
        if (!(p->spread > 0)) {
            value[i] = p->start;
            continue;
        }
        double u = ((double)(random_next(&state) >> 11) + 0.5) * 0x1p-53; /* in (0,1) */
        double turn = (double)(random_next(&state) >> 11) * 0x1p-53;
        value[i] = (float)(p->spread * sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * turn));
    }
}

/* 0: trainable, 1: frozen, 2: statistics that move. */
static int part_of(const net_parameter *p) { return p->moves ? 2 : p->public.frozen; }

static status lay_out(net *n)
{
    size_t end = 0;
    for (int part = 0; part < 3; part++) {
        for (int k = 0; k < n->param_count; k++) {
            net_parameter *p = &n->params[k];
            if (part_of(p) != part) continue;
            p->offset = end;
            if (!size_add(end, (p->count + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS, &end))
                return COV_FAIL(COV_NOMEM, "the net's parameters do not fit in memory");
        }
        if (part == 0) n->trainable = end;
        if (part == 1) n->statistics = end;
    }
    n->total = end;
    return COV_OK;
}

status net_params_ready(net *n)
{
    void *memory = NULL;
    size_t bytes;
    status s;
    if (n->failed != COV_OK) return COV_FAIL(n->failed, "%s", n->message);
    if (n->weights) return COV_OK;
    COV_TRY(lay_out(n));
    if (!size_mul(n->total ? n->total : 1, sizeof(float), &bytes))
        return COV_FAIL(COV_NOMEM, "the net's parameters do not fit in memory");
    float *host = calloc(1, bytes);
    if (!host) return COV_FAIL(COV_NOMEM, "no memory for %zu bytes of parameters", bytes);
    for (int k = 0; k < n->param_count; k++) initialise(n, &n->params[k], host + n->params[k].offset);
    COV_GO(n->b->alloc(n->d, bytes, &memory));
    COV_GO(n->b->upload(n->d, memory, host, bytes));
    n->weights = memory;
    memory = NULL;
    for (int k = 0; k < n->param_count; k++) n->params[k].public.value = n->weights + n->params[k].offset;
done:
    n->b->release(n->d, memory);
    free(host);
    return s;
}

status net_grads_ready(net *n, int wanted)
{
    if (wanted && !n->grads) {
        void *memory = NULL;
        COV_TRY(n->b->alloc(n->d, (n->trainable ? n->trainable : 1) * sizeof(float), &memory));
        n->grads = memory;
        COV_TRY(n->b->zero(n->d, n->grads, n->trainable * sizeof(float)));
    }
    if (!wanted) {
        n->b->release(n->d, n->grads);
        n->grads = NULL;
    }
    for (int k = 0; k < n->param_count; k++) {
        net_parameter *p = &n->params[k];
        p->public.grad = n->grads && part_of(p) == 0 ? n->grads + p->offset : NULL;
    }
    return COV_OK;
}

int net_param_count(const net *n) { return n->param_count; }

const net_param *net_param_at(const net *n, int k)
{
    return k >= 0 && k < n->param_count ? &n->params[k].public : NULL;
}

static status param_check(net *n, int k)
{
    COV_TRY(net_params_ready(n));
    if (k < 0 || k >= n->param_count)
        return COV_FAIL(COV_BROKEN, "parameter %d of a net that has %d", k, n->param_count);
    return COV_OK;
}

status net_param_set(net *n, int k, const float *host)
{
    COV_TRY(param_check(n, k));
    net_parameter *p = &n->params[k];
    COV_TRY(n->b->upload(n->d, p->public.value, host, p->count * sizeof(float)));
    p->version = ++n->version;
    return COV_OK;
}

status net_param_get(net *n, int k, float *host)
{
    COV_TRY(param_check(n, k));
    COV_TRY(n->b->download(n->d, host, n->params[k].public.value, n->params[k].count * sizeof(float)));
    return COV_OK;
}

status net_gradients(net *n, float **grads, float **values, size_t *count)
{
    *grads = *values = NULL;
    *count = 0;
    COV_TRY(net_params_ready(n));
    *grads = n->grads;
    *values = n->weights;
    *count = n->trainable;
    return COV_OK;
}

status net_statistics(net *n, float **values, size_t *count)
{
    *values = NULL;
    *count = 0;
    COV_TRY(net_params_ready(n));
    *values = n->weights + n->statistics;
    *count = n->total - n->statistics;
    return COV_OK;
}

void net_touch(net *n)
{
    n->version++;
    for (int k = 0; k < n->param_count; k++)
        if (part_of(&n->params[k]) != 1) n->params[k].version = n->version;
}
