/* midden: the write barrier.
 *
 * In barrier mode (MIDDEN_MODE_BARRIER) the heap is marked while the program runs, and no step of a collection stops all
 * threads.  In return the program tells of its stores:
 *
 *     Every store of a heap pointer to anything but a local variable of the storing thread goes through the functions
 *     below: fields of objects, static data, thread-local storage, added roots, registered stacks, the local variables of
 *     another thread.
 *
 * Exempt is the first filling of a new object by the thread that allocated it, before anybody else can see it: its words
 * are NULL.  Copying by memcpy into such an object is a first filling too.  In the other modes the functions are plain
 * stores; a program that uses them runs in every mode.
 *
 * A slot is an aligned word that holds a pointer; `slot` is its address (of any pointer type: midden_store(&node->next,
 * other)), `value` NULL, any address in an object, or anything that is no address of the heap.  A slot that is not known to
 * lie in an object may be given just the same.  All threads may store to a slot at the same time.  Nothing here collects or
 * blocks; while a collection marks a call may take some microseconds.  The calling thread must be attached, which every
 * thread is that has allocated.
 *
 * A forgotten barrier loses objects.  MIDDEN_DEBUG=check finds that out: after each concurrent mark it marks again with
 * the world stopped, and names the object whose slot was stored to behind the collector's back.
 *
 * Source: the barrier is the hybrid of Yuasa's deletion barrier (Real-time garbage collection on general-purpose machines,
 * 1990) and Dijkstra's insertion barrier (On-the-fly garbage collection, 1978), as Clements and Hudson combine them
 * (Eliminate STW stack re-scanning, 2016); with the store before the look at the flag, see docs/barrier-mode.md. */
#ifndef MIDDEN_BARRIER_H
#define MIDDEN_BARRIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "midden/midden.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Not 0 while a collection marks in barrier mode.  Read by the functions below; written by the library alone. */
MIDDEN_API extern uint32_t midden_barrier_active;

/* The slow half: `old` was replaced by `value`.  Called by the functions below. */
MIDDEN_API void midden_barrier_record(const void *old, const void *value);

/* Words that the program may declare as pointers to anything. */
typedef void *__attribute__((may_alias)) midden_word;

static inline void midden_barrier(const void *old, const void *value) {
  __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the store before the flag: docs/barrier-mode.md, [store-first] */
  if (__builtin_expect(__atomic_load_n(&midden_barrier_active, __ATOMIC_RELAXED) != 0, 0))
    midden_barrier_record(old, value);
}

/* *slot = value; a release. */
static inline void midden_store(void *slot, const void *value) {
  midden_word *word = (midden_word *)slot;
  void *old = __atomic_load_n(word, __ATOMIC_RELAXED);
  __atomic_store_n(word, (void *)value, __ATOMIC_RELEASE);
  midden_barrier(old, value);
}

/* Stores `value` and returns what was there; acquire and release. */
static inline void *midden_exchange(void *slot, const void *value) {
  void *old = __atomic_exchange_n((midden_word *)slot, (void *)value, __ATOMIC_ACQ_REL);
  midden_barrier(old, value);
  return old;
}

/* Stores `value` if the slot holds *expected (`expected` is the address of a pointer too), else stores what it holds there;
 * whether it did.  Acquire and release; acquire where it fails. */
static inline bool midden_cas(void *slot, void *expected, const void *value) {
  midden_word *seen = (midden_word *)expected;
  void *old = *seen;
  bool stored =
      __atomic_compare_exchange_n((midden_word *)slot, seen, (void *)value, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  if (stored) midden_barrier(old, value);
  return stored;
}

/* Copies `count` words from `from` to `to` as memmove does, word by word; each store is a release. */
MIDDEN_API void midden_copy_range(void *to, const void *from, size_t count);

/* Stores NULL to `count` words from `slots` on. */
MIDDEN_API void midden_clear_range(void *slots, size_t count);

#ifdef __cplusplus
}
#endif

#endif
