/* gather: what ranks write together is what the parts hold, whatever the number of ranks, and a failure on one rank is
 * returned by all. Run at 1, 2, 3 and 5 ranks. Checks count failures and go on, so that no rank waits for another that
 * has left; rank 0 prints. */
#include "data/cohort.h"

#include "data/h5.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Study BIG does not fit in two batches of 4 MiB, packed; TALL has more chunks than are unpacked when the file is read back. */
enum { STUDIES = 29, BIG = 10, TALL = 13, RANDOM_SLICES = 80 };

static int rank, failures;
static char folder[64] = "/tmp/covpipe-cohort-XXXXXX", parts_folder[80], out_world[96], out_alone[96];
static char files[STUDIES][PATH_MAX];

static void check_at(int good, const char *what, int line)
{
    if (good) return;
    failures++;
    fprintf(stderr, "rank %d, line %d: %s; last message: %s (%s)\n", rank, line, what, status_message(),
            status_trace());
}
#define CHECK(condition) check_at((condition) != 0, #condition, __LINE__)
#define OK(call) check_at((call) == COV_OK, #call, __LINE__)

/* Study k: sizes, outcomes and duplicates of every kind, the same on every rank without talking. */
static void add_lesions(study_result *r, int k);

/* 0, 1 or 2, which deflate finds no order in. */
static uint8_t random_label(size_t i)
{
    uint64_t h = (i + 1) * 0x9e3779b97f4a7c15u;
    return (uint8_t)(((h ^ h >> 29) * 0xbf58476d1ce4e5b9u >> 40) % 3);
}

static study_result study(int k)
{
    study_result r = {0};
    study_row_init(&r.row);
    snprintf(r.row.id, sizeof r.row.id, "study-%02d", k);
    snprintf(r.row.path, sizeof r.row.path, "site/%02d/ct.nii.gz", k);
    strcpy(r.row.format, "nifti1");
    snprintf(r.row.input_sha256, sizeof r.row.input_sha256, "%064d", k % 10 == 7 ? 7 : k);
    r.row.rank = k % 3;
    r.row.seconds_total = 0.5 * k;
    if (k % 6 == 5) {
        r.row.reason = k % 12 == 5 ? REASON_NOT_CT : REASON_TRUNCATED;
        r.row.status = (int32_t)reason_outcome((reason)r.row.reason);
        snprintf(r.row.detail, sizeof r.row.detail, "study %d: \xc3\xa9", k);
        if (k % 12 != 5) memset(r.row.input_sha256, 0, sizeof r.row.input_sha256);
        return r;
    }
    r.row.rows = k == TALL ? 16 : k == BIG || k % 4 == 0 ? 512 : 64;
    r.row.cols = k == TALL ? 12 : k == BIG || k % 4 == 0 ? 512 : 48 + k % 2;
    r.row.slices = k == BIG ? 120 : k == TALL ? 9000 : 1 + k % 21;
    r.row.lung_ml = 100.25 * k;
    r.row.qc_flags = k;
    for (int i = 0; i < 16; i++) r.row.affine[i] = i + 0.5 * k;
    r.slice_count = r.row.slices;
    size_t plane = (size_t)r.row.rows * (size_t)r.row.cols;
    r.slices = calloc((size_t)r.row.slices, sizeof *r.slices);
    r.lung = calloc((size_t)r.row.slices, plane);
    for (int z = 0; z < r.row.slices; z++) {
        r.slices[z].z = z;
        r.slices[z].position_mm = 2.5 * z - k;
        for (size_t i = 0; i < plane; i++) {
            uint8_t v = k == BIG && z < RANDOM_SLICES ? random_label((size_t)z * plane + i) : (uint8_t)((i / 97 + (size_t)z * 3 + (size_t)k) % 5 > 2 ? 1 + (i + (size_t)k) % 2 : 0);
            r.lung[(size_t)z * plane + i] = v;
            r.slices[z].lung_px += v != 0;
        }
        for (int p = 0; p < STUDY_PERIODS; p++) r.slices[z].period_probability[p] = 0.125 * p + z;
    }
    add_lesions(&r, k);
    return r;
}

