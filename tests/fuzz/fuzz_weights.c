/* fuzz_weights: any bytes as a file of weights: what loads is finite, of the size that it says, saves, and loads again
 * as the same. HDF5 sees the bytes first: what breaks inside libhdf5 is that library's own. */
#include "data/weights.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <string.h>

static void check_params(const weights_file *w)
{
    for (int k = 0; k < w->param_count; k++) {
        const weights_param *p = &w->params[k];
        size_t count = 1;
        for (int d = 0; d < 4; d++) {
            FUZZ_CHECK(p->shape[d] >= 1);
            count *= (size_t)p->shape[d];
        }
        for (size_t i = 0; i < count; i++) FUZZ_CHECK(isfinite(p->values[i]));
        FUZZ_CHECK(weights_find_param(w, p->name) == p);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[128];
    weights_file *w, *again;
    fuzz_file(".h5", data, size, path, sizeof path);
    if (weights_load(path, &w) == COV_OK) {
        char before[SHA256_HEX];
        check_params(w);
        memcpy(before, w->sha256, sizeof before);
        FUZZ_CHECK(weights_save(path, w) == COV_OK);
        FUZZ_CHECK(weights_load(path, &again) == COV_OK && strcmp(again->sha256, before) == 0);
        weights_free(&again);
        weights_free(&w);
    } else FUZZ_CHECK(!w);
    unlink(path);
    return 0;
}
