/* burden: counts over masks. Sums are 64-bit integers, so that no order of summation shows in a figure. */
#include "stages/burden.h"

#include <math.h>
#include <stdlib.h>

enum {
    HIGH_ATTENUATION_HU = -500, /* lung above it is ground glass, consolidation, vessel or atelectasis */
    BLOCK = 256                 /* voxels whose sums fit 32 bits, so that they are vectors; many blocks have no lung */
};

typedef struct tally { int64_t side[3], hu_sum, high; } tally;

static void count_block(const int16_t *hu, const uint8_t *lung, int n, tally *t)
{
    int32_t all = 0, left = 0, sum = 0, high = 0;
    uint8_t any = 0;
    for (int i = 0; i < n; i++) any |= lung[i];
    if (!any) return;
    for (int i = 0; i < n; i++) {
        int16_t inside = (int16_t)-(lung[i] != 0); /* all bits, or none */
        all -= inside;
        left += lung[i] == 2;
        sum += hu[i] & inside;
        high -= (int16_t)-(hu[i] > HIGH_ATTENUATION_HU) & inside;
    }
    t->side[1] += all - left;
    t->side[2] += left;
    t->hu_sum += sum;
    t->high += high;
}

static tally count_slice(const volume *v, const uint8_t *lung, int64_t z)
{
    int64_t area = v->head.nx * v->head.ny;
    tally t = {{0, 0, 0}, 0, 0};
    for (int64_t at = 0; at < area; at += BLOCK)
        count_block(v->hu + z * area + at, lung + z * area + at, area - at < BLOCK ? (int)(area - at) : BLOCK, &t);
    return t;
}

/* Distance of slice z along the slice normal, mm. */
static double position_mm(const volume_header *h, int64_t z)
{
    double a[3], b[3], n[3], length = 0, position = 0;
    for (int i = 0; i < 3; i++) { a[i] = h->affine[i][0]; b[i] = h->affine[i][1]; }
    for (int i = 0; i < 3; i++) {
        n[i] = a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3];
        length += n[i] * n[i];
    }
    for (int i = 0; i < 3; i++) position += n[i] * (h->affine[i][3] + (double)z * h->affine[i][2]);
    /* x runs left and y posterior, both against RAS+: their cross product points up, as z does. */
    return length > 0 ? position / sqrt(length) : 0;
}

status burden_lung(const volume *v, const uint8_t *lung, study_result *out)
{
    study_row *row = &out->row;
    tally all = {{0, 0, 0}, 0, 0};
    out->slices = calloc((size_t)v->head.nz, sizeof *out->slices);
    if (!out->slices) return COV_FAIL(COV_NOMEM, "no memory for %lld slice rows", (long long)v->head.nz);
    out->slice_count = v->head.nz;
    for (int64_t z = 0; z < v->head.nz; z++) {
        tally t = count_slice(v, lung, z);
        for (int k = 1; k < 3; k++) all.side[k] += t.side[k];
        all.hu_sum += t.hu_sum;
        all.high += t.high;
        out->slices[z] = (slice_row){.z = (int32_t)z,
                                     .position_mm = v->head.isolated ? NAN : position_mm(&v->head, z),
                                     .lung_px = (int32_t)(t.side[1] + t.side[2]),
                                     .period_probability = {NAN, NAN, NAN, NAN}};
    }
    double ml = v->head.isolated ? NAN : v->head.spacing_mm[0] * v->head.spacing_mm[1] * v->head.spacing_mm[2] / 1000;
    int64_t count = all.side[1] + all.side[2];
    row->lung_right_ml = (double)all.side[1] * ml;
    row->lung_left_ml = (double)all.side[2] * ml;
    row->lung_ml = (double)count * ml;
    if (!count || v->head.isolated) return COV_OK;
    row->lung_mean_hu = (double)all.hu_sum / (double)count;
    row->lung_high_percent = 100.0 * (double)all.high / (double)count;
    return COV_OK;
}
