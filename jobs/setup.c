/* setup: see setup.h. */
#include "jobs/setup.h"

#include "data/durable.h"
#include "stages/lungcrf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static status check_precision(const options *o)
{
    if (strcmp(o->precision, "auto") != 0 && strcmp(o->precision, "fp32") != 0 && strcmp(o->precision, "bf16") != 0)
        return COV_FAIL(COV_USAGE, "--precision %s: expected auto, fp32 or bf16", o->precision);
    return COV_OK;
}

static net_precision choose_precision(const options *o, const backend *b, device *d)
{
    if (strcmp(o->precision, "auto") == 0) return b->bf16(d) ? NET_BF16 : NET_FP32;
    return strcmp(o->precision, "bf16") == 0 ? NET_BF16 : NET_FP32;
}

/* The GPU that the rank's place on its node gives it. A launcher that shows each rank its own GPU alone
 * (CUDA_VISIBLE_DEVICES) is obeyed by CUDA itself: numbers count round what is to be seen. */
int setup_ordinal(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID", "PMI_LOCAL_RANK", "MPI_LOCALRANKID"};
    long long place;
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        const char *text = getenv(names[k]);
        if (text && str_to_int(text, &place) && place >= 0 && place < 4096) return (int)place;
    }
    return 0;
}

/* "auto" tries the GPU first; why there is none is then nobody's question. */
static status open_device(const options *o, setup *out)
{
    const device_options how = {.threads = (int)o->threads, .ordinal = setup_ordinal()};
    int any = strcmp(o->device, "auto") == 0;
    status s = backend_find(any ? "cuda" : o->device, &out->backend);
    if (s == COV_OK) s = out->backend->open(&how, &out->device);
    if (s == COV_OK || !any || s != COV_UNSUPPORTED) return s;
    status_clear();
    COV_TRY(backend_find("cpu", &out->backend));
    return out->backend->open(&how, &out->device);
}

status setup_open(const options *o, setup *out)
{
    *out = (setup){0};
    if (o->threads < 0 || o->threads > 4096)
        return COV_FAIL(COV_USAGE, "--threads %lld: expected 0 to 4096", o->threads);
    COV_TRY(check_precision(o));
    COV_TRY(open_device(o, out));
    out->precision = choose_precision(o, out->backend, out->device);
    return COV_OK;
}

void setup_close(setup *s)
{
    if (s->device) s->backend->close(&s->device);
}

/* What a probing child tells its parent. */
typedef struct answer {
    status s;
    char backend[16], message[SETUP_PATH / 4];
    net_precision precision;
} answer;

static void probe_child(const options *o, int to)
{
    answer a = {.s = COV_OK};
    setup here = {0};
    a.s = setup_open(o, &here);
    if (a.s == COV_OK) snprintf(a.backend, sizeof a.backend, "%s", here.backend->name);
    else snprintf(a.message, sizeof a.message, "%s", status_message());
    a.precision = here.precision;
    setup_close(&here);
    for (size_t done = 0; done < sizeof a;) {
        ssize_t n = write(to, (const char *)&a + done, sizeof a - done);
        if (n > 0) done += (size_t)n;
        else if (n == 0 || errno != EINTR) _exit(1);
    }
    _exit(0);
}

status setup_probe(const options *o, const backend **b, net_precision *precision)
{
    answer a = {0};
    int ends[2], state;
    ssize_t n;
    *b = NULL;
    if (pipe(ends) != 0) return COV_FAIL(COV_IO, "no pipe to ask for the device: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        probe_child(o, ends[1]);
    }
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return COV_FAIL(COV_IO, "no process to ask for the device: %s", strerror(errno));
    }
    size_t got = 0;
    while (got < sizeof a && ((n = read(ends[0], (char *)&a + got, sizeof a - got)) > 0 || (n < 0 && errno == EINTR)))
        if (n > 0) got += (size_t)n;
    close(ends[0]);
    while (waitpid(child, &state, 0) < 0 && errno == EINTR) continue;
    if (got != sizeof a) return COV_FAIL(COV_DEVICE, "--device %s: the process that tried it died", o->device);
    if (a.s != COV_OK) return COV_FAIL(a.s, "%s", a.message);
    *precision = a.precision;
    return backend_find(a.backend, b);
}

/* share/ of an installation (PREFIX/bin -> PREFIX/share/covpipe) or of a build folder inside the source tree. */
status setup_weights_path(const char *model, const char *preset, char path[SETUP_PATH])
{
    char self[SETUP_PATH / 2], tried[SETUP_PATH] = "";
    const char *given = getenv("COVPIPE_SHARE");
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = n > 0 ? memrchr(self, '/', (size_t)n) : NULL;
    if (slash) *slash = 0;
    else strcpy(self, ".");
    static const char *const places[] = {"%s/%s-%s.h5", "%s/../share/covpipe/%s-%s.h5", "%s/../share/%s-%s.h5",
                                         "%s/share/%s-%s.h5"};
    for (size_t k = given ? 0 : 1; k < (given ? 1 : sizeof places / sizeof places[0]); k++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(path, SETUP_PATH, places[k], given ? given : self, model, preset);
#pragma GCC diagnostic pop
        if (access(path, R_OK) == 0) return COV_OK;
        size_t used = strlen(tried);
        snprintf(tried + used, sizeof tried - used, "%s%.600s", used ? ", " : "", path);
    }
    return COV_FAIL(COV_USAGE, "no weights of %s, preset %s: looked for %.800s; give --%s FILE, or set COVPIPE_SHARE",
                    model, preset, tried, strncmp(model, "lung", 4) == 0 ? model : "lesion");
}

