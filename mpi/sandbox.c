/* sandbox: rlimits, a seccomp filter written out by hand, and one Landlock rule. The trap: the C library may use
 * another call than the one a page names (openat for open, newfstatat for stat), and it differs between architectures;
 * a call that a machine does not have is left out by its #ifdef, which is why the list is a table and not code. */
#include "mpi/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

status sandbox_memory(int64_t bytes)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f || fscanf(f, "%ld", &pages) != 1) pages = (1L << 30) / sysconf(_SC_PAGESIZE);
    if (f) fclose(f);
    struct rlimit r;
    if (getrlimit(RLIMIT_AS, &r) != 0) return COV_FAIL(COV_IO, "getrlimit(RLIMIT_AS): %s", strerror(errno));
    rlim_t want = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (rlim_t)bytes;
    r.rlim_cur = r.rlim_max == RLIM_INFINITY || want < r.rlim_max ? want : r.rlim_max;
    if (setrlimit(RLIMIT_AS, &r) != 0) return COV_FAIL(COV_IO, "setrlimit(RLIMIT_AS): %s", strerror(errno));
    return COV_OK;
}

status sandbox_limits(double cpu_seconds)
{
    struct rusage used;
    rlim_t now = getrusage(RUSAGE_SELF, &used) == 0 ? (rlim_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) : 0;
    rlim_t end = now + (rlim_t)cpu_seconds + 1;
    const struct { int what; struct rlimit limit; } limits[] = {
        {RLIMIT_CPU, {end, end + 1}}, {RLIMIT_CORE, {0, 0}}, {RLIMIT_NOFILE, {64, 64}}};
    for (size_t k = 0; k < sizeof limits / sizeof limits[0]; k++)
        if (setrlimit((__rlimit_resource_t)limits[k].what, &limits[k].limit) != 0)
            return COV_FAIL(COV_IO, "setrlimit(%d): %s", limits[k].what, strerror(errno));
    return COV_OK;
}

static const int allowed[] = {
    __NR_read,
    __NR_readv,
    __NR_pread64,
    __NR_write,
    __NR_writev,
    __NR_lseek,
    __NR_close,
    __NR_fstat,
    __NR_statx,
    __NR_mmap,
    __NR_munmap,
    __NR_mremap,
    __NR_mprotect,
    __NR_madvise,
    __NR_brk,
    __NR_ftruncate,
    __NR_fcntl,
    __NR_sendmsg,
    __NR_recvmsg,
    __NR_getdents64,
    __NR_getcwd,
    __NR_readlinkat,
    __NR_faccessat,
    __NR_exit,
    __NR_exit_group,
    __NR_rt_sigreturn,
    __NR_rt_sigaction,
    __NR_rt_sigprocmask,
    __NR_getpid,
    __NR_gettid,
    __NR_clock_gettime,
    __NR_clock_nanosleep,
    __NR_nanosleep,
    __NR_gettimeofday,
    __NR_futex,
    __NR_getrandom,
    __NR_sysinfo,
    __NR_sched_yield,
    __NR_sched_getaffinity,
    __NR_memfd_create,
    __NR_ppoll,
    __NR_uname,
    __NR_dup,
    __NR_fadvise64,
    __NR_restart_syscall,
    __NR_getuid,
    __NR_geteuid,
    __NR_getgid,
    __NR_getegid,
    __NR_sigaltstack,
    __NR_set_robust_list,
    __NR_getrlimit,
    __NR_setrlimit,
    __NR_fstatfs,
    __NR_getrusage,
#ifdef __NR_newfstatat
    __NR_newfstatat,
#endif
#ifdef __NR_stat
    __NR_stat,
    __NR_lstat,
    __NR_readlink,
    __NR_access,
    __NR_poll,
#endif
#ifdef __NR_faccessat2
    __NR_faccessat2,
#endif
#ifdef __NR_rseq
    __NR_rseq,
#endif
};
enum { ALLOWED = sizeof allowed / sizeof allowed[0] };

