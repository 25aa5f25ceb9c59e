/* sampler: see sampler.h. */
#include "stages/sampler.h"
#include "base/size.h"
#include "stages/lungplane.h"
#include <stdlib.h>
#include <string.h>

enum { NAME = 64, KINDS = 3 };
enum { EMPTY, LUNG, LESION }; /* which planes a list holds */

typedef struct source {
    int patient; /* index into s->patients */
    int isolated;
    int16_t *hu;
    uint8_t *lung, *lesion; /* lesion NULL: none */
    int64_t nx, ny, nz;
    double fit_rows, fit_cols;
    int64_t *planes[KINDS], count[KINDS]; /* plane numbers; LUNG includes LESION */
} source;

typedef struct group { /* one patient's sources of one kind, volumes or isolated slices */
    int *sources, count;
    int *with_lesion, lesions; /* isolated slices only */
} group;

struct sampler {
    sampler_options options;
    source *sources;
    int count;
    char (*patients)[NAME];
    int patient_count;
    group *groups[2]; /* [isolated][patient] */
    int *present[2], present_count[2]; /* patients with sources of that kind */
};

sampler_options sampler_defaults(lungnet_view view)
{
    sampler_options o = {.view = view, .seed = 1, .augment = augment_defaults(), .slices = 0.25f, .lesions = 0.35f, .empty = 0.12f};
    if (view == LUNGNET_SAGITTAL) {
        o.augment.stretch = 0.4f; /* slice spacing is often nominal: the same chest comes in many heights */
        o.augment.opacity = 0.7f; /* no isolated slices with consolidation to learn from here */
        o.augment.dense = 0.28f;
        o.augment.rotate = 0.2f;
        o.augment.pleura_from = -1.2f; /* behind, where COVID consolidates (the columns run that way): taught in front and at the */
        o.augment.pleura_to = 1.2f;    /* dome as well, the network calls heart, liver and spleen lung */
    }
    return o;
}

status sampler_new(const sampler_options *o, sampler **out)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return COV_FAIL(COV_NOMEM, "no memory for a sampler");
    (*out)->options = *o;
    return COV_OK;
}

static void source_free(source *v)
{
    free(v->hu);
    free(v->lung);
    free(v->lesion);
    for (int k = 0; k < KINDS; k++) free(v->planes[k]);
}

void sampler_free(sampler **sp)
{
    sampler *s = *sp;
    if (!s) return;
    for (int k = 0; k < s->count; k++) source_free(&s->sources[k]);
    for (int i = 0; i < 2; i++) {
        for (int p = 0; s->groups[i] && p < s->patient_count; p++) {
            free(s->groups[i][p].sources);
            free(s->groups[i][p].with_lesion);
        }
        free(s->groups[i]);
        free(s->present[i]);
    }
    free(s->sources);
    free(s->patients);
    free(s);
    *sp = NULL;
}

/* ---- filling */

/* Grows *list by one element of `bytes`; NULL and *list untouched without memory. */
static void *grow(void **list, int count, size_t bytes)
{
    void *larger = realloc(*list, (size_t)(count + 1) * bytes);
    if (!larger) return NULL;
    *list = larger;
    memset((char *)larger + (size_t)count * bytes, 0, bytes);
    return (char *)larger + (size_t)count * bytes;
}

static status push(int **list, int *count, int value)
{
    int *slot = grow((void **)list, *count, sizeof **list);
    if (!slot) return COV_FAIL(COV_NOMEM, "no memory for %d training planes", *count + 1);
    *slot = value;
    ++*count;
    return COV_OK;
}

static status patient_of(sampler *s, const char *name, int *out)
{
    for (int p = 0; p < s->patient_count; p++)
        if (strncmp(s->patients[p], name, NAME - 1) == 0) {
            *out = p;
            return COV_OK;
        }
    char *slot = grow((void **)&s->patients, s->patient_count, NAME);
    for (int i = 0; slot && i < 2; i++)
        if (!grow((void **)&s->groups[i], s->patient_count, sizeof(group))) slot = NULL;
    if (!slot) return COV_FAIL(COV_NOMEM, "no memory for %d training patients", s->patient_count + 1);
    strncpy(slot, name, NAME - 1);
    *out = s->patient_count++;
    return COV_OK;
}

