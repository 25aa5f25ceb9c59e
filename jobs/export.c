/* export: masks out of a cohort, as NIfTI on each input's own grid, so that they overlay the image voxel for voxel in
 * any viewer. The cohort file alone is enough: it keeps the input's geometry bit for bit. */
#include "data/durable.h"
#include "data/nifti.h"
#include "jobs/jobs.h"
#include "jobs/select.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The header that the mask was made from, as far as a mask needs it. */
static volume_header header_of(const study_row *row)
{
    volume_header h = {.nx = row->cols, .ny = row->rows, .nz = row->slices};
    memcpy(h.spacing_mm, row->spacing_mm, sizeof h.spacing_mm);
    memcpy(h.affine, row->affine, sizeof h.affine);
    memcpy(&h.native, row->native, sizeof h.native);
    return h;
}

/* The geometry comes from a file that anybody may have written: a permutation of the mask's own sizes, or nothing. */
static int native_fits(const volume_header *h)
{
    const int64_t size[3] = {h->nx, h->ny, h->nz};
    int seen = 0;
    for (int c = 0; c < 3; c++) {
        int a = h->native.axis[c];
        if (a < 0 || a > 2 || h->native.size[a] != size[c]) return 0;
        seen |= 1 << a;
    }
    return seen == 7;
}

/* One mask of canonical order as "<folder>/<id>_<name>.nii.gz". */
static status write_mask(const volume_header *h, const void *canonical, nifti_type type, const char *folder,
                         const char *id, const char *name)
{
    char path[4096];
    size_t bytes = nifti_type_bytes(type);
    if ((size_t)snprintf(path, sizeof path, "%s/%s_%s.nii.gz", folder, id, name) >= sizeof path)
        return COV_FAIL(COV_USAGE, "--out %s: the path is too long", folder);
    void *native = malloc((size_t)(h->nx * h->ny * h->nz) * bytes);
    if (!native) return COV_FAIL(COV_NOMEM, "no memory for the mask of %s", id);
    volume_to_native(h, canonical, native, bytes);
    status s = nifti_write(path, h, native, type);
    free(native);
    COV_TRY(s);
    puts(path);
    return COV_OK;
}

static status export_study(cohort *c, int64_t k, const char *folder, int64_t *written)
{
    study_row row;
    uint8_t *lung = NULL;
    uint16_t *lesion = NULL;
    status s;
    COV_GO(cohort_row(c, k, &row));
    volume_header h = header_of(&row);
    if (!native_fits(&h)) {
        s = COV_FAIL(COV_FORMAT, "study %s: its stored grid does not fit its mask of %d x %d x %d", row.id, row.cols,
                     row.rows, row.slices);
        goto done;
    }
    if (strchr(row.id, '/') || row.id[0] == '.') {
        s = COV_FAIL(COV_FORMAT, "study id %s is no file name", row.id);
        goto done;
    }
    COV_GO(cohort_lung(c, k, &lung));
    COV_GO(write_mask(&h, lung, NIFTI_U8, folder, row.id, "lung"));
    ++*written;
    if (row.lesion_count < 0) goto done;
    COV_GO(cohort_lesion(c, k, &lesion));
    COV_GO(write_mask(&h, lesion, NIFTI_U16, folder, row.id, "lesion"));
    ++*written;
done:
    free(lung);
    free(lesion);
    return s;
}

int export_job(const options *o)
{
    cohort *c = NULL;
    int64_t *studies = NULL, count, written = 0;
    const char *folder = *o->out ? o->out : ".";
    status s;
    COV_GO(cohort_open(o->words[0], &c));
    COV_GO(select_studies(c, &o->study, &studies, &count));
    COV_GO(durable_folder(folder));
    for (int64_t k = 0; k < count; k++) {
        cohort_place place;
        COV_GO(cohort_place_of(c, studies[k], &place));
        if (!*place.mask_set && !o->study.count)
            continue; /* all: those that have a mask; named: an error says why not */
        COV_GO(export_study(c, studies[k], folder, &written));
    }
    fprintf(stderr, "%lld masks; lung: 0 background, 1 right, 2 left; lesion: 0, or the lesion's number\n",
            (long long)written);
done:
    free(studies);
    cohort_close(&c);
    return s == COV_OK ? EXIT_OK : jobs_fail(s);
}
