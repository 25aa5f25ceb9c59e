/* gather: packs what rank 0 knows into one block of bytes, broadcasts it, and lets cohort_write do the rest. The trap:
 * cohort_write wants the same source on every rank, so rank 0 reads the block too. */
#include "mpi/gather.h"
#include "base/str.h"
#include "mpi/world_comm.h"

#include <stdlib.h>
#include <string.h>

/* ---- the list */

void gather_list_free(gather_list *l)
{
    for (int64_t k = 0; l->parts && k < l->count; k++) free(l->parts[k]);
    free(l->parts);
    free(l->studies);
    *l = (gather_list){0};
}

typedef struct place { const char *path; int64_t index; } place;

static int by_path(const void *a, const void *b)
{
    const place *x = a, *y = b;
    int order = strcmp(x->path, y->path);
    return order ? order : x->index < y->index ? -1 : x->index > y->index;
}

static status part_of(const char *parts_dir, const char *path, char **out)
{
    char name[4096];
    part_key key;
    part_key_init(&key);
    if (strlen(path) >= sizeof key.path) return COV_FAIL(COV_BROKEN, "%s: a path too long for a part", path);
    strcpy(key.path, path);
    COV_TRY(part_name(parts_dir, &key, name, sizeof name));
    *out = strdup(name);
    return *out ? COV_OK : COV_FAIL(COV_NOMEM, "no memory for the name of a part");
}

status gather_list_of(const char *parts_dir, const farm_study *studies, const farm_report *r, gather_list *out)
{
    size_t n = (size_t)r->study_count + 1;
    int64_t count = 0;
    status s = COV_OK;
    place *places = calloc(n, sizeof *places);
    *out = (gather_list){.studies = calloc(n, sizeof *out->studies), .parts = calloc(n, sizeof *out->parts)};
    if (!places || !out->studies || !out->parts) {
        s = COV_FAIL(COV_NOMEM, "no memory for a list of %zu parts", n);
        goto done;
    }
    for (int64_t k = 0; k < r->study_count; k++)
        if (r->outcomes[k].settled) places[count++] = (place){studies[k].path_rel, k};
    if (count) qsort(places, (size_t)count, sizeof *places, by_path);
    for (; out->count < count; out->count++) {
        out->studies[out->count] = places[out->count].index;
        COV_GO(part_of(parts_dir, places[out->count].path, &out->parts[out->count]));
    }
done:
    free(places);
    if (s != COV_OK) gather_list_free(out);
    return s;
}

/* ---- one block of bytes for all */

static void put_number(str *b, int64_t v) { str_put_bytes(b, &v, sizeof v); }
static void put_text(str *b, const char *text)
{
    put_number(b, text ? (int64_t)strlen(text) : -1);
    if (text) str_put_bytes(b, text, strlen(text) + 1);
}

static void pack(const gather_options *o, str *b)
{
    put_number(b, o->list->count);
    put_number(b, o->attribute_count);
    put_number(b, o->extra_count);
    put_number(b, o->complete);
    for (int64_t k = 0; k < o->list->count; k++) put_text(b, o->list->parts[k]);
    for (int k = 0; k < o->attribute_count; k++) {
        put_text(b, o->attributes[k].name);
        put_text(b, o->attributes[k].value);
    }
    for (int i = 0; i < o->extra_count; i++) {
        put_text(b, o->extras[i].name);
        put_text(b, o->extras[i].long_name);
        for (int64_t k = 0; k < o->list->count; k++) put_text(b, o->extras[i].values[k]);
    }
}

typedef struct block {
    char *bytes; /* owned */
    size_t size, at;
    cohort_source source;
    const char **texts; /* owned; parts, then the values of the extras */
    cohort_attribute *attributes;
    cohort_extra *extras;
} block;

static int64_t get_number(block *b)
{
    int64_t v = 0;
    if (b->size - b->at >= sizeof v) memcpy(&v, b->bytes + b->at, sizeof v);
    b->at += sizeof v;
    return v;
}

static const char *get_text(block *b)
{
    int64_t n = get_number(b);
    if (n < 0) return NULL;
    const char *text = b->bytes + b->at;
    b->at += (size_t)n + 1;
    return text;
}

