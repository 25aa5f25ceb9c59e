/* parts: round trips, keys, damage, what a kill leaves, and what resume sees. Kills are real: a
 * child that writes without end is killed after ever longer waits. */
#include "data/part.h"

#include "data/chunks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/covpipe-part-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void ok(status s)
{
    if (s != COV_OK) fail_msg("%s: %s (%s)", status_name(s), status_message(), status_trace());
}

static void parts_folder(char out[64], const char *name) { snprintf(out, 64, "%s/%s", folder, name); }

static part_key key_of(const char *path)
{
    part_key key;
    part_key_init(&key);
    strcpy(key.path, path);
    key.size = 123456789012;
    key.mtime_ns = 1600000000123456789;
    memset(key.input_sha256, 'a', 64);
    memset(key.weights_sha256, 'b', 64);
    memset(key.options_sha256, 'c', 64);
    strcpy(key.precision, "fp32");
    strcpy(key.backend, "cpu");
    return key;
}

/* Two lesions: the first two pixels of lung in every slice are one each. */
static void add_lesions(study_result *r)
{
    int64_t plane = (int64_t)r->row.rows * r->row.cols;
    r->lesion = calloc((size_t)(r->row.slices * plane), sizeof *r->lesion);
    r->lesions = calloc(2 * (size_t)r->row.slices, sizeof *r->lesions);
    for (int32_t z = 0; z < r->row.slices; z++)
        for (int64_t i = z * plane, id = 1; i < (z + 1) * plane && id < 3; i++) {
            if (!r->lung[i]) continue;
            r->slices[z].lesion_px++;
            r->lesions[r->lesion_rows++] = (lesion_row){.z = z,
                                                        .lesion_id = (int32_t)id,
                                                        .box_yxyx = {z, 2, 3, 4},
                                                        .score = 0.5 + z,
                                                        .area_px = 1,
                                                        .area_mm2 = 0.25 * z,
                                                        .mean_hu = -z,
                                                        .tiny = z % 2,
                                                        .period = z % 4};
            r->lesion[i] = (uint16_t)id++;
        }
    if (!r->lesion_rows) r->row.lesion_count = 0;
}

/* Everything in the row differs from every other field, so that swapped columns show. */
static study_result result_of(const char *path, int slices, int rows, int cols)
{
    study_result r = {0};
    study_row_init(&r.row);
    snprintf(r.row.id, sizeof r.row.id, "id-%s", path);
    snprintf(r.row.path, sizeof r.row.path, "%s", path);
    strcpy(r.row.format, "nifti1");
    r.row.rows = rows;
    r.row.cols = cols;
    r.row.slices = slices;
    for (int k = 0; k < 3; k++) r.row.spacing_mm[k] = 0.5 + k;
    for (int k = 0; k < 16; k++) r.row.affine[k] = k - 7.25;
    for (size_t k = 0; k < sizeof r.row.native; k++) r.row.native[k] = (uint8_t)(k * 3);
    memset(r.row.input_sha256, 'a', 64);
    r.row.lung_ml = 4000.5;
    r.row.lung_right_ml = 2100.25;
    r.row.lung_left_ml = 1900.25;
    r.row.lesion_ml = 60.75;
    r.row.lesion_right_ml = 40.5;
    r.row.lesion_left_ml = 20.25;
    r.row.involvement_percent = 1.5;
    r.row.lesion_count = 2;
    r.row.tiny_count = 1;
    r.row.period = 2;
    for (int k = 0; k < STUDY_PERIODS; k++) r.row.period_probability[k] = 0.1 * (k + 1);
    r.row.suspicion = 0.875;
    r.row.qc_flags = 5;
    r.row.rank = 3;
    r.slice_count = slices;
    r.slices = calloc((size_t)slices, sizeof *r.slices);
    r.lung = calloc((size_t)slices * (size_t)rows, (size_t)cols);
    for (int z = 0; z < slices; z++) {
        for (int k = 0; k < rows * cols; k++) {
            uint8_t v = (uint8_t)((z + k / 7) % 5 > 2 ? 1 + (k & 1) : 0);
            r.lung[(size_t)z * (size_t)(rows * cols) + (size_t)k] = v;
            r.slices[z].lung_px += v != 0;
        }
        r.slices[z].z = z;
        r.slices[z].position_mm = 2.5 * z - 100;
        for (int k = 0; k < STUDY_PERIODS; k++) r.slices[z].period_probability[k] = z + 0.25 * k;
    }
    add_lesions(&r);
    return r;
}

