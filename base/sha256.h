/* sha256: digests of inputs, weights, options and parts, by libcrypto (EVP). */
#ifndef COV_BASE_SHA256_H
#define COV_BASE_SHA256_H
#include "base/status.h"
#include <stddef.h>

enum { SHA256_HEX = 65 }; /* 64 hex digits and a NUL */

typedef struct sha256 sha256;
status sha256_new(sha256 **out);
status sha256_put(sha256 *h, const void *bytes, size_t n);
status sha256_end(sha256 *h, char hex[SHA256_HEX]); /* h may then be freed only */
void sha256_free(sha256 **h);
/* Digest of a whole file's bytes. COV_IO if it cannot be read. */
status sha256_file(const char *path, char hex[SHA256_HEX]);
status sha256_bytes(const void *bytes, size_t n, char hex[SHA256_HEX]);
#endif
