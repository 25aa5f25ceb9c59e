/* archive: walks a folder tree and makes the list of its studies.
 *
 * The walk keeps a stack of folders instead of recursing or holding folders open, and one arena of strings, so that a
 * million studies take some 150 MB. What must not happen is that a study is found twice or depends on the order in
 * which a file system lists names: names are sorted folder by folder, entries once more at the end, and a symbolic
 * link counts only where the walk would not come to its target by itself. Names that begin with a dot are left
 * out, as shells do: .git, .snapshot and ._ct.nii.gz are no studies. */
#include "data/archive.h"
#include "base/str.h"
#include "data/csv.h"
#include "data/reader.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ARENA_CHUNK = 256 * 1024, FOLDER_FORMATS = 8, PROGRESS_EVERY = 1024, FULL_PATH = 2 * ARCHIVE_PATH_MOST };

typedef struct chunk {
    struct chunk *next;
    size_t used, room;
    char bytes[];
} chunk;

/* A folder still to be looked at. `real` is `rel`, unless a link led here. */
typedef struct pending {
    char *rel, *real; /* owned */
    int depth;
    bool linked;
} pending;

typedef struct folder_key {
    dev_t dev;
    ino_t ino;
} folder_key;

typedef struct tally {
    const char *format;
    int32_t files;
} tally;

typedef struct walker {
    archive *a;
    const archive_options *o;
    size_t entry_room;
    pending *stack;
    size_t pending_count, pending_room;
    folder_key *linked; /* folders reached through links, each once */
    size_t linked_count, linked_room;
    str errors;
    int64_t files, folders;
    bool explicit_list; /* listed paths: no de-duplication of links, no recursion */
    char real_root[PATH_MAX];
    char full[FULL_PATH], scratch[PATH_MAX];
} walker;

/* ---- memory ---- */

static const char *keep(walker *w, const char *text)
{
    size_t n = strlen(text) + 1;
    chunk *c = w->a->arena;
    if (!c || c->room - c->used < n) {
        size_t room = n > ARENA_CHUNK ? n : ARENA_CHUNK;
        c = malloc(sizeof *c + room);
        if (!c) return NULL;
        *c = (chunk){.next = w->a->arena, .room = room};
        w->a->arena = c;
    }
    char *to = c->bytes + c->used;
    memcpy(to, text, n);
    c->used += n;
    return to;
}

static status no_memory(const walker *w)
{
    return COV_FAIL(COV_NOMEM, "%s: no memory for the list of studies", w->a->root);
}

/* Room for one more element; items stays valid on failure. */
static bool grow(void **items, size_t count, size_t *room, size_t bytes)
{
    if (count < *room) return true;
    size_t more = *room ? 2 * *room : 64;
    void *p = realloc(*items, more * bytes);
    if (!p) return false;
    *items = p;
    *room = more;
    return true;
}

/* ---- names ---- */

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void error_at(walker *w, const char *rel, const char *text)
{
    if (w->a->errors++ >= ARCHIVE_ERRORS_KEPT) return;
    char shown[1024];
    str_shown(shown, sizeof shown, *rel ? rel : ".");
    str_putf(&w->errors, "%s: %s\n", shown, text);
}

/* The system refused: what is gone or goes in a circle is no study, anything else may be one. */
static void refused_at(walker *w, const char *rel, int why)
{
    w->a->unreadable += why != ENOENT && why != ENOTDIR && why != ELOOP;
    error_at(w, rel, strerror(why));
}

/* A pattern without a slash is also tried on the last name alone. */
static bool matches(const char *const *patterns, int count, const char *rel)
{
    for (int i = 0; i < count; i++)
        if (fnmatch(patterns[i], rel, 0) == 0 ||
            (!strchr(patterns[i], '/') && fnmatch(patterns[i], last_name(rel), 0) == 0))
            return true;
    return false;
}

static bool excluded(const walker *w, const char *rel)
{
    return w->o && matches(w->o->exclude, w->o->exclude_count, rel);
}

static bool selected(const walker *w, const char *rel)
{
    if (excluded(w, rel)) return false;
    return !w->o || w->o->include_count == 0 || matches(w->o->include, w->o->include_count, rel);
}

/* Bytes of root/rel in w->full; false if it does not fit. */
static bool set_full(walker *w, const char *rel)
{
    int n = snprintf(w->full, sizeof w->full, "%s/%s", w->a->root, rel);
    return n > 0 && (size_t)n < sizeof w->full && strlen(rel) < ARCHIVE_PATH_MOST;
}

