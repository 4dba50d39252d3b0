/* Questions about addresses, and figures. */
#include <errno.h>
#include <string.h>

#include "alloc/account.h"
#include "api/specials.h"
#include "api/start.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "gc/calls.h"
#include "gc/collector.h"
#include "gc/settle.h"
#include "meta/persist.h"
#include "mutator/stack.h"
#include "mutator/world.h"
#include "observe/verify.h"
#include "page/pageheap.h"
#include "span/guard.h"
#include "span/mark_bits.h"
#include "span/object.h"

void *midden_base(const void *address) {
  struct object object;
  return cache_find_object(cache_self, address, &object) ? (void *)object.start : NULL;
}

size_t midden_size(const void *address) {
  struct object object;
  return cache_find_object(cache_self, address, &object) ? object_usable_bytes(&object) : 0;
}

bool midden_owns(const void *address) {
  struct object object;
  return cache_find_object(cache_self, address, &object);
}

static int kind_for_program(unsigned kind) {
  if (kind == KIND_WEAK_TABLE) return MIDDEN_CONSERVATIVE;
  return kind >= KIND_TINY && kind < KINDS_OWN ? MIDDEN_DATA : (int)kind;
}

int midden_kind_of(const void *address) {
  struct object object;
  return cache_find_object(cache_self, address, &object) ? kind_for_program(object.span->kind) : -EINVAL;
}

void midden_heap_bounds(uintptr_t *start, uintptr_t *end) {
  start_ensure();
  *start = heap_arena.start - 1;
  *end = heap_arena.end;
}

/* Runs `function` with the world stopped. */
static void with_world_stopped(void (*function)(void *argument), void *argument) {
  struct mutator *self = start_self();
  bool mine = collector_is_mine(self);
  if (!mine) collector_acquire(self);
  bool stopped = world_is_stopped();
  if (!stopped) collector_stop_world(self);
  function(argument);
  if (!stopped) collector_resume_world();
  if (!mine) collector_release();
}

struct visit {
  midden_visit_fn *function;
  void *argument;
};

static void visit_span(const struct span *span, const struct visit *visit) {
  uintptr_t end = span_end(span);
  uintptr_t object = mark_bits_next(&heap_arena, alloc_side(), span->start, end);
  for (; object < end; object = mark_bits_next(&heap_arena, alloc_side(), object + GRANULE_BYTES, end))
    visit->function((void *)object, guard_active ? guard_size(span, object) : span_slot_bytes(span),
                    (unsigned)kind_for_program(span->kind), visit->argument);
}

/* Slots that a cache holds for objects to come are not objects: their bits are taken away for the visit. */
static void hide_windows(bool hide) {
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    struct cache *cache = &mutator_from(link)->cache;
    for (unsigned kind = 0; kind < kind_count; kind++) {
      for (unsigned i = 1; i < SIZE_CLASS_COUNT; i++) {
        const struct cache_bin *bin = cache_bin_of(cache, kind, i);
        if (bin == NULL || bin->next == bin->limit) continue;
        void (*change)(const struct arena *, unsigned, uintptr_t, uintptr_t, size_t) =
            hide ? mark_bits_clear_slots : mark_bits_set_slots;
        change(&heap_arena, alloc_side(), (uintptr_t)bin->next, (uintptr_t)bin->limit, size_class_bytes[i]);
      }
    }
  }
}

static void visit_all(void *argument) {
  hide_windows(true);
  uintptr_t page = heap_arena.start;
  while (page < heap_arena.used) {
    const struct span *span = arena_span_of(&heap_arena, page);
    if (span != NULL && span_state(span) == SPAN_IN_USE) visit_span(span, argument);
    page = span != NULL ? span_end(span) : page + PAGE_BYTES;
  }
  hide_windows(false);
}

void midden_each_object(midden_visit_fn *visit, void *argument) {
  struct visit visit_argument = {.function = visit, .argument = argument};
  with_world_stopped(visit_all, &visit_argument);
}

static void verify(void *argument) {
  (void)argument;
  verify_heap_stw();
}

void midden_verify(void) { with_world_stopped(verify, NULL); }

void midden_set_fatal_hook(void (*hook)(const char *message)) { check_fatal_hook = hook; }

/* ---- figures ---- */

/* The list of mutators is this thread's already while it has the world stopped. */
static void add_caches(struct mutator *self, struct midden_stats *stats) {
  bool held = world_is_stopped() && collector_is_mine(self);
  if (!held) mutator_lock_safely(self, &mutator_list_lock);
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    const struct cache *cache = &mutator_from(link)->cache;
    stats->allocated += atomic_load_relaxed(&cache->allocated_bytes);
    stats->allocated_large += atomic_load_relaxed(&cache->large_bytes);
    stats->freed_explicitly += atomic_load_relaxed(&cache->freed_bytes);
    stats->heap_live += atomic_load_relaxed(&cache->unaccounted_bytes);
    stats->threads += !mutator_from(link)->is_own;
  }
  if (!held) lock_release(&mutator_list_lock);
}

static void add_pages(struct midden_stats *stats) {
  struct pageheap_stats pages;
  pageheap_read_stats(&heap_pages, &pages);
  stats->heap_system = pages.system_bytes;
  stats->heap_in_use = pages.in_use_bytes;
  stats->heap_idle = pages.idle_bytes;
  stats->heap_released = pages.released_bytes;
  stats->stacks = pages.stack_bytes;
  for (int purpose = 0; purpose < PERSIST_PURPOSE_COUNT; purpose++)
    stats->metadata += persist_bytes((enum persist_purpose)purpose);
}

static void add_stacks(struct midden_stats *stats) {
  struct stacks_figures figures;
  stacks_read(&figures);
  stats->stacks_idle = figures.idle_bytes;
  stats->fibers = figures.fibers;
}

static void add_totals(struct midden_stats *stats) {
  struct collector_totals totals;
  collector_read_totals(&totals);
  stats->heap_marked = totals.marked_bytes;
  stats->objects_marked = totals.marked_objects;
  stats->heap_goal = totals.goal_bytes;
  stats->stacks_scanned = totals.stack_bytes;
  stats->collections = totals.collections;
  stats->pause_total_ns = totals.pause_total_ns;
  stats->pause_max_ns = totals.pause_max_ns;
  stats->pause_last_ns = totals.pause_last_ns;
  stats->collector_cpu_ns = totals.cpu_ns;
}

void midden_stats(struct midden_stats *wanted) {
  struct mutator *self = start_self();
  struct midden_stats stats = {.size = wanted->size};
  stats.allocated = atomic_load_relaxed(&account_retired.allocated_bytes);
  stats.allocated_large = atomic_load_relaxed(&account_retired.large_bytes);
  stats.freed_explicitly = atomic_load_relaxed(&account_retired.freed_bytes);
  stats.heap_live = atomic_load_relaxed(&account_live_bytes);
  add_caches(self, &stats);
  mutator_enter(self);
  add_pages(&stats);
  add_stacks(&stats);
  mutator_leave(self);
  add_totals(&stats);
  stats.finalizers_run = specials_finalizers_run();
  stats.finalizers_ready = calls_count();
  stats.finalizer_cycles = atomic_load_relaxed(&settle_finalizer_cycles);
  stats.cleanups_run = specials_cleanups_run();
  stats.cleanups_stuck = atomic_load_relaxed(&settle_cleanups_stuck);
  memcpy(wanted, &stats, min_size(wanted->size, sizeof stats));
}
