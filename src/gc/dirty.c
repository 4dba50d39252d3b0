#include "gc/dirty.h"

#include "alloc/account.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/memcheck.h"
#include "base/wait.h"
#include "gc/assist.h"
#include "gc/calls.h"
#include "gc/concurrent.h"
#include "gc/deferred.h"
#include "gc/driver.h"
#include "gc/handover.h"
#include "gc/loan.h"
#include "gc/named_free.h"
#include "gc/rootset.h"
#include "gc/settle.h"
#include "gc/stacks.h"
#include "gc/stopped.h"
#include "gc/work.h"
#include "mutator/roots.h"
#include "mutator/world.h"
#include "mutator/written.h"
#include "page/pageheap.h"
#include "span/sticky.h"

enum {
  JOINS_LEAST = 128, /* huge pages before one cycle, some 25 milliseconds; or so much of the heap */
  JOINS_SHIFT = 24,
  JOINS_STEP = 8,
  ROUNDS_MOST = 16,
  LITTLE_BYTES = 256 << 10, /* are scanned again in a fraction of a millisecond */
  ROOTS_LITTLE_BYTES = 1 << 20,
  SLICE_BYTES = 128 << 10, /* that were written: after them, who scans beside the program gives way */
  RUNAWAY_DIVISOR = 8,
  SLOW_LEAST_BYTES = 1 << 20, /* less is not worth slowing the program for */
  SHRINK_DIVISOR = 4,         /* a round that leaves more than all but this part of the last one's was in vain */
  IN_VAIN_MOST = 5,
  FINALIZERS_MOST_BYTES = 256 << 10, /* what only they reach; more of it, or of them, is settled after the stop */
  FINALIZERS_MOST = 4096,
  FINALIZERS_SLICE_BYTES = 1 << 20,
  ALONE_MOST_NS = 150 * 1000, /* of reading what was written: twice what another processor takes to wake up */
  REST_NS = 400 * 1000,
  BATCHES_NS = 2 * 1000 * 1000,
  OFFER_NS = 10 * 1000 * 1000,
  PATIENCE_NS = 1000 * 1000 * 1000,
  AHEAD_CHEAP_NS = 2 * 1000 * 1000,
  AHEAD_BARRED_CYCLES = 4
};

/* The collector lock's holder's. */
static NOT_A_ROOT struct {
  bool is_lost;           /* atomic; what was written is not known any more */
  size_t next_part;       /* atomic; of the heap, in a round or the stop */
  size_t written_bytes;   /* atomic; as the round or the stop found it */
  size_t again_bytes;     /* atomic; of that, what marked objects take */
  size_t stacks_at_bytes; /* live when stacks were scanned last */
  size_t rests;           /* atomic; of threads that were slowed in this cycle */
  bool is_little;         /* what was written, as of the last round */
  uint64_t round_ns;      /* how long that took to read it */
  size_t allowance_bytes; /* of what only finalizers reach, that may still be marked in the stop */
} dirty;

/* Of the system, one after the other.  The first may be a mistake: the program closes descriptors that it does not know. */
enum { REFUSALS_MOST = 3 };
static unsigned refusals; /* atomic */

void dirty_init(void) {
  mark_postpones_traces = true;
  sticky_marks = collector.generation.choice != MIDDEN_GENERATIONS_OFF;
}

size_t dirty_join_least_bytes = (size_t)1 << 30;

bool dirty_is_possible(void) { return atomic_load_relaxed(&refusals) < REFUSALS_MOST; }

static size_t joins_of_cycle(void) {
  size_t live_bytes = atomic_load_relaxed(&account_live_bytes);
  return live_bytes < dirty_join_least_bytes ? 0 : max_size(JOINS_LEAST, live_bytes >> JOINS_SHIFT);
}

/* In steps, between which forks may happen. */
static size_t join_quiet(struct mutator *self) {
  size_t most = joins_of_cycle(), joined = 0, count = 1;
  for (; joined < most && count != 0; joined += count) {
    count = written_join(min_size(JOINS_STEP, most - joined));
    loan_offer(self);
  }
  return joined;
}

