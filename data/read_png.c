/* read_png: one folder of gray PNG slices, in the byte order of their names, is one study.
 *
 * Only 16-bit images can hold Hounsfield units; the convention of the public sets that use them (DeepLesion) is
 * HU + 32768. An 8-bit image is a windowed picture and ends as NOT_CT. A PNG carries no spacing, so it is taken
 * as 1 mm and the study gets its flag for nominal spacing. Rows run to posterior, columns to the patient's left. */
#include "base/str.h"
#include "data/image.h"
#include "data/reader.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HU_OFFSET = 32768, SLICES_MOST = 32767 };

typedef struct listing {
    char **names; /* owned, sorted by bytes */
    size_t count;
} listing;

static int claims(const char *path) { return str_ends_with(path, ".png"); }

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void free_listing(listing *l)
{
    for (size_t i = 0; i < l->count; i++) free(l->names[i]);
    free(l->names);
    *l = (listing){0};
}

static status list_folder(const char *folder, listing *out, reason *why)
{
    size_t room = 0;
    *out = (listing){0};
    DIR *d = opendir(folder);
    if (!d) {
        *why = REASON_IO_ERROR;
        return COV_FAIL(COV_IO, "%s: cannot list the folder: %s", folder, strerror(errno));
    }
    status s = COV_OK;
    for (struct dirent *e; s == COV_OK && (e = readdir(d));) {
        if (!claims(e->d_name)) continue;
        if (out->count == room) {
            room = room ? 2 * room : 64;
            char **names = realloc(out->names, room * sizeof *names);
            if (names) out->names = names;
            else s = COV_NOMEM;
        }
        if (s == COV_OK && !(out->names[out->count] = strdup(e->d_name))) s = COV_NOMEM;
        if (s == COV_OK) out->count++;
    }
    closedir(d);
    if (s == COV_OK && out->count <= SLICES_MOST) {
        if (out->count) qsort(out->names, out->count, sizeof *out->names, by_bytes);
        return COV_OK;
    }
    free_listing(out);
    *why = REASON_TOO_LARGE;
    return s == COV_OK ? COV_FAIL(COV_FORMAT, "%s: more than %d slices", folder, SLICES_MOST)
                       : COV_FAIL(s, "%s: no memory for its list of files", folder);
}

static status slice_path(const char *folder, const char *name, char path[PATH_MAX], reason *why)
{
    int n = snprintf(path, PATH_MAX, "%s/%s", folder, name);
    if (n > 0 && n < PATH_MAX) return COV_OK;
    *why = REASON_IO_ERROR;
    return COV_FAIL(COV_IO, "%s: the path of a slice is too long", folder);
}

/* Size of the slices, which must agree; refuses 8 bits at the first one. */
static status check_slices(const char *folder, const listing *l, image *first, reason *why)
{
    char path[PATH_MAX];
    if (!l->count) {
        *why = REASON_TRUNCATED;
        return COV_FAIL(COV_FORMAT, "%s: no PNG slices in it", folder);
    }
    for (size_t z = 0; z < l->count; z++) {
        image i;
        COV_TRY(slice_path(folder, l->names[z], path, why));
        COV_TRY(image_header(path, &i, why));
        if (i.bits < 16) {
            *why = REASON_NOT_CT;
            return COV_FAIL(COV_FORMAT, "%s: 8 bits a pixel hold a windowed picture or labels, not Hounsfield units",
                            path);
        }
        if (z == 0) *first = i;
        if (i.rows != first->rows || i.cols != first->cols) {
            *why = REASON_UNSUPPORTED;
            return COV_FAIL(COV_UNSUPPORTED, "%s: %d x %d pixels, but the folder's first slice has %d x %d", path,
                            i.rows, i.cols, first->rows, first->cols);
        }
    }
    return COV_OK;
}

static status header_of(const char *folder, const listing *l, volume_header *out, reason *why)
{
    image first = {0};
    const double lps[4][4] = {{-1, 0, 0, 0}, {0, -1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}};
    memset(out, 0, sizeof *out);
    COV_TRY(check_slices(folder, l, &first, why));
    strcpy(out->format, "png");
    out->native.size[0] = first.cols;
    out->native.size[1] = first.rows;
    out->native.size[2] = (int64_t)l->count;
    COV_TRY(volume_orient(lps, out, why));
    return reader_check_size(folder, out, READER_MOST_BYTES, why);
}

static status header(const char *path, volume_header *out, reason *why)
{
    listing l;
    *why = REASON_NONE;
    COV_TRY(list_folder(path, &l, why));
    status s = header_of(path, &l, out, why);
    free_listing(&l);
    return s;
}

static status read_slice(const char *path, const volume_header *head, int16_t *hu, reason *why)
{
    image i;
    COV_TRY(image_read(path, &i, why));
    if (i.rows != head->ny || i.cols != head->nx || i.bits != 16) {
        image_free(&i);
        *why = REASON_CHANGED;
        return COV_FAIL(COV_FORMAT, "%s: changed after its size was read", path);
    }
    for (int64_t k = 0; k < head->nx * head->ny; k++) hu[k] = (int16_t)((int)i.px[k] - HU_OFFSET);
    image_free(&i);
    return COV_OK;
}

static status voxels(const char *path, const volume_header *head, int16_t *hu, volume_stats *stats, reason *why)
{
    listing l;
    volume_histogram *g = NULL;
    char slice[PATH_MAX];
    status s = COV_OK;
    *why = REASON_NONE;
    COV_TRY(list_folder(path, &l, why));
    if ((int64_t)l.count != head->nz) {
        *why = REASON_CHANGED;
        COV_GO(COV_FAIL(COV_FORMAT, "%s: %zu slices, but %lld when it was first read", path, l.count,
                        (long long)head->nz));
    }
    COV_GO(volume_histogram_new(&g));
    for (size_t z = 0; z < l.count; z++) {
        int16_t *plane = hu + (int64_t)z * head->nx * head->ny;
        COV_GO(slice_path(path, l.names[z], slice, why));
        COV_GO(read_slice(slice, head, plane, why));
        volume_histogram_add(g, plane, (size_t)(head->nx * head->ny));
    }
    volume_histogram_stats(g, stats);
done:
    volume_histogram_free(&g);
    free_listing(&l);
    return s;
}

const reader read_png = {"png", claims, 1, header, voxels};
