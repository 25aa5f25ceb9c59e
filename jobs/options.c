/* options: parser, help, manual and records, all from the tables in options.h. The trap is a second list of
 * anything: add an option in the table and nowhere else. */
#include "jobs/options.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum kind { TEXT, INT, REAL, FLAG, LIST } kind;

typedef struct option_entry {
    const char *name;
    kind kind;
    const char *fallback, *value, *help;
    int jobs;
    option_effect effect;
    size_t offset;
} option_entry;

static const option_entry option_table[] = {
#define X(field, name, KIND, fallback, value, jobs, effect, help)                                                      \
    {name, KIND, fallback, value, help, jobs, EFFECT_##effect, offsetof(options, field)},
    OPTIONS(X)
#undef X
};
enum { OPTION_COUNT = sizeof option_table / sizeof option_table[0] };

typedef struct job_entry {
    const char *name, *words;
    int least, most;
    const char *help;
} job_entry;
static const job_entry job_table[] = {
#define X(NAME, name, words, least, most, help) {name, words, least, most, help},
    JOBS(X)
#undef X
};

static void *field_of(options *o, const option_entry *e) { return (char *)o + e->offset; }
static const void *field_in(const options *o, const option_entry *e) { return (const char *)o + e->offset; }

const char *options_job_name(job j) { return job_table[j].name; }

static status set_value(options *o, const option_entry *e, const char *text)
{
    void *field = field_of(o, e);
    switch (e->kind) {
    case TEXT: *(const char **)field = text; return COV_OK;
    case FLAG: *(int *)field = text[0] == '1'; return COV_OK;
    case INT:
        if (!str_to_int(text, field)) return COV_FAIL(COV_USAGE, "--%s %s: expected a whole number", e->name, text);
        return COV_OK;
    case REAL:
        if (!str_to_double(text, field)) return COV_FAIL(COV_USAGE, "--%s %s: expected a number", e->name, text);
        return COV_OK;
    case LIST: {
        option_list *list = field;
        const char **items = realloc(list->items, sizeof *items * (size_t)(list->count + 1));
        if (!items) return COV_FAIL(COV_NOMEM, "no memory for --%s", e->name);
        list->items = items;
        list->items[list->count++] = text;
        return COV_OK;
    }
    }
    return COV_FAIL(COV_BROKEN, "option --%s has no kind", e->name);
}

/* How many letters two names differ by, for "did you mean". */
static int distance(const char *a, const char *b)
{
    enum { MOST = 24 };
    int la = (int)strlen(a), lb = (int)strlen(b), row[MOST + 1];
    if (la > MOST || lb > MOST) return MOST;
    for (int j = 0; j <= lb; j++) row[j] = j;
    for (int i = 1; i <= la; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= lb; j++) {
            int up = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            if (up + 1 < best) best = up + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
            diagonal = up;
        }
    }
    return row[lb];
}

static status unknown_option(job j, const char *name)
{
    const char *nearest = NULL;
    int best = 4;
    for (int k = 0; k < OPTION_COUNT; k++) {
        int d = distance(name, option_table[k].name);
        if (d < best && option_table[k].jobs & (1 << j)) { best = d; nearest = option_table[k].name; }
    }
    const char *job_name = job_table[j].name, *gap = *job_name ? " " : "";
    if (nearest)
        return COV_FAIL(COV_USAGE, "--%s: no such option; did you mean --%s? (covpipe%s%s --help)", name, nearest, gap, job_name);
    return COV_FAIL(COV_USAGE, "--%s: no such option (covpipe%s%s --help lists them)", name, gap, job_name);
}

