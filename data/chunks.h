/* chunks: a mask chunk by chunk, each packed by the filters that its dataset asks for (shuffle, deflate) in HDF5's own
 * bytes: packed by several threads, where HDF5 has one, and handed on as it is packed. layout: the dataset's (whole rows a chunk,
 * deflate); element: bytes of a value, 1, or 2 with layout->shuffle. Private to data/. Local. */
#ifndef COV_DATA_CHUNKS_H
#define COV_DATA_CHUNKS_H
#include "data/h5.h"

/* values: dense, of layout->dims, into a dataset without fletcher32 in which nothing was written yet. threads: at least 1;
 * their number changes no byte. */
status chunks_write(hid_t dataset, const char *file, const char *name, const h5_layout *layout, size_t element,
                    const void *values, int threads);

int64_t chunks_count(const h5_layout *layout);
/* Bytes that a packed chunk can take, its checksum included. */
size_t chunks_room(const h5_layout *layout, size_t element);
/* Chunk k as it is packed, into chunks_room bytes. COV_FORMAT: it is missing, or not packed by all of the filters. */
status chunks_read(hid_t dataset, const char *file, const char *name, const h5_layout *layout, size_t element, int64_t k,
                   void *out, size_t *count);
/* A chunk of nothing but zeros, packed likewise. */
status chunks_empty(const char *file, const h5_layout *layout, size_t element, void *out, size_t *count);
/* Puts the checksum of HDF5's fletcher32 filter behind a packed chunk; the new count. */
size_t chunks_seal(void *bytes, size_t count);
/* A packed (and sealed, if the dataset wants that) chunk into its place. */
status chunks_put(hid_t dataset, const char *file, const char *name, hsize_t row0, const void *bytes, size_t count);
#endif
