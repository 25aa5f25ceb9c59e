/* window: Hounsfield units to the networks' [0, 1] by a level and a width: HU is clipped to level -+ width/2 and scaled.
 * The CT window of the method is level -500, width 1600 ([-1300, 300]); training jitters it. Local. */
#ifndef COV_STAGES_WINDOW_H
#define COV_STAGES_WINDOW_H
#include "kernels/plane.h"

typedef struct window {
    float level, width; /* HU; width > 0 */
} window;

window window_lung(void); /* -500, 1600 */
/* What a window shows, as the backends' plane functions take it. */
plane_range window_range(window w);
/* clip((hu - level + width/2) / width, 0, 1) */
float window_one(window w, float hu);
#endif
