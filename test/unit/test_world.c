/* A thread on its way out of midden_locked_call is not stopped there.
 *
 * Programs rely on it that store after the call what makes their data whole again for their trace functions; Guile's VM
 * stacks were read where they no longer were, and the pages between given back to the system with what else lay there. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "mutator/world.h"
#include "support/heap_test.h"

static bool done;          /* atomic */
static uint32_t broken;    /* atomic; the threads whose data is not whole */
static unsigned collected; /* by the world's stopping thread */
static unsigned found_broken;

static void count_broken(struct midden_tracer *tracer, void *unused) {
  (void)tracer;
  (void)unused;
  collected++;
  if (atomic_load_relaxed(&broken) != 0) found_broken++;
}

static void start_counting(void) {
  collected = found_broken = 0;
  atomic_store_seq_cst(&done, false);
  midden_set_root_callback(count_broken, NULL);
}

static void sleep_ms(long ms) { nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL); }

/* ---- the schedule, forced ---- */

static bool ready; /* atomic */

/* Stands still where midden_locked_call is about to return, until the world has been waiting for it for a while. */
static void *return_slowly(void *unused) {
  (void)unused;
  midden_thread_attach();
  struct mutator *self = mutator_self();
  self->is_returning = true;
  atomic_store_seq_cst(&broken, 1u);
  atomic_store_seq_cst(&ready, true);
  while (!world_is_stopped() && !atomic_load_seq_cst(&done)) sleep_ms(1);
  for (int i = 0; i < 5; i++) sleep_ms(1);
  atomic_store_seq_cst(&broken, 0u);
  self->is_returning = false;
  while (!atomic_load_seq_cst(&done)) sleep_ms(1);
  return NULL;
}

static void stop_waits_for_return(void **state) {
  (void)state;
  pthread_t thread;
  start_counting();
  REQUIRE(pthread_create(&thread, NULL, return_slowly, NULL) == 0, "no thread");
  while (!atomic_load_seq_cst(&ready)) sleep_ms(1);
  midden_collect();
  atomic_store_seq_cst(&done, true);
  pthread_join(thread, NULL);
  assert_int_equal(collected, 1);
  assert_int_equal(found_broken, 0);
}

/* ---- and as it comes ---- */

static void *break_data(void *unused) {
  (void)unused;
  atomic_add_relaxed(&broken, 1u);
  return NULL;
}

static void *call_again_and_again(void *unused) {
  (void)unused;
  while (!atomic_load_relaxed(&done)) {
    midden_locked_call(break_data, NULL);
    atomic_sub_relaxed(&broken, 1u);
    midden_alloc(100);
  }
  return NULL;
}

/* A few stops may still find a thread between its return and its next instructions: those are the program's. */
static void few_stops_find_broken_data(void **state) {
  (void)state;
  enum { CALLERS = 6, COLLECTIONS = 2000 };
  pthread_t threads[CALLERS];
  start_counting();
  for (int i = 0; i < CALLERS; i++)
    REQUIRE(pthread_create(&threads[i], NULL, call_again_and_again, NULL) == 0, "no thread");
  for (int i = 0; i < COLLECTIONS; i++) midden_collect();
  atomic_store_seq_cst(&done, true);
  for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
  assert_true(collected >= COLLECTIONS);
  print_message("%u of %u collections found broken data\n", found_broken, collected);
  assert_true(found_broken * 50 <= collected);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(stop_waits_for_return),
                                     cmocka_unit_test(few_stops_find_broken_data)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
