/* weights: see weights.h. On disk (covpipe-weights-1):
 *   /            attributes format, model, preset, store, created, covpipe_version, sha256
 *   /names       the parameters' names in order; /param/<name> their values, four dimensions, not compressed
 *   /record      attributes: the texts
 *   /checkpoint  attributes step, split_sha256, sha256; arrays (their names) and data/<name>
 * float16 is HDF5's own kind of float (h5py reads it as such); bfloat16 is uint16 with an attribute saying so.
 * The trap: what is digested and returned are the values as stored, so rounding comes before both. */
#include "data/weights.h"

#include "base/size.h"
#include "base/str.h"
#include "data/durable.h"
#include "data/h5.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FORMAT "covpipe-weights-1"
enum { PARAMS_LIMIT = 1 << 14, ARRAYS_LIMIT = 1 << 12, PATH_ROOM = WEIGHTS_NAME + 32 };
static const char *const store_names[] = {"float32", "bfloat16", "float16"};
enum { STORES = sizeof store_names / sizeof store_names[0] };

/* ---------------------------------------------------------------- building */

status weights_new(const char *model, const char *preset, weights_file **out)
{
    *out = NULL;
    if (strlen(model) >= WEIGHTS_LABEL || strlen(preset) >= WEIGHTS_LABEL)
        return COV_FAIL(COV_USAGE, "weights: model '%s' or preset '%s' is too long a name", model, preset);
    weights_file *w = calloc(1, sizeof *w);
    if (!w) return COV_FAIL(COV_NOMEM, "weights: no memory");
    memcpy(w->model, model, strlen(model) + 1);
    memcpy(w->preset, preset, strlen(preset) + 1);
    *out = w;
    return COV_OK;
}

void weights_free(weights_file **at)
{
    if (!at || !*at) return;
    weights_file *w = *at;
    for (int k = 0; k < w->param_count; k++) free(w->params[k].values);
    for (int k = 0; k < w->text_count; k++) free(w->texts[k].text);
    for (int k = 0; k < w->array_count; k++) free(w->arrays[k].data);
    free(w->params);
    free(w->texts);
    free(w->arrays);
    free(w);
    *at = NULL;
}

/* Letters, digits, '_', '-', '.', and, if `slashes`, '/' between parts; no empty part, no "." or "..". */
static int name_is_good(const char *name, size_t room, int slashes)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    size_t n = strlen(name);
    if (n == 0 || n >= room) return 0;
    for (const char *part = name;; part++) {
        size_t k = strspn(part, letters);
        if (k == 0 || strspn(part, ".") == k) return 0;
        part += k;
        if (*part == 0) return 1;
        if (*part != '/' || !slashes) return 0;
    }
}

/* Room for one more element; the array doubles when its count is a power of two. */
static status grow(void **array, int count, int limit, size_t element)
{
    if (count >= limit) return COV_FAIL(COV_USAGE, "weights: more than %d entries", limit);
    if ((count & (count - 1)) != 0) return COV_OK;
    void *more = realloc(*array, (count ? 2 * (size_t)count : 1) * element);
    if (!more) return COV_FAIL(COV_NOMEM, "weights: no memory for %d entries", count + 1);
    *array = more;
    return COV_OK;
}

static status check_finite(const char *name, const float *values, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (!isfinite(values[k])) return COV_FAIL(COV_FORMAT, "weights: %s: value %zu is not finite", name, k);
    return COV_OK;
}