/* From the first page on that is protected, none tells what was written since the last cycle: where the rest is refused, and
 * nobody comes to stop the world, no minor cycle may follow. */
static bool protect(struct cycle *cycle) {
  if (!dirty_is_possible()) return false;
  if (written_is_available()) {
    generation_forget(&collector.generation);
    atomic_store_relaxed(&refusals, 0u);
    if (written_protect() != 0) return false;
    cycle->report.joined = join_quiet(cycle->self);
    if (cycle->report.joined != 0 && written_protect() != 0) return false;
    written_begin();
    return true;
  }
  if (atomic_add_relaxed(&refusals, 1u) + 1 == REFUSALS_MOST && collector_reporter != NULL)
    warn("this system does not tell which pages were written: the world is stopped for the whole of each marking");
  return false;
}

/* ---- what was written ---- */

static void scan_again(void *tracer, struct os_range range) { mark_range_again(tracer, range); }

/* Beside the program: a part may take many slices. */
struct scan_beside {
  unsigned marker;
  size_t slice_bytes;
  size_t again_bytes;
};

static void scan_again_beside(void *argument, struct os_range range) {
  struct scan_beside *scan = argument;
  scan->again_bytes += mark_range_again(&collector.tracers[scan->marker], range);
  scan->slice_bytes += range.end - range.start;
  if (scan->slice_bytes < SLICE_BYTES) return;
  scan->slice_bytes = 0;
  markers_give_way(scan->marker);
}

static struct os_range part_range(size_t part) {
  uintptr_t start = heap_arena.start + (part << WRITTEN_PART_SHIFT);
  return (struct os_range){start, min_size(start + ((uintptr_t)1 << WRITTEN_PART_SHIFT), heap_arena.used)};
}

static void begin_parts(void) {
  atomic_store_relaxed(&dirty.next_part, (size_t)0);
  atomic_store_relaxed(&dirty.written_bytes, (size_t)0);
  atomic_store_relaxed(&dirty.again_bytes, (size_t)0);
}

static bool take_part(size_t *part) {
  *part = atomic_add_relaxed(&dirty.next_part, (size_t)1);
  return *part < written_part_count();
}

/* False where it is lost. */
static bool scan_part(size_t part, bool protect, written_visit_fn *scan, void *argument) {
  ptrdiff_t written = atomic_load_relaxed(&dirty.is_lost) ? -1 : written_visit(part, protect, scan, argument);
  if (written >= 0) {
    atomic_add_relaxed(&dirty.written_bytes, (size_t)written);
  } else {
    atomic_store_relaxed(&dirty.is_lost, true);
  }
  return written >= 0;
}

static void scan_all_of(struct midden_tracer *tracer, size_t part) {
  struct os_range range = part_range(part);
  mark_range_again(tracer, range);
  atomic_add_relaxed(&dirty.written_bytes, range.end - range.start);
}

/* The rest, in the stop: by each marker for its share. */
static void scan_share_of_written(struct midden_tracer *tracer) {
  for (size_t part; take_part(&part);) {
    if (!scan_part(part, false, scan_again, tracer)) scan_all_of(tracer, part);
  }
}

/* ---- threads that write too much ---- */

uint32_t dirty_slowing;

static void set_slowing(bool slowing) {
  atomic_store_release(&dirty_slowing, (uint32_t)slowing);
  if (!slowing) wake_all(&dirty_slowing);
}

static void rest_while_safe(uintptr_t stack_pointer, void *self) {
  mutator_wait_on_word(self, stack_pointer, &dirty_slowing, 1, REST_NS);
}

void dirty_forked(void) {
  named_free_end();
  atomic_store_relaxed(&dirty_slowing, 0u);
  generation_forget(&collector.generation);
}

void dirty_rest(struct mutator *self) {
  if (collector_is_mine(self) || self->critical != 0) return;
  os_call_with_registers(rest_while_safe, self);
  atomic_add_relaxed(&dirty.rests, (size_t)1);
}

/* Rounds scan what lives of all that is allocated in the cycle, and a program may allocate as fast as they scan.  Beyond its
 * goal the heap does not grow at that pace. */
