/* The write barrier's slow half: what was stored while the barrier is active waits in a buffer of the thread until the gc
 * layer looks at it.  The protocol is docs/barrier-mode.md's.
 *
 * A buffer belongs to its thread, and to the collector while it holds the thread SAFE.  The thread changes it while
 * mutator.inside_store is set: a handshake waits for the end, as it does in a critical section, but no gate is looked at. */
#ifndef MIDDEN_MUTATOR_BARRIER_H
#define MIDDEN_MUTATOR_BARRIER_H

#include <stdbool.h>
#include <stdint.h>

#include "midden/barrier.h"
#include "mutator/mutator.h"

/* A thread marks what its full buffer tells: for some five microseconds, where the words miss the caches. */
enum { BARRIER_WORDS = 126 };

struct barrier_buffer {
  uint32_t count;                 /* atomic: others ask whether it is 0 */
  uintptr_t words[BARRIER_WORDS]; /* addresses in the arena */
};

void barrier_init(void);

/* The calling thread's stores are this mutator's from now on; NULL: nobody's. */
void barrier_bind(struct mutator *self);

/* Looks at the words of a buffer and empties it; set at start.  In a critical section of the mutator, or it is HELD.  Also
 * where there was no memory for a buffer: then `words` are elsewhere. */
typedef void barrier_flush_fn(struct mutator *mutator, const uintptr_t *words, uint32_t count);
extern barrier_flush_fn *barrier_flusher;

/* Flushes what the mutator has recorded. */
void barrier_flush(struct mutator *mutator);

/* Whether it has recorded nothing since: what it did before the caller saw it outside of stores and critical sections is in
 * the buffer, or flushed, which the caller sees. */
bool barrier_is_flushed(const struct mutator *mutator);

/* The mutator is about to be freed. */
void barrier_forget(struct mutator *mutator);

/* What midden_barrier_active tells. */
enum barrier_flags {
  BARRIER_MARKS = 1,    /* a collection marks: what is overwritten, and stored, is recorded */
  BARRIER_REMEMBERS = 2 /* for good: where is noted in span/cards.h */
};

/* Turns the recording on or off, for all threads; the noting on. */
void barrier_activate(bool active);
void barrier_remember(void);

/* Whether what is stored is to be recorded. */
static inline bool barrier_marks(void) { return (atomic_load_acquire(&midden_barrier_active) & BARRIER_MARKS) != 0; }

/* For the library's own stores to what is no object, in the critical section in which they are made: `old` was replaced by
 * `value`. */
static inline void barrier_note(const void *old, const void *value) {
  if (UNLIKELY(barrier_marks())) midden_barrier_record(NULL, old, value);
}

#endif
