/* durable: see durable.h. A file system that cannot fsync a folder (EINVAL) has nothing to lose there; every other
 * refusal is an error, because a later step would rely on it. */
#include "data/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

status durable_temporary(const char *path, char *out, size_t room)
{
    int n = snprintf(out, room, "%s" DURABLE_MARK "%ld", path, (long)getpid());
    if (n < 0 || (size_t)n >= room) return COV_FAIL(COV_USAGE, "%s: the path is too long", path);
    return COV_OK;
}

static status sync_path(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) return COV_FAIL(COV_IO, "%s: cannot open to fsync: %s", path, strerror(errno));
    int failed = fsync(fd) != 0 && !(errno == EINVAL && (flags & O_DIRECTORY)), why = errno;
    close(fd);
    if (failed) return COV_FAIL(COV_IO, "%s: fsync: %s", path, strerror(why));
    return COV_OK;
}

status durable_sync_parent(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof folder) return COV_FAIL(COV_USAGE, "%s: the path is too long", path);
    if (!slash) return sync_path(".", O_RDONLY | O_DIRECTORY);
    memcpy(folder, path, n);
    folder[n] = 0;
    return sync_path(n ? folder : "/", O_RDONLY | O_DIRECTORY);
}

status durable_commit(const char *temporary, const char *path)
{
    status s;
    COV_GO(sync_path(temporary, O_RDONLY));
    if (rename(temporary, path) != 0) {
        s = COV_FAIL(COV_IO, "%s: cannot rename to %s: %s", temporary, path, strerror(errno));
        goto done;
    }
    return durable_sync_parent(path);
done:
    unlink(temporary);
    return s;
}

status durable_put(const char *path, int fd, const void *bytes, size_t n, int64_t at)
{
    for (size_t put = 0; put < n;) {
        ssize_t k = pwrite(fd, (const char *)bytes + put, n - put, (off_t)at + (off_t)put);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return COV_FAIL(COV_IO, "%s: cannot write: %s", path, strerror(errno));
        put += (size_t)k;
    }
    return COV_OK;
}

status durable_write(const char *path, const void *bytes, size_t n)
{
    char temporary[PATH_MAX];
    COV_TRY(durable_temporary(path, temporary, sizeof temporary));
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return COV_FAIL(COV_IO, "%s: cannot create: %s", temporary, strerror(errno));
    status s = durable_put(temporary, fd, bytes, n, 0);
    close(fd);
    if (s != COV_OK) {
        unlink(temporary);
        return status_relay(s, __FILE__, __LINE__);
    }
    COV_TRY(durable_commit(temporary, path));
    return COV_OK;
}

status durable_folder(const char *path)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    struct stat there;
    if (stat(path, &there) == 0 && S_ISDIR(there.st_mode)) return COV_OK;
    if (n == 0 || n >= sizeof part) return COV_FAIL(COV_USAGE, "'%s': not a usable folder name", path);
    for (size_t k = 1; k <= n; k++) {
        if (path[k] != '/' && path[k] != 0) continue;
        memcpy(part, path, k);
        part[k] = 0;
        if (mkdir(part, 0777) == 0) COV_TRY(durable_sync_parent(part));
        else if (errno != EEXIST) return COV_FAIL(COV_IO, "%s: cannot make the folder: %s", part, strerror(errno));
    }
    if (stat(path, &there) != 0 || !S_ISDIR(there.st_mode)) return COV_FAIL(COV_IO, "%s: is not a folder", path);
    return COV_OK;
}
