/* lesionset: see lesionset.h. In order: filling from arrays, from the table of cases, drawing, one picture. */
#include "stages/lesionset.h"
#include "base/size.h"
#include "data/image.h"
#include "stages/lesionnet.h"
#include "stages/period.h"
#include "stages/regions.h"
#include "stages/trainset.h"
#include "stages/triplet.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert((int)LESIONSET_BOXES == (int)LESIONNET_BOXES, "the networks take as many boxes as there are");

enum { NAME = 64, PARTS_MOST = 4, POOLS = 2 };
enum { CLEAN, LESION };         /* pools of keys */
#define LEAST_AREA_512 6.0      /* pixels of 512 x 512: smaller regions have no box */

typedef struct source {
    lesionset_kind kind;
    int eight_bit, whole;        /* whole: no lung mask */
    int healthy;                 /* the table says so, and there is no lesion */
    int given;                   /* the table's period */
    int64_t nx, ny, nz;
    int16_t *hu;
    uint8_t *marks;
    int8_t *proxy;               /* (nz) label by the proxy; -1 without lesion */
    float row, col, high, wide;  /* where the lungs lie, all slices together */
} source;

typedef struct key {
    int source;
    int64_t z;
} key;

typedef struct patient {
    char name[NAME];
    lesionset_kind kind;
    key *keys[POOLS];
    int64_t count[POOLS];
} patient;

struct lesionset {
    source *sources;
    int source_count;
    patient *patients;           /* one for each name and kind */
    int patient_count;
    double weight[LESIONSET_KINDS]; /* sum over the kind's patients */
};

lesionset_options lesionset_defaults(void)
{
    return (lesionset_options){.seed = 1,
                               .healthy = 0.2f,
                               .slices = 0.4f,
                               .clean = 0.2f,
                               .alone = 0.2f,
                               .merge = 0.12f,
                               .augment = tripletaug_defaults()};
}

void lesionset_describe(const lesionset_options *o, char *to, size_t room)
{
    snprintf(
        to, room, "samples: healthy %g, isolated %g, without lesion %g, shown alone %g, merged %g; periods: %s",
        (double)o->healthy, (double)o->slices, (double)o->clean, (double)o->alone, (double)o->merge,
        o->period_proxy ? "the table's, else a proxy of extent and density, no radiologist's" : "the table's");
}

status lesionset_new(lesionset **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? COV_OK : COV_FAIL(COV_NOMEM, "no memory for a set of lesion triplets");
}

static void source_free(source *v)
{
    free(v->hu);
    free(v->marks);
    free(v->proxy);
}

void lesionset_free(lesionset **sp)
{
    lesionset *s = *sp;
    if (!s) return;
    for (int k = 0; k < s->source_count; k++) source_free(&s->sources[k]);
    for (int k = 0; k < s->patient_count; k++)
        for (int p = 0; p < POOLS; p++) free(s->patients[k].keys[p]);
    free(s->sources);
    free(s->patients);
    free(s);
    *sp = NULL;
}

/* ---- filling */

static double patient_weight(const patient *p)
{
    return sqrt((double)(p->count[CLEAN] + p->count[LESION]));
}

static status patient_of(lesionset *s, const char *name, lesionset_kind kind, patient **out)
{
    for (int k = 0; k < s->patient_count; k++)
        if (s->patients[k].kind == kind && strncmp(s->patients[k].name, name, NAME - 1) == 0) {
            *out = &s->patients[k];
            return COV_OK;
        }
    patient *larger = realloc(s->patients, (size_t)(s->patient_count + 1) * sizeof *larger);
    if (!larger) return COV_FAIL(COV_NOMEM, "no memory for %d patients", s->patient_count + 1);
    s->patients = larger;
    *out = &larger[s->patient_count++];
    **out = (patient){.kind = kind};
    strncpy((*out)->name, name, NAME - 1);
    return COV_OK;
}

/* The lungs' rectangle over all slices. */
static void find_lungs(source *v)
{
    int64_t r0 = v->ny, r1 = 0, c0 = v->nx, c1 = 0;
    for (int64_t i = 0; i < v->nx * v->ny * v->nz; i++) {
        if (!(v->marks[i] & TRIPLETAUG_ROI)) continue;
        int64_t r = i / v->nx % v->ny, c = i % v->nx;
        r0 = r < r0 ? r : r0;
        r1 = r + 1 > r1 ? r + 1 : r1;
        c0 = c < c0 ? c : c0;
        c1 = c + 1 > c1 ? c + 1 : c1;
    }
    if (r1 == 0) r0 = c0 = 0, r1 = v->ny, c1 = v->nx;
    v->row = 0.5f * (float)(r0 + r1) - 0.5f;
    v->col = 0.5f * (float)(c0 + c1) - 0.5f;
    v->high = (float)(r1 - r0);
    v->wide = (float)(c1 - c0);
}

