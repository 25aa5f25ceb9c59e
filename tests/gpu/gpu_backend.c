/* gpu_backend: takes the place of backend_at in tests that run on every backend: ref, which others are compared with, and
 * the CUDA plugin. Without a GPU (or the plugin) the program says why and leaves as skipped. */
#include "kernels/backend.h"

#include <stdio.h>
#include <stdlib.h>

const backend *gpu_backend_at(int k);

const backend *gpu_backend_at(int k)
{
    const backend *b = NULL;
    device *d = NULL;
    if (k == 0 && backend_find("ref", &b) == COV_OK) return b;
    if (k != 1) return NULL;
    status s = backend_find("cuda", &b);
    if (s == COV_OK) s = b->open(&(device_options){.threads = 1}, &d);
    if (s == COV_UNSUPPORTED) {
        printf("skipped: %s\n", status_message());
        exit(77);
    }
    if (s != COV_OK) {
        printf("FAIL: %s (%s)\n", status_message(), status_trace());
        exit(1);
    }
    b->close(&d);
    return b;
}
