/* Handing over, on forced schedules: who takes a step, on whose account it runs, and what becomes of one that nobody takes.
 *
 * A thread of this test stands in for the driver: it is the library's own, holds the collector lock, and offers when told. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "gc/collector.h"
#include "gc/cycle.h"
#include "gc/dirty.h"
#include "gc/driver.h"
#include "gc/handover.h"
#include "os/os.h"
#include "support/heap_test.h"

enum { SHORT_NS = 3000000, PATIENT_MS = 20 };
static const uint64_t long_ns = UINT64_C(20000000000);

static struct {
  pthread_t thread;
  uint64_t wait_ns;
  bool holds;     /* atomic; the lock */
  bool may_offer; /* atomic */
  bool taken;
  uint64_t ns; /* that the offer took */
  unsigned runs_seen;
  bool is_over; /* atomic */
} driver;

static struct {
  struct mutator *taker; /* who ran it; NULL: nobody */
  unsigned runs;
  long takes_ms;
  bool owned; /* the lock counted as the taker's */
  bool cancellable;
  bool framed; /* the stack pointer lay on its stack */
} step;

static void wait_for(const bool *flag) {
  while (!atomic_load_acquire(flag)) test_sleep_ms(1);
}

static bool is_cancellable(void) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  pthread_setcancelstate(state, NULL);
  return state == PTHREAD_CANCEL_ENABLE;
}

static void run_step(struct mutator *self, uintptr_t stack_pointer, void *argument) {
  REQUIRE(argument == &step, "the step has another's argument");
  REQUIRE(atomic_load_acquire(&handover_state) == HANDOVER_TAKEN, "it runs in state %u", handover_state);
  step.taker = self;
  step.cancellable = is_cancellable();
  test_sleep_ms(step.takes_ms);
  step.runs++;
  step.owned = collector_is_mine(self) && self == mutator_self();
  step.framed = stack_pointer > (uintptr_t)__builtin_frame_address(0) && stack_pointer < self->stack_base;
}

static void *drive(void *unused) {
  (void)unused;
  REQUIRE(mutator_attach_own() == 0, "mutator_attach_own");
  struct mutator *self = mutator_self();
  collector_acquire(self);
  atomic_store_release(&driver.holds, true);
  mutator_enter_safe(self, self->stack_base);
  wait_for(&driver.may_offer);
  mutator_leave_safe(self);
  uint64_t start_ns = os_now_ns();
  driver.taken = handover_offer(self, run_step, &step, driver.wait_ns);
  driver.ns = os_now_ns() - start_ns;
  driver.runs_seen = step.runs;
  REQUIRE(collector_is_mine(self), "the lock was not given back to the driver");
  collector_release();
  atomic_store_release(&driver.is_over, true);
  return NULL;
}

/* The driver holds the lock; it offers for so long as soon as it may. */
static void begin(uint64_t wait_ns) {
  memset(&step, 0, sizeof step);
  memset(&driver, 0, sizeof driver);
  driver.wait_ns = wait_ns;
  REQUIRE(pthread_create(&driver.thread, NULL, drive, NULL) == 0, "pthread_create");
  wait_for(&driver.holds);
}

static void offer(void) {
  atomic_store_release(&driver.may_offer, true);
  while (!handover_is_offered()) test_sleep_ms(1);
}

/* Blocking: this thread takes nothing meanwhile. */
static void *join(void *unused) {
  pthread_join(driver.thread, NULL);
  return unused;
}

static void end(bool taken) {
  midden_blocking_call(join, NULL);
  REQUIRE(driver.taken == taken && step.runs == taken, "taken: %d, run %u times", (int)driver.taken, step.runs);
  REQUIRE(driver.runs_seen == step.runs, "the driver went on before the step was over");
  REQUIRE(atomic_load_acquire(&handover_state) == HANDOVER_NONE, "state %u is left", handover_state);
  REQUIRE(!step.cancellable && is_cancellable(), "a thread may be cancelled in the step, or no more after it");
  REQUIRE(!taken || (step.owned && step.framed), "it ran with owner %d, stack pointer %d", step.owned, step.framed);
}

static void nobody_comes(void **state) {
  (void)state;
  begin(SHORT_NS);
  atomic_store_release(&driver.may_offer, true);
  end(false);
  REQUIRE(driver.ns >= SHORT_NS, "it waited %llu ns", (unsigned long long)driver.ns);
}

static void one_that_allocates_takes_it(void **state) {
  (void)state;
  begin(long_ns);
  offer();
  for (size_t i = 0; i < 1000000 && step.runs == 0; i++) REQUIRE(midden_alloc(1000) != NULL, "out of memory");
  REQUIRE(step.taker == mutator_self(), "it was not taken");
  end(true);
}

/* The driver's patience is for the beginning.  On a busy machine it may be over before that. */
static void one_may_take_long(void **state) {
  (void)state;
  bool taken = false;
  while (!taken) {
    begin(SHORT_NS);
    step.takes_ms = 3 * SHORT_NS / 1000000;
    atomic_store_release(&driver.may_offer, true);
    while (!handover_is_offered() && !atomic_load_acquire(&driver.is_over)) atomic_pause();
    handover_take(mutator_self());
    taken = step.runs != 0;
    end(taken);
  }
}

