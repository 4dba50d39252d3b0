#include "gc/sweep.h"

#include "alloc/central.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "mutator/mutator.h"
#include "page/pageheap.h"
#include "span/mark_bits.h"
#include "span/slots.h"

/* Where the reclaimer stands: each page is looked at once a generation. */
static size_t reclaim_page; /* atomic */

enum { RECLAIM_STEP_PAGES = 256 };

void sweep_begin_stw(void) {
  mark_side ^= 1;
  atomic_store_release(&span_generation, span_generation + 2);
  atomic_store_relaxed(&reclaim_page, (size_t)0);
}

static void each_central(bool (*visit)(struct central *central, void *argument), void *argument, bool large_only) {
  for (unsigned kind = 0; kind < MIDDEN_KINDS_MAX; kind++) {
    if (central_if_exists(kind, 0) == NULL) continue;
    for (unsigned i = 0; i < (large_only ? 1 : SIZE_CLASS_COUNT); i++) {
      while (visit(central_if_exists(kind, i), argument)) {
      }
    }
  }
}

static bool sweep_one(struct central *central, void *argument) {
  (void)argument;
  return central_sweep_one(central) != SIZE_MAX;
}

void sweep_large(void) { each_central(sweep_one, NULL, true); }

static bool sweep_one_entered(struct central *central, void *argument) {
  struct mutator *self = argument;
  mutator_enter(self);
  bool more = central_sweep_one(central) != SIZE_MAX;
  mutator_leave(self);
  return more;
}

void sweep_finish(struct mutator *self) { each_central(sweep_one_entered, self, false); }

/* Frees the unmarked spans that start in [page, end); returns the pages freed. */
static size_t reclaim_pages(size_t page, size_t end) {
  size_t freed = 0;
  while (page < end) {
    uintptr_t address = heap_arena.start + (page << PAGE_SHIFT);
    struct span *span = arena_span_of(&heap_arena, address);
    if (span == NULL || span->start != address) {
      page++;
      continue;
    }
    size_t count = span->page_count;
    bool dead = span_state(span) == SPAN_IN_USE &&
                atomic_load_acquire(&span->sweep_generation) == span_generation_now() - 2 && slots_are_all_dead(span);
    if (dead && central_claim(span)) freed += central_sweep_claimed(span);
    page += max_size(count, 1);
  }
  return freed;
}

void sweep_reclaim(size_t pages) {
  size_t total = (atomic_load_acquire(&heap_arena.used) - heap_arena.start) >> PAGE_SHIFT;
  size_t freed = 0;
  while (freed < pages && atomic_load_relaxed(&reclaim_page) < total) {
    size_t page = atomic_add_relaxed(&reclaim_page, (size_t)RECLAIM_STEP_PAGES);
    if (page < total) freed += reclaim_pages(page, min_size(page + RECLAIM_STEP_PAGES, total));
  }
}
