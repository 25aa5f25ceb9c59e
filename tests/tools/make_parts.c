/* make_parts ARCHIVE PART FOLDER: gives every study of ARCHIVE that has none a committed part under FOLDER, so that a run has
 * nothing left to do but gather (scripts/scale-gather.sh). PART is what a run of the same command left for a real study: key
 * (options, weights, backend), row, slices and lung mask are taken from it. Path, id, size, time and digest are each study's own,
 * and so are three lesions: balls at places in the lung that the digest decides. Prints how many parts it wrote. */
#include "data/archive.h"
#include "data/part.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LESIONS = 3, ACROSS = 7, DEEP = 2 /* radii: pixels, slices */, PATH_ROOM = 4096 };

typedef struct ball { int z, y, x; } ball;

/* The n-th lung voxel. */
static ball place(const study_result *r, int64_t n)
{
    int64_t k = 0, nx = r->row.cols, ny = r->row.rows;
    while (!r->lung[k] || n-- > 0) k++;
    return (ball){(int)(k / (nx * ny)), (int)(k / nx % ny), (int)(k % nx)};
}

/* What of a ball is lung on slice z and no earlier ball's. */
static int32_t paint(study_result *r, ball b, int z, uint16_t id)
{
    int32_t area = 0;
    for (int y = b.y - ACROSS; y <= b.y + ACROSS; y++)
        for (int x = b.x - ACROSS; x <= b.x + ACROSS; x++) {
            int across = (y - b.y) * (y - b.y) + (x - b.x) * (x - b.x), deep = (z - b.z) * (z - b.z);
            if (y < 0 || x < 0 || y >= r->row.rows || x >= r->row.cols) continue;
            size_t k = ((size_t)z * (size_t)r->row.rows + (size_t)y) * (size_t)r->row.cols + (size_t)x;
            if (!r->lung[k] || r->lesion[k] || across * DEEP * DEEP + deep * ACROSS * ACROSS > ACROSS * ACROSS * DEEP * DEEP) continue;
            r->lesion[k] = id;
            area++;
        }
    return area;
}

/* r->lesion and r->lesions have room: a plane of each slice, and (2 DEEP + 1) rows of each ball. */
static void add_lesions(study_result *r, const char *digest)
{
    const study_row *row = &r->row;
    ball balls[LESIONS];
    int64_t voxels = 0;
    double mm2 = row->spacing_mm[0] * row->spacing_mm[1];
    for (int64_t z = 0; z < r->slice_count; z++) voxels += r->slices[z].lung_px;
    for (int k = 0; k < LESIONS; k++) {
        char word[9] = "";
        memcpy(word, digest + 8 * k, 8);
        balls[k] = place(r, (int64_t)(strtoull(word, NULL, 16) % (uint64_t)voxels));
    }
    memset(r->lesion, 0, (size_t)row->slices * (size_t)row->rows * (size_t)row->cols * sizeof *r->lesion);
    r->lesion_rows = 0;
    for (int z = 0; z < row->slices; z++) {
        r->slices[z].lesion_px = 0;
        for (int k = 0; k < LESIONS; k++) {
            int32_t area = abs(z - balls[k].z) <= DEEP ? paint(r, balls[k], z, (uint16_t)(k + 1)) : 0;
            if (!area) continue;
            r->slices[z].lesion_px += area;
            r->lesions[r->lesion_rows++] = (lesion_row){
                .z = z, .lesion_id = k + 1, .box_yxyx = {balls[k].y - ACROSS, balls[k].x - ACROSS, balls[k].y + ACROSS + 1, balls[k].x + ACROSS + 1},
                .score = 0.9, .area_px = area, .area_mm2 = area * mm2, .mean_hu = -500, .period = -1};
        }
    }
    r->row.lesion_count = LESIONS;
    r->row.tiny_count = 0;
}

/* *made 0: the study has a part. */
static status make_part(const char *folder, const archive_entry *e, part_key *key, study_result *r, int *made)
{
    char file[PATH_ROOM];
    snprintf(key->path, sizeof key->path, "%s", e->path);
    COV_TRY(part_name(folder, key, file, sizeof file));
    *made = access(file, F_OK) != 0;
    if (!*made) return COV_OK;
    key->size = e->bytes;
    key->mtime_ns = e->mtime_ns;
    COV_TRY(sha256_bytes(e->path, strlen(e->path), key->input_sha256));
    snprintf(r->row.path, sizeof r->row.path, "%s", e->shown);
    snprintf(r->row.id, sizeof r->row.id, "%s", e->id);
    memcpy(r->row.input_sha256, key->input_sha256, sizeof key->input_sha256);
    add_lesions(r, key->input_sha256);
    COV_TRY(part_write(folder, key, r));
    return COV_OK;
}

static status make_all(const char *root, const char *model, const char *folder, int64_t *count)
{
    archive *a = NULL;
    part_key key;
    study_result r = {0};
    status s;
    COV_GO(part_read(model, &key, &r));
    if (!r.lung || r.lesion) COV_GO(COV_FAIL(COV_USAGE, "%s: expected a study that has lungs, of a run with --model none", model));
    r.lesion = malloc((size_t)r.row.slices * (size_t)r.row.rows * (size_t)r.row.cols * sizeof *r.lesion);
    r.lesions = calloc(LESIONS * (2 * DEEP + 1), sizeof *r.lesions);
    if (!r.lesion || !r.lesions) COV_GO(COV_FAIL(COV_NOMEM, "no memory for lesions"));
    COV_GO(archive_walk(root, &(archive_options){0}, &a));
    for (int64_t k = 0; k < a->count; k++) {
        int made = 0;
        COV_GO(make_part(folder, &a->entries[k], &key, &r, &made));
        *count += made;
    }
done:
    archive_free(&a);
    study_result_free(&r);
    return s;
}

int main(int argc, char **argv)
{
    int64_t count = 0;
    if (argc != 4) return fprintf(stderr, "make_parts ARCHIVE PART FOLDER\n"), 2;
    if (make_all(argv[1], argv[2], argv[3], &count) != COV_OK) return fprintf(stderr, "%s (%s)\n", status_message(), status_trace()), 1;
    return printf("%lld parts\n", (long long)count), 0;
}