static void a_part_gives_back_exactly_what_was_written(void **state)
{
    (void)state;
    char parts[64], file[PATH_MAX];
    parts_folder(parts, "exact/deep/parts");
    part_key key = key_of("a b/\xff\n100%/ct.nii.gz"), back;
    study_result r = result_of("a/ct.nii.gz", 37, 40, 50), got;
    ok(part_write(parts, &key, &r));
    ok(part_name(parts, &key, file, sizeof file));
    ok(part_read(file, &back, &got));
    assert_memory_equal(&back, &key, sizeof key);
    assert_memory_equal(&got.row, &r.row, sizeof r.row);
    assert_int_equal(got.slice_count, 37);
    for (int z = 0; z < 37; z++) {
        assert_int_equal(got.slices[z].z, z);
        assert_true(got.slices[z].position_mm == r.slices[z].position_mm);
        assert_int_equal(got.slices[z].lung_px, r.slices[z].lung_px);
        assert_int_equal(got.slices[z].lesion_px, r.slices[z].lesion_px);
        assert_memory_equal(got.slices[z].period_probability, r.slices[z].period_probability,
                            STUDY_PERIODS * sizeof(double));
    }
    assert_memory_equal(got.lung, r.lung, 37 * 40 * 50);
    assert_memory_equal(got.lesion, r.lesion, 37 * 40 * 50 * sizeof *r.lesion);
    assert_int_equal(got.lesion_rows, 74);
    assert_memory_equal(got.lesions, r.lesions, 74 * sizeof *r.lesions);
    study_result_free(&got);
    study_result_free(&r);
}

static void a_large_mask_can_be_read_piecewise_across_chunks(void **state)
{
    (void)state;
    char parts[64], file[PATH_MAX];
    parts_folder(parts, "pieces");
    part_key key = key_of("x");
    study_result r = result_of("x", 19, 512, 512);
    uint8_t *piece = malloc(7 * 512 * 512);
    part *p = NULL;
    assert_int_equal(part_chunk_slices(512, 512), 16);
    assert_int_equal(part_chunk_slices(4096, 4096), 1);
    ok(part_write(parts, &key, &r));
    ok(part_name(parts, &key, file, sizeof file));
    ok(part_open(file, 1, &p));
    ok(part_mask(p, STUDY_LUNG, 12, 7, piece));
    assert_memory_equal(piece, r.lung + (size_t)12 * 512 * 512, 7 * 512 * 512);
    assert_int_equal(part_mask(p, STUDY_LUNG, 13, 7, piece), COV_BROKEN);
    assert_int_equal(part_mask(p, STUDY_LUNG, -1, 1, piece), COV_BROKEN);
    uint16_t *labels = malloc(2 * 512 * 512 * sizeof *labels);
    ok(part_mask(p, STUDY_LESION, 15, 2, labels));
    assert_memory_equal(labels, r.lesion + (size_t)15 * 512 * 512, 2 * 512 * 512 * sizeof *labels);
    assert_int_equal(part_mask(p, STUDY_LESION, 18, 2, labels), COV_BROKEN);
    free(labels);
    part_close(&p);
    assert_null(p);
    free(piece);
    study_result_free(&r);
}

static void a_skipped_study_is_a_part_without_slices_or_mask(void **state)
{
    (void)state;
    char parts[64], file[PATH_MAX];
    parts_folder(parts, "skipped");
    part_key key = key_of("mask.nii.gz");
    part_head head;
    study_result r = {0}, got;
    study_row_init(&r.row);
    strcpy(r.row.path, "mask.nii.gz");
    strcpy(r.row.detail, "values 0 to 3: a label map");
    r.row.status = OUTCOME_SKIPPED;
    r.row.reason = REASON_NOT_CT;
    ok(part_write(parts, &key, &r));
    ok(part_name(parts, &key, file, sizeof file));
    ok(part_check(file, &head));
    assert_int_equal(head.status, OUTCOME_SKIPPED);
    assert_int_equal(head.reason, REASON_NOT_CT);
    assert_int_equal(head.has_lung, 0);
    assert_int_equal(head.has_lesion, 0);
    ok(part_read(file, NULL, &got));
    assert_null(got.lung);
    assert_null(got.lesion);
    assert_int_equal(got.row.lesion_count, -1);
    assert_null(got.slices);
    assert_string_equal(got.row.detail, r.row.detail);
    assert_true(isnan(got.row.lung_ml));
}

