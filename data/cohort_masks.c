/* cohort_masks: the masks' way into the cohort file. Chunks stay packed as the parts have them: each rank reads those of its
 * share of the studies, a batch at a time, and rank 0, which gets them all, puts them into the file. Unpacking and packing them
 * again, which writing them by all ranks asks of HDF5, was most of a gather's time (docs/RELIABILITY.md).
 *
 * Rank 0 has the file open by itself, so no failure here is one of a collective call of HDF5. In every round the ranks agree
 * first; whoever sends then is waited for, even if rank 0 can no longer write. */
#include "data/cohort_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_BYTES = 4 << 20 /* and one chunk more */, TAG = 7 };

typedef struct mask_chunk {
    int32_t set, mask;
    int64_t row0, bytes; /* bytes 0: nothing but zeros */
} mask_chunk;

typedef struct batch {
    int64_t count, used;  /* chunks, their bytes */
    int64_t room, size;   /* of the arrays */
    mask_chunk *chunks;   /* owned */
    unsigned char *bytes; /* owned; one chunk's after the other's */
} batch;

/* How far a rank is with its share. */
typedef struct place {
    int64_t study, end, chunk;
    study_mask mask;
    part *part; /* of `study`, once it was needed */
} place;

/* What rank 0 keeps of every mask's dataset. */
typedef struct target {
    hid_t dataset;
    void *zeros; /* owned; a packed chunk of nothing else, once it was needed */
    size_t zeros_bytes;
} target;

/* ---- reading */

static status make_room(batch *b, int64_t chunks, int64_t bytes)
{
    if (b->room < chunks) {
        void *more = realloc(b->chunks, 2 * (size_t)chunks * sizeof *b->chunks);
        if (!more) return COV_FAIL(COV_NOMEM, "no memory for %lld chunks", (long long)chunks);
        b->chunks = more;
        b->room = 2 * chunks;
    }
    if (b->size < bytes) {
        int64_t size = bytes + bytes / 2;
        void *more = realloc(b->bytes, (size_t)size);
        if (!more) return COV_FAIL(COV_NOMEM, "no memory for %lld bytes of chunks", (long long)size);
        b->bytes = more;
        b->size = size;
    }
    return COV_OK;
}

/* The chunk at *at. */
static status read_chunk(writer *w, place *at, batch *b)
{
    const survey *study = &w->studies[at->study];
    const schema_set *set = &w->sets[w->set_of[at->study]];
    size_t count = 0;
    if (at->mask == STUDY_LESION ? study->has_lesion : study->has_lung) {
        COV_TRY(make_room(b, b->count + 1, b->used + (int64_t)part_chunk_room(set->rows, set->cols, at->mask)));
        if (!at->part) COV_TRY(part_open(w->source->parts[at->study], 0, &at->part));
        COV_TRY(part_chunk(at->part, at->mask, at->chunk, b->bytes + b->used, &count));
    } else COV_TRY(make_room(b, b->count + 1, 0));
    b->chunks[b->count++] = (mask_chunk){.set = w->set_of[at->study], .mask = (int32_t)at->mask, .bytes = (int64_t)count,
                                         .row0 = w->places[at->study].mask_row0 + at->chunk * set->chunk};
    b->used += (int64_t)count;
    return COV_OK;
}

static void step(writer *w, place *at)
{
    const schema_set *set = &w->sets[w->set_of[at->study]];
    if (++at->chunk * set->chunk < w->studies[at->study].slices) return;
    at->chunk = 0;
    if (++at->mask < (set->lesion ? STUDY_MASKS : STUDY_LESION)) return;
    at->mask = STUDY_LUNG;
    at->study++;
    part_close(&at->part);
}

static status read_batch(writer *w, place *at, batch *b)
{
    b->count = b->used = 0;
    while (at->study < at->end && b->used < BATCH_BYTES) {
        if (w->set_of[at->study] < 0) {
            at->study++;
            continue;
        }
        COV_TRY(read_chunk(w, at, b));
        step(w, at);
    }
    return COV_OK;
}

/* ---- from rank to rank */

/* What a rank tells the others of its batch. */
typedef struct load {
    int64_t count, used, pixels;
} load;

static load load_of(const writer *w, const batch *b)
{
    load l = {.count = b->count, .used = b->used};
    for (int64_t k = 0; k < b->count; k++) {
        const schema_set *set = &w->sets[b->chunks[k].set];
        l.pixels += set->chunk * set->rows * set->cols;
    }
    return l;
}

static status send_batch(writer *w, const batch *b)
{
    status s = COV_OK;
    if (!b->count) return COV_OK;
    MPI_GO(MPI_Send(b->chunks, (int)(b->count * (int64_t)sizeof *b->chunks), MPI_BYTE, 0, TAG, w->comm));
    MPI_GO(MPI_Send(b->bytes, (int)b->used, MPI_BYTE, 0, TAG, w->comm));
done:
    return s;
}

/* b has room for it. */
static status receive_batch(writer *w, int rank, load l, batch *b)
{
    status s = COV_OK;
    b->count = l.count;
    b->used = l.used;
    if (!b->count) return COV_OK;
    MPI_GO(MPI_Recv(b->chunks, (int)(b->count * (int64_t)sizeof *b->chunks), MPI_BYTE, rank, TAG, w->comm, MPI_STATUS_IGNORE));
    MPI_GO(MPI_Recv(b->bytes, (int)b->used, MPI_BYTE, rank, TAG, w->comm, MPI_STATUS_IGNORE));
done:
    return s;
}

/* ---- writing */

