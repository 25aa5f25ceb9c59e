/* weights files: exact round trips in all three storage types, identity, and refusal of anything damaged or hostile.
 * Damage is made on the bytes of a good file, or with HDF5 itself through the same cover that the library uses. */
#include "base/size.h"
#include "data/h5.h"
#include "data/weights.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/covpipe-weights-XXXXXX";
static char file[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(file, sizeof file, "%s/w.h5", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void ok(status s)
{
    if (s != COV_OK) fail_msg("%s: %s (%s)", status_name(s), status_message(), status_trace());
}

static weights_file *sample(weights_store store)
{
    weights_file *w = NULL;
    float values[4 * 3 * 3 * 2];
    ok(weights_new("lung-axial", "compact", &w));
    w->store = store;
    for (int k = 0; k < 72; k++) values[k] = sinf((float)k) * expf((float)(k % 20) - 12.0f);
    ok(weights_put_param(w, "down1/conv1/w", (int64_t[4]){4, 3, 3, 2}, values));
    ok(weights_put_param(w, "down1/conv1/b", (int64_t[4]){1, 1, 1, 4}, values));
    ok(weights_put_param(w, "out", (int64_t[4]){1, 1, 1, 1}, values + 7));
    ok(weights_put_text(w, "record", "{\"steps\": 3}"));
    ok(weights_put_text(w, "data", "phantoms, \xc3\xa9"));
    ok(weights_put_text(w, "empty", ""));
    return w;
}

static void same(const weights_file *a, const weights_file *b)
{
    assert_string_equal(a->model, b->model);
    assert_string_equal(a->preset, b->preset);
    assert_string_equal(a->sha256, b->sha256);
    assert_int_equal(a->store, b->store);
    assert_int_equal(a->param_count, b->param_count);
    for (int k = 0; k < a->param_count; k++) {
        size_t n = 0;
        assert_string_equal(a->params[k].name, b->params[k].name);
        assert_memory_equal(a->params[k].shape, b->params[k].shape, sizeof a->params[k].shape);
        assert_true(size_product(a->params[k].shape, 4, &n));
        assert_memory_equal(a->params[k].values, b->params[k].values, n * sizeof(float));
    }
    assert_int_equal(a->text_count, b->text_count);
    for (int k = 0; k < a->text_count; k++) {
        assert_string_equal(a->texts[k].name, b->texts[k].name);
        assert_string_equal(a->texts[k].text, b->texts[k].text);
    }
}

static void a_file_gives_back_exactly_what_memory_held_after_saving_in_every_storage_type(void **state)
{
    (void)state;
    for (int store = WEIGHTS_F32; store <= WEIGHTS_F16; store++) {
        weights_file *w = sample((weights_store)store), *back = NULL;
        ok(weights_save(file, w));
        ok(weights_load(file, &back));
        same(w, back);
        assert_int_equal(back->has_checkpoint, 0);
        assert_int_equal(strlen(back->sha256), 64);
        assert_string_equal(weights_find_text(back, "record"), "{\"steps\": 3}");
        assert_null(weights_find_text(back, "nothing"));
        assert_non_null(weights_find_param(back, "out"));
        weights_free(&w);
        weights_free(&back);
        assert_null(back);
    }
}

static void rounding_to_bf16_and_f16_is_to_the_nearest_and_stable(void **state)
{
    (void)state;
    const double relative[] = {0, 1.0 / 256, 1.0 / 2048};
    for (int store = WEIGHTS_BF16; store <= WEIGHTS_F16; store++) {
        weights_file *w = sample((weights_store)store), *exact = sample(WEIGHTS_F32);
        ok(weights_save(file, w));
        int changed = 0;
        for (int k = 0; k < 72; k++) {
            double x = exact->params[0].values[k], y = w->params[0].values[k];
            double step = store == WEIGHTS_F16 && fabs(x) < 6.1e-5 ? 3.0e-8 : fabs(x) * relative[store];
            changed += x != y;
            assert_true(fabs(x - y) <= step);
        }
        assert_true(changed > 30);
        float once[72];
        memcpy(once, w->params[0].values, sizeof once);
        ok(weights_save(file, w));
        assert_memory_equal(once, w->params[0].values, sizeof once);
        weights_free(&w);
        weights_free(&exact);
    }
}

/* Every finite float16 there is, and the ties between neighbours, against arithmetic in double. */
static void every_float16_survives_and_ties_go_to_even(void **state)
{
    (void)state;
    enum { N = 31 * 1024 };
    static float all[N], ties[N - 1];
    weights_file *w = NULL, *back = NULL;
    for (int k = 0; k < N; k++) all[k] = (float)(k < 1024 ? ldexp(k, -24) : ldexp(1024 + k % 1024, k / 1024 - 25));
    for (int k = 0; k < N - 1; k++) ties[k] = (float)(0.5 * ((double)all[k] + all[k + 1]));
    ok(weights_new("m", "p", &w));
    w->store = WEIGHTS_F16;
    ok(weights_put_param(w, "all", (int64_t[4]){1, 1, 1, N}, all));
    ok(weights_put_param(w, "ties", (int64_t[4]){1, 1, 1, N - 1}, ties));
    ok(weights_save(file, w));
    ok(weights_load(file, &back));
    assert_memory_equal(back->params[0].values, all, sizeof all);
    for (int k = 0; k < N - 1; k++) assert_true(back->params[1].values[k] == all[k + (k & 1)]);
    weights_free(&w);
    weights_free(&back);
}

static void a_checkpoint_comes_back_bit_for_bit(void **state)
{
    (void)state;
    weights_file *w = sample(WEIGHTS_F32), *back = NULL;
    float m[5] = {0.1f, -2.5f, 1e-30f, 0, 3}, losses[2] = {0.5f, 0.25f};
    uint8_t rng[32];
    int64_t cursor = -42;
    for (int k = 0; k < 32; k++) rng[k] = (uint8_t)(k * 7);
    w->step = 1234567890123;
    memset(w->split_sha256, 'a', 64);
    ok(weights_put_array(w, "m", WEIGHTS_ARRAY_F32, 5, m));
    ok(weights_put_array(w, "rng", WEIGHTS_ARRAY_U8, 32, rng));
    ok(weights_put_array(w, "cursor", WEIGHTS_ARRAY_I64, 1, &cursor));
    ok(weights_put_array(w, "losses", WEIGHTS_ARRAY_F32, 2, losses));
    ok(weights_put_array(w, "nothing", WEIGHTS_ARRAY_F32, 0, NULL));
    ok(weights_save(file, w));
    ok(weights_load(file, &back));
    same(w, back);
    assert_int_equal(back->has_checkpoint, 1);
    assert_int_equal(back->step, 1234567890123);
    assert_string_equal(back->split_sha256, w->split_sha256);
    assert_int_equal(back->array_count, 5);
    assert_memory_equal(weights_find_array(back, "m")->data, m, sizeof m);
    assert_memory_equal(weights_find_array(back, "rng")->data, rng, sizeof rng);
    assert_memory_equal(weights_find_array(back, "cursor")->data, &cursor, sizeof cursor);
    assert_int_equal(weights_find_array(back, "nothing")->count, 0);
    assert_null(weights_find_array(back, "v"));
    weights_free(&w);
    weights_free(&back);
}

static void the_digest_names_the_content_and_not_the_moment(void **state)
{
    (void)state;
    weights_file *a = sample(WEIGHTS_F32), *b = sample(WEIGHTS_F32), *c = sample(WEIGHTS_F32);
    ok(weights_save(file, a));
    strcpy(b->version, "another");
    b->step = 9;
    ok(weights_put_array(b, "m", WEIGHTS_ARRAY_F32, 1, &(float){1}));
    ok(weights_save(file, b));
    assert_string_equal(a->sha256, b->sha256);
    c->params[1].values[0] += 1e-3f;
    ok(weights_save(file, c));
    assert_string_not_equal(a->sha256, c->sha256);
    c->params[1].values[0] = a->params[1].values[0];
    ok(weights_put_text(c, "record", "other"));
    ok(weights_save(file, c));
    assert_string_not_equal(a->sha256, c->sha256);
    weights_free(&a);
    weights_free(&b);
    weights_free(&c);
}

static void bad_names_and_values_are_refused_when_put(void **state)
{
    (void)state;
    weights_file *w = sample(WEIGHTS_F32);
    const int64_t one[4] = {1, 1, 1, 1};
    const char *const bad[] = {"", "/a", "a/", "a//b", "..", "a/../b", ".", "a b", "a\nb", "out"};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++)
        assert_int_equal(weights_put_param(w, bad[k], one, &(float){1}), COV_USAGE);
    assert_int_equal(weights_put_param(w, "nan", one, &(float){NAN}), COV_USAGE);
    assert_int_equal(weights_put_param(w, "zero", (int64_t[4]){1, 0, 1, 1}, &(float){1}), COV_USAGE);
    assert_int_equal(weights_put_param(w, "huge", (int64_t[4]){INT64_MAX, 8, 8, 8}, &(float){1}), COV_USAGE);
    assert_int_equal(w->param_count, 3);
    char *text = calloc(WEIGHTS_TEXT_LIMIT + 2, 1);
    memset(text, 'x', WEIGHTS_TEXT_LIMIT + 1);
    assert_int_equal(weights_put_text(w, "long", text), COV_USAGE);
    text[WEIGHTS_TEXT_LIMIT] = 0;
    ok(weights_put_text(w, "long", text));
    ok(weights_save(file, w));
    weights_file *back = NULL;
    ok(weights_load(file, &back));
    same(w, back);
    free(text);
    weights_free(&back);
    weights_free(&w);
}

static void a_value_too_large_for_the_storage_type_leaves_the_old_file(void **state)
{
    (void)state;
    weights_file *w = sample(WEIGHTS_F32), *back = NULL;
    ok(weights_save(file, w));
    weights_file *big = sample(WEIGHTS_F16);
    big->params[0].values[3] = 70000.0f;
    assert_int_equal(weights_save(file, big), COV_USAGE);
    ok(weights_load(file, &back));
    same(w, back);
    char command[128];
    snprintf(command, sizeof command, "test $(ls %s | wc -l) = 1", folder);
    assert_int_equal(system(command), 0);
    weights_free(&w);
    weights_free(&big);
    weights_free(&back);
}

static unsigned char *slurp(size_t *n)
{
    struct stat about;
    int fd = open(file, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &about) == 0);
    unsigned char *bytes = malloc((size_t)about.st_size);
    assert_int_equal(read(fd, bytes, (size_t)about.st_size), about.st_size);
    close(fd);
    *n = (size_t)about.st_size;
    return bytes;
}