static void one_digest_of_the_input_serves_key_and_row(void **state)
{
    (void)state;
    char parts[64], file[PATH_MAX];
    parts_folder(parts, "digest");
    for (int side = 0; side < 2; side++) {
        part_key key = key_of("x"), back;
        study_result r = result_of("x", 1, 4, 4), got;
        (side ? key.input_sha256 : r.row.input_sha256)[0] = 0;
        ok(part_write(parts, &key, &r));
        ok(part_name(parts, &key, file, sizeof file));
        ok(part_read(file, &back, &got));
        assert_int_equal(strlen(back.input_sha256), 64);
        assert_string_equal(back.input_sha256, got.row.input_sha256);
        study_result_free(&got);
        study_result_free(&r);
    }
}

static void contradicting_lesions_are_refused(const char *parts, const part_key *key, study_result *r)
{
    uint16_t *lesion = r->lesion;
    r->lesion = NULL; /* counted, but no mask */
    assert_int_equal(part_write(parts, key, r), COV_BROKEN);
    r->lesion = lesion;
    r->slices[1].lesion_px++;
    assert_int_equal(part_write(parts, key, r), COV_BROKEN);
    r->slices[1].lesion_px--;
    r->lesions[2].area_px++;
    assert_int_equal(part_write(parts, key, r), COV_BROKEN);
    r->lesions[2].area_px--;
    r->lesions[2].z = 2; /* out of order */
    assert_int_equal(part_write(parts, key, r), COV_BROKEN);
    r->lesions[2].z = 1;
    r->row.lesion_count = 1; /* the mask has a lesion 2 */
    assert_int_equal(part_write(parts, key, r), COV_BROKEN);
    r->row.lesion_count = 2;
    for (size_t i = 0; i < 64; i++) {
        if (r->lung[i]) continue;
        for (size_t k = 0; k < 64; k++) /* a lesion outside the lung */
            if (lesion[k] == 1) { lesion[k] = 0; lesion[i] = 1; break; }
        assert_int_equal(part_write(parts, key, r), COV_BROKEN);
        break;
    }
}

static void a_result_that_contradicts_itself_is_refused_and_leaves_nothing(void **state)
{
    (void)state;
    char parts[64];
    parts_folder(parts, "contradiction");
    part_key key = key_of("x");
    study_result r = result_of("x", 3, 8, 8);
    r.row.reason = REASON_NOT_CT; /* of a study that is done */
    assert_int_equal(part_write(parts, &key, &r), COV_BROKEN);
    r.row.reason = REASON_NONE;
    r.slice_count = 2;
    assert_int_equal(part_write(parts, &key, &r), COV_BROKEN);
    r.slice_count = 3;
    r.slices[1].lung_px++;
    assert_int_equal(part_write(parts, &key, &r), COV_BROKEN);
    r.slices[1].lung_px--;
    r.lung[17] = 3;
    assert_int_equal(part_write(parts, &key, &r), COV_BROKEN);
    r.lung[17] = 2;
    contradicting_lesions_are_refused(parts, &key, &r);
    r.row.input_sha256[0] = 'b';
    assert_int_equal(part_write(parts, &key, &r), COV_BROKEN);
    r.row.input_sha256[0] = 'a';
    key.path[0] = 0;
    assert_int_equal(part_write(parts, &key, &r), COV_BROKEN);
    part_list list;
    ok(part_scan(parts, &list));
    assert_int_equal(list.count + list.damaged + list.temporary, 0);
    study_result_free(&r);
}

