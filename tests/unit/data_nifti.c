/* NIfTI in and out. Files are made by data/nifti.c, judged by the bytes of their own header, read back, and then
 * broken on purpose, byte by byte: each must end with its reason, and none with a volume. */
#include "data/mask.h"
#include "data/nifti.h"
#include "data/reader.h"
#include "base/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { NX = 5, NY = 4, NZ = 3, COUNT = NX * NY * NZ };
static const double AFFINE[4][4] = {{-0.7, 0, 0, 120}, {0, -0.8, 0.05, 90}, {0, 0.04, 2.5, -300}, {0, 0, 0, 1}};

static char folder[64];
static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/covpipe-nifti-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
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

static void fill(int16_t *hu)
{
    for (int i = 0; i < COUNT; i++) hu[i] = (int16_t)(-1000 + 30 * i);
}

static status read_volume(const char *path, volume_header *h, int16_t *hu, volume_stats *stats, reason *why)
{
    const reader *r = reader_for(path);
    assert_non_null(r);
    status s = r->header(path, h, why);
    if (s != COV_OK) return s;
    assert_int_equal(h->nx * h->ny * h->nz, COUNT);
    return r->voxels(path, h, hu, stats, why);
}

static void expect_reason(const char *path, reason expected)
{
    volume_header h;
    volume_stats stats;
    int16_t hu[COUNT];
    reason why = REASON_NONE;
    status_clear();
    status s = read_volume(path, &h, hu, &stats, &why);
    if (s == COV_OK || why != expected)
        fail_msg("%s: %s %s '%s', expected %s", path, status_name(s), reason_code(why), status_message(),
                 reason_code(expected));
    assert_non_null(strstr(status_message(), folder)); /* the message names the file */
}

static unsigned char *slurp(const char *path, size_t *n)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fstat(fileno(f), &st), 0);
    unsigned char *bytes = malloc((size_t)st.st_size + 1);
    *n = fread(bytes, 1, (size_t)st.st_size, f);
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

static void spit_gz(const char *path, const void *bytes, size_t n)
{
    gzFile f = gzopen(path, "wb");
    assert_non_null(f);
    if (n) assert_int_equal(gzwrite(f, bytes, (unsigned)n), n);
    assert_int_equal(gzclose(f), Z_OK);
}

/* ---- round trips ---- */

static void check_read_back(const char *path, const int16_t *hu, const double tolerance_hu)
{
    volume_header h;
    volume_stats stats;
    int16_t got[COUNT];
    reason why = REASON_NONE;
    status s = read_volume(path, &h, got, &stats, &why);
    if (s != COV_OK) fail_msg("%s: %s", path, status_message());
    assert_int_equal(h.nx, NX);
    assert_int_equal(h.ny, NY);
    assert_int_equal(h.nz, NZ);
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < 4; c++) assert_true(fabs(h.affine[r][c] - AFFINE[r][c]) < 1e-4);
    for (int i = 0; i < COUNT; i++) assert_true(abs(got[i] - hu[i]) <= tolerance_hu);
}

static nifti_layout layout_number(int k, nifti_type type)
{
    static const int8_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    nifti_layout l = nifti_layout_plain(type);
    memcpy(l.axis, orders[k / 8], 3);
    for (int c = 0; c < 3; c++) l.flip[c] = k >> c & 1;
    return l;
}

static void every_storage_order_reads_back_as_the_same_canonical_volume(void **state)
{
    int16_t hu[COUNT];
    (void)state;
    fill(hu);
    for (int k = 0; k < 48; k++) {
        nifti_layout l = layout_number(k, NIFTI_I16);
        const char *path = in_folder("order.nii.gz");
        assert_int_equal(nifti_write_canonical(path, hu, NX, NY, NZ, AFFINE, &l), COV_OK);
        check_read_back(path, hu, 0);
    }
}

