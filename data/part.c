/* part: see part.h. The head is lines of "name value" in a fixed order (head_fields), padded with zeros to PART_HEAD;
 * its first line, of FIRST bytes, is the magic and the digest of everything behind that line. The trap: the summary in
 * the head and the row in HDF5 say the same thing twice, so reading compares them. */
#include "data/part.h"

#include "base/size.h"
#include "base/str.h"
#include "data/chunks.h"
#include "data/columns.h"
#include "data/durable.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "covpipe-part-1 "
enum { FIRST = sizeof MAGIC - 1 + 64 + 1, CHUNK_BYTES = 4 << 20, CHUNK_SLICES = 32, DEFLATE = 3 };
/* Level 3 packs real lung masks as fast as level 1 and 10 % smaller; 4 and above are half as fast. */
enum { STRIP = 1024 /* pixels of which most have no lesion */ };

struct part {
    char file[PATH_MAX];
    hid_t root;
    hid_t mask[STUDY_MASKS]; /* opened when they are first asked for */
    part_head head;
};

typedef enum field_kind { FIELD_TEXT, FIELD_I32, FIELD_I64 } field_kind;
typedef struct field {
    const char *name;
    field_kind kind;
    size_t offset, room;
} field;
#define TEXT_FIELD(name, member)                                                                                       \
    {                                                                                                                  \
        name, FIELD_TEXT, offsetof(part_head, member), sizeof((part_head *)0)->member                                  \
    }
#define NUMBER_FIELD(name, kind, member)                                                                               \
    {                                                                                                                  \
        name, FIELD_##kind, offsetof(part_head, member), 0                                                             \
    }
static const field head_fields[] = {
    TEXT_FIELD("path", key.path),
    TEXT_FIELD("unit", key.unit),
    NUMBER_FIELD("size", I64, key.size),
    NUMBER_FIELD("mtime_ns", I64, key.mtime_ns),
    TEXT_FIELD("input_sha256", key.input_sha256),
    TEXT_FIELD("weights_sha256", key.weights_sha256),
    TEXT_FIELD("options_sha256", key.options_sha256),
    TEXT_FIELD("precision", key.precision),
    TEXT_FIELD("backend", key.backend),
    TEXT_FIELD("covpipe_version", key.version),
    NUMBER_FIELD("status", I32, status),
    NUMBER_FIELD("reason", I32, reason),
    NUMBER_FIELD("rows", I32, rows),
    NUMBER_FIELD("cols", I32, cols),
    NUMBER_FIELD("slices", I32, slices),
    NUMBER_FIELD("slice_count", I64, slice_count),
    NUMBER_FIELD("lesion_rows", I64, lesion_rows),
    NUMBER_FIELD("has_lung", I32, has_lung),
    NUMBER_FIELD("has_lesion", I32, has_lesion),
};
enum { HEAD_FIELDS = sizeof head_fields / sizeof head_fields[0] };

/* ---------------------------------------------------------------- keys */

void part_key_init(part_key *key)
{
    memset(key, 0, sizeof *key);
    memcpy(key->unit, PART_WHOLE_STUDY, sizeof PART_WHOLE_STUDY);
    str_utf8(key->version, sizeof key->version, COVPIPE_VERSION);
}

int part_key_matches(const part_key *have, const part_key *want, int verify)
{
    if (strcmp(have->path, want->path) != 0 || strcmp(have->unit, want->unit) != 0 ||
        strcmp(have->weights_sha256, want->weights_sha256) != 0 ||
        strcmp(have->options_sha256, want->options_sha256) != 0 || strcmp(have->precision, want->precision) != 0 ||
        strcmp(have->backend, want->backend) != 0 || strcmp(have->version, want->version) != 0)
        return 0;
    if (!verify && have->size == want->size && have->mtime_ns == want->mtime_ns) return 1;
    return want->input_sha256[0] && strcmp(have->input_sha256, want->input_sha256) == 0;
}

status part_name(const char *folder, const part_key *key, char *out, size_t room)
{
    char hex[SHA256_HEX], both[STUDY_PATH + PART_UNIT];
    size_t path = strnlen(key->path, STUDY_PATH - 1), unit = strnlen(key->unit, PART_UNIT - 1);
    memcpy(both, key->path, path);
    both[path] = 0; /* between path and unit, where neither can have it */
    memcpy(both + path + 1, key->unit, unit);
    COV_TRY(sha256_bytes(both, path + 1 + unit, hex));
    int n = snprintf(out, room, "%s/%.2s/%s.h5", folder, hex, hex);
    if (n < 0 || (size_t)n >= room) return COV_FAIL(COV_USAGE, "%s: the path is too long", folder);
    return COV_OK;
}

