#include "gc/collector.h"

#include "alloc/account.h"
#include "alloc/central.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/memcheck.h"
#include "gc/background.h"
#include "gc/calls.h"
#include "gc/idle.h"
#include "gc/ledger.h"
#include "gc/limiter.h"
#include "gc/mark.h"
#include "gc/markers.h"
#include "gc/rootset.h"
#include "gc/scavenger.h"
#include "gc/settle.h"
#include "gc/stacks.h"
#include "gc/sweep.h"
#include "meta/persist.h"
#include "mutator/fiber.h"
#include "mutator/roots.h"
#include "mutator/world.h"
#include "page/pageheap.h"
#include "span/guard.h"

/* A smaller heap is marked before another thread has woken up. */
enum { PARALLEL_LEAST_BYTES = 1 << 20 };

struct collector_hooks collector_hooks;
struct lock collector_lock = LOCK_INIT(LOCK_RANK_COLLECTOR);
void (*collector_reporter)(const struct collector_report *report);
void (*collector_verifier)(void);

/* Under the collector lock unless it says otherwise. */
static NOT_A_ROOT struct {
  uint32_t phase; /* atomic to read */
  struct pacer pacer;
  struct pacer_footprint footprint; /* as of the last cycle */
  struct limiter limiter;
  uint64_t limit_release_ns; /* of heap_pages, as far as charged to the limiter */
  uint64_t yields_before;    /* the limiter's, as of the last cycle */
  unsigned markers;
  uint32_t disabled;              /* atomic */
  uint64_t start_ns;              /* when the library started */
  struct collector_totals totals; /* see there */
  uint32_t owner;                 /* atomic; the thread that holds the lock, or 0 */
  struct midden_tracer tracers[MARKERS_MAX];
  struct marker_report marker[MARKERS_MAX];
} collector;

/* One cycle, on the collecting thread's stack. */
struct cycle {
  struct mutator *self;
  uintptr_t stack_pointer; /* where the program's part of this thread's stack ends, its registers included */
  bool (*stop)(void *argument);
  void *stop_argument;
  bool given_up;
  bool has_memory_to_release;
  unsigned markers;
  struct collector_report report;
};

const char *collector_reason_name(enum collector_reason reason) {
  static const char *const names[] = {[COLLECT_HEAP] = "heap",
                                      [COLLECT_FORCED] = "forced",
                                      [COLLECT_OUT_OF_MEMORY] = "out of memory",
                                      [COLLECT_STRESS] = "stress",
                                      [COLLECT_IDLE] = "idle"};
  return names[reason];
}

/* ---- phases and events ---- */

enum collector_phase collector_phase(void) { return (enum collector_phase)atomic_load_acquire(&collector.phase); }

static void set_phase(enum collector_phase to) {
  static const uint8_t next[] = {
      [COLLECTOR_OFF] = 1 << COLLECTOR_SWEEP_TERMINATION,
      [COLLECTOR_SWEEP_TERMINATION] = 1 << COLLECTOR_MARK,
      [COLLECTOR_MARK] = 1 << COLLECTOR_MARK_TERMINATION | 1 << COLLECTOR_OFF,
      [COLLECTOR_MARK_TERMINATION] = 1 << COLLECTOR_OFF,
  };
  enum collector_phase from = collector_phase();
  CHECK((next[from] >> to & 1) != 0, "collector: no step from phase %d to %d", from, to);
  atomic_store_release(&collector.phase, (uint32_t)to);
  atomic_store_release(&span_marking, to == COLLECTOR_MARK || to == COLLECTOR_MARK_TERMINATION);
}

static void announce(enum midden_event event) {
  midden_event_fn *function = atomic_load_acquire(&collector_hooks.event);
  if (function != NULL) function(event, collector_hooks.event_argument);
}

/* ---- stopping ---- */

void collector_acquire(struct mutator *self) {
  mutator_lock_safely(self, &collector_lock);
  atomic_store_relaxed(&collector.owner, self->thread_id);
}

void collector_release(void) {
  atomic_store_relaxed(&collector.owner, 0u);
  lock_release(&collector_lock);
}

