/* Claims of mpi/sandbox: a reader that a hostile file has taken over can neither take memory or time beyond its limits,
 * nor write, start a program, reach the network or another process, or (with Landlock) see another folder; and what a
 * decoder needs still works. Each claim is tried in a child process of its own, which answers by its exit code. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "mpi/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HELD = 0, BROKEN = 1, NOT_THERE = 77, SETUP = 99 };
static char folder[] = "/tmp/covpipe-sandbox-XXXXXX", file[64], other[] = "/tmp/covpipe-other-XXXXXX";

/* How a sandboxed child that runs `try` ends: its exit code, or minus the signal. */
static int in_sandbox(int (*try)(int level))
{
    int how;
    pid_t pid = fork();
    if (pid == 0) {
        int level;
        if (sandbox_limits(1) != COV_OK || sandbox_memory(64 << 20) != COV_OK || sandbox_enter(file, &level) != COV_OK)
            _exit(SETUP);
        if (level == 0) _exit(NOT_THERE);
        _exit(try(level));
    }
    if (waitpid(pid, &how, 0) != pid) return SETUP;
    return WIFSIGNALED(how) ? -WTERMSIG(how) : WEXITSTATUS(how);
}

static void expect_held(int (*try)(int level))
{
    int end = in_sandbox(try);
    if (end == NOT_THERE) skip();
    assert_int_equal(end, HELD);
}

/* A call that must be refused with EPERM or EACCES. */
static int refused(long result) { return result == -1 && (errno == EPERM || errno == EACCES) ? HELD : BROKEN; }

static int read_own_file(int level)
{
    char text[8] = "";
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    (void)level;
    return fd >= 0 && read(fd, text, 5) == 5 && memcmp(text, "hello", 5) == 0 && malloc(1 << 20) ? HELD : BROKEN;
}
static void what_a_decoder_needs_still_works(void **state) { (void)state; expect_held(read_own_file); }

static int take_memory(int level)
{
    (void)level;
    void *p = mmap(NULL, 65 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *volatile more = malloc((size_t)1 << 40); /* volatile: clang leaves out an allocation that is not used */
    return p == MAP_FAILED && errno == ENOMEM && more == NULL ? HELD : BROKEN;
}
static void memory_ends_at_the_limit(void **state) { (void)state; expect_held(take_memory); }

static int spin(int level)
{
    for (volatile long k = level; k >= 0; k++) {}
    return BROKEN;
}
static void time_ends_at_the_limit(void **state)
{
    (void)state;
    int end = in_sandbox(spin);
    if (end == NOT_THERE) skip();
    assert_int_equal(end, -SIGXCPU);
}

static int write_somewhere(int level)
{
    char name[96];
    (void)level;
    snprintf(name, sizeof name, "%s.new", file);
    return refused(open(file, O_RDWR)) || refused(open(file, O_WRONLY | O_APPEND)) ||
           refused(open(name, O_CREAT | O_RDONLY, 0666)) || refused(syscall(SYS_unlinkat, AT_FDCWD, file, 0)) ||
           refused(syscall(SYS_renameat, AT_FDCWD, file, AT_FDCWD, name)) || refused(truncate(file, 0)) ||
           refused(chmod(file, 0777)) || refused(mkdir(name, 0777)) || refused(symlink(file, name));
}
static void nothing_on_disk_can_be_changed(void **state) { (void)state; expect_held(write_somewhere); }

static int reach_network(int level)
{
    (void)level;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    return refused(socket(AF_INET, SOCK_STREAM, 0)) || refused(socket(AF_INET6, SOCK_DGRAM, 0)) ||
           refused(socket(AF_UNIX, SOCK_STREAM, 0)) || refused(connect(0, (struct sockaddr *)&to, sizeof to)) ||
           refused(bind(0, (struct sockaddr *)&to, sizeof to)) || refused(listen(0, 1));
}
static void there_is_no_network(void **state) { (void)state; expect_held(reach_network); }

static int start_program(int level)
{
    char *const words[] = {"true", NULL}, *const none[] = {NULL};
    (void)level;
    return refused(execve("/bin/true", words, none)) || refused(fork()) || refused(syscall(SYS_unshare, 0));
}
static void no_program_can_be_started(void **state) { (void)state; expect_held(start_program); }

static int touch_parent(int level)
{
    struct rlimit none = {0, 0};
    (void)level;
    return refused(kill(getppid(), SIGCONT)) || refused(syscall(SYS_tgkill, getppid(), getppid(), SIGCONT)) ||
           refused(prlimit(getppid(), RLIMIT_CORE, &none, NULL)) || refused(syscall(SYS_ptrace, 16, getppid(), 0, 0)) ||
           refused(syscall(SYS_process_vm_writev, getppid(), NULL, 0, NULL, 0, 0));
}
static void other_processes_cannot_be_touched(void **state) { (void)state; expect_held(touch_parent); }

static int abort_at_once(int level)
{
    (void)level;
    abort();
}
static void abort_still_ends_the_process_itself(void **state)
{
    (void)state;
    int end = in_sandbox(abort_at_once);
    if (end == NOT_THERE) skip();
    assert_int_equal(end, -SIGABRT);
}

static int dump_or_hoard(int level)
{
    struct rlimit core;
    int count = 0;
    (void)level;
    while (count < 1000 && open(file, O_RDONLY | O_CLOEXEC) >= 0) count++;
    return getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0 && count < 64 ? HELD : BROKEN;
}
static void no_core_is_dumped_and_descriptors_are_few(void **state) { (void)state; expect_held(dump_or_hoard); }

static int look_elsewhere(int level)
{
    if (level < 2) return NOT_THERE;
    return refused(open(other, O_RDONLY)) || refused(open("/etc/passwd", O_RDONLY)) || read_own_file(level);
}
static void other_folders_cannot_be_seen_where_there_is_landlock(void **state) { (void)state; expect_held(look_elsewhere); }

static int make_files(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(file, sizeof file, "%s/in.nii", folder);
    int in = open(file, O_WRONLY | O_CREAT, 0666), out = mkstemp(other);
    int good = in >= 0 && out >= 0 && write(in, "hello", 5) == 5;
    close(in);
    close(out);
    return good ? 0 : -1;
}

static int remove_files(void **state)
{
    (void)state;
    unlink(file);
    unlink(other);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_decoder_needs_still_works),
        cmocka_unit_test(memory_ends_at_the_limit),
        cmocka_unit_test(time_ends_at_the_limit),
        cmocka_unit_test(nothing_on_disk_can_be_changed),
        cmocka_unit_test(there_is_no_network),
        cmocka_unit_test(no_program_can_be_started),
        cmocka_unit_test(other_processes_cannot_be_touched),
        cmocka_unit_test(abort_still_ends_the_process_itself),
        cmocka_unit_test(no_core_is_dumped_and_descriptors_are_few),
        cmocka_unit_test(other_folders_cannot_be_seen_where_there_is_landlock),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