static void slow_growth_beyond(size_t bytes) {
  if (dirty_slowing == 0 && atomic_load_relaxed(&account_live_bytes) > bytes) set_slowing(true);
}

static void slow_growth(void) { slow_growth_beyond(atomic_load_relaxed(&collector.totals.goal_bytes)); }

/* While the heap is drained, assists see to that; but a long list that is built meanwhile leaves them nothing to take. */
static void slow_runaway(void) {
  size_t goal_bytes = atomic_load_relaxed(&collector.totals.goal_bytes);
  if (goal_bytes != SIZE_MAX) slow_growth_beyond(goal_bytes + goal_bytes / RUNAWAY_DIVISOR);
}

/* ---- beside the program ---- */

static void mark_roots(struct cycle *cycle) {
  struct midden_tracer *first = &collector.tracers[0];
  memcheck_quiet_begin();
  rootset_mark_running(cycle->self, first); /* where that fails, the stop reads all of it, or gives up */
  memcheck_quiet_end();
  mark_publish(first);
}

static void scan_part_job(void *argument, unsigned marker) {
  (void)argument;
  struct midden_tracer *tracer = &collector.tracers[marker];
  size_t part;
  if (!take_part(&part)) return;
  uint64_t cpu_ns = cycle_begin_share(marker);
  memcheck_quiet_begin();
  struct scan_beside scan = {.marker = marker};
  scan_part(part, true, scan_again_beside, &scan);
  atomic_add_relaxed(&dirty.again_bytes, scan.again_bytes);
  memcheck_quiet_end();
  mark_publish(tracer);
  cycle_end_share(marker, cpu_ns);
}

static size_t scan_written_static(void) {
  struct midden_tracer *tracer = &collector.tracers[0];
  memcheck_quiet_begin();
  size_t bytes = roots_visit_written_running(mark_static, tracer);
  memcheck_quiet_end();
  mark_publish(tracer);
  return bytes;
}

/* One round beside the program, by the workers.  In bytes, what was read again: what was written of marked objects. */
static size_t scan_written(struct cycle *cycle) {
  size_t static_bytes = scan_written_static();
  begin_parts();
  while (dirty.next_part < written_part_count() && !dirty.is_lost) {
    assist_run(cycle, scan_part_job, NULL);
    slow_growth();
    loan_offer(cycle->self);
  }
  return dirty.again_bytes + static_bytes;
}

/* What was allocated since the stacks were scanned may hang on nothing but them. */
static void scan_stacks(struct cycle *cycle) {
  size_t live_bytes = atomic_load_relaxed(&account_live_bytes);
  if (!cycle->young_are_white || live_bytes - dirty.stacks_at_bytes < LITTLE_BYTES) return;
  dirty.stacks_at_bytes = live_bytes;
  concurrent_scan_threads_again(cycle);
}

/* In bytes, what it read: of what was marked before, and of what was found. */
static size_t run_round(struct cycle *cycle) {
  uint64_t start_ns = os_now_ns();
  size_t before_bytes = assist_scanned_bytes(), again_bytes = scan_written(cycle);
  dirty.round_ns = os_now_ns() - start_ns;
  scan_stacks(cycle);
  assist_drain(cycle, slow_runaway);
  cycle->report.rounds++;
  return again_bytes + (assist_scanned_bytes() - before_bytes);
}

/* Until little is left, or not much that does not become less.  Where it is much, the program is slowed down after a round in
 * vain; after some more no round will help. */
static void run_rounds(struct cycle *cycle) {
  unsigned in_vain = 0, most = cycle->report.rounds + ROUNDS_MOST;
  for (size_t before = SIZE_MAX, bytes; !dirty.is_lost && cycle->report.rounds < most; before = bytes) {
    bytes = run_round(cycle);
    dirty.is_little = bytes <= LITTLE_BYTES;
    if (dirty.is_little) break;
    in_vain += bytes > before - before / SHRINK_DIVISOR;
    if (in_vain > IN_VAIN_MOST && dirty_slowing != 0) break;
    if (in_vain > 1 && bytes <= SLOW_LEAST_BYTES) break;
    if (in_vain > 0 && bytes > SLOW_LEAST_BYTES) set_slowing(true);
  }
  set_slowing(false);
}

