/* The archive walk: what is found, under which id, in which order; links, names, lists, patterns, damage. Files are
 * empty: the walk goes by names. */
#include "data/archive.h"
#include "data/reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "%s/covpipe-archive-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    return mkdtemp(root) ? 0 : -1;
}
static int teardown(void **state)
{
    char command[256];
    (void)state;
    snprintf(command, sizeof command, "chmod -R u+rwx %s; rm -rf %s", root, root);
    return system(command);
}

static const char *full(const char *rel)
{
    static char path[4][2 * PATH_MAX];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", root, rel);
    return path[turn];
}

/* Makes the file with its folders, `bytes` long. */
static void make(const char *rel, size_t bytes)
{
    char path[2 * PATH_MAX];
    strcpy(path, full(rel));
    for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(path, 0777);
        *p = '/';
    }
    int fd = open(path, O_WRONLY | O_CREAT, 0666);
    if (fd < 0) fail_msg("cannot make %s", path);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    close(fd);
}

static archive *walk(const archive_options *o)
{
    archive *a;
    status s = archive_walk(root, o, &a);
    if (s != COV_OK) fail_msg("%s", status_message());
    return a;
}

static void expect(const archive *a, int count, const char *const *paths)
{
    for (int i = 0; i < count && i < a->count; i++) assert_string_equal(a->entries[i].path, paths[i]);
    assert_int_equal(a->count, count);
}
#define EXPECT(a, ...) expect(a, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *[]){__VA_ARGS__})

static const archive_entry *entry(const archive *a, const char *path)
{
    for (int64_t i = 0; i < a->count; i++)
        if (strcmp(a->entries[i].path, path) == 0) return &a->entries[i];
    fail_msg("no entry %s", path);
    return NULL;
}

static void volumes_pairs_and_folders_of_slices_are_studies_in_byte_order(void **state)
{
    (void)state;
    make("b/ct.nii.gz", 10);
    make("b/lung.nii", 5);
    make("B/ct.nii.gz", 1);
    make("b.nii", 2);
    make("pair/x.hdr", 348);
    make("pair/x.img.gz", 1000);
    make("pair/orphan.img", 7);
    make("dicom/1.dcm", 3);
    make("dicom/2.dcm", 4);
    make("dicom/notes.txt", 4);
    make("mha/v.mhd", 3);
    make("mha/v.zraw", 30);
    make("deep/er/still/ct.nrrd", 1);
    make("png/a.png", 1);
    make("png/sub/b.png", 1);
    archive *a = walk(NULL);
    EXPECT(a, "B/ct.nii.gz", "b.nii", "b/ct.nii.gz", "b/lung.nii", "deep/er/still/ct.nrrd", "dicom", "mha/v.mhd",
           "pair/x.hdr", "png", "png/sub");
    assert_int_equal(a->ignored, 2); /* the text and the image without a header */
    assert_int_equal(a->errors, 0);
    assert_int_equal(entry(a, "pair/x.hdr")->bytes, 1348);
    assert_int_equal(entry(a, "mha/v.mhd")->bytes, 33);
    assert_int_equal(entry(a, "dicom")->files, 2);
    assert_int_equal(entry(a, "dicom")->bytes, 7);
    assert_string_equal(entry(a, "dicom")->format, "dicom");
    assert_string_equal(entry(a, "png")->format, "png");
    assert_true(entry(a, "b.nii")->mtime_ns > 1600000000LL * 1000000000);
    char path[PATH_MAX];
    assert_int_equal(archive_full_path(a, entry(a, "b.nii"), path, sizeof path), COV_OK);
    assert_int_equal(access(path, R_OK), 0);
    assert_int_equal(archive_full_path(a, entry(a, "b.nii"), path, 10), COV_USAGE);
    archive_free(&a);
    assert_null(a);
}

