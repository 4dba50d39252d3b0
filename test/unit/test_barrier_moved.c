/* A fiber that stores, is resumed by another thread, and stores again: by that thread's word.  Where the thread pointer is a register
 * like others, compilers read it once in a function, and keep it across the call that suspends. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "midden/barrier.h"
#include "mutator/mutator.h"
#include "support/heap_test.h"

static void *slot;
static bool is_inside;

static void *store_in_two_threads(void *value) {
  midden_store(&slot, value);
  midden_fiber_yield(NULL);
  midden_barrier_begin();
  is_inside = atomic_load_relaxed(&mutator_self()->inside_store) != 0;
  midden_barrier_end();
  return NULL;
}

static void *resume(void *fiber) {
  REQUIRE(midden_fiber_resume(fiber, NULL, NULL) == 0, "midden_fiber_resume");
  return NULL;
}

static void a_fiber_stores_by_the_word_of_its_thread(void **state) {
  (void)state;
  pthread_t thread;
  struct midden_fiber *fiber = midden_fiber_new(store_in_two_threads, NULL, 0);
  resume(fiber);
  REQUIRE(pthread_create(&thread, NULL, resume, fiber) == 0, "pthread_create");
  pthread_join(thread, NULL);
  assert_true(is_inside);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_fiber_stores_by_the_word_of_its_thread)};
  return test_run_group(tests);
}
