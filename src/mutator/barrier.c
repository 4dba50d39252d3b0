#include "mutator/barrier.h"

#include "base/atomic.h"
#include "meta/fixalloc.h"
#include "page/arena.h"
#include "span/cards.h"

uint32_t midden_barrier_active;
static uint32_t nobody_inside; /* for threads that are not attached; nobody looks */
__thread uint32_t *midden_barrier_inside = &nobody_inside;
barrier_flush_fn *barrier_flusher;

static struct fixalloc buffers;

void barrier_init(void) { fixalloc_init(&buffers, sizeof(struct barrier_buffer), false, PERSIST_MUTATOR); }

void barrier_bind(struct mutator *self) { midden_barrier_inside = self != NULL ? &self->inside_store : &nobody_inside; }

static uint32_t remembers; /* a flag, or 0 */

void barrier_activate(bool active) {
  atomic_store_seq_cst(&midden_barrier_active, remembers | (active ? BARRIER_MARKS : 0));
}

void barrier_remember(void) {
  remembers = BARRIER_REMEMBERS;
  barrier_activate(false);
}

void barrier_flush(struct mutator *mutator) {
  struct barrier_buffer *buffer = mutator->records;
  if (buffer == NULL || buffer->count == 0) return;
  barrier_flusher(mutator, buffer->words, buffer->count);
  atomic_store_release(&buffer->count, 0u);
}

bool barrier_is_flushed(const struct mutator *mutator) {
  const struct barrier_buffer *buffer = atomic_load_acquire(&mutator->records);
  return buffer == NULL || atomic_load_acquire(&buffer->count) == 0;
}

void barrier_forget(struct mutator *mutator) {
  if (mutator->records != NULL) fixalloc_free(&buffers, mutator->records);
  mutator->records = NULL;
}

ALWAYS_INLINE void add_word(struct barrier_buffer *buffer, uintptr_t word) {
  uint32_t count = buffer->count;
  buffer->words[count] = word;
  atomic_store_relaxed(&buffer->count, count + 1);
}

/* In a full buffer's place, or where there is no memory for one. */
static NOINLINE void record_word_slow(struct mutator *self, uintptr_t word) {
  mutator_enter(self);
  struct barrier_buffer *buffer = self->records;
  if (buffer == NULL && (buffer = fixalloc_alloc(&buffers)) != NULL) {
    buffer->count = 0;
    atomic_store_release(&self->records, buffer);
  }
  if (buffer != NULL) {
    barrier_flush(self);
    add_word(buffer, word);
  } else {
    barrier_flusher(self, &word, 1);
  }
  mutator_leave(self);
}

ALWAYS_INLINE void record_word(struct mutator *self, uintptr_t word) {
  if (!arena_contains(&heap_arena, word)) return;
  struct barrier_buffer *buffer = self->records;
  if (LIKELY(buffer != NULL && buffer->count < BARRIER_WORDS)) {
    add_word(buffer, word);
  } else {
    record_word_slow(self, word);
  }
}

/* [insertion]: what a scanned thread holds is marked, or will be. */
ALWAYS_INLINE void record(struct mutator *self, uintptr_t old, uintptr_t value) {
  record_word(self, old);
  if (UNLIKELY(!cache_is_black(&self->cache)) && value != old) record_word(self, value);
}

/* The end: what the handshake wants is in the buffer now. */
ALWAYS_INLINE void leave(struct mutator *self) {
  atomic_store_release(&self->inside_store, 0u);
  atomic_signal_barrier();
  if (UNLIKELY(atomic_load_relaxed(&self->stop_pending))) mutator_leave_slow(self);
}

/* A thread that was never attached has allocated nothing, but may store.  The store began as nobody's. */
static NOINLINE struct mutator *attach_inside(void) {
  struct mutator *self = mutator_self();
  atomic_store_relaxed(&self->inside_store, 1u);
  atomic_signal_barrier();
  return self;
}

static NOINLINE void tell(struct mutator *self, uintptr_t old, uintptr_t value) {
  record(self, old, value);
  leave(self);
}

void midden_barrier_record(const void *slot, const void *old, const void *value) {
  struct mutator *self = mutator_self_if_attached();
  if (UNLIKELY(self == NULL)) self = attach_inside();
  atomic_store_relaxed(&self->inside_store, 1u);
  atomic_signal_barrier();
  cards_note(slot);
  if (barrier_marks()) record(self, (uintptr_t)old, (uintptr_t)value);
  leave(self);
}

/* Most stores that come while a collection marks fill an object for the first time, by a thread that has been scanned: there is
 * nothing to tell. */
static NOINLINE void store_recorded(void *slot, const void *value) {
  midden_word *word = slot;
  struct mutator *self = mutator_self_if_attached();
  if (UNLIKELY(self == NULL)) {
    attach_inside();
    store_recorded(slot, value);
    return;
  }
  void *old = atomic_load_relaxed(word);
  atomic_store_release(word, (void *)(uintptr_t)value);
  if (LIKELY(old == NULL && cache_is_black(&self->cache))) {
    leave(self);
  } else {
    tell(self, (uintptr_t)old, (uintptr_t)value);
  }
}

void midden_barrier_store(void *slot, const void *value) {
  cards_note(slot);
  if (UNLIKELY(barrier_marks())) {
    store_recorded(slot, value);
  } else {
    atomic_store_release((midden_word *)slot, (void *)(uintptr_t)value);
    midden_barrier_end();
  }
}