/* Other content of the same length, and size and time as before. */
static void change_and_set_back(const char *rel)
{
    struct stat st;
    char byte = 'x';
    usleep(30000); /* more than a tick of the file system's clock */
    assert_int_equal(stat(full(rel), &st), 0);
    int fd = open(full(rel), O_WRONLY);
    assert_int_equal(pwrite(fd, &byte, 1, 0), 1);
    close(fd);
    assert_int_equal(utimensat(AT_FDCWD, full(rel), (struct timespec[]){st.st_atim, st.st_mtim}, 0), 0);
}

static void a_file_that_is_changed_and_set_back_gives_its_study_another_stamp_and_digest(void **state)
{
    static const char *const files[] = {"b.nii", "pair/x.hdr", "pair/x.img", "png/a.png", "png/b.png"};
    static const char *const studies[] = {"b.nii", "pair/x.hdr", "pair/x.hdr", "png", "png"};
    enum { COUNT = sizeof files / sizeof files[0] };
    (void)state;
    for (int i = 0; i < COUNT; i++) make(files[i], 10);
    for (int i = 0; i < COUNT; i++) {
        archive *before = walk(NULL), *same = walk(NULL);
        char digest[SHA256_HEX], other[SHA256_HEX];
        assert_int_equal(reader_digest(full(studies[i]), digest), COV_OK);
        change_and_set_back(files[i]);
        assert_int_equal(reader_digest(full(studies[i]), other), COV_OK);
        assert_string_not_equal(digest, other);
        archive *after = walk(NULL);
        EXPECT(after, "b.nii", "pair/x.hdr", "png");
        for (int64_t k = 0; k < after->count; k++) {
            const archive_entry *x = &before->entries[k], *y = &after->entries[k];
            assert_true(x->bytes == y->bytes && x->mtime_ns == y->mtime_ns && x->stamp && same->entries[k].stamp == x->stamp);
            assert_int_equal(x->stamp != y->stamp, strcmp(x->path, studies[i]) == 0);
        }
        archive_free(&before);
        archive_free(&same);
        archive_free(&after);
    }
}

static void slices_in_the_root_are_the_study_dot(void **state)
{
    (void)state;
    make("1.dcm", 1);
    make("1.png", 1);
    archive *a = walk(NULL);
    EXPECT(a, ".");
    assert_string_equal(a->entries[0].format, "dicom");
    assert_int_equal(a->ignored, 1); /* a picture beside DICOM is its preview */
    char path[PATH_MAX];
    assert_int_equal(archive_full_path(a, a->entries, path, sizeof path), COV_OK);
    assert_string_equal(path, root);
    archive_free(&a);
}

static void bare_dicom_is_known_by_its_mark(void **state)
{
    (void)state;
    make("bare/IM0001", 200);
    make("bare/1.2.840.113619", 200);
    make("bare/README", 200);
    make("bare/x.txt", 200);
    const char *const marked[] = {"bare/IM0001", "bare/1.2.840.113619", "bare/x.txt"};
    for (int i = 0; i < 3; i++) {
        int fd = open(full(marked[i]), O_WRONLY);
        assert_int_equal(pwrite(fd, "DICM", 4, 128), 4);
        close(fd);
    }
    archive *a = walk(NULL);
    EXPECT(a, "bare");
    assert_int_equal(a->entries[0].files, 2);
    assert_int_equal(a->ignored, 2);
    archive_free(&a);
}

static void dot_names_devices_and_fifos_are_no_studies(void **state)
{
    (void)state;
    make(".git/x.nii", 1);
    make("a/._ct.nii.gz", 1);
    make("a/ct.nii.gz", 1);
    assert_int_equal(mkfifo(full("a/fifo.nii"), 0666), 0);
    archive *a = walk(NULL);
    EXPECT(a, "a/ct.nii.gz");
    assert_int_equal(a->special, 1);
    assert_int_equal(a->ignored, 1);
    archive_free(&a);
}

