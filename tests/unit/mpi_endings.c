/* How a run ends when somebody ends it: signals, kill -9 of a shell or its spawner, a stopped rank, a second run. The
 * test starts itself again as ranks ("play"), alone or under mpirun, lets them screen invented studies
 * (tests/mpi/fake_farm.h) and does to them what a cluster does. */
#include "mpi/gather.h"
#include "tests/mpi/fake_farm.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { MTIME = 1600000000, STUDIES_MOST = 64 };

/* ---- a rank: argv = play FOLDER grace beat */

static void say_event(void *context, const farm_event *e)
{
    (void)context;
    printf("event %d %s %s\n", (int)e->kind, e->study, e->text);
    fflush(stdout);
}

static int rank_main(char *folder, double grace, double beat)
{
    static char names[STUDIES_MOST][32], paths[STUDIES_MOST][600]; /* of this process alone */
    static farm_study studies[STUDIES_MOST];
    char parts[600], archive[500];
    farm_calls calls = fake_calls(folder);
    spawner *sp = NULL;
    world *w = NULL;
    claim *c = NULL;
    farm_report r = {0};
    part_key key = fake_key();
    int64_t count = 0;
    snprintf(parts, sizeof parts, "%s/out.parts", folder);
    snprintf(archive, sizeof archive, "%s/archive", folder);
    status s = spawn_start(&calls, &(spawn_options){.no_sandbox = FAKE_NO_SANDBOX}, &sp);
    if (s == COV_OK) s = world_open(&(world_options){.end_seconds = 10}, &w);
    if (s == COV_OK && world_rank(w) == 0) {
        for (struct stat st; count < STUDIES_MOST; count++) {
            snprintf(names[count], sizeof names[count], "s%03d.txt", (int)count);
            snprintf(paths[count], sizeof paths[count], "%s/%s", archive, names[count]);
            if (stat(paths[count], &st) != 0) break;
            studies[count] = (farm_study){.path_abs = paths[count],
                                          .path_rel = names[count],
                                          .id = names[count],
                                          .format = "fake",
                                          .bytes = st.st_size,
                                          .mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000};
        }
        s = claim_open(parts, getenv("OTHER_ARCHIVE") ? "/another/archive" : archive, NULL, &c);
    }
    farm_options o = {.parts_dir = parts,
                      .studies = studies,
                      .study_count = count,
                      .key = &key,
                      .claim = c,
                      .event = say_event,
                      .timeout_seconds = 30,
                      .grace_seconds = grace,
                      .beat_seconds = beat,
                      .start_seconds = 20};
    r.speaker = 1;
    if (s == COV_OK) s = farm_run(w, sp, &o, &r);
    if (s != COV_OK) {
        if (r.speaker) printf("failed %s: %s\n", status_name(s), status_message());
        fflush(stdout);
        if (w) world_abort(w, s == COV_STOPPED ? 75 : 1);
        return 1;
    }
    if (world_rank(w) == 0)
        printf("end done %lld open %lld kept %lld stopped %d\n", (long long)r.totals.done, (long long)r.totals.open,
               (long long)r.totals.kept, r.stopped);
    int code = r.stopped ? 75 : 0;
    farm_report_free(&r);
    claim_close(&c);
    spawn_stop(&sp);
    world_close(&w);
    return code;
}

/* ---- the outside */

typedef struct run {
    char folder[200], log[240];
    pid_t pid;
    int ranks;
} run;

static char self[4096];

static void pause_for(double seconds) { nap(seconds); }

static void make_archive(run *r, int count, const char *text)
{
    char path[600];
    strcpy(r->folder, "/tmp/covpipe_endings_XXXXXX");
    assert_non_null(mkdtemp(r->folder));
    snprintf(path, sizeof path, "%s/archive", r->folder);
    assert_int_equal(mkdir(path, 0700), 0);
    for (int k = 0; k < count; k++) {
        snprintf(path, sizeof path, "%s/archive/s%03d.txt", r->folder, k);
        fake_write(path, text, MTIME);
    }
}

