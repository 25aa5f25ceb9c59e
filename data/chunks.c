/* chunks: see chunks.h. Most chunks of a lesion mask are empty: one of them is packed, and the others are its copies.
 * Only zlib is called by more than one thread, HDF5 never. The trap: a study's last chunk is padded with zeros, and the
 * padding is packed too. */
#include "data/chunks.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { CHECKSUM = 4 /* bytes */ };

typedef struct packed {
    void *bytes; /* owned; NULL: as those of the chunk `empty` */
    size_t count;
} packed;

typedef struct packing {
    const h5_layout *layout;
    const unsigned char *values;
    size_t element, row; /* bytes */
    size_t whole; /* bytes of a chunk, padding included */
    int64_t chunks, empty; /* empty: the one of nothing but zeros that is packed, whichever it is */
    packed *at;            /* owned; chunks */
} packing;

static size_t whole_bytes(const h5_layout *l, size_t element)
{
    return (size_t)(l->chunk[0] * l->chunk[1] * l->chunk[2]) * element;
}

/* What chunk k has of the mask. */
static const unsigned char *part_of(const packing *p, int64_t k, size_t *bytes)
{
    hsize_t deep = p->layout->chunk[0], from = (hsize_t)k * deep, left = p->layout->dims[0] - from;
    *bytes = (size_t)(left < deep ? left : deep) * p->row;
    return p->values + (size_t)from * p->row;
}

static int is_empty(const unsigned char *at, size_t bytes) { return !at[0] && memcmp(at, at + 1, bytes - 1) == 0; }

/* A whole chunk in the order that is deflated: where elements have two bytes, first all low ones, then all high. */
static void lay_out(const packing *p, const unsigned char *from, size_t bytes, unsigned char *to)
{
    size_t half = p->whole / 2;
    if (p->element == 1) memcpy(to, from, bytes);
    else
        for (size_t i = 0; i < bytes / 2; i++) {
            to[i] = from[2 * i];
            to[half + i] = from[2 * i + 1];
        }
    if (p->element == 1) memset(to + bytes, 0, p->whole - bytes);
    else {
        memset(to + bytes / 2, 0, half - bytes / 2);
        memset(to + half + bytes / 2, 0, half - bytes / 2);
    }
}

/* 0: no memory. */
static int pack(const packing *p, int64_t k)
{
    size_t bytes;
    const unsigned char *from = part_of(p, k, &bytes);
    uLongf count = compressBound(p->whole);
    unsigned char *flat = NULL, *out = malloc(count);
    int dense = p->element == 1 && bytes == p->whole;
    if (!dense && (flat = malloc(p->whole))) lay_out(p, from, bytes, flat);
    int done = out && (dense || flat) &&
               compress2(out, &count, dense ? from : flat, p->whole, p->layout->deflate) == Z_OK;
    unsigned char *fit = done ? realloc(out, count) : NULL;
    p->at[k] = (packed){.bytes = fit ? fit : out, .count = count};
    free(flat);
    return done;
}

static status pack_all(packing *p, const char *file, int threads)
{
    int failed = 0, taken = 0;
#pragma omp parallel for schedule(dynamic) num_threads(threads) reduction(| : failed)
    for (int64_t k = 0; k < p->chunks; k++) {
        size_t bytes;
        int before = 0;
        const unsigned char *from = part_of(p, k, &bytes);
        if (is_empty(from, bytes)) {
#pragma omp atomic capture
            {
                before = taken;
                taken = 1;
            }
            if (before) continue;
            p->empty = k;
        }
        failed |= !pack(p, k);
    }
    return failed ? COV_FAIL(COV_NOMEM, "%s: no memory to pack its masks", file) : COV_OK;
}