/* Appends a parameter with room for its values; the caller has checked the name's uniqueness or will. */
static status add_param(weights_file *w, const char *name, const int64_t shape[4], weights_param **out)
{
    size_t n, bytes;
    if (!name_is_good(name, WEIGHTS_NAME, 1))
        return COV_FAIL(COV_USAGE, "weights: '%s' is not a usable parameter name", name);
    if (weights_find_param(w, name)) return COV_FAIL(COV_USAGE, "weights: parameter '%s' is there twice", name);
    for (int k = 0; k < 4; k++)
        if (shape[k] < 1) return COV_FAIL(COV_USAGE, "weights: %s: dimension %d is %lld", name, k, (long long)shape[k]);
    if (!size_product(shape, 4, &n) || !size_mul(n, sizeof(float), &bytes))
        return COV_FAIL(COV_USAGE, "weights: %s: too many elements", name);
    COV_TRY(grow((void **)&w->params, w->param_count, PARAMS_LIMIT, sizeof *w->params));
    weights_param *p = &w->params[w->param_count];
    *p = (weights_param){.values = malloc(bytes)};
    if (!p->values) return COV_FAIL(COV_NOMEM, "weights: no memory for %s, %zu bytes", name, bytes);
    memcpy(p->name, name, strlen(name) + 1);
    memcpy(p->shape, shape, sizeof p->shape);
    w->param_count++;
    *out = p;
    return COV_OK;
}

static size_t param_elements(const weights_param *p)
{
    return (size_t)p->shape[0] * (size_t)p->shape[1] * (size_t)p->shape[2] * (size_t)p->shape[3];
}

status weights_put_param(weights_file *w, const char *name, const int64_t shape[4], const float *values)
{
    weights_param *p = NULL;
    COV_TRY(add_param(w, name, shape, &p));
    memcpy(p->values, values, param_elements(p) * sizeof(float));
    if (check_finite(name, values, param_elements(p)) != COV_OK) {
        free(p->values);
        w->param_count--;
        return status_relay(COV_USAGE, __FILE__, __LINE__);
    }
    return COV_OK;
}

/* Texts are kept sorted by name: HDF5 hands attributes out in that order, and the digest needs one order. */
status weights_put_text(weights_file *w, const char *name, const char *text)
{
    int at = 0;
    if (!name_is_good(name, WEIGHTS_LABEL, 0))
        return COV_FAIL(COV_USAGE, "weights: '%s' is not a usable text name", name);
    if (strlen(text) > WEIGHTS_TEXT_LIMIT)
        return COV_FAIL(COV_USAGE, "weights: text '%s' has %zu bytes, %d are allowed", name, strlen(text),
                        WEIGHTS_TEXT_LIMIT);
    char *copy = strdup(text);
    if (!copy) return COV_FAIL(COV_NOMEM, "weights: no memory for the text '%s'", name);
    while (at < w->text_count && strcmp(w->texts[at].name, name) < 0) at++;
    if (at < w->text_count && strcmp(w->texts[at].name, name) == 0) {
        free(w->texts[at].text);
        w->texts[at].text = copy;
        return COV_OK;
    }
    status s = grow((void **)&w->texts, w->text_count, ARRAYS_LIMIT, sizeof *w->texts);
    if (s != COV_OK) {
        free(copy);
        return status_relay(s, __FILE__, __LINE__);
    }
    memmove(&w->texts[at + 1], &w->texts[at], (size_t)(w->text_count - at) * sizeof *w->texts);
    w->texts[at] = (weights_text){.text = copy};
    memcpy(w->texts[at].name, name, strlen(name) + 1);
    w->text_count++;
    return COV_OK;
}

static size_t type_bytes(weights_type type) { return type == WEIGHTS_ARRAY_F32 ? 4 : type == WEIGHTS_ARRAY_U8 ? 1 : 8; }

static status add_array(weights_file *w, const char *name, weights_type type, int64_t count, weights_array **out)
{
    size_t bytes;
    if (!name_is_good(name, WEIGHTS_LABEL, 0))
        return COV_FAIL(COV_USAGE, "weights: '%s' is not a usable array name", name);
    if (weights_find_array(w, name)) return COV_FAIL(COV_USAGE, "weights: array '%s' is there twice", name);
    if ((unsigned)type > WEIGHTS_ARRAY_I64 || count < 0 || !size_mul((size_t)count, type_bytes(type), &bytes))
        return COV_FAIL(COV_USAGE, "weights: array '%s': type %d, %lld elements", name, (int)type, (long long)count);
    COV_TRY(grow((void **)&w->arrays, w->array_count, ARRAYS_LIMIT, sizeof *w->arrays));
    weights_array *a = &w->arrays[w->array_count];
    *a = (weights_array){.type = type, .count = count, .data = malloc(bytes ? bytes : 1)};
    if (!a->data) return COV_FAIL(COV_NOMEM, "weights: no memory for array '%s', %zu bytes", name, bytes);
    memcpy(a->name, name, strlen(name) + 1);
    w->array_count++;
    w->has_checkpoint = 1;
    *out = a;
    return COV_OK;
}

