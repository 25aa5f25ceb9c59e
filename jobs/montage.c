/* montage: one PNG a study: slices spread evenly over the lung, windowed, with the contours of the right (orange) and left
 * (blue) lung, lesions filled (red), and the network's boxes (yellow) with their scores. Images come from the archive that the cohort was made of, or from --archive. */
#include "data/durable.h"
#include "data/image.h"
#include "data/reader.h"
#include "jobs/jobs.h"
#include "jobs/select.h"
#include "stages/draw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 256, CAPTION = 22, PATH_ROOM = 4096 };
static const draw_colour PAPER = {16, 16, 16}, INK = {230, 230, 230}, RIGHT = {255, 150, 40}, LEFT = {80, 170, 255}, LESION = {255, 40, 60}, BOX = {250, 230, 90};
static const float FILL = 0.45f;

typedef struct screened { /* a study, out of the cohort */
    study_row row;
    uint8_t *lung;
    uint16_t *lesion; /* NULL: none were looked for */
    lesion_row *lesions;
    int64_t lesion_rows;
} screened;

static void screened_free(screened *s)
{
    free(s->lung);
    free(s->lesion);
    free(s->lesions);
}

/* First and last slice with lung; the whole volume if there is none. */
static void lung_range(const uint8_t *lung, int64_t area, int64_t nz, int64_t *first, int64_t *last)
{
    *first = 0;
    *last = nz - 1;
    while (*first < nz && !memchr(lung + *first * area, 1, (size_t)area) && !memchr(lung + *first * area, 2, (size_t)area)) ++*first;
    if (*first == nz) { *first = 0; return; }
    while (!memchr(lung + *last * area, 1, (size_t)area) && !memchr(lung + *last * area, 2, (size_t)area)) --*last;
}

/* Pixel edge i of n samples on the tile. */
static int64_t edge(int64_t at, int64_t extent, int32_t i, int64_t n) { return at + (extent * i + n / 2) / n; }

static void draw_lesions(draw *d, const draw_tile *t, const screened *s, int64_t z, uint8_t *room)
{
    int64_t area = t->nx * t->ny;
    char text[16];
    for (int64_t i = 0; i < area; i++) room[i] = s->lesion[z * area + i] != 0;
    draw_fill(d, t, room, 1, LESION, FILL);
    for (int64_t i = 0; i < s->lesion_rows; i++) {
        const lesion_row *l = &s->lesions[i];
        if (l->z != z) continue;
        int64_t y0 = edge(t->y, t->h, l->box_yxyx[0], t->ny), x0 = edge(t->x, t->w, l->box_yxyx[1], t->nx);
        int64_t y1 = edge(t->y, t->h, l->box_yxyx[2], t->ny) - 1, x1 = edge(t->x, t->w, l->box_yxyx[3], t->nx) - 1;
        draw_line(d, x0, y0, x1, y0, BOX);
        draw_line(d, x0, y1, x1, y1, BOX);
        draw_line(d, x0, y0, x0, y1, BOX);
        draw_line(d, x1, y0, x1, y1, BOX);
        snprintf(text, sizeof text, "%.2f", l->score);
        draw_text(d, x0, y0 - 9 > t->y ? y0 - 9 : y1 + 3, 1, BOX, text);
    }
}

/* What is known of it. */
static void put_caption(const study_row *row, str *to)
{
    str_put(to, row->id);
    if (row->lung_ml > 0) str_putf(to, "  lung %.0f ml  %.0f HU", row->lung_ml, row->lung_mean_hu);
    if (row->lesion_count < 0) return;
    str_putf(to, "  lesions %d", row->lesion_count);
    if (row->lesion_ml >= 0) str_putf(to, "  %.1f ml", row->lesion_ml);
    str_putf(to, "  %.2f %%  suspicion %.2f  %s", row->involvement_percent, row->suspicion, study_period_name(row->period));
}