int64_t part_chunk_slices(int64_t rows, int64_t cols)
{
    int64_t plane = rows * cols;
    if (plane < 1 || plane > CHUNK_BYTES) return 1;
    return CHUNK_BYTES / plane < CHUNK_SLICES ? CHUNK_BYTES / plane : CHUNK_SLICES;
}

/* ---------------------------------------------------------------- the head */

/* One line: bytes that would end it, and '%', are written as %XX. */
static void put_escaped(str *s, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f || c == '%') str_putf(s, "%%%02X", c);
        else str_put_bytes(s, text, 1);
    }
}

/* Fills head[PART_HEAD] but for the digest. */
static status print_head(const part_head *h, char *head)
{
    str s = {0};
    str_putf(&s, MAGIC "%064d\nschema %d\n", 0, PART_SCHEMA);
    for (int k = 0; k < HEAD_FIELDS; k++) {
        const field *f = &head_fields[k];
        const char *at = (const char *)h + f->offset;
        int32_t narrow;
        int64_t wide;
        str_putf(&s, "%s ", f->name);
        if (f->kind == FIELD_TEXT) put_escaped(&s, at);
        else if (f->kind == FIELD_I32) str_putf(&s, "%d", (int)*(int32_t *)memcpy(&narrow, at, sizeof narrow));
        else str_putf(&s, "%lld", (long long)*(int64_t *)memcpy(&wide, at, sizeof wide));
        str_put(&s, "\n");
    }
    status result = COV_OK;
    if (s.failed) result = COV_FAIL(COV_NOMEM, "no memory for the head of a part");
    else if (s.length >= PART_HEAD) result = COV_FAIL(COV_BROKEN, "the head of a part needs %zu bytes", s.length);
    memset(head, 0, PART_HEAD);
    if (result == COV_OK) memcpy(head, s.text, s.length);
    str_free(&s);
    return result;
}

static int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

/* The line [at, end) into dst[room]; 0 if it is too long or badly escaped. */
static int unescape(const char *at, const char *end, char *dst, size_t room)
{
    size_t n = 0;
    for (; at < end; at++) {
        if (n + 1 >= room) return 0;
        if (*at != '%') {
            dst[n++] = *at;
            continue;
        }
        if (end - at < 3) return 0;
        int high = hex_digit(at[1]), low = hex_digit(at[2]);
        if (high < 0 || low < 0 || high + low == 0) return 0;
        dst[n++] = (char)(16 * high + low);
        at += 2;
    }
    dst[n] = 0;
    return 1;
}

/* Reads the value of one line into the head; 0 if it is not what the field wants. */
static int parse_value(const field *f, const char *at, const char *end, part_head *out)
{
    char digits[32], *to = (char *)out + f->offset;
    long long value;
    if (f->kind == FIELD_TEXT) return unescape(at, end, to, f->room);
    if (!unescape(at, end, digits, sizeof digits) || !str_to_int(digits, &value)) return 0;
    if (f->kind == FIELD_I64) {
        memcpy(to, &(int64_t){value}, sizeof(int64_t));
        return 1;
    }
    if (value < INT32_MIN || value > INT32_MAX) return 0;
    memcpy(to, &(int32_t){(int32_t)value}, sizeof(int32_t));
    return 1;
}

static int head_is_sound(const part_head *h)
{
    if (h->status < OUTCOME_DONE || h->status > OUTCOME_FAILED || h->reason < 0 || h->reason >= REASON_COUNT) return 0;
    if (h->rows < 0 || h->cols < 0 || h->slices < 0 || h->slices > PART_SLICES_LIMIT) return 0;
    if ((int64_t)h->rows * h->cols > PART_PLANE_LIMIT) return 0;
    if (h->slice_count != 0 && h->slice_count != h->slices) return 0;
    if (h->has_lung != 0 && (h->has_lung != 1 || !h->rows || !h->cols || !h->slices)) return 0;
    if (h->has_lesion != 0 && (h->has_lesion != 1 || !h->has_lung || !h->slice_count)) return 0;
    if (h->lesion_rows < 0 || h->lesion_rows > PART_LESIONS_LIMIT || (h->lesion_rows && !h->has_lesion)) return 0;
    return h->key.path[0] != 0 && h->key.unit[0] != 0;
}

