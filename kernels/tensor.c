/* tensor: sizes of dense arrays and the bf16 conversions. The trap: shapes may come from files, so
 * every product is checked and no dimension may exceed what the vendors' 32-bit interfaces take. */
#include "kernels/tensor.h"

#include "base/size.h"
#include <string.h>

tensor_shape tensor_shape_of(int64_t n, int64_t h, int64_t w, int64_t c, tensor_type type)
{
    return (tensor_shape){.n = n, .h = h, .w = w, .c = c, .type = type};
}

size_t tensor_type_bytes(tensor_type type)
{
    switch (type) {
    case TENSOR_F32:
        return 4;
    case TENSOR_BF16:
        return 2;
    case TENSOR_I32:
        return 4;
    case TENSOR_U8:
        return 1;
    }
    return 0;
}

status tensor_count(tensor_shape s, size_t *out)
{
    const int64_t sizes[4] = {s.n, s.h, s.w, s.c};
    *out = 0;
    for (int i = 0; i < 4; i++)
        if (sizes[i] <= 0 || sizes[i] > INT32_MAX)
            return COV_FAIL(COV_BROKEN, "a tensor of %lld x %lld x %lld x %lld: sizes must be 1 to 2^31-1",
                            (long long)s.n, (long long)s.h, (long long)s.w, (long long)s.c);
    size_t count;
    if (!size_product(sizes, 4, &count) || count > PTRDIFF_MAX)
        return COV_FAIL(COV_NOMEM, "a tensor of %lld x %lld x %lld x %lld does not fit in memory", (long long)s.n,
                        (long long)s.h, (long long)s.w, (long long)s.c);
    *out = count;
    return COV_OK;
}

status tensor_bytes(tensor_shape s, size_t *out)
{
    size_t count, bytes, each = tensor_type_bytes(s.type);
    *out = 0;
    if (!each) return COV_FAIL(COV_BROKEN, "tensor type %d is unknown", (int)s.type);
    COV_TRY(tensor_count(s, &count));
    if (!size_mul(count, each, &bytes) || bytes > PTRDIFF_MAX)
        return COV_FAIL(COV_NOMEM, "a tensor of %zu elements of %zu bytes does not fit in memory", count, each);
    *out = bytes;
    return COV_OK;
}

int tensor_same_shape(tensor_shape a, tensor_shape b)
{
    return a.n == b.n && a.h == b.h && a.w == b.w && a.c == b.c && a.type == b.type;
}

uint16_t tensor_bf16_from_f32(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((u >> 16) | 0x40u); /* rounding could make infinity of a NaN */
    u += 0x7fffu + ((u >> 16) & 1u);
    return (uint16_t)(u >> 16);
}

float tensor_f32_from_bf16(uint16_t x)
{
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