static void spill(const unsigned char *bytes, size_t n)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), (ssize_t)n);
    close(fd);
}

static void a_truncated_file_is_refused_at_every_length(void **state)
{
    (void)state;
    weights_file *w = sample(WEIGHTS_BF16), *back = NULL;
    ok(weights_save(file, w));
    size_t n;
    unsigned char *bytes = slurp(&n);
    for (size_t cut = 0; cut < n; cut += 509) {
        spill(bytes, cut);
        assert_int_not_equal(weights_load(file, &back), COV_OK);
        assert_null(back);
    }
    free(bytes);
    weights_free(&w);
}

/* A flipped byte may hit slack that means nothing; then the content must still be the same. It is tried in a child,
 * because HDF5 itself is what is being fed. */
static void a_flipped_byte_is_refused_or_harmless(void **state)
{
    (void)state;
    weights_file *w = sample(WEIGHTS_F32);
    ok(weights_put_array(w, "m", WEIGHTS_ARRAY_F32, 3, (float[3]){1, 2, 3}));
    ok(weights_save(file, w));
    size_t n;
    int refused = 0, harmless = 0;
    unsigned char *bytes = slurp(&n);
    for (size_t at = 3; at < n; at += 61) {
        bytes[at] ^= 0x10;
        spill(bytes, n);
        bytes[at] ^= 0x10;
        pid_t child = fork();
        if (child == 0) {
            weights_file *back = NULL;
            if (!freopen("/dev/null", "w", stderr)) _exit(3); /* what a sanitizer says of HDF5 */
            status s = weights_load(file, &back);
            _exit(s != COV_OK ? 1 : strcmp(back->sha256, w->sha256) != 0 ? 2 : 0);
        }
        int how = 0;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFEXITED(how));
        assert_true(WEXITSTATUS(how) < 2);
        if (WEXITSTATUS(how) == 1) refused++;
        else harmless++;
    }
    assert_true(refused > 0 && harmless > 0);
    free(bytes);
    weights_free(&w);
}