/* text is PART_HEAD bytes. */
static status parse_head(const char *file, const char *text, part_head *out)
{
    const char *at = text + FIRST, *end = memchr(text, 0, PART_HEAD);
    memset(out, 0, sizeof *out);
    if (!end || end - text < FIRST || memcmp(text, MAGIC, sizeof MAGIC - 1) != 0 || at[-1] != '\n')
        return COV_FAIL(COV_FORMAT, "%s: not a part of covpipe", file);
    memcpy(out->sha256, text + sizeof MAGIC - 1, 64);
    char schema[32];
    int n = snprintf(schema, sizeof schema, "schema %d\n", PART_SCHEMA);
    if (strncmp(at, schema, (size_t)n) != 0)
        return COV_FAIL(COV_FORMAT, "%s: a part of another schema than %d", file, PART_SCHEMA);
    at += n;
    for (int k = 0; k < HEAD_FIELDS; k++) {
        const field *f = &head_fields[k];
        const char *line = memchr(at, '\n', (size_t)(end - at));
        size_t name = strlen(f->name);
        if (!line || (size_t)(line - at) <= name || memcmp(at, f->name, name) != 0 || at[name] != ' ' ||
            !parse_value(f, at + name + 1, line, out))
            return COV_FAIL(COV_FORMAT, "%s: the head of the part has no sound '%s'", file, f->name);
        at = line + 1;
    }
    if (at != end || !head_is_sound(out))
        return COV_FAIL(COV_FORMAT, "%s: the head of the part contradicts itself", file);
    return COV_OK;
}

