/* fuzz_nifti: any bytes as a .nii: a header that is accepted is sound in every figure that others compute with, the
 * voxels fill exactly the promised volume, and what was read can be written back and read again the same. */
#include "data/mask.h"
#include "data/nifti.h"
#include "data/reader.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <string.h>

enum { VOXELS_MOST = 1 << 20 };

static void check_header(const volume_header *h)
{
    FUZZ_CHECK(h->nx >= 2 && h->ny >= 2 && h->nz >= 1);
    FUZZ_CHECK(h->nx <= 32767 && h->ny <= 32767 && h->nz <= 32767);
    FUZZ_CHECK(h->nx * h->ny * h->nz == h->native.size[0] * h->native.size[1] * h->native.size[2]);
    FUZZ_CHECK((1 << h->native.axis[0] | 1 << h->native.axis[1] | 1 << h->native.axis[2]) == 7);
    for (int c = 0; c < 3; c++) {
        FUZZ_CHECK(h->spacing_mm[c] >= 0.01 && h->spacing_mm[c] <= 100);
        for (int r = 0; r < 4; r++) FUZZ_CHECK(isfinite(h->affine[c][r]));
    }
    FUZZ_CHECK(h->affine[0][0] <= 0 && h->affine[1][1] <= 0 && h->affine[2][2] >= 0);
}

/* The first slice is enough: its rows tell a wrong order or geometry. */
static void check_export(const volume_header *h, const int16_t *hu)
{
    char path[128];
    volume_header again;
    volume_stats stats;
    reason why;
    size_t count = (size_t)(h->nx * h->ny * h->nz);
    int16_t *native = malloc(2 * count), *back = malloc(2 * count);
    FUZZ_CHECK(native && back);
    fuzz_file(".out.nii", (const uint8_t *)"", 0, path, sizeof path);
    volume_to_native(h, hu, native, 2);
    FUZZ_CHECK(nifti_write(path, h, native, NIFTI_I16) == COV_OK);
    FUZZ_CHECK(read_nifti.header(path, &again, &why) == COV_OK);
    FUZZ_CHECK(memcmp(again.native.pixdim, h->native.pixdim, sizeof again.native.pixdim) == 0);
    FUZZ_CHECK(memcmp(again.affine, h->affine, sizeof again.affine) == 0);
    FUZZ_CHECK(read_nifti.voxels(path, &again, back, &stats, &why) == COV_OK);
    FUZZ_CHECK(memcmp(back, hu, 2 * count) == 0);
    unlink(path);
    free(native);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[128];
    volume_header h;
    volume_stats stats;
    reason why = REASON_NONE;
    mask m;
    fuzz_file(".nii", data, size, path, sizeof path);
    if (read_nifti.header(path, &h, &why) == COV_OK) {
        check_header(&h);
        int64_t count = h.nx * h.ny * h.nz;
        int16_t *hu = count <= VOXELS_MOST ? malloc(2 * (size_t)count) : NULL;
        if (hu && read_nifti.voxels(path, &h, hu, &stats, &why) == COV_OK) {
            FUZZ_CHECK(stats.distinct >= 1 && stats.lowest <= stats.highest);
            if (reader_check_ct(path, &h, &stats, &why) != COV_OK) FUZZ_CHECK(why == REASON_NOT_CT);
            check_export(&h, hu);
        }
        free(hu);
    } else FUZZ_CHECK(why != REASON_NONE && why != REASON_INTERNAL);
    if (mask_read(path, &m, &why) == COV_OK) mask_free(&m);
    unlink(path);
    return 0;
}