static void every_type_version_byte_order_and_container_reads_back(void **state)
{
    static const nifti_type types[] = {NIFTI_I16, NIFTI_U16, NIFTI_F32, NIFTI_U8};
    int16_t hu[COUNT];
    (void)state;
    fill(hu);
    for (int t = 0; t < 4; t++)
        for (int k = 0; k < 8; k++) {
            nifti_layout l = nifti_layout_plain(types[t]);
            l.version = 1 + (k & 1);
            l.big_endian = k >> 1 & 1;
            l.slope = types[t] == NIFTI_U8 ? 7.5f : 0.5f;
            l.inter = -1024;
            const char *path = in_folder(k & 4 ? "type.nii" : "type.nii.gz");
            assert_int_equal(nifti_write_canonical(path, hu, NX, NY, NZ, AFFINE, &l), COV_OK);
            check_read_back(path, hu, types[t] == NIFTI_U8 ? 4 : 0);
        }
}

/* Distance between the places of stored voxel (i,j,k), by the bytes of the sform, and canonical (x,y,z). */
static double apart(const unsigned char *file, int i, int j, int k, int x, int y, int z)
{
    float srow[3][4];
    double sum = 0;
    memcpy(srow, file + 280, sizeof srow);
    for (int r = 0; r < 3; r++) {
        double stored = srow[r][0] * i + srow[r][1] * j + srow[r][2] * k + srow[r][3];
        double canonical = AFFINE[r][0] * x + AFFINE[r][1] * y + AFFINE[r][2] * z + AFFINE[r][3];
        sum += (stored - canonical) * (stored - canonical);
    }
    return sqrt(sum);
}

/* The canonical index whose place is nearest. */
static int nearest(const unsigned char *file, int i, int j, int k)
{
    int best = 0;
    double least = INFINITY;
    for (int n = 0; n < COUNT; n++) {
        double d = apart(file, i, j, k, n % NX, n / NX % NY, n / NX / NY);
        if (d < least) {
            least = d;
            best = n;
        }
    }
    assert_true(least < 1e-3);
    return best;
}

static void each_stored_voxel_lies_where_its_own_sform_says(void **state)
{
    int16_t hu[COUNT];
    (void)state;
    fill(hu);
    for (int order = 0; order < 48; order++) {
        nifti_layout l = layout_number(order, NIFTI_I16);
        size_t n;
        int16_t dim[4];
        assert_int_equal(nifti_write_canonical(in_folder("oracle.nii"), hu, NX, NY, NZ, AFFINE, &l), COV_OK);
        unsigned char *file = slurp(in_folder("oracle.nii"), &n);
        memcpy(dim, file + 40, sizeof dim);
        const int16_t *data = (const int16_t *)(const void *)(file + 352);
        for (int k = 0; k < dim[3]; k++)
            for (int j = 0; j < dim[2]; j++)
                for (int i = 0; i < dim[1]; i++) assert_int_equal(*data++, hu[nearest(file, i, j, k)]);
        free(file);
    }
}

static void an_orientation_in_the_qform_alone_is_read(void **state)
{
    const double square[4][4] = {{-0.7, 0, 0, 120}, {0, -0.6, 0.8 * 2, 90}, {0, 0.8 * 1, 0.6 * 2, -300}, {0, 0, 0, 1}};
    (void)state;
    int16_t hu[COUNT], got[COUNT];
    volume_header h;
    volume_stats stats;
    reason why;
    fill(hu);
    nifti_layout l = nifti_layout_plain(NIFTI_I16);
    l.qform_only = 1;
    assert_int_equal(nifti_write_canonical(in_folder("sheared.nii"), hu, NX, NY, NZ, AFFINE, &l), COV_USAGE);
    double turned[4][4];
    memcpy(turned, square, sizeof turned); /* tilted by 37 degrees around x: a gantry would not, a patient may */
    turned[1][1] = -0.8;
    turned[2][1] = 0.6;
    turned[1][2] = 0.6 * 2;
    turned[2][2] = 0.8 * 2;
    assert_int_equal(nifti_write_canonical(in_folder("q.nii"), hu, NX, NY, NZ, (const double(*)[4])turned, &l), COV_OK);
    assert_int_equal(read_volume(in_folder("q.nii"), &h, got, &stats, &why), COV_OK);
    assert_int_equal(h.native.sform_code, 0);
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 4; c++) assert_true(fabs(h.affine[r][c] - turned[r][c]) < 1e-3);
    assert_memory_equal(got, hu, sizeof hu);
}

