/* vec: which of the compiled instruction sets this processor has; see vec.h. */
#include "kernels/cpu/vec.h"
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

int vec_isa(void)
{
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int avx512 = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bf16");
    return avx2 ? 1 + avx512 : 0;
}

int vec_amx(void)
{
    enum { TILE = 1 << 24, TILE_BF16 = 1 << 22, REQUEST = 0x1023 /* ARCH_REQ_XCOMP_PERM */, TILE_DATA = 18 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & TILE) || !(d & TILE_BF16)) return 0;
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}