#if defined __x86_64__
enum { ARCH = (int)AUDIT_ARCH_X86_64 };
#elif defined __aarch64__
enum { ARCH = (int)AUDIT_ARCH_AARCH64 };
#else
enum { ARCH = 0 };
#endif

#define LOAD(field)                                                                                                    \
    (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
#define SKIP_IF_EQUAL(v, n) (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(v), n, 0)
#define SKIP_UNLESS_EQUAL(v, n) (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(v), 0, n)
#define RETURN(v) (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, (unsigned)(v))

/* Opening a file is judged by its flags (argument `at`, low 32 bits on a little-endian machine). */
static int put_open(struct sock_filter *f, int n, int number, size_t flags_at)
{
    f[n++] = SKIP_UNLESS_EQUAL(number, 4);
    f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)flags_at);
    f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND,
                                          0, 1);
    f[n++] = RETURN(SECCOMP_RET_ERRNO | EACCES);
    f[n++] = RETURN(SECCOMP_RET_ALLOW);
    return n;
}

/* A call that may be made of this process alone: its first argument is `own`. */
static int put_own(struct sock_filter *f, int n, int number, int own)
{
    f[n++] = SKIP_UNLESS_EQUAL(number, 4);
    f[n++] = LOAD(args[0]);
    f[n++] = SKIP_UNLESS_EQUAL(own, 1);
    f[n++] = RETURN(SECCOMP_RET_ALLOW);
    f[n++] = RETURN(SECCOMP_RET_ERRNO | EPERM);
    return n;
}

static int enter_seccomp(void)
{
    struct sock_filter f[2 * ALLOWED + 32];
    int n = 0;
    if (ARCH == 0) return 0;
    f[n++] = LOAD(arch);
    f[n++] = SKIP_IF_EQUAL(ARCH, 1);
    f[n++] = RETURN(SECCOMP_RET_KILL_PROCESS);
    f[n++] = LOAD(nr);
#ifdef __NR_open
    n = put_open(f, n, __NR_open, offsetof(struct seccomp_data, args[1]));
    f[n++] = LOAD(nr);
#endif
    n = put_open(f, n, __NR_openat, offsetof(struct seccomp_data, args[2]));
    f[n++] = LOAD(nr);
    n = put_own(f, n, __NR_tgkill, getpid()); /* abort; but no other process may be killed, nor its limits set */
    n = put_own(f, n, __NR_prlimit64, 0);
    for (int k = 0; k < ALLOWED; k++) {
        f[n++] = SKIP_UNLESS_EQUAL(allowed[k], 1);
        f[n++] = RETURN(SECCOMP_RET_ALLOW);
    }
    f[n++] = RETURN(SECCOMP_RET_ERRNO | EPERM);
    struct sock_fprog program = {.len = (unsigned short)n, .filter = f};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

/* Reading beneath the folder that the file really lies in, and nowhere else. */
static int enter_landlock(const char *path)
{
    char real[PATH_MAX];
    struct landlock_ruleset_attr all = {.handled_access_fs =
                                            LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
                                            LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_EXECUTE |
                                            LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE};
    struct landlock_path_beneath_attr rule = {.allowed_access =
                                                  LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR};
    if (!realpath(path, real)) return 0;
    char *slash = strrchr(real, '/');
    if (slash && slash != real) *slash = 0;
    int done = 0, rules = (int)syscall(__NR_landlock_create_ruleset, &all, sizeof all, 0);
    if (rules < 0) return 0;
    rule.parent_fd = open(real, O_PATH | O_CLOEXEC);
    done = rule.parent_fd >= 0 && syscall(__NR_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0 &&
           syscall(__NR_landlock_restrict_self, rules, 0) == 0;
    if (rule.parent_fd >= 0) close(rule.parent_fd);
    close(rules);
    return done;
}

status sandbox_enter(const char *path, int *level)
{
    *level = 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return COV_FAIL(COV_IO, "PR_SET_NO_NEW_PRIVS: %s", strerror(errno));
    int landlock = path && enter_landlock(path); /* first: its calls are not on the list */
    if (enter_seccomp()) *level = 1 + landlock;
    return COV_OK;
}