static void export_keeps_the_geometry_of_the_input_bit_for_bit(void **state)
{
    (void)state;
    int16_t hu[COUNT], got[COUNT];
    uint8_t native[COUNT];
    volume_header h;
    volume_stats stats;
    reason why;
    fill(hu);
    for (int version = 1; version <= 2; version++) {
        nifti_layout l = layout_number(29, NIFTI_I16);
        l.version = version;
        assert_int_equal(nifti_write_canonical(in_folder("ct.nii"), hu, NX, NY, NZ, AFFINE, &l), COV_OK);
        size_t n, m, geometry = version == 1 ? 252 : 344, geometry_bytes = version == 1 ? 328 - 252 : 496 - 344;
        unsigned char *bytes = slurp(in_folder("ct.nii"), &n);
        if (version == 1) memcpy(bytes + 80 + 12, "\x12\x34\x56\x42", 4); /* a pixdim[4] to be kept, too */
        spit(in_folder("ct.nii"), bytes, n);
        assert_int_equal(read_volume(in_folder("ct.nii"), &h, got, &stats, &why), COV_OK);
        volume_to_native(&h, memset(native, 1, sizeof native), got, 1);
        assert_int_equal(nifti_write(in_folder("mask.nii"), &h, got, NIFTI_U8), COV_OK);
        unsigned char *exported = slurp(in_folder("mask.nii"), &m);
        assert_memory_equal(bytes + geometry, exported + geometry, geometry_bytes);
        if (version == 1) assert_memory_equal(bytes + 76, exported + 76, 32);
        else assert_memory_equal(bytes + 104, exported + 104, 64);
        free(bytes);
        free(exported);
    }
}

static void the_same_volume_is_written_as_the_same_bytes(void **state)
{
    (void)state;
    int16_t hu[COUNT];
    char a[SHA256_HEX], b[SHA256_HEX];
    fill(hu);
    nifti_layout l = nifti_layout_plain(NIFTI_I16);
    assert_int_equal(nifti_write_canonical(in_folder("a.nii.gz"), hu, NX, NY, NZ, AFFINE, &l), COV_OK);
    assert_int_equal(nifti_write_canonical(in_folder("b.nii.gz"), hu, NX, NY, NZ, AFFINE, &l), COV_OK);
    assert_int_equal(sha256_file(in_folder("a.nii.gz"), a), COV_OK);
    assert_int_equal(sha256_file(in_folder("b.nii.gz"), b), COV_OK);
    assert_string_equal(a, b);
}

static void a_failed_write_leaves_no_file(void **state)
{
    (void)state;
    int16_t hu[COUNT];
    fill(hu);
    nifti_layout l = nifti_layout_plain(NIFTI_I16);
    assert_int_equal(nifti_write_canonical(in_folder("none/a.nii"), hu, NX, NY, NZ, AFFINE, &l), COV_IO);
    l.axis[0] = 2;
    assert_int_equal(nifti_write_canonical(in_folder("bad.nii"), hu, NX, NY, NZ, AFFINE, &l), COV_USAGE);
    assert_int_not_equal(access(in_folder("bad.nii"), F_OK), 0);
}

/* ---- stored types that the writer does not write ---- */

