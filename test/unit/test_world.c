/* A thread on its way out of midden_locked_call is not stopped there.
 *
 * Programs rely on it that store after the call what makes their data whole again for their trace functions; Guile's VM
 * stacks were read where they no longer were, and the pages between given back to the system with what else lay there.
 *
 * The schedule is forced: the linker puts a step of this file (--wrap, see cmake/tests.cmake) behind the release of the
 * collector's lock.  There the thread stands still until somebody who waited for the lock stops the world, and sends itself
 * the signal to stop, which is handled before the sending returns.
 *
 * Nor is it stopped where it has just returned to, if it lost its processor there for a moment; which a second test looks for by
 * many tries.  But a thread that stays there for good is stopped.
 *
 * And one that was safe, and goes on just as a stop begins, is held up: another step of this file lies between its look at the epoch and
 * what it does next. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "gc/collector.h"
#include "mutator/world.h"
#include "support/heap_test.h"

static bool is_forced;         /* atomic; the step behind the release */
static bool is_caller_inside;  /* atomic; inside the locked call, or past it */
static bool is_caller_leaving; /* atomic; on its way out */
static bool has_caller_left;   /* atomic */
static bool done;              /* atomic; the caller may end */
static unsigned signals_sent;  /* by the caller, on its way out */
static unsigned stops;         /* by the world's stopping thread */
static unsigned stops_of_leaving;

static void count_stop(struct midden_tracer *tracer, void *unused) {
  (void)tracer;
  (void)unused;
  stops++;
  if (atomic_load_seq_cst(&is_caller_leaving)) stops_of_leaving++;
}

static void ask_to_stop(void) {
  raise(midden_suspend_signal());
  signals_sent++;
}

/* The names are the linker's. */
void __real_collector_release(void);
void __wrap_collector_release(void);

void __wrap_collector_release(void) {
  bool forced = atomic_load_seq_cst(&is_forced);
  if (forced) atomic_store_seq_cst(&is_caller_leaving, true);
  __real_collector_release();
  if (!forced) return;
  while (!world_is_stopped()) test_sleep_ms(1);
  for (int i = 0; i < 5; i++) ask_to_stop();
  atomic_store_seq_cst(&is_caller_leaving, false);
}

static void *come_inside(void *unused) {
  (void)unused;
  atomic_store_seq_cst(&is_caller_inside, true);
  return NULL;
}

/* Nothing after the call lets itself be stopped but by the signal. */
static void *call_locked(void *unused) {
  (void)unused;
  midden_locked_call(come_inside, NULL);
  atomic_store_seq_cst(&has_caller_left, true);
  while (!atomic_load_seq_cst(&done)) atomic_pause();
  return NULL;
}

static void stop_waits_for_return(void **state) {
  (void)state;
  pthread_t caller;
  atomic_store_seq_cst(&is_forced, true);
  midden_set_root_callback(count_stop, NULL);
  REQUIRE(pthread_create(&caller, NULL, call_locked, NULL) == 0, "no thread");
  while (!atomic_load_seq_cst(&is_caller_inside)) test_sleep_ms(1);
  midden_collect();
  assert_true(stops > 0);
  assert_int_equal(signals_sent, 5);
  assert_int_equal(stops_of_leaving, 0);

  /* Out of the call it is stopped like any other: this ends. */
  while (!atomic_load_seq_cst(&has_caller_left)) test_sleep_ms(1);
  midden_collect();
  atomic_store_seq_cst(&done, true);
  pthread_join(caller, NULL);
  atomic_store_seq_cst(&is_forced, false);
}

/* ---- what follows the return ---- */

enum { TRIES = 10000, STEPS = 500, ELSEWHERE_PAUSES = 100, ELSEWHERE_BYTES = 1024 };

static size_t moved;    /* atomic; inside the call */
static size_t followed; /* atomic; at once thereafter */
static unsigned stops_between;

static void look_between(struct midden_tracer *tracer, void *unused) {
  (void)tracer;
  (void)unused;
  stops++;
  if (atomic_load_seq_cst(&moved) != atomic_load_seq_cst(&followed)) stops_between++;
}

static void *move(void *unused) {
  (void)unused;
  atomic_add_acq_rel(&moved, (size_t)1);
  return NULL;
}