/* A file or folder that the walk comes to by this name: no part of it hidden, no folder of it excluded. */
static bool is_walked(const walker *w, const char *rel, bool file)
{
    char part[ARCHIVE_PATH_MOST];
    if (strlen(rel) >= sizeof part || rel[0] == '.' || strstr(rel, "/.")) return false;
    for (const char *slash = strchr(rel, '/'); slash; slash = strchr(slash + 1, '/')) {
        memcpy(part, rel, (size_t)(slash - rel));
        part[slash - rel] = 0;
        if (excluded(w, part)) return false;
    }
    return file ? selected(w, rel) : !excluded(w, rel);
}

/* ---- entries ---- */

static status add_entry(walker *w, const char *rel, const char *folder_format, const tally *t)
{
    archive *a = w->a;
    char id[STUDY_ID], shown[ARCHIVE_PATH_MOST];
    if (strlen(rel) >= STUDY_PATH) { /* it would fit no part and no table */
        a->unreadable++;
        error_at(w, rel, "a study whose path is too long (1023 bytes at most): not screened");
        return COV_OK;
    }
    if (!grow((void **)&a->entries, (size_t)a->count, &w->entry_room, sizeof *a->entries)) return no_memory(w);
    /* Of the very files that a reader will take for the study: patterns choose studies, not slices of one. */
    reader_look look;
    bool fits = set_full(w, rel);
    if (!fits || reader_look_at(w->full, &look) != COV_OK) {
        a->unreadable++;
        error_at(w, rel, fits ? status_message() : "its path is too long");
        return COV_OK;
    }
    COV_TRY(archive_id(rel, folder_format, w->o ? w->o->id_key : NULL, id));
    str_shown(shown, sizeof shown, rel);
    archive_entry e = {.format = t->format, .bytes = look.bytes, .mtime_ns = look.mtime_ns, .stamp = look.stamp,
                       .files = t->files};
    e.path = keep(w, rel);
    e.shown = e.path && strcmp(shown, rel) == 0 ? e.path : keep(w, shown);
    e.id = keep(w, id);
    if (!e.path || !e.shown || !e.id) return no_memory(w);
    a->entries[a->count++] = e;
    return COV_OK;
}

static void add_to_tally(tally *tallies, const char *format)
{
    int k = 0;
    while (k < FOLDER_FORMATS - 1 && tallies[k].format && tallies[k].format != format) k++;
    tallies[k].format = format;
    tallies[k].files++;
}

/* A regular file at w->full. `real` differs from rel where a link led to it. */
static status visit_file(walker *w, const char *rel, const char *real, tally *tallies)
{
    if (++w->files % PROGRESS_EVERY == 0 && w->o && w->o->progress)
        w->o->progress(w->o->progress_with, w->files, w->folders);
    errno = 0;
    const reader *r = selected(w, rel) ? reader_for(w->full) : NULL;
    if (!r && errno) {
        refused_at(w, rel, errno);
        return COV_OK;
    }
    if (!r) {
        w->a->ignored++;
        return COV_OK;
    }
    if (!w->explicit_list && strcmp(rel, real) != 0 && is_walked(w, real, true)) {
        char here[FULL_PATH];
        memcpy(here, w->full, sizeof here);
        bool known = set_full(w, real) && reader_for(w->full);
        memcpy(w->full, here, sizeof here);
        if (known) {
            w->a->special++;
            return COV_OK;
        }
    }
    if (r->claims(w->full) == 2) return COV_OK; /* it counts with its header */
    if (r->per_folder) {
        add_to_tally(tallies, r->format);
        return COV_OK;
    }
    return add_entry(w, rel, NULL, &(tally){r->format, 1});
}

/* ---- folders and links ---- */

static status push(walker *w, const char *rel, const char *real, int depth, const struct stat *st, bool linked)
{
    if (excluded(w, rel)) return COV_OK;
    if (depth > ARCHIVE_DEPTH) {
        w->a->unreadable++;
        error_at(w, rel, "deeper than 256 folders: not looked into");
        return COV_OK;
    }
    for (size_t i = 0; linked && i < w->linked_count; i++)
        if (w->linked[i].dev == st->st_dev && w->linked[i].ino == st->st_ino) {
            w->a->special++;
            return COV_OK;
        }
    if (linked && !grow((void **)&w->linked, w->linked_count, &w->linked_room, sizeof *w->linked)) return no_memory(w);
    if (linked) w->linked[w->linked_count++] = (folder_key){st->st_dev, st->st_ino};
    if (!grow((void **)&w->stack, w->pending_count, &w->pending_room, sizeof *w->stack)) return no_memory(w);
    pending p = {strdup(rel), strdup(real), depth, linked};
    if (!p.rel || !p.real) {
        free(p.rel);
        free(p.real);
        return no_memory(w);
    }
    w->stack[w->pending_count++] = p;
    return COV_OK;
}

