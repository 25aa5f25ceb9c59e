/* fuzz_part: any bytes as a part: what its head says is sound in every figure that resume and gather compute with, and
 * a part that is read whole is what its head says. The digest stands between damage and HDF5, so the mutator sets it
 * right only where it has left HDF5's image alone: a head that lies about a sound image is ours to see through, an
 * image that nobody but us could have signed is not. */
#include "base/sha256.h"
#include "data/part.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

enum { DIGEST_AT = 15, FIRST = DIGEST_AT + 64 + 1, VOXELS_MOST = 1 << 22 };
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most) __attribute__((weak)); /* not there in a replay */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    char hex[SHA256_HEX];
    if (size <= PART_HEAD || seed % 8 == 0) return LLVMFuzzerMutate(data, size, most); /* damage */
    FUZZ_CHECK(sha256_bytes(data + FIRST, size - FIRST, hex) == COV_OK);
    if (memcmp(data + DIGEST_AT, hex, 64) != 0) return LLVMFuzzerMutate(data, size, most); /* was damaged before */
    size_t text = strnlen((const char *)data, PART_HEAD);
    text = LLVMFuzzerMutate(data, text, PART_HEAD);
    memset(data + text, 0, PART_HEAD - text);
    FUZZ_CHECK(sha256_bytes(data + FIRST, size - FIRST, hex) == COV_OK);
    memcpy(data + DIGEST_AT, hex, 64);
    return size;
}

static void check_head(const part_head *h)
{
    FUZZ_CHECK(h->status >= OUTCOME_DONE && h->status <= OUTCOME_FAILED && h->reason >= 0 && h->reason < REASON_COUNT);
    FUZZ_CHECK(h->rows >= 0 && h->cols >= 0 && (int64_t)h->rows * h->cols <= PART_PLANE_LIMIT);
    FUZZ_CHECK(h->slices >= 0 && h->slices <= PART_SLICES_LIMIT);
    FUZZ_CHECK(h->slice_count == 0 || h->slice_count == h->slices);
    FUZZ_CHECK(h->lesion_rows >= 0 && h->lesion_rows <= PART_LESIONS_LIMIT);
    FUZZ_CHECK(memchr(h->key.path, 0, STUDY_PATH) && h->key.path[0] && memchr(h->key.unit, 0, PART_UNIT));
    FUZZ_CHECK(memchr(h->sha256, 0, SHA256_HEX));
    FUZZ_CHECK(part_key_matches(&h->key, &h->key, 0) == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[128];
    part_head head;
    part_key key;
    study_result result;
    fuzz_file(".h5", data, size, path, sizeof path);
    status whole = part_verify(path);
    if (part_check(path, &head) == COV_OK) {
        check_head(&head);
        int small = (int64_t)head.rows * head.cols <= VOXELS_MOST && (int64_t)head.rows * head.cols * head.slices <= VOXELS_MOST &&
                    head.lesion_rows <= VOXELS_MOST;
        if (whole == COV_OK && small && part_read(path, &key, &result) == COV_OK) {
            FUZZ_CHECK(memcmp(&key, &head.key, sizeof key) == 0);
            FUZZ_CHECK(result.row.rows == head.rows && result.row.cols == head.cols && result.row.slices == head.slices);
            FUZZ_CHECK(!result.lung == !head.has_lung && !result.lesion == !head.has_lesion);
            study_result_free(&result);
        }
    } else FUZZ_CHECK(whole != COV_OK);
    unlink(path);
    return 0;
}
