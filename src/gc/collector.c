#include "gc/collector.h"

#include "alloc/account.h"
#include "alloc/central.h"
#include "base/bits.h"
#include "base/check.h"
#include "gc/ahead.h"
#include "gc/assist.h"
#include "gc/background.h"
#include "gc/calls.h"
#include "gc/concurrent.h"
#include "gc/cycle.h"
#include "gc/deferred.h"
#include "gc/dirty.h"
#include "gc/driver.h"
#include "gc/handover.h"
#include "gc/idle.h"
#include "gc/markers.h"
#include "gc/scavenger.h"
#include "gc/settle.h"
#include "gc/stacks.h"
#include "gc/stopped.h"
#include "gc/sweep.h"
#include "meta/persist.h"
#include "mutator/barrier.h"
#include "mutator/fiber.h"
#include "mutator/roots.h"
#include "mutator/world.h"
#include "mutator/written.h"
#include "page/pageheap.h"
#include "span/cards.h"
#include "span/sticky.h"

/* A smaller heap is marked before another thread has woken up. */
enum { PARALLEL_LEAST_BYTES = 1 << 20 };

enum { REST_MOST_NS = 1000000 };

struct collector_hooks collector_hooks;
struct lock collector_lock = LOCK_INIT(LOCK_RANK_COLLECTOR);
void (*collector_reporter)(const struct collector_report *report);
void (*collector_verifier)(void);
void (*collector_checker)(bool minor);

const char *collector_reason_name(enum collector_reason reason) {
  static const char *const names[] = {[COLLECT_HEAP] = "heap",
                                      [COLLECT_FORCED] = "forced",
                                      [COLLECT_OUT_OF_MEMORY] = "out of memory",
                                      [COLLECT_STRESS] = "stress",
                                      [COLLECT_IDLE] = "idle"};
  return names[reason];
}

/* ---- stopping ---- */

void collector_acquire(struct mutator *self) {
  if (collector.dirty && !self->is_own) {
    handover_lock(self);
  } else {
    mutator_lock_safely(self, &collector_lock);
  }
  atomic_store_relaxed(&collector.owner, self->thread_id);
}

void collector_release(void) {
  atomic_store_relaxed(&collector.owner, 0u);
  lock_release(&collector_lock);
}

bool collector_is_mine(const struct mutator *self) { return atomic_load_relaxed(&collector.owner) == self->thread_id; }

static uint64_t stop_start_ns;    /* under the lock of the list of mutators */
static uint64_t resting_until_ns; /* atomic */

bool collector_stop_world(struct mutator *self) {
  mutator_lock_safely(self, &mutator_list_lock);
  stop_start_ns = os_now_ns();
  return roots_stop_world(self);
}

void collector_resume_world(void) {
  uint64_t now_ns = os_now_ns();
  uint64_t rest_ns = world_signalled() != 0 ? min_size(now_ns - stop_start_ns, REST_MOST_NS) : 0;
  atomic_store_relaxed(&resting_until_ns, now_ns + rest_ns);
  world_resume();
  lock_release(&mutator_list_lock);
}

void collector_call_stopped(struct mutator *self, void (*function)(void *argument), void *argument) {
  bool mine = collector_is_mine(self);
  int cancellation = os_forbid_cancellation(); /* `function` may call the program */
  if (!mine) collector_acquire(self);
  bool stopped = world_is_stopped();
  if (!stopped) collector_stop_world(self);
  function(argument);
  if (!stopped) collector_resume_world();
  if (!mine) collector_release();
  os_restore_cancellation(cancellation);
}

/* A thread that is told to stop again before it ran gets nowhere, however often it is resumed: who collects back to back
 * leaves the others as long as it stopped them. */
static void rest_while_safe(uintptr_t stack_pointer, void *argument) {
  static uint32_t never;
  uint64_t until_ns = atomic_load_relaxed(&resting_until_ns), now_ns = os_now_ns();
  if (now_ns < until_ns) mutator_wait_on_word(argument, stack_pointer, &never, 0, until_ns - now_ns);
}

