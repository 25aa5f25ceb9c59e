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
    MPI_Allreduce(&failures, &all, 1, MPI_INT, MPI_SUM, world_comm(w));
    if (world_rank(w) == 0) printf("%d ranks: %d failures\n", world_size(w), all);
    reduce_free(&r);
    world_close(&w);
    return all != 0;
}
