/* phantom: analytic chests. Shapes live in millimetres, x left, y posterior, z superior, origin in the middle of the
 * chest; t is the height above the lung base in lung lengths (0 base, 1 apex). A voxel takes the value of the innermost
 * tissue at its centre; vessels and lesions are painted over it; blur and noise come last, so that edges look
 * reconstructed. Anatomy varies by +-10 % with the seed. */
#include "stages/phantom.h"

#include "base/size.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RIBS = 10, MAX_LESIONS = 64, VESSELS = 220 };

typedef struct vec { double x, y, z; } vec;
typedef struct blob { vec centre, radius; double hu, edge, phase; } blob;
typedef struct segment { vec from, to; double r0, r1; } segment;

typedef struct anatomy {
    uint64_t seed;
    double wide, deep, height;  /* half width, half depth of the rib cage; lung length, mm */
    double wall;                /* chest wall, mm */
    double heart_x, noise, parenchyma;
    int lesion_count, vessel_count;
    blob lesions[MAX_LESIONS];
    segment vessels[VESSELS];
} anatomy;

static uint64_t mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

double phantom_uniform(uint64_t seed, uint64_t k) { return (double)(mix(mix(seed) ^ k) >> 11) * 0x1p-53; }

static double between(uint64_t seed, uint64_t k, double a, double b) { return a + (b - a) * phantom_uniform(seed, k); }

/* Sum of four uniforms, scaled to unit variance: near enough to normal for image noise, and cheap. */
static double noise_at(uint64_t seed, uint64_t k)
{
    uint64_t r = mix(seed ^ mix(k));
    double s = (double)(r & 0xFFFF) + (double)(r >> 16 & 0xFFFF) + (double)(r >> 32 & 0xFFFF) + (double)(r >> 48);
    return (s / 65536.0 - 2.0) * 1.7320508;
}

static double square(double v) { return v * v; }

/* The rib cage narrows to the apex; below 30 % of the lung's height it is full. */
static double cage(double t) { return t < 0.3 ? 1.0 : t > 1.04 ? 0.0 : sqrt(1.0 - square((t - 0.3) / 0.745)); }

static double ellipse(double x, double y, double a, double b)
{
    return a <= 1 || b <= 1 ? 9.0 : pow(fabs(x) / a, 2.3) + pow(fabs(y) / b, 2.3);
}

static double ellipsoid(vec p, vec c, double a, double b, double d)
{
    return square((p.x - c.x) / a) + square((p.y - c.y) / b) + square((p.z - c.z) / d);
}

/* Height of the diaphragm over (x,y): a dome a side, the right one higher. */
static double diaphragm(const anatomy *a, double x, double y)
{
    double side = x < 0 ? 1.0 : 0.85, xc = (x < 0 ? -0.5 : 0.5) * a->wide;
    return -0.5 * a->height + side * 0.3 * a->height * (1 - square((x - xc) / (0.55 * a->wide)) - square((y - 0.1 * a->deep) / (0.95 * a->deep)));
}

static int in_mediastinum(const anatomy *a, vec p, double t)
{
    double half = 14 + 10 * (1 - fabs(p.y) / a->deep) + (t > 0.55 ? 8 : 0);
    if (fabs(p.x) < half) return 1;
    if (square(p.x) + square(p.y - 0.78 * a->deep) < square(30)) return 1; /* spine and its muscles */
    if (ellipsoid(p, (vec){a->heart_x, -0.28 * a->deep, -0.22 * a->height}, 54, 46, 0.25 * a->height) < 1) return 1;
    return square(p.x - 14) + square(p.y - 0.42 * a->deep) < square(16); /* aorta */
}

/* 0 outside, 1 right, 2 left. */
static int lung_side(const anatomy *a, vec p)
{
    double t = p.z / a->height + 0.5, s = cage(t);
    if (t < -0.35 || t > 1.04 || p.z < diaphragm(a, p.x, p.y)) return 0;
    if (ellipse(p.x, p.y, a->wide * s, a->deep * s) >= 1 || in_mediastinum(a, p, t)) return 0;
    return p.x < 0 ? 1 : 2;
}

