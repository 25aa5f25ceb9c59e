/* journal: what a screening run says while it works and when it ends: a progress line on a terminal, plain lines every
 * 30 s elsewhere, JSON lines with --log-json; the closing summary by reason; the CSV of failures that --list takes back. */
#ifndef COV_JOBS_JOURNAL_H
#define COV_JOBS_JOURNAL_H
#include "jobs/options.h"
#include "mpi/farm.h"

typedef struct journal {
    int json, quiet, terminal, drawn; /* drawn: a progress line stands on the terminal */
    double last_plain;                /* when the last plain line was written */
} journal;

journal journal_of(const options *o);
void journal_progress(void *journal, const farm_progress *p); /* farm_options.progress */
void journal_event(void *journal, const farm_event *e);       /* farm_options.event */
/* A remark of the job itself. */
void journal_note(journal *j, const char *format, ...) __attribute__((format(printf, 2, 3)));
void journal_summary(journal *j, const farm_report *r, double seconds);
/* Every skipped and failed study: path,id,status,reason,detail. Removed if there is none. studies as in farm_options. */
status journal_failures(const char *path, const farm_study *studies, const farm_report *r);
#endif
