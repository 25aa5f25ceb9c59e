/* chunks: see chunks.h. Most chunks of a lesion mask are empty: one of them is packed, and the others are its copies.
 * Only zlib is called by more than one thread, HDF5 never. The trap: a study's last chunk is padded with zeros, and the
 * padding is packed too. */
#include "data/chunks.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

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
    p.whole = (size_t)deep * p.row;
    p.chunks = (int64_t)((layout->dims[0] + deep - 1) / deep);
    p.at = calloc((size_t)p.chunks, sizeof *p.at);
    if (!p.at) return COV_FAIL(COV_NOMEM, "%s: no memory for %lld chunks", file, (long long)p.chunks);
    COV_GO(pack_all(&p, file, threads));
    for (int64_t k = 0; k < p.chunks; k++) {
        const packed *one = &p.at[p.at[k].bytes ? k : p.empty];
        const hsize_t from[3] = {(hsize_t)k * deep, 0, 0};
        H5_GO(COV_IO, file, name, H5Dwrite_chunk(dataset, H5P_DEFAULT, 0, from, one->count, one->bytes));
    }
done:
    for (int64_t k = 0; k < p.chunks; k++) free(p.at[k].bytes);
    free(p.at);
    return s;
}
