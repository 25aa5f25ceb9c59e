/* image: PNG through libpng, which reports errors by longjmp.
 *
 * The trap: after a longjmp, local variables changed since setjmp are lost. So everything that changes lives in
 * one struct that the caller owns, the two functions that call setjmp have no locals that change, and what they
 * opened is closed by their caller. */
#include "data/image.h"
#include "data/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MESSAGE = 128, DEFLATE_MOST = 1032 };

#define REFUSE(s, r, ...) (*why = REASON_##r, COV_FAIL(s, __VA_ARGS__))

typedef struct session {
    const char *path;
    FILE *file;
    int64_t file_bytes;
    png_structp png;
    png_infop info;
    jmp_buf escape;
    char message[MESSAGE];
    image found;
    int colour;
    bool palette; /* taken too: its indices */
    uint8_t *rows; /* the whole decoded image: an interlaced one needs all of it at once */
    size_t row_bytes;
} session;

static void on_error(png_structp png, png_const_charp text)
{
    session *s = png_get_error_ptr(png);
    const char *rest = strstr(text, ": "); /* after a chunk's name, which in a damaged file is four letters of anything */
    snprintf(s->message, sizeof s->message, "%s", rest ? rest + 2 : text);
    longjmp(s->escape, 1);
}

static void on_warning(png_structp png, png_const_charp text) { (void)png, (void)text; }

/* ---- reading ---- */

static void close_session(session *s)
{
    if (s->png) png_destroy_read_struct(&s->png, &s->info, NULL);
    if (s->file) fclose(s->file);
    free(s->rows);
}

static status open_session(const char *path, session *s, reason *why)
{
    struct stat st;
    memset(s, 0, sizeof *s);
    s->path = path;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return REFUSE(COV_IO, IO_ERROR, "%s: %s", path, strerror(errno));
    s->file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? fdopen(fd, "rb") : NULL;
    if (!s->file) {
        close(fd);
        return REFUSE(COV_IO, IO_ERROR, "%s: not a regular file", path);
    }
    s->file_bytes = st.st_size;
    s->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, s, on_error, on_warning);
    s->info = s->png ? png_create_info_struct(s->png) : NULL;
    if (!s->info) {
        close_session(s);
        return REFUSE(COV_NOMEM, TOO_LARGE, "%s: no memory for libpng", path);
    }
    return COV_OK;
}

