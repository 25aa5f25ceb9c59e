/* net_memory: the memory plan. In: slots with sizes and the steps they live; out: their offsets in one arena.
 * Greedy by size: the largest slots are placed first, each at the lowest place where it meets no slot that lives at
 * the same time (Pisarchyk & Lee 2020). The trap: steps are inclusive, so an op's input and output never share. */
#include "base/size.h"
#include "kernels/net_internal.h"

#include <stdlib.h>

static int meet(const net_slot *a, const net_slot *b) { return a->first <= b->last && b->first <= a->last; }

static const net_slot *slot_of(const void *p) { return *(net_slot *const *)p; }

/* Equal sizes stay in build order, so that a plan is the same everywhere. */
static int larger_first(const void *pa, const void *pb)
{
    const net_slot *a = slot_of(pa), *b = slot_of(pb);
    if (a->bytes != b->bytes) return a->bytes > b->bytes ? -1 : 1;
    return a < b ? -1 : a > b;
}

static int lower_first(const void *pa, const void *pb)
{
    const net_slot *a = slot_of(pa), *b = slot_of(pb);
    if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* The lowest offset at which s fits between the `count` neighbours it lives with, sorted by offset. */
static size_t lowest(const net_slot *s, net_slot *const *neighbours, int count)
{
    size_t end = 0;
    for (int k = 0; k < count; k++) {
        if (neighbours[k]->offset >= end && neighbours[k]->offset - end >= s->bytes) break;
        size_t after = neighbours[k]->offset + neighbours[k]->bytes;
        if (after > end) end = after;
    }
    return end;
}

status net_place(net_slot *slots, int count, int reuse, size_t *total)
{
    net_slot **order = malloc((size_t)(count + 1) * sizeof *order), **near = malloc((size_t)(count + 1) * sizeof *near);
    status s = COV_OK;
    size_t sum = 0;
    *total = 0;
    if (!order || !near) {
        s = COV_FAIL(COV_NOMEM, "no memory to plan %d tensors", count);
        goto done;
    }
    for (int k = 0; k < count; k++) {
        size_t padded;
        if (!size_add(slots[k].bytes, NET_ALIGN - 1, &padded) || !size_add(sum, padded, &sum)) {
            s = COV_FAIL(COV_NOMEM, "the net's activations do not fit in memory");
            goto done;
        }
        slots[k].bytes = padded / NET_ALIGN * NET_ALIGN;
        order[k] = &slots[k];
    }
    if (count) qsort(order, (size_t)count, sizeof *order, larger_first);
    for (int k = 0; k < count; k++) {
        int neighbours = 0;
        for (int j = 0; j < k; j++)
            if (!reuse || meet(order[k], order[j])) near[neighbours++] = order[j];
        if (neighbours) qsort(near, (size_t)neighbours, sizeof *near, lower_first);
        order[k]->offset = lowest(order[k], near, neighbours);
        size_t end = order[k]->offset + order[k]->bytes;
        if (end > *total) *total = end;
    }
done:
    free(order);
    free(near);
    return s;
}
