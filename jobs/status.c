/* status: what the coordinator of a run last wrote about itself (OUT.parts/status.json), for another terminal; and clean, which
 * removes the parts of a finished cohort. */
#include "data/cohort.h"
#include "jobs/jobs.h"

#include "mpi/claim.h"
#include "mpi/progress.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PATH_ROOM = 4096 };

static status print_status(const char *name, const char *folder)
{
    farm_progress p;
    progress_run run;
    COV_TRY(progress_read(folder, &p, &run));
    double age = difftime(time(NULL), (time_t)run.updated);
    printf("%s: %s, %lld of %lld studies: %lld done, %lld skipped, %lld failed, %lld running\n", name, p.phase, (long long)(p.found - p.open),
           (long long)p.found, (long long)p.done, (long long)p.skipped, (long long)p.failed, (long long)p.running);
    printf("%d rank(s), process %d on %s, %.0f s so far, last heard of %.0f s ago", run.ranks, run.process, run.host, p.seconds, age);
    if (p.seconds_worked > 0) printf(", workers waited %.0f %% of their time for readers", 100 * p.seconds_waited / (p.seconds_worked + p.seconds_waited));
    if (p.eta_seconds >= 0 && p.open) printf(", about %.0f s to go", p.eta_seconds);
    putchar('\n');
    return COV_OK;
}

/* The run of the whole archive, or else each shard. */
int status_job(const options *o)
{
    char folder[PATH_ROOM], name[PATH_ROOM];
    struct dirent **shards = NULL;
    int any = 0, n;
    snprintf(folder, sizeof folder, "%s.parts/shards", o->words[0]);
    n = scandir(folder, &shards, NULL, versionsort);
    for (int k = 0; k < n; k++) {
        if (shards[k]->d_name[0] != '.' &&
            (size_t)snprintf(folder, sizeof folder, "%s.parts/shards/%s", o->words[0], shards[k]->d_name) < sizeof folder &&
            (size_t)snprintf(name, sizeof name, "%s, shard %s", o->words[0], shards[k]->d_name) < sizeof name)
            any |= print_status(name, folder) == COV_OK;
        free(shards[k]);
    }
    free(shards);
    snprintf(folder, sizeof folder, "%s.parts", o->words[0]);
    if (any) return EXIT_OK;
    status s = print_status(o->words[0], folder);
    return s == COV_OK ? EXIT_OK : jobs_fail(s);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st; (void)type; (void)at;
    return remove(path);
}

int clean_job(const options *o)
{
    char path[PATH_ROOM];
    cohort *c = NULL;
    claim *held = NULL;
    status s;
    COV_GO(cohort_open(o->words[0], &c)); /* only what a complete cohort file replaces may go */
    const char *complete = cohort_attribute_find(c, "complete"), *archive = cohort_attribute_find(c, "archive");
    if (!complete || strcmp(complete, "1") != 0) { s = COV_FAIL(COV_USAGE, "%s is not complete: its parts are still needed", o->words[0]); goto done; }
    if ((size_t)snprintf(path, sizeof path, "%s.parts", o->words[0]) >= sizeof path) { s = COV_FAIL(COV_USAGE, "%s: the path is too long", o->words[0]); goto done; }
    if (access(path, F_OK) != 0) { printf("no parts of %s are left\n", o->words[0]); goto done; }
    COV_GO(claim_open(path, archive ? archive : "", NULL, &held)); /* not under a run that is using them */
    if (nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS) != 0) s = COV_FAIL(COV_IO, "%s: cannot remove all of it: %s", path, strerror(errno));
    else printf("removed %s\n", path);
done:
    claim_close(&held);
    cohort_close(&c);
    return s == COV_OK ? EXIT_OK : jobs_fail(s);
}