static void let_others_run(struct mutator *self) {
  if (atomic_load_relaxed(&self->state) == MUTATOR_RUNNING && os_now_ns() < atomic_load_relaxed(&resting_until_ns))
    os_call_with_registers(rest_while_safe, self);
}

/* ---- one cycle ---- */

static void sweep_before(struct cycle *cycle) {
  cycle_set_phase(COLLECTOR_SWEEP_TERMINATION);
  uint64_t start = os_now_ns();
  cycle->report.sweep_start_ns = start - collector.start_ns;
  sweep_finish(cycle->self);
  cycle->report.sweep_before_ns = os_now_ns() - start;
  account_work(ACCOUNT_SWEEPING_IN_CYCLE, cycle->report.sweep_before_ns);
}

/* How much there may be to mark: all that was allocated, or, when a cycle has shown how much of it lives, twice that. */
static size_t expected_marked_bytes(void) {
  size_t live = atomic_load_relaxed(&account_live_bytes), marked = atomic_load_relaxed(&collector.totals.marked_bytes);
  return atomic_load_relaxed(&collector.totals.collections) == 0 ? live : min_size(live, 2 * marked);
}

static unsigned choose_markers(void) {
  if (atomic_load_relaxed(&collector.markers) == 1 || expected_marked_bytes() < PARALLEL_LEAST_BYTES) return 1;
  return markers_prepare(atomic_load_relaxed(&collector.markers));
}

