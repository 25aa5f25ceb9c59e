/* setup: from options to what the layers below take: backend and device, precision, weights files, CRF options. Every
 * job that runs a network goes through here, so that "auto" means the same everywhere. */
#ifndef COV_JOBS_SETUP_H
#define COV_JOBS_SETUP_H
#include "data/weights.h"
#include "jobs/options.h"
#include "stages/pipeline.h"

typedef struct setup {
    const backend *backend;
    device *device; /* owned */
    net_precision precision;
} setup;

/* Opens the device that --device, --threads and --precision name. Close with setup_close, which accepts a zeroed one.
 */
status setup_open(const options *o, setup *out);
void setup_close(setup *s);
/* What setup_open would settle on, found out in a process of its own: a program that has touched a GPU cannot fork
 * children that use it, and the screening job's worker is such a child. */
status setup_probe(const options *o, const backend **b, net_precision *precision);
int setup_ordinal(void); /* the rank's place on its node, by the launcher's environment; 0 */

enum { SETUP_PATH = 4096 };
/* The file that installed weights of a model lie in: $COVPIPE_SHARE, else share/ beside or above the program. COV_USAGE
 * names the places looked at. */
status setup_weights_path(const char *model, const char *preset, char path[SETUP_PATH]);

/* Everything the pipeline needs but backend and precision, which setup_open or setup_probe find; of weights only the lesion model's are looked into, for its name. Paths are kept in
 * `room`. Lesions are looked for when screening or timing, unless --model says none, or says nothing and no weights are installed
 * (out->lesion_path NULL). */
typedef struct setup_paths {
    char axial[SETUP_PATH], sagittal[SETUP_PATH], lesion[SETUP_PATH], model[WEIGHTS_LABEL];
} setup_paths;
status setup_pipeline(const options *o, setup_paths *room, pipeline_options *out);
/* "[\n...\n]\n" written whole. */
status setup_write_json(const char *path, const str *items);
#endif