static void size_and_time_decide_whether_a_part_is_kept_and_the_digest_where_they_differ(void **state)
{
    (void)state;
    part_key have = key_of("x"), want = key_of("x");
    want.input_sha256[0] = 0;
    assert_true(part_key_matches(&have, &want, 0));  /* not read: size and time agree */
    assert_false(part_key_matches(&have, &want, 1)); /* asked to verify, nothing to verify with */
    want.mtime_ns++;
    assert_false(part_key_matches(&have, &want, 0));
    memset(want.input_sha256, 'a', 64);
    assert_true(part_key_matches(&have, &want, 0)); /* touched, content the same */
    assert_true(part_key_matches(&have, &want, 1));
    want.input_sha256[5] = 'b';
    want.mtime_ns = have.mtime_ns;
    assert_false(part_key_matches(&have, &want, 1)); /* same size and time, other content */
    have.input_sha256[0] = want.input_sha256[0] = 0;
    want.size++;
    assert_false(part_key_matches(&have, &want, 0)); /* two unknown digests are not equal inputs */
}

static void every_other_field_of_the_key_counts(void **state)
{
    (void)state;
    for (int field = 0; field < 7; field++) {
        part_key have = key_of("x"), want = key_of("x");
        char *const fields[] = {want.path,      want.unit,    want.weights_sha256, want.options_sha256,
                                want.precision, want.backend, want.version};
        fields[field][0]++;
        assert_false(part_key_matches(&have, &want, 0));
    }
}

static unsigned char *slurp(const char *file, size_t *n)
{
    struct stat about;
    int fd = open(file, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &about) == 0);
    unsigned char *bytes = malloc((size_t)about.st_size);
    assert_int_equal(read(fd, bytes, (size_t)about.st_size), about.st_size);
    close(fd);
    *n = (size_t)about.st_size;
    return bytes;
}

static void spill(const char *file, const unsigned char *bytes, size_t n)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), (ssize_t)n);
    close(fd);
}

static void any_flipped_or_missing_or_added_byte_is_refused(void **state)
{
    (void)state;
    char parts[64], file[PATH_MAX];
    parts_folder(parts, "damage");
    part_key key = key_of("x");
    study_result r = result_of("x", 3, 16, 16), got;
    ok(part_write(parts, &key, &r));
    ok(part_name(parts, &key, file, sizeof file));
    size_t n;
    unsigned char *bytes = slurp(file, &n);
    for (size_t at = 0; at < n; at += at < 800 ? 1 : 997) {
        bytes[at] ^= 1;
        spill(file, bytes, n);
        bytes[at] ^= 1;
        assert_int_equal(part_read(file, NULL, &got), COV_FORMAT);
        assert_null(got.lung);
        assert_int_equal(part_verify(file), COV_FORMAT);
    }
    for (size_t cut = 0; cut < n; cut += 499) {
        spill(file, bytes, cut);
        assert_int_equal(part_read(file, NULL, &got), COV_FORMAT);
    }
    bytes = realloc(bytes, n + 1);
    bytes[n] = 0;
    spill(file, bytes, n + 1);
    assert_int_equal(part_read(file, NULL, &got), COV_FORMAT);
    spill(file, bytes, n);
    ok(part_read(file, NULL, &got));
    study_result_free(&got);
    study_result_free(&r);
    free(bytes);
}

