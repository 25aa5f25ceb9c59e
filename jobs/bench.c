/* bench: how fast this machine runs what covpipe is made of: networks forward, training steps, the CRF, a study's way through
 * the pipeline, copies. Inputs of networks are random, their weights are the initial ones: neither changes the time. From command to
 * cohort file a study is timed from outside (scripts/bench-study.sh), peers beside us by scripts/bench-peers.sh. The median of --repeat runs after two that are not counted (a backend may record
 * the second, see kernels/net_record.c). */
#include "jobs/bench_lesion.h"
#include "jobs/bench_study.h"
#include "jobs/jobs.h"
#include "jobs/setup.h"
#include "kernels/optim.h"
#include "stages/baselines.h"
#include "stages/lungnet.h"
#include "stages/phantom.h"
#include "stages/resnet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct bench {
    const options *o;
    setup setup;
    str json;
    double product[2]; /* FLOP/s of the matrix product, by net_precision: what the others are a share of; 0: not timed */
} bench;

typedef struct graph { net_t input, label, output, loss; } graph;
typedef status (*graph_builder)(net *n, int64_t batch, int64_t size, int training, graph *g);
typedef struct bench_case { const char *name; graph_builder build; int batch, train_batch; } bench_case;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

/* Output or loss of the graph: what training differentiates, what inference keeps. */
static void finish(net *n, net_t logits, int64_t batch, int64_t size, int training, graph *g)
{
    g->label = g->loss = -1;
    g->output = net_output(n, "logits", logits);
    if (!training) return;
    g->label = net_constant(n, "label", tensor_shape_of(batch, size, size, 1, TENSOR_I32));
    g->loss = net_loss_ce(n, logits, g->label);
}

static status build_gnunet(net *n, int64_t batch, int64_t size, int training, graph *g)
{
    g->input = net_input(n, "x", tensor_shape_of(batch, size, size, 1, TENSOR_F32));
    finish(n, baselines_gnunet(n, g->input, 64, 2), batch, size, training, g);
    return COV_OK;
}

static status build_unet(net *n, int64_t batch, int64_t size, int training, graph *g)
{
    g->input = net_input(n, "x", tensor_shape_of(batch, size, size, 3, TENSOR_F32));
    finish(n, baselines_unet(n, g->input, 64, 2), batch, size, training, g);
    return COV_OK;
}

static status build_trunk(net *n, int64_t batch, int64_t size, int training, graph *g)
{
    net_t level[RESNET_LEVELS];
    (void)training;
    g->label = g->loss = -1;
    g->input = net_input(n, "x", tensor_shape_of(batch, size, size, 3, TENSOR_F32));
    resnet_50(n, "encoder", g->input, 64, 4, level);
    g->output = net_output(n, "features", level[3]);
    return COV_OK;
}

static status build_lung(net *n, const char *preset, int64_t batch, int64_t size, graph *g)
{
    lungnet l;
    COV_TRY(lungnet_build(n, preset, batch, size, size, false, &l));
    *g = (graph){.input = l.image, .label = -1, .output = l.logit, .loss = -1};
    return COV_OK;
}
static status build_compact(net *n, int64_t batch, int64_t size, int training, graph *g) { (void)training; return build_lung(n, "compact", batch, size, g); }
static status build_paper(net *n, int64_t batch, int64_t size, int training, graph *g) { (void)training; return build_lung(n, "paper", batch, size, g); }

/* What the machine gives where nothing but multiplying is to be done: 4096 x 1024 x 1024, or, as a GPU would spend that on
 * filling and draining, 16384 x 4096 x 4096. */
static status build_product(net *n, int64_t batch, int64_t size, int training, graph *g)
{
    const int large = net_backend(n)->host_memory ? 1 : 4;
    (void)size, (void)training;
    g->label = g->loss = -1;
    g->input = net_input(n, "x", tensor_shape_of(batch * large, 64, 64, 1024 * large, TENSOR_F32));
    g->output = net_output(n, "y", net_linear(n, "product", g->input, 1024 * large, 0));
    return COV_OK;
}

