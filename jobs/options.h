/* options: the one table of jobs and options. The parser, --help, the man page, the shell completion and the options
 * recorded in a cohort file all walk it, so none of them can drift from the others.
 *
 * `covpipe --archive A` is the main job and has no name; every other job is `covpipe NAME [words] [options]`. */
#ifndef COV_JOBS_OPTIONS_H
#define COV_JOBS_OPTIONS_H
#include "base/status.h"
#include "base/str.h"
#include <stdbool.h>

/* X(NAME, "name", "words", least words, most words, "what it does") */
#define JOBS(X)                                                                                                        \
    X(SCREEN, "", "", 0, 0, "screen an archive (the main job, which has no name)")                                     \
    X(STATUS, "status", "COHORT", 1, 1, "how far a run is, from another terminal")                                     \
    X(INSPECT, "inspect", "COHORT", 1, 1, "print a cohort as a table, or one study")                                   \
    X(EXPORT, "export", "COHORT", 1, 1, "write masks as NIfTI on the input's own grid")                                \
    X(MONTAGE, "montage", "COHORT", 1, 1, "draw slices with mask contours as PNG")                                     \
    X(PHANTOM, "phantom", "", 0, 0, "write an archive of analytic chests with ground truth")                           \
    X(TRAIN, "train", "MODEL", 1, 1, "train a network, or all lesion networks")                                              \
    X(EVAL, "eval", "WHAT", 1, 1, "score weights against annotated cases: lung or lesion")                            \
    X(BENCH, "bench", "[WHAT]", 0, 1, "time networks, CRF and whole studies on this machine")                          \
    X(DOCTOR, "doctor", "", 0, 0, "what is compiled in, what the machine has, is the launch sane")                     \
    X(CLEAN, "clean", "COHORT", 1, 1, "remove a finished cohort's parts")                                              \
    X(MAN, "man", "", 0, 0, "print the manual page")                                                                   \
    X(COMPLETION, "completion", "", 0, 0, "print the completion for bash")
typedef enum job {
#define X(NAME, ...) JOB_##NAME,
    JOBS(X)
#undef X
        JOB_COUNT
} job;

typedef struct option_list {
    const char **items; /* owned array of borrowed words */
    int count;
} option_list;
#define OPTION_TYPE_TEXT const char *
#define OPTION_TYPE_INT long long
#define OPTION_TYPE_REAL double
#define OPTION_TYPE_FLAG int
#define OPTION_TYPE_LIST option_list

/* Bits: which jobs take the option. */
enum {
    ON_SCREEN = 1 << JOB_SCREEN, ON_INSPECT = 1 << JOB_INSPECT, ON_EXPORT = 1 << JOB_EXPORT, ON_MONTAGE = 1 << JOB_MONTAGE,
    ON_PHANTOM = 1 << JOB_PHANTOM, ON_TRAIN = 1 << JOB_TRAIN, ON_EVAL = 1 << JOB_EVAL, ON_BENCH = 1 << JOB_BENCH,
    ON_DOCTOR = 1 << JOB_DOCTOR, ON_STATUS = 1 << JOB_STATUS,
    ON_NETS = ON_SCREEN | ON_TRAIN | ON_EVAL | ON_BENCH | ON_DOCTOR,
    ON_LUNG = ON_SCREEN | ON_EVAL | ON_BENCH,
    ALWAYS = -1
};
/* What an option's value is allowed to change: KEY: the masks and figures, so it belongs to a part's key.
 * RUN: speed or reports only. */
typedef enum option_effect { EFFECT_RUN, EFFECT_KEY } option_effect;