static void a_scan_lists_parts_in_order_and_counts_the_rest(void **state)
{
    (void)state;
    char parts[64], file[PATH_MAX], other[PATH_MAX + 32];
    part_list list;
    parts_folder(parts, "scan");
    ok(part_scan(parts, &list));
    assert_int_equal(list.count, 0);
    const char *const paths[] = {"b/2", "a", "c", "b/10", "\xc3\xa9"};
    for (int k = 0; k < 5; k++) {
        part_key key = key_of(paths[k]);
        study_result r = result_of(paths[k], k + 1, 8, 8);
        ok(part_write(parts, &key, &r));
        ok(part_write(parts, &key, &r)); /* again: replaces */
        study_result_free(&r);
    }
    part_key key = key_of("c");
    ok(part_name(parts, &key, file, sizeof file));
    spill(file, (const unsigned char *)"half", 4);
    snprintf(other, sizeof other, "%s.tmp-12345", file);
    spill(other, (const unsigned char *)"x", 1);
    snprintf(other, sizeof other, "%s.damaged", file);
    spill(other, (const unsigned char *)"x", 1);
    ok(part_scan(parts, &list));
    assert_int_equal(list.count, 4);
    assert_int_equal(list.damaged, 1);
    assert_int_equal(list.temporary, 1);
    const char *const sorted[] = {"a", "b/10", "b/2", "\xc3\xa9"};
    const int slices[] = {2, 4, 1, 5};
    for (int k = 0; k < 4; k++) {
        assert_string_equal(list.entries[k].head.key.path, sorted[k]);
        assert_int_equal(list.entries[k].head.slices, slices[k]);
        ok(part_verify(list.entries[k].file));
    }
    part_list_free(&list);
    ok(part_sweep(parts));
    ok(part_scan(parts, &list));
    assert_int_equal(list.temporary, 0);
    assert_int_equal(list.count, 4);
    part_list_free(&list);
}

static void a_part_under_the_name_of_another_is_damaged(void **state)
{
    (void)state;
    char parts[64], file[PATH_MAX], other[PATH_MAX], command[2 * PATH_MAX + 16];
    part_list list;
    parts_folder(parts, "swapped");
    part_key a = key_of("a"), b = key_of("b");
    study_result r = result_of("a", 1, 8, 8);
    ok(part_write(parts, &a, &r));
    ok(part_write(parts, &b, &r));
    ok(part_name(parts, &a, file, sizeof file));
    ok(part_name(parts, &b, other, sizeof other));
    snprintf(command, sizeof command, "cp %s %s", file, other);
    assert_int_equal(system(command), 0);
    ok(part_scan(parts, &list));
    assert_int_equal(list.count, 1);
    assert_int_equal(list.damaged, 1);
    part_list_free(&list);
    study_result_free(&r);
}

static void pieces_come_back_are_checked_and_are_no_parts(void **state)
{
    (void)state;
    char parts[64], where[PATH_MAX], file[PATH_MAX];
    parts_folder(parts, "steps");
    part_key key = key_of("x");
    part_list list;
    void *bytes = NULL;
    size_t n = 0;
    strcpy(key.unit, "range-0-16");
    ok(part_piece_write(parts, &key, "abc\0def", 7));
    ok(part_piece_read(parts, &key, &bytes, &n));
    assert_int_equal(n, 7);
    assert_memory_equal(bytes, "abc\0def", 7);
    free(bytes);
    ok(part_scan(parts, &list));
    assert_int_equal(list.count + list.damaged + list.temporary, 0);
    ok(part_pieces(parts, where, sizeof where));
    ok(part_name(where, &key, file, sizeof file));
    spill(file, (const unsigned char *)"short", 5);
    assert_int_equal(part_piece_read(parts, &key, &bytes, &n), COV_FORMAT);
    ok(part_piece_write(parts, &key, "abc", 3));
    unsigned char *raw = slurp(file, &n);
    raw[n - 1] ^= 1;
    spill(file, raw, n);
    free(raw);
    assert_int_equal(part_piece_read(parts, &key, &bytes, &n), COV_FORMAT);
    assert_null(bytes);
    part_piece_remove(parts, &key);
    assert_int_equal(part_piece_read(parts, &key, &bytes, &n), COV_IO);
    ok(part_piece_write(parts, &key, "", 0));
    part_piece_remove(parts, NULL);
    assert_int_equal(part_piece_read(parts, &key, &bytes, &n), COV_IO);
    part_piece_remove("/nowhere", NULL);
}