/* Marks, labels and the lungs' place; *ill: there is lesion. */
static status mark(const lesionset_source *from, source *v, int *ill)
{
    size_t px = (size_t)(v->nx * v->ny);
    *ill = 0;
    for (int64_t z = 0; z < v->nz; z++) {
        size_t at = (size_t)z * px;
        uint8_t *marks = v->marks + at;
        if (from->lung)
            triplet_roi(from->lung + at, v->ny, v->nx, marks); /* 0/1, and TRIPLETAUG_ROI is 1 */
        else
            memset(marks, TRIPLETAUG_ROI, px);
        v->proxy[z] = -1;
        if (!from->lesion) continue;
        for (size_t i = 0; i < px; i++)
            if (from->lesion[at + i] && marks[i]) marks[i] |= TRIPLETAUG_LESION;
        period_counts c = period_count(px, v->hu + at, from->lung ? from->lung + at : NULL, from->lesion + at,
                                       from->classes ? from->classes + at : NULL);
        v->proxy[z] = (int8_t)period_proxy(c);
        *ill |= c.lesion > 0;
    }
    find_lungs(v);
    return COV_OK;
}

/* Every slice with lung becomes a key of its patient's. */
static status list_keys(lesionset *s, const char *name, int at)
{
    const source *v = &s->sources[at];
    patient *p = NULL;
    COV_TRY(patient_of(s, name, v->kind, &p));
    if (p->count[CLEAN] + p->count[LESION] > 0) s->weight[v->kind] -= patient_weight(p);
    for (int pool = 0; pool < POOLS; pool++) {
        key *larger = realloc(p->keys[pool], (size_t)(p->count[pool] + v->nz) * sizeof *larger);
        if (!larger) return COV_FAIL(COV_NOMEM, "no memory for the slices of %s", name);
        p->keys[pool] = larger;
    }
    for (int64_t z = 0; z < v->nz; z++) {
        const uint8_t *marks = v->marks + z * v->nx * v->ny;
        int seen = 0;
        for (int64_t i = 0; i < v->nx * v->ny; i++) seen |= marks[i];
        if (!(seen & TRIPLETAUG_ROI)) continue;
        int pool = seen & TRIPLETAUG_LESION ? LESION : CLEAN;
        p->keys[pool][p->count[pool]++] = (key){.source = at, .z = z};
    }
    s->weight[v->kind] += patient_weight(p);
    return COV_OK;
}

status lesionset_add(lesionset *s, const lesionset_source *from)
{
    status st = COV_OK;
    size_t n = 0, bytes = 0;
    int ill = 0;
    source v = {.eight_bit = from->eight_bit,
                .whole = !from->lung,
                .given = from->period,
                .nx = from->nx,
                .ny = from->ny,
                .nz = from->nz,
                .hu = from->hu};
    if (!size_product((int64_t[]){v.nx, v.ny, v.nz}, 3, &n) || !size_mul(n, 2, &bytes) || n == 0)
        st = COV_FAIL(COV_FORMAT, "a source of %lld x %lld x %lld cannot be trained on", (long long)v.nx,
                      (long long)v.ny, (long long)v.nz);
    if (st == COV_OK) {
        v.marks = malloc(n);
        v.proxy = malloc((size_t)v.nz);
        st =
            v.marks && v.proxy ? mark(from, &v, &ill) : COV_FAIL(COV_NOMEM, "no memory for the masks of %zu voxels", n);
    }
    v.healthy = from->period == 0 && !ill;
    v.kind = from->isolated ? LESIONSET_ISOLATED : v.healthy ? LESIONSET_HEALTHY : LESIONSET_VOLUME;
    source *larger = st == COV_OK ? realloc(s->sources, (size_t)(s->source_count + 1) * sizeof *larger) : NULL;
    if (!larger) {
        source_free(&v);
        return st == COV_OK ? COV_FAIL(COV_NOMEM, "no memory for %d sources", s->source_count + 1) : st;
    }
    s->sources = larger;
    larger[s->source_count] = v;
    return list_keys(s, from->patient, s->source_count++);
}

/* ---- from the table of cases */

