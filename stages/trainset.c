/* trainset: see trainset.h. */
#include "stages/trainset.h"
#include "base/size.h"
#include "data/image.h"
#include "data/mask.h"
#include "data/reader.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool trainset_held_out(const char *list, const char *patient)
{
    size_t n = strlen(patient);
    for (const char *at = list; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, patient, n) == 0 && (at[n] == ',' || at[n] == 0)) return true;
    return false;
}

void trainset_left_out(const weights_file *w, char *to, size_t room)
{
    const char *text = weights_find_text(w, "training"), *at = text ? strstr(text, TRAINSET_LEFT_OUT) : NULL;
    if (at) at += sizeof TRAINSET_LEFT_OUT - 1;
    snprintf(to, room, "%.*s", at ? (int)strcspn(at, "; \n") : 0, at ? at : "");
}

/* The mask's labels, checked against the volume's grid, taken over as 0/1. */
static status read_mask(const char *path, const volume_header *of, uint8_t **out)
{
    reason why;
    mask m = {0};
    COV_TRY(mask_read(path, &m, &why));
    status s = mask_check_grid(&m, of, path);
    if (s == COV_OK) {
        size_t n = (size_t)of->nx * (size_t)of->ny * (size_t)of->nz;
        for (size_t i = 0; i < n; i++) m.label[i] = m.label[i] > 0;
        *out = m.label;
        m.label = NULL;
    }
    mask_free(&m);
    return s;
}

status trainset_read(const cases_row *row, trainset_volume *out)
{
    status s;
    reason why;
    size_t n = 0, bytes = 0;
    *out = (trainset_volume){0};
    const reader *r = reader_for(row->ct);
    if (!r || !r->header || r->per_folder)
        return COV_FAIL(COV_UNSUPPORTED, "case %s: %s is not a volume that can be read", row->id, row->ct);
    COV_GO(r->header(row->ct, &out->ct.head, &why));
    if (!size_product((int64_t[]){out->ct.head.nx, out->ct.head.ny, out->ct.head.nz}, 3, &n) || !size_mul(n, sizeof(int16_t), &bytes))
        COV_GO(COV_FAIL(COV_NOMEM, "case %s is too large", row->id));
    out->ct.hu = malloc(bytes);
    if (!out->ct.hu) COV_GO(COV_FAIL(COV_NOMEM, "no memory for case %s of %zu voxels", row->id, n));
    COV_GO(r->voxels(row->ct, &out->ct.head, out->ct.hu, &out->stats, &why));
    if (row->lung) COV_GO(read_mask(row->lung, &out->ct.head, &out->lung));
    if (row->lesion) COV_GO(read_mask(row->lesion, &out->ct.head, &out->lesion));
done:
    if (s != COV_OK) trainset_volume_free(out);
    return s;
}

void trainset_volume_free(trainset_volume *v)
{
    free(v->ct.hu);
    free(v->lung);
    free(v->lesion);
    *v = (trainset_volume){0};
}

static status add_volume(const cases_row *row, sampler *to)
{
    trainset_volume v;
    COV_TRY(trainset_read(row, &v));
    return sampler_add_volume(to, row->patient, &v.ct.head, v.ct.hu, v.lung, v.lesion);
}

status trainset_read_slice_mask(const cases_row *row, const char *path, int32_t rows, int32_t cols, uint8_t **out)
{
    int32_t r, c;
    COV_TRY(mask_read_slice(path, &r, &c, out));
    if (r == rows && c == cols) return COV_OK;
    free(*out);
    *out = NULL;
    return COV_FAIL(COV_FORMAT, "case %s: %s is %d x %d, its image %d x %d", row->id, path, r, c, rows, cols);
}

static status add_slice(const cases_row *row, sampler *to)
{
    status s;
    int32_t rows, cols;
    uint8_t *grey = NULL, *lung = NULL, *lesion = NULL;
    COV_GO(image_read_u8(row->ct, &rows, &cols, &grey));
    COV_GO(trainset_read_slice_mask(row, row->lung, rows, cols, &lung));
    if (row->lesion) COV_GO(trainset_read_slice_mask(row, row->lesion, rows, cols, &lesion));
    COV_GO(sampler_add_slice(to, row->patient, rows, cols, grey, lung, lesion));
done:
    free(grey);
    free(lung);
    free(lesion);
    return s;
}

status trainset_load(const cases *c, lungnet_view view, const char *hold_out, sampler *to)
{
    for (size_t k = 0; k < c->count; k++) {
        const cases_row *row = &c->rows[k];
        if (!row->lung || trainset_held_out(hold_out, row->patient)) continue;
        if (row->kind == CASES_VOLUME)
            COV_TRY(add_volume(row, to));
        else if (view == LUNGNET_AXIAL)
            COV_TRY(add_slice(row, to));
    }
    return COV_OK;
}
