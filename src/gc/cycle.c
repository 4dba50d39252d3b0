#include "gc/cycle.h"

#include "alloc/account.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/memcheck.h"
#include "gc/assist.h"
#include "gc/deferred.h"
#include "gc/dirty.h"
#include "gc/settle.h"
#include "gc/stacks.h"
#include "gc/sweep.h"
#include "gc/work.h"
#include "meta/persist.h"
#include "mutator/stack.h"
#include "os/os.h"
#include "page/pageheap.h"
#include "span/guard.h"
#include "span/mark_bits.h"
#include "span/sticky.h"

/* Of the way to the goal so much is left at least, whatever has come to be in the cycle. */
enum { LEAST_WAY_DIVISOR = 2 };

NOT_A_ROOT struct collector collector;

uint64_t cycle_now_ns(void) { return os_now_ns() - collector.start_ns; }

/* Where minor cycles are wanted whatever they take, none stops the world: nothing would be old after it. */
void cycle_expect_stops(void) {
  unsigned markers = (unsigned)min_size(atomic_load_relaxed(&collector.markers), os_processor_count());
  bool none = collector.generation.choice == MIDDEN_GENERATIONS_ALWAYS;
  atomic_store_relaxed(&collector.brief_most_bytes, none ? 0 : brief_most_bytes(&collector.brief, markers));
  atomic_store_relaxed(&collector.awaited_most_bytes, none ? 0 : brief_most_awaited_bytes(&collector.brief, markers));
}

bool cycle_runs_beside(size_t expected_bytes) {
  if (!collector.dirty) return collector.concurrent;
  return dirty_is_possible() && expected_bytes >= DIRTY_LEAST_BYTES &&
         (expected_bytes > atomic_load_relaxed(&collector.brief_most_bytes) || settle_takes_long());
}

bool cycle_runs_beside_who_waits(size_t expected_bytes, struct mutator *self) {
  if (!cycle_runs_beside(expected_bytes)) return false;
  return !collector.dirty || expected_bytes > atomic_load_relaxed(&collector.awaited_most_bytes) ||
         settle_takes_very_long() || mutator_others_run(self);
}

/* ---- phases and events ---- */

enum collector_phase collector_phase(void) { return (enum collector_phase)atomic_load_acquire(&collector.phase); }

void cycle_set_phase(enum collector_phase to) {
  static const uint8_t next[] = {
      [COLLECTOR_OFF] = 1 << COLLECTOR_SWEEP_TERMINATION,
      [COLLECTOR_SWEEP_TERMINATION] = 1 << COLLECTOR_MARK | 1 << COLLECTOR_ARM | 1 << COLLECTOR_OFF,
      [COLLECTOR_ARM] = 1 << COLLECTOR_SCAN | 1 << COLLECTOR_OFF,
      [COLLECTOR_SCAN] = 1 << COLLECTOR_MARK,
      [COLLECTOR_MARK] = 1 << COLLECTOR_MARK_TERMINATION | 1 << COLLECTOR_OFF,
      [COLLECTOR_MARK_TERMINATION] = 1 << COLLECTOR_OFF,
  };
  enum collector_phase from = collector_phase();
  CHECK((next[from] >> to & 1) != 0, "collector: no step from phase %d to %d", from, to);
  atomic_store_release(&collector.phase, (uint32_t)to);
  atomic_store_release(&span_marking, to >= COLLECTOR_ARM);
}

bool cycle_is_for_growth(const struct cycle *cycle) {
  return cycle->report.reason == COLLECT_HEAP || cycle->report.reason == COLLECT_STRESS;
}

/* Under a memory limit, what old garbage holds is wanted; and where the heap has nearly become as large as it may. */
bool cycle_minor_is_wanted(void) {
  if (collector.pacer.memory_limit_bytes != SIZE_MAX) return false;
  if (collector.totals.goal_bytes >= pacer_room(&collector.pacer, &collector.footprint)) return false;
  return generation_wants_minor(&collector.generation);
}

bool cycle_may_be_minor(const struct cycle *cycle) { return cycle_is_for_growth(cycle) && cycle_minor_is_wanted(); }

void cycle_announce(enum midden_event event) {
  if (atomic_load_acquire(&collector_hooks.event) == NULL) return;
  struct collector_hooks hooks = collector_read_hooks();
  if (hooks.event != NULL) hooks.event(event, hooks.event_argument);
}

/* ---- marking ---- */

void cycle_begin_marking(const struct cycle *cycle, enum mark_mode mode) {
  for (unsigned i = 0; i < cycle->report.markers; i++) {
    mark_begin(&collector.tracers[i], mode);
    collector.marker[i] = (struct marker_report){0};
  }
  work_begin();
  settle_begin();
}

void cycle_report_program_roots(struct midden_tracer *tracer) {
  if (atomic_load_acquire(&collector_hooks.roots) == NULL) return;
  struct collector_hooks hooks = collector_read_hooks();
  if (hooks.roots != NULL) hooks.roots(tracer, hooks.roots_argument);
}

