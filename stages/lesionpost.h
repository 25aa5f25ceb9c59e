/* lesionpost: from what the network found on each slice to the lesions of a study: the mask, the rows of /lesion and
 * the figures. Where instances overlap, the one with the higher score has the pixels; nothing lies outside the lung.
 * Instances on neighbouring slices that share a pixel are one lesion, so that a lesion counts once a study; isolated
 * slices have no neighbours.
 *
 * lesion_id: from 1, the largest lesion (voxels) first; of equals the one that begins lower, then the one whose first
 * pixel comes first in raster order. Beyond LESIONPOST_MOST the smallest lesions are dropped, for the mask is of 16
 * bits. Period of a study: the mean of its slices' probabilities, weighted with their lesion pixels; without any
 * lesion, the plain mean of the slices that were looked at. The likeliest is the period; of equals, the earlier.
 * Suspicion, for triage: s * i / (i + 0.5). s: mean score of the instances, weighted with their pixels; i: involvement
 * in per cent. It rises with both, a lesion of half a per cent of the lung counts half, and it is 0 without lesions.
 * Local. */
#ifndef COV_STAGES_LESIONPOST_H
#define COV_STAGES_LESIONPOST_H
#include "data/study.h"
#include "stages/finding.h"

enum { LESIONPOST_MOST = UINT16_MAX };

/* lung (nz,ny,nx) 0/1/2, borrowed. f is sorted here. out->slices must be there (burden_lung). Fills out->lesion,
 * lesions, lesion_rows (allocated here, owned by out), lesion_px and period_probability of the slices, and the figures
 * of lesions in out->row. */
status lesionpost_run(const volume *v, const uint8_t *lung, findings *f, study_result *out);
/* The formula above; mean_score: weighted with pixels. */
double lesionpost_suspicion(double mean_score, double involvement_percent);
#endif
