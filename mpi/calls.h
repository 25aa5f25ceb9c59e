/* calls: what mpi/ asks of the rest of the program, handed over by jobs/. mpi/ knows no medicine: a study is a path, a
 * header, some voxels and a result. Every function runs in a child process, forked before MPI_Init; what it allocates
 * or breaks there stays there. The context is whatever jobs/ filled before spawn_start; the children have a copy. */
#ifndef COV_MPI_CALLS_H
#define COV_MPI_CALLS_H
#include "base/sha256.h"
#include "data/study.h"

typedef struct farm_calls {
    void *context;
    /* In a reader child, sandboxed: one file. On a failure *why is the reason code; the message becomes its detail. */
    status (*read_header)(void *context, const char *path, volume_header *out, reason *why);
    /* hu: nx*ny*nz of the header just read, shared memory of ours. */
    status (*read_voxels)(void *context, const char *path, const volume_header *head, int16_t *hu, volume_stats *stats,
                          reason *why);
    /* In a reader child: how the study's files look now (farm_study.stamp). */
    status (*stamp)(void *context, const char *path, int64_t *out);
    /* In a reader child; NULL: the SHA-256 of the file at path. For studies that are more than one file. */
    status (*digest)(void *context, const char *path, char hex[SHA256_HEX]);
    /* In the worker child, before worker_open; may be NULL. `settled` is farm_options.settled of rank 0. */
    status (*settle)(void *context, const char *settled);
    /* In the worker child: loads weights, builds nets. A failure ends the job. */
    status (*worker_open)(void *context, void **worker);
    /* Fills every figure of out->row; id, path, format, input_sha256, seconds_read and rank are filled by mpi/
     * afterwards. */
    status (*worker_run)(void *worker, const volume *v, const volume_stats *stats, study_result *out);
    /* The same in steps, for a study that is cut up (farm_options.split_slices; NULL where it is never). begin: up to
     * where slices can be looked at by themselves; *more 0: the result is final. range: slices z0 .. z1-1, given what
     * begin left; bytes (malloc) for end, without further state. end: all ranges' bytes; completes what begin left. The
     * same part comes of it as of worker_run. Each step may run in another process, of another rank. */
    status (*worker_begin)(void *worker, const volume *v, const volume_stats *stats, study_result *out, int *more);
    status (*worker_range)(void *worker, const volume *v, const study_result *begun, int64_t z0, int64_t z1,
                           void **bytes, size_t *count);
    status (*worker_end)(void *worker, const volume *v, void *const *bytes, const size_t *counts, int64_t ranges,
                         study_result *begun);
    void (*worker_close)(void **worker);
} farm_calls;
#endif
