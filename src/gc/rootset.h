/* The root set of one cycle: every range of words to be scanned first, cut into jobs that markers take in turn. */
#ifndef MIDDEN_GC_ROOTSET_H
#define MIDDEN_GC_ROOTSET_H

#include "gc/mark.h"
#include "mutator/mutator.h"

/* The world stopped: gathers the ranges.  False where there was no memory to hold them all. */
bool rootset_collect_stw(void);

/* The same while the world runs, the collector lock held: what is not a thread's own is marked at once.  All threads have
 * been scanned, so that what they allocate from now on is black. */
void rootset_mark_running(struct mutator *self, struct midden_tracer *tracer);

/* What a thread alone may refer to: its stack and registers, its fiber, the slot that its tiny objects share, and, if
 * `storage`, its thread-local storage.  It is SAFE, held, or the caller. */
void rootset_mark_thread(const struct mutator *mutator, bool storage, struct midden_tracer *tracer);

/* Takes jobs until none is left; any number of markers at once. */
void rootset_mark_share(struct midden_tracer *tracer);

/* Marks the objects of root kinds. */
void rootset_mark_root_objects(struct midden_tracer *tracer);

#endif
