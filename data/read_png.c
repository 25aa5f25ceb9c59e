/* read_png: one folder of gray PNG slices, in the byte order of their names, is one study.
 *
 * 16-bit images hold Hounsfield units; the convention of the public sets that use them (DeepLesion) is HU + 32768, and
 * their folder is a volume. An 8-bit image is a windowed picture: its folder is a study of isolated slices, whose grey
 * is taken for the method's window (level -500, width 1600). They may differ in size: the study's slices are as large
 * as the largest in either direction, and smaller ones lie in the upper left corner (volume_extent). The traps are
 * masks, which are 8-bit PNG too: a folder of them ends as NOT_CT for its few values, and one among pictures makes the
 * folder NOT_CT by name, because neither it nor the place of its neighbours could be told from a slice later. A PNG
 * carries no spacing, so it is taken as 1 mm and the study gets its flag for nominal spacing. Rows run to posterior,
 * columns to the patient's left. */
#include "base/str.h"
#include "data/image.h"
#include "data/reader.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { HU_OFFSET = 32768, GREY_HU_LOWEST = -1300, GREY_HU_WIDTH = 1600, SLICES_MOST = 32767, LABELS_MOST = 8 };

static int claims(const char *path) { return str_ends_with(path, ".png"); }

static status list_folder(const char *folder, reader_listing *out, reason *why)
{
    COV_TRY(reader_list(&read_png, folder, out, why));
    if (out->count <= SLICES_MOST) return COV_OK;
    reader_listing_free(out);
    *why = REASON_TOO_LARGE;
    return COV_FAIL(COV_FORMAT, "%s: more than %d slices", folder, SLICES_MOST);
}

static status slice_path(const char *folder, const char *name, char path[PATH_MAX], reason *why)
{
    int n = snprintf(path, PATH_MAX, "%s/%s", folder, name);
    if (n > 0 && n < PATH_MAX) return COV_OK;
    *why = REASON_IO_ERROR;
    return COV_FAIL(COV_IO, "%s: the path of a slice is too long", folder);
}

/* Bits of the slices, which must agree, and their size: that of a volume's must, of isolated ones the largest counts.
 */
static status check_slices(const char *folder, const reader_listing *l, image *first, reason *why)
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
        if (z == 0) *first = i;
        if (i.bits != first->bits) {
            *why = REASON_UNSUPPORTED;
            return COV_FAIL(COV_UNSUPPORTED, "%s: %d bits a pixel, but the folder's first slice has %d", path, i.bits,
                            first->bits);
        }
        if (i.bits == 8) {
            first->rows = i.rows > first->rows ? i.rows : first->rows;
            first->cols = i.cols > first->cols ? i.cols : first->cols;
        } else if (i.rows != first->rows || i.cols != first->cols) {
            *why = REASON_UNSUPPORTED;
            return COV_FAIL(COV_UNSUPPORTED, "%s: %d x %d pixels, but the folder's first slice has %d x %d", path,
                            i.rows, i.cols, first->rows, first->cols);
        }
    }
    return COV_OK;
}

static status header_of(const char *folder, const reader_listing *l, volume_header *out, reason *why)
{
    image first = {0};
    const double lps[4][4] = {{-1, 0, 0, 0}, {0, -1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}};
    memset(out, 0, sizeof *out);
    COV_TRY(check_slices(folder, l, &first, why));
    strcpy(out->format, "png");
    out->isolated = first.bits == 8;
    out->native.size[0] = first.cols;
    out->native.size[1] = first.rows;
    out->native.size[2] = (int64_t)l->count;
    COV_TRY(volume_orient(lps, out, why));
    return reader_check_size(folder, out, READER_MOST_BYTES, why);
}

static status header(const char *path, volume_header *out, reason *why)
{
    reader_listing l;
    *why = REASON_NONE;
    COV_TRY(list_folder(path, &l, why));
    status s = header_of(path, &l, out, why);
    reader_listing_free(&l);
    return s;
}

/* More than one grey, and as few as labels have. */
static int looks_like_labels(const image *i)
{
    uint8_t seen[256] = {0};
    int distinct = 0;
    for (int64_t k = 0; k < (int64_t)i->rows * i->cols; k++) seen[i->px[k] & 255] = 1;
    for (int k = 0; k < 256; k++) distinct += seen[k];
    return distinct > 1 && distinct <= LABELS_MOST;
}

static void put_grey(const image *i, const volume_header *head, int16_t *hu, volume_histogram *g)
{
    for (int64_t y = 0; y < head->ny; y++, hu += head->nx) {
        for (int64_t x = 0; x < head->nx; x++)
            hu[x] = y < i->rows && x < i->cols
                        ? (int16_t)(GREY_HU_LOWEST + (2 * GREY_HU_WIDTH * (int)i->px[y * i->cols + x] + 255) / 510)
                        : (int16_t)VOLUME_OUTSIDE;
        if (y < i->rows) volume_histogram_add(g, hu, (size_t)i->cols);
    }
}

static status read_slice(const char *path, const volume_header *head, int16_t *hu, volume_histogram *g, int *labels,
                         reason *why)
{
    image i;
    COV_TRY(image_read(path, &i, why));
    int fits = head->isolated ? i.bits == 8 && i.rows <= head->ny && i.cols <= head->nx
                              : i.bits == 16 && i.rows == head->ny && i.cols == head->nx;
    if (!fits) {
        image_free(&i);
        *why = REASON_CHANGED;
        return COV_FAIL(COV_FORMAT, "%s: changed after its size was read", path);
    }
    *labels = head->isolated && looks_like_labels(&i);
    if (head->isolated) put_grey(&i, head, hu, g);
    for (int64_t k = 0; !head->isolated && k < head->nx * head->ny; k++) hu[k] = (int16_t)((int)i.px[k] - HU_OFFSET);
    if (!head->isolated) volume_histogram_add(g, hu, (size_t)(head->nx * head->ny));
    image_free(&i);
    return COV_OK;
}

static status voxels(const char *path, const volume_header *head, int16_t *hu, volume_stats *stats, reason *why)
{
    reader_listing l;
    volume_histogram *g = NULL;
    char slice[PATH_MAX], first_label[PATH_MAX];
    size_t label_count = 0;
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
        int labels = 0;
        COV_GO(slice_path(path, l.names[z], slice, why));
        COV_GO(read_slice(slice, head, hu + (int64_t)z * head->nx * head->ny, g, &labels, why));
        if (labels && !label_count++) snprintf(first_label, sizeof first_label, "%s", slice);
    }
    volume_histogram_stats(g, stats);
    if (label_count && label_count < l.count) {
        *why = REASON_NOT_CT;
        COV_GO(COV_FAIL(COV_FORMAT, "%s: at most %d grey values: a mask (one of %zu) among %zu pictures; masks go into "
                                    "a folder of their own", first_label, LABELS_MOST, label_count, l.count));
    }
done:
    volume_histogram_free(&g);
    reader_listing_free(&l);
    return s;
}

const reader read_png = {"png", claims, 1, header, voxels, NULL};
