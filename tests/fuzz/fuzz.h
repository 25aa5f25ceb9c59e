/* fuzz: what the targets share: the entry point, a file in memory to read the input from, and a check that stays
 * in every build. */
#ifndef COV_TESTS_FUZZ_H
#define COV_TESTS_FUZZ_H
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(claim)                                                                                              \
    do {                                                                                                               \
        if (!(claim)) {                                                                                                \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #claim);                                        \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Writes the input under a name that ends in `ending`, the same for the whole process. */
static inline const char *fuzz_file(const char *ending, const uint8_t *data, size_t size, char *path, size_t room)
{
    snprintf(path, room, "%s/covpipe-fuzz-%ld%s", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (long)getpid(),
             ending);
    FILE *f = fopen(path, "wb");
    FUZZ_CHECK(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
    return path;
}
#endif
