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

/* ---- arrays of the host's */

status backend_lend(const backend *b, device *d, const void *host, size_t bytes, int whole, void **there)
{
    *there = b->host_memory ? (void *)host : NULL;
    if (b->host_memory) return COV_OK;
    COV_TRY(b->alloc(d, bytes, there));
    status s = whole ? b->upload(d, *there, host, bytes) : COV_OK;
    if (s == COV_OK) return s;
    backend_return(b, d, host, there);
    return status_relay(s, __FILE__, __LINE__);
}

status backend_fetch(const backend *b, device *d, const void *there, size_t bytes, void *host)
{
    return there == host ? COV_OK : b->download(d, host, there, bytes);
}

void backend_return(const backend *b, device *d, const void *host, void **there)
{
    if (*there != host) b->release(d, *there);
    *there = NULL;
}

status backend_crf(const backend *b, device *d, const crf_options *o, const crf_batch *batch)
{
    void *logit = NULL, *intensity = NULL, *probability = NULL;
    crf_batch there = *batch;
    size_t bytes;
    status s;
    COV_TRY(crf_check(o, batch));
    if (!size_product((const int64_t[]){batch->n, batch->h, batch->w, sizeof(float)}, 4, &bytes))
        return COV_FAIL(COV_BROKEN, "crf batch of %lld slices is too large to count", (long long)batch->n);
    COV_GO(backend_lend(b, d, batch->logit, bytes, 1, &logit));
    COV_GO(backend_lend(b, d, batch->intensity, bytes, 1, &intensity));
    COV_GO(backend_lend(b, d, batch->probability, bytes, 0, &probability));
    there.logit = logit;
    there.intensity = intensity;
    there.probability = probability;
    COV_GO(b->crf(d, o, &there));
    COV_GO(backend_fetch(b, d, probability, bytes, batch->probability));
done:
    backend_return(b, d, batch->logit, &logit);
    backend_return(b, d, batch->intensity, &intensity);
    backend_return(b, d, batch->probability, &probability);
    return s;
}
