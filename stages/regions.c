/* regions: see regions.h. */
#include "stages/regions.h"

static const double TINY_SHARE = 0.059 / 100, PAPER_PIXELS = 512.0 * 512.0;

int regions_tiny(int64_t area, int64_t rows, int64_t cols)
{
    return (double)area < TINY_SHARE * (double)rows * (double)cols;
}

double regions_area_512(int64_t area, int64_t rows, int64_t cols)
{
    return (double)area * PAPER_PIXELS / ((double)rows * (double)cols);
}
