/* pipeline: one study's way through the stages, in one process: volume -> window -> lung nets -> fusion -> CRF ->
 * components -> sides -> figures -> lesion net on the slices with lung -> linking -> figures. Weights are loaded once
 * (open), then many studies run through. Isolated slices (volume_header.isolated) go through one by one: axial lung
 * network, CRF and sides of each picture by itself, at its own size, and lesions from (0, s, 0). Local. */
#ifndef COV_STAGES_PIPELINE_H
#define COV_STAGES_PIPELINE_H
#include "data/study.h"
#include "kernels/backend.h"
#include "kernels/net.h"
#include "stages/finding.h"

typedef struct pipeline_options {
    const backend *backend;
    int threads, ordinal;
    net_precision precision;
    const char *lung_axial_path, *lung_sagittal_path; /* weights files */
    int use_sagittal, use_crf;
    crf_options crf;
    float fusion_weight, fusion_prior; /* lung_fusion's; <0: what is stored with the weights */
    const char *lesion_path; /* weights file; NULL: no lesions are looked for */
    float score_least;       /* findings below are dropped; <0: the one stored with the weights */
} pipeline_options;

typedef struct pipeline pipeline;
status pipeline_open(const pipeline_options *o, pipeline **out);
void pipeline_close(pipeline **p);
/* v and stats are borrowed. Fills every figure of out->row (id, path, format, sha and rank are the caller's), slices
 * and lung. A study that cannot be screened is not an error: out->row.status/reason/detail say so and COV_OK is
 * returned. */
status pipeline_run(pipeline *p, const volume *v, const volume_stats *stats, study_result *out);

/* The same in three steps, for a study that is cut up. First: lungs, their figures and flags. Second, where the study
 * was not skipped and lesions are looked for: findings of key slices z0 .. z1-1; the whole study's lungs, whatever the
 * range. Third: all findings together (sorted here) become lesions. Ranges add up to the bytes of one. */
int pipeline_has_lesions(const pipeline *p);
status pipeline_lungs(pipeline *p, const volume *v, const volume_stats *stats, study_result *out);
status pipeline_find(pipeline *p, const volume *v, const uint8_t *lung, int64_t z0, int64_t z1, findings *out);
status pipeline_finish(pipeline *p, const volume *v, findings *f, study_result *out);
#endif