static void hdf5s_cache_holds_the_largest_chunk_of_a_table(void **state)
{
    (void)state;
    hid_t f;
    size_t slots, bytes = 0;
    double policy;
    weights_file *w = sample(WEIGHTS_F32);
    ok(weights_save(file, w));
    ok(h5_open_file(file, H5F_ACC_RDONLY, &f));
    hid_t list = H5Fget_access_plist(f);
    assert_true(H5Pget_cache(list, NULL, &slots, &bytes, &policy) >= 0);
    assert_int_equal(bytes, H5_CHUNK_CACHE);
    H5Pclose(list);
    H5Fclose(f);
    weights_free(&w);
}

static void a_file_that_is_not_weights_is_refused_by_name(void **state)
{
    (void)state;
    weights_file *back = NULL;
    assert_int_equal(weights_load("/nonexistent/w.h5", &back), COV_IO);
    spill((const unsigned char *)"hello", 5);
    assert_int_equal(weights_load(file, &back), COV_FORMAT);
    assert_non_null(strstr(status_message(), file));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_gives_back_exactly_what_memory_held_after_saving_in_every_storage_type),
        cmocka_unit_test(rounding_to_bf16_and_f16_is_to_the_nearest_and_stable),
        cmocka_unit_test(every_float16_survives_and_ties_go_to_even),
        cmocka_unit_test(a_checkpoint_comes_back_bit_for_bit),
        cmocka_unit_test(the_digest_names_the_content_and_not_the_moment),
        cmocka_unit_test(bad_names_and_values_are_refused_when_put),
        cmocka_unit_test(a_value_too_large_for_the_storage_type_leaves_the_old_file),
        cmocka_unit_test(a_truncated_file_is_refused_at_every_length),
        cmocka_unit_test(a_flipped_byte_is_refused_or_harmless),
        cmocka_unit_test(hdf5s_cache_holds_the_largest_chunk_of_a_table),
        cmocka_unit_test(a_file_that_is_not_weights_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
