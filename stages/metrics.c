/* metrics: see metrics.h. The surface distance is not computed: a border voxel looks for one of the other mask among
 * the few offsets that the tolerance allows, nearest first. At 2 mm that is less work than a distance transform, and
 * exact. */
#include "stages/metrics.h"

#include "base/size.h"
#include "stages/rng.h"

#include <math.h>
#include <stdlib.h>

metrics_overlap metrics_overlap_of(const uint8_t *truth, const uint8_t *found, size_t n)
{
    metrics_overlap o = {0};
    for (size_t i = 0; i < n; i++) {
        int t = truth[i] != 0, f = found[i] != 0;
        o.truth += t;
        o.found += f;
        o.both += t & f;
    }
    return o;
}

void metrics_overlap_add(metrics_overlap *to, metrics_overlap more)
{
    to->both += more.both;
    to->truth += more.truth;
    to->found += more.found;
}

double metrics_dice(metrics_overlap o)
{
    return o.truth + o.found > 0 ? 2.0 * (double)o.both / (double)(o.truth + o.found) : 1.0;
}

double metrics_kept(metrics_overlap o)
{
    return o.truth > 0 ? (double)o.both / (double)o.truth : NAN;
}

int64_t metrics_false(metrics_overlap o)
{
    return o.found - o.both;
}

int64_t metrics_missed(metrics_overlap o)
{
    return o.truth - o.both;
}

double metrics_value(metrics_ratio r)
{
    return r.bottom > 0 ? r.top / r.bottom : NAN;
}

void metrics_ratio_add(metrics_ratio *to, metrics_ratio more)
{
    to->top += more.top;
    to->bottom += more.bottom;
}

metrics_ratio metrics_accuracy(const uint8_t *truth, const uint8_t *found, const uint8_t *within, size_t n)
{
    int64_t inside = 0, right = 0;
    for (size_t i = 0; i < n; i++) {
        inside += within[i] != 0;
        right += within[i] != 0 && (truth[i] != 0) == (found[i] != 0);
    }
    return (metrics_ratio){(double)right, (double)inside};
}

/* ---- surfaces */

typedef struct offset {
    int64_t x, y, z;
    double mm2;
} offset;

static int by_distance(const void *a, const void *b)
{
    double x = ((const offset *)a)->mm2, y = ((const offset *)b)->mm2;
    return (x > y) - (x < y);
}

/* Every offset within the tolerance, nearest first. */
static status offsets_within(const double spacing_mm[3], double tolerance_mm, int in_plane, offset **out,
                             int64_t *count)
{
    int64_t reach[3], n = 0;
    size_t room;
    *out = NULL;
    if (!(tolerance_mm >= 0)) return COV_FAIL(COV_USAGE, "a surface tolerance of %g mm", tolerance_mm);
    for (int k = 0; k < 3; k++) {
        if (!(spacing_mm[k] > 0))
            return COV_FAIL(COV_USAGE, "a spacing of %g mm has no surface distance", spacing_mm[k]);
        double steps = k == 2 && in_plane ? 0 : floor(tolerance_mm / spacing_mm[k] + 1e-9);
        if (steps > 500)
            return COV_FAIL(COV_USAGE, "a surface tolerance of %g mm is %.0f voxels; expected 500 at most",
                            tolerance_mm, steps);
        reach[k] = (int64_t)steps;
    }
    if (!size_product((const int64_t[]){2 * reach[0] + 1, 2 * reach[1] + 1, 2 * reach[2] + 1, sizeof(offset)}, 4,
                      &room))
        room = SIZE_MAX / 2;
    offset *at = malloc(room);
    if (!at) return COV_FAIL(COV_NOMEM, "no memory for the surface offsets within %g mm", tolerance_mm);
    for (int64_t z = -reach[2]; z <= reach[2]; z++)
        for (int64_t y = -reach[1]; y <= reach[1]; y++)
            for (int64_t x = -reach[0]; x <= reach[0]; x++) {
                double dx = (double)x * spacing_mm[0], dy = (double)y * spacing_mm[1], dz = (double)z * spacing_mm[2];
                double mm2 = dx * dx + dy * dy + dz * dz;
                if (mm2 <= tolerance_mm * tolerance_mm * (1 + 1e-9)) at[n++] = (offset){x, y, z, mm2};
            }
    qsort(at, (size_t)n, sizeof *at, by_distance);
    *out = at;
    *count = n;
    return COV_OK;
}

