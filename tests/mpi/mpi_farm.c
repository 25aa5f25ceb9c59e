/* The farm with invented studies (fake_farm.h), at 1, 2, 3 and 5 ranks: every study ends as it should, whatever its
 * children do; parts do not depend on the ranks; a second run computes only what it must. */
#include "mpi/gather.h"
#include "mpi/progress.h"
#include "mpi/world_comm.h"
#include "tests/mpi/fake_farm.h"

#define CHECK(condition)                                                                                   \
    do {                                                                                                   \
        if (!(condition)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); failures++; }  \
    } while (0)

enum { STUDIES_MOST = 64, MTIME = 1600000000 };

/* ---- an archive */

typedef struct stage {
    char folder[400], parts[420];
    farm_study studies[STUDIES_MOST];
    char paths[STUDIES_MOST][500], names[STUDIES_MOST][64];
    int count;
} stage;

static void add(stage *st, world *w, const char *text)
{
    int k = st->count++;
    char path[500];
    snprintf(st->names[k], sizeof st->names[k], "s%03d.txt", k);
    snprintf(path, sizeof path, "%s/s%03d.txt", st->folder, k);
    strcpy(st->paths[k], path);
    if (world_rank(w) == 0) fake_write(st->paths[k], text, MTIME);
    st->studies[k] = (farm_study){.path_abs = st->paths[k],
                                  .path_rel = st->names[k],
                                  .id = st->names[k],
                                  .format = "fake",
                                  .bytes = (int64_t)strlen(text) + 1,
                                  .mtime_ns = (int64_t)MTIME * 1000000000};
}

static void run_command(const char *format, const char *what)
{
    char command[700];
    snprintf(command, sizeof command, format, what);
    if (system(command) != 0) fprintf(stderr, "%s failed\n", command);
}

static void new_stage(stage *st, world *w, const char *base, const char *name)
{
    memset(st, 0, sizeof *st);
    snprintf(st->folder, sizeof st->folder, "%s/%s", base, name);
    snprintf(st->parts, sizeof st->parts, "%s/%s.parts", base, name);
    if (world_rank(w) == 0) run_command("mkdir -p %s", st->folder);
    MPI_Barrier(world_comm(w));
}

typedef struct seen { int strikes, workers, studies; } seen;
static void on_event(void *context, const farm_event *e)
{
    seen *s = context;
    s->strikes += e->kind == FARM_STRIKE;
    s->workers += e->kind == FARM_WORKER;
    s->studies += e->kind == FARM_STUDY;
    if (getenv("FARM_VERBOSE"))
        fprintf(stderr, "rank %d %s %s %s\n", e->rank, e->study, e->kind == FARM_STUDY ? outcome_name(e->outcome) : "-",
                e->text);
}

static status play(world *w, spawner *sp, stage *st, farm_options *o, farm_report *report, seen *seen_here)
{
    part_key key = fake_key();
    status s = COV_OK;
    *seen_here = (seen){0};
    o->parts_dir = st->parts;
    o->studies = st->studies;
    o->study_count = st->count;
    o->key = &key;
    o->event = on_event;
    o->context = seen_here;
    if (!o->timeout_seconds) o->timeout_seconds = 30;
    o->beat_seconds = 20;
    if (world_rank(w) == 0) s = claim_open(st->parts, st->folder, NULL, &o->claim);
    if (s == COV_OK) s = farm_run(w, sp, o, report);
    if (s != COV_OK) {
        fprintf(stderr, "rank %d: %s (%s)\n", world_rank(w), status_message(), status_trace());
        world_abort(w, 1);
    }
    claim_close(&o->claim);
    return s;
}

/* ---- what the farm promises */

