/* netio: a network's parameters to and from weights files, by name and shape. Local. */
#ifndef COV_STAGES_NETIO_H
#define COV_STAGES_NETIO_H
#include "data/weights.h"
#include "kernels/net.h"

/* Copies every parameter of w into n, and there must be no other. COV_FORMAT names the parameter that is missing, left
 * over or of another shape; n may then be partly set. */
status netio_load(const weights_file *w, net *n);
/* Copies the parameters that both have. whole: n must lack none (w may hold more: n is a part of the model). Not whole:
 * what w lacks keeps its values (n starts from an earlier model). *taken, if not NULL: how many were copied. */
status netio_take(const weights_file *w, net *n, int whole, int *taken);
/* Puts every parameter of n into w. */
status netio_save(net *n, weights_file *w);
#endif