/* A new row wherever the label of neighbouring lung pixels changes; some studies have none, and of every seventh none
 * were looked for, beside others of the same size. */
static void add_lesions(study_result *r, int k)
{
    int64_t plane = (int64_t)r->row.rows * r->row.cols;
    if (k % 7 == 3) return;
    r->lesion = calloc((size_t)(r->row.slices * plane), sizeof *r->lesion);
    r->lesions = calloc(3 * (size_t)r->row.slices, sizeof *r->lesions);
    r->row.lesion_count = k % 7 == 2 ? 0 : 3;
    r->row.tiny_count = k % 3;
    r->row.lesion_ml = 0.5 * k;
    for (int32_t z = 0; r->row.lesion_count && z < r->row.slices; z++)
        for (int32_t id = 1; id <= 3; id++) {
            lesion_row l = {
                .z = z, .lesion_id = id, .box_yxyx = {id, z, 40, 41}, .score = 0.25 * id, .mean_hu = -z, .period = id};
            for (int64_t i = z * plane; i < (z + 1) * plane; i++) {
                if (!r->lung[i] || i % 11 != id) continue;
                r->lesion[i] = (uint16_t)id;
                l.area_px++;
            }
            r->slices[z].lesion_px += l.area_px;
            r->lesions[r->lesion_rows++] = l;
        }
}