static void start(run *r, int ranks, double grace, double beat)
{
    char n[16], g[16], b[16];
    snprintf(n, sizeof n, "%d", ranks);
    snprintf(g, sizeof g, "%g", grace);
    snprintf(b, sizeof b, "%g", beat);
    snprintf(r->log, sizeof r->log, "%s/log", r->folder);
    r->ranks = ranks;
    r->pid = fork();
    assert_true(r->pid >= 0);
    if (r->pid == 0) {
        int fd = open(r->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(fd, 1);
        dup2(fd, 2);
        if (ranks == 1) execl(self, self, "play", r->folder, g, b, (char *)NULL);
        else execlp("mpirun", "mpirun", "-n", n, self, "play", r->folder, g, b, (char *)NULL);
        _exit(127);
    }
}

/* The log as text; the caller frees. */
static char *log_of(const run *r)
{
    char *text = calloc(1, 65536);
    int fd = open(r->log, O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, text, 65535) : 0;
    (void)n;
    if (fd >= 0) close(fd);
    return text;
}

static int log_has(const run *r, const char *what)
{
    char *text = log_of(r);
    int has = strstr(text, what) != NULL;
    free(text);
    return has;
}

static int wait_for_log(const run *r, const char *what, double seconds)
{
    double end = world_now() + seconds;
    while (!log_has(r, what))
        if (world_now() > end) return 0;
        else pause_for(0.02);
    return 1;
}

/* The exit code; 128 + signal; -1: it did not end in time, and was killed. */
static int finish(run *r, double seconds)
{
    int how = 0;
    for (double end = world_now() + seconds; world_now() < end; pause_for(0.02))
        if (waitpid(r->pid, &how, WNOHANG) == r->pid) return WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
    kill(r->pid, SIGKILL);
    waitpid(r->pid, &how, 0);
    return -1;
}

static void show_log(const run *r)
{
    char *text = log_of(r);
    print_message("%s\n", text);
    free(text);
}

/* Processes that have this folder on their command line, by their parents; fills at most `most`. */
static int processes(const run *r, pid_t *pids, pid_t *parents, int most)
{
    int n = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && (e = readdir(proc)) && n < most;) {
        char name[300], text[8192] = "", state = 'Z';
        pid_t pid = (pid_t)atoi(e->d_name), parent = 0;
        if (pid <= 0) continue;
        snprintf(name, sizeof name, "/proc/%d/cmdline", (int)pid);
        int fd = open(name, O_RDONLY);
        ssize_t bytes = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
        if (fd >= 0) close(fd);
        int ours = 0, play = 0;
        for (ssize_t k = 0; k < bytes; k += (ssize_t)strlen(text + k) + 1) {
            ours |= strcmp(text + k, r->folder) == 0;
            play |= k == 0 && strcmp(text, self) == 0;
        }
        snprintf(name, sizeof name, "/proc/%d/stat", (int)pid);
        fd = open(name, O_RDONLY);
        bytes = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
        if (fd >= 0) close(fd);
        text[bytes > 0 ? bytes : 0] = 0;
        const char *after = strrchr(text, ')');
        if (!after || sscanf(after + 1, " %c %d", &state, &parent) != 2 || state == 'Z') continue;
        if (ours && play) { pids[n] = pid; parents[n++] = parent; }
    }
    if (proc) closedir(proc);
    return n;
}

static int none_left(const run *r, double seconds)
{
    pid_t pids[64], parents[64];
    for (double end = world_now() + seconds; world_now() < end; pause_for(0.02))
        if (processes(r, pids, parents, 64) == 0) return 1;
    return 0;
}

/* The shells (whose parents are no processes of ours), or the spawners (children of shells). */
static int find(const run *r, int spawners, pid_t *out, int most)
{
    pid_t pids[64], parents[64];
    int n = processes(r, pids, parents, 64), found = 0;
    for (int k = 0; k < n && found < most; k++) {
        int parent = -1, grandparent = -1;
        for (int i = 0; i < n; i++)
            if (pids[i] == parents[k]) parent = i;
        for (int i = 0; parent >= 0 && i < n; i++)
            if (pids[i] == parents[parent]) grandparent = i;
        if (spawners ? parent >= 0 && grandparent < 0 : parent < 0) out[found++] = pids[k];
    }
    return found;
}

static void clean_up(run *r)
{
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", r->folder);
    assert_int_equal(system(command), 0);
}

static void run_to_the_end(run *r, int ranks, int studies)
{
    char want[80];
    start(r, ranks, 20, 20);
    int code = finish(r, 60);
    snprintf(want, sizeof want, "end done %d open 0", studies);
    if (code != 0 || !log_has(r, want)) show_log(r);
    assert_int_equal(code, 0);
    assert_true(log_has(r, want));
    assert_true(none_left(r, 5));
}

/* ---- claims */