/* Processor time of this cycle: that of the collecting thread, and of those that helped it to mark, assisted or ended it. */
static uint64_t cycle_cpu_ns(const struct cycle *cycle, uint64_t own_ns) {
  for (unsigned i = 1; i < cycle->report.markers; i++) own_ns += collector.marker[i].cpu_ns;
  return own_ns + cycle->taken_cpu_ns + cycle->report.assist_ns;
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

static void mark(struct cycle *cycle) {
  if (cycle->report.concurrent) {
    concurrent_run(cycle);
  } else {
    stopped_run(cycle);
  }
  if (!cycle->given_up) cycle_sweep_after(cycle);
}

/* False if the program's callback disabled collections at the last moment. */
static bool run_cycle(struct cycle *cycle) {
  bool is_dirty = cycle->report.concurrent && collector.dirty; /* its events are told by who ends it */
  if (!is_dirty) cycle_announce(MIDDEN_EVENT_START);
  if (collector_is_disabled()) return false;
  cycle->report.number = collector.totals.collections + 1;
  cycle->report.start_ns = cycle->report.live_before_ns = cycle_now_ns();
  cycle->report.live_before_bytes = atomic_load_relaxed(&account_live_bytes);
  cycle->report.markers = choose_markers();
  uint64_t cpu_before_ns = os_thread_cpu_ns();
  mutator_forget_ended(cycle->self);
  sweep_before(cycle);
  cycle_take_footprint(cycle->report.live_before_bytes);
  if (collector.dirty) dirty_charge_faults(cycle);
  if (is_dirty) {
    dirty_run(cycle);
  } else {
    mark(cycle);
  }
  if (collector_phase() == COLLECTOR_SWEEP_TERMINATION) cycle_set_phase(COLLECTOR_OFF); /* given up before it marked */
  if (!cycle->given_up) {
    uint64_t cpu_ns = cycle_cpu_ns(cycle, os_thread_cpu_ns() - cpu_before_ns);
    settle_memory(cycle, cpu_ns);
    generation_charge(&collector.generation, cpu_ns);
    if (is_dirty) dirty_ended(cycle);
  }
  if (!is_dirty) cycle_announce(MIDDEN_EVENT_END);
  return true;
}

/* ---- the memory limit ---- */

/* A little later again. */
static void put_off(size_t live_bytes) {
  atomic_store_relaxed(&account_trigger_bytes, add_saturating(live_bytes, pacer_headroom(live_bytes)));
}

/* Where growth alone would ask for a cycle; one that is to run beside the program starts before its goal. */
static size_t unlimited_trigger(void) {
  size_t marked_bytes = collector.totals.marked_bytes;
  size_t goal_bytes = pacer_unlimited_goal(&collector.pacer, marked_bytes);
  return cycle_runs_beside(2 * marked_bytes) ? assist_trigger(goal_bytes, marked_bytes) : goal_bytes;
}

/* A cycle that growth does not ask for, only the limit, waits where the collector had its share. */
static bool is_due(void) {
  if (!account_collection_is_due()) return false;
  if (collector.pacer.memory_limit_bytes == SIZE_MAX) return true;
  size_t live_bytes = atomic_load_relaxed(&account_live_bytes);
  if (live_bytes >= unlimited_trigger()) return true;
  charge_limiter(0);
  if (limiter_allows(&collector.limiter, os_process_cpu_ns())) return true;
  put_off(live_bytes);
  pageheap_set_limit(&heap_pages, SIZE_MAX);
  return false;
}

static bool is_called_for(enum collector_reason reason, uint64_t collections_before) {
  if (collector_is_disabled()) return false;
  if (reason == COLLECT_IDLE && collector.pacer.percent < 0) return false; /* the program said: only when told */
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

static bool has_room_for(size_t limit_bytes, size_t bytes) {
  struct pageheap_stats pages;
  pageheap_read_stats(&heap_pages, &pages);
  size_t held_bytes = pages.in_use_bytes + pages.stack_bytes + persist_total_bytes();
  return held_bytes < limit_bytes && limit_bytes - held_bytes >= bytes;
}

void collector_press_for(struct mutator *self, size_t bytes) {
  size_t limit_bytes = atomic_load_relaxed(&heap_pages.limit_bytes);
  if (LIKELY(limit_bytes == SIZE_MAX)) return;
  mutator_enter(self);
  bool has_room = has_room_for(limit_bytes, bytes);
  mutator_leave(self);
  if (!has_room) collector_press();
}

void collector_press_for_metadata(void) {
  size_t limit_bytes = atomic_load_relaxed(&heap_pages.limit_bytes);
  if (UNLIKELY(limit_bytes != SIZE_MAX) && !has_room_for(limit_bytes, 0)) collector_press();
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

/* The collector lock is held; it is not when this returns: whether there was a cycle. */
static bool run_and_release(struct cycle *cycle, uint64_t collections_before, struct marker_report *marker) {
  bool ran = is_called_for(cycle->report.reason, collections_before) && run_cycle(cycle);
  copy_marker_reports(&cycle->report, marker);
  /* Or each allocation would ask for the next, which would fail alike. */
  if (cycle->given_up && cycle->report.reason == COLLECT_HEAP) put_off(atomic_load_relaxed(&account_live_bytes));
  atomic_store_relaxed(&collector.ended_ns, os_now_ns());
  collector_release();
  return ran && !cycle->given_up;
}

static void tell(const struct cycle *cycle) {
  ahead_cycle_ended();
  if (cycle->has_memory_to_release || sweep_wants_background() || idle_wants_background()) background_wake();
  if (collector_reporter != NULL) collector_reporter(&cycle->report);
  if (!cycle->was_handed_over) collector_notify_finalizers();
}

/* The program's callbacks may do what is a cancellation point: a thread that were cancelled there would take the lock with it.  What
 * is told of the cycle afterwards, finalizers among it, is the program's own affair. */
static void run(struct mutator *self, struct cycle *cycle) {
  uint64_t collections = atomic_load_relaxed(&collector.totals.collections);
  struct marker_report marker[MARKERS_MAX];
  int cancellation = os_forbid_cancellation();
  collector_acquire(self);
  bool ran = run_and_release(cycle, collections, marker);
  os_restore_cancellation(cancellation);
  if (ran) tell(cycle);
}

static void collect(uintptr_t stack_pointer, void *argument) {
  struct request *request = argument;
  struct mutator *self = mutator_self();
  struct cycle cycle = {.self = self,
                        .stack_pointer = stack_pointer,
                        .stop = request->stop,
                        .stop_argument = request->argument,
                        .report = {.reason = request->reason}};
  run(self, &cycle);
  request->given_up = cycle.given_up;
}

void collector_run_concurrently(struct mutator *self, enum collector_reason reason) {
  struct cycle cycle = {.self = self, .report = {.reason = reason, .concurrent = true}};
  run(self, &cycle);
}

/* The registers are saved first of all: the frames of the collector lie below them and are not scanned.  Stale words in
 * those would keep dead objects alive; so would any in the frame of this function. */
static NOINLINE bool collect_here(enum collector_reason reason, bool (*stop)(void *argument), void *argument) {
  struct request request = {.reason = reason, .stop = stop, .argument = argument};
  os_call_with_registers(collect, &request);
  return !request.given_up;
}

static bool runs_beside(struct mutator *self, enum collector_reason reason) {
  bool waits = reason == COLLECT_FORCED || reason == COLLECT_OUT_OF_MEMORY;
  size_t bytes = expected_marked_bytes();
  return waits ? cycle_runs_beside_who_waits(bytes, self) : cycle_runs_beside(bytes);
}

bool collector_collect(enum collector_reason reason, bool (*stop)(void *argument), void *argument) {
  struct mutator *self = mutator_self();
  if (self->critical != 0 || collector_is_mine(self)) return true;
  if (reason == COLLECT_HEAP && collector_is_disabled()) return true; /* it stays due: each allocation comes by here */
  if (reason == COLLECT_FORCED) let_others_run(self);
  if (stop == NULL && runs_beside(self, reason) && driver_request(self, reason)) return true;
  return collect_here(reason, stop, argument);
}

bool collector_collect_idle(uint32_t *request) {
  if (cycle_runs_beside(expected_marked_bytes()) && driver_ask_idle(request)) return false;
  collector_collect(COLLECT_IDLE, NULL, NULL);
  return true;
}

uint64_t collector_count(void) { return atomic_load_relaxed(&collector.totals.collections); }

size_t collector_lived_bytes(void) { return atomic_load_relaxed(&collector.totals.lived_bytes); }

size_t collector_new_bytes(void) {
  size_t live_bytes = atomic_load_relaxed(&account_live_bytes), lived_bytes = collector_lived_bytes();
  return live_bytes > lived_bytes ? live_bytes - lived_bytes : 0;
}

bool collector_await_end(struct mutator *self) {
  return self->critical == 0 && !collector_is_mine(self) && driver_await_end(self);
}

uint64_t collector_worked_until_ns(uint64_t now_ns) {
  return atomic_load_relaxed(&collector.owner) != 0 ? now_ns : atomic_load_relaxed(&collector.ended_ns);
}

/* ---- the rest ---- */

static struct lock hooks_lock = LOCK_INIT(LOCK_RANK_LEAF);

void collector_lock_hooks(struct mutator *self) {
  mutator_enter(self);
  lock_acquire(&hooks_lock);
}

void collector_unlock_hooks(struct mutator *self) {
  lock_release(&hooks_lock);
  mutator_leave(self);
}

struct collector_hooks collector_read_hooks(void) {
  struct mutator *self = mutator_self();
  collector_lock_hooks(self);
  struct collector_hooks hooks = collector_hooks;
  collector_unlock_hooks(self);
  return hooks;
}

/* Which may leave for good what this thread was at. */
void collector_notify_finalizers(void) {
  if (atomic_load_acquire(&collector_hooks.finalizers_ready) == NULL || calls_count() == 0) return;
  mutator_self()->is_starving = false;
  struct collector_hooks hooks = collector_read_hooks();
  if (hooks.finalizers_ready != NULL) hooks.finalizers_ready(hooks.finalizers_argument);
}

static void set_goal(size_t goal_bytes, size_t live_bytes) {
  cycle_set_goal(goal_bytes, collector.concurrent ? assist_trigger(goal_bytes, live_bytes) : goal_bytes);
}

/* Barrier mode remembers by its stores which old objects may refer to young ones, and dirty-page mode by their pages. */
static void init_generations(enum midden_generations choice) {
  bool are_wanted = collector.concurrent && choice != MIDDEN_GENERATIONS_OFF;
  sticky_marks = are_wanted && (collector.dirty || arena_add_young_tables(&heap_arena));
  collector.generation.choice = sticky_marks ? choice : MIDDEN_GENERATIONS_OFF;
  if (!sticky_marks || collector.dirty) return;
  sticky_forgets_born = true;
  cards_init(&heap_arena);
  barrier_remember();
}

void collector_init(const struct pacer *pacer, unsigned markers, enum midden_mode mode,
                    enum midden_generations generations, uint64_t brief_stop_ns) {
  collector.pacer = *pacer;
  collector.markers = markers;
  collector.start_ns = os_now_ns();
  collector.dirty = mode == MIDDEN_MODE_DIRTY;
  collector.concurrent = collector.dirty || mode == MIDDEN_MODE_BARRIER;
  if (collector.concurrent) concurrent_init();
  init_generations(generations);
  brief_init(&collector.brief, brief_stop_ns);
  cycle_expect_stops();
  if (collector.dirty) dirty_init();
  settle_init();
  stacks_init();
  stacks_init_kind();
  set_goal(pacer_first_goal(pacer), 0);
  pageheap_set_limit(&heap_pages, pacer->memory_limit_bytes);
  limiter_init(&collector.limiter, os_process_cpu_ns());
}

bool collector_await(struct mutator *self) {
  if (!collector.concurrent || self->critical != 0 || collector_is_mine(self)) return false;
  collector_acquire(self);
  collector_release();
  return true;
}

void collector_disable(void) { atomic_add_relaxed(&collector.disabled, 1u); }

void collector_enable(void) {
  uint32_t count = atomic_load_relaxed(&collector.disabled);
  while (count != 0 && !atomic_cas_relaxed(&collector.disabled, &count, count - 1)) {
  }
}

bool collector_is_disabled(void) { return atomic_load_relaxed(&collector.disabled) != 0; }

enum midden_mode collector_mode(void) {
  if (collector.dirty) return dirty_is_possible() ? MIDDEN_MODE_DIRTY : MIDDEN_MODE_STW;
  return collector.concurrent ? MIDDEN_MODE_BARRIER : MIDDEN_MODE_STW;
}

uint64_t collector_start_ns(void) { return collector.start_ns; }

/* Runs `change` with the lock held, which this thread may hold already. */
static void configure_locked(struct mutator *self, void (*change)(struct pacer *pacer, void *argument),
                             void *argument) {
  change(&collector.pacer, argument);
  bool first = collector.totals.collections == 0;
  size_t marked = collector.totals.marked_bytes;
  set_goal(first ? pacer_first_goal(&collector.pacer) : pacer_goal(&collector.pacer, marked, &collector.footprint),
           marked);
  generation_revise(&collector.generation,
                    pacer_goal(&collector.pacer, collector.generation.full_bytes, &collector.footprint));
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
  return atomic_exchange_acq_rel(&collector.markers, (unsigned)min_size(max_size(markers, 1), MARKERS_MAX));
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
      .minor_collections = atomic_load_relaxed(&from->minor_collections),
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
  ahead_forked();
  driver_forget();
  handover_forget();
  scavenger_forget(&heap_scavenger);
  idle_forget();
  dirty_forked();
  written_forked();
  collector.owner = os_thread_id();
}
