/* metadata: columns that a hospital joins to its studies (pseudonym, date, ...): a CSV with a `path` or an `id` column;
 * all other columns are text. Local. */
#ifndef COV_DATA_METADATA_H
#define COV_DATA_METADATA_H
#include "base/status.h"
#include <stddef.h>

typedef struct metadata metadata;

/* COV_USAGE if there is neither a `path` nor an `id` column, or a key comes twice; csv's own errors. */
status metadata_read(const char *path, metadata **out);
void metadata_free(metadata **m);
int metadata_columns(const metadata *m);              /* without the keys */
const char *metadata_name(const metadata *m, int column);
size_t metadata_width(const metadata *m, int column); /* bytes of the longest value, without NUL */
/* The row of a study: by path where there is a path column and it matches, else by id; -1 if neither. */
long metadata_find(const metadata *m, const char *id, const char *path);
const char *metadata_get(const metadata *m, long row, int column); /* "" for row -1 */
size_t metadata_rows(const metadata *m);
#endif