bool collector_is_mine(const struct mutator *self) { return atomic_load_relaxed(&collector.owner) == self->thread_id; }

bool collector_stop_world(struct mutator *self) {
  mutator_lock_safely(self, &mutator_list_lock);
  return roots_stop_world(self);
}

void collector_resume_world(void) {
  world_resume();
  lock_release(&mutator_list_lock);
}

/* ---- marking ---- */

static void flush_caches(void) {
  for (struct link *link = mutator_list.first; link != NULL; link = link->next)
    cache_flush_stw(&mutator_from(link)->cache);
}

static uint64_t since_start(void) { return os_now_ns() - collector.start_ns; }

static void mark_job(void *argument, unsigned marker) {
  (void)argument;
  struct midden_tracer *tracer = &collector.tracers[marker];
  struct marker_report *report = &collector.marker[marker];
  uint64_t cpu = os_thread_cpu_ns();
  report->thread = os_thread_id();
  report->start_ns = since_start();
  memcheck_quiet_begin();
  work_join();
  rootset_mark_share(tracer);
  settle_mark_share_stw(tracer);
  mark_drain(tracer);
  memcheck_quiet_end();
  report->cpu_ns = os_thread_cpu_ns() - cpu;
  report->end_ns = since_start();
}

/* For what the last phases add: usually little, so one marker does it. */
static void drain_alone(struct midden_tracer *tracer) {
  bool parallel = tracer->parallel;
  tracer->parallel = false;
  do {
    mark_drain(tracer);
  } while (mark_rescan_overflow(tracer));
  tracer->parallel = parallel;
}

static void report_program_roots(struct midden_tracer *tracer) {
  midden_root_fn *function = atomic_load_acquire(&collector_hooks.roots);
  if (function != NULL) function(tracer, collector_hooks.roots_argument);
}

static void begin_marking(const struct cycle *cycle) {
  for (unsigned i = 0; i < cycle->markers; i++) {
    mark_begin(&collector.tracers[i], cycle->markers > 1);
    collector.marker[i] = (struct marker_report){0};
  }
  work_begin();
  settle_begin_stw();
}

static void mark_heap(struct cycle *cycle) {
  struct midden_tracer *first = &collector.tracers[0];
  uint64_t start = os_now_ns();
  rootset_mark_root_objects(first);
  settle_mark_queue_stw(first);
  report_program_roots(first);
  cycle->report.roots_start_ns = start - collector.start_ns;
  cycle->report.roots_ns = os_now_ns() - start;
  markers_run(cycle->markers, mark_job, NULL);
  drain_alone(first);
  cycle->report.mark_ns = os_now_ns() - start - cycle->report.roots_ns;
}

/* ---- after marking ---- */

/* How the heap is filled when a cycle begins, all dead objects of the last one swept away: never fuller. */
static void take_footprint(size_t object_bytes) {
  struct pageheap_stats pages;
  pageheap_read_stats(&heap_pages, &pages);
  size_t stack_bytes = min_size(pages.stack_bytes, stacks_resident_estimate());
  collector.footprint = (struct pacer_footprint){.fixed_bytes = stack_bytes + persist_total_bytes(),
                                                 .in_use_bytes = pages.in_use_bytes,
                                                 .object_bytes = object_bytes};
}

static void set_goal(size_t goal_bytes) {
  atomic_store_relaxed(&collector.totals.goal_bytes, goal_bytes);
  atomic_store_relaxed(&account_trigger_bytes, goal_bytes);
}

static void count_marked(struct cycle *cycle) {
  struct collector_report *report = &cycle->report;
  struct tally marked = {0};
  size_t stack_bytes = 0;
  for (unsigned i = 0; i < cycle->markers; i++) {
    mark_end(&collector.tracers[i]);
    tally_add(&marked, &collector.tracers[i].marked);
    stack_bytes += collector.tracers[i].stack_bytes;
    report->cpu_ns += collector.marker[i].cpu_ns;
  }
  mark_close_by_hand_stw(&marked);
  report->marked_bytes = tally_bytes(&marked);
  report->marked_scanned_bytes = tally_row_bytes(&marked, TALLY_SCANNED);
  report->marked_objects = tally_objects(&marked);
  atomic_store_relaxed(&collector.totals.stack_bytes, stack_bytes);
  ledger_close_cycle_stw(&marked);
}