/* Single objects may be allocated with a lock of the program's held. */
static void one_that_allocates_a_batch_takes_it_first(void **state) {
  (void)state;
  void *list;
  begin(long_ns);
  atomic_store_release(&handover_is_for_batches, true);
  offer();
  for (size_t i = 0; i < 200; i++) REQUIRE(midden_alloc(1000) != NULL, "out of memory");
  REQUIRE(step.runs == 0, "taken by a thread that allocates single objects");
  REQUIRE(midden_alloc_many(MIDDEN_CONSERVATIVE, 64, &list) != 0, "out of memory");
  REQUIRE(step.taker == mutator_self(), "it was not taken");
  atomic_store_release(&handover_is_for_batches, false);
  end(true);
}

static void nobody_takes_it_in_a_critical_section(void **state) {
  (void)state;
  struct mutator *self = mutator_self();
  begin(long_ns);
  offer();
  mutator_enter(self);
  handover_take(self);
  REQUIRE(step.runs == 0 && handover_is_offered(), "taken in a critical section");
  mutator_leave(self);
  handover_take(self);
  end(true);
}

static uint32_t waits; /* atomic */

static void *do_nothing(void *argument) { return argument; }

static void lock(void) { midden_set_percent(100); }
static void borrow(void) { midden_locked_call(do_nothing, NULL); }

static void *wait_for_lock(void *argument) {
  void (*const *get)(void) = argument;
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  atomic_store_release(&waits, 1u);
  (*get)();
  atomic_store_release(&waits, 2u);
  return NULL;
}

/* It waits for the lock before the offer, and has it afterwards. */
static void one_that_waits_takes_it(void (*get)(void)) {
  pthread_t thread;
  begin(long_ns);
  atomic_store_release(&waits, 0u);
  REQUIRE(pthread_create(&thread, NULL, wait_for_lock, &get) == 0, "pthread_create");
  while (atomic_load_acquire(&waits) != 1) test_sleep_ms(1);
  test_sleep_ms(PATIENT_MS);
  REQUIRE(atomic_load_acquire(&waits) == 1, "it has the lock that the driver holds");
  atomic_store_release(&driver.may_offer, true);
  end(true);
  pthread_join(thread, NULL);
  REQUIRE(step.taker != mutator_self() && waits == 2, "another has taken it");
  REQUIRE(atomic_exchange_acq_rel(&handover_is_untold, false), "nobody is to be told of its finalizers");
}

static void one_that_waits_for_the_lock_takes_it(void **state) {
  (void)state;
  one_that_waits_takes_it(lock);
}

static void one_that_waits_for_a_loan_takes_it(void **state) {
  (void)state;
  one_that_waits_takes_it(borrow);
}

static int go_on(void *unused) {
  (void)unused;
  if (atomic_load_acquire(&handover_state) != HANDOVER_NONE) return 1;
  if (!TEST_CHILD_MAY_COLLECT) return 0;
  uint64_t before = test_stats().collections;
  midden_collect();
  return test_stats().collections > before ? 0 : 2;
}

/* Who forks takes it first, and has the lock when the driver is done. */
static void one_that_forks_takes_it(void **state) {
  (void)state;
  begin(long_ns);
  offer();
  test_child_succeeds("fork", go_on, NULL, 20);
  end(true);
}

/* ---- telling of finalizers ---- */

static unsigned told;

static void note_told(void *unused) {
  (void)unused;
  told++;
}

static void do_not(void *object, void *argument) { (void)object, (void)argument; }

NOINLINE_TEST static void make_garbage(void) {
  for (int i = 0; i < 10; i++)
    REQUIRE(midden_finalizer_set(midden_alloc(32), do_not, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL) == 0,
            "no memory");
}

static void *tell(void *unused) {
  handover_tell(mutator_self());
  return unused;
}

/* Who allocates is told at once; by who waited for a lock the next one that allocates, and holds none. */
static void the_program_is_told_of_finalizers(void **state) {
  (void)state;
  make_garbage();
  test_collect_clean();
  REQUIRE(midden_finalizers_ready(), "no finalizer is ready");
  midden_set_finalizer_notify(note_told, NULL);
  begin(long_ns);
  offer();
  handover_take(mutator_self());
  end(true);
  assert_int_equal(told, 1);
  atomic_store_release(&handover_is_untold, true);
  midden_locked_call(tell, NULL);
  mutator_enter(mutator_self());
  tell(NULL);
  mutator_leave(mutator_self());
  assert_int_equal(told, 1);
  tell(NULL);
  tell(NULL);
  assert_int_equal(told, 2);
  midden_set_finalizer_notify(NULL, NULL);
  midden_finalizers_run(SIZE_MAX);
}

static int is_left_to_batches(void *unused) {
  (void)unused;
  return atomic_load_relaxed(&handover_is_for_batches);
}

