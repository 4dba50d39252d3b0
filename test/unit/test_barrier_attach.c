/* Barrier mode and a thread that begins while the heap is marked, on a forced schedule: no handshake of this cycle has been done with it,
 * so it is scanned as it attaches.  What it allocates is marked from its first object on, which it fills without barrier: a marker
 * that met one of its free slots before would not come back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/cycle_steps.h"

static bool is_marked; /* its first object */

static void *attach_and_allocate(void *unused) {
  REQUIRE(midden_thread_attach() == 0, "midden_thread_attach");
  is_marked = midden_is_marked(midden_alloc(64));
  return unused;
}

static void what_a_new_thread_allocates_is_marked(void **state) {
  (void)state;
  pthread_t thread;
  cycle_begin(&cycle.scanned);
  REQUIRE(pthread_create(&thread, NULL, attach_and_allocate, NULL) == 0, "pthread_create");
  pthread_join(thread, NULL);
  cycle_go_on(&cycle.scanned);
  cycle_end();
  assert_true(is_marked);
}

int main(void) {
  cycle_init();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_a_new_thread_allocates_is_marked),
  };
  return test_run_group(tests);
}
