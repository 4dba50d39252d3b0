#include "mutator/barrier.h"

#include "base/atomic.h"
#include "meta/fixalloc.h"
#include "page/arena.h"

uint32_t midden_barrier_active;
barrier_flush_fn *barrier_flusher;

static struct fixalloc buffers;

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

/* A full buffer is flushed, a missing one made; true if there is room for two words. */
static bool make_room(struct mutator *self) {
  if (LIKELY(self->records != NULL && self->records->count + 2 <= BARRIER_WORDS)) return true;
  mutator_enter(self);
  if (self->records != NULL) {
    barrier_flush(self);
  } else if ((self->records = fixalloc_alloc(&buffers)) != NULL) {
    self->records->count = 0;
  }
  mutator_leave(self);
  return self->records != NULL;
}

static void append(struct barrier_buffer *buffer, uintptr_t word) {
  if (arena_contains(&heap_arena, word)) buffer->words[buffer->count++] = word;
}

static void record(struct mutator *self, uintptr_t old, uintptr_t value) {
  if (LIKELY(make_room(self))) {
    append(self->records, old);
    if (value != old) append(self->records, value);
    return;
  }
  mutator_enter(self);
  barrier_flusher(self, (uintptr_t[]){old, value}, 2);
  mutator_leave(self);
}

/* A handshake that comes inside waits for the end: then the words are in the buffer. */
void midden_barrier_record(const void *old, const void *value) {
  if (!arena_contains(&heap_arena, (uintptr_t)old) && !arena_contains(&heap_arena, (uintptr_t)value)) return;
  struct mutator *self = mutator_self();
  bool nested = self->is_recording; /* by a store of the library's own, on behalf of this thread */
  self->is_recording = true;
  atomic_signal_barrier();
  record(self, (uintptr_t)old, (uintptr_t)value);
  atomic_signal_barrier();
  self->is_recording = nested;
  atomic_signal_barrier();
  if (UNLIKELY(atomic_load_relaxed(&self->stop_pending))) mutator_leave_slow(self);
}