static void finish_cycle(struct cycle *cycle) {
  struct collector_report *report = &cycle->report;
  count_marked(cycle);
  report->goal_bytes = pacer_goal(&collector.pacer, report->marked_bytes, &collector.footprint);
  atomic_store_relaxed(&account_live_bytes, report->marked_bytes);
  set_goal(report->goal_bytes);
  sweep_read_stats(&report->swept);
  sweep_begin_stw();
}

/* Nothing was marked yet but the slots of the caches' windows: that is taken back. */
static void abandon_cycle(void) {
  mark_close_by_hand_stw(NULL);
  size_t count = arena_chunk_count(&heap_arena);
  for (size_t i = 0; i < count; i++) {
    if (heap_arena.chunks[i].in_use_pages == 0) continue; /* its bits may have been given back */
    uintptr_t start = heap_arena.start + (i << CHUNK_SHIFT);
    mark_bits_clear(&heap_arena, mark_side, start, min_size(CHUNK_BYTES, heap_arena.used - start));
  }
}

static bool is_stop_asked_for(const struct cycle *cycle) {
  return cycle->stop != NULL && cycle->stop(cycle->stop_argument);
}

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

static void add_one(uint64_t *figure) { atomic_store_relaxed(figure, *figure + 1); }

static void add_to_totals_stw(const struct collector_report *report) {
  struct collector_totals *totals = &collector.totals;
  atomic_store_relaxed(&totals->collections, report->number);
  atomic_store_relaxed(&totals->pause_total_ns, totals->pause_total_ns + report->pause_ns);
  atomic_store_relaxed(&totals->pause_last_ns, report->pause_ns);
  if (report->pause_ns > totals->pause_max_ns) atomic_store_relaxed(&totals->pause_max_ns, report->pause_ns);
  add_one(&totals->pauses[pause_bucket(report->pause_ns)]);
  add_one(&totals->by_reason[report->reason]);
  atomic_store_relaxed(&totals->marked_bytes, report->marked_bytes);
  atomic_store_relaxed(&totals->marked_objects, report->marked_objects);
  account_work(ACCOUNT_MARKING, report->cpu_ns);
}

/* From stopping the world to letting it go: the pause. */
static void run_stopped(struct cycle *cycle) {
  uint64_t start = os_now_ns();
  bool roots_known = collector_stop_world(cycle->self);
  uint64_t stopped = os_now_ns();
  cycle->self->stack_pointer = cycle->stack_pointer;
  mark_open_by_hand_stw();
  memcheck_quiet_begin();
  announce(MIDDEN_EVENT_STOPPED);
  announce(MIDDEN_EVENT_MARK_START);
  cycle->report.threads = mutator_list.count;
  cycle->report.signalled = world_signalled();
  set_phase(COLLECTOR_MARK);
  flush_caches();
  begin_marking(cycle);
  cycle->given_up = !roots_known || !rootset_collect_stw() || is_stop_asked_for(cycle);
  if (cycle->given_up) {
    abandon_cycle();
  } else {
    mark_heap(cycle);
    uint64_t marked = os_now_ns();
    set_phase(COLLECTOR_MARK_TERMINATION);
    settle_dead_stw(&(struct settle_markers){collector.tracers, cycle->markers, drain_alone});
    stacks_free_dead_stw();
    finish_cycle(cycle);
    cycle->report.finalizers_ready = calls_count();
    cycle->report.finish_start_ns = marked - collector.start_ns;
    cycle->report.finish_ns = os_now_ns() - marked;
  }
  announce(MIDDEN_EVENT_MARK_END);
  set_phase(COLLECTOR_OFF);
  if (collector_verifier != NULL) collector_verifier();
  announce(MIDDEN_EVENT_RESUMING);
  memcheck_quiet_end();
  cycle->report.stop_ns = stopped - start;
  uint64_t resuming = os_now_ns(); /* before those that wake take the processor from this thread */
  cycle->report.pause_ns = resuming - start;
  cycle->report.stop_start_ns = start - collector.start_ns;
  cycle->report.resume_ns = resuming - collector.start_ns;
  if (!cycle->given_up) add_to_totals_stw(&cycle->report);
  collector_resume_world();
}