static status add_volume(lesionset *s, const cases_row *row)
{
    trainset_volume v;
    COV_TRY(trainset_read(row, &v));
    lesionset_source from = {.patient = row->patient,
                             .nx = v.ct.head.nx,
                             .ny = v.ct.head.ny,
                             .nz = v.ct.head.nz,
                             .period = row->period,
                             .eight_bit = row->intensity == CASES_8BIT,
                             .hu = v.ct.hu,
                             .lung = v.lung,
                             .lesion = v.lesion};
    v.ct.hu = NULL; /* taken */
    status st = lesionset_add(s, &from);
    trainset_volume_free(&v);
    return st;
}

/* Classes of a slice lie beside its lesion mask, in a folder `class` of its own: .../lesion/a.png, .../class/a.png.
 * NULL: none. */
static status read_classes(const cases_row *row, int32_t rows, int32_t cols, uint8_t **out)
{
    static const char folder[] = "/lesion/";
    char path[4096];
    const char *at = row->lesion, *last = NULL;
    int32_t r, c;
    *out = NULL;
    for (; (at = strstr(at, folder)); at++) last = at;
    if (!last || strlen(row->lesion) + 1 > sizeof path) return COV_OK;
    snprintf(path, sizeof path, "%.*s/class/%s", (int)(last - row->lesion), row->lesion, last + sizeof folder - 1);
    if (access(path, F_OK) != 0) return COV_OK;
    COV_TRY(image_read_classes(path, &r, &c, out));
    if (r == rows && c == cols) return COV_OK;
    free(*out);
    *out = NULL;
    return COV_FAIL(COV_FORMAT, "case %s: %s is %d x %d, its image %d x %d", row->id, path, r, c, rows, cols);
}

static status add_slice(lesionset *to, const cases_row *row)
{
    status s;
    int32_t rows, cols;
    uint8_t *grey = NULL, *lung = NULL, *lesion = NULL, *classes = NULL;
    window w = window_lung();
    COV_GO(image_read_u8(row->ct, &rows, &cols, &grey));
    if (row->lung) COV_GO(trainset_read_slice_mask(row, row->lung, rows, cols, &lung));
    if (row->lesion) COV_GO(trainset_read_slice_mask(row, row->lesion, rows, cols, &lesion));
    if (row->lesion) COV_GO(read_classes(row, rows, cols, &classes));
    size_t n = (size_t)rows * (size_t)cols;
    int16_t *hu = malloc(n * sizeof *hu);
    if (!hu) COV_GO(COV_FAIL(COV_NOMEM, "no memory for case %s", row->id));
    for (size_t i = 0; i < n; i++) hu[i] = (int16_t)(w.level - 0.5f * w.width + w.width * (float)grey[i] / 255.0f);
    COV_GO(lesionset_add(to, &(lesionset_source){.patient = row->patient,
                                                 .nx = cols,
                                                 .ny = rows,
                                                 .nz = 1,
                                                 .isolated = 1,
                                                 .eight_bit = 1,
                                                 .period = row->period,
                                                 .hu = hu,
                                                 .lung = lung,
                                                 .lesion = lesion,
                                                 .classes = classes}));
done:
    free(grey);
    free(lung);
    free(lesion);
    free(classes);
    return s;
}

status lesionset_load(lesionset *s, const cases *c, const char *hold_out)
{
    for (size_t k = 0; k < c->count; k++) {
        const cases_row *row = &c->rows[k];
        int healthy = row->period == 0 && !row->lesion;
        if ((!row->lesion && !healthy) || trainset_held_out(hold_out, row->patient)) continue;
        if (!row->lung && (row->kind == CASES_VOLUME || healthy)) continue; /* what is lung in it is not known */
        if (row->kind == CASES_VOLUME)
            COV_TRY(add_volume(s, row));
        else
            COV_TRY(add_slice(s, row));
    }
    return COV_OK;
}

/* ---- drawing */

/* The kinds that these options draw from, as weights that add up to 1 (all 0: none). */
static void kind_shares(const lesionset *s, const lesionset_options *o, float share[LESIONSET_KINDS])
{
    int there[LESIONSET_KINDS];
    for (int k = 0; k < LESIONSET_KINDS; k++) there[k] = s->weight[k] > 0.0;
    share[LESIONSET_HEALTHY] = there[LESIONSET_HEALTHY] ? o->healthy : 0.0f;
    share[LESIONSET_ISOLATED] = there[LESIONSET_ISOLATED] ? o->slices : 0.0f;
    share[LESIONSET_VOLUME] =
        there[LESIONSET_VOLUME] ? fmaxf(1.0f - share[LESIONSET_HEALTHY] - share[LESIONSET_ISOLATED], 0.0f) : 0.0f;
    float sum = share[0] + share[1] + share[2];
    for (int k = 0; k < LESIONSET_KINDS; k++) share[k] = sum > 0.0f ? share[k] / sum : 0.0f;
}

