#include "gc/concurrent.h"

#include <errno.h>

#include "alloc/account.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/memcheck.h"
#include "gc/assist.h"
#include "gc/calls.h"
#include "gc/deferred.h"
#include "gc/ledger.h"
#include "gc/remembered.h"
#include "gc/rootset.h"
#include "gc/settle.h"
#include "gc/slowing.h"
#include "gc/special.h"
#include "gc/stacks.h"
#include "gc/work.h"
#include "meta/fixalloc.h"
#include "mutator/barrier.h"
#include "mutator/fiber.h"
#include "mutator/handshake.h"
#include "mutator/roots.h"
#include "page/pageheap.h"
#include "span/cards.h"
#include "span/mark_bits.h"
#include "span/sticky.h"

enum { VALUES_MANY = 1024, VALUES_ROUNDS = 4 }; /* each visits all specials */

static NOT_A_ROOT struct {
  uint32_t cycle;          /* written with the gate closed */
  uint64_t news;           /* atomic; see the header */
  struct lock lock;        /* of the next one */
  struct tally added_up;   /* marked by threads in this cycle, and not kept by their tracers any more */
  size_t live_bytes_begun; /* the account when the cycle began; or, where young objects were white, its stop */
} concurrent = {.lock = LOCK_INIT(LOCK_RANK_LEAF)};

static struct fixalloc tracers; /* under the lock of the list of mutators */

/* ---- phases, as threads see them ----
 *
 * A mark phase with the world stopped is never seen: no thread is in a critical section then. */

bool concurrent_is_marking(void) {
  uint32_t phase = atomic_load_acquire(&collector.phase);
  return phase >= COLLECTOR_ARM && phase <= COLLECTOR_MARK;
}

bool concurrent_is_settling(void) { return atomic_load_acquire(&collector.phase) == COLLECTOR_MARK_TERMINATION; }

/* ---- what threads mark ---- */

/* What it counted in an earlier cycle was added up when that ended. */
struct midden_tracer *concurrent_tracer(struct mutator *self) {
  struct midden_tracer *tracer = self->tracer;
  if (tracer->cycle != concurrent.cycle) {
    ASSERT(tracer->buffer == NULL);
    mark_begin(tracer, MARK_CONCURRENT);
    tracer->cycle = concurrent.cycle;
    tracer->has_paid = false;
  }
  tracer->is_added_up = false;
  return tracer;
}

/* What holds no pointers is news only where it may be the key of an ephemeron, or have a cleanup. */
void concurrent_publish(struct midden_tracer *tracer) { concurrent_publish_worked(tracer, false); }

void concurrent_publish_worked(struct midden_tracer *tracer, bool scanned) {
  bool news = mark_publish(tracer) || scanned;
  if (settle_may_have_values()) {
    uint64_t count = mark_count(tracer);
    news = news || count != tracer->counted;
    tracer->counted = count;
  }
  if (news) atomic_add_acq_rel(&concurrent.news, UINT64_C(1));
}

/* Most threads mark what their stacks name, and nothing else: the end of a cycle passes them over. */
static void add_up(struct midden_tracer *tracer) {
  lock_acquire(&concurrent.lock);
  tally_add(&concurrent.added_up, &tracer->marked);
  lock_release(&concurrent.lock);
  tracer->marked = (struct tally){0};
  tracer->counted = 0;
  tracer->is_added_up = true;
}

void concurrent_mark(struct mutator *self, uintptr_t address) {
  struct midden_tracer *tracer = concurrent_tracer(self);
  mark_address(tracer, address);
  concurrent_publish(tracer);
}

bool concurrent_marks_added(void) { return concurrent_is_marking() && !collector.dirty; }

void concurrent_mark_added(struct mutator *self, struct os_range range) {
  if (!concurrent_marks_added()) return;
  struct midden_tracer *tracer = concurrent_tracer(self);
  memcheck_quiet_begin();
  roots_visit_added_in(range, mark_static, tracer);
  memcheck_quiet_end();
  concurrent_publish(tracer);
}

/* After MARK all that is recorded is marked, or garbage. */
static void flush_words(struct mutator *mutator, const uintptr_t *words, uint32_t count) {
  if (!concurrent_is_marking()) return;
  struct midden_tracer *tracer = concurrent_tracer(mutator);
  for (uint32_t i = 0; i < count; i++) mark_address(tracer, words[i]);
  concurrent_publish(tracer);
}

/* In this cycle; while young objects are white (struct cycle) never: then stacks may be scanned again. */
static bool is_scanned(const struct mutator *mutator) { return cache_is_black(&mutator->cache); }

