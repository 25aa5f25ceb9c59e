/* fuzz_png: any bytes as a PNG: accepted pixels fill the promised size, and a gray image survives being written.
 * Every chunk has a checksum, which hardly any mutation would get past: the mutator sets them right. */
#include "data/image.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>
#include <zlib.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most) __attribute__((weak)); /* not there in a replay */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, most);
    if (seed % 8 == 0) return size; /* wrong checksums are inputs, too */
    for (size_t at = 8; at + 12 <= size;) {
        uint32_t length;
        memcpy(&length, data + at, 4);
        length = __builtin_bswap32(length);
        if (length > size - at - 12) break;
        uint32_t sum = __builtin_bswap32((uint32_t)crc32(0, data + at + 4, length + 4));
        memcpy(data + at + 8 + length, &sum, 4);
        at += 12 + length;
    }
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[128];
    image i, again;
    reason why = REASON_NONE;
    fuzz_file(".png", data, size, path, sizeof path);
    if (image_read(path, &i, &why) == COV_OK) {
        FUZZ_CHECK(i.rows >= 1 && i.rows <= IMAGE_SIDE_MOST && i.cols >= 1 && i.cols <= IMAGE_SIDE_MOST);
        FUZZ_CHECK(i.bits == 8 || i.bits == 16);
        size_t count = (size_t)i.rows * (size_t)i.cols;
        for (size_t k = 0; k < count; k++) FUZZ_CHECK(i.bits == 16 || i.px[k] < 256);
        if (count < 4096) {
            FUZZ_CHECK(image_write_gray16(path, i.rows, i.cols, i.px) == COV_OK);
            FUZZ_CHECK(image_read(path, &again, &why) == COV_OK);
            FUZZ_CHECK(again.rows == i.rows && again.cols == i.cols && memcmp(again.px, i.px, 2 * count) == 0);
            image_free(&again);
        }
        image_free(&i);
    } else FUZZ_CHECK(why != REASON_NONE && why != REASON_INTERNAL && !i.px);
    unlink(path);
    return 0;
}
