/* Cells: small objects that refer to another one without keeping it alive: weak references, and ephemerons.
 *
 *     weak reference    KIND_WEAK: `target`
 *     ephemeron         KIND_EPHEMERON: `target` is its key; `value` is kept while both the key and the ephemeron live
 *
 * Both lie in the heap, where the program holds them.  A cell with a target is linked into the list that the target's
 * SPECIAL_WEAK or SPECIAL_EPHEMERON record starts, so that it is cleared when the target dies.  `target` holds the address
 * that the program gave, which may point into the object.
 *
 * Locks.  The list of a target, and the step of a cell's `target` from its address to 0, under the stripe of the target's
 * span; the step from 0 to an address by compare-and-swap under that stripe, since two threads may give a cell different
 * targets.  The collector clears cells while the world is stopped.  Reading is one load: whoever has the address on its
 * stack keeps the object, and nobody is stopped between a load and what the compiler makes of it without the collector
 * seeing the register.  Beside a cycle who reads marks what was read (cell_read).
 *
 * Ephemerons in the mark phase.  A value is to be marked when both mark bits are set, of the key and of the ephemeron,
 * whichever comes last.
 *
 *     1. While the heap is marked, an ephemeron that is scanned marks its value if the key is marked already.
 *     2. Then marking is watched (mark_watch): each object that is newly marked and has ephemerons wakes them, and those
 *        that are marked mark their values.  Beside that one pass over all keys looks for pairs of which both were marked
 *        before.
 *
 * So each pair is seen when its second half is marked, or by the pass: chains of ephemerons cost what their links cost,
 * in any order.  Two markers may set the two bits at the same time; each then looks at the other bit.  Setting a bit and
 * looking are sequentially consistent, so at least one of them sees both.
 *
 * In dirty-page mode a pass beside the program leaves the stop those keys that are not marked yet (settle_grey_ahead_running).
 * Where a key is marked its ephemerons need no second look: one that is marked later is scanned after that, and one that is given
 * another key or value lies in a page that was written, and is scanned again. */
#ifndef MIDDEN_GC_CELL_H
#define MIDDEN_GC_CELL_H

#include <stdbool.h>
#include <stdint.h>

#include "gc/mark.h"
#include "gc/special.h"
#include "mutator/mutator.h"

struct cell {
  uintptr_t target; /* atomic; 0: cleared */
  struct cell *next, *previous;
  void *value; /* ephemerons; atomic */
};

/* Ephemerons whose keys died, ever; atomic.  Tables of ephemerons look for theirs when there are many. */
extern uint64_t cell_ephemerons_died;

/* At start: gives KIND_EPHEMERON its trace function. */
void cell_init(void);

/* Critical sections.  Gives a cell the target `address`, an address in the object that starts at `object`, or none (0).
 * 0 or -ENOMEM, with the target as it was. */
int cell_set(struct cell *cell, uintptr_t address, uintptr_t object);

/* An object is freed by the program: cells that name it are cleared.  Or the object is a cell. */
void cell_object_freed(uintptr_t object);
void cell_freed(struct cell *cell);

/* What the program is handed: the target, 0 where it died or there is none, and, unless `value` is NULL, the value, NULL with
 * it.  Beside a cycle it is marked, or found dead (docs/barrier-mode.md); otherwise this is three loads.  The second form is
 * for critical sections. */
uintptr_t cell_read(const struct cell *cell, void **value);
uintptr_t cell_read_entered(struct mutator *self, const struct cell *cell, void **value);

/* Gives an ephemeron a value. */
void cell_set_value(struct cell *cell, void *value);

/* The collector's, which is given the first record of an object's SPECIAL_WEAK or SPECIAL_EPHEMERON: the world is stopped, or the stripe
 * held. */
void cell_target_died(struct special *head);
void cell_mark_values(struct midden_tracer *tracer, struct special *head);

/* The end of a mark phase: unmarked cells leave the lists of their targets, which live.  All in the spans of a chunk, where it has
 * any; different chunks by different markers.  The world may run. */
void cell_drop_dead_in(size_t chunk);

typedef void cell_visit_fn(void *argument, const struct cell *cell);
void cell_visit_stw(const struct special *head, cell_visit_fn *visit, void *argument);

#endif
