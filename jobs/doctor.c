/* doctor: what is compiled in, what this machine and this launch have, and whether they fit together. Each line ends in
 * ok, or in what to do about it; the exit code is 1 if something must be done before a run can work. In a job, rank 0 speaks for its
 * node and compares all ranks (doctor_ranks). */
#include "data/weights.h"
#include "jobs/doctor.h"
#include "jobs/jobs.h"
#include "jobs/setup.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

void doctor_line(tally *f, int ok, const char *what, const char *format, ...)
{
    va_list args;
    printf("%-9s %-12s ", ok ? "ok" : "PROBLEM", what);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    f->problems += !ok;
}

static const char *or_not(const char *variable) { return getenv(variable) ? getenv(variable) : "not set"; }

static void check_machine(tally *f)
{
    struct utsname u;
    cpu_set_t set;
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    int allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    if (uname(&u) == 0) doctor_line(f, 1, "system", "%s %s on %s", u.sysname, u.release, u.nodename);
    doctor_line(f, 1, "waiting", "OMP_WAIT_POLICY %s, GOMP_SPINCOUNT %s", or_not("OMP_WAIT_POLICY"), or_not("GOMP_SPINCOUNT"));
    doctor_line(f, 1, "cores", "%d of %ld online may be used by this process", allowed, sysconf(_SC_NPROCESSORS_ONLN));
    doctor_line(f, (double)pages * (double)size > 3e9, "memory", "%.1f GiB; a rank needs up to 2.5 GiB", (double)pages * (double)size / (1 << 30));
}

/* Not having a GPU is no problem, unless it was asked for ("in use"). */
static void check_gpu(tally *f)
{
    const backend *b;
    device *d = NULL;
    status s = backend_find("cuda", &b);
    if (s == COV_OK) s = b->open(&(device_options){.ordinal = setup_ordinal()}, &d);
    if (s == COV_OK) doctor_line(f, 1, "backend", "cuda: %s, bf16 %s", b->device_name(d), b->bf16(d) ? "native" : "not native");
    else doctor_line(f, s == COV_UNSUPPORTED, "backend", "no GPU: %s", status_message());
    if (d) b->close(&d);
}

static void check_backends(tally *f, const options *o)
{
    const backend *b;
    setup s;
    for (int k = 0; (b = backend_at(k)); k++) {
        device *d = NULL;
        status opened = b->open(&(device_options){.threads = (int)o->threads}, &d);
        if (opened == COV_OK) doctor_line(f, 1, "backend", "%s: %d threads, bf16 %s", b->name, b->threads(d), b->bf16(d) ? "native" : "not native");
        else doctor_line(f, 0, "backend", "%s: %s", b->name, status_message());
        if (d) b->close(&d);
    }
    check_gpu(f);
    if (setup_open(o, &s) == COV_OK) doctor_line(f, 1, "in use", "%s in %s (--device %s --precision %s)", s.backend->name, s.precision == NET_BF16 ? "bf16" : "fp32", o->device, o->precision);
    else doctor_line(f, 0, "in use", "%s", status_message());
    setup_close(&s);
}

/* Lesion models may be missing: then lungs alone are screened, or that model cannot be asked for. */
static void check_weights(tally *f, const char *model, int needed)
{
    char path[SETUP_PATH];
    weights_file *w = NULL;
    status found = setup_weights_path(model, "compact", path);
    if (found != COV_OK && !needed) { doctor_line(f, 1, "weights", "none: %s", status_message()); return; }
    if (found != COV_OK || weights_load(path, &w) != COV_OK) { doctor_line(f, 0, "weights", "%s", status_message()); return; }
    doctor_line(f, 1, "weights", "%s, preset %s, %.12s, %s", w->model, w->preset, w->sha256, path);
    weights_free(&w);
}

static void check_files(tally *f)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) doctor_line(f, files.rlim_cur >= 256, "files", "%llu may be open at once; expected at least 256", (unsigned long long)files.rlim_cur);
}

static void check_space(tally *f)
{
    struct statvfs v;
    if (statvfs(".", &v) != 0) { doctor_line(f, 0, "space", "this folder: %s", strerror(errno)); return; }
    double gib = (double)v.f_bavail * (double)v.f_frsize / (1 << 30);
    doctor_line(f, gib > 1, "space", "%.1f GiB free in this folder; a study's part and its share of the cohort take 1 MiB or so", gib);
}

static void check_node(tally *f, const options *o)
{
    printf("covpipe " COVPIPE_VERSION "\n");
    check_machine(f);
    check_backends(f, o);
    check_weights(f, "lung-axial", 1);
    check_weights(f, "lung-sagittal", 1);
    static const char *const lesions[] = {"st", "sp", "maskrcnn", "unet"};
    for (size_t k = 0; k < sizeof lesions / sizeof lesions[0]; k++) check_weights(f, lesions[k], 0);
    check_files(f);
    check_space(f);
}

int doctor_job(const options *o)
{
    tally f = {0};
    world *w = NULL;
    const char *tasks = getenv("SLURM_STEP_NUM_TASKS");
    int launched = getenv("PMIX_RANK") || getenv("OMPI_COMM_WORLD_RANK") || (tasks && getenv("SLURM_STEP_ID") && atoi(tasks) > 1);
    status s = launched ? world_open(&(world_options){0}, &w) : COV_OK;
    int first = !w || world_rank(w) == 0;
    if (s != COV_OK) doctor_line(&f, 0, "launch", "%s", status_message()); /* tasks that do not know of one another */
    if (first) check_node(&f, o);
    if (s == COV_OK && !w) doctor_line(&f, 1, "launch", "one rank, no launcher");
    if (w && (s = doctor_ranks(w, o, &f)) != COV_OK) doctor_line(&f, 0, "ranks", "%s", status_message());
    if (first && f.problems) printf("%d to put right\n", f.problems);
    else if (first) puts("all is well");
    fflush(stdout);
    if (w && s != COV_OK) world_abort(w, EXIT_FAILED);
    world_close(&w);
    return f.problems ? EXIT_FAILED : EXIT_OK;
}