static void a_kill_at_any_moment_leaves_the_old_part_or_the_new_one(void **state)
{
    (void)state;
    char parts[64], file[PATH_MAX];
    parts_folder(parts, "kill");
    part_key key = key_of("x");
    study_result old = result_of("x", 2, 64, 64), new = result_of("x", 40, 256, 256), got;
    ok(part_name(parts, &key, file, sizeof file));
    ok(part_write(parts, &key, &old));
    int found_old = 0, found_new = 0;
    for (int round = 0; round < 30 || (round < 200 && !found_new); round++) {
        ok(part_write(parts, &key, &old));
        pid_t child = fork();
        if (child == 0) {
            for (;;) part_write(parts, &key, &new);
        }
        usleep((useconds_t)(round * round * 100));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        ok(part_read(file, NULL, &got));
        assert_true(got.slice_count == 2 || got.slice_count == 40);
        const study_result *same = got.slice_count == 2 ? &old : &new;
        assert_memory_equal(got.lung, same->lung,
                            (size_t)same->row.slices * (size_t)same->row.rows * (size_t)same->row.cols);
        found_old += got.slice_count == 2;
        found_new += got.slice_count == 40;
        study_result_free(&got);
    }
    assert_true(found_old > 0 && found_new > 0);
    ok(part_sweep(parts));
    study_result_free(&old);
    study_result_free(&new);
}

/* The lung mask of a part replaced, and the part signed again. `layout`: of the new one; unfilled: none of its chunks is there. */
static void replace_lung(const char *file, const h5_layout *layout, int filled)
{
    char name[64], hex[SHA256_HEX];
    hid_t root = H5I_INVALID_HID, dataset = H5I_INVALID_HID;
    size_t n, voxels = (size_t)(layout->dims[0] * layout->dims[1] * layout->dims[2]);
    uint8_t *zeros = calloc(voxels, 1);
    snprintf(name, sizeof name, "mask/%dx%d/lung", (int)layout->dims[1], (int)layout->dims[2]);
    ok(h5_open_file(file, H5F_ACC_RDWR, &root));
    assert_true(H5Ldelete(root, name, H5P_DEFAULT) >= 0);
    ok(h5_create_dataset(root, file, name, H5T_STD_U8LE, layout, &dataset));
    if (filled) ok(h5_rows_write(dataset, file, name, H5T_STD_U8LE, 0, layout->dims[0], zeros, H5P_DEFAULT));
    h5_close(&dataset);
    h5_close(&root);
    unsigned char *bytes = slurp(file, &n);
    const size_t first = (size_t)((unsigned char *)memchr(bytes, '\n', n) - bytes) + 1;
    ok(sha256_bytes(bytes + first, n - first, hex));
    memcpy(bytes + first - 1 - 64, hex, 64);
    spill(file, bytes, n);
    free(bytes);
    free(zeros);
}

static void a_mask_that_is_not_packed_as_parts_are_is_refused(void **state)
{
    (void)state;
    const h5_layout right = {.rank = 3, .dims = {70, 13, 17}, .chunk = {32, 13, 17}, .deflate = 3};
    h5_layout wrong[6] = {right, right, right, right, right, right};
    char parts[64], file[PATH_MAX];
    unsigned char *packed = malloc(part_chunk_room(13, 17, STUDY_LUNG));
    uint8_t *mask = malloc(70 * 13 * 17);
    wrong[0].chunk[0] = 16;
    wrong[1].deflate = 0;
    wrong[2].shuffle = 1;
    wrong[3].fletcher32 = 1;
    wrong[4].dims[0] = 71;
    parts_folder(parts, "packing");
    for (int k = -1; k < 6; k++) {
        part_key key = key_of("x");
        study_result r = result_of("x", 70, 13, 17);
        part *p = NULL;
        size_t count;
        ok(part_write(parts, &key, &r));
        ok(part_name(parts, &key, file, sizeof file));
        replace_lung(file, k < 0 ? &right : &wrong[k], k != 5); /* the last: as it should be, but empty */
        ok(part_open(file, 1, &p));
        assert_int_equal(part_chunk(p, STUDY_LUNG, 1, packed, &count), k < 0 ? COV_OK : COV_FORMAT);
        assert_int_equal(part_mask(p, STUDY_LUNG, 0, 70, mask), k < 0 ? COV_OK : COV_FORMAT);
        part_close(&p);
        study_result_free(&r);
    }
    free(mask);
    free(packed);
}

