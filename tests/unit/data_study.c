/* study rows, the tables that docs/FORMATS.md promises, and cohort files as one process meets them: killed while they
 * are written, damaged, hostile. Whatever may bring HDF5 down runs in a child. */
#include "data/cohort.h"
#include "data/study.h"

#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { STUDIES = 9 };

static char folder[] = "/tmp/covpipe-study-XXXXXX", file[64], parts[STUDIES][PATH_MAX];

static void ok(status s)
{
    if (s != COV_OK) fail_msg("%s: %s (%s)", status_name(s), status_message(), status_trace());
}

/* Done studies of 5 slices; every fourth is skipped. */
static void write_part(int k)
{
    char where[64];
    part_key key;
    study_result r = {0};
    part_key_init(&key);
    study_row_init(&r.row);
    snprintf(key.path, sizeof key.path, "p%02d", k);
    snprintf(r.row.path, sizeof r.row.path, "p%02d", k);
    snprintf(r.row.id, sizeof r.row.id, "id%02d", k / 8 * 8); /* the last two ids are the same */
    r.row.lung_ml = k;
    snprintf(where, sizeof where, "%s/parts", folder);
    if (k % 4 == 3) {
        r.row.status = OUTCOME_FAILED;
        r.row.reason = REASON_CORRUPT;
    } else {
        r.row.rows = r.row.cols = 96;
        r.row.slices = 5;
        r.slice_count = 5;
        r.slices = calloc(5, sizeof *r.slices);
        r.lung = calloc(5, 96 * 96);
        r.lesion = calloc(5 * 96 * 96, sizeof *r.lesion);
        r.row.lesion_count = 1;
        r.lesion_rows = 1;
        r.lesions = calloc(1, sizeof *r.lesions);
        r.lesions[0] = (lesion_row){.z = 4, .lesion_id = 1, .area_px = 40};
        for (int z = 0; z < 5; z++) {
            r.slices[z].z = z;
            r.slices[z].lung_px = 100 * z + k;
            r.slices[z].lesion_px = z == 4 ? 40 : 0;
            memset(r.lung + (size_t)z * 96 * 96, 1, (size_t)(100 * z + k));
        }
        for (int i = 0; i < 40; i++) r.lesion[4 * 96 * 96 + i] = 1;
    }
    ok(part_write(where, &key, &r));
    ok(part_name(where, &key, parts[k], sizeof parts[k]));
    study_result_free(&r);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(file, sizeof file, "%s/cohort.h5", folder);
    for (int k = 0; k < STUDIES; k++) write_part(k);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* In a child, because MPI can be started once, and killed only with its process. Returns when the child begins to
 * write. `forever`: again and again, until it is killed. */
static pid_t start_writing(int studies, int forever)
{
    int ready[2];
    char byte = 0;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child != 0) {
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        return child;
    }
    const char *list[STUDIES];
    for (int k = 0; k < studies; k++) list[k] = parts[k];
    cohort_source source = {.count = studies, .parts = list, .complete = 1};
    MPI_Init(NULL, NULL);
    status s = write(ready[1], &byte, 1) == 1 ? COV_OK : COV_IO;
    do s = cohort_write(MPI_COMM_WORLD, file, &source, NULL);
    while (s == COV_OK && forever);
    if (s != COV_OK) fprintf(stderr, "%s (%s)\n", status_message(), status_trace());
    MPI_Finalize();
    _exit(s != COV_OK);
}