/* "A,S,a,b,g,N" */
static status parse_crf(const char *text, crf_options *c)
{
    float v[5];
    int iterations, end = 0;
    if (!*text) return COV_OK;
    if (sscanf(text, "%f,%f,%f,%f,%f,%d%n", &v[0], &v[1], &v[2], &v[3], &v[4], &iterations, &end) != 6 || text[end] ||
        iterations < 0 || iterations > 1000)
        return COV_FAIL(COV_USAGE,
                        "--crf %s: expected six numbers: appearance weight, smoothness weight, theta alpha, beta, "
                        "gamma, iterations",
                        text);
    for (int k = 0; k < 5; k++)
        if (!(v[k] >= 0 && v[k] <= 1e4f) || (k > 1 && v[k] < 0.1f))
            return COV_FAIL(COV_USAGE, "--crf %s: weights are 0 or more, bandwidths 0.1 or more", text);
    *c = (crf_options){v[0], v[1], v[2], v[3], v[4], iterations, c->tolerance};
    return COV_OK;
}

/* Only models of whole lesions are for screening: a resolver is a step of their training. */
static status check_model(const char *model, const char *path)
{
    static const char *const known[] = {"st", "sp", "maskrcnn", "unet"};
    for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
        if (strcmp(model, known[k]) == 0) return COV_OK;
    if (*path) return COV_FAIL(COV_USAGE, "%s: holds the model '%s'; expected st, sp, maskrcnn or unet", path, model);
    return COV_FAIL(COV_USAGE, "--model %s: expected st, sp, maskrcnn, unet or none", model);
}

/* room->model "none": no lesions are looked for. */
static status find_lesion(const options *o, setup_paths *room, pipeline_options *out)
{
    int any = strcmp(o->model, "auto") == 0;
    weights_file *w = NULL;
    snprintf(room->model, sizeof room->model, "none");
    if (o->score > 1)
        return COV_FAIL(COV_USAGE, "--score %g: expected 0 to 1, or -1 for the one in the weights", o->score);
    if (strcmp(o->model, "none") == 0) return COV_OK;
    if (!any) COV_TRY(check_model(o->model, ""));
    if (*o->lesion) snprintf(room->lesion, SETUP_PATH, "%s", o->lesion);
    else {
        status s = setup_weights_path(any ? "st" : o->model, o->preset, room->lesion);
        if (s != COV_OK && any) status_clear();
        if (s != COV_OK) return any ? COV_OK : status_relay(s, __FILE__, __LINE__);
    }
    COV_TRY(weights_load(room->lesion, &w));
    snprintf(room->model, sizeof room->model, "%s", w->model);
    weights_free(&w);
    COV_TRY(check_model(room->model, room->lesion));
    if (!any && strcmp(o->model, room->model) != 0)
        return COV_FAIL(COV_USAGE, "%s: holds the model '%s', and --model asks for '%s'", room->lesion, room->model,
                        o->model);
    out->lesion_path = room->lesion;
    out->score_least = (float)o->score;
    return COV_OK;
}

status setup_pipeline(const options *o, setup_paths *room, pipeline_options *out)
{
    *out = (pipeline_options){.threads = (int)o->threads,
                              .ordinal = setup_ordinal(),
                              .use_sagittal = !o->axial_only,
                              .use_crf = !o->no_crf,
                              .crf = lungcrf_defaults(),
                              .fusion_weight = (float)o->fusion,
                              .fusion_prior = (float)o->dense_prior};
    if (o->fusion > 1)
        return COV_FAIL(COV_USAGE, "--fusion %g: expected 0 to 1, or -1 for the one in the weights", o->fusion);
    if (o->dense_prior > 10)
        return COV_FAIL(COV_USAGE, "--dense-prior %g: expected 0 to 10, or -1 for the one in the weights", o->dense_prior);
    COV_TRY(parse_crf(o->crf, &out->crf));
    if (*o->lung_axial) snprintf(room->axial, SETUP_PATH, "%s", o->lung_axial);
    else COV_TRY(setup_weights_path("lung-axial", o->preset, room->axial));
    if (*o->lung_sagittal) snprintf(room->sagittal, SETUP_PATH, "%s", o->lung_sagittal);
    else if (!o->axial_only) COV_TRY(setup_weights_path("lung-sagittal", o->preset, room->sagittal));
    out->lung_axial_path = room->axial;
    out->lung_sagittal_path = room->sagittal;
    if (o->job == JOB_SCREEN || o->job == JOB_BENCH) COV_TRY(find_lesion(o, room, out));
    return COV_OK;
}

status setup_write_json(const char *path, const str *items)
{
    str text = {0};
    str_put(&text, "[\n");
    str_put(&text, str_text(items));
    str_put(&text, "\n]\n");
    status s =
        text.failed ? COV_FAIL(COV_NOMEM, "no memory for %s", path) : durable_write(path, str_text(&text), text.length);
    str_free(&text);
    return s;
}
