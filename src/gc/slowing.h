/* Threads that allocate rest now and then, where a cycle beside the program would not end in time otherwise: rounds of dirty-page
 * mode (rounds.h) scan what lives of all that is allocated in the cycle, and a program may allocate as fast as they scan; and
 * where there is nothing that threads could assist with, as in a long list, nothing else keeps the heap near its goal.
 *
 * The driver says beyond which size of the heap; threads see for themselves that it is beyond, since where they fill the
 * processors the driver has none to notice it on.
 *
 * They rest too while others wait for a cycle since they have found no memory (is_starving).  What threads allocate meanwhile would
 * outlive that cycle; and those that do not wait would have taken what it frees before the first of the others has woken up, time and
 * again. */
#ifndef MIDDEN_GC_SLOWING_H
#define MIDDEN_GC_SLOWING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloc/account.h"
#include "base/atomic.h"
#include "mutator/mutator.h"

/* Threads are slowed while more bytes than this live; SIZE_MAX: never.  Atomic; written by the driver. */
extern size_t slowing_beyond_bytes;

/* So many threads wait for memory; atomic. */
extern uint32_t slowing_starving;

static inline bool slowing_is_due(void) {
  return atomic_load_relaxed(&account_live_bytes) > atomic_load_relaxed(&slowing_beyond_bytes) ||
         UNLIKELY(atomic_load_relaxed(&slowing_starving) != 0);
}

/* A thread is about to allocate `bytes`: rests for less than a millisecond or, for a large object, again and again as long as that is
 * called for.  Outside critical sections. */
void slowing_rest(struct mutator *self, size_t bytes);

/* From now on: where the heap grows beyond its goal by more than forecasts fail. */
void slowing_stem_growth(void);

/* Well beyond: while the heap is drained, assists see to the goal; but a long list that is built meanwhile leaves them nothing
 * to take.  In a cycle that has begun beyond the goal (collections were disabled, or put off), from there. */
void slowing_stem_runaway(size_t begun_bytes);

/* Whatever its size, until slowing_stop. */
void slowing_stem_all(void);

/* Nobody is slowed any more; who rests goes on. */
void slowing_stop(void);

/* How often threads have rested in this cycle; for how long all together, and the one that did for longest; and the cycle
 * begins. */
size_t slowing_rests(void);
uint64_t slowing_rested_ns(void);
uint64_t slowing_longest_ns(void);
void slowing_begin(void);

/* In a fork's child. */
void slowing_forked(void);

#endif
