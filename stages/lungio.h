/* lungio: the lung networks' weights files, with the checks that make a wrong one a clear error. Parameters: netio.
 * Local. */
#ifndef COV_STAGES_LUNGIO_H
#define COV_STAGES_LUNGIO_H
#include "data/weights.h"
#include "stages/lungnet.h"

/* What sagittal weights may record of the fusion (stages/lung.h), as text. */
#define LUNGIO_WEIGHT "fusion_weight"
#define LUNGIO_PRIOR "fusion_prior"

/* Opens a weights file and checks what it says it holds. COV_USAGE where model or preset differ from what is asked for.
 * preset NULL: any. Caller frees *out with weights_free. */
status lungio_open(const char *path, lungnet_view view, const char *preset, weights_file **out);
/* The number recorded by that name; `otherwise` if there is none or it is not in [least, most]. */
float lungio_number(const weights_file *w, const char *name, double least, double most, float otherwise);
#endif
