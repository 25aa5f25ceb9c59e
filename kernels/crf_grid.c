/* crf_grid: geometry of the bilateral grid. */
#include "kernels/crf_grid.h"
#include <math.h>

int crf_grid_taps(double variance, float taps[CRF_RADIUS + 1])
{
    int radius = (int)ceil(3.33 * sqrt(variance));
    if (radius > CRF_RADIUS) radius = CRF_RADIUS;
    for (int k = 0; k <= radius; k++) taps[k] = (float)exp(-0.5 * k * k / variance);
    return radius;
}

crf_grid crf_grid_plan(int64_t h, int64_t w, float theta, float theta_beta)
{
    crf_grid g = {.cell = (int)(theta / 2.5F)};
    if (g.cell >= CRF_SPLAT_CELL) g.cell -= g.cell % CRF_SPLAT_CELL;
    else g.cell = theta < 3 ? 1 : (int)(theta / 3);
    g.ny = (h - 1) / g.cell + 2;
    g.nx = (w - 1) / g.cell + 2;
    double sigma = (double)theta / g.cell, lost = (1 - 1.0 / g.cell / g.cell) / 3;
    g.radius = crf_grid_taps(sigma * sigma - lost, g.taps);
    if (theta_beta > 0) {
        g.per_gray = CRF_LEVELS_A_SIGMA / theta_beta;
        g.levels = (int)(255 * g.per_gray) + 2;
        g.radius_i = crf_grid_taps(CRF_LEVELS_A_SIGMA * CRF_LEVELS_A_SIGMA - 1.0 / 3, g.taps_i);
    } else {
        g.levels = 2;
    }
    g.depth = (g.levels + CRF_LANES - 1) / CRF_LANES * CRF_LANES;
    g.nodes = g.ny * g.nx * g.depth;
    return g;
}
