/* The root set of one cycle: every range of words to be scanned first, cut into jobs that markers take in turn. */
#ifndef MIDDEN_GC_ROOTSET_H
#define MIDDEN_GC_ROOTSET_H

#include "gc/mark.h"
#include "mutator/mutator.h"

/* The world stopped: gathers the ranges.  False where there was no memory to hold them all. */
bool rootset_collect_stw(void);

/* Takes jobs until none is left; any number of markers at once. */
void rootset_mark_share(struct midden_tracer *tracer);

/* Marks the objects of root kinds. */
void rootset_mark_root_objects(struct midden_tracer *tracer);

#endif
