/* shim: loaded with LD_PRELOAD, it makes the Nth call of one kind fail, as a bad disk, a full one or a lack of memory
 * would, in whichever process of covpipe comes to make it. Counted are calls out of covpipe itself and out of the
 * libraries that read and write for it (HDF5, ROMIO, zlib, libpng); of malloc, HDF5 and MPI covpipe's own alone.
 *
 *   SHIM_KIND  which calls, a name of `kinds`           SHIM_AT   which of them, from 1; 0: none, only count
 *   SHIM_HOW   an errno's number, or "short": half of what was asked for is read or written (clock: seconds)
 *   SHIM_EACH  from SHIM_AT on every SHIM_EACH-th call again; 0: that one alone
 *   SHIM_OWN   set: not those of the libraries
 *   SHIM_STATE a file that all processes share: how many calls there were, and what was hit (struct state)
 *   SHIM_LOG   a file for a line "number name site process" a call; not set: none
 *
 * The trap: a reader is forbidden almost everything, so both files are opened before main, and nothing here allocates. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <link.h>
#include <mpi.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum kind { MALLOC, OPEN, READ, WRITE, STDIO, FSYNC, RENAME, SPACE, FOLDER, STAT, MAP, FORK, MESSAGE, CLOCK, HDF5, MPI, KINDS };
static const char *const kinds[KINDS] = {"malloc", "open", "read", "write", "stdio", "fsync", "rename", "space",
                                         "folder", "stat", "map", "fork", "message", "clock", "hdf5", "mpi"};

typedef struct state {
    _Atomic int64_t calls, hits;
    char what[240]; /* of the first hit */
} state;

static struct {
    state *shared;
    int kind, how, own, log;
    int64_t at, each;
    uintptr_t begin, end, base; /* covpipe's code */
    const void *helper_base; /* the last helping library that was asked about */
} shim = {.kind = -1, .log = -1};
enum { SHORT = -1 };

/* ---- which call is it */

static int find_program(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)size, (void)unused;
    shim.base = info->dlpi_addr;
    for (int k = 0; k < info->dlpi_phnum; k++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[k];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X)) continue;
        shim.begin = info->dlpi_addr + p->p_vaddr;
        shim.end = shim.begin + p->p_memsz;
    }
    return 1; /* the first is the program itself */
}

static int is_helper(const void *caller, uintptr_t *base)
{
    static const char *const names[] = {"libhdf5", "mca_io_romio", "libz.so", "libpng"};
    Dl_info about;
    if (!dladdr(caller, &about) || !about.dli_fname) return 0;
    *base = (uintptr_t)about.dli_fbase;
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
        if (strstr(about.dli_fname, names[k])) return 1;
    return 0;
}

static void put(int fd, const char *text, size_t n) { syscall(SYS_write, fd, text, n); }

static void note(int64_t number, const char *name, const void *caller, uintptr_t base, int own, int hit)
{
    char process[17] = "", line[240];
    prctl(PR_GET_NAME, process);
    int n = snprintf(line, sizeof line, "%lld %s %s+0x%lx %s\n", (long long)number, name, own ? "covpipe" : "library",
                     (unsigned long)((uintptr_t)caller - base - 1), process);
    if (shim.log >= 0) put(shim.log, line, (size_t)n);
    if (hit) memcpy(shim.shared->what, line, (size_t)n);
}

/* Shall this call fail? */
static int fails(enum kind kind, const char *name, const void *caller)
{
    uintptr_t at = (uintptr_t)caller, base = shim.base;
    int own = at >= shim.begin && at < shim.end, kept = errno;
    if ((int)kind != shim.kind) return 0;
    if (!own && (shim.own || kind == MALLOC || kind == HDF5 || kind == MPI || !is_helper(caller, &base))) return 0;
    int64_t number = atomic_fetch_add(&shim.shared->calls, 1) + 1, past = number - shim.at;
    int hit = shim.at > 0 && past >= 0 && (past == 0 || (shim.each > 0 && past % shim.each == 0));
    if (shim.log >= 0 || hit) note(number, name, caller, base, own, hit && atomic_fetch_add(&shim.shared->hits, 1) == 0);
    errno = hit && shim.how != SHORT ? shim.how : kept;
    return hit;
}