/* Ribs run down and forward around the cage. */
static int in_rib(const anatomy *a, vec p, double s)
{
    double r = ellipse(p.x, p.y, a->wide * s + 9, a->deep * s + 9);
    if (r >= 1 || ellipse(p.x, p.y, a->wide * s + 2, a->deep * s + 2) < 1) return 0;
    double level = (p.z - 0.35 * p.y) / a->height * RIBS;
    return fabs(level - floor(level) - 0.5) < 0.19;
}

static double bone_or_soft(const anatomy *a, vec p, double t)
{
    double sy = 0.78 * a->deep, spine = square(p.x) + square(p.y - sy);
    if (square(p.x) + square(p.y - sy - 23) < square(8)) return 20;                                /* canal */
    if (spine < square(20)) return spine > square(17) ? 550 : 220 + 40 * sin(p.z * 0.22);          /* vertebra */
    if (fabs(p.x) < 4 && p.y > sy + 30 && p.y < sy + 55) return 450;                               /* spinous process */
    if (fabs(p.x) < 17 && fabs(p.y + 0.99 * a->deep + 3) < 5 && t > 0.2) return 350;              /* sternum */
    if (square(p.x) + square(p.y - 0.05 * a->deep) < square(8.5) && t > 0.6) return -1000;         /* trachea */
    return in_rib(a, p, fmax(cage(t), 0.25)) ? 500 : 45;
}

static double organ(const anatomy *a, vec p, double t)
{
    if (ellipsoid(p, (vec){a->heart_x, -0.28 * a->deep, -0.22 * a->height}, 52, 44, 0.24 * a->height) < 1) return 42;
    if (square(p.x - 14) + square(p.y - 0.42 * a->deep) < square(14)) return 45;
    if (p.z < diaphragm(a, p.x, p.y) && ellipse(p.x, p.y, a->wide, a->deep) < 1) {
        if (ellipsoid(p, (vec){0.45 * a->wide, -0.3 * a->deep, -0.48 * a->height}, 28, 24, 22) < 1) return -950; /* gastric air */
        return p.x < 0.2 * a->wide ? 60 : 48;
    }
    return bone_or_soft(a, p, t);
}

static double chest_at(const anatomy *a, vec p)
{
    double t = p.z / a->height + 0.5, outer_x = a->wide + a->wall * 1.2, outer_y = a->deep + a->wall;
    double skin = ellipse(p.x, p.y, outer_x, outer_y);
    if (skin >= 1) {
        double table = p.y - (outer_y + 12) - square(p.x / 160) * -14;
        return fabs(table) < 6 && fabs(p.x) < 210 ? (fabs(table) > 4 ? -300 : -900) : -1000;
    }
    int side = lung_side(a, p);
    if (side) return a->parenchyma + 45 * p.y / a->deep;
    if (ellipse(p.x, p.y, outer_x - 14, outer_y - 12) >= 1) return -100;
    return organ(a, p, t);
}

static double head_at(vec p)
{
    double r = sqrt(square(p.x / 72) + square(p.y / 90) + square(p.z / 95));
    if (r > 1) return -1000;
    if (r > 0.95) return 20;
    if (r > 0.87) return 900;
    if (ellipsoid(p, (vec){0, -62, -40}, 16, 14, 18) < 1) return -980; /* sinuses: air that is no lung */
    return 35 + 4 * sin(p.x * 0.3) * cos(p.y * 0.25);
}

static vec random_in_lung(const anatomy *a, uint64_t seed, uint64_t stream)
{
    vec p = {0, 0, 0};
    for (uint64_t k = 0; k < 400; k++) {
        uint64_t s = mix(seed ^ mix(stream * 1000 + k));
        p = (vec){between(s, 1, -a->wide, a->wide), between(s, 2, -0.6, 0.95) * a->deep, between(s, 3, -0.55, 0.4) * a->height};
        if (lung_side(a, p)) break;
    }
    return p;
}

