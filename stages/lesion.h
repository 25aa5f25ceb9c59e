/* lesion: a lesion network over a study: key slices in, findings out, on the study's own grid.
 *
 * Slices without lung are not sent through. Every slice is looked at by itself (its triplet), in a fixed way, so that
 * findings do not depend on the range asked for, nor on the number of threads. Detecting models paste each instance's
 * mask onto the slice, inside the lung only; unet, spatial and temporal give the 8-connected components of their
 * probability at mask_threshold, with the mean of it as the score. Local. */
#ifndef COV_STAGES_LESION_H
#define COV_STAGES_LESION_H
#include "data/volume.h"
#include "kernels/net.h"
#include "stages/finding.h"
#include "stages/lesionnet.h"

/* Text of the weights' record: the score below which findings are dropped, chosen by eval. */
#define LESION_SCORE_THRESHOLD "score_threshold"

typedef struct lesion lesion;

typedef struct lesion_options {
    float score_least;    /* findings below are dropped; < 0: the file's own */
    float mask_threshold; /* of a pixel's probability, above 0 */
    int isolated;         /* slices are no neighbours: triplets (0, s, 0) */
} lesion_options;
lesion_options lesion_defaults(void); /* -1, 0.5, 0 */

/* b and d are borrowed and must outlive *out. COV_USAGE, COV_FORMAT: the file holds no lesion model, or not this one's
 * parameters. */
status lesion_open(const backend *b, device *d, net_precision precision, const char *weights_path, lesion **out);
void lesion_close(lesion **l);
lesionnet_model lesion_model(const lesion *l);
const char *lesion_digest(const lesion *l);   /* SHA-256 of the weights; borrowed */
const char *lesion_preset(const lesion *l);   /* borrowed */
float lesion_score_threshold(const lesion *l); /* the file's own; 0.5 where it has none */
/* Adds what is found in key slices z0 .. z1-1 of a volume with that header to *out (a list for its nz slices), and their periods;
 * the caller sorts. hu (nz,ny,nx): device memory of the device that was opened with. lung (nz,ny,nx), host memory: 0 none, 1
 * right, 2 left, the whole study's whatever the range; NULL: no mask is known, everything is lung. */
status lesion_run(lesion *l, const lesion_options *o, const volume_header *h, const int16_t *hu, const uint8_t *lung, int64_t z0,
                  int64_t z1, findings *out);
#endif