__attribute__((constructor)) static void begin(void)
{
    const char *kind = getenv("SHIM_KIND"), *how = getenv("SHIM_HOW"), *at = getenv("SHIM_AT"),
               *each = getenv("SHIM_EACH"), *name = getenv("SHIM_STATE"), *log = getenv("SHIM_LOG");
    int fd = name ? open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (!kind || fd < 0 || ftruncate(fd, sizeof(state)) != 0) return;
    dl_iterate_phdr(find_program, NULL);
    shim.shared = mmap(NULL, sizeof(state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shim.shared == MAP_FAILED) return;
    shim.how = how && strcmp(how, "short") == 0 ? SHORT : how ? atoi(how) : EIO;
    shim.own = getenv("SHIM_OWN") != NULL;
    shim.at = at ? atoll(at) : 0;
    shim.each = each ? atoll(each) : 0;
    if (log) shim.log = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    for (int k = 0; k < KINDS; k++)
        if (strcmp(kind, kinds[k]) == 0) shim.kind = k;
}

/* ---- the calls */

#define CALLER __builtin_return_address(0)
#define WRAP(kind, type, name, bad, parameters, ...)                                                                   \
    type name parameters;                                                                                              \
    type name parameters                                                                                               \
    {                                                                                                                  \
        static type(*real) parameters;                                                                                 \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);                                                          \
        return fails(kind, #name, CALLER) ? (bad) : real(__VA_ARGS__);                                                 \
    }
/* What must be done even if it is then said to have failed: the others wait in it, or it gives something back. */
#define WRAP_DONE(kind, type, name, bad, parameters, ...)                                                              \
    type name parameters;                                                                                              \
    type name parameters                                                                                               \
    {                                                                                                                  \
        static type(*real) parameters;                                                                                 \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);                                                          \
        int failed = fails(kind, #name, CALLER);                                                                       \
        type result = real(__VA_ARGS__);                                                                               \
        return failed ? (bad) : result;                                                                                \
    }
/* Reading and writing, which may also be short. `n` is the parameter that says how much. */
#define WRAP_MOVE(kind, type, name, bad, n, parameters, ...)                                                           \
    type name parameters                                                                                               \
    {                                                                                                                  \
        static type(*real) parameters;                                                                                 \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);                                                          \
        if (fails(kind, #name, CALLER)) {                                                                              \
            if (shim.how != SHORT) return (bad);                                                                       \
            if (n > 1) n /= 2;                                                                                         \
        }                                                                                                              \
        return real(__VA_ARGS__);                                                                                      \
    }

/* glibc's own names: malloc is needed before dlsym can be called. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *p, size_t n);
void *malloc(size_t n) { return fails(MALLOC, "malloc", CALLER) ? NULL : __libc_malloc(n); }
void *calloc(size_t count, size_t n) { return fails(MALLOC, "calloc", CALLER) ? NULL : __libc_calloc(count, n); }
void *realloc(void *p, size_t n) { return fails(MALLOC, "realloc", CALLER) ? NULL : __libc_realloc(p, n); }
WRAP(MALLOC, char *, strdup, NULL, (const char *s), s)
WRAP(MALLOC, char *, strndup, NULL, (const char *s, size_t n), s, n)
WRAP(MALLOC, void *, aligned_alloc, NULL, (size_t a, size_t n), a, n)

static int open_named(const char *name, const void *caller, const char *path, int flags, va_list more)
{
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
    if (fails(OPEN, name, caller)) return -1;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    int fd = open_named("open", CALLER, path, flags, more);
    va_end(more);
    return fd;
}
int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    int fd = open_named("open64", CALLER, path, flags, more);
    va_end(more);
    return fd;
}
WRAP(OPEN, FILE *, fopen, NULL, (const char *path, const char *mode), path, mode)
WRAP(OPEN, DIR *, opendir, NULL, (const char *path), path)
WRAP(OPEN, int, access, -1, (const char *path, int mode), path, mode)

WRAP_MOVE(READ, ssize_t, read, -1, n, (int fd, void *to, size_t n), fd, to, n)
WRAP_MOVE(READ, ssize_t, pread, -1, n, (int fd, void *to, size_t n, off_t at), fd, to, n, at)
WRAP(OPEN, struct dirent *, readdir, NULL, (DIR *d), d)
WRAP_MOVE(WRITE, ssize_t, write, -1, n, (int fd, const void *from, size_t n), fd, from, n)
WRAP_MOVE(WRITE, ssize_t, pwrite, -1, n, (int fd, const void *from, size_t n, off_t at), fd, from, n, at)
WRAP_DONE(STDIO, int, fflush, EOF, (FILE *f), f)
/* A stream that meets an error has ferror ever after: glibc's flag 0x20. */
#define BROKEN(f) ((f)->_flags |= 0x20, (size_t)0)
WRAP(STDIO, size_t, fread, BROKEN(f), (void *to, size_t size, size_t n, FILE *f), to, size, n, f)
WRAP(STDIO, size_t, fwrite, BROKEN(f), (const void *from, size_t size, size_t n, FILE *f), from, size, n, f)

WRAP(FSYNC, int, fsync, -1, (int fd), fd)
WRAP(RENAME, int, rename, -1, (const char *from, const char *to), from, to)
WRAP(SPACE, int, ftruncate, -1, (int fd, off_t n), fd, n)
WRAP(SPACE, int, fallocate, -1, (int fd, int mode, off_t at, off_t n), fd, mode, at, n)
WRAP(FOLDER, int, mkdir, -1, (const char *path, mode_t mode), path, mode)
WRAP(FOLDER, int, unlink, -1, (const char *path), path)
WRAP(STAT, int, stat, -1, (const char *path, struct stat *st), path, st)
WRAP(STAT, int, lstat, -1, (const char *path, struct stat *st), path, st)
WRAP(STAT, int, fstat, -1, (int fd, struct stat *st), fd, st)
WRAP(STAT, char *, realpath, NULL, (const char *path, char *out), path, out)
WRAP(MAP, void *, mmap, MAP_FAILED, (void *p, size_t n, int prot, int flags, int fd, off_t at), p, n, prot, flags, fd, at)
WRAP(MAP, int, memfd_create, -1, (const char *name, unsigned flags), name, flags)
WRAP(FORK, pid_t, fork, -1, (void), )
WRAP(FORK, int, socketpair, -1, (int domain, int type, int protocol, int ends[2]), domain, type, protocol, ends)
WRAP(MESSAGE, ssize_t, sendmsg, -1, (int fd, const struct msghdr *m, int flags), fd, m, flags)
WRAP(MESSAGE, ssize_t, recvmsg, -1, (int fd, struct msghdr *m, int flags), fd, m, flags)

/* The wall clock jumps by the seconds of SHIM_HOW; the monotonic one never does. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME && fails(CLOCK, "clock_gettime", CALLER)) now->tv_sec += shim.how;
    return (int)failed;
}
time_t time(time_t *out)
{
    struct timespec now = {0};
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    if (fails(CLOCK, "time", CALLER)) now.tv_sec += shim.how;
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

WRAP(HDF5, hid_t, H5Fcreate, -1, (const char *name, unsigned flags, hid_t create, hid_t list), name, flags, create, list)
WRAP(HDF5, hid_t, H5Fopen, -1, (const char *name, unsigned flags, hid_t list), name, flags, list)
WRAP_DONE(HDF5, herr_t, H5Fflush, -1, (hid_t file, H5F_scope_t scope), file, scope)
WRAP_DONE(HDF5, herr_t, H5Fclose, -1, (hid_t file), file)
WRAP(HDF5, hid_t, H5Dcreate2, -1, (hid_t at, const char *name, hid_t type, hid_t space, hid_t links, hid_t create, hid_t access_list), at, name, type, space, links, create, access_list)
WRAP_DONE(HDF5, hid_t, H5Dopen2, -1, (hid_t at, const char *name, hid_t list), at, name, list)
WRAP(HDF5, herr_t, H5Dread, -1, (hid_t set, hid_t type, hid_t memory, hid_t file, hid_t list, void *to), set, type, memory, file, list, to)
WRAP_DONE(HDF5, herr_t, H5Dwrite, -1, (hid_t set, hid_t type, hid_t memory, hid_t file, hid_t list, const void *from), set, type, memory, file, list, from)
WRAP_DONE(HDF5, herr_t, H5Dwrite_chunk, -1, (hid_t set, hid_t list, uint32_t skipped, const hsize_t *at, size_t n, const void *from), set, list, skipped, at, n, from)
WRAP(HDF5, herr_t, H5Dread_chunk, -1, (hid_t set, hid_t list, const hsize_t *at, uint32_t *skipped, void *to), set, list, at, skipped, to)
WRAP(HDF5, hid_t, H5Dget_space, -1, (hid_t set), set)
WRAP(HDF5, hid_t, H5Dget_type, -1, (hid_t set), set)
WRAP(HDF5, hid_t, H5Dget_create_plist, -1, (hid_t set), set)
WRAP(HDF5, herr_t, H5Dget_chunk_storage_size, -1, (hid_t set, const hsize_t *at, hsize_t *bytes), set, at, bytes)
WRAP(HDF5, hid_t, H5Acreate2, -1, (hid_t at, const char *name, hid_t type, hid_t space, hid_t create, hid_t list), at, name, type, space, create, list)
WRAP(HDF5, hid_t, H5Aopen, -1, (hid_t at, const char *name, hid_t list), at, name, list)
WRAP(HDF5, herr_t, H5Aread, -1, (hid_t attribute, hid_t type, void *to), attribute, type, to)
WRAP(HDF5, herr_t, H5Awrite, -1, (hid_t attribute, hid_t type, const void *from), attribute, type, from)
WRAP(HDF5, hid_t, H5Gcreate2, -1, (hid_t at, const char *name, hid_t links, hid_t create, hid_t list), at, name, links, create, list)
WRAP(HDF5, hid_t, H5Gopen2, -1, (hid_t at, const char *name, hid_t list), at, name, list)
WRAP(HDF5, hid_t, H5Pcreate, -1, (hid_t class), class)
WRAP(HDF5, herr_t, H5Pset_fapl_mpio, -1, (hid_t list, MPI_Comm comm, MPI_Info info), list, comm, info)
WRAP(HDF5, herr_t, H5Pset_dxpl_mpio, -1, (hid_t list, H5FD_mpio_xfer_t mode), list, mode)
WRAP(HDF5, hid_t, H5Screate_simple, -1, (int rank, const hsize_t *dims, const hsize_t *most), rank, dims, most)
WRAP(HDF5, herr_t, H5Sselect_hyperslab, -1, (hid_t space, H5S_seloper_t op, const hsize_t *start, const hsize_t *stride, const hsize_t *count, const hsize_t *block), space, op, start, stride, count, block)
WRAP(HDF5, hid_t, H5Tcopy, -1, (hid_t type), type)
WRAP(HDF5, herr_t, H5Rcreate, -1, (void *to, hid_t at, const char *name, H5R_type_t type, hid_t space), to, at, name, type, space)
WRAP(HDF5, herr_t, H5Lget_info, -1, (hid_t at, const char *name, H5L_info_t *info, hid_t list), at, name, info, list)

WRAP(MPI, int, MPI_Init_thread, MPI_ERR_OTHER, (int *argc, char ***argv, int need, int *have), argc, argv, need, have)
WRAP_DONE(MPI, int, MPI_Finalize, MPI_ERR_OTHER, (void), )
WRAP(MPI, int, MPI_Comm_rank, MPI_ERR_OTHER, (MPI_Comm c, int *rank), c, rank)
WRAP(MPI, int, MPI_Comm_size, MPI_ERR_OTHER, (MPI_Comm c, int *size), c, size)
WRAP_DONE(MPI, int, MPI_Comm_dup, MPI_ERR_OTHER, (MPI_Comm c, MPI_Comm *out), c, out)
WRAP_DONE(MPI, int, MPI_Comm_free, MPI_ERR_OTHER, (MPI_Comm *c), c)
WRAP(MPI, int, MPI_Isend, MPI_ERR_OTHER, (const void *from, int n, MPI_Datatype type, int to, int tag, MPI_Comm c, MPI_Request *request), from, n, type, to, tag, c, request)
WRAP(MPI, int, MPI_Improbe, MPI_ERR_OTHER, (int from, int tag, MPI_Comm c, int *any, MPI_Message *m, MPI_Status *st), from, tag, c, any, m, st)
WRAP_DONE(MPI, int, MPI_Get_count, MPI_ERR_OTHER, (const MPI_Status *st, MPI_Datatype type, int *n), st, type, n)
WRAP_DONE(MPI, int, MPI_Imrecv, MPI_ERR_OTHER, (void *to, int n, MPI_Datatype type, MPI_Message *m, MPI_Request *request), to, n, type, m, request)
WRAP(MPI, int, MPI_Test, MPI_ERR_OTHER, (MPI_Request *request, int *done, MPI_Status *st), request, done, st)
WRAP_DONE(MPI, int, MPI_Send, MPI_ERR_OTHER, (const void *from, int n, MPI_Datatype type, int to, int tag, MPI_Comm c), from, n, type, to, tag, c)
WRAP_DONE(MPI, int, MPI_Recv, MPI_ERR_OTHER, (void *to, int n, MPI_Datatype type, int from, int tag, MPI_Comm c, MPI_Status *st), to, n, type, from, tag, c, st)
WRAP_DONE(MPI, int, MPI_Bcast, MPI_ERR_OTHER, (void *p, int n, MPI_Datatype type, int root, MPI_Comm c), p, n, type, root, c)
WRAP_DONE(MPI, int, MPI_Allreduce, MPI_ERR_OTHER, (const void *from, void *to, int n, MPI_Datatype type, MPI_Op op, MPI_Comm c), from, to, n, type, op, c)
WRAP_DONE(MPI, int, MPI_Allgather, MPI_ERR_OTHER, (const void *from, int n, MPI_Datatype type, void *to, int m, MPI_Datatype to_type, MPI_Comm c), from, n, type, to, m, to_type, c)
WRAP_DONE(MPI, int, MPI_Allgatherv, MPI_ERR_OTHER, (const void *from, int n, MPI_Datatype type, void *to, const int *counts, const int *starts, MPI_Datatype to_type, MPI_Comm c), from, n, type, to, counts, starts, to_type, c)