/* A NIfTI-1 or -2 file of COUNT elements with the given datatype: made from the writer's own by patching the header. */
static void write_typed(const char *path, int version, int datatype, int bits, const void *data)
{
    int16_t hu[COUNT] = {0};
    size_t n, head = version == 1 ? 352 : 544;
    nifti_layout l = nifti_layout_plain(NIFTI_I16);
    l.version = version;
    l.flip[0] = l.flip[1] = 0;
    assert_int_equal(nifti_write_canonical(path, hu, NX, NY, NZ, AFFINE, &l), COV_OK);
    unsigned char *bytes = slurp(path, &n);
    size_t data_bytes = (size_t)bits / 8 * COUNT;
    bytes = realloc(bytes, head + data_bytes);
    int16_t code[2] = {(int16_t)datatype, (int16_t)bits};
    memcpy(bytes + (version == 1 ? 70 : 12), code, 4);
    memcpy(bytes + head, data, data_bytes);
    spit(path, bytes, head + data_bytes);
    free(bytes);
}

static void expect_values(const char *path, const int16_t *expected)
{
    volume_header h;
    volume_stats stats;
    int16_t got[COUNT];
    reason why;
    status s = read_volume(path, &h, got, &stats, &why);
    if (s != COV_OK) fail_msg("%s", status_message());
    for (int i = 0; i < COUNT; i++) assert_int_equal(got[i], expected[i]);
}

#define TYPE_CASE(T, code)                                                                                             \
    do {                                                                                                               \
        T data[COUNT];                                                                                                 \
        int16_t expected[COUNT];                                                                                       \
        for (int i = 0; i < COUNT; i++) {                                                                              \
            data[i] = (T)(i * 2);                                                                                      \
            expected[i] = (int16_t)(i * 2);                                                                            \
        }                                                                                                              \
        for (int version = 1; version <= 2; version++) {                                                               \
            write_typed(in_folder("typed.nii"), version, code, 8 * (int)sizeof(T), data);                              \
            expect_values(in_folder("typed.nii"), expected);                                                           \
        }                                                                                                              \
    } while (0)

static void all_ten_scalar_types_are_read(void **state)
{
    (void)state;
    TYPE_CASE(uint8_t, 2);
    TYPE_CASE(int16_t, 4);
    TYPE_CASE(int32_t, 8);
    TYPE_CASE(float, 16);
    TYPE_CASE(double, 64);
    TYPE_CASE(int8_t, 256);
    TYPE_CASE(uint16_t, 512);
    TYPE_CASE(uint32_t, 768);
    TYPE_CASE(int64_t, 1024);
    TYPE_CASE(uint64_t, 1280);
}

static void values_outside_int16_are_clipped_halves_go_to_even_and_nan_is_no_data(void **state)
{
    (void)state;
    double data[COUNT] = {1e300, -1e300, 32767.4, -32768.6, 0.5,         1.5,
                          -0.5,  -1.5,   2.4999,  70000,    (double)NAN, (double)INFINITY};
    int16_t expected[COUNT] = {32767, -32768, 32767, -32768, 0, 2, 0, -2, 2, 32767, -1024, 32767};
    write_typed(in_folder("clip.nii"), 1, 64, 64, data);
    expect_values(in_folder("clip.nii"), expected);
}

/* ---- broken files ---- */

static unsigned char *sound_file(int version, size_t *n)
{
    int16_t hu[COUNT];
    fill(hu);
    nifti_layout l = nifti_layout_plain(NIFTI_I16);
    l.version = version;
    assert_int_equal(nifti_write_canonical(in_folder("sound.nii"), hu, NX, NY, NZ, AFFINE, &l), COV_OK);
    return slurp(in_folder("sound.nii"), n);
}

static void expect_patched(int version, size_t at, const void *bytes, size_t count, reason expected)
{
    size_t n;
    unsigned char *file = sound_file(version, &n);
    memcpy(file + at, bytes, count);
    spit(in_folder("patched.nii"), file, n);
    spit_gz(in_folder("patched.nii.gz"), file, n);
    free(file);
    expect_reason(in_folder("patched.nii"), expected);
    expect_reason(in_folder("patched.nii.gz"), expected);
}

