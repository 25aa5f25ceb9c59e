/* crf: the fully connected conditional random field of Kraehenbuehl & Koltun 2011 (paper eq. 1-4) on
 * one slice with two labels, {0 background, 1 lung}, by mean field.
 *   psi_p(i,j) = [l_i != l_j] * ( w_appearance * k_a(i,j) + w_smooth * k_s(i,j) )
 *   k_a = exp(-|p_i-p_j|^2 / 2 theta_alpha^2 - (I_i-I_j)^2 / 2 theta_beta^2), k_s = exp(-|p_i-p_j|^2 / 2 theta_gamma^2)
 * p in pixels, I in 0..255. Each kernel includes the self pair and is normalised symmetrically,
 * k(i,j)/sqrt(s_i s_j) with s_i = sum_j k(i,j). Update: Q <- softmax(-U + w_a K_a Q + w_s K_s Q), all pixels at once.
 * With two labels Q0 = 1 - Q1, so one channel is carried. The plain implementation (ref) is the O(N^2) sum in
 * double; a backend's own filter must stay within 1e-2 (max) and 2e-3 (mean) of its marginals. */
#ifndef COV_KERNELS_CRF_H
#define COV_KERNELS_CRF_H
#include "base/status.h"
#include <stdint.h>

typedef struct crf_options {
    float w_appearance, w_smooth;
    float theta_alpha, theta_beta, theta_gamma;
    int iterations;  /* at most */
    float tolerance; /* stop when no Q changed by more; 0: always all iterations */
} crf_options;

/* theta 80/13/3 px, weights 10/3, 10 iterations, tolerance 1e-3: the start of the grid search. */
crf_options crf_defaults(void);

/* One batch of n slices h x w. Images dense, host memory on host backends, device memory on a device's. */
typedef struct crf_batch {
    int64_t n, h, w;
    const float *logit;     /* (n,h,w) log(P1/P0), finite; borrowed */
    const float *intensity; /* (n,h,w) 0..255; borrowed */
    float *probability;     /* (n,h,w) out: Q1 */
    int *iterations_done;   /* (n) out, in host memory, or NULL */
} crf_batch;

/* What a backend accepts; a side is h or w. Intensities outside 0..255 are clamped, a NaN counts as 0. */
#define CRF_MIN_THETA 0.5
#define CRF_MAX_THETA 500.0
#define CRF_MAX_SIDE 4096

/* For backends. COV_USAGE for options out of range, COV_UNSUPPORTED for larger slices, COV_BROKEN for sizes below 1.
 * Does not look at the arrays. Local. */
status crf_check(const crf_options *o, const crf_batch *b);
/* Index of the first NaN or infinity (which a backend answers with COV_BROKEN), or -1. Local. */
int64_t crf_first_bad(const float *logit, int64_t n);
#endif
