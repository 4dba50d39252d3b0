#include "gc/sweep.h"

#include "base/bits.h"
#include "base/check.h"
#include "page/pageheap.h"
#include "span/mark_bits.h"
#include "span/slots.h"

enum {
  RECLAIM_STEP_PAGES = 256,
  RECLAIM_LOOK_PAGES = 4096, /* most that one allocation of few pages looks at */
  RECLAIM_LOOK_FACTOR = 32,  /* and of many: so many times its pages */
  LARGE_SLICE = 32,          /* large objects swept in one critical section */
  LARGE_MAX = 512,           /* and right after a cycle */
  MARGIN_FRACTION = 8
};

size_t sweep_due_bytes = SIZE_MAX;

static struct {
  struct lock lock;
  size_t page;               /* the cursor; under lock, atomic to read */
  size_t end_page;           /* constant while the world runs */
  size_t step_bytes;         /* what may be allocated for each step; under lock */
  size_t reclaim_page;       /* where reclaiming stands; atomic */
  struct sweep_stats before; /* the counts when the generation began; constant while the world runs */
} sweep = {.lock = LOCK_INIT(LOCK_RANK_LEAF)};

/* ---- figures ---- */

static void read_counts(struct sweep_stats *stats) {
  for (size_t i = 0; i < SWEEPER_COUNT; i++)
    stats->swept_pages[i] = atomic_load_relaxed(&central_swept_pages[i]) - sweep.before.swept_pages[i];
  stats->freed_pages = atomic_load_relaxed(&central_freed_pages) - sweep.before.freed_pages;
  stats->begun_pages = sweep.before.begun_pages;
}

void sweep_read_stats(struct sweep_stats *stats) { read_counts(stats); }

static size_t swept_pages(void) {
  struct sweep_stats stats;
  read_counts(&stats);
  size_t swept = 0;
  for (size_t i = 0; i < SWEEPER_COUNT; i++) swept += stats.swept_pages[i];
  return swept;
}

size_t sweep_left_pages(void) { return sweep.before.begun_pages - swept_pages(); }

/* ---- the pace ---- */

static size_t add_saturating(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }

static void set_due_locked(size_t due_bytes) {
  atomic_store_relaxed(&sweep_due_bytes, sweep.page < sweep.end_page ? due_bytes : SIZE_MAX);
}

static void set_pace_locked(void) {
  size_t left_pages = sweep.page < sweep.end_page ? sweep.end_page - sweep.page : 0;
  size_t steps = left_pages / SWEEP_STEP_PAGES + 1;
  size_t live_bytes = atomic_load_relaxed(&account_live_bytes);
  size_t goal_bytes = atomic_load_relaxed(&account_trigger_bytes);
  size_t way_bytes = goal_bytes > live_bytes ? goal_bytes - live_bytes : 0;
  sweep.step_bytes = (way_bytes - way_bytes / MARGIN_FRACTION) / steps;
  set_due_locked(add_saturating(live_bytes, sweep.step_bytes));
}

void sweep_revise(void) {
  lock_acquire(&sweep.lock);
  set_pace_locked();
  lock_release(&sweep.lock);
}

void sweep_begin_stw(void) {
  ASSERT(swept_pages() == sweep.before.begun_pages); /* each span once */
  struct pageheap_stats pages;
  pageheap_read_stats(&heap_pages, &pages);
  mark_side ^= 1;
  atomic_store_release(&span_generation, span_generation + 2);
  sweep.before = (struct sweep_stats){0};
  read_counts(&sweep.before);
  sweep.before.begun_pages = pages.in_use_bytes >> PAGE_SHIFT;
  sweep.end_page = (heap_arena.used - heap_arena.start) >> PAGE_SHIFT;
  atomic_store_relaxed(&sweep.page, (size_t)0);
  atomic_store_relaxed(&sweep.reclaim_page, (size_t)0);
  sweep_revise();
}

/* ---- walking ---- */

static bool is_unswept(struct span *span) {
  return span_state(span) == SPAN_IN_USE && atomic_load_acquire(&span->sweep_generation) == span_generation_now() - 2;
}

/* Sweeps the unswept spans that start in the pages [page, end), or those of them without a mark; returns the pages
 * freed.
 *
 * What is read of a span is read before its generation is (acquires keep that order): if it is unswept then, it has been
 * since marking ended, and what was read is true.  If it is not, what was read may be of two lives of the structure: then
 * the next page is looked at, lest an unswept span is jumped over. */
