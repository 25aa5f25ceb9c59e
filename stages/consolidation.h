/* consolidation: made-up consolidation drawn in three dimensions into the lungs of an annotated volume, to score lung
 * masks where few patients have any: dense, smooth-edged, one body over many slices, most of it at the posterior pleura,
 * where it hides the lung's edge. What it looks like is stages/opacity's, from which the networks' training draws, too,
 * there in planes. For scores of lung masks alone. Local. */
#ifndef COV_STAGES_CONSOLIDATION_H
#define COV_STAGES_CONSOLIDATION_H
#include "data/volume.h"

enum { CONSOLIDATION_COPIES = 2 };
/* Share of the lung that a copy's opacities fill. */
double consolidation_share(int copy);

/* Copy number `copy` (from 0) of v: hu and drawn, (nz,ny,nx), are written. hu is v's with the opacities added, inside
 * `lung` (0/1) alone and nowhere less dense than v's; drawn is 1 where an opacity has at least one half of the density,
 * else 0. The same v, lung and seed give the same bytes. COV_USAGE where the lung has no voxel. Borrows all. */
status consolidation_draw(const volume *v, const uint8_t *lung, int copy, uint64_t seed, int16_t *hu, uint8_t *drawn);
#endif
