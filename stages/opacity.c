/* opacity: see opacity.h. */
#include "stages/opacity.h"
#include <math.h>

static const float BITE = 1.5f; /* how far the noise bites, at most, in edges */

opacity opacity_draw(rng *r, opacity_kind kind)
{
    int glass = kind == OPACITY_GLASS;
    opacity o = {0};
    o.edge = glass ? rng_range(r, 0.1f, 0.8f) : rng_range(r, 0.1f, 0.5f);
    o.hu = glass ? rng_range(r, -700.0f, -200.0f) : rng_range(r, -120.0f, 100.0f);
    o.grain = rng_range(r, 5.0f, 50.0f);
    o.ragged = rng_range(r, 0.0f, kind == OPACITY_PLEURAL ? 0.6f : 1.0f);
    o.cell = rng_range(r, 0.012f, 0.06f);
    o.key = rng_next(r);
    return o;
}

static float lattice(uint64_t key, int64_t z, float y, float x)
{
    float fy = floorf(y), fx = floorf(x), ty = y - fy, tx = x - fx, v[4];
    for (int k = 0; k < 4; k++) {
        uint64_t cell = (uint64_t)z << 40 ^ ((uint64_t)((int64_t)fy + (k >> 1) + 4096) << 20 |
                                             (uint64_t)((int64_t)fx + (k & 1) + 4096));
        rng at = {key ^ cell * 0xd1342543de82ef95u};
        v[k] = rng_unit(&at);
    }
    ty = ty * ty * (3 - 2 * ty);
    tx = tx * tx * (3 - 2 * tx);
    float top = v[0] + tx * (v[1] - v[0]), low = v[2] + tx * (v[3] - v[2]);
    return top + ty * (low - top);
}

float opacity_noise(uint64_t key, float z, float y, float x)
{
    float fz = floorf(z), tz = z - fz, here = lattice(key, (int64_t)fz, y, x);
    if (tz <= 0.0f) return here; /* on a plane, twice as fast */
    tz = tz * tz * (3 - 2 * tz);
    return here + tz * (lattice(key, (int64_t)fz + 1, y, x) - here);
}

float opacity_cover(const opacity *o, float distance, float noise)
{
    float cover = (1.0f - distance) / o->edge - o->ragged * BITE * noise;
    return cover < 0.0f ? 0.0f : cover > 1.0f ? 1.0f : cover;
}

float opacity_half(const opacity *o, float noise)
{
    return 1.0f - o->edge * (0.5f + o->ragged * BITE * noise);
}
