/* The lung network's shapes and names, and the way of its planes from a volume and back. */
#include "stages/lungio.h"
#include "stages/lungnet.h"
#include "stages/lung.h"
#include "stages/lungplane.h"
#include "stages/netio.h"
#include "stages/window.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const backend *b;
static device *d;

static int open_device(void **state)
{
    (void)state;
    return backend_find("cpu", &b) != COV_OK || b->open(&(device_options){.threads = 2}, &d) != COV_OK;
}

static int close_device(void **state)
{
    (void)state;
    b->close(&d);
    return 0;
}

static net *built(const char *preset, int64_t batch, int64_t rows, int64_t cols, lungnet *g)
{
    net *n;
    assert_int_equal(net_new(b, d, 1, &n), COV_OK);
    assert_int_equal(lungnet_build(n, preset, batch, rows, cols, false, g), COV_OK);
    return n;
}

static const net_param *param(const net *n, const char *name)
{
    for (int k = 0; k < net_param_count(n); k++)
        if (strcmp(net_param_at(n, k)->name, name) == 0) return net_param_at(n, k);
    return NULL;
}

static void both_presets_give_one_logit_a_pixel_at_the_inputs_size(void **state)
{
    (void)state;
    const char *const presets[] = {"compact", "paper"};
    for (int k = 0; k < 2; k++) {
        lungnet g;
        net *n = built(presets[k], 2, 32, 48, &g);
        tensor_shape s = net_shape(n, g.logit);
        assert_true(s.n == 2 && s.h == 32 && s.w == 48 && s.c == 1);
        net_free(&n);
    }
}

static void the_paper_preset_has_the_papers_widths_and_downsampling(void **state)
{
    (void)state;
    static const int widths[] = {64, 128, 256, 512, 1024};
    lungnet g;
    char name[32];
    net *n = built("paper", 1, 32, 32, &g);
    for (int k = 0; k < LUNGNET_LEVELS; k++) {
        snprintf(name, sizeof name, "down%d/conv2/w", k);
        const net_param *p = param(n, name);
        assert_non_null(p);
        assert_true(p->shape.n == widths[k] && p->shape.h == 3 && p->shape.c == widths[k]);
    }
    const net_param *first = param(n, "contract0/conv/w");
    assert_true(first && first->shape.h == 2 && first->shape.w == 2 && param(n, "contract1/conv/w") && !param(n, "contract2/conv/w"));
    net_free(&n);
}

static void a_size_off_the_stride_and_an_unknown_preset_are_named(void **state)
{
    (void)state;
    net *n;
    lungnet g;
    assert_int_equal(net_new(b, d, 1, &n), COV_OK);
    assert_int_equal(lungnet_build(n, "compact", 1, 40, 48, false, &g), COV_BROKEN);
    assert_non_null(strstr(status_message(), "40"));
    assert_int_equal(lungnet_build(n, "huge", 1, 32, 32, false, &g), COV_USAGE);
    assert_non_null(strstr(status_message(), "huge"));
    net_free(&n);
}

static void weights_of_another_preset_or_model_are_refused_by_name(void **state)
{
    (void)state;
    char path[] = "/tmp/stages_lungnet_XXXXXX";
    weights_file *w, *back = NULL;
    lungnet g;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    net *small = built("compact", 1, 16, 16, &g), *large = built("paper", 1, 16, 16, &g);
    assert_int_equal(weights_new("lung-axial", "compact", &w), COV_OK);
    assert_int_equal(netio_save(small, w), COV_OK);
    assert_int_equal(weights_save(path, w), COV_OK);
    assert_int_equal(lungio_open(path, LUNGNET_AXIAL, "compact", &back), COV_OK);
    assert_int_equal(netio_load(back, small), COV_OK);
    assert_int_equal(netio_load(back, large), COV_FORMAT);
    weights_free(&back);
    assert_int_equal(lungio_open(path, LUNGNET_SAGITTAL, NULL, &back), COV_USAGE);
    assert_non_null(strstr(status_message(), "lung-sagittal"));
    assert_int_equal(lungio_open(path, LUNGNET_AXIAL, "paper", &back), COV_USAGE);
    assert_null(back);
    weights_free(&w);
    net_free(&small);
    net_free(&large);
    unlink(path);
}

/* ---- planes */

static volume_header head(int64_t nx, int64_t ny, int64_t nz, double xy_mm, double z_mm)
{
    return (volume_header){.nx = nx, .ny = ny, .nz = nz, .spacing_mm = {xy_mm, xy_mm, z_mm}};
}