static status read_head(const char *file, int fd, char *text)
{
    size_t got = 0;
    while (got < PART_HEAD) {
        ssize_t n = pread(fd, text + got, PART_HEAD - got, (off_t)got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return COV_FAIL(COV_IO, "%s: cannot read: %s", file, strerror(errno));
        if (n == 0) return COV_FAIL(COV_FORMAT, "%s: too short for a part", file);
        got += (size_t)n;
    }
    return COV_OK;
}

status part_check(const char *file, part_head *out)
{
    char text[PART_HEAD];
    status s;
    memset(out, 0, sizeof *out);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return COV_FAIL(COV_IO, "%s: cannot open: %s", file, strerror(errno));
    COV_GO(read_head(file, fd, text));
    COV_GO(parse_head(file, text, out));
done:
    close(fd);
    return s;
}

/* SHA-256 of everything from byte FIRST to the end. */
static status digest_rest(const char *file, int fd, char hex[SHA256_HEX])
{
    enum { BLOCK = 1 << 18 };
    sha256 *h = NULL;
    off_t at = FIRST;
    status s;
    unsigned char *block = malloc(BLOCK);
    if (!block) {
        s = COV_FAIL(COV_NOMEM, "%s: no memory to digest it", file);
        goto done;
    }
    COV_GO(sha256_new(&h));
    for (;;) {
        ssize_t n = pread(fd, block, BLOCK, at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            s = COV_FAIL(COV_IO, "%s: cannot read: %s", file, strerror(errno));
            goto done;
        }
        if (n == 0) break;
        COV_GO(sha256_put(h, block, (size_t)n));
        at += n;
    }
    COV_GO(sha256_end(h, hex));
done:
    sha256_free(&h);
    free(block);
    return s;
}

status part_verify(const char *file)
{
    char text[PART_HEAD], hex[SHA256_HEX];
    part_head head;
    status s;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return COV_FAIL(COV_IO, "%s: cannot open: %s", file, strerror(errno));
    COV_GO(read_head(file, fd, text));
    COV_GO(parse_head(file, text, &head));
    COV_GO(digest_rest(file, fd, hex));
    if (strcmp(hex, head.sha256) != 0)
        s = COV_FAIL(COV_FORMAT, "%s: the part is damaged: its SHA-256 does not match", file);
done:
    close(fd);
    return s;
}

/* ---------------------------------------------------------------- writing */

/* Labels 0, 1, 2, and as many lung pixels in each slice as its row says. */
static status check_mask(const part_key *key, const study_result *r)
{
    size_t plane = (size_t)r->row.rows * (size_t)r->row.cols;
    for (int64_t z = 0; z < r->row.slices; z++) {
        const uint8_t *lung = r->lung + (size_t)z * plane;
        unsigned highest = 0, inside = 0;
        for (size_t k = 0; k < plane; k++) {
            highest = lung[k] > highest ? lung[k] : highest;
            inside += lung[k] != 0;
        }
        if (highest > 2) return COV_FAIL(COV_BROKEN, "%s: the lung mask holds the label %u", key->path, highest);
        if (r->slice_count && inside != (unsigned)r->slices[z].lung_px)
            return COV_FAIL(COV_BROKEN, "%s: slice %lld has %u lung pixels, its row says %d", key->path, (long long)z,
                            inside, r->slices[z].lung_px);
    }
    return COV_OK;
}

/* Rows of /lesion by z, and as many pixels of lesion in each slice, all within the lung, as its row and as they say. */
static status check_lesions(const part_key *key, const study_result *r)
{
    size_t plane = (size_t)r->row.rows * (size_t)r->row.cols;
    int64_t at = 0;
    if ((r->row.lesion_count >= 0) != (r->lesion != NULL) || (r->lesion_rows != 0) != (r->row.lesion_count > 0))
        return COV_FAIL(COV_BROKEN, "%s: %d lesions, %lld rows of them, %s mask", key->path, r->row.lesion_count,
                        (long long)r->lesion_rows, r->lesion ? "a" : "no");
    for (int64_t z = 0; r->lesion && z < r->row.slices; z++) {
        const uint16_t *lesion = r->lesion + (size_t)z * plane;
        const uint8_t *lung = r->lung + (size_t)z * plane;
        int64_t inside = 0, outside = 0, said = 0;
        for (size_t from = 0; from < plane; from += STRIP) {
            size_t end = plane - from < STRIP ? plane : from + STRIP;
            uint16_t any = 0;
            for (size_t k = from; k < end; k++) any |= lesion[k];
            for (size_t k = from; any && k < end; k++) {
                inside += lesion[k] != 0;
                outside += lesion[k] != 0 && (!lung[k] || lesion[k] > r->row.lesion_count);
            }
        }
        for (; at < r->lesion_rows && r->lesions[at].z == z; at++) said += r->lesions[at].area_px;
        if (outside || inside != said || inside != r->slices[z].lesion_px)
            return COV_FAIL(COV_BROKEN, "%s: slice %lld has %lld lesion pixels (%lld of them astray), its row says %d, "
                                        "rows of its lesions %lld", key->path, (long long)z, (long long)inside,
                            (long long)outside, r->slices[z].lesion_px, (long long)said);
    }
    if (at != r->lesion_rows)
        return COV_FAIL(COV_BROKEN, "%s: row %lld of the lesions is out of order", key->path, (long long)at);
    return COV_OK;
}

/* The head that goes with a result, and the row as it is stored. */
static status summarise(const part_key *key, const study_result *r, part_head *out, study_row *row)
{
    *row = r->row;
    *out = (part_head){.key = *key,
                       .status = row->status,
                       .reason = row->reason,
                       .rows = row->rows,
                       .cols = row->cols,
                       .slices = row->slices,
                       .slice_count = r->slice_count,
                       .lesion_rows = r->lesion_rows,
                       .has_lung = r->lung != NULL,
                       .has_lesion = r->lesion != NULL};
    char *key_sha = out->key.input_sha256;
    if (!key_sha[0]) memcpy(key_sha, row->input_sha256, SHA256_HEX);
    if (!row->input_sha256[0]) memcpy(row->input_sha256, key_sha, SHA256_HEX);
    if (strcmp(key_sha, row->input_sha256) != 0)
        return COV_FAIL(COV_BROKEN, "%s: key and row name different digests of the input", key->path);
    if (!head_is_sound(out) || row->status != (int32_t)reason_outcome((reason)row->reason))
        return COV_FAIL(
            COV_BROKEN, "%s: a result that contradicts itself: status %d, reason %d, %d x %d x %d, %lld slice rows",
            key->path, row->status, row->reason, row->slices, row->rows, row->cols, (long long)r->slice_count);
    if (r->lung) COV_TRY(check_mask(key, r));
    COV_TRY(check_lesions(key, r));
    return COV_OK;
}

static status write_columns(hid_t root, const char *file, const char *group, const column *columns, int count,
                            hsize_t rows, const void *records, size_t stride)
{
    char name[128];
    hid_t type = H5I_INVALID_HID, dataset = H5I_INVALID_HID;
    status s = COV_OK;
    for (int k = 0; k < count; k++) {
        h5_layout layout = column_layout(&columns[k], rows, 0);
        snprintf(name, sizeof name, "%s/%s", group, columns[k].name);
        H5_GO(COV_NOMEM, file, name, type = column_type(&columns[k]));
        COV_GO(h5_create_dataset(root, file, name, type, &layout, &dataset));
        COV_GO(column_write(dataset, file, &columns[k], 0, rows, records, stride, H5P_DEFAULT));
        h5_close(&dataset);
        h5_close(&type);
    }
done:
    h5_close(&dataset);
    h5_close(&type);
    return s;
}

static void mask_name(const part_head *h, study_mask m, char out[64])
{
    snprintf(out, 64, "mask/%dx%d/%s", h->rows, h->cols, columns_mask_name(m));
}

static h5_layout mask_layout(int64_t slices, int64_t rows, int64_t cols, study_mask m)
{
    return (h5_layout){.rank = 3,
                       .dims = {(hsize_t)slices, (hsize_t)rows, (hsize_t)cols},
                       .chunk = {(hsize_t)part_chunk_slices(rows, cols), (hsize_t)rows, (hsize_t)cols},
                       .deflate = DEFLATE,
                       .shuffle = columns_mask_bytes(m) > 1};
}

static status write_mask(hid_t root, const char *file, const part_head *h, study_mask m, const void *mask, int threads)
{
    char name[64];
    hid_t dataset = H5I_INVALID_HID;
    h5_layout layout = mask_layout(h->slices, h->rows, h->cols, m);
    status s;
    mask_name(h, m, name);
    COV_GO(h5_create_dataset(root, file, name, columns_mask_type(m), &layout, &dataset));
    COV_GO(chunks_write(dataset, file, name, &layout, columns_mask_bytes(m), mask, threads));
done:
    h5_close(&dataset);
    return s;
}

static status write_image(const char *file, const part_head *h, const study_row *row, const study_result *r)
{
    int count, slice_count, lesion_count;
    const column *columns = columns_study(&count), *slice = columns_slice(&slice_count),
                 *lesion = columns_lesion(&lesion_count);
    hid_t root = H5I_INVALID_HID;
    int threads = r->threads > 0 ? r->threads : 1;
    status s;
    COV_GO(h5_create_file(file, PART_HEAD, &root));
    COV_GO(write_columns(root, file, "study", columns, count, 1, row, sizeof *row));
    if (r->slice_count)
        COV_GO(write_columns(root, file, "slice", slice, slice_count, (hsize_t)r->slice_count, r->slices,
                             sizeof *r->slices));
    if (r->lesion_rows)
        COV_GO(write_columns(root, file, "lesion", lesion, lesion_count, (hsize_t)r->lesion_rows, r->lesions,
                             sizeof *r->lesions));
    if (r->lung) COV_GO(write_mask(root, file, h, STUDY_LUNG, r->lung, threads));
    if (r->lesion) COV_GO(write_mask(root, file, h, STUDY_LESION, r->lesion, threads));
    herr_t closed = H5Fclose(root);
    root = H5I_INVALID_HID;
    H5_GO(COV_IO, file, "close", closed);
done:
    h5_close(&root);
    return s;
}

/* Head first, digest of all of it last. */
static status write_head(const char *file, const part_head *h)
{
    char text[PART_HEAD], hex[SHA256_HEX];
    status s;
    int fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0) return COV_FAIL(COV_IO, "%s: cannot open: %s", file, strerror(errno));
    COV_GO(print_head(h, text));
    COV_GO(durable_put(file, fd, text, PART_HEAD, 0));
    COV_GO(digest_rest(file, fd, hex));
    COV_GO(durable_put(file, fd, hex, 64, sizeof MAGIC - 1));
done:
    close(fd);
    return s;
}

