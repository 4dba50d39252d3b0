/* Atomic operations with the memory order in the name.
 *
 * Each works on any integer or pointer variable of at most eight bytes; there are no bare fences (sanitizers cannot see
 * them) but one, atomic_publish.  "relaxed" is for counters and for values that a lock orders anyway. */
#ifndef MIDDEN_BASE_ATOMIC_H
#define MIDDEN_BASE_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

#define atomic_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define atomic_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define atomic_load_seq_cst(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define atomic_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define atomic_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define atomic_store_seq_cst(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)

/* For a word that its owner writes on a fast path and others may read meanwhile: a plain store, which no compiler tears
 * where the word is aligned, but which it may combine with the code around it, as it does not with an atomic one. */
#if THREAD_SANITIZER
#define atomic_store_plain(p, v) atomic_store_relaxed((p), (v))
#else
#define atomic_store_plain(p, v) ((void)(*(p) = (v)))
#endif

/* The read-modify-write forms return the value from before. */
#define atomic_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define atomic_add_acq_rel(p, v) __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL)
#define atomic_sub_relaxed(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED)
#define atomic_sub_acq_rel(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL)
#define atomic_or_seq_cst(p, v) __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define atomic_or_relaxed(p, v) __atomic_fetch_or((p), (v), __ATOMIC_RELAXED)
#define atomic_or_release(p, v) __atomic_fetch_or((p), (v), __ATOMIC_RELEASE)
#define atomic_and_relaxed(p, v) __atomic_fetch_and((p), (v), __ATOMIC_RELAXED)
#define atomic_and_release(p, v) __atomic_fetch_and((p), (v), __ATOMIC_RELEASE)
#define atomic_exchange_acquire(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQUIRE)
#define atomic_exchange_acq_rel(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#define atomic_exchange_seq_cst(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)

/* Compare and swap: on failure *expected receives the value seen. */
#define atomic_cas_relaxed(p, expected, desired) \
  __atomic_compare_exchange_n((p), (expected), (desired), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
#define atomic_cas_acquire(p, expected, desired) \
  __atomic_compare_exchange_n((p), (expected), (desired), false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)
#define atomic_cas_seq_cst(p, expected, desired) \
  __atomic_compare_exchange_n((p), (expected), (desired), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#define atomic_cas_acq_rel(p, expected, desired) \
  __atomic_compare_exchange_n((p), (expected), (desired), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

/* Raises what is at `p` to `v`, if it is less. */
#define atomic_raise_relaxed(p, v)                                                         \
  do {                                                                                     \
    __typeof__(*(p)) raise_to_ = (v), raise_from_ = atomic_load_relaxed(p);                \
    while (raise_from_ < raise_to_ && !atomic_cas_relaxed((p), &raise_from_, raise_to_)) { \
    }                                                                                      \
  } while (false)

/* Orders this thread's own accesses as one of its signal handlers sees them: a compiler barrier, no instruction. */
#define atomic_signal_barrier() __atomic_signal_fence(__ATOMIC_SEQ_CST)

/* All that this thread has stored is seen by who reads an address that it stores from here on, and goes there.  Only for addresses
 * that the program stores, plainly: the library's own stores are releases.  No instruction where a processor's stores are seen in
 * order; and the thread sanitizer, which knows no fences, is shown nothing of what they order. */
#if THREAD_SANITIZER
#define atomic_publish() atomic_signal_barrier()
#else
#define atomic_publish() __atomic_thread_fence(__ATOMIC_RELEASE)
#endif

/* Tells the processor that this is a spin loop. */
static inline void atomic_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

#endif