/* hu = a smooth function of the position; what goes in must come back where it was. */
static void planes_put_back_lie_where_they_came_from(void **state)
{
    (void)state;
    const volume_header sizes[] = {head(512, 512, 3, 0.7, 5.0), head(128, 96, 20, 3.0, 5.0), head(300, 256, 40, 1.0, 2.0), head(122, 102, 30, 1.5, 1.5), head(128, 96, 9, 300.0 / 512, 5.0)};
    for (int k = 0; k < 5; k++)
        for (int view = LUNGNET_AXIAL; view <= LUNGNET_SAGITTAL; view++) {
            const volume_header *h = &sizes[k];
            plane_set p;
            assert_int_equal(lungplane_of((lungnet_view)view, h, &p), COV_OK);
            assert_true(p.rows % LUNGNET_STRIDE == 0 && p.cols % LUNGNET_STRIDE == 0 && p.rows >= p.used_rows);
            size_t n = (size_t)(h->nx * h->ny * h->nz), plane = (size_t)(p.rows * p.cols);
            int16_t *hu = malloc(n * sizeof *hu);
            float *back = calloc(n, sizeof *back), *planes = malloc((size_t)p.planes * plane * sizeof *planes), worst = 0;
            for (size_t i = 0; i < n; i++) {
                double x = (double)((int64_t)i % h->nx) / (double)h->nx, y = (double)((int64_t)i / h->nx % h->ny) / (double)h->ny;
                double z = (double)((int64_t)i / h->nx / h->ny) / (double)h->nz;
                hu[i] = (int16_t)(-500 + 300 * sin(3 * x) + 300 * sin(4 * y + 1) + 100 * z);
            }
            assert_int_equal(b->plane_cut(d, &p, window_range(window_lung()), hu, 0, p.planes, planes), COV_OK);
            for (int64_t f = 0; f < p.planes; f += 8)
                assert_int_equal(b->plane_put(d, &p, planes + (size_t)f * plane, f, p.planes - f < 8 ? p.planes - f : 8, back), COV_OK);
            for (size_t i = 0; i < n; i++) {
                float e = fabsf(back[i] - window_one(window_lung(), hu[i]));
                worst = e > worst ? e : worst;
            }
            assert_true(worst < 0.02f);
            free(hu);
            free(back);
            free(planes);
        }
}

static void a_sagittal_plane_has_square_pixels_and_at_most_1024_rows(void **state)
{
    (void)state;
    plane_set p;
    volume_header usual = head(512, 512, 300, 0.7, 1.0), tall = head(512, 512, 4000, 0.5, 1.0);
    assert_int_equal(lungplane_of(LUNGNET_SAGITTAL, &usual, &p), COV_OK);
    assert_true(p.used_cols == 256 && labs((long)p.used_rows - 214) <= 1 && p.planes == 256); /* 300 mm in pixels of 1.4 mm */
    assert_int_equal(lungplane_of(LUNGNET_SAGITTAL, &tall, &p), COV_OK);
    assert_int_equal(p.used_rows, 1024);
}

/* hu changes along x alone, by the plane: each column must come back where lungplane_between says that it lies. */
static void planes_between_two_columns_cover_them_and_hardly_more(void **state)
{
    (void)state;
    const volume_header sizes[] = {head(600, 20, 9, 0.7, 2.0), head(64, 48, 9, 3.0, 5.0)};
    for (int k = 0; k < 2; k++) {
        const volume_header *h = &sizes[k];
        plane_set p;
        int64_t x0 = h->nx / 5 + 1, x1 = h->nx / 2 + 1, rows = h->ny * h->nz, most = 1 + h->nx / 256;
        int16_t *hu = malloc((size_t)(rows * h->nx) * sizeof *hu);
        for (int64_t i = 0; i < rows * h->nx; i++) hu[i] = (int16_t)(i % h->nx - 800);
        assert_int_equal(lungplane_of(LUNGNET_SAGITTAL, h, &p), COV_OK);
        lungplane_between(&p, x0, x1);
        assert_true(p.x0 <= x0 && p.x0 + most > x0 && p.x0 + p.width >= x1 && p.x0 + p.width < x1 + most);
        float *planes = malloc((size_t)(p.planes * p.rows * p.cols) * sizeof *planes), *back = calloc((size_t)(rows * p.width), sizeof *back);
        assert_int_equal(b->plane_cut(d, &p, window_range(window_lung()), hu, 0, p.planes, planes), COV_OK);
        assert_int_equal(b->plane_put(d, &p, planes, 0, p.planes, back), COV_OK);
        for (int64_t i = 0; i < rows * p.width; i++)
            assert_true(fabsf(back[i] - window_one(window_lung(), (float)(p.x0 + i % p.width - 800))) < 2.0f / 1600.0f * (float)most);
        lungplane_between(&p, x1, x1);
        assert_true(p.planes <= 1);
        free(hu);
        free(planes);
        free(back);
    }
}