static void mark_border(const uint8_t *mask, const int64_t size[3], int in_plane, uint8_t *border)
{
    const int64_t nx = size[0], ny = size[1], nz = size[2], area = nx * ny;
    for (int64_t z = 0, i = 0; z < nz; z++)
        for (int64_t y = 0; y < ny; y++)
            for (int64_t x = 0; x < nx; x++, i++) {
                border[i] = 0;
                if (!mask[i]) continue;
                int inner = x > 0 && x + 1 < nx && y > 0 && y + 1 < ny && mask[i - 1] && mask[i + 1] && mask[i - nx] &&
                            mask[i + nx];
                if (inner && !in_plane) inner = z > 0 && z + 1 < nz && mask[i - area] && mask[i + area];
                border[i] = !inner;
            }
}

static void count_near(const uint8_t *of, const uint8_t *other, const int64_t size[3], const offset *near, int64_t n,
                       metrics_ratio *out)
{
    for (int64_t z = 0, i = 0; z < size[2]; z++)
        for (int64_t y = 0; y < size[1]; y++)
            for (int64_t x = 0; x < size[0]; x++, i++) {
                if (!of[i]) continue;
                out->bottom++;
                for (int64_t k = 0; k < n; k++) {
                    int64_t u = x + near[k].x, v = y + near[k].y, w = z + near[k].z;
                    if (u < 0 || v < 0 || w < 0 || u >= size[0] || v >= size[1] || w >= size[2]) continue;
                    if (!other[(w * size[1] + v) * size[0] + u]) continue;
                    out->top++;
                    break;
                }
            }
}

status metrics_surface(const uint8_t *truth, const uint8_t *found, const int64_t size[3], const double spacing_mm[3],
                       double tolerance_mm, int in_plane, metrics_ratio *out)
{
    status s;
    size_t n;
    offset *near = NULL;
    int64_t offsets = 0;
    *out = (metrics_ratio){0, 0};
    if (!size_product(size, 3, &n))
        return COV_FAIL(COV_NOMEM, "a mask of %lld x %lld x %lld", (long long)size[0], (long long)size[1],
                        (long long)size[2]);
    uint8_t *borders = malloc(2 * n + 1);
    if (!borders) COV_GO(COV_FAIL(COV_NOMEM, "no memory for the borders of %zu voxels", n));
    COV_GO(offsets_within(spacing_mm, tolerance_mm, in_plane, &near, &offsets));
    mark_border(truth, size, in_plane, borders);
    mark_border(found, size, in_plane, borders + n);
    count_near(borders, borders + n, size, near, offsets, out);
    count_near(borders + n, borders, size, near, offsets, out);
done:
    free(borders);
    free(near);
    return s;
}

/* ---- over studies */

double metrics_auc(const double *score, const uint8_t *positive, size_t n)
{
    metrics_ratio above = {0, 0};
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            if (positive[i] && !positive[j])
                metrics_ratio_add(&above, (metrics_ratio){score[i] > score[j] ? 1 : score[i] == score[j] ? 0.5 : 0, 1});
    return metrics_value(above);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of n sorted values, linear between them. */
static double quantile(const double *sorted, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t low = (size_t)at, high = low + 1 < n ? low + 1 : low;
    return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}

status metrics_bootstrap(const metrics_ratio *by_patient, int patients, uint64_t seed, metrics_interval *out)
{
    metrics_ratio all = {0, 0};
    *out = (metrics_interval){NAN, NAN, NAN, 0};
    int *has = malloc(((size_t)patients + 1) * sizeof *has); /* patients with anything to score */
    double *values = malloc(METRICS_DRAWS * sizeof *values);
    status s = COV_OK;
    if (!has || !values) COV_GO(COV_FAIL(COV_NOMEM, "no memory for %d bootstrap samples", METRICS_DRAWS));
    for (int k = 0; k < patients; k++) {
        metrics_ratio_add(&all, by_patient[k]);
        if (by_patient[k].bottom > 0) has[out->patients++] = k;
    }
    out->value = metrics_value(all);
    for (uint64_t d = 0; d < METRICS_DRAWS && out->patients > 1; d++) {
        rng r = rng_start(seed, d);
        metrics_ratio sum = {0, 0};
        for (int k = 0; k < out->patients; k++)
            metrics_ratio_add(&sum, by_patient[has[rng_below(&r, (uint64_t)out->patients)]]);
        values[d] = metrics_value(sum);
    }
    if (out->patients > 1) {
        qsort(values, METRICS_DRAWS, sizeof *values, ascending);
        out->low = quantile(values, METRICS_DRAWS, 0.025);
        out->high = quantile(values, METRICS_DRAWS, 0.975);
    }
done:
    free(has);
    free(values);
    return s;
}
