/* Figures.
 *
 * All are read under the lock of the list of mutators, which the collector holds while the world is stopped: so no cycle
 * ends, and no thread comes or goes, between the first figure and the last.  Threads that run go on allocating. */
#include <string.h>

#include "alloc/account.h"
#include "api/specials.h"
#include "api/start.h"
#include "base/bits.h"
#include "gc/calls.h"
#include "gc/collector.h"
#include "gc/deferred.h"
#include "gc/ledger.h"
#include "gc/settle.h"
#include "meta/persist.h"
#include "mutator/stack.h"
#include "mutator/world.h"
#include "page/pageheap.h"
#include "span/slots.h"

_Static_assert((int)COLLECTOR_PAUSE_BUCKETS == (int)MIDDEN_PAUSE_BUCKETS, "the same buckets inside and outside");

/* The list of mutators is this thread's already while it has the world stopped. */
static bool lock_list(struct mutator *self) {
  if (world_is_stopped() && collector_is_mine(self)) return false;
  mutator_lock_safely(self, &mutator_list_lock);
  return true;
}

static void unlock_list(bool locked) {
  if (locked) lock_release(&mutator_list_lock);
}

/* ---- midden_stats ---- */

static void add_objects_locked(struct midden_stats *stats) {
  struct ledger ledger;
  struct tally living;
  ledger_read_locked(&ledger);
  ledger_living(&ledger, &living);
  stats->objects = tally_objects(&living);
  stats->object_bytes = tally_bytes(&living);
  stats->scannable_bytes = tally_row_bytes(&living, TALLY_SCANNED);
  stats->tiny_allocations = ledger.tiny_allocations;
  stats->allocated = tally_bytes(&ledger.allocated);
  stats->allocated_large = tally_large_bytes(&ledger.allocated);
  stats->objects_allocated = tally_objects(&ledger.allocated);
  stats->objects_allocated_large = tally_class_objects(&ledger.allocated, 0);
  stats->freed_explicitly = tally_bytes(&ledger.freed);
  stats->objects_freed_explicitly = tally_objects(&ledger.freed);
  tally_add(&ledger.freed, &ledger.reclaimed);
  stats->freed = tally_bytes(&ledger.freed);
  stats->freed_large = tally_large_bytes(&ledger.freed);
  stats->objects_freed = tally_objects(&ledger.freed);
  stats->objects_freed_large = tally_class_objects(&ledger.freed, 0);
}

static void add_threads_locked(struct midden_stats *stats) {
  stats->heap_live = atomic_load_relaxed(&account_live_bytes);
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    stats->heap_live += atomic_load_relaxed(&mutator_from(link)->cache.unaccounted_bytes);
    stats->threads += !mutator_from(link)->is_own;
  }
}

static void add_pages(struct midden_stats *stats) {
  struct pageheap_stats pages;
  pageheap_read_stats(&heap_pages, &pages);
  stats->heap_system = pages.system_bytes;
  stats->heap_in_use = pages.in_use_bytes;
  stats->heap_idle = pages.idle_bytes;
  stats->heap_released = pages.released_bytes;
  stats->heap_fresh = pages.fresh_bytes;
  stats->heap_spans = pages.in_use_spans;
  stats->stacks = pages.stack_bytes;
  stats->stack_spans = pages.stack_spans;
  stats->held = pages.in_use_bytes + pages.stack_bytes + pageheap_stats_idle_resident(&pages); /* and metadata */
  stats->released_total = pages.released_total_bytes;
}

static void add_stacks(struct midden_stats *stats) {
  struct stacks_figures figures;
  stacks_read(&figures);
  stats->stacks_idle = figures.idle_bytes;
  stats->fibers = figures.fibers;
}

static void add_metadata(struct midden_stats *stats) {
  size_t *const figures[PERSIST_PURPOSE_COUNT] = {
      [PERSIST_SPAN] = &stats->metadata_spans,   [PERSIST_TABLE] = &stats->metadata_tables,
      [PERSIST_BITS] = &stats->metadata_bits,    [PERSIST_MUTATOR] = &stats->metadata_threads,
      [PERSIST_MARK] = &stats->metadata_marking, [PERSIST_SPECIAL] = &stats->metadata_specials,
      [PERSIST_OTHER] = &stats->metadata_other,
  };
  for (int purpose = 0; purpose < PERSIST_PURPOSE_COUNT; purpose++) {
    *figures[purpose] = persist_bytes((enum persist_purpose)purpose);
    stats->metadata += *figures[purpose];
  }
  stats->held += stats->metadata;
}

