#include "gc/sweep.h"

#include "base/bits.h"
#include "base/check.h"
#include "gc/background.h"
#include "gc/collector.h"
#include "os/os.h"
#include "page/pageheap.h"
#include "span/mark_bits.h"
#include "span/slots.h"

enum {
  RECLAIM_STEP_PAGES = 256,
  RECLAIM_LOOK_PAGES = 4096, /* most that one allocation of few pages looks at */
  RECLAIM_LOOK_FACTOR = 32,  /* and of many: so many times its pages */
  LARGE_MAX = 512,           /* large objects swept right after a cycle */
  MARGIN_FRACTION = 32,
  BACKGROUND_LEAST_PAGES = 128, /* less than 1 MiB is not worth waking another thread for */
  WATCH_NS = 2000000,
  WATCH_BUSY_PAGES = 64, /* 512 KiB in that time */
  PAY_STEPS = 8          /* most that one slice takes of which nothing is left to be swept */
};

size_t sweep_due_bytes = SIZE_MAX;

static struct {
  struct lock lock;
  size_t page;     /* the cursor; under lock, atomic to read */
  size_t end_page; /* changes while no thread is in a critical section */
  /* The pace, under lock: so many bytes may be allocated for each page swept, from these figures on. */
  size_t page_cost_bytes, paced_pages, paced_bytes;
  size_t reclaim_page;       /* where reclaiming stands; atomic */
  struct sweep_stats before; /* the counts when the generation began; changes as end_page does */
} sweep = {.lock = LOCK_INIT(LOCK_RANK_LEAF)};

/* The background thread's own, but for is_on. */
static struct {
  bool is_on; /* atomic; the task will be called again without a poke */
  bool busy;  /* the program was sweeping when last asked */
  uint32_t generation;
  uint64_t since_ns;
  size_t others; /* pages swept by others then */
  uint32_t told; /* the generation of which the scavenger was told that it is swept */
} watch;

/* ---- figures ---- */

/* Pages swept by one of them since the generation began. */
static size_t sweep_count(enum sweeper sweeper) {
  return atomic_load_relaxed(&central_swept_pages[sweeper]) - sweep.before.swept_pages[sweeper];
}

void sweep_read_stats(struct sweep_stats *stats) {
  for (unsigned i = 0; i < SWEEPER_COUNT; i++) stats->swept_pages[i] = sweep_count((enum sweeper)i);
  stats->freed_pages = atomic_load_relaxed(&central_freed_pages) - sweep.before.freed_pages;
  stats->begun_pages = sweep.before.begun_pages;
}

static size_t swept_pages(void) {
  size_t swept = 0;
  for (unsigned i = 0; i < SWEEPER_COUNT; i++) swept += sweep_count((enum sweeper)i);
  return swept;
}

size_t sweep_left_pages(void) { return sweep.before.begun_pages - swept_pages(); }

/* ---- the pace ---- */

static size_t multiply_saturating(size_t a, size_t b) {
  size_t product;
  return __builtin_mul_overflow(a, b, &product) ? SIZE_MAX : product;
}

/* One step's pages may always be owed: so much is swept in advance, or at leisure. */
static void set_due_locked(void) {
  size_t swept = swept_pages();
  size_t paid = multiply_saturating(swept - sweep.paced_pages + SWEEP_STEP_PAGES, sweep.page_cost_bytes);
  size_t due = swept < sweep.before.begun_pages ? add_saturating(sweep.paced_bytes, paid) : SIZE_MAX;
  atomic_store_relaxed(&sweep_due_bytes, due);
}

static void set_pace_locked(void) {
  sweep.paced_pages = swept_pages();
  sweep.paced_bytes = atomic_load_relaxed(&account_live_bytes);
  size_t goal_bytes = atomic_load_relaxed(&account_trigger_bytes);
  size_t way_bytes = goal_bytes > sweep.paced_bytes ? goal_bytes - sweep.paced_bytes : 0;
  size_t left_pages = sweep.before.begun_pages - sweep.paced_pages;
  sweep.page_cost_bytes = (way_bytes - way_bytes / MARGIN_FRACTION) / max_size(left_pages, 1);
  set_due_locked();
}

void sweep_revise(void) {
  lock_acquire(&sweep.lock);
  set_pace_locked();
  lock_release(&sweep.lock);
}

