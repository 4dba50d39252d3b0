/* The ledger: what was allocated and freed, ever, by size class.
 *
 *     allocated - freed - reclaimed == objects that live
 *
 * where `freed` was freed by midden_free and `reclaimed` by collections.  The caches count the first two.  The third is
 * written down at the end of each mark phase, when the markers know what lives: an object that was not marked is
 * reclaimed then, though its slot may wait long for a sweep.  So the equation holds at any time, for each class, and no
 * sweep has to count.  It takes that every object which lives through a cycle is counted by a marker, or is black.
 *
 * While the program runs beside the marking, a thread's objects are black from some moment on: when its stack is scanned,
 * or, where dirty-page mode allocates white, when the world is stopped.  So what was allocated is noted thread by thread at
 * that moment, and what is in the notes and was not marked is reclaimed: black objects are in neither.  Nothing is freed by
 * midden_free meanwhile.
 *
 * Locks.  `reclaimed` is written while the world is stopped, hence under the lock of the list of mutators, and read under
 * it.  The verifier (observe/verify.c) compares the ledger with the allocation bits. */
#ifndef MIDDEN_GC_LEDGER_H
#define MIDDEN_GC_LEDGER_H

#include <stdint.h>

#include "alloc/cache.h"
#include "span/tally.h"

struct ledger {
  struct tally allocated; /* ever, slots that wait in windows left out */
  struct tally freed;     /* by midden_free, ever */
  struct tally reclaimed; /* by collections, ever */
  uint64_t tiny_allocations;
};

/* Reads it, while other threads allocate and free: then a figure is true of some moment of the call, no object counts as
 * freed that does not count as allocated, and no figure is less than in an earlier reading (but for tiny_allocations,
 * see cache_read_allocated). */
void ledger_read_locked(struct ledger *ledger);

/* What lives by it. */
void ledger_living(const struct ledger *ledger, struct tally *living);

/* Marking is over: what lives but was not marked is reclaimed. */
void ledger_close_cycle_stw(const struct tally *marked);

/* The same in three steps, for marking beside the program: when it begins, with the list locked; for each thread when it
 * becomes black, once; when marking is over, with the list locked. */
void ledger_open_notes_locked(void);
void ledger_note_black(struct cache *cache);
void ledger_close_notes_locked(const struct tally *marked);

#endif