static int every_study_ends_as_it_should(world *w, spawner *sp, const char *base)
{
    int failures = 0;
    stage st;
    seen seen_here;
    farm_report r;
    farm_options o = {0};
    static const struct { const char *text; reason why;
    } plan[] = {{"20 20 10 ok", REASON_NONE},
                {"8 8 4 skip", REASON_NOT_CT},
                {"8 8 4 bad-header", REASON_BAD_HEADER},
                {"30 30 12 ok", REASON_NONE},
                {"8 8 5 crash-reader", REASON_CRASHED},
                {"9 8 13 ok", REASON_NONE},
                {"8 8 14 ok", REASON_CRASHED},
                {"8 8 6 crash-header", REASON_CRASHED},
                {"12 9 3 ok", REASON_NONE},
                {"9 9 16 ok", REASON_TOO_LARGE},
                {"3 3 2 ok", REASON_NONE},
                {"3 3 2 ok", REASON_NONE},
                {"nonsense", REASON_BAD_HEADER},
                {"10 10 8 escape", REASON_NONE}};
    new_stage(&st, w, base, "ends");
    for (size_t k = 0; k < sizeof plan / sizeof plan[0]; k++) add(&st, w, plan[k].text);
    MPI_Barrier(world_comm(w));
    CHECK(play(w, sp, &st, &o, &r, &seen_here) == COV_OK);
    if (world_rank(w) == 0) {
        CHECK(r.totals.done == 7 && r.totals.skipped == 1 && r.totals.failed == 6 && r.totals.open == 0 && !r.stopped);
        for (int k = 0; k < st.count; k++) {
            if (r.outcomes[k].reason != plan[k].why)
                fprintf(stderr, "%s ended as %s (%s)\n", plan[k].text, reason_code(r.outcomes[k].reason),
                        r.outcomes[k].detail);
            CHECK(r.outcomes[k].settled && r.outcomes[k].reason == plan[k].why);
        }
        CHECK(seen_here.strikes == 3 + 1 + 3 + 3);
        CHECK(seen_here.studies == st.count);
        CHECK(FAKE_NO_SANDBOX || access("/tmp/covpipe-escaped", F_OK) != 0);
        unlink("/tmp/covpipe-escaped");
        part_list parts;
        CHECK(part_scan(st.parts, &parts) == COV_OK && parts.count == st.count && parts.temporary == 0);
        part_list_free(&parts);
    }
    farm_report_free(&r);
    return failures;
}

static int hanging_studies_end_as_timeouts_and_the_others_finish(world *w, spawner *sp, const char *base)
{
    int failures = 0;
    stage st;
    seen seen_here;
    farm_report r;
    farm_options o = {.timeout_seconds = 2 * FAKE_PATIENCE};
    static const char *const plan[] = {"6 6 4 hang-reader", "7 6 4 ok", "6 6 15 ok",
                                       "8 6 4 ok",          "9 6 4 ok", "5 6 4 ok"};
    new_stage(&st, w, base, "hangs");
    for (size_t k = 0; k < sizeof plan / sizeof plan[0]; k++) add(&st, w, plan[k]);
    MPI_Barrier(world_comm(w));
    CHECK(play(w, sp, &st, &o, &r, &seen_here) == COV_OK);
    if (world_rank(w) == 0) {
        CHECK(r.totals.done == 4 && r.totals.failed == 2 && r.reasons[REASON_TIMEOUT] == 2);
        CHECK(r.outcomes[0].reason == REASON_TIMEOUT && r.outcomes[2].reason == REASON_TIMEOUT);
        CHECK(r.outcomes[0].strikes == 3 && r.outcomes[2].strikes == 3);
    }
    farm_report_free(&r);
    return failures;
}

/* What a part must hold follows from the study's file alone, so at every number of ranks it is the same. */
static int part_is_what_the_study_says(const stage *st, int k)
{
    int failures = 0;
    char file[1000];
    part_key want = fake_key(), have;
    study_result r = {0};
    order o;
    char sha[SHA256_HEX];
    strcpy(want.path, st->names[k]);
    CHECK(read_order(st->paths[k], &o) == COV_OK);
    CHECK(sha256_file(st->paths[k], sha) == COV_OK);
    CHECK(part_name(st->parts, &want, file, sizeof file) == COV_OK);
    if (part_read(file, &have, &r) != COV_OK) { fprintf(stderr, "%s\n", status_message()); return failures + 1; }
    CHECK(strcmp(have.path, st->names[k]) == 0 && strcmp(have.input_sha256, sha) == 0 &&
          strcmp(r.row.input_sha256, sha) == 0);
    CHECK(have.size == st->studies[k].bytes && have.mtime_ns == st->studies[k].mtime_ns);
    CHECK(strcmp(have.weights_sha256, want.weights_sha256) == 0 && strcmp(have.backend, "fake") == 0);
    CHECK(r.row.cols == o.nx && r.row.rows == o.ny && r.row.slices == o.nz && strcmp(r.row.id, st->names[k]) == 0);
    CHECK(r.slice_count == o.nz && r.lung != NULL);
    int64_t n = o.nx * o.ny * o.nz, wrong = 0;
    for (int64_t i = 0; r.lung && i < n; i++) wrong += r.lung[i] != fake_hu(i, o.nx) % 3;
    CHECK(wrong == 0);
    study_result_free(&r);
    return failures;
}

