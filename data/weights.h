/* weights: trained parameters in one HDF5 file, and what a training needs to go on from it.
 *
 * A weights_file is arrays in memory, nothing more: data/ knows no nets. Build one with weights_new and the put
 * functions (which copy), or weights_load it. On disk: one dataset a parameter, "/param/<name>" ('/' in the name makes
 * groups), float32 or, by `store`, bfloat16 or float16; text records as attributes of /record; the optional
 * checkpoint under /checkpoint. The content's SHA-256 is stored and verified on loading. All functions are local. */
#ifndef COV_DATA_WEIGHTS_H
#define COV_DATA_WEIGHTS_H
#include "base/sha256.h"
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

enum { WEIGHTS_NAME = 128, WEIGHTS_LABEL = 64, WEIGHTS_TEXT_LIMIT = 60000 };

/* How parameters lie on disk. Loading gives exactly the stored values; BF16 and F16 round to nearest even when saved.
 */
typedef enum weights_store { WEIGHTS_F32, WEIGHTS_BF16, WEIGHTS_F16 } weights_store;
typedef enum weights_type { WEIGHTS_ARRAY_F32, WEIGHTS_ARRAY_U8, WEIGHTS_ARRAY_I64 } weights_type;

typedef struct weights_param {
    char name[WEIGHTS_NAME]; /* letters, digits, '_' '-' '.' and '/' between non-empty parts; unique */
    int64_t shape[4];        /* all positive; as tensor_shape n h w c */
    float *values;           /* owned; product of shape, all finite */
} weights_param;

typedef struct weights_text {
    char name[WEIGHTS_LABEL];
    char *text; /* owned; UTF-8, at most WEIGHTS_TEXT_LIMIT bytes */
} weights_text;

typedef struct weights_array {
    char name[WEIGHTS_LABEL]; /* unique; "m", "v", "rng", "losses", ... */
    weights_type type;
    int64_t count; /* elements; may be 0 */
    void *data;    /* owned */
} weights_array;

typedef struct weights_file {
    char model[WEIGHTS_LABEL];  /* "lung-axial", "lung-sagittal", ... */
    char preset[WEIGHTS_LABEL]; /* "paper", "compact" */
    weights_store store;
    int param_count;
    weights_param *params; /* owned; in the order they were put */
    int text_count;
    weights_text *texts; /* owned; training record, data, licence note, fusion weight, ... */
    int has_checkpoint;  /* the three below count */
    int64_t step;
    char split_sha256[SHA256_HEX]; /* digest of the split trained on; "" if none */
    int array_count;
    weights_array *arrays; /* owned */
    /* Filled by weights_save and weights_load; the caller leaves them alone. */
    char sha256[SHA256_HEX]; /* of model, preset, texts and parameters as stored: the identity of these weights */
    char created[32];        /* 2026-01-31T12:00:00Z */
    char version[32];        /* of the covpipe that wrote it */
} weights_file;

/* Caller frees *out with weights_free, which accepts NULL. */
status weights_new(const char *model, const char *preset, weights_file **out);
void weights_free(weights_file **w);

/* Each copies. COV_USAGE on a bad or repeated name (texts: replaces), a value that is not finite, a text too long. */
status weights_put_param(weights_file *w, const char *name, const int64_t shape[4], const float *values);
status weights_put_text(weights_file *w, const char *name, const char *text);
/* Also sets has_checkpoint. */
status weights_put_array(weights_file *w, const char *name, weights_type type, int64_t count, const void *data);

/* Borrowed; NULL if there is none. */
const weights_param *weights_find_param(const weights_file *w, const char *name);
const weights_array *weights_find_array(const weights_file *w, const char *name);
const char *weights_find_text(const weights_file *w, const char *name);

/* Writes a temporary file beside path, fsyncs, renames over path, fsyncs the folder: a kill at any instant leaves the
 * old file or the new one. Rounds w's parameters to `store` in place, so that memory and file agree; sets sha256. */
status weights_save(const char *path, weights_file *w);
/* COV_IO: not there or unreadable. COV_FORMAT: not a weights file, damaged (digest), or hostile (sizes). */
status weights_load(const char *path, weights_file **out);
#endif