static void plane_steps(const source *v, lungnet_view view, augment_plane *p)
{
    if (view == LUNGNET_AXIAL)
        *p = (augment_plane){.rows = v->ny, .cols = v->nx, .row_step = v->nx, .col_step = 1};
    else
        *p = (augment_plane){.rows = v->nz, .cols = v->ny, .row_step = v->nx * v->ny, .col_step = v->nx};
    p->fit_rows = v->fit_rows;
    p->fit_cols = v->fit_cols;
}

/* The planes of the view that hold any lung and any lesion. */
static status list_planes(source *v, lungnet_view view)
{
    int64_t planes = view == LUNGNET_AXIAL ? v->nz : v->nx;
    status s = COV_OK;
    unsigned char *has = calloc((size_t)planes, 1);
    for (int k = 0; k < KINDS; k++) v->planes[k] = malloc((size_t)planes * sizeof(int64_t));
    if (!has || !v->planes[0] || !v->planes[1] || !v->planes[2]) COV_GO(COV_FAIL(COV_NOMEM, "no memory to list planes"));
    for (int64_t z = 0, i = 0; z < v->nz; z++)
        for (int64_t y = 0; y < v->ny; y++)
            for (int64_t x = 0; x < v->nx; x++, i++) {
                int64_t at = view == LUNGNET_AXIAL ? z : x;
                if (v->lung[i]) has[at] |= 1 << LUNG;
                if (v->lesion && v->lesion[i]) has[at] |= 1 << LESION;
            }
    for (int64_t p = 0; p < planes; p++)
        for (int k = 0; k < KINDS; k++)
            if (k == EMPTY ? !has[p] : has[p] & 1 << k) v->planes[k][v->count[k]++] = p;
done:
    free(has);
    return s;
}

/* Takes v's arrays into the sampler; frees them on failure. */
static status add(sampler *s, const char *patient, source *v)
{
    status st = list_planes(v, s->options.view);
    if (st == COV_OK) st = patient_of(s, patient, &v->patient);
    source *slot = st == COV_OK ? grow((void **)&s->sources, s->count, sizeof *s->sources) : NULL;
    if (!slot) {
        source_free(v);
        return st == COV_OK ? COV_FAIL(COV_NOMEM, "no memory for %d training sources", s->count + 1) : st;
    }
    *slot = *v;
    int k = s->count++; /* from here on the sampler owns the arrays */
    group *g = &s->groups[v->isolated][v->patient];
    if (g->count == 0) COV_TRY(push(&s->present[v->isolated], &s->present_count[v->isolated], v->patient));
    COV_TRY(push(&g->sources, &g->count, k));
    if (v->isolated && v->count[LESION] > 0) COV_TRY(push(&g->with_lesion, &g->lesions, k));
    return COV_OK;
}

status sampler_add_volume(sampler *s, const char *patient, const volume_header *head, int16_t *hu, uint8_t *lung,
                          uint8_t *lesion)
{
    source v = {.hu = hu, .lung = lung, .lesion = lesion, .nx = head->nx, .ny = head->ny, .nz = head->nz};
    plane_set p;
    status st = lungplane_of(s->options.view, head, &p);
    if (st != COV_OK) {
        source_free(&v);
        return st;
    }
    v.fit_rows = (double)p.used_rows;
    v.fit_cols = (double)p.used_cols;
    return add(s, patient, &v);
}

