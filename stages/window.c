/* window: see window.h. One fused multiply-add and two clips an element, written so that it vectorises. */
#include "stages/window.h"

window window_lung(void)
{
    return (window){.level = -500.0f, .width = 1600.0f};
}

float window_one(window w, float hu)
{
    float v = (hu - (w.level - 0.5f * w.width)) / w.width;
    v = v > 0.0f ? v : 0.0f;
    return v < 1.0f ? v : 1.0f;
}

void window_run(window w, size_t n, const int16_t *restrict hu, float *restrict to)
{
    const float low = w.level - 0.5f * w.width, width = w.width;
    for (size_t i = 0; i < n; i++) {
        float v = ((float)hu[i] - low) / width; /* divided, not multiplied by 1/width: 1 stays exactly 1 */
        v = v > 0.0f ? v : 0.0f;
        to[i] = v < 1.0f ? v : 1.0f;
    }
}