static void drain(int ranks, int signal_number)
{
    run r;
    make_archive(&r, 24, "9 9 17 ok");
    start(&r, ranks, 3, 20);
    assert_true(wait_for_log(&r, "event 0 ", 20)); /* the first study is done */
    kill(r.pid, signal_number);
    int code = finish(&r, 10);
    if (code != 75) show_log(&r);
    assert_int_equal(code, 75);
    assert_true(log_has(&r, "stopped 1"));
    assert_true(none_left(&r, 5));
    run_to_the_end(&r, ranks == 1 ? 2 : 1, 24);
    assert_false(log_has(&r, "kept 0"));
    clean_up(&r);
}

static void sigterm_drains_and_the_next_run_completes(void **state) { (void)state; drain(1, SIGTERM); }
/* mpirun passes SIGUSR1 on to the ranks; of SIGTERM it makes an end within a second. */
static void sigusr1_through_mpirun_drains_all_ranks(void **state) { (void)state; drain(3, SIGUSR1); }

static void a_second_signal_leaves_at_once(void **state)
{
    run r;
    (void)state;
    make_archive(&r, 4, "9 9 15 ok"); /* the worker hangs */
    start(&r, 1, 60, 20);
    pause_for(1);
    kill(r.pid, SIGTERM);
    pause_for(1.3);
    double asked = world_now();
    kill(r.pid, SIGTERM);
    int code = finish(&r, 10);
    if (code != 75) show_log(&r);
    assert_int_equal(code, 75);
    assert_true(world_now() - asked < 5);
    assert_true(none_left(&r, 5));
    clean_up(&r);
}

static void grace_ends_a_worker_that_does_not(void **state)
{
    run r;
    (void)state;
    make_archive(&r, 3, "9 9 15 ok");
    start(&r, 1, 1.5, 20);
    pause_for(1);
    double asked = world_now();
    kill(r.pid, SIGINT);
    int code = finish(&r, 10);
    if (code != 75) show_log(&r);
    assert_int_equal(code, 75);
    assert_true(world_now() - asked < 4);
    assert_true(none_left(&r, 5));
    clean_up(&r);
}

static void kill_shell(int ranks)
{
    run r;
    pid_t shells[8];
    make_archive(&r, 16, "9 9 17 ok");
    start(&r, ranks, 20, 20);
    assert_true(wait_for_log(&r, "event 0 ", 20));
    int n = find(&r, 0, shells, 8);
    assert_int_equal(n, ranks);
    kill(shells[n - 1], SIGKILL);
    int code = finish(&r, 20);
    assert_true(code != 0 && code != -1);
    assert_true(none_left(&r, 5));
    run_to_the_end(&r, ranks, 16);
    assert_false(log_has(&r, "kept 0"));
    clean_up(&r);
}

static void kill_9_of_a_lone_shell_leaves_no_orphans_and_the_next_run_completes(void **state)
{
    (void)state;
    kill_shell(1);
}
static void kill_9_of_one_of_three_shells_leaves_no_orphans_and_the_next_run_completes(void **state)
{
    (void)state;
    kill_shell(3);
}

static void kill_9_of_a_spawner_ends_the_job_with_a_message(void **state)
{
    run r;
    pid_t spawners[8];
    (void)state;
    make_archive(&r, 16, "9 9 17 ok");
    start(&r, 2, 20, 20);
    assert_true(wait_for_log(&r, "event 0 ", 20));
    assert_int_equal(find(&r, 1, spawners, 8), 2);
    kill(spawners[1], SIGKILL);
    int code = finish(&r, 20);
    if (!log_has(&r, "the spawner process")) show_log(&r);
    assert_true(log_has(&r, "the spawner process"));
    assert_int_equal(code, 1);
    assert_true(none_left(&r, 5));
    clean_up(&r);
}

static void a_stopped_rank_ends_the_job_with_a_message(void **state)
{
    run r;
    pid_t shells[8];
    (void)state;
    make_archive(&r, 24, "9 9 17 ok");
    start(&r, 3, 20, 2);
    assert_true(wait_for_log(&r, "event 0 ", 20));
    assert_int_equal(find(&r, 0, shells, 8), 3);
    kill(shells[2], SIGSTOP);
    int code = finish(&r, 20);
    if (!log_has(&r, "has been silent")) show_log(&r);
    assert_true(log_has(&r, "has been silent"));
    assert_int_equal(code, 1);
    assert_true(none_left(&r, 5));
    clean_up(&r);
}

