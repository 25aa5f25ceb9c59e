/* backend: the look-up in the list of compiled-in backends, the loading of those that are plugins, and the CRF on host
 * arrays. A plugin stays loaded: its table is static in it. */
#include "base/size.h"
#include "base/str.h"
#include "kernels/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define X(name) extern const backend backend_##name;
BACKENDS(X)
#undef X

static const backend *const backends[] = {
#define X(name) &backend_##name,
    BACKENDS(X)
#undef X
};

static const char *const plugins[] = {
#define X(name) #name,
    BACKEND_PLUGINS(X)
#undef X
};

const backend *backend_at(int k)
{
    return k >= 0 && k < (int)(sizeof backends / sizeof backends[0]) ? backends[k] : NULL;
}

/* The first place where there is such a file; `tried`: all of them. */
static int plugin_path(const char *name, str *path, str *tried)
{
    char self[PATH_MAX];
    static const char *const places[] = {"", "/../lib/covpipe", "/.."};
    const char *given = getenv("COVPIPE_PLUGINS");
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash) *slash = 0;
    for (size_t k = 0; k < (given ? 1 : sizeof places / sizeof places[0]); k++) {
        str_clear(path);
        str_putf(path, "%s%s/covpipe-%s.so", given ? given : self, given ? "" : places[k], name);
        str_putf(tried, "%s%s", k ? ", " : "", str_text(path));
        if (!path->failed && access(str_text(path), R_OK) == 0) return 1;
    }
    return 0;
}

static status plugin_load(const char *name, const backend **out)
{
    static const plugin_abi here = PLUGIN_ABI;
    str path = {0}, tried = {0};
    plugin_entry entry = NULL;
    status s = COV_OK;
    if (!plugin_path(name, &path, &tried)) {
        s = COV_FAIL(COV_UNSUPPORTED, "backend '%s' is a plugin that is not installed; looked for %s", name, str_text(&tried));
        goto done;
    }
    void *library = dlopen(str_text(&path), RTLD_NOW | RTLD_LOCAL);
    if (library) *(void **)&entry = dlsym(library, "covpipe_backend");
    if (!entry) s = COV_FAIL(COV_UNSUPPORTED, "backend '%s' cannot be loaded: %s", name, dlerror());
    else if (!(*out = entry(&here)))
        s = COV_FAIL(COV_UNSUPPORTED, "%s was built for another version of covpipe than " COVPIPE_VERSION, str_text(&path));
done:
    str_free(&path);
    str_free(&tried);
    return s;
}

status backend_find(const char *name, const backend **out)
{
    str have = {0};
    *out = NULL;
    for (int k = 0; backend_at(k); k++) {
        if (!strcmp(backend_at(k)->name, name)) {
            *out = backend_at(k);
            str_free(&have);
            return COV_OK;
        }
        str_putf(&have, "%s%s", k ? ", " : "", backend_at(k)->name);
    }
    for (size_t k = 0; k < sizeof plugins / sizeof plugins[0]; k++) {
        if (!strcmp(plugins[k], name)) {
            str_free(&have);
            return plugin_load(name, out);
        }
        str_putf(&have, ", %s (a plugin)", plugins[k]);
    }
    status s = COV_FAIL(COV_UNSUPPORTED, "there is no backend '%s'; there are: %s", name, str_text(&have));
    str_free(&have);
    return s;
}

/* ---- the CRF on host arrays */

/* Three device images of `bytes` each. */
static status images_new(const backend *b, device *d, size_t bytes, void *image[3])
{
    for (int k = 0; k < 3; k++) COV_TRY(b->alloc(d, bytes, &image[k]));
    return COV_OK;
}

status backend_crf(const backend *b, device *d, const crf_options *o, const crf_batch *batch)
{
    void *image[3] = {NULL, NULL, NULL};
    crf_batch there = *batch;
    size_t bytes;
    status s;
    if (b->host_memory) return b->crf(d, o, batch);
    COV_TRY(crf_check(o, batch));
    if (!size_product((const int64_t[]){batch->n, batch->h, batch->w, sizeof(float)}, 4, &bytes))
        return COV_FAIL(COV_BROKEN, "crf batch of %lld slices is too large to count", (long long)batch->n);
    COV_GO(images_new(b, d, bytes, image));
    COV_GO(b->upload(d, image[0], batch->logit, bytes));
    COV_GO(b->upload(d, image[1], batch->intensity, bytes));
    there.logit = image[0];
    there.intensity = image[1];
    there.probability = image[2];
    COV_GO(b->crf(d, o, &there));
    COV_GO(b->download(d, batch->probability, image[2], bytes));
done:
    for (int k = 0; k < 3; k++) b->release(d, image[k]);
    return s;
}
