/* rcnn: the graph's part, see rcnn.h. What runs on the host is in rcnn_steps.c. */
#include "stages/rcnn_steps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const float rcnn_box_weight[4] = {10, 10, 5, 5}, rcnn_rpn_weight[4] = {1, 1, 1, 1};
static const float BETA = 1.0f / 9, RPN_NMS = 0.7f, FOUND_NMS = 0.5f, INSIDE_MOST = 0.7f, SIDE_LEAST = 1.0f;

static void describe_choices(rcnn *r, const rcnn_level *levels, const net *n)
{
    boxes_choice *p = &r->proposals, *f = &r->found;
    *p = (boxes_choice){.levels = r->levels, .candidates = r->o.candidates, .most = r->o.proposals, .height = (float)r->rows,
                      .width = (float)r->cols, .side = SIDE_LEAST, .iou = RPN_NMS, .inside = 1, .score_step = 1};
    for (int k = 0; k < r->levels; k++) {
        p->anchors[k] = levels[k].anchors;
        p->wide[k] = net_shape(n, levels[k].map).w;
    }
    memcpy(p->first, r->first, sizeof p->first);
    memcpy(p->weight, rcnn_rpn_weight, sizeof p->weight);
    *f = (boxes_choice){.levels = 1, .candidates = r->o.proposals, .most = r->o.found, .height = (float)r->rows, .width = (float)r->cols,
                      .side = SIDE_LEAST, .iou = FOUND_NMS, .inside = INSIDE_MOST, .score_step = 2, .score_first = 1, .scored = 1};
    f->first[1] = r->o.proposals;
    memcpy(f->weight, rcnn_box_weight, sizeof f->weight);
}

status rcnn_new(const net *n, const rcnn_options *o, const rcnn_level *levels, int count, int64_t rows, int64_t cols,
                rcnn **out)
{
    status s = COV_OK;
    rcnn *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return COV_FAIL(COV_NOMEM, "no memory for a detector");
    r->o = *o;
    r->rows = rows;
    r->cols = cols;
    r->levels = count;
    r->threads = net_backend(n)->threads(net_device(n));
    for (int k = 0; k < count; k++) {
        tensor_shape map = net_shape(n, levels[k].map);
        r->first[k] = r->total;
        r->total += box_anchors_fill(&levels[k].anchors, map.h, map.w, NULL);
    }
    r->first[count] = r->total;
    r->a_pixel = levels[0].anchors.sizes * levels[0].anchors.ratios;
    r->anchor = calloc((size_t)r->total + 1, sizeof *r->anchor);
    if (!r->anchor) COV_GO(COV_FAIL(COV_NOMEM, "no memory for %lld anchors", (long long)r->total));
    for (int k = 0; k < count; k++) {
        tensor_shape map = net_shape(n, levels[k].map);
        box_anchors_fill(&levels[k].anchors, map.h, map.w, r->anchor + r->first[k]);
    }
    describe_choices(r, levels, n);
    *out = r;
    r = NULL;
done:
    rcnn_free(&r);
    return s;
}

void rcnn_free(rcnn **r)
{
    if (!r || !*r) return;
    free((*r)->anchor);
    free(*r);
    *r = NULL;
}

rcnn_rows rcnn_rpn(net *n, const rcnn *r, const rcnn_level *levels)
{
    net_t objectness[RCNN_LEVELS], delta[RCNN_LEVELS], hidden[RCNN_LEVELS];
    for (int k = 0; k < r->levels; k++) {
        net_t x = levels[k].map;
        int channels = (int)net_shape(n, x).c;
        hidden[k] = k ? net_again(n, hidden[0], x) : net_conv(n, "rpn/conv", x, channels, 3, 1, 1, 1, 1);
        objectness[k] = k ? net_again(n, objectness[0], hidden[k])
                          : net_conv(n, "rpn/objectness", hidden[k], r->a_pixel, 1, 1, 0, 1, 0);
        delta[k] =
            k ? net_again(n, delta[0], hidden[k]) : net_conv(n, "rpn/delta", hidden[k], 4 * r->a_pixel, 1, 1, 0, 1, 0);
    }
    return (rcnn_rows){net_concat_pixels(n, objectness, r->levels), net_concat_pixels(n, delta, r->levels)};
}

