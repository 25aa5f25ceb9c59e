/* backend: the look-up in the list of compiled-in backends. */
#include "kernels/backend.h"

#include "base/str.h"
#include <string.h>

#define X(name) extern const backend backend_##name;
BACKENDS(X)
#undef X

static const backend *const backends[] = {
#define X(name) &backend_##name,
    BACKENDS(X)
#undef X
};

const backend *backend_at(int k)
{
    return k >= 0 && k < (int)(sizeof backends / sizeof backends[0]) ? backends[k] : NULL;
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
    status s = COV_FAIL(COV_UNSUPPORTED, "backend '%s' is not built in; there are: %s", name, str_text(&have));
    str_free(&have);
    return s;
}
