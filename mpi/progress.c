/* progress: one table of the members of status.json, for writing and for reading. */
#include "mpi/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* X(member) */
#define COUNTS(X) X(found) X(headers) X(kept) X(done) X(skipped) X(failed) X(open) X(running) X(strikes)
#define MEASURES(X) X(voxels_done) X(voxels_total) X(seconds_worked) X(seconds_waited) X(seconds) X(voxels_per_second) X(eta_seconds)

void progress_json(const farm_progress *p, const progress_run *run, str *to)
{
    str_put(to, "{\"phase\":");
    str_put_json(to, p->phase);
    str_put(to, ",\"host\":");
    str_put_json(to, run->host);
    str_putf(to, ",\"process\":%d,\"ranks\":%d,\"updated\":%.3f", run->process, run->ranks, run->updated);
#define X(member) str_putf(to, ",\"" #member "\":%lld", (long long)p->member);
    COUNTS(X)
#undef X
#define X(member) str_putf(to, ",\"" #member "\":%.3f", isfinite(p->member) ? p->member : -1.0);
    MEASURES(X)
#undef X
    str_put(to, "}");
}

status progress_write(const char *parts_dir, const farm_progress *p, int ranks)
{
    char name[4200], temporary[4210];
    str text = {0};
    struct timespec now;
    progress_run run = {.process = (int)getpid(), .ranks = ranks};
    clock_gettime(CLOCK_REALTIME, &now);
    run.updated = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    gethostname(run.host, sizeof run.host - 1);
    snprintf(name, sizeof name, "%s/status.json", parts_dir);
    snprintf(temporary, sizeof temporary, "%s.tmp", name);
    progress_json(p, &run, &text);
    str_put(&text, "\n");
    FILE *f = fopen(temporary, "we");
    int good = f && !text.failed && fwrite(text.text, 1, text.length, f) == text.length;
    if (f && fclose(f) != 0) good = 0;
    str_free(&text);
    if (!good || rename(temporary, name) != 0) return COV_FAIL(COV_IO, "%s: cannot write: %s", name, strerror(errno));
    return COV_OK;
}

/* The number behind "name": in our own JSON, where no text holds a quote; NaN if it is not there. */
static double number_of(const char *text, const char *name)
{
    char key[64], *end;
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(text, key);
    if (!at) return (double)NAN;
    double v = strtod(at + strlen(key), &end);
    return end == at + strlen(key) ? (double)NAN : v;
}

static void text_of(const char *text, const char *name, char *out, size_t room)
{
    char key[64];
    snprintf(key, sizeof key, "\"%s\":\"", name);
    const char *at = strstr(text, key);
    out[0] = 0;
    if (!at) return;
    at += strlen(key);
    snprintf(out, room, "%.*s", (int)strcspn(at, "\""), at);
}

status progress_read(const char *parts_dir, farm_progress *out, progress_run *run)
{
    static const char *const phases[] = {"headers", "screening", "draining", "gather", "finished", "stopped"};
    char name[4200], text[4096], phase[32];
    snprintf(name, sizeof name, "%s/status.json", parts_dir);
    *out = (farm_progress){.phase = ""};
    *run = (progress_run){0};
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    int why = errno;
    if (fd >= 0) close(fd);
    if (n < 0) return COV_FAIL(COV_IO, "%s: %s", name, strerror(why));
    text[n] = 0;
    text_of(text, "phase", phase, sizeof phase);
    text_of(text, "host", run->host, sizeof run->host);
    for (size_t k = 0; k < sizeof phases / sizeof phases[0]; k++)
        if (strcmp(phase, phases[k]) == 0) out->phase = phases[k];
    double sum = number_of(text, "updated") + number_of(text, "process") + number_of(text, "ranks");
#define X(member) sum += number_of(text, #member);
    COUNTS(X)
    MEASURES(X)
#undef X
    if (!*out->phase || !isfinite(sum)) return COV_FAIL(COV_FORMAT, "%s: not a status file of ours", name);
#define X(member) out->member = (int64_t)number_of(text, #member);
    COUNTS(X)
#undef X
#define X(member) out->member = number_of(text, #member);
    MEASURES(X)
#undef X
    run->process = (int)number_of(text, "process");
    run->ranks = (int)number_of(text, "ranks");
    run->updated = number_of(text, "updated");
    return COV_OK;
}
