/* What the program writes while a cycle of dirty-page mode marks is read again: in *rounds* beside the program, each of which reads
 * what was written since the one before, until little is left; and that in the stop.
 *
 * Of what was written, objects that are marked are scanned again; the others will be, if they are ever marked.  Parts of the heap
 * are dealt out to the workers, and in the stop to the markers.
 *
 * Called by the driver, or who took the stop from it, under the collector lock. */
#ifndef MIDDEN_GC_ROUNDS_H
#define MIDDEN_GC_ROUNDS_H

#include "gc/cycle.h"

/* A cycle begins; with `stacks_are_scanned` threads scan their stacks next, else the first round does. */
void rounds_begin(bool stacks_are_scanned);

/* Until little is left, or not much that does not become less.  Where it is much, the program is slowed down after a round in
 * vain; after some more no round will help. */
void rounds_run(struct cycle *cycle);

/* Marks what is grey, by the workers and threads that allocate, which are slowed if the heap runs away from its goal all the same. */
void rounds_drain(struct cycle *cycle);

/* One round without the marking of what it finds.  In bytes, what was read again: what was written of marked objects. */
size_t rounds_scan_written(struct cycle *cycle);

/* The system could not tell what was written: the stop reads everything again. */
bool rounds_are_lost(void);

/* Whether the last round found so little, in so short a time, that another processor would take longer to wake up. */
bool rounds_left_little(void);

/* In the stop: the rest, by each marker for its share; and how much it was in bytes. */
void rounds_begin_stw(void);
void rounds_scan_share_stw(struct midden_tracer *tracer);
size_t rounds_written_bytes(void);

#endif
