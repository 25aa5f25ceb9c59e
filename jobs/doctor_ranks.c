/* doctor_ranks: every rank says what it has and sees, and rank 0 compares. Nodes are told apart by name, and by Slurm's name
 * for them where it differs. */
#include "jobs/doctor.h"
#include "jobs/setup.h"
#include "mpi/reduce.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct facts { /* travels as it lies in memory */
    char node[64], device[40], gpu[64], trouble[200];
    cpu_set_t cores;
    double clock;           /* s since 1970, when all had met */
    int sees_file, sees_lock;
} facts;

static double clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void find_device(const options *o, facts *me)
{
    setup s;
    const char *gpu = getenv("CUDA_VISIBLE_DEVICES");
    if (setup_open(o, &s) == COV_OK) {
        snprintf(me->device, sizeof me->device, "%s %s", s.backend->name, s.precision == NET_BF16 ? "bf16" : "fp32");
        if (strcmp(s.backend->name, "cuda") == 0) snprintf(me->gpu, sizeof me->gpu, "%d of %s", setup_ordinal(), gpu ? gpu : "all");
    } else snprintf(me->trouble, sizeof me->trouble, "%s", status_message());
    status_clear();
    setup_close(&s);
}

/* Rank 0 writes and locks a file in this folder; do the others see both? A lock that is not seen elsewhere lets two runs write one
 * output. Collective. */
static status share_a_file(world *w, reduce *r, facts *me)
{
    static const char mark[] = "covpipe doctor was here";
    char name[64] = "", read_back[sizeof mark] = "";
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int first = world_rank(w) == 0, fd = -1;
    float all = 0;
    status s;
    if (first) {
        snprintf(name, sizeof name, ".covpipe-doctor-%ld", (long)getpid());
        fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        me->sees_file = fd >= 0 && write(fd, mark, sizeof mark) == (ssize_t)sizeof mark && fsync(fd) == 0;
        me->sees_lock = fd >= 0 && fcntl(fd, F_OFD_SETLK, &whole) == 0;
    }
    COV_GO(reduce_broadcast(r, name, sizeof name));
    if (!first) {
        fd = open(name, O_RDWR | O_CLOEXEC);
        me->sees_file = fd >= 0 && read(fd, read_back, sizeof read_back) == (ssize_t)sizeof mark && memcmp(read_back, mark, sizeof mark) == 0;
        me->sees_lock = fd >= 0 && fcntl(fd, F_OFD_SETLK, &whole) != 0 && (errno == EAGAIN || errno == EACCES);
    }
    COV_GO(reduce_sum(r, &all, 1)); /* nobody lets go before all have looked */
done:
    if (fd >= 0) close(fd);
    if (first) unlink(name);
    return s;
}

static int same_node(const facts *a, const facts *b) { return strcmp(a->node, b->node) == 0; }

static void check_cores(tally *f, const facts *all, int ranks)
{
    int crowded = 0, least = 1 << 30, overlap = 0;
    for (int a = 0; a < ranks; a++) {
        int mates = 0, cores = CPU_COUNT(&all[a].cores);
        for (int b = 0; b < ranks; b++) {
            cpu_set_t both;
            CPU_AND(&both, &all[a].cores, &all[b].cores);
            if (!same_node(&all[a], &all[b]) || !CPU_COUNT(&both)) continue;
            mates++;
            overlap |= a != b && !CPU_EQUAL(&all[a].cores, &all[b].cores);
        }
        crowded |= cores < mates;
        if (cores / mates < least) least = cores / mates;
    }
    if (crowded) doctor_line(f, 0, "binding", "several ranks share a core; give each its own: srun --cpus-per-task=N, mpirun --map-by slot:PE=N");
    else if (overlap) doctor_line(f, 0, "binding", "ranks of one node have cores in common, but not the same ones: srun --cpu-bind=cores");
    else doctor_line(f, 1, "binding", "%d core(s) a rank%s", least, least > 1 ? "; where a node's ranks share them, --threads says how many each takes" : "");
}

static void check_devices(tally *f, const facts *all, int ranks)
{
    for (int a = 0; a < ranks; a++) {
        if (*all[a].trouble) { doctor_line(f, 0, "device", "rank %d on %s: %s", a, all[a].node, all[a].trouble); return; }
        if (strcmp(all[a].device, all[0].device) != 0) { doctor_line(f, 0, "device", "rank 0 has %s, rank %d on %s has %s: all will use what all have", all[0].device, a, all[a].node, all[a].device); return; }
        for (int b = 0; b < a; b++)
            if (*all[a].gpu && same_node(&all[a], &all[b]) && strcmp(all[a].gpu, all[b].gpu) == 0) {
                doctor_line(f, 0, "device", "ranks %d and %d on %s share a GPU (%s): srun --gpus-per-task=1", b, a, all[a].node, all[a].gpu);
                return;
            }
    }
    doctor_line(f, 1, "device", "%s on every rank%s", all[0].device, *all[0].gpu ? ", a GPU for each" : "");
}

static void compare(tally *f, const facts *all, int ranks)
{
    int nodes = 0, files = 1, locks = 1;
    double earliest = INFINITY, latest = 0;
    for (int a = 0; a < ranks; a++) {
        int known = 0;
        for (int b = 0; b < a; b++) known |= same_node(&all[a], &all[b]);
        nodes += !known;
        files &= all[a].sees_file;
        locks &= all[a].sees_lock;
        earliest = fmin(earliest, all[a].clock);
        latest = fmax(latest, all[a].clock);
    }
    const char *tasks = getenv("SLURM_STEP_NUM_TASKS");
    int wanted = tasks && !getenv("OMPI_COMM_WORLD_LOCAL_SIZE") ? atoi(tasks) : ranks;
    doctor_line(f, wanted == ranks, "launch", "%d ranks on %d node(s), %s", ranks, nodes, tasks ? "started by Slurm" : "started by mpirun");
    check_cores(f, all, ranks);
    check_devices(f, all, ranks);
    doctor_line(f, latest - earliest < 2, "clocks", "%.3f s between the earliest and the latest%s", latest - earliest, latest - earliest < 2 ? "" : ": set them by NTP, or times of files mislead");
    doctor_line(f, files, "file system", "%s", files ? "every rank sees what rank 0 writes in this folder" : "not every rank sees this folder: choose one that all nodes share");
    doctor_line(f, locks, "locks", "%s", locks ? "every rank sees rank 0's lock" : "a lock is not seen by every rank: see to it that only one run has an --out (Lustre: mount with -o flock)");
}

status doctor_ranks(world *w, const options *o, tally *f)
{
    reduce *r = NULL;
    facts *all = NULL, me = {0};
    float met = 0;
    const char *node = getenv("SLURMD_NODENAME");
    status s;
    snprintf(me.node, sizeof me.node, "%s", node ? node : world_host(w, world_rank(w)));
    if (sched_getaffinity(0, sizeof me.cores, &me.cores) != 0) CPU_SET(0, &me.cores);
    find_device(o, &me);
    COV_GO(reduce_new(w, 120, &r));
    COV_GO(share_a_file(w, r, &me));
    COV_GO(reduce_sum(r, &met, 1));
    me.clock = clock_now();
    all = calloc((size_t)world_size(w), sizeof *all);
    if (!all) { s = COV_FAIL(COV_NOMEM, "no memory for %d ranks", world_size(w)); goto done; }
    COV_GO(reduce_collect(r, &me, sizeof me, all));
    if (world_rank(w) == 0) compare(f, all, world_size(w));
done:
    free(all);
    reduce_free(&r);
    return s;
}