static void short_at(int version, size_t at, int16_t value, reason expected)
{
    expect_patched(version, at, &value, 2, expected);
}
static void float_at(size_t at, float value, reason expected) { expect_patched(1, at, &value, 4, expected); }
static void long_at(size_t at, int64_t value, reason expected) { expect_patched(2, at, &value, 8, expected); }
static void double_at(size_t at, double value, reason expected) { expect_patched(2, at, &value, 8, expected); }

static void a_header_that_contradicts_itself_is_refused_with_its_reason(void **state)
{
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    short_at(1, 0, 349, REASON_BAD_HEADER); /* sizeof_hdr */
    expect_patched(1, 344, "n+3", 4, REASON_BAD_HEADER);
    expect_patched(1, 344, "ni1", 4, REASON_BAD_HEADER); /* a pair's magic in a .nii */
    expect_patched(2, 4, "n+2\0\r\n\x1a\r", 8, REASON_BAD_HEADER);
    short_at(1, 40, 0, REASON_BAD_HEADER); /* dim[0] */
    short_at(1, 40, 8, REASON_BAD_HEADER);
    long_at(16, 200, REASON_BAD_HEADER);
    short_at(1, 42, -5, REASON_BAD_HEADER);
    short_at(1, 46, 0, REASON_BAD_HEADER);
    long_at(24, INT64_MIN, REASON_BAD_HEADER);
    short_at(1, 70, 77, REASON_BAD_HEADER); /* datatype */
    short_at(1, 70, 0, REASON_BAD_HEADER);
    short_at(1, 70, 1, REASON_UNSUPPORTED);
    short_at(1, 70, 1536, REASON_UNSUPPORTED);
    short_at(1, 70, 128, REASON_NOT_3D);
    short_at(1, 70, 32, REASON_NOT_3D);
    short_at(1, 72, 8, REASON_BAD_HEADER); /* bitpix */
    for (int i = 0; i < 3; i++) {
        float_at(108, bad[i], REASON_BAD_HEADER); /* vox_offset */
        float_at(112, bad[i], REASON_BAD_HEADER); /* scl_slope */
        float_at(116, bad[i], REASON_BAD_HEADER); /* scl_inter */
        float_at(84, bad[i], REASON_GEOMETRY);    /* pixdim[2] */
        float_at(284, bad[i], REASON_GEOMETRY);   /* sform */
        double_at(176, bad[i], REASON_BAD_HEADER);
    }
    float_at(108, 0, REASON_BAD_HEADER);
    float_at(108, -352, REASON_BAD_HEADER);
    float_at(108, 1e9f, REASON_TRUNCATED);
    float_at(108, 1e20f, REASON_BAD_HEADER);
    long_at(168, INT64_MAX, REASON_BAD_HEADER);
    long_at(168, -1, REASON_BAD_HEADER);
    expect_patched(1, 280, (float[12]){0}, 48, REASON_GEOMETRY); /* a singular sform */
    expect_patched(1, 280, (float[12]){1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0}, 48, REASON_GEOMETRY);
    expect_patched(1, 280, (float[12]){2000, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0}, 48, REASON_GEOMETRY);
}

static void more_than_three_dimensions_or_fewer_are_told_apart_from_damage(void **state)
{
    (void)state;
    short_at(1, 40, 2, REASON_NOT_3D);
    expect_patched(1, 40, (int16_t[5]){4, NX, NY, NZ, 2}, 10, REASON_NOT_3D);
    expect_patched(1, 40, (int16_t[6]){5, NX, NY, NZ, 1, 3}, 12, REASON_NOT_3D);
    expect_patched(1, 40, (int16_t[4]){3, 1, NY, NX * NZ}, 8, REASON_NOT_3D);
    short_at(1, 68, 3001, REASON_NOT_3D); /* CIFTI's intent */
    size_t n;
    unsigned char *file = sound_file(1, &n);
    memcpy(file + 40, (int16_t[5]){4, NX, NY, NZ, 1}, 10);
    spit(in_folder("four.nii"), file, n);
    free(file);
    volume_header h;
    volume_stats stats;
    int16_t hu[COUNT];
    reason why;
    assert_int_equal(read_volume(in_folder("four.nii"), &h, hu, &stats, &why), COV_OK);
}

