/* tensor: shapes and views of dense NHWC arrays. A tensor never owns memory: whoever allocated it
 * (net, a test) frees it through the backend that gave it. Vectors are (1,1,1,c); convolution weights
 * are (cout, kh, kw, cin), transposed-convolution weights (cin, kh, kw, cout), linear weights
 * (cout,1,1,cin): all in the same NHWC order. */
#ifndef COV_KERNELS_TENSOR_H
#define COV_KERNELS_TENSOR_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

typedef enum tensor_type { TENSOR_F32, TENSOR_BF16, TENSOR_I32, TENSOR_U8 } tensor_type;

typedef struct tensor_shape {
    int64_t n, h, w, c;
    tensor_type type;
} tensor_shape;

typedef struct tensor {
    tensor_shape shape;
    void *data;       /* borrowed; device memory of the backend; NULL: not there, or not wanted */
    uint64_t version; /* parameters: grows with every change, so that packed copies can be kept; 0: never cached */
} tensor;

tensor_shape tensor_shape_of(int64_t n, int64_t h, int64_t w, int64_t c, tensor_type type);
size_t tensor_type_bytes(tensor_type type);
/* Elements and bytes; COV_BROKEN on a non-positive dimension, COV_NOMEM on overflow. */
status tensor_count(tensor_shape s, size_t *out);
status tensor_bytes(tensor_shape s, size_t *out);
int tensor_same_shape(tensor_shape a, tensor_shape b); /* 1 if all four sizes and the type agree */

/* bf16: round to nearest even; NaN stays NaN. */
uint16_t tensor_bf16_from_f32(float x);
float tensor_f32_from_bf16(uint16_t x);
/* Number i of host memory that holds F32 or BF16. */
static inline float tensor_number(tensor_type t, const void *data, int64_t i)
{
    return t == TENSOR_BF16 ? tensor_f32_from_bf16(((const uint16_t *)data)[i]) : ((const float *)data)[i];
}
#endif