/* Radii fall on a geometric ladder from 2 to 32 mm, so that every study with lesions has tiny and large ones. */
static void place_lesions(anatomy *a, int count)
{
    a->lesion_count = count < MAX_LESIONS ? count : MAX_LESIONS;
    for (int k = 0; k < a->lesion_count; k++) {
        uint64_t s = mix(a->seed + 77 + (uint64_t)k);
        double r = 2.0 * pow(16.0, count > 1 ? (double)k / (count - 1) : 0.6) * between(s, 1, 0.85, 1.15);
        int solid = phantom_uniform(s, 2) < 0.3;
        a->lesions[k] = (blob){random_in_lung(a, s, 5), {r * between(s, 3, 0.8, 1.3), r, r * between(s, 4, 0.7, 1.1)},
                               solid ? between(s, 6, -40, 40) : between(s, 7, -620, -380), solid ? 1.0 : 1.8, between(s, 8, 0, 6.28)};
    }
}

static void place_vessels(anatomy *a)
{
    a->vessel_count = VESSELS;
    for (int k = 0; k < VESSELS; k++) {
        uint64_t s = mix(a->seed + 7000 + (uint64_t)k);
        vec tip = random_in_lung(a, s, 9), hilum = {tip.x < 0 ? -26 : 26, 0.02 * a->deep, 0.08 * a->height};
        double f = between(s, 2, 0.25, 0.75);
        vec root = {hilum.x + f * (tip.x - hilum.x), hilum.y + f * (tip.y - hilum.y) + between(s, 3, -9, 9), hilum.z + f * (tip.z - hilum.z)};
        if (k % 4 == 0) root = hilum;
        a->vessels[k] = (segment){root, tip, k % 4 == 0 ? between(s, 4, 2.5, 5) : between(s, 5, 1, 2.2), 0.6};
    }
}

static anatomy anatomy_of(const phantom_options *o)
{
    anatomy a = {.seed = mix(o->seed)};
    double room_x = (double)o->nx * o->spacing_mm[0] / 2, room_y = (double)o->ny * o->spacing_mm[1] / 2;
    double room_z = (double)o->nz * o->spacing_mm[2];
    a.wall = between(a.seed, 1, 24, 34);
    a.wide = fmin(between(a.seed, 2, 122, 142), room_x - 1.2 * a.wall - 6);
    a.deep = fmin(between(a.seed, 3, 86, 102), room_y - a.wall - 16);
    a.height = fmin(between(a.seed, 4, 235, 285), room_z / 1.2);
    a.heart_x = between(a.seed, 5, 16, 26);
    a.noise = between(a.seed, 6, 12, 26);
    a.parenchyma = between(a.seed, 7, -870, -820);
    place_lesions(&a, o->lesions);
    place_vessels(&a);
    return a;
}

static vec centre_of(const phantom_options *o, int64_t x, int64_t y, int64_t z)
{
    return (vec){((double)x - (double)(o->nx - 1) / 2) * o->spacing_mm[0], ((double)y - (double)(o->ny - 1) / 2) * o->spacing_mm[1],
                 ((double)z - (double)(o->nz - 1) / 2) * o->spacing_mm[2]};
}

/* Indices along one axis whose centres lie within [low, high] mm. */
static void range(double low, double high, double spacing, int64_t n, int64_t *from, int64_t *to)
{
    *from = (int64_t)fmax(0, ceil(low / spacing + (double)(n - 1) / 2));
    *to = (int64_t)fmin((double)(n - 1), floor(high / spacing + (double)(n - 1) / 2));
}

