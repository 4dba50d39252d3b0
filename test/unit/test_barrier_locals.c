/* Barrier mode and a local variable that another thread reads, on a forced schedule: a thread that was scanned loads a reference
 * from a variable of one that was not, and that one then clears the variable and is scanned.  By the rule of midden/barrier.h it
 * does so by midden_store, as the variable is not its own alone. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/cycle_steps.h"

static struct { sem_t shared, loaded, ends; } plan;

static void *volatile *shared; /* a local variable of the main thread */
static uintptr_t hidden;

/* Holds what it has loaded on its stack alone: hidden, as if in a register that was scanned before. */
static void *load(void *unused) {
  (void)unused;
  await_own_scan();
  await(&plan.shared);
  hidden = test_hide(*shared);
  sem_post(&plan.loaded);
  await(&plan.ends);
  return NULL;
}

NOINLINE_TEST static void *new_object(void) {
  midden_alloc(64);
  return midden_alloc(64);
}

NOINLINE_TEST static void share_and_clear(void) {
  void *volatile local = new_object();
  shared = &local;
  sem_post(&plan.shared);
  await(&plan.loaded);
  midden_store((void **)&local, NULL);
}

static void what_another_thread_has_loaded_is_kept(void **state) {
  (void)state;
  pthread_t loader;
  cycle_begin(&cycle.armed);
  block_handshakes(true);
  cycle_go_on(&cycle.armed);
  REQUIRE(pthread_create(&loader, NULL, load, NULL) == 0, "pthread_create");
  share_and_clear();
  test_scrub_stack();
  block_handshakes(false);
  cycle_end();
  assert_true(midden_owns(test_unhide(hidden)));
  sem_post(&plan.ends);
  pthread_join(loader, NULL);
}

int main(void) {
  cycle_init();
  sem_t *all[] = {&plan.shared, &plan.loaded, &plan.ends};
  for (size_t i = 0; i < TEST_COUNT_OF(all); i++) sem_init(all[i], 0, 0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_another_thread_has_loaded_is_kept),
  };
  return test_run_group(tests);
}
