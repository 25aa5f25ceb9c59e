/* main: reads the options and hands over to the job; the only place that prints errors and chooses exit codes.
 * The screening and training jobs fork their children before MPI starts, so nothing here may touch MPI first. */
#include "jobs/jobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* OpenMP's threads spin where one waits for the other, for ten milliseconds unless the environment that the library was loaded
 * with says how long. What they spin away beside other programs is missing when they have work: a study took 70 s beside one
 * compiler on two cores, and 15 s with this (docs/PERFORMANCE.md). So the program begins once more with a shorter time, and goes on as
 * it is where it cannot. The traps: a loader that was asked to run us is what the link names, and would take argv[1] for a program;
 * and the process shall keep its name, so it is not the link that is started. */
static void wait_briefly(char **argv)
{
    char self[4096] = "";
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    const char *name = n > 0 ? strrchr(self, '/') : NULL;
    if (!name || strncmp(name, "/ld-", 4) == 0 || setenv("GOMP_SPINCOUNT", "10000", 1) != 0) return;
    execv(self, argv);
}

static int computes(job j) { return j == JOB_SCREEN || j == JOB_TRAIN || j == JOB_EVAL || j == JOB_BENCH || j == JOB_DOCTOR; }

int main(int argc, char **argv)
{
    options o;
    str text = {0};
    int code = EXIT_OK;
    if (options_parse(argc, argv, &o) != COV_OK) {
        fprintf(stderr, "covpipe: %s\n", status_message());
        options_free(&o);
        return EXIT_USAGE;
    }
    if (!o.version && !o.help && computes(o.job)) wait_briefly(argv);
    if (o.version) str_put(&text, "covpipe " COVPIPE_VERSION "\n");
    else if (o.help) options_help(&text, o.job, o.job != JOB_SCREEN || argc > 2);
    else if (o.job == JOB_MAN) options_man(&text);
    else if (o.job == JOB_COMPLETION) options_completion(&text);
    if (text.length) fputs(str_text(&text), stdout);
    else code = jobs_run(&o);
    str_free(&text);
    options_free(&o);
    return code;
}
