/* Handshakes: something is done once with every mutator, one at a time, and no two of them ever wait for each other.
 *
 * A round has a number and an action.  For each mutator the action is called once:
 *
 *     by the collector           where the thread is SAFE: it holds the thread there meanwhile (HELD)
 *     by the thread, in a signal where it runs the program's code: the collector signals it once a round
 *     by the thread, at a poll   where the signal came inside a critical section or a store with barrier: at its end (a store
 *                                that did not see the barrier active yet: at the next, or the next signal).  Also wherever it
 *                                looks by itself (handshake_poll)
 *
 *     by nobody                  where the collector sees that there is nothing to do for the thread, which notices nothing
 *                                (handshake_run, `needless`)
 *
 * so a thread that runs waits for nobody: its delay is the length of its own action.  One that wants to leave SAFE while
 * it is held waits until the action is done.
 *
 * Orders.  The collector stores the round, then reads a thread's state (both sequentially consistent); the thread leaves
 * SAFE by a sequentially consistent compare and swap, which fails where it is held.  So the collector holds it or sees that
 * it runs, and then signals it.  `mutator.handshake` is stored with a release by whoever did the action: when the
 * collector reads it (acquire) it sees all that the action did, and all that the thread did before.
 *
 * Looks.  A store with barrier and a critical section set a word of the mutator's (inside_store, critical) when they begin and clear it
 * (release) when they end; that the first store is seen before what follows is left to the collector: when a round has begun it
 * has all threads pass a full barrier (os_order_threads).  Each store that had begun before is seen to be under way then, until it is
 * over, and all it did is seen.  What began later is as if it had come after the thread's answer.  Where the system
 * has no such call all threads are asked.
 *
 * The action runs in a critical section (of the thread, or HELD stands in for one), perhaps in a signal handler: it takes
 * no lock that is held outside of critical sections, and allocates nothing from the C library.
 *
 * A round is under way at a time: the caller of handshake_run holds the collector lock. */
#ifndef MIDDEN_MUTATOR_HANDSHAKE_H
#define MIDDEN_MUTATOR_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "mutator/mutator.h"

/* Early, while the process has one thread, if it can be: spares the first round with looks some milliseconds. */
void handshake_init(void);

/* `mutator->stack_pointer` says from where its stack is in use; nothing it holds is below. */
typedef void handshake_fn(struct mutator *mutator);

/* Whether there is nothing to do for a mutator.  Its thread was seen outside of stores and critical sections since the round
 * began, and may be in one again. */
typedef bool handshake_test_fn(const struct mutator *mutator);

/* Does a round: returns when the action was called, or `needless` (unless it is NULL) has said so, for every attached mutator but
 * `self`, those included that attach meanwhile.  Not in a critical section. */
void handshake_run(struct mutator *self, handshake_fn *action, handshake_test_fn *needless);

extern uint32_t handshake_round; /* atomic; odd: a round is under way */

/* Whether a round is under way, if `round` is the number that was read, that the calling thread has not answered. */
static inline bool handshake_lacks(const struct mutator *self, uint32_t round) {
  return (round & 1) != 0 && atomic_load_relaxed(&self->handshake) != round;
}

static inline bool handshake_is_wanted(const struct mutator *self) {
  return handshake_lacks(self, atomic_load_seq_cst(&handshake_round));
}

/* The calling thread answers, its stack in use from `stack_pointer` on.  In no critical section, or in the signal's
 * handler. */
void handshake_answer(struct mutator *self, uintptr_t stack_pointer);

/* The same if it is wanted, registers saved. */
void handshake_poll_slow(struct mutator *self);

static inline void handshake_poll(struct mutator *self) {
  if (UNLIKELY(handshake_is_wanted(self))) handshake_poll_slow(self);
}

/* The thread was signalled where it cannot answer (mutator.is_returning): it wants to be signalled again. */
void handshake_refuse(void);

#endif