status sampler_add_slice(sampler *s, const char *patient, int64_t rows, int64_t cols, const uint8_t *grey,
                         const uint8_t *lung, const uint8_t *lesion)
{
    if (s->options.view != LUNGNET_AXIAL) return COV_FAIL(COV_USAGE, "isolated slices train the axial network only");
    size_t n;
    if (!size_product((int64_t[]){rows, cols}, 2, &n) || n == 0)
        return COV_FAIL(COV_FORMAT, "a slice of %lld x %lld pixels cannot be trained on", (long long)rows, (long long)cols);
    volume_header as_volume = {.nx = cols, .ny = rows, .nz = 1, .isolated = 1, .spacing_mm = {1.0, 1.0, 1.0}};
    plane_set p;
    COV_TRY(lungplane_of(LUNGNET_AXIAL, &as_volume, &p));
    source v = {.isolated = 1, .nx = cols, .ny = rows, .nz = 1, .fit_rows = (double)p.used_rows, .fit_cols = (double)p.used_cols};
    v.hu = malloc(n * sizeof *v.hu);
    v.lung = malloc(n);
    v.lesion = lesion ? malloc(n) : NULL;
    if (!v.hu || !v.lung || (lesion && !v.lesion)) {
        source_free(&v);
        return COV_FAIL(COV_NOMEM, "no memory for a slice of %zu pixels", n);
    }
    window w = window_lung();
    for (size_t i = 0; i < n; i++) {
        v.hu[i] = (int16_t)(w.level - 0.5f * w.width + w.width * (float)grey[i] / 255.0f);
        v.lung[i] = lung[i] > 0;
        if (lesion) v.lesion[i] = lesion[i] > 0;
    }
    return add(s, patient, &v);
}

status sampler_check(const sampler *s, int *volumes, int *slices, int *patients)
{
    int v = 0;
    for (int k = 0; k < s->count; k++) v += !s->sources[k].isolated;
    *volumes = v;
    *slices = s->count - v;
    *patients = s->patient_count;
    if (s->count == 0)
        return COV_FAIL(COV_USAGE, "no annotated case to train %s on: cases need an image and a lung mask",
                        lungnet_model(s->options.view));
    return COV_OK;
}

/* ---- drawing */

static const source *draw_isolated(const sampler *s, rng *r)
{
    const group *g = &s->groups[1][s->present[1][rng_below(r, (uint64_t)s->present_count[1])]];
    if (g->lesions > 0 && rng_chance(r, s->options.lesions))
        return &s->sources[g->with_lesion[rng_below(r, (uint64_t)g->lesions)]];
    return &s->sources[g->sources[rng_below(r, (uint64_t)g->count)]];
}

static int64_t draw_plane(const sampler *s, const source *v, rng *r)
{
    float u = rng_unit(r);
    int kind = u < s->options.empty ? EMPTY : u < s->options.empty + s->options.lesions ? LESION : LUNG;
    if (v->count[kind] == 0) kind = LUNG;
    if (v->count[kind] == 0) kind = EMPTY;
    return v->planes[kind][rng_below(r, (uint64_t)v->count[kind])];
}

void sampler_get(const sampler *s, uint64_t k, const augment_canvas *to)
{
    rng r = rng_start(s->options.seed, k);
    int isolated = s->present_count[1] > 0 && (s->present_count[0] == 0 || rng_chance(&r, s->options.slices));
    const source *v;
    int64_t plane = 0;
    if (isolated)
        v = draw_isolated(s, &r);
    else {
        const group *g = &s->groups[0][s->present[0][rng_below(&r, (uint64_t)s->present_count[0])]];
        v = &s->sources[g->sources[rng_below(&r, (uint64_t)g->count)]];
        plane = draw_plane(s, v, &r);
    }
    augment_plane p;
    plane_steps(v, s->options.view, &p);
    p.fit_rows *= (double)to->rows / (s->options.view == LUNGNET_AXIAL ? 512.0 : 256.0);
    p.fit_cols *= (double)to->cols / (s->options.view == LUNGNET_AXIAL ? 512.0 : 256.0);
    int64_t offset = s->options.view == LUNGNET_AXIAL ? plane * v->nx * v->ny : plane;
    p.hu = v->hu + offset;
    p.lung = v->lung + offset;
    p.lesion = v->lesion ? v->lesion + offset : NULL;
    augment_run(&s->options.augment, &r, &p, to);
}
