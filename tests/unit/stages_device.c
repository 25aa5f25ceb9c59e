/* The pipeline on a device with memory of its own: the cpu backend, which then may not be handed an array of the host's, with
 * memory that comes as NaN. Whole studies, with the weights that come along: what goes there, what comes back, and that nothing is
 * left. */
#include "stages/lungcrf.h"
#include "stages/phantom.h"
#include "stages/pipeline.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { NX = 75, NY = 66, NZ = 9, VOXELS = NX * NY * NZ };

static const backend *cpu;
static backend far;
static int64_t alive, volumes; /* pieces of memory there; how often a volume went there */
static size_t first_asked;     /* bytes of a volume on its way that were waited for at first */

static void ok(status s)
{
    if (s != COV_OK) fail_msg("%s (%s)", status_message(), status_trace());
}

static status far_alloc(device *d, size_t bytes, void **out)
{
    COV_TRY(cpu->alloc(d, bytes, out));
    memset(*out, 0xff, bytes);
    alive++;
    return COV_OK;
}

static void far_release(device *d, void *memory)
{
    alive -= memory != NULL;
    cpu->release(d, memory);
}

static status far_upload(device *d, void *to, const void *from, size_t bytes)
{
    volumes += bytes == VOXELS * sizeof(int16_t);
    return cpu->upload(d, to, from, bytes);
}

/* Nothing of what is sent is there before it is asked for, and no more than that. */
struct sending {
    char *to;
    const char *from;
    size_t bytes, there;
};
static struct sending way;

static status far_send(device *d, void *to, const void *from, size_t bytes, sending **out)
{
    (void)d;
    volumes += bytes == VOXELS * sizeof(int16_t);
    way = (struct sending){.to = to, .from = from, .bytes = bytes};
    *out = &way;
    return COV_OK;
}

static status far_arrived(sending *s, size_t bytes)
{
    if (bytes > s->bytes) return COV_FAIL(COV_BROKEN, "more than was sent");
    if (bytes <= s->there) return COV_OK;
    memcpy(s->to + s->there, s->from + s->there, bytes - s->there);
    if (s->there == 0) first_asked = bytes;
    s->there = bytes;
    return COV_OK;
}

static void far_send_end(sending **s) { *s = NULL; }

static int set_up(void **state)
{
    (void)state;
    if (backend_find("cpu", &cpu) != COV_OK) return 1;
    far = *cpu;
    far.host_memory = 0;
    far.alloc = far_alloc;
    far.release = far_release;
    far.upload = far_upload;
    far.send = far_send;
    far.arrived = far_arrived;
    far.send_end = far_send_end;
    return 0;
}

static volume chest(const phantom *p, int isolated)
{
    volume v = {.head = {.nx = NX, .ny = NY, .nz = NZ, .spacing_mm = {4.5, 4.5, 25}, .isolated = isolated}, .hu = p->hu};
    for (int k = 0; k < 3; k++) v.head.affine[k][k] = v.head.spacing_mm[k];
    return v;
}

/* A pipeline with the weights that come along. */
static pipeline *open_pipeline(const backend *b, int crf, const char *model)
{
    char path[3][1024];
    const char *names[] = {"lung-axial", "lung-sagittal", model};
    pipeline *p;
    const char *source = getenv("COVPIPE_SOURCE");
    for (int k = 0; k < 3; k++) snprintf(path[k], sizeof path[k], "%s/share/%s-compact.h5", source ? source : ".", names[k]);
    pipeline_options o = {.backend = b, .threads = 1, .lung_axial_path = path[0], .lung_sagittal_path = path[1], .use_sagittal = 1, .use_crf = crf,
                          .crf = lungcrf_defaults(), .fusion_weight = -1, .fusion_prior = -1, .lesion_path = path[2], .score_least = -1};
    ok(pipeline_open(&o, &p));
    return p;
}

static const volume_stats stats = {.lowest = -1024, .highest = 1500, .share_air = 0.4, .share_soft = 0.3, .distinct = 2000};