/* False: libpng gave up, s->message says why. */
static bool decode_header(session *s)
{
    if (setjmp(s->escape)) return false;
    png_init_io(s->png, s->file);
    png_set_user_limits(s->png, IMAGE_SIDE_MOST, IMAGE_SIDE_MOST);
    png_set_keep_unknown_chunks(s->png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_read_info(s->png, s->info);
    s->found.rows = (int32_t)png_get_image_height(s->png, s->info);
    s->found.cols = (int32_t)png_get_image_width(s->png, s->info);
    s->found.bits = png_get_bit_depth(s->png, s->info);
    s->colour = png_get_color_type(s->png, s->info);
    if (s->found.bits < 8 && s->colour == PNG_COLOR_TYPE_PALETTE) png_set_packing(s->png);
    else if (s->found.bits < 8) png_set_expand_gray_1_2_4_to_8(s->png);
    if (s->found.bits == 16) png_set_swap(s->png); /* host order: little-endian */
    png_set_interlace_handling(s->png);
    png_read_update_info(s->png, s->info);
    s->row_bytes = png_get_rowbytes(s->png, s->info);
    return true;
}

static bool decode_rows(session *s, png_bytep *pointers)
{
    if (setjmp(s->escape)) return false;
    png_read_image(s->png, pointers);
    png_read_end(s->png, NULL);
    return true;
}

/* libpng stopped: because the file could not be read, because it ends, or for what libpng says. */
static status refuse_broken(session *s, const char *part, reason broken, reason *why)
{
    if (ferror(s->file)) return REFUSE(COV_IO, IO_ERROR, "%s: read error", s->path);
    if (feof(s->file)) return REFUSE(COV_FORMAT, TRUNCATED, "%s: the PNG ends in its %s", s->path, part);
    *why = broken;
    return COV_FAIL(COV_FORMAT, "%s: %s", s->path, s->message);
}

static status read_header(session *s, reason *why)
{
    unsigned char signature[8];
    size_t got = fread(signature, 1, 8, s->file);
    if (ferror(s->file)) return refuse_broken(s, "header", REASON_BAD_HEADER, why);
    if (got != 8) return REFUSE(COV_FORMAT, TRUNCATED, "%s: shorter than a PNG signature", s->path);
    if (png_sig_cmp(signature, 0, 8) != 0)
        return REFUSE(COV_FORMAT, BAD_HEADER, "%s: not a PNG, by its first 8 bytes", s->path);
    rewind(s->file);
    if (!decode_header(s)) return refuse_broken(s, "header", REASON_BAD_HEADER, why);
    if (s->colour != PNG_COLOR_TYPE_GRAY && !(s->palette && s->colour == PNG_COLOR_TYPE_PALETTE))
        return REFUSE(COV_UNSUPPORTED, NOT_3D, "%s: a colour, palette or alpha PNG (colour type %d), expected gray",
                      s->path, s->colour);
    size_t need = (size_t)s->found.rows * (size_t)s->found.cols * (size_t)s->found.bits / 8;
    if (need / DEFLATE_MOST > (size_t)s->file_bytes)
        return REFUSE(COV_FORMAT, TRUNCATED, "%s: %lld bytes cannot hold %d x %d pixels", s->path,
                      (long long)s->file_bytes, s->found.rows, s->found.cols);
    if (s->found.bits < 8) s->found.bits = 8;
    return COV_OK;
}

static status read_rows(session *s, reason *why)
{
    size_t rows = (size_t)s->found.rows, cols = (size_t)s->found.cols, bytes = s->found.bits == 16 ? 2 : 1;
    if (s->row_bytes != cols * bytes)
        return REFUSE(COV_BROKEN, INTERNAL, "%s: rows of %zu bytes", s->path, s->row_bytes);
    png_bytep *pointers = malloc(rows * sizeof *pointers);
    s->rows = malloc(rows * s->row_bytes);
    s->found.px = malloc(rows * cols * sizeof *s->found.px);
    if (!pointers || !s->rows || !s->found.px) {
        free(pointers);
        return REFUSE(COV_NOMEM, TOO_LARGE, "%s: no memory for %zu x %zu pixels", s->path, rows, cols);
    }
    for (size_t y = 0; y < rows; y++) pointers[y] = s->rows + y * s->row_bytes;
    bool whole = decode_rows(s, pointers);
    free(pointers);
    if (!whole) return refuse_broken(s, "image", REASON_CORRUPT, why);
    if (bytes == 2) memcpy(s->found.px, s->rows, rows * s->row_bytes);
    else
        for (size_t i = 0; i < rows * cols; i++) s->found.px[i] = s->rows[i];
    return COV_OK;
}

static status read_image(const char *path, image *out, bool with_pixels, bool palette, reason *why)
{
    session s;
    memset(out, 0, sizeof *out);
    *why = REASON_NONE;
    COV_TRY(open_session(path, &s, why));
    s.palette = palette;
    status result = read_header(&s, why);
    if (result == COV_OK && with_pixels) result = read_rows(&s, why);
    if (result == COV_OK) *out = s.found;
    else free(s.found.px);
    close_session(&s);
    return result;
}

status image_header(const char *path, image *out, reason *why) { return read_image(path, out, false, false, why); }
status image_read(const char *path, image *out, reason *why) { return read_image(path, out, true, false, why); }

void image_free(image *i)
{
    free(i->px);
    memset(i, 0, sizeof *i);
}

status image_read_float(const char *path, int32_t *rows, int32_t *cols, float **out)
{
    image i;
    reason why;
    *out = NULL;
    COV_TRY(image_read(path, &i, &why));
    size_t count = (size_t)i.rows * (size_t)i.cols;
    float *px = malloc(count * sizeof *px);
    for (size_t k = 0; px && k < count; k++) px[k] = i.px[k];
    *rows = i.rows;
    *cols = i.cols;
    *out = px;
    image_free(&i);
    return px ? COV_OK : COV_FAIL(COV_NOMEM, "%s: no memory for %zu pixels", path, count);
}

static status read_u8(const char *path, bool palette, int32_t *rows, int32_t *cols, uint8_t **out)
{
    image i;
    reason why;
    *out = NULL;
    COV_TRY(read_image(path, &i, true, palette, &why));
    if (i.bits != 8) {
        image_free(&i);
        return COV_FAIL(COV_UNSUPPORTED, "%s: 16 bits a pixel, expected 8", path);
    }
    size_t count = (size_t)i.rows * (size_t)i.cols;
    uint8_t *px = malloc(count);
    for (size_t k = 0; px && k < count; k++) px[k] = (uint8_t)i.px[k];
    *rows = i.rows;
    *cols = i.cols;
    *out = px;
    image_free(&i);
    return px ? COV_OK : COV_FAIL(COV_NOMEM, "%s: no memory for %zu pixels", path, count);
}

status image_read_u8(const char *path, int32_t *rows, int32_t *cols, uint8_t **out) { return read_u8(path, false, rows, cols, out); }
status image_read_classes(const char *path, int32_t *rows, int32_t *cols, uint8_t **out) { return read_u8(path, true, rows, cols, out); }

/* ---- writing ---- */

typedef struct sheet {
    int32_t rows, cols;
    int bits, channels;
    const uint8_t *px;
} sheet;

static bool encode(session *s, const sheet *p)
{
    if (setjmp(s->escape)) return false;
    png_init_io(s->png, s->file);
    png_set_IHDR(s->png, s->info, (png_uint_32)p->cols, (png_uint_32)p->rows, p->bits,
                 p->channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(s->png, s->info);
    if (p->bits == 16) png_set_swap(s->png);
    size_t row = (size_t)p->cols * (size_t)p->channels * (size_t)p->bits / 8;
    for (int32_t y = 0; y < p->rows; y++) png_write_row(s->png, p->px + (size_t)y * row);
    png_write_end(s->png, s->info);
    return true;
}

static status encode_file(session *w, const sheet *p)
{
    w->file = fopen(w->path, "wbe");
    if (!w->file) return COV_FAIL(COV_IO, "%s: cannot create: %s", w->path, strerror(errno));
    w->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, w, on_error, on_warning);
    w->info = w->png ? png_create_info_struct(w->png) : NULL;
    status s = COV_OK;
    if (!w->info) s = COV_FAIL(COV_NOMEM, "%s: no memory for libpng", w->path);
    else if (!encode(w, p)) s = COV_FAIL(COV_IO, "%s: %s", w->path, w->message);
    if (w->png) png_destroy_write_struct(&w->png, &w->info);
    if (fclose(w->file) != 0 && s == COV_OK) s = COV_FAIL(COV_IO, "%s: cannot write: %s", w->path, strerror(errno));
    return s;
}

static status write_sheet(const char *path, const sheet *p)
{
    char temporary[PATH_MAX];
    if (p->rows < 1 || p->cols < 1 || p->rows > 1 << 20 || p->cols > 1 << 20)
        return COV_FAIL(COV_USAGE, "%s: an image of %d x %d pixels", path, p->rows, p->cols);
    COV_TRY(durable_temporary(path, temporary, sizeof temporary));
    session w = {.path = temporary};
    status s = encode_file(&w, p);
    if (s != COV_OK) {
        unlink(temporary);
        return status_relay(s, __FILE__, __LINE__);
    }
    COV_TRY(durable_commit(temporary, path));
    return COV_OK;
}

status image_write_gray(const char *path, int32_t rows, int32_t cols, const uint8_t *px)
{
    return write_sheet(path, &(sheet){rows, cols, 8, 1, px});
}

status image_write_gray16(const char *path, int32_t rows, int32_t cols, const uint16_t *px)
{
    return write_sheet(path, &(sheet){rows, cols, 16, 1, (const uint8_t *)px});
}

status image_write_rgb(const char *path, int32_t rows, int32_t cols, const uint8_t *px)
{
    return write_sheet(path, &(sheet){rows, cols, 8, 3, px});
}
