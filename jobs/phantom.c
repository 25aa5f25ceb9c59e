/* phantom: writes an archive of analytic chests in different sizes, spacings, orientations and NIfTI variants, the truth
 * beside it, and with --odd the files that a real archive also holds: damaged, not a chest, a label map, a copy.
 *
 *   OUT/archive/<site>/<study>/ct.nii[.gz]     OUT/truth/<study>/lung.nii.gz, lesion.nii.gz
 *   OUT/cases.csv  (columns of annotated cases) OUT/truth.csv (volumes in ml, lesion counts) */
#include "data/durable.h"
#include "data/nifti.h"
#include "jobs/jobs.h"
#include "stages/phantom.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_ROOM = 4096 };

typedef struct chest {
    char name[32], folder[64]; /* folder under archive/ */
    phantom_options shape;
    nifti_layout layout;
    const char *file;
    double affine[4][4];
} chest;

typedef struct tables { str cases, truth; } tables;

static int64_t pick(uint64_t seed, uint64_t k, const int64_t *from, int n) { return from[(int)(phantom_uniform(seed, k) * n)]; }

/* Canonical index -> RAS+ mm, centred, with a table offset. */
static void set_affine(const phantom_options *o, double affine[4][4])
{
    memset(affine, 0, 16 * sizeof(double));
    const double sign[3] = {-1, -1, 1};
    const int64_t size[3] = {o->nx, o->ny, o->nz};
    for (int k = 0; k < 3; k++) {
        affine[k][k] = sign[k] * o->spacing_mm[k];
        affine[k][3] = -affine[k][k] * (double)(size[k] - 1) / 2 + (k == 2 ? -180 : 0);
    }
    affine[3][3] = 1;
}

static chest chest_of(const options *o, int k)
{
    static const int64_t sizes[] = {192, 224, 256, 320}, counts[] = {30, 36, 44, 56};
    static const int8_t axes[4][3] = {{0, 1, 2}, {0, 1, 2}, {1, 0, 2}, {2, 0, 1}};
    uint64_t seed = (uint64_t)o->seed * 1000003u + (uint64_t)k;
    chest c = {.shape = {.seed = seed, .body = PHANTOM_CHEST, .threads = (int)o->threads}, .file = k % 3 == 2 ? "ct.nii" : "ct.nii.gz"};
    int64_t size = o->size ? o->size : pick(seed, 1, sizes, 4);
    c.shape.nx = c.shape.ny = size;
    c.shape.nz = o->slices ? o->slices : pick(seed, 2, counts, 4);
    c.shape.spacing_mm[0] = c.shape.spacing_mm[1] = (360 + 40 * phantom_uniform(seed, 3)) / (double)size;
    c.shape.spacing_mm[2] = (300 + 30 * phantom_uniform(seed, 4)) / (double)c.shape.nz;
    c.shape.lesions = k < o->healthy ? 0 : 4 + (int)(10 * phantom_uniform(seed, 5));
    c.layout = nifti_layout_plain(NIFTI_I16);
    for (int i = 0; i < 3; i++) {
        c.layout.axis[i] = axes[k % 4][i];
        c.layout.flip[i] = (int8_t)(phantom_uniform(seed, 10 + (uint64_t)i) < 0.5);
    }
    c.layout.version = k % 5 == 4 ? 2 : 1;
    c.layout.big_endian = k % 7 == 6;
    if (k % 4 == 1) c.layout.inter = -1024, c.layout.slope = 1;
    if (k % 6 == 3) c.layout.type = NIFTI_F32;
    snprintf(c.name, sizeof c.name, "phantom%03d", k + 1);
    snprintf(c.folder, sizeof c.folder, "site-%c/%s", 'a' + k % 2, c.name);
    set_affine(&c.shape, c.affine);
    return c;
}

static status path_to(const options *o, char *to, const char *format, ...) __attribute__((format(printf, 3, 4)));
static status path_to(const options *o, char *to, const char *format, ...)
{
    char tail[512];
    va_list args;
    va_start(args, format);
    vsnprintf(tail, sizeof tail, format, args);
    va_end(args);
    if (snprintf(to, PATH_ROOM, "%s/%s", o->out, tail) >= PATH_ROOM) return COV_FAIL(COV_USAGE, "--out %s: the path is too long", o->out);
    return COV_OK;
}

static status write_mask(const options *o, const chest *c, const uint8_t *mask, const char *what)
{
    char path[PATH_ROOM];
    nifti_layout layout = c->layout; /* the same orientation as the image */
    layout.type = NIFTI_U8;
    layout.slope = layout.inter = 0;
    COV_TRY(path_to(o, path, "truth/%s/%s.nii.gz", c->name, what));
    return nifti_write_canonical_u8(path, mask, c->shape.nx, c->shape.ny, c->shape.nz, c->affine, &layout);
}