static status open_target(writer *w, const mask_chunk *c, target *t)
{
    char name[COHORT_SET + 16];
    h5_layout layout;
    if (t->dataset >= 0) return COV_OK;
    snprintf(name, sizeof name, "mask/%s/%s", w->sets[c->set].name, columns_mask_name((study_mask)c->mask));
    COV_TRY(h5_open_dataset(w->root, w->temporary, name, &t->dataset, &layout));
    return COV_OK;
}

static status pack_zeros(writer *w, const mask_chunk *c, target *t)
{
    const schema_set *set = &w->sets[c->set];
    size_t room = part_chunk_room(set->rows, set->cols, (study_mask)c->mask);
    if (t->zeros) return COV_OK;
    if (!(t->zeros = malloc(room))) return COV_FAIL(COV_NOMEM, "no memory for a chunk of %zu bytes", room);
    COV_TRY(part_chunk_empty(set->rows, set->cols, (study_mask)c->mask, t->zeros, &t->zeros_bytes));
    return COV_OK;
}

static status write_batch(writer *w, const batch *b, target *targets)
{
    const unsigned char *bytes = b->bytes;
    for (int64_t k = 0; k < b->count; k++) {
        const mask_chunk *c = &b->chunks[k];
        target *t = &targets[c->set * STUDY_MASKS + c->mask];
        COV_TRY(open_target(w, c, t));
        if (!c->bytes) COV_TRY(pack_zeros(w, c, t));
        COV_TRY(chunks_put(t->dataset, w->temporary, w->sets[c->set].name, (hsize_t)c->row0, c->bytes ? bytes : t->zeros,
                           c->bytes ? (size_t)c->bytes : t->zeros_bytes));
        bytes += c->bytes;
    }
    return COV_OK;
}

/* Its own batch, then the others', in the order of ranks. */
static status write_batches(writer *w, const batch *own, const load *loads, batch *others, target *targets)
{
    status s = write_batch(w, own, targets), first = s;
    char message[MESSAGE];
    snprintf(message, sizeof message, "%s", status_message());
    for (int r = 1; r < w->size; r++) {
        s = receive_batch(w, r, loads[r], others);
        if (s == COV_OK && first == COV_OK) s = write_batch(w, others, targets);
        if (s == COV_OK || first != COV_OK) continue;
        first = s;
        snprintf(message, sizeof message, "%s", status_message());
    }
    return first == COV_OK ? COV_OK : COV_FAIL(first, "%s", message);
}

/* loads: of all ranks; largest: of them; returns all pixels. */
static int64_t sum_loads(const load *loads, int size, load *largest)
{
    int64_t pixels = 0;
    *largest = (load){0};
    for (int r = 0; r < size; r++) {
        if (loads[r].count > largest->count) largest->count = loads[r].count;
        if (loads[r].used > largest->used) largest->used = loads[r].used;
        pixels += loads[r].pixels;
    }
    return pixels;
}

/* Round after round, until no rank has anything left. */
static status all_batches(writer *w, target *targets)
{
    place at = {.study = cohort_share(w->source->count, w->rank, w->size),
                .end = cohort_share(w->source->count, w->rank + 1, w->size)};
    batch own = {0}, others = {0};
    load *loads = calloc((size_t)w->size, sizeof *loads), largest;
    status s = loads ? read_batch(w, &at, &own) : COV_FAIL(COV_NOMEM, "no memory for %d ranks", w->size);
    for (;;) {
        COV_GO(cohort_agree(w, s));
        load mine = load_of(w, &own);
        MPI_GO(MPI_Allgather(&mine, sizeof mine, MPI_BYTE, loads, sizeof mine, MPI_BYTE, w->comm));
        int64_t pixels = sum_loads(loads, w->size, &largest);
        if (!largest.count) break;
        COV_GO(cohort_agree(w, w->rank == 0 ? make_room(&others, largest.count, largest.used) : COV_OK));
        s = w->rank == 0 ? write_batches(w, &own, loads, &others, targets) : send_batch(w, &own);
        cohort_report(w, pixels);
        if (s == COV_OK) s = read_batch(w, &at, &own);
    }
done:
    part_close(&at.part);
    free(loads);
    free(own.chunks);
    free(own.bytes);
    free(others.chunks);
    free(others.bytes);
    return s;
}

static status open_alone(writer *w, target **targets)
{
    size_t count = (size_t)w->set_count * STUDY_MASKS + 1;
    if (!(*targets = calloc(count, sizeof **targets))) return COV_FAIL(COV_NOMEM, "no memory for %zu masks", count);
    for (size_t k = 0; k < count; k++) (*targets)[k].dataset = H5I_INVALID_HID;
    COV_TRY(h5_open_file(w->temporary, H5F_ACC_RDWR, &w->root));
    return COV_OK;
}

static status close_alone(writer *w, target *targets)
{
    status s = COV_OK;
    for (int k = 0; targets && k < w->set_count * STUDY_MASKS; k++) {
        h5_close(&targets[k].dataset);
        free(targets[k].zeros);
    }
    free(targets);
    if (w->root < 0) return COV_OK;
    herr_t closed = H5Fclose(w->root);
    w->root = H5I_INVALID_HID;
    H5_GO(COV_IO, w->temporary, "close", closed);
    COV_GO(cohort_reserve(w)); /* closing gave back what was not written yet */
done:
    return s;
}

status cohort_write_masks(writer *w)
{
    target *targets = NULL;
    char message[MESSAGE];
    status s = cohort_agree(w, w->rank == 0 ? open_alone(w, &targets) : COV_OK);
    if (s == COV_OK) s = all_batches(w, targets);
    snprintf(message, sizeof message, "%s", status_message());
    status closed = cohort_agree(w, close_alone(w, targets));
    if (s != COV_OK) return COV_FAIL(s, "%s", message);
    return closed;
}