/* A stop that has little to do does not wait for another processor. */
static unsigned markers_of_stop(const struct cycle *cycle) {
  bool is_little = dirty.is_little && dirty.round_ns <= ALONE_MOST_NS && rootset_bytes() <= ROOTS_LITTLE_BYTES;
  return is_little ? 1 : cycle->markers;
}

/* ---- what only trace functions lead to ----
 *
 * They are called with the world stopped alone, and what they lead to may be much: Guile reads the stacks of its virtual machine so.
 * So they are called once in a stop that looks ahead, and what they lead to is marked beside the program.  The last stop calls
 * all of them again, and finds little that is new.  Where looking ahead takes longer than it spares the last stop, some cycles
 * do without. */

static void call_stw(void) {
  struct midden_tracer *first = &collector.tracers[0];
  mark_open_by_hand_stw();
  first->calls_traces = true;
  memcheck_quiet_begin();
  mark_postponed_stw(first);
  memcheck_quiet_end();
  first->calls_traces = false;
  mark_shut_by_hand_stw();
  mark_publish(first);
  mark_postpone_all();
}

/* By the driver: the program's callbacks are not called, nor does it hear of this stop.  Its processor time. */
static uint64_t stop_and_call(struct cycle *cycle) {
  struct os_signals before;
  os_block_signals(&before);
  uint64_t start_ns = os_now_ns(), cpu_ns = cycle_begin_share(0);
  if (collector_stop_world(cycle->self)) call_stw();
  cycle_end_share(0, cpu_ns);
  cycle->report.ahead_ns = os_now_ns() - start_ns;
  cycle_count_pause(cycle->report.ahead_ns);
  collector_resume_world();
  os_restore_signals(&before);
  return os_thread_cpu_ns() - cpu_ns;
}

/* To scan a megabyte takes a millisecond or so. */
static bool was_worth_it(uint64_t cpu_ns, size_t found_bytes) { return cpu_ns <= AHEAD_CHEAP_NS + found_bytes; }

static void look_ahead(struct cycle *cycle) {
  static unsigned barred; /* so many cycles do without */
  if (!mark_has_postponed() || dirty.is_lost) return;
  if (barred != 0) {
    barred--;
    return;
  }
  uint64_t cpu_ns = stop_and_call(cycle);
  size_t before_bytes = assist_scanned_bytes();
  assist_drain(cycle, slow_runaway);
  if (!was_worth_it(cpu_ns, assist_scanned_bytes() - before_bytes)) barred = AHEAD_BARRED_CYCLES;
  run_rounds(cycle);
}

static void mark_beside(struct cycle *cycle) {
  uint64_t start_ns = os_now_ns();
  cycle->report.roots_start_ns = start_ns - collector.start_ns;
  roots_protect();
  mark_roots(cycle);
  if (cycle->report.minor) scan_written(cycle);
  cycle->report.roots_ns = os_now_ns() - start_ns;
  assist_drain(cycle, slow_runaway);
  run_rounds(cycle);
  look_ahead(cycle);
  cycle->report.mark_ns = os_now_ns() - start_ns - cycle->report.roots_ns;
}

/* ---- the stop ---- */

/* What threads made grey at the last moment was counted when it was marked; from here on counting waits for the scan. */
static void become_stopped(const struct cycle *cycle, unsigned markers) {
  cycle_drain_alone(&collector.tracers[0]);
  for (unsigned i = 0; i < cycle->markers; i++) {
    mark_publish(&collector.tracers[i]);
    collector.tracers[i].mode = markers > 1 ? MARK_PARALLEL : MARK_ALONE;
  }
  work_begin();
  settle_begin_stw();
  begin_parts();
}

