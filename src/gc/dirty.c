#include "gc/dirty.h"

#include "alloc/account.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/memcheck.h"
#include "gc/assist.h"
#include "gc/calls.h"
#include "gc/concurrent.h"
#include "gc/deferred.h"
#include "gc/driver.h"
#include "gc/handover.h"
#include "gc/loan.h"
#include "gc/named_free.h"
#include "gc/rootset.h"
#include "gc/rounds.h"
#include "gc/settle.h"
#include "gc/slowing.h"
#include "gc/stacks.h"
#include "gc/stopped.h"
#include "gc/work.h"
#include "mutator/roots.h"
#include "mutator/world.h"
#include "mutator/written.h"

enum {
  JOINS_LEAST = 128, /* huge pages before one cycle, some 25 milliseconds; or so much of the heap */
  JOINS_SHIFT = 24,
  JOINS_STEP = 8,
  SPECIALS_MANY = 1024, /* that came to be beside the program; fewer are visited in the stop sooner than here */
  ROOTS_LITTLE_BYTES = 1 << 20,
  FINALIZERS_MOST_BYTES = 256 << 10, /* what only they reach; more of it, or of them, is settled after the stop */
  FINALIZERS_MOST = 4096,
  FINALIZERS_SLICE_BYTES = 1 << 20,
  BATCHES_NS = 2 * 1000 * 1000,
  OFFER_NS = 10 * 1000 * 1000,
  PATIENCE_NS = 1000 * 1000 * 1000,
  AHEAD_CHEAP_NS = 2 * 1000 * 1000,
  AHEAD_BARRED_CYCLES = 4
};

/* Of the system, one after the other.  The first may be a mistake: the program closes descriptors that it does not know. */
enum { REFUSALS_MOST = 3 };
static unsigned refusals; /* atomic */