static void a_small_file_that_asks_for_much_is_refused_before_anything_is_allocated(void **state)
{
    (void)state;
    expect_patched(1, 40, (int16_t[4]){3, 32767, 32767, 9}, 8, REASON_TOO_LARGE);
    expect_patched(1, 40, (int16_t[4]){3, 4096, 4096, 4096}, 8, REASON_TOO_LARGE);
    expect_patched(2, 16, (int64_t[4]){3, INT64_MAX, 2, 2}, 32, REASON_TOO_LARGE);
    expect_patched(2, 16, (int64_t[4]){3, 1LL << 40, 1LL << 40, 1LL << 40}, 32, REASON_TOO_LARGE);
    expect_patched(1, 40, (int16_t[4]){3, 2048, 2048, 900}, 8,
                   REASON_TRUNCATED); /* 7 GB: in bounds, but not in 500 bytes */
}

static void no_slope_means_the_stored_values_and_extensions_are_skipped(void **state)
{
    (void)state;
    size_t n;
    int16_t expected[COUNT];
    fill(expected);
    unsigned char *file = sound_file(1, &n);
    float scale[2] = {0, 500}, offset = 352 + 32;
    memcpy(file + 112, scale, 8);
    memcpy(file + 108, &offset, 4);
    unsigned char *longer = malloc(n + 32);
    memcpy(longer, file, 352);
    memset(longer + 352, 0x5A, 32);
    longer[348] = 1;
    memcpy(longer + 384, file + 352, n - 352);
    spit(in_folder("extended.nii"), longer, n + 32);
    free(file);
    free(longer);
    volume_header h;
    volume_stats stats;
    int16_t hu[COUNT];
    reason why;
    assert_int_equal(read_volume(in_folder("extended.nii"), &h, hu, &stats, &why), COV_OK);
    /* the plain layout flips x and y: the sorted values are the claim here */
    assert_int_equal(stats.lowest, expected[0]);
    assert_int_equal(stats.highest, expected[COUNT - 1]);
    assert_memory_equal(hu, expected, sizeof hu);
}

static void metres_and_micrometres_become_millimetres(void **state)
{
    (void)state;
    for (int unit = 1; unit <= 3; unit += 2) {
        size_t n;
        unsigned char *file = sound_file(1, &n);
        float srow[12];
        memcpy(srow, file + 280, 48);
        for (int i = 0; i < 12; i++) srow[i] *= unit == 1 ? 1e-3f : 1e3f;
        memcpy(file + 280, srow, 48);
        file[123] = (unsigned char)unit;
        spit(in_folder("unit.nii"), file, n);
        free(file);
        volume_header h;
        reason why;
        assert_int_equal(read_nifti.header(in_folder("unit.nii"), &h, &why), COV_OK);
        assert_true(fabs(h.spacing_mm[0] - 0.7) < 1e-4);
        assert_int_equal(h.native.xyzt_units, unit);
    }
}

static void every_shortened_file_is_refused(void **state)
{
    (void)state;
    size_t n;
    for (int version = 1; version <= 2; version++) {
        unsigned char *file = sound_file(version, &n);
        for (size_t cut = 0; cut < n; cut++) {
            spit(in_folder("cut.nii"), file, cut);
            expect_reason(in_folder("cut.nii"), cut < 4 ? REASON_BAD_HEADER : REASON_TRUNCATED);
        }
        spit_gz(in_folder("whole.nii.gz"), file, n);
        free(file);
        size_t packed;
        unsigned char *gz = slurp(in_folder("whole.nii.gz"), &packed);
        for (size_t cut = 0; cut < packed; cut++) {
            volume_header h;
            volume_stats stats;
            int16_t hu[COUNT];
            reason why;
            spit(in_folder("cut.nii.gz"), gz, cut);
            assert_int_not_equal(read_volume(in_folder("cut.nii.gz"), &h, hu, &stats, &why), COV_OK);
            if (cut > 18) assert_true(why == REASON_TRUNCATED || why == REASON_BAD_HEADER);
        }
        free(gz);
    }
}

