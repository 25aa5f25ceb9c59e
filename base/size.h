/* size: checked arithmetic on sizes. Every size that comes from a file or a user goes through here
 * before anything is allocated or added; overflow is an error, never a wrap. */
#ifndef COV_BASE_SIZE_H
#define COV_BASE_SIZE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *out = a * b (or a + b); false on overflow, and *out is then untouched. */
static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
static inline bool size_add(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
/* *out = product of n non-negative counts; false on overflow or a negative count. */
static inline bool size_product(const int64_t *counts, int n, size_t *out)
{
    size_t r = 1;
    for (int i = 0; i < n; i++)
        if (counts[i] < 0 || !size_mul(r, (size_t)counts[i], &r)) return false;
    *out = r;
    return true;
}
#endif