/* Paints what of the vessels crosses slice z. Vessels inside the lung belong to it, as readers draw them. */
static void paint_vessels(const phantom_options *o, const anatomy *a, int64_t z, float *slice, const uint8_t *lung)
{
    for (int k = 0; k < a->vessel_count; k++) {
        const segment *v = &a->vessels[k];
        vec d = {v->to.x - v->from.x, v->to.y - v->from.y, v->to.z - v->from.z};
        double length2 = square(d.x) + square(d.y) + square(d.z) + 1e-9, pz = centre_of(o, 0, 0, z).z;
        if (pz < fmin(v->from.z, v->to.z) - v->r0 || pz > fmax(v->from.z, v->to.z) + v->r0) continue;
        int64_t x0, x1, y0, y1;
        range(fmin(v->from.x, v->to.x) - v->r0, fmax(v->from.x, v->to.x) + v->r0, o->spacing_mm[0], o->nx, &x0, &x1);
        range(fmin(v->from.y, v->to.y) - v->r0, fmax(v->from.y, v->to.y) + v->r0, o->spacing_mm[1], o->ny, &y0, &y1);
        for (int64_t y = y0; y <= y1; y++)
            for (int64_t x = x0; x <= x1; x++) {
                vec p = centre_of(o, x, y, z);
                double f = ((p.x - v->from.x) * d.x + (p.y - v->from.y) * d.y + (p.z - v->from.z) * d.z) / length2;
                f = f < 0 ? 0 : f > 1 ? 1 : f;
                double r2 = square(p.x - v->from.x - f * d.x) + square(p.y - v->from.y - f * d.y) + square(p.z - v->from.z - f * d.z);
                if (r2 < square(v->r0 + f * (v->r1 - v->r0)) && lung[y * o->nx + x]) slice[y * o->nx + x] = 35;
            }
    }
}

static void paint_lesions(const phantom_options *o, const anatomy *a, int64_t z, float *slice, const uint8_t *lung, uint8_t *lesion)
{
    for (int k = 0; k < a->lesion_count; k++) {
        const blob *b = &a->lesions[k];
        double reach = 1.25;
        if (fabs(centre_of(o, 0, 0, z).z - b->centre.z) > reach * b->radius.z) continue;
        int64_t x0, x1, y0, y1;
        range(b->centre.x - reach * b->radius.x, b->centre.x + reach * b->radius.x, o->spacing_mm[0], o->nx, &x0, &x1);
        range(b->centre.y - reach * b->radius.y, b->centre.y + reach * b->radius.y, o->spacing_mm[1], o->ny, &y0, &y1);
        for (int64_t y = y0; y <= y1; y++)
            for (int64_t x = x0; x <= x1; x++) {
                int64_t i = y * o->nx + x;
                vec p = centre_of(o, x, y, z);
                double angle = atan2(p.y - b->centre.y, p.x - b->centre.x);
                double wave = 1 + 0.12 * sin(3 * angle + b->phase) + 0.08 * sin(5 * angle - b->phase + 0.1 * p.z);
                double r = sqrt(ellipsoid(p, b->centre, b->radius.x, b->radius.y, b->radius.z)) / wave;
                if (r >= 1 || !lung[i]) continue;
                double weight = fmin(1, (1 - r) * 4 / b->edge);
                if (slice[i] < b->hu) slice[i] = (float)(slice[i] + (0.35 + 0.65 * weight) * (b->hu - slice[i]));
                lesion[i] = 1;
            }
    }
}

/* Separable (1 2 1)/4 blur in the plane: the reconstruction kernel. */
static void blur(float *slice, float *row, int64_t nx, int64_t ny)
{
    for (int64_t y = 0; y < ny; y++) {
        float *s = slice + y * nx;
        memcpy(row, s, sizeof *row * (size_t)nx);
        for (int64_t x = 1; x + 1 < nx; x++) s[x] = 0.25f * row[x - 1] + 0.5f * row[x] + 0.25f * row[x + 1];
    }
    for (int64_t y = 1; y + 1 < ny; y++) { /* row holds the unblurred line above */
        float *s = slice + y * nx;
        if (y == 1) memcpy(row, slice, sizeof *row * (size_t)nx);
        for (int64_t x = 0; x < nx; x++) {
            float here = s[x];
            s[x] = 0.25f * row[x] + 0.5f * here + 0.25f * s[x + nx];
            row[x] = here;
        }
    }
}