static void links_count_only_where_the_walk_does_not_come_by_itself(void **state)
{
    (void)state;
    make("real/ct.nii.gz", 1);
    make(".store/annexed.nii.gz", 1);
    make(".store/folder/in.nii.gz", 1);
    make("cache/abcdef.blob", 1);
    mkdir(full("l"), 0777);
    assert_int_equal(symlink("../real/ct.nii.gz", full("l/again.nii.gz")), 0); /* found by itself */
    assert_int_equal(symlink("../real", full("l/folder")), 0);                 /* likewise */
    assert_int_equal(symlink("../.store/annexed.nii.gz", full("l/annexed.nii.gz")), 0);
    assert_int_equal(symlink("../.store/folder", full("l/hidden")), 0);
    assert_int_equal(symlink("../cache/abcdef.blob", full("l/cached.nii.gz")), 0); /* its own name tells nothing */
    assert_int_equal(symlink("..", full("l/circle")), 0);
    assert_int_equal(symlink("circle", full("circle")), 0);
    assert_int_equal(symlink("/etc/hostname", full("l/outside.nii.gz")), 0);
    assert_int_equal(symlink("nowhere", full("l/broken.nii.gz")), 0);
    archive *a = walk(NULL);
    EXPECT(a, "l/annexed.nii.gz", "l/cached.nii.gz", "l/hidden/in.nii.gz", "real/ct.nii.gz");
    assert_int_equal(a->errors, 3); /* what is not looked at is said */
    assert_non_null(strstr(a->error_text, "l/outside.nii.gz: a link that leads out"));
    assert_non_null(strstr(a->error_text, "l/broken.nii.gz"));
    archive_free(&a);
    FILE *list = fopen(full("list.txt"), "w");
    fputs("l/again.nii.gz\nl/outside.nii.gz\n", list);
    fclose(list);
    a = walk(&(archive_options){.list = full("list.txt")});
    EXPECT(a, "l/again.nii.gz");
    assert_int_equal(a->errors, 1);
    archive_free(&a);
    /* where a pattern leaves the real one out, the link is what was asked for */
    const char *const include[] = {"l/*"};
    a = walk(&(archive_options){.include = include, .include_count = 1});
    EXPECT(a, "l/again.nii.gz", "l/annexed.nii.gz", "l/cached.nii.gz", "l/folder/ct.nii.gz", "l/hidden/in.nii.gz");
    archive_free(&a);
    /* a circle among what only links lead to ends where it closes */
    assert_int_equal(symlink("..", full(".store/folder/loop")), 0);
    assert_int_equal(symlink(".", full(".store/folder/self")), 0);
    a = walk(NULL);
    EXPECT(a, "l/annexed.nii.gz", "l/cached.nii.gz", "l/hidden/in.nii.gz", "l/hidden/loop/annexed.nii.gz",
           "real/ct.nii.gz");
    archive_free(&a);
}

static void a_root_that_is_a_link_is_walked(void **state)
{
    (void)state;
    make("r/ct.nii.gz", 1);
    archive *a;
    assert_int_equal(symlink("r", full("alias")), 0);
    assert_int_equal(archive_walk(full("alias"), NULL, &a), COV_OK);
    EXPECT(a, "ct.nii.gz");
    archive_free(&a);
    char slashes[PATH_MAX];
    snprintf(slashes, sizeof slashes, "%s///", full("r"));
    assert_int_equal(archive_walk(slashes, NULL, &a), COV_OK);
    EXPECT(a, "ct.nii.gz");
    assert_string_equal(a->root, full("r"));
    archive_free(&a);
}

static void one_file_is_an_archive_of_one(void **state)
{
    (void)state;
    archive *a;
    make("p/q/ct.nii.gz", 1);
    make("p/q/other.nii.gz", 1);
    assert_int_equal(archive_walk(full("p/q/ct.nii.gz"), NULL, &a), COV_OK);
    EXPECT(a, "ct.nii.gz");
    assert_string_equal(a->root, full("p/q"));
    archive_free(&a);
    make("p/q/1.dcm", 1);
    assert_int_equal(archive_walk(full("p/q/1.dcm"), NULL, &a), COV_OK);
    EXPECT(a, ".");
    archive_free(&a);
    make("p/q/notes.txt", 1);
    assert_int_equal(archive_walk(full("p/q/notes.txt"), NULL, &a), COV_OK);
    assert_int_equal(a->count, 0);
    assert_int_equal(a->ignored, 1);
    archive_free(&a);
}