void sweep_begin(void) {
  ASSERT(swept_pages() == sweep.before.begun_pages); /* each span once */
  struct pageheap_stats pages;
  pageheap_read_stats(&heap_pages, &pages);
  atomic_store_relaxed(&mark_side_now, alloc_side());
  atomic_store_release(&span_generation, span_generation + 2);
  sweep.before = (struct sweep_stats){0};
  sweep_read_stats(&sweep.before);
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

/* The unswept spans that start in the pages [*page, end), or those of them without a mark, until there are CENTRAL_MANY; moves
 * *page past them.
 *
 * What is read of a span is read before its generation is (acquires keep that order): if it is unswept then, it has been
 * since marking ended, and what was read is true.  If it is not, what was read may be of two lives of the structure: then
 * the next page is looked at, lest an unswept span is jumped over. */
static size_t find_unswept(size_t *page, size_t end, bool dead_only, struct span **spans) {
  size_t found = 0;
  while (*page < end && found < CENTRAL_MANY) {
    uintptr_t address = heap_arena.start + ((*page)++ << PAGE_SHIFT);
    struct span *span = arena_span_of(&heap_arena, address);
    if (span == NULL) continue;
    uintptr_t start = atomic_load_acquire(&span->start);
    size_t count = atomic_load_acquire(&span->page_count);
    unsigned size_class = atomic_load_acquire(&span->size_class);
    if (!is_unswept(span)) continue;
    *page = ((start - heap_arena.start) >> PAGE_SHIFT) + count;
    if (start == address && (!dead_only || slots_are_all_dead(start, count, size_class))) spans[found++] = span;
  }
  return found;
}

static size_t pages_of(struct span *const *spans, size_t count) {
  size_t pages = 0;
  for (size_t i = 0; i < count; i++) pages += spans[i]->page_count;
  return pages;
}

/* In dirty-page mode a span that stays would stay protected, and each of its pages cost a fault; free pages are not. */
static bool keeps_wanted(enum sweeper sweeper) {
  return sweeper == SWEEPER_DEBT && collector_mode() != MIDDEN_MODE_DIRTY;
}

/* Sweeps what find_unswept finds; returns the pages freed, and adds to *swept_total the pages swept. */
static size_t sweep_pages(size_t page, size_t end, bool dead_only, enum sweeper sweeper, size_t *swept_total) {
  struct span *spans[CENTRAL_MANY] = {NULL};
  size_t freed = 0, swept = 0;
  while (page < end) {
    size_t found = find_unswept(&page, end, dead_only, spans);
    size_t claimed = central_claim_many(spans, found);
    swept += pages_of(spans, claimed);
    freed += central_sweep_many(spans, claimed, keeps_wanted(sweeper));
  }
  if (swept != 0) atomic_add_relaxed(&central_swept_pages[sweeper], swept);
  *swept_total += swept;
  return freed;
}

/* Takes the next step of the cursor; false when there is none, or nothing is left that it could find. */
static bool take_step(size_t *page) {
  if (atomic_load_relaxed(&sweep.page) >= sweep.end_page) return false;
  lock_acquire(&sweep.lock);
  if (swept_pages() == sweep.before.begun_pages) atomic_store_relaxed(&sweep.page, sweep.end_page);
  *page = sweep.page;
  if (*page < sweep.end_page) atomic_store_relaxed(&sweep.page, *page + SWEEP_STEP_PAGES);
  lock_release(&sweep.lock);
  return *page < sweep.end_page;
}

/* Steps that find nothing to sweep cost little: some of them make one slice with the first that does. */
static bool slice(struct mutator *self, enum sweeper sweeper) {
  size_t page, swept = 0;
  bool taken = true;
  mutator_enter(self);
  for (unsigned i = 0; i < PAY_STEPS && swept == 0 && (taken = take_step(&page)); i++)
    sweep_pages(page, min_size(page + SWEEP_STEP_PAGES, sweep.end_page), false, sweeper, &swept);
  mutator_leave(self);
  return taken;
}

void sweep_finish(struct mutator *self) {
  while (slice(self, SWEEPER_NEXT_CYCLE)) {
  }
}

/* What others have swept since the due figure was computed counts too: so it is computed again first. */
static bool is_really_owed(struct mutator *self) {
  if (!sweep_is_owed()) return false;
  mutator_enter(self);
  lock_acquire(&sweep.lock);
  set_due_locked();
  lock_release(&sweep.lock);
  mutator_leave(self);
  return sweep_is_owed();
}

void sweep_pay(struct mutator *self, size_t bytes) {
  for (size_t i = 0; i <= bytes / SWEEP_PAY_BYTES && is_really_owed(self); i++) {
    if (!slice(self, SWEEPER_DEBT)) return;
  }
}

/* ---- in the background ---- */

/* Whether the program sweeps by itself: allocation does, and what it sweeps it uses at once.  Asked anew for each
 * generation and from time to time. */
static bool is_program_at_it(uint64_t now_ns) {
  size_t others = swept_pages() - sweep_count(SWEEPER_BACKGROUND);
  uint32_t generation = span_generation_now();
  if (watch.generation == generation && now_ns - watch.since_ns < WATCH_NS) return watch.busy;
  watch.busy = watch.generation != generation || others - watch.others > WATCH_BUSY_PAGES;
  watch.generation = generation;
  watch.since_ns = now_ns;
  watch.others = others;
  return watch.busy;
}

static bool is_left_to_program(struct mutator *self, uint64_t now_ns) {
  mutator_enter(self);
  bool left = sweep_left_pages() != 0 && is_program_at_it(now_ns);
  mutator_leave(self);
  return left;
}

/* No object is held here.  The addresses of pages that this thread leaves on its stack are addresses of objects too, which
 * they must not keep alive: the stack counts as empty while it sweeps. */
static bool slice_unseen(struct mutator *self) {
  uintptr_t stack_base = self->stack_base;
  self->stack_base = 0;
  uint64_t start = os_now_ns();
  bool more = slice(self, SWEEPER_BACKGROUND);
  account_work(ACCOUNT_SWEEPING_IN_BACKGROUND, os_now_ns() - start);
  self->stack_base = stack_base;
  return more;
}

/* What sweeping freed may go back to the system, and the scavenger looked while it was still in use. */
static void tell_scavenger(void) {
  uint32_t generation = span_generation_now();
  if (watch.told == generation || sweep.before.begun_pages == 0) return;
  watch.told = generation;
  background_poke();
}

uint64_t sweep_background(struct mutator *self, uint64_t now_ns) {
  atomic_store_seq_cst(&watch.is_on, true);
  if (is_left_to_program(self, now_ns)) return WATCH_NS;
  if (slice_unseen(self)) return 0;
  /* A cycle that ends now either sees that nobody is watching, or its pages are seen here. */
  atomic_store_seq_cst(&watch.is_on, false);
  mutator_enter(self);
  bool more = atomic_load_relaxed(&sweep.page) < sweep.end_page;
  if (!more) tell_scavenger();
  mutator_leave(self);
  return more ? 0 : UINT64_MAX;
}

bool sweep_wants_background(void) {
  if (sweep_left_pages() < BACKGROUND_LEAST_PAGES) return false;
  return !atomic_load_seq_cst(&watch.is_on) || !background_is_started();
}

/* ---- large objects ---- */

/* Some of one kind; returns how many there were. */
static size_t sweep_some_large(struct central *central) {
  struct span *spans[CENTRAL_MANY] = {NULL};
  size_t count = central_claim_first(central, spans, CENTRAL_MANY);
  size_t pages = pages_of(spans, count);
  central_sweep_many(spans, count, false);
  if (pages != 0) atomic_add_relaxed(&central_swept_pages[SWEEPER_COLLECTOR], pages);
  return count;
}

void sweep_large(struct mutator *self) {
  size_t count = 0;
  for (unsigned kind = 0; kind < MIDDEN_KINDS_MAX; kind++) {
    struct central *central = central_if_exists(kind, 0);
    size_t swept = central == NULL ? 0 : CENTRAL_MANY;
    for (; swept == CENTRAL_MANY && count < LARGE_MAX; count += swept) {
      mutator_enter(self);
      swept = sweep_some_large(central);
      mutator_leave(self);
    }
  }
}

/* ---- reclaiming ---- */

void sweep_reclaim(size_t pages) {
  size_t freed = 0, looked = 0, swept = 0, end = sweep.end_page;
  size_t most = max_size(RECLAIM_LOOK_PAGES, min_size(pages, end) * RECLAIM_LOOK_FACTOR);
  /* What the cursor has passed is swept, or about to be. */
  size_t passed = atomic_load_relaxed(&sweep.page);
  if (passed >= end) return;
  atomic_raise_relaxed(&sweep.reclaim_page, passed);
  while (freed < pages && looked < most && atomic_load_relaxed(&sweep.reclaim_page) < end) {
    size_t page = atomic_add_relaxed(&sweep.reclaim_page, (size_t)RECLAIM_STEP_PAGES);
    if (page < end) freed += sweep_pages(page, min_size(page + RECLAIM_STEP_PAGES, end), true, SWEEPER_RECLAIM, &swept);
    looked += RECLAIM_STEP_PAGES;
  }
}