/* cut: lesions in ranges of so many slices; 0: all at once. */
static void screen(const backend *b, const volume *v, int crf, const char *model, int64_t cut, study_result *out)
{
    pipeline *p = open_pipeline(b, crf, model);
    memset(out, 0, sizeof *out);
    study_row_init(&out->row);
    if (cut == 0) ok(pipeline_run(p, v, &stats, out));
    else {
        findings *f;
        ok(pipeline_lungs(p, v, &stats, out));
        ok(findings_new(NZ, &f));
        for (int64_t z = 0; z < NZ; z += cut) ok(pipeline_find(p, v, out->lung, z, z + cut < NZ ? z + cut : NZ, f));
        ok(pipeline_finish(p, v, f, out));
        findings_free(&f);
    }
    pipeline_close(&p);
}

static void the_same(const study_result *here, const study_result *there)
{
    assert_int_equal(here->row.status, there->row.status);
    assert_int_equal(here->row.status, OUTCOME_DONE);
    assert_memory_equal(here->lung, there->lung, VOXELS);
    assert_memory_equal(here->lesion, there->lesion, VOXELS * sizeof *here->lesion);
    assert_memory_equal(&here->row.lung_ml, &there->row.lung_ml, sizeof here->row.lung_ml); /* isolated: NaN */
    assert_int_equal(here->lesion_rows, there->lesion_rows);
    assert_true(here->lesion_rows > 0);
    for (int64_t k = 0; k < here->lesion_rows; k++) {
        assert_int_equal(here->lesions[k].area_px, there->lesions[k].area_px);
        assert_true(here->lesions[k].score == there->lesions[k].score && here->lesions[k].period == there->lesions[k].period);
    }
}

static void on_both(int isolated, int crf, const char *model, int64_t cut, int64_t uploads)
{
    phantom_options o = {.seed = 6, .nx = NX, .ny = NY, .nz = NZ, .spacing_mm = {4.5, 4.5, 25}, .lesions = 4, .threads = 1};
    phantom *p;
    study_result here, there;
    ok(phantom_new(&o, &p));
    volume v = chest(p, isolated);
    screen(cpu, &v, crf, model, 0, &here);
    volumes = alive = 0;
    screen(&far, &v, crf, model, cut, &there);
    the_same(&here, &there);
    assert_int_equal(volumes, uploads);
    assert_int_equal(alive, 0);
    study_result_free(&here);
    study_result_free(&there);
    phantom_free(&p);
}

static void a_volume_goes_to_the_device_once_and_has_the_masks_it_has_on_the_host(void **state)
{
    (void)state;
    on_both(0, 1, "unet", 0, 1);
}

/* All are waited for only when the axial network has seen them: a study does not wait for its volume's way. */
static void the_first_slices_are_looked_at_while_the_others_are_on_their_way(void **state)
{
    (void)state;
    first_asked = 0;
    on_both(0, 0, "unet", 0, 1);
    assert_int_equal(first_asked, 8 * NX * NY * sizeof(int16_t)); /* a batch */
    assert_int_equal(way.there, VOXELS * sizeof(int16_t));
}

/* A GPU looks at several slices at once, the host at one: groups that a range cuts, and a last one that is not full. */
static void findings_are_the_hosts_whatever_the_ranges(void **state)
{
    (void)state;
    on_both(0, 0, "st", 3, 4); /* the volume goes there for each range */
    on_both(0, 0, "unet", 2, 6);
}

/* Slices of one size go there together, for lungs and for lesions. */
static void isolated_slices_have_the_masks_they_have_on_the_host(void **state)
{
    (void)state;
    on_both(1, 0, "unet", 0, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_volume_goes_to_the_device_once_and_has_the_masks_it_has_on_the_host),
        cmocka_unit_test(the_first_slices_are_looked_at_while_the_others_are_on_their_way),
        cmocka_unit_test(findings_are_the_hosts_whatever_the_ranges),
        cmocka_unit_test(isolated_slices_have_the_masks_they_have_on_the_host),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
