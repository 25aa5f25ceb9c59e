/* op_variant: what the op tests run on: every compiled-in backend, and the cpu backend once more for each instruction
 * set below this processor's best, since its own loops are compiled for all of them and a user's node picks another; and
 * their arrays. */
#ifndef COV_TESTS_OPS_OP_VARIANT_H
#define COV_TESTS_OPS_OP_VARIANT_H
#include "kernels/cpu/vec.h"
#include "op_run.h"

typedef struct variant {
    const backend *b;
    device *d;
    bool lesser;   /* not the best instruction set */
    char name[32]; /* "cpu", "cpu isa 0" */
} variant;

/* Is the cpu backend one of those that are tested here? */
static inline bool variant_has_cpu(void)
{
    for (int k = 0; backend_at(k); k++)
        if (!strcmp(backend_at(k)->name, "cpu")) return true;
    return false;
}

/* Opens the k-th variant; false past the last. The caller closes out->d. */
static inline bool variant_open(int k, int threads, variant *out)
{
    int isa = -1, backends = 0;
    while (backend_at(backends)) backends++;
    *out = (variant){.b = backend_at(k)};
    if (k >= backends) {
        isa = vec_isa() - 1 - (k - backends);
        if (isa < 0 || !variant_has_cpu()) return false;
        MUST(backend_find("cpu", &out->b));
    }
    MUST(out->b->open(&(device_options){.threads = threads}, &out->d));
    if (isa >= 0) out->d->isa = isa;
    out->lesser = isa >= 0;
    snprintf(out->name, sizeof out->name, isa >= 0 ? "%s isa %d" : "%s", out->b->name, isa);
    return true;
}

/* Device memory between guards, holding `bytes` of host; at the returned pointer + GUARD. */
static inline char *guarded(const variant *at, const void *host, size_t bytes)
{
    void *memory = NULL;
    char *all = must_alloc(bytes + 2 * GUARD);
    memset(all, 0xA5, bytes + 2 * GUARD);
    memcpy(all + GUARD, host, bytes);
    MUST(at->b->alloc(at->d, bytes + 2 * GUARD, &memory));
    MUST(at->b->upload(at->d, memory, all, bytes + 2 * GUARD));
    free(all);
    return memory;
}

/* What the memory holds; releases it, and fails the test if a guard was overwritten. */
static inline void *harvest(const variant *at, char *memory, size_t bytes)
{
    unsigned char *all = must_alloc(bytes + 2 * GUARD);
    MUST(at->b->download(at->d, all, memory, bytes + 2 * GUARD));
    for (size_t i = 0; i < GUARD; i++)
        if (all[i] != 0xA5 || all[GUARD + bytes + i] != 0xA5) fail_msg("%s wrote outside its array", at->name);
    memmove(all, all + GUARD, bytes);
    at->b->release(at->d, memory);
    return all;
}
#endif
