/* read_other: formats that are recognised, so that a study in one of them is accounted for as UNSUPPORTED, but not
 * yet read: DICOM, MetaImage, NRRD. */
#include "base/str.h"
#include "data/reader.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* True if a file lies at stem (path without its last `cut` bytes) + ending. */
static bool sibling_exists(const char *path, size_t cut, const char *ending)
{
    struct stat st;
    str s = {0};
    str_put_bytes(&s, path, strlen(path) - cut);
    str_put(&s, ending);
    bool there = !s.failed && stat(s.text, &st) == 0 && S_ISREG(st.st_mode);
    str_free(&s);
    return there;
}

/* 2 if path ends in `ending` and the header that owns it lies beside it. */
static int satellite(const char *path, const char *ending, const char *header_ending)
{
    return str_ends_with(path, ending) && sibling_exists(path, strlen(ending), header_ending) ? 2 : 0;
}

/* DICOM files often have no ending, or one that is the last number of a UID: only then is a file looked into. */
static bool may_be_bare_dicom(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(slash ? slash : path, '.');
    if (!dot) return true;
    for (const char *p = dot + 1; *p; p++)
        if (!isdigit((unsigned char)*p)) return false;
    return true;
}

static bool has_dicom_mark(const char *path)
{
    char mark[4];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    bool found = pread(fd, mark, 4, 128) == 4 && memcmp(mark, "DICM", 4) == 0;
    close(fd);
    return found;
}

static int claims_dicom(const char *path)
{
    static const char *const endings[] = {".dcm", ".dicom", ".ima", ".dcm.gz", ".ima.gz", NULL};
    for (int i = 0; endings[i]; i++)
        if (str_ends_with(path, endings[i])) return 1;
    return may_be_bare_dicom(path) && has_dicom_mark(path);
}

static int claims_metaimage(const char *path)
{
    if (str_ends_with(path, ".mha") || str_ends_with(path, ".mhd")) return 1;
    int mine = satellite(path, ".raw", ".mhd");
    return mine ? mine : satellite(path, ".zraw", ".mhd");
}

static int claims_nrrd(const char *path)
{
    if (str_ends_with(path, ".nrrd") || str_ends_with(path, ".nhdr")) return 1;
    int mine = satellite(path, ".raw", ".nhdr");
    return mine ? mine : satellite(path, ".raw.gz", ".nhdr");
}

const reader read_dicom = {"dicom", claims_dicom, 1, NULL, NULL};
const reader read_metaimage = {"metaimage", claims_metaimage, 0, NULL, NULL};
const reader read_nrrd = {"nrrd", claims_nrrd, 0, NULL, NULL};
