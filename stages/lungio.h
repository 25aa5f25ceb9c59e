/* lungio: a network's parameters to and from weights files, with the checks that make a wrong file a clear error: the
 * model, the preset, every parameter's name and shape. Local. */
#ifndef COV_STAGES_LUNGIO_H
#define COV_STAGES_LUNGIO_H
#include "data/weights.h"
#include "kernels/net.h"
#include "stages/lungnet.h"

/* Weight of the sagittal logit in the fusion, as text of the sagittal weights' record. */
#define LUNGIO_FUSION "fusion_weight"

/* Opens a weights file and checks what it says it holds. COV_USAGE where model or preset differ from what is asked for. preset NULL:
 * any. Caller frees *out with weights_free. */
status lungio_open(const char *path, lungnet_view view, const char *preset, weights_file **out);
/* Copies every parameter of w into n, or of n into w. COV_FORMAT names the parameter that is missing, left over or
 * of another shape; n may then be partly set. */
status lungio_to_net(const weights_file *w, net *n);
status lungio_from_net(net *n, weights_file *w);
/* The fusion weight recorded in sagittal weights; `otherwise` if there is none or it is not in [0, 1]. */
float lungio_fusion(const weights_file *sagittal, float otherwise);
#endif