status part_write(const char *folder, const part_key *key, const study_result *result)
{
    char path[PATH_MAX], temporary[PATH_MAX], parent[PATH_MAX];
    part_head head;
    study_row row;
    status s;
    h5_quiet();
    COV_TRY(summarise(key, result, &head, &row));
    COV_TRY(part_name(folder, key, path, sizeof path));
    COV_TRY(durable_temporary(path, temporary, sizeof temporary));
    snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(path, '/') - path), path);
    COV_TRY(durable_folder(parent));
    COV_GO(write_image(temporary, &head, &row, result));
    COV_GO(write_head(temporary, &head));
    return durable_commit(temporary, path);
done:
    unlink(temporary);
    return s;
}

/* ---------------------------------------------------------------- reading */

status part_open(const char *file, int verify, part **out)
{
    status s = COV_OK;
    *out = NULL;
    h5_quiet();
    part *p = calloc(1, sizeof *p);
    if (!p) return COV_FAIL(COV_NOMEM, "%s: no memory", file);
    p->root = p->mask[STUDY_LUNG] = p->mask[STUDY_LESION] = H5I_INVALID_HID;
    if (strlen(file) >= sizeof p->file) {
        s = COV_FAIL(COV_USAGE, "%s: the path is too long", file);
        goto done;
    }
    memcpy(p->file, file, strlen(file) + 1);
    if (verify) COV_GO(part_verify(file));
    COV_GO(part_check(file, &p->head));
    COV_GO(h5_open_file(file, H5F_ACC_RDONLY, &p->root));
done:
    if (s == COV_OK) *out = p;
    else part_close(&p);
    return s;
}

void part_close(part **p)
{
    if (!p || !*p) return;
    for (int m = 0; m < STUDY_MASKS; m++) h5_close(&(*p)->mask[m]);
    h5_close(&(*p)->root);
    free(*p);
    *p = NULL;
}

const part_head *part_head_of(const part *p) { return &p->head; }

static status read_columns(const part *p, const char *group, const column *columns, int count, hsize_t rows,
                           void *records, size_t stride)
{
    hid_t dataset = H5I_INVALID_HID;
    status s = COV_OK;
    for (int k = 0; k < count; k++) {
        COV_GO(column_open(p->root, p->file, group, &columns[k], rows, &dataset));
        COV_GO(column_read(dataset, p->file, &columns[k], 0, rows, records, stride));
        h5_close(&dataset);
    }
done:
    h5_close(&dataset);
    return s;
}