static void blacken(struct mutator *mutator) {
  ledger_note_black(&mutator->cache);
  cache_account(&mutator->cache);
  cache_blacken(&mutator->cache, &concurrent_tracer(mutator)->marked);
}

static void scan(struct mutator *mutator) {
  struct midden_tracer *tracer = concurrent_tracer(mutator);
  bool first = !is_scanned(mutator);
  if (first && atomic_load_relaxed(&cache_black_cycle) != 0) blacken(mutator);
  /* Without a barrier it is scanned again when the world is stopped, and a thread may be anywhere between two stacks now.
   * After MARK all that a thread can have is marked. */
  if (concurrent_is_marking() && (!collector.dirty || mutator_is_on_known_stack(mutator))) {
    memcheck_quiet_begin();
    rootset_mark_thread(mutator, first && collector_phase() == COLLECTOR_SCAN, tracer); /* modules may change later */
    memcheck_quiet_end();
  }
  concurrent_publish(tracer);
  add_up(tracer);
}

/* ---- stacks that change hands ---- */

static bool note_scanned(uint32_t *scanned_cycle) {
  return atomic_exchange_acq_rel(scanned_cycle, concurrent.cycle) != concurrent.cycle;
}

/* A thread that was scanned runs on nothing that was not.  What it leaves is as good as scanned with it.  In dirty-page mode
 * nothing depends on that, but what the stacks refer to need not be marked in the stop. */
static void switching(struct mutator *self, struct midden_fiber *to, struct midden_stack *registered,
                      uintptr_t stack_pointer) {
  uint32_t phase = atomic_load_acquire(&collector.phase);
  if (phase != COLLECTOR_SCAN && phase != COLLECTOR_MARK) return;
  if (!collector.dirty && !is_scanned(self)) {
    mutator_note_stack(self, stack_pointer);
    scan(self);
  }
  if (self->fiber != NULL) atomic_store_release(&self->fiber->scanned_cycle, concurrent.cycle);
  if (self->foreign != NULL) atomic_store_release(&self->foreign->scanned_cycle, concurrent.cycle);
  struct midden_tracer *tracer = concurrent_tracer(self);
  if (to != NULL && note_scanned(&to->scanned_cycle)) stacks_mark_fiber(to, tracer);
  if (registered != NULL && note_scanned(&registered->scanned_cycle)) stacks_mark_parked(registered, tracer);
  concurrent_publish(tracer);
}

/* ---- what handshakes do ---- */

/* That the thread was outside of stores is what counts: see ARM in docs/barrier-mode.md. */
static void answer_arm(struct mutator *mutator) { (void)mutator; }

static bool arm_is_needless(const struct mutator *mutator) {
  (void)mutator;
  return true;
}

static void count_own_delay(const struct mutator *mutator, uint64_t start_ns) {
  if (mutator == mutator_self_if_attached()) cycle_count_pause(os_now_ns() - start_ns);
}

static void answer_scan(struct mutator *mutator) {
  uint64_t start_ns = os_now_ns();
  if (!is_scanned(mutator)) scan(mutator);
  count_own_delay(mutator, start_ns);
}

/* A store is never answered in the middle, so that all it has to tell is in the buffer. */
static void answer_flush(struct mutator *mutator) {
  uint64_t start_ns = os_now_ns();
  barrier_flush(mutator);
  if (!is_scanned(mutator)) scan(mutator);
  count_own_delay(mutator, start_ns);
}

static bool flush_is_needless(const struct mutator *mutator) {
  return is_scanned(mutator) && barrier_is_flushed(mutator);
}

/* ---- threads come and go ---- */

static int attach(struct mutator *self) {
  lock_acquire(&mutator_list_lock);
  self->tracer = fixalloc_alloc(&tracers);
  lock_release(&mutator_list_lock);
  return self->tracer != NULL ? 0 : -ENOMEM;
}

static bool is_scan_called_for(void) {
  uint32_t phase = atomic_load_acquire(&collector.phase);
  return cache_black_cycle != 0 && phase >= COLLECTOR_SCAN;
}

/* Black from its first allocation on: nothing of its own can be found half filled. */
static void attached(struct mutator *self) {
  if (is_scan_called_for()) scan(self);
}