/* Lung, and so lesions, in the first chunk alone. */
static void empty_later_chunks(study_result *r)
{
    int64_t plane = (int64_t)r->row.rows * r->row.cols, deep = part_chunk_slices(r->row.rows, r->row.cols);
    memset(r->lung + deep * plane, 0, (size_t)((r->row.slices - deep) * plane));
    for (int64_t z = 0; z < r->row.slices; z++) {
        r->slices[z].lesion_px = 0;
        if (z >= deep) r->slices[z].lung_px = 0;
    }
    free(r->lesion);
    free(r->lesions);
    r->lesion_rows = 0;
    add_lesions(r);
}

static void threads_change_no_byte_of_a_part_and_its_empty_chunks_are_read_as_such(void **state)
{
    (void)state;
    static const int sizes[][3] = {{1, 1, 1}, {70, 13, 17}, {97, 31, 5}, {131, 3, 7}};
    char parts[64], file[PATH_MAX], alone[SHA256_HEX], hex[SHA256_HEX];
    parts_folder(parts, "threads");
    for (size_t k = 0; k < 2 * sizeof sizes / sizeof sizes[0]; k++) {
        const int *n = sizes[k / 2];
        part_key key = key_of("x");
        study_result r = result_of("x", n[0], n[1], n[2]), got;
        if (k % 2 && n[0] > 1) empty_later_chunks(&r);
        for (int threads = 0; threads < 6; threads++) {
            r.threads = threads;
            ok(part_write(parts, &key, &r));
            ok(part_name(parts, &key, file, sizeof file));
            ok(sha256_file(file, threads ? hex : alone));
            if (threads) assert_string_equal(hex, alone);
        }
        ok(part_read(file, NULL, &got));
        size_t voxels = (size_t)n[0] * (size_t)n[1] * (size_t)n[2];
        assert_memory_equal(got.lung, r.lung, voxels);
        assert_memory_equal(got.lesion, r.lesion, voxels * sizeof *r.lesion);
        study_result_free(&got);
        study_result_free(&r);
    }
}

/* chunks_seal against the library: the last four bytes that HDF5's own filter puts behind a chunk. */
static void the_checksum_of_a_packed_chunk_is_hdf5s_own(void **state)
{
    (void)state;
    char parts[64], file[PATH_MAX];
    static const hsize_t sizes[] = {1, 2, 3, 719, 720, 721, 1440, 100003};
    parts_folder(parts, "checksum");
    snprintf(file, sizeof file, "%s.h5", parts);
    hid_t root = H5I_INVALID_HID;
    ok(h5_create_file(file, 0, &root));
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        hsize_t n = sizes[k];
        h5_layout layout = {.rank = 3, .dims = {1, 1, n}, .chunk = {1, 1, n}, .fletcher32 = 1};
        unsigned char *bytes = malloc(n), *have = malloc(n + 4);
        char name[8];
        hid_t dataset = H5I_INVALID_HID;
        uint32_t skipped;
        snprintf(name, sizeof name, "d%zu", k);
        for (hsize_t i = 0; i < n; i++) bytes[i] = (unsigned char)(k % 2 ? 255 : i * 131 >> 3); /* 255: sums that have to be folded */
        ok(h5_create_dataset(root, file, name, H5T_STD_U8LE, &layout, &dataset));
        ok(h5_rows_write(dataset, file, name, H5T_STD_U8LE, 0, 1, bytes, H5P_DEFAULT));
        assert_true(H5Dflush(dataset) >= 0);
        assert_true(H5Dread_chunk(dataset, H5P_DEFAULT, (const hsize_t[]){0, 0, 0}, &skipped, have) >= 0);
        bytes = realloc(bytes, n + 4);
        assert_int_equal(chunks_seal(bytes, n), n + 4);
        assert_memory_equal(bytes, have, n + 4);
        h5_close(&dataset);
        free(have);
        free(bytes);
    }
    h5_close(&root);
}

