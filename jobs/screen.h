/* screen: the children's side of the main job: what farm_calls ask for, in terms of readers and the pipeline. */
#ifndef COV_JOBS_SCREEN_H
#define COV_JOBS_SCREEN_H
#include "jobs/setup.h"
#include "mpi/calls.h"

/* Filled before the children are forked; each has its copy. */
typedef struct screen_context {
    const options *options;
    pipeline_options pipeline;
    setup_paths paths;
    int64_t volume_bytes; /* largest decoded volume accepted */
} screen_context;

farm_calls screen_calls(screen_context *c);
/* "cpu bf16": what rank 0 settled for all, and what the workers are told. */
void screen_settled(const pipeline_options *p, char *text, size_t room);
#endif
