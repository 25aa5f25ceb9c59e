/* claim: OUT.parts/lock (an open-file-description lock, which ends with its process however that dies),
 * OUT.parts/manifest (the archive's root) and OUT.parts/open ("+digest" and "-digest" lines of paths). A shard locks
 * OUT.parts/lock for reading, as other shards do, and has a lock and an `open` of its own in OUT.parts/shards/3-of-8.
 * The trap: fcntl locks of the classic kind are lost when any descriptor of the file is closed; F_OFD_SETLK ones are
 * not. */
#include "mpi/claim.h"
#include "base/sha256.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LINE = SHA256_HEX + 1 }; /* sign, 64 digits, newline */

struct claim {
    int lock, shard_lock, journal;
    char parts[4096], folder[4160]; /* the run's own: parts, or a shard's */
    const char *shard;              /* borrowed; NULL: all */
    char (*open)[SHA256_HEX]; /* sorted */
    size_t open_count;
};

static void name_in(const char *folder, const char *name, char out[4200]) { snprintf(out, 4200, "%s/%s", folder, name); }

static status make_folder(const char *path)
{
    char part[4096];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part) return COV_FAIL(COV_USAGE, "%s: a folder name of %zu bytes", path, n);
    for (size_t k = 1; k <= n; k++) {
        if (path[k] != '/' && path[k]) continue;
        memcpy(part, path, k);
        part[k] = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return COV_FAIL(COV_IO, "%s: cannot make the folder: %s", part, strerror(errno));
    }
    return COV_OK;
}

/* The whole of a small file as text; "" if it is not there. */
static void read_text(int fd, char *out, size_t room)
{
    ssize_t n = fd >= 0 ? pread(fd, out, room - 1, 0) : 0;
    out[n > 0 ? n : 0] = 0;
}

static status take_lock(const claim *c, const char *folder, int alone, int *lock)
{
    char name[4200], holder[512], text[512], host[64] = "", when[32] = "";
    name_in(folder, "lock", name);
    *lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*lock < 0) return COV_FAIL(COV_IO, "%s: cannot open: %s", name, strerror(errno));
    struct flock whole = {.l_type = alone ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
    if (fcntl(*lock, F_OFD_SETLK, &whole) != 0) {
        if (errno == EAGAIN || errno == EACCES) {
            read_text(*lock, holder, sizeof holder);
            return COV_FAIL(COV_USAGE, "%s is in use by another run (%s); wait for it or stop it", folder,
                            *holder ? holder : "it has not said which");
        }
        if (errno != ENOLCK && errno != ENOSYS && errno != EOPNOTSUPP && errno != EINVAL)
            return COV_FAIL(COV_IO, "%s: cannot lock: %s", name, strerror(errno));
    } /* a file system without locks: the user must see to it that one run has it */
    time_t now = time(NULL);
    struct tm utc;
    gethostname(host, sizeof host - 1);
    if (gmtime_r(&now, &utc)) strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    int n = snprintf(text, sizeof text, "%s%s%shost %s, process %d, since %s", c->shard ? "shard " : "",
                     c->shard ? c->shard : "", c->shard ? ", " : "", host, (int)getpid(), when);
    if (ftruncate(*lock, 0) != 0) return COV_FAIL(COV_IO, "%s: cannot write: %s", name, strerror(errno));
    for (ssize_t put = 0, k; put < n; put += k > 0 ? k : 0)
        if ((k = pwrite(*lock, text + put, (size_t)(n - put), put)) < 0 && errno != EINTR)
            return COV_FAIL(COV_IO, "%s: cannot write: %s", name, strerror(errno));
    return COV_OK;
}

static status check_archive(claim *c, const char *archive)
{
    char name[4200], temporary[4300], have[4200];
    status s = COV_OK;
    name_in(c->parts, "manifest", name);
    snprintf(temporary, sizeof temporary, "%s.%s.tmp", name, c->shard ? c->shard : "all");
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        read_text(fd, have, sizeof have);
        close(fd);
        have[strcspn(have, "\n")] = 0;
        if (strncmp(have, "archive ", 8) == 0 && strcmp(have + 8, archive) == 0) return COV_OK;
        return COV_FAIL(
            COV_USAGE,
            "%s belongs to the archive %s, not to %s: choose another --out, or remove it with `covpipe clean`",
            c->parts, strncmp(have, "archive ", 8) == 0 ? have + 8 : "(unreadable manifest)", archive);
    }
    FILE *f = fopen(temporary, "we");
    if (!f || fprintf(f, "archive %s\n", archive) < 0 || fflush(f) != 0 || fsync(fileno(f)) != 0)
        s = COV_FAIL(COV_IO, "%s: cannot write: %s", temporary, strerror(errno));
    if (f) fclose(f);
    if (s == COV_OK && rename(temporary, name) != 0)
        s = COV_FAIL(COV_IO, "%s: cannot rename: %s", name, strerror(errno));
    return s;
}

