#include "gc/ahead.h"

#include "base/atomic.h"
#include "base/bits.h"
#include "base/memcheck.h"
#include "gc/background.h"
#include "gc/scavenger.h"
#include "meta/persist.h"
#include "os/os.h"
#include "page/pageheap.h"
#include "span/mark_bits.h"

enum { READY_FRACTION = 4, MOST_FRACTION = 32, LEAST_CHUNKS = 8, METADATA_BYTES = 1 << 20 };

static bool is_active; /* constant after start */
static bool is_called; /* atomic; the task has been poked and not yet looked */

static struct span *in_work; /* atomic; a chunk that is being faulted in; written in critical sections */

void ahead_init(void) {
  is_active = true;
  background_register(ahead_task);
}

/* Near the end of growth, and beyond it, a few chunks: a quarter of what is left would be less than one, and each of the last
 * chunks be faulted in by a thread. */
static size_t least_bytes(size_t in_use_bytes) {
  return min_size(round_down(in_use_bytes / MOST_FRACTION, CHUNK_BYTES), LEAST_CHUNKS * CHUNK_BYTES);
}

size_t ahead_wanted_bytes(size_t need_bytes, size_t in_use_bytes) {
  if (need_bytes == SIZE_MAX) return 0;
  size_t more_bytes = need_bytes > in_use_bytes ? need_bytes - in_use_bytes : 0;
  size_t most_bytes = max_size(AHEAD_MOST_BYTES, need_bytes / MOST_FRACTION);
  return max_size(min_size(more_bytes / READY_FRACTION, most_bytes), least_bytes(in_use_bytes));
}

void ahead_low(void) {
  if (!atomic_exchange_acq_rel(&is_called, true)) background_poke();
}

void ahead_cycle_ended(void) {
  if (is_active) ahead_low();
}

/* Its mark bits with it, and structures for the spans that will be cut from it. */
static void populate(const struct span *span) {
  memcheck_quiet_begin();
  persist_populate(METADATA_BYTES);
  os_populate((void *)span->start, span_bytes(span));
  for (unsigned side = 0; side < 2; side++)
    os_populate(mark_word_of(&heap_arena, side, span->start), span_bytes(span) / MARK_WORD_BYTES * sizeof(uint64_t));
  memcheck_quiet_end();
}

static void populate_tables(struct mutator *self) {
  uintptr_t frontier;
  mutator_enter(self);
  size_t growth_bytes = pageheap_commit_tables(&heap_pages, &frontier);
  mutator_leave(self);
  mutator_enter_safe(self, self->stack_base); /* nothing waits for this */
  arena_populate_tables(&heap_arena, frontier, growth_bytes);
  mutator_leave_safe(self);
}

static bool populate_chunk(struct mutator *self) {
  mutator_enter(self);
  struct span *span = pageheap_take_absent(&heap_pages);
  atomic_store_relaxed(&in_work, span);
  mutator_leave(self);
  if (span == NULL) return false;
  mutator_enter_safe(self, self->stack_base); /* nor for this */
  populate(span);
  mutator_leave_safe(self);
  mutator_enter(self);
  pageheap_free_unused(&heap_pages, span);
  atomic_store_relaxed(&in_work, (struct span *)NULL);
  mutator_leave(self);
  return true;
}

void ahead_forked(void) {
  struct span *span = atomic_load_relaxed(&in_work);
  if (span != NULL) pageheap_free_unused(&heap_pages, span);
  atomic_store_relaxed(&in_work, (struct span *)NULL);
}

uint64_t ahead_task(struct mutator *self, uint64_t now_ns) {
  (void)now_ns;
  struct pageheap_stats pages;
  atomic_store_relaxed(&is_called, false);
  mutator_enter(self);
  pageheap_read_stats(&heap_pages, &pages);
  mutator_leave(self);
  size_t wanted = ahead_wanted_bytes(atomic_load_relaxed(&heap_scavenger.need_bytes), pages.in_use_bytes);
  atomic_store_relaxed(&heap_pages.low_bytes, wanted / 2);
  if (wanted >= CHUNK_BYTES) {
    populate_tables(self);
    if (pageheap_stats_idle_resident(&pages) >= wanted) return UINT64_MAX;
    if (populate_chunk(self)) return 0;
  }
  atomic_store_relaxed(&heap_pages.low_bytes, (size_t)0); /* there is nothing to be done: not until the next cycle */
  return UINT64_MAX;
}
