/* jobs: which function serves which job, and how a failure is shown. */
#include "jobs/jobs.h"

#include <stdio.h>

int jobs_fail(status s)
{
    fprintf(stderr, "covpipe: %s\n  (%s at %s)\n", status_message(), status_name(s), status_trace());
    return s == COV_USAGE ? EXIT_USAGE : s == COV_STOPPED ? EXIT_RESUME : EXIT_FAILED;
}

int jobs_run(const options *o)
{
    switch (o->job) {
    case JOB_SCREEN: return screen_job(o);
    case JOB_STATUS: return status_job(o);
    case JOB_INSPECT: return inspect_job(o);
    case JOB_EXPORT: return export_job(o);
    case JOB_MONTAGE: return montage_job(o);
    case JOB_PHANTOM: return phantom_job(o);
    case JOB_TRAIN: return train_job(o);
    case JOB_EVAL: return eval_job(o);
    case JOB_BENCH: return bench_job(o);
    case JOB_DOCTOR: return doctor_job(o);
    case JOB_CLEAN: return clean_job(o);
    case JOB_MAN: case JOB_COMPLETION: case JOB_COUNT: break; /* main prints these */
    }
    return EXIT_USAGE;
}
