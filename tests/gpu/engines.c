/* engines: cuDNN's plans for an H100, made here without one: the graphs that kernels/cuda/dnn.c builds are well formed, and
 * an engine that is exact enough takes each kind of convolution that our networks have. What cuDNN compiles when a plan is
 * made (bias and ReLU in the same pass, weights in F32 from bf16 images) needs a driver: it is told, not judged. How long each
 * plan took is printed, too: a network's first pass waits for them all. */
#include "kernels/cuda/dnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct layer {
    const char *what;
    int64_t ci, co, kernel, stride, pad, side, n;
} layer;

static const layer layers[] = {
    {"first of a lung network", 1, 16, 3, 1, 1, 512, 1},  {"3x3", 64, 64, 3, 1, 1, 128, 1}, {"3x3, stride 2", 64, 128, 3, 2, 1, 128, 2},
    {"stem", 3, 64, 7, 2, 3, 512, 1},                     {"1x1", 256, 64, 1, 1, 0, 128, 1}, {"logits", 16, 1, 1, 1, 0, 512, 1},
    {"2x2 up", 32, 64, 2, 2, 0, 256, 1},                  {"odd channels", 5, 7, 3, 2, 1, 11, 2}, {"a linear layer", 1024, 90, 1, 1, 0, 32, 1},
};
enum { LAYERS = sizeof layers / sizeof layers[0] };

static dnn_want want_of(const layer *l, tensor_type type, dnn_result result)
{
    int64_t out = (l->side + 2 * l->pad - l->kernel) / l->stride + 1;
    return (dnn_want){.pair = {.small = tensor_shape_of(l->n, out, out, l->co, type),
                               .large = tensor_shape_of(l->n, l->side, l->side, l->ci, type),
                               .kernel = (int)l->kernel,
                               .stride = (int)l->stride,
                               .pad = (int)l->pad},
                      .result = result};
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* 1 if an engine is missing that must be there. */
static int ask(device *d, const layer *l, dnn_want w, int must)
{
    static const char *const results[] = {"small", "large", "weights"};
    const dnn_conv *c;
    double start = now();
    status s = dnn_conv_find(d, &w, &c);
    printf("%6.1f ms  %-24s %-4s %-7s%s%s%s: ", 1e3 * (now() - start), l->what, w.pair.small.type == TENSOR_BF16 ? "bf16" : "f32", results[w.result], w.bias ? " bias" : "",
           w.relu ? " relu" : "", w.tf32 ? " tf32" : "");
    if (s == COV_OK) printf("an engine, workspace %zu bytes\n", dnn_conv_workspace(c));
    else printf("%s%s\n", must ? "FAIL: " : "not without a driver: ", status_message());
    return must && s != COV_OK;
}

int main(int argc, char **argv)
{
    device d = {.ordinal = -1};
    char json[4096] = "";
    int bad = 0;
    FILE *f = argc == 2 ? fopen(argv[1], "r") : NULL;
    if (!f || fread(json, 1, sizeof json - 1, f) == 0) return fprintf(stderr, "usage: engines DEVICE.json\n"), 2;
    fclose(f);
    if (dnn_open_for(json, &d.dnn) != COV_OK) return fprintf(stderr, "FAIL: %s\n", status_message()), 1;
    for (int k = 0; k < LAYERS; k++)
        for (int type = TENSOR_F32; type <= TENSOR_BF16; type++)
            for (int result = DNN_SMALL; result <= DNN_WEIGHTS; result++) {
                dnn_want w = want_of(&layers[k], (tensor_type)type, (dnn_result)result);
                int compiled = type == TENSOR_BF16 && result == DNN_WEIGHTS;
                bad += ask(&d, &layers[k], w, !compiled);
                w.bias = w.relu = type == TENSOR_BF16 && result != DNN_WEIGHTS;
                w.tf32 = type == TENSOR_F32 && result == DNN_WEIGHTS;
                if (w.bias || w.tf32) bad += ask(&d, &layers[k], w, w.tf32);
            }
    dnn_close(&d.dnn);
    printf("%d missing\n", bad);
    return bad > 0;
}