static void a_missing_root_fails_and_an_unreadable_folder_is_reported(void **state)
{
    (void)state;
    archive *a;
    assert_int_equal(archive_walk(full("nowhere"), NULL, &a), COV_IO);
    assert_null(a);
    assert_int_equal(archive_walk("/dev/null", NULL, &a), COV_IO);
    make("ok/ct.nii.gz", 1);
    make("secret/ct.nii.gz", 1);
    assert_int_equal(chmod(full("secret"), 0), 0);
    bool as_root = geteuid() == 0; /* who reads everything: the walk is then done as nobody */
    if (as_root) assert_int_equal(chmod(root, 0755) | seteuid(65534), 0);
    status s = archive_walk(root, NULL, &a);
    if (as_root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(s, COV_OK);
    EXPECT(a, "ok/ct.nii.gz");
    assert_int_equal(a->errors, 1);
    assert_non_null(strstr(a->error_text, "secret"));
    archive_free(&a);
}

static void patterns_include_and_exclude_by_path_or_by_name(void **state)
{
    (void)state;
    make("x/ct.nii.gz", 1);
    make("x/lung.nii.gz", 1);
    make("y/ct.nii.gz", 1);
    make("y/backup/ct.nii.gz", 1);
    const char *const name[] = {"ct.nii.gz"}, *const path[] = {"y/*"}, *const backup[] = {"backup"};
    archive *a = walk(&(archive_options){.include = name, .include_count = 1});
    EXPECT(a, "x/ct.nii.gz", "y/backup/ct.nii.gz", "y/ct.nii.gz");
    assert_int_equal(a->ignored, 1);
    archive_free(&a);
    a = walk(&(archive_options){.include = path, .include_count = 1, .exclude = backup, .exclude_count = 1});
    EXPECT(a, "y/ct.nii.gz");
    archive_free(&a);
    a = walk(&(archive_options){.exclude = path, .exclude_count = 1});
    EXPECT(a, "x/ct.nii.gz", "x/lung.nii.gz");
    archive_free(&a);
}

static void write_text(const char *rel, const char *text)
{
    FILE *f = fopen(full(rel), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void a_list_of_lines_or_a_csv_with_a_path_column_selects(void **state)
{
    (void)state;
    make("a/ct.nii.gz", 1);
    make("b/ct.nii.gz", 1);
    make("c, d/ct.nii.gz", 1);
    make("e/1.png", 1);
    make("e/2.png", 1);
    make("e/other.nii", 1);
    char text[1024];
    snprintf(text, sizeof text,
             "./b/ct.nii.gz\r\n\nc, "
             "d/ct.nii.gz\n%s/a/ct.nii.gz\nb/ct.nii.gz\ngone.nii\n../etc/x.nii\n/etc/y.nii\na/../b/ct.nii.gz",
             root);
    write_text("list.txt", text);
    archive *a = walk(&(archive_options){.list = full("list.txt")});
    EXPECT(a, "a/ct.nii.gz", "b/ct.nii.gz", "c, d/ct.nii.gz");
    assert_int_equal(a->errors, 4);
    assert_non_null(strstr(a->error_text, "gone.nii"));
    archive_free(&a);
    write_text("failures.csv", "id,path,reason\nx,\"c, d/ct.nii.gz\",TIMEOUT\ny,e,CRASHED\n");
    a = walk(&(archive_options){.list = full("failures.csv")});
    EXPECT(a, "c, d/ct.nii.gz", "e");
    assert_string_equal(entry(a, "e")->format, "png");
    assert_int_equal(entry(a, "e")->files, 2);
    assert_int_equal(a->errors, 0);
    archive_free(&a);
    assert_int_equal(archive_walk(root, &(archive_options){.list = full("missing.txt")}, &a), COV_IO);
    write_text("bad.csv", "id,path\nonly one field\n");
    assert_int_equal(archive_walk(root, &(archive_options){.list = full("bad.csv")}, &a), COV_FORMAT);
    assert_null(a);
}

static void names_of_any_bytes_open_by_path_and_show_as_clean_utf8(void **state)
{
    (void)state;
    make("caf\xC3\xA9/ct.nii.gz", 1);
    make("caf\xE9/ct.nii.gz", 1);
    make("line\nbreak.nii.gz", 1);
    make("esc\x1b[31m.nii.gz", 1);
    make("c1\xC2\x9B"
         "31m.nii.gz",
         1);
    make("sp ace.nii.gz", 1);
    make("-rf.nii.gz", 1);
    archive *a = walk(NULL);
    assert_int_equal(a->count, 7);
    for (int64_t i = 0; i < a->count; i++) {
        const archive_entry *e = &a->entries[i];
        char path[PATH_MAX];
        assert_int_equal(archive_full_path(a, e, path, sizeof path), COV_OK);
        assert_int_equal(access(path, F_OK), 0);
        for (const unsigned char *p = (const unsigned char *)e->shown; *p; p++) assert_true(*p >= 0x20 && *p != 0x7F);
        assert_null(strstr(e->shown, "\xC2\x9B"));
        assert_null(strpbrk(e->id, " \n\x1b/"));
        assert_true(e->id[0] != '-' && e->id[0] != '.');
        assert_true(strlen(e->id) < STUDY_ID);
    }
    assert_string_equal(entry(a, "caf\xC3\xA9/ct.nii.gz")->id, "caf\xC3\xA9__ct");
    assert_string_equal(entry(a, "caf\xE9/ct.nii.gz")->shown, "caf?/ct.nii.gz");
    archive_free(&a);
}

static void ids_lead_back_to_one_path_only(void **state)
{
    (void)state;
    /* pairs and triples that a careless rule would merge */
    static const char *const paths[] = {
        "a/b.nii.gz",  "a__b.nii.gz",    "a_/b.nii.gz",      "a/_b.nii.gz",       "a_b.nii.gz",
        "a/b.nii",     "a/b.hdr",        "a__b.nii",         "a/b.NII.GZ",        "a/b.nii.nii.gz",
        "a b.nii.gz",  "a-b.nii.gz",     "a\tb.nii.gz",      "_a/b.nii.gz",       "a/b_.nii.gz",
        "a/b/.nii.gz", "a/b.png.nii.gz", "a/b.dicom.nii.gz", "a/b.nii.gz.nii.gz",
    };
    enum { N = sizeof paths / sizeof paths[0] };
    char id[N + 3][STUDY_ID];
    for (int i = 0; i < N; i++) assert_int_equal(archive_id(paths[i], NULL, NULL, id[i]), COV_OK);
    assert_int_equal(archive_id("a/b", "png", NULL, id[N]), COV_OK);
    assert_int_equal(archive_id("a/b", "dicom", NULL, id[N + 1]), COV_OK);
    assert_int_equal(archive_id(".", "png", NULL, id[N + 2]), COV_OK);
    for (int i = 0; i < N + 3; i++)
        for (int j = 0; j < i; j++)
            if (strcmp(id[i], id[j]) == 0) fail_msg("two paths have the id %s", id[i]);
    assert_string_equal(id[0], "a__b");
    assert_string_equal(id[4], "a_b");
    assert_string_equal(id[N], "a__b.png");
}

static void a_long_path_keeps_its_end_and_gets_a_digest(void **state)
{
    (void)state;
    char path[3000], other[3000], id[STUDY_ID], second[STUDY_ID];
    memset(path, 'p', sizeof path);
    strcpy(path + 2900, "/\xC3\xA9/study/ct.nii.gz");
    memcpy(other, path, sizeof other);
    other[0] = 'q';
    assert_int_equal(archive_id(path, NULL, NULL, id), COV_OK);
    assert_int_equal(archive_id(other, NULL, NULL, second), COV_OK);
    assert_string_not_equal(id, second);
    assert_non_null(strstr(id, "\xC3\xA9__study__ct-"));
    assert_true(strlen(id) < STUDY_ID);
    for (int shift = 0; shift < 4; shift++) { /* cut in the middle of a character, whatever the length */
        char wide[400] = "", name[420];
        for (int k = 0; k < 100; k++) strcat(wide, "\xE4\xB8\xAD");
        snprintf(name, sizeof name, "%s%.*s.nii.gz", wide, shift, "abc");
        assert_int_equal(archive_id(name, NULL, NULL, id), COV_OK);
        assert_true(strlen(id) < STUDY_ID);
        assert_int_not_equal((unsigned char)id[0] & 0xC0, 0x80);
    }
}

static void a_keyed_id_tells_nothing_and_changes_with_the_key(void **state)
{
    (void)state;
    char a[STUDY_ID], b[STUDY_ID];
    assert_int_equal(archive_id("Doe_John/ct.nii.gz", NULL, "secret", a), COV_OK);
    assert_int_equal(archive_id("Doe_John/ct.nii.gz", NULL, "other", b), COV_OK);
    assert_int_equal(strlen(a), 16);
    assert_int_equal(strspn(a, "0123456789abcdef"), 16);
    assert_string_not_equal(a, b);
}

static void an_id_does_not_depend_on_the_other_studies(void **state)
{
    (void)state;
    make("s/b.nii.gz", 1);
    make("s/b.nii", 1);
    archive *a = walk(NULL);
    char before[STUDY_ID];
    strcpy(before, entry(a, "s/b.nii.gz")->id);
    archive_free(&a);
    write_text("one.txt", "s/b.nii.gz\n");
    a = walk(&(archive_options){.list = full("one.txt")});
    assert_string_equal(a->entries[0].id, before);
    archive_free(&a);
}

static void too_deep_a_folder_is_reported_and_not_followed(void **state)
{
    (void)state;
    char rel[2000] = "";
    for (int i = 0; i < 300; i++) strcat(rel, "d/");
    strcat(rel, "ct.nii.gz");
    make(rel, 1);
    make("top.nii", 1);
    archive *a = walk(NULL);
    EXPECT(a, "top.nii");
    assert_int_equal(a->errors, 1);
    assert_non_null(strstr(a->error_text, "deeper"));
    archive_free(&a);
}

static void count_calls(void *with, int64_t files, int64_t folders)
{
    *(int64_t *)with = files;
    assert_true(folders > 0);
}

static void a_large_folder_reports_progress_and_stays_sorted(void **state)
{
    (void)state;
    char name[64];
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "%d/ct.nii.gz", i * 7919 % 3001);
        make(name, 1);
    }
    int64_t files = 0;
    archive *a = walk(&(archive_options){.progress = count_calls, .progress_with = &files});
    assert_int_equal(files, 2048);
    assert_int_equal(a->count, 3000);
    for (int64_t i = 1; i < a->count; i++) assert_true(strcmp(a->entries[i - 1].path, a->entries[i].path) < 0);
    archive_free(&a);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(volumes_pairs_and_folders_of_slices_are_studies_in_byte_order),
        TEST(a_file_that_is_changed_and_set_back_gives_its_study_another_stamp_and_digest),
        TEST(slices_in_the_root_are_the_study_dot),
        TEST(bare_dicom_is_known_by_its_mark),
        TEST(dot_names_devices_and_fifos_are_no_studies),
        TEST(links_count_only_where_the_walk_does_not_come_by_itself),
        TEST(a_root_that_is_a_link_is_walked),
        TEST(one_file_is_an_archive_of_one),
        TEST(a_missing_root_fails_and_an_unreadable_folder_is_reported),
        TEST(patterns_include_and_exclude_by_path_or_by_name),
        TEST(a_list_of_lines_or_a_csv_with_a_path_column_selects),
        TEST(names_of_any_bytes_open_by_path_and_show_as_clean_utf8),
        TEST(ids_lead_back_to_one_path_only),
        TEST(a_long_path_keeps_its_end_and_gets_a_digest),
        TEST(a_keyed_id_tells_nothing_and_changes_with_the_key),
        TEST(an_id_does_not_depend_on_the_other_studies),
        TEST(too_deep_a_folder_is_reported_and_not_followed),
        TEST(a_large_folder_reports_progress_and_stays_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
