/* fuzz_cases: any bytes as a CSV, as a table of cases, as metadata, as a list of studies and as a path. */
#include "data/archive.h"
#include "data/cases.h"
#include "data/csv.h"
#include "data/metadata.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static void check_csv(const uint8_t *data, size_t size)
{
    csv *t;
    if (csv_parse("fuzz", (const char *)data, size, &t) != COV_OK) {
        FUZZ_CHECK(!t);
        return;
    }
    size_t total = 0;
    for (int c = 0; c < t->columns; c++) total += strlen(t->names[c]);
    for (size_t r = 0; r < t->rows; r++) {
        FUZZ_CHECK(t->lines[r] >= 1 && (r == 0 || t->lines[r] > t->lines[r - 1]));
        for (int c = 0; c < t->columns; c++) total += strlen(csv_get(t, r, c));
    }
    FUZZ_CHECK(total <= size);
    csv_free(&t);
}

static void check_id(const uint8_t *data, size_t size)
{
    char path[ARCHIVE_PATH_MOST], id[STUDY_ID];
    size_t n = size < sizeof path - 1 ? size : sizeof path - 1;
    memcpy(path, data, n);
    path[n] = 0;
    memset(id, 'x', sizeof id);
    FUZZ_CHECK(archive_id(path, NULL, NULL, id) == COV_OK);
    FUZZ_CHECK(memchr(id, 0, sizeof id) && id[0] != '-' && id[0] != '.' && !strpbrk(id, "/ \n\t\r\x1b\x7f\"'$;&|<>*?"));
    FUZZ_CHECK(archive_id(path, "png", "key", id) == COV_OK && strlen(id) == 16);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[128];
    cases *c;
    metadata *m;
    archive *a;
    check_csv(data, size);
    check_id(data, size);
    fuzz_file(".csv", data, size, path, sizeof path);
    if (cases_read(path, &c) == COV_OK) {
        const char **names;
        size_t n;
        FUZZ_CHECK(cases_folds(c, "", &names, &n) == COV_OK && n <= c->count && (n > 0) == (c->count > 0));
        free(names);
        cases_free(&c);
    }
    if (metadata_read(path, &m) == COV_OK) {
        for (int k = 0; k < metadata_columns(m); k++) (void)metadata_width(m, k);
        FUZZ_CHECK(metadata_find(m, "", "") == -1);
        metadata_free(&m);
    }
    if (archive_walk("/proc/self/fdinfo", &(archive_options){.list = path}, &a) == COV_OK) {
        for (int64_t k = 0; k < a->count; k++) FUZZ_CHECK(*a->entries[k].id);
        archive_free(&a);
    }
    unlink(path);
    return 0;
}
