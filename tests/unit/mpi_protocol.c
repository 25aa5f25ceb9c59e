/* Messages: what is put is what is got, and a cut or hostile message fails instead of reading past its end. */
#include "mpi/channel.h"
#include "mpi/protocol.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static protocol_study a_study(void)
{
    protocol_study s = {.index = 7,
                        .unit = 3,
                        .bytes = 1 << 30,
                        .mtime_ns = -5,
                        .stamp = -6,
                        .voxels = (int64_t)1 << 40,
                        .seconds = 1.5,
                        .reason = REASON_BAD_HEADER,
                        .step = UNIT_RANGE,
                        .z0 = 32,
                        .z1 = 64,
                        .range = 16};
    strcpy(s.detail, "a detail");
    strcpy(s.path_abs, "/a/b \xff.nii");
    strcpy(s.path_rel, "b \xff.nii");
    strcpy(s.id, "b");
    strcpy(s.format, "nifti");
    return s;
}

static protocol_head a_head(void)
{
    protocol_head h = {.index = 9, .reason = REASON_NOT_CT, .has_head = 1, .seconds = 0.25};
    strcpy(h.detail, "labels");
    strcpy(h.sha256, "abc");
    strcpy(h.head.format, "nifti1");
    h.head.nx = 512;
    h.head.affine[1][2] = -3.5;
    h.stats.distinct = 99;
    return h;
}

static void every_struct_survives_the_way(void **state)
{
    message m = {0};
    protocol_study s = a_study(), s2;
    protocol_head h = a_head(), h2;
    protocol_path p = {.index = 1, .digest = 1, .stamp = -9, .path = "/x"}, p2;
    protocol_done d = {.index = 4,
                       .failure = COV_NOMEM,
                       .outcome = 2,
                       .reason = 10,
                       .strikes = 2,
                       .voxels = 8,
                       .more = 1,
                       .seconds = 2,
                       .detail = "d"},
                  d2;
    (void)state;
    memset(&s2, 0, sizeof s2);
    memset(&h2, 0, sizeof h2);
    memset(&p2, 0, sizeof p2);
    memset(&d2, 0, sizeof d2);
    message_start(&m, PROTOCOL_UNIT);
    protocol_put_study(&m, &s);
    protocol_put_head(&m, &h);
    protocol_put_path(&m, &p);
    protocol_put_done(&m, &d);
    assert_int_equal(message_kind(&m), PROTOCOL_UNIT);
    message_rewind(&m);
    protocol_get_study(&m, &s2);
    protocol_get_head(&m, &h2);
    protocol_get_path(&m, &p2);
    protocol_get_done(&m, &d2);
    assert_int_equal(message_end(&m, "test"), COV_OK);
    assert_memory_equal(&s, &s2, sizeof s);
    assert_memory_equal(&h, &h2, sizeof h);
    assert_memory_equal(&p, &p2, sizeof p);
    assert_memory_equal(&d, &d2, sizeof d);
    message_free(&m);
}

static void a_cut_message_fails_at_every_length(void **state)
{
    message m = {0};
    protocol_study s = a_study();
    protocol_head h = a_head();
    (void)state;
    message_start(&m, PROTOCOL_READ_VOLUME);
    protocol_put_study(&m, &s);
    protocol_put_head(&m, &h);
    for (size_t n = 0; n < m.used; n++) {
        message cut = {.bytes = malloc(n ? n : 1), .used = n, .room = n}; /* exactly n bytes, for the sanitizer */
        memcpy(cut.bytes, m.bytes, n);
        message_rewind(&cut);
        protocol_get_study(&cut, &s);
        protocol_get_head(&cut, &h);
        assert_int_equal(message_end(&cut, "cut"), COV_COMM);
        message_free(&cut);
    }
    message_put_i64(&m, 1);
    message_rewind(&m);
    protocol_get_study(&m, &s);
    protocol_get_head(&m, &h);
    assert_int_equal(message_end(&m, "too long"), COV_COMM);
    message_free(&m);
}

static void names_that_do_not_fit_and_unknown_reasons_are_refused(void **state)
{
    message m = {0};
    protocol_path p;
    protocol_head h = a_head();
    char *name = malloc(PROTOCOL_PATH + 1);
    (void)state;
    memset(name, 'x', PROTOCOL_PATH);
    name[PROTOCOL_PATH] = 0;
    message_start(&m, PROTOCOL_HEADERS);
    message_put_i64(&m, 1);
    message_put_i64(&m, 0);
    message_put_i64(&m, 0);
    message_put_text(&m, name);
    message_rewind(&m);
    protocol_get_path(&m, &p);
    assert_int_equal(message_end(&m, "long name"), COV_COMM);
    h.reason = REASON_COUNT;
    message_start(&m, PROTOCOL_HEAD);
    protocol_put_head(&m, &h);
    message_rewind(&m);
    protocol_get_head(&m, &h);
    assert_int_equal(message_end(&m, "reason"), COV_COMM);
    message_free(&m);
    free(name);
}

static void a_channel_carries_messages_and_a_descriptor(void **state)
{
    int ends[2], fd, got, open_;
    message out = {0}, in = {0};
    (void)state;
    assert_int_equal(channel_pair(ends), COV_OK);
    assert_int_equal(channel_receive(ends[1], 0, &in, &fd, &got, &open_), COV_OK);
    assert_true(!got && open_ && fd < 0);
    int given = open("/dev/null", O_RDONLY);
    message_start(&out, PROTOCOL_BEAT);
    message_put_text(&out, "hello");
    assert_int_equal(channel_send(ends[0], &out, given), COV_OK);
    assert_int_equal(channel_send(ends[0], &out, -1), COV_OK);
    assert_int_equal(channel_receive(ends[1], 1, &in, &fd, &got, &open_), COV_OK);
    assert_true(got && fd >= 0 && message_kind(&in) == PROTOCOL_BEAT);
    assert_string_equal(message_get_text(&in), "hello");
    close(fd);
    assert_int_equal(channel_receive(ends[1], 1, &in, &fd, &got, &open_), COV_OK);
    assert_true(got && fd < 0);
    close(ends[0]);
    assert_int_equal(channel_receive(ends[1], 1, &in, &fd, &got, &open_), COV_OK);
    assert_true(!got && !open_);
    assert_int_equal(channel_send(ends[1], &out, -1), COV_COMM);
    close(ends[1]);
    close(given);
    message_free(&out);
    message_free(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_struct_survives_the_way),
        cmocka_unit_test(a_cut_message_fails_at_every_length),
        cmocka_unit_test(names_that_do_not_fit_and_unknown_reasons_are_refused),
        cmocka_unit_test(a_channel_carries_messages_and_a_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
