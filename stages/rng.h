/* rng: small random streams for sampling and augmentation. A stream is a pure function of the two numbers it was started
 * from, so that sample k of seed s is the same on every rank, in every thread and after every resume. SplitMix64
 * (Steele, Lea & Flood 2014). Not for secrets. Local. */
#ifndef COV_STAGES_RNG_H
#define COV_STAGES_RNG_H
#include <stdint.h>

typedef struct rng {
    uint64_t state;
} rng;

static inline uint64_t rng_next(rng *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static inline rng rng_start(uint64_t seed, uint64_t stream)
{
    rng r = {seed};
    r.state = rng_next(&r) ^ stream;
    rng_next(&r); /* neighbouring streams part at once */
    return r;
}
/* [0, 1) */
static inline float rng_unit(rng *r)
{
    return (float)(rng_next(r) >> 40) * 0x1p-24f;
}
static inline float rng_range(rng *r, float low, float high)
{
    return low + (high - low) * rng_unit(r);
}
static inline int rng_chance(rng *r, float probability)
{
    return rng_unit(r) < probability;
}
/* 0 .. n-1; n >= 1. The bias of the multiply is below 2^-32 for the n of a training set. */
static inline uint64_t rng_below(rng *r, uint64_t n)
{
    return (uint64_t)(((__uint128_t)rng_next(r) * n) >> 64);
}
/* Mean 0, variance 1, within +-3.5: the sum of four 16-bit uniforms. Good enough for image noise, one draw a value. */
static inline float rng_normal(rng *r)
{
    uint64_t z = rng_next(r);
    float sum = (float)(z & 0xffff) + (float)(z >> 16 & 0xffff) + (float)(z >> 32 & 0xffff) + (float)(z >> 48);
    return (sum * 0x1p-16f - 2.0f) * 1.7320508f;
}
#endif
