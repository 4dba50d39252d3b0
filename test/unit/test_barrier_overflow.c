/* Barrier mode without memory for grey objects, on a forced schedule: the last white object that is reachable waits in the
 * main thread's record of its stores.  The handshake at the end of marking marks it, and has no place to note it but the range
 * that is to be scanned again: what it refers to must be found all the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gc/work.h"
#include "support/cycle_steps.h"

static void **holder;    /* holder[0] -> a node, whose first word refers to the object */
static uintptr_t hidden; /* the node */

NOINLINE_TEST static void make(void) {
  void **node = midden_alloc(64), *object = midden_alloc(64);
  midden_store(&node[0], object);
  midden_store(&holder, midden_alloc(64));
  midden_store(&holder[0], node);
  watch(object);
}

/* From here on the thread alone holds the node. */
NOINLINE_TEST static void load_and_clear(void) {
  hidden = test_hide(holder[0]);
  midden_store(&holder[0], NULL);
}

NOINLINE_TEST static bool is_whole(void) {
  void **node = test_unhide(hidden);
  return midden_owns(node) && node[0] != NULL && midden_weak_get(watched) == node[0];
}

static void take_all_buffers(void) {
  work_limit_buffers(1);
  while (work_get_empty() != NULL) continue;
}

static void what_overflows_in_the_last_handshake_is_scanned(void **state) {
  (void)state;
  make();
  test_scrub_stack();
  take_all_buffers();
  cycle_begin(&cycle.read);
  load_and_clear();
  test_scrub_stack();
  cycle_go_on(&cycle.read);
  cycle_end();
  assert_true(is_whole());
  assert_true(is_dropped_gone());
}

int main(void) {
  cycle_init();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_overflows_in_the_last_handshake_is_scanned),
  };
  return test_run_group(tests);
}