/* Resolves w->full: the path relative to the root (in w->scratch); NULL if it leads outside (errno 0) or nowhere. */
static const char *real_path(walker *w)
{
    size_t root = strlen(w->real_root);
    if (!realpath(w->full, w->scratch)) return NULL;
    errno = 0;
    if (strncmp(w->scratch, w->real_root, root) != 0) return NULL;
    if (root == 1) return w->scratch + 1; /* the root is "/" */
    return w->scratch[root] == '/' ? w->scratch + root + 1 : w->scratch[root] == 0 ? w->scratch + root : NULL;
}

static status visit_link(walker *w, const char *rel, int depth, tally *tallies)
{
    struct stat st;
    char real[PATH_MAX];
    const char *found = real_path(w);
    if (!found || stat(w->full, &st) != 0) {
        if (errno && errno != ENOENT && errno != ELOOP && errno != ENOTDIR) refused_at(w, rel, errno);
        else error_at(w, rel, "a link that leads out of the archive, in a circle or nowhere: not followed");
        return COV_OK;
    }
    strcpy(real, found);
    if (S_ISREG(st.st_mode)) return visit_file(w, rel, real, tallies);
    if (S_ISDIR(st.st_mode) && *real) return push(w, rel, real, depth + 1, &st, true);
    w->a->special++; /* back to the root, or a device */
    return COV_OK;
}

