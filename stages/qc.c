/* qc: each flag is one small question about the volume, its statistics or its mask. Thresholds in millilitres mean
 * nothing where the spacing is nominal, so NOMINAL_SPACING is raised beside them. */
#include "stages/qc.h"

#include <math.h>

static const double LUNG_ML_LEAST = 800, LUNG_ML_MOST = 10000, SATURATED_SHARE = 0.02, THICK_MM = 10, ONE_LUNG_SHARE = 0.05;
enum { SLICES_LEAST = 8, CUT_SHARE = 10 /* per cent of the largest slice's lung */, BONE_HU = 400 };

static int64_t lung_in_slice(const volume *v, const uint8_t *lung, int64_t z)
{
    int64_t area = v->head.nx * v->head.ny, n = 0;
    for (int64_t i = 0; i < area; i++) n += lung[z * area + i] != 0;
    return n;
}

/* The lung is cut at an end of the scan where the outermost slice still shows much of it. Slices are counted only until
 * one answers for both ends: where neither has lung, none, and otherwise a few from the middle on. */
static void cut_ends(const volume *v, const uint8_t *lung, study_row *row)
{
    int64_t nz = v->head.nz, top = lung_in_slice(v, lung, nz - 1), bottom = lung_in_slice(v, lung, 0);
    for (int64_t k = 0; k < nz && (top || bottom); k++) {
        int64_t enough = lung_in_slice(v, lung, (nz / 2 + k) % nz) * CUT_SHARE;
        if (top * 100 <= enough) top = 0;
        if (bottom * 100 <= enough) bottom = 0;
    }
    if (top) row->qc_flags |= STUDY_QC_CUT_TOP;
    if (bottom) row->qc_flags |= STUDY_QC_CUT_BOTTOM;
}

static void cut_sides(const volume *v, const uint8_t *lung, study_row *row)
{
    int64_t nx = v->head.nx, ny = v->head.ny, touching = 0;
    for (int64_t z = 0; z < v->head.nz; z++) {
        const uint8_t *s = lung + z * nx * ny;
        for (int64_t x = 0; x < nx; x++) touching += (s[x] != 0) + (s[(ny - 1) * nx + x] != 0);
        for (int64_t y = 0; y < ny; y++) touching += (s[y * nx] != 0) + (s[y * nx + nx - 1] != 0);
    }
    if (touching > nx / 4) row->qc_flags |= STUDY_QC_CUT_SIDE;
}

void qc_run(const volume *v, const volume_stats *stats, const uint8_t *lung, int side_doubt, study_row *row)
{
    const double *mm = v->head.spacing_mm;
    double smaller = fmin(row->lung_left_ml, row->lung_right_ml);
    if (v->head.isolated) { /* the other questions are about a volume in HU */
        row->qc_flags |= STUDY_QC_ISOLATED;
        return;
    }
    if (row->lung_ml < LUNG_ML_LEAST) row->qc_flags |= STUDY_QC_LUNG_SMALL;
    if (row->lung_ml > LUNG_ML_MOST) row->qc_flags |= STUDY_QC_LUNG_LARGE;
    if (smaller < ONE_LUNG_SHARE * row->lung_ml) row->qc_flags |= STUDY_QC_ONE_LUNG;
    if (v->head.nz < SLICES_LEAST) row->qc_flags |= STUDY_QC_FEW_SLICES;
    if (mm[2] > THICK_MM) row->qc_flags |= STUDY_QC_THICK_SLICES;
    if (mm[0] == 1.0 && mm[1] == 1.0 && mm[2] == 1.0) row->qc_flags |= STUDY_QC_NOMINAL_SPACING;
    if (side_doubt) row->qc_flags |= STUDY_QC_SIDE_DOUBT;
    /* Air outside the body fills the lower end of every CT; the upper end should be rare bone, and be there. */
    if (stats->share_highest > SATURATED_SHARE || stats->highest < BONE_HU) row->qc_flags |= STUDY_QC_SATURATED;
    cut_ends(v, lung, row);
    cut_sides(v, lung, row);
}
