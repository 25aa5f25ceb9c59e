/* jobs: one function a sub-command, each the wiring of the layers below and nothing else. Every function prints what
 * it has to say itself (results to stdout, the rest to stderr) and returns the process's exit code. */
#ifndef COV_JOBS_JOBS_H
#define COV_JOBS_JOBS_H
#include "jobs/options.h"

/* Documented in README and the man page; scripts rely on them. EX_OK and its like belong to sysexits.h. */
enum {
    EXIT_OK = 0,       /* all done or skipped */
    EXIT_FAILED = 1,   /* the job failed */
    EXIT_USAGE = 2,    /* the command line makes no sense */
    EXIT_STUDIES = 3,  /* ran, but some studies failed (with --strict: or were skipped), or places of the archive could not be read */
    EXIT_NOTHING = 4,  /* nothing to do in the archive */
    EXIT_RESUME = 75   /* stopped by a signal: the same command goes on */
};

int jobs_run(const options *o); /* dispatch by o->job */
/* Prints "covpipe: message" and the trace to stderr; returns the exit code of s. */
int jobs_fail(status s);

int screen_job(const options *o);
int status_job(const options *o);
int inspect_job(const options *o);
int export_job(const options *o);
int montage_job(const options *o);
int phantom_job(const options *o);
int train_job(const options *o);
int eval_job(const options *o);
int bench_job(const options *o);
int doctor_job(const options *o);
int clean_job(const options *o);
#endif