/* Handed on as they are packed, chunks are the mask once more: with HDF5 unpacking them out of another file. */
static void a_parts_chunks_are_its_masks_packed(void **state)
{
    (void)state;
    static const int sizes[][3] = {{1, 1, 1}, {70, 13, 17}, {19, 512, 512}};
    char parts[64], file[PATH_MAX], other[PATH_MAX];
    parts_folder(parts, "packed");
    snprintf(other, sizeof other, "%s.h5", parts);
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof sizes[0]; i++) {
        const int *n = sizes[i / 2];
        study_mask m = i % 2 ? STUDY_LESION : STUDY_LUNG;
        int64_t deep = part_chunk_slices(n[1], n[2]), chunks = (n[0] + deep - 1) / deep;
        h5_layout layout = {.rank = 3, .dims = {(hsize_t)(chunks * deep + deep), (hsize_t)n[1], (hsize_t)n[2]},
                            .chunk = {(hsize_t)deep, (hsize_t)n[1], (hsize_t)n[2]}, .deflate = 1, .shuffle = m == STUDY_LESION, .fletcher32 = 1};
        part_key key = key_of("x");
        study_result r = result_of("x", n[0], n[1], n[2]);
        size_t whole = (size_t)(deep * n[1] * n[2]) * (m + 1), count, bytes = (size_t)n[0] * (size_t)n[1] * (size_t)n[2] * (m + 1);
        unsigned char *packed = malloc(part_chunk_room(n[1], n[2], m)), *have = malloc((size_t)(chunks + 1) * whole);
        hid_t root = H5I_INVALID_HID, dataset = H5I_INVALID_HID, type = m == STUDY_LESION ? H5T_STD_U16LE : H5T_STD_U8LE;
        part *p = NULL;
        ok(part_write(parts, &key, &r));
        ok(part_name(parts, &key, file, sizeof file));
        ok(h5_create_file(other, 0, &root));
        ok(h5_create_dataset(root, other, "mask", type, &layout, &dataset));
        ok(part_open(file, 1, &p));
        for (int64_t k = 0; k < chunks; k++) {
            ok(part_chunk(p, m, k, packed, &count));
            ok(chunks_put(dataset, other, "mask", (hsize_t)(k * deep), packed, count));
        }
        assert_int_equal(part_chunk(p, m, chunks, packed, &count), COV_BROKEN);
        ok(part_chunk_empty(n[1], n[2], m, packed, &count));
        ok(chunks_put(dataset, other, "mask", (hsize_t)(chunks * deep), packed, count));
        part_close(&p);
        ok(h5_rows_read(dataset, other, "mask", type, 0, layout.dims[0], have));
        assert_memory_equal(have, m == STUDY_LESION ? (void *)r.lesion : (void *)r.lung, bytes);
        for (size_t b = bytes; b < (size_t)(chunks + 1) * whole; b++) assert_int_equal(have[b], 0);
        packed[count / 2] ^= 1; /* a chunk that was damaged on its way is not read */
        ok(chunks_put(dataset, other, "mask", 0, packed, count));
        assert_int_equal(h5_rows_read(dataset, other, "mask", type, 0, 1, have), COV_FORMAT);
        h5_close(&dataset);
        h5_close(&root);
        free(have);
        free(packed);
        study_result_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_gives_back_exactly_what_was_written),
        cmocka_unit_test(a_large_mask_can_be_read_piecewise_across_chunks),
        cmocka_unit_test(the_checksum_of_a_packed_chunk_is_hdf5s_own),
        cmocka_unit_test(a_parts_chunks_are_its_masks_packed),
        cmocka_unit_test(a_mask_that_is_not_packed_as_parts_are_is_refused),
        cmocka_unit_test(a_skipped_study_is_a_part_without_slices_or_mask),
        cmocka_unit_test(one_digest_of_the_input_serves_key_and_row),
        cmocka_unit_test(a_result_that_contradicts_itself_is_refused_and_leaves_nothing),
        cmocka_unit_test(size_and_time_decide_whether_a_part_is_kept_and_the_digest_where_they_differ),
        cmocka_unit_test(every_other_field_of_the_key_counts),
        cmocka_unit_test(any_flipped_or_missing_or_added_byte_is_refused),
        cmocka_unit_test(a_scan_lists_parts_in_order_and_counts_the_rest),
        cmocka_unit_test(a_part_under_the_name_of_another_is_damaged),
        cmocka_unit_test(pieces_come_back_are_checked_and_are_no_parts),
        cmocka_unit_test(a_kill_at_any_moment_leaves_the_old_part_or_the_new_one),
        cmocka_unit_test(threads_change_no_byte_of_a_part_and_its_empty_chunks_are_read_as_such),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