static status write_chest(const options *o, const chest *c, tables *t)
{
    char path[PATH_ROOM];
    phantom *p = NULL;
    status s;
    COV_GO(phantom_new(&c->shape, &p));
    COV_GO(path_to(o, path, "archive/%s", c->folder));
    COV_GO(durable_folder(path));
    COV_GO(path_to(o, path, "archive/%s/%s", c->folder, c->file));
    COV_GO(nifti_write_canonical(path, p->hu, c->shape.nx, c->shape.ny, c->shape.nz, c->affine, &c->layout));
    COV_GO(path_to(o, path, "truth/%s", c->name));
    COV_GO(durable_folder(path));
    COV_GO(write_mask(o, c, p->lung, "lung"));
    COV_GO(write_mask(o, c, p->lesion, "lesion"));
    str_putf(&t->cases, "%s,%s,volume,archive/%s/%s,truth/%s/lung.nii.gz,truth/%s/lesion.nii.gz,%s,test,hu,covpipe phantom\n", c->name,
             c->name, c->folder, c->file, c->name, c->name, c->shape.lesions ? "" : "0");
    str_putf(&t->truth, "%s,%s/%s,%.3f,%.3f,%.3f,%d,%d\n", c->name, c->folder, c->file, p->lung_right_ml, p->lung_left_ml, p->lesion_ml,
             p->regions, p->tiny);
done:
    phantom_free(&p);
    return s;
}

static status read_all(const char *path, char **bytes, size_t *n)
{
    status s = COV_OK;
    FILE *f = fopen(path, "rb");
    *bytes = NULL;
    if (!f || fseek(f, 0, SEEK_END) || ftell(f) < 0) { s = COV_FAIL(COV_IO, "%s: cannot read: %s", path, strerror(errno)); goto done; }
    *n = (size_t)ftell(f);
    rewind(f);
    *bytes = malloc(*n + 1);
    if (!*bytes || fread(*bytes, 1, *n, f) != *n) s = COV_FAIL(COV_IO, "%s: cannot read %zu bytes", path, *n);
done:
    if (f) fclose(f);
    return s;
}

/* A head, a label map, a copy of the first study, a truncated one, a file that is no NIfTI at all. */
static status write_odd(const options *o)
{
    char path[PATH_ROOM];
    char *bytes = NULL;
    size_t n;
    status s;
    phantom *head = NULL;
    chest first = chest_of(o, 0), c = first;
    c.shape.body = PHANTOM_HEAD;
    c.layout = nifti_layout_plain(NIFTI_I16);
    COV_GO(path_to(o, path, "archive/odd"));
    COV_GO(durable_folder(path));
    COV_GO(phantom_new(&c.shape, &head));
    COV_GO(path_to(o, path, "archive/odd/head.nii.gz"));
    COV_GO(nifti_write_canonical(path, head->hu, c.shape.nx, c.shape.ny, c.shape.nz, (const double(*)[4])c.affine, &c.layout));
    COV_GO(path_to(o, path, "archive/%s/%s", first.folder, first.file));
    COV_GO(read_all(path, &bytes, &n));
    COV_GO(path_to(o, path, "archive/odd/copy.nii.gz"));
    COV_GO(durable_write(path, bytes, n));
    COV_GO(path_to(o, path, "archive/odd/truncated.nii.gz"));
    COV_GO(durable_write(path, bytes, n / 2));
    COV_GO(path_to(o, path, "archive/odd/garbage.nii"));
    COV_GO(durable_write(path, "this is not a NIfTI file, whatever its name says\n", 49));
    COV_GO(path_to(o, path, "archive/odd/readme.txt"));
    COV_GO(durable_write(path, "A file that is no study is ignored and counted.\n", 48));
    free(bytes);
    bytes = NULL;
    COV_GO(path_to(o, path, "truth/%s/lung.nii.gz", first.name));
    COV_GO(read_all(path, &bytes, &n));
    COV_GO(path_to(o, path, "archive/odd/labels.nii.gz"));
    COV_GO(durable_write(path, bytes, n));
done:
    phantom_free(&head);
    free(bytes);
    return s;
}

static status write_archive(const options *o, tables *t)
{
    char path[PATH_ROOM];
    str_put(&t->cases, "id,patient,kind,ct,lung,lesion,period,split,intensity,source\n");
    str_put(&t->truth, "id,path,lung_right_ml,lung_left_ml,lesion_ml,lesions,tiny\n");
    for (int k = 0; k < o->studies; k++) {
        chest c = chest_of(o, k);
        COV_TRY(write_chest(o, &c, t));
        if (!o->quiet) fprintf(stderr, "\rphantom %d of %lld", k + 1, o->studies);
    }
    if (!o->quiet) fprintf(stderr, "\n");
    if (o->odd && o->studies) COV_TRY(write_odd(o));
    COV_TRY(path_to(o, path, "truth.csv"));
    COV_TRY(durable_write(path, str_text(&t->truth), t->truth.length));
    COV_TRY(path_to(o, path, "cases.csv")); /* last: it says that all is there */
    return durable_write(path, str_text(&t->cases), t->cases.length);
}

int phantom_job(const options *o)
{
    tables t = {{0}, {0}};
    status s;
    if (!*o->out) s = COV_FAIL(COV_USAGE, "covpipe phantom needs --out DIR");
    else if (o->studies < 1 || o->studies > 100000) s = COV_FAIL(COV_USAGE, "--studies %lld: expected 1 to 100000", o->studies);
    else s = write_archive(o, &t);
    if (s == COV_OK) printf("%lld chests in %s/archive, their truth in %s/truth and %s/cases.csv\n", o->studies, o->out, o->out, o->out);
    str_free(&t.cases);
    str_free(&t.truth);
    return s == COV_OK ? EXIT_OK : jobs_fail(s);
}
