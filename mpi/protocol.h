/* protocol: every kind of message between ranks (MPI) and between a shell and its children (channels), and the structs
 * they carry, each with one put and one get (docs/PROTOCOL.md tells the story). Local. */
#ifndef COV_MPI_PROTOCOL_H
#define COV_MPI_PROTOCOL_H
#include "data/part.h"
#include "data/unit.h"
#include "mpi/message.h"

enum { PROTOCOL_PATH = 4096 };

/* X(name, from -> to, what) */
#define PROTOCOL_MESSAGES(X)                                                                       \
    X(START, "dealer -> shell", "what all must know: parts folder, key, settled text")             \
    X(WANT, "shell -> dealer", "room for one more unit")                                           \
    X(HEADERS, "dealer -> shell", "a batch of paths whose headers are wanted")                     \
    X(HEAD, "shell -> dealer", "one header, or why there is none")                                 \
    X(UNIT, "dealer -> shell", "a unit: one study, a handful, or a step of one that is cut up")    \
    X(DONE, "shell -> dealer", "one study's outcome, its part is committed; or a step is done")    \
    X(DROPPED, "shell -> dealer", "one study given back unfinished while draining")                \
    X(EVENT, "shell -> dealer", "a line for the log: strike, worker replaced")                     \
    X(BEAT, "both ways", "I live; a shell adds what its worker is doing")                          \
    X(SIGNAL, "shell -> dealer", "this rank got a signal to stop")                                 \
    X(DRAIN, "dealer -> shell", "start nothing new, finish within so many seconds")                \
    X(FINISH, "dealer -> shell", "nothing is left: leave")                                         \
    X(BYE, "shell -> dealer", "this rank has left: no children, nothing open")                     \
    X(FATAL, "both ways", "the job ends, and this is why")                                         \
    X(READ_HEADERS, "shell -> reader", "read these headers, one reply each")                       \
    X(READ_VOXELS, "shell -> reader", "read this volume")                                          \
    X(READ_HEAD, "reader -> shell", "one header, or why there is none")                            \
    X(READ_VOLUME, "reader -> shell", "header, statistics, digest; the voxels' memfd comes along") \
    X(WORK_OPEN, "shell -> worker", "load the weights")                                            \
    X(WORK_RUN, "shell -> worker", "compute this volume; its memfd comes along")                   \
    X(WORK_RECORD, "shell -> worker", "commit a part that says why there is no result")            \
    X(WORK_RESULT, "worker -> shell", "the answer to any of the three")
typedef enum protocol_kind {
    PROTOCOL_NONE = 0,
#define X(name, way, text) PROTOCOL_##name,
    PROTOCOL_MESSAGES(X)
#undef X
} protocol_kind;
const char *protocol_name(int kind); /* "UNIT"; "?" */

/* A study as the ranks pass it around. */
typedef struct protocol_study {
    int64_t index;                  /* in the dealer's list */
    int64_t unit;                   /* which unit it belongs to */
    int64_t bytes, mtime_ns;        /* of the input */
    int64_t stamp;                  /* of the input as the walk saw it (farm_study); 0: not known */
    int64_t voxels;                 /* from the header; 0 unknown */
    double seconds;                 /* deadline of reading it, and of computing it */
    int64_t reason;                 /* not REASON_NONE: nothing to compute, only to be recorded, with detail */
    int64_t step;                   /* unit_step; index is then the piece's, beyond all studies */
    int64_t z0, z1, range;          /* of a range; and how many slices each of them has, but the last */
    char detail[STUDY_DETAIL];
    char path_abs[PROTOCOL_PATH], path_rel[STUDY_PATH], id[STUDY_ID], format[16];
} protocol_study;
/* The name (part_key.unit) of what a step leaves for the next. */
void protocol_piece(unit_step step, int64_t z0, int64_t range, char name[PART_UNIT]);
void protocol_put_study(message *m, const protocol_study *s);
void protocol_get_study(message *m, protocol_study *s);

/* A path whose header is wanted; digest: its SHA-256 too; stamp as above. */
typedef struct protocol_path {
    int64_t index, digest, stamp;
    char path[PROTOCOL_PATH];
} protocol_path;
void protocol_put_path(message *m, const protocol_path *p);
void protocol_get_path(message *m, protocol_path *p);

/* What a reader found, header alone or whole volume. */
typedef struct protocol_head {
    int64_t index;
    int64_t reason; /* REASON_NONE: head is good (and stats, of a volume) */
    int64_t has_head;
    char detail[STUDY_DETAIL];
    volume_header head;
    volume_stats stats;
    char sha256[SHA256_HEX]; /* "" if not asked for or not readable */
    double seconds;
} protocol_head;
void protocol_put_head(message *m, const protocol_head *h);
void protocol_get_head(message *m, protocol_head *h);

/* A study's end, or a worker's answer. */
typedef struct protocol_done {
    int64_t index;
    int64_t failure; /* a status other than COV_OK: no part was committed; detail says why */
    int64_t outcome, reason, strikes, voxels;
    int64_t more; /* a step was done and the study goes on: no part yet */
    double seconds, waited; /* at work on it; of the shell: that its worker had nothing before it, as files were being read */
    char detail[STUDY_DETAIL];
} protocol_done;
void protocol_put_done(message *m, const protocol_done *d);
void protocol_get_done(message *m, protocol_done *d);

#endif
