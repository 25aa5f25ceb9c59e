/* archive_id: a study's id, made from its path and nothing else. The readable form is used where it leads back to one
 * path only; everything else gets a digest, so that two studies never share an id. */
#include "data/archive.h"
#include "base/sha256.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { ID_TAIL = STUDY_ID - 1 - 17 }; /* what is left of a cut id beside "-" and 16 digits */

/* Writes the readable form; true if it alone leads back to the path. */
static bool readable_id(const char *path, const char *folder_format, char *out, size_t room)
{
    static const char *const kept[] = {".nii", ".hdr", ".gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".png", ".dicom"};
    char clean[ARCHIVE_PATH_MOST];
    size_t used = 0;
    bool sound = strcmp(path, ".") != 0;
    str_utf8(clean, sizeof clean, path);
    if (strcmp(clean, path) != 0) sound = false;
    size_t end = strlen(clean);
    if (!folder_format && end > 7 && strcmp(clean + end - 7, ".nii.gz") == 0) {
        end -= 7;
        clean[end] = 0;
        for (size_t k = 0; k < sizeof kept / sizeof kept[0]; k++) /* "a.nii.nii.gz" is not "a.nii" */
            if (str_ends_with(clean, kept[k])) sound = false;
    }
    if (strstr(path, "__") || strstr(path, "_/") || strstr(path, "/_") || *path == '_' ||
        (end && clean[end - 1] == '_'))
        sound = false;
    for (size_t i = 0; i < end && used + 3 < room; i++) {
        unsigned char c = (unsigned char)clean[i];
        bool control = c == 0xC2 && (unsigned char)clean[i + 1] < 0xA0; /* C1 control characters */
        bool plain = (c >= 0x80 && !control) || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                     (c >= 'a' && c <= 'z') || (c && strchr("._-+=@,", c));
        if (c == '/') {
            out[used++] = '_';
            out[used++] = '_';
            continue;
        }
        if (control) i++;
        if (!plain) sound = false;
        out[used++] = plain ? (char)c : '-';
    }
    int n = snprintf(out + used, room - used, "%s%s", folder_format ? "." : "", folder_format ? folder_format : "");
    if (out[0] == '.' || out[0] == '-') {
        out[0] = '_';
        sound = false;
    }
    return sound && n >= 0 && used + (size_t)n < STUDY_ID;
}

status archive_id(const char *path, const char *folder_format, const char *id_key, char *out)
{
    char hex[SHA256_HEX], text[2 * ARCHIVE_PATH_MOST + 64];
    str all = {0};
    if (!id_key && readable_id(path, folder_format, text, sizeof text)) {
        strcpy(out, text);
        return COV_OK;
    }
    str_putf(&all, "%s%s%s%s", id_key ? id_key : "", path, folder_format ? "/" : "",
             folder_format ? folder_format : "");
    status s = all.failed ? COV_FAIL(COV_NOMEM, "no memory for an id") : sha256_bytes(all.text, all.length, hex);
    str_free(&all);
    if (s != COV_OK) return status_relay(s, __FILE__, __LINE__);
    if (id_key) {
        snprintf(out, STUDY_ID, "%.16s", hex);
        return COV_OK;
    }
    size_t length = strlen(text), from = length > ID_TAIL ? length - ID_TAIL : 0;
    while (((unsigned char)text[from] & 0xC0) == 0x80) from++; /* not inside a character */
    if (text[from] == '.' || text[from] == '-') text[from] = '_';
    snprintf(out, STUDY_ID, "%.*s-%.16s", ID_TAIL, text + from, hex);
    return COV_OK;
}
