/* lesion_weights MODEL SEED FILE: compact weights as a training begins with them, for tests that need a lesion network and not
 * a good one. */
#include "stages/lesionnet.h"
#include "stages/netio.h"

#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 64 };

static status make(const char *name, uint64_t seed, const char *file)
{
    lesionnet_model model;
    lesionnet graph = {0};
    const backend *b;
    device *d = NULL;
    net *n = NULL;
    weights_file *w = NULL;
    status s;
    COV_GO(lesionnet_named(name, &model));
    COV_GO(backend_find("cpu", &b));
    COV_GO(b->open(&(device_options){.threads = 1}, &d));
    COV_GO(net_new(b, d, seed, &n));
    COV_GO(lesionnet_build_training(n, model, "compact", 1, SIDE, SIDE, seed, &graph));
    COV_GO(net_compile(n, NET_TRAIN, NET_FP32, graph.loss, graph.weight, graph.losses));
    COV_GO(weights_new(name, "compact", &w));
    w->store = WEIGHTS_BF16;
    COV_GO(netio_save(n, w));
    COV_GO(weights_save(file, w));
done:
    weights_free(&w);
    net_free(&n);
    lesionnet_free(&graph);
    if (d) b->close(&d);
    return s;
}

int main(int argc, char **argv)
{
    if (argc != 4) return fprintf(stderr, "lesion_weights MODEL SEED FILE\n"), 2;
    if (make(argv[1], strtoull(argv[2], NULL, 10), argv[3]) == COV_OK) return 0;
    fprintf(stderr, "%s (%s)\n", status_message(), status_trace());
    return 1;
}