static void sweep_after(struct cycle *cycle) {
  announce(MIDDEN_EVENT_SWEEP_START);
  uint64_t start = os_now_ns();
  if (guard_active) sweep_finish(cycle->self); /* what died is to be checked and hidden now, not when it is reused */
  sweep_large(cycle->self);
  mutator_enter(cycle->self);
  stacks_trim();
  mutator_leave(cycle->self);
  settle_finish(cycle->self);
  uint64_t end = os_now_ns();
  cycle->report.sweep_after_ns = end - start;
  cycle->report.end_ns = end - collector.start_ns;
  account_work(ACCOUNT_SWEEPING_IN_CYCLE, cycle->report.sweep_after_ns);
  announce(MIDDEN_EVENT_SWEEP_END);
}

static void sweep_before(struct cycle *cycle) {
  set_phase(COLLECTOR_SWEEP_TERMINATION);
  uint64_t start = os_now_ns();
  cycle->report.sweep_start_ns = start - collector.start_ns;
  sweep_finish(cycle->self);
  cycle->report.sweep_before_ns = os_now_ns() - start;
  account_work(ACCOUNT_SWEEPING_IN_CYCLE, cycle->report.sweep_before_ns);
}

/* How much there may be to mark: all that was allocated, or, when a cycle has shown how much of it lives, twice that. */
static size_t expected_marked_bytes(void) {
  size_t live = atomic_load_relaxed(&account_live_bytes);
  return collector.totals.collections == 0 ? live : min_size(live, 2 * collector.totals.marked_bytes);
}

static unsigned choose_markers(void) {
  if (collector.markers == 1 || expected_marked_bytes() < PARALLEL_LEAST_BYTES) return 1;
  return markers_prepare(collector.markers);
}

/* Processor time of this cycle: that of the collecting thread, and of those that helped it to mark. */
static uint64_t cycle_cpu_ns(const struct cycle *cycle, uint64_t own_ns) {
  for (unsigned i = 1; i < cycle->markers; i++) own_ns += collector.marker[i].cpu_ns;
  return own_ns;
}

/* What the collector has cost, cycle and releasing for the limit. */
static void charge_limiter(uint64_t cycle_ns) {
  uint64_t release_ns = atomic_load_relaxed(&heap_pages.limit_release_ns);
  limiter_charge(&collector.limiter, cycle_ns + release_ns - collector.limit_release_ns);
  collector.limit_release_ns = release_ns;
}

/* The limit holds again, until the limiter says otherwise; and what is kept for the next goal is known. */
static void settle_memory(struct cycle *cycle, uint64_t cycle_ns) {
  charge_limiter(cycle_ns);
  cycle->report.limit_yields = collector.limiter.yield_count - collector.yields_before;
  collector.yields_before = collector.limiter.yield_count;
  pageheap_set_limit(&heap_pages, collector.pacer.memory_limit_bytes);
  scavenger_cycle_ended(&heap_scavenger, pacer_pages_bytes(&collector.footprint, cycle->report.goal_bytes),
                        cycle->report.reason == COLLECT_IDLE);
  cycle->has_memory_to_release = scavenger_wants_background(&heap_scavenger);
}

/* False if the program's callback disabled collections at the last moment. */
static bool run_cycle(struct cycle *cycle) {
  announce(MIDDEN_EVENT_START);
  if (collector_is_disabled()) return false;
  cycle->report.number = collector.totals.collections + 1;
  cycle->report.start_ns = since_start();
  cycle->report.live_before_bytes = atomic_load_relaxed(&account_live_bytes);
  cycle->report.markers = cycle->markers = choose_markers();
  uint64_t cpu_before_ns = os_thread_cpu_ns();
  sweep_before(cycle);
  take_footprint(cycle->report.live_before_bytes);
  announce(MIDDEN_EVENT_STOPPING);
  run_stopped(cycle);
  announce(MIDDEN_EVENT_RESUMED);
  if (!cycle->given_up) {
    sweep_after(cycle);
    settle_memory(cycle, cycle_cpu_ns(cycle, os_thread_cpu_ns() - cpu_before_ns));
  }
  announce(MIDDEN_EVENT_END);
  return true;
}