static const bench_case cases[] = {
    {"product", build_product, 1, 0},
    {"gnunet", build_gnunet, 1, 0}, {"unet-resnet50", build_unet, 1, 4}, {"trunk-resnet50", build_trunk, 1, 0},
    {"lung-compact", build_compact, 1, 0}, {"lung-paper", build_paper, 1, 0},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static void print_row(bench *b, const char *name, const char *what, net_precision precision, int64_t batch, double *seconds, int n, double flops)
{
    qsort(seconds, (size_t)n, sizeof *seconds, ascending);
    double median = seconds[n / 2];
    const char *type = precision == NET_BF16 ? "bf16" : "fp32";
    int threads = b->setup.backend->threads(b->setup.device);
    printf("%-16s %-8s %-5s %7d %6lld %10.6f %10.6f %10.6f", name, what, type, threads, (long long)batch, median, seconds[0], seconds[n - 1]);
    if (flops > 0) printf(" %9.1f %9.1f", flops * 1e-9, flops * 1e-9 / median);
    if (flops > 0 && strcmp(name, cases[0].name) == 0) b->product[precision] = flops / median;
    if (flops > 0 && b->product[precision] > 0) printf(" %7.0f %%", 100 * flops / median / b->product[precision]);
    putchar('\n');
    fflush(stdout);
    str_putf(&b->json, "%s{\"case\":\"%s\",\"what\":\"%s\",\"precision\":\"%s\",\"threads\":%d,\"batch\":%lld,\"median_s\":%.6f,\"min_s\":%.6f,\"gflop\":%.3f}",
             b->json.length ? ",\n" : "", name, what, type, threads, (long long)batch, median, seconds[0], flops * 1e-9);
}

static status feed(net *n, const graph *g, int64_t batch, int64_t size, int training)
{
    const tensor_shape in = net_shape(n, g->input);
    size_t pixels = (size_t)(batch * size * size), count = (size_t)(in.n * in.h * in.w * in.c);
    float *x = malloc(sizeof *x * count);
    int32_t *label = calloc(pixels, sizeof *label);
    status s = x && label ? COV_OK : COV_FAIL(COV_NOMEM, "no memory for an input of %zu values", count);
    for (size_t i = 0; s == COV_OK && i < count; i++) x[i] = (float)phantom_uniform(1, i);
    for (size_t i = 0; s == COV_OK && i < pixels; i++) label[i] = phantom_uniform(2, i) < 0.5;
    if (s == COV_OK) s = net_set_input(n, g->input, x);
    if (s == COV_OK && training) s = net_set_input(n, g->label, label);
    free(x);
    free(label);
    return s;
}

static status one_step(net *n, optim *optimiser)
{
    COV_TRY(net_forward(n));
    if (optimiser) {
        float norm;
        COV_TRY(net_backward(n));
        COV_TRY(optim_run(optimiser, 1, &norm));
    }
    return net_sync(n);
}

static status time_net(bench *b, const bench_case *c, net_precision precision, int training)
{
    int64_t size = b->o->size ? b->o->size : 512, batch = b->o->batch ? b->o->batch : training ? c->train_batch : c->batch;
    double seconds[101];
    int repeat = (int)(b->o->repeat > 100 ? 100 : b->o->repeat);
    optim_options sgd = optim_defaults(0);
    net *n = NULL;
    optim *optimiser = NULL;
    graph g;
    status s;
    sgd.rate = 1e-5f;
    COV_GO(net_new(b->setup.backend, b->setup.device, 1, &n));
    COV_GO(c->build(n, batch, size, training, &g));
    COV_GO(net_compile(n, training ? NET_TRAIN : NET_INFER, precision, training ? &g.loss : NULL, NULL, training));
    COV_GO(feed(n, &g, batch, size, training));
    if (training) COV_GO(optim_new(n, &sgd, &optimiser));
    for (int k = -2; k < repeat; k++) {
        double start = now();
        COV_GO(one_step(n, optimiser));
        if (k >= 0) seconds[k] = now() - start;
    }
    print_row(b, c->name, training ? "training" : "forward", precision, batch, seconds, repeat, net_flops(n) * (training ? 3 : 1));
done:
    optim_free(&optimiser);
    net_free(&n);
    return s;
}

static status time_lesion(bench *b, int k, net_precision precision, int training)
{
    int64_t size = b->o->size ? b->o->size : 512, batch = b->o->batch ? b->o->batch : training ? BENCH_LESION_TRAIN_BATCH : 1;
    double seconds[101];
    int repeat = (int)(b->o->repeat > 100 ? 100 : b->o->repeat);
    bench_lesion *l;
    status s;
    COV_GO(bench_lesion_open(&b->setup, k, precision, batch, size, training, &l));
    for (int i = -2; i < repeat; i++) {
        double start = now();
        COV_GO(bench_lesion_step(l));
        if (i >= 0) seconds[i] = now() - start;
    }
    print_row(b, bench_lesion_name(k), training ? "training" : "forward", precision, batch, seconds, repeat, bench_lesion_flops(l));
done:
    bench_lesion_close(&l);
    return s;
}

enum { CRF_DEVICE_BATCH = 64 };

/* A slice of a phantom and noisy unaries, n times: image[0] logits, image[1] intensities, image[2] room for Q. */
static status fill_crf(int64_t size, int64_t n, float *const image[3])
{
    int64_t count = size * size;
    phantom *p = NULL;
    COV_TRY(phantom_new(&(phantom_options){.seed = 7, .nx = size, .ny = size, .nz = 1, .spacing_mm = {360.0 / (double)size, 360.0 / (double)size, 250}, .lesions = 3}, &p));
    for (int64_t i = 0; i < count * n; i++) {
        float hu = p->hu[i % count], noise = (float)(phantom_uniform(3, (uint64_t)i) + phantom_uniform(4, (uint64_t)i) - 1) * 0.37f;
        float probability = fminf(0.98f, fmaxf(0.02f, (hu < -550 ? 0.75f : 0.25f) + noise));
        image[1][i] = floorf(fminf(255, fmaxf(0, (hu + 1024) / 1424 * 255)));
        image[0][i] = logf(probability / (1 - probability));
    }
    phantom_free(&p);
    return COV_OK;
}

/* As peers' CRFs are timed: theta 80/13/3, weights 10/3, ten iterations, no early stop; arrays lie where the backend computes. A batch is
 * one slice a thread, or on a GPU so many that they fill it. */
static status time_crf(bench *b)
{
    const backend *k = b->setup.backend;
    device *d = b->setup.device;
    int64_t size = b->o->size ? b->o->size : 512, n = b->o->batch ? b->o->batch : k->host_memory ? k->threads(d) : CRF_DEVICE_BATCH;
    size_t bytes = sizeof(float) * (size_t)(size * size * n);
    int repeat = (int)(b->o->repeat > 100 ? 100 : b->o->repeat);
    double seconds[101];
    float *host[3] = {malloc(bytes), malloc(bytes), malloc(bytes)};
    void *there[3] = {NULL, NULL, NULL};
    crf_options o = {.w_appearance = 10, .w_smooth = 3, .theta_alpha = 80, .theta_beta = 13, .theta_gamma = 3, .iterations = 10, .tolerance = 0};
    status s = host[0] && host[1] && host[2] ? COV_OK : COV_FAIL(COV_NOMEM, "no memory for slices of %lld pixels", (long long)size);
    if (s == COV_OK) s = fill_crf(size, n, host);
    for (int j = 0; s == COV_OK && j < 3; j++) s = k->alloc(d, bytes, &there[j]);
    for (int j = 0; s == COV_OK && j < 2; j++) s = k->upload(d, there[j], host[j], bytes);
    crf_batch batch = {.n = n, .h = size, .w = size, .logit = there[0], .intensity = there[1], .probability = there[2]};
    for (int i = -1; s == COV_OK && i < repeat; i++) {
        double start = now();
        s = k->crf(d, &o, &batch);
        if (s == COV_OK) s = k->sync(d);
        if (i >= 0) seconds[i] = now() - start;
    }
    if (s == COV_OK) print_row(b, "crf", "10 iter", NET_FP32, n, seconds, repeat, 0);
    for (int j = 0; j < 3; j++) {
        k->release(d, there[j]);
        free(host[j]);
    }
    return s == COV_OK ? COV_OK : status_relay(s, __FILE__, __LINE__);
}

/* Its two halves; the first run of each, in which plans are made, is not counted. The batch is the study's slices. */
static status time_study(bench *b)
{
    static const char *const names[] = {"lungs", "lesions"};
    int64_t size = b->o->size ? b->o->size : 512, slices = b->o->slices ? b->o->slices : 300;
    int repeat = (int)(b->o->repeat > 100 ? 100 : b->o->repeat);
    double seconds[101];
    bench_study *study;
    status s;
    COV_GO(bench_study_open(b->o, &b->setup, size, slices, &study));
    for (int half = 0; half < (bench_study_has_lesions(study) ? 2 : 1); half++) {
        for (int i = -1; i < repeat; i++) {
            double start = now();
            COV_GO(half ? bench_study_lesions(study) : bench_study_lungs(study));
            if (i >= 0) seconds[i] = now() - start;
        }
        print_row(b, "study", names[half], b->setup.precision, slices, seconds, repeat, 0);
    }
done:
    bench_study_close(&study);
    return s;
}

/* Seconds of sending bytes to the device while it copies within itself `works` times; works 0: of sending alone; host NULL: of the
 * copies alone. */
static status time_beside(const bench *b, const void *host, void *const there[2], size_t bytes, int works, double *seconds)
{
    const backend *k = b->setup.backend;
    device *d = b->setup.device;
    sending *way = NULL;
    status s;
    double start = now();
    if (host) COV_GO(k->send(d, there[0], host, bytes / 2, &way));
    for (int i = 0; i < works; i++) COV_GO(k->convert(d, bytes / 2 / sizeof(float), TENSOR_F32, (char *)there[0] + bytes / 2, TENSOR_F32, there[1]));
    if (host) COV_GO(k->arrived(way, bytes / 2));
    COV_GO(k->sync(d));
    *seconds = now() - start;
done:
    if (way) k->send_end(&way);
    return s;
}

/* How much of a volume's way to the device is hidden behind work of equal length there: 100 %: all. */
static status time_overlap(bench *b, const void *host, void *const there[2], size_t bytes)
{
    double copy = 1e30, work = 1e30, both = 1e30, t;
    int works = 1;
    for (int i = 0; i < 4; i++) {
        COV_TRY(time_beside(b, host, there, bytes, 0, &t));
        if (i) copy = fmin(copy, t);
        COV_TRY(time_beside(b, NULL, there, bytes, 100, &t));
        if (i) work = fmin(work, t / 100);
    }
    works = (int)fmax(1, copy / work);
    for (int i = 0; i < 3; i++) {
        COV_TRY(time_beside(b, host, there, bytes, works, &t));
        both = fmin(both, t);
    }
    printf("%-16s %-8s %58.6f %9.0f %% hidden (%.6f s of sending, %.6f s of work)\n", "copy", "beside", both,
           100 * fmin(1, fmax(0, (copy + works * work - both) / fmin(copy, works * work))), copy, works * work);
    return COV_OK;
}

/* What a copy of 256 MiB takes to the device, back, and within it: what ops that only move data are a share of. */
static status time_copies(bench *b)
{
    static const char *const names[] = {"to", "from", "within"};
    const size_t bytes = (size_t)256 << 20;
    const backend *k = b->setup.backend;
    device *d = b->setup.device;
    void *there[2] = {NULL, NULL}, *host = calloc(1, bytes);
    status s = host ? COV_OK : COV_FAIL(COV_NOMEM, "no memory for a copy of %zu bytes", bytes);
    for (int j = 0; s == COV_OK && j < 2; j++) s = k->alloc(d, bytes, &there[j]);
    for (int way = 0; s == COV_OK && way < 3; way++) {
        double best = 1e30;
        for (int i = 0; s == COV_OK && i < 6; i++) {
            double start = now();
            s = way == 0   ? k->upload(d, there[0], host, bytes)
                : way == 1 ? k->download(d, host, there[0], bytes)
                           : k->convert(d, bytes / sizeof(float), TENSOR_F32, there[0], TENSOR_F32, there[1]);
            if (s == COV_OK) s = k->sync(d);
            if (i > 0) best = fmin(best, now() - start);
        }
        if (s == COV_OK) printf("%-16s %-8s %58.6f %9.1f GB/s (read%s)\n", "copy", names[way], best, 1e-9 * (double)bytes / best * (way == 2 ? 2 : 1), way == 2 ? " and written" : "");
    }
    if (s == COV_OK && k->send) s = time_overlap(b, host, there, bytes);
    k->release(d, there[0]);
    k->release(d, there[1]);
    free(host);
    return s == COV_OK ? COV_OK : status_relay(s, __FILE__, __LINE__);
}

/* Case k, those of bench_lesion after our own, in the precisions asked for. */
static status time_case(bench *b, int k)
{
    static const net_precision both[2] = {NET_BF16, NET_FP32};
    for (int p = 0; p < 2; p++) {
        if (strcmp(b->o->precision, "auto") != 0 && both[p] != b->setup.precision) continue;
        if (both[p] == NET_BF16 && !b->setup.backend->bf16(b->setup.device)) {
            if (strcmp(b->o->precision, "bf16") == 0) return COV_FAIL(COV_USAGE, "--precision bf16: there is none in this hardware to time");
            continue;
        }
        for (int training = 0; training <= (b->o->training ? 1 : 0); training++) {
            if (k >= CASES) COV_TRY(time_lesion(b, k - CASES, both[p], training));
            else if (!training || cases[k].train_batch) COV_TRY(time_net(b, &cases[k], both[p], training));
        }
    }
    return COV_OK;
}

static status run(bench *b)
{
    const char *what = b->o->word_count ? b->o->words[0] : "";
    int known = !*what || strcmp(what, "crf") == 0 || strcmp(what, "nets") == 0 || strcmp(what, "copy") == 0 || strcmp(what, "study") == 0;
    if (b->setup.backend->device_name) printf("on %s: %s\n", b->setup.backend->name, b->setup.backend->device_name(b->setup.device));
    printf("%-16s %-8s %-5s %7s %6s %10s %10s %10s %9s %9s %9s\n", "case", "what", "type", "threads", "batch", "median_s", "min_s", "max_s", "GFLOP", "GFLOP/s", "product's");
    for (int k = 0; k < CASES || bench_lesion_name(k - CASES); k++) {
        int named = strcmp(what, k < CASES ? cases[k].name : bench_lesion_name(k - CASES)) == 0;
        known |= named;
        if (*what && !named && strcmp(what, "nets") != 0 && (k > 0 || strcmp(what, "crf") == 0 || strcmp(what, "copy") == 0 || strcmp(what, "study") == 0)) continue;
        COV_TRY(time_case(b, k)); /* the product, number 0, before any network */
    }
    if (!*what || strcmp(what, "crf") == 0) COV_TRY(time_crf(b));
    if (!*what || strcmp(what, "study") == 0) COV_TRY(time_study(b));
    if (!*what || strcmp(what, "copy") == 0) COV_TRY(time_copies(b));
    if (!known) return COV_FAIL(COV_USAGE, "%s: nothing of that name to time; there are nets, crf, study, copy, product, gnunet, unet-resnet50, trunk-resnet50, lung-compact, lung-paper, and st, sp, maskrcnn, unet, spatial, temporal with -compact or -paper (st-compact, ...)", what);
    return COV_OK;
}

int bench_job(const options *o)
{
    bench b = {.o = o};
    status s;
    if (o->repeat < 1) { s = COV_FAIL(COV_USAGE, "--repeat %lld: expected at least 1", o->repeat); goto done; }
    COV_GO(setup_open(o, &b.setup));
    COV_GO(run(&b));
    if (*o->json) COV_GO(setup_write_json(o->json, &b.json));
done:
    setup_close(&b.setup);
    str_free(&b.json);
    return s == COV_OK ? EXIT_OK : jobs_fail(s);
}