/* Rank 0 made the block an instant ago, so it is believed. */
static status unpack(block *b)
{
    cohort_source *s = &b->source;
    s->count = get_number(b);
    s->attribute_count = (int)get_number(b);
    s->extra_count = (int)get_number(b);
    s->complete = (int)get_number(b);
    b->texts = calloc((size_t)(s->count * (1 + s->extra_count)) + 1, sizeof *b->texts);
    b->attributes = calloc((size_t)s->attribute_count + 1, sizeof *b->attributes);
    b->extras = calloc((size_t)s->extra_count + 1, sizeof *b->extras);
    if (!b->texts || !b->attributes || !b->extras)
        return COV_FAIL(COV_NOMEM, "no memory for a list of %lld parts", (long long)s->count);
    for (int64_t k = 0; k < s->count; k++) b->texts[k] = get_text(b);
    for (int k = 0; k < s->attribute_count; k++) {
        b->attributes[k].name = get_text(b);
        b->attributes[k].value = get_text(b);
    }
    for (int i = 0; i < s->extra_count; i++) {
        const char **values = b->texts + s->count * (1 + i);
        b->extras[i].name = get_text(b);
        b->extras[i].long_name = get_text(b);
        for (int64_t k = 0; k < s->count; k++) values[k] = get_text(b);
        b->extras[i].values = values;
    }
    s->parts = b->texts;
    s->attributes = b->attributes;
    s->extras = b->extras;
    return b->at == b->size ? COV_OK
                            : COV_FAIL(COV_BROKEN, "the list of parts has %zu bytes, %zu were read", b->size, b->at);
}

/* Every rank makes the same calls whatever failed on rank 0: a negative size says that it did. */
static status share(world *w, const gather_options *o, block *b)
{
    str packed = {0};
    int64_t size = -1;
    status s = COV_OK;
    if (world_rank(w) == 0) {
        pack(o, &packed);
        if (!packed.failed) size = (int64_t)packed.length;
    }
    WORLD_MPI(MPI_Bcast(&size, 1, MPI_INT64_T, 0, world_comm(w)));
    if (size < 0) s = COV_FAIL(COV_NOMEM, "rank 0 has no memory for the list of parts");
    int have = s == COV_OK && (b->bytes = malloc((size_t)size + 1)) != NULL, all = 0;
    WORLD_MPI(MPI_Allreduce(&have, &all, 1, MPI_INT, MPI_MIN, world_comm(w)));
    if (s == COV_OK && !(b->bytes && all)) s = COV_FAIL(COV_NOMEM, "no memory for a list of %lld bytes", (long long)size);
    if (s == COV_OK) {
        b->size = (size_t)size;
        if (world_rank(w) == 0) memcpy(b->bytes, str_text(&packed), b->size);
        for (int64_t at = 0; at < size; at += 1 << 28)
            WORLD_MPI(
                MPI_Bcast(b->bytes + at, (int)(size - at < 1 << 28 ? size - at : 1 << 28), MPI_BYTE, 0, world_comm(w)));
    }
    str_free(&packed);
    return s;
}

/* ---- writing */

typedef struct watch {
    world *world;
    const gather_options *o;
    double stall;
} watch;

static void moved(void *context, int64_t done, int64_t total)
{
    watch *t = context;
    world_guard(t->world, "writing the cohort file", t->stall);
    if (world_rank(t->world) == 0 && t->o->progress) t->o->progress(t->o->context, done, total);
}

status gather_run(world *w, const gather_options *o, cohort_totals *totals)
{
    status s, mine;
    int ok, all = 0;
    block b = {0};
    watch t = {w, o, o->stall_seconds > 0 ? o->stall_seconds : 600};
    world_guard(w, "sharing the list of parts", t.stall);
    COV_GO(share(w, o, &b));
    mine = unpack(&b);
    ok = mine == COV_OK;
    s = MPI_Allreduce(&ok, &all, 1, MPI_INT, MPI_MIN, world_comm(w)) == MPI_SUCCESS ? COV_OK : COV_COMM;
    if (mine != COV_OK) { s = mine; goto done; }
    if (s != COV_OK || !all) {
        s = COV_FAIL(s ? s : COV_NOMEM, "another rank has no memory for the list of parts");
        goto done;
    }
    b.source.progress = moved;
    b.source.context = &t;
    world_guard(w, "writing the cohort file", t.stall);
    COV_GO(cohort_write(world_comm(w), o->out, &b.source, totals));
done:
    world_guard_off(w);
    free(b.bytes);
    free(b.texts);
    free(b.attributes);
    free(b.extras);
    return s;
}
