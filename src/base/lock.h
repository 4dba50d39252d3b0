/* Locks with ranks.
 *
 * A lock is one 32-bit word: 0 free, 1 held, 2 held with waiters.  A thread spins briefly, then sleeps in the kernel.
 * Locks are taken in strictly increasing rank.  Debug builds check the order at run time.
 *
 * The rule that keeps the collector from deadlock: a thread holds a lock only inside a mutator critical section
 * (mutator/mutator.h) or while it holds one of the collector's two, so that nobody is stopped while holding one, and the
 * collector may take any of them while the world is stopped.  The two locks that the collector itself holds across a stop,
 * LOCK_RANK_COLLECTOR and LOCK_RANK_THREADS, are waited for only by threads that count as stopped. */
#ifndef MIDDEN_BASE_LOCK_H
#define MIDDEN_BASE_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/attr.h"

/* The one order in which locks nest. */
enum lock_rank {
  LOCK_RANK_INIT,         /* start of the library */
  LOCK_RANK_COLLECTOR,    /* one cycle at a time; held across a stop */
  LOCK_RANK_STARTS,       /* threads of the library's own that are being started; kept from forks */
  LOCK_RANK_THREADS,      /* the list of mutators; held across a stop */
  LOCK_RANK_ROOTS,        /* ranges that are roots */
  LOCK_RANK_TABLES,       /* weak tables, by stripes; one at a time */
  LOCK_RANK_LINKS,        /* weak links */
  LOCK_RANK_SPECIALS,     /* specials of spans, by stripes; one at a time */
  LOCK_RANK_CALLS,        /* finalizers and cleanups that are ready */
  LOCK_RANK_SPECIAL_SETS, /* which spans have specials */
  LOCK_RANK_PROFILE,      /* the heap profile */
  LOCK_RANK_STACKS,       /* stacks of fibers, and those that wait for one */
  LOCK_RANK_KINDS,        /* which kinds have central lists */
  LOCK_RANK_CENTRAL,      /* central lists; one at a time */
  LOCK_RANK_PAGEHEAP,     /* page heap, arena and span table */
  LOCK_RANK_WORK,         /* pool of work buffers; objects whose freeing waits */
  LOCK_RANK_META,         /* fixed-size allocators */
  LOCK_RANK_LEAF,         /* persistent memory, and other locks that are taken last: nothing comes under them */
  LOCK_RANK_COUNT
};

struct lock {
  uint32_t word; /* atomic; see above */
  uint8_t rank;  /* enum lock_rank; constant after init */
};

#define LOCK_INIT(lock_rank) \
  { .word = 0, .rank = (lock_rank) }

void lock_init(struct lock *lock, enum lock_rank rank);

/* Slow halves; callers use lock_acquire and lock_release. */
void lock_acquire_slow(struct lock *lock);
void lock_release_slow(struct lock *lock);

/* Between the steps of a long work: releases the lock and acquires it again, and where threads wait for it lets one of them have
 * it first.  A thread that releases it only to acquire it is always quicker than one that must wake up. */
void lock_pass(struct lock *lock);

/* Debug builds keep the locks that a thread holds; both do nothing in release builds. */
#ifdef MIDDEN_ASSERTS
void lock_note_acquired(struct lock *lock);
void lock_note_released(struct lock *lock);
bool lock_is_held_by_me(const struct lock *lock);
#else
static inline void lock_note_acquired(struct lock *lock) { (void)lock; }
static inline void lock_note_released(struct lock *lock) { (void)lock; }
static inline bool lock_is_held_by_me(const struct lock *lock) {
  (void)lock;
  return true;
}
#endif

/* The calling thread takes over a lock that another one holds, who will not release it. */
static inline void lock_adopt(struct lock *lock) { lock_note_acquired(lock); }

/* The acquire of the word pairs with the release in lock_release. */
static inline bool lock_try(struct lock *lock) {
  uint32_t expected = 0;
  if (!atomic_cas_acquire(&lock->word, &expected, 1u)) return false;
  lock_note_acquired(lock);
  return true;
}

static inline void lock_acquire(struct lock *lock) {
  uint32_t expected = 0;
  if (UNLIKELY(!atomic_cas_acquire(&lock->word, &expected, 1u))) lock_acquire_slow(lock);
  lock_note_acquired(lock);
}

static inline void lock_release(struct lock *lock) {
  lock_note_released(lock);
  if (UNLIKELY(atomic_exchange_acq_rel(&lock->word, 0u) == 2)) lock_release_slow(lock);
}

#endif
