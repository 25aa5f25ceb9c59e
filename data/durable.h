/* durable: the four steps after which a file is there whole, or not at all: write under a temporary name in the same
 * folder, fsync, rename over the real name, fsync the folder. Local; one writer a path. */
#ifndef COV_DATA_DURABLE_H
#define COV_DATA_DURABLE_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

#define DURABLE_MARK ".tmp-" /* in the name of every temporary file made here */

/* "<path>.tmp-<process id>"; COV_USAGE if it does not fit. */
status durable_temporary(const char *path, char *out, size_t room);
/* fsyncs `temporary`, renames it to `path`, fsyncs the folder. On failure the temporary file is removed. */
status durable_commit(const char *temporary, const char *path);
/* Writes n bytes at an offset of an open file: interrupted and short writes go on. path is for the message. */
status durable_put(const char *path, int fd, const void *bytes, size_t n, int64_t at);
/* All of it for bytes in memory. */
status durable_write(const char *path, const void *bytes, size_t n);
/* Makes a folder and its missing parents, and fsyncs the parents of what it made. */
status durable_folder(const char *path);
/* fsyncs the folder that holds path. */
status durable_sync_parent(const char *path);
#endif