/* X(field, "long-name", KIND, default as text, "VALUE", jobs, effect, "help") */
#define OPTIONS(X)                                                                                                              \
    X(archive, "archive", TEXT, "", "DIR", ON_SCREEN | ON_EXPORT | ON_MONTAGE, RUN, "the archive: a folder of studies, or one file")                   \
    X(out, "out", TEXT, "", "PATH", ON_SCREEN | ON_EXPORT | ON_MONTAGE | ON_PHANTOM | ON_TRAIN | ON_EVAL, RUN, "where the result goes (screening: cohort.h5)") \
    X(list, "list", TEXT, "", "FILE", ON_SCREEN, RUN, "only these paths: one a line, or a CSV with a column `path`")             \
    X(include, "include", LIST, "", "GLOB", ON_SCREEN, RUN, "only paths that match; may be repeated")                           \
    X(exclude, "exclude", LIST, "", "GLOB", ON_SCREEN, RUN, "no paths that match; may be repeated")                             \
    X(shard, "shard", TEXT, "", "I/N", ON_SCREEN, RUN, "only the I-th of N shares of the archive, and no cohort file: for arrays of jobs") \
    X(metadata, "metadata", TEXT, "", "CSV", ON_SCREEN, RUN, "columns to join to /study, by `path` or `id`")                    \
    X(id_key, "id-key", TEXT, "", "FILE", ON_SCREEN, KEY, "identifiers are keyed hashes of the path; the key is this file's bytes") \
    X(dry_run, "dry-run", FLAG, "0", "", ON_SCREEN, RUN, "print the plan from the headers alone, and stop")                     \
    X(verify, "verify", FLAG, "0", "", ON_SCREEN, RUN, "on resume compare SHA-256, not size and time")                          \
    X(strict, "strict", FLAG, "0", "", ON_SCREEN, RUN, "skipped studies also make the exit code 3")                             \
    X(timeout, "timeout", REAL, "0", "SECONDS", ON_SCREEN, RUN, "deadline of a study; 0: from its size, 300 s at least")        \
    X(grace, "grace", REAL, "20", "SECONDS", ON_SCREEN, RUN, "time to finish after SIGTERM, SIGINT or SIGUSR1")                 \
    X(read_ahead, "read-ahead", INT, "2", "N", ON_SCREEN, RUN, "studies read ahead of the worker")                              \
    X(unit_slices, "unit-slices", INT, "0", "N", ON_SCREEN, RUN, "small studies are dealt together up to N slices")              \
    X(split, "split", INT, "0", "N", ON_SCREEN, RUN, "ranks share a study, N slices at a time; 0: where it pays; -1: never")      \
    X(max_gib, "max-gib", REAL, "4", "GIB", ON_SCREEN, RUN, "largest volume accepted, decoded")                                  \
    X(log_json, "log-json", FLAG, "0", "", ON_SCREEN | ON_TRAIN, RUN, "log as JSON lines")                                       \
    X(quiet, "quiet", FLAG, "0", "", ON_SCREEN | ON_TRAIN | ON_PHANTOM, RUN, "print errors and the closing summary only")       \
    X(device, "device", TEXT, "auto", "NAME", ON_NETS, KEY, "auto, cpu, cuda or ref; auto: a GPU where there is one")                                                  \
    X(precision, "precision", TEXT, "auto", "P", ON_NETS, KEY, "auto, fp32 or bf16; auto: bf16 where the hardware has it")       \
    X(threads, "threads", INT, "0", "N", ON_NETS | ON_PHANTOM, RUN, "threads a rank; 0: the cores the rank was given")           \
    X(preset, "preset", TEXT, "compact", "NAME", ON_LUNG | ON_TRAIN, KEY, "compact or paper: the size of the networks")         \
    X(lung_axial, "lung-axial", TEXT, "", "FILE", ON_LUNG, KEY, "weights; default: those installed for the preset")              \
    X(lung_sagittal, "lung-sagittal", TEXT, "", "FILE", ON_LUNG, KEY, "weights; default: those installed for the preset")        \
    X(axial_only, "axial-only", FLAG, "0", "", ON_LUNG, KEY, "do without the sagittal network")                                  \
    X(fusion, "fusion", REAL, "-1", "W", ON_LUNG, KEY, "weight of the sagittal logit, 0..1; -1: the one in the weights")        \
    X(dense_prior, "dense-prior", REAL, "-1", "L", ON_LUNG, KEY, "log odds of lung added in dense tissue; -1: those in the weights")  \
    X(no_crf, "no-crf", FLAG, "0", "", ON_LUNG, KEY, "do without the fully connected CRF")                                       \
    X(crf, "crf", TEXT, "", "A,S,a,b,g,N", ON_LUNG, KEY, "weights of appearance and smoothness, theta alpha, beta, gamma, iterations") \
    X(model, "model", TEXT, "auto", "NAME", ON_SCREEN | ON_BENCH, KEY, "lesions: st, sp, maskrcnn, unet or none; auto: that of --lesion, or st where installed") \
    X(lesion, "lesion", TEXT, "", "FILE", ON_SCREEN | ON_BENCH, KEY, "weights of the lesion model; default: those installed for model and preset") \
    X(score, "score", REAL, "-1", "S", ON_SCREEN | ON_EVAL, KEY, "least score of a finding, 0..1; -1: the one in the weights")     \
    X(study, "study", LIST, "", "ID", ON_INSPECT | ON_EXPORT | ON_MONTAGE, RUN, "this study only; may be repeated")             \
    X(csv, "csv", FLAG, "0", "", ON_INSPECT, RUN, "print every column as CSV")                                                   \
    X(columns, "columns", INT, "6", "N", ON_MONTAGE, RUN, "slices side by side")                                                 \
    X(tiles, "tiles", INT, "12", "N", ON_MONTAGE, RUN, "slices of a study")                                                      \
    X(studies, "studies", INT, "8", "N", ON_PHANTOM, RUN, "how many chests")                                                     \
    X(seed, "seed", INT, "1", "S", ON_PHANTOM | ON_TRAIN, RUN, "the same seed gives the same bytes")                             \
    X(size, "size", INT, "0", "PIXELS", ON_PHANTOM | ON_BENCH | ON_TRAIN, RUN, "rows and columns; 0: a mixture (bench: 512, train: the model's own)")              \
    X(slices, "slices", INT, "0", "N", ON_PHANTOM | ON_BENCH, RUN, "slices of a volume; 0: a mixture (bench: 300)")             \
    X(healthy, "healthy", INT, "0", "N", ON_PHANTOM, RUN, "how many of them without lesions")                                    \
    X(odd, "odd", FLAG, "0", "", ON_PHANTOM, RUN, "add damaged, non-chest, label-map and duplicate studies")                     \
    X(cases, "cases", TEXT, "", "CSV", ON_TRAIN | ON_EVAL, RUN, "annotated cases (docs/FORMATS.md)")                             \
    X(fold, "fold", TEXT, "", "P,...", ON_TRAIN | ON_EVAL, RUN, "leave these patients out (train), score only these (eval)")  \
    X(minutes, "minutes", REAL, "0", "M", ON_TRAIN, RUN, "length of the training; or:")                                          \
    X(steps, "steps", INT, "0", "N", ON_TRAIN, RUN, "number of steps")                                                           \
    X(batch, "batch", INT, "0", "N", ON_TRAIN | ON_BENCH, RUN, "global batch; 0: the model's own")                               \
    X(rate, "rate", REAL, "0", "R", ON_TRAIN, RUN, "learning rate; 0: the model's own")                                          \
    X(coarse, "coarse", REAL, "-1", "SHARE", ON_TRAIN, RUN, "of the steps, the first, at half the size; -1: the model's own")      \
    X(start, "start", TEXT, "", "FILE", ON_TRAIN, RUN, "weights of the earlier stage that a lesion network starts from")         \
    X(models, "models", TEXT, "spatial,temporal,st,sp,maskrcnn,unet", "LIST", ON_TRAIN, RUN, "which of them `train all` trains")  \
    X(period_proxy, "period-proxy", FLAG, "0", "", ON_TRAIN | ON_EVAL, RUN, "label periods by extent and density where the table has none")  \
    X(healthy_share, "healthy-share", REAL, "0.2", "SHARE", ON_TRAIN, RUN, "of lesion samples: from healthy cases")               \
    X(clean_share, "clean-share", REAL, "0.2", "SHARE", ON_TRAIN, RUN, "of a positive patient's samples: without lesion")         \
    X(checkpoint, "checkpoint", REAL, "5", "MINUTES", ON_TRAIN, RUN, "between checkpoints; the same command resumes from one")   \
    X(json, "json", TEXT, "", "FILE", ON_EVAL | ON_BENCH, RUN, "also write the figures as JSON")                                 \
    X(pictures, "pictures", TEXT, "", "DIR", ON_EVAL, RUN, "also draw each case, reference and result, as PNG")                  \
    X(weights, "weights", TEXT, "", "FILE,...", ON_EVAL, RUN, "lesion: weights to score, each a row of the tables")               \
    X(choose, "choose", TEXT, "", "BY", ON_EVAL, RUN, "lesion: choose that score on the weights' training patients, by dice, volume, all or screen (or take the number given), and write it into them") \
    X(cross, "cross", FLAG, "0", "", ON_EVAL, RUN, "lesion: the weights are folds; each case is scored by those that left its patient out") \
    X(own_lung, "own-lung", FLAG, "0", "", ON_EVAL, RUN, "lesion: inside our own lung masks, not the reference's")             \
    X(tables, "tables", FLAG, "0", "", ON_EVAL, RUN, "lesion: with the paper's rows, and the sizes of the other patients' regions") \
    X(coronal, "coronal", FLAG, "0", "", ON_EVAL, RUN, "lesion: also volumes turned to the coronal view (Table 3)")             \
    X(merge, "merge", INT, "0", "N", ON_EVAL, RUN, "lesion: also N positive slices squeezed and merged into 3N/2 pictures (Table 3: 200)") \
    X(threshold_baseline, "threshold-baseline", TEXT, "", "HU", ON_EVAL, RUN, "lesion: also what lies above HU inside the lung of volumes") \
    X(grid, "grid", FLAG, "0", "", ON_EVAL, RUN, "search fusion, dense prior and CRF over the cases given")                           \
    X(repeat, "repeat", INT, "5", "N", ON_BENCH, RUN, "repetitions; the median is printed")                                      \
    X(training, "training", FLAG, "0", "", ON_BENCH, RUN, "also time training steps")                                            \
    X(help, "help", FLAG, "0", "", ALWAYS, RUN, "this text (after a job's name: that job's options)")                           \
    X(version, "version", FLAG, "0", "", ALWAYS, RUN, "print the version")

typedef struct options {
    job job;
    const char *words[2]; /* positional words of the job, borrowed from argv */
    int word_count;
#define X(field, name, KIND, ...) OPTION_TYPE_##KIND field;
    OPTIONS(X)
#undef X
} options;

/* Fills *out with defaults, then with argv. COV_USAGE with a message that says what to type instead. Words are borrowed from argv. */
status options_parse(int argc, char **argv, options *out);
void options_free(options *o);
/* The general help (fits a screen), or that of one job. */
void options_help(str *to, job which, bool all_of_job);
void options_completion(str *to); /* for bash */
void options_man(str *to);
/* "--fusion 0.4 --no-crf": what was not left at its default, quoted for a shell. */
void options_command(const options *o, str *to);
/* A canonical line of every EFFECT_KEY option with its value, for a part's key. File-valued ones are the caller's to replace by digests. */
void options_key(const options *o, str *to);
const char *options_job_name(job j);
#endif
