/* reader: the table of formats and the checks that hold for all of them. */
#include "data/reader.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const reader *const readers[] = {&read_nifti, &read_dicom, &read_png, &read_metaimage, &read_nrrd};
enum { READERS = sizeof readers / sizeof readers[0] };

/* The first in the table of the formats whose slices lie in the folder: PNG beside DICOM are its previews. */
static const reader *reader_for_folder(const char *folder)
{
    int best = READERS, why = 0;
    DIR *d = opendir(folder);
    errno = d ? 0 : errno;
    for (struct dirent *e; d && best && (e = readdir(d)); errno = 0) {
        char path[PATH_MAX];
        int n = snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        for (int i = 0; e->d_name[0] != '.' && n < (int)sizeof path && i < best; i++)
            if (readers[i]->per_folder && readers[i]->claims(path)) best = i;
    }
    why = best ? errno : 0;
    if (d) closedir(d);
    errno = why; /* what was not listed might have come first in the table */
    return best < READERS && !why ? readers[best] : NULL;
}

const reader *reader_for(const char *path)
{
    struct stat st = {0};
    if (stat(path, &st) != 0 && errno != ENOENT) return NULL;
    if (S_ISDIR(st.st_mode)) return reader_for_folder(path);
    for (int i = 0; i < READERS; i++)
        if (readers[i]->claims(path)) return readers[i];
    errno = 0;
    return NULL;
}