static void mark_job(void *argument, unsigned marker) {
  (void)argument;
  struct midden_tracer *tracer = &collector.tracers[marker];
  uint64_t cpu_ns = cycle_begin_share(marker);
  memcheck_quiet_begin();
  work_join();
  scan_share_of_written(tracer);
  rootset_mark_share(tracer);
  settle_mark_share_stw(tracer);
  mark_drain(tracer);
  memcheck_quiet_end();
  cycle_end_share(marker, cpu_ns);
}

/* Root objects were marked beside the program, or are black, but for white ones that are young. */
static void mark_rest(struct cycle *cycle, unsigned markers) {
  struct midden_tracer *first = &collector.tracers[0];
  become_stopped(cycle, markers);
  if (cycle->young_are_white) rootset_mark_new_stw(first);
  settle_mark_queue_stw(first);
  cycle_report_program_roots(first);
  mark_postponed_stw(first);
  markers_run(markers, mark_job, NULL);
  cycle_drain_alone(first);
}

/* ---- finalizers ----
 *
 * What only they reach may be much.  Nobody but the collector can get at it, so it stands still, and nothing has to be scanned
 * twice: beyond an allowance it is marked after the stop. */

static bool drain_within_allowance(struct midden_tracer *tracer) {
  size_t before_bytes = tracer->scanned_bytes;
  if (dirty.allowance_bytes == 0) return false;
  bool done = mark_drain_some(tracer, dirty.allowance_bytes) && !mark_rescan_overflow(tracer);
  dirty.allowance_bytes -= min_size(dirty.allowance_bytes, tracer->scanned_bytes - before_bytes);
  return done;
}

static bool drain_beside(struct midden_tracer *tracer) {
  uint64_t cpu_ns = cycle_begin_share(0);
  memcheck_quiet_begin();
  bool done = mark_drain_some(tracer, FINALIZERS_SLICE_BYTES) && !mark_rescan_overflow(tracer);
  memcheck_quiet_end();
  cycle_end_share(0, cpu_ns);
  slow_growth();
  return done;
}

/* False if it is to be done after the stop.  Trace functions are called in it alone. */
static bool settle_finalizers_stw(const struct settle_markers *by) {
  size_t count = settle_clear_stw(by);
  if (!settle_may_leave_stop() || mark_may_postpone()) return settle_finalizers(NULL);
  for (unsigned i = 0; i < by->count; i++) by->tracers[i].mode = MARK_CONCURRENT;
  dirty.allowance_bytes = count <= FINALIZERS_MOST ? FINALIZERS_MOST_BYTES : 0;
  return count <= FINALIZERS_MOST && settle_finalizers(drain_within_allowance);
}

static void settle(struct cycle *cycle, unsigned markers) {
  struct settle_markers by = {collector.tracers, markers, cycle_drain_alone};
  settle_values_stw(&by);
  cycle_check_stw(cycle);
  cycle_set_phase(COLLECTOR_MARK_TERMINATION);
  cycle->was_left = !settle_finalizers_stw(&by);
  if (cycle->was_left) {
    mark_close_by_hand_stw(&collector.tracers[0].marked); /* from here on it does nothing */
    settle_leave_stop();
    return;
  }
  settle_end_stw();
  stacks_free_dead_stw();
  concurrent_trade_sides_locked(cycle);
}

static void finish_stopped(struct cycle *cycle) {
  uint64_t start_ns = os_now_ns();
  mark_open_by_hand_stw();
  if (cycle->young_are_white) concurrent_blacken_stw(cycle);
  memcheck_quiet_begin();
  unsigned markers = markers_of_stop(cycle);
  mark_rest(cycle, markers);
  settle(cycle, markers);
  memcheck_quiet_end();
  cycle->report.finalizers_ready = calls_count();
  cycle->report.finish_start_ns = start_ns - collector.start_ns;
  cycle->report.finish_ns = os_now_ns() - start_ns;
}