static void make_many(stage *st, world *w, const char *base, const char *name)
{
    char text[40];
    new_stage(st, w, base, name);
    for (int k = 0; k < 24; k++) {
        snprintf(text, sizeof text, "%d %d %d ok", 4 + k % 7, 5 + k % 3, 3 + k % 10);
        add(st, w, text);
    }
    MPI_Barrier(world_comm(w));
}

static int gather_writes_every_study(world *w, const stage *st, const farm_report *r)
{
    int failures = 0;
    char out[500];
    gather_list list = {0};
    cohort_totals totals = {0};
    const cohort_attribute attributes[] = {{"options", "none"}, {"model", "fake"}};
    const char *cells[STUDIES_MOST] = {"first", NULL, "third"};
    const cohort_extra extras[] = {{"note", "a column from elsewhere", cells}};
    snprintf(out, sizeof out, "%s.h5", st->folder);
    gather_options o = {
        .out = out, .complete = 1, .attribute_count = 2, .attributes = attributes, .extra_count = 1, .extras = extras};
    if (world_rank(w) == 0) {
        CHECK(gather_list_of(st->parts, st->studies, r, &list) == COV_OK && list.count == st->count);
        o.list = &list;
    }
    status s = gather_run(w, &o, &totals);
    if (s != COV_OK) fprintf(stderr, "rank %d: %s\n", world_rank(w), status_message());
    CHECK(s == COV_OK && totals.studies == st->count && totals.outcome[OUTCOME_DONE] == st->count);
    if (world_rank(w) == 0 && s == COV_OK) {
        cohort *c = NULL;
        study_row row;
        char cell[COHORT_CELL];
        CHECK(cohort_open(out, &c) == COV_OK && cohort_count(c) == st->count);
        for (int64_t k = 0; k < st->count; k++) {
            CHECK(cohort_row(c, k, &row) == COV_OK && strcmp(row.path, st->names[list.studies[k]]) == 0);
            CHECK(row.lung_ml == (double)row.rows * row.cols * row.slices);
        }
        CHECK(cohort_extra_cell(c, 0, 2, cell) == COV_OK && strcmp(cell, "third") == 0);
        cohort_close(&c);
    }
    gather_list_free(&list);
    return failures;
}

static int parts_do_not_depend_on_the_ranks(world *w, spawner *sp, const char *base)
{
    int failures = 0;
    stage st;
    seen seen_here;
    farm_report r;
    farm_options o = {0};
    make_many(&st, w, base, "many");
    CHECK(play(w, sp, &st, &o, &r, &seen_here) == COV_OK);
    if (world_rank(w) == 0) {
        part_list parts;
        int ranks_seen = 0;
        CHECK(r.totals.done == 24 && r.totals.kept == 0 && seen_here.strikes == 0);
        CHECK(part_scan(st.parts, &parts) == COV_OK && parts.count == 24 && parts.temporary == 0);
        part_list_free(&parts);
        for (int k = 0; k < st.count; k++) failures += part_is_what_the_study_says(&st, k);
        for (int rank = 0; rank < world_size(w); rank++)
            for (int k = 0, hit = 0; k < st.count && !hit; k++) ranks_seen += hit = r.outcomes[k].rank == rank;
        CHECK(ranks_seen >= (world_size(w) > 1 ? 2 : 1)); /* on a busy machine a rank may come too late */
        progress_run run;
        farm_progress p;
        CHECK(progress_read(st.parts, &p, &run) == COV_OK && p.done == 24 && p.open == 0 && run.ranks == world_size(w));
    }
    failures += gather_writes_every_study(w, &st, &r);
    farm_report_free(&r);
    return failures;
}