uint64_t cycle_begin_share(unsigned marker) {
  struct marker_report *report = &collector.marker[marker];
  if (report->start_ns == 0) report->start_ns = cycle_now_ns();
  report->thread = os_thread_id();
  memcheck_quiet_begin();
  return os_thread_cpu_ns();
}

void cycle_end_share(unsigned marker, uint64_t cpu_ns) {
  memcheck_quiet_end();
  struct marker_report *report = &collector.marker[marker];
  report->cpu_ns += os_thread_cpu_ns() - cpu_ns;
  report->end_ns = cycle_now_ns();
}

static void drain(struct midden_tracer *tracer) {
  if (tracer->mode == MARK_CONCURRENT) {
    while (!mark_drain_some(tracer, SIZE_MAX)) {
    }
    return;
  }
  enum mark_mode mode = tracer->mode;
  tracer->mode = MARK_ALONE;
  mark_drain(tracer);
  tracer->mode = mode;
}

void cycle_drain_alone(struct midden_tracer *tracer) {
  do {
    drain(tracer);
  } while (mark_rescan_overflow(tracer));
}

/* ---- after marking ---- */

/* All dead objects of the last cycle are swept away by then: it is never fuller. */
void cycle_take_footprint(size_t object_bytes) {
  struct pageheap_stats pages;
  pageheap_read_stats(&heap_pages, &pages);
  size_t stack_bytes = min_size(pages.stack_bytes, stacks_resident_estimate());
  collector.footprint = (struct pacer_footprint){.fixed_bytes = stack_bytes + persist_total_bytes(),
                                                 .in_use_bytes = pages.in_use_bytes,
                                                 .object_bytes = object_bytes};
}

/* Below it no cycle starts, if the memory limit allows. */
static size_t least_trigger(size_t goal_bytes) {
  bool first = atomic_load_relaxed(&collector.totals.collections) == 0;
  size_t least_bytes = first ? collector.pacer.initial_heap_bytes : collector.pacer.min_heap_bytes;
  return min_size(least_bytes, goal_bytes);
}

void cycle_set_goal(size_t goal_bytes, size_t trigger_bytes) {
  trigger_bytes = max_size(trigger_bytes, least_trigger(goal_bytes));
  atomic_store_relaxed(&collector.totals.goal_bytes, goal_bytes);
  atomic_store_relaxed(&account_trigger_bytes, trigger_bytes);
}

void cycle_check_stw(struct cycle *cycle) {
  if (collector_checker == NULL) return;
  uint64_t start_ns = os_now_ns();
  collector_checker(cycle->report.minor);
  cycle->report.check_ns = os_now_ns() - start_ns;
}

void cycle_count_marked(struct cycle *cycle, struct tally *marked) {
  size_t stack_bytes = 0;
  for (unsigned i = 0; i < cycle->report.markers; i++) {
    mark_publish(&collector.tracers[i]);
    tally_add(marked, &collector.tracers[i].marked);
    stack_bytes += collector.tracers[i].stack_bytes;
    cycle->report.cpu_ns += collector.marker[i].cpu_ns;
  }
  atomic_store_relaxed(&collector.totals.stack_bytes, stack_bytes);
}

/* How much of it lives on, to judge by what lived on of all that there was. */
static size_t expected_survivors(const struct collector_report *report, size_t new_bytes) {
  size_t lives_on_bytes = report->marked_bytes - min_size(settle_dying_bytes(), report->marked_bytes);
  if (lives_on_bytes >= report->live_before_bytes) return new_bytes;
  return (size_t)((double)new_bytes * ((double)lives_on_bytes / (double)report->live_before_bytes));
}

/* The goal of the last full cycle.  From what there is now to the next one some of its way must be left. */
static size_t goal_after_minor(const struct collector_report *report, size_t new_bytes) {
  size_t full_bytes = collector.generation.full_bytes;
  size_t goal_bytes = pacer_goal(&collector.pacer, full_bytes, &collector.footprint);
  if (goal_bytes == SIZE_MAX) return goal_bytes;
  size_t now_bytes = report->marked_bytes + new_bytes;
  goal_bytes = max_size(goal_bytes, now_bytes + (goal_bytes - full_bytes) / LEAST_WAY_DIVISOR);
  return pacer_limited(&collector.pacer, goal_bytes, now_bytes, &collector.footprint);
}

/* The heap has grown by what is new already: from there to the goal some of the way must be left. */
static size_t goal_after(const struct collector_report *report, size_t new_bytes) {
  if (report->minor) return goal_after_minor(report, new_bytes);
  size_t live_bytes = report->marked_bytes + expected_survivors(report, new_bytes);
  size_t goal_bytes = pacer_unlimited_goal(&collector.pacer, live_bytes);
  if (new_bytes != 0 && goal_bytes != SIZE_MAX) {
    size_t least_way_bytes = (goal_bytes - live_bytes) / LEAST_WAY_DIVISOR;
    goal_bytes = max_size(goal_bytes, report->marked_bytes + new_bytes + least_way_bytes);
  }
  return pacer_limited(&collector.pacer, goal_bytes, live_bytes, &collector.footprint);
}