/* ---- the memory limit ---- */

/* A little later again. */
static void put_off(size_t live_bytes) {
  size_t step_bytes = pacer_headroom(live_bytes);
  atomic_store_relaxed(&account_trigger_bytes, live_bytes > SIZE_MAX - step_bytes ? SIZE_MAX : live_bytes + step_bytes);
  pageheap_set_limit(&heap_pages, SIZE_MAX);
}

/* A cycle that growth does not ask for, only the limit, waits where the collector had its share. */
static bool is_due(void) {
  if (!account_collection_is_due()) return false;
  if (collector.pacer.memory_limit_bytes == SIZE_MAX) return true;
  size_t live_bytes = atomic_load_relaxed(&account_live_bytes);
  if (live_bytes >= pacer_unlimited_goal(&collector.pacer, collector.totals.marked_bytes)) return true;
  charge_limiter(0);
  if (limiter_allows(&collector.limiter, os_process_cpu_ns())) return true;
  put_off(live_bytes);
  return false;
}

static bool is_called_for(enum collector_reason reason, uint64_t collections_before) {
  if (collector_is_disabled()) return false;
  bool since = collector.totals.collections != collections_before;
  if (reason == COLLECT_HEAP || (reason == COLLECT_OUT_OF_MEMORY && since)) return is_due();
  return true;
}

/* Racing with the end of a cycle it may make the next one due early, which that one's headroom bounds. */
void collector_press(void) {
  size_t live_bytes = atomic_load_relaxed(&account_live_bytes);
  size_t marked_bytes = atomic_load_relaxed(&collector.totals.marked_bytes);
  if (live_bytes < marked_bytes || live_bytes - marked_bytes < pacer_headroom(marked_bytes)) return;
  if (!account_collection_is_due()) atomic_store_relaxed(&account_trigger_bytes, live_bytes);
}

void collector_press_for(struct mutator *self, size_t bytes) {
  size_t limit_bytes = atomic_load_relaxed(&heap_pages.limit_bytes);
  if (LIKELY(limit_bytes == SIZE_MAX)) return;
  struct pageheap_stats pages;
  mutator_enter(self);
  pageheap_read_stats(&heap_pages, &pages);
  mutator_leave(self);
  size_t held_bytes = pages.in_use_bytes + pages.stack_bytes + persist_total_bytes();
  if (held_bytes >= limit_bytes || limit_bytes - held_bytes < bytes) collector_press();
}

struct request {
  enum collector_reason reason;
  bool (*stop)(void *argument);
  void *argument;
  bool given_up;
};

/* The next cycle may begin before this one is reported. */
static void copy_marker_reports(struct collector_report *report, struct marker_report *copy) {
  for (unsigned i = 0; i < report->markers; i++) copy[i] = collector.marker[i];
  report->marker = copy;
}

static void collect(uintptr_t stack_pointer, void *argument) {
  struct request *request = argument;
  struct mutator *self = mutator_self();
  uint64_t collections = atomic_load_relaxed(&collector.totals.collections);
  collector_acquire(self);
  struct cycle cycle = {.self = self,
                        .stack_pointer = stack_pointer,
                        .stop = request->stop,
                        .stop_argument = request->argument,
                        .report = {.reason = request->reason}};
  bool ran = is_called_for(request->reason, collections) && run_cycle(&cycle);
  struct marker_report marker[MARKERS_MAX];
  copy_marker_reports(&cycle.report, marker);
  collector_release();
  request->given_up = cycle.given_up;
  if (!ran) return;
  if (cycle.has_memory_to_release || sweep_wants_background() || idle_wants_background()) background_wake();
  if (!cycle.given_up && collector_reporter != NULL) collector_reporter(&cycle.report);
  collector_notify_finalizers();
}

/* The registers are saved first of all: the frames of the collector lie below them and are not scanned.  Stale words in
 * those would keep dead objects alive. */