/* x: scores, deltas and, but for anchors, boxes. */
static status choose(void *ctx, const backend *b, device *d, const tensor *x, int nx, tensor *y)
{
    return b->boxes_select(d, ctx, y->shape.n, x[0].shape.type, x[0].data, x[1].data, nx > 2 ? x[2].data : NULL, y->data);
}

net_t rcnn_propose(net *n, const rcnn *r, rcnn_rows rows)
{
    tensor_shape shape = tensor_shape_of(net_shape(n, rows.objectness).n, r->o.proposals, 1, 4, TENSOR_F32);
    return net_call(n, "rpn/propose", (net_t[]){rows.objectness, rows.delta}, 2, shape, choose, (void *)&r->proposals);
}

net_t rcnn_find(net *n, const rcnn *r, net_t proposals, net_t logits, net_t delta)
{
    tensor_shape shape = tensor_shape_of(net_shape(n, proposals).n, r->o.found, 1, RCNN_FOUND, TENSOR_F32);
    return net_call(n, "box/find", (net_t[]){net_softmax(n, logits), delta, proposals}, 3, shape, choose, (void *)&r->found);
}

void rcnn_rpn_losses(net *n, const rcnn *r, rcnn_rows rows, net_t image, net_t boxes, net_t target,
                     net_t *objectness, net_t *delta)
{
    tensor_shape a = net_shape(n, rows.objectness), d = net_shape(n, rows.delta), shape[4] = {a, a, d, d};
    net_t y[4];
    net_host(n, "rpn/targets", (net_t[]){image, boxes, target}, 3, shape, 4, rcnn_anchor_step, (void *)r, y);
    *objectness = net_loss_bce(n, rows.objectness, y[0], y[1]);
    *delta = net_loss_l1s(n, rows.delta, y[2], y[3], BETA);
}

rcnn_targets rcnn_sample(net *n, const rcnn *r, net_t proposals, net_t image, net_t boxes, net_t target)
{
    int64_t batch = net_shape(n, proposals).n, regions = r->o.regions, masks = r->o.masks, size = r->o.mask_size;
    tensor_shape shape[7] = {
        tensor_shape_of(batch, regions, 1, 4, TENSOR_F32),
        tensor_shape_of(batch * regions, 1, 1, 1, TENSOR_I32),
        tensor_shape_of(batch * regions, 1, 1, 4, TENSOR_F32),
        tensor_shape_of(batch * regions, 1, 1, 4, TENSOR_F32),
        tensor_shape_of(batch, masks, 1, 4, TENSOR_F32),
        tensor_shape_of(batch * masks, size, size, 1, TENSOR_F32),
        tensor_shape_of(batch * masks, size, size, 1, TENSOR_F32),
    };
    net_t y[7];
    net_host(n, "box/targets", (net_t[]){proposals, image, boxes, target}, 4, shape, 7, rcnn_region_step, (void *)r,
             y);
    return (rcnn_targets){y[0], y[1], y[2], y[3], y[4], y[5], y[6]};
}

void rcnn_box_branch(net *n, const rcnn *r, net_t pooled, net_t *logits, net_t *delta)
{
    int side = (int)net_shape(n, pooled).h;
    net_t x = net_conv(n, "box/hidden1", pooled, r->o.hidden, side, 1, 0, 1,
                       1); /* the window is the whole region: a linear layer */
    x = net_linear(n, "box/hidden2", x, r->o.hidden, 1);
    *logits = net_linear(n, "box/class", x, 2, 0);
    *delta = net_linear(n, "box/delta", x, 4, 0);
}

status rcnn_start_small(net *n)
{
    static const char *const last[] = {"rpn/objectness/w", "rpn/delta/w", "box/class/w", "box/delta/w",
                                       "temporal/period/w"};
    for (int k = 0; k < net_param_count(n); k++) {
        const net_param *p = net_param_at(n, k);
        size_t count, named = 0;
        for (size_t j = 0; j < sizeof last / sizeof *last; j++) named |= strcmp(p->name, last[j]) == 0;
        if (!named) continue;
        COV_TRY(tensor_count(p->shape, &count));
        float *w = malloc(count * sizeof *w);
        if (!w) return COV_FAIL(COV_NOMEM, "no memory for parameter %s", p->name);
        status s = net_param_get(n, k, w);
        for (size_t i = 0; i < count; i++) w[i] *= 0.1f;
        if (s == COV_OK) s = net_param_set(n, k, w);
        free(w);
        COV_TRY(s);
    }
    return COV_OK;
}