void dirty_init(void) {
  written_init();
  mark_postpones_traces = true;
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

/* ---- beside the program ---- */

static void mark_roots(struct cycle *cycle) {
  struct midden_tracer *first = &collector.tracers[0];
  memcheck_quiet_begin();
  rootset_mark_running(cycle->self, first); /* where that fails, the stop reads all of it, or gives up */
  memcheck_quiet_end();
  mark_publish(first);
}

/* A stop that has little to do does not wait for another processor. */
static unsigned markers_of_stop(const struct cycle *cycle) {
  return rounds_left_little() && rootset_bytes() <= ROOTS_LITTLE_BYTES ? 1 : cycle->report.markers;
}

/* ---- what only trace functions lead to ----
 *
 * They are called with the world stopped alone, and what they lead to may be much: Guile reads the stacks of its virtual machine so.
 * So they are called once in a stop that looks ahead, and what they lead to is marked beside the program.  The last stop calls
 * all of them again, and finds little that is new.  Where looking ahead takes longer than it spares the last stop, some cycles
 * do without. */

static void call_stw(bool roots_known) {
  if (!roots_known) return;
  struct midden_tracer *first = &collector.tracers[0];
  mark_open_by_hand_stw();
  first->calls_traces = true;
  mark_postponed_stw(first);
  first->calls_traces = false;
  mark_shut_by_hand_stw();
  mark_publish(first);
  mark_postpone_all();
}

/* By the driver: the program's callbacks are not called, nor does it hear of this stop.  Its processor time.  Of two in a cycle the
 * longer one is reported. */
static uint64_t stop_and(struct cycle *cycle, void (*act_stw)(bool roots_known)) {
  struct os_signals before;
  os_block_signals(&before);
  uint64_t start_ns = os_now_ns(), cpu_ns = cycle_begin_share(0);
  act_stw(collector_stop_world(cycle->self));
  cycle_end_share(0, cpu_ns);
  uint64_t pause_ns = os_now_ns() - start_ns;
  if (pause_ns > cycle->report.ahead_ns) {
    cycle->report.ahead_start_ns = start_ns - collector.start_ns;
    cycle->report.ahead_ns = pause_ns;
  }
  cycle_count_pause(pause_ns);
  collector_resume_world();
  os_restore_signals(&before);
  return os_thread_cpu_ns() - cpu_ns;
}

/* To scan a megabyte takes a millisecond or so. */
static bool was_worth_it(uint64_t cpu_ns, size_t found_bytes) { return cpu_ns <= AHEAD_CHEAP_NS + found_bytes; }

static void look_ahead(struct cycle *cycle) {
  static unsigned barred; /* so many cycles do without */
  if (!mark_has_postponed() || rounds_are_lost()) return;
  if (barred != 0) {
    barred--;
    return;
  }
  uint64_t cpu_ns = stop_and(cycle, call_stw);
  size_t before_bytes = assist_scanned_bytes();
  rounds_drain(cycle);
  if (!was_worth_it(cpu_ns, assist_scanned_bytes() - before_bytes)) barred = AHEAD_BARRED_CYCLES;
  rounds_run(cycle);
}

/* What hangs on them alone may be much; the stop finds what is new.  How many they were. */
static size_t mark_specials(struct cycle *cycle) {
  size_t count = settle_referring();
  if (settle_grey_ahead_running(&collector.tracers[0]) != 0) rounds_drain(cycle);
  return count;
}

static void mark_beside(struct cycle *cycle) {
  uint64_t start_ns = os_now_ns();
  cycle->report.roots_start_ns = start_ns - collector.start_ns;
  roots_protect();
  mark_roots(cycle);
  if (cycle->report.minor) rounds_scan_written(cycle);
  cycle->report.roots_ns = os_now_ns() - start_ns;
  rounds_drain(cycle);
  size_t settled = mark_specials(cycle);
  rounds_run(cycle);
  if (settle_referring() >= settled + SPECIALS_MANY) {
    mark_specials(cycle);
    rounds_run(cycle);
  }
  look_ahead(cycle);
  cycle->report.mark_ns = os_now_ns() - start_ns - cycle->report.roots_ns;
}

/* ---- the stop ---- */

/* What threads made grey at the last moment was counted when it was marked; from here on counting waits for the scan. */
static void become_stopped(const struct cycle *cycle, unsigned markers) {
  cycle_drain_alone(&collector.tracers[0]);
  for (unsigned i = 0; i < cycle->report.markers; i++) {
    mark_publish(&collector.tracers[i]);
    collector.tracers[i].mode = markers > 1 ? MARK_PARALLEL : MARK_ALONE;
  }
  work_begin();
  settle_begin();
  rounds_begin_stw();
}

static void mark_job(void *argument, unsigned marker) {
  (void)argument;
  struct midden_tracer *tracer = &collector.tracers[marker];
  uint64_t cpu_ns = cycle_begin_share(marker);
  work_join();
  rounds_scan_share_stw(tracer);
  rootset_mark_share(tracer);
  settle_mark_new_share_stw(tracer);
  mark_drain(tracer);
  cycle_end_share(marker, cpu_ns);
}

/* Root objects were marked beside the program, or are black, but for white ones that are young. */
static void mark_rest(struct cycle *cycle, unsigned markers) {
  struct midden_tracer *first = &collector.tracers[0];
  become_stopped(cycle, markers);
  if (cycle->young_are_white) rootset_mark_new_stw(first);
  settle_mark_new_queue_stw(first);
  cycle_report_program_roots(first);
  rootset_mark_told_stw(first);
  mark_postponed_stw(first);
  markers_run(markers, mark_job, NULL);
  cycle_drain_alone(first);
}

/* ---- finalizers ----
 *
 * What only they reach may be much.  Nobody but the collector can get at it, so it stands still, and nothing has to be scanned
 * twice: beyond an allowance it is marked after the stop.  Where a trace function is met there, which is called in stops alone, all
 * that is left is settled in another one. */

static NOT_A_ROOT size_t allowance_bytes; /* that may still be marked in the stop */

static bool drain_within_allowance(struct midden_tracer *tracer) {
  size_t before_bytes = tracer->scanned_bytes;
  if (allowance_bytes == 0) return false;
  bool done = mark_drain_some(tracer, allowance_bytes) && !mark_rescan_overflow(tracer);
  allowance_bytes -= min_size(allowance_bytes, tracer->scanned_bytes - before_bytes);
  return done;
}

static bool drain_beside(struct midden_tracer *tracer) {
  uint64_t cpu_ns = cycle_begin_share(0);
  bool done = mark_drain_some(tracer, FINALIZERS_SLICE_BYTES) && !mark_rescan_overflow(tracer);
  cycle_end_share(0, cpu_ns);
  return done && !mark_has_postponed();
}

static void settle_rest_stw(bool roots_known) {
  (void)roots_known; /* none is read */
  struct midden_tracer *first = &collector.tracers[0];
  mark_open_by_hand_stw();
  first->calls_traces = true;
  mark_postponed_stw(first);
  cycle_drain_alone(first);
  settle_finalizers_again();
  settle_finalizers(NULL);
  first->calls_traces = false;
  mark_close_by_hand(&first->marked);
}

static bool settle_few_finalizers_stw(void) {
  bool are_few = !settle_takes_long() && settle_find_finalizers_stw() <= FINALIZERS_MOST;
  allowance_bytes = FINALIZERS_MOST_BYTES;
  return are_few && settle_finalizers(drain_within_allowance);
}

/* False if it is to be done after the stop. */
static bool settle_finalizers_stw(const struct settle_markers *by) {
  settle_clear_stw(by);
  if (!settle_may_leave_stop()) {
    settle_find_finalizers_stw();
    return settle_finalizers(NULL);
  }
  for (unsigned i = 0; i < by->count; i++) by->tracers[i].mode = MARK_CONCURRENT;
  mark_forget_postponed();
  by->tracers[0].calls_traces = true;
  bool done = settle_few_finalizers_stw();
  by->tracers[0].calls_traces = false;
  return done;
}

static void settle(struct cycle *cycle, unsigned markers) {
  struct settle_markers by = {collector.tracers, markers, cycle_drain_alone};
  settle_new_values_stw(&by);
  cycle_check_stw(cycle);
  cycle_set_phase(COLLECTOR_MARK_TERMINATION);
  cycle->was_left = !settle_finalizers_stw(&by);
  if (cycle->was_left) {
    mark_close_by_hand(&collector.tracers[0].marked); /* from here on it does nothing */
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

/* With the world stopped, from the first event to the last. */
static void run_stw(struct cycle *cycle, bool roots_known) {
  cycle_announce(MIDDEN_EVENT_STOPPED);
  cycle_announce(MIDDEN_EVENT_MARK_START);
  cycle->report.signalled = world_signalled();
  cycle->given_up = !roots_known || !rootset_collect_stw(!rounds_are_lost());
  if (cycle->given_up) {
    concurrent_take_back();
  } else {
    finish_stopped(cycle);
  }
  cycle_announce(MIDDEN_EVENT_MARK_END);
  if (collector_verifier != NULL && !cycle->was_left) collector_verifier();
  cycle_announce(MIDDEN_EVENT_RESUMING);
}

static void report_pause(struct cycle *cycle, uint64_t start_ns) {
  struct collector_report *report = &cycle->report;
  report->pause_start_ns = start_ns - collector.start_ns;
  report->pause_ns = os_now_ns() - start_ns;
  report->written_bytes = rounds_written_bytes();
  report->rests = slowing_rests();
  if (!cycle->given_up) cycle_count_pause(report->pause_ns);
}

/* Before the stop, which reads what was written: a child does not know that. */
static bool is_orphaned(struct cycle *cycle) {
  if (LIKELY(!handover_is_orphaned)) return false;
  cycle->given_up = true;
  concurrent_forked(cycle->self);
  return true;
}

static void stop_and_finish(struct cycle *cycle) {
  cycle_announce(MIDDEN_EVENT_STOPPING);
  if (is_orphaned(cycle)) return;
  struct os_signals before;
  os_block_signals(&before); /* as in a cycle that stops the world for all of the marking */
  uint64_t start_ns = os_now_ns();
  bool roots_known = collector_stop_world(cycle->self);
  mutator_note_stack(cycle->self, cycle->stack_pointer);
  run_stw(cycle, roots_known);
  report_pause(cycle, start_ns);
  collector_resume_world();
  slowing_stop(); /* there is nothing left to wait for */
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
  if (rounds_are_lost()) generation_forget(&collector.generation);
  cycle_announce(MIDDEN_EVENT_END);
}

static void give_up(struct cycle *cycle) {
  cycle->given_up = true;
  if (!cycle->report.concurrent) return;
  struct os_signals before;
  os_block_signals(&before);
  collector_stop_world(cycle->self);
  concurrent_take_back();
  collector_resume_world();
  slowing_stop();
  os_restore_signals(&before);
  deferred_run(cycle->self);
}

/* False if the program's callback disabled collections at the last moment.  Where they were disabled before, the cycle had begun, and
 * is not wasted. */
static bool stop_world(struct cycle *cycle) {
  bool was_disabled = collector_is_disabled();
  cycle_announce(MIDDEN_EVENT_START);
  if (!was_disabled && collector_is_disabled()) {
    give_up(cycle);
    return false;
  }
  if (cycle->report.concurrent) {
    if (!is_orphaned(cycle)) stop_and_finish(cycle);
  } else {
    stopped_run(cycle);
  }
  return true;
}

static void end_left(struct cycle *cycle) {
  concurrent_trade_sides(cycle);
  slowing_stop();
  concurrent_verify(cycle);
  cycle->was_left = false;
}

/* By the driver or a thread of the program, `self`; and once more, if the stop was left. */
static void end_cycle(struct mutator *self, uintptr_t stack_pointer, void *argument) {
  struct cycle *cycle = argument;
  struct mutator *driver = cycle->self;
  uint64_t cpu_ns = os_thread_cpu_ns();
  cycle->self = self;
  cycle->stack_pointer = stack_pointer;
  bool goes_on = true;
  if (cycle->was_left) {
    end_left(cycle);
  } else {
    goes_on = stop_world(cycle);
  }
  if (goes_on && !cycle->was_left) sweep_and_end(cycle);
  cycle->self = driver;
  if (self != driver) cycle->taken_cpu_ns += os_thread_cpu_ns() - cpu_ns;
}

/* Between cycles it holds nothing. */
static void end_by_driver(struct cycle *cycle) { end_cycle(cycle->self, cycle->self->stack_base, cycle); }

bool dirty_batches_seen;

/* First to those that allocate batches, where the program does: see handover_is_for_batches. */
static bool offer_to_batches(struct cycle *cycle) {
  if (!atomic_load_relaxed(&dirty_batches_seen)) return false;
  atomic_store_relaxed(&dirty_batches_seen, false);
  atomic_store_relaxed(&handover_is_for_batches, true);
  bool taken = handover_offer(cycle->self, end_cycle, cycle, BATCHES_NS);
  atomic_store_relaxed(&handover_is_for_batches, false);
  return taken;
}

static void hand_over(struct cycle *cycle) {
  if (offer_to_batches(cycle)) return;
  for (uint64_t start_ns = os_now_ns(); !handover_offer(cycle->self, end_cycle, cycle, OFFER_NS);) {
    loan_offer(cycle->self);
    if (os_now_ns() - start_ns > PATIENCE_NS) { /* nobody allocates, nobody waits: there is no hurry either */
      give_up(cycle);
      return;
    }
    if (!cycle->report.concurrent) continue;
    rounds_scan_written(cycle);
    assist_drain(cycle);
  }
}

/* Where nobody comes, the program hears of it in the driver: no cycle can be taken back in which finalizers are ready. */
static void settle_left(struct cycle *cycle) {
  uint64_t start_ns = os_now_ns();
  slowing_stem_growth();
  settle_find_finalizers_running();
  bool done = false;
  while (!done && !mark_has_postponed()) done = settle_finalizers(drain_beside);
  if (!done) stop_and(cycle, settle_rest_stw);
  settle_end_running();
  stacks_free_dead(cycle->self);
  cycle->report.left_ns = os_now_ns() - start_ns;
  cycle->report.finalizers_ready = calls_count();
  if (cycle->was_handed_over && handover_offer(cycle->self, end_cycle, cycle, PATIENCE_NS)) return;
  end_by_driver(cycle);
  if (cycle->was_handed_over) atomic_store_relaxed(&handover_is_untold, true);
}

/* A trace function may read what no page of the heap tells of: those of old objects are called as well. */
static void begin_generation(struct cycle *cycle) {
  if (cycle->report.minor) {
    mark_postpone_all();
  } else {
    concurrent_forget_old(cycle);
  }
}

/* With white young objects: false if there is no memory for what that takes. */
static bool may_be_checked(void) { return collector_checker == NULL || named_free_begin(); }

/* In a minor cycle the first round is soon enough: what stacks hold at the beginning is mostly dead by then, and would grow old. */
static bool begins_with_stacks(const struct cycle *cycle) { return !cycle->report.minor || !cycle->young_are_white; }

/* What trace functions lead to is found in the stop alone: where there are any, as in Guile, whose own stacks are read by one, what
 * is young is black instead. */
static void mark_running(struct cycle *cycle) {
  cycle->young_are_white = !mark_may_postpone() && may_be_checked();
  slowing_begin();
  cycle->report.stop_start_ns = cycle_now_ns();
  cycle_begin_marking(cycle, MARK_CONCURRENT);
  mark_forget_postponed();
  begin_generation(cycle);
  rootset_forget_new();
  concurrent_begin(cycle, false);
  rounds_begin(begins_with_stacks(cycle));
  concurrent_begin_mark(cycle, begins_with_stacks(cycle));
  cycle->report.stop_ns = cycle_now_ns() - cycle->report.stop_start_ns;
  mark_beside(cycle);
}

void dirty_run(struct cycle *cycle) {
  cycle->given_up = !roots_learn(cycle->self);
  if (cycle->given_up) return;
  cycle->report.minor = cycle_may_be_minor(cycle) && written_is_watched();
  cycle->report.concurrent = cycle->report.minor || protect(cycle);
  if (cycle->report.concurrent) mark_running(cycle);
  cycle->was_handed_over = has_callbacks();
  if (cycle->was_handed_over) {
    hand_over(cycle);
  } else {
    end_by_driver(cycle);
  }
  if (cycle->was_left) settle_left(cycle);
  named_free_end();
  cycle->report.resume_ns = cycle_now_ns();
}

static NOT_A_ROOT uint64_t faults_from; /* the process's, when a cycle beside it began; 0 where the last one was none */

void dirty_charge_faults(const struct cycle *cycle) {
  bool beside = cycle->report.concurrent && cycle_is_for_growth(cycle);
  if (!beside && faults_from == 0) return;
  uint32_t fault_ns = written_fault_ns();
  if (fault_ns == 0) return;
  uint64_t faults = os_process_faults();
  if (faults_from != 0 && cycle_is_for_growth(cycle))
    brief_faulted(&collector.brief, (faults - faults_from) * fault_ns);
  faults_from = beside ? faults : 0;
}

static void note_delay(const struct cycle *cycle) {
  const struct collector_report *report = &cycle->report;
  if (!report->concurrent || cycle->given_up || !cycle_is_for_growth(cycle)) return;
  uint64_t kept_ns = report->assist_ns + slowing_rested_ns();
  brief_delayed(&collector.brief, report->pause_ns + kept_ns / os_processor_count(),
                report->pause_ns + slowing_longest_ns());
  cycle_expect_stops();
}

/* Not where somebody waits. */
void dirty_ended(struct cycle *cycle) {
  note_delay(cycle);
  if (!cycle->report.concurrent || cycle->given_up || !cycle_is_for_growth(cycle) || driver_is_urgent()) return;
  uint64_t cpu_ns = os_thread_cpu_ns();
  bool minor_follows = cycle_minor_is_wanted();
  if (!minor_follows) generation_forget(&collector.generation);
  for (size_t part = 0; part < written_part_count(); part++) {
    written_allow(part, minor_follows);
    loan_offer(cycle->self);
  }
  account_work(ACCOUNT_MARKING, os_thread_cpu_ns() - cpu_ns);
}

void dirty_forked(void) {
  faults_from = 0;
  named_free_end();
  slowing_forked();
  generation_forget(&collector.generation);
}
