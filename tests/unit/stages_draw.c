/* Claims of stages/draw: what is drawn lands where it should, at any scale, and never outside the canvas. */
#include "stages/draw.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

static const draw_colour BLACK = {0, 0, 0}, RED = {255, 0, 0};

static int red_at(const draw *d, int x, int y) { return d->rgb[3 * (y * d->width + x)] == 255; }
static int count_red(const draw *d)
{
    int n = 0;
    for (int64_t i = 0; i < d->width * d->height; i++) n += d->rgb[3 * i] == 255 && d->rgb[3 * i + 1] == 0;
    return n;
}

static void a_contour_is_one_pixel_wide_at_every_scale(void **state)
{
    (void)state;
    uint8_t mask[8 * 8] = {0};
    for (int y = 2; y < 6; y++) memset(mask + y * 8 + 2, 1, 4);
    for (int scale = 1; scale <= 4; scale++) {
        draw *d;
        assert_int_equal(draw_new(8 * scale, 8 * scale, BLACK, &d), COV_OK);
        draw_contour(d, &(draw_tile){0, 0, 8 * scale, 8 * scale, 8, 8}, mask, 1, RED);
        assert_int_equal(count_red(d), 4 * (4 * scale - 1));
        assert_true(red_at(d, 2 * scale, 2 * scale));
        assert_false(red_at(d, 4 * scale, 4 * scale));
        draw_free(&d);
    }
}

static void a_slice_is_windowed_and_keeps_its_corners(void **state)
{
    (void)state;
    const int16_t hu[4] = {-1300, 300, -500, 3000};
    draw *d;
    assert_int_equal(draw_new(2, 2, RED, &d), COV_OK);
    draw_slice(d, &(draw_tile){0, 0, 2, 2, 2, 2}, window_lung(), hu);
    assert_int_equal(d->rgb[0], 0);
    assert_int_equal(d->rgb[3], 255);
    assert_int_equal(d->rgb[6], 127);
    assert_int_equal(d->rgb[9], 255);
    draw_free(&d);
}

static void what_lies_outside_is_clipped(void **state)
{
    (void)state;
    uint8_t mask[4] = {1, 1, 1, 1};
    draw *d;
    assert_int_equal(draw_new(5, 5, BLACK, &d), COV_OK);
    draw_fill(d, &(draw_tile){-3, -3, 20, 20, 2, 2}, mask, 0, RED, 1);
    assert_int_equal(count_red(d), 25);
    draw_line(d, -100, -100, 100, 100, BLACK);
    assert_int_equal(count_red(d), 20);
    draw_text(d, 3, 3, 3, RED, "OUTSIDE");
    draw_free(&d);
}

static void letters_are_drawn_and_unknown_ones_are_blanks(void **state)
{
    (void)state;
    draw *d;
    assert_int_equal(draw_new(40, 10, BLACK, &d), COV_OK);
    assert_int_equal(draw_text(d, 0, 0, 1, RED, "i\x01"), 12);
    assert_int_equal(count_red(d), 3 + 5 + 3);
    draw_free(&d);
}

static void a_picture_without_pixels_is_refused(void **state)
{
    (void)state;
    draw *d;
    assert_int_equal(draw_new(0, 5, BLACK, &d), COV_USAGE);
    assert_null(d);
}

static void a_plot_keeps_its_curves_inside_the_frame(void **state)
{
    (void)state;
    draw *d;
    const double x[4] = {0, 1, 2, 3}, y[4] = {0, 0.5, 5, NAN};
    const draw_axes a = {30, 20, 100, 100, 0, 2, 0, 1, "", ""};
    assert_int_equal(draw_new(200, 150, BLACK, &d), COV_OK);
    draw_plot(d, &a, &(draw_series){x, y, 4, RED, ""}, 1);
    assert_true(red_at(d, 30, 120));      /* (0, 0) */
    assert_true(red_at(d, 30 + 50, 70));  /* (1, 0.5) */
    for (int px = 0; px < 200; px++) {
        for (int py = 0; py < 19; py++) assert_false(red_at(d, px, py) && d->rgb[3 * (py * 200 + px) + 1] == 0);
    }
    draw_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_contour_is_one_pixel_wide_at_every_scale),
        cmocka_unit_test(a_slice_is_windowed_and_keeps_its_corners),
        cmocka_unit_test(what_lies_outside_is_clipped),
        cmocka_unit_test(letters_are_drawn_and_unknown_ones_are_blanks),
        cmocka_unit_test(a_picture_without_pixels_is_refused),
        cmocka_unit_test(a_plot_keeps_its_curves_inside_the_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
