/* bench_study: see bench_study.h. */
#include "jobs/bench_study.h"

#include "stages/phantom.h"
#include <stdlib.h>
#include <string.h>

struct bench_study {
    setup_paths paths;
    pipeline *pipeline;
    phantom *phantom;
    volume volume; /* its hu is the phantom's */
    volume_stats stats;
};

static status look(bench_study *b)
{
    const volume_header *h = &b->volume.head;
    volume_histogram *g;
    COV_TRY(volume_histogram_new(&g));
    volume_histogram_add(g, b->volume.hu, (size_t)(h->nx * h->ny * h->nz));
    volume_histogram_stats(g, &b->stats);
    volume_histogram_free(&g);
    return COV_OK;
}

status bench_study_open(const options *o, const setup *given, int64_t size, int64_t slices, bench_study **out)
{
    const double mm = 360.0 / (double)size, thick = 330.0 / (double)slices;
    const phantom_options p = {.seed = 1, .nx = size, .ny = size, .nz = slices, .spacing_mm = {mm, mm, thick}, .lesions = 12,
                               .threads = given->backend->threads(given->device)};
    pipeline_options with;
    status s;
    *out = NULL;
    bench_study *b = calloc(1, sizeof *b);
    if (!b) return COV_FAIL(COV_NOMEM, "no memory for a study to time");
    COV_GO(setup_pipeline(o, &b->paths, &with));
    with.backend = given->backend;
    with.precision = given->precision;
    COV_GO(phantom_new(&p, &b->phantom));
    b->volume = (volume){.head = {.format = "phantom", .nx = size, .ny = size, .nz = slices, .spacing_mm = {mm, mm, thick}}, .hu = b->phantom->hu};
    for (int k = 0; k < 3; k++) b->volume.head.affine[k][k] = b->volume.head.spacing_mm[k];
    COV_GO(look(b));
    COV_GO(pipeline_open(&with, &b->pipeline));
done:
    if (s != COV_OK) bench_study_close(&b);
    *out = b;
    return s;
}

void bench_study_close(bench_study **out)
{
    bench_study *b = *out;
    if (!b) return;
    pipeline_close(&b->pipeline);
    phantom_free(&b->phantom);
    free(b);
    *out = NULL;
}

int bench_study_has_lesions(const bench_study *b) { return pipeline_has_lesions(b->pipeline); }

status bench_study_lungs(bench_study *b)
{
    study_result result = {0};
    study_row_init(&result.row);
    status s = pipeline_lungs(b->pipeline, &b->volume, &b->stats, &result);
    study_result_free(&result);
    return s;
}

status bench_study_lesions(bench_study *b)
{
    const volume_header *h = &b->volume.head;
    size_t count = (size_t)(h->nx * h->ny * h->nz);
    study_result result = {0};
    findings *f = NULL;
    status s = COV_OK;
    study_row_init(&result.row);
    result.slice_count = h->nz;
    result.slices = calloc((size_t)h->nz, sizeof *result.slices);
    result.lung = malloc(count);
    if (!result.slices || !result.lung) COV_GO(COV_FAIL(COV_NOMEM, "no memory for a study of %zu voxels", count));
    memcpy(result.lung, b->phantom->lung, count);
    COV_GO(findings_new(h->nz, &f));
    COV_GO(pipeline_find(b->pipeline, &b->volume, result.lung, 0, h->nz, f));
    COV_GO(pipeline_finish(b->pipeline, &b->volume, f, &result));
done:
    findings_free(&f);
    study_result_free(&result);
    return s;
}