static void write_cohort(int studies)
{
    int how = 0;
    pid_t child = start_writing(studies, 0);
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

static void a_new_row_has_no_figures(void **state)
{
    (void)state;
    study_row row;
    memset(&row, 0x55, sizeof row);
    study_row_init(&row);
    assert_true(isnan(row.lung_ml) && isnan(row.lung_right_ml) && isnan(row.lung_left_ml) && isnan(row.lung_mean_hu));
    assert_true(isnan(row.lung_high_percent) && isnan(row.seconds_total) && isnan(row.affine[15]));
    assert_int_equal(row.status, 0);
    assert_string_equal(row.path, "");
}

/* ---- docs/FORMATS.md */

static char *formats;

static void promised(const char *line)
{
    if (!strstr(formats, line)) fail_msg("docs/FORMATS.md lacks the line %s", line);
}

static void promised_column(const char *name, const char *kind, int extent, const char *units, const char *meaning)
{
    char type[32], line[512];
    const char *number = strcmp(kind, "I32") == 0   ? "int32"
                         : strcmp(kind, "I64") == 0 ? "int64"
                         : strcmp(kind, "F64") == 0 ? "float64"
                                                    : "uint8";
    if (strcmp(kind, "TEXT") == 0) snprintf(type, sizeof type, "text[%d]", extent);
    else if (extent == 1) snprintf(type, sizeof type, "%s", number);
    else if (extent == 16) snprintf(type, sizeof type, "%s[4, 4]", number);
    else snprintf(type, sizeof type, "%s[%d]", number, extent);
    snprintf(line, sizeof line, "| `%s` | %s | %s | %s |\n", name, type, units, meaning);
    promised(line);
}

static void formats_documents_every_column_reason_and_flag_exactly(void **state)
{
    (void)state;
    char path[PATH_MAX], line[512];
    if (!getenv("COVPIPE_SOURCE")) skip();
    snprintf(path, sizeof path, "%s/docs/FORMATS.md", getenv("COVPIPE_SOURCE"));
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    formats = calloc(1 << 20, 1);
    assert_true(fread(formats, 1, (1 << 20) - 1, f) > 0);
    fclose(f);
#define X(field, kind, extent, units, long_name) promised_column(#field, #kind, (extent), (units), (long_name));
    STUDY_COLUMNS(X)
    GATHER_COLUMNS(X)
    SLICE_COLUMNS(X)
    LESION_COLUMNS(X)
#undef X
#define X(code, number, outcome, text)                                                                                 \
    snprintf(line, sizeof line, "| `%s` | %d | %s | %s |\n", #code, number, #outcome, text);                           \
    promised(line);
    REASONS(X)
#undef X
#define X(name, bit, text)                                                                                             \
    snprintf(line, sizeof line, "| `%s` | %d | %d | %s |\n", #name, bit, 1 << (bit), text);                            \
    promised(line);
    QC_FLAGS(X)
#undef X
    free(formats);
}

/* ---- cohort files */

static void an_id_that_two_studies_share_must_be_told_apart_by_path(void **state)
{
    (void)state;
    cohort *c = NULL;
    int64_t k;
    write_cohort(STUDIES);
    ok(cohort_open(file, &c));
    assert_int_equal(cohort_count(c), STUDIES);
    assert_int_equal(cohort_find(c, "id00", &k), COV_USAGE);
    ok(cohort_find(c, "id08", &k));
    assert_int_equal(k, 8);
    ok(cohort_find(c, "p03", &k));
    assert_int_equal(k, 3);
    study_row row;
    assert_int_equal(cohort_row(c, STUDIES, &row), COV_USAGE);
    assert_int_equal(cohort_row(c, -1, &row), COV_USAGE);
    cohort_close(&c);
}

static void a_kill_at_any_moment_of_gather_leaves_the_old_file_or_the_new_one(void **state)
{
    (void)state;
    int found_old = 0, found_new = 0;
    for (int round = 0; round < 8 || (round < 40 && !found_new); round++) {
        cohort *c = NULL;
        write_cohort(3);
        pid_t child = start_writing(STUDIES, 1);
        usleep((useconds_t)(round * round * 2000));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        ok(cohort_open(file, &c));
        int64_t n = cohort_count(c);
        assert_true(n == 3 || n == STUDIES);
        for (int64_t k = 0; k < n; k++) {
            study_row row;
            uint8_t *lung = NULL;
            ok(cohort_row(c, k, &row));
            assert_true(row.lung_ml == (double)k);
            if (k % 4 == 3) continue;
            ok(cohort_lung(c, k, &lung));
            assert_true(lung[4 * 96 * 96 + 399 + k] == 1 && lung[4 * 96 * 96 + 400 + k] == 0);
            free(lung);
        }
        cohort_close(&c);
        found_old += n == 3;
        found_new += n == STUDIES;
    }
    assert_true(found_old > 0 && found_new > 0);
}

static unsigned char *slurp(size_t *n)
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

static void spill(const char *to, const unsigned char *bytes, size_t n)
{
    int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), (ssize_t)n);
    close(fd);
}

/* Reads all there is to read; 0: everything as it was written, 1: refused, 2: read without complaint, but different. */
static int read_all(const char *from)
{
    cohort *c = NULL;
    int different = 0;
    if (cohort_open(from, &c) != COV_OK) return 1;
    different |= cohort_count(c) != STUDIES;
    for (int64_t k = 0; k < cohort_count(c); k++) {
        study_row row;
        uint8_t *lung = NULL;
        slice_row *slices = NULL;
        int64_t count;
        if (cohort_row(c, k, &row) != COV_OK || cohort_slices(c, k, &slices, &count) != COV_OK) return 1;
        different |= row.lung_ml != (double)k || count != (k % 4 == 3 ? 0 : 5);
        for (int64_t z = 0; z < count; z++) different |= slices[z].lung_px != 100 * z + k;
        free(slices);
        if (k % 4 == 3) continue;
        if (cohort_lung(c, k, &lung) != COV_OK) return 1;
        for (int z = 0; z < row.slices && !different; z++)
            for (int i = 0; i < 96 * 96; i++) different |= lung[z * 96 * 96 + i] != (i < 100 * z + k);
        free(lung);
    }
    cohort_close(&c);
    return different ? 2 : 0;
}

/* In a child with 512 MiB and 20 s: a hostile size shows as a refusal, not as a machine without memory. */
static int read_in_child(const char *from)
{
    int how = 0;
    pid_t child = fork();
    if (child == 0) {
#ifndef COVPIPE_SANITIZED /* by what reserves terabytes */
        setrlimit(RLIMIT_AS, &(struct rlimit){512 << 20, 512 << 20});
#endif
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        alarm(20);
        if (!freopen("/dev/null", "w", stderr)) _exit(3); /* what a sanitizer says of HDF5 */
        _exit(read_all(from));
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -WTERMSIG(how);
}

static void a_damaged_file_is_refused_or_reads_as_written(void **state)
{
    (void)state;
    char bad[PATH_MAX];
    size_t n;
    int refused = 0, harmless = 0, changed = 0;
    write_cohort(STUDIES);
    assert_int_equal(read_in_child(file), 0);
    unsigned char *bytes = slurp(&n);
    snprintf(bad, sizeof bad, "%s/bad.h5", folder);
    for (size_t at = 5; at < n; at += 401) {
        bytes[at] ^= at % 2 ? 0x80 : 0x01;
        spill(bad, bytes, n);
        bytes[at] ^= at % 2 ? 0x80 : 0x01;
        int got = read_in_child(bad);
        if (got < 0) fail_msg("byte %zu flipped: signal %d", at, -got);
        refused += got == 1;
        harmless += got == 0;
        changed += got == 2;
    }
    for (size_t cut = 0; cut < n; cut += 3001) {
        spill(bad, bytes, cut);
        assert_int_equal(read_in_child(bad), 1);
    }
    assert_true(refused > 0 && harmless > 0);
    assert_int_equal(changed, 0);
    free(bytes);
}

static void what_is_not_a_cohort_file_is_refused_by_name(void **state)
{
    (void)state;
    cohort *c = NULL;
    assert_int_equal(cohort_open("/nowhere.h5", &c), COV_IO);
    assert_int_equal(cohort_open(parts[0], &c), COV_FORMAT);
    assert_null(c);
    assert_non_null(strstr(status_message(), parts[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_row_has_no_figures),
        cmocka_unit_test(formats_documents_every_column_reason_and_flag_exactly),
        cmocka_unit_test(an_id_that_two_studies_share_must_be_told_apart_by_path),
        cmocka_unit_test(a_kill_at_any_moment_of_gather_leaves_the_old_file_or_the_new_one),
        cmocka_unit_test(a_damaged_file_is_refused_or_reads_as_written),
        cmocka_unit_test(what_is_not_a_cohort_file_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