/* What it has allocated is noted, as if it were scanned; its stack holds nothing any more. */
static void detaching(struct mutator *self) {
  if (!atomic_load_relaxed(&span_marking)) return;
  struct midden_tracer *tracer = concurrent_tracer(self);
  barrier_flush(self);
  if (self->cache.black_cycle != concurrent.cycle) {
    ledger_note_black(&self->cache);
    if (cache_black_cycle != 0) cache_blacken(&self->cache, &tracer->marked);
    atomic_store_relaxed(&self->cache.black_cycle, concurrent.cycle);
  }
  concurrent_publish(tracer);
}

/* A cycle may have begun since it detached: then nobody has noted what it had allocated. */
static void forget(struct mutator *mutator) {
  struct midden_tracer *tracer = mutator->tracer;
  if (tracer == NULL) return;
  if (atomic_load_relaxed(&span_marking) && mutator->cache.black_cycle != concurrent.cycle)
    ledger_note_black(&mutator->cache);
  if (tracer->cycle == concurrent.cycle) add_up(tracer);
  fixalloc_free(&tracers, tracer);
  mutator->tracer = NULL;
}

void concurrent_init(void) {
  fixalloc_init(&tracers, sizeof(struct midden_tracer), true, PERSIST_MARK);
  if (!collector.dirty) handshake_init();
  barrier_flusher = flush_words;
  mutator_hooks = (struct mutator_hooks){
      .attach = attach, .attached = attached, .detaching = detaching, .forget = forget, .switching = switching};
}

/* ---- transitions ---- */

/* Nobody is in a critical section from here to open_gate, and the list of mutators does not change. */
static uint64_t close_gate(struct cycle *cycle) {
  lock_acquire(&mutator_list_lock);
  uint64_t start_ns = os_now_ns();
  mutator_close_gate(cycle->self);
  return start_ns;
}

static void open_gate(struct cycle *cycle, uint64_t start_ns) {
  mutator_open_gate();
  lock_release(&mutator_list_lock);
  uint64_t gate_ns = os_now_ns() - start_ns;
  cycle->report.gate_ns = max_size(cycle->report.gate_ns, gate_ns);
}

void concurrent_forget_old(struct cycle *cycle) {
  if (!sticky_marks) return;
  uint64_t start_ns = close_gate(cycle); /* in a critical section the last spans may still be swept, and so be marked */
  open_gate(cycle, start_ns);
  cycle_clear_marks();
}

void concurrent_begin(struct cycle *cycle, bool with_barrier) {
  uint64_t start_ns = close_gate(cycle);
  if (++concurrent.cycle == 0) concurrent.cycle = 1;
  concurrent.added_up = (struct tally){0};
  concurrent.live_bytes_begun = atomic_load_relaxed(&account_live_bytes);
  account_begin_period();
  ledger_open_notes_locked();
  if (sticky_marks && !cycle->report.minor) sticky_reset();
  cycle_set_phase(COLLECTOR_ARM);
  if (with_barrier) barrier_activate(true);
  assist_begin(cycle->report.minor);
  cycle->report.threads = mutator_list.count;
  open_gate(cycle, start_ns);
}

/* The objects that are loaded are learned when every store is told of [learn-armed].  False where there was no memory. */
static bool arm(struct cycle *cycle) {
  handshake_run(cycle->self, answer_arm, arm_is_needless);
  cards_begin_epoch(!cycle->report.minor);                 /* [epoch] */
  handshake_run(cycle->self, answer_arm, arm_is_needless); /* [second-arm] */
  return roots_learn(cycle->self);
}

/* No handshake is done with the driver, whose stack holds nothing between cycles; but a notification of finalizers may have
 * allocated, and stored to thread-local storage. */
static void scan_driver(struct mutator *self) {
  mutator_enter(self);
  self->stack_pointer = self->stack_base;
  scan(self);
  mutator_leave(self);
}

void concurrent_begin_mark(struct cycle *cycle, bool scans_threads) {
  uint64_t start_ns = close_gate(cycle);
  if (!cycle->young_are_white) atomic_store_relaxed(&cache_black_cycle, concurrent.cycle);
  cycle_set_phase(COLLECTOR_SCAN);
  open_gate(cycle, start_ns);
  scan_driver(cycle->self);
  if (scans_threads) handshake_run(cycle->self, answer_scan, NULL);
  start_ns = close_gate(cycle);
  cycle_set_phase(COLLECTOR_MARK);
  sticky_let_be_born(true);
  open_gate(cycle, start_ns);
}

void concurrent_scan_threads_again(struct cycle *cycle) { handshake_run(cycle->self, answer_scan, NULL); }