static void the_span_of_lungs_is_their_columns_and_a_sixteenth(void **state)
{
    (void)state;
    float logit[2 * 3 * 64];
    volume_header h = head(64, 3, 2, 1.0, 1.0);
    int64_t x0, x1;
    for (size_t i = 0; i < sizeof logit / sizeof *logit; i++) logit[i] = -1.0f;
    assert_int_equal(lung_span(b, d, &h, logit, &x0, &x1), COV_OK);
    assert_true(x0 == x1);
    logit[64 + 20] = logit[4 * 64 + 62] = 0.5f;
    assert_int_equal(lung_span(b, d, &h, logit, &x0, &x1), COV_OK);
    assert_true(x0 == 16 && x1 == 64);
}

static void a_field_that_cuts_the_chest_is_shown_at_its_size_in_the_middle(void **state)
{
    (void)state;
    plane_set p;
    volume_header heart = head(150, 120, 50, 1.2, 2.0), picture = heart, unset = head(150, 120, 50, 1.0, 1.0);
    picture.isolated = 1;
    assert_int_equal(lungplane_of(LUNGNET_AXIAL, &heart, &p), COV_OK); /* 180 x 144 mm of 300 */
    assert_true(p.used_cols == 307 && p.col0 == 102 && p.used_rows == 246 && p.row0 == 133 && p.rows == 512 && p.cols == 512);
    assert_int_equal(lungplane_of(LUNGNET_SAGITTAL, &heart, &p), COV_OK); /* 144 mm, 100 mm high */
    assert_true(p.used_cols == 123 && p.col0 == 66 && p.used_rows == 85 && p.row0 == 0 && p.planes == 150 && p.cols == 256);
    assert_int_equal(lungplane_of(LUNGNET_AXIAL, &picture, &p), COV_OK);
    assert_true(p.used_cols == 512 && p.col0 == 0 && p.used_rows == 512);
    assert_int_equal(lungplane_of(LUNGNET_AXIAL, &unset, &p), COV_OK);
    assert_true(p.used_cols == 512 && p.col0 == 0 && p.used_rows == 512);
}

static void what_lies_outside_the_volume_is_air(void **state)
{
    (void)state;
    plane_set p;
    volume_header h = head(32, 32, 9, 1.0, 1.0);
    int16_t hu[32 * 32 * 9];
    for (size_t i = 0; i < sizeof hu / sizeof *hu; i++) hu[i] = 300;
    assert_int_equal(lungplane_of(LUNGNET_SAGITTAL, &h, &p), COV_OK);
    float *plane = malloc((size_t)(p.rows * p.cols) * sizeof *plane);
    assert_int_equal(b->plane_cut(d, &p, window_range(window_lung()), hu, 5, 1, plane), COV_OK);
    assert_true(p.rows > p.used_rows);
    for (int64_t r = 0; r < p.rows; r++)
        for (int64_t c = 0; c < p.cols; c++)
            assert_true(plane[r * p.cols + c] == (r < p.used_rows && c < p.used_cols ? 1.0f : 0.0f));
    free(plane);
}

/* Consolidated lung is dense: there the sagittal view counts and the prior leans to lung; air is seen by both views. */
static void dense_tissue_has_the_sagittal_weight_and_the_prior_and_air_has_neither(void **state)
{
    (void)state;
    const plane_blend f = lung_blend((lung_fusion){.weight = 0.85f, .prior = 0.7f});
    assert_float_equal(plane_blended(f, 0, -1, 1), -1 + 0.85f * 2 + 0.7f, 1e-6);
    assert_float_equal(plane_blended(f, -800, -1, 1), 0, 1e-6);
    assert_float_equal(plane_blended(lung_blend((lung_fusion){.weight = 0.25f, .prior = 1}), -800, -1, 1), -0.5f, 1e-6);
    for (int16_t hu = -800; hu <= 0; hu = (int16_t)(hu + 800)) /* a view alone is what it is */
        assert_float_equal(plane_blended(lung_blend((lung_fusion){.weight = 1, .prior = 1}), hu, -1, 1), 1, 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_tissue_has_the_sagittal_weight_and_the_prior_and_air_has_neither),
        cmocka_unit_test(both_presets_give_one_logit_a_pixel_at_the_inputs_size),
        cmocka_unit_test(the_paper_preset_has_the_papers_widths_and_downsampling),
        cmocka_unit_test(a_size_off_the_stride_and_an_unknown_preset_are_named),
        cmocka_unit_test(weights_of_another_preset_or_model_are_refused_by_name),
        cmocka_unit_test(planes_put_back_lie_where_they_came_from),
        cmocka_unit_test(a_sagittal_plane_has_square_pixels_and_at_most_1024_rows),
        cmocka_unit_test(planes_between_two_columns_cover_them_and_hardly_more),
        cmocka_unit_test(the_span_of_lungs_is_their_columns_and_a_sixteenth),
        cmocka_unit_test(a_field_that_cuts_the_chest_is_shown_at_its_size_in_the_middle),
        cmocka_unit_test(what_lies_outside_the_volume_is_air),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