static status visit_name(walker *w, const pending *p, const char *name, tally *tallies)
{
    char rel[ARCHIVE_PATH_MOST], real[ARCHIVE_PATH_MOST];
    struct stat st;
    int n = snprintf(rel, sizeof rel, "%s%s%s", p->rel, *p->rel ? "/" : "", name);
    int m = snprintf(real, sizeof real, "%s%s%s", p->real, *p->real ? "/" : "", name);
    if (n < 0 || m < 0 || n >= (int)sizeof rel || m >= (int)sizeof real || !set_full(w, rel)) {
        w->a->unreadable++;
        error_at(w, p->rel, "holds a name that makes the path too long");
        return COV_OK;
    }
    if (lstat(w->full, &st) != 0) {
        refused_at(w, rel, errno);
        return COV_OK;
    }
    if (S_ISLNK(st.st_mode)) return visit_link(w, rel, p->depth, tallies);
    if (S_ISREG(st.st_mode)) return visit_file(w, rel, real, tallies);
    if (S_ISDIR(st.st_mode)) return w->explicit_list ? COV_OK : push(w, rel, real, p->depth + 1, &st, p->linked);
    w->a->special++;
    return COV_OK;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Names of the folder at w->full, sorted, dot names counted and left out. COV_IO leaves errno's text in the trace. */
static status list_names(walker *w, char ***names, size_t *count)
{
    size_t room = 0;
    status s = COV_OK;
    *names = NULL;
    *count = 0;
    DIR *d = opendir(w->full);
    if (!d) return COV_FAIL(COV_IO, "%s", strerror(errno));
    errno = 0;
    for (struct dirent *e; s == COV_OK && (e = readdir(d)); errno = 0) {
        if (e->d_name[0] == '.') {
            w->a->ignored += e->d_type == DT_REG;
            continue;
        }
        char *copy = grow((void **)names, *count, &room, sizeof **names) ? strdup(e->d_name) : NULL;
        if (copy) (*names)[(*count)++] = copy;
        else s = no_memory(w);
    }
    if (s == COV_OK && errno) s = COV_FAIL(COV_IO, "%s", strerror(errno));
    closedir(d);
    if (*count) qsort(*names, *count, sizeof **names, by_bytes);
    return s;
}

static status visit_folder(walker *w, const pending *p)
{
    char **names = NULL;
    size_t count = 0;
    tally tallies[FOLDER_FORMATS] = {{0}};
    w->folders++;
    if (!set_full(w, p->rel)) return COV_OK; /* its path was checked when it was pushed */
    status s = list_names(w, &names, &count);
    if (s == COV_IO) { /* what was listed before the error still counts */
        w->a->unreadable++;
        error_at(w, p->rel, status_message());
        s = p->depth == 0 && !count ? COV_FAIL(COV_IO, "%s: cannot list the folder: %s", w->a->root, status_message())
                                    : COV_OK;
    }
    for (size_t i = 0; s == COV_OK && i < count; i++) s = visit_name(w, p, names[i], tallies);
    /* A folder is one study, of the format that its reader will take it for. */
    errno = 0;
    const reader *whole = tallies[0].format && set_full(w, p->rel) ? reader_for(w->full) : NULL;
    if (!whole && errno) {
        refused_at(w, p->rel, errno);
        tallies[0].format = NULL;
    }
    for (int k = 0; s == COV_OK && k < FOLDER_FORMATS && tallies[k].format; k++) {
        if (whole && tallies[k].format == whole->format) s = add_entry(w, *p->rel ? p->rel : ".", tallies[k].format, &tallies[k]);
        else w->a->ignored += tallies[k].files;
    }
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
    return s;
}

static status walk_tree(walker *w)
{
    struct stat st = {0};
    COV_TRY(push(w, "", "", 0, &st, false));
    while (w->pending_count) {
        pending p = w->stack[--w->pending_count];
        status s = visit_folder(w, &p);
        free(p.rel);
        free(p.real);
        if (s != COV_OK) return status_relay(s, __FILE__, __LINE__);
    }
    return COV_OK;
}

/* ---- one file, and lists ---- */

/* A path that was named: a file, or a folder whose own slices are meant. rel is free of "..". */
static status visit_named(walker *w, const char *rel)
{
    struct stat st;
    tally tallies[FOLDER_FORMATS] = {{0}};
    if (!set_full(w, rel) || stat(w->full, &st) != 0) {
        refused_at(w, rel, errno);
        return COV_OK;
    }
    if (w->explicit_list && !real_path(w)) {
        error_at(w, rel, "listed, but a link leads out of the archive");
        return COV_OK;
    }
    if (S_ISDIR(st.st_mode)) {
        /* Only what counts by folder: volumes in it have paths of their own. */
        pending p = {(char *)(strcmp(rel, ".") == 0 ? "" : rel), (char *)rel, 1, false};
        int64_t before = w->a->count;
        COV_TRY(visit_folder(w, &p));
        int64_t kept = before;
        for (int64_t i = before; i < w->a->count; i++)
            if (reader_named(w->a->entries[i].format)->per_folder) w->a->entries[kept++] = w->a->entries[i];
        w->a->count = kept;
        if (kept == before) error_at(w, rel, "a folder without slices of its own");
        return COV_OK;
    }
    if (!S_ISREG(st.st_mode)) {
        w->a->special++;
        return COV_OK;
    }
    COV_TRY(visit_file(w, rel, rel, tallies));
    if (!tallies[0].format) return COV_OK;
    char folder[ARCHIVE_PATH_MOST] = ".";
    if (strchr(rel, '/')) snprintf(folder, sizeof folder, "%.*s", (int)(last_name(rel) - rel - 1), rel);
    return add_entry(w, folder, tallies[0].format, &tallies[0]);
}

/* A listed path, made relative: "./" and the root's own name in front are taken off. */
static status visit_listed(walker *w, const char *line)
{
    size_t root = strlen(w->a->root);
    char rel[ARCHIVE_PATH_MOST];
    if (strncmp(line, w->a->root, root) == 0 && line[root] == '/') line += root + 1;
    while (strncmp(line, "./", 2) == 0) line += 2;
    size_t n = strlen(line);
    while (n > 1 && line[n - 1] == '/') n--;
    if (n == 0) return COV_OK;
    if (line[0] == '/' || n >= sizeof rel) {
        error_at(w, line, "listed, but not a path below the archive");
        return COV_OK;
    }
    memcpy(rel, line, n);
    rel[n] = 0;
    if (strcmp(rel, "..") == 0 || strncmp(rel, "../", 3) == 0 || strstr(rel, "/../") ||
        (n > 2 && strcmp(rel + n - 3, "/..") == 0)) {
        error_at(w, rel, "listed, but '..' may lead out of the archive");
        return COV_OK;
    }
    return visit_named(w, rel);
}

static status visit_lines(walker *w, const csv *table, int column)
{
    for (size_t r = 0; r < table->rows; r++) COV_TRY(visit_listed(w, csv_get(table, r, column)));
    return COV_OK;
}

/* A CSV where the first line has a field `path`; else one path a line. */
static status walk_list(walker *w)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    csv *table = NULL;
    status s = COV_OK;
    int column = -1;
    FILE *f = fopen(w->o->list, "re");
    if (!f) return COV_FAIL(COV_IO, "%s: %s", w->o->list, strerror(errno));
    w->explicit_list = true;
    n = getline(&line, &room, f);
    if (n > 0 && csv_parse(w->o->list, line, (size_t)n, &table) == COV_OK) column = csv_column(table, "path");
    csv_free(&table);
    if (column >= 0) {
        COV_GO(csv_read(w->o->list, &table));
        COV_GO(visit_lines(w, table, column));
    }
    for (; column < 0 && n > 0; n = getline(&line, &room, f)) {
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
        COV_GO(visit_listed(w, line));
    }
done:
    csv_free(&table);
    free(line);
    fclose(f);
    return s;
}

