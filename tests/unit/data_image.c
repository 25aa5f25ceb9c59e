/* Gray PNG in, gray and RGB PNG out, and a folder of slices as a study. */
#include "data/image.h"
#include "data/reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { ROWS = 7, COLS = 5 };

static char folder[64];
static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/covpipe-image-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}
static int teardown(void **state)
{
    char command[256];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}
static const char *in_folder(const char *name)
{
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static unsigned char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    unsigned char *bytes = malloc(1 << 20);
    *n = fread(bytes, 1, 1 << 20, f);
    fclose(f);
    return bytes;
}

static void spit(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void gray_images_of_8_and_16_bits_come_back_as_they_were(void **state)
{
    (void)state;
    uint8_t narrow[ROWS * COLS], *bytes;
    uint16_t wide[ROWS * COLS];
    float *values;
    int32_t rows, cols;
    image i;
    reason why;
    for (int k = 0; k < ROWS * COLS; k++) {
        narrow[k] = (uint8_t)(k * 7);
        wide[k] = (uint16_t)(k * 1777);
    }
    assert_int_equal(image_write_gray(in_folder("8.png"), ROWS, COLS, narrow), COV_OK);
    assert_int_equal(image_write_gray16(in_folder("16.png"), ROWS, COLS, wide), COV_OK);
    assert_int_equal(image_read(in_folder("16.png"), &i, &why), COV_OK);
    assert_int_equal(i.bits, 16);
    assert_int_equal(i.rows, ROWS);
    assert_int_equal(i.cols, COLS);
    assert_memory_equal(i.px, wide, sizeof wide);
    image_free(&i);
    assert_int_equal(image_read_u8(in_folder("8.png"), &rows, &cols, &bytes), COV_OK);
    assert_int_equal(rows, ROWS);
    assert_memory_equal(bytes, narrow, sizeof narrow);
    free(bytes);
    assert_int_equal(image_read_float(in_folder("16.png"), &rows, &cols, &values), COV_OK);
    for (int k = 0; k < ROWS * COLS; k++) assert_true(values[k] == wide[k]);
    free(values);
    assert_int_equal(image_read_u8(in_folder("16.png"), &rows, &cols, &bytes), COV_UNSUPPORTED);
    assert_null(bytes);
}

static void an_interlaced_image_of_few_bits_is_widened(void **state)
{
    (void)state;
    uint8_t px[2] = {0xA0, 0x40}; /* 1 bit a pixel: 101, 010 */
    image i;
    reason why;
    FILE *f = fopen(in_folder("bits.png"), "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_init_io(png, f);
    png_set_IHDR(png, info, 3, 2, 1, PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_ADAM7, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    png_write_image(png, (png_bytep[]){px, px + 1});
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    fclose(f);
    assert_int_equal(image_read(in_folder("bits.png"), &i, &why), COV_OK);
    assert_int_equal(i.bits, 8);
    assert_memory_equal(i.px, ((uint16_t[]){255, 0, 255, 0, 255, 0}), 12);
    image_free(&i);
}

static void expect_reason(const char *path, reason expected)
{
    image i;
    reason why = REASON_NONE;
    status_clear();
    status s = image_read(path, &i, &why);
    if (s == COV_OK || why != expected)
        fail_msg("%s: %s, expected %s: %s", path, reason_code(why), reason_code(expected), status_message());
    assert_null(i.px);
    assert_non_null(strstr(status_message(), folder));
}

static void colour_is_not_an_image_of_density(void **state)
{
    (void)state;
    uint8_t px[ROWS * COLS * 3] = {1, 2, 3};
    assert_int_equal(image_write_rgb(in_folder("rgb.png"), ROWS, COLS, px), COV_OK);
    expect_reason(in_folder("rgb.png"), REASON_NOT_3D);
}

static void every_shortened_or_damaged_file_is_refused(void **state)
{
    (void)state;
    uint8_t px[ROWS * COLS];
    size_t n;
    for (int k = 0; k < ROWS * COLS; k++) px[k] = (uint8_t)(k * k);
    assert_int_equal(image_write_gray(in_folder("whole.png"), ROWS, COLS, px), COV_OK);
    unsigned char *file = slurp(in_folder("whole.png"), &n);
    for (size_t cut = 0; cut < n; cut++) {
        spit(in_folder("cut.png"), file, cut);
        expect_reason(in_folder("cut.png"), REASON_TRUNCATED);
    }
    for (size_t at = 0; at < n; at++) {
        image i;
        reason why;
        file[at] ^= 0x40;
        spit(in_folder("flip.png"), file, n);
        file[at] ^= 0x40;
        if (image_read(in_folder("flip.png"), &i, &why) == COV_OK) { /* allowed only in what is not the image */
            assert_int_equal(i.rows * i.cols, ROWS * COLS);
            for (int k = 0; k < ROWS * COLS; k++) assert_int_equal(i.px[k], px[k]);
            image_free(&i);
        }
    }
    free(file);
    spit(in_folder("text.png"), "not a PNG at all", 16);
    expect_reason(in_folder("text.png"), REASON_BAD_HEADER);
    expect_reason(in_folder("missing.png"), REASON_IO_ERROR);
    assert_int_equal(mkfifo(in_folder("fifo.png"), 0666), 0);
    expect_reason(in_folder("fifo.png"), REASON_IO_ERROR);
}

static void a_huge_size_in_a_small_file_is_refused_before_it_is_allocated(void **state)
{
    (void)state;
    static const uint32_t sides[][2] = {{8193, 1}, {1, 1 << 30}, {0, 5}};
    uint8_t px[ROWS * COLS] = {0};
    size_t n;
    assert_int_equal(image_write_gray(in_folder("whole.png"), ROWS, COLS, px), COV_OK);
    unsigned char *file = slurp(in_folder("whole.png"), &n);
    for (int k = 0; k < 4; k++) {
        uint32_t cols = k < 3 ? sides[k][0] : 8192, rows = k < 3 ? sides[k][1] : 8192;
        uint32_t be[2] = {__builtin_bswap32(cols), __builtin_bswap32(rows)};
        memcpy(file + 16, be, 8);
        uint32_t crc = __builtin_bswap32((uint32_t)crc32(0, file + 12, 17));
        memcpy(file + 29, &crc, 4);
        spit(in_folder("huge.png"), file, n);
        expect_reason(in_folder("huge.png"), k < 3 ? REASON_BAD_HEADER : REASON_TRUNCATED);
    }
    free(file);
}

static void a_failed_write_leaves_no_file(void **state)
{
    (void)state;
    const uint8_t px[1] = {0};
    assert_int_equal(image_write_gray(in_folder("none/a.png"), 1, 1, px), COV_IO);
    assert_int_equal(image_write_gray(in_folder("zero.png"), 0, 1, px), COV_USAGE);
    assert_int_not_equal(access(in_folder("zero.png"), F_OK), 0);
}

/* ---- slices as a study ---- */

static void a_folder_of_16_bit_slices_is_a_volume_in_the_order_of_names(void **state)
{
    (void)state;
    volume_header h;
    volume_stats stats;
    reason why;
    uint16_t px[6];
    int16_t hu[18];
    assert_int_equal(mkdir(in_folder("ct"), 0777), 0);
    for (int z = 2; z >= 0; z--) {
        char name[32];
        snprintf(name, sizeof name, "ct/%03d.png", z);
        for (int k = 0; k < 6; k++) px[k] = (uint16_t)(32768 - 1000 + 100 * z + k);
        assert_int_equal(image_write_gray16(in_folder(name), 2, 3, px), COV_OK);
    }
    assert_ptr_equal(reader_for(in_folder("ct")), &read_png);
    assert_int_equal(read_png.header(in_folder("ct"), &h, &why), COV_OK);
    assert_int_equal(h.nx, 3);
    assert_int_equal(h.ny, 2);
    assert_int_equal(h.nz, 3);
    assert_int_equal(read_png.voxels(in_folder("ct"), &h, hu, &stats, &why), COV_OK);
    for (int i = 0; i < 18; i++) assert_int_equal(hu[i], -1000 + 100 * (i / 6) + i % 6);
    assert_int_equal(stats.distinct, 18);
    assert_int_equal(image_write_gray16(in_folder("ct/003.png"), 2, 3, px), COV_OK);
    assert_int_equal(read_png.voxels(in_folder("ct"), &h, hu, &stats, &why), COV_FORMAT);
    assert_int_equal(why, REASON_CHANGED);
    assert_int_equal(image_write_gray16(in_folder("ct/003.png"), 3, 2, px), COV_OK);
    assert_int_equal(read_png.header(in_folder("ct"), &h, &why), COV_UNSUPPORTED);
    assert_int_equal(why, REASON_UNSUPPORTED);
}

/* 10 x 12 and 14 x 9 pixels of many greys, the corners black and white. */
static void write_pictures(const char *folder_name)
{
    uint8_t px[14 * 12];
    char name[64];
    assert_int_equal(mkdir(in_folder(folder_name), 0777), 0);
    for (int k = 0; k < 14 * 12; k++) px[k] = (uint8_t)(k + 40);
    px[0] = 0;
    px[1] = 255;
    snprintf(name, sizeof name, "%s/a.png", folder_name);
    assert_int_equal(image_write_gray(in_folder(name), 10, 12, px), COV_OK);
    snprintf(name, sizeof name, "%s/b.png", folder_name);
    assert_int_equal(image_write_gray(in_folder(name), 14, 9, px), COV_OK);
}

static void a_folder_of_8_bit_slices_is_a_study_of_isolated_slices_in_the_methods_window(void **state)
{
    (void)state;
    volume v;
    volume_stats stats;
    reason why;
    int16_t hu[2 * 14 * 12];
    int64_t rows, cols;
    write_pictures("grey");
    assert_int_equal(read_png.header(in_folder("grey"), &v.head, &why), COV_OK);
    assert_int_equal(v.head.isolated, 1);
    assert_int_equal(v.head.nx, 12);
    assert_int_equal(v.head.ny, 14);
    assert_int_equal(v.head.nz, 2);
    v.hu = hu;
    assert_int_equal(read_png.voxels(in_folder("grey"), &v.head, hu, &stats, &why), COV_OK);
    assert_int_equal(reader_check_ct("grey", &v.head, &stats, &why), COV_OK);
    assert_int_equal(hu[0], -1300);
    assert_int_equal(hu[1], 300);
    assert_int_equal(hu[2], -1300 + (42 * 1600 + 127) / 255);
    assert_int_equal(hu[14 * 12 + 13 * 12 + 8], -1300 + ((13 * 9 + 8 + 40) * 1600 + 127) / 255);
    volume_extent(&v, 0, &rows, &cols);
    assert_int_equal(rows * 100 + cols, 1012);
    volume_extent(&v, 1, &rows, &cols);
    assert_int_equal(rows * 100 + cols, 1409);
    assert_int_equal(stats.lowest, -1300); /* the filling is no value */
    assert_int_equal(hu[10 * 12], VOLUME_OUTSIDE);
    assert_int_equal(hu[14 * 12 + 9], VOLUME_OUTSIDE);
}

static void masks_are_not_taken_for_slices(void **state)
{
    (void)state;
    volume_header h;
    volume_stats stats;
    reason why;
    int16_t hu[3 * 14 * 12];
    uint8_t px[10 * 12] = {0};
    px[5] = 255;
    write_pictures("mixed");
    assert_int_equal(image_write_gray(in_folder("mixed/a_mask.png"), 10, 12, px), COV_OK);
    assert_int_equal(read_png.header(in_folder("mixed"), &h, &why), COV_OK);
    assert_int_equal(read_png.voxels(in_folder("mixed"), &h, hu, &stats, &why), COV_FORMAT);
    assert_int_equal(why, REASON_NOT_CT);
    assert_non_null(strstr(status_message(), "a_mask.png"));
    px[5] = 0; /* a black picture is a slice */
    assert_int_equal(image_write_gray(in_folder("mixed/a_mask.png"), 10, 12, px), COV_OK);
    assert_int_equal(read_png.voxels(in_folder("mixed"), &h, hu, &stats, &why), COV_OK);
    assert_int_equal(mkdir(in_folder("masks"), 0777), 0);
    px[5] = 255;
    assert_int_equal(image_write_gray(in_folder("masks/a.png"), 10, 12, px), COV_OK);
    assert_int_equal(read_png.header(in_folder("masks"), &h, &why), COV_OK);
    assert_int_equal(read_png.voxels(in_folder("masks"), &h, hu, &stats, &why), COV_OK);
    assert_int_equal(reader_check_ct("masks", &h, &stats, &why), COV_FORMAT);
    assert_int_equal(why, REASON_NOT_CT);
}

static void slices_of_two_depths_are_no_study_and_an_empty_folder_is_truncated(void **state)
{
    (void)state;
    volume_header h;
    reason why;
    const uint8_t px[4] = {0};
    const uint16_t wide[4] = {0};
    assert_int_equal(mkdir(in_folder("windowed"), 0777), 0);
    assert_int_equal(read_png.header(in_folder("windowed"), &h, &why), COV_FORMAT);
    assert_int_equal(why, REASON_TRUNCATED);
    assert_null(reader_for(in_folder("windowed")));
    assert_int_equal(image_write_gray(in_folder("windowed/a.PNG"), 2, 2, px), COV_OK);
    assert_int_equal(read_png.header(in_folder("windowed"), &h, &why), COV_OK);
    assert_int_equal(image_write_gray16(in_folder("windowed/b.png"), 2, 2, wide), COV_OK);
    assert_int_equal(read_png.header(in_folder("windowed"), &h, &why), COV_UNSUPPORTED);
    assert_int_equal(why, REASON_UNSUPPORTED);
    assert_int_equal(read_png.header(in_folder("nowhere"), &h, &why), COV_IO);
    assert_int_equal(why, REASON_IO_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gray_images_of_8_and_16_bits_come_back_as_they_were),
        cmocka_unit_test(an_interlaced_image_of_few_bits_is_widened),
        cmocka_unit_test(colour_is_not_an_image_of_density),
        cmocka_unit_test(every_shortened_or_damaged_file_is_refused),
        cmocka_unit_test(a_huge_size_in_a_small_file_is_refused_before_it_is_allocated),
        cmocka_unit_test(a_failed_write_leaves_no_file),
        cmocka_unit_test(a_folder_of_16_bit_slices_is_a_volume_in_the_order_of_names),
        cmocka_unit_test(a_folder_of_8_bit_slices_is_a_study_of_isolated_slices_in_the_methods_window),
        cmocka_unit_test(masks_are_not_taken_for_slices),
        cmocka_unit_test(slices_of_two_depths_are_no_study_and_an_empty_folder_is_truncated),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
