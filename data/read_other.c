/* read_other: formats that are recognised, so that a study in one of them is accounted for as UNSUPPORTED, but not
 * yet read: DICOM, MetaImage, NRRD. */
#include "base/str.h"
#include "data/reader.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* 2 if path ends in one of `endings` and the header that owns it lies beside it. */
static int satellite(const char *path, const char *const *endings, const char *header)
{
    for (; *endings; endings++) {
        char *owner = str_ends_with(path, *endings)
                          ? reader_sibling(path, strlen(*endings), (const char *const[]){header, NULL}) : NULL;
        free(owner);
        if (owner) return 2;
    }
    return 0;
}

static char *image_of(const char *path, const char *header, const char *const *endings)
{
    return str_ends_with(path, header) ? reader_sibling(path, strlen(header), endings) : NULL;
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

static const char *const metaimage_images[] = {".raw", ".zraw", NULL}, *const nrrd_images[] = {".raw", ".raw.gz", NULL};

static int claims_metaimage(const char *path)
{
    if (str_ends_with(path, ".mha") || str_ends_with(path, ".mhd")) return 1;
    return satellite(path, metaimage_images, ".mhd");
}

static int claims_nrrd(const char *path)
{
    if (str_ends_with(path, ".nrrd") || str_ends_with(path, ".nhdr")) return 1;
    return satellite(path, nrrd_images, ".nhdr");
}

static char *metaimage_image(const char *path) { return image_of(path, ".mhd", metaimage_images); }
static char *nrrd_image(const char *path) { return image_of(path, ".nhdr", nrrd_images); }

const reader read_dicom = {"dicom", claims_dicom, 1, NULL, NULL, NULL};
const reader read_metaimage = {"metaimage", claims_metaimage, 0, NULL, NULL, metaimage_image};
const reader read_nrrd = {"nrrd", claims_nrrd, 0, NULL, NULL, nrrd_image};