/* One "--name", "--name value" or "--name=value" at argv[*k]. */
static status parse_option(int argc, char **argv, int *k, options *o)
{
    const char *word = argv[*k] + 2, *equals = strchr(word, '=');
    size_t length = equals ? (size_t)(equals - word) : strlen(word);
    for (int i = 0; i < OPTION_COUNT; i++) {
        const option_entry *e = &option_table[i];
        if (strlen(e->name) != length || strncmp(e->name, word, length) != 0) continue;
        if (!(e->jobs & (1 << o->job)))
            return COV_FAIL(COV_USAGE, "--%s is not an option of `covpipe%s%s` (see its --help)", e->name,
                            *job_table[o->job].name ? " " : "", job_table[o->job].name);
        if (e->kind == FLAG) {
            if (equals) return COV_FAIL(COV_USAGE, "--%s takes no value", e->name);
            return set_value(o, e, "1");
        }
        if (equals) return set_value(o, e, equals + 1);
        if (*k + 1 >= argc) return COV_FAIL(COV_USAGE, "--%s needs a value: --%s %s", e->name, e->name, e->value);
        return set_value(o, e, argv[++*k]);
    }
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(length < 60 ? length : 60), word);
    return unknown_option(o->job, name);
}

static status find_job(int argc, char **argv, options *o, int *first)
{
    *first = 1;
    o->job = JOB_SCREEN;
    if (argc < 2 || argv[1][0] == '-') return COV_OK;
    for (int j = 1; j < JOB_COUNT; j++)
        if (strcmp(argv[1], job_table[j].name) == 0) {
            o->job = (job)j;
            *first = 2;
            return COV_OK;
        }
    return COV_FAIL(COV_USAGE, "%s: no such job; to screen a folder type `covpipe --archive %s` (covpipe --help lists the jobs)",
                    argv[1], argv[1]);
}

status options_parse(int argc, char **argv, options *o)
{
    int first;
    memset(o, 0, sizeof *o);
    COV_TRY(find_job(argc, argv, o, &first));
    for (int i = 0; i < OPTION_COUNT; i++)
        if (option_table[i].kind != LIST) COV_TRY(set_value(o, &option_table[i], option_table[i].fallback));
    for (int k = first; k < argc; k++) {
        if (strcmp(argv[k], "-h") == 0) { o->help = 1; continue; }
        if (strncmp(argv[k], "--", 2) == 0 && argv[k][2]) { COV_TRY(parse_option(argc, argv, &k, o)); continue; }
        if (o->word_count >= job_table[o->job].most)
            return COV_FAIL(COV_USAGE, "%s: one word too many for `covpipe%s%s`", argv[k], *job_table[o->job].name ? " " : "",
                            job_table[o->job].name);
        o->words[o->word_count++] = argv[k];
    }
    if (!o->help && !o->version && o->word_count < job_table[o->job].least)
        return COV_FAIL(COV_USAGE, "`covpipe %s` needs %s", job_table[o->job].name, job_table[o->job].words);
    return COV_OK;
}

void options_free(options *o)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (option_table[i].kind == LIST) {
            option_list *list = field_of(o, &option_table[i]);
            free(list->items);
            *list = (option_list){0};
        }
}

static void help_option(str *to, const option_entry *e)
{
    char left[40];
    snprintf(left, sizeof left, "--%s %s", e->name, e->value);
    str_putf(to, "  %-24s %s", left, e->help);
    bool told = e->kind != FLAG && e->kind != LIST && e->fallback[0] && strcmp(e->fallback, "0") != 0 && strcmp(e->fallback, "-1") != 0;
    if (told) str_putf(to, " [%s]", e->fallback);
    str_put(to, "\n");
}