/* In a stop, of all markers: that one waits for another counts.  Beside the program how long they worked is all that tells. */
static void note_time_to_mark(const struct cycle *cycle) {
  const struct collector_report *report = &cycle->report;
  brief_left(&collector.brief, report->marked_bytes, report->live_before_bytes);
  if (report->minor) return;
  uint64_t ns = report->concurrent ? report->cpu_ns + report->assist_ns : report->mark_ns * report->markers;
  brief_marked(&collector.brief, report->marked_bytes, ns, report->concurrent);
}

void cycle_finish(struct cycle *cycle, const struct tally *marked, size_t new_bytes) {
  struct collector_report *report = &cycle->report;
  report->marked_bytes = tally_bytes(marked);
  report->marked_scanned_bytes = tally_row_bytes(marked, TALLY_SCANNED);
  report->marked_objects = tally_objects(marked);
  if (!report->minor) collector.pacer.dying_bytes = settle_dying_bytes();
  note_time_to_mark(cycle);
  cycle_expect_stops();
  report->goal_bytes = goal_after(report, new_bytes);
  size_t now_bytes = report->marked_bytes + new_bytes;
  if (!report->minor)
    atomic_store_relaxed(&collector.totals.lived_bytes,
                         report->marked_bytes - min_size(cycle->young_bytes, report->marked_bytes));
  if (report->concurrent) {
    generation_ended(&collector.generation, report->minor, report->live_before_bytes, report->marked_bytes,
                     report->goal_bytes);
  } else {
    assist_note_stopped(report->marked_scanned_bytes);
  }
  cycle_set_goal(report->goal_bytes, cycle_runs_beside(2 * report->marked_bytes)
                                         ? assist_trigger(report->goal_bytes, now_bytes)
                                         : report->goal_bytes);
  sweep_read_stats(&report->swept);
  sweep_begin();
}

void cycle_sweep_after(struct cycle *cycle) {
  cycle_announce(MIDDEN_EVENT_SWEEP_START);
  uint64_t start = os_now_ns();
  if (guard_active) sweep_finish(cycle->self); /* what died is to be checked and hidden now, not when it is reused */
  sweep_large(cycle->self);
  mutator_enter(cycle->self);
  stacks_trim();
  mutator_leave(cycle->self);
  settle_finish(cycle->self);
  deferred_run(cycle->self);
  uint64_t end = os_now_ns();
  cycle->report.sweep_after_ns = end - start;
  cycle->report.end_ns = end - collector.start_ns;
  account_work(ACCOUNT_SWEEPING_IN_CYCLE, cycle->report.sweep_after_ns);
  cycle_announce(MIDDEN_EVENT_SWEEP_END);
}

void cycle_clear_marks(void) {
  generation_forget(&collector.generation);
  size_t count = arena_chunk_count(&heap_arena);
  uintptr_t used = atomic_load_acquire(&heap_arena.used);
  for (size_t i = 0; i < count; i++) {
    if (atomic_load_relaxed(&heap_arena.chunks[i].in_use_pages) == 0) continue; /* its bits may have been given back */
    uintptr_t start = heap_arena.start + (i << CHUNK_SHIFT);
    size_t bytes = min_size(CHUNK_BYTES, used - start);
    mark_bits_clear(&heap_arena, mark_side(), start, bytes);
    sticky_clear_born(start, bytes);
  }
}

/* ---- figures ---- */

/* The steps are by the square root of two: 1 us, 1.41 us, 2 us, ... 1.5 hours. */
uint64_t collector_pause_limit_ns(unsigned bucket) {
  if (bucket == 0) return 0;
  uint64_t power = UINT64_C(1000) << ((bucket - 1) / 2);
  return bucket % 2 == 1 ? power : power / 1000 * 1414 + power % 1000;
}

static unsigned pause_bucket(uint64_t ns) {
  unsigned bucket = 0;
  while (bucket + 1 < COLLECTOR_PAUSE_BUCKETS && ns >= collector_pause_limit_ns(bucket + 1)) bucket++;
  return bucket;
}

void cycle_count_pause(uint64_t ns) {
  struct collector_totals *totals = &collector.totals;
  atomic_add_relaxed(&totals->pause_total_ns, ns);
  atomic_store_relaxed(&totals->pause_last_ns, ns);
  atomic_raise_relaxed(&totals->pause_max_ns, ns);
  atomic_add_relaxed(&totals->pauses[pause_bucket(ns)], UINT64_C(1));
}

static void add_one(uint64_t *figure) { atomic_store_relaxed(figure, *figure + 1); }

void cycle_add_to_totals(const struct collector_report *report) {
  struct collector_totals *totals = &collector.totals;
  atomic_store_relaxed(&totals->collections, report->number);
  add_one(&totals->by_reason[report->reason]);
  if (report->minor) add_one(&totals->minor_collections);
  atomic_store_relaxed(&totals->marked_bytes, report->marked_bytes);
  atomic_store_relaxed(&totals->marked_objects, report->marked_objects);
  account_work(ACCOUNT_MARKING, report->cpu_ns + report->assist_ns);
}
