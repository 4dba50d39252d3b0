/* Sweeping policy: who sweeps what when.  How one span is swept is alloc/central.h's and span/slots.h's. */
#ifndef MIDDEN_GC_SWEEP_H
#define MIDDEN_GC_SWEEP_H

#include <stdbool.h>
#include <stddef.h>

/* After marking, the world stopped: what was swept is now unswept. */
void sweep_begin_stw(void);

/* Sweeps all large objects, so that the pages of the dead ones can be used at once.  Critical sections. */
void sweep_large(void);

/* Sweeps all that is left.  Not in a critical section: it enters one for each span. */
struct mutator;
void sweep_finish(struct mutator *self);

/* Before an allocation of `pages` touches new memory: frees spans in which nothing was marked until so many pages are free
 * again.  They are found by their mark bits, page after page, without a look at the rest.  Critical sections. */
void sweep_reclaim(size_t pages);

#endif
