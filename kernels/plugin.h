/* plugin: how a backend that is a shared library of its own (covpipe-cuda.so) hands over its table. The plugin shows one
 * symbol; what it needs of the program is base/status, which every program of ours exports, so that a failure in the
 * plugin is told like any other. The table's layout must be the same on both sides: sizes and version say whether it is. */
#ifndef COV_KERNELS_PLUGIN_H
#define COV_KERNELS_PLUGIN_H
#include "kernels/backend.h"

typedef struct plugin_abi {
    const char *version; /* of covpipe */
    size_t backend, op, shapes, args, crf, optim, planes, part, frame, slices, choice, pasting, region;
} plugin_abi;

#define PLUGIN_ABI                                                                                                \
    {COVPIPE_VERSION,   sizeof(backend),    sizeof(op),        sizeof(op_shapes), sizeof(op_args), sizeof(crf_batch), \
     sizeof(optim_step), sizeof(plane_set), sizeof(plane_part), sizeof(plane_frame), sizeof(plane_slices),     \
     sizeof(boxes_choice), sizeof(boxes_pasting), sizeof(region_sum)}

/* The plugin's table, static in it; NULL where the program was built otherwise. */
__attribute__((visibility("default"))) const backend *covpipe_backend(const plugin_abi *program);
typedef const backend *(*plugin_entry)(const plugin_abi *program);
#endif