static int label_of(const lesionset_options *o, const source *v, int64_t z, int lesion)
{
    if (v->healthy) return 0;
    if (!lesion) return -1;
    return v->given >= 0 ? v->given : o->period_proxy ? v->proxy[z] : -1;
}

void lesionset_count(const lesionset *s, const lesionset_options *o, lesionset_counts *out)
{
    memset(out, 0, sizeof *out);
    for (int k = 0; k < s->source_count; k++) out->sources[s->sources[k].kind]++;
    for (int k = 0; k < s->patient_count; k++) {
        const patient *p = &s->patients[k];
        out->patients[p->kind]++;
        out->slices[p->kind] += p->count[CLEAN] + p->count[LESION];
        out->with_lesion += p->count[LESION];
        for (int pool = 0; pool < POOLS; pool++)
            for (int64_t i = 0; i < p->count[pool]; i++) {
                int label = label_of(o, &s->sources[p->keys[pool][i].source], p->keys[pool][i].z, pool == LESION);
                if (label >= 0) out->period[label]++;
            }
    }
}

status lesionset_check(const lesionset *s, const lesionset_options *o)
{
    float share[LESIONSET_KINDS];
    kind_shares(s, o, share);
    if (share[LESIONSET_VOLUME] + share[LESIONSET_ISOLATED] > 0.0f) return COV_OK;
    return COV_FAIL(COV_USAGE, "no case with a lesion mask to train on");
}

static const patient *draw_patient(const lesionset *s, lesionset_kind kind, rng *r)
{
    double left = (double)rng_unit(r) * s->weight[kind];
    const patient *last = NULL;
    for (int k = 0; k < s->patient_count; k++) {
        const patient *p = &s->patients[k];
        if (p->kind != kind || p->count[CLEAN] + p->count[LESION] == 0) continue;
        last = p;
        left -= patient_weight(p);
        if (left < 0.0) break;
    }
    return last;
}

static key draw_key(const lesionset *s, const lesionset_options *o, rng *r)
{
    float share[LESIONSET_KINDS], u = rng_unit(r), clean = rng_unit(r);
    kind_shares(s, o, share);
    lesionset_kind kind = u < share[LESIONSET_HEALTHY] ? LESIONSET_HEALTHY
                          : u < share[LESIONSET_HEALTHY] + share[LESIONSET_ISOLATED] || share[LESIONSET_VOLUME] <= 0.0f
                              ? LESIONSET_ISOLATED
                              : LESIONSET_VOLUME;
    const patient *p = draw_patient(s, kind, r);
    int pool = clean < o->clean ? CLEAN : LESION;
    if (p->count[pool] == 0) pool = !pool;
    return p->keys[pool][rng_below(r, (uint64_t)p->count[pool])];
}

/* ---- one picture */

typedef struct found {
    region at;
    int64_t place; /* in the order of finding */
} found;

typedef struct picture {
    int64_t rows, cols;
    lesionset_sample to;
    found *found;
    int64_t count;
} picture;

static tripletaug_part part_of(const lesionset *s, key at, int alone, int fit)
{
    const source *v = &s->sources[at.source];
    tripletaug_part p = {.rows = v->ny, .cols = v->nx, .row = v->row, .col = v->col, .high = v->high, .wide = v->wide,
                         .eight_bit = v->eight_bit, .fit = fit};
    for (int k = 0; k < 3; k++) {
        int64_t z = at.z + k - 1;
        if (z < 0 || z >= v->nz || (alone && k != 1)) continue;
        p.hu[k] = v->hu + z * v->nx * v->ny;
        p.marks[k] = v->marks + z * v->nx * v->ny;
    }
    return p;
}

/* A cell of the picture: its pixels, and its regions behind those of the cells before, so that touching cells do not
 * join any. *ill: it shows lesion. */
