/* Every study of the folder of real images ends as a CT or with the right reason. Skipped where it is not there. */
#include "data/archive.h"
#include "data/reader.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *path;
    reason expected;
} odd[] = {
    {"extra/cip64/ct-64.nii.gz", REASON_NONE},
    {"extra/cip64/lm-64.nii.gz", REASON_NOT_CT},
    {"extra/cip64/wholeLung-64.nii.gz", REASON_NOT_CT},
    {"odd/misc/CT_AVM_head.nii.gz", REASON_NOT_CT}, /* a CT, but not in HU */
    {"odd/misc/CT_pitch_head_gantrytilt.nii.gz", REASON_NOT_CT},
    {"odd/misc/totalseg_partial_thorax.nii.gz", REASON_NONE},
    {"odd/misc/totalseg_pelvis_no_lungs_int32.nii.gz", REASON_NONE}, /* a CT; that it has no lung is found later */
    {"odd/misc/truncated_gzip.nii.gz", REASON_TRUNCATED},
    {"odd/nibabel/analyze.hdr", REASON_UNSUPPORTED},
    {"odd/nibabel/anatomical.nii", REASON_NOT_CT},
    {"odd/nibabel/example4d.nii.gz", REASON_NOT_3D},
    {"odd/nibabel/example_nifti2.nii.gz", REASON_NOT_3D},
    {"odd/nibabel/functional.nii", REASON_NOT_3D},
    {"odd/nibabel/nifti1.hdr", REASON_TRUNCATED},
    {"odd/nibabel/nifti2.hdr", REASON_TRUNCATED},
    {"odd/nibabel/reoriented_anat_moved.nii", REASON_NOT_CT},
    {"odd/nibabel/resampled_anat_moved.nii", REASON_NOT_CT},
    {"odd/nibabel/row_major.dconn.nii", REASON_NOT_3D},
    {"odd/nibabel/standard.nii.gz", REASON_NOT_CT},
    {"odd/nifti_reader_js/5D_small.nii", REASON_NOT_3D},
    {"odd/nifti_reader_js/5D_zeros.nii.gz", REASON_NOT_3D},
    {"odd/nifti_reader_js/air.hdr.gz", REASON_NOT_CT},
    {"odd/nifti_reader_js/air2.hdr.gz", REASON_TRUNCATED},
    {"odd/nifti_reader_js/avg152T1_LR_nifti.nii.gz", REASON_NOT_CT},
    {"odd/nifti_reader_js/avg152T1_LR_nifti2.nii.gz", REASON_NOT_CT},
    {"odd/nifti_reader_js/big.nii.gz", REASON_NOT_CT},
    {"odd/nifti_reader_js/little.nii.gz", REASON_NOT_CT},
    {"odd/nifti_reader_js/not-nifti.nii", REASON_BAD_HEADER},
    {"odd/nifti_reader_js/with_extension.nii.gz", REASON_NOT_CT},
};

static reason expected_reason(const archive_entry *e)
{
    if (strcmp(e->path, "slices/infnet/class") == 0) return REASON_NOT_3D; /* labels as palette colours */
    if (strcmp(e->format, "png") == 0) /* pictures, and masks in folders of their own */
        return str_ends_with(e->path, "/ct") ? REASON_NONE : REASON_NOT_CT;
    if (strcmp(e->format, "nifti") != 0) return REASON_UNSUPPORTED;
    if (strncmp(e->path, "volumes/", 8) == 0) return str_ends_with(e->path, "/ct.nii.gz") ? REASON_NONE : REASON_NOT_CT;
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        if (strcmp(odd[i].path, e->path) == 0) return odd[i].expected;
    fail_msg("%s: the table does not say what is expected of it", e->path);
    return REASON_INTERNAL;
}

static reason judge(const archive *a, const archive_entry *e)
{
    char path[PATH_MAX];
    volume_header h;
    volume_stats stats;
    reason why = REASON_NONE;
    const reader *r = reader_named(e->format);
    assert_non_null(r);
    if (!r->header) return REASON_UNSUPPORTED;
    assert_int_equal(archive_full_path(a, e, path, sizeof path), COV_OK);
    if (r->header(path, &h, &why) != COV_OK) return why;
    int16_t *hu = malloc((size_t)(h.nx * h.ny * h.nz) * sizeof *hu);
    assert_non_null(hu);
    if (r->voxels(path, &h, hu, &stats, &why) == COV_OK) (void)reader_check_ct(path, &h, &stats, &why);
    free(hu);
    return why;
}

static void every_real_study_is_a_ct_or_has_the_right_reason(void **state)
{
    archive *a = *state;
    int cts = 0;
    for (int64_t i = 0; i < a->count; i++) {
        reason expected = expected_reason(&a->entries[i]), found = judge(a, &a->entries[i]);
        if (found != expected)
            fail_msg("%s: '%s' where '%s' is expected: %s", a->entries[i].path, reason_code(found),
                     reason_code(expected), status_message());
        cts += found == REASON_NONE;
    }
    assert_true(cts >= 14);
    assert_int_equal(a->errors, 0);
}

int main(void)
{
    const char *root = getenv("COVPIPE_CT");
    archive *a;
    if (!root || archive_walk(root, NULL, &a) != COV_OK) {
        printf("skipped: no folder of real images at COVPIPE_CT\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(every_real_study_is_a_ct_or_has_the_right_reason, a)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    archive_free(&a);
    return failed;
}
