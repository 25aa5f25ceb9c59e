/* sha256: a thin cover over libcrypto's EVP interface; the only file that includes OpenSSL. */
#include "base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sha256 { EVP_MD_CTX *ctx; };

#define CRYPTO_TRY(call)                                                                       \
    do {                                                                                       \
        if ((call) != 1) return COV_FAIL(COV_BROKEN, "libcrypto: " #call " failed");           \
    } while (0)

status sha256_new(sha256 **out)
{
    *out = NULL;
    sha256 *h = calloc(1, sizeof *h);
    if (!h || !(h->ctx = EVP_MD_CTX_new())) { free(h); return COV_FAIL(COV_NOMEM, "no memory for a SHA-256 state"); }
    if (EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
        sha256_free(&h);
        return COV_FAIL(COV_BROKEN, "libcrypto offers no SHA-256");
    }
    *out = h;
    return COV_OK;
}

status sha256_put(sha256 *h, const void *bytes, size_t n)
{
    CRYPTO_TRY(EVP_DigestUpdate(h->ctx, bytes, n));
    return COV_OK;
}

status sha256_end(sha256 *h, char hex[SHA256_HEX])
{
    unsigned char digest[32];
    CRYPTO_TRY(EVP_DigestFinal_ex(h->ctx, digest, NULL));
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return COV_OK;
}

void sha256_free(sha256 **h)
{
    if (!h || !*h) return;
    EVP_MD_CTX_free((*h)->ctx);
    free(*h);
    *h = NULL;
}

status sha256_bytes(const void *bytes, size_t n, char hex[SHA256_HEX])
{
    sha256 *h = NULL;
    status s;
    COV_GO(sha256_new(&h));
    COV_GO(sha256_put(h, bytes, n));
    COV_GO(sha256_end(h, hex));
done:
    sha256_free(&h);
    return s;
}

status sha256_file(const char *path, char hex[SHA256_HEX])
{
    enum { BLOCK = 1 << 18 };
    sha256 *h = NULL;
    status s = COV_OK;
    unsigned char *block = malloc(BLOCK);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (!block) { s = COV_FAIL(COV_NOMEM, "no memory to digest %s", path); goto done; }
    if (fd < 0) { s = COV_FAIL(COV_IO, "%s: cannot open: %s", path, strerror(errno)); goto done; }
    COV_GO(sha256_new(&h));
    for (;;) {
        ssize_t n = read(fd, block, BLOCK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) { s = COV_FAIL(COV_IO, "%s: cannot read: %s", path, strerror(errno)); goto done; }
        if (n == 0) break;
        COV_GO(sha256_put(h, block, (size_t)n));
    }
    COV_GO(sha256_end(h, hex));
done:
    if (fd >= 0) close(fd);
    free(block);
    sha256_free(&h);
    return s;
}