/* Who allocates single objects would take none there. */
static void a_forks_child_is_not_left_to_batches(void **state) {
  (void)state;
  atomic_store_release(&handover_is_for_batches, true);
  test_child_succeeds("fork", is_left_to_batches, NULL, 20);
  atomic_store_release(&handover_is_for_batches, false);
}

static uint32_t events; /* atomic */

static void hear(enum midden_event event, void *argument) {
  (void)event, (void)argument;
  atomic_add_relaxed(&events, 1u);
}

/* The program sleeps, and the library's thread that asks for an idle collection may not end it. */
static void a_cycle_that_nobody_ends_is_given_up(void **state) {
  (void)state;
  midden_collect();
  midden_set_event_callback(hear, NULL);
  for (size_t i = 0; i < 20000; i++) REQUIRE(midden_alloc(100) != NULL, "out of memory");
  uint64_t before = test_stats().collections;
  uint64_t cpu_before_ns = os_process_cpu_ns();
  atomic_store_relaxed(&events, 0u);
  test_sleep_ms(2000);
  REQUIRE(os_process_cpu_ns() - cpu_before_ns < 500000000, "somebody waits without sleeping");
  REQUIRE(test_stats().collections == before && atomic_load_relaxed(&events) == 0, "somebody has ended it");
  midden_collect();
  REQUIRE(test_stats().collections > before && atomic_load_relaxed(&events) != 0, "no collection after it");
  midden_set_event_callback(NULL, NULL);
}

enum { BURNT_NS = 30000000 };

static void burn(enum midden_event event, void *argument) {
  (void)argument;
  if (event != MIDDEN_EVENT_STOPPED) return;
  for (uint64_t start_ns = os_thread_cpu_ns(); os_thread_cpu_ns() - start_ns < BURNT_NS;) atomic_pause();
}

/* What a cycle costs is compared, and limited. */
static void the_time_of_who_takes_it_counts(void **state) {
  (void)state;
  if (test_stats().mode != MIDDEN_MODE_DIRTY) skip();
  void *volatile large =
      midden_alloc(4 << 20); /* so that cycles run beside the program, when it has been marked once */
  midden_collect();
  if (!dirty_is_possible()) skip(); /* nor is any compared */
  midden_set_event_callback(burn, NULL);
  midden_collect();
  double full_ns = collector.generation.full_ns; /* before an idle cycle without the callback, which is quicker */
  midden_set_event_callback(NULL, NULL);
  REQUIRE(large != NULL && full_ns >= BURNT_NS, "the cycle took %.0f ns", full_ns);
}

/* ---- finalizers that do not return ---- */

static jmp_buf out;

static void leave(void *unused) {
  (void)unused;
  longjmp(out, 1);
}

static void no_finalizer(void *object, void *argument) { (void)object, (void)argument; }

NOINLINE_TEST static void make_garbage_with_finalizers(void) {
  for (int i = 0; i < 100; i++)
    midden_finalizer_set(midden_alloc(64), no_finalizer, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL);
}

NOINLINE_TEST static bool collect_and_leave(void) {
  if (setjmp(out) != 0) return true;
  test_collect_clean();
  return false;
}

/* Or all cycles from then on would be in a hurry. */
static void who_leaves_by_a_finalizer_waits_no_more(void **state) {
  (void)state;
  void *volatile large = midden_alloc(4 << 20); /* so that cycles run beside the program */
  midden_set_event_callback(hear, NULL);
  midden_set_finalizer_notify(leave, NULL);
  make_garbage_with_finalizers();
  REQUIRE(collect_and_leave(), "no finalizers are ready");
  REQUIRE(!driver_is_urgent(), "it counts as waiting for a collection");
  midden_set_finalizer_notify(NULL, NULL);
  midden_finalizers_run(SIZE_MAX);
  midden_set_event_callback(NULL, NULL);
  REQUIRE(large != NULL, "out of memory");
}

int main(void) {
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_DIRTY, .idle_collect_ms = 100, .brief_stop_us = -1};
  REQUIRE(midden_init(&options) == 0, "no start");
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  alarm(100); /* a hang is a failure too */
  const struct CMUnitTest tests[] = {cmocka_unit_test(nobody_comes),
                                     cmocka_unit_test(one_that_allocates_takes_it),
                                     cmocka_unit_test(one_that_allocates_a_batch_takes_it_first),
                                     cmocka_unit_test(nobody_takes_it_in_a_critical_section),
                                     cmocka_unit_test(one_that_waits_for_the_lock_takes_it),
                                     cmocka_unit_test(one_that_waits_for_a_loan_takes_it),
                                     cmocka_unit_test(one_may_take_long),
                                     cmocka_unit_test(the_program_is_told_of_finalizers),
                                     cmocka_unit_test(one_that_forks_takes_it),
                                     cmocka_unit_test(a_forks_child_is_not_left_to_batches),
                                     cmocka_unit_test(a_cycle_that_nobody_ends_is_given_up),
                                     cmocka_unit_test(the_time_of_who_takes_it_counts),
                                     cmocka_unit_test(who_leaves_by_a_finalizer_waits_no_more)};
  return test_run_group(tests);
}
