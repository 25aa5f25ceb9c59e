/* vec: which of the compiled instruction sets this processor has; see vec.h. */
#include "kernels/cpu/vec.h"

int vec_isa(void)
{
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int avx512 = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bf16");
    return avx2 ? 1 + avx512 : 0;
}
