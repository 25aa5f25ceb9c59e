/* main: reads the options and hands over to the job; the only place that prints errors and chooses exit codes.
 * The screening and training jobs fork their children before MPI starts, so nothing here may touch MPI first. */
#include "jobs/jobs.h"

#include <stdio.h>

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