bool collector_collect(enum collector_reason reason, bool (*stop)(void *argument), void *argument) {
  struct mutator *self = mutator_self();
  if (self->critical != 0 || collector_is_mine(self)) return true;
  struct request request = {.reason = reason, .stop = stop, .argument = argument};
  os_call_with_registers(collect, &request);
  return !request.given_up;
}

/* ---- the rest ---- */

void collector_notify_finalizers(void) {
  midden_notify_fn *function = atomic_load_acquire(&collector_hooks.finalizers_ready);
  if (function != NULL && calls_count() != 0) function(collector_hooks.finalizers_argument);
}

void collector_init(const struct pacer *pacer, unsigned markers) {
  collector.pacer = *pacer;
  collector.markers = markers;
  collector.start_ns = os_now_ns();
  settle_init();
  stacks_init();
  stacks_init_kind();
  set_goal(pacer_first_goal(pacer));
  pageheap_set_limit(&heap_pages, pacer->memory_limit_bytes);
  limiter_init(&collector.limiter, os_process_cpu_ns());
}

void collector_disable(void) { atomic_add_relaxed(&collector.disabled, 1u); }

void collector_enable(void) {
  uint32_t count = atomic_load_relaxed(&collector.disabled);
  while (count != 0 && !atomic_cas_relaxed(&collector.disabled, &count, count - 1)) {
  }
}

bool collector_is_disabled(void) { return atomic_load_relaxed(&collector.disabled) != 0; }

uint64_t collector_start_ns(void) { return collector.start_ns; }

struct pacer collector_pacer(void) {
  return collector.pacer;
}

/* Runs `change` with the lock held, which this thread may hold already. */
static void configure_locked(struct mutator *self, void (*change)(struct pacer *pacer, void *argument),
                             void *argument) {
  change(&collector.pacer, argument);
  bool first = collector.totals.collections == 0;
  size_t marked = collector.totals.marked_bytes;
  set_goal(first ? pacer_first_goal(&collector.pacer) : pacer_goal(&collector.pacer, marked, &collector.footprint));
  pageheap_set_limit(&heap_pages, collector.pacer.memory_limit_bytes);
  mutator_enter(self);
  sweep_revise();
  mutator_leave(self);
}

void collector_configure(void (*change)(struct pacer *pacer, void *argument), void *argument) {
  struct mutator *self = mutator_self();
  bool mine = collector_is_mine(self);
  if (!mine) collector_acquire(self);
  configure_locked(self, change, argument);
  if (!mine) collector_release();
}

unsigned collector_set_markers(unsigned markers) {
  unsigned before = collector.markers;
  atomic_store_relaxed(&collector.markers, (unsigned)min_size(max_size(markers, 1), MARKERS_MAX));
  return before;
}

void collector_read_totals(struct collector_totals *totals) {
  const struct collector_totals *from = &collector.totals;
  struct collector_totals read = {
      .collections = atomic_load_relaxed(&from->collections),
      .pause_total_ns = atomic_load_relaxed(&from->pause_total_ns),
      .pause_max_ns = atomic_load_relaxed(&from->pause_max_ns),
      .pause_last_ns = atomic_load_relaxed(&from->pause_last_ns),
      .marked_bytes = atomic_load_relaxed(&from->marked_bytes),
      .marked_objects = atomic_load_relaxed(&from->marked_objects),
      .goal_bytes = atomic_load_relaxed(&from->goal_bytes),
      .limit_yields = atomic_load_relaxed(&collector.limiter.yield_count),
      .limit_level_ns = atomic_load_relaxed(&collector.limiter.level_ns),
      .stack_bytes = atomic_load_relaxed(&from->stack_bytes),
  };
  for (unsigned i = 0; i < COLLECT_REASONS; i++) read.by_reason[i] = atomic_load_relaxed(&from->by_reason[i]);
  for (unsigned i = 0; i < COLLECTOR_PAUSE_BUCKETS; i++) read.pauses[i] = atomic_load_relaxed(&from->pauses[i]);
  *totals = read;
}

void collector_forked(void) {
  markers_forget();
  background_forget();
  scavenger_forget(&heap_scavenger);
  idle_forget();
  collector.owner = os_thread_id();
}
