/* journal: see journal.h. Everything goes to stderr, so that stdout stays free for results. */
#include "jobs/journal.h"

#include "data/durable.h"
#include "mpi/progress.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const double PLAIN_SECONDS = 30;

journal journal_of(const options *o)
{
    return (journal){.json = o->log_json, .quiet = o->quiet, .terminal = isatty(STDERR_FILENO) && !o->log_json, .last_plain = -1e9};
}

/* Clears a progress line before something else is printed. */
static void clear_line(journal *j)
{
    if (j->drawn) fputs("\r\033[K", stderr);
    j->drawn = 0;
}

static void put_duration(str *to, double seconds)
{
    long s = (long)(seconds + 0.5);
    if (seconds < 0) str_put(to, "?");
    else if (s < 60) str_putf(to, "%ld s", s);
    else if (s < 3600) str_putf(to, "%ld min %02ld s", s / 60, s % 60);
    else str_putf(to, "%ld h %02ld min", s / 3600, s / 60 % 60);
}

void journal_progress(void *context, const farm_progress *p)
{
    journal *j = context;
    str line = {0};
    int plain = p->seconds - j->last_plain >= PLAIN_SECONDS;
    if (j->quiet || (!j->terminal && !plain)) return;
    j->last_plain = p->seconds;
    if (j->json) {
        progress_json(p, &(progress_run){0}, &line);
        fprintf(stderr, "{\"event\":\"progress\",%s\n", str_text(&line) + 1);
        str_free(&line);
        return;
    }
    if (strcmp(p->phase, "headers") == 0) str_putf(&line, "headers %lld of %lld", (long long)p->headers, (long long)p->found);
    else {
        double hours = p->seconds / 3600, settled = (double)(p->found - p->open - p->kept);
        str_putf(&line, "%s %lld of %lld  done %lld  skipped %lld  failed %lld  %.0f studies/h  ", p->phase, (long long)(p->found - p->open),
                 (long long)p->found, (long long)p->done, (long long)p->skipped, (long long)p->failed, hours > 0 ? settled / hours : 0.0);
        str_put(&line, "ETA ");
        put_duration(&line, p->eta_seconds);
    }
    if (j->terminal) fprintf(stderr, "\r\033[K%s", str_text(&line));
    else fprintf(stderr, "covpipe: %s\n", str_text(&line));
    j->drawn = j->terminal;
    fflush(stderr);
    str_free(&line);
}

static void event_json(const farm_event *e)
{
    static const char *const kinds[] = {"study", "strike", "worker", "note"};
    str line = {0};
    str_putf(&line, "{\"event\":\"%s\",\"rank\":%d,\"host\":", kinds[e->kind], e->rank);
    str_put_json(&line, e->host ? e->host : "");
    str_put(&line, ",\"study\":");
    str_put_json(&line, e->study ? e->study : "");
    if (e->kind == FARM_STUDY) str_putf(&line, ",\"status\":\"%s\",\"reason\":\"%s\",\"seconds\":%.3f", outcome_name(e->outcome), reason_code(e->reason), e->seconds);
    str_put(&line, ",\"text\":");
    str_put_json(&line, e->text ? e->text : "");
    fprintf(stderr, "%s}\n", str_text(&line));
    str_free(&line);
}

void journal_event(void *context, const farm_event *e)
{
    journal *j = context;
    char study[256], text[1024];
    if (j->json) { event_json(e); return; }
    if (j->quiet || (e->kind == FARM_STUDY && e->outcome != OUTCOME_FAILED)) return; /* the table and the CSV list the others */
    clear_line(j);
    str_shown(study, sizeof study, e->study ? e->study : "");
    str_shown(text, sizeof text, e->text ? e->text : "");
    fprintf(stderr, "covpipe: %s%s%s%s%s (rank %d on %s)\n", study, *study ? ": " : "", e->kind == FARM_STUDY ? reason_code(e->reason) : "",
            e->kind == FARM_STUDY ? ": " : "", text, e->rank, e->host ? e->host : "?");
}

void journal_note(journal *j, const char *format, ...)
{
    char text[2048];
    va_list args;
    if (j->quiet) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (j->json) { event_json(&(farm_event){.kind = FARM_NOTE, .text = text}); return; }
    clear_line(j);
    fprintf(stderr, "covpipe: %s\n", text);
}

/* Below this, readers keep up. */
static const double WAITED_SHARE = 0.25;

void journal_summary(journal *j, const farm_report *r, double seconds)
{
    const farm_progress *t = &r->totals;
    str line = {0};
    clear_line(j);
    str_putf(&line, "%lld studies: %lld done, %lld skipped, %lld failed", (long long)t->found, (long long)t->done, (long long)t->skipped, (long long)t->failed);
    if (t->open) str_putf(&line, ", %lld open", (long long)t->open);
    if (t->kept) str_putf(&line, " (%lld of them by an earlier run)", (long long)t->kept);
    str_put(&line, ", in ");
    put_duration(&line, seconds);
    if (j->json) event_json(&(farm_event){.kind = FARM_NOTE, .text = str_text(&line)});
    else fprintf(stderr, "covpipe: %s\n", str_text(&line));
    if (t->seconds_waited > WAITED_SHARE * (t->seconds_worked + t->seconds_waited))
        journal_note(j, "the workers waited %.0f %% of their time for files to be read: --read-ahead reads more of them at once",
                     100 * t->seconds_waited / (t->seconds_worked + t->seconds_waited));
    for (int k = 1; k < REASON_COUNT && !j->json; k++)
        if (r->reasons[k]) fprintf(stderr, "  %6lld %-8s %-12s %s\n", (long long)r->reasons[k], outcome_name(reason_outcome((reason)k)), reason_code((reason)k), reason_text((reason)k));
    str_free(&line);
}

status journal_failures(const char *path, const farm_study *studies, const farm_report *r)
{
    str text = {0};
    int64_t rows = 0;
    str_put(&text, "path,id,status,reason,detail\n");
    for (int64_t k = 0; k < r->study_count; k++) {
        const farm_outcome *f = &r->outcomes[k];
        if (!f->settled || f->outcome == OUTCOME_DONE) continue;
        const char *cells[] = {studies[k].path_rel, studies[k].id, outcome_name(f->outcome), reason_code(f->reason), f->detail ? f->detail : ""};
        for (int c = 0; c < 5; c++) {
            if (c) str_put(&text, ",");
            str_put_csv(&text, cells[c]);
        }
        str_put(&text, "\n");
        rows++;
    }
    status s = text.failed ? COV_FAIL(COV_NOMEM, "no memory for %s", path) : COV_OK;
    if (s == COV_OK && rows) s = durable_write(path, str_text(&text), text.length);
    if (s == COV_OK && !rows && unlink(path) != 0 && errno != ENOENT) s = COV_FAIL(COV_IO, "%s: cannot remove: %s", path, strerror(errno));
    str_free(&text);
    return s;
}