static size_t sweep_pages(size_t page, size_t end, bool dead_only, enum sweeper sweeper) {
  size_t freed = 0, swept = 0;
  while (page < end) {
    uintptr_t address = heap_arena.start + (page++ << PAGE_SHIFT);
    struct span *span = arena_span_of(&heap_arena, address);
    if (span == NULL) continue;
    uintptr_t start = atomic_load_acquire(&span->start);
    size_t count = atomic_load_acquire(&span->page_count);
    unsigned size_class = atomic_load_acquire(&span->size_class);
    if (!is_unswept(span)) continue;
    page = ((start - heap_arena.start) >> PAGE_SHIFT) + count;
    bool wanted = start == address && (!dead_only || slots_are_all_dead(start, count, size_class));
    if (!wanted || !central_claim(span)) continue;
    swept += count;
    freed += central_sweep_claimed(span);
  }
  if (swept != 0) atomic_add_relaxed(&central_swept_pages[sweeper], swept);
  return freed;
}

/* Takes the next step of the cursor; false when there is none. */
static bool take_step(size_t *page) {
  if (atomic_load_relaxed(&sweep.page) >= sweep.end_page) return false;
  lock_acquire(&sweep.lock);
  *page = sweep.page;
  if (*page < sweep.end_page) {
    atomic_store_relaxed(&sweep.page, *page + SWEEP_STEP_PAGES);
    set_due_locked(add_saturating(sweep_due_bytes, sweep.step_bytes));
  }
  lock_release(&sweep.lock);
  return *page < sweep.end_page;
}

/* In a critical section of its own; false when nothing is left. */
static bool step(struct mutator *self, enum sweeper sweeper) {
  size_t page;
  mutator_enter(self);
  bool taken = take_step(&page);
  if (taken) sweep_pages(page, min_size(page + SWEEP_STEP_PAGES, sweep.end_page), false, sweeper);
  mutator_leave(self);
  return taken;
}

void sweep_finish(struct mutator *self) {
  while (step(self, SWEEPER_NEXT_CYCLE)) {
  }
}

void sweep_pay(struct mutator *self, size_t bytes) {
  for (size_t i = 0; i <= bytes / SWEEP_PAY_BYTES && sweep_is_owed(); i++) {
    if (!step(self, SWEEPER_DEBT)) return;
  }
}

/* No object is held here.  The addresses of pages that this thread leaves on its stack are addresses of objects too, which
 * they must not keep alive: the stack counts as empty while it sweeps. */
uint64_t sweep_background(struct mutator *self, uint64_t now_ns) {
  (void)now_ns;
  uintptr_t stack_base = self->stack_base;
  self->stack_base = 0;
  bool more = step(self, SWEEPER_BACKGROUND);
  self->stack_base = stack_base;
  return more ? 0 : UINT64_MAX;
}

/* ---- large objects ---- */

/* At most `most` of one kind; returns how many there were. */
static unsigned sweep_some_large(struct central *central, unsigned most) {
  unsigned count = 0;
  size_t pages = 0;
  struct span *span;
  for (; count < most && (span = central_claim_first(central)) != NULL; count++) {
    pages += span->page_count;
    central_sweep_claimed(span);
  }
  atomic_add_relaxed(&central_swept_pages[SWEEPER_COLLECTOR], pages);
  return count;
}

void sweep_large(struct mutator *self) {
  unsigned count = 0;
  for (unsigned kind = 0; kind < MIDDEN_KINDS_MAX; kind++) {
    struct central *central = central_if_exists(kind, 0);
    unsigned swept = central == NULL ? 0 : LARGE_SLICE;
    for (; swept == LARGE_SLICE && count < LARGE_MAX; count += swept) {
      mutator_enter(self);
      swept = sweep_some_large(central, LARGE_SLICE);
      mutator_leave(self);
    }
  }
}

/* ---- reclaiming ---- */

void sweep_reclaim(size_t pages) {
  size_t freed = 0, looked = 0, end = sweep.end_page;
  size_t most = max_size(RECLAIM_LOOK_PAGES, min_size(pages, end) * RECLAIM_LOOK_FACTOR);
  /* What the cursor has passed is swept, or about to be. */
  size_t passed = atomic_load_relaxed(&sweep.page);
  if (passed >= end) return;
  size_t at = atomic_load_relaxed(&sweep.reclaim_page);
  while (at < passed && !atomic_cas_relaxed(&sweep.reclaim_page, &at, passed)) {
  }
  while (freed < pages && looked < most && atomic_load_relaxed(&sweep.reclaim_page) < end) {
    size_t page = atomic_add_relaxed(&sweep.reclaim_page, (size_t)RECLAIM_STEP_PAGES);
    if (page < end) freed += sweep_pages(page, min_size(page + RECLAIM_STEP_PAGES, end), true, SWEEPER_RECLAIM);
    looked += RECLAIM_STEP_PAGES;
  }
}