status part_row(const part *p, study_row *out)
{
    int count;
    const column *columns = columns_study(&count);
    const part_head *h = &p->head;
    memset(out, 0, sizeof *out);
    COV_TRY(read_columns(p, "study", columns, count, 1, out, sizeof *out));
    if (out->status != h->status || out->reason != h->reason || out->rows != h->rows || out->cols != h->cols ||
        out->slices != h->slices || strcmp(out->input_sha256, h->key.input_sha256) != 0)
        return COV_FAIL(COV_FORMAT, "%s: head and row of the part contradict each other", p->file);
    return COV_OK;
}

status part_slices(const part *p, slice_row *out)
{
    int count;
    const column *columns = columns_slice(&count);
    hsize_t n = (hsize_t)p->head.slice_count;
    if (n == 0) return COV_OK;
    memset(out, 0, (size_t)n * sizeof *out);
    COV_TRY(read_columns(p, "slice", columns, count, n, out, sizeof *out));
    return COV_OK;
}

status part_lesions(const part *p, lesion_row *out)
{
    int count;
    const column *columns = columns_lesion(&count);
    hsize_t n = (hsize_t)p->head.lesion_rows;
    if (n == 0) return COV_OK;
    memset(out, 0, (size_t)n * sizeof *out);
    COV_TRY(read_columns(p, "lesion", columns, count, n, out, sizeof *out));
    return COV_OK;
}

/* The dataset must lie in the part as write_mask put it there, since its chunks are handed on as they are. */
static status open_mask(part *p, study_mask m)
{
    char name[64];
    h5_layout have;
    const part_head *h = &p->head;
    h5_layout want = mask_layout(h->slices, h->rows, h->cols, m);
    status s;
    if (p->mask[m] >= 0) return COV_OK;
    mask_name(h, m, name);
    COV_GO(h5_open_dataset(p->root, p->file, name, &p->mask[m], &have));
    COV_GO(h5_check_type(p->mask[m], p->file, name, columns_mask_type(m)));
    if (have.rank != 3 || memcmp(have.dims, want.dims, sizeof want.dims) != 0)
        s = COV_FAIL(COV_FORMAT, "%s: %s: not of the size that the head says", p->file, name);
    else if (memcmp(have.chunk, want.chunk, sizeof want.chunk) != 0 || !have.deflate || have.shuffle != want.shuffle || have.fletcher32)
        s = COV_FAIL(COV_FORMAT, "%s: %s: not packed as a part's masks are", p->file, name);
done:
    if (s != COV_OK) h5_close(&p->mask[m]);
    return s;
}

status part_mask(part *p, study_mask which, int64_t z0, int64_t count, void *out)
{
    char name[64];
    const part_head *h = &p->head;
    mask_name(h, which, name);
    if (!(which == STUDY_LESION ? h->has_lesion : h->has_lung) || z0 < 0 || count < 0 || z0 > h->slices - count)
        return COV_FAIL(COV_BROKEN, "%s: slices %lld + %lld of a mask of %d, %s", p->file, (long long)z0,
                        (long long)count, h->slices, name);
    COV_TRY(open_mask(p, which));
    COV_TRY(h5_rows_read(p->mask[which], p->file, name, columns_mask_type(which), (hsize_t)z0, (hsize_t)count, out));
    return COV_OK;
}

size_t part_chunk_room(int64_t rows, int64_t cols, study_mask which)
{
    h5_layout layout = mask_layout(0, rows, cols, which);
    return chunks_room(&layout, columns_mask_bytes(which));
}

status part_chunk(part *p, study_mask which, int64_t k, void *out, size_t *count)
{
    char name[64];
    const part_head *h = &p->head;
    h5_layout layout = mask_layout(h->slices, h->rows, h->cols, which);
    mask_name(h, which, name);
    if (!(which == STUDY_LESION ? h->has_lesion : h->has_lung) || k < 0 || k >= chunks_count(&layout))
        return COV_FAIL(COV_BROKEN, "%s: there is no chunk %lld of %s", p->file, (long long)k, name);
    COV_TRY(open_mask(p, which));
    COV_TRY(chunks_read(p->mask[which], p->file, name, &layout, columns_mask_bytes(which), k, out, count));
    *count = chunks_seal(out, *count);
    return COV_OK;
}

status part_chunk_empty(int64_t rows, int64_t cols, study_mask which, void *out, size_t *count)
{
    h5_layout layout = mask_layout(0, rows, cols, which);
    COV_TRY(chunks_empty("a mask", &layout, columns_mask_bytes(which), out, count));
    *count = chunks_seal(out, *count);
    return COV_OK;
}

