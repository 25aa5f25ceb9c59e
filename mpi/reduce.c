/* reduce: reduce-scatter by all-to-all, a sum in rank order, allgather: each rank sends and receives about 2 n values
 * whatever the number of ranks, and no step of it depends on who came first. In blocks of 4 MiB, so that memory beside
 * the vector stays small and counts fit an int. */
#include "mpi/reduce.h"
#include "mpi/world_comm.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 20 }; /* floats a round */

struct reduce {
    world *world;
    double deadline;
    float *room; /* (ranks, share): what the others have for my share */
    int *counts, *starts, *in_counts, *in_starts;
    const backend *backend; /* of comm; borrowed */
    comm *comm;             /* owned; NULL: sums go through host memory */
};

void reduce_free(reduce **r)
{
    if (!r || !*r) return;
    if ((*r)->comm) (*r)->backend->comm_close(&(*r)->comm);
    free((*r)->room);
    free((*r)->counts);
    free(*r);
    *r = NULL;
}

status reduce_new(world *w, double deadline_seconds, reduce **out)
{
    size_t ranks = (size_t)world_size(w);
    *out = NULL;
    reduce *r = calloc(1, sizeof *r);
    if (r) r->counts = calloc(4 * ranks, sizeof *r->counts);
    if (r) r->room = malloc((BLOCK + 2 * ranks) * sizeof *r->room); /* ranks * ceil(BLOCK / ranks) fit */
    if (!r || !r->counts || !r->room) {
        reduce_free(&r);
        return COV_FAIL(COV_NOMEM, "no memory for sums over %zu ranks", ranks);
    }
    r->starts = r->counts + ranks;
    r->in_counts = r->starts + ranks;
    r->in_starts = r->in_counts + ranks;
    r->world = w;
    r->deadline = deadline_seconds > 0 ? deadline_seconds : 600;
    *out = r;
    return COV_OK;
}

/* One block: every rank owns a share of it. */
static status sum_block(reduce *r, float *v, int n)
{
    int ranks = world_size(r->world), me = world_rank(r->world);
    MPI_Comm everybody = world_comm(r->world);
    for (int k = 0, at = 0; k < ranks; k++) {
        r->counts[k] = n / ranks + (k < n % ranks);
        r->starts[k] = at;
        at += r->counts[k];
    }
    int share = r->counts[me];
    for (int k = 0; k < ranks; k++) {
        r->in_counts[k] = share;
        r->in_starts[k] = k * share;
    }
    WORLD_MPI(MPI_Alltoallv(v, r->counts, r->starts, MPI_FLOAT, r->room, r->in_counts, r->in_starts, MPI_FLOAT,
                            everybody));
    float *mine = v + r->starts[me];
    memcpy(mine, r->room, (size_t)share * sizeof *mine);
    for (int k = 1; k < ranks; k++)
        for (int i = 0; i < share; i++) mine[i] += r->room[(size_t)k * (size_t)share + (size_t)i];
    WORLD_MPI(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, v, r->counts, r->starts, MPI_FLOAT, everybody));
    return COV_OK;
}

status reduce_sum(void *ctx, float *v, size_t n)
{
    reduce *r = ctx;
    status s = COV_OK;
    if (world_size(r->world) == 1) return COV_OK;
    world_guard(r->world, "a sum over the ranks", r->deadline);
    for (size_t at = 0; at < n && s == COV_OK; at += BLOCK)
        s = sum_block(r, v + at, (int)(n - at < BLOCK ? n - at : BLOCK));
    world_guard_off(r->world);
    return s;
}

/* ---- sums on the devices */

enum { HOST_BYTES = 96 };

/* 1 where no two ranks have one device of one node. Collective. */
static status devices_differ(reduce *r, device *d, int *differ)
{
    enum { ROW = HOST_BYTES + DEVICE_KEY_BYTES };
    int ranks = world_size(r->world), me = world_rank(r->world);
    char *all = calloc((size_t)ranks, ROW);
    *differ = 0;
    if (!all) return COV_FAIL(COV_NOMEM, "no memory for the devices of %d ranks", ranks);
    strncpy(all + me * ROW, world_host(r->world, me), HOST_BYTES - 1);
    r->backend->device_key(d, all + me * ROW + HOST_BYTES);
    world_guard(r->world, "the exchange of device names", r->deadline);
    int e = MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all, ROW, MPI_CHAR, world_comm(r->world));
    world_guard_off(r->world);
    *differ = 1;
    for (int a = 0; a < ranks; a++)
        for (int b = 0; b < a; b++)
            if (!memcmp(all + a * ROW, all + b * ROW, ROW)) *differ = 0;
    free(all);
    return e == MPI_SUCCESS ? COV_OK : world_mpi_fail(e, "MPI_Allgather", __FILE__, __LINE__);
}

status reduce_use_device(reduce *r, const backend *b, device *d, int *used)
{
    int ranks = world_size(r->world), me = world_rank(r->world), differ;
    struct {
        char id[COMM_ID_BYTES];
        int made;
    } told = {.made = 0};
    *used = 0;
    if (ranks == 1 || !b->comm_open) return COV_OK;
    r->backend = b;
    COV_TRY(devices_differ(r, d, &differ));
    if (!differ) return COV_OK;
    if (me == 0) told.made = b->comm_id(d, told.id) == COV_OK;
    COV_TRY(reduce_broadcast(r, &told, sizeof told));
    if (!told.made) return COV_OK;
    float joined = b->comm_open(d, told.id, me, ranks, r->deadline, &r->comm) == COV_OK;
    COV_TRY(reduce_sum(r, &joined, 1));
    if ((int)joined < ranks && r->comm) b->comm_close(&r->comm);
    *used = r->comm != NULL;
    return COV_OK;
}

static status joined(const reduce *r)
{
    return r->comm ? COV_OK : COV_FAIL(COV_BROKEN, "a sum over devices that have not joined");
}

status reduce_start(void *ctx, float *v, size_t n)
{
    reduce *r = ctx;
    COV_TRY(joined(r));
    return r->backend->comm_sum(r->comm, v, n);
}

status reduce_finish(void *ctx)
{
    reduce *r = ctx;
    COV_TRY(joined(r));
    return r->backend->comm_finish(r->comm);
}

status reduce_broadcast(void *ctx, void *bytes, size_t n)
{
    reduce *r = ctx;
    char *at = bytes;
    if (world_size(r->world) == 1) return COV_OK;
    world_guard(r->world, "a broadcast", r->deadline);
    for (size_t left = n; left; ) {
        int step = left < (1u << 26) ? (int)left : 1 << 26;
        int e = MPI_Bcast(at, step, MPI_BYTE, 0, world_comm(r->world));
        if (e != MPI_SUCCESS) { world_guard_off(r->world); return world_mpi_fail(e, "MPI_Bcast", __FILE__, __LINE__); }
        at += step;
        left -= (size_t)step;
    }
    world_guard_off(r->world);
    return COV_OK;
}

status reduce_collect(reduce *r, const void *mine, size_t n, void *all)
{
    if (n > 1 << 20) return COV_FAIL(COV_BROKEN, "%zu bytes a rank to collect", n);
    world_guard(r->world, "an exchange", r->deadline);
    int e = MPI_Allgather(mine, (int)n, MPI_BYTE, all, (int)n, MPI_BYTE, world_comm(r->world));
    world_guard_off(r->world);
    return e == MPI_SUCCESS ? COV_OK : world_mpi_fail(e, "MPI_Allgather", __FILE__, __LINE__);
}