static void add_cycles_locked(struct midden_stats *stats) {
  struct collector_totals totals;
  collector_read_totals(&totals);
  stats->heap_marked = totals.marked_bytes;
  stats->objects_marked = totals.marked_objects;
  stats->heap_goal = totals.goal_bytes;
  stats->stacks_scanned = totals.stack_bytes;
  stats->collections = totals.collections;
  stats->collections_heap = totals.by_reason[COLLECT_HEAP];
  stats->collections_forced = totals.by_reason[COLLECT_FORCED];
  stats->collections_out_of_memory = totals.by_reason[COLLECT_OUT_OF_MEMORY];
  stats->collections_stress = totals.by_reason[COLLECT_STRESS];
  stats->collections_idle = totals.by_reason[COLLECT_IDLE];
  stats->mode = collector_mode();
  stats->collections_minor = totals.minor_collections;
  stats->limit_yields = totals.limit_yields;
  stats->pause_total_ns = totals.pause_total_ns;
  stats->pause_max_ns = totals.pause_max_ns;
  stats->pause_last_ns = totals.pause_last_ns;
}

static void add_work(struct midden_stats *stats) {
  uint64_t *const figures[ACCOUNT_WORKS] = {
      [ACCOUNT_MARKING] = &stats->marking_cpu_ns,
      [ACCOUNT_SWEEPING_IN_CYCLE] = &stats->sweeping_cycle_ns,
      [ACCOUNT_SWEEPING_BY_ALLOCATION] = &stats->sweeping_allocation_ns,
      [ACCOUNT_SWEEPING_IN_BACKGROUND] = &stats->sweeping_background_ns,
      [ACCOUNT_RELEASING] = &stats->releasing_ns,
  };
  for (int work = 0; work < ACCOUNT_WORKS; work++) {
    *figures[work] = atomic_load_relaxed(&account_work_ns[work]);
    stats->collector_cpu_ns += *figures[work];
  }
}

void midden_stats(struct midden_stats *wanted) {
  if (wanted == NULL) return;
  struct mutator *self = start_self();
  struct midden_stats stats = {.size = wanted->size};
  bool locked = lock_list(self);
  add_objects_locked(&stats);
  add_threads_locked(&stats);
  add_cycles_locked(&stats);
  add_pages(&stats);
  add_stacks(&stats);
  unlock_list(locked);
  add_metadata(&stats);
  add_work(&stats);
  stats.finalizers_run = specials_finalizers_run();
  stats.finalizers_ready = calls_count();
  stats.finalizer_cycles = atomic_load_relaxed(&settle_finalizer_cycles);
  stats.freed_waiting = deferred_bytes();
  stats.finalizer_cycle = atomic_load_relaxed(&settle_finalizer_cycle);
  stats.cleanups_run = specials_cleanups_run();
  stats.cleanups_stuck = atomic_load_relaxed(&settle_cleanups_stuck);
  memcpy(wanted, &stats, min_size(wanted->size, sizeof stats));
}

/* ---- by size class ---- */

static void fill_class(struct midden_class_stats *to, unsigned size_class, const struct ledger *ledger,
                       const struct tally *living) {
  uint64_t bytes = 0;
  for (int row = 0; row < TALLY_ROWS; row++)
    bytes +=
        size_class == 0 ? living->large_bytes[row] : living->objects[row][size_class] * size_class_bytes[size_class];
  *to = (struct midden_class_stats){
      .slot_bytes = size_class_bytes[size_class],
      .spans = atomic_load_relaxed(&slots_spans[size_class].count),
      .span_bytes = atomic_load_relaxed(&slots_spans[size_class].bytes),
      .in_use = tally_class_objects(living, size_class),
      .in_use_bytes = bytes,
      .scannable = living->objects[TALLY_SCANNED][size_class],
      .allocated = tally_class_objects(&ledger->allocated, size_class),
      .freed = tally_class_objects(&ledger->freed, size_class) + tally_class_objects(&ledger->reclaimed, size_class),
  };
}

size_t midden_stats_classes(struct midden_class_stats *classes, size_t count) {
  struct mutator *self = start_self();
  struct ledger ledger;
  struct tally living;
  bool locked = lock_list(self);
  ledger_read_locked(&ledger);
  unlock_list(locked);
  ledger_living(&ledger, &living);
  size_t wanted = classes == NULL ? 0 : min_size(count, SIZE_CLASS_COUNT);
  for (unsigned i = 0; i < wanted; i++) fill_class(&classes[i], i, &ledger, &living);
  return SIZE_CLASS_COUNT;
}

/* ---- pauses ---- */

void midden_pauses(struct midden_pauses *wanted) {
  if (wanted == NULL) return;
  struct mutator *self = start_self();
  struct collector_totals totals;
  bool locked = lock_list(self);
  collector_read_totals(&totals);
  unlock_list(locked);
  struct midden_pauses pauses = {.size = wanted->size,
                                 .total_ns = totals.pause_total_ns,
                                 .max_ns = totals.pause_max_ns,
                                 .last_ns = totals.pause_last_ns};
  memcpy(pauses.pauses, totals.pauses, sizeof pauses.pauses);
  for (unsigned i = 0; i < MIDDEN_PAUSE_BUCKETS; i++) {
    pauses.limit_ns[i] = collector_pause_limit_ns(i);
    pauses.count += pauses.pauses[i];
  }
  memcpy(wanted, &pauses, min_size(wanted->size, sizeof pauses));
}