static void a_flipped_bit_in_a_gzip_is_never_read_as_voxels(void **state)
{
    (void)state;
    size_t n, packed;
    int16_t sound[COUNT];
    fill(sound);
    unsigned char *file = sound_file(1, &n);
    spit_gz(in_folder("whole.nii.gz"), file, n);
    free(file);
    unsigned char *gz = slurp(in_folder("whole.nii.gz"), &packed);
    for (size_t at = 10; at < packed; at++) { /* the first 10 bytes are gzip's own: name, time, system */
        volume_header h;
        volume_stats stats;
        int16_t hu[COUNT];
        reason why = REASON_NONE;
        gz[at] ^= 0x10;
        spit(in_folder("flip.nii.gz"), gz, packed);
        gz[at] ^= 0x10;
        if (reader_for(in_folder("flip.nii.gz"))->header(in_folder("flip.nii.gz"), &h, &why) != COV_OK) continue;
        if (h.nx * h.ny * h.nz > COUNT) continue;
        if (read_nifti.voxels(in_folder("flip.nii.gz"), &h, hu, &stats, &why) == COV_OK)
            assert_memory_equal(hu, sound, sizeof hu); /* a bit that deflate does not use */
    }
    free(gz);
}

static void a_pair_is_one_study_and_a_header_alone_is_truncated(void **state)
{
    (void)state;
    int16_t expected[COUNT];
    fill(expected);
    size_t n;
    unsigned char *file = sound_file(1, &n);
    float none = 0;
    memcpy(file + 344, "ni1", 4);
    memcpy(file + 108, &none, 4);
    spit(in_folder("pair.hdr"), file, 348);
    expect_reason(in_folder("pair.hdr"), REASON_TRUNCATED);
    assert_null(reader_for(in_folder("alone.img")));
    spit_gz(in_folder("pair.img.gz"), file + 352, n - 352);
    assert_int_equal(read_nifti.claims(in_folder("pair.img.gz")), 2);
    expect_values(in_folder("pair.hdr"), expected);
    spit_gz(in_folder("both.hdr.gz"), file, 348);
    spit(in_folder("both.img"), file + 352, n - 352);
    expect_values(in_folder("both.hdr.gz"), expected);
    spit(in_folder("short.hdr"), file, 348);
    spit(in_folder("short.img"), file + 352, n - 353);
    expect_reason(in_folder("short.hdr"), REASON_TRUNCATED);
    memset(file + 344, 0, 4);
    spit(in_folder("analyze.hdr"), file, 348);
    expect_reason(in_folder("analyze.hdr"), REASON_UNSUPPORTED);
    free(file);
}

static void a_file_that_changes_between_header_and_voxels_is_noticed(void **state)
{
    (void)state;
    size_t n;
    volume_header h;
    volume_stats stats;
    int16_t hu[COUNT];
    reason why;
    unsigned char *file = sound_file(1, &n);
    assert_int_equal(read_nifti.header(in_folder("sound.nii"), &h, &why), COV_OK);
    memcpy(file + 40, (int16_t[4]){3, NY, NX, NZ}, 8);
    spit(in_folder("sound.nii"), file, n);
    assert_int_equal(read_nifti.voxels(in_folder("sound.nii"), &h, hu, &stats, &why), COV_FORMAT);
    assert_int_equal(why, REASON_CHANGED);
    free(file);
}

