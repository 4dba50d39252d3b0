/* Marks that stay from cycle to cycle: a slot that nobody holds any more has none, or what comes to lie there would be taken for old, and
 * not be looked at. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gc/sweep.h"
#include "span/sticky.h"
#include "support/dirty_test.h"

enum { OBJECT_BYTES = 64, LARGE_BYTES = 100000 };

static pthread_barrier_t barrier;

static void *keep_a_window(void *unused) {
  REQUIRE(midden_alloc(OBJECT_BYTES) != NULL, "out of memory");
  midden_blocking_enter();
  pthread_barrier_wait(&barrier);
  pthread_barrier_wait(&barrier);
  midden_blocking_leave();
  return unused;
}

/* Its window is as old as a whole since the cycle. */
static void a_thread_that_ends_leaves_no_old_slots(void **state) {
  (void)state;
  pthread_t thread;
  pthread_barrier_init(&barrier, NULL, 2);
  REQUIRE(pthread_create(&thread, NULL, keep_a_window, NULL) == 0, "pthread_create");
  pthread_barrier_wait(&barrier);
  midden_collect();
  sweep_finish(mutator_self());
  pthread_barrier_wait(&barrier);
  pthread_join(thread, NULL);
  midden_verify();
}

/* The verifier counts the marks. */
static void old_objects_that_are_freed_are_old_no_more(void **state) {
  (void)state;
  void *small = midden_alloc(OBJECT_BYTES), *large = midden_alloc(LARGE_BYTES);
  midden_collect();
  sweep_finish(mutator_self());
  midden_verify();
  midden_free(small);
  midden_free(large);
  midden_verify();
}

int main(void) {
  struct midden_options options = {.size = sizeof options,
                                   .mode = MIDDEN_MODE_DIRTY,
                                   .generations = MIDDEN_GENERATIONS_ALWAYS,
                                   .idle_collect_ms = -1,
                                   .background = -1};
  if (!test_writes_are_told()) return TEST_SKIPPED;
  REQUIRE(midden_init(&options) == 0, "midden_init");
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  assert_true(sticky_marks);
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_thread_that_ends_leaves_no_old_slots),
                                     cmocka_unit_test(old_objects_that_are_freed_are_old_no_more)};
  return test_run_group(tests);
}