static int a_second_run_computes_only_what_it_must(world *w, spawner *sp, const char *base)
{
    int failures = 0, rank0 = world_rank(w) == 0;
    stage st;
    seen seen_here;
    farm_report r;
    farm_options o = {0};
    make_many(&st, w, base, "again");
    add(&st, w, "8 8 4 skip");
    add(&st, w, "8 8 5 crash-reader");
    MPI_Barrier(world_comm(w));
    CHECK(play(w, sp, &st, &o, &r, &seen_here) == COV_OK);
    farm_report_free(&r);
    if (rank0) {
        fake_write(st.paths[3], "4 5 6 ok", MTIME + 5);          /* another input */
        fake_write(st.paths[25], "8 8 5 ok", MTIME);             /* a crash is tried again, here with a better end */
        fake_write(st.paths[4], "8 6 7 ok", MTIME + 9);          /* touched, not changed */
        char file[1000];
        part_key key = fake_key();
        strcpy(key.path, st.names[7]);
        if (part_name(st.parts, &key, file, sizeof file) != COV_OK || truncate(file, 100) != 0) failures++;
    }
    st.studies[3].mtime_ns += 5000000000;
    st.studies[4].mtime_ns += 9000000000;
    MPI_Barrier(world_comm(w));
    CHECK(play(w, sp, &st, &o, &r, &seen_here) == COV_OK);
    if (rank0) {
        CHECK(r.totals.found == 26 && r.totals.kept == 26 - 3 && r.totals.done == 25 && r.totals.skipped == 1 &&
              r.totals.failed == 0);
        CHECK(r.outcomes[4].kept && !r.outcomes[3].kept && !r.outcomes[7].kept && !r.outcomes[25].kept);
        CHECK(r.outcomes[24].kept && r.outcomes[24].reason == REASON_NOT_CT);
        failures += part_is_what_the_study_says(&st, 3) + part_is_what_the_study_says(&st, 7) +
                    part_is_what_the_study_says(&st, 25);
        fake_write(st.paths[5], "9 7 9 ok",
                   MTIME); /* as long as before, and with the old time: only a digest can tell */
    }
    farm_report_free(&r);
    MPI_Barrier(world_comm(w));
    o.verify = 1;
    CHECK(play(w, sp, &st, &o, &r, &seen_here) == COV_OK);
    if (rank0) {
        CHECK(r.totals.kept == 25 && !r.outcomes[5].kept && r.outcomes[5].settled);
        CHECK(r.outcomes[24].kept && r.outcomes[24].outcome == OUTCOME_SKIPPED &&
              r.outcomes[24].reason == REASON_NOT_CT);
        failures += part_is_what_the_study_says(&st, 5);
    }
    farm_report_free(&r);
    return failures;
}

static void take_stamps(stage *st, world *w)
{
    MPI_Barrier(world_comm(w));
    for (int k = 0; k < st->count; k++) {
        if (fake_stamp(NULL, st->paths[k], &st->studies[k].stamp) != COV_OK) abort();
    }
    MPI_Barrier(world_comm(w));
}

