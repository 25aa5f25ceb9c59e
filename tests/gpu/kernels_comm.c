/* NCCL among one rank, the most that one GPU can show: a communicator opens, sums that are started beside a recorded backward pass
 * leave the gradients as they are, and it closes. What several GPUs would sum is not shown. Skipped where there is no NCCL. */
#include "net_fixture.h"

typedef struct sums {
    const backend *b;
    comm *c;
    float *grads;
    int started;
} sums;

static status start(void *ctx, size_t first, size_t count)
{
    sums *s = ctx;
    s->started++;
    return s->b->comm_sum(s->c, s->grads + first, count);
}

static void backward(zoo *z, const backend *b, device *d, float *to, sums *s)
{
    float *values;
    size_t count;
    zoo_feed(z);
    ok(net_forward(z->n));
    ok(net_gradients(z->n, &s->grads, &values, &count));
    ok(net_backward(z->n));
    if (s->c) ok(b->comm_finish(s->c));
    assert_true(count <= 8192);
    ok(b->download(d, to, s->grads, count * sizeof *to));
}

static void sums_of_one_rank_beside_the_backward_pass_change_nothing(void **state)
{
    (void)state;
    const backend *b = backend_at(1);
    char id[COMM_ID_BYTES];
    float alone[8192] = {0}, summed[8192] = {0};
    device *d;
    sums none = {.b = b}, s = {.b = b};
    ok(b->open(&(device_options){.threads = 1}, &d));
    if (b->comm_id(d, id) != COV_OK) {
        printf("skipped: %s\n", status_message());
        exit(77);
    }
    ok(b->comm_open(d, id, 0, 1, 60, &s.c));
    zoo plain = zoo_build(b, d, 2, 16), z = zoo_build(b, d, 2, 16);
    ok(net_compile(plain.n, NET_TRAIN, NET_BF16, plain.losses, zoo_weights, 4));
    ok(net_compile(z.n, NET_TRAIN, NET_BF16, z.losses, zoo_weights, 4));
    ok(net_on_gradients(z.n, 256, start, &s));
    ok(b->comm_finish(s.c)); /* of none */
    for (int pass = 0; pass < 4; pass++) {
        s.started = 0;
        backward(&plain, b, d, alone, &none);
        backward(&z, b, d, summed, &s);
        assert_true(s.started > 4);
        assert_memory_equal(alone, summed, sizeof alone);
    }
    net_free(&plain.n);
    net_free(&z.n);
    b->comm_close(&s.c);
    assert_null(s.c);
    b->close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_of_one_rank_beside_the_backward_pass_change_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
