/* A step of a cycle that the driver has prepared and a thread of the program takes.
 *
 * In dirty-page mode the end of a cycle calls the program: it reports its own roots, hears of the collection, of finalizers
 * that are ready.  Programs expect that in a thread of their own, which collects because it allocates.  So the driver, which
 * holds the collector lock, offers the step, and the next thread that allocates takes it, or one that waits for the lock, for a
 * loan of it, or for the cycle; the lock counts as that thread's meanwhile.
 *
 *     NONE      nothing is offered                          -> OFFERED, by the driver
 *     OFFERED   the driver waits for somebody to take it    -> TAKEN, by who does; NONE, by the driver: nobody came
 *     TAKEN     it is being run                             -> NONE, by who runs it
 *
 * The two steps from OFFERED are made by compare and swap (acquire and release); the one from TAKEN is a release, and
 * pairs with the driver's acquire. */
#ifndef MIDDEN_GC_HANDOVER_H
#define MIDDEN_GC_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "mutator/mutator.h"

/* `stack_pointer`: where the program's part of the thread's stack ends, its registers included. */
typedef void handover_fn(struct mutator *self, uintptr_t stack_pointer, void *argument);

/* Set by the driver around an offer that is only for threads that allocate batches, or wait.  A program's library may hold a lock
 * of its own where it allocates a single object, as Guile's does, and be surprised by its callbacks there; where it fills its
 * own free lists it rarely does. */
extern bool handover_is_for_batches; /* atomic */

/* The driver: offers a step for so long, and waits for its end if it is taken; whether it was.  Threads that rest (slowing.h)
 * go on. */
bool handover_offer(struct mutator *self, handover_fn *step, void *argument, uint64_t wait_ns);

enum { HANDOVER_NONE, HANDOVER_OFFERED, HANDOVER_TAKEN };
extern uint32_t handover_state; /* atomic */

static inline bool handover_is_offered(void) {
  return UNLIKELY(atomic_load_relaxed(&handover_state) == HANDOVER_OFFERED);
}

/* Acquire: for whom an offer is was stored before it was made. */
static inline bool handover_is_offered_to_all(void) {
  return UNLIKELY(atomic_load_acquire(&handover_state) == HANDOVER_OFFERED) &&
         !atomic_load_relaxed(&handover_is_for_batches);
}

/* Takes the step, if one is offered.  By a thread that allocates, or waits for the cycle; outside critical sections. */
void handover_take(struct mutator *self);

/* The same by a thread whose registers are saved: what lies below `stack_pointer` is the collector's own.  True if it did, and is to
 * tell of finalizers, which may not return; when it has nothing to undo any more. */
bool handover_take_at(struct mutator *self, uintptr_t stack_pointer);

/* The same by one that waits for a lock: it may hold locks of the program's, which finalizers take.  They are told of by the next
 * thread that allocates (handover_tell; outside critical sections), as where the driver itself has ended a cycle. */
void handover_take_untold_at(struct mutator *self, uintptr_t stack_pointer);
extern bool handover_is_untold; /* atomic */
void handover_tell(struct mutator *self);

/* Takes the collector lock by a thread of the program: the driver may hold it, and wait for such a thread. */
void handover_lock(struct mutator *self);

/* In a fork's child.  A program may fork in a callback of the step, whose thread goes on in the child then, where no driver is: it asks
 * for this after each callback, gives up what was marked beside the program of the parent, and ends the cycle by itself
 * when the step returns. */
void handover_forget(void);
extern bool handover_is_orphaned; /* its own thread, the only one of the child */

#endif