/* Size and time say that nothing happened; whoever believed them would keep what was found for ever. */
static int a_study_changed_since_the_walk_is_tried_again(world *w, spawner *sp, const char *base)
{
    int failures = 0, rank0 = world_rank(w) == 0;
    stage st;
    seen seen_here;
    farm_report r;
    farm_options o = {.split_slices = 5};
    static const char *const was[] = {"7 5 4 ok", "9 9 5 ok", "8 8 4 ok", "6 6 4 bad-header", "20 20 40 ok", "7 7 4 ok"};
    static const char *const is[] = {"8 5 4 ok", "9 9 5 ok", "8 8 4 bad-header", "6 6 4 ok", "20 21 40 ok", "7 7 4 skip"};
    enum { COUNT = sizeof was / sizeof was[0] };
    new_stage(&st, w, base, "changed");
    for (int k = 0; k < COUNT; k++) add(&st, w, was[k]);
    take_stamps(&st, w);
    nap(0.03); /* more than a tick of the file system's clock */
    for (int k = 0; k < COUNT && rank0; k++)
        if (k != 1) fake_write(st.paths[k], is[k], MTIME);
    MPI_Barrier(world_comm(w));
    CHECK(play(w, sp, &st, &o, &r, &seen_here) == COV_OK);
    if (rank0) {
        CHECK(r.totals.done == 1 && r.totals.failed == COUNT - 1 && r.reasons[REASON_CHANGED] == COUNT - 1);
        CHECK(r.outcomes[1].reason == REASON_NONE && seen_here.strikes == 0);
        failures += part_is_what_the_study_says(&st, 1);
    }
    farm_report_free(&r);
    for (int k = 0; k < COUNT && rank0; k++) fake_write(st.paths[k], was[k], MTIME); /* as the walk saw it */
    take_stamps(&st, w);
    CHECK(play(w, sp, &st, &o, &r, &seen_here) == COV_OK);
    if (rank0) {
        CHECK(r.totals.kept == 1 && r.totals.done == COUNT - 1 && r.reasons[REASON_BAD_HEADER] == 1);
        for (int k = 0; k < COUNT; k++)
            if (k != 3) failures += part_is_what_the_study_says(&st, k);
    }
    farm_report_free(&r);
    return failures;
}

/* Ranges go to all ranks, and what comes of them is what the study says, as if it had been done in one piece. */
static int a_study_that_is_cut_up_ends_as_one_that_is_not(world *w, spawner *sp, const char *base)
{
    int failures = 0;
    stage st;
    seen seen_here;
    farm_report r;
    char pieces[600];
    struct stat about;
    farm_options o = {.split_slices = 5};
    static const struct { const char *text; reason why;
    } plan[] = {{"20 20 40 ok", REASON_NONE},    {"6 7 9 ok", REASON_NONE},      {"6 6 10 ok", REASON_NONE},
                {"9 9 21 ok", REASON_CRASHED},   {"8 9 22 ok", REASON_NONE},     {"8 8 23 ok", REASON_NONE},
                {"8 8 30 skip", REASON_NOT_CT},  {"8 8 31 bad-header", REASON_BAD_HEADER}, {"11 5 12 ok", REASON_NONE}};
    new_stage(&st, w, base, "cut");
    for (size_t k = 0; k < sizeof plan / sizeof plan[0]; k++) add(&st, w, plan[k].text);
    MPI_Barrier(world_comm(w));
    CHECK(play(w, sp, &st, &o, &r, &seen_here) == COV_OK);
    if (world_rank(w) == 0) {
        CHECK(r.totals.done == 6 && r.totals.skipped == 1 && r.totals.failed == 2 && r.totals.open == 0 &&
              r.totals.running == 0);
        CHECK(seen_here.strikes == 3 + 1 && seen_here.studies == st.count);
        for (int k = 0; k < st.count; k++) {
            if (r.outcomes[k].reason != plan[k].why)
                fprintf(stderr, "%s ended as %s (%s)\n", plan[k].text, reason_code(r.outcomes[k].reason),
                        r.outcomes[k].detail);
            CHECK(r.outcomes[k].settled && r.outcomes[k].reason == plan[k].why);
            if (plan[k].why == REASON_NONE) failures += part_is_what_the_study_says(&st, k);
        }
        part_list parts;
        CHECK(part_scan(st.parts, &parts) == COV_OK && parts.count == st.count && parts.temporary == 0);
        part_list_free(&parts);
        snprintf(pieces, sizeof pieces, "[ -z \"$(find %s/pieces -type f)\" ]", st.parts);
        CHECK(stat(st.parts, &about) == 0 && system(pieces) == 0);
    }
    farm_report_free(&r);
    MPI_Barrier(world_comm(w));
    CHECK(play(w, sp, &st, &o, &r, &seen_here) == COV_OK);
    if (world_rank(w) == 0) CHECK(r.totals.kept == st.count - 1 && r.totals.done == 6); /* a crash is tried again */
    farm_report_free(&r);
    return failures;
}

