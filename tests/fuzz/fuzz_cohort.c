/* fuzz_cohort: any bytes as a cohort file: what opens can be asked for everything it has, by every study, without a
 * figure that leads out of it. HDF5 sees the bytes first: what breaks inside libhdf5 is that library's own. */
#include "data/cohort.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

enum { STUDIES_MOST = 64, VOXELS_MOST = 1 << 22 };

static void check_study(cohort *c, int64_t k)
{
    study_row row;
    cohort_place place;
    slice_row *slices = NULL;
    lesion_row *lesions = NULL;
    uint8_t *lung = NULL;
    uint16_t *lesion = NULL;
    char cell[COHORT_CELL];
    int64_t count;
    if (cohort_row(c, k, &row) != COV_OK || cohort_place_of(c, k, &place) != COV_OK) return;
    FUZZ_CHECK(memchr(row.id, 0, sizeof row.id) && memchr(row.path, 0, sizeof row.path) && memchr(row.detail, 0, sizeof row.detail));
    FUZZ_CHECK(memchr(place.mask_set, 0, sizeof place.mask_set));
    if (cohort_slices(c, k, &slices, &count) == COV_OK) FUZZ_CHECK((count > 0) == (slices != NULL));
    if (cohort_lesions(c, k, &lesions, &count) == COV_OK) FUZZ_CHECK((count > 0) == (lesions != NULL));
    if ((double)row.rows * row.cols * row.slices <= VOXELS_MOST) {
        FUZZ_CHECK((cohort_lung(c, k, &lung) == COV_OK) == (lung != NULL));
        FUZZ_CHECK((cohort_lesion(c, k, &lesion) == COV_OK) == (lesion != NULL));
    }
    for (int i = 0; i < cohort_extra_count(c); i++)
        if (cohort_extra_cell(c, i, k, cell) == COV_OK) FUZZ_CHECK(memchr(cell, 0, sizeof cell));
    free(slices);
    free(lesions);
    free(lung);
    free(lesion);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[128];
    cohort *c;
    int64_t k;
    fuzz_file(".h5", data, size, path, sizeof path);
    if (cohort_open(path, &c) == COV_OK) {
        for (int i = 0; i < cohort_attribute_count(c); i++)
            FUZZ_CHECK(strlen(cohort_attribute_name(c, i)) > 0 && cohort_attribute_value(c, i));
        for (k = 0; k < cohort_count(c) && k < STUDIES_MOST; k++) check_study(c, k);
        if (cohort_find(c, "nobody", &k) == COV_OK) FUZZ_CHECK(k >= 0 && k < cohort_count(c));
        cohort_close(&c);
    } else FUZZ_CHECK(!c);
    unlink(path);
    return 0;
}
