/* mask: reads label volumes slab by slab into canonical bytes. A value that is no label is an error and not rounded
 * away: a probability map or a CT given as a mask by mistake would train a network on noise. */
#include "data/mask.h"
#include "data/image.h"
#include "data/nifti_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 4096, LABEL_MOST = 255 };
static const double WHOLE_WITHIN = 0.01, GRID_WITHIN = 0.01;

static status to_labels(const char *path, const double *v, size_t count, uint8_t *label, reason *why)
{
    for (size_t i = 0; i < count; i++) {
        double whole = nearbyint(v[i]);
        if (!(whole >= 0 && whole <= LABEL_MOST && fabs(v[i] - whole) <= WHOLE_WITHIN)) { /* NaN too */
            *why = REASON_CORRUPT;
            return COV_FAIL(COV_FORMAT, "%s: a value of %g, expected labels 0 ... %d", path, v[i], LABEL_MOST);
        }
        label[i] = (uint8_t)whole;
    }
    return COV_OK;
}

static status stream(nifti_file *f, uint8_t *label, reason *why)
{
    status s = COV_OK;
    const int64_t *size = f->head.native.size;
    size_t slice = (size_t)(size[0] * size[1]);
    char *raw = malloc(slice * f->element_bytes);
    uint8_t *plane = malloc(slice);
    double block[BLOCK];
    if (!raw || !plane) {
        *why = REASON_TOO_LARGE;
        COV_GO(COV_FAIL(COV_NOMEM, "%s: no memory for slices of %zu voxels", f->image_path, slice));
    }
    COV_GO(nifti_file_start(f, why));
    for (int64_t k = 0; k < size[2]; k++) {
        COV_GO(nifti_file_read(f, raw, slice * f->element_bytes, why));
        nifti_file_unswap(f, raw, slice);
        for (size_t i = 0; i < slice; i += BLOCK) {
            size_t n = slice - i < BLOCK ? slice - i : BLOCK;
            nifti_file_doubles(f, raw + i * f->element_bytes, n, block);
            COV_GO(to_labels(f->header_path, block, n, plane + i, why));
        }
        volume_put_slab(&f->head, k, k + 1, plane, label, 1);
    }
    COV_GO(nifti_file_finish(f, why));
done:
    free(raw);
    free(plane);
    return s;
}

status mask_read(const char *path, mask *out, reason *why)
{
    nifti_file f;
    status s = COV_OK;
    memset(out, 0, sizeof *out);
    COV_TRY(nifti_file_open(path, &f, why));
    out->head = f.head;
    out->label = malloc((size_t)(f.head.nx * f.head.ny * f.head.nz));
    if (!out->label) {
        *why = REASON_TOO_LARGE;
        COV_GO(COV_FAIL(COV_NOMEM, "%s: no memory for its labels", path));
    }
    COV_GO(stream(&f, out->label, why));
done:
    nifti_file_close(&f);
    if (s != COV_OK) mask_free(out);
    return s;
}

status mask_check_grid(const mask *m, const volume_header *of, const char *path)
{
    const volume_header *h = &m->head;
    if (h->nx != of->nx || h->ny != of->ny || h->nz != of->nz)
        return COV_FAIL(COV_FORMAT, "%s: a mask of %lld x %lld x %lld voxels for a volume of %lld x %lld x %lld", path,
                        (long long)h->nx, (long long)h->ny, (long long)h->nz, (long long)of->nx, (long long)of->ny,
                        (long long)of->nz);
    /* The far corner shows a difference in spacing or angle that one voxel step hides. */
    const double corners[2][4] = {{0, 0, 0, 1}, {(double)h->nx, (double)h->ny, (double)h->nz, 1}};
    double least = fmin(of->spacing_mm[0], fmin(of->spacing_mm[1], of->spacing_mm[2]));
    for (int k = 0; k < 2; k++)
        for (int r = 0; r < 3; r++) {
            double apart = 0;
            for (int c = 0; c < 4; c++) apart += (h->affine[r][c] - of->affine[r][c]) * corners[k][c];
            if (fabs(apart) > GRID_WITHIN * least * (k ? 10 : 1) + 1e-3)
                return COV_FAIL(COV_FORMAT, "%s: the mask's grid is %.3g mm away from the volume's", path, fabs(apart));
        }
    return COV_OK;
}

void mask_free(mask *m)
{
    free(m->label);
    memset(m, 0, sizeof *m);
}

status mask_read_slice(const char *path, int32_t *rows, int32_t *cols, uint8_t **out)
{
    COV_TRY(image_read_u8(path, rows, cols, out));
    for (size_t i = 0; i < (size_t)*rows * (size_t)*cols; i++) (*out)[i] = (*out)[i] > 0;
    return COV_OK;
}
