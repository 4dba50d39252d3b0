/* Where midden's libgc.so.1 is. */
#ifndef CLI_DROPIN_H
#define CLI_DROPIN_H

#include <stdbool.h>
#include <stddef.h>

#define DROPIN_NAME "libgc.so.1"

/* The folder that holds it, absolute: that of this executable, as in a build folder, or else the one into which `make
 * install` puts it, found from the executable's.  False where neither has it. */
bool dropin_find(char *folder, size_t capacity);

#endif
