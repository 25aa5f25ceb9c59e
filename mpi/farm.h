/* farm: runs an archive through readers and workers on all ranks. Rank 0 deals: headers first, then units, dearest
 * first; every rank, rank 0 too, has a shell that feeds its readers and its worker. Comes in: the list of studies (rank
 * 0), the calls given to spawn_start. Goes out: one committed part for every study that was done, skipped or failed,
 * and a report in which each is accounted for. No shell waits inside MPI or touches an input file. */
#ifndef COV_MPI_FARM_H
#define COV_MPI_FARM_H
#include "data/part.h"
#include "mpi/claim.h"
#include "mpi/spawn.h"
#include "mpi/world.h"

/* One study as the archive walk found it. Borrowed texts. */
typedef struct farm_study {
    const char *path_abs; /* what the readers open */
    const char *path_rel; /* bytes as on disk, shorter than STUDY_PATH; unique */
    const char *id, *format;
    int64_t bytes, mtime_ns; /* of the input, for the part's key; several files: sum and latest */
    int64_t stamp;           /* of the input (farm_calls.stamp); one that is read with another has CHANGED; 0: not known */
} farm_study;

typedef struct farm_progress {
    const char *phase; /* "headers", "screening", "draining" (jobs/ adds "gather", "finished", "stopped") */
    int64_t found, headers; /* studies; headers read so far */
    int64_t kept, done, skipped, failed,
        open;          /* kept ones are also counted by their outcome; found is the sum of the last four */
    int64_t running;   /* dealt out and not finished */
    int64_t strikes;
    double voxels_done, voxels_total; /* of what this run computes */
    double seconds_worked, seconds_waited; /* of all workers: computing; idle while the files that they need were being read */
    double seconds, voxels_per_second; /* since the start; mean since the first unit */
    double eta_seconds; /* < 0: not known yet */
} farm_progress;

typedef enum farm_event_kind { FARM_STUDY, FARM_STRIKE, FARM_WORKER, FARM_NOTE } farm_event_kind;
typedef struct farm_event { /* borrowed, for the length of the call */
    farm_event_kind kind;
    int rank;
    const char *host, *study; /* study: path_rel, "" if it is about none */
    const char *text;
    outcome outcome; /* FARM_STUDY */
    reason reason;
    double seconds;
} farm_event;

typedef struct farm_options {
    const char *parts_dir; /* every rank the same, made by claim_open */
    /* Rank 0 only; the others take them from rank 0. */
    const farm_study *studies;
    int64_t study_count;
    const part_key *key;  /* template: weights, options, precision, backend */
    const char *settled;  /* handed to farm_calls.settle in every worker; NULL: "" */
    claim *claim;         /* may be NULL; learns what is open, knows what was */
    int dry_run;          /* headers alone; nothing is written */
    int verify;           /* digests decide what is kept, not size and time */
    int unit_slices;      /* see unit_plan */
    int split_slices;     /* see unit_range; < 0 where the calls cannot */
    void (*progress)(void *context, const farm_progress *p); /* at most every 0.5 s, and once at the end; may be NULL */
    void (*event)(void *context, const farm_event *e);       /* may be NULL */
    void *context;
    /* Every rank the same. 0: the default in brackets. */
    int read_ahead;            /* studies read ahead of the worker [2] */
    int64_t ahead_bytes;       /* memory of volumes held by a rank, at least one is [2 GiB] */
    int64_t volume_bytes;      /* largest volume accepted [4 GiB] */
    double timeout_seconds;    /* deadline of reading, and of computing, a study [max(300, 10 x estimate)] */
    double voxels_per_second;  /* for that estimate [1e6] */
    double header_seconds;     /* deadline of reading a header [60] */
    double open_seconds;       /* deadline of worker_open [300] */
    double grace_seconds;      /* from the first signal to leaving [20] */
    double beat_seconds;       /* silence after which a rank is given up [60] */
    double start_seconds;      /* how long the others wait for rank 0's walk [3600] */
} farm_options;

/* What became of one study. */
typedef struct farm_outcome {
    int settled;    /* 0: open, nothing was committed */
    int kept;       /* an earlier run's part answers for it */
    outcome outcome;
    reason reason;
    int32_t rows, cols, slices; /* of the header; 0 if not read */
    int strikes, rank;
    double seconds;
    char *detail; /* owned by the report; NULL if none */
} farm_outcome;

typedef struct farm_report {
    int stopped;    /* 1: drained after a signal: leave with 75 */
    int speaker;    /* on failure: this rank prints the message */
    double grace_left; /* stopped: seconds of the grace time that are left for gather */
    /* Rank 0 only. */
    farm_progress totals;
    int64_t reasons[REASON_COUNT]; /* studies that are settled, by reason */
    int64_t units;
    double estimate_seconds; /* of what was, or with dry_run would be, computed, by voxels_per_second and ranks */
    int64_t study_count;
    farm_outcome *outcomes; /* owned; in the order of studies */
} farm_report;
void farm_report_free(farm_report *r);

/* Collective over the world. COV_OK: accounted for (or drained: report.stopped). Any failure, COV_STOPPED (a second
 * signal) included, leaves ranks in different places: print if report.speaker, then world_abort. */
status farm_run(world *w, spawner *s, const farm_options *o, farm_report *out);
#endif