void concurrent_blacken_stw(struct cycle *cycle) {
  atomic_store_relaxed(&cache_black_cycle, concurrent.cycle);
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    struct mutator *mutator = mutator_from(link);
    if (mutator->cache.black_cycle == concurrent.cycle) continue; /* about to detach */
    blacken(mutator);
    add_up(mutator->tracer);
  }
  cycle->report.live_before_ns = cycle_now_ns();
  size_t live_bytes = atomic_load_relaxed(&account_live_bytes);
  cycle->young_bytes = live_bytes - concurrent.live_bytes_begun; /* account_period */
  concurrent.live_bytes_begun = cycle->report.live_before_bytes = live_bytes;
  account_begin_period();
}

/* ---- marking ---- */

/* False where there was no memory to learn them all. */
static bool mark_roots(struct cycle *cycle) {
  struct midden_tracer *first = &collector.tracers[0];
  memcheck_quiet_begin();
  bool all = rootset_mark_running(cycle->self, first);
  settle_mark_roots_running(first);
  cycle_report_program_roots(first);
  memcheck_quiet_end();
  mark_publish(first);
  return all;
}

/* [quiet]: true if nobody made anything grey since `news` was read.  What found no place in a buffer is no news. */
static bool is_quiet(uint64_t news) {
  return atomic_load_acquire(&concurrent.news) == news && !work_is_available() && !work_has_overflowed();
}

/* True if any was marked: a thread may have reached it by a weak reference before it was scanned, and have what it referred to in its
 * buffer.  One that reached an object with a cleanup marked it in place of the cleanup's argument, and has told when each thread has
 * answered once more. */
static bool mark_arguments(struct cycle *cycle, uint64_t news) {
  bool marked = settle_mark_arguments_running(&collector.tracers[0]);
  if (!settle_has_suspects_running()) return marked;
  handshake_run(cycle->self, answer_flush, flush_is_needless);
  if (atomic_load_acquire(&concurrent.news) == news) settle_count_stuck_running();
  return marked;
}

/* What hangs on values alone may be much: it is for workers and threads that assist, not for the one marker that follows chains of
 * them to the end. */
static bool found_values(const struct cycle *cycle) {
  return cycle->report.rounds <= VALUES_ROUNDS && settle_grey_values_running(&collector.tracers[0]) >= VALUES_MANY;
}

/* One attempt to end the phase. */
static bool try_to_finish(struct cycle *cycle) {
  uint64_t news = atomic_load_acquire(&concurrent.news);
  if (found_values(cycle)) return false;
  if (!settle_mark_values_running(&collector.tracers[0])) return false;
  if (!is_quiet(news)) return false;
  handshake_run(cycle->self, answer_flush, flush_is_needless);
  if (!is_quiet(news)) return false;
  if (mark_arguments(cycle, news)) return false;
  uint64_t start_ns = close_gate(cycle);
  bool quiet = is_quiet(news);
  if (quiet) cycle_set_phase(COLLECTOR_MARK_TERMINATION);
  open_gate(cycle, start_ns);
  return quiet;
}

static bool mark_heap(struct cycle *cycle) {
  uint64_t start_ns = os_now_ns();
  cycle->report.roots_start_ns = start_ns - collector.start_ns;
  if (cycle->report.minor) remembered_scan(cycle);
  if (!mark_roots(cycle)) return false;
  cycle->report.roots_ns = os_now_ns() - start_ns;
  bool finished;
  do {
    slowing_stem_runaway(cycle->report.live_before_bytes);
    assist_drain(cycle);
    cycle->report.rounds++;
    slowing_stem_growth(); /* an attempt may take long, with nothing to assist */
    finished = try_to_finish(cycle);
    slowing_stop();
  } while (!finished);
  cycle->report.mark_ns = os_now_ns() - start_ns - cycle->report.roots_ns;
  return true;
}

/* ---- the end ---- */

static void count_threads_locked(struct tally *marked) {
  tally_add(marked, &concurrent.added_up);
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    const struct midden_tracer *tracer = mutator_from(link)->tracer;
    if (tracer == NULL || tracer->cycle != concurrent.cycle || tracer->is_added_up) continue;
    tally_add(marked, &tracer->marked);
  }
}

