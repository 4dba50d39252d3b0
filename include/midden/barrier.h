/* midden: the write barrier.
 *
 * In barrier mode (MIDDEN_MODE_BARRIER) the heap is marked while the program runs, and no step of a collection stops all
 * threads.  In return the program tells of its stores:
 *
 *     Every store of a heap pointer to anything but a local variable of the storing thread goes through the functions
 *     below: fields of objects, static data, thread-local storage, added roots, registered stacks, the local variables of
 *     another thread.
 *
 * A local variable that another thread reads, or another fiber, is none of its own in that sense: it is cleared, by midden_store,
 * before its function returns (what a thread is handed at its start by its creator's stack is a case of it).  So is, before
 * dlclose, what the static data of the library refers to that is held on.  Functions of midden.h that store a reference where
 * they are told to (`result`, `old_argument`) do it plainly: to a local variable.
 *
 * Exempt is the first filling of a new object by the thread that allocated it, as long as nothing but local variables of that thread
 * refers to the object: each word once, while it is NULL.  Copying by memcpy into such an object is a first filling too.  (What another
 * object refers to already is stored to by the functions, though nobody else can see either: a minor collection would not look into
 * it.  With the option `generations` off it is exempt as well.)  In the other modes the functions are plain stores; a program that
 * uses them runs in every mode.
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
 * (Eliminate STW stack re-scanning, 2016); see docs/barrier-mode.md. */
#ifndef MIDDEN_BARRIER_H
#define MIDDEN_BARRIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "midden/midden.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the inline functions below are made of, and with which a program makes its own barrier where they do not fit (words that
 * hold pointers in disguise, storage behind functions of its own):
 *
 *     bool active = midden_barrier_begin();
 *     load the old value, store the new one; call nothing that may wait, and nothing of midden
 *     if (active) midden_barrier_record(slot, old, new); else midden_barrier_end();
 *
 * `slot` is the address of the word; NULL will do where that is not in the heap.  midden_barrier_active is not 0 while a collection
 * marks in barrier mode, and all the time where collections may be minor ones.  The word that midden_barrier_inside leads to, one for
 * each thread, is 1 from before that is read until the store is made and told of: the collector looks at it, and waits until
 * it has been 0. */
MIDDEN_API extern uint32_t midden_barrier_active;
MIDDEN_API extern __thread __attribute__((tls_model("initial-exec"))) uint32_t *midden_barrier_inside;

/* Stores, and tells of it; tells that `old` was replaced by `value` in a slot.  Both leave *midden_barrier_inside 0. */
MIDDEN_API void midden_barrier_store(void *slot, const void *value);
MIDDEN_API void midden_barrier_record(const void *slot, const void *old, const void *value);

/* Words that the program may declare as pointers to anything. */
typedef void *__attribute__((may_alias)) midden_word;

/* The calling thread's.  A fiber may go on in another one: there the thread pointer must not be what it was before a call, and is
 * kept across calls by compilers on machines where it is a register like others. */
static inline uint32_t *midden_barrier_word(void) {
#if defined(__aarch64__)
  uintptr_t thread, offset = (uintptr_t)&midden_barrier_inside - (uintptr_t)__builtin_thread_pointer();
  __asm__ volatile("mrs %0, tpidr_el0" : "=r"(thread));
  return *(uint32_t **)(thread + offset);
#else
  return midden_barrier_inside;
#endif
}

/* Begins a store; whether it must be told of. */
static inline bool midden_barrier_begin(void) {
  __atomic_store_n(midden_barrier_word(), 1, __ATOMIC_RELAXED);
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  return __builtin_expect(__atomic_load_n(&midden_barrier_active, __ATOMIC_RELAXED) != 0, 0);
}

static inline void midden_barrier_end(void) { __atomic_store_n(midden_barrier_word(), 0, __ATOMIC_RELEASE); }

/* *slot = value; a release. */
static inline void midden_store(void *slot, const void *value) {
  if (midden_barrier_begin()) {
    midden_barrier_store(slot, value);
  } else {
    __atomic_store_n((midden_word *)slot, (void *)value, __ATOMIC_RELEASE);
    midden_barrier_end();
  }
}

/* Stores `value` and returns what was there; acquire and release. */
static inline void *midden_exchange(void *slot, const void *value) {
  bool active = midden_barrier_begin();
  void *old = __atomic_exchange_n((midden_word *)slot, (void *)value, __ATOMIC_ACQ_REL);
  if (active) {
    midden_barrier_record(slot, old, value);
  } else {
    midden_barrier_end();
  }
  return old;
}

/* Stores `value` if the slot holds *expected (`expected` is the address of a pointer too), else stores what it holds there;
 * whether it did.  Acquire and release; acquire where it fails. */
static inline bool midden_cas(void *slot, void *expected, const void *value) {
  midden_word *seen = (midden_word *)expected;
  void *old = *seen;
  bool active = midden_barrier_begin();
  bool stored =
      __atomic_compare_exchange_n((midden_word *)slot, seen, (void *)value, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  if (active && stored) {
    midden_barrier_record(slot, old, value);
  } else {
    midden_barrier_end();
  }
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
