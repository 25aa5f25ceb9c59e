/* trainset: annotated cases read from disk into a sampler. Volumes and isolated slices with a lung mask take part;
 * patients that are held out do not, and are never opened. Local. */
#ifndef COV_STAGES_TRAINSET_H
#define COV_STAGES_TRAINSET_H
#include "data/cases.h"
#include "data/weights.h"
#include "stages/sampler.h"
#include <stdbool.h>

/* 1 if `patient` is in the comma-separated list; NULL or "" holds nobody out. */
bool trainset_held_out(const char *list, const char *patient);
/* How a training's record ends: this, and the list of patients held out, or "nobody". */
#define TRAINSET_LEFT_OUT "left out: "
/* That list of a weights file; "" where its record does not say. */
void trainset_left_out(const weights_file *w, char *to, size_t room);
/* Adds every case of c that the view can learn from. COV_FORMAT, COV_IO name the case that cannot be read. */
status trainset_load(const cases *c, lungnet_view view, const char *hold_out, sampler *to);
/* One annotated volume in canonical order. lesion NULL where the case has none; both masks 0/1. */
typedef struct trainset_volume {
    volume ct; /* ct.hu owned */
    volume_stats stats;
    uint8_t *lung, *lesion; /* owned; NULL: no such mask */
} trainset_volume;
status trainset_read(const cases_row *row, trainset_volume *out);
/* A slice's mask as 0/1, which must be rows x cols; owned by the caller. */
status trainset_read_slice_mask(const cases_row *row, const char *path, int32_t rows, int32_t cols, uint8_t **out);
void trainset_volume_free(trainset_volume *v); /* accepts a zeroed one */
#endif