static void help_general(str *to)
{
    str_put(to, "covpipe " COVPIPE_VERSION ": screens an archive of chest CT for COVID-19 lesions. Research use only.\n\n"
                "  covpipe --archive DIR [--out cohort.h5]     screen an archive; run again to resume\n");
    for (int j = 1; j < JOB_COUNT; j++) {
        char left[48];
        snprintf(left, sizeof left, "covpipe %s %s", job_table[j].name, job_table[j].words);
        str_putf(to, "  %-43s %s\n", left, job_table[j].help);
    }
    str_put(to, "\nExamples\n"
                "  covpipe --archive cohort/                            on a laptop\n"
                "  srun --mpi=pmix covpipe --archive cohort/ --out c.h5 on a cluster: every rank takes its share\n"
                "  covpipe inspect c.h5 --csv > table.csv               the figures, for a spreadsheet\n\nMost used options\n");
    static const char *const most_used[] = {"archive", "out", "include", "list", "metadata", "threads", "precision", "dry-run"};
    for (size_t k = 0; k < sizeof most_used / sizeof most_used[0]; k++)
        for (int i = 0; i < OPTION_COUNT; i++)
            if (strcmp(option_table[i].name, most_used[k]) == 0) help_option(to, &option_table[i]);
    str_put(to, "All options: man covpipe, or covpipe man. Of one job: covpipe JOB --help.\n"
                "Exit codes: 0 done, 1 failed, 2 usage, 3 some studies failed, 4 nothing to do, 75 stopped: run again.\n");
}

void options_help(str *to, job which, bool all_of_job)
{
    if (!all_of_job) { help_general(to); return; }
    const job_entry *j = &job_table[which];
    str_putf(to, "covpipe %s%s%s: %s\n\n", j->name, *j->words ? " " : "", j->words, j->help);
    for (int i = 0; i < OPTION_COUNT; i++)
        if (option_table[i].jobs & (1 << which)) help_option(to, &option_table[i]);
}

static void man_text(str *to, const char *text)
{
    for (; *text; text++) {
        if (*text == '-' || *text == '\\') str_put(to, "\\");
        str_put_bytes(to, text, 1);
    }
}

void options_man(str *to)
{
    str_put(to, ".TH COVPIPE 1 \"\" \"covpipe " COVPIPE_VERSION "\" \"User Commands\"\n.SH NAME\n"
                "covpipe \\- screen an archive of chest CT for COVID\\-19 lesions\n.SH SYNOPSIS\n"
                ".B covpipe \\-\\-archive\n.I DIR\n[options]\n.br\n.B covpipe\n.I JOB\n[words] [options]\n"
                ".SH DESCRIPTION\nReads every study of an archive, segments the lungs, and gathers masks and figures into one HDF5\n"
                "cohort file in which every study is accounted for. Research use only; not for clinical use.\n.SH JOBS\n");
    for (int j = 0; j < JOB_COUNT; j++) {
        str_putf(to, ".TP\n.B covpipe %s %s\n", job_table[j].name, job_table[j].words);
        man_text(to, job_table[j].help);
        str_put(to, "\n");
    }
    str_put(to, ".SH OPTIONS\n");
    for (int i = 0; i < OPTION_COUNT; i++) {
        const option_entry *e = &option_table[i];
        str_put(to, ".TP\n.B \\-\\-");
        man_text(to, e->name);
        str_putf(to, "\n%s%s%s", e->value[0] ? "(" : "", e->value, e->value[0] ? ") " : "");
        man_text(to, e->help);
        if (e->kind != FLAG && e->fallback[0]) { str_put(to, ". Default "); man_text(to, e->fallback); }
        if (e->jobs != ALWAYS) {
            str_put(to, ". Jobs:");
            for (int j = 0; j < JOB_COUNT; j++)
                if (e->jobs & (1 << j)) str_putf(to, " %s", j == JOB_SCREEN ? "screening" : job_table[j].name);
        }
        str_put(to, ".\n");
    }
    str_put(to, ".SH EXIT STATUS\n0 all studies done or skipped; 1 failed; 2 usage; 3 ran, some studies failed (with\n"
                "\\-\\-strict: or were skipped); 4 nothing to do in the archive; 75 stopped by a signal, run again to resume.\n");
}