static void stop_and_finish(struct cycle *cycle) {
  cycle_announce(MIDDEN_EVENT_STOPPING);
  struct os_signals before;
  os_block_signals(&before); /* as in a cycle that stops the world for all of the marking */
  uint64_t start_ns = os_now_ns();
  bool roots_known = collector_stop_world(cycle->self);
  cycle->self->stack_pointer = cycle->stack_pointer;
  cycle_announce(MIDDEN_EVENT_STOPPED);
  cycle_announce(MIDDEN_EVENT_MARK_START);
  cycle->report.signalled = world_signalled();
  cycle->given_up = !roots_known || !rootset_collect_stw(!dirty.is_lost);
  if (cycle->given_up) {
    concurrent_take_back();
  } else {
    finish_stopped(cycle);
  }
  cycle_announce(MIDDEN_EVENT_MARK_END);
  if (collector_verifier != NULL && !cycle->was_left) collector_verifier();
  cycle_announce(MIDDEN_EVENT_RESUMING);
  cycle->report.pause_ns = os_now_ns() - start_ns;
  cycle->report.written_bytes = dirty.written_bytes;
  cycle->report.rests = atomic_load_relaxed(&dirty.rests);
  if (!cycle->given_up) cycle_count_pause(cycle->report.pause_ns);
  collector_resume_world();
  os_restore_signals(&before);
  cycle_announce(MIDDEN_EVENT_RESUMED);
  if (cycle->given_up) deferred_run(cycle->self);
}

/* ---- all of it ---- */

/* The program's events and roots are its own: with any, a thread of the program ends the cycle. */
static bool has_callbacks(void) {
  return atomic_load_acquire(&collector_hooks.event) != NULL || atomic_load_acquire(&collector_hooks.roots) != NULL;
}

static void sweep_and_end(struct cycle *cycle) {
  if (!cycle->given_up) cycle_sweep_after(cycle);
  if (dirty.is_lost) generation_forget(&collector.generation);
  cycle_announce(MIDDEN_EVENT_END);
}

static void stop_world(struct cycle *cycle) {
  cycle_announce(MIDDEN_EVENT_START);
  if (cycle->concurrent) {
    stop_and_finish(cycle);
  } else {
    stopped_run(cycle);
  }
}

static void end_left(struct cycle *cycle) {
  concurrent_trade_sides(cycle);
  concurrent_verify(cycle);
  cycle->was_left = false;
}

/* By the driver or a thread of the program, `self`; and once more, if the stop was left. */
static void end_cycle(struct mutator *self, uintptr_t stack_pointer, void *argument) {
  struct cycle *cycle = argument;
  struct mutator *driver = cycle->self;
  cycle->self = self;
  cycle->stack_pointer = stack_pointer;
  if (cycle->was_left) {
    end_left(cycle);
  } else {
    stop_world(cycle);
  }
  if (!cycle->was_left) sweep_and_end(cycle);
  cycle->self = driver;
}

/* Nobody allocates, nobody waits: there is no hurry either. */
static void give_up(struct cycle *cycle) {
  cycle->given_up = true;
  if (!cycle->concurrent) return;
  collector_stop_world(cycle->self);
  concurrent_take_back();
  collector_resume_world();
  deferred_run(cycle->self);
}

bool dirty_batches_seen;

/* First to those that allocate batches, where the program does: see handover_is_for_batches. */
static bool offer_to_batches(struct cycle *cycle) {
  if (!atomic_load_relaxed(&dirty_batches_seen)) return false;
  atomic_store_relaxed(&dirty_batches_seen, false);
  set_slowing(false); /* who rests delays it */
  atomic_store_relaxed(&handover_is_for_batches, true);
  bool taken = handover_offer(cycle->self, end_cycle, cycle, BATCHES_NS);
  atomic_store_relaxed(&handover_is_for_batches, false);
  return taken;
}

static void hand_over(struct cycle *cycle) {
  if (offer_to_batches(cycle)) return;
  for (uint64_t start_ns = os_now_ns(); !handover_offer(cycle->self, end_cycle, cycle, OFFER_NS);) {
    loan_offer(cycle->self);
    if (os_now_ns() - start_ns > PATIENCE_NS) {
      give_up(cycle);
      return;
    }
    if (!cycle->concurrent) continue;
    scan_written(cycle);
    set_slowing(false); /* who allocates takes the stop */
    assist_drain(cycle, NULL);
  }
}