static status draw_cell(picture *to, const lesionset_options *o, rng *r, const tripletaug_part *p, float zoom,
                        int64_t r0, int64_t r1, int64_t c0, int64_t c1, int *ill)
{
    status s;
    int64_t rows = r1 - r0, cols = c1 - c0, count = 0;
    size_t n = (size_t)(rows * cols);
    region *regions = NULL;
    float *px = malloc(n * 3 * sizeof *px);
    int32_t *labels = malloc(n * sizeof *labels);
    uint8_t *lesion = malloc(n);
    if (!px || !labels || !lesion) COV_GO(COV_FAIL(COV_NOMEM, "no memory for a picture of %zu pixels", n));
    COV_GO(tripletaug_run(&o->augment, r, p, zoom, rows, cols, px, lesion));
    COV_GO(regions_find(lesion, rows, cols, labels, &regions, &count));
    *ill = count > 0;
    found *larger = realloc(to->found, (size_t)(to->count + count + 1) * sizeof *larger);
    if (!larger) COV_GO(COV_FAIL(COV_NOMEM, "no memory for %lld regions", (long long)(to->count + count)));
    to->found = larger;
    for (int64_t y = 0; y < rows; y++)
        for (int64_t x = 0; x < cols; x++) {
            int64_t from = y * cols + x, at = (r0 + y) * to->cols + c0 + x;
            memcpy(to->to.image + 3 * at, px + 3 * from, 3 * sizeof(float));
            to->to.target[at] = lesion[from];
        }
    for (int64_t k = 0; k < count; k++) {
        region at = {regions[k].y0 + (int32_t)r0, regions[k].x0 + (int32_t)c0, regions[k].y1 + (int32_t)r0,
                     regions[k].x1 + (int32_t)c0, regions[k].area};
        to->found[to->count + k] = (found){.at = at, .place = to->count + k};
    }
    to->count += count;
done:
    free(px);
    free(labels);
    free(lesion);
    free(regions);
    return s;
}

static int larger_first(const void *a, const void *b)
{
    const found *x = a, *y = b;
    return x->at.area != y->at.area ? (x->at.area < y->at.area) - (x->at.area > y->at.area)
                                    : (x->place > y->place) - (x->place < y->place);
}

/* The largest regions get boxes. */
static void put_boxes(picture *p, float zoom)
{
    memset(p->to.boxes, 0, LESIONSET_BOXES * 5 * sizeof(float));
    if (p->count) qsort(p->found, (size_t)p->count, sizeof *p->found, larger_first);
    for (int64_t k = 0;
         k < p->count && k < LESIONSET_BOXES && p->found[k].at.area >= LEAST_AREA_512 * (double)(zoom * zoom); k++) {
        const region *at = &p->found[k].at;
        float row[5] = {(float)at->y0, (float)at->x0, (float)at->y1, (float)at->x1, 1.0f};
        memcpy(p->to.boxes + 5 * k, row, sizeof row);
    }
}

/* How many cells down and across: 1 x 1, or merged 1 x 2, 2 x 1, 2 x 2. */
static void draw_cells(const lesionset_options *o, rng *r, int *down, int *across)
{
    int merged = rng_chance(r, o->merge), kind = (int)rng_below(r, 3);
    *down = merged && kind != 0 ? 2 : 1;
    *across = merged && kind != 1 ? 2 : 1;
}

status lesionset_get(const lesionset *s, const lesionset_options *o, uint64_t k, float zoom, int64_t rows, int64_t cols,
                     const lesionset_sample *to)
{
    status st = COV_OK;
    rng r = rng_start(o->seed, k);
    picture p = {.rows = rows, .cols = cols, .to = *to};
    key keys[PARTS_MOST];
    int down, across, alone, period = -1;
    draw_cells(o, &r, &down, &across);
    alone = rng_chance(&r, o->alone);
    for (int i = 0; i < down * across; i++) {
        keys[i] = draw_key(s, o, &r);
        if (s->sources[keys[i].source].kind == LESIONSET_ISOLATED) alone = 1; /* merged: all are isolated, or none */
    }
    for (int i = 0; i < down * across && st == COV_OK; i++) {
        const source *v = &s->sources[keys[i].source];
        int y = i / across, x = i % across, ill = 0, fit = down * across > 1 || (v->whole && rng_chance(&r, 0.5f));
        tripletaug_part part = part_of(s, keys[i], alone, fit);
        st = draw_cell(&p, o, &r, &part, zoom, y * rows / down, (y + 1) * rows / down, x * cols / across,
                       (x + 1) * cols / across, &ill);
        int label = label_of(o, v, keys[i].z, ill);
        period = i == 0 || label == period ? label : -1;
    }
    if (st == COV_OK) put_boxes(&p, zoom);
    *to->period = period;
    free(p.found);
    return st;
}
