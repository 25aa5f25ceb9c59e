/* window: see window.h. */
#include "stages/window.h"

window window_lung(void)
{
    return (window){.level = -500.0f, .width = 1600.0f};
}

plane_range window_range(window w)
{
    return (plane_range){.low = w.level - 0.5f * w.width, .width = w.width};
}

float window_one(window w, float hu)
{
    return plane_shown(window_range(w), hu);
}
