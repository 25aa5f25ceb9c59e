/* keep_loaded: stands in for dlclose in builds with sanitizers. Open MPI closes its modules at its end; what they have kept would then be a leak
 * of an unknown module, which no suppression (tests/tools/lsan.supp) can name. */
#include <dlfcn.h>

int dlclose(void *handle)
{
    (void)handle;
    return 0;
}
