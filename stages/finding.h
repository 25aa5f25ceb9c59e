/* finding: what a lesion network says of a study: instances on its slices, each with a box, a mask and a score, and
 * each slice's period. Made by stages/lesion, scored by eval, linked in 3-D by stages/lesionpost. Local. */
#ifndef COV_STAGES_FINDING_H
#define COV_STAGES_FINDING_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

enum { FINDING_PERIODS = 4 }; /* 0 healthy, 1 early, 2 advanced, 3 severe */

typedef struct finding {
    int64_t z;
    int32_t y0, x0, y1, x1; /* half-open, pixels of the study's own (canonical) slice */
    float score;            /* 0..1 */
    int32_t area_px;        /* of mask */
    uint8_t *mask;          /* (y1-y0, x1-x0) 0/1, cut to the lung; owned by its list */
} finding;

typedef struct findings {
    int64_t nz, count, room;
    finding *at;                      /* owned; after findings_sort by z, then score descending, then y0, x0, y1, x1 */
    float (*period)[FINDING_PERIODS]; /* owned; nz rows of probabilities; NaN: no head, or a slice not looked at */
} findings;

/* A list for a study of nz slices: no findings, every period NaN. Caller owns it. */
status findings_new(int64_t nz, findings **out);
void findings_free(findings **f);
/* Copies *one and its mask (borrowed), and counts area_px. A mask without a pixel is no finding and adds nothing.
 * COV_BROKEN for a slice outside the study, an empty box or a score that is no number. */
status findings_add(findings *f, const finding *one);
void findings_sort(findings *f);
/* Moves every finding of `from` into `into`, and the periods of the slices that `from` looked at; `from` is left empty.
 * Both are of one study: COV_BROKEN otherwise. findings_sort afterwards makes the order independent of the ranges. */
status findings_merge(findings *into, findings *from);
/* As bytes (owned by the caller, free) and back, for a study that several processes look at. Bytes of another study or
 * damaged ones are COV_FORMAT, and may have added some of theirs. */
status findings_pack(const findings *f, void **bytes, size_t *count);
status findings_unpack(const void *bytes, size_t count, findings *into);
#endif