/* Room for what the head promises. The product is bounded: head_is_sound. */
static status result_room(const char *file, const part_head *h, study_result *r)
{
    size_t voxels = (size_t)h->rows * (size_t)h->cols * (size_t)h->slices;
    r->slice_count = h->slice_count;
    r->lesion_rows = h->lesion_rows;
    if (h->slice_count) r->slices = calloc((size_t)h->slice_count, sizeof *r->slices);
    if (h->lesion_rows) r->lesions = calloc((size_t)h->lesion_rows, sizeof *r->lesions);
    if (h->has_lung) r->lung = malloc(voxels);
    if (h->has_lesion) r->lesion = malloc(voxels * sizeof *r->lesion);
    if ((h->slice_count && !r->slices) || (h->lesion_rows && !r->lesions) || (h->has_lung && !r->lung) ||
        (h->has_lesion && !r->lesion))
        return COV_FAIL(COV_NOMEM, "%s: no memory for its %zu voxels", file, voxels);
    return COV_OK;
}

status part_read(const char *file, part_key *key, study_result *result)
{
    part *p = NULL;
    status s;
    memset(result, 0, sizeof *result);
    COV_GO(part_open(file, 1, &p));
    const part_head *h = &p->head;
    if (key) *key = h->key;
    COV_GO(part_row(p, &result->row));
    COV_GO(result_room(file, h, result));
    COV_GO(part_slices(p, result->slices));
    COV_GO(part_lesions(p, result->lesions));
    if (h->has_lung) COV_GO(part_mask(p, STUDY_LUNG, 0, h->slices, result->lung));
    if (h->has_lesion) COV_GO(part_mask(p, STUDY_LESION, 0, h->slices, result->lesion));
done:
    part_close(&p);
    if (s != COV_OK) study_result_free(result);
    return s;
}

/* ---------------------------------------------------------------- pieces */

status part_pieces(const char *folder, char *out, size_t room)
{
    int n = snprintf(out, room, "%s/" PART_PIECES, folder);
    return n < 0 || (size_t)n >= room ? COV_FAIL(COV_USAGE, "%s: the path is too long", folder) : COV_OK;
}

static status piece_path(const char *folder, const part_key *key, char *out, size_t room)
{
    char pieces[PATH_MAX];
    COV_TRY(part_pieces(folder, pieces, sizeof pieces));
    return part_name(pieces, key, out, room);
}

/* The digest's 64 digits, then the bytes. */
status part_piece_write(const char *folder, const part_key *key, const void *bytes, size_t count)
{
    char path[PATH_MAX], parent[PATH_MAX], hex[SHA256_HEX];
    COV_TRY(piece_path(folder, key, path, sizeof path));
    COV_TRY(sha256_bytes(bytes, count, hex));
    snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(path, '/') - path), path);
    COV_TRY(durable_folder(parent));
    char *all = malloc(SHA256_HEX - 1 + count);
    if (!all) return COV_FAIL(COV_NOMEM, "%s: no memory for %zu bytes", path, count);
    memcpy(all, hex, SHA256_HEX - 1);
    memcpy(all + SHA256_HEX - 1, bytes, count);
    status s = durable_write(path, all, SHA256_HEX - 1 + count);
    free(all);
    return s;
}

status part_piece_read(const char *folder, const part_key *key, void **bytes, size_t *count)
{
    char path[PATH_MAX], hex[SHA256_HEX];
    struct stat about;
    char *all = NULL;
    status s = COV_OK;
    *bytes = NULL;
    COV_TRY(piece_path(folder, key, path, sizeof path));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return COV_FAIL(COV_IO, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fd, &about) != 0 || about.st_size < SHA256_HEX - 1)
        COV_GO(COV_FAIL(COV_FORMAT, "%s: too short for a piece", path));
    size_t n = (size_t)about.st_size;
    if (!(all = malloc(n + 1))) COV_GO(COV_FAIL(COV_NOMEM, "%s: no memory for %zu bytes", path, n));
    for (size_t got = 0; got < n;) {
        ssize_t k = read(fd, all + got, n - got);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0)
            COV_GO(COV_FAIL(COV_IO, "%s: cannot read: %s", path, k < 0 ? strerror(errno) : "it became shorter"));
        got += (size_t)k;
    }
    COV_GO(sha256_bytes(all + SHA256_HEX - 1, n - (SHA256_HEX - 1), hex));
    if (memcmp(hex, all, SHA256_HEX - 1) != 0)
        COV_GO(COV_FAIL(COV_FORMAT, "%s: the piece is damaged: its SHA-256 does not match", path));
    *count = n - (SHA256_HEX - 1);
    memmove(all, all + SHA256_HEX - 1, *count);
    *bytes = all;
    all = NULL;
done:
    free(all);
    close(fd);
    return s;
}

