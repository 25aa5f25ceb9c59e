/* both: marks a formula in a header that kernels on a GPU share with the host. */
#ifndef COV_KERNELS_BOTH_H
#define COV_KERNELS_BOTH_H
#ifdef __CUDACC__
#define COV_BOTH __host__ __device__
#else
#define COV_BOTH
#endif
#endif