static status draw_study(const options *o, const screened *study, const int16_t *hu, const char *path)
{
    const study_row *row = &study->row;
    const uint8_t *lung = study->lung;
    draw *d = NULL;
    char text[160];
    str caption = {0};
    uint8_t *room = NULL;
    status s;
    int64_t area = (int64_t)row->rows * row->cols, first, last, tiles = o->tiles, columns = o->columns;
    lung_range(lung, area, row->slices, &first, &last);
    if (tiles > last - first + 1) tiles = last - first + 1;
    if (columns > tiles) columns = tiles;
    int64_t lines = (tiles + columns - 1) / columns, height = (int64_t)(TILE * (row->rows * row->spacing_mm[1]) / (row->cols * row->spacing_mm[0]));
    height = height < TILE / 4 ? TILE / 4 : height > 4 * TILE ? 4 * TILE : height;
    if (!(room = malloc((size_t)area))) { s = COV_FAIL(COV_NOMEM, "no memory for a slice"); goto done; }
    COV_GO(draw_new(columns * TILE, CAPTION + lines * height, PAPER, &d));
    put_caption(row, &caption);
    draw_text(d, 4, 7, 1, INK, str_text(&caption));
    for (int64_t k = 0; k < tiles; k++) {
        int64_t z = last - (tiles > 1 ? k * (last - first) / (tiles - 1) : (last - first) / 2); /* from the apex down */
        draw_tile t = {(k % columns) * TILE, CAPTION + (k / columns) * height, TILE, height, row->cols, row->rows};
        draw_slice(d, &t, window_lung(), hu + z * area);
        if (study->lesion) draw_lesions(d, &t, study, z, room);
        draw_contour(d, &t, lung + z * area, 1, RIGHT);
        draw_contour(d, &t, lung + z * area, 2, LEFT);
        snprintf(text, sizeof text, "Z %lld", (long long)z);
        draw_text(d, t.x + 4, t.y + 4, 1, INK, text);
    }
    COV_GO(image_write_rgb(path, (int32_t)d->height, (int32_t)d->width, d->rgb));
done:
    str_free(&caption);
    free(room);
    draw_free(&d);
    return s;
}

static status read_image(const char *path, const study_row *row, int16_t **hu)
{
    volume_header h;
    volume_stats stats;
    reason why;
    const reader *r = reader_for(path);
    if (!r || !r->header) return COV_FAIL(COV_UNSUPPORTED, "%s: no reader for it", path);
    COV_TRY(r->header(path, &h, &why));
    if (h.nx != row->cols || h.ny != row->rows || h.nz != row->slices)
        return COV_FAIL(COV_FORMAT, "%s: %lld x %lld x %lld, but the cohort's mask is %d x %d x %d: not the file that was screened", path,
                        (long long)h.nx, (long long)h.ny, (long long)h.nz, row->cols, row->rows, row->slices);
    *hu = malloc(sizeof **hu * (size_t)(h.nx * h.ny * h.nz));
    if (!*hu) return COV_FAIL(COV_NOMEM, "no memory for %s", path);
    return r->voxels(path, &h, *hu, &stats, &why);
}

static status montage_study(const options *o, cohort *c, int64_t k, const char *root, const char *folder)
{
    screened study = {0};
    const study_row *row = &study.row;
    int16_t *hu = NULL;
    char path[PATH_ROOM];
    status s;
    COV_GO(cohort_row(c, k, &study.row));
    COV_GO(cohort_lung(c, k, &study.lung));
    if (row->lesion_count >= 0) COV_GO(cohort_lesion(c, k, &study.lesion));
    COV_GO(cohort_lesions(c, k, &study.lesions, &study.lesion_rows));
    if ((size_t)snprintf(path, sizeof path, "%s/%s", root, row->path) >= sizeof path) { s = COV_FAIL(COV_USAGE, "%s/%s: the path is too long", root, row->path); goto done; }
    COV_GO(read_image(path, row, &hu));
    if (strchr(row->id, '/') || row->id[0] == '.') { s = COV_FAIL(COV_FORMAT, "study id %s is no file name", row->id); goto done; }
    if ((size_t)snprintf(path, sizeof path, "%s/%s.png", folder, row->id) >= sizeof path) { s = COV_FAIL(COV_USAGE, "--out %s: the path is too long", folder); goto done; }
    COV_GO(draw_study(o, &study, hu, path));
    puts(path);
done:
    screened_free(&study);
    free(hu);
    return s;
}

int montage_job(const options *o)
{
    cohort *c = NULL;
    int64_t *studies = NULL, count, failed = 0;
    const char *folder = *o->out ? o->out : "montage", *root = o->archive;
    status s;
    if (o->tiles < 1 || o->tiles > 1000 || o->columns < 1 || o->columns > 30) { s = COV_FAIL(COV_USAGE, "--tiles is 1 to 1000, --columns 1 to 30"); goto done; }
    COV_GO(cohort_open(o->words[0], &c));
    if (!*root && !(root = cohort_attribute_find(c, "archive"))) { s = COV_FAIL(COV_USAGE, "%s does not say where its archive is: give --archive DIR", o->words[0]); goto done; }
    COV_GO(select_studies(c, &o->study, &studies, &count));
    COV_GO(durable_folder(folder));
    for (int64_t k = 0; k < count; k++) {
        cohort_place place;
        COV_GO(cohort_place_of(c, studies[k], &place));
        if (!*place.mask_set && !o->study.count) continue;
        if (montage_study(o, c, studies[k], root, folder) == COV_OK) continue;
        fprintf(stderr, "covpipe: %s\n", status_message()); /* one image that is gone does not cost the others */
        failed++;
    }
done:
    free(studies);
    cohort_close(&c);
    return s != COV_OK ? jobs_fail(s) : failed ? EXIT_STUDIES : EXIT_OK;
}