void concurrent_trade_sides_locked(struct cycle *cycle) {
  struct tally marked = {0};
  cycle_count_marked(cycle, &marked);
  mark_close_by_hand(&marked);
  count_threads_locked(&marked);
  sticky_add_to(&marked);
  sticky_reset();
  ledger_close_notes_locked(&marked);
  for (struct link *link = mutator_list.first; link != NULL; link = link->next)
    cache_give_spans(&mutator_from(link)->cache);
  assist_end(&cycle->report); /* it measures by the live bytes how much was allocated */
  size_t marked_bytes = tally_bytes(&marked);
  ASSERT(atomic_load_relaxed(&account_live_bytes) >= concurrent.live_bytes_begun); /* account_period */
  size_t new_bytes = atomic_load_relaxed(&account_live_bytes) - concurrent.live_bytes_begun;
  atomic_add_relaxed(&account_live_bytes, marked_bytes - concurrent.live_bytes_begun);
  cycle_finish(cycle, &marked, new_bytes);
  atomic_store_relaxed(&cache_black_cycle, 0u);
  sticky_let_be_born(false);
  cycle_set_phase(COLLECTOR_OFF);
  barrier_activate(false);
  cycle_add_to_totals(&cycle->report);
}

void concurrent_trade_sides(struct cycle *cycle) {
  uint64_t start_ns = close_gate(cycle);
  concurrent_trade_sides_locked(cycle);
  open_gate(cycle, start_ns);
}

/* Check and verify mode alone stop the world.  What was reachable when MARK ended is marked, and what is new is black. */
static void check(struct cycle *cycle) {
  if (collector_checker == NULL) return;
  bool roots_known = collector_stop_world(cycle->self);
  memcheck_quiet_begin();
  if (roots_known) cycle_check_stw(cycle);
  memcheck_quiet_end();
  collector_resume_world();
}

void concurrent_verify(struct cycle *cycle) {
  if (collector_verifier == NULL) return;
  collector_stop_world(cycle->self);
  collector_verifier();
  collector_resume_world();
}

static void settle(struct cycle *cycle) {
  uint64_t start_ns = os_now_ns();
  slowing_stem_growth(); /* there is nothing to assist */
  check(cycle);
  settle_dead_running(&(struct settle_markers){collector.tracers, cycle->report.markers, cycle_drain_alone});
  stacks_free_dead(cycle->self);
  concurrent_trade_sides(cycle);
  slowing_stop();
  cycle->report.finalizers_ready = calls_count();
  cycle->report.finish_start_ns = start_ns - collector.start_ns;
  cycle->report.finish_ns = os_now_ns() - start_ns;
}

/* ---- given up ---- */

void concurrent_take_back(void) {
  barrier_activate(false);
  mark_close_by_hand(NULL);
  atomic_store_relaxed(&cache_black_cycle, 0u);
  sticky_let_be_born(false);
  cycle_clear_marks();
  sticky_reset();
  work_forget();
  cycle_set_phase(COLLECTOR_OFF);
  assist_forget();
}

static void give_up(struct cycle *cycle) {
  cycle->given_up = true;
  uint64_t start_ns = close_gate(cycle);
  concurrent_take_back();
  open_gate(cycle, start_ns);
  slowing_stop();
  special_thaw();
  deferred_run(cycle->self);
}

/* The parent was between two slices of marking: nobody was in a critical section, all that was grey was in the pool.  Or it
 * waited for a thread to stop the world for all of the marking, and had not begun. */
void concurrent_forked(struct mutator *self) {
  if (collector_phase() == COLLECTOR_SWEEP_TERMINATION) cycle_set_phase(COLLECTOR_OFF);
  if (!atomic_load_relaxed(&span_marking)) return;
  concurrent_take_back();
  if (self->records != NULL) self->records->count = 0;
  special_thaw();
  deferred_run(self);
}

/* ---- all of it ---- */

static bool mark(struct cycle *cycle) {
  cycle->report.stop_start_ns = cycle_now_ns();
  cycle->report.minor = cards_are_kept() && cycle_may_be_minor(cycle);
  if (!cycle->report.minor) concurrent_forget_old(cycle);
  cycle_begin_marking(cycle, MARK_CONCURRENT);
  slowing_begin();
  slowing_stem_runaway(cycle->report.live_before_bytes);
  concurrent_begin(cycle, true);
  if (!arm(cycle)) return false;
  concurrent_begin_mark(cycle, true);
  cycle->report.stop_ns = cycle_now_ns() - cycle->report.stop_start_ns;
  return mark_heap(cycle);
}

void concurrent_run(struct cycle *cycle) {
  cycle_announce(MIDDEN_EVENT_MARK_START);
  if (mark(cycle)) {
    settle(cycle);
    concurrent_verify(cycle);
  } else {
    give_up(cycle);
  }
  cycle_announce(MIDDEN_EVENT_MARK_END);
  cycle->report.resume_ns = cycle_now_ns();
}