status chunks_write(hid_t dataset, const char *file, const char *name, const h5_layout *layout, size_t element,
                    const void *values, int threads)
{
    packing p = {.layout = layout, .values = values, .element = element};
    hsize_t deep = layout->chunk[0];
    status s = COV_OK;
    p.row = (size_t)(layout->dims[1] * layout->dims[2]) * element;
    p.whole = whole_bytes(layout, element);
    p.chunks = chunks_count(layout);
    p.at = calloc((size_t)p.chunks, sizeof *p.at);
    if (!p.at) return COV_FAIL(COV_NOMEM, "%s: no memory for %lld chunks", file, (long long)p.chunks);
    COV_GO(pack_all(&p, file, threads));
    for (int64_t k = 0; k < p.chunks; k++) {
        const packed *one = &p.at[p.at[k].bytes ? k : p.empty];
        COV_GO(chunks_put(dataset, file, name, (hsize_t)k * deep, one->bytes, one->count));
    }
done:
    for (int64_t k = 0; k < p.chunks; k++) free(p.at[k].bytes);
    free(p.at);
    return s;
}

int64_t chunks_count(const h5_layout *l) { return (int64_t)((l->dims[0] + l->chunk[0] - 1) / l->chunk[0]); }
size_t chunks_room(const h5_layout *l, size_t element) { return compressBound(whole_bytes(l, element)) + CHECKSUM; }

status chunks_read(hid_t dataset, const char *file, const char *name, const h5_layout *layout, size_t element, int64_t k,
                   void *out, size_t *count)
{
    const hsize_t at[3] = {(hsize_t)k * layout->chunk[0], 0, 0};
    hsize_t stored = 0;
    uint32_t skipped = 0;
    status s = COV_OK;
    H5_GO(COV_FORMAT, file, name, H5Dget_chunk_storage_size(dataset, at, &stored));
    if (stored == 0 || stored > chunks_room(layout, element) - CHECKSUM) {
        s = COV_FAIL(COV_FORMAT, "%s: %s: damaged: chunk %lld has %llu bytes", file, name, (long long)k, (unsigned long long)stored);
        goto done;
    }
    H5_GO(COV_FORMAT, file, name, H5Dread_chunk(dataset, H5P_DEFAULT, at, &skipped, out));
    if (skipped) s = COV_FAIL(COV_FORMAT, "%s: %s: chunk %lld was not packed by all of its filters", file, name, (long long)k);
    *count = (size_t)stored;
done:
    return s;
}

status chunks_empty(const char *file, const h5_layout *layout, size_t element, void *out, size_t *count)
{
    size_t whole = whole_bytes(layout, element);
    uLongf bytes = compressBound(whole);
    void *zeros = calloc(whole, 1);
    int done = zeros && compress2(out, &bytes, zeros, whole, layout->deflate) == Z_OK;
    free(zeros);
    *count = bytes;
    return done ? COV_OK : COV_FAIL(COV_NOMEM, "%s: no memory to pack %zu bytes", file, whole);
}

/* Fletcher's sums over big-endian words of 16 bits, an odd last byte being the upper half of one, stored little-endian. 360
 * words are as many as can be added up before the sums have to be folded. */
size_t chunks_seal(void *bytes, size_t count)
{
    unsigned char *at = bytes, *const end = at + count;
    uint32_t low = 0, high = 0;
    while (at < end) {
        for (int words = 360; words > 0 && at < end; words--, at += 2) {
            low += (uint32_t)at[0] << 8 | (at + 1 < end ? at[1] : 0u);
            high += low;
        }
        low = (low & 0xffff) + (low >> 16);
        high = (high & 0xffff) + (high >> 16);
    }
    low = (low & 0xffff) + (low >> 16);
    high = (high & 0xffff) + (high >> 16);
    for (int k = 0; k < CHECKSUM; k++) end[k] = (unsigned char)((k < 2 ? low : high) >> (k % 2 * 8));
    return count + CHECKSUM;
}

status chunks_put(hid_t dataset, const char *file, const char *name, hsize_t row0, const void *bytes, size_t count)
{
    const hsize_t at[3] = {row0, 0, 0};
    status s = COV_OK;
    H5_GO(COV_IO, file, name, H5Dwrite_chunk(dataset, H5P_DEFAULT, 0, at, count, bytes));
done:
    return s;
}