static int by_digest(const void *a, const void *b) { return memcmp(a, b, SHA256_HEX - 1); }

/* What the journal of an earlier run left open: digests with more + than -. */
static status read_journal(claim *c, const char *name)
{
    struct stat st;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return COV_OK;
    size_t lines = fstat(fd, &st) == 0 ? (size_t)st.st_size / LINE : 0;
    char *text = malloc(lines * LINE + 1);
    c->open = malloc((lines + 1) * sizeof *c->open);
    ssize_t n = text && c->open ? read(fd, text, lines * LINE) : -1;
    close(fd);
    if (n < 0) { free(text); return COV_FAIL(COV_IO, "%s: cannot read", name); }
    for (size_t k = 0; k < (size_t)n / LINE; k++) {
        const char *line = text + k * LINE;
        size_t at = 0;
        while (at < c->open_count && memcmp(c->open[at], line + 1, SHA256_HEX - 1) != 0) at++;
        if (line[0] == '-' && at < c->open_count) memmove(c->open[at], c->open[--c->open_count], SHA256_HEX);
        if (line[0] == '+' && at == c->open_count) {
            memcpy(c->open[at], line + 1, SHA256_HEX - 1);
            c->open[at][SHA256_HEX - 1] = 0;
            c->open_count++;
        }
    }
    free(text);
    if (c->open_count) qsort(c->open, c->open_count, sizeof *c->open, by_digest);
    return COV_OK;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st; (void)type; (void)at;
    return remove(path);
}

/* The folders and locks. A run of all has its turn when no shard is left, and what they noted is past. */
static status take_folders(claim *c, const char *parts_dir)
{
    COV_TRY(make_folder(parts_dir));
    snprintf(c->parts, sizeof c->parts, "%s", parts_dir);
    snprintf(c->folder, sizeof c->folder, "%s", parts_dir);
    COV_TRY(take_lock(c, c->parts, !c->shard, &c->lock));
    if (c->shard) {
        if ((size_t)snprintf(c->folder, sizeof c->folder, "%s/shards/%s", parts_dir, c->shard) >= sizeof c->parts)
            return COV_FAIL(COV_USAGE, "%s: the path is too long", parts_dir);
        COV_TRY(make_folder(c->folder));
        return take_lock(c, c->folder, 1, &c->shard_lock);
    }
    char shards[4200];
    name_in(c->parts, "shards", shards);
    nftw(shards, remove_one, 8, FTW_DEPTH | FTW_PHYS); /* what stays does no harm */
    return COV_OK;
}

status claim_open(const char *parts_dir, const char *archive, const char *shard, claim **out)
{
    status s = COV_OK;
    char name[4200];
    *out = NULL;
    claim *c = calloc(1, sizeof *c);
    if (!c) return COV_FAIL(COV_NOMEM, "no memory for a claim on %s", parts_dir);
    c->lock = c->shard_lock = c->journal = -1;
    c->shard = shard;
    COV_GO(take_folders(c, parts_dir));
    COV_GO(check_archive(c, archive));
    name_in(c->folder, "open", name);
    COV_GO(read_journal(c, name));
    /* What was open stays noted until it is finished. */
    c->journal = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (c->journal < 0) { s = COV_FAIL(COV_IO, "%s: cannot open: %s", name, strerror(errno)); goto done; }
    *out = c;
    return COV_OK;
done:
    claim_close(&c);
    return s;
}

void claim_close(claim **c)
{
    if (!c || !*c) return;
    if ((*c)->journal >= 0) close((*c)->journal);
    if ((*c)->shard_lock >= 0) close((*c)->shard_lock);
    if ((*c)->lock >= 0) close((*c)->lock);
    free((*c)->open);
    free(*c);
    *c = NULL;
}

const char *claim_folder(const claim *c) { return c->folder; }
int claim_shared(const claim *c) { return c && c->shard != NULL; }

int claim_was_open(const claim *c, const char *path)
{
    char hex[SHA256_HEX];
    if (!c || !c->open_count || sha256_bytes(path, strlen(path), hex) != COV_OK) return 0;
    return bsearch(hex, c->open, c->open_count, sizeof *c->open, by_digest) != NULL;
}

static void note(claim *c, char sign, const char *path)
{
    char line[LINE + 1] = {sign};
    if (!c || sha256_bytes(path, strlen(path), line + 1) != COV_OK) return;
    line[LINE - 1] = '\n';
    ssize_t n = write(c->journal, line, LINE);
    (void)n; /* a lost note costs an order, nothing else */
}

void claim_begin(claim *c, const char *path) { note(c, '+', path); }
void claim_end(claim *c, const char *path) { note(c, '-', path); }

void claim_settle(claim *c)
{
    int e = c ? ftruncate(c->journal, 0) : 0;
    (void)e; /* likewise */
}