/* Where nobody comes, the program hears of it in the driver: no cycle can be taken back in which finalizers are ready. */
static void settle_left(struct cycle *cycle) {
  uint64_t start_ns = os_now_ns();
  while (!settle_finalizers(drain_beside)) continue;
  set_slowing(false);
  settle_end_running();
  stacks_free_dead(cycle->self);
  cycle->report.left_ns = os_now_ns() - start_ns;
  cycle->report.finalizers_ready = calls_count();
  if (cycle->was_handed_over && handover_offer(cycle->self, end_cycle, cycle, PATIENCE_NS)) return;
  end_cycle(cycle->self, cycle->self->stack_base, cycle);
  if (cycle->was_handed_over) atomic_store_relaxed(&handover_is_untold, true);
}

/* Under a memory limit, what old garbage holds is wanted. */
static bool minor_is_wanted(void) {
  return collector.pacer.memory_limit_bytes == SIZE_MAX && generation_wants_minor(&collector.generation);
}

/* Only growth is content with the young. */
static bool is_for_growth(const struct cycle *cycle) {
  return cycle->report.reason == COLLECT_HEAP || cycle->report.reason == COLLECT_STRESS;
}

static bool is_minor(const struct cycle *cycle) {
  return is_for_growth(cycle) && minor_is_wanted() && written_is_watched();
}

/* A trace function may read what no page of the heap tells of: those of old objects are called as well. */
static void begin_generation(struct cycle *cycle) {
  if (cycle->report.minor) {
    mark_postpone_all();
  } else if (sticky_marks) {
    concurrent_await_sections(cycle); /* no sweep marks anything any more */
    cycle_clear_marks();
  }
}

/* With white young objects: false if there is no memory for what that takes. */
static bool may_be_checked(void) { return collector_checker == NULL || named_free_begin(); }

/* What trace functions lead to is found in the stop alone: where there are any, as in Guile, whose own stacks are read by one, what
 * is young is black instead. */
static void mark_running(struct cycle *cycle) {
  cycle->young_are_white = !mark_may_postpone() && may_be_checked();
  dirty.is_lost = dirty.is_little = false;
  atomic_store_relaxed(&dirty.rests, (size_t)0);
  cycle->report.stop_start_ns = cycle_now_ns();
  cycle_begin_marking(cycle, MARK_CONCURRENT);
  mark_forget_postponed();
  begin_generation(cycle);
  rootset_forget_new();
  concurrent_begin(cycle, false);
  dirty.stacks_at_bytes = atomic_load_relaxed(&account_live_bytes);
  concurrent_scan_threads(cycle);
  cycle->report.stop_ns = cycle_now_ns() - cycle->report.stop_start_ns;
  mark_beside(cycle);
}

void dirty_run(struct cycle *cycle) {
  cycle->given_up = !roots_learn(cycle->self);
  if (cycle->given_up) return;
  cycle->report.minor = is_minor(cycle);
  cycle->concurrent = cycle->report.concurrent = cycle->report.minor || protect(cycle);
  if (cycle->concurrent) mark_running(cycle);
  cycle->was_handed_over = has_callbacks();
  if (cycle->was_handed_over) {
    hand_over(cycle);
  } else {
    end_cycle(cycle->self, cycle->self->stack_base, cycle); /* between cycles it holds nothing */
  }
  if (cycle->was_left) settle_left(cycle);
  named_free_end();
  cycle->report.resume_ns = cycle_now_ns();
}

/* Not where somebody waits. */
void dirty_ended(struct cycle *cycle) {
  if (!cycle->report.concurrent || cycle->given_up || !is_for_growth(cycle) || driver_is_urgent()) return;
  uint64_t cpu_ns = os_thread_cpu_ns();
  bool minor_follows = minor_is_wanted();
  if (!minor_follows) generation_forget(&collector.generation);
  for (size_t part = 0; part < written_part_count(); part++) {
    written_allow(part, minor_follows);
    loan_offer(cycle->self);
  }
  account_work(ACCOUNT_MARKING, os_thread_cpu_ns() - cpu_ns);
}