static void a_second_run_is_refused_and_so_is_another_archive(void **state)
{
    run r, second;
    char holder[64];
    (void)state;
    make_archive(&r, 6, "9 9 17 ok");
    start(&r, 1, 20, 20);
    assert_true(wait_for_log(&r, "event 0 ", 20));
    second = r;
    start(&second, 1, 20, 20); /* the log is now the second run's */
    assert_int_equal(finish(&second, 10), 1);
    snprintf(holder, sizeof holder, "process %d", (int)r.pid);
    assert_true(log_has(&second, "in use by another run"));
    assert_true(log_has(&second, holder));
    assert_int_equal(finish(&r, 20), 0);
    setenv("OTHER_ARCHIVE", "1", 1);
    start(&second, 1, 20, 20);
    unsetenv("OTHER_ARCHIVE");
    assert_int_equal(finish(&second, 10), 1);
    assert_true(log_has(&second, "belongs to the archive"));
    clean_up(&r);
}

static void shards_share_a_folder_and_exclude_a_run_of_all(void **state)
{
    claim *one = NULL, *two = NULL, *other = NULL;
    char folder[] = "/tmp/covpipe_claim_XXXXXX", parts[100], command[200];
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(parts, sizeof parts, "%s/b.parts", folder);
    assert_int_equal(claim_open(parts, "/x", "1-of-2", &one), COV_OK);
    assert_int_equal(claim_open(parts, "/x", "2-of-2", &two), COV_OK);
    assert_true(claim_shared(one) && strcmp(claim_folder(one), claim_folder(two)) != 0);
    claim_begin(one, "study");
    assert_int_equal(claim_open(parts, "/x", "2-of-2", &other), COV_USAGE);
    assert_non_null(strstr(status_message(), "shard 2-of-2"));
    assert_int_equal(claim_open(parts, "/x", NULL, &other), COV_USAGE);
    claim_close(&one);
    assert_int_equal(claim_open(parts, "/x", NULL, &other), COV_USAGE);
    claim_close(&two);
    assert_int_equal(claim_open(parts, "/x", "1-of-2", &one), COV_OK);
    assert_true(claim_was_open(one, "study"));
    claim_close(&one);
    assert_int_equal(claim_open(parts, "/x", NULL, &other), COV_OK);
    assert_true(!claim_shared(other) && strcmp(claim_folder(other), parts) == 0);
    assert_int_equal(claim_open(parts, "/x", "1-of-2", &one), COV_USAGE);
    claim_close(&other);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

static void what_was_open_when_a_job_died_runs_last(void **state)
{
    claim *c = NULL;
    char folder[] = "/tmp/covpipe_claim_XXXXXX", parts[100], command[200];
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(parts, sizeof parts, "%s/a/b.parts", folder);
    assert_int_equal(claim_open(parts, "/x", NULL, &c), COV_OK);
    assert_false(claim_was_open(c, "one"));
    claim_begin(c, "one");
    claim_begin(c, "two");
    claim_begin(c, "three");
    claim_end(c, "two");
    claim_close(&c);
    assert_int_equal(claim_open(parts, "/x", NULL, &c), COV_OK);
    assert_true(claim_was_open(c, "one") && !claim_was_open(c, "two") && claim_was_open(c, "three"));
    claim_end(c, "one");
    claim_close(&c);
    assert_int_equal(claim_open(parts, "/x", NULL, &c), COV_OK);
    assert_true(!claim_was_open(c, "one") && claim_was_open(c, "three"));
    claim_settle(c);
    claim_close(&c);
    assert_int_equal(claim_open(parts, "/x", NULL, &c), COV_OK);
    assert_false(claim_was_open(c, "three"));
    claim_close(&c);
    assert_int_equal(claim_open(parts, "/y", NULL, &c), COV_USAGE);
    assert_null(c);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_share_a_folder_and_exclude_a_run_of_all),
        cmocka_unit_test(what_was_open_when_a_job_died_runs_last),
        cmocka_unit_test(sigterm_drains_and_the_next_run_completes),
        cmocka_unit_test(sigusr1_through_mpirun_drains_all_ranks),
        cmocka_unit_test(a_second_signal_leaves_at_once),
        cmocka_unit_test(grace_ends_a_worker_that_does_not),
        cmocka_unit_test(kill_9_of_a_lone_shell_leaves_no_orphans_and_the_next_run_completes),
        cmocka_unit_test(kill_9_of_one_of_three_shells_leaves_no_orphans_and_the_next_run_completes),
        cmocka_unit_test(kill_9_of_a_spawner_ends_the_job_with_a_message),
        cmocka_unit_test(a_stopped_rank_ends_the_job_with_a_message),
        cmocka_unit_test(a_second_run_is_refused_and_so_is_another_archive),
    };
    if (argc == 5 && strcmp(argv[1], "play") == 0) return rank_main(argv[2], atof(argv[3]), atof(argv[4]));
    if (!realpath("/proc/self/exe", self)) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
