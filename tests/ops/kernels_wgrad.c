/* Gradients of convolutions by their weights, against ref, at sizes that the cpu backend's own ways of computing
 * them have to cut up: channels that fill no tile, windows that stick out, strides that leave phases of the image,
 * images that end within a step, more pixels than a strip and more channels than a block takes. */
#include "kernels/cpu/wgrad.h"
#include "op_variant.h"

static const op_case cases[] = {
#define CASE(ci, co, kernel, stride, pad, ...) WINDOW_(OP_CONV, ci, co, kernel, stride, pad, 1, 1, __VA_ARGS__)
    CASE(1, 1, 1, 1, 0, 1, 1, 1),      CASE(16, 16, 3, 1, 1, 1, 40, 44),  CASE(17, 35, 3, 1, 1, 2, 21, 18),
    CASE(33, 48, 3, 2, 1, 2, 33, 29),  CASE(20, 70, 1, 2, 0, 3, 23, 31),  CASE(3, 17, 7, 2, 3, 2, 47, 50),
    CASE(8, 20, 5, 3, 1, 1, 32, 31),   CASE(40, 12, 1, 1, 0, 1, 37, 41),  CASE(2, 3, 2, 4, 0, 1, 18, 19),
    CASE(5, 6, 4, 3, 3, 2, 9, 1),      CASE(130, 96, 3, 1, 1, 1, 16, 9),  CASE(4, 4, 3, 1, 0, 1, 3, 90),
    CASE(12, 16, 3, 1, 2, 1, 1, 1100),
#undef CASE
};
enum { CASES = sizeof cases / sizeof cases[0] };

/* dw of case k, to be freed; which had begun as dp's random numbers, and was added to. */
static float *weight_gradient(const backend *b, device *d, int k, tensor_type type, size_t *count)
{
    bench t;
    op_shapes s;
    char text[256];
    device *plain = NULL;
    MUST(op_case_shapes(&cases[k], type, &s));
    op_case_text(&cases[k], type, text, sizeof text);
    bench_new(&t, b, d, &cases[k].o, &s);
    bench_fill(&t, 77);
    bench y;
    /* y, for the ReLU's mask, is ref's: the same for all. */
    MUST(backend_at(0)->open(&(device_options){.threads = 1}, &plain));
    bench_new(&y, backend_at(0), plain, &cases[k].o, &s);
    bench_fill(&y, 77);
    bench_run(&y, OP_FORWARD);
    void *bytes = bench_get(&y, SLOT_Y, text);
    bench_put(&t, SLOT_Y, bytes);
    bench_run(&t, OP_BACKWARD);
    *count = slot_count(&t, SLOT_DP);
    float *dw = bench_floats(&t, SLOT_DP, text);
    free(bytes);
    bench_free(&y);
    bench_free(&t);
    backend_at(0)->close(&plain);
    return dw;
}

static void compare(tensor_type type, double rel, double part)
{
    device *plain = NULL;
    variant v;
    MUST(backend_at(0)->open(&(device_options){.threads = 1}, &plain));
    for (int i = 1; variant_open(i, 2, &v); i++) {
        for (int k = 0; k < CASES; k++) {
            size_t n;
            double most = 0;
            float *want = weight_gradient(backend_at(0), plain, k, type, &n);
            float *got = weight_gradient(v.b, v.d, k, type, &n);
            for (size_t j = 0; j < n; j++) most = fmax(most, fabs((double)want[j]));
            for (size_t j = 0; j < n; j++)
                if (!(fabs((double)got[j] - (double)want[j]) <= rel * fabs((double)want[j]) + part * most))
                    fail_msg("%s, case %d: dw[%zu of %zu] is %.8g, ref has %.8g, the largest is %.3g", v.name, k, j, n,
                             (double)got[j], (double)want[j], most);
            free(want);
            free(got);
        }
        v.b->close(&v.d);
    }
    backend_at(0)->close(&plain);
}

/* Tolerances as for all ops. */
static void weight_gradients_agree_with_ref_in_f32(void **state)
{
    (void)state;
    compare(TENSOR_F32, 3e-6, 3e-6);
}

static void weight_gradients_agree_with_ref_in_bf16(void **state)
{
    (void)state;
    compare(TENSOR_BF16, 1e-4, 2e-4);
}

static void threads_do_not_change_a_bit_of_an_own_weight_gradient(void **state)
{
    int compared = 0;
    (void)state;
    for (int type = TENSOR_F32; variant_has_cpu() && type <= TENSOR_BF16; type++)
        for (int k = 0; k < CASES; k++) {
            const backend *b = NULL;
            float *first = NULL;
            MUST(backend_find("cpu", &b));
            for (int threads = 1; threads <= 7; threads += 2) {
                device *d = NULL;
                op_shapes s;
                size_t n;
                MUST(b->open(&(device_options){.threads = threads}, &d));
                MUST(op_case_shapes(&cases[k], (tensor_type)type, &s));
                if (wgrad_fits(d, &cases[k].o, &s)) {
                    float *dw = weight_gradient(b, d, k, (tensor_type)type, &n);
                    if (first == NULL) {
                        first = dw;
                    } else {
                        assert_memory_equal(dw, first, n * sizeof *dw);
                        free(dw);
                    }
                    compared++;
                }
                b->close(&d);
            }
            free(first);
        }
    if (compared == 0) skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weight_gradients_agree_with_ref_in_f32),
        cmocka_unit_test(weight_gradients_agree_with_ref_in_bf16),
        cmocka_unit_test(threads_do_not_change_a_bit_of_an_own_weight_gradient),
    };
    return cmocka_run_group_tests_name("weight gradients", tests, NULL, NULL);
}