/* Options by job; after an option that takes a folder, folders; otherwise files. */
void options_completion(str *to)
{
    str_put(to, "# bash completion of covpipe " COVPIPE_VERSION "; printed by `covpipe completion`\n_covpipe()\n{\n"
                "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} jobs=' ");
    for (int j = 1; j < JOB_COUNT; j++) str_putf(to, "%s ", job_table[j].name);
    str_put(to, "' options=\n    COMPREPLY=()\n    case $before in\n    ");
    for (int i = 0, any = 0; i < OPTION_COUNT; i++)
        if (strcmp(option_table[i].value, "DIR") == 0) str_putf(to, "%s--%s", any++ ? " | " : "", option_table[i].name);
    str_put(to, ") COMPREPLY=($(compgen -d -- \"$word\")); return ;;\n    esac\n    case ${COMP_WORDS[1]} in\n");
    for (int k = 1; k <= JOB_COUNT; k++) {
        int j = k % JOB_COUNT; /* the main job has no name: last */
        str_putf(to, "    %s) options='", j ? job_table[j].name : "*");
        for (int i = 0; i < OPTION_COUNT; i++)
            if (option_table[i].jobs & (1 << j)) str_putf(to, " --%s", option_table[i].name);
        str_put(to, "' ;;\n");
    }
    str_put(to, "    esac\n    [[ $word == -* ]] && COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
                "    [[ $COMP_CWORD == 1 && $word != -* ]] && COMPREPLY=($(compgen -W \"$jobs\" -- \"$word\"))\n"
                "}\ncomplete -o bashdefault -o default -F _covpipe covpipe\n");
}

/* The value as text, or NULL if it is the default. */
static const char *value_text(const options *o, const option_entry *e, char *room, size_t bytes)
{
    const void *field = field_in(o, e);
    switch (e->kind) {
    case TEXT: return strcmp(*(const char *const *)field, e->fallback) ? *(const char *const *)field : NULL;
    case FLAG: return *(const int *)field ? "" : NULL;
    case INT: snprintf(room, bytes, "%lld", *(const long long *)field); break;
    case REAL: snprintf(room, bytes, "%.9g", *(const double *)field); break;
    case LIST: return NULL;
    }
    return strcmp(room, e->fallback) ? room : NULL;
}

static void put_quoted(str *to, const char *text)
{
    if (*text && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./,:=+-") == strlen(text)) {
        str_put(to, text);
        return;
    }
    str_put(to, "'");
    for (; *text; text++) {
        if (*text == '\'') str_put(to, "'\\''");
        else str_put_bytes(to, text, 1);
    }
    str_put(to, "'");
}

static void put_set(const options *o, const option_entry *e, str *to)
{
    char room[40];
    if (e->kind == LIST) {
        const option_list *list = field_in(o, e);
        for (int k = 0; k < list->count; k++) {
            str_putf(to, " --%s ", e->name);
            put_quoted(to, list->items[k]);
        }
        return;
    }
    const char *value = value_text(o, e, room, sizeof room);
    if (!value) return;
    str_putf(to, " --%s", e->name);
    if (e->kind != FLAG) { str_put(to, " "); put_quoted(to, value); }
}

void options_command(const options *o, str *to)
{
    str_put(to, "covpipe");
    if (*job_table[o->job].name) str_putf(to, " %s", job_table[o->job].name);
    for (int k = 0; k < o->word_count; k++) { str_put(to, " "); put_quoted(to, o->words[k]); }
    for (int i = 0; i < OPTION_COUNT; i++) put_set(o, &option_table[i], to);
}

void options_key(const options *o, str *to)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        char room[40];
        const option_entry *e = &option_table[i];
        if (e->effect != EFFECT_KEY || !(e->jobs & (1 << o->job))) continue;
        const char *value = value_text(o, e, room, sizeof room);
        str_putf(to, "%s=%s\n", e->name, !value ? e->fallback : e->kind == FLAG ? "1" : value);
    }
}
