/* lung: two networks kept at the size of the study in hand. A network is reshaped only when a study's planes have another
 * size, so a run of alike studies plans once. Planes go through in batches; what a batch lacks at the end of a volume
 * is run on what the buffer still holds, and not used. */
#include "stages/lung.h"

#include "stages/lungio.h"
#include "stages/lungplane.h"
#include "stages/netio.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An axial plane alone fills the caches; sagittal ones are smaller, and are put back in runs along x (lungplane_put). */
enum { AXIAL_BATCH = 1, SAGITTAL_BATCH = 8 };

typedef struct view_net {
    net *net; /* NULL: not loaded */
    lungnet graph;
    int64_t batch, rows, cols; /* as compiled */
    char preset[WEIGHTS_LABEL];
} view_net;

struct lung {
    const backend *backend;
    device *device;
    net_precision precision;
    view_net view[2]; /* by lungnet_view */
    float fusion;
    float *planes, *logits;
    size_t room; /* elements of each */
    char digest[2 * SHA256_HEX];
};

static status load_view(lung *l, lungnet_view v, const char *path)
{
    view_net *n = &l->view[v];
    weights_file *w = NULL;
    status s;
    COV_GO(lungio_open(path, v, NULL, &w));
    snprintf(n->preset, sizeof n->preset, "%s", w->preset);
    n->batch = v == LUNGNET_AXIAL ? AXIAL_BATCH : SAGITTAL_BATCH;
    n->rows = n->cols = v == LUNGNET_AXIAL ? 512 : 256;
    COV_GO(net_new(l->backend, l->device, 0, &n->net));
    COV_GO(lungnet_build(n->net, n->preset, n->batch, n->rows, n->cols, false, &n->graph));
    COV_GO(net_compile(n->net, NET_INFER, l->precision, NULL, NULL, 0));
    COV_GO(netio_load(w, n->net));
    if (v == LUNGNET_SAGITTAL) l->fusion = lungio_fusion(w, 0.5f);
    size_t used = strlen(l->digest);
    snprintf(l->digest + used, sizeof l->digest - used, "%s%s", used ? "+" : "", w->sha256);
done:
    weights_free(&w);
    return s;
}

status lung_open(const backend *b, device *d, net_precision precision, const char *axial_path, const char *sagittal_path, lung **out)
{
    status s;
    *out = NULL;
    lung *l = calloc(1, sizeof *l);
    if (!l) return COV_FAIL(COV_NOMEM, "no memory for the lung networks");
    l->backend = b;
    l->device = d;
    l->precision = precision;
    COV_GO(load_view(l, LUNGNET_AXIAL, axial_path));
    if (sagittal_path) COV_GO(load_view(l, LUNGNET_SAGITTAL, sagittal_path));
done:
    if (s != COV_OK) lung_close(&l);
    *out = l;
    return s;
}

void lung_close(lung **l)
{
    if (!l || !*l) return;
    for (int v = 0; v < 2; v++) net_free(&(*l)->view[v].net);
    free((*l)->planes);
    free((*l)->logits);
    free(*l);
    *l = NULL;
}

float lung_fusion(const lung *l) { return l->fusion; }
const char *lung_digest(const lung *l) { return l->digest; }

static status make_room(lung *l, size_t elements)
{
    if (elements <= l->room) return COV_OK;
    free(l->planes);
    free(l->logits);
    l->planes = calloc(elements, sizeof *l->planes);
    l->logits = malloc(elements * sizeof *l->logits);
    l->room = l->planes && l->logits ? elements : 0;
    return l->room ? COV_OK : COV_FAIL(COV_NOMEM, "no memory for %zu pixels of lung planes", elements);
}

static status run_view(lung *l, lungnet_view view, const volume *v, float weight, float *logit)
{
    view_net *n = &l->view[view];
    int threads = l->backend->threads(l->device);
    lungplane p;
    COV_TRY(lungplane_of(view, &v->head, &p));
    COV_TRY(make_room(l, (size_t)(n->batch * p.rows * p.cols)));
    if (p.rows != n->rows || p.cols != n->cols) {
        COV_TRY(net_reshape(n->net, n->graph.image, tensor_shape_of(n->batch, p.rows, p.cols, 1, TENSOR_F32)));
        COV_TRY(net_compile(n->net, NET_INFER, l->precision, NULL, NULL, 0));
        n->rows = p.rows;
        n->cols = p.cols;
    }
    for (int64_t first = 0; first < p.planes; first += n->batch) {
        int64_t count = p.planes - first < n->batch ? p.planes - first : n->batch;
        lungplane_get(&p, window_lung(), v->hu, first, count, threads, l->planes);
        COV_TRY(net_set_input(n->net, n->graph.image, l->planes));
        COV_TRY(net_forward(n->net));
        COV_TRY(net_get(n->net, n->graph.logit, l->logits));
        lungplane_put(&p, weight, l->logits, first, count, threads, logit);
    }
    return COV_OK;
}

status lung_logits(lung *l, const volume *v, float sagittal_weight, float *logit)
{
    if (sagittal_weight > 0 && !l->view[LUNGNET_SAGITTAL].net)
        return COV_FAIL(COV_USAGE, "a fusion weight of %g needs sagittal weights, and none are loaded", (double)sagittal_weight);
    memset(logit, 0, sizeof *logit * (size_t)(v->head.nx * v->head.ny * v->head.nz));
    if (sagittal_weight < 1) COV_TRY(run_view(l, LUNGNET_AXIAL, v, 1 - sagittal_weight, logit));
    if (sagittal_weight > 0) COV_TRY(run_view(l, LUNGNET_SAGITTAL, v, sagittal_weight, logit));
    return COV_OK;
}
