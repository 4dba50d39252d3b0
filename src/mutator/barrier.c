#include "mutator/barrier.h"

#include "base/atomic.h"
#include "meta/fixalloc.h"
#include "page/arena.h"

uint32_t midden_barrier_active;
__thread uint32_t midden_barrier_inside;
barrier_flush_fn *barrier_flusher;

static struct fixalloc buffers;

enum { RECORD_WORDS = 2 }; /* of one store, at most */

void barrier_init(void) { fixalloc_init(&buffers, sizeof(struct barrier_buffer), false, PERSIST_MUTATOR); }

void barrier_activate(bool active) { atomic_store_seq_cst(&midden_barrier_active, (uint32_t)active); }

void barrier_flush(struct mutator *mutator) {
  struct barrier_buffer *buffer = mutator->records;
  if (buffer == NULL || buffer->count == 0) return;
  barrier_flusher(mutator, buffer->words, buffer->count);
  buffer->count = 0;
}

void barrier_forget(struct mutator *mutator) {
  if (mutator->records != NULL) fixalloc_free(&buffers, mutator->records);
  mutator->records = NULL;
}

/* The end: what the handshake wants is in the buffer now. */
ALWAYS_INLINE void leave(struct mutator *self) {
  atomic_signal_barrier();
  atomic_store_relaxed(&midden_barrier_inside, 0u);
  atomic_signal_barrier();
  if (UNLIKELY(atomic_load_relaxed(&self->stop_pending))) mutator_leave_slow(self);
}

/* What is to be told of a store: the old value, and of a thread that was not scanned yet the new one [insertion].  What a scanned
 * thread holds is marked, or will be. */
ALWAYS_INLINE uint32_t list_words(const struct mutator *self, uintptr_t old, uintptr_t value, uintptr_t *words) {
  uint32_t count = 0;
  if (arena_contains(&heap_arena, old)) words[count++] = old;
  if (UNLIKELY(!cache_is_black(&self->cache)) && value != old && arena_contains(&heap_arena, value))
    words[count++] = value;
  return count;
}

/* Where the buffer is full, or is none.  A thread that was never attached has allocated nothing, but may store. */
static NOINLINE void record_slow(struct mutator *attached, uintptr_t old, uintptr_t value) {
  struct mutator *self = attached != NULL ? attached : mutator_self();
  uintptr_t words[RECORD_WORDS];
  uint32_t count = list_words(self, old, value, words);
  if (count != 0) {
    mutator_enter(self);
    if (self->records == NULL && (self->records = fixalloc_alloc(&buffers)) != NULL) self->records->count = 0;
    barrier_flush(self);
    if (self->records != NULL) {
      for (uint32_t i = 0; i < count; i++) self->records->words[self->records->count++] = words[i];
    } else {
      barrier_flusher(self, words, count);
    }
    mutator_leave(self);
  }
  leave(self);
}

/* Calls nothing but at its end: most stores are to new objects, by threads that were scanned, and have nothing to tell. */
ALWAYS_INLINE void record(struct mutator *self, uintptr_t old, uintptr_t value) {
  if (UNLIKELY(self == NULL)) return record_slow(self, old, value);
  struct barrier_buffer *buffer = self->records;
  if (UNLIKELY(buffer == NULL || buffer->count > BARRIER_WORDS - RECORD_WORDS)) return record_slow(self, old, value);
  buffer->count += list_words(self, old, value, &buffer->words[buffer->count]);
  leave(self);
}

void midden_barrier_record(const void *old, const void *value) {
  atomic_store_relaxed(&midden_barrier_inside, 1u);
  atomic_signal_barrier();
  record(mutator_self_if_attached(), (uintptr_t)old, (uintptr_t)value);
}

void midden_barrier_store(void *slot, const void *value) {
  midden_word *word = slot;
  void *old = atomic_load_relaxed(word);
  atomic_store_release(word, (void *)(uintptr_t)value);
  record(mutator_self_if_attached(), (uintptr_t)old, (uintptr_t)value);
}