const reader *reader_named(const char *format)
{
    for (int i = 0; i < READERS; i++)
        if (strcmp(readers[i]->format, format) == 0) return readers[i];
    return NULL;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

void reader_listing_free(reader_listing *l)
{
    for (size_t i = 0; i < l->count; i++) free(l->names[i]);
    free(l->names);
    *l = (reader_listing){0};
}

static status add_name(reader_listing *l, size_t *room, const char *name)
{
    if (l->count == *room) {
        size_t more = *room ? 2 * *room : 64;
        char **names = realloc(l->names, more * sizeof *names);
        if (!names) return COV_NOMEM;
        l->names = names;
        *room = more;
    }
    if (!(l->names[l->count] = strdup(name))) return COV_NOMEM;
    l->count++;
    return COV_OK;
}

status reader_list(const reader *r, const char *folder, reader_listing *out, reason *why)
{
    size_t room = 0;
    status s = COV_OK;
    *out = (reader_listing){0};
    DIR *d = opendir(folder);
    if (!d) {
        *why = REASON_IO_ERROR;
        return COV_FAIL(COV_IO, "%s: cannot list the folder: %s", folder, strerror(errno));
    }
    errno = 0;
    for (struct dirent *e; s == COV_OK && (e = readdir(d)); errno = 0) {
        char path[PATH_MAX];
        int n = snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.' && n > 0 && n < (int)sizeof path && r->claims(path))
            s = add_name(out, &room, e->d_name);
    }
    int failed = s == COV_OK ? errno : 0;
    closedir(d);
    if (s == COV_OK && !failed) {
        if (out->count) qsort(out->names, out->count, sizeof *out->names, by_bytes);
        return COV_OK;
    }
    reader_listing_free(out);
    *why = failed ? REASON_IO_ERROR : REASON_TOO_LARGE;
    if (failed) return COV_FAIL(COV_IO, "%s: cannot list all of the folder: %s", folder, strerror(failed));
    return COV_FAIL(s, "%s: no memory for its list of files", folder);
}

char *reader_sibling(const char *path, size_t cut, const char *const *endings)
{
    for (; *endings; endings++) {
        struct stat st;
        str s = {0};
        str_put_bytes(&s, path, strlen(path) - cut);
        str_put(&s, *endings);
        if (!s.failed && stat(s.text, &st) == 0 && S_ISREG(st.st_mode)) return s.text;
        str_free(&s);
    }
    return NULL;
}

/* A study's files: folder/name of each, or, where the listing is empty, the file at path alone. */
static status list_files(const char *path, char folder[PATH_MAX], reader_listing *out)
{
    struct stat st;
    reason why;
    char *image = NULL;
    size_t room = 0;
    *out = (reader_listing){0};
    if (stat(path, &st) != 0) return COV_FAIL(COV_IO, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) {
        const reader *r = reader_for_folder(path);
        if (!r) return COV_FAIL(COV_IO, "%s: no slices in it: %s", path, errno ? strerror(errno) : "they are gone");
        if (snprintf(folder, PATH_MAX, "%s", path) >= PATH_MAX) return COV_FAIL(COV_IO, "%s: too long", path);
        return reader_list(r, path, out, &why);
    }
    for (int i = 0; i < READERS && !image; i++)
        if (readers[i]->image) image = readers[i]->image(path);
    if (!image) return COV_OK;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    int n = snprintf(folder, PATH_MAX, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    status s = n < PATH_MAX ? add_name(out, &room, name) : COV_IO;
    if (s == COV_OK) s = add_name(out, &room, image + (name - path));
    free(image);
    if (s == COV_OK) return COV_OK;
    reader_listing_free(out);
    return COV_FAIL(s, "%s: no room for the name of its image", path);
}

static status file_path(const char *folder, const char *name, char path[PATH_MAX])
{
    int n = snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return n > 0 && n < PATH_MAX ? COV_OK : COV_FAIL(COV_IO, "%s: the path of a file in it is too long", folder);
}

static status digest_files(const char *folder, const reader_listing *l, char hex[SHA256_HEX])
{
    sha256 *h = NULL;
    status s;
    COV_GO(sha256_new(&h));
    for (size_t i = 0; i < l->count; i++) {
        char path[PATH_MAX], one[SHA256_HEX];
        COV_GO(file_path(folder, l->names[i], path));
        COV_GO(sha256_file(path, one));
        COV_GO(sha256_put(h, l->names[i], strlen(l->names[i]) + 1));
        COV_GO(sha256_put(h, one, sizeof one));
    }
    COV_GO(sha256_end(h, hex));
done:
    sha256_free(&h);
    return s;
}

status reader_digest(const char *path, char hex[SHA256_HEX])
{
    char folder[PATH_MAX];
    reader_listing l;
    COV_TRY(list_files(path, folder, &l));
    status s = l.count ? digest_files(folder, &l, hex) : sha256_file(path, hex);
    reader_listing_free(&l);
    return s;
}

/* FNV-1a, 64 bits. */
static void mix(uint64_t *h, int64_t value)
{
    for (int k = 0; k < 64; k += 8) *h = (*h ^ ((uint64_t)value >> k & 255)) * 0x100000001b3u;
}

/* One that cannot be looked at is for the reader to complain of: here only that it is so counts. */
static void add_look(const char *path, reader_look *l, uint64_t *h)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        mix(h, errno);
        return;
    }
    int64_t mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    l->bytes += st.st_size;
    if (mtime_ns > l->mtime_ns) l->mtime_ns = mtime_ns;
    mix(h, st.st_size);
    mix(h, mtime_ns);
    mix(h, (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec);
}

status reader_look_at(const char *path, reader_look *out)
{
    char folder[PATH_MAX], file[PATH_MAX];
    uint64_t h = 0xcbf29ce484222325u;
    reader_listing l;
    *out = (reader_look){0};
    COV_TRY(list_files(path, folder, &l));
    status s = COV_OK;
    if (!l.count) add_look(path, out, &h);
    for (size_t i = 0; s == COV_OK && i < l.count; i++) {
        s = file_path(folder, l.names[i], file);
        if (s == COV_OK) add_look(file, out, &h);
    }
    reader_listing_free(&l);
    out->stamp = h ? (int64_t)h : 1;
    return s;
}

status reader_check_size(const char *path, const volume_header *h, int64_t most_bytes, reason *why)
{
    int64_t bytes = h->nx * h->ny * h->nz * (int64_t)sizeof(int16_t); /* a reader's header is below READER_MOST_BYTES */
    if (bytes <= most_bytes) return COV_OK;
    *why = REASON_TOO_LARGE;
    return COV_FAIL(COV_FORMAT, "%s: %lld x %lld x %lld voxels need %lld bytes, more than the limit of %lld", path,
                    (long long)h->nx, (long long)h->ny, (long long)h->nz, (long long)bytes, (long long)most_bytes);
}

/* What any CT in HU of any part of a body has, however it was cropped, padded, clipped to a window or quantised to
 * 8 bits: many values, air near -1000, soft tissue near 0. A stored offset (values from 0 up) has no air. */
enum { DISTINCT_LEAST = 64, AIR_LOWEST_HU = -900 };
static const double AIR_SHARE_LEAST = 0.001, SOFT_SHARE_LEAST = 0.02;

status reader_check_ct(const char *path, const volume_header *h, const volume_stats *stats, reason *why)
{
    *why = REASON_NOT_CT;
    if (stats->distinct < DISTINCT_LEAST)
        return COV_FAIL(COV_FORMAT, "%s: only %lld different values (%d ... %d): a label map, not a CT", path,
                        (long long)stats->distinct, stats->lowest, stats->highest);
    if (h->isolated) { /* pictures are in no unit that could be checked */
        *why = REASON_NONE;
        return COV_OK;
    }
    if (stats->lowest >= 0)
        return COV_FAIL(
            COV_FORMAT,
            "%s: no value below 0 (%d ... %d): labels, a windowed image, another modality or a CT stored with "
            "an offset; expected HU, with air near -1000",
            path, stats->lowest, stats->highest);
    if (stats->lowest > AIR_LOWEST_HU || stats->share_air < AIR_SHARE_LEAST)
        return COV_FAIL(COV_FORMAT, "%s: %.3g %% of the values (%d ... %d) are air (at most %d): not HU", path,
                        100 * stats->share_air, stats->lowest, stats->highest, AIR_LOWEST_HU);
    if (stats->share_soft < SOFT_SHARE_LEAST)
        return COV_FAIL(COV_FORMAT, "%s: %.3g %% of the values (%d ... %d) are soft tissue (-200 ... 200): not HU",
                        path, 100 * stats->share_soft, stats->lowest, stats->highest);
    *why = REASON_NONE;
    return COV_OK;
}
