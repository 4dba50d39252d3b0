#include "gc/stopped.h"

#include "alloc/account.h"
#include "base/memcheck.h"
#include "gc/calls.h"
#include "gc/ledger.h"
#include "gc/rootset.h"
#include "gc/settle.h"
#include "gc/stacks.h"
#include "gc/work.h"
#include "mutator/world.h"
#include "page/pageheap.h"
#include "span/sticky.h"

/* ---- marking ---- */

static void flush_caches(void) {
  for (struct link *link = mutator_list.first; link != NULL; link = link->next)
    cache_flush_stw(&mutator_from(link)->cache);
}

static void mark_job(void *argument, unsigned marker) {
  (void)argument;
  struct midden_tracer *tracer = &collector.tracers[marker];
  uint64_t cpu_ns = cycle_begin_share(marker);
  work_join();
  rootset_mark_share(tracer);
  settle_mark_share_stw(tracer);
  mark_drain(tracer);
  cycle_end_share(marker, cpu_ns);
}

static void mark_heap(struct cycle *cycle) {
  struct midden_tracer *first = &collector.tracers[0];
  uint64_t start = os_now_ns();
  rootset_mark_root_objects_stw(first);
  settle_mark_queue_stw(first);
  cycle_report_program_roots(first);
  rootset_mark_told_stw(first);
  cycle->report.roots_start_ns = start - collector.start_ns;
  cycle->report.roots_ns = os_now_ns() - start;
  markers_run(cycle->report.markers, mark_job, NULL);
  cycle_drain_alone(first);
  cycle->report.mark_ns = os_now_ns() - start - cycle->report.roots_ns;
}

/* ---- after marking ---- */

static void finish(struct cycle *cycle) {
  struct tally marked = {0};
  cycle_count_marked(cycle, &marked);
  mark_close_by_hand(&marked);
  ledger_close_cycle_stw(&marked);
  atomic_store_relaxed(&account_live_bytes, tally_bytes(&marked));
  account_begin_period();
  cycle_finish(cycle, &marked, 0);
}

/* Every such cycle is a full one. */
static void forget_old(void) {
  if (!sticky_marks) return;
  cycle_clear_marks();
  sticky_reset();
}

/* Nothing was marked yet but the slots of the caches' windows: that is taken back. */
static void abandon(void) {
  mark_close_by_hand(NULL);
  cycle_clear_marks();
}

static bool is_stop_asked_for(const struct cycle *cycle) {
  return cycle->stop != NULL && cycle->stop(cycle->stop_argument);
}

static void settle(struct cycle *cycle) {
  struct settle_markers markers = {collector.tracers, cycle->report.markers, cycle_drain_alone};
  settle_values_stw(&markers);
  cycle_check_stw(cycle);
  cycle_set_phase(COLLECTOR_MARK_TERMINATION);
  settle_dead_stw(&markers);
}

static void mark_and_settle(struct cycle *cycle) {
  mark_heap(cycle);
  uint64_t marked = os_now_ns();
  settle(cycle);
  stacks_free_dead_stw();
  brief_settled(&collector.brief, os_now_ns() - marked);
  finish(cycle);
  cycle->report.finalizers_ready = calls_count();
  cycle->report.finish_start_ns = marked - collector.start_ns;
  cycle->report.finish_ns = os_now_ns() - marked;
}

/* With the world stopped, from the first event to the last. */
static void run_stw(struct cycle *cycle, bool roots_known) {
  forget_old(); /* before the first event: what is marked by hand there counts */
  mark_open_by_hand_stw();
  memcheck_quiet_begin();
  cycle_announce(MIDDEN_EVENT_STOPPED);
  cycle_announce(MIDDEN_EVENT_MARK_START);
  cycle->report.threads = mutator_list.count;
  cycle->report.signalled = world_signalled();
  cycle_set_phase(COLLECTOR_MARK);
  flush_caches();
  cycle_begin_marking(cycle, cycle->report.markers > 1 ? MARK_PARALLEL : MARK_ALONE);
  cycle->given_up = !roots_known || !rootset_collect_stw(false) || is_stop_asked_for(cycle);
  if (cycle->given_up) {
    abandon();
  } else {
    mark_and_settle(cycle);
  }
  cycle_set_phase(COLLECTOR_OFF);
  cycle_announce(MIDDEN_EVENT_MARK_END);
  if (collector_verifier != NULL) collector_verifier();
  cycle_announce(MIDDEN_EVENT_RESUMING);
  memcheck_quiet_end();
}

/* Before the world is let go: those that wake up take the processor from this thread. */
static void report_pause(struct cycle *cycle, uint64_t start, uint64_t stopped) {
  uint64_t resuming = os_now_ns();
  struct collector_report *report = &cycle->report;
  report->stop_ns = stopped - start;
  report->pause_ns = resuming - start;
  report->pause_start_ns = report->stop_start_ns = start - collector.start_ns;
  report->resume_ns = resuming - collector.start_ns;
  if (cycle->given_up) return;
  cycle_add_to_totals(report);
  cycle_count_pause(report->pause_ns);
}

void stopped_run(struct cycle *cycle) {
  cycle_announce(MIDDEN_EVENT_STOPPING);
  struct os_signals before;
  os_block_signals(&before); /* a handler of the program's would move references about under the markers */
  uint64_t start = os_now_ns();
  bool roots_known = collector_stop_world(cycle->self);
  uint64_t stopped = os_now_ns();
  mutator_note_stack(cycle->self, cycle->stack_pointer);
  run_stw(cycle, roots_known);
  report_pause(cycle, start, stopped);
  collector_resume_world();
  os_restore_signals(&before);
  cycle_announce(MIDDEN_EVENT_RESUMED);
}