static void write_parts(void)
{
    for (int k = 0; k < STUDIES; k++) {
        part_key key;
        part_key_init(&key);
        snprintf(key.path, sizeof key.path, "site/%02d/ct.nii.gz", k);
        OK(part_name(parts_folder, &key, files[k], sizeof files[k]));
        if (rank != 0) continue;
        study_result r = study(k);
        OK(part_write(parts_folder, &key, &r));
        study_result_free(&r);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

typedef struct watched {
    int64_t calls, last, total;
} watched;

static void watch(void *context, int64_t done, int64_t total)
{
    watched *w = context;
    CHECK(done >= w->last && done <= total);
    w->calls++;
    w->last = done;
    w->total = total;
}

typedef struct inputs {
    const char *parts[STUDIES], *sites[STUDIES], *dates[STUDIES];
    cohort_extra extras[2];
    cohort_attribute attributes[2];
    cohort_source source;
} inputs;

static void fill_inputs(inputs *in)
{
    static char dates[STUDIES][16];
    *in = (inputs){.attributes = {{"command_line", "covpipe --archive a"}, {"history", "\xc3\xa4"}}};
    for (int k = 0; k < STUDIES; k++) {
        snprintf(dates[k], sizeof dates[k], "2020-03-%02d", k % 28 + 1);
        in->parts[k] = files[k];
        in->sites[k] = k % 3 ? "north" : NULL;
        in->dates[k] = dates[k];
    }
    in->extras[0] = (cohort_extra){"site", "from a table", in->sites};
    in->extras[1] = (cohort_extra){"date", "from a table", in->dates};
    in->source = (cohort_source){.count = STUDIES,
                                 .parts = in->parts,
                                 .attribute_count = 2,
                                 .attributes = in->attributes,
                                 .extra_count = 2,
                                 .extras = in->extras,
                                 .complete = 1};
}

typedef struct walk {
    const study_result *want;
    int64_t deep, chunks, last;
} walk;

static status compare_chunk(void *context, int64_t z0, int64_t count, const void *slices)
{
    walk *w = context;
    int64_t plane = (int64_t)w->want->row.rows * w->want->row.cols, left = w->want->row.slices - z0;
    CHECK(z0 % w->deep == 0 && count == (left < w->deep ? left : w->deep));
    CHECK(memcmp(slices, w->want->lung + z0 * plane, (size_t)(count * plane)) == 0);
    w->chunks++;
    w->last = z0;
    return w->chunks == 4 ? COV_FAIL(COV_STOPPED, "enough") : COV_OK;
}

/* Chunks 1, 3, 5 and 7 of a mask, and then the caller had enough. */
static void compare_walk(cohort *c, int k, const study_result *want)
{
    walk w = {.want = want, .deep = part_chunk_slices(want->row.rows, want->row.cols)};
    int64_t chunks = (want->row.slices + w.deep - 1) / w.deep, expected = chunks / 2 < 4 ? chunks / 2 : 4;
    CHECK(cohort_walk_mask(c, k, STUDY_LUNG, 1, 2, compare_chunk, &w) == (expected == 4 ? COV_STOPPED : COV_OK));
    CHECK(w.chunks == expected && w.last == (expected ? (2 * expected - 1) * w.deep : 0));
}

static void compare_study(cohort *c, int k)
{
    study_result want = study(k);
    study_row row;
    cohort_place place;
    slice_row *slices = NULL;
    uint8_t *lung = NULL;
    uint16_t *lesion = NULL;
    lesion_row *lesions = NULL;
    int64_t count, found;
    OK(cohort_row(c, k, &row));
    CHECK(memcmp(&row, &want.row, sizeof row) == 0);
    OK(cohort_place_of(c, k, &place));
    CHECK(place.duplicate_of == (k % 10 == 7 && k > 7 && row.input_sha256[0] ? 7 : -1));
    OK(cohort_slices(c, k, &slices, &count));
    CHECK(count == want.slice_count);
    for (int64_t z = 0; z < count && z < want.slice_count; z++)
        CHECK(slices[z].z == want.slices[z].z && slices[z].lung_px == want.slices[z].lung_px &&
              slices[z].lesion_px == want.slices[z].lesion_px && slices[z].study == k &&
              slices[z].period_probability[3] == want.slices[z].period_probability[3] &&
              slices[z].position_mm == want.slices[z].position_mm);
    OK(cohort_lesions(c, k, &lesions, &count));
    CHECK(count == want.lesion_rows && place.lesion_rows == count && (place.lesion_row0 >= 0) == (count > 0));
    for (int64_t i = 0; i < count && i < want.lesion_rows; i++) {
        want.lesions[i].study = k;
        CHECK(memcmp(&lesions[i], &want.lesions[i], sizeof lesions[i]) == 0);
    }
    if (want.lesion) {
        OK(cohort_lesion(c, k, &lesion));
        CHECK(lesion && memcmp(lesion, want.lesion,
                               (size_t)row.slices * (size_t)row.rows * (size_t)row.cols * sizeof *lesion) == 0);
    } else CHECK(cohort_lesion(c, k, &lesion) == COV_USAGE);
    if (want.lung) {
        OK(cohort_lung(c, k, &lung));
        CHECK(lung && memcmp(lung, want.lung, (size_t)row.slices * (size_t)row.rows * (size_t)row.cols) == 0);
        CHECK(place.mask_row0 % part_chunk_slices(row.rows, row.cols) == 0);
        compare_walk(c, k, &want);
    } else {
        CHECK(cohort_lung(c, k, &lung) == COV_USAGE);
        CHECK(place.mask_row0 == -1 && place.mask_set[0] == 0);
    }
    OK(cohort_find(c, row.id, &found));
    CHECK(found == k);
    free(lesions);
    free(lesion);
    free(slices);
    free(lung);
    study_result_free(&want);
}

static void compare_all(const char *file)
{
    cohort *c = NULL;
    char cell[COHORT_CELL];
    int64_t found;
    OK(cohort_open(file, &c));
    if (!c) return;
    CHECK(cohort_count(c) == STUDIES);
    for (int k = 0; k < STUDIES; k++) compare_study(c, k);
    CHECK(cohort_extra_count(c) == 2 && strcmp(cohort_extra_name(c, 0), "date") == 0);
    OK(cohort_extra_cell(c, 0, 24, cell));
    CHECK(strcmp(cell, "2020-03-25") == 0);
    OK(cohort_extra_cell(c, 1, 24, cell));
    CHECK(strcmp(cell, "") == 0);
    OK(cohort_extra_cell(c, 1, 25, cell));
    CHECK(strcmp(cell, "north") == 0);
    CHECK(strcmp(cohort_attribute_find(c, "Conventions"), "covpipe-cohort-1") == 0);
    CHECK(strcmp(cohort_attribute_find(c, "history"), "\xc3\xa4") == 0);
    CHECK(strcmp(cohort_attribute_find(c, "complete"), "1") == 0);
    OK(cohort_find(c, "site/03/ct.nii.gz", &found));
    CHECK(found == 3);
    CHECK(cohort_find(c, "nobody", &found) == COV_USAGE);
    cohort_close(&c);
}

static void ranks_together_write_what_the_parts_hold(void)
{
    inputs in;
    cohort_totals totals;
    watched w = {0};
    fill_inputs(&in);
    in.source.progress = watch;
    in.source.context = &w;
    OK(cohort_write(MPI_COMM_WORLD, out_world, &in.source, &totals));
    CHECK(totals.studies == STUDIES);
    CHECK(totals.outcome[OUTCOME_DONE] + totals.outcome[OUTCOME_SKIPPED] + totals.outcome[OUTCOME_FAILED] == STUDIES);
    CHECK(totals.reasons[REASON_NOT_CT] == 2 && totals.reasons[REASON_TRUNCATED] == 2);
    CHECK(w.calls > 3 && w.last == w.total && w.total == totals.mask_pixels);
    if (rank == 0) compare_all(out_world);
}

/* Every byte of every dataset, paddings included, by a program that is not ours. */
static void one_rank_alone_writes_the_same_datasets(void)
{
    inputs in;
    char command[512];
    fill_inputs(&in);
    if (rank == 0) {
        OK(cohort_write(MPI_COMM_SELF, out_alone, &in.source, NULL));
        const char *const groups[] = {"/study", "/slice", "/lesion", "/mask"};
        for (int k = 0; k < 4 && system("h5diff --version >/dev/null 2>&1") == 0; k++) {
            snprintf(command, sizeof command, "h5diff %s %s %s %s", out_world, out_alone, groups[k], groups[k]);
            CHECK(system(command) == 0);
        }
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

static void a_cohort_of_nothing_is_a_sound_file(void)
{
    char file[128];
    cohort_source none = {.complete = 1};
    cohort_totals totals;
    snprintf(file, sizeof file, "%s/none.h5", folder);
    OK(cohort_write(MPI_COMM_WORLD, file, &none, &totals));
    CHECK(totals.studies == 0);
    cohort *c = NULL;
    OK(cohort_open(file, &c));
    CHECK(c && cohort_count(c) == 0);
    cohort_close(&c);
    MPI_Barrier(MPI_COMM_WORLD);
}

/* The status of every rank must be the one expected, and their messages the same. */
static void all_ranks_fail(status got, status want)
{
    char mine[512], first[512];
    snprintf(mine, sizeof mine, "%s", status_message());
    memcpy(first, mine, sizeof mine);
    MPI_Bcast(first, sizeof first, MPI_BYTE, 0, MPI_COMM_WORLD);
    CHECK(got == want);
    CHECK(strcmp(mine, first) == 0);
}

static void the_old_file_is_untouched(void)
{
    char temporary[128];
    MPI_Barrier(MPI_COMM_WORLD);
    snprintf(temporary, sizeof temporary, "%s.tmp", out_world);
    CHECK(access(temporary, F_OK) != 0);
    if (rank == 0) compare_all(out_world);
    MPI_Barrier(MPI_COMM_WORLD);
}

static void bad_requests_fail_on_every_rank_and_leave_the_old_file(void)
{
    inputs in;
    fill_inputs(&in);
    in.parts[3] = files[4];
    in.parts[4] = files[3];
    all_ranks_fail(cohort_write(MPI_COMM_WORLD, out_world, &in.source, NULL), COV_USAGE);
    fill_inputs(&in);
    in.parts[15] = files[14]; /* the same study twice, perhaps on two ranks */
    all_ranks_fail(cohort_write(MPI_COMM_WORLD, out_world, &in.source, NULL), COV_USAGE);
    fill_inputs(&in);
    in.parts[STUDIES - 1] = "/nowhere.h5";
    all_ranks_fail(cohort_write(MPI_COMM_WORLD, out_world, &in.source, NULL), COV_IO);
    fill_inputs(&in);
    in.extras[1].name = "lung_ml";
    all_ranks_fail(cohort_write(MPI_COMM_WORLD, out_world, &in.source, NULL), COV_USAGE);
    fill_inputs(&in);
    in.attributes[1].name = "Conventions";
    all_ranks_fail(cohort_write(MPI_COMM_WORLD, out_world, &in.source, NULL), COV_USAGE);
    the_old_file_is_untouched();
}

static void flip(const char *file, long at)
{
    FILE *f = fopen(file, "r+b");
    CHECK(f != NULL);
    if (!f) return;
    fseek(f, at, SEEK_SET);
    int byte = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(byte ^ 4, f);
    fclose(f);
}

static void a_damaged_part_fails_every_rank_and_is_set_aside(void)
{
    inputs in;
    char aside[PATH_MAX + 16];
    const int hit[] = {STUDIES - 2, 2};
    fill_inputs(&in);
    for (int k = 0; k < 2 && rank == 0; k++) flip(files[hit[k]], 5000);
    MPI_Barrier(MPI_COMM_WORLD);
    all_ranks_fail(cohort_write(MPI_COMM_WORLD, out_world, &in.source, NULL), COV_FORMAT);
    CHECK(strstr(status_message(), files[2]) != NULL);
    for (int k = 0; k < 2; k++) {
        snprintf(aside, sizeof aside, "%s.damaged", files[hit[k]]);
        CHECK(access(aside, F_OK) == 0 && access(files[hit[k]], F_OK) != 0);
    }
    the_old_file_is_untouched();
    write_parts();
    OK(cohort_write(MPI_COMM_WORLD, out_world, &in.source, NULL));
    the_old_file_is_untouched();
}

/* Zeros in the place of a part's lung mask, and the part signed again. */
static void blank_lung(const char *file, int rows, int cols, int slices)
{
    char name[64], hex[SHA256_HEX];
    hid_t root = H5I_INVALID_HID, dataset = H5I_INVALID_HID;
    h5_layout layout;
    struct stat about;
    uint8_t *zeros = calloc((size_t)slices, (size_t)(rows * cols));
    snprintf(name, sizeof name, "mask/%dx%d/lung", rows, cols);
    OK(h5_open_file(file, H5F_ACC_RDWR, &root));
    OK(h5_open_dataset(root, file, name, &dataset, &layout));
    OK(h5_rows_write(dataset, file, name, H5T_STD_U8LE, 0, (hsize_t)slices, zeros, H5P_DEFAULT));
    h5_close(&dataset);
    h5_close(&root);
    CHECK(stat(file, &about) == 0);
    size_t n = (size_t)about.st_size;
    char *bytes = malloc(n);
    FILE *f = fopen(file, "r+b");
    CHECK(bytes && f && fread(bytes, 1, n, f) == n);
    if (f && bytes) {
        size_t first = (size_t)((char *)memchr(bytes, '\n', n) - bytes) + 1;
        OK(sha256_bytes(bytes + first, n - first, hex));
        CHECK(fseek(f, (long)first - 1 - 64, SEEK_SET) == 0 && fwrite(hex, 64, 1, f) == 1);
        fclose(f);
    }
    free(bytes);
    free(zeros);
}

static void masks_that_are_not_what_their_rows_say_do_not_replace_the_old_file(void)
{
    inputs in;
    fill_inputs(&in);
    if (rank == 0) blank_lung(files[TALL], 16, 12, 9000);
    MPI_Barrier(MPI_COMM_WORLD);
    all_ranks_fail(cohort_write(MPI_COMM_WORLD, out_world, &in.source, NULL), COV_IO);
    CHECK(strstr(status_message(), "study 13, slice ") && strstr(status_message(), "the lung mask has 0 pixels, its row says"));
    the_old_file_is_untouched();
    write_parts();
}

/* Once all masks are written, flips bytes of the file before it is read back. */
static void spoil(void *context, int64_t done, int64_t total)
{
    struct stat about;
    char temporary[128];
    int *spoilt = context;
    if (rank != 0 || total == 0 || done < total || *spoilt) return;
    snprintf(temporary, sizeof temporary, "%s.tmp", out_world);
    CHECK(stat(temporary, &about) == 0);
    for (int k = 40; k < 90; k++) flip(temporary, (long)(about.st_size / 100 * k)); /* one chunk in two is unpacked */
    *spoilt = 1;
}

static void a_file_that_reads_back_otherwise_does_not_replace_the_old_one(void)
{
    inputs in;
    int spoilt = 0;
    fill_inputs(&in);
    in.source.progress = spoil;
    in.source.context = &spoilt;
    status s = cohort_write(MPI_COMM_WORLD, out_world, &in.source, NULL);
    CHECK(s != COV_OK);
    all_ranks_fail(s, s);
    the_old_file_is_untouched();
}

static void an_unwritable_folder_fails_every_rank(void)
{
    inputs in;
    fill_inputs(&in);
    all_ranks_fail(cohort_write(MPI_COMM_WORLD, "/proc/nowhere/c.h5", &in.source, NULL), COV_IO);
}

/* A limit on the size of files stands for a full disk: the write fails in the middle of a collective call. */
static void a_full_disk_fails_every_rank_and_leaves_the_old_file(void)
{
    inputs in;
    struct rlimit before, tight;
    fill_inputs(&in);
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t kib = 20; kib < 1100; kib *= 3) {
        tight = before;
        tight.rlim_cur = kib << 10;
        setrlimit(RLIMIT_FSIZE, &tight);
        status s = cohort_write(MPI_COMM_WORLD, out_world, &in.source, NULL);
        setrlimit(RLIMIT_FSIZE, &before);
        all_ranks_fail(s, COV_IO);
    }
    the_old_file_is_untouched();
}

int main(int argc, char **argv)
{
    int all = 0;
    /* As the program does: ROMIO returns a failed write on all ranks, where OMPIO leaves them waiting for each other.
     */
    setenv("OMPI_MCA_io", "romio321", 0);
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 0 && !mkdtemp(folder)) MPI_Abort(MPI_COMM_WORLD, 1);
    MPI_Bcast(folder, sizeof folder, MPI_CHAR, 0, MPI_COMM_WORLD);
    snprintf(parts_folder, sizeof parts_folder, "%s/parts", folder);
    snprintf(out_world, sizeof out_world, "%s/world.h5", folder);
    snprintf(out_alone, sizeof out_alone, "%s/alone.h5", folder);
    write_parts();
    ranks_together_write_what_the_parts_hold();
    one_rank_alone_writes_the_same_datasets();
    a_cohort_of_nothing_is_a_sound_file();
    bad_requests_fail_on_every_rank_and_leave_the_old_file();
    a_damaged_part_fails_every_rank_and_is_set_aside();
    masks_that_are_not_what_their_rows_say_do_not_replace_the_old_file();
    a_file_that_reads_back_otherwise_does_not_replace_the_old_one();
    an_unwritable_folder_fails_every_rank();
    a_full_disk_fails_every_rank_and_leaves_the_old_file();
    MPI_Reduce(&failures, &all, 1, MPI_INT, MPI_SUM, 0, MPI_COMM_WORLD);
    MPI_Bcast(&all, 1, MPI_INT, 0, MPI_COMM_WORLD);
    if (rank == 0) {
        char command[128];
        snprintf(command, sizeof command, "rm -rf %s", folder);
        if (!getenv("COVPIPE_KEEP")) CHECK(system(command) == 0);
        printf("data_cohort: %d failures\n", all);
    }
    MPI_Finalize();
    return all ? 1 : 0;
}
