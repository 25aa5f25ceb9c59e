/* pipeline: one study's way through the stages, in one process: volume -> window -> lung nets -> fusion ->
 * CRF -> components -> sides -> figures. Weights are loaded once (open), then many studies run through. Local. */
#ifndef COV_STAGES_PIPELINE_H
#define COV_STAGES_PIPELINE_H
#include "data/study.h"
#include "kernels/backend.h"
#include "kernels/net.h"

typedef struct pipeline_options {
    const backend *backend;
    int threads, ordinal;
    net_precision precision;
    const char *lung_axial_path, *lung_sagittal_path; /* weights files */
    int use_sagittal, use_crf;
    crf_options crf;
    float fusion_weight; /* weight of the sagittal logit, 0..1; axial has the rest; <0: the one stored with the weights */
} pipeline_options;

typedef struct pipeline pipeline;
status pipeline_open(const pipeline_options *o, pipeline **out);
void pipeline_close(pipeline **p);
/* v and stats are borrowed. Fills every figure of out->row (id, path, format, sha and rank are the caller's), slices and
 * lung. A study that cannot be screened is not an error: out->row.status/reason/detail say so and COV_OK is returned. */
status pipeline_run(pipeline *p, const volume *v, const volume_stats *stats, study_result *out);
#endif