/* Deeper than where the call returned to. */
static NOINLINE void be_elsewhere(void) {
  volatile char deep[ELSEWHERE_BYTES];
  deep[0] = 0;
  for (int i = 0; i < ELSEWHERE_PAUSES; i++) {
    atomic_pause();
    deep[0]++;
  }
}

static void *move_and_follow(void *unused) {
  (void)unused;
  while (!atomic_load_seq_cst(&done)) {
    midden_locked_call(move, NULL);
    for (volatile int i = 0; i < STEPS; i++) continue; /* a store takes less, but there are only so many tries */
    atomic_add_acq_rel(&followed, (size_t)1);
    be_elsewhere();
  }
  return NULL;
}

static void collect_beside_follower(void) {
  pthread_t mover;
  atomic_store_seq_cst(&done, false);
  midden_set_root_callback(look_between, NULL);
  stops = stops_between = 0;
  REQUIRE(pthread_create(&mover, NULL, move_and_follow, NULL) == 0, "no thread");
  while (atomic_load_seq_cst(&followed) == 0) test_sleep_ms(1);
  for (int i = 0; i < TRIES; i++) midden_collect();
  atomic_store_seq_cst(&done, true);
  pthread_join(mover, NULL);
  assert_true(stops >= TRIES);
}

/* A thread that loses its processor again and again is stopped in the end, wherever it is: on a busy machine that may happen. */
static void stop_waits_for_what_follows(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    collect_beside_follower();
    if (stops_between == 0) return;
  }
  fail_msg("%zu of %zu stops were between", (size_t)stops_between, (size_t)stops);
}

/* ---- a stop that begins as a thread goes on ---- */

static struct mutator *going_on; /* atomic; the thread that has seen that nothing is stopped */
static bool is_stopped, has_gone_on, was_running;

void __real_world_wait_resumed(void);
void __wrap_world_wait_resumed(void);

void __wrap_world_wait_resumed(void) {
  __real_world_wait_resumed();
  if (atomic_load_acquire(&going_on) != mutator_self()) return;
  atomic_store_release(&going_on, (struct mutator *)NULL);
  while (!atomic_load_acquire(&is_stopped)) atomic_pause();
}

static void *stop_for_a_while(void *mutator) {
  while (atomic_load_acquire(&going_on) != NULL) atomic_pause();
  midden_world_stop(); /* it is safe still */
  atomic_store_release(&is_stopped, true);
  test_sleep_ms(50);
  was_running =
      atomic_load_acquire(&((struct mutator *)mutator)->state) == MUTATOR_RUNNING || atomic_load_acquire(&has_gone_on);
  midden_world_resume();
  return mutator;
}

static void who_goes_on_looks_once_more(void **state) {
  (void)state;
  pthread_t stopper;
  struct mutator *self = mutator_self();
  midden_blocking_enter();
  atomic_store_release(&going_on, self);
  REQUIRE(pthread_create(&stopper, NULL, stop_for_a_while, self) == 0, "no thread");
  midden_blocking_leave();
  atomic_store_release(&has_gone_on, true);
  pthread_join(stopper, NULL);
  assert_true(is_stopped);
  assert_false(was_running);
}

/* ---- a stop that is under way ---- */

static void *stop_and_resume(void *unused) {
  midden_world_stop();
  midden_world_resume();
  return unused;
}

/* This thread is not stopped yet, and no callback. */
static void base_is_told_by_who_stops(void **state) {
  (void)state;
  pthread_t stopper;
  struct mutator *self = midden_thread_self();
  void *base = midden_thread_stack_base();
  mutator_enter(self);
  REQUIRE(pthread_create(&stopper, NULL, stop_and_resume, NULL) == 0, "no thread");
  while (!world_is_stopped()) atomic_pause();
  int result = midden_thread_set_stack_base_of(self, base);
  mutator_leave(self);
  pthread_join(stopper, NULL);
  assert_int_equal(result, -EPERM);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(stop_waits_for_return), cmocka_unit_test(stop_waits_for_what_follows),
      cmocka_unit_test(who_goes_on_looks_once_more), cmocka_unit_test(base_is_told_by_who_stops)};
  return test_run_group(tests);
}
