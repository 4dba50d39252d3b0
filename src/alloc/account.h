/* How much the program has allocated: what the pacer steers by.
 *
 * Each cache counts for itself and adds to the global figure in steps, so that threads rarely meet on its cache line. */
#ifndef MIDDEN_ALLOC_ACCOUNT_H
#define MIDDEN_ALLOC_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/attr.h"

/* Bytes marked by the last collection plus allocated since, less freed since.  Atomic. */
extern size_t account_live_bytes;

/* The figure at which a collection is due; written by the pacer.  Atomic. */
extern size_t account_trigger_bytes;

/* Time that goes into keeping the heap, by what it was spent on. */
enum account_work {
  ACCOUNT_MARKING,
  ACCOUNT_SWEEPING_IN_CYCLE,      /* by the collecting thread */
  ACCOUNT_SWEEPING_BY_ALLOCATION, /* by threads that look for free slots */
  ACCOUNT_SWEEPING_IN_BACKGROUND,
  ACCOUNT_RELEASING, /* giving free pages back to the system */
  ACCOUNT_WORKS
};
extern uint64_t account_work_ns[ACCOUNT_WORKS]; /* ever; atomic */

static inline void account_work(enum account_work work, uint64_t ns) { atomic_add_relaxed(&account_work_ns[work], ns); }

/* Whether somebody wants to know that the program allocates or frees (gc/idle.h): the first who does resets it.  Atomic. */
enum account_watch {
  ACCOUNT_WATCH_NONE, /* nobody asks, or it has happened */
  ACCOUNT_WATCH_LOOK, /* who asks will look again */
  ACCOUNT_WATCH_WAKE  /* who asks sleeps: account_waker is called */
};
extern uint32_t account_watch;
extern void (*account_waker)(void); /* anywhere; constant after start */

void account_notice(void);

static inline void account_add(size_t bytes) {
  atomic_add_relaxed(&account_live_bytes, bytes);
  if (UNLIKELY(atomic_load_relaxed(&account_watch) != ACCOUNT_WATCH_NONE)) account_notice();
}

/* Explicit frees may outrun the count of what is still on its way from the caches: the figure stops at 0. */
void account_subtract(size_t bytes);

/* What was added in one period is subtracted in that one alone.  Another one begins with a cycle beside the program: when that is over,
 * what it has marked stands in the place of all that was in the account then, be it subtracted meanwhile or not.  So it does where the
 * world is stopped, as soon as the account is what was marked.  Written while no thread is in a critical section; read in those. */
extern uint32_t account_period;

static inline void account_begin_period(void) { atomic_store_relaxed(&account_period, account_period + 1); }

static inline bool account_collection_is_due(void) {
  return atomic_load_relaxed(&account_live_bytes) >= atomic_load_relaxed(&account_trigger_bytes);
}

#endif