/* ---- the end ---- */

static int by_path(const void *a, const void *b)
{
    const archive_entry *x = a, *y = b;
    int order = strcmp(x->path, y->path);
    return order ? order : strcmp(x->format, y->format);
}

static void sort_entries(archive *a)
{
    int64_t kept = 0;
    if (a->count) qsort(a->entries, (size_t)a->count, sizeof *a->entries, by_path);
    for (int64_t i = 0; i < a->count; i++) /* a list may name a study twice */
        if (!kept || by_path(&a->entries[kept - 1], &a->entries[i]) != 0) a->entries[kept++] = a->entries[i];
    a->count = kept;
}

static int by_id(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static status check_ids(walker *w)
{
    archive *a = w->a;
    if (!a->count) return COV_OK;
    const char **ids = malloc((size_t)a->count * sizeof *ids);
    if (!ids) return no_memory(w);
    for (int64_t i = 0; i < a->count; i++) ids[i] = a->entries[i].id;
    qsort(ids, (size_t)a->count, sizeof *ids, by_id);
    status s = COV_OK;
    for (int64_t i = 1; s == COV_OK && i < a->count; i++)
        if (strcmp(ids[i], ids[i - 1]) == 0)
            s = COV_FAIL(COV_BROKEN, "%s: two studies have the id %s", a->root, ids[i]);
    free(ids);
    return s;
}

/* Sets the root; *file is the name in it where a single file was given, else NULL. */
static status set_root(walker *w, const char *root, const char **file)
{
    struct stat st;
    *file = NULL;
    if (stat(root, &st) != 0) return COV_FAIL(COV_IO, "%s: %s", root, strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) return COV_FAIL(COV_IO, "%s: neither a folder nor a file", root);
    size_t n = strlen(root);
    while (n > 1 && root[n - 1] == '/') n--;
    if (S_ISREG(st.st_mode)) {
        *file = last_name(root);
        n = (size_t)(*file - root);
        while (n > 1 && root[n - 1] == '/') n--;
    }
    w->a->root = n ? strndup(root, n) : strdup(".");
    if (!w->a->root) return COV_FAIL(COV_NOMEM, "%s: no memory", root);
    if (!realpath(w->a->root, w->real_root)) return COV_FAIL(COV_IO, "%s: %s", root, strerror(errno));
    return COV_OK;
}

static status walk(walker *w, const char *root)
{
    const char *file;
    COV_TRY(set_root(w, root, &file));
    if (w->o && w->o->list) COV_TRY(walk_list(w));
    else if (file) COV_TRY(visit_named(w, file));
    else COV_TRY(walk_tree(w));
    sort_entries(w->a);
    COV_TRY(check_ids(w));
    if (w->errors.failed) return no_memory(w);
    w->a->error_text = strdup(str_text(&w->errors));
    return w->a->error_text ? COV_OK : no_memory(w);
}

status archive_walk(const char *root, const archive_options *options, archive **out)
{
    *out = NULL;
    walker *w = calloc(1, sizeof *w);
    archive *a = calloc(1, sizeof *a);
    if (!w || !a) {
        free(w);
        free(a);
        return COV_FAIL(COV_NOMEM, "%s: no memory", root);
    }
    w->a = a;
    w->o = options;
    status s = walk(w, root);
    for (size_t i = 0; i < w->pending_count; i++) {
        free(w->stack[i].rel);
        free(w->stack[i].real);
    }
    free(w->stack);
    free(w->linked);
    str_free(&w->errors);
    free(w);
    if (s == COV_OK) *out = a;
    else archive_free(&a);
    if (s != COV_OK) return status_relay(s, __FILE__, __LINE__);
    return COV_OK;
}

void archive_free(archive **a)
{
    if (!a || !*a) return;
    for (chunk *c = (*a)->arena, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free((*a)->root);
    free((*a)->entries);
    free((*a)->error_text);
    free(*a);
    *a = NULL;
}

status archive_full_path(const archive *a, const archive_entry *e, char *out, size_t room)
{
    int n =
        strcmp(e->path, ".") == 0 ? snprintf(out, room, "%s", a->root) : snprintf(out, room, "%s/%s", a->root, e->path);
    if (n < 0 || (size_t)n >= room) return COV_FAIL(COV_USAGE, "%s: the path is too long", e->shown);
    return COV_OK;
}
