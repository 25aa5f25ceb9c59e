/* claim: a run's hold on OUT.parts: one run at a time, or shards of one that share it; always the same archive. Also
 * remembers which studies were open, so that after the death of a whole job those run last. Rank 0 only, local. */
#ifndef COV_MPI_CLAIM_H
#define COV_MPI_CLAIM_H
#include "base/status.h"

typedef struct claim claim;
/* Makes the folder where missing. archive: the root's real path. shard: "3-of-8", or NULL: the whole archive, alone.
 * COV_USAGE, naming the holder, if another run has it (two different shards may), or the folder belongs to another
 * archive. */
status claim_open(const char *parts_dir, const char *archive, const char *shard, claim **out);
void claim_close(claim **c); /* accepts NULL */
/* Where this run's own files lie: OUT.parts, of a shard OUT.parts/shards/3-of-8. Borrowed. */
const char *claim_folder(const claim *c);
/* Other runs may be writing parts too. Accepts NULL. */
int claim_shared(const claim *c);
/* Was this study (relative path) open when an earlier run died? */
int claim_was_open(const claim *c, const char *path);
/* Notes that a study is being worked on, or no longer. Failing to write the note is no failure of the run. */
void claim_begin(claim *c, const char *path);
void claim_end(claim *c, const char *path);
/* Everything was finished or given back in order: nothing is open. */
void claim_settle(claim *c);
#endif
