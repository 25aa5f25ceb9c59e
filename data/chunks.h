/* chunks: a mask written chunk by chunk, each packed by the filters that its dataset asks for (shuffle, deflate) in
 * HDF5's own bytes, but by several threads: HDF5 has one. Private to data/. Local. */
#ifndef COV_DATA_CHUNKS_H
#define COV_DATA_CHUNKS_H
#include "data/h5.h"

/* values: dense, of layout->dims, `element` bytes each: 1, or 2 with layout->shuffle. layout: of the dataset (whole
 * rows a chunk, deflate, no fletcher32), into which nothing was written yet. threads: at least 1; their number changes
 * no byte. */
status chunks_write(hid_t dataset, const char *file, const char *name, const h5_layout *layout, size_t element,
                    const void *values, int threads);
#endif