status weights_put_array(weights_file *w, const char *name, weights_type type, int64_t count, const void *data)
{
    weights_array *a = NULL;
    COV_TRY(add_array(w, name, type, count, &a));
    if (count) memcpy(a->data, data, (size_t)count * type_bytes(type));
    return COV_OK;
}

const weights_param *weights_find_param(const weights_file *w, const char *name)
{
    for (int k = 0; k < w->param_count; k++)
        if (strcmp(w->params[k].name, name) == 0) return &w->params[k];
    return NULL;
}

const weights_array *weights_find_array(const weights_file *w, const char *name)
{
    for (int k = 0; k < w->array_count; k++)
        if (strcmp(w->arrays[k].name, name) == 0) return &w->arrays[k];
    return NULL;
}

const char *weights_find_text(const weights_file *w, const char *name)
{
    for (int k = 0; k < w->text_count; k++)
        if (strcmp(w->texts[k].name, name) == 0) return w->texts[k].text;
    return NULL;
}

/* ---------------------------------------------------------------- 16-bit floats */

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* x is finite. Overflow gives infinity, which the caller refuses. */
static uint16_t bf16_from(float x)
{
    uint32_t u = bits_of(x);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

static float bf16_to(uint16_t h) { return float_of((uint32_t)h << 16); }

static uint16_t f16_from(float x)
{
    uint32_t sign = bits_of(x) >> 16 & 0x8000u;
    float a = fabsf(x);
    if (a >= 65520.0f) return (uint16_t)(sign | 0x7c00u);
    if (a < 6.103515625e-05f) /* subnormal in float16: multiples of 2^-24; lrintf rounds to nearest even */
        return (uint16_t)(sign | (uint32_t)lrintf(a * 16777216.0f));
    uint32_t u = bits_of(a);
    u += 0xfffu + (u >> 13 & 1);
    return (uint16_t)(sign | ((u >> 13) - (112u << 10)));
}

static float f16_to(uint16_t h)
{
    uint32_t exponent = h >> 10 & 31u, mantissa = h & 1023u;
    float a = exponent == 0    ? (float)mantissa * 5.9604644775390625e-08f
              : exponent == 31 ? (mantissa ? NAN : INFINITY)
                               : float_of((exponent + 112u) << 23 | mantissa << 13);
    return h & 0x8000u ? -a : a;
}

static void widen(weights_store store, const uint16_t *from, float *to, size_t n)
{
    for (size_t k = 0; k < n; k++) to[k] = store == WEIGHTS_BF16 ? bf16_to(from[k]) : f16_to(from[k]);
}

/* Rounds in place to what `store` can hold, and keeps the 16-bit form in `half` (NULL for float32). */
static status narrow(weights_store store, const char *name, float *values, uint16_t *half, size_t n)
{
    if (store == WEIGHTS_F32) return COV_OK;
    for (size_t k = 0; k < n; k++) half[k] = store == WEIGHTS_BF16 ? bf16_from(values[k]) : f16_from(values[k]);
    widen(store, half, values, n);
    if (check_finite(name, values, n) != COV_OK)
        return COV_FAIL(COV_USAGE, "weights: %s: too large a value for %s", name, store_names[store]);
    return COV_OK;
}

/* The type on disk, in which memory holds it too (hosts are little-endian). */
static hid_t disk_type(weights_store store)
{
    if (store == WEIGHTS_F32) return H5Tcopy(H5T_IEEE_F32LE);
    if (store == WEIGHTS_BF16) return H5Tcopy(H5T_STD_U16LE);
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    if (H5Tset_fields(type, 15, 10, 5, 0, 10) < 0 || H5Tset_size(type, 2) < 0 || H5Tset_ebias(type, 15) < 0)
        h5_close(&type);
    return type;
}

/* ---------------------------------------------------------------- digests */

static status put_string(sha256 *h, const char *text)
{
    COV_TRY(sha256_put(h, text, strlen(text) + 1));
    return COV_OK;
}

static status digest_weights(const weights_file *w, char hex[SHA256_HEX])
{
    sha256 *h = NULL;
    status s;
    COV_GO(sha256_new(&h));
    COV_GO(put_string(h, FORMAT));
    COV_GO(put_string(h, w->model));
    COV_GO(put_string(h, w->preset));
    for (int k = 0; k < w->text_count; k++) {
        COV_GO(put_string(h, w->texts[k].name));
        COV_GO(put_string(h, w->texts[k].text));
    }
    for (int k = 0; k < w->param_count; k++) {
        const weights_param *p = &w->params[k];
        COV_GO(put_string(h, p->name));
        COV_GO(sha256_put(h, p->shape, sizeof p->shape));
        COV_GO(sha256_put(h, p->values, param_elements(p) * sizeof(float)));
    }
    COV_GO(sha256_end(h, hex));
done:
    sha256_free(&h);
    return s;
}

static status digest_checkpoint(const weights_file *w, char hex[SHA256_HEX])
{
    sha256 *h = NULL;
    status s;
    COV_GO(sha256_new(&h));
    COV_GO(sha256_put(h, &w->step, sizeof w->step));
    COV_GO(put_string(h, w->split_sha256));
    for (int k = 0; k < w->array_count; k++) {
        const weights_array *a = &w->arrays[k];
        COV_GO(put_string(h, a->name));
        COV_GO(sha256_put(h, &a->count, sizeof a->count));
        COV_GO(sha256_put(h, a->data, (size_t)a->count * type_bytes(a->type)));
    }
    COV_GO(sha256_end(h, hex));
done:
    sha256_free(&h);
    return s;
}

/* ---------------------------------------------------------------- saving */

/* `names` (count of them, `stride` bytes apart) as one dataset of fixed-length text. */
static status save_names(hid_t at, const char *file, const char *name, const char *names, size_t stride, int count,
                         size_t room)
{
    hid_t type = H5I_INVALID_HID, dataset = H5I_INVALID_HID;
    h5_layout layout = {.rank = 1, .dims = {(hsize_t)count}};
    status s = COV_OK;
    char *packed = calloc((size_t)count + 1, room);
    if (!packed) {
        s = COV_FAIL(COV_NOMEM, "%s: no memory for %d names", file, count);
        goto done;
    }
    for (int k = 0; k < count; k++) memcpy(packed + (size_t)k * room, names + (size_t)k * stride, room);
    H5_GO(COV_NOMEM, file, name, type = h5_text_type(room));
    COV_GO(h5_create_dataset(at, file, name, type, &layout, &dataset));
    if (count) COV_GO(h5_rows_write(dataset, file, name, type, 0, (hsize_t)count, packed, H5P_DEFAULT));
done:
    h5_close(&dataset);
    h5_close(&type);
    free(packed);
    return s;
}

static status save_param(hid_t root, const char *file, weights_file *w, weights_param *p)
{
    char path[PATH_ROOM];
    hid_t type = H5I_INVALID_HID, dataset = H5I_INVALID_HID;
    size_t n = param_elements(p);
    h5_layout layout = {.rank = 4};
    uint16_t *half = NULL;
    status s = COV_OK;
    snprintf(path, sizeof path, "param/%s", p->name);
    for (int k = 0; k < 4; k++) layout.dims[k] = (hsize_t)p->shape[k];
    if (w->store != WEIGHTS_F32 && !(half = malloc(n * sizeof *half))) {
        s = COV_FAIL(COV_NOMEM, "%s: no memory for %s", file, path);
        goto done;
    }
    COV_GO(check_finite(p->name, p->values, n));
    COV_GO(narrow(w->store, p->name, p->values, half, n));
    H5_GO(COV_NOMEM, file, path, type = disk_type(w->store));
    COV_GO(h5_create_dataset(root, file, path, type, &layout, &dataset));
    if (w->store == WEIGHTS_BF16) COV_GO(h5_put_text(dataset, file, "encoding", "bfloat16"));
    COV_GO(h5_rows_write(dataset, file, path, type, 0, layout.dims[0], half ? (void *)half : p->values, H5P_DEFAULT));
done:
    h5_close(&dataset);
    h5_close(&type);
    free(half);
    return s;
}

static hid_t array_type(weights_type type)
{
    return type == WEIGHTS_ARRAY_F32 ? H5T_IEEE_F32LE : type == WEIGHTS_ARRAY_U8 ? H5T_STD_U8LE : H5T_STD_I64LE;
}

static status save_checkpoint(hid_t root, const char *file, const weights_file *w)
{
    char path[PATH_ROOM], hex[SHA256_HEX];
    hid_t group = H5I_INVALID_HID, dataset = H5I_INVALID_HID;
    status s;
    COV_GO(digest_checkpoint(w, hex));
    H5_GO(COV_IO, file, "checkpoint", group = H5Gcreate2(root, "checkpoint", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    COV_GO(h5_put_value(group, file, "step", H5T_STD_I64LE, &w->step));
    COV_GO(h5_put_text(group, file, "split_sha256", w->split_sha256));
    COV_GO(h5_put_text(group, file, "sha256", hex));
    COV_GO(save_names(group, file, "arrays", w->array_count ? w->arrays->name : "", sizeof *w->arrays, w->array_count,
                      WEIGHTS_LABEL));
    for (int k = 0; k < w->array_count; k++) {
        const weights_array *a = &w->arrays[k];
        h5_layout layout = {.rank = 1, .dims = {(hsize_t)a->count}};
        snprintf(path, sizeof path, "data/%s", a->name);
        COV_GO(h5_create_dataset(group, file, path, array_type(a->type), &layout, &dataset));
        if (a->count)
            COV_GO(h5_rows_write(dataset, file, path, array_type(a->type), 0, layout.dims[0], a->data, H5P_DEFAULT));
        h5_close(&dataset);
    }
done:
    h5_close(&dataset);
    h5_close(&group);
    return s;
}

static status save_record(hid_t root, const char *file, const weights_file *w)
{
    status s = COV_OK;
    hid_t group = H5I_INVALID_HID;
    H5_GO(COV_IO, file, "record", group = H5Gcreate2(root, "record", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    for (int k = 0; k < w->text_count; k++) COV_GO(h5_put_text(group, file, w->texts[k].name, w->texts[k].text));
done:
    h5_close(&group);
    return s;
}

static void now_text(char out[32])
{
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

static status save_all(hid_t root, const char *file, weights_file *w)
{
    for (int k = 0; k < w->param_count; k++) COV_TRY(save_param(root, file, w, &w->params[k]));
    COV_TRY(save_names(root, file, "names", w->param_count ? w->params->name : "", sizeof *w->params, w->param_count,
                       WEIGHTS_NAME));
    COV_TRY(save_record(root, file, w));
    if (w->has_checkpoint) COV_TRY(save_checkpoint(root, file, w));
    COV_TRY(digest_weights(w, w->sha256)); /* after save_param has rounded */
    COV_TRY(h5_put_text(root, file, "format", FORMAT));
    COV_TRY(h5_put_text(root, file, "model", w->model));
    COV_TRY(h5_put_text(root, file, "preset", w->preset));
    COV_TRY(h5_put_text(root, file, "store", store_names[w->store]));
    COV_TRY(h5_put_text(root, file, "created", w->created));
    COV_TRY(h5_put_text(root, file, "covpipe_version", w->version));
    COV_TRY(h5_put_text(root, file, "sha256", w->sha256));
    return COV_OK;
}

status weights_save(const char *path, weights_file *w)
{
    char temporary[PATH_MAX];
    hid_t root = H5I_INVALID_HID;
    status s;
    h5_quiet();
    if ((unsigned)w->store >= STORES) return COV_FAIL(COV_USAGE, "%s: no such storage type: %d", path, (int)w->store);
    COV_TRY(durable_temporary(path, temporary, sizeof temporary));
    now_text(w->created);
    str_utf8(w->version, sizeof w->version, COVPIPE_VERSION);
    COV_GO(h5_create_file(temporary, 0, &root));
    COV_GO(save_all(root, temporary, w));
    H5_GO(COV_IO, temporary, "flush", H5Fflush(root, H5F_SCOPE_GLOBAL));
    herr_t closed = H5Fclose(root);
    root = H5I_INVALID_HID;
    H5_GO(COV_IO, temporary, "close", closed);
    return durable_commit(temporary, path);
done:
    h5_close(&root);
    unlink(temporary);
    return s;
}

/* ---------------------------------------------------------------- loading */

/* What is still allowed to be allocated: datasets lie uncompressed and apart, so together they fit in the file. */
typedef struct loader {
    const char *file;
    hid_t root;
    size_t budget;
} loader;

/* Opens a dataset of `rank` dimensions that is stored plainly, and takes its bytes from the budget. */
static status open_plain(loader *l, hid_t at, const char *name, hid_t type, int rank, hid_t *dataset, h5_layout *layout)
{
    size_t bytes;
    status s;
    COV_GO(h5_open_dataset(at, l->file, name, dataset, layout));
    COV_GO(h5_check_type(*dataset, l->file, name, type));
    bytes = H5Tget_size(type);
    if (layout->rank != rank || layout->chunk[0]) {
        s = COV_FAIL(COV_FORMAT, "%s: %s: expected %d dimensions, not compressed", l->file, name, rank);
        goto done;
    }
    for (int k = 0; k < rank; k++)
        if (!size_mul(bytes, (size_t)layout->dims[k], &bytes)) bytes = SIZE_MAX;
    if (bytes > l->budget || (rank > 0 && layout->dims[0] > INT64_MAX)) {
        s = COV_FAIL(COV_FORMAT, "%s: %s: says it is larger than the file", l->file, name);
        goto done;
    }
    l->budget -= bytes;
done:
    if (s != COV_OK) h5_close(dataset);
    return s;
}

/* Reads a list of names, each `room` bytes and NUL-terminated. Caller frees. */
static status load_names(loader *l, hid_t at, const char *name, size_t room, int limit, char **out, int *count)
{
    hid_t type = H5I_INVALID_HID, dataset = H5I_INVALID_HID;
    h5_layout layout;
    status s = COV_OK;
    *out = NULL;
    *count = 0;
    H5_GO(COV_NOMEM, l->file, name, type = h5_text_type(room));
    COV_GO(open_plain(l, at, name, type, 1, &dataset, &layout));
    if (layout.dims[0] > (hsize_t)limit) {
        s = COV_FAIL(COV_FORMAT, "%s: %s: %llu entries, %d are allowed", l->file, name,
                     (unsigned long long)layout.dims[0], limit);
        goto done;
    }
    if (!(*out = calloc((size_t)layout.dims[0] + 1, room))) {
        s = COV_FAIL(COV_NOMEM, "%s: no memory for names", l->file);
        goto done;
    }
    COV_GO(h5_rows_read(dataset, l->file, name, type, 0, layout.dims[0], *out));
    *count = (int)layout.dims[0];
    for (int k = 0; k < *count; k++) (*out)[(size_t)(k + 1) * room - 1] = 0;
done:
    if (s != COV_OK) {
        free(*out);
        *out = NULL;
    }
    h5_close(&dataset);
    h5_close(&type);
    return s;
}

static status load_param(loader *l, weights_file *w, const char *name)
{
    char path[PATH_ROOM];
    hid_t type = H5I_INVALID_HID, dataset = H5I_INVALID_HID;
    h5_layout layout;
    weights_param *p = NULL;
    uint16_t *half = NULL;
    int64_t shape[4];
    status s = COV_OK;
    snprintf(path, sizeof path, "param/%s", name);
    H5_GO(COV_NOMEM, l->file, path, type = disk_type(w->store));
    COV_GO(open_plain(l, l->root, path, type, 4, &dataset, &layout));
    for (int k = 0; k < 4; k++) shape[k] = (int64_t)layout.dims[k];
    COV_GO(add_param(w, name, shape, &p));
    size_t n = param_elements(p);
    if (w->store == WEIGHTS_F32) {
        COV_GO(h5_rows_read(dataset, l->file, path, type, 0, layout.dims[0], p->values));
    } else {
        if (!(half = malloc(n * sizeof *half))) {
            s = COV_FAIL(COV_NOMEM, "%s: no memory for %s", l->file, path);
            goto done;
        }
        COV_GO(h5_rows_read(dataset, l->file, path, type, 0, layout.dims[0], half));
        widen(w->store, half, p->values, n);
    }
    COV_GO(check_finite(name, p->values, n));
done:
    free(half);
    h5_close(&dataset);
    h5_close(&type);
    return s;
}

static status load_params(loader *l, weights_file *w)
{
    char *names = NULL;
    int count;
    status s;
    COV_GO(load_names(l, l->root, "names", WEIGHTS_NAME, PARAMS_LIMIT, &names, &count));
    for (int k = 0; k < count; k++) COV_GO(load_param(l, w, names + (size_t)k * WEIGHTS_NAME));
done:
    free(names);
    return s;
}

static status load_record(loader *l, weights_file *w)
{
    hid_t group = H5I_INVALID_HID;
    char name[WEIGHTS_LABEL], *text = NULL;
    H5O_info_t info;
    status s = COV_OK;
    if (!h5_has(l->root, "record")) return COV_FAIL(COV_FORMAT, "%s: the group 'record' is missing", l->file);
    H5_GO(COV_FORMAT, l->file, "record", group = H5Gopen2(l->root, "record", H5P_DEFAULT));
    H5_GO(COV_FORMAT, l->file, "record", H5Oget_info2(group, &info, H5O_INFO_NUM_ATTRS));
    if (info.num_attrs > ARRAYS_LIMIT) {
        s = COV_FAIL(COV_FORMAT, "%s: record: too many attributes", l->file);
        goto done;
    }
    for (hsize_t k = 0; k < info.num_attrs; k++) {
        ssize_t n = H5Aget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, k, name, sizeof name, H5P_DEFAULT);
        H5_GO(COV_FORMAT, l->file, "record", n);
        if (n >= (ssize_t)sizeof name) {
            s = COV_FAIL(COV_FORMAT, "%s: record: a name is too long", l->file);
            goto done;
        }
        COV_GO(h5_get_text(group, l->file, name, WEIGHTS_TEXT_LIMIT, &text));
        COV_GO(weights_put_text(w, name, text));
        free(text);
        text = NULL;
    }
done:
    free(text);
    h5_close(&group);
    return s;
}

static status load_array(loader *l, hid_t group, weights_file *w, const char *name)
{
    char path[PATH_ROOM];
    hid_t dataset = H5I_INVALID_HID, have = H5I_INVALID_HID;
    h5_layout layout;
    weights_array *a = NULL;
    weights_type type = WEIGHTS_ARRAY_F32;
    status s;
    snprintf(path, sizeof path, "data/%s", name);
    COV_GO(h5_open_dataset(group, l->file, path, &dataset, &layout));
    H5_GO(COV_FORMAT, l->file, path, have = H5Dget_type(dataset));
    while (type < WEIGHTS_ARRAY_I64 && H5Tequal(have, array_type(type)) <= 0) type++;
    h5_close(&dataset);
    COV_GO(open_plain(l, group, path, array_type(type), 1, &dataset, &layout));
    COV_GO(add_array(w, name, type, (int64_t)layout.dims[0], &a));
    COV_GO(h5_rows_read(dataset, l->file, path, array_type(type), 0, layout.dims[0], a->data));
done:
    h5_close(&have);
    h5_close(&dataset);
    return s;
}

static status load_checkpoint(loader *l, weights_file *w)
{
    char *names = NULL, stored[SHA256_HEX], hex[SHA256_HEX];
    hid_t group = H5I_INVALID_HID;
    int count;
    status s = COV_OK;
    H5_GO(COV_FORMAT, l->file, "checkpoint", group = H5Gopen2(l->root, "checkpoint", H5P_DEFAULT));
    COV_GO(h5_get_int(group, l->file, "step", &w->step));
    COV_GO(h5_get_text_into(group, l->file, "split_sha256", w->split_sha256, sizeof w->split_sha256));
    COV_GO(h5_get_text_into(group, l->file, "sha256", stored, sizeof stored));
    COV_GO(load_names(l, group, "arrays", WEIGHTS_LABEL, ARRAYS_LIMIT, &names, &count));
    for (int k = 0; k < count; k++) COV_GO(load_array(l, group, w, names + (size_t)k * WEIGHTS_LABEL));
    w->has_checkpoint = 1;
    COV_GO(digest_checkpoint(w, hex));
    if (strcmp(hex, stored) != 0)
        s = COV_FAIL(COV_FORMAT, "%s: the checkpoint is damaged: its SHA-256 does not match", l->file);
done:
    free(names);
    h5_close(&group);
    return s;
}

static status load_all(loader *l, weights_file *w)
{
    char text[WEIGHTS_LABEL], hex[SHA256_HEX];
    int store = 0;
    COV_TRY(h5_get_text_into(l->root, l->file, "format", text, sizeof text));
    if (strcmp(text, FORMAT) != 0) return COV_FAIL(COV_FORMAT, "%s: format '%s', expected '" FORMAT "'", l->file, text);
    COV_TRY(h5_get_text_into(l->root, l->file, "model", w->model, sizeof w->model));
    COV_TRY(h5_get_text_into(l->root, l->file, "preset", w->preset, sizeof w->preset));
    COV_TRY(h5_get_text_into(l->root, l->file, "created", w->created, sizeof w->created));
    COV_TRY(h5_get_text_into(l->root, l->file, "covpipe_version", w->version, sizeof w->version));
    COV_TRY(h5_get_text_into(l->root, l->file, "sha256", w->sha256, sizeof w->sha256));
    COV_TRY(h5_get_text_into(l->root, l->file, "store", text, sizeof text));
    while (store < STORES && strcmp(text, store_names[store]) != 0) store++;
    if (store == STORES) return COV_FAIL(COV_FORMAT, "%s: store '%s' is none that is known", l->file, text);
    w->store = (weights_store)store;
    COV_TRY(load_record(l, w));
    COV_TRY(load_params(l, w));
    if (h5_has(l->root, "checkpoint")) COV_TRY(load_checkpoint(l, w));
    COV_TRY(digest_weights(w, hex));
    if (strcmp(hex, w->sha256) != 0)
        return COV_FAIL(COV_FORMAT, "%s: the weights are damaged: their SHA-256 does not match", l->file);
    return COV_OK;
}

status weights_load(const char *path, weights_file **out)
{
    loader l = {.file = path, .root = H5I_INVALID_HID};
    struct stat about;
    status s;
    *out = NULL;
    h5_quiet();
    COV_GO(weights_new("", "", out));
    COV_GO(h5_open_file(path, H5F_ACC_RDONLY, &l.root));
    if (stat(path, &about) != 0) {
        s = COV_FAIL(COV_IO, "%s: cannot stat", path);
        goto done;
    }
    l.budget = (size_t)about.st_size;
    s = load_all(&l, *out);
    if (s == COV_USAGE) s = COV_FORMAT; /* a bad name or shape is the file's fault here */
    if (s != COV_OK) status_relay(s, __FILE__, __LINE__);
done:
    h5_close(&l.root);
    if (s != COV_OK) weights_free(out);
    return s;
}
