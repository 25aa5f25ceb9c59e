/* reader: one row a format. The archive walk asks each row whether a file is its own; a sandboxed
 * child reads headers and voxels. A reader checks every size it takes from the file before it allocates.
 * On a bad file it returns COV_FORMAT, COV_UNSUPPORTED or COV_IO, sets *why to the reason code and leaves a
 * message that names the file, what is wrong and what was expected. Local. */
#ifndef COV_DATA_READER_H
#define COV_DATA_READER_H
#include "base/sha256.h"
#include "data/volume.h"

/* No reader accepts a volume of more bytes than this, as int16; a caller with less memory asks reader_check_size. */
#define READER_MOST_BYTES ((int64_t)8 << 30)

typedef struct reader {
    const char *format; /* "nifti", "dicom", "metaimage", "nrrd", "png" */
    /* 1: the name looks like this format's. 2: the file is a satellite of another (.img beside .hdr). 0: not mine. */
    int (*claims)(const char *path);
    /* 1: all such files of one folder are one study (isolated slices, DICOM); header and voxels get the folder. */
    int per_folder;
    /* NULL: known but not readable by this version (UNSUPPORTED). */
    status (*header)(const char *path, volume_header *out, reason *why);
    /* Fills hu (head.nx*ny*nz int16 the caller allocated from the header just read) and stats. */
    status (*voxels)(const char *path, const volume_header *head, int16_t *hu, volume_stats *stats, reason *why);
    /* NULL where a file is always alone. The file beside path that has its voxels (malloc); NULL: none. */
    char *(*image)(const char *path);
} reader;

/* path without its last `cut` bytes + the first of `endings` (NULL last) of which there is such a file; malloc; NULL:
 * none is there, or no memory. */
char *reader_sibling(const char *path, size_t cut, const char *const *endings);
/* For a folder: the format of the slices in it; where there are two, reader_named tells them apart. NULL: no format
 * claims it (errno 0: ignored), or the folder could not be read (errno says why). */
const reader *reader_for(const char *path);
const reader *reader_named(const char *format);
/* The names of r's files in a folder, sorted by bytes; names that begin with a dot are left out. Freed with
 * reader_listing_free. */
typedef struct reader_listing {
    char **names; /* owned */
    size_t count;
} reader_listing;
status reader_list(const reader *r, const char *folder, reader_listing *out, reason *why);
void reader_listing_free(reader_listing *l);
/* SHA-256 of a study: of a file its bytes; of several (a folder's slices, a header and its image) their names and
 * digests, in order. */
status reader_digest(const char *path, char hex[SHA256_HEX]);
/* How the files of a study look now. Where nothing was changed the stamp is the same on every rank; after a change of a
 * file's content, size or times it is another, even if all of them were set back: it has the change times in it (ctime),
 * which cannot be set. So it is for comparing within a run; a copy of the archive has other stamps. Inode numbers are
 * not in it, because some file systems (FUSE, CIFS) give each node its own. */
typedef struct reader_look {
    int64_t bytes, mtime_ns; /* of all its files: sum and latest */
    int64_t stamp;           /* never 0 */
} reader_look;
status reader_look_at(const char *path, reader_look *out);
/* Checks that statistics can be a CT in HU (of isolated slices: pictures and not labels): COV_FORMAT and REASON_NOT_CT
 * with a message otherwise. */
status reader_check_ct(const char *path, const volume_header *h, const volume_stats *stats, reason *why);
/* COV_FORMAT and REASON_TOO_LARGE where the volume needs more than most_bytes as int16. */
status reader_check_size(const char *path, const volume_header *h, int64_t most_bytes, reason *why);

/* The formats, one a file read_*.c. */
extern const reader read_nifti, read_png, read_dicom, read_metaimage, read_nrrd;
#endif
