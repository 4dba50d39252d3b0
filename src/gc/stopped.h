/* A mark phase with the world stopped. */
#ifndef MIDDEN_GC_STOPPED_H
#define MIDDEN_GC_STOPPED_H

#include "gc/cycle.h"

/* From stopping the world to letting it go: the pause. */
void stopped_run(struct cycle *cycle);

#endif
