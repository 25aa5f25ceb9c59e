/* net_fold: BatchNorm on fixed statistics is a scale and shift a channel; behind a plain convolution both go into
 * that convolution's weights and bias, and the norm costs nothing. The net's own parameters stay as they are (they
 * are what is saved); folded copies stand beside and are made again whenever a parameter has changed. */
#include "base/size.h"
#include "kernels/net_internal.h"

#include <math.h>
#include <stdlib.h>

static int readers(const net *n, net_t x)
{
    int count = 0;
    for (int k = 0; k < n->node_count; k++)
        for (int j = 0; j < n->nodes[k].nx; j++) count += n->nodes[k].needed && n->nodes[k].x[j] == x;
    return count;
}

/* The convolution that norm `v` folds into, or -1. */
static int foldable(const net *n, const net_node *v)
{
    if (!n->fold || !v->needed || v->run.kind != OP_BATCHNORM || v->run.training || v->run.residual || v->backward)
        return -1;
    const net_value *x = &n->values[v->x[0]];
    if (x->node < 0 || x->output || readers(n, v->x[0]) != 1) return -1;
    const net_node *c = &n->nodes[x->node];
    /* o: a norm that runs as a conv is none */
    return c->o.kind == OP_CONV && !c->o.relu && !c->backward ? x->node : -1;
}

/* The norm's node runs as the convolution, on the convolution's input; the convolution's node is no longer needed. */
static void fold_in(net *n, int conv, int norm, int fold)
{
    net_node *c = &n->nodes[conv], *v = &n->nodes[norm];
    int relu = v->run.relu;
    v->run = c->run;
    v->run.relu = relu;
    v->run.bias = 1;
    v->shapes = c->shapes;
    v->shapes.np = 2;
    v->fold = fold;
    c->needed = 0;
    n->values[c->y].needed = 0;
}

status net_fold_find(net *n)
{
    void *memory = NULL;
    size_t end = 0, bytes;
    if (!(n->folds = calloc((size_t)n->node_count + 1, sizeof *n->folds)))
        return COV_FAIL(COV_NOMEM, "no memory to fold norms");
    for (int k = 0; k < n->node_count; k++) {
        int conv = foldable(n, &n->nodes[k]);
        if (conv < 0) continue;
        const net_node *c = &n->nodes[conv];
        net_fold *f = &n->folds[n->fold_count];
        *f = (net_fold){.conv = conv, .norm = k, .offset = end};
        f->weights = n->params[c->p[0]].count;
        f->channels = (size_t)c->o.channels;
        f->bias = (f->weights + NET_ALIGN - 1) / NET_ALIGN * NET_ALIGN;
        end += f->bias + (f->channels + NET_ALIGN - 1) / NET_ALIGN * NET_ALIGN;
        fold_in(n, conv, k, n->fold_count++);
    }
    if (!n->fold_count) return COV_OK;
    if (!size_mul(end, sizeof(float), &bytes)) return COV_FAIL(COV_NOMEM, "folded weights do not fit in memory");
    COV_TRY(n->b->alloc(n->d, bytes, &memory));
    n->folded = memory;
    n->folded_version = 0;
    return COV_OK;
}

/* w and b of the convolution times the norm: `host` holds w, b, gamma, beta, mean, var one after the other. */
static void fold_values(const net_fold *f, double eps, float *host)
{
    float *w = host, *b = w + f->weights, *gamma = b + f->channels, *beta = gamma + f->channels;
    float *mean = beta + f->channels, *var = mean + f->channels;
    size_t each = f->weights / f->channels;
    for (size_t c = 0; c < f->channels; c++) {
        double scale = gamma[c] / sqrt((double)var[c] + eps);
        for (size_t i = 0; i < each; i++) w[c * each + i] = (float)(w[c * each + i] * scale);
        b[c] = (float)(beta[c] + ((double)b[c] - mean[c]) * scale);
    }
}

/* Of the newest parameter that a fold is made of. */
static uint64_t version_of(const net *n, const net_fold *f)
{
    const net_node *c = &n->nodes[f->conv], *v = &n->nodes[f->norm];
    uint64_t version = 0;
    for (int k = 0; k < c->np + v->np; k++) {
        uint64_t one = n->params[k < c->np ? c->p[k] : v->p[k - c->np]].version;
        if (one > version) version = one;
    }
    return version;
}

static status fold_one(net *n, net_fold *f, float *host)
{
    const net_node *c = &n->nodes[f->conv], *v = &n->nodes[f->norm];
    float *at = host + f->weights + f->channels;
    COV_TRY(net_param_get(n, c->p[0], host));
    for (size_t i = 0; i < f->channels; i++) host[f->weights + i] = 0;
    if (c->o.bias) COV_TRY(net_param_get(n, c->p[1], host + f->weights));
    for (int k = 0; k < 4; k++, at += f->channels) COV_TRY(net_param_get(n, v->p[k], at));
    fold_values(f, v->o.eps, host);
    COV_TRY(n->b->upload(n->d, n->folded + f->offset, host, f->weights * sizeof(float)));
    COV_TRY(n->b->upload(n->d, n->folded + f->offset + f->bias, host + f->weights, f->channels * sizeof(float)));
    f->version = version_of(n, f);
    return COV_OK;
}

/* A training step changes some parameters, but none of a frozen part: only folds that are stale are made again. */
status net_fold_update(net *n)
{
    size_t most = 0;
    status s = COV_OK;
    if (!n->fold_count || n->folded_version == n->version) return COV_OK;
    for (int k = 0; k < n->fold_count; k++) {
        size_t need = n->folds[k].weights + 5 * n->folds[k].channels;
        if (n->folds[k].version != version_of(n, &n->folds[k]) && need > most) most = need;
    }
    float *host = malloc((most + 1) * sizeof *host);
    if (!host) return COV_FAIL(COV_NOMEM, "no memory to fold norms");
    for (int k = 0; k < n->fold_count; k++)
        if (n->folds[k].version != version_of(n, &n->folds[k])) COV_GO(fold_one(n, &n->folds[k], host));
    n->folded_version = n->version;
done:
    free(host);
    return s;
}