static void make_slice(const phantom_options *o, const anatomy *a, int64_t z, float *slice, float *row, phantom *p)
{
    int64_t area = o->nx * o->ny;
    uint8_t *lung = p->lung + z * area, *lesion = p->lesion + z * area;
    for (int64_t i = 0; i < area; i++) {
        vec c = centre_of(o, i % o->nx, i / o->nx, z);
        lung[i] = (uint8_t)(o->body == PHANTOM_CHEST ? lung_side(a, c) : 0);
        slice[i] = (float)(o->body == PHANTOM_CHEST ? chest_at(a, c) : head_at(c));
    }
    if (o->body == PHANTOM_CHEST) {
        paint_vessels(o, a, z, slice, lung);
        paint_lesions(o, a, z, slice, lung, lesion);
    }
    for (int64_t i = 0; i < area; i++) slice[i] += (float)(2.0 * a->noise * noise_at(a->seed, (uint64_t)(z * area + i)));
    blur(slice, row, o->nx, o->ny);
    for (int64_t i = 0; i < area; i++) p->hu[z * area + i] = (int16_t)fmaxf(-1024, fminf(3071, rintf(slice[i])));
}

static void count_truth(const phantom_options *o, const anatomy *a, phantom *p)
{
    double ml = o->spacing_mm[0] * o->spacing_mm[1] * o->spacing_mm[2] / 1000;
    int64_t count = o->nx * o->ny * o->nz, right = 0, left = 0, lesion = 0;
    for (int64_t i = 0; i < count; i++) {
        right += p->lung[i] == 1;
        left += p->lung[i] == 2;
        lesion += p->lesion[i];
    }
    p->lung_right_ml = (double)right * ml;
    p->lung_left_ml = (double)left * ml;
    p->lesion_ml = (double)lesion * ml;
    p->regions = a->lesion_count;
    for (int k = 0; k < a->lesion_count; k++) {
        double pixels = 3.14159265 * a->lesions[k].radius.x * a->lesions[k].radius.y / (o->spacing_mm[0] * o->spacing_mm[1]);
        p->tiny += pixels < 0.00059 * (double)(o->nx * o->ny);
    }
}

status phantom_new(const phantom_options *o, phantom **out)
{
    size_t count;
    *out = NULL;
    if (!size_product((const int64_t[]){o->nx, o->ny, o->nz}, 3, &count) || o->nx < 32 || o->ny < 32 || o->nz < 1 || count > (size_t)1 << 31)
        return COV_FAIL(COV_USAGE, "a phantom of %lld x %lld x %lld: expected at least 32 x 32 x 1 and at most 2^31 voxels",
                        (long long)o->nx, (long long)o->ny, (long long)o->nz);
    phantom *p = calloc(1, sizeof *p);
    anatomy *a = malloc(sizeof *a);
    int failed = !p || !a;
    if (!failed) {
        *a = anatomy_of(o);
        p->hu = malloc(count * sizeof *p->hu);
        p->lung = calloc(count, 1);
        p->lesion = calloc(count, 1);
        failed = !p->hu || !p->lung || !p->lesion;
    }
    if (!failed) {
#pragma omp parallel num_threads(o->threads > 0 ? o->threads : 1) reduction(| : failed)
        {
            float *slice = malloc(sizeof *slice * (size_t)(o->nx * o->ny)), *row = malloc(sizeof *row * (size_t)o->nx);
            failed |= !slice || !row;
#pragma omp for schedule(dynamic, 1)
            for (int64_t z = 0; z < o->nz; z++)
                if (slice && row) make_slice(o, a, z, slice, row, p);
            free(slice);
            free(row);
        }
    }
    if (!failed) count_truth(o, a, p);
    free(a);
    if (failed) {
        phantom_free(&p);
        return COV_FAIL(COV_NOMEM, "no memory for a phantom of %zu voxels", count);
    }
    *out = p;
    return COV_OK;
}

void phantom_free(phantom **p)
{
    if (!p || !*p) return;
    free((*p)->hu);
    free((*p)->lung);
    free((*p)->lesion);
    free(*p);
    *p = NULL;
}
