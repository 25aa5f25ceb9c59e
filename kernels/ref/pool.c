/* ref/pool: max pooling, global average pooling and resizing, forward and backward.
 * A window's winner is its first largest element; it is saved as the place inside the window, ky * kernel + kx.
 * Padding never wins. Resizing uses half-pixel centres: source = (target + 1/2) * in / out - 1/2, clamped. */
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

/* Offset in x of a place in the window of (n,oy,ox), channel c; -1 in the padding. */
static int64_t window_at(const ref_run *r, int64_t n, int64_t oy, int64_t ox, int64_t c, int64_t place)
{
    tensor_shape x = r->s->x[0];
    int64_t iy = oy * r->o->stride - r->o->pad + place / r->o->kernel;
    int64_t ix = ox * r->o->stride - r->o->pad + place % r->o->kernel;
    return iy < 0 || iy >= x.h || ix < 0 || ix >= x.w ? -1 : ref_at(x, n, iy, ix) + c;
}

void ref_maxpool_forward(const ref_run *r)
{
    tensor_shape y = r->s->y;
    int64_t places = (int64_t)r->o->kernel * r->o->kernel;
    int32_t *saved = r->saved[0]; /* NULL: inference */
    for (int64_t n = 0; n < y.n; n++)
        for (int64_t oy = 0; oy < y.h; oy++)
            for (int64_t ox = 0; ox < y.w; ox++)
                for (int64_t c = 0; c < y.c; c++) {
                    int64_t i = ref_at(y, n, oy, ox) + c, winner = 0;
                    float best = -INFINITY;
                    for (int64_t place = 0; place < places; place++) {
                        int64_t at = window_at(r, n, oy, ox, c, place);
                        if (at >= 0 && (best == -INFINITY || r->x[0][at] > best)) best = r->x[0][at], winner = place;
                    }
                    r->y[i] = best;
                    if (saved) saved[i] = (int32_t)winner;
                }
}

void ref_maxpool_backward(const ref_run *r)
{
    tensor_shape y = r->s->y;
    const int32_t *saved = r->saved[0];
    if (!r->dx[0]) return;
    memset(r->dx[0], 0, (size_t)ref_count(r->s->x[0]) * sizeof(float));
    for (int64_t n = 0; n < y.n; n++)
        for (int64_t oy = 0; oy < y.h; oy++)
            for (int64_t ox = 0; ox < y.w; ox++)
                for (int64_t c = 0; c < y.c; c++) {
                    int64_t i = ref_at(y, n, oy, ox) + c;
                    r->dx[0][window_at(r, n, oy, ox, c, saved[i])] += r->dy[i];
                }
}

void ref_avgpool_forward(const ref_run *r)
{
    tensor_shape x = r->s->x[0];
    int64_t area = x.h * x.w;
    for (int64_t n = 0; n < x.n; n++)
        for (int64_t c = 0; c < x.c; c++) {
            double sum = 0;
            for (int64_t i = 0; i < area; i++) sum += r->x[0][(n * area + i) * x.c + c];
            r->y[n * x.c + c] = (float)(sum / (double)area);
        }
}

void ref_avgpool_backward(const ref_run *r)
{
    tensor_shape x = r->s->x[0];
    int64_t area = x.h * x.w;
    if (!r->dx[0]) return;
    for (int64_t n = 0; n < x.n; n++)
        for (int64_t i = 0; i < area; i++)
            for (int64_t c = 0; c < x.c; c++)
                r->dx[0][(n * area + i) * x.c + c] = (float)(r->dy[n * x.c + c] / (double)area);
}

/* The two source coordinates of a target coordinate, and their weights; nearest puts all weight on the first. */
typedef struct tap {
    int64_t at[2];
    double weight[2];
} tap;

static tap tap_of(int nearest, int64_t target, int64_t in, int64_t out)
{
    if (nearest) {
        int64_t at = (2 * target + 1) * in / (2 * out); /* floor of the centre, exactly */
        return (tap){{at, at}, {1, 0}};
    }
    double centre = ((double)target + 0.5) * (double)in / (double)out - 0.5;
    double low = floor(centre);
    int64_t a = (int64_t)low, b = a + 1;
    return (tap){{a < 0 ? 0 : a, b >= in ? in - 1 : b}, {1 - (centre - low), centre - low}};
}

void ref_resize_forward(const ref_run *r)
{
    tensor_shape x = r->s->x[0], y = r->s->y;
    for (int64_t n = 0; n < y.n; n++)
        for (int64_t oy = 0; oy < y.h; oy++)
            for (int64_t ox = 0; ox < y.w; ox++) {
                tap v = tap_of(r->o->nearest, oy, x.h, y.h), u = tap_of(r->o->nearest, ox, x.w, y.w);
                for (int64_t c = 0; c < y.c; c++) {
                    double sum = 0;
                    for (int i = 0; i < 2; i++)
                        for (int j = 0; j < 2; j++)
                            sum += v.weight[i] * u.weight[j] * r->x[0][ref_at(x, n, v.at[i], u.at[j]) + c];
                    r->y[ref_at(y, n, oy, ox) + c] = (float)sum;
                }
            }
}

void ref_resize_backward(const ref_run *r)
{
    tensor_shape x = r->s->x[0], y = r->s->y;
    if (!r->dx[0]) return;
    memset(r->dx[0], 0, (size_t)ref_count(x) * sizeof(float));
    for (int64_t n = 0; n < y.n; n++)
        for (int64_t oy = 0; oy < y.h; oy++)
            for (int64_t ox = 0; ox < y.w; ox++) {
                tap v = tap_of(r->o->nearest, oy, x.h, y.h), u = tap_of(r->o->nearest, ox, x.w, y.w);
                for (int64_t c = 0; c < y.c; c++)
                    for (int i = 0; i < 2; i++)
                        for (int j = 0; j < 2; j++)
                            r->dx[0][ref_at(x, n, v.at[i], u.at[j]) + c] +=
                                (float)(v.weight[i] * u.weight[j] * r->dy[ref_at(y, n, oy, ox) + c]);
            }
}
