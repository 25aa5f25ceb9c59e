/* Sums and broadcasts over the ranks: right, the same bits on every rank, the same bits twice. */
#include "mpi/reduce.h"
#include "mpi/world_comm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                   \
    do {                                                                                                   \
        if (!(condition)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); failures++; }  \
    } while (0)

static float value_of(int rank, size_t i) { return (float)(rank + 1) * 0.37f + (float)(i % 1013) * 1e-3f; }

static int sums_are_right_and_the_same_bits_on_every_rank(world *w, reduce *r, size_t n)
{
    int failures = 0, ranks = world_size(w);
    float *v = malloc((n + 1) * sizeof *v), *first = malloc((n + 1) * sizeof *v);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < n; i++) v[i] = value_of(world_rank(w), i);
        CHECK(reduce_sum(r, v, n) == COV_OK);
        if (round == 0) memcpy(first, v, n * sizeof *v);
    }
    CHECK(memcmp(first, v, n * sizeof *v) == 0);
    for (size_t i = 0; i < n; i++) {
        float want = value_of(0, i);
        for (int k = 1; k < ranks; k++) want += value_of(k, i);
        if (v[i] != want) { CHECK(v[i] == want); break; }
    }
    memcpy(first, v, n * sizeof *v);
    CHECK(reduce_broadcast(r, first, n * sizeof *v) == COV_OK);
    CHECK(memcmp(first, v, n * sizeof *v) == 0);
    free(v);
    free(first);
    return failures;
}

/* A backend that sums by MPI, whose devices are told apart by a name: what NCCL does on GPUs. */
enum { SUMS = 4 };
struct comm {
    int rank, started;
    float *v[SUMS], taken[SUMS][8];
    size_t n[SUMS];
};
static int shared; /* ranks of this test's node share one device */
static world *of_devices;
static struct comm here;

static void key(device *d, char to[DEVICE_KEY_BYTES])
{
    (void)d;
    snprintf(to, DEVICE_KEY_BYTES, "device %d", shared ? 0 : world_rank(of_devices));
}
static status make_id(device *d, void *id) { return (void)d, memset(id, 7, COMM_ID_BYTES), COV_OK; }
static status join(device *d, const void *id, int rank, int ranks, double deadline_seconds, comm **out)
{
    (void)d;
    here.rank = rank;
    *out = &here;
    return ranks == world_size(of_devices) && deadline_seconds > 0 && ((const char *)id)[COMM_ID_BYTES - 1] == 7 ? COV_OK : COV_BROKEN;
}
static void leave(comm **c) { *c = NULL; }
/* As a GPU might at the worst: it takes what is there when the sum is started, and shows nothing before the end. */
static status start(comm *c, float *v, size_t n)
{
    if (c->started == SUMS) return COV_BROKEN;
    c->v[c->started] = v;
    c->n[c->started] = n;
    memcpy(c->taken[c->started++], v, n * sizeof *v);
    return COV_OK;
}
static status finish(comm *c)
{
    int e = MPI_SUCCESS;
    for (int k = 0; k < c->started && e == MPI_SUCCESS; k++)
        e = MPI_Allreduce(c->taken[k], c->v[k], (int)c->n[k], MPI_FLOAT, MPI_SUM, world_comm(of_devices));
    c->started = 0;
    return e == MPI_SUCCESS ? COV_OK : COV_COMM;
}

/* Three sums of different sizes under way, one of host memory between, twice. */
static int several_sums_may_be_under_way_and_none_shows_before_the_end(world *w, reduce *r)
{
    int failures = 0, ranks = world_size(w);
    float all = (float)ranks * (float)(ranks + 1) / 2.0f; /* of rank + 1 */
    for (int round = 0; round < 2; round++) {
        float v[6], host = 1.0f;
        for (int i = 0; i < 6; i++) v[i] = (float)(world_rank(w) + 1) * (float)(i + 1);
        CHECK(reduce_start(r, v + 3, 3) == COV_OK);
        CHECK(reduce_start(r, v + 1, 2) == COV_OK);
        CHECK(reduce_start(r, v, 1) == COV_OK);
        CHECK(here.started == 3);
        CHECK(reduce_sum(r, &host, 1) == COV_OK && host == (float)ranks);
        for (int i = 0; i < 6; i++) CHECK(v[i] == (float)(world_rank(w) + 1) * (float)(i + 1));
        CHECK(reduce_finish(r) == COV_OK);
        CHECK(here.started == 0);
        for (int i = 0; i < 6; i++) CHECK(v[i] == all * (float)(i + 1));
    }
    CHECK(reduce_finish(r) == COV_OK); /* of none */
    return failures;
}

static int devices_sum_where_each_rank_has_its_own(world *w)
{
    const backend b = {.name = "fake", .device_key = key, .comm_id = make_id, .comm_open = join, .comm_close = leave, .comm_sum = start, .comm_finish = finish};
    const backend plain = {.name = "plain"};
    int failures = 0, used;
    of_devices = w;
    for (shared = 0; shared < 2; shared++) {
        reduce *r = NULL;
        float v = 1;
        CHECK(reduce_new(w, 0, &r) == COV_OK);
        CHECK(reduce_start(r, &v, 1) == COV_BROKEN && reduce_finish(r) == COV_BROKEN);
        CHECK(reduce_use_device(r, &plain, NULL, &used) == COV_OK && !used);
        CHECK(reduce_use_device(r, &b, NULL, &used) == COV_OK);
        CHECK(used == (!shared && world_size(w) > 1));
        if (used) failures += several_sums_may_be_under_way_and_none_shows_before_the_end(w, r);
        reduce_free(&r);
    }
    return failures;
}

static int a_broadcast_gives_rank_0s_bytes(world *w, reduce *r)
{
    int failures = 0;
    char text[300];
    memset(text, 'a' + world_rank(w), sizeof text);
    CHECK(reduce_broadcast(r, text, sizeof text) == COV_OK);
    for (size_t i = 0; i < sizeof text; i++) CHECK(text[i] == 'a');
    return failures;
}

int main(void)
{
    world *w;
    reduce *r;
    int failures = 0, all = 0;
    if (world_open(&(world_options){0}, &w) != COV_OK || reduce_new(w, 60, &r) != COV_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    static const size_t sizes[] = {0, 1, 3, 1000, (1u << 20) + 7};
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
        failures += sums_are_right_and_the_same_bits_on_every_rank(w, r, sizes[k]);
    failures += a_broadcast_gives_rank_0s_bytes(w, r);
    failures += devices_sum_where_each_rank_has_its_own(w);
    MPI_Allreduce(&failures, &all, 1, MPI_INT, MPI_SUM, world_comm(w));
    if (world_rank(w) == 0) printf("%d ranks: %d failures\n", world_size(w), all);
    reduce_free(&r);
    world_close(&w);
    return all != 0;
}