/* Nothing is bound by the clock here: naps are long beside what else there is to do. */
static int what_the_workers_wait_for_readers_is_told(world *w, spawner *sp, const char *base)
{
    int failures = 0;
    for (int slow_reading = 0; slow_reading < 2; slow_reading++) {
        stage st;
        seen seen_here;
        farm_report r;
        farm_options o = {0};
        new_stage(&st, w, base, slow_reading ? "slow-reading" : "slow-computing");
        for (int k = 0; k < 5 * world_size(w); k++) add(&st, w, slow_reading ? "6 6 4 slow-reader" : "6 6 17 ok");
        MPI_Barrier(world_comm(w));
        CHECK(play(w, sp, &st, &o, &r, &seen_here) == COV_OK);
        if (world_rank(w) == 0) {
            CHECK(r.totals.done == 5 * world_size(w) && r.totals.seconds_worked > 0);
            if (slow_reading) CHECK(r.totals.seconds_waited > r.totals.seconds_worked);
            else CHECK(r.totals.seconds_waited < r.totals.seconds_worked / 2);
        }
        farm_report_free(&r);
    }
    return failures;
}

static int a_dry_run_reads_headers_and_writes_nothing(world *w, spawner *sp, const char *base)
{
    int failures = 0;
    stage st;
    farm_report r;
    part_key key = fake_key();
    make_many(&st, w, base, "dry");
    add(&st, w, "8 8 4 bad-header");
    MPI_Barrier(world_comm(w));
    farm_options o = {.parts_dir = st.parts, .studies = st.studies, .study_count = st.count, .key = &key, .dry_run = 1};
    CHECK(farm_run(w, sp, &o, &r) == COV_OK);
    if (world_rank(w) == 0) {
        CHECK(r.totals.found == 25 && r.totals.open == 25 && r.totals.headers == 25 && r.units > 0 && !r.stopped);
        CHECK(r.outcomes[0].cols == 4 && r.outcomes[0].rows == 5 && r.outcomes[0].slices == 3);
        CHECK(r.outcomes[24].reason == REASON_BAD_HEADER && r.estimate_seconds > 0);
        CHECK(access(st.parts, F_OK) != 0);
    }
    farm_report_free(&r);
    return failures;
}

int main(void)
{
    char base[300] = "";
    const char *scratch = getenv("TMPDIR");
    farm_calls calls = fake_calls(base);
    spawn_options so = {.no_sandbox = FAKE_NO_SANDBOX};
    spawner *sp = NULL;
    world *w = NULL;
    int failures = 0, all = 0;
    /* One folder for all ranks: the process group leader of mpirun's ranks differs, their parent does not. */
    snprintf(base, sizeof base, "%s/mpi_farm.%d", scratch ? scratch : "/tmp", (int)getppid());
    if (spawn_start(&calls, &so, &sp) != COV_OK || world_open(&(world_options){0}, &w) != COV_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    if (world_rank(w) == 0) run_command("mkdir -p %s", base);
    MPI_Barrier(world_comm(w));
    failures += every_study_ends_as_it_should(w, sp, base);
    failures += hanging_studies_end_as_timeouts_and_the_others_finish(w, sp, base);
    failures += parts_do_not_depend_on_the_ranks(w, sp, base);
    failures += a_second_run_computes_only_what_it_must(w, sp, base);
    failures += a_study_changed_since_the_walk_is_tried_again(w, sp, base);
    failures += a_study_that_is_cut_up_ends_as_one_that_is_not(w, sp, base);
    failures += what_the_workers_wait_for_readers_is_told(w, sp, base);
    failures += a_dry_run_reads_headers_and_writes_nothing(w, sp, base);
    MPI_Allreduce(&failures, &all, 1, MPI_INT, MPI_SUM, world_comm(w));
    if (world_rank(w) == 0) run_command("rm -rf %s", base);
    if (world_rank(w) == 0) printf("%d ranks: %d failures\n", world_size(w), all);
    spawn_stop(&sp);
    world_close(&w);
    return all != 0;
}