static void a_missing_file_a_folder_and_a_fifo_are_io_errors_at_once(void **state)
{
    (void)state;
    expect_reason(in_folder("missing.nii"), REASON_IO_ERROR);
    assert_int_equal(mkdir(in_folder("folder.nii"), 0777), 0);
    assert_null(reader_for(in_folder("folder.nii")));
    volume_header h;
    reason why = REASON_NONE;
    assert_int_equal(read_nifti.header(in_folder("folder.nii"), &h, &why), COV_IO);
    assert_int_equal(why, REASON_IO_ERROR);
    assert_int_equal(mkfifo(in_folder("fifo.nii"), 0666), 0);
    expect_reason(in_folder("fifo.nii"), REASON_IO_ERROR);
}

/* ---- masks ---- */

static void masks_of_any_type_become_canonical_bytes_and_non_labels_are_refused(void **state)
{
    (void)state;
    uint8_t label[COUNT];
    mask m;
    reason why;
    for (int i = 0; i < COUNT; i++) label[i] = (uint8_t)(i % 3);
    nifti_layout l = layout_number(21, NIFTI_U8);
    assert_int_equal(nifti_write_canonical_u8(in_folder("mask.nii.gz"), label, NX, NY, NZ, AFFINE, &l), COV_OK);
    assert_int_equal(mask_read(in_folder("mask.nii.gz"), &m, &why), COV_OK);
    assert_memory_equal(m.label, label, COUNT);
    volume_header other = m.head;
    assert_int_equal(mask_check_grid(&m, &other, "mask"), COV_OK);
    other.affine[0][3] += 1;
    assert_int_equal(mask_check_grid(&m, &other, "mask"), COV_FORMAT);
    mask_free(&m);
    float values[COUNT] = {0, 1, 2.001f};
    write_typed(in_folder("float.nii"), 1, 16, 32, values);
    assert_int_equal(mask_read(in_folder("float.nii"), &m, &why), COV_OK);
    assert_int_equal(m.label[2], 2);
    mask_free(&m);
    const float bad[] = {0.5f, -1, 256, NAN};
    for (int i = 0; i < 4; i++) {
        values[7] = bad[i];
        write_typed(in_folder("float.nii"), 1, 16, 32, values);
        assert_int_equal(mask_read(in_folder("float.nii"), &m, &why), COV_FORMAT);
        assert_null(m.label);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_storage_order_reads_back_as_the_same_canonical_volume),
        cmocka_unit_test(every_type_version_byte_order_and_container_reads_back),
        cmocka_unit_test(each_stored_voxel_lies_where_its_own_sform_says),
        cmocka_unit_test(an_orientation_in_the_qform_alone_is_read),
        cmocka_unit_test(export_keeps_the_geometry_of_the_input_bit_for_bit),
        cmocka_unit_test(the_same_volume_is_written_as_the_same_bytes),
        cmocka_unit_test(a_failed_write_leaves_no_file),
        cmocka_unit_test(all_ten_scalar_types_are_read),
        cmocka_unit_test(values_outside_int16_are_clipped_halves_go_to_even_and_nan_is_no_data),
        cmocka_unit_test(a_header_that_contradicts_itself_is_refused_with_its_reason),
        cmocka_unit_test(more_than_three_dimensions_or_fewer_are_told_apart_from_damage),
        cmocka_unit_test(a_small_file_that_asks_for_much_is_refused_before_anything_is_allocated),
        cmocka_unit_test(no_slope_means_the_stored_values_and_extensions_are_skipped),
        cmocka_unit_test(metres_and_micrometres_become_millimetres),
        cmocka_unit_test(every_shortened_file_is_refused),
        cmocka_unit_test(a_flipped_bit_in_a_gzip_is_never_read_as_voxels),
        cmocka_unit_test(a_pair_is_one_study_and_a_header_alone_is_truncated),
        cmocka_unit_test(a_file_that_changes_between_header_and_voxels_is_noticed),
        cmocka_unit_test(a_missing_file_a_folder_and_a_fifo_are_io_errors_at_once),
        cmocka_unit_test(masks_of_any_type_become_canonical_bytes_and_non_labels_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
