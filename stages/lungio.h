/* lungio: the lung networks' weights files, with the checks that make a wrong one a clear error. Parameters: netio.
 * Local. */
#ifndef COV_STAGES_LUNGIO_H
#define COV_STAGES_LUNGIO_H
#include "data/weights.h"
#include "stages/lungnet.h"

/* Weight of the sagittal logit in the fusion, as text of the sagittal weights' record. */
#define LUNGIO_FUSION "fusion_weight"

/* Opens a weights file and checks what it says it holds. COV_USAGE where model or preset differ from what is asked for.
 * preset NULL: any. Caller frees *out with weights_free. */
status lungio_open(const char *path, lungnet_view view, const char *preset, weights_file **out);
/* The fusion weight recorded in sagittal weights; `otherwise` if there is none or it is not in [0, 1]. */
float lungio_fusion(const weights_file *sagittal, float otherwise);
#endif
