/* Objects that midden_free was given while a cycle marked beside the program.
 *
 * A marker may be reading such an object, and its slot must not serve again before the sides have traded roles: so it
 * waits here, allocated, until the cycle is over.  What it had of specials is gone at once; that it is freed twice is noticed at
 * once too. */
#ifndef MIDDEN_GC_DEFERRED_H
#define MIDDEN_GC_DEFERRED_H

#include <stddef.h>
#include <stdint.h>

#include "mutator/mutator.h"

/* Critical sections, while span_marking.  0; -EEXIST where it waits already; -ENOMEM. */
int deferred_add(uintptr_t object);

/* After a cycle, no critical section: frees them by `deferred_free`, which is called in critical sections.  Set at start. */
void deferred_run(struct mutator *self);
extern void (*deferred_free)(struct mutator *self, uintptr_t object);

/* The bytes of all that wait. */
size_t deferred_bytes(void);

#endif