/* ---------------------------------------------------------------- a folder of parts */

static int is_hex(const char *text, size_t n) { return strspn(text, "0123456789abcdef") >= n; }

/* Calls `each` for every file in folder/xx; a folder that is not there has none. */
static status walk(const char *folder, status (*each)(void *context, const char *file, const char *name), void *context)
{
    char path[PATH_MAX];
    struct dirent *entry;
    status s = COV_OK;
    DIR *inner = NULL, *outer = opendir(folder);
    if (!outer && errno == ENOENT) return COV_OK;
    if (!outer) return COV_FAIL(COV_IO, "%s: cannot list: %s", folder, strerror(errno));
    while ((entry = readdir(outer))) {
        char group[3] = {0};
        if (strlen(entry->d_name) != 2 || !is_hex(entry->d_name, 2)) continue;
        memcpy(group, entry->d_name, 2);
        snprintf(path, sizeof path, "%s/%s", folder, group);
        if (!(inner = opendir(path))) {
            s = COV_FAIL(COV_IO, "%s: cannot list: %s", path, strerror(errno));
            goto done;
        }
        while ((entry = readdir(inner))) {
            int n = snprintf(path, sizeof path, "%s/%s/%s", folder, group, entry->d_name);
            if (n < (int)sizeof path) COV_GO(each(context, path, entry->d_name));
        }
        closedir(inner);
        inner = NULL;
    }
done:
    if (inner) closedir(inner);
    closedir(outer);
    return s;
}

typedef struct scanning {
    const char *folder;
    part_list *list;
    int64_t room;
} scanning;

static status scan_file(void *context, const char *file, const char *name)
{
    scanning *scan = context;
    part_list *list = scan->list;
    char expected[PATH_MAX];
    part_head head;
    if (strstr(name, DURABLE_MARK)) {
        list->temporary++;
        return COV_OK;
    }
    if (strlen(name) != 67 || !is_hex(name, 64) || strcmp(name + 64, ".h5") != 0) return COV_OK;
    status s = part_check(file, &head);
    if (s == COV_OK) s = part_name(scan->folder, &head.key, expected, sizeof expected);
    if (s != COV_OK || strcmp(expected, file) != 0) {
        list->damaged++;
        return COV_OK;
    }
    if (list->count == scan->room) {
        int64_t room = scan->room ? 2 * scan->room : 256;
        part_entry *more = realloc(list->entries, (size_t)room * sizeof *more);
        if (!more) return COV_FAIL(COV_NOMEM, "%s: no memory to list %lld parts", scan->folder, (long long)room);
        list->entries = more;
        scan->room = room;
    }
    char *copy = strdup(file);
    if (!copy) return COV_FAIL(COV_NOMEM, "%s: no memory to list the parts", scan->folder);
    list->entries[list->count++] = (part_entry){.file = copy, .head = head};
    return COV_OK;
}

static int by_path_and_unit(const void *a, const void *b)
{
    const part_key *x = &((const part_entry *)a)->head.key, *y = &((const part_entry *)b)->head.key;
    int order = strcmp(x->path, y->path);
    return order ? order : strcmp(x->unit, y->unit);
}

status part_scan(const char *folder, part_list *out)
{
    memset(out, 0, sizeof *out);
    scanning scan = {.folder = folder, .list = out};
    status s = walk(folder, scan_file, &scan);
    if (s != COV_OK) {
        part_list_free(out);
        return status_relay(s, __FILE__, __LINE__);
    }
    if (out->count) qsort(out->entries, (size_t)out->count, sizeof *out->entries, by_path_and_unit);
    return COV_OK;
}

void part_list_free(part_list *list)
{
    if (!list) return;
    for (int64_t k = 0; k < list->count; k++) free(list->entries[k].file);
    free(list->entries);
    memset(list, 0, sizeof *list);
}

static status sweep_file(void *context, const char *file, const char *name)
{
    (void)context;
    if (strstr(name, DURABLE_MARK) && unlink(file) != 0 && errno != ENOENT)
        return COV_FAIL(COV_IO, "%s: cannot remove: %s", file, strerror(errno));
    return COV_OK;
}

status part_sweep(const char *folder)
{
    COV_TRY(walk(folder, sweep_file, NULL));
    return COV_OK;
}

static status remove_file(void *context, const char *file, const char *name)
{
    (void)context, (void)name;
    unlink(file);
    return COV_OK;
}

void part_piece_remove(const char *folder, const part_key *key)
{
    char path[PATH_MAX / 2];
    if (key) {
        if (piece_path(folder, key, path, sizeof path) == COV_OK) unlink(path);
        return;
    }
    if (part_pieces(folder, path, sizeof path) != COV_OK || walk(path, remove_file, NULL) != COV_OK) status_clear();
}
